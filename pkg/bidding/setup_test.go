package bidding

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/sethvargo/go-retry"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/posting"
	"github.com/arbitrageai/bidder/test/netfault"
	"github.com/arbitrageai/bidder/test/testdb"
)

func TestMain(m *testing.M) {
	_ = flag.Set("rapid.checks", "15") // unless the command line says something else
	_ = flag.Set("rapid.nofailfile", "true")
	testdb.Main(m)
}

const (
	// patience bounds every wait for what must happen; a busy machine needs a while.
	patience = 20 * time.Second

	postingTTL  = 24 * time.Hour
	rebidWindow = 5 * time.Minute
)

// fixture is the database of one test, and what is under test on it.
type fixture struct {
	*testdb.DB
	// pool is the one that is under test, opened as the program opens it.
	pool *pgxpool.Pool
	// direct leads straight to the server, to arrange and to look.
	direct *pgxpool.Pool

	limits   Limits
	rules    Rules
	counters Counters
	cuts     map[meter]int32         // what an earlier claimer found out about caps
	rewrite  func(sql string) string // what reaches the server in place of a claim's statement
}

func setup(t *testing.T) *fixture {
	t.Helper()
	d := testdb.New(t)
	return setupOn(t, d, d.URL)
}

// setupDirect is for tests whose fault PgBouncer would answer by itself.
func setupDirect(t *testing.T) *fixture {
	t.Helper()
	d := testdb.New(t)
	return setupOn(t, d, d.DirectURL)
}

// setupProxy puts a network that can break before the database.
func setupProxy(t *testing.T) (*fixture, *netfault.Proxy) {
	t.Helper()
	d := testdb.New(t)
	proxy := netfault.New(t, d.URL)
	return setupOn(t, d, proxy.URL), proxy
}

// admin is a connection to another database of the same server.
func (f *fixture) admin(t testing.TB) *pgx.Conn {
	t.Helper()
	config, err := pgx.ParseConfig(f.DirectURL)
	if err != nil {
		t.Fatal(err)
	}
	config.Database = "postgres"
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

// setupOn is for tests that put something between the program and its database.
func setupOn(t testing.TB, d *testdb.DB, url string) *fixture {
	t.Helper()
	return &fixture{
		DB:     d,
		pool:   openPool(t, url, 8),
		direct: d.Pool(t),
		limits: Limits{TTL: 5 * time.Minute, Statement: 5 * time.Second, Wait: patience},
		rules:  Rules{PostingTTL: postingTTL, RebidWindow: rebidWindow, Policy: Budget{}.Decide},
	}
}

func openPool(t testing.TB, url string, conns int32) *pgxpool.Pool {
	t.Helper()
	pool, err := db.Open(t.Context(), db.Options{URL: url, MaxConns: conns})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// connected opens all connections of a pool, one after the other: at once they would keep a
// busy server from answering in time.
func connected(t testing.TB, pool *pgxpool.Pool) *pgxpool.Pool {
	t.Helper()
	for range pool.Config().MaxConns {
		conn, err := pool.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Release()
	}
	return pool
}

func (f *fixture) claimer(change ...func(*Claimer)) *Claimer {
	c := NewClaimer(f.pool, f.limits, f.rules, &f.counters, uuid.Nil)
	if f.rewrite != nil {
		c.pool = rewriting{f.pool, f.rewrite}
	}
	for _, change := range change {
		change(c)
	}
	c.meet([]string{"upwork", "guru"}) // as if in batches before
	return c
}

// eachWay runs a test with passes that judge all that they take, and with passes that claim the plain first.
func eachWay(t *testing.T, test func(t *testing.T, terms func(string) (Terms, bool))) {
	t.Helper()
	t.Run("judged", func(t *testing.T) {
		t.Parallel()
		test(t, nil)
	})
	t.Run("plain", func(t *testing.T) {
		t.Parallel()
		test(t, Budget{}.Terms)
	})
}

// statements counts what is sent from now on, by the names of the queries.
func (f *fixture) statements() func(name string) int {
	var (
		mu     sync.Mutex
		counts = map[string]int{}
	)
	before := f.rewrite
	f.rewrite = func(sql string) string {
		mu.Lock()
		defer mu.Unlock()
		counts[queryName(sql)]++
		if before != nil {
			return before(sql)
		}
		return sql
	}
	return func(name string) int {
		mu.Lock()
		defer mu.Unlock()
		return counts[name]
	}
}

// at makes the claimer take now for the time that the database's clock shows.
func at(now time.Time) func(*Claimer) { return func(c *Claimer) { c.now = &now } }

// once calls do after the first such step of the claimer.
func once(step string, do func()) func(*Claimer) {
	var first sync.Once
	return func(c *Claimer) {
		c.after = func(s string) {
			if s == step {
				first.Do(do)
			}
		}
	}
}

// noon is the time at which tests with a clock of their own take place.
func noon() time.Time { return time.Date(2030, 1, 2, 12, 0, 0, 0, time.UTC) }

func job(id string) posting.Key { return posting.Key{Marketplace: "upwork", JobID: id} }

// jobs are n keys in their order.
func jobs(n int) []posting.Key {
	keys := make([]posting.Key, n)
	for i := range keys {
		keys[i] = job(fmt.Sprintf("%05d", i))
	}
	return keys
}

func (f *fixture) exec(t testing.TB, sql string, args ...any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := f.direct.Exec(ctx, sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// read answers a query that returns one value.
func read[T any](t testing.TB, f *fixture, sql string, args ...any) T {
	t.Helper()
	var value T
	if err := f.direct.QueryRow(t.Context(), sql, args...).Scan(&value); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return value
}

func (f *fixture) count(t testing.TB, from string, args ...any) int {
	t.Helper()
	return read[int](t, f, "SELECT count(*) FROM "+from, args...)
}

// cache puts postings with a budget of 10.00 in the cache and in the queue, as ingest does.
func (f *fixture) cache(t testing.TB, cachedAt time.Time, keys ...posting.Key) {
	t.Helper()
	var params queries.UpsertPostingsParams
	for _, key := range slices.SortedFunc(slices.Values(keys), posting.Key.Compare) {
		params.Marketplaces = append(params.Marketplaces, key.Marketplace)
		params.JobIDs = append(params.JobIDs, key.JobID)
		params.CachedAts = append(params.CachedAts, cachedAt)
		params.Titles = append(params.Titles, "A title")
		params.Descriptions = append(params.Descriptions, "")
		params.URLs = append(params.URLs, "")
		params.BudgetMins = append(params.BudgetMins, -1)
		params.BudgetMaxs = append(params.BudgetMaxs, 1000)
		params.Currencies = append(params.Currencies, "USD")
		params.Pricings = append(params.Pricings, "")
		params.Skills = append(params.Skills, "")
		params.PostedAts = append(params.PostedAts, time.Time{})
		params.Deadlines = append(params.Deadlines, time.Time{})
		params.BidAmounts = append(params.BidAmounts, -1)
		params.BidPeriods = append(params.BidPeriods, -1)
		params.BidProposals = append(params.BidProposals, "")
	}
	if _, err := queries.New(f.direct).UpsertPostings(t.Context(), params); err != nil {
		t.Fatal(err)
	}
}

// cacheNow is cache for tests that leave the time to the database's clock.
func (f *fixture) cacheNow(t testing.TB, keys ...posting.Key) {
	t.Helper()
	f.cache(t, read[time.Time](t, f, "SELECT clock_timestamp()"), keys...)
}

// bid is a row of the past.
type bid struct {
	status                                  string
	created, submitted, lastPost, withdrawn time.Time
	id                                      uuid.UUID
}

// insert puts a bid on the posting, whatever the program would say to it.
func (f *fixture) insert(t testing.TB, key posting.Key, b bid) uuid.UUID {
	t.Helper()
	if b.id == uuid.Nil {
		b.id = uuid.Must(uuid.NewV7())
	}
	absent := func(at time.Time) *time.Time {
		if at.IsZero() {
			return nil
		}
		return &at
	}
	f.exec(t, `INSERT INTO bids (id, marketplace, job_id, status, amount_cents, created_at, submitted_at, first_post_at, last_post_at, withdrawal_timestamp)
		VALUES ($1::text::uuid, $2, $3, $4, 1000, coalesce($5, clock_timestamp()), $6, $7, $7, $8)`,
		b.id.String(), key.Marketplace, key.JobID, b.status, absent(b.created), absent(b.submitted), absent(b.lastPost), absent(b.withdrawn))
	return b.id
}

func (f *fixture) live(t testing.TB, keys ...posting.Key) int {
	t.Helper()
	if len(keys) == 0 {
		return f.count(t, "bids WHERE status = 'ACTIVE'")
	}
	n := 0
	for _, key := range keys {
		n += f.count(t, "bids WHERE status = 'ACTIVE' AND marketplace = $1 AND job_id = $2", key.Marketplace, key.JobID)
	}
	return n
}

func (f *fixture) queued(t testing.TB, key posting.Key) bool {
	t.Helper()
	return f.count(t, "candidates WHERE marketplace = $1 AND job_id = $2", key.Marketplace, key.JobID) == 1
}

// hold takes the lock of a posting from plain SQL, until the returned function is called.
func (f *fixture) hold(t testing.TB, key posting.Key) (release func()) {
	t.Helper()
	return f.rogue(t, "SELECT pg_advisory_xact_lock(bid_lock_key($1, $2))", key.Marketplace, key.JobID).rollback
}

// rogue is an open transaction of a writer that is not the program.
type rogue struct{ commit, rollback func() }

func (f *fixture) rogue(t testing.TB, sql string, args ...any) rogue {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), f.DirectURL)
	if err != nil {
		t.Fatal(err)
	}
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	// Also without an end of its own it must be gone before the database is searched for leaks.
	closing := sync.OnceFunc(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	t.Cleanup(closing)
	return rogue{
		commit: func() {
			if err := tx.Commit(t.Context()); err != nil {
				t.Error(err)
			}
			closing()
		},
		rollback: func() {
			if err := tx.Rollback(t.Context()); err != nil {
				t.Error(err)
			}
			closing()
		},
	}
}

const insertLive = "INSERT INTO bids (marketplace, job_id, amount_cents) VALUES ($1, $2, 1)"

// attempt makes one attempt by hand.
func attempt(t testing.TB, c *Claimer, key posting.Key, options AttemptOptions) Attempt {
	t.Helper()
	a, err := c.Attempt(t.Context(), key, options)
	if err != nil {
		t.Errorf("attempt %s: %v", key, err)
	}
	return a
}

// pass makes one pass and returns all of its attempts, in key order.
func pass(t testing.TB, c *Claimer, options PassOptions) []Attempt {
	t.Helper()
	attempts, err := tryPass(t.Context(), c, options)
	if err != nil {
		t.Errorf("pass: %v", err)
	}
	return attempts
}

// tryPass ends a pass that finds no end.
func tryPass(ctx context.Context, c *Claimer, options PassOptions) ([]Attempt, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errors.New("the pass does not end"))
	defer cancel()
	if options.Workers == 0 {
		options.Workers = 1
	}
	if options.Batch == 0 {
		options.Batch = 64
	}
	var (
		mu   sync.Mutex
		made []Attempt
	)
	observe := options.Observe
	options.Observe = func(attempts []Attempt) {
		if observe != nil {
			observe(attempts)
		}
		mu.Lock()
		defer mu.Unlock()
		made = append(made, attempts...)
	}
	err := c.Pass(ctx, options)
	slices.SortFunc(made, func(x, y Attempt) int { return x.Key.Compare(y.Key) })
	return made, err
}

func preview(t testing.TB, c *Claimer, keys []posting.Key, options PreviewOptions) []Attempt {
	t.Helper()
	previews, err := c.tryPreview(t.Context(), keys, options)
	if err != nil {
		t.Fatal(err)
	}
	return previews
}

func (c *Claimer) tryPreview(ctx context.Context, keys []posting.Key, options PreviewOptions) (previews []Attempt, err error) {
	err = db.ReadOnly(ctx, c.pool, func(tx pgx.Tx) error {
		previews, err = c.Preview(ctx, tx, keys, options)
		return err
	})
	return previews, err
}

// outcomes counts attempts by their outcome.
func outcomes(attempts []Attempt) map[Outcome]int {
	counts := make(map[Outcome]int)
	for _, a := range attempts {
		counts[a.Outcome]++
	}
	return counts
}

// verdict is an outcome and its detail, as "closed lost".
func verdict(a Attempt) string {
	if a.Detail == "" {
		return string(a.Outcome)
	}
	return string(a.Outcome) + " " + a.Detail
}

func verdicts(attempts []Attempt) []string {
	all := make([]string, len(attempts))
	for i, a := range attempts {
		all[i] = verdict(a)
	}
	return all
}

func want[T any](t testing.TB, what string, got, want T) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// differ is want for scenarios, which are also run where they must fail.
func differ[T any](what string, got, want T) error {
	if diff := cmp.Diff(want, got); diff != "" {
		return fmt.Errorf("%s (-want +got):\n%s", what, diff) //nolint:err113 // for a person
	}
	return nil
}

// tally checks that the counters account for exactly these attempts.
func (f *fixture) tally(t testing.TB, attempts ...Attempt) {
	t.Helper()
	counts := f.counters.Counts()
	wanted := make(map[Outcome]int64)
	for _, outcome := range Outcomes() {
		wanted[outcome] = 0
	}
	broken := int64(0)
	for _, a := range attempts {
		wanted[a.Outcome]++
		if !a.acquired && a.Outcome != Locked {
			broken++
		}
	}
	want(t, "counted outcomes", counts.Outcomes, wanted)
	want(t, "counted attempts", counts.Attempts, int64(len(attempts)))
	want(t, "attempts for the lock", counts.Locks.Attempts, int64(len(attempts)))
	want(t, "successes, time-outs and errors", counts.Locks.Successes+counts.Locks.Timeouts+broken, int64(len(attempts)))
}

func eventually(t testing.TB, what string, check func() bool) {
	t.Helper()
	backoff := retry.WithMaxDuration(patience, retry.NewConstant(5*time.Millisecond))
	err := retry.Do(t.Context(), backoff, func(context.Context) error {
		if !check() {
			return retry.RetryableError(errors.New("not within the time"))
		}
		return nil
	})
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// idleInTransaction is how a claim looks to the server between two of its steps.
const idleInTransaction = `pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'`

// terminate ends the one transaction that is open, and waits until it has left.
func (f *fixture) terminate(t testing.TB) {
	t.Helper()
	ended := read[int](t, f, "SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM "+idleInTransaction)
	want(t, "terminated transactions", ended, 1)
	f.untilCut(t)
}

// untilCut waits until the server has ended every transaction that was silent.
func (f *fixture) untilCut(t testing.TB) {
	t.Helper()
	eventually(t, "the transaction ends", func() bool { return f.count(t, idleInTransaction) == 0 })
}

// concurrently runs do n times at once and waits for all.
func concurrently(n int, do func(i int)) {
	var (
		running sync.WaitGroup
		start   = make(chan struct{})
	)
	for i := range n {
		running.Go(func() {
			<-start
			do(i)
		})
	}
	close(start)
	running.Wait()
}

func cents(n int64) *int64 { return new(n) }

func name(n int) string { return strconv.Itoa(n) }

// wholeQueue is a pass of one worker over all that is due by then.
func wholeQueue(dueBy time.Time) *passing { return passingOf(1, time.Time{}, dueBy, dueBy) }

// passingOf is a pass that so many workers have joined.
func passingOf(workers int, first, last, dueBy time.Time) *passing {
	p := newPassing(workers, first, last, dueBy)
	p.limit, p.working = workers, workers
	return p
}
