package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/bidding"
	"github.com/arbitrageai/bidder/pkg/posting"
)

// benchBatches are the batch sizes that bench tries beside the configured one, and
// benchWorkers the numbers of workers.
var (
	benchBatches = []int{1, 16, 64, 256}    //nolint:gochecknoglobals // a constant
	benchWorkers = []int{1, 2, 4, 8, 16}    //nolint:gochecknoglobals // a constant
	errMiscount  = errors.New("miscounted") // a bug, if ever
)

// goodEnough is the share of the best rate for which less is advised: smaller batches and
// fewer connections leave more to others.
const goodEnough = 0.9

// measure claims postings in the schema of bench: first with each batch size, then with
// the best of those and each number of workers.
func (a *app) measure(ctx context.Context, s *session, postings int) (benchReport, error) {
	facts, err := queries.New(s.pool).ServerFacts(ctx)
	if err != nil {
		return benchReport{}, fmt.Errorf("ask the server: %w", err)
	}
	m := &measurement{
		url: db.WithSchema(s.url, benchSchema), marketplace: "bench-" + strings.ToLower(rand.Text()[:8]), postings: postings, session: s,
		report: benchReport{Server: facts.Version, Postings: postings},
	}
	free := int(facts.MaxConnections - facts.ReservedConnections - facts.Connections)
	batches := withValue(benchBatches, s.Batch)
	workers := slices.DeleteFunc(withValue(benchWorkers, s.Workers), func(n int) bool { return n == s.Workers || n >= free })
	m.bar = a.countProgress("measuring", "claims", int64((len(batches)+len(workers))*postings))
	defer m.bar.finish()
	best, err := m.best(ctx, batches, func(batch int) (int, int) { return batch, s.Workers })
	if err != nil {
		return benchReport{}, err
	}
	batch := best.Batch
	if best, err = m.best(ctx, workers, func(workers int) (int, int) { return batch, workers }, best); err != nil {
		return benchReport{}, err
	}
	slots := int(facts.MaxLocksPerTransaction) * int(facts.MaxConnections+facts.MaxPreparedTransactions)
	m.report.Advice = benchAdvice{
		Batch: best.Batch, Workers: best.Workers, MaxConns: best.Workers + 2, // and two for what a run records
		LockSlots: slots, Pods: slots / 2 / (best.Batch * best.Workers),
	}
	return m.report, nil
}

// withValue is the sorted list with one more value, once.
func withValue(list []int, value int) []int {
	list = append(slices.Clone(list), value)
	slices.Sort(list)
	return slices.Compact(list)
}

// measurement is a bench that is under way.
type measurement struct {
	session     *session
	url         string
	marketplace string
	postings    int // of each run
	made        int // postings so far
	bar         progress
	report      benchReport
}

// best makes a run for each value, and returns the first of them, and of earlier ones, that
// is good enough.
func (m *measurement) best(ctx context.Context, values []int, what func(int) (batch, workers int), earlier ...benchRun) (benchRun, error) {
	runs := earlier
	for _, value := range values {
		batch, workers := what(value)
		run, err := m.run(ctx, batch, workers)
		if err != nil {
			return benchRun{}, fmt.Errorf("claim with batch %d and %d workers: %w", batch, workers, err)
		}
		m.report.Runs = append(m.report.Runs, run)
		runs = append(runs, run)
	}
	slices.SortFunc(runs, func(x, y benchRun) int { return x.Batch*x.Workers - y.Batch*y.Workers })
	top := slices.MaxFunc(runs, func(x, y benchRun) int { return int(x.Rate - y.Rate) })
	return runs[slices.IndexFunc(runs, func(r benchRun) bool { return r.Rate >= goodEnough*top.Rate })], nil
}

// run queues postings and claims them all.
func (m *measurement) run(ctx context.Context, batch, workers int) (benchRun, error) {
	pool, trips, err := m.open(ctx, workers)
	if err != nil {
		return benchRun{}, err
	}
	defer pool.Close()
	if err := m.queue(ctx, pool); err != nil {
		return benchRun{}, err
	}
	q := queries.New(pool)
	before, err := q.WALPosition(ctx)
	if err != nil {
		return benchRun{}, fmt.Errorf("read the WAL position: %w", err)
	}
	trips.Store(0)
	var (
		counters  bidding.Counters
		mu        sync.Mutex
		durations []time.Duration
		claimer   = bidding.NewClaimer(pool, m.session.lockLimits(), bidding.Rules{
			PostingTTL: m.session.PostingTTL, RebidWindow: m.session.RebidWindow, Policy: bidding.Budget{}.Decide, Terms: bidding.Budget{}.Terms,
		}, &counters, uuid.Nil)
		started = time.Now()
	)
	// Each worker is a pass of its own, so that its batches can be measured.
	group, working := errgroup.WithContext(ctx)
	for range workers {
		group.Go(func() error {
			return claimer.Pass(working, bidding.PassOptions{Workers: 1, Batch: batch, Observe: func(attempts []bidding.Attempt) {
				mu.Lock()
				defer mu.Unlock()
				durations = append(durations, attempts[0].Took)
				m.bar.add(len(attempts))
			}})
		})
	}
	if err := group.Wait(); err != nil {
		return benchRun{}, err //nolint:wrapcheck // the pass's own
	}
	elapsed, batches := time.Since(started), float64(len(durations))
	roundTrips := float64(trips.Load())
	if n := counters.Counts().Outcomes[bidding.Claimed]; n != int64(m.postings) {
		return benchRun{}, fmt.Errorf("%w: %d claims of %d postings", errMiscount, n, m.postings)
	}
	after, err := q.WALPosition(ctx)
	if err != nil {
		return benchRun{}, fmt.Errorf("read the WAL position: %w", err)
	}
	slices.Sort(durations)
	quantile := func(q float64) float64 {
		return float64(durations[int(q*float64(len(durations)-1))].Microseconds()) / 1000
	}
	return benchRun{
		Batch: batch, Workers: workers, Rate: float64(m.postings) / elapsed.Seconds(), P50MS: quantile(0.5), P99MS: quantile(0.99),
		RoundTripsPerBatch: roundTrips / batches, WALBytesPerBid: float64(after-before) / float64(m.postings),
	}, nil
}

// open returns a warm pool in the schema of bench, and a counter of its round trips.
func (m *measurement) open(ctx context.Context, conns int) (*pgxpool.Pool, *atomic.Int64, error) {
	template, err := db.Connect(ctx, db.Options{URL: m.url, MaxConns: int32(conns), Application: "bidder bench"}) //nolint:gosec // at most 1000
	if err != nil {
		return nil, nil, err
	}
	config := template.Config()
	template.Close()
	trips := &atomic.Int64{}
	dial := config.ConnConfig.DialFunc
	config.ConnConfig.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		return &countingConn{Conn: conn, trips: trips}, err
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, nil, fmt.Errorf("open pool: %w", err)
	}
	held := make([]*pgxpool.Conn, 0, conns)
	for range conns {
		conn, acquireErr := pool.Acquire(ctx)
		if acquireErr != nil {
			err = fmt.Errorf("connect: %w", acquireErr)
			break
		}
		held = append(held, conn)
	}
	for _, conn := range held {
		conn.Release()
	}
	if err != nil {
		pool.Close()
	}
	return pool, trips, err
}

// countingConn counts how often its client waits for an answer.
type countingConn struct {
	net.Conn

	trips *atomic.Int64
	asked atomic.Bool
}

func (c *countingConn) Write(p []byte) (int, error) {
	if !c.asked.Swap(true) {
		c.trips.Add(1)
	}
	return c.Conn.Write(p) //nolint:wrapcheck // as the connection says it
}

func (c *countingConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.asked.Store(false)
	}
	return n, err //nolint:wrapcheck // as the connection says it
}

// queue puts new postings in the cache of the schema, as ingest does.
func (m *measurement) queue(ctx context.Context, pool *pgxpool.Pool) error {
	var lines strings.Builder
	for range m.postings {
		m.made++
		fmt.Fprintf(&lines, `{"marketplace":%q,"job_id":"%08d","title":"A posting of bidder bench","description":%q,"budget_max":100}`+"\n",
			m.marketplace, m.made, strings.Repeat("What is wanted. ", 30))
	}
	now, err := queries.New(pool).Now(ctx)
	if err != nil {
		return fmt.Errorf("read the database's clock: %w", err)
	}
	decoder := posting.NewDecoder(strings.NewReader(lines.String()), posting.Options{CachedAt: now, Now: goingOn(now), DefaultCurrency: "USD"})
	counts, err := posting.Ingest(ctx, pool, m.session.writeLimits(), decoder, posting.Observer{})
	if err == nil && counts.Accepted != int64(m.postings) {
		err = fmt.Errorf("%w: %d of %d postings queued", errMiscount, counts.Accepted, m.postings)
	}
	return err
}
