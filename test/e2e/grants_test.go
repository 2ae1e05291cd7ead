package e2e

import (
	"context"
	"crypto/rand"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/test/testdb"
)

// role makes a role of this test, and returns the database's address for it.
func (f *fixture) role(name string) string {
	f.t.Helper()
	quoted := pgx.Identifier{name}.Sanitize()
	f.exec("CREATE ROLE " + quoted + " LOGIN PASSWORD 'secret'")
	f.t.Cleanup(func() { // roles outlive databases
		ctx := context.WithoutCancel(f.t.Context())
		if _, err := f.pool.Exec(ctx, "DROP OWNED BY "+quoted+"; DROP ROLE "+quoted); err != nil {
			f.t.Error(err)
		}
	})
	address, err := url.Parse(f.DirectURL)
	if err != nil {
		f.t.Fatal(err)
	}
	address.User = url.UserPassword(name, "secret")
	return address.String()
}

// refused checks that the server refuses statements for lack of a right.
func refused(t *testing.T, address string, statements ...string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	for _, statement := range statements {
		if _, err := conn.Exec(t.Context(), statement); db.Code(err) != db.CodeNoPrivilege {
			t.Errorf("%s: got %v, want that it is not allowed", statement, err)
		}
	}
}

// TestGrants applies the printed rights to two roles, and finds out what those can do.
func TestGrants(t *testing.T) {
	t.Parallel()
	f := setup(t)
	suffix := strings.ToLower(rand.Text()[:10])
	worker, reader := "e2e worker "+suffix, "e2e-reader-"+suffix
	asWorker, asReader := f.role(worker), f.role(reader)
	f.ingest(line("1"), line("2"))
	id := f.claim("claimed")[0]

	grants := call{args: []string{"grants", "--worker", worker, "--reader", reader}}
	statements := grants.run(t).want(t, 0).stdout
	grants.args = append(grants.args, "-o", "json")
	if got := decode[map[string]string](t, grants.run(t).want(t, 0)); got["sql"] != statements {
		t.Errorf("got %v", got)
	}
	f.exec(statements)
	f.exec(statements) // as after each migration

	as := func(address, args string) result {
		return call{args: strings.Fields(args), env: []string{"DATABASE_URL=" + address}}.reading(line("3")).run(t)
	}
	look := []string{"bids", "bids show " + id, "why upwork 1", "stats", "locks", "key upwork 1", "migrate version", "run --dry-run", "bid upwork 1 --dry-run"}
	work := []string{"ingest --cached-at now -", "bid upwork 1", "run", "run --reconsider", "bids mark " + id + " won --note x"}
	f.untouched(func() {
		for _, args := range look {
			as(asReader, args).want(t, 0)
		}
		for _, args := range work {
			if r := as(asReader, args); r.code == 0 || r.stdout != "" {
				t.Errorf("a reader can %s: %s", args, r.stdout)
			}
		}
		report := decode[doctorReport](t, as(asReader, "doctor -o json").want(t, 3))
		if level, text := report.level("rights"); level != "error" || !strings.Contains(text, "INSERT on bids") {
			t.Errorf("rights of a reader: %s: %s", level, text)
		}
		if level, _ := report.level("queue"); level != "ok" {
			t.Errorf("a reader does not see the queue: %s", level)
		}
	})
	for _, args := range slices.Concat(look, work) {
		as(asWorker, args).want(t, 0)
	}
	f.wantCount(3, "bids WHERE status = 'ACTIVE'")
	report := decode[doctorReport](t, as(asWorker, "doctor -o json"))
	if level, text := report.level("rights"); level != "ok" {
		t.Errorf("rights of a worker: %s: %s", level, text)
	}

	refused(
		t, asWorker,
		"ALTER TABLE bids ADD COLUMN x int", "DROP TABLE bids", "DROP INDEX bids_one_active_per_posting", "ALTER TABLE bids DISABLE TRIGGER ALL",
		"DELETE FROM bids", "TRUNCATE bids", "UPDATE bid_events SET actor = 'x'", "DELETE FROM bid_events", "TRUNCATE bid_events",
		"SET session_replication_role = 'replica'", "DELETE FROM postings", "DELETE FROM runs", "TRUNCATE postings, candidates, runs", "UPDATE schema_migrations SET version = 1", "CREATE TABLE x ()", "TRUNCATE candidates",
		"CREATE OR REPLACE FUNCTION bid_lock_key(marketplace text, job_id text) RETURNS bigint LANGUAGE sql AS 'SELECT 1::bigint'",
	)
	refused(
		t, asReader,
		"INSERT INTO bids (marketplace, job_id, amount_cents) VALUES ('upwork', 'x', 1)", "UPDATE bids SET amount_cents = 1",
		"UPDATE postings SET title = 'x'", "DELETE FROM candidates", "UPDATE runs SET host = 'x'", "DELETE FROM bids", "DROP TABLE bids",
		"INSERT INTO bid_events (bid_id, actor) SELECT id, 'x' FROM bids", "CREATE TABLE x ()", "SELECT sealed FROM tokens",
	)
	f.bidder("grants", "--schema", `odd"; DROP TABLE bids; --`).want(t, 0)
	if odd := f.bidder("grants", "--worker", `w"x`).want(t, 0).stdout; !strings.Contains(odd, `"w""x"`) {
		t.Errorf("names are not quoted:\n%s", odd)
	}
}

// TestOwner: a role that is nobody else makes the schema and grants the rights, and only it does.
func TestOwner(t *testing.T) {
	t.Parallel()
	f := setup(t, testdb.WithoutMigrations())
	suffix := strings.ToLower(rand.Text()[:10])
	owner, worker, reader, pruner := "e2e owner "+suffix, "e2e-worker-"+suffix, "e2e-reader-"+suffix, "e2e-pruner-"+suffix
	asWorker, asPruner := f.role(worker), f.role(pruner)
	f.role(reader)
	asOwner := f.role(owner) // last, because it goes first, and what it has granted with it
	as := func(address string, args ...string) result {
		return call{args: args, env: []string{"DATABASE_URL=" + address}}.reading(line("1")).run(t)
	}
	apply := []string{"grants", "--apply", "--worker", worker, "--reader", reader}
	as(asOwner, apply...).wantError(t, 4, "bidder migrate up")
	f.exec("GRANT CREATE ON SCHEMA public TO PUBLIC") // as before PostgreSQL 15
	f.exec(as("", "grants", "--owner", owner).want(t, 0).stdout)
	refused(t, asWorker, "CREATE TABLE x ()")
	as(asOwner, "migrate", "up").want(t, 0)

	as(asOwner, "grants", "--apply", "--worker", "e2e-nobody-"+suffix, "--reader", reader).wantError(t, 2, "e2e-nobody", "must exist")
	as(asOwner, append(slices.Clip(apply), "--dry-run")...).want(t, 0)
	as(asWorker, "run").want(t, 4)
	if got := as(asOwner, apply...).want(t, 0); got.stdout != as("", "grants", "--worker", worker, "--reader", reader).stdout {
		t.Errorf("granted, it says:\n%s", got.stdout)
	}
	as(asOwner, apply...).want(t, 0) // as after each migration
	as(asWorker, "run", "--postings", "-", "--cached-at", "now").want(t, 0)
	f.wantCount(1, "bids WHERE status = 'ACTIVE'")

	// A grant of somebody who may not grant is no error to the server.
	as(asWorker, append(slices.Clip(apply), "--pruner", pruner)...).wantError(t, 2, "owner")
	as(asPruner, "prune", "--older-than", "90d").want(t, 4)
	as(asOwner, append(slices.Clip(apply), "--pruner", pruner)...).want(t, 0)
	as(asPruner, "prune", "--older-than", "90d").want(t, 0)
	as("", append(slices.Clip(apply), "--owner", owner)...).wantError(t, 2, "owner", "apply")
}
