// Package metrics is what an operator alarms on, read from the database: what all runs have
// counted, and how things stand. Nothing is kept in the process, so that short-lived pods
// lose nothing and every reader reads the same.
//
// A reading looks at the indexes of what is live and of what is owed, at the queue and at the
// runs that have not ended. None of that grows with the history.
package metrics

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"runtime"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/bidding"
	"github.com/arbitrageai/bidder/pkg/delivery"
)

// statementTime bounds each statement of a reading, by the server.
const statementTime = 10 * time.Second

// Values of labels that are always there, so that a rate is known from the first event on.
//
//nolint:gochecknoglobals // constants
var (
	kinds          = []string{"bid", "run", "withdraw"}
	exitCodes      = []string{"0", "1", "3", "4", "130", "143", "killed"}
	refreshResults = []string{"live", "lost", "rejected", "review", "unseen", "withdrawn", "won"}
)

// Exporter reads the metrics. It is safe for concurrent use.
type Exporter struct {
	Pool *pgxpool.Pool
	// Caps reads what is used of the configured caps; nil is none.
	Caps func(ctx context.Context, conn queries.DBTX) ([]bidding.CapUsage, error)
	// Version is that of the program.
	Version string
}

// Gather reads all metrics, of one moment. Metrics that have no sample now are left out.
func (e *Exporter) Gather(ctx context.Context) ([]*dto.MetricFamily, error) {
	r := newReading()
	err := within(ctx, e.Pool, func(tx pgx.Tx) error {
		totals, err := readTotals(ctx, tx)
		if err != nil {
			return err
		}
		r.totals(totals)
		return errors.Join(r.bids(ctx, tx), r.queue(ctx, tx), r.schema(ctx, tx), e.caps(ctx, tx, r))
	})
	if err != nil {
		return nil, err
	}
	r.add(buildInfo, 1, e.Version, runtime.Version())
	return r.families(), nil
}

// within reads of one moment. The planner cannot know how few bids are newer than the runs
// under way, so it is told not to read them all.
func within(ctx context.Context, pool db.Beginner, read func(tx pgx.Tx) error) error {
	limits := db.Limits{Statement: statementTime, Lock: statementTime, Idle: statementTime, Life: statementTime, ByIndex: true}
	return db.View(ctx, pool, limits, read)
}

// Write writes all metrics in the text exposition format.
func (e *Exporter) Write(ctx context.Context, w io.Writer) error {
	families, err := e.Gather(ctx)
	if err != nil {
		return err
	}
	for _, family := range families {
		if _, err := expfmt.MetricFamilyToText(w, family); err != nil {
			return fmt.Errorf("write %s: %w", family.GetName(), err)
		}
	}
	return nil
}

func (e *Exporter) caps(ctx context.Context, conn queries.DBTX, r *reading) error {
	if e.Caps == nil {
		return nil
	}
	usage, err := e.Caps(ctx, conn)
	for _, u := range usage {
		r.add(capUsed, float64(u.Used), u.Marketplace, u.Account, u.Cap, u.Currency)
		r.add(capLimit, float64(u.Limit), u.Marketplace, u.Account, u.Cap, u.Currency)
	}
	return err
}

// reading collects samples.
type reading struct {
	byName map[string]Description
	read   map[string]*dto.MetricFamily
}

func newReading() *reading {
	r := &reading{byName: map[string]Description{}, read: map[string]*dto.MetricFamily{}}
	for _, d := range Descriptions() {
		r.byName[d.Name], r.read[d.Name] = d, d.family()
	}
	return r
}

func (r *reading) add(name string, value float64, labels ...string) {
	family := r.read[name]
	family.Metric = append(family.Metric, r.byName[name].sample(value, labels))
}

func (r *reading) families() []*dto.MetricFamily {
	var families []*dto.MetricFamily
	for _, d := range Descriptions() {
		if family := r.read[d.Name]; len(family.GetMetric()) > 0 {
			families = append(families, family)
		}
	}
	return families
}

func (r *reading) totals(t Totals) {
	for _, kind := range kinds {
		of := t.Kinds[kind]
		r.add(runs, float64(of.Runs), kind)
		exits := map[string]int64{}
		for _, code := range exitCodes {
			exits[code] = 0
		}
		maps.Copy(exits, of.Exits)
		for _, code := range slices.Sorted(maps.Keys(exits)) {
			r.add(runExits, float64(exits[code]), kind, code)
		}
		r.add(lastRun, seconds(of.LastFinishedAt), kind)
	}
	r.add(lockAttempts, float64(t.Locks.Attempts))
	r.add(lockSuccesses, float64(t.Locks.Successes))
	r.add(lockConflicts, float64(t.Locks.Conflicts))
	r.add(lockTimeouts, float64(t.Locks.Timeouts))
	for _, outcome := range slices.Sorted(slices.Values(bidding.Outcomes())) {
		r.add(attempts, float64(t.Outcomes[outcome]), string(outcome))
	}
	for _, of := range []struct {
		kind   string
		counts delivery.Counts
	}{{delivery.Place, t.Deliveries.Place}, {delivery.Withdraw, t.Deliveries.Withdraw}} {
		r.add(deliveries, float64(of.counts.Done), of.kind, "done")
		r.add(deliveries, float64(of.counts.Rejected), of.kind, "rejected")
		r.add(deliveries, float64(of.counts.Retry), of.kind, "retry")
		r.add(deliveries, float64(of.counts.Review), of.kind, "review")
	}
	for _, result := range refreshResults {
		r.add(refreshed, float64(*t.Refreshed.Count(result)), result)
	}
}

func (r *reading) bids(ctx context.Context, conn queries.DBTX) error {
	live, err := queries.New(conn).CountLiveBids(ctx)
	if err != nil {
		return fmt.Errorf("count live bids: %w", err)
	}
	for _, row := range live {
		r.add(liveBids, float64(row.Bids), row.Marketplace)
	}
	owed, err := ReadOwed(ctx, conn)
	if err != nil {
		return err
	}
	for _, row := range owed.ByState {
		r.add(owedDeliveries, float64(row.Bids), row.Marketplace, row.Kind, row.State)
	}
	r.add(oldestOwed, owed.Oldest.Seconds())
	r.add(oldestOverdue, owed.Overdue.Seconds())
	r.add(reviewWaiting, float64(owed.InReview))
	r.add(approvalWaiting, float64(owed.AwaitingApproval))
	r.add(oldestReview, owed.OldestReview.Seconds())
	r.add(readAt, seconds(owed.At))
	return nil
}

func (r *reading) queue(ctx context.Context, conn queries.DBTX) error {
	q := queries.New(conn)
	queue, err := q.CountCandidates(ctx)
	if err != nil {
		return fmt.Errorf("count candidates: %w", err)
	}
	r.add(candidates, float64(queue.Due), "due")
	r.add(candidates, float64(queue.Later), "later")
	r.add(candidates, float64(queue.Parked), "parked")
	r.add(oldestCandidate, queue.Waiting.Seconds())
	paused, err := q.CountPausedAccounts(ctx)
	if err != nil {
		return fmt.Errorf("count what is paused: %w", err)
	}
	r.add(pausedAccounts, float64(paused))
	return nil
}

func (r *reading) schema(ctx context.Context, conn queries.DBTX) error {
	row, err := queries.New(conn).SchemaVersion(ctx)
	if err != nil {
		return fmt.Errorf("read the schema's version: %w", err)
	}
	r.add(schemaVersion, float64(row.Version))
	return nil
}

// seconds is a time as Prometheus has it; 0 for none.
func seconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}
