package db_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/golang-migrate/migrate/v4/database"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/test/testdb"
)

var versionTable = regexp.MustCompile(`^\w+ (\S* )?(CREATE UNIQUE INDEX )?_?schema_migrations`)

func TestMigrationFiles(t *testing.T) {
	t.Parallel()
	files := func(kind string) []string {
		names, err := fs.Glob(db.Migrations, "migrations/*."+kind+".sql")
		if err != nil {
			t.Fatal(err)
		}
		for i, name := range names {
			names[i] = strings.TrimSuffix(name, "."+kind+".sql")
		}
		return names
	}
	up := files("up")
	if diff := cmp.Diff(up, files("down")); diff != "" {
		t.Errorf("each migration needs a way up and a way down (-up +down):\n%s", diff)
	}
	for i, name := range up {
		if number := fmt.Sprintf("migrations/%06d_", versions(t)[i]); !strings.HasPrefix(name, number) {
			t.Errorf("migration %d is called %s, want %s…", i+1, name, number)
		}
	}
	if latest, all := db.LatestVersion(), versions(t); latest == 0 || latest != all[len(all)-1] {
		t.Errorf("the latest version is %d; there are %d", latest, all)
	}
}

// versions are the numbers of the migrations, in order. Each is there once; gaps do no harm.
func versions(t *testing.T) (numbers []uint) {
	t.Helper()
	names, err := fs.Glob(db.Migrations, "migrations/*.up.sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		var number uint
		if _, err := fmt.Sscanf(name, "migrations/%06d_", &number); err != nil || slices.Contains(numbers, number) {
			t.Fatalf("%s has no number of its own: %v", name, err)
		}
		numbers = append(numbers, number)
	}
	return numbers
}

// Any number of steps down from a full database, and the way up again, end in the same
// schema; all steps down leave nothing.
func TestMigrateDownAndUp(t *testing.T) {
	t.Parallel()
	complete := listing(t, testdb.New(t).Pool(t), "public")
	empty := listing(t, testdb.New(t, testdb.WithoutMigrations()).Pool(t), "public")
	latest := db.LatestVersion()
	for steps := 1; steps <= int(latest); steps++ {
		t.Run(strconv.Itoa(steps), func(t *testing.T) {
			t.Parallel()
			database := testdb.New(t)
			pool := database.Pool(t)
			fill(t, pool)
			if err := db.MigrateDown(t.Context(), database.DirectURL, steps); err != nil {
				t.Fatal(err)
			}
			wantIs(t, db.CheckSchema(t.Context(), pool), db.ErrNotMigrated)
			if steps == int(latest) {
				wantListing(t, listing(t, pool, "public"), empty)
			}
			if err := db.MigrateUp(t.Context(), database.DirectURL); err != nil {
				t.Fatal(err)
			}
			if err := db.CheckSchema(t.Context(), pool); err != nil {
				t.Error(err)
			}
			wantListing(t, listing(t, pool, "public"), complete)
		})
	}
}

func TestMigrateUpTwice(t *testing.T) {
	t.Parallel()
	database := testdb.New(t)
	pool := database.Pool(t)
	before := fill(t, pool)
	const objects = "SELECT oid::bigint FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1"
	want := column[int64](t, pool, objects)
	if err := db.MigrateUp(t.Context(), database.DirectURL); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, column[int64](t, pool, objects)); diff != "" {
		t.Errorf("up again made something (-want +got):\n%s", diff)
	}
	for table, rows := range before {
		if got := value[int64](t, pool, "SELECT count(*) FROM "+table); got != rows {
			t.Errorf("%s has %d rows, had %d", table, got, rows)
		}
	}
}

func TestMigrateTogether(t *testing.T) {
	t.Parallel()
	complete := listing(t, testdb.New(t).Pool(t), "public")
	database := testdb.New(t, testdb.WithoutMigrations())
	var group errgroup.Group
	for range 4 {
		group.Go(func() error { return db.MigrateUp(t.Context(), database.DirectURL) })
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	wantListing(t, listing(t, database.Pool(t), "public"), complete)
}

func TestMigrateBusy(t *testing.T) {
	t.Parallel()
	d := testdb.New(t, testdb.WithoutMigrations())
	other := connect(t, d.DirectURL)
	key, err := database.GenerateAdvisoryLockId(d.Name, "public", "schema_migrations")
	if err != nil {
		t.Fatal(err)
	}
	hurried := with(t, d.DirectURL, "lock_timeout", "100ms")

	exec(t, other, "SELECT pg_advisory_lock($1)", key)
	start := time.Now()
	err = db.MigrateUp(t.Context(), hurried)
	wantIs(t, err, db.ErrMigrationBusy)
	if !db.IsUnavailable(err) {
		t.Errorf("%v should mean: try again later", err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("gave up after %v, want about 100ms", took)
	}
	if got := listing(t, other, "public"); len(got) > 0 {
		t.Errorf("it made %v without the lock", got)
	}

	exec(t, other, "SELECT pg_advisory_unlock_all()")
	if err := db.MigrateUp(t.Context(), hurried); err != nil {
		t.Errorf("after the other migration: %v", err)
	}
}

// TestMigrateRefused: what the server refuses, as for a table in use, leaves the version before it, clean: pods go on, and it
// can be run again.
func TestMigrateRefused(t *testing.T) {
	t.Parallel()
	database := testdb.New(t)
	pool := database.Pool(t)
	complete := listing(t, pool, "public")
	latest := db.LatestVersion()
	all := versions(t)
	clean := func(version uint) {
		t.Helper()
		state, err := db.ReadSchemaState(t.Context(), pool)
		if want := (db.SchemaState{Version: version, Latest: latest, Schema: "public"}); err != nil || state != want {
			t.Errorf("state %+v, %v; want %+v", state, err, want)
		}
	}
	busy := with(t, database.DirectURL, "lock_timeout", "100ms")
	inUse := func(change func() error) {
		t.Helper()
		reader, err := pool.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		exec(t, reader, "SELECT FROM postings, candidates, runs, bids, bid_events, accounts, callbacks, tokens, spending")
		wantIs(t, change(), db.ErrMigrationBusy)
		if err := reader.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	inUse(func() error { return db.MigrateDown(t.Context(), busy, 1) })
	clean(latest)
	if err := db.CheckSchema(t.Context(), pool); err != nil {
		t.Error(err)
	}
	wantListing(t, listing(t, pool, "public"), complete)

	if err := db.MigrateDown(t.Context(), database.DirectURL, 1); err != nil {
		t.Fatal(err)
	}
	inUse(func() error { return db.MigrateUp(t.Context(), busy) })
	clean(all[len(all)-2])
	if err := db.MigrateUp(t.Context(), database.DirectURL); err != nil {
		t.Errorf("once more: %v", err)
	}
	clean(latest)
	wantListing(t, listing(t, pool, "public"), complete)
}

// TestMigrateRefusedFirst: neither is the first one in anybody's way, up or down.
func TestMigrateRefusedFirst(t *testing.T) {
	t.Parallel()
	database := testdb.New(t, testdb.WithoutMigrations())
	pool := database.Pool(t)
	exec(t, pool, "CREATE TABLE postings ()")
	if err := db.MigrateUp(t.Context(), database.DirectURL); db.Code(err) != "42P07" {
		t.Errorf("beside a table of that name: %v", err)
	}
	exec(t, pool, "DROP TABLE postings")
	if err := db.MigrateUp(t.Context(), database.DirectURL); err != nil {
		t.Fatal(err)
	}
	if err := db.MigrateDown(t.Context(), database.DirectURL, len(versions(t))-1); err != nil {
		t.Fatal(err)
	}
	exec(t, pool, "CREATE VIEW mine AS SELECT title FROM postings")
	if err := db.MigrateDown(t.Context(), database.DirectURL, 1); db.Code(err) != "2BP01" {
		t.Errorf("below a view: %v", err)
	}
	state, err := db.ReadSchemaState(t.Context(), pool)
	if err != nil || state.Version != 1 || state.Dirty {
		t.Errorf("state %+v, %v", state, err)
	}
}

// TestMigrateRefusedUnnoted: where not even that can be noted, it is said, with what was refused.
func TestMigrateRefusedUnnoted(t *testing.T) {
	t.Parallel()
	database := testdb.New(t)
	pool := database.Pool(t)
	table, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	exec(t, table, "SELECT FROM postings, candidates, runs, bids, bid_events, accounts, callbacks, tokens, spending")
	down := make(chan error, 1)
	go func() { down <- db.MigrateDown(t.Context(), with(t, database.DirectURL, "lock_timeout", "2s"), 1) }()
	await(t, "the file waits", func() bool {
		return value[bool](t, pool, `SELECT EXISTS (SELECT FROM pg_stat_activity
			WHERE datname = current_database() AND application_name = 'bidder migrate' AND wait_event = 'relation')`)
	})
	exec(t, table, "LOCK TABLE schema_migrations IN ACCESS SHARE MODE") // as pg_dump does
	err = <-down
	wantIs(t, err, db.ErrDirty)
	if db.Code(err) != db.CodeLockNotAvailable || !strings.Contains(err.Error(), fmt.Sprintf("at version %d could not be noted", db.LatestVersion())) {
		t.Error(err)
	}
	if err := table.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantIs(t, db.CheckSchema(t.Context(), pool), db.ErrDirty)
}

// TestMigrateRefusedBesideAnother: who does not get the lock of migrations leaves what another one has noted as it is.
func TestMigrateRefusedBesideAnother(t *testing.T) {
	t.Parallel()
	database := testdb.New(t)
	pool := database.Pool(t)
	if err := db.MigrateDown(t.Context(), database.DirectURL, 1); err != nil {
		t.Fatal(err)
	}
	table, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	exec(t, table, "SELECT FROM postings, candidates, runs, bids, bid_events, accounts, callbacks, tokens, spending")
	up := make(chan error, 1)
	go func() { up <- db.MigrateUp(t.Context(), with(t, database.DirectURL, "lock_timeout", "1min")) }()
	await(t, "the file waits", func() bool {
		return value[bool](t, pool, `SELECT EXISTS (SELECT FROM pg_stat_activity
			WHERE datname = current_database() AND application_name = 'bidder migrate' AND wait_event = 'relation')`)
	})
	wantIs(t, db.MigrateUp(t.Context(), with(t, database.DirectURL, "lock_timeout", "100ms")), db.ErrMigrationBusy)
	state, err := db.ReadSchemaState(t.Context(), pool)
	if err != nil || state.Version != db.LatestVersion() || !state.Dirty {
		t.Errorf("while it waits: %+v, %v", state, err)
	}
	if err := table.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-up; err != nil {
		t.Error(err)
	}
	if err := db.CheckSchema(t.Context(), pool); err != nil {
		t.Error(err)
	}
}

// TestMigrateDirty: what was cut off is refused by everybody until a person says where the schema is.
func TestMigrateDirty(t *testing.T) {
	t.Parallel()
	database := testdb.New(t)
	pool := database.Pool(t)
	latest := db.LatestVersion()
	exec(t, pool, "UPDATE schema_migrations SET dirty = true")
	wantIs(t, db.CheckSchema(t.Context(), pool), db.ErrDirty)
	wantIs(t, db.MigrateUp(t.Context(), database.DirectURL), db.ErrDirty)
	wantIs(t, db.MigrateDown(t.Context(), database.DirectURL, 1), db.ErrDirty)
	_, err := db.Open(t.Context(), db.Options{URL: database.URL})
	wantIs(t, err, db.ErrDirty)

	if err := db.MigrateForce(t.Context(), database.DirectURL, latest); err != nil {
		t.Fatal(err)
	}
	if err := db.CheckSchema(t.Context(), pool); err != nil {
		t.Errorf("after force: %v", err)
	}
	exec(t, pool, "UPDATE schema_migrations SET version = -1, dirty = true") // of a way down from the first one
	state, err := db.ReadSchemaState(t.Context(), pool)
	if err != nil || state.Version != 0 || !state.Dirty {
		t.Errorf("state %+v, %v", state, err)
	}
}

func TestMigrateInterrupted(t *testing.T) {
	t.Parallel()
	database := testdb.New(t, testdb.WithoutMigrations())
	pool := database.Pool(t)
	wantIs(t, db.MigrateUp(canceled(t), database.DirectURL), context.Canceled)

	// The second migration waits for a table of the same name that is not yet committed.
	other, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	exec(t, other, "CREATE TABLE runs ()")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	migrated := make(chan error, 1)
	go func() { migrated <- db.MigrateUp(ctx, database.DirectURL) }()
	await(t, "the migration waits", func() bool {
		return value[bool](t, pool, `SELECT EXISTS (SELECT FROM pg_stat_activity
			WHERE datname = current_database() AND application_name = 'bidder migrate' AND wait_event_type = 'Lock')`)
	})
	cancel()
	if err := other.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantIs(t, <-migrated, context.Canceled)

	state, err := db.ReadSchemaState(t.Context(), pool)
	if err != nil || state.Version != 2 || state.Dirty {
		t.Errorf("after the interruption: %+v, %v; want a clean version 2", state, err)
	}
	if err := db.MigrateUp(t.Context(), database.DirectURL); err != nil {
		t.Errorf("going on: %v", err)
	}
}

// An older program changes nothing in the schema of a newer one.
func TestMigrateNewer(t *testing.T) {
	t.Parallel()
	database := testdb.New(t)
	pool := database.Pool(t)
	exec(t, pool, "UPDATE schema_migrations SET version = version + 1")
	before := listing(t, pool, "public")
	for name, err := range map[string]error{
		"up":   db.MigrateUp(t.Context(), database.DirectURL),
		"down": db.MigrateDown(t.Context(), database.DirectURL, 1),
	} {
		if !errors.Is(err, db.ErrNewerSchema) {
			t.Errorf("%s: %v, want %v", name, err, db.ErrNewerSchema)
		}
	}
	wantListing(t, listing(t, pool, "public"), before)
}

// Down goes as far as there is something, never up.
func TestMigrateDownTooFar(t *testing.T) {
	t.Parallel()
	database := testdb.New(t)
	pool := database.Pool(t)
	complete := listing(t, pool, "public")
	for _, steps := range []int{0, -1} {
		if err := db.MigrateDown(t.Context(), database.DirectURL, steps); err != nil {
			t.Errorf("down %d: %v", steps, err)
		}
		wantListing(t, listing(t, pool, "public"), complete)
	}
	for range 2 {
		if err := db.MigrateDown(t.Context(), database.DirectURL, int(db.LatestVersion())+5); err != nil {
			t.Error(err)
		}
		wantListing(t, listing(t, pool, "public"), []string{})
	}
	if err := db.MigrateDown(t.Context(), database.DirectURL, -1); err != nil {
		t.Error(err)
	}
	wantListing(t, listing(t, pool, "public"), []string{})
}

func TestMigrateUnreadable(t *testing.T) {
	t.Parallel()
	d := testdb.New(t, testdb.WithoutMigrations())
	tests := []struct {
		name, address string
	}{
		{"no such schema", with(t, d.DirectURL, "search_path", "missing")},
		{"no server", "postgres://u@127.0.0.1:1/db"},
		{"no address", "postgres://u@127.0.0.1:port/db"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := db.MigrateUp(t.Context(), tt.address)
			if err == nil || errors.Is(err, db.ErrMigrationBusy) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// Two schemas in one database know nothing of each other.
func TestMigrateSchemas(t *testing.T) {
	t.Parallel()
	database := testdb.New(t, testdb.WithoutMigrations())
	admin := database.Pool(t)
	latest := db.LatestVersion()
	exec(t, admin, `CREATE SCHEMA one; CREATE SCHEMA "Two words"`)
	addresses := map[string]string{}
	for _, schema := range []string{"one", "Two words"} {
		address := with(t, database.DirectURL, "search_path", `"`+schema+`"`)
		addresses[schema] = address
		if _, err := db.Open(t.Context(), db.Options{URL: address}); !errors.Is(err, db.ErrNotMigrated) {
			t.Errorf("%s before its migration: %v", schema, err)
		}
		if err := db.MigrateUp(t.Context(), address); err != nil {
			t.Fatalf("%s: %v", schema, err)
		}
		pool := open(t, address, 2)
		fill(t, pool) // the same bids, live in both
		if state, err := db.ReadSchemaState(t.Context(), pool); err != nil || state.Schema != schema {
			t.Errorf("%s: schema is %q, %v", schema, state.Schema, err)
		}
	}
	if got := listing(t, admin, "public"); len(got) > 0 {
		t.Errorf("public holds %v", got)
	}
	two := listing(t, admin, "Two words")
	if err := db.MigrateDown(t.Context(), addresses["one"], int(latest)); err != nil {
		t.Fatal(err)
	}
	wantListing(t, listing(t, admin, "one"), []string{})
	if got := listing(t, admin, "Two words"); !slices.Equal(got, two) {
		t.Errorf("down in one schema changed the other: %s", cmp.Diff(two, got))
	}
	open(t, addresses["Two words"], 1)
}
