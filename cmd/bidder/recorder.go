package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/bidding"
	"github.com/arbitrageai/bidder/pkg/delivery"
	"github.com/arbitrageai/bidder/pkg/metrics"
	"github.com/arbitrageai/bidder/pkg/posting"
)

const (
	// recordEvery is how often a run writes its counters: what a kill -9 loses at most.
	recordEvery = time.Second
	// keepEvery is how often a run says that it lives while it counts nothing new, as when it reads a long
	// file: who is silent for a minute is shown as killed.
	keepEvery = 20 * time.Second
	// recordTimeout bounds one writing while the run goes on: the next holds the same and more.
	recordTimeout = 5 * time.Second
	// finishTimeout bounds the last one, after which a slow database is said to be out of reach: an exit
	// code that stands for the work that was done is worth more of a pod's grace period.
	finishTimeout = 20 * time.Second
	// startTimeout bounds the first one: no limit of the server's ends the wait of a COMMIT for a synchronous
	// standby that is away.
	startTimeout = 20 * time.Second
	// silentPage is how many killed runs a new one adds to the totals at most.
	silentPage = 200
)

// recorder keeps the counters of one run in the database while it goes on, so that they
// outlive the process.
type recorder struct {
	id         uuid.UUID
	kind       string
	startedAt  time.Time
	began      time.Time // as startedAt, by this machine's clock
	counters   bidding.Counters
	deliveries delivery.Counters

	pool    *pgxpool.Pool
	log     *slog.Logger
	mu      sync.Mutex
	ingest  *posting.Counts
	written string
	said    time.Time // when the run last said that it lives, by this machine's clock
	stop    func()
	stopped chan struct{}
}

// startRun inserts the run and begins to record it.
func startRun(ctx context.Context, s *session, kind string) (*recorder, error) {
	host, _ := os.Hostname()
	asking, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	r := &recorder{id: uuid.Must(uuid.NewV7()), kind: kind, began: time.Now(), pool: s.pool, log: s.log, stopped: make(chan struct{})}
	started, err := queries.New(db.Once(s.pool)).StartRun(asking, queries.StartRunParams{
		ID: r.id, Kind: kind, Host: host, Version: programVersion(), Silence: metrics.Silence,
	})
	if err != nil {
		return nil, fmt.Errorf("record the start of the run: %w", err)
	}
	r.startedAt, r.said = started.StartedAt, r.began
	if kind == "run" && started.AnySilent { // the others have somebody waiting for them
		if err := s.countSilentRuns(ctx); err != nil {
			s.log.Warn("killed runs could not be added to the totals; the next run tries again", "error", err)
		}
	}
	ctx, r.stop = context.WithCancel(context.WithoutCancel(ctx))
	go r.keep(ctx)
	return r, nil
}

// countSilentRuns adds killed runs to the totals, so that nobody has to look at their bids again.
func (s *session) countSilentRuns(ctx context.Context) error {
	limits := s.writeLimits()
	limits.ByIndex = true
	return db.InTx(ctx, s.pool, limits, func(tx *db.Tx) error {
		_, err := queries.New(tx).CountSilentRuns(ctx, metrics.Silence, silentPage)
		return err
	})
}

func (r *recorder) keep(ctx context.Context) {
	defer close(r.stopped)
	ticks := time.NewTicker(recordEvery)
	defer ticks.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticks.C:
			if err := r.record(ctx, now); err != nil && ctx.Err() == nil {
				r.log.Warn("the run's counters could not be written; the next writing holds them too", "error", err)
			}
		}
	}
}

// record writes the counters, where they have changed, and now and then that the run lives.
func (r *recorder) record(ctx context.Context, now time.Time) error {
	counters, q := r.json(), queries.New(r.pool)
	ctx, cancel := context.WithTimeout(ctx, recordTimeout)
	defer cancel()
	switch {
	case string(counters) != r.written:
		if err := q.RecordRun(ctx, counters, r.id); err != nil {
			return err
		}
	case now.Sub(r.said) >= keepEvery:
		if err := q.KeepRun(ctx, bidding.AtWorkWithin, r.id); err != nil {
			return err
		}
	default:
		return nil
	}
	r.written, r.said = string(counters), now
	return nil
}

func (r *recorder) setIngest(counts posting.Counts) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ingest = &counts
}

func (r *recorder) json() json.RawMessage {
	r.mu.Lock()
	ingest := r.ingest
	r.mu.Unlock()
	counts, totals := r.counters.Counts(), r.deliveries.Totals()
	encoded, err := json.Marshal(metrics.Counters{
		LockAttempts: counts.Locks.Attempts, LockSuccesses: counts.Locks.Successes,
		LockConflicts: counts.Locks.Conflicts, LockTimeouts: counts.Locks.Timeouts,
		Outcomes: counts.Outcomes, Deliveries: totals, Refreshed: totals.Refreshed, Ingest: ingest,
	})
	if err != nil {
		panic(err) // numbers in structs always encode
	}
	return encoded
}

// logEnd logs the one line of a run, when it has ended: what is not 0 of what it counted.
func (r *recorder) logEnd(code int, duration time.Duration) {
	attributes := []any{"run_id", r.id, "kind", r.kind, "exit_code", code, "duration", duration}
	count := func(name string, n int64) {
		if n > 0 {
			attributes = append(attributes, name, n)
		}
	}
	r.mu.Lock()
	if r.ingest != nil {
		count("lines_read", r.ingest.Read)
		count("lines_rejected", r.ingest.Rejected)
	}
	r.mu.Unlock()
	counts, totals := r.counters.Counts(), r.deliveries.Totals()
	count("attempts", counts.Attempts)
	for _, outcome := range bidding.Outcomes() {
		count(string(outcome), counts.Outcomes[outcome])
	}
	count("placed", totals.Place.Done)
	count("withdrawn", totals.Withdraw.Done)
	count("again_later", totals.Place.Retry+totals.Withdraw.Retry)
	count("looked_up", lookedUp(totals.Refreshed))
	count("won", totals.Refreshed.Won)
	count("lost", totals.Refreshed.Lost)
	count("not_seen", totals.Refreshed.Unseen)
	count("recovered", totals.Recovered)
	count("for_person", totals.ForPerson)
	r.log.Info("run finished", attributes...)
}

// finish writes the final counters and the exit code that the run's error stands for, and returns when
// that was; where it cannot be written, by this machine's clock.
func (r *recorder) finish(ctx context.Context, code int) (time.Time, error) {
	r.stop()
	<-r.stopped
	defer func() { r.logEnd(code, time.Since(r.began)) }()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishTimeout)
	defer cancel()
	finishedAt, err := queries.New(db.Once(r.pool)).FinishRun(ctx, r.json(), int32(code), r.id) //nolint:gosec // at most 143
	if err != nil {
		finishedAt = r.startedAt.Add(time.Since(r.began))
	}
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		err = fmt.Errorf("record the end of the run: it was silent for %s, and is counted as killed", metrics.Silence)
	case err != nil:
		err = fmt.Errorf("record the end of the run: %w", err)
	}
	return finishedAt, err
}
