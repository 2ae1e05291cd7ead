package freelancer

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/arbitrageai/bidder/pkg/marketplace"
	"github.com/arbitrageai/bidder/pkg/marketplace/internal/wire"
)

// The questions, as docs/marketplaces.md asks them.
const (
	askListed       = "How long until a new bid is listed?"
	askDuplicate    = "What does a second bid on a project answer?"
	askEncoding     = "Which encodings does a retraction take?"
	askRetractTwice = "What does a second retraction answer?"
	askRebid        = "Does a bid after a retraction get a new id?"
	askOrder        = "Do lists of own bids page in a stable order?"
	askAwarded      = "What does a retraction answer after an award?"
	askPending      = "What does award_status: pending mean?"
	askLimit        = "What is the code when all bids of the month are used?"
	askRetryAfter   = "Does 429 carry Retry-After?"
)

// ask asks all questions, in an order in which two bids are enough for all of them.
func (s *verifying) ask(ctx context.Context) error {
	first, got, err := s.post(ctx)
	sent := time.Now()
	if err != nil {
		return fmt.Errorf("place the first bid: %w", err)
	}
	if first == "" {
		s.rest()
		return fmt.Errorf("the first bid was refused, so nothing can be asked: %s", got.describe())
	}
	for _, question := range []func(context.Context) error{
		func(ctx context.Context) error { return s.listed(ctx, first, sent) },
		s.duplicate,
	} {
		if err := question(ctx); err != nil {
			return err
		}
	}
	encoding, err := s.encodings(ctx, first)
	if err != nil {
		return err
	}
	if encoding == "" { // without it nothing that follows can be undone
		s.rest()
		return nil
	}
	second, err := s.rebid(ctx, first)
	if err != nil {
		return err
	}
	if err := s.order(ctx); err != nil {
		return err
	}
	if err := s.award(ctx, second, encoding); err != nil {
		return err
	}
	s.rest()
	return nil
}

func (s *verifying) listed(ctx context.Context, id string, sent time.Time) error {
	found, err := s.awaitListed(ctx, id)
	if err != nil {
		return fmt.Errorf("list own bids: %w", err)
	}
	if found == nil {
		s.say(askListed, NotSeen, fmt.Sprintf("not after %s", s.Patience), "settle: much longer than "+s.Patience.String())
		return nil
	}
	lag := time.Since(sent).Round(10 * time.Millisecond)
	s.say(askListed, Settled, fmt.Sprintf("at most %s after the answer", lag), "settle: many times as long; 10m is the default")
	return nil
}

func (s *verifying) duplicate(ctx context.Context) error {
	id, got, err := s.post(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("place a second bid: %w", err)
	case id != "":
		s.say(askDuplicate, Settled, "it is taken: "+got.describe()+", bid "+id, "do not bid here: nothing keeps two bids of a posting apart")
	case got.refusal().code == marketplace.CodeDuplicateBid:
		s.say(askDuplicate, Settled, got.describe(), "")
	default:
		s.say(askDuplicate, Settled, got.describe(), "this code is new to bidder: such a bid goes to a person")
	}
	return nil
}

// encodings retracts a bid, and sends the retraction in all other encodings after that. It
// returns the first that works, and asks as well what a second retraction answers.
func (s *verifying) encodings(ctx context.Context, id string) (works string, err error) {
	var saw []string
	for _, encoding := range encodings(s.client.market.Freelancer.RetractEncoding) {
		got, err := s.change(ctx, retraction(id, encoding))
		if err != nil {
			return "", fmt.Errorf("retract as %s: %w", encoding, err)
		}
		said := encoding + ": " + got.describe()
		if works == "" {
			found, err := s.read(ctx, id)
			if err != nil {
				return "", fmt.Errorf("read the bid after a retraction: %w", err)
			}
			switch status, _ := found.status(); status {
			case marketplace.Withdrawn:
				works, s.placed[id] = encoding, false
				said += ", and the bid is retracted"
			case marketplace.Accepted, marketplace.AwardPending:
				s.say(askEncoding, NotSeen, said+", but somebody has awarded the bid: "+found.state(), "")
				return "", nil
			default:
				said += ", and the bid is live"
			}
		} else if !got.refusesEncoding() {
			said += " (understood)"
		}
		saw = append(saw, said)
	}
	if works == "" {
		s.say(askEncoding, Settled, "none works: "+strings.Join(saw, "; "), "do not bid here: nothing can be taken back")
		return "", nil
	}
	s.say(askEncoding, Settled, strings.Join(saw, "; "), "retract_encoding: "+works)
	got, err := s.change(ctx, retraction(id, works))
	if err != nil {
		return "", fmt.Errorf("retract again: %w", err)
	}
	s.say(askRetractTwice, Settled, got.describe(), "")
	return works, nil
}

func (s *verifying) rebid(ctx context.Context, first string) (second string, err error) {
	second, got, err := s.post(ctx)
	switch {
	case err != nil:
		return "", fmt.Errorf("bid again after the retraction: %w", err)
	case second == "":
		s.say(askRebid, Settled, "it is refused: "+got.describe(), "")
	case second == first:
		s.say(askRebid, Settled, "the retracted bid lives again, as "+first, "")
	default:
		s.say(askRebid, Settled, fmt.Sprintf("a new one: %s, then %s", first, second), "")
	}
	return second, nil
}

// order reads the list of all own bids whole and in two parts, twice.
func (s *verifying) order(ctx context.Context) error {
	whole, err := s.own(ctx, pageSize, 0)
	if err != nil {
		return err
	}
	if len(whole) < 2 {
		s.say(askOrder, NotSeen, "the account has too few bids to tell", "")
		return nil
	}
	half := (len(whole) + 1) / 2
	var parts []string
	for range 2 {
		parts = parts[:0]
		for offset := 0; offset < len(whole); offset += half {
			part, err := s.own(ctx, half, offset)
			if err != nil {
				return err
			}
			parts = append(parts, part...)
		}
		if len(parts) > len(whole) { // the list is longer than one page
			parts = parts[:len(whole)]
		}
		if !slices.Equal(whole, parts) {
			s.say(askOrder, Settled, fmt.Sprintf("no: %d bids come in another order, or others, in pages of %d", len(whole), half), "")
			return nil
		}
	}
	s.say(askOrder, Settled, fmt.Sprintf("yes, as far as %d bids show", len(whole)), "")
	return nil
}

// own lists the ids of the account's bids on all projects.
func (s *verifying) own(ctx context.Context, limit, offset int) ([]string, error) {
	if err := s.Pass(ctx); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.client.market.Timeout)
	defer cancel()
	got, _, err := s.client.read(ctx, bidsPath, url.Values{
		"bidders[]": {strconv.FormatInt(s.me.ID, 10)}, "limit": {strconv.Itoa(limit)}, "offset": {strconv.Itoa(offset)},
	})
	if err != nil {
		return nil, fmt.Errorf("list own bids: %w", err)
	}
	bids, ok := parseBids(got.body["result"])
	if !ok {
		return nil, got.unreadable("it does not hold a list of bids")
	}
	ids := make([]string, len(bids))
	for i, b := range bids {
		ids[i] = b.id
	}
	return ids, nil
}

// award asks a person to award a bid, and then tries to retract it.
func (s *verifying) award(ctx context.Context, id, encoding string) error {
	unasked := func(why string) {
		s.say(askAwarded, NotSeen, why, "")
		s.say(askPending, NotSeen, why, "")
	}
	if s.Award == nil || id == "" {
		unasked("no bid was awarded")
		return nil
	}
	done, err := s.Award(ctx, id)
	if err != nil {
		return err
	}
	found, err := s.read(ctx, id)
	if err != nil {
		return fmt.Errorf("read the bid after the award: %w", err)
	}
	if status, _ := found.status(); !done || !status.IsAwarded() {
		unasked("the bid was not awarded: " + found.state())
		return nil
	}
	got, err := s.change(ctx, retraction(id, encoding))
	if err != nil {
		return fmt.Errorf("retract the awarded bid: %w", err)
	}
	after, err := s.read(ctx, id)
	if err != nil {
		return fmt.Errorf("read the awarded bid after its retraction: %w", err)
	}
	outcome := "the bid stays"
	if !after.isLive() {
		outcome = "the bid is retracted"
		s.placed[id] = false
	}
	s.say(askAwarded, Settled, got.describe()+", and "+outcome, "")
	if found.award == "pending" {
		s.say(askPending, Settled, "awarded, and waiting for the bidder to agree: "+found.state()+"; after a retraction "+outcome, "")
	} else {
		s.say(askPending, NotSeen, "the award shows as "+found.state(), "")
	}
	return nil
}

// rest answers what is not provoked, from what came by itself.
func (s *verifying) rest() {
	if s.limit != "" {
		s.say(askLimit, Settled, s.limit, "")
	} else {
		s.say(askLimit, NotSeen, "not provoked: it would use up the account's bids", "")
	}
	if len(s.limited) == 0 {
		s.say(askRetryAfter, NotSeen, "not provoked: no call was refused for the rate", "")
		return
	}
	headers := s.limited[0].Header
	saw := "no"
	if after, says := wire.RetryAfter(headers, time.Now()); says {
		saw = "yes: " + after.String()
	}
	if text := headers.Get("Ratelimit-Limit"); text != "" {
		saw += s.limited[0].redact.Message(", RateLimit-Limit: " + text)
	}
	s.say(askRetryAfter, Settled, saw, "")
}
