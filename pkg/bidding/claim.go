package bidding

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/policy"
	"github.com/arbitrageai/bidder/pkg/posting"
)

// Rules are what a claim checks beside live bids.
type Rules struct {
	// PostingTTL is how old a cached posting may be.
	PostingTTL time.Duration
	// RebidWindow is how long after its last bid was made, sent or withdrawn a posting is left alone.
	RebidWindow time.Duration
	// Policy decides on what is left.
	Policy Policy
	// Terms, unless nil, says where Policy is simple: then passes claim within the terms of the
	// marketplace, if it has no caps either, in the statement that looks at the postings, which is
	// faster. Policy must say the same.
	Terms func(marketplace string) (Terms, bool)
	// Reads are the parts of a posting that Policy looks at.
	Reads policy.Reads
	// Caps bound each marketplace by itself; nil is nowhere.
	Caps func(marketplace string) Caps
}

// database is what a claim needs of a pool.
type database interface {
	db.Beginner
	queries.DBTX
}

// Claimer claims postings. It is safe for concurrent use.
type Claimer struct {
	pool     database
	limits   Limits
	rules    Rules
	counters *Counters
	runID    *uuid.UUID

	deciding chan struct{} // holds one element while a worker decides exactly on caps
	mu       sync.Mutex
	cuts     map[meter]int32 // the caps that it has decided on exactly, and into how many shares they were cut
	terms    knownTerms

	// For tests: a clock in place of the database's, and a pause after each step.
	now   *time.Time
	after func(step string)
}

// NewClaimer returns a Claimer whose bids carry runID, unless that is zero, and whose
// attempts are counted into counters.
func NewClaimer(pool *pgxpool.Pool, limits Limits, rules Rules, counters *Counters, runID uuid.UUID) *Claimer {
	c := &Claimer{pool: pool, limits: limits, rules: rules, counters: counters, deciding: make(chan struct{}, 1), after: func(string) {}}
	if runID != uuid.Nil {
		c.runID = &runID
	}
	return c
}

// batch is one claim transaction: its attempts in key order, and how it takes its locks.
type batch struct {
	attempts []Attempt
	// pass: the attempts come from the queue, and what is not decided stays queued for later.
	pass *passing
	// automatic: no person asks. What was withdrawn counts as closed.
	automatic bool
	// audit: attempts that met a live bid leave a DUPLICATE row.
	audit bool
	// amountCents, unless nil, takes the place of the amount that the posting wants.
	amountCents *int64
	// exact: it takes from no shares of caps, but from the whole.
	exact    bool
	spending spending
	// taken is which of the attempts is the candidate that lies there; nil where the attempts
	// were known before.
	taken map[pgtype.TID]int

	// plain, unless nil, is to be claimed of what a pass takes, before anything is judged.
	plain *queries.InsertPlainParams
	// numbers are, for each attempt, which of plain's ids is its own, or -1 where it is not locked.
	numbers []int
	// inserted is how many of them were plain, and are claimed.
	inserted int

	// tx is the transaction while it is open; started, when it was begun, and judgedAt, unless zero, the
	// time by which was judged.
	tx                *db.Tx
	started, judgedAt time.Time
	evaluated         time.Duration // the policy took
}

// attempt is the one that was judged, or nil where its candidate is left to another worker.
func (b *batch) attempt(row *queries.JudgeRow) *Attempt {
	if b.taken == nil {
		return &b.attempts[row.Number]
	}
	if i, ok := b.taken[row.Candidate]; ok {
		return &b.attempts[i]
	}
	return nil
}

// take fills in b.attempts and tries their locks; it is the first statement of the claim, and is
// called as [db.Tx.Together] says.
type take func(ctx context.Context, q *queries.Queries, b *batch) error

// takeAttempts tries the locks of attempts that are already known.
func takeAttempts(ctx context.Context, q *queries.Queries, b *batch) error {
	b.taken, b.plain, b.inserted = nil, nil, 0
	marketplaces, jobIDs := keyArrays(b.attempts, all)
	rows, err := q.LockPostings(ctx, marketplaces, jobIDs)
	if err != nil {
		return fmt.Errorf("lock %d postings: %w", len(b.attempts), err)
	}
	for i, row := range rows {
		b.attempts[i].lock(row.Locked)
	}
	return nil
}

// lock notes a try for the posting's lock, and forgets what an earlier one came to.
func (a *Attempt) lock(locked bool) {
	*a = Attempt{
		Key: a.Key, Waited: a.Waited, queuedAt: a.queuedAt,
		tried: true, conflicted: a.conflicted || !a.tried && !locked, acquired: a.acquired || locked, held: locked,
	}
	if !locked {
		a.Outcome = Locked
	}
}

// limited are the limits of every transaction of a claim.
func (c *Claimer) limited() db.Limits {
	return db.Limits{
		Statement: c.limits.Statement, Lock: rowLockTimeout, Idle: min(c.limits.TTL, idleLimit), Life: c.limits.TTL,
		ByIndex: true,
	}
}

// bounded is the outer net of a transaction, for servers that no longer answer: where
// they do, their own limits end it first.
func (c *Claimer) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, 2*c.limits.Statement+min(c.limits.TTL, idleLimit))
}

// claim runs one claim transaction. After an error b holds the attempts as far as they
// were known, none of them decided; only db.ErrCommitUnknown leaves that open.
func (c *Claimer) claim(ctx context.Context, b *batch, take take) error {
	if _, err := c.begin(ctx, nil, b, take); err != nil {
		return err
	}
	return c.commit(ctx, b)
}

// begin takes the attempts of b and decides on them, in a transaction that it leaves open for commit or
// for the begin of the next batch. Its first message commits last, unless that is nil: where committed
// is an error b has not begun.
func (c *Claimer) begin(ctx context.Context, last, b *batch, take take) (committed, err error) {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	c.after("beginning")
	b.started, b.spending = time.Now(), spending{}
	if last == nil {
		b.tx = db.Begin(c.pool, c.limited())
	} else {
		b.tx = last.tx
	}
	decided := false
	defer func() {
		if !decided { // or the policy panics
			err = c.abandon(ctx, b, err)
		}
	}()
	var found []queries.JudgeRow
	first := func(q *queries.Queries) error {
		err := take(ctx, q, b)
		switch {
		case err != nil:
		case b.plain != nil:
			err = b.insertPlain(ctx, q)
		default:
			found, err = c.look(ctx, q, b, all, nil)
		}
		return err
	}
	if last == nil {
		err = b.tx.Together(ctx, first)
	} else {
		committed, err = b.tx.CommitAnd(ctx, func(q *queries.Queries) error { return c.conclude(ctx, q, last) }, first)
		committed = c.committed(ctx, last, committed)
	}
	if committed != nil || err != nil {
		return committed, err
	}
	if len(b.attempts) > 0 {
		c.after("locked")
	}
	if b.inserted < len(b.attempts) {
		if err := c.decide(ctx, queries.New(b.tx), b, found); err != nil {
			return nil, err
		}
	}
	if len(b.attempts) > 0 {
		c.after("written")
	}
	decided = true
	return nil, nil
}

// commit commits what begin has decided.
func (c *Claimer) commit(ctx context.Context, b *batch) error {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	return c.committed(ctx, b, b.tx.CommitWith(ctx, func(q *queries.Queries) error { return c.conclude(ctx, q, b) }))
}

// committed notes that the transaction of b was committed, unless err says otherwise.
func (c *Claimer) committed(ctx context.Context, b *batch, err error) error {
	if err != nil {
		return c.abandon(ctx, b, err)
	}
	c.letDecide(b)
	c.remember(b.spending.cuts)
	return nil
}

// abandon leaves nothing of the transaction of b, which err has ended, and says whether that was its age.
func (c *Claimer) abandon(ctx context.Context, b *batch, err error) error {
	if b.pass != nil {
		b.pass.broke(b.attempts) // before others can take them
	}
	b.tx.Rollback(ctx)
	c.letDecide(b)
	if err != nil && expired(err, b.started, c.limits.TTL) {
		return fmt.Errorf("%w: %w", ErrLockExpired, err)
	}
	return err
}

// decide judges what was locked and was not plain, inserts the bids that nothing stands against, and finds out who
// won where the insert found a writer that takes no locks.
func (c *Claimer) decide(ctx context.Context, q *queries.Queries, b *batch, found []queries.JudgeRow) (err error) {
	if b.plain != nil && slices.ContainsFunc(b.attempts, func(a Attempt) bool { return open(&a) }) {
		if found, err = c.look(ctx, q, b, open, nil); err != nil {
			return err
		}
	}
	if b.judgedAt, err = c.judge(ctx, q, b, found, nil); err != nil {
		return err
	}
	if idle := c.limited().Idle; b.evaluated > idle || errors.Is(ctx.Err(), context.DeadlineExceeded) {
		// The server has ended the transaction meanwhile, and is there: this is no outage. Where only this
		// process had no time left, the policy may have said so of postings that it knows nothing of.
		return fmt.Errorf("evaluate the policy on %d postings within %v: %w", len(b.attempts), idle, ErrLockExpired)
	}
	c.after("judged")
	if err := c.spend(ctx, q, b); err != nil {
		return err
	}
	if err := c.insert(ctx, q, b); err != nil {
		return err
	}
	if err := c.takeShares(ctx, q, b); err != nil {
		return err
	}
	if err := c.cutSpending(ctx, q, b); err != nil {
		return err
	}
	return findWinners(ctx, q, b)
}

// conclude takes what is decided off the queue, and leaves the rest there for later. Its
// statements go with the COMMIT, so it is there that they fail.
func (c *Claimer) conclude(ctx context.Context, q *queries.Queries, b *batch) error {
	err := drop(ctx, q, b)
	if b.audit {
		err = errors.Join(err, c.recordDuplicates(ctx, q, b))
	}
	if b.pass != nil {
		err = errors.Join(err, postpone(ctx, q, b))
	}
	return err
}

// insert writes the bids. Attempts that nothing stood against and that could not be inserted
// become Locked.
func (c *Claimer) insert(ctx context.Context, q *queries.Queries, b *batch) error {
	n := len(b.attempts) - b.inserted
	params := queries.InsertBidsParams{
		RunID: c.runID, JudgedAt: b.judgedAt,
		IDs: make([]uuid.UUID, 0, n), InTables: make([]uint32, 0, n), Places: make([]pgtype.TID, 0, n), WrittenBy: make([]uint32, 0, n),
		Amounts: make([]int64, 0, n), NeedApproval: make([]bool, 0, n),
	}
	for i := range b.attempts {
		if a := &b.attempts[i]; a.Outcome == Claimed && a.BidID == uuid.Nil {
			a.BidID = uuid.Must(uuid.NewV7()) // ordered by time: random ids cost a page image each
			params.IDs = append(params.IDs, a.BidID)
			params.InTables = append(params.InTables, a.judged.inTable)
			params.Places = append(params.Places, a.judged.place)
			params.WrittenBy = append(params.WrittenBy, a.judged.writtenBy)
			params.Amounts = append(params.Amounts, a.AmountCents)
			params.NeedApproval = append(params.NeedApproval, a.needsApproval)
		}
	}
	if len(params.IDs) == 0 {
		return nil
	}
	inserted, err := q.InsertBids(ctx, params)
	if err != nil {
		return fmt.Errorf("insert %d bids: %w", len(params.IDs), err)
	}
	if inserted == int64(len(params.IDs)) {
		return nil
	}
	found, err := q.FindBidsByID(ctx, params.IDs)
	if err != nil {
		return fmt.Errorf("look up %d bids: %w", len(params.IDs), err)
	}
	for i := range b.attempts {
		if a := &b.attempts[i]; slices.Contains(params.IDs, a.BidID) && !slices.Contains(found, a.BidID) {
			a.Outcome, a.BidID = Locked, uuid.Nil
		}
	}
	return nil
}

// drop takes what was decided off the queue.
func drop(ctx context.Context, q *queries.Queries, b *batch) error {
	var (
		taken                = make([]pgtype.TID, 0, len(b.attempts))
		marketplaces, jobIDs []string
		covers               []time.Time
	)
	for i := range b.attempts {
		a := &b.attempts[i]
		switch {
		case !a.Decided(), a.Outcome == Ineligible && b.amountCents != nil: // with that amount only
		case a.place.Valid:
			taken = append(taken, a.place)
		default:
			marketplaces = append(marketplaces, a.Key.Marketplace)
			jobIDs = append(jobIDs, a.Key.JobID)
			covers = append(covers, a.covers())
		}
	}
	var err error
	if len(taken) > 0 {
		err = q.DropTaken(ctx, taken)
	}
	if len(jobIDs) > 0 {
		err = errors.Join(err, q.DropCandidates(ctx, marketplaces, jobIDs, covers))
	}
	return err
}

// covers says up to which cached_at a candidate is decided by this attempt. What a pass
// took it decides in any case, even where the posting is gone or older than the queue says:
// it would meet that candidate for ever.
func (a *Attempt) covers() time.Time {
	if a.queuedAt.After(a.CachedAt) {
		return a.queuedAt
	}
	return a.CachedAt
}

// findWinners looks, with a new snapshot, for live bids on the postings that were locked
// by us and yet could not be inserted.
func findWinners(ctx context.Context, q *queries.Queries, b *batch) error {
	marketplaces, jobIDs := keyArrays(b.attempts, outrun)
	if len(jobIDs) == 0 {
		return nil
	}
	rows, err := q.FindLiveBids(ctx, marketplaces, jobIDs)
	if err != nil {
		return fmt.Errorf("find %d live bids: %w", len(jobIDs), err)
	}
	for _, row := range rows {
		key := posting.Key{Marketplace: row.Marketplace, JobID: row.JobID}
		a := &b.attempts[slices.IndexFunc(b.attempts, func(a Attempt) bool { return a.Key == key })]
		a.Outcome, a.ExistingBidID = Duplicate, row.ID
	}
	return nil
}

func (c *Claimer) recordDuplicates(ctx context.Context, q *queries.Queries, b *batch) error {
	params := queries.InsertDuplicatesParams{RunID: c.runID, Now: b.judgedAt}
	for _, a := range b.attempts {
		if a.Outcome == Duplicate {
			params.IDs = append(params.IDs, uuid.Must(uuid.NewV7()))
			params.LiveBidIDs = append(params.LiveBidIDs, a.ExistingBidID)
			params.CachedAts = append(params.CachedAts, a.CachedAt)
		}
	}
	if len(params.IDs) == 0 {
		return nil
	}
	return q.InsertDuplicates(ctx, params)
}

// undecidedPause is how long a candidate is left alone that could not be decided.
const undecidedPause = time.Second

// postpone leaves undecided candidates in the queue, past the pass that is under way.
func postpone(ctx context.Context, q *queries.Queries, b *batch) error {
	marketplaces, jobIDs := keyArrays(b.attempts, undecided)
	if len(jobIDs) == 0 {
		return nil
	}
	params := queries.PostponeCandidatesParams{Pause: undecidedPause, Marketplaces: marketplaces, JobIDs: jobIDs}
	for i := range b.attempts {
		if a := &b.attempts[i]; undecided(a) {
			params.Untils = append(params.Untils, a.Until) // mostly the zero time, long past
		}
	}
	return q.PostponeCandidates(ctx, params)
}

func all(*Attempt) bool         { return true }
func open(a *Attempt) bool      { return a.Outcome == "" }
func outrun(a *Attempt) bool    { return a.Outcome == Locked && a.held }
func undecided(a *Attempt) bool { return !a.Decided() }

// keyArrays are the keys of the attempts that match, as the arrays that statements take.
func keyArrays(attempts []Attempt, match func(*Attempt) bool) (marketplaces, jobIDs []string) {
	for i := range attempts {
		if match(&attempts[i]) {
			if jobIDs == nil {
				marketplaces, jobIDs = make([]string, 0, len(attempts)-i), make([]string, 0, len(attempts)-i)
			}
			marketplaces = append(marketplaces, attempts[i].Key.Marketplace)
			jobIDs = append(jobIDs, attempts[i].Key.JobID)
		}
	}
	return marketplaces, jobIDs
}
