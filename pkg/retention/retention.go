// Package retention deletes what is old and needed by nobody, in small batches beside running
// pods. It never re-opens a posting, and no counter goes back for it.
package retention

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/metrics"
)

const (
	// capDay is how long a bid may count for a day of a cap: the longest day, and a margin.
	capDay = 26 * time.Hour
	// keepCallbacks is longer than anybody repeats a callback.
	keepCallbacks = 7 * 24 * time.Hour
	// previewLife bounds the one transaction of a dry run, which looks at every bid.
	previewLife = 24 * time.Hour
	// page is how many rows one transaction looks at.
	page = 1000
)

// Age is from which age on things may be deleted: at least what is asked for, what each of the
// given times still needs, and a day of caps.
func Age(asked time.Duration, needed ...time.Duration) time.Duration {
	age := max(asked, capDay, metrics.Silence)
	for _, n := range needed {
		age = max(age, n)
	}
	return age
}

// Removed counts rows. The history of bids is not counted: it goes with them.
type Removed struct {
	Bids      int64 `json:"bids"`
	Postings  int64 `json:"postings"`
	Runs      int64 `json:"runs"`
	Callbacks int64 `json:"callbacks"`
	Spending  int64 `json:"spending"`
}

// Pruner deletes what is older than Age, which is one that [Age] has returned.
type Pruner struct {
	Pool   db.Beginner
	Limits db.Limits // of each batch
	Age    time.Duration
	// Observe, where given, is told how many rows each batch has looked at.
	Observe func(rows int)
}

// times are the moments that a pass goes by, all from one reading of the database's clock.
type times struct{ before, silentSince, callbacksBefore time.Time }

func (p Pruner) times(now time.Time) times {
	return times{before: now.Add(-p.Age), silentSince: now.Add(-metrics.Silence), callbacksBefore: now.Add(-max(p.Age, keepCallbacks))}
}

// Prune deletes all that may go, and says how much that was, also where an error ends it.
// What a batch has deleted stays deleted.
func (p Pruner) Prune(ctx context.Context) (removed Removed, before time.Time, err error) {
	var at times
	err = p.batch(ctx, func(q *queries.Queries) error {
		now, err := q.Now(ctx)
		at = p.times(now)
		return err
	})
	if err != nil {
		return removed, before, fmt.Errorf("read the database's clock: %w", err)
	}
	// Killed runs first: what they claimed is counted from their bids.
	err = p.repeat(ctx, new(int64), func(q *queries.Queries) (int64, error) {
		return q.CountSilentRuns(ctx, metrics.Silence, page)
	})
	if err != nil {
		return removed, at.before, fmt.Errorf("add killed runs to the totals: %w", err)
	}
	if err := p.bids(ctx, at, &removed.Bids); err != nil {
		return removed, at.before, fmt.Errorf("delete old bids: %w", err)
	}
	if err := p.postings(ctx, at, &removed.Postings); err != nil {
		return removed, at.before, fmt.Errorf("delete old postings: %w", err)
	}
	for _, rest := range []struct {
		what    string
		removed *int64
		remove  func(q *queries.Queries) (int64, error)
	}{
		{"runs", &removed.Runs, func(q *queries.Queries) (int64, error) { return q.PruneRuns(ctx, at.before, page) }},
		{"spending", &removed.Spending, func(q *queries.Queries) (int64, error) { return q.PruneSpending(ctx, at.before, page) }},
		{"callbacks", &removed.Callbacks, func(q *queries.Queries) (int64, error) {
			return q.ForgetCallbacks(ctx, max(p.Age, keepCallbacks), page)
		}},
	} {
		if err := p.repeat(ctx, rest.removed, rest.remove); err != nil {
			return removed, at.before, fmt.Errorf("delete old %s: %w", rest.what, err)
		}
	}
	return removed, at.before, nil
}

// Preview counts what [Pruner.Prune] would delete, at one moment, and changes nothing.
func (p Pruner) Preview(ctx context.Context) (removed Removed, before time.Time, err error) {
	limits := p.limits()
	limits.Life = previewLife
	err = db.View(ctx, p.Pool, limits, func(tx pgx.Tx) error {
		q := queries.New(tx)
		now, err := q.Now(ctx)
		if err != nil {
			return fmt.Errorf("read the database's clock: %w", err)
		}
		at := p.times(now)
		before = at.before
		rest, err := q.PrunePreview(ctx, at.silentSince, at.before, at.callbacksBefore)
		if err != nil {
			return fmt.Errorf("count old rows: %w", err)
		}
		removed.Runs, removed.Spending, removed.Callbacks = rest.Runs, rest.Spending, rest.Callbacks
		for after, more := uuid.Nil, true; more; {
			var ids []uuid.UUID
			if ids, after, more, err = p.oldBids(ctx, q, at, after); err != nil {
				return fmt.Errorf("count old bids: %w", err)
			}
			removed.Bids += int64(len(ids))
		}
		for after, more := (queries.PrunePageOfPostingsRow{}), true; more; {
			var keys postingKeys
			if keys, after, more, err = p.oldPostings(ctx, q, at, after); err != nil {
				return fmt.Errorf("count old postings: %w", err)
			}
			removed.Postings += int64(len(keys.jobIDs))
		}
		return nil
	})
	return removed, before, err
}

func (p Pruner) limits() db.Limits {
	limits := p.Limits
	limits.ByIndex = true // pages are read by key, whatever the planner thinks of the tables
	return limits
}

func (p Pruner) batch(ctx context.Context, do func(q *queries.Queries) error) error {
	return db.InTx(ctx, p.Pool, p.limits(), func(tx *db.Tx) error { return do(queries.New(tx)) })
}

func (p Pruner) observe(rows int) {
	if p.Observe != nil {
		p.Observe(rows)
	}
}

// repeat removes batch after batch until one is not full.
func (p Pruner) repeat(ctx context.Context, removed *int64, remove func(q *queries.Queries) (int64, error)) error {
	for {
		n := int64(0)
		err := p.batch(ctx, func(q *queries.Queries) (err error) {
			n, err = remove(q)
			return err
		})
		if err != nil {
			return err
		}
		*removed += n
		p.observe(int(n))
		if n < page {
			return nil
		}
	}
}

func (p Pruner) bids(ctx context.Context, at times, removed *int64) error {
	for after, more := uuid.Nil, true; more; {
		n := int64(0)
		err := p.batch(ctx, func(q *queries.Queries) (err error) {
			var ids []uuid.UUID
			if ids, after, more, err = p.oldBids(ctx, q, at, after); err == nil && len(ids) > 0 {
				n, err = q.PruneBids(ctx, ids, at.before)
			}
			return err
		})
		if err != nil {
			return err
		}
		*removed += n
	}
	return nil
}

// oldBids are those of the next page that may go, and where the page ends; more says that it
// was full.
func (p Pruner) oldBids(ctx context.Context, q *queries.Queries, at times, after uuid.UUID) (ids []uuid.UUID, end uuid.UUID, more bool, err error) {
	rows, err := q.PrunePageOfBids(ctx, queries.PrunePageOfBidsParams{Before: at.before, SilentSince: at.silentSince, After: after, Page: page})
	if err != nil || len(rows) == 0 {
		return nil, after, false, err
	}
	p.observe(len(rows))
	for _, row := range rows {
		if row.Prunable {
			ids = append(ids, row.ID)
		}
	}
	return ids, rows[len(rows)-1].ID, len(rows) == page, nil
}

func (p Pruner) postings(ctx context.Context, at times, removed *int64) error {
	for after, more := (queries.PrunePageOfPostingsRow{}), true; more; {
		n := int64(0)
		err := p.batch(ctx, func(q *queries.Queries) (err error) {
			var keys postingKeys
			if keys, after, more, err = p.oldPostings(ctx, q, at, after); err == nil && len(keys.jobIDs) > 0 {
				n, err = q.PrunePostings(ctx, keys.marketplaces, keys.jobIDs, at.before)
			}
			return err
		})
		if err != nil {
			return err
		}
		*removed += n
	}
	return nil
}

// postingKeys are keys of postings, as a statement takes them.
type postingKeys struct{ marketplaces, jobIDs []string }

// oldPostings is what oldBids is, for postings.
func (p Pruner) oldPostings(
	ctx context.Context, q *queries.Queries, at times, after queries.PrunePageOfPostingsRow,
) (keys postingKeys, end queries.PrunePageOfPostingsRow, more bool, err error) {
	rows, err := q.PrunePageOfPostings(ctx, queries.PrunePageOfPostingsParams{
		Before: at.before, AfterMarketplace: after.Marketplace, AfterJobID: after.JobID, Page: page,
	})
	if err != nil || len(rows) == 0 {
		return keys, after, false, err
	}
	p.observe(len(rows))
	for _, row := range rows {
		if row.Prunable {
			keys.marketplaces, keys.jobIDs = append(keys.marketplaces, row.Marketplace), append(keys.jobIDs, row.JobID)
		}
	}
	return keys, rows[len(rows)-1], len(rows) == page, nil
}
