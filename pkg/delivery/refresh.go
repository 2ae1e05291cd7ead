package delivery

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/marketplace"
)

const (
	// refresher is who looks live bids up, in their history.
	refresher = "refresh"
	// refreshTime is how long a pass goes on taking bids to look up: what is left is the next
	// pass's, so that no claim waits for it.
	refreshTime = time.Minute
	// handCheck is how often the age of bids is looked at that nobody but a person can look up.
	handCheck = 24 * time.Hour
)

// Refreshed say what look-ups of live bids came to.
type Refreshed struct {
	Live      int64 `json:"live"` // as before
	Won       int64 `json:"won"`
	Lost      int64 `json:"lost"`
	Rejected  int64 `json:"rejected"`
	Withdrawn int64 `json:"withdrawn"`
	Unseen    int64 `json:"unseen"` // not shown, or the look-up failed
	Review    int64 `json:"review"` // unseen for too long: a person is asked
}

// Count is the count of a name that it has in JSON, or nil.
func (r *Refreshed) Count(name string) *int64 {
	return map[string]*int64{
		"live": &r.Live, "won": &r.Won, "lost": &r.Lost, "rejected": &r.Rejected, "withdrawn": &r.Withdrawn,
		"unseen": &r.Unseen, "review": &r.Review,
	}[name]
}

// endings are what becomes of a bid that has ended at its marketplace.
var endings = map[marketplace.Status]struct{ status, result string }{ //nolint:gochecknoglobals // a constant
	marketplace.Accepted:  {"WON", "won"},
	marketplace.Lost:      {"LOST", "lost"},
	marketplace.Expired:   {"LOST", "lost"}, // ran out, and nobody was chosen
	marketplace.Rejected:  {"REJECTED", "rejected"},
	marketplace.Withdrawn: {"WITHDRAWN", "withdrawn"},
}

// standing is the verdict on a look-up of a bid whose id is known. A miss ends nothing, and
// an ending counts only if no POST of the bid can still take effect.
func (l *Lease) standing(f Finding) Verdict {
	ending, ended := endings[f.Status]
	switch {
	case !f.Known:
		v := l.FailedCall(f.Result)
		if v.review != "" {
			v.review = ReasonStatusUnknown
		}
		return v
	case !f.Found && !f.Settled:
		v := l.LookAgain()
		v.code = "not_shown"
		return v
	case !f.Found:
		return statusUnknown("the marketplace does not show it")
	case f.Status == marketplace.AwardPending:
		return Review(ReasonAwardPending)
	case f.Dormant && (f.Status == marketplace.Submitted || !l.unseenTooLong()): // clients choose others as well, and later
		v := statusUnknown("it stands there, but its posting is closed, and nobody says that it was chosen or turned down")
		if v.dormant = f.Result.Kind == ""; !v.dormant {
			v.message = "it stands there, but its posting cannot be read: " + f.Result.Message
		}
		return v
	case !ended:
		return Verdict{placed: &placed{externalID: f.ExternalID}, code: "found"}
	case !l.Accounted():
		return l.LookAgain()
	}
	return EndAs(ending.status, string(f.Status)+"_there")
}

func statusUnknown(message string) Verdict {
	v := Review(ReasonStatusUnknown)
	v.message = message
	return v
}

// recheck is what placing is for a bid that the marketplace is known to have: a person has
// had it tried again, and it is looked up.
func (l *Lease) recheck(ctx context.Context) (Verdict, error) {
	if l.Account.Client.Capabilities().ByHand {
		return onlyPeople(), nil
	}
	finding, verdict, ok, err := l.LookUp(ctx)
	if err != nil || !ok {
		return verdict, err
	}
	return l.standing(finding), nil
}

// onlyPeople is the verdict on bids that cannot be looked up, or are not to be.
func onlyPeople() Verdict {
	v := statusUnknown("nobody but a person can look it up")
	v.code = ReasonNoAPI
	return v
}

// checks are how the live bids of one account are looked up.
type checks struct {
	queries.LiveAccountsRow

	account Account
	looks   bool          // else there is nobody to ask but a person
	every   time.Duration // 0 is never
}

// checksOf says how an account's bids are looked up. One whose client cannot be made is like
// one without: others go on, and a person is asked in the end.
func (e *Engine) checksOf(of queries.LiveAccountsRow) checks {
	account, err := e.options.Account(of.Marketplace)
	if err != nil && !errors.Is(err, ErrNoHandler) {
		e.log.Error("live bids cannot be looked up", "marketplace", of.Marketplace, "error", err)
	}
	c := checks{LiveAccountsRow: of, account: account, every: account.Refresh}
	c.looks = err == nil && account.Refresh > 0 && !account.Client.Capabilities().ByHand
	if !c.looks {
		c.every = min(account.AskAfter, handCheck)
	}
	return c
}

// Refresh looks up live bids that owe nothing and were not looked up for long enough, those
// of the longest ago first, and records how they stand at their marketplaces. Deliveries go
// first: it takes only those turns of an account's rate that nobody waits for. When ctx is
// cancelled it ends at once: a look-up changes nothing there.
func (e *Engine) Refresh(ctx context.Context, workers int) error {
	dueBy, err := e.q.Now(ctx)
	if err != nil {
		return fmt.Errorf("read the database's clock: %w", err)
	}
	accounts, err := e.q.LiveAccounts(ctx)
	if err != nil {
		return fmt.Errorf("list the accounts that have live bids: %w", err)
	}
	until := time.Now().Add(refreshTime)
	return spread(ctx, workers, accounts, func(ctx context.Context, account queries.LiveAccountsRow) error {
		c := e.checksOf(account)
		for more := c.every > 0; more && ctx.Err() == nil && time.Now().Before(until); {
			var err error
			if more, err = e.check(ctx, c, dueBy.Add(-c.every), until); err != nil {
				return err
			}
		}
		return nil
	})
}

// DueChecks counts the bids that [Engine.Refresh] would look up now.
func (e *Engine) DueChecks(ctx context.Context) (due int64, err error) {
	accounts, err := e.q.LiveAccounts(ctx)
	if err != nil {
		return 0, fmt.Errorf("list the accounts that have live bids: %w", err)
	}
	for _, account := range accounts {
		c := e.checksOf(account)
		if !c.looks {
			continue
		}
		n, err := e.q.CountChecks(ctx, c.Marketplace, c.Account, c.every)
		if err != nil {
			return 0, fmt.Errorf("count the bids to look up: %w", err)
		}
		due += n
	}
	return due, nil
}

// check takes one bid, looks it up and records what that proves. more says whether the
// account has, and takes, further ones.
func (e *Engine) check(stop context.Context, c checks, checkedBefore, until time.Time) (more bool, err error) {
	ctx := context.WithoutCancel(stop)
	asked := time.Now()
	row, err := within(ctx, func(ctx context.Context) (queries.TakeCheckRow, error) {
		return e.q.TakeCheck(ctx, queries.TakeCheckParams{
			Marketplace: c.Marketplace, Account: c.Account, CheckedBefore: checkedBefore, Sooner: c.every - e.options.Lease,
		})
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("take a bid to look up: %w", err)
	}
	l := &Lease{
		Bid: queries.LeaseDeliveryRow(row), Account: c.account, engine: e, posts: row.PlacePosts,
		asked: asked, leased: time.Now(), stop: stop, yields: true,
	}
	verdict, looked := onlyPeople(), true
	if c.looks {
		if verdict, looked, err = l.lookUpStatus(until); err != nil {
			return false, fmt.Errorf("look up bid %s: %w", row.ID, err) // it is due again when the lease ends
		}
	}
	result, recorded, err := l.recordStatus(ctx, verdict, looked)
	if err != nil {
		return false, fmt.Errorf("record how bid %s stands: %w", row.ID, err)
	}
	e.reportStatus(l, result, recorded, verdict)
	if recorded && result != "" {
		e.counters.addRefreshed(result, verdict)
	}
	// A marketplace that is not reached, or asks for a rest, is left alone until the next pass.
	reached := !verdict.failed && verdict.pause == nil && verdict.rest == 0
	return looked && reached, nil
}

// lookUpStatus makes the look-up, as soon as a turn of the account's rate is free; false
// means that it was not made.
func (l *Lease) lookUpStatus(until time.Time) (verdict Verdict, looked bool, err error) {
	for {
		finding, verdict, ok, err := l.LookUp(l.stop)
		switch {
		case l.stop.Err() != nil:
			return Verdict{}, false, nil //nolint:nilerr // it was cut short, which proves nothing
		case err != nil:
			return Verdict{}, false, err
		case ok:
			return l.standing(finding), true, nil
		case verdict.review != "": // another bid is shown under its key
			return statusUnknown(verdict.message), true, nil
		case verdict.code != codeRate || time.Now().Add(verdict.delay).After(until):
			return Verdict{}, false, nil
		}
		select {
		case <-time.After(verdict.delay):
		case <-l.stop.Done():
		}
	}
}

// recordStatus writes what a look-up proves, if the bid still is as it was taken: live,
// owing nothing, and changed by nobody. result names a count of [Refreshed], or is empty if
// no look-up was made.
func (l *Lease) recordStatus(ctx context.Context, v Verdict, looked bool) (result string, recorded bool, err error) {
	q, id, token := l.engine.q, l.Bid.ID, l.Bid.LeaseToken
	if err := l.holdBack(ctx, v); err != nil {
		return "", false, err
	}
	e := event{Kind: refresher, Code: v.code, Status: v.status, Message: v.message, ExternalBidID: orZero(l.Bid.ExternalBidID)}
	n, err := within(ctx, func(ctx context.Context) (int32, error) {
		switch {
		case !looked:
			return q.ReturnCheck(ctx, id, token)
		case v.ended != "":
			for _, ending := range endings {
				if ending.status == v.ended {
					result = ending.result
				}
			}
			e.Result = "ended"
			return q.RecordStatus(ctx, queries.RecordStatusParams{
				Status: v.ended, WithdrawnReason: ReasonWithdrawnElsewhere, ID: id, Token: token, Actor: refresher, Detail: e.json(),
			})
		case v.placed != nil || v.code == codeLooking:
			result = "live"
			return q.RecordCheck(ctx, true, id, token)
		case v.dormant && !l.unseenTooLong(): // shown, but the time until a person is asked goes on
			result = "live"
			return q.RecordCheck(ctx, false, id, token)
		case v.review == ReasonAwardPending, l.unseenTooLong():
			result, e.Result = "review", "review"
			return q.AskForStatus(ctx, queries.AskForStatusParams{
				Reason: v.statusReason(), Seen: v.review == ReasonAwardPending, LastError: v.lastError(), ID: id, Token: token, Actor: refresher, Detail: e.json(),
			})
		default:
			result = "unseen"
			return q.RecordCheck(ctx, false, id, token)
		}
	})
	return result, n > 0, err
}

// statusReason is the reason for which a person is asked how a bid stands.
func (v Verdict) statusReason() string {
	if v.review == ReasonAwardPending {
		return ReasonAwardPending
	}
	return ReasonStatusUnknown
}

// unseenTooLong says whether nobody has said for too long how the bid stands there.
func (l *Lease) unseenTooLong() bool {
	known := l.Bid.CreatedAt
	for _, at := range []*time.Time{l.Bid.SeenAt, l.Bid.SubmittedAt} {
		if at != nil {
			known = *at
			break
		}
	}
	return l.Account.AskAfter > 0 && l.since(&known) >= l.Account.AskAfter
}

func (c *Counters) addRefreshed(result string, v Verdict) {
	c.mu.Lock()
	defer c.mu.Unlock()
	*c.totals.Refreshed.Count(result)++
	if result == "review" && v.code != ReasonNoAPI {
		c.totals.ForPerson++
	}
}

// reportStatus logs what has changed; what needs a person at error level.
func (e *Engine) reportStatus(l *Lease, result string, recorded bool, v Verdict) {
	attributes := []any{
		"bid_id", l.Bid.ID, "marketplace", l.Bid.Marketplace, "job_id", l.Bid.JobID,
		"external_bid_id", orZero(l.Bid.ExternalBidID), "code", v.code,
	}
	switch {
	case result == "":
	case !recorded:
		e.log.Info("the bid has changed meanwhile; what was looked up is not recorded", attributes...)
	case result == "review" && v.code == ReasonNoAPI:
		e.log.Info("a person is asked how a bid stands", attributes...)
	case result == "review":
		e.askPerson(l, v.statusReason(), v.lastError(), attributes)
	case v.ended != "":
		e.log.Info("ended at the marketplace", append(attributes, "status", v.ended)...)
	case result == "unseen":
		e.log.Info("not seen at the marketplace", append(attributes, "last_error", v.lastError())...)
	default:
		e.log.Debug("live at the marketplace", attributes...)
	}
}
