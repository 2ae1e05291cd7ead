package delivery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/gate"
	"github.com/arbitrageai/bidder/pkg/marketplace"
)

const (
	// actor is who the engine is in the history of bids.
	actor = "delivery"
	// statementTime bounds one statement of the engine, from outside.
	statementTime = 10 * time.Second
	// leaseMargin is what must be left of a lease beyond the deadline of a call.
	leaseMargin = 500 * time.Millisecond
	// slotPatience is how long a first call is waited for, where the account's gap is not longer.
	slotPatience = 2 * time.Second
	// silentCalls is after how many calls in a row without an answer a pass lets an account be.
	silentCalls = 5
)

// Procedure carries out one leased delivery and says what to record.
type Procedure func(ctx context.Context, l *Lease) (Verdict, error)

// Engine delivers what bids owe. It is safe for concurrent use.
type Engine struct {
	pool       *pgxpool.Pool
	q          *queries.Queries
	options    Options
	procedures map[string]Procedure
	counters   *Counters
	log        *slog.Logger
}

// New returns an Engine that places bids itself and withdraws them by the procedure given.
func New(pool *pgxpool.Pool, options Options, withdraw Procedure, counters *Counters, log *slog.Logger) *Engine {
	return &Engine{
		pool: pool, q: queries.New(pool), options: options, counters: counters, log: log,
		procedures: map[string]Procedure{Place: place, Withdraw: withdraw},
	}
}

// Lease is a delivery that this process owns until the lease runs out.
type Lease struct {
	Bid       queries.LeaseDeliveryRow
	Account   Account
	engine    *Engine
	noAccount error           // in place of Account
	posts     int32           // armed so far, this lease's included
	called    bool            // a call was made under this lease
	yields    bool            // takes no turn of the account's rate that anybody waits for
	asked     time.Time       // by this process's clock, before the lease began
	leased    time.Time       // and after
	stop      context.Context //nolint:containedctx // ends when no further call may begin
}

// Pass delivers everything that is due when it starts, with so many workers at once. When
// ctx is cancelled the deliveries under way end first.
func (e *Engine) Pass(ctx context.Context, workers int) error {
	look, err := e.q.Owing(ctx)
	if err != nil {
		return fmt.Errorf("look for what is owed: %w", err)
	}
	if !look.Owing {
		return context.Cause(ctx) //nolint:wrapcheck // who interrupted it
	}
	accounts, err := e.q.DueAccounts(ctx, look.Now)
	if err != nil {
		return fmt.Errorf("list the accounts that are owed something: %w", err)
	}
	drains := make([]*draining, len(accounts))
	for i, account := range accounts {
		drains[i] = &draining{params: queries.LeaseDeliveryParams{Marketplace: account.Marketplace, Account: account.Account, DueBy: look.Now}}
	}
	return spread(ctx, workers, drains, e.drain)
}

// spread has so many workers go through all accounts. Each begins with another one: a slow
// marketplace occupies some of them, not all.
func spread[A any](ctx context.Context, workers int, accounts []A, drain func(context.Context, A) error) error {
	group, working := errgroup.WithContext(ctx)
	for worker := range workers {
		group.Go(func() error {
			for i := range accounts {
				if err := drain(working, accounts[(i+worker)%len(accounts)]); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err //nolint:wrapcheck // drain's own
	}
	return context.Cause(ctx) //nolint:wrapcheck // who interrupted it
}

// draining is one pass through what an account is owed, by all workers of the process.
type draining struct {
	params queries.LeaseDeliveryParams
	silent atomic.Int32 // calls in a row that had no answer
}

// isOver says that the marketplace does not answer: the rest waits for the next pass, or everybody
// else would wait for its deadlines.
func (d *draining) isOver() bool { return d.silent.Load() >= silentCalls }

// goesOn notes what came of a call, and says whether the account is called on in this pass.
func (d *draining) goesOn(v Verdict) bool {
	if v.silent {
		d.silent.Add(1)
	} else {
		d.silent.Store(0)
	}
	return !d.isOver() && v.code != codeRate && v.rest == 0
}

// drain delivers what one account is owed. What came of a delivery is recorded in the message that leases the
// next one.
func (e *Engine) drain(ctx context.Context, d *draining) error {
	var l *Lease
	var err error
	if ctx.Err() == nil && !d.isOver() {
		l, err = e.lease(ctx, d.params)
	}
	for l != nil && err == nil {
		l, err = l.deliver(d)
	}
	return err
}

// DeliverBid makes one attempt at what one bid owes, if that is due and nobody else is at it.
func (e *Engine) DeliverBid(ctx context.Context, marketplace, account string, id uuid.UUID) (worked bool, err error) {
	dueBy, err := e.q.Now(ctx)
	if err != nil {
		return false, fmt.Errorf("read the database's clock: %w", err)
	}
	l, err := e.lease(ctx, queries.LeaseDeliveryParams{Marketplace: marketplace, Account: account, DueBy: dueBy, BidID: &id})
	if l == nil {
		return false, err
	}
	_, err = l.deliver(nil)
	return true, err
}

// lease leases a delivery, or returns nil where none is due. When stop ends no further call begins.
func (e *Engine) lease(stop context.Context, params queries.LeaseDeliveryParams) (*Lease, error) {
	n := e.leasing(stop, params)
	return within(context.WithoutCancel(stop), func(ctx context.Context) (*Lease, error) {
		err := n.ask(ctx, e.q)
		return n.taken(), err
	})
}

// leasing is a lease that is being asked for.
type leasing struct {
	params queries.LeaseDeliveryParams
	row    *queries.LeaseDeliveryRow // nil where nothing is due
	failed bool                      // together with others, and so it was undone, too
	lease  Lease
}

func (e *Engine) leasing(stop context.Context, params queries.LeaseDeliveryParams) *leasing {
	n := &leasing{params: params, lease: Lease{engine: e, stop: stop}}
	n.lease.Account, n.lease.noAccount = e.options.Account(params.Marketplace)
	n.params.Lease, n.params.PostingTTL, n.params.Actor = e.options.Lease, e.options.PostingTTL, actor
	n.params.AtOnce = n.lease.noAccount == nil && e.armsAtOnce(n.lease.Account)
	n.lease.asked = time.Now()
	return n
}

// ask asks for it, in a message of its own or, as [db.Together] says, with others.
func (n *leasing) ask(ctx context.Context, q *queries.Queries) error {
	row, err := q.LeaseDelivery(ctx, n.params)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		n.row = nil
	case err != nil:
		return fmt.Errorf("lease a delivery: %w", err)
	default:
		n.row = &row
	}
	return nil
}

// taken is the lease, or nil where nothing was due or asked for.
func (n *leasing) taken() *Lease {
	if n == nil || n.row == nil {
		return nil
	}
	n.lease.Bid, n.lease.posts, n.lease.leased = *n.row, n.row.PlacePosts, time.Now()
	return &n.lease
}

// deliver carries out what was leased and records what came of it. With that it leases the next delivery, unless
// d is nil; nil in place of one is the end: nothing is left, others already use up the account's rate, its
// marketplace wants a rest or does not answer, or no further call may begin. When the process is told to stop,
// the call under way ends, and what is known is recorded.
func (l *Lease) deliver(d *draining) (*Lease, error) {
	e, ctx := l.engine, context.WithoutCancel(l.stop)
	kind := *l.Bid.DeliveryKind
	verdict, err := l.carryOut(ctx, kind)
	if err != nil {
		return nil, fmt.Errorf("%s bid %s: %w", kind, l.Bid.ID, err) // the lease runs out by itself
	}
	if err := l.holdBack(ctx, verdict); err != nil {
		return nil, fmt.Errorf("record what became of bid %s: %w", l.Bid.ID, err)
	}
	var n *leasing
	if d != nil && d.goesOn(verdict) && l.stop.Err() == nil {
		n = e.leasing(l.stop, d.params)
	}
	verdict, recorded, err := l.record(ctx, verdict, n)
	if err != nil {
		return nil, fmt.Errorf("record what became of bid %s: %w", l.Bid.ID, err)
	}
	if recorded {
		e.counters.add(kind, l.Bid.Abandoned, verdict)
		e.report(l, kind, verdict)
	} else {
		e.log.Warn("the lease was overtaken; what was found out is not recorded",
			"bid_id", l.Bid.ID, "kind", kind, "code", verdict.code, "external_bid_id", verdict.externalID())
	}
	if n != nil && n.failed {
		return e.lease(l.stop, d.params)
	}
	return n.taken(), nil
}

// armsAtOnce says whether the first POST of a bid may be armed by the statement that leases its
// placing: nothing is looked up before it, no rate is to be kept, nobody has to approve it, and the lease is long enough.
func (e *Engine) armsAtOnce(a Account) bool {
	c := a.Client.Capabilities()
	return a.Gap == 0 && !a.NeedsApproval && !c.ByHand && !c.LooksUpByPosting && e.options.Lease > c.Timeout+leaseMargin
}

func (l *Lease) carryOut(ctx context.Context, kind string) (Verdict, error) {
	switch {
	case errors.Is(l.noAccount, ErrNoHandler):
		return Review(ReasonNoHandler), nil
	case l.noAccount != nil:
		return l.noClient(), nil //nolint:nilerr // the verdict carries it
	}
	verdict, err := l.engine.procedures[kind](ctx, l)
	if err != nil {
		return Verdict{}, err
	}
	verdict, exhausted := l.spaced(verdict)
	if exhausted {
		return l.lastLook(ctx, verdict)
	}
	return verdict, nil
}

// spaced gives a failed attempt its gap. After the last one a person must look.
func (l *Lease) spaced(v Verdict) (verdict Verdict, exhausted bool) {
	if v.failed && int(l.Bid.DeliveryAttempts)+1 >= l.engine.options.RetryMax {
		last := Review(ReasonRetriesExhausted)
		last.failed, last.message, last.unsent, last.silent = true, v.lastError(), v.unsent, v.silent
		return last, true
	}
	if v.failed && v.delay == 0 {
		v.delay = l.engine.options.Backoff(int(l.Bid.DeliveryAttempts))
	}
	return v, false
}

// noClient is the verdict where this pod cannot make the marketplace's client. Other pods may,
// and so may this one after its configuration was corrected, so it is tried again, and counts
// as a failure: in the end a person is asked. Review at once would leave that person with
// every bid that was due meanwhile.
func (l *Lease) noClient() Verdict {
	v := Failed("no_client")
	v.message = l.noAccount.Error()
	v, _ = l.spaced(v)
	return v
}

// Slot passes the gate before a call: the account is not paused and its rate allows it.
// Without, the verdict says when to try again.
func (l *Lease) Slot(ctx context.Context) (verdict Verdict, ok bool, err error) {
	patience := l.patience()
	if patience < 0 {
		return notYet(0, "lease_ends"), false, nil
	}
	account := gate.Gate{Queries: l.engine.q, Marketplace: l.Bid.Marketplace, Account: l.Bid.Account, Gap: l.Account.Gap}
	answer, wait, err := account.Pass(ctx, l.stop, patience)
	switch {
	case err != nil:
		return Verdict{}, false, err
	case answer == gate.Paused:
		return notYet(pausedPause, "paused"), false, nil
	case answer == gate.Crowded:
		return notYet(wait, codeRate), false, nil
	case answer == gate.Stopped:
		return stopping(), false, nil
	}
	l.called = true
	return Verdict{}, true, nil
}

// patience is how long a call may be waited for so that it still fits into the lease. The
// first one is not worth holding up a worker for; after it, waiting wastes less than
// beginning anew.
func (l *Lease) patience() time.Duration {
	left := l.engine.options.Lease - time.Since(l.asked) - leaseMargin - l.Account.Client.Capabilities().Timeout
	switch {
	case l.yields:
		return min(left, 0)
	case l.called:
		return left
	}
	return min(left, max(slotPatience, l.Account.Gap))
}

const (
	// codeRate is the code of deliveries that found the account's rate used up.
	codeRate = "rate"
	// codeLooking is the code of look-ups that came too early to prove anything.
	codeLooking = "looking"
)

// notYet is the verdict on a delivery that may not call now.
func notYet(delay time.Duration, code string) Verdict { return Verdict{delay: delay, code: code} }

// stopping is the verdict on a delivery whose process has been told to stop.
func stopping() Verdict { return notYet(0, "stopping") }

// pausedPause is how long a delivery of a paused account is left alone.
const pausedPause = 10 * time.Second

// Finding is what a look-up showed.
type Finding struct {
	marketplace.Finding
	// Settled says that every POST of the bid had the time to show before the look-up was
	// sent. Measured before, because what lands meanwhile may not be in the answer.
	Settled bool
}

// LookUp asks the marketplace for the bid, within the account's rate. A bid there whose id
// another bid here has, live or ended, is not this one: it counts as not found. So does one of another
// id than is recorded, unless it is live: then a person must look.
func (l *Lease) LookUp(ctx context.Context) (finding Finding, verdict Verdict, ok bool, err error) {
	verdict, ok, err = l.Slot(ctx)
	if err != nil || !ok {
		return Finding{}, verdict, ok, err
	}
	finding.Settled = l.posts == 0 || l.since(l.Bid.LastPostAt) >= l.Account.Settle
	call, cancel := context.WithTimeout(ctx, l.Account.Client.Capabilities().Timeout)
	defer cancel()
	finding.Finding = l.Account.Client.Lookup(call, l.External())
	own := orZero(l.Bid.ExternalBidID)
	switch {
	case !finding.Found || finding.ExternalID == own:
	case own != "" && isLive(finding.Finding):
		return Finding{}, clash("the bid is " + own + ", and the marketplace shows " + finding.ExternalID + " under its key"), false, nil
	case own != "":
		finding.Found = false
	default:
		taken, err := l.taken(ctx, finding.ExternalID)
		if err != nil {
			return Finding{}, Verdict{}, false, err
		}
		finding.Found = !taken
	}
	return finding, Verdict{}, true, nil
}

// taken says whether another bid here, live or ended, has an id of the marketplace.
func (l *Lease) taken(ctx context.Context, id string) (bool, error) {
	taken, err := within(ctx, func(ctx context.Context) (bool, error) {
		return l.engine.q.ExternalIDIsTaken(ctx, queries.ExternalIDIsTakenParams{
			Marketplace: l.Bid.Marketplace, Account: l.Bid.Account, ExternalBidID: id, ID: l.Bid.ID,
		})
	})
	if err != nil {
		return false, fmt.Errorf("look for the owner of %s: %w", id, err)
	}
	return taken, nil
}

// since is the time since t, by the database's clock at the lease and this process's from
// then on; rather too short than too long, however slowly the lease came.
func (l *Lease) since(t *time.Time) time.Duration {
	return l.Bid.LeasedAt.Sub(orZero(t)) + time.Since(l.leased)
}

// LookAgain is the verdict when a look-up came too early to prove anything.
func (l *Lease) LookAgain() Verdict {
	v := Again(untilLookUp(l.since(l.Bid.LastPostAt), l.Account.Settle))
	v.code = codeLooking
	return v
}

// Accounted says whether no POST of the bid can still take effect: none was armed, or the
// bid that it made is known and another could not be made, or all had the time to settle.
func (l *Lease) Accounted() bool {
	known := l.Bid.ExternalBidID != nil && !l.Bid.IsForeign && !l.Bid.IsGuessed
	return l.posts == 0 || l.since(l.Bid.LastPostAt) >= l.Account.Settle ||
		known && (l.posts == 1 || l.Account.Client.Capabilities().Dedup == marketplace.IdempotencyKey)
}

// guesses says whether a look-up finds bids by their posting, where a live one may be a
// person's and not the one that was sent.
func (l *Lease) guesses() bool {
	return l.Account.Client.Capabilities().Dedup == marketplace.NaturalKey
}

// External is the bid as the marketplace sees it.
func (l *Lease) External() marketplace.Bid {
	b := marketplace.Bid{
		ID: l.Bid.ID, Marketplace: l.Bid.Marketplace, Account: l.Bid.Account, JobID: l.Bid.JobID,
		JobURL: l.Bid.JobURL, Title: l.Bid.Title, Pricing: l.Bid.Pricing, Currency: l.Bid.Currency,
		AmountCents: orZero(l.Bid.AmountCents), PeriodDays: orZero(l.Bid.PeriodDays), Proposal: orZero(l.Bid.Proposal),
		ExternalID: orZero(l.Bid.ExternalBidID), ArmedAt: orZero(l.Bid.FirstPostAt),
		ApprovedBy: orZero(l.Bid.ApprovedBy), ApprovedAt: orZero(l.Bid.ApprovedAt),
		WithdrawReason: orZero(l.Bid.WithdrawRequestedReason), WithdrawAskedAt: orZero(l.Bid.WithdrawRequestedAt),
		Attempt: int(l.Bid.DeliveryAttempts) + 1,
	}
	return b
}

func orZero[T any](value *T) (zero T) {
	if value == nil {
		return zero
	}
	return *value
}

// Found records the marketplace's id of a bid whose delivery goes on.
func (l *Lease) Found(ctx context.Context, f Finding) (clash bool, err error) {
	detail, err := json.Marshal(event{Kind: *l.Bid.DeliveryKind, Result: "found", ExternalBidID: f.ExternalID})
	if err != nil {
		return false, fmt.Errorf("encode an event: %w", err)
	}
	_, err = within(ctx, func(ctx context.Context) (int32, error) {
		return l.engine.q.RecordFound(ctx, queries.RecordFoundParams{
			ExternalBidID: f.ExternalID, IsForeign: f.Foreign, IsGuessed: l.guesses(), ID: l.Bid.ID, Token: l.Bid.LeaseToken, Actor: actor, Detail: detail,
		})
	})
	if isClash(err) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("record the marketplace's id: %w", err)
	}
	l.Bid.ExternalBidID, l.Bid.IsForeign, l.Bid.IsGuessed = &f.ExternalID, l.Bid.IsForeign || f.Foreign, l.guesses()
	return false, nil
}

// NeverSent says whether nothing of the bid can be at the marketplace: no POST was ever
// armed, and nothing was found there.
func (l *Lease) NeverSent() bool { return l.posts == 0 && l.Bid.ExternalBidID == nil }

// Change makes one call that changes something, if the lease still covers that. Its deadline is absolute,
// counted from before that was asked: a process that was frozen in between finds it over and sends nothing.
func (l *Lease) Change(
	ctx context.Context, method func(marketplace.Client, context.Context, marketplace.Bid) marketplace.Result,
) (result marketplace.Result, held bool, err error) {
	timeout := l.Account.Client.Capabilities().Timeout
	until := time.Now().Add(timeout)
	held, err = within(ctx, func(ctx context.Context) (bool, error) {
		return l.engine.q.HoldsLease(ctx, l.Bid.ID, l.Bid.LeaseToken, timeout+leaseMargin)
	})
	if err != nil {
		return result, false, fmt.Errorf("check the lease: %w", err)
	}
	if !held {
		return result, false, nil
	}
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	return method(l.Account.Client, ctx, l.External()), true, nil
}

func isClash(err error) bool {
	return db.Code(err) == db.CodeUniqueViolation && db.Constraint(err) == "bids_one_active_per_external_id"
}

// within bounds one statement from outside.
func within[T any](ctx context.Context, statement func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, statementTime)
	defer cancel()
	return statement(ctx)
}
