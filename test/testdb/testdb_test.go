package testdb

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"
)

func TestMain(m *testing.M) {
	// These tests say themselves what they want; the run's environment is for the others.
	if err := errors.Join(os.Unsetenv(envPgBouncer), os.Unsetenv(envExecMode)); err != nil {
		panic(err)
	}
	Main(m)
}

// recorder is a test that may fail.
type recorder struct {
	testing.TB

	mu       sync.Mutex
	said     []string
	failed   bool
	cleanups []func()
}

func (r *recorder) Helper()           {}
func (r *recorder) Failed() bool      { return r.failed }
func (r *recorder) Cleanup(fn func()) { r.cleanups = append(r.cleanups, fn) }

func (r *recorder) Logf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.said = append(r.said, fmt.Sprintf(format, args...))
}

func (r *recorder) Errorf(format string, args ...any) {
	r.Logf(format, args...)
	r.failed = true
}

// end does what package testing does at the end of a test.
func (r *recorder) end() {
	for _, fn := range slices.Backward(r.cleanups) {
		fn()
	}
}

func exists(t *testing.T, name string) bool {
	t.Helper()
	var found bool
	query := "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)"
	if err := sharedInstance(t).admin.QueryRow(t.Context(), query, name).Scan(&found); err != nil {
		t.Fatal(err)
	}

	return found
}

func sharedInstance(t *testing.T) *instance {
	t.Helper()
	instance, err := shared.get()
	if err != nil {
		t.Fatal(err)
	}

	return instance
}

// connect opens a session that the test ends when the returned function is called, or at its end.
func connect(t *testing.T, url string) (*pgx.Conn, func()) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	end := func() { _ = conn.Close(context.WithoutCancel(t.Context())) }
	t.Cleanup(end)

	return conn, end
}

func exec(t *testing.T, conn *pgx.Conn, statements ...string) {
	t.Helper()
	for _, sql := range statements {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
}

func TestNew(t *testing.T) {
	t.Parallel()
	const count = 8
	tests := make([]*recorder, count)
	databases := make([]*DB, count)
	var all sync.WaitGroup
	for i := range count {
		tests[i] = &recorder{TB: t}
		all.Go(func() { databases[i] = New(tests[i]) })
	}
	all.Wait()

	for i, database := range databases {
		pool := database.Pool(tests[i])
		if _, err := pool.Exec(t.Context(), "CREATE TABLE only_here ()"); err != nil {
			t.Error(err)
		}
		if _, err := pool.Exec(t.Context(), "SELECT FROM bids"); err != nil {
			t.Errorf("the migrations: %v", err)
		}
		tests[i].end()
		if tests[i].failed {
			t.Errorf("failed: %q", tests[i].said)
		}
		if exists(t, database.Name) {
			t.Errorf("%s was not dropped", database.Name)
		}
	}
}

func TestWithoutMigrations(t *testing.T) {
	t.Parallel()
	var tables int
	err := New(t, WithoutMigrations()).Pool(t).QueryRow(t.Context(),
		"SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'").Scan(&tables)
	if err != nil {
		t.Fatal(err)
	}
	if tables != 0 {
		t.Errorf("got %d tables", tables)
	}
}

func TestKeptWhenFailed(t *testing.T) {
	t.Parallel()
	failing := &recorder{TB: t}
	database := New(failing)
	failing.Errorf("the test's own error")
	failing.end()
	if !exists(t, database.Name) {
		t.Error("it was dropped")
	}
	if last := failing.said[len(failing.said)-1]; !strings.Contains(last, database.Name) {
		t.Errorf("the log does not name %s: %s", database.Name, last)
	}
	failing.failed = false
	failing.end()
}

func TestLeaks(t *testing.T) {
	t.Parallel()

	tests := []struct {
		name    string
		opts    []Option
		leave   []string // statements of a session that stays
		bounced []string // statements of a session through PgBouncer that stays
		want    string   // part of the report; none: no leak
	}{
		{name: "nothing"},
		{name: "session", leave: []string{"SELECT 'mine'"}, want: "idle; last query: SELECT 'mine'"},
		{name: "transaction", leave: []string{"BEGIN"}, want: "idle in transaction; last query: BEGIN"},
		{name: "advisory lock", leave: []string{"SELECT pg_advisory_lock(1)"}, want: "holds 1 advisory locks"},
		{name: "session of PgBouncer", opts: []Option{WithPgBouncer()}, bounced: []string{"SELECT 1"}},
		{
			name: "transaction through PgBouncer", opts: []Option{WithPgBouncer()},
			bounced: []string{"BEGIN"}, want: "idle in transaction",
		},
		{
			name: "advisory lock through PgBouncer", opts: []Option{WithPgBouncer()},
			bounced: []string{"SELECT pg_advisory_lock(1)"}, want: "holds 1 advisory locks",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			leaking := &recorder{TB: t}
			database := New(leaking, append(tt.opts, WithoutMigrations())...)
			database.leakWait = 200 * time.Millisecond
			end := func() {}
			switch {
			case tt.bounced != nil:
				var conn *pgx.Conn
				conn, end = connect(t, database.URL)
				exec(t, conn, tt.bounced...)
			case tt.leave != nil:
				var conn *pgx.Conn
				conn, end = connect(t, database.DirectURL)
				exec(t, conn, tt.leave...)
			}

			leaking.end()
			if leaking.failed != (tt.want != "") {
				t.Errorf("failed: %v", leaking.failed)
			}
			if report := strings.Join(leaking.said, "\n"); !strings.Contains(report, tt.want) {
				t.Errorf("got %q, want it to contain %q", report, tt.want)
			}
			end()
			dropKept(t, database)
		})
	}
}

func dropKept(t *testing.T, database *DB) {
	t.Helper()
	if _, err := database.instance.admin.Exec(t.Context(), "DROP DATABASE IF EXISTS "+quote(database.Name)+" WITH (FORCE)"); err != nil {
		t.Error(err)
	}
}

func TestDeadlocks(t *testing.T) {
	t.Parallel()

	tests := []struct {
		name string
		opts []Option
	}{
		{name: "direct", opts: []Option{WithoutMigrations()}},
		{name: "PgBouncer", opts: []Option{WithoutMigrations(), WithPgBouncer()}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			database := New(t, tt.opts...)
			pool := database.Pool(t)
			if _, err := pool.Exec(t.Context(), "CREATE TABLE rows AS SELECT 1 AS n UNION SELECT 2"); err != nil {
				t.Fatal(err)
			}
			if got := database.Deadlocks(t); got != 0 {
				t.Errorf("got %d deadlocks before the first", got)
			}
			if _, err := pool.Exec(t.Context(), "SELECT FROM rows"); err != nil {
				t.Errorf("the pool is not usable any more: %v", err)
			}
			// A session that has just reported keeps what it counts next to itself, for a second at least.
			begin := []string{"SELECT 1", "BEGIN", "SET LOCAL deadlock_timeout = '10ms'"}
			first, endFirst := connect(t, database.URL)
			second, endSecond := connect(t, database.URL)
			exec(t, first, append(begin, "DELETE FROM rows WHERE n = 1")...)
			exec(t, second, append(begin, "DELETE FROM rows WHERE n = 2")...)
			var both errgroup.Group
			both.Go(func() error { return lockRow(t.Context(), first, 2) })
			both.Go(func() error { return lockRow(t.Context(), second, 1) })
			if refusal, ok := errors.AsType[*pgconn.PgError](both.Wait()); !ok || refusal.Code != "40P01" {
				t.Fatalf("got %v, want a deadlock", refusal)
			}
			exec(t, first, "ROLLBACK")
			exec(t, second, "ROLLBACK")
			if got := database.Deadlocks(t); got != 1 {
				t.Errorf("got %d deadlocks, want 1", got)
			}
			endFirst()
			endSecond()
		})
	}
}

func lockRow(ctx context.Context, conn *pgx.Conn, n int) error {
	_, err := conn.Exec(ctx, fmt.Sprintf("DELETE FROM rows WHERE n = %d", n))

	return err
}

func TestPgBouncer(t *testing.T) {
	t.Parallel()
	database := New(t, WithPgBouncer())

	pids := map[uint32]bool{}
	for range 3 { // at the same time, but none in a transaction
		conn, _ := connect(t, database.URL)
		var pid uint32
		if err := conn.QueryRow(t.Context(), "SELECT pg_backend_pid()", pgx.QueryExecModeExec).Scan(&pid); err != nil {
			t.Fatal(err)
		}
		pids[pid] = true
	}
	if len(pids) != 1 {
		t.Errorf("three clients used %d sessions, want 1", len(pids))
	}

	for parameter, accepted := range map[string]bool{"application_name": true, "statement_timeout": false, "search_path": false} {
		conn, err := pgx.Connect(t.Context(), withParameter(database.URL, parameter, "1"))
		if (err == nil) != accepted {
			t.Errorf("start-up parameter %s: %v", parameter, err)
		}
		if err == nil {
			_ = conn.Close(t.Context())
		}
	}
}

func TestExecMode(t *testing.T) {
	t.Setenv(envExecMode, "exec")
	config, err := pgx.ParseConfig(New(t).URL)
	if err != nil {
		t.Fatal(err)
	}
	if config.DefaultQueryExecMode != pgx.QueryExecModeExec {
		t.Errorf("got mode %v", config.DefaultQueryExecMode)
	}
}

// TestMakeTemplate makes one template from several processes' worth of instances at once.
func TestMakeTemplate(t *testing.T) {
	t.Parallel()
	shared := sharedInstance(t)
	name := databaseName("template")
	if _, err := shared.admin.Exec(t.Context(), "CREATE DATABASE "+quote(name+"_unfinished")); err != nil {
		t.Fatal(err) // what a process that was killed leaves
	}
	var all errgroup.Group
	for range 4 {
		all.Go(func() error {
			instance := &instance{server: shared.server, admin: shared.admin}

			return instance.makeTemplate(t.Context(), name)
		})
	}
	if err := all.Wait(); err != nil {
		t.Fatal(err)
	}
	if exists(t, name+"_unfinished") {
		t.Error("the unfinished one is left")
	}
	_, err := pgx.Connect(t.Context(), withDatabase(shared.server.URL, name))
	if refusal, ok := errors.AsType[*pgconn.PgError](err); !ok || refusal.Code != "55000" {
		t.Errorf("connect to the template: got %v, want that nobody can", err)
	}
	if _, err := shared.admin.Exec(t.Context(), "DROP DATABASE "+quote(name)); err != nil {
		t.Error(err)
	}
}

func TestHashMigrations(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	for name, migrations := range map[string]fstest.MapFS{
		"one":             {"1.sql": {Data: []byte("a")}},
		"another name":    {"2.sql": {Data: []byte("a")}},
		"another content": {"1.sql": {Data: []byte("b")}},
		"one more":        {"1.sql": {Data: []byte("a")}, "2.sql": {Data: []byte("b")}},
	} {
		hash, err := hashMigrations(migrations)
		if err != nil {
			t.Fatal(err)
		}
		if other, ok := seen[hash]; ok {
			t.Errorf("%s and %s have the same hash", name, other)
		}
		seen[hash] = name
	}
}
