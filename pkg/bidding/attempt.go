package bidding

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/sethvargo/go-retry"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/posting"
)

// AttemptOptions say how one attempt by hand is made.
type AttemptOptions struct {
	// Wait is the longest wait for the posting's lock; 0 is one try.
	Wait time.Duration
	// AmountCents, unless nil, is bid in place of what the posting or its budget says.
	AmountCents *int64
}

// Attempt tries to bid on one posting, by hand: what was withdrawn before may be bid on
// again, and meeting a live bid leaves a DUPLICATE row. While it waits for the lock it
// holds no connection. Only a cancelled wait is an error; everything else is an outcome.
func (c *Claimer) Attempt(ctx context.Context, key posting.Key, options AttemptOptions) (Attempt, error) {
	started := time.Now()
	b := &batch{attempts: []Attempt{{Key: key}}, audit: true, amountCents: options.AmountCents}
	a := &b.attempts[0]
	err := untilUnlocked(ctx, options.Wait, func(ctx context.Context) error {
		a.Waited = time.Since(started)                            // until the last try
		_ = c.settle(context.WithoutCancel(ctx), b, takeAttempts) // an outage is in a.Err too
		if a.Outcome == Locked {
			return ErrLocked
		}
		return nil
	})
	if !a.tried && a.Outcome == "" {
		return *a, err // cancelled before the first try: no attempt was made
	}
	c.counters.add(b.attempts)
	if errors.Is(err, ErrLocked) {
		err = nil
		a.gaveUp(started, options.Wait)
	}
	return *a, err
}

// gaveUp notes that an attempt waited in vain. Its last try belongs to the wait: where the server is slow,
// that may be most of it.
func (a *Attempt) gaveUp(started time.Time, wait time.Duration) {
	if wait > 0 {
		a.Waited = time.Since(started)
	}
}

// takeTries is how often a claim is tried against passing trouble.
const takeTries = 5

// isPassing says whether the server asks to try again.
func isPassing(err error) bool {
	switch db.Code(err) {
	case db.CodeDeadlock, db.CodeSerialization, db.CodeLockNotAvailable:
		return true
	}
	return false
}

// settle brings the attempts of b to an outcome each, whatever happens to their
// transaction. Its error is an outage, or a failure to take anything at all.
func (c *Claimer) settle(ctx context.Context, b *batch, take take) error {
	return c.settled(ctx, b, c.claim(ctx, b, take))
}

// settled is settle after a first claim that ended with err.
func (c *Claimer) settled(ctx context.Context, b *batch, err error) error {
	for tries := 1; b.isPassing(err) && tries < takeTries; tries++ {
		b.exact = tries > 1 && wantsCaps(err) // before that another worker may have cut new shares
		err = c.claim(ctx, b, takeAttempts)
	}
	n, code := len(b.attempts), db.Code(err)
	switch {
	case err == nil || n == 0:
		return err
	case errors.Is(err, db.ErrCommitUnknown):
		return c.resolve(ctx, b, err)
	case errors.Is(err, errCapsBusy): // nothing is wrong with any of the postings
		return c.putBack(ctx, b)
	case n > 1 && code == db.CodeOutOfMemory:
		return c.redo(ctx, b, (n+1)/2)
	case n > 1 && code != db.CodeQueryCanceled && !isOutage(err):
		return c.redo(ctx, b, 1) // one bad posting must not drop the rest
	case code == db.CodeLockNotAvailable: // a writer that takes no locks is at this posting
		return c.putBack(ctx, b)
	}
	for i := range b.attempts {
		b.attempts[i].fail(detailOf(err), err)
	}
	if isOutage(err) {
		return err // nobody is there to be told
	}
	return c.failCandidates(ctx, b, err)
}

// isPassing says whether the same attempts may come to more in another transaction.
func (b *batch) isPassing(err error) bool {
	return wantsCaps(err) || errors.Is(err, errNotPlain) || len(b.attempts) == 1 && isPassing(err) && db.Code(err) != db.CodeLockNotAvailable
}

// wantsCaps says whether the claim found no way to take from caps.
func wantsCaps(err error) bool { return errors.Is(err, errOverspent) || errors.Is(err, errCapsBusy) }

// putBack ends the attempts of b as locked.
func (c *Claimer) putBack(ctx context.Context, b *batch) error {
	for i := range b.attempts {
		b.attempts[i].lock(false)
	}
	return c.requeue(ctx, b, func(ctx context.Context, q *queries.Queries) error { return postpone(ctx, q, b) })
}

// isOutage says whether err leaves no hope for the next transaction: what is no fault of any posting
// counts against none.
func isOutage(err error) bool { return isLost(err) || db.IsRefusal(err) }

// isLost says whether err is that of a connection which is gone, or answers too late. A holder that was
// slow or frozen has lost its connection, but not its server.
func isLost(err error) bool {
	return !errors.Is(err, ErrLockExpired) && (db.IsLost(err) || errors.Is(err, context.DeadlineExceeded))
}

// redo claims the attempts of a failed batch again, size at a time.
func (c *Claimer) redo(ctx context.Context, b *batch, size int) error {
	for start := 0; start < len(b.attempts); start += size {
		end := min(start+size, len(b.attempts))
		part := *b
		part.attempts = b.attempts[start:end]
		if err := c.again(ctx, &part); err != nil {
			for i := end; i < len(b.attempts); i++ {
				b.attempts[i].fail(detailOf(err), err) // they would wait for the outage one by one
			}
			return err
		}
	}
	return nil
}

// again is settle for a part of a batch that broke. What another worker of the pass has taken meanwhile,
// only to leave it alone, is free again as soon as that one commits.
func (c *Claimer) again(ctx context.Context, b *batch) error {
	var trouble error
	_ = untilUnlocked(ctx, rowLockTimeout, func(ctx context.Context) error {
		trouble = c.settle(ctx, b, takeAttempts)
		if a := b.attempts[0]; len(b.attempts) == 1 && a.Outcome == Locked && a.acquired && !a.held {
			return ErrLocked
		}
		return nil
	})
	return trouble
}

func (a *Attempt) fail(detail string, err error) {
	a.Outcome, a.Detail, a.BidID, a.ExistingBidID, a.Err = Failed, detail, uuid.Nil, uuid.Nil, err
}

func detailOf(err error) string {
	switch {
	case errors.Is(err, ErrLockExpired):
		return DetailLockExpired
	case db.Code(err) == db.CodeQueryCanceled:
		return DetailStatementTimeout
	case isLost(err):
		return DetailConnectionLost
	}
	return DetailDatabase
}

// failCandidates makes the queue wait longer for the attempts of b, after each failure.
func (c *Claimer) failCandidates(ctx context.Context, b *batch, cause error) error {
	marketplaces, jobIDs := keyArrays(b.attempts, all)
	return c.requeue(ctx, b, func(ctx context.Context, q *queries.Queries) error {
		return q.FailCandidates(ctx, detailOf(cause)+": "+cause.Error(), marketplaces, jobIDs)
	})
}

// requeue changes, in a transaction of its own, when a later pass takes the attempts of b.
func (c *Claimer) requeue(ctx context.Context, b *batch, change func(ctx context.Context, q *queries.Queries) error) error {
	if b.pass == nil || len(b.attempts) == 0 {
		return nil
	}
	if err := c.inTx(ctx, change); err != nil {
		return fmt.Errorf("put %d candidates back: %w", len(b.attempts), err)
	}
	return nil
}

func (c *Claimer) inTx(ctx context.Context, do func(ctx context.Context, q *queries.Queries) error) error {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	return db.InTx(ctx, c.pool, c.limited(), func(tx *db.Tx) error { return do(ctx, queries.New(tx)) })
}

// resolve finds out what became of a COMMIT that was never answered. The bids are looked
// up by their ids, not by posting, where another's might stand; and only under the same
// locks, because until those are free the old server process may still be committing.
func (c *Claimer) resolve(ctx context.Context, b *batch, cause error) error {
	unknown := make(map[posting.Key]*Attempt)
	for i := range b.attempts {
		if a := &b.attempts[i]; a.Outcome == Claimed {
			unknown[a.Key] = a
		}
	}
	// Nobody is there to be asked while the server restarts, so errors are tried again as well.
	backoff := retry.WithMaxDuration(c.limits.Wait, retry.WithCappedDuration(retryCap, retry.NewExponential(retryBase)))
	err := retry.Do(ctx, backoff, func(ctx context.Context) error {
		if err := c.lookUp(ctx, unknown); err != nil {
			return retry.RetryableError(err)
		}
		return nil
	})
	committed := slices.ContainsFunc(b.attempts, func(a Attempt) bool { return a.Outcome == Claimed })
	if err == nil && committed {
		return nil // with all that was decided beside the bids
	}
	if err == nil && !isOutage(cause) && len(b.attempts) > 1 {
		return c.redo(ctx, b, 1) // a frozen one that thawed: its server is there
	}
	rest := *b // what the queue still holds if it was not committed
	rest.attempts = nil
	for i := range b.attempts {
		a := &b.attempts[i]
		if _, still := unknown[a.Key]; still {
			a.Outcome, a.Detail, a.Err = Failed, DetailCommitUnknown, cause
			continue
		}
		if a.Outcome == Failed {
			a.fail(detailOf(cause), cause)
		}
		if a.Outcome != Claimed {
			rest.attempts = append(rest.attempts, *a)
		}
	}
	if err != nil {
		return fmt.Errorf("resolve %d bids: %w (%w)", len(unknown), cause, err)
	}
	return c.failCandidates(ctx, &rest, cause)
}

// lookUp takes out of unknown what it can decide: found is Claimed, not found is Failed. What is
// found counts once a COMMIT after it is answered: the one that was not may have made the bids here
// and not on the standbys that it had to wait for.
func (c *Claimer) lookUp(ctx context.Context, unknown map[posting.Key]*Attempt) error {
	if len(unknown) == 0 {
		return nil
	}
	b := &batch{}
	for key := range unknown {
		b.attempts = append(b.attempts, Attempt{Key: key})
	}
	slices.SortFunc(b.attempts, func(x, y Attempt) int { return x.Key.Compare(y.Key) })
	var found []uuid.UUID
	err := c.inTx(ctx, func(ctx context.Context, q *queries.Queries) error {
		if err := takeAttempts(ctx, q, b); err != nil {
			return err
		}
		var ids []uuid.UUID
		for _, a := range b.attempts {
			if a.held {
				ids = append(ids, unknown[a.Key].BidID)
			}
		}
		var err error
		if found, err = q.FindBidsByID(ctx, ids); err != nil {
			return fmt.Errorf("look up %d bids: %w", len(ids), err)
		}
		if len(found) > 0 {
			err = q.MarkLog(ctx)
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, a := range b.attempts {
		if a.held {
			if !slices.Contains(found, unknown[a.Key].BidID) {
				unknown[a.Key].Outcome = Failed
			}
			delete(unknown, a.Key)
		}
	}
	if len(unknown) > 0 {
		return ErrLocked
	}
	return nil
}

// PreviewOptions say what a preview looks at.
type PreviewOptions struct {
	// Pass previews attempts of a pass, else attempts by hand.
	Pass bool
	// AmountCents is as in [AttemptOptions].
	AmountCents *int64
	// Refreshed are postings that the cache does not hold yet and would by then.
	Refreshed map[posting.Key]posting.Posting
	// Rehearsal, unless nil, counts the claims of the previews before this one.
	Rehearsal *Rehearsal
}

// Rehearsal lets several previews in one transaction keep to the caps together, as if the
// earlier ones had claimed. The zero value has claimed nothing.
type Rehearsal struct{ used map[meter]usage }

// read adds what is used of the caps that it does not know yet.
func (r *Rehearsal) read(ctx context.Context, q *queries.Queries, needs map[meter]need, judgedAt time.Time) error {
	unknown := slices.DeleteFunc(sortedMeters(needs), func(m meter) bool { _, known := r.used[m]; return known })
	used, err := readSpending(ctx, q, unknown, judgedAt, recounted)
	if err != nil {
		return err
	}
	maps.Copy(used, r.used)
	r.used = used
	return nil
}

// claim adds claims that would be made.
func (r *Rehearsal) claim(needs map[meter]need) {
	for m, n := range needs {
		r.used[m] = usage{r.used[m].used + n.amount, r.used[m].dayEnds}
	}
}

// Preview says how attempts on the keys would end now, in a transaction that takes no
// locks and writes nothing. The keys are distinct.
func (c *Claimer) Preview(ctx context.Context, tx pgx.Tx, keys []posting.Key, options PreviewOptions) ([]Attempt, error) {
	b := &batch{attempts: make([]Attempt, len(keys)), automatic: options.Pass, amountCents: options.AmountCents}
	for i, key := range keys {
		b.attempts[i].Key = key
	}
	q := queries.New(tx)
	found, err := c.look(ctx, q, b, all, options.Refreshed)
	if err != nil {
		return nil, err
	}
	judgedAt, err := c.judge(ctx, q, b, found, options.Refreshed)
	if err != nil {
		return nil, err
	}
	rehearsal := cmp.Or(options.Rehearsal, &Rehearsal{})
	if err := rehearsal.read(ctx, q, c.needs(b), judgedAt); err != nil {
		return nil, err
	}
	c.refuse(b, rehearsal.used, judgedAt)
	rehearsal.claim(c.needs(b))
	return b.attempts, nil
}
