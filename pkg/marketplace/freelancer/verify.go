package freelancer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/arbitrageai/bidder/pkg/marketplace"
	"github.com/arbitrageai/bidder/pkg/posting"
)

// Sight is whether a question was answered.
type Sight string

// The sights.
const (
	Settled Sight = "settled"
	NotSeen Sight = "not_seen" // it did not come up, or was not provoked
)

// Observation is the answer to one question about how the site behaves.
type Observation struct {
	Question string `json:"question"`
	Result   Sight  `json:"result"`
	Saw      string `json:"saw"`
	// Configure says what follows for the configuration, or is empty.
	Configure string `json:"configure"`
}

// Verification asks how the site behaves where nobody outside can know, by really placing and
// retracting bids.
type Verification struct {
	// Project is one that the account may bid on, and has no bid on.
	Project int64
	// Patience is how long a new bid may take to be listed.
	Patience time.Duration
	// Pass is called before each call; its error ends the verification.
	Pass func(context.Context) error
	// Award asks a person to award a bid, and says whether that was done. Nil asks nobody.
	Award func(ctx context.Context, bid string) (bool, error)
	// Report is told each answer.
	Report func(Observation)
}

var (
	// ErrProduction means that the verification was asked for at the real site.
	ErrProduction = errors.New("bids are verified at the sandbox only, never at Freelancer.com itself")
	// ErrUnfit means that the project cannot be used to verify anything.
	ErrUnfit = errors.New("the project cannot be used for this")
	// ErrLeft means that a bid may be live that the verification has placed.
	ErrLeft = errors.New("a bid may be left behind")
)

// cleanupTime bounds how long is tried to leave no bid behind.
const cleanupTime = 2 * time.Minute

// Verify asks all questions. Whatever happens, also when ctx ends, it retracts what it has
// placed; where it cannot, the error wraps [ErrLeft] and names the bid. The error wraps
// [ErrProduction] or [ErrUnfit] if nothing was placed.
func (c *Client) Verify(ctx context.Context, v Verification) error {
	if c.market.IsProductionFreelancer() {
		return ErrProduction
	}
	s := &verifying{Verification: v, client: c, placed: map[string]bool{}}
	if err := s.prepare(ctx); err != nil {
		return err
	}
	err := s.ask(ctx)
	cleaning, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
	defer cancel()
	return errors.Join(err, s.cleanUp(cleaning))
}

// verifying is a verification under way.
type verifying struct {
	Verification

	client  *Client
	me      User
	bid     placement
	placed  map[string]bool // ids of bids, and whether they may be live
	unknown bool            // a POST went out, and nobody knows what came of it
	limited []answer
	limit   string // what a refusal for the month's bids looked like
}

// prepare looks whether the project will do, and makes the bid.
func (s *verifying) prepare(ctx context.Context) error {
	if err := s.Pass(ctx); err != nil {
		return err
	}
	var err error
	if s.me, err = s.client.Self(ctx); err != nil {
		return err
	}
	if err := s.Pass(ctx); err != nil {
		return err
	}
	project, err := s.client.Project(ctx, s.Project)
	if failed, ok := errors.AsType[*ReadError](err); ok && failed.Code == marketplace.CodeNotFound {
		return fmt.Errorf("%w: there is no project %d", ErrUnfit, s.Project)
	}
	if err != nil {
		return err
	}
	if !project.IsOpen {
		return fmt.Errorf("%w: it is %s %s", ErrUnfit, project.Status, project.FrontendStatus)
	}
	if err := s.Pass(ctx); err != nil {
		return err
	}
	own, err := s.list(ctx, "")
	if err != nil {
		return err
	}
	if own != nil && own.isLive() {
		return fmt.Errorf("%w: the account has the bid %s on it; retract that, or use another project", ErrUnfit, own.id)
	}
	cents, err := posting.ParseAmount(project.BudgetMin)
	if err != nil || cents == 0 {
		cents = 100_00
	}
	s.bid = s.client.placement(marketplace.Bid{
		AmountCents: cents, Proposal: "bidder looks how this site answers, and retracts this bid at once. Please ignore it.",
	}, s.Project, s.me.ID)
	return nil
}

// list reads the account's bid on the project that counts.
func (s *verifying) list(ctx context.Context, id string) (*bid, error) {
	ctx, cancel := context.WithTimeout(ctx, s.client.market.Timeout)
	defer cancel()
	return s.client.list(ctx, s.Project, s.me.ID, id)
}

// read reads one bid.
func (s *verifying) read(ctx context.Context, id string) (*bid, error) {
	if err := s.Pass(ctx); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.client.market.Timeout)
	defer cancel()
	found, err := s.client.byID(ctx, id, s.Project, s.me.ID)
	if err == nil && found == nil {
		err = fmt.Errorf("the bid %s cannot be read: it is not found", id)
	}
	return found, err
}

// maxRateTries bounds how often one call is tried that is refused for the rate.
const maxRateTries = 3

// change sends what changes something, once: only what was refused for the rate is sent
// again. It is sent to its end when ctx ends.
func (s *verifying) change(ctx context.Context, r request) (answer, error) {
	for try := 1; ; try++ {
		if err := s.Pass(ctx); err != nil {
			return answer{}, err
		}
		sending, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.client.market.Timeout)
		token, err := s.client.tokens.Token(sending)
		if err != nil {
			cancel()
			return answer{}, s.client.noToken(err)
		}
		got, err := s.client.send(sending, token, r)
		cancel()
		if err != nil {
			return answer{}, &ReadError{failure(err, token)}
		}
		if got.refusal().code != marketplace.CodeRateLimited || got.isSuccess() {
			return got, nil
		}
		s.limited = append(s.limited, got)
		if try == maxRateTries {
			return got, nil
		}
		if err := wait(ctx, got.rateWait(time.Now())); err != nil {
			return answer{}, err
		}
	}
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx) //nolint:wrapcheck // who interrupted it
	}
}

// describe says what an answer looked like.
func (a answer) describe() string {
	switch {
	case a.isSuccess():
		return fmt.Sprintf("HTTP %d, success", a.Status)
	case a.body == nil:
		return fmt.Sprintf("HTTP %d, no JSON", a.Status)
	}
	code := a.code()
	if code == "" {
		code = "no code"
	}
	return a.redact.Message(fmt.Sprintf("HTTP %d, %s: %s", a.Status, code, a.text()))
}

// cleanUp retracts every bid that may be live.
func (s *verifying) cleanUp(ctx context.Context) error {
	var problems []error
	if s.unknown {
		found, err := s.awaitListed(ctx, "")
		if found != nil {
			s.placed[found.id] = true
		} else {
			problems = append(problems, fmt.Errorf("%w: a bid on project %d was sent, and nobody knows what came of it; look there yourself", ErrLeft, s.Project), err)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(s.placed)) {
		if !s.placed[id] {
			continue
		}
		var status marketplace.Status
		for _, encoding := range encodings(s.client.market.Freelancer.RetractEncoding) {
			found, err := s.read(ctx, id)
			if err != nil {
				problems = append(problems, err)
				break
			}
			if status, _ = found.status(); !found.isLive() || status.IsAwarded() {
				break
			}
			if _, err := s.change(ctx, retraction(id, encoding)); err != nil {
				problems = append(problems, err)
			}
		}
		found, err := s.read(ctx, id)
		if err == nil && !found.isLive() {
			continue
		}
		why := "retract it on the site"
		if err == nil && status.IsAwarded() {
			why = "it was awarded, so only its client can end it"
		}
		problems = append(problems, fmt.Errorf("%w: %s on project %d is not retracted; %s", ErrLeft, id, s.Project, why), err)
	}
	return errors.Join(problems...)
}

// awaitListed polls until a live bid is listed, the one with the id if there is one. It returns
// nil when patience is over.
func (s *verifying) awaitListed(ctx context.Context, id string) (*bid, error) {
	const first, longest = 100 * time.Millisecond, 5 * time.Second
	until := time.Now().Add(s.Patience)
	for pause := first; ; pause = min(2*pause, longest) {
		if err := s.Pass(ctx); err != nil {
			return nil, err
		}
		found, err := s.list(ctx, id)
		if found != nil && found.isLive() && (id == "" || found.id == id) {
			return found, nil
		}
		if time.Now().After(until) {
			return nil, err
		}
		if err := wait(ctx, pause); err != nil {
			return nil, err
		}
	}
}

// post places the bid, and returns its id, or none where it was refused.
func (s *verifying) post(ctx context.Context) (id string, got answer, err error) {
	r, err := s.bid.request()
	if err != nil {
		return "", got, err
	}
	got, err = s.change(ctx, r)
	if failed, ok := errors.AsType[*ReadError](err); ok && failed.Kind == marketplace.Ambiguous {
		s.unknown = true
	}
	if err != nil {
		return "", got, err
	}
	if got.isSuccess() {
		result := got.placed(s.Project, s.me.ID)
		if result.Kind != marketplace.Done {
			s.unknown = true
			return "", got, errors.New(result.Message)
		}
		s.placed[result.ExternalID] = true
		return result.ExternalID, got, nil
	}
	switch r := got.refusal(); {
	case r.code == marketplace.CodeLimitExhausted:
		s.limit = got.describe()
	case r.place == marketplace.Ambiguous && r.code != marketplace.CodeDuplicateBid:
		s.unknown = true
	}
	return "", got, nil
}

func (s *verifying) say(question string, sight Sight, saw, configure string) {
	s.Report(Observation{Question: question, Result: sight, Saw: saw, Configure: configure})
}
