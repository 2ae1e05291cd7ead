package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/pkg/localpg"
	"github.com/arbitrageai/bidder/test/testdb"
)

// needDatabase are calls of all commands that work on a database that is ready.
func needDatabase(t *testing.T) [][]string {
	t.Helper()
	postings := file(t, "postings.ndjson", line("1"))
	const id = "0192f3a4-7c1e-7b32-9d55-1f0e6a2b8c41"
	return [][]string{
		{"ingest", postings, "--cached-at", "now"},
		{"ingest", postings, "--cached-at", "now", "--dry-run"},
		{"run"},
		{"run", "--postings", postings, "--dry-run"},
		{"bid", "upwork", "1"},
		{"bid", "upwork", "1", "--dry-run"},
		{"bids"},
		{"bids", "show", id},
		{"bids", "mark", id, "won", "--note", "x"},
		{"why", "upwork", "1"},
		{"locks"},
		{"key", "upwork", "1"},
		{"stats"},
		{"prune", "--older-than", "90d"},
		{"prune", "--older-than", "90d", "--dry-run"},
	}
}

// wantUnusable checks that every command says that the database cannot be used, and leaves it alone.
func wantUnusable(t *testing.T, databaseURL string, commands [][]string, says string) {
	t.Helper()
	for _, args := range commands {
		c := call{args: append(args, "-o", "json"), env: []string{"DATABASE_URL=" + databaseURL}}
		r := c.run(t)
		if r.code != 4 || r.stdout != "" || !strings.Contains(r.stderr, says) {
			t.Errorf("%q: got exit code %d, want 4\nstdout: %s\nstderr: %s", args, r.code, r.stdout, r.stderr)
		}
	}
	doctor := call{args: []string{"doctor", "-o", "json"}, env: []string{"DATABASE_URL=" + databaseURL}}.run(t).want(t, 4)
	if report := decode[doctorReport](t, doctor); report.OK || !strings.Contains(doctor.stdout+doctor.stderr, says) {
		t.Errorf("doctor reports %+v\nstderr: %s", report, doctor.stderr)
	}
}

func TestDatabaseDown(t *testing.T) {
	t.Parallel()
	const address = "postgres://somebody:hunter2@127.0.0.1:1/bidder?sslmode=disable"
	wantUnusable(t, address, append(needDatabase(t), []string{"migrate", "up"}, []string{"migrate", "version"}), "127.0.0.1")
	for _, args := range [][]string{{"run", "-o", "json"}, {"run", "--log-level", "debug"}, {"doctor"}, {"migrate", "up"}} {
		r := call{args: args, env: []string{"DATABASE_URL=" + address}}.run(t).want(t, 4)
		if strings.Contains(r.stdout+r.stderr, "hunter2") {
			t.Errorf("%q shows the password: %s%s", args, r.stdout, r.stderr)
		}
	}
}

// TestTableLocked: while a table is locked, as by a migration, reading it ends in the time that a statement may take; and
// a pause, which needs another table, comes about.
func TestTableLocked(t *testing.T) {
	t.Parallel()
	f := setup(t)
	tx, err := f.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	if _, err := tx.Exec(t.Context(), "LOCK TABLE bids IN ACCESS EXCLUSIVE MODE"); err != nil {
		t.Fatal(err)
	}
	const id = "0192f3a4-7c1e-7b32-9d55-1f0e6a2b8c41"
	for _, args := range [][]string{
		{"bids"},
		{"bids", "show", id},
		{"review", "list"},
		{"review", "show", id},
		{"why", "upwork", "1"},
		{"bid", "upwork", "1", "--dry-run"},
		{"withdraw", id, "--reason", "a mistake", "--dry-run"},
	} {
		f.call(append(args, "-o", "json")...).with("BIDDER_STATEMENT_TIMEOUT=300ms").run(t).wantError(t, 4, "timeout")
	}
	paused := f.call("pause", "somewhere").with("BIDDER_STATEMENT_TIMEOUT=300ms").run(t).want(t, 0)
	if !strings.Contains(paused.stdout, "somewhere") {
		t.Errorf("paused is %s", paused.stdout)
	}
}

func TestWrongPassword(t *testing.T) {
	t.Parallel()
	f := setup(t)
	address, err := url.Parse(f.DirectURL)
	if err != nil {
		t.Fatal(err)
	}
	right, given := address.User.Password()
	if !given {
		t.Skip("the server asks for no password")
	}
	address.User = url.UserPassword(address.User.Username(), "hunter2")
	f.untouched(func() {
		for _, args := range append(needDatabase(t), []string{"doctor"}, []string{"migrate", "up"}) {
			r := call{args: args, env: []string{"DATABASE_URL=" + address.String()}}.run(t).want(t, 4)
			if strings.Contains(r.stdout+r.stderr, "hunter2") || strings.Contains(r.stdout+r.stderr, right) {
				t.Errorf("%q shows a password: %s%s", args, r.stdout, r.stderr)
			}
		}
	})
}

func TestNotMigrated(t *testing.T) {
	t.Parallel()
	f := setup(t, testdb.WithoutMigrations())
	wantUnusable(t, f.URL, needDatabase(t), "bidder migrate up")
	if tables := f.count("information_schema.tables WHERE table_schema = 'public'"); tables != 0 {
		t.Errorf("there are %d tables", tables)
	}
	migrate := func(args ...string) result {
		return call{args: append([]string{"migrate"}, args...), env: []string{"DATABASE_URL=" + f.DirectURL}}.run(t)
	}
	latest := decode[map[string]any](t, migrate("version", "-o", "json").want(t, 0))["latest"].(float64)
	want := func(r result, version float64) {
		t.Helper()
		wanted := map[string]any{"version": version, "latest": latest, "dirty": false, "schema": "public"}
		if diff := cmp.Diff(wanted, decode[map[string]any](t, r.want(t, 0))); diff != "" {
			t.Errorf("the schema (-want +got):\n%s", diff)
		}
	}
	want(migrate("version", "-o", "json"), 0)
	want(migrate("up", "--dry-run", "-o", "json"), 0)
	want(migrate("up", "-o", "json"), latest)
	want(migrate("up", "-o", "json"), latest)
	f.bidder("run").want(t, 0)
	f.untouched(func() {
		migrate("down", "-o", "json").wantError(t, 2, "--yes")
		migrate("down", "--yes", "--steps", "0").wantError(t, 2, "--steps")
		want(migrate("down", "--yes", "--dry-run", "-o", "json"), latest)
	})
	want(migrate("down", "--yes", "-o", "json"), latest-1)
	f.bidder("run").wantError(t, 4, "bidder migrate up")
	want(migrate("up", "-o", "json"), latest)
}

func TestNewerDatabase(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.exec("UPDATE schema_migrations SET version = 999")
	f.untouched(func() {
		wantUnusable(t, f.DirectURL, append(needDatabase(t), []string{"migrate", "up"}), "newer")
		r := f.bidder("migrate", "version", "-o", "json").want(t, 0)
		if got := decode[map[string]any](t, r); got["version"] != 999.0 {
			t.Errorf("got %v", got)
		}
	})
}

func TestDirtyDatabase(t *testing.T) {
	t.Parallel()
	f := setup(t)
	latest := read[int](f, "SELECT version FROM schema_migrations")
	f.exec("UPDATE schema_migrations SET dirty = true")
	before := fmt.Sprintf("bidder migrate force %d --yes", latest-1)
	f.untouched(func() {
		wantUnusable(t, f.DirectURL, append(needDatabase(t), []string{"migrate", "up"}), "bidder migrate version")
		r := f.bidder("migrate", "version", "-o", "json").want(t, 0)
		if got := decode[map[string]any](t, r); got["dirty"] != true || !strings.Contains(r.stderr, before) {
			t.Errorf("got %v, stderr: %s", got, r.stderr)
		}
		f.bidder("migrate", "force", fmt.Sprint(latest)).wantError(t, 2, "--yes")
		f.bidder("migrate", "force", "abc", "--yes").wantError(t, 2, "abc")
		f.bidder("migrate", "force", fmt.Sprint(latest), "--yes", "--dry-run").wantError(t, 2, "dry-run")
	})
	call{args: []string{"migrate", "force", fmt.Sprint(latest), "--yes"}, env: []string{"DATABASE_URL=" + f.DirectURL}}.run(t).want(t, 0)
	f.bidder("run").want(t, 0)
}

func TestReadOnlyDatabase(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.untouched(func() {
		address := parameter(t, f.DirectURL, "options", "-c default_transaction_read_only=on")
		wantUnusable(t, address, append(needDatabase(t), []string{"migrate", "up"}), "replica or read-only")
	})
}

// TestStandby asks a real hot standby, which would grant advisory locks of its own.
func TestStandby(t *testing.T) {
	t.Parallel()
	primary, err := localpg.StartTemporary(t.Context(), "wal_level=replica")
	if errors.Is(err, localpg.ErrNoBinaries) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := primary.Stop(); err != nil {
			t.Error(err)
		}
	})
	if err := db.MigrateUp(t.Context(), primary.DSN("postgres")); err != nil {
		t.Fatal(err)
	}
	standby := localpg.Cluster{
		Data: filepath.Join(primary.Sockets, "standby"), Sockets: primary.Sockets, Port: 1, Command: primary.Command,
	}
	backup := primary.Command("pg_basebackup", "-D", standby.Data, "-h", primary.Sockets, "-p", fmt.Sprint(primary.Port),
		"-U", localpg.Superuser, "-R", "-X", "stream", "--checkpoint=fast", "--no-sync")
	if output, err := backup.CombinedOutput(); err != nil {
		t.Fatalf("pg_basebackup: %v: %s", err, output)
	}
	process, err := standby.Start(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = process.Stop(context.Background(), localpg.Immediate) })
	if err := standby.Ready(t.Context(), process.Done()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "doctor tells of a standby that is not synchronous", func() bool {
		r := call{args: []string{"doctor", "-o", "json"}, env: []string{"DATABASE_URL=" + primary.DSN("postgres")}}.run(t)
		level, text := decode[doctorReport](t, r).level("standbys")
		return level == "note" && strings.Contains(text, "1 standbys") && strings.Contains(text, "synchronous_standby_names")
	})

	wantUnusable(t, standby.DSN("postgres"), append(needDatabase(t), []string{"migrate", "up"}, []string{"migrate", "version"}), "replica")
	call{args: []string{"run"}, env: []string{"DATABASE_URL=" + primary.DSN("postgres")}}.run(t).want(t, 0)

	// Of several hosts the program finds the primary by itself.
	both := fmt.Sprintf("user=%s dbname=postgres host=%s,%s port=%d,%d", localpg.Superuser, standby.Sockets, primary.Sockets, standby.Port, primary.Port)
	call{args: []string{"run"}, env: []string{"DATABASE_URL=" + both}}.run(t).want(t, 0)
}
