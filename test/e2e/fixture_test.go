package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/sethvargo/go-retry"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/test/testdb"
)

// fixture is the database of one test, and how the program is called on it.
type fixture struct {
	*testdb.DB
	t *testing.T
	// pool leads straight to the server, as the owner of the schema, to arrange and to look.
	pool *pgxpool.Pool
	// worker is DB.URL for a session with no more than a worker's rights.
	worker string
}

func setup(t *testing.T, options ...testdb.Option) *fixture {
	t.Helper()
	d := testdb.New(t, options...)
	f := &fixture{DB: d, t: t, pool: d.Pool(t), worker: d.URL}
	// PgBouncer takes no roles, and an empty database has nothing to grant.
	if !d.Pooled() && read[bool](f, "SELECT to_regclass('bids') IS NOT NULL") {
		f.exec(roles)
		f.exec(db.Roles{Schema: "public", Worker: "bidder_e2e_worker", Reader: "bidder_e2e_reader"}.Grants())
		f.worker = parameter(t, d.URL, "role", "bidder_e2e_worker")
	}
	return f
}

// roles makes the roles that all tests on a server share. Nobody can sign in with them: a session
// takes them on.
const roles = `DO $$ BEGIN
	CREATE ROLE bidder_e2e_worker; CREATE ROLE bidder_e2e_reader;
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
END $$`

// call is a call of the program with only the database in its environment, with no more rights
// than the command should need. A hundred of them may want to connect at once, on a machine that
// is busy with other things.
func (f *fixture) call(args ...string) call {
	address := f.worker
	if len(args) > 0 && slices.Contains([]string{"migrate", "prune", "bench"}, args[0]) {
		address = f.URL // it changes the schema or deletes history
	}
	return call{args: args, env: []string{"DATABASE_URL=" + address, "PGCONNECT_TIMEOUT=60"}}
}

// start starts such a call.
func (f *fixture) start(args ...string) *process {
	f.t.Helper()
	return f.call(args...).start(f.t)
}

// bidder runs such a call to its end.
func (f *fixture) bidder(args ...string) result {
	f.t.Helper()
	return f.call(args...).run(f.t)
}

// with adds variables to the environment of a call.
func (c call) with(variables ...string) call {
	c.env = append(slices.Clone(c.env), variables...)
	return c
}

// json has a call report in JSON.
func (c call) json() call {
	c.args = append(slices.Clone(c.args), "-o", "json")
	return c
}

// reading gives a call its standard input.
func (c call) reading(lines ...string) call {
	c.stdin = strings.Join(lines, "\n") + "\n"
	return c
}

// line is a posting on upwork with a budget of 100.00, as a line of input. More members, each
// with a comma before it, may follow.
func line(jobID string, more ...string) string { return lineOn("upwork", jobID, more...) }

// lineOn is such a line for another marketplace.
func lineOn(marketplace, jobID string, more ...string) string {
	return fmt.Sprintf(`{"marketplace":%q,"job_id":%q,"title":"A title","budget_max":"100.00"%s}`, marketplace, jobID, strings.Join(more, ""))
}

// lines are the lines of n postings, and their job ids, in order.
func lines(n int) (postings, jobIDs []string) {
	for i := range n {
		jobIDs = append(jobIDs, fmt.Sprintf("%05d", i))
		postings = append(postings, line(jobIDs[i]))
	}
	return postings, jobIDs
}

// ingest puts lines in the cache, seen now where they do not say.
func (f *fixture) ingest(postings ...string) {
	f.t.Helper()
	f.call("ingest", "--cached-at", "now", "-").reading(postings...).run(f.t).want(f.t, 0)
}

// claim has the program bid on postings that are not in the cache yet, and returns the ids of the bids.
func (f *fixture) claim(jobIDs ...string) []string {
	f.t.Helper()
	ids := make([]string, len(jobIDs))
	for i, jobID := range jobIDs {
		f.ingest(line(jobID))
		ids[i] = orNone(decode[bidReport](f.t, f.bidder("bid", "upwork", jobID, "-o", "json").want(f.t, 0)).BidID)
	}
	return ids
}

// file writes a file and returns its path.
func file(t *testing.T, name string, content ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(strings.Join(content, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func (f *fixture) exec(sql string, args ...any) {
	f.t.Helper()
	if _, err := f.pool.Exec(f.t.Context(), sql, args...); err != nil {
		f.t.Fatalf("%s: %v", sql, err)
	}
}

// begin begins a transaction of the test's own.
func (f *fixture) begin() pgx.Tx {
	f.t.Helper()
	tx, err := f.pool.Begin(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = tx.Rollback(context.WithoutCancel(f.t.Context())) }) // after a commit it does nothing
	return tx
}

func (f *fixture) execIn(tx pgx.Tx, sql string, args ...any) {
	f.t.Helper()
	if _, err := tx.Exec(f.t.Context(), sql, args...); err != nil {
		f.t.Fatalf("%s: %v", sql, err)
	}
}

func (f *fixture) commit(tx pgx.Tx) {
	f.t.Helper()
	if err := tx.Commit(f.t.Context()); err != nil {
		f.t.Fatal(err)
	}
}

// lock holds the lock of a posting, as any SQL client can, until the transaction ends.
func (f *fixture) lock(jobID string) pgx.Tx {
	f.t.Helper()
	tx := f.begin()
	f.execIn(tx, "SELECT pg_advisory_xact_lock(bid_lock_key('upwork', $1))", jobID)
	return tx
}

// read answers a query for one value.
func read[T any](f *fixture, sql string, args ...any) T {
	f.t.Helper()
	var value T
	if err := f.pool.QueryRow(f.t.Context(), sql, args...).Scan(&value); err != nil {
		f.t.Fatalf("%s: %v", sql, err)
	}
	return value
}

func (f *fixture) count(from string, args ...any) int {
	f.t.Helper()
	return read[int](f, "SELECT count(*) FROM "+from, args...)
}

func (f *fixture) wantCount(want int, from string, args ...any) {
	f.t.Helper()
	if got := f.count(from, args...); got != want {
		f.t.Errorf("got %d rows of %s, want %d", got, from, want)
	}
}

// await polls until a query for a boolean is true.
func (f *fixture) await(what, sql string, args ...any) {
	f.t.Helper()
	eventually(f.t, what, func() bool { return read[bool](f, "SELECT "+sql, args...) })
}

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	wait := retry.WithMaxDuration(patience, retry.NewConstant(5*time.Millisecond))
	err := retry.Do(context.WithoutCancel(t.Context()), wait, func(context.Context) error {
		if condition() {
			return nil
		}
		return retry.RetryableError(errors.New("not in time"))
	})
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// awaitUnlocked waits until the server has ended the transactions of a client that is frozen or dead.
func (f *fixture) awaitUnlocked() {
	f.t.Helper()
	f.await("nobody holds an advisory lock", `NOT EXISTS (SELECT FROM pg_locks
		WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))`)
}

// dump is the content of all tables, to see whether anything has changed.
func (f *fixture) dump() map[string][]string {
	f.t.Helper()
	tables := map[string][]string{}
	for _, table := range []string{"postings", "candidates", "bids", "bid_events", "accounts", "runs", "run_totals", "schema_migrations"} {
		rows, err := f.pool.Query(f.t.Context(), fmt.Sprintf("SELECT r::text FROM %s AS r ORDER BY 1", table))
		if err != nil {
			f.t.Fatal(err)
		}
		if tables[table], err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
			f.t.Fatal(err)
		}
	}
	return tables
}

// untouched checks that do leaves the database as it was.
func (f *fixture) untouched(do func()) {
	f.t.Helper()
	before := f.dump()
	do()
	if diff := cmp.Diff(before, f.dump()); diff != "" {
		f.t.Errorf("the database has changed (-before +after):\n%s", diff)
	}
}

// wantNoDeadlocks is the end of a test of concurrency. What is locked or open is found by testdb.
func (f *fixture) wantNoDeadlocks() {
	f.t.Helper()
	if got := f.Deadlocks(f.t); got != 0 {
		f.t.Errorf("the server found %d deadlocks", got)
	}
}

// decode reads the one JSON value that is the whole of stdout. It may be called from any goroutine of the test.
func decode[T any](t *testing.T, r result) T {
	t.Helper()
	var value T
	decoder := json.NewDecoder(strings.NewReader(r.stdout))
	if err := decoder.Decode(&value); err != nil {
		t.Errorf("stdout is not JSON: %v\n%s\nstderr: %s", err, r.stdout, r.stderr)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		t.Errorf("stdout holds more than one JSON value:\n%s", r.stdout)
	}
	return value
}

// parameter is a database URL with another parameter.
func parameter(t *testing.T, address, name, value string) string {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	query := u.Query()
	query.Set(name, value)
	u.RawQuery = strings.ReplaceAll(query.Encode(), "+", "%20") // libpq and pgx take + for itself
	return u.String()
}

// The reports, as the contract describes them.
type (
	counts struct{ Read, Accepted, Updated, Unchanged, Rejected, Blank int }

	reject struct {
		File          string // where several are read
		Line          int
		Code, Message string
	}

	ingestReport struct {
		counts
		Rejects []reject
		Notes   map[string]int
	}

	locks struct{ Attempts, Successes, Conflicts, Timeouts int }

	runReport struct {
		RunID      *string   `json:"run_id"`
		StartedAt  time.Time `json:"started_at"`
		FinishedAt time.Time `json:"finished_at"`
		DryRun     bool      `json:"dry_run"`
		Ingest     counts
		Attempts   int
		Outcomes   map[string]int
		Locks      locks
		Recovered  int
	}

	bidReport struct {
		Outcome       string
		BidID         *string `json:"bid_id"`
		ExistingBidID *string `json:"existing_bid_id"`
		Marketplace   string
		JobID         string `json:"job_id"`
		LockKey       string `json:"lock_key"`
		WaitedMS      int    `json:"waited_ms"`
		Detail        *string
	}
)

// outcomes are all nine, in the order of the contract.
var outcomes = []string{"unknown", "duplicate", "closed", "recent", "stale", "ineligible", "claimed", "locked", "failed"}

// orNone is the text behind a pointer.
func orNone(text *string) string {
	if text == nil {
		return "<null>"
	}
	return *text
}
