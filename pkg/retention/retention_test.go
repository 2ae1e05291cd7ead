package retention_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/pkg/bidding"
	"github.com/arbitrageai/bidder/pkg/metrics"
	"github.com/arbitrageai/bidder/pkg/posting"
	"github.com/arbitrageai/bidder/pkg/retention"
	"github.com/arbitrageai/bidder/test/testdb"
)

func TestMain(m *testing.M) { testdb.Main(m) }

const (
	day = 24 * time.Hour
	age = 30 * day
)

type fixture struct {
	t    *testing.T
	pool *pgxpool.Pool
}

func setup(t *testing.T) *fixture {
	t.Helper()
	pool, err := db.Open(t.Context(), db.Options{URL: testdb.New(t).URL, MaxConns: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return &fixture{t, pool}
}

var limits = db.Limits{Statement: time.Minute, Lock: time.Minute, Idle: time.Minute, Life: 5 * time.Minute}

func (f *fixture) pruner() retention.Pruner {
	return retention.Pruner{Pool: f.pool, Limits: limits, Age: age}
}

func (f *fixture) exec(sql string, args ...any) {
	f.t.Helper()
	if _, err := f.pool.Exec(f.t.Context(), sql, args...); err != nil {
		f.t.Fatalf("%s: %v", sql, err)
	}
}

// column reads texts.
func (f *fixture) column(sql string, args ...any) []string {
	f.t.Helper()
	rows, err := f.pool.Query(f.t.Context(), sql, args...)
	if err != nil {
		f.t.Fatalf("%s: %v", sql, err)
	}
	values, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		f.t.Fatalf("%s: %v", sql, err)
	}
	return values
}

func (f *fixture) prune() retention.Removed {
	f.t.Helper()
	removed, _, err := f.pruner().Prune(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}
	return removed
}

// verdicts are what attempts on the postings would come to, by a pass and by hand, as the
// cache is and if all postings were seen again.
func (f *fixture) verdicts(keys []posting.Key) []string {
	f.t.Helper()
	amount := int64(1000)
	rules := bidding.Rules{
		PostingTTL: day, RebidWindow: 5 * time.Minute,
		Policy: bidding.Budget{}.Decide,
		Caps:   func(string) bidding.Caps { return bidding.Caps{} },
	}
	claimer := bidding.NewClaimer(f.pool, bidding.Limits{TTL: time.Minute, Statement: time.Minute}, rules, &bidding.Counters{}, uuid.Nil)
	again := map[posting.Key]posting.Posting{}
	for _, key := range keys {
		again[key] = posting.Posting{Key: key, CachedAt: time.Now(), Title: "again", Currency: "USD", BudgetMaxCents: &amount}
	}
	var verdicts []string
	err := db.ReadOnly(f.t.Context(), f.pool, func(tx pgx.Tx) error {
		for _, inPass := range []bool{true, false} {
			attempts, err := claimer.Preview(f.t.Context(), tx, keys, bidding.PreviewOptions{Pass: inPass, Refreshed: again})
			if err != nil {
				return err
			}
			for _, a := range attempts {
				verdicts = append(verdicts, fmt.Sprint(a.Key, inPass, a.Outcome, a.Detail, a.ExistingBidID))
			}
		}
		return nil
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return verdicts
}

// history makes postings with random lives, some of it close to the age, and returns their keys.
func (f *fixture) history(random *rand.Rand, n int) []posting.Key {
	f.t.Helper()
	ages := []time.Duration{time.Minute, 20 * time.Hour, age - time.Hour, age + time.Hour, 2 * age, 3 * age}
	draw := func() time.Duration {
		return ages[random.IntN(len(ages))] + time.Duration(random.IntN(1000))*time.Second
	}
	statuses := []string{"WITHDRAWN", "REJECTED", "WON", "LOST", "DUPLICATE"}
	keys := make([]posting.Key, n)
	for i := range keys {
		keys[i] = posting.Key{Marketplace: "upwork", JobID: fmt.Sprintf("%05d", i)}
		if random.IntN(5) > 0 {
			f.exec(`INSERT INTO postings (marketplace, job_id, cached_at, updated_at, title, budget_max_cents)
				SELECT $1, $2, now() - $3::interval, now() - $3::interval, 't', 1000`, keys[i].Marketplace, keys[i].JobID, draw())
		}
		f.exec("DELETE FROM candidates WHERE job_id = $1", keys[i].JobID) // it was decided
		if random.IntN(6) == 0 {
			f.exec("INSERT INTO candidates (marketplace, job_id, cached_at, not_before) VALUES ($1, $2, now(), $3)",
				keys[i].Marketplace, keys[i].JobID, []string{"now", "infinity"}[random.IntN(2)])
		}
		live := false
		for range random.IntN(6) {
			status := statuses[random.IntN(len(statuses))]
			if !live && random.IntN(4) == 0 {
				status, live = "ACTIVE", true
			}
			created := draw()
			touched := time.Duration(random.Int64N(int64(created)))
			if random.IntN(2) == 0 {
				touched = created
			}
			id := uuid.Must(uuid.NewV7())
			f.exec(`INSERT INTO bids (id, marketplace, job_id, amount_cents, status, created_at, updated_at, withdrawal_timestamp, delivery_kind, delivery_state, next_attempt_at)
				VALUES ($1, $2, $3, 100, $4, now() - $5::interval, now() - $6::interval, CASE WHEN $4 = 'WITHDRAWN' THEN now() - $6::interval END,
					CASE WHEN $7 THEN 'place' END, CASE WHEN $7 THEN 'pending' END, now())`,
				id, keys[i].Marketplace, keys[i].JobID, status, created, touched, status == "ACTIVE" && random.IntN(2) == 0)
			f.exec("INSERT INTO bid_events (bid_id, actor) VALUES ($1, 'test')", id)
		}
	}
	return keys
}

// TestNothingReopens: whatever the history, no attempt comes to anything else after pruning,
// and what must stay stays.
func TestNothingReopens(t *testing.T) {
	t.Parallel()
	f := setup(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	keys := f.history(rand.New(rand.NewPCG(seed, 1)), 400)
	staying := func() []string {
		return f.column(`
			SELECT 'bid ' || b.id FROM bids AS b
			WHERE b.status = 'ACTIVE'
				OR greatest(b.created_at, b.updated_at, b.withdrawal_timestamp) > now() - interval '30 days'
				OR b.status <> 'DUPLICATE' AND EXISTS (
					SELECT FROM bids AS o WHERE o.job_id = b.job_id AND o.delivery_kind IS NOT NULL)
				OR b.status <> 'DUPLICATE' AND NOT EXISTS (
					SELECT FROM bids AS n WHERE n.job_id = b.job_id AND n.status <> 'DUPLICATE' AND (n.created_at, n.id) > (b.created_at, b.id))
			UNION ALL
			SELECT 'event of ' || bid_id FROM bid_events AS e JOIN bids AS b ON b.id = e.bid_id WHERE b.status = 'ACTIVE'
			UNION ALL
			SELECT 'posting ' || job_id FROM postings AS p
			WHERE cached_at > now() - interval '30 days' OR EXISTS (SELECT FROM candidates AS c WHERE c.job_id = p.job_id)
				OR EXISTS (SELECT FROM bids AS b WHERE b.job_id = p.job_id AND b.status = 'ACTIVE')
			UNION ALL
			SELECT 'candidate ' || job_id FROM candidates
			ORDER BY 1`)
	}
	verdicts, stay := f.verdicts(keys), staying()
	previewed, _, err := f.pruner().Preview(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	removed := f.prune()
	if diff := cmp.Diff(previewed, removed); diff != "" {
		t.Errorf("the dry run said something else (-dry run +deleted):\n%s", diff)
	}
	if removed.Bids == 0 || removed.Postings == 0 {
		t.Errorf("nothing was deleted: %+v", removed)
	}
	if diff := cmp.Diff(verdicts, f.verdicts(keys)); diff != "" {
		t.Errorf("attempts come to something else (-before +after):\n%s", diff)
	}
	if diff := cmp.Diff(stay, staying()); diff != "" {
		t.Errorf("what must stay (-before +after):\n%s", diff)
	}
	// Also when the live bids have ended.
	f.exec("UPDATE bids SET status = 'LOST', delivery_kind = NULL, delivery_state = NULL, next_attempt_at = NULL WHERE status = 'ACTIVE'")
	for _, verdict := range f.verdicts(keys) {
		if strings.Contains(verdict, "duplicate") {
			t.Errorf("a live bid is left: %s", verdict)
		}
	}
	f.prune() // what live bids held back
	if again := f.prune(); again != (retention.Removed{}) {
		t.Errorf("once more removes %+v", again)
	}
}

// TestIDsStay: what the marketplace shows of a posting later is still told apart from what is new.
func TestIDsStay(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for _, row := range []struct {
		job, status, id string
		days            int
	}{
		{"1", "WITHDRAWN", "p-1", 99},
		{"1", "WITHDRAWN", "", 98}, // the newest was never sent
		{"2", "WITHDRAWN", "p-2", 99},
		{"2", "WITHDRAWN", "p-3", 98},
		{"2", "WITHDRAWN", "", 97},
		{"3", "WITHDRAWN", "p-4", 99},
		{"3", "ACTIVE", "p-5", 98},
		{"4", "WITHDRAWN", "p-6", 99},
		{"4", "ACTIVE", "", 98},
	} {
		f.exec(`INSERT INTO bids (marketplace, job_id, amount_cents, status, external_bid_id, created_at, withdrawal_timestamp, updated_at)
			SELECT 'upwork', $1, 100, $2, nullif($3, ''), at, CASE WHEN $2 = 'WITHDRAWN' THEN at END, at FROM (SELECT now() - $4 * interval '1 day') AS made(at)`,
			row.job, row.status, row.id, row.days)
	}
	if removed := f.prune(); removed.Bids != 2 {
		t.Errorf("%d bids are deleted, want 2", removed.Bids)
	}
	left := f.column("SELECT coalesce(external_bid_id, 'unsent of ' || job_id) FROM bids ORDER BY created_at, job_id")
	if diff := cmp.Diff([]string{"p-1", "p-6", "unsent of 1", "p-3", "p-5", "unsent of 4", "unsent of 2"}, left); diff != "" {
		t.Errorf("what is left (-want +got):\n%s", diff)
	}
}

// TestCountersStay: pruning changes no counter.
func TestCountersStay(t *testing.T) {
	t.Parallel()
	f := setup(t)
	const counters = `{"lock_attempts": 9, "lock_successes": 7, "outcomes": {"claimed": 2, "stale": 5}, "deliveries": {"place": {"done": 2}}}`
	f.exec(`INSERT INTO run_totals (kind, runs, counters) VALUES ('run', 1, $1)`, counters)
	insert := func(kind string, old, silent time.Duration, finished, counted bool) uuid.UUID {
		id := uuid.Must(uuid.NewV7())
		f.exec(`INSERT INTO runs (id, kind, started_at, updated_at, finished_at, exit_code, counters, counted)
			VALUES ($1, $2, now() - $3::interval, now() - $4::interval, CASE WHEN $5 THEN now() - $4::interval END, CASE WHEN $5 THEN 0 END, $6, $7)`,
			id, kind, old, silent, finished, counters, counted)
		return id
	}
	insert("run", 2*age, 2*age, true, true)  // in the totals
	insert("run", day, day/2, true, true)    // and young
	insert("bid", 2*age, 2*age, true, false) // of a program that knew no totals
	killed := insert("run", 2*age, 2*age, false, false)
	alive := insert("run", 2*age, time.Second, false, false) // and has claimed for long
	for _, run := range []uuid.UUID{killed, alive} {
		for i := range 5 { // of which 2 were counted; all but the last are old history
			f.exec(`INSERT INTO bids (id, marketplace, job_id, amount_cents, status, created_at, updated_at, run_id)
				VALUES ($1, 'upwork', $2, 1, 'LOST', now() - $3::interval, now() - $3::interval, $4)`,
				uuid.Must(uuid.NewV7()), run.String(), 2*age-time.Duration(i)*time.Hour, run)
		}
	}
	read := func() metrics.Totals {
		t.Helper()
		totals, err := metrics.ReadTotals(t.Context(), f.pool)
		if err != nil {
			t.Fatal(err)
		}
		for name, kind := range totals.Kinds { // that it was killed is known only then
			kind.Exits = nil
			totals.Kinds[name] = kind
		}
		return totals
	}
	before := read()
	if before.Outcomes[bidding.Claimed] != 4*2+3+3 || before.Runs != 4 {
		t.Errorf("before: %+v", before)
	}
	removed := f.prune()
	if removed.Runs != 3 || removed.Bids != 4 {
		t.Errorf("removed %+v, want 3 runs and 4 bids of the killed one", removed)
	}
	if diff := cmp.Diff(before, read()); diff != "" {
		t.Errorf("totals (-before +after):\n%s", diff)
	}
}

// TestRest: what was spent on past days and callbacks go; what counts still need stays.
func TestRest(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.exec(`INSERT INTO spending (marketplace, cap, day, used) VALUES
		('upwork', 'bids_per_day', current_date, 1), ('upwork', 'bids_per_day', current_date - 29, 1), ('upwork', 'bids_per_day', current_date - 40, 1),
		('upwork', 'live_bids', '-infinity', 1)`)
	f.exec(`INSERT INTO callbacks (marketplace, webhook_id, received_at) VALUES ('upwork', 'old', now() - interval '31 days'), ('upwork', 'new', now() - interval '29 days')`)
	f.exec(`INSERT INTO accounts (marketplace) VALUES ('upwork')`)
	want := retention.Removed{Spending: 1, Callbacks: 1}
	if previewed, _, err := f.pruner().Preview(t.Context()); err != nil || previewed != want {
		t.Errorf("dry run: %+v, %v; want %+v", previewed, err, want)
	}
	if removed := f.prune(); removed != want {
		t.Errorf("removed %+v, want %+v", removed, want)
	}
	left := f.column("SELECT cap || (current_date - day)::text FROM spending WHERE day > '-infinity' UNION ALL SELECT cap FROM spending WHERE day = '-infinity' ORDER BY 1")
	if diff := cmp.Diff([]string{"bids_per_day0", "bids_per_day29", "live_bids"}, left); diff != "" {
		t.Errorf("spending:\n%s", diff)
	}
}

// TestBatches: many rows go in several transactions, and an interruption keeps what is done.
func TestBatches(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.exec(`INSERT INTO bids (id, marketplace, job_id, status, created_at, updated_at)
		SELECT gen_random_uuid(), 'upwork', n, 'DUPLICATE', now() - interval '90 days', now() - interval '90 days' FROM generate_series(1, 2500) AS n`)
	ctx, interrupt := context.WithCancel(t.Context())
	pruner := f.pruner()
	looked := 0
	pruner.Observe = func(rows int) {
		if looked += rows; looked > 1000 {
			interrupt()
		}
	}
	removed, _, err := pruner.Prune(ctx)
	if err == nil || removed.Bids != 1000 {
		t.Errorf("interrupted: %+v, %v", removed, err)
	}
	if removed := f.prune(); removed.Bids != 1500 {
		t.Errorf("then: %+v", removed)
	}
}

func TestAge(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		asked  time.Duration
		needed []time.Duration
		want   time.Duration
	}{
		{time.Hour, nil, 26 * time.Hour},
		{90 * day, []time.Duration{day, 5 * time.Minute}, 90 * day},
		{2 * day, []time.Duration{3 * day, day}, 3 * day},
	} {
		if got := retention.Age(tt.asked, tt.needed...); got != tt.want {
			t.Errorf("Age(%s, %v) = %s, want %s", tt.asked, tt.needed, got, tt.want)
		}
	}
}
