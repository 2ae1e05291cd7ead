package metrics

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/bidding"
	"github.com/arbitrageai/bidder/pkg/delivery"
	"github.com/arbitrageai/bidder/pkg/posting"
)

// Silence is how long a run may say nothing before it is taken for killed, and what its bids
// tell of it is counted for good. A run that lives says so every 20 seconds at least.
const Silence = 24 * time.Hour

// Counters are what one run has counted: absolute totals, and the JSON of runs.counters.
type Counters struct {
	LockAttempts  int64                     `json:"lock_attempts"`
	LockSuccesses int64                     `json:"lock_successes"`
	LockConflicts int64                     `json:"lock_conflicts"`
	LockTimeouts  int64                     `json:"lock_timeouts"`
	Outcomes      map[bidding.Outcome]int64 `json:"outcomes"`
	Deliveries    delivery.Totals           `json:"deliveries"`
	Refreshed     delivery.Refreshed        `json:"refreshed"`
	Ingest        *posting.Counts           `json:"ingest,omitempty"`
}

// Kind is what there is of one kind of runs: run, bid or withdraw.
type Kind struct {
	Runs int64
	// Exits count ended runs by their exit code; killed ones as "killed", a day later.
	Exits map[string]int64
	// LastFinishedAt is zero where none has finished.
	LastFinishedAt time.Time
}

// Totals are the counters of many runs.
type Totals struct {
	Runs int64
	// Unfinished are runs that are under way or were killed.
	Unfinished int64
	// Locks, Outcomes (all nine), Deliveries and Refreshed are sums.
	Locks      bidding.Locks
	Outcomes   map[bidding.Outcome]int64
	Deliveries delivery.Totals
	Refreshed  delivery.Refreshed
	// Kinds are there in the totals of all runs only.
	Kinds map[string]Kind
}

func newTotals() Totals {
	t := Totals{Outcomes: make(map[bidding.Outcome]int64, len(bidding.Outcomes())), Kinds: map[string]Kind{}}
	for _, outcome := range bidding.Outcomes() {
		t.Outcomes[outcome] = 0
	}
	return t
}

// ReadTotals adds up all runs there ever were: those under way, killed and pruned, too. What
// it returns never goes back. It is one statement, and costs as much as there are runs that
// have not ended, and bids since the first of them.
func ReadTotals(ctx context.Context, pool db.Beginner) (totals Totals, err error) {
	err = within(ctx, pool, func(tx pgx.Tx) error {
		totals, err = readTotals(ctx, tx)
		return err
	})
	return totals, err
}

func readTotals(ctx context.Context, conn queries.DBTX) (Totals, error) {
	totals := newTotals()
	rows, err := queries.New(conn).ReadCounters(ctx)
	if err != nil {
		return totals, fmt.Errorf("add up the counters of all runs: %w", err)
	}
	for _, row := range rows {
		var sums struct {
			Counters
			Exits map[string]int64 `json:"exits"`
		}
		if err := json.Unmarshal(row.Counters, &sums); err != nil {
			return totals, fmt.Errorf("read the counters of %s: %w", row.Kind, err)
		}
		totals.Kinds[row.Kind] = Kind{Runs: row.Runs, Exits: sums.Exits, LastFinishedAt: row.LastFinishedAt}
		totals.Runs += row.Runs
		totals.Unfinished += row.Unfinished
		totals.add(sums.Counters)
	}
	return totals, nil
}

func (t *Totals) add(c Counters) {
	t.Locks.Attempts += c.LockAttempts
	t.Locks.Successes += c.LockSuccesses
	t.Locks.Conflicts += c.LockConflicts
	t.Locks.Timeouts += c.LockTimeouts
	for outcome, n := range c.Outcomes {
		t.Outcomes[outcome] += n
	}
	for _, k := range []struct {
		sum  *delivery.Counts
		part delivery.Counts
	}{{&t.Deliveries.Place, c.Deliveries.Place}, {&t.Deliveries.Withdraw, c.Deliveries.Withdraw}} {
		k.sum.Done += k.part.Done
		k.sum.Retry += k.part.Retry
		k.sum.Review += k.part.Review
		k.sum.Rejected += k.part.Rejected
	}
	for _, result := range refreshResults {
		*t.Refreshed.Count(result) += *c.Refreshed.Count(result)
	}
}

// ReadTotalsSince adds up the runs that started within a time, as far as they were not pruned.
func ReadTotalsSince(ctx context.Context, pool db.Beginner, since time.Duration) (totals Totals, err error) {
	err = within(ctx, pool, func(tx pgx.Tx) error {
		totals, err = readTotalsSince(ctx, tx, since)
		return err
	})
	return totals, err
}

func readTotalsSince(ctx context.Context, conn queries.DBTX, since time.Duration) (Totals, error) {
	totals := newTotals()
	q := queries.New(conn)
	counts, err := q.CountRuns(ctx, &since)
	if err != nil {
		return totals, fmt.Errorf("count runs: %w", err)
	}
	totals.Runs, totals.Unfinished = counts.Runs, counts.Unfinished
	totals.Locks = bidding.Locks{Attempts: counts.LockAttempts, Successes: counts.LockSuccesses, Conflicts: counts.LockConflicts, Timeouts: counts.LockTimeouts}
	outcomes, err := q.SumOutcomes(ctx, &since)
	if err != nil {
		return totals, fmt.Errorf("add up outcomes: %w", err)
	}
	for _, row := range outcomes {
		totals.Outcomes[bidding.Outcome(row.Outcome)] = row.Total
	}
	uncounted, err := q.UncountedClaims(ctx, &since)
	if err != nil {
		return totals, fmt.Errorf("count the claims of unfinished runs: %w", err)
	}
	totals.Outcomes[bidding.Claimed] += uncounted
	totals.Locks.Attempts += uncounted
	totals.Locks.Successes += uncounted
	sums, err := q.SumDeliveries(ctx, &since)
	if err != nil {
		return totals, fmt.Errorf("add up deliveries: %w", err)
	}
	for _, row := range sums {
		totals.Deliveries.Set(row.Kind, row.Result, row.Total)
	}
	looked, err := q.SumRefreshed(ctx, &since)
	if err != nil {
		return totals, fmt.Errorf("add up look-ups: %w", err)
	}
	for _, row := range looked {
		if count := totals.Refreshed.Count(row.Result); count != nil {
			*count = row.Total
		}
	}
	return totals, nil
}
