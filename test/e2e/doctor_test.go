package e2e

import (
	"encoding/base64"
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/pkg/localpg"
	"github.com/arbitrageai/bidder/pkg/marketplace/sandbox"
	"github.com/arbitrageai/bidder/test/testdb"
)

type doctorReport struct {
	OK     bool
	Checks []struct {
		Name, Level, Message string
		Fix                  *string
	}
}

// level of a check, and everything that it says.
func (r doctorReport) level(name string) (level, text string) {
	for _, c := range r.Checks {
		if c.Name == name {
			return c.Level, c.Message + " | " + orNone(c.Fix)
		}
	}
	return "missing", ""
}

// ownServer starts a server with settings of its own, and migrates it.
func ownServer(t *testing.T, settings ...string) (address string, pool *pgxpool.Pool) {
	t.Helper()
	server, err := localpg.StartTemporary(t.Context(), settings...)
	if errors.Is(err, localpg.ErrNoBinaries) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	address = server.DSN("postgres")
	if err := db.MigrateUp(t.Context(), address); err != nil {
		t.Fatal(err)
	}
	if pool, err = pgxpool.New(t.Context(), address); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return address, pool
}

// TestDoctor breaks a good installation in one way after the other, and mends it again.
func TestDoctor(t *testing.T) {
	t.Parallel()
	address, pool := ownServer(t, "fsync=on", "full_page_writes=on", "synchronous_commit=on") // that of the other tests is not durable
	f := &fixture{t: t, pool: pool}
	doctor := func(url string, env ...string) result {
		env = append([]string{"DATABASE_URL=" + url, "BIDDER_CONSOLE_TOKEN=" + goodToken}, env...)
		return call{args: []string{"doctor", "-o", "json"}, env: env}.run(t)
	}
	healthy := func() {
		t.Helper()
		report := decode[doctorReport](t, doctor(address).want(t, 0))
		if !report.OK || len(report.Checks) < 10 {
			t.Errorf("got %+v", report)
		}
		for _, c := range report.Checks {
			if c.Level != "ok" && c.Name != "role" { // which is a superuser here
				t.Errorf("%s: %s: %s", c.Name, c.Level, c.Message)
			}
			if (c.Level == "ok") != (c.Fix == nil) {
				t.Errorf("%s is %s, the fix: %s", c.Name, c.Level, orNone(c.Fix))
			}
		}
	}
	healthy()

	tests := []struct {
		name, breaks, mends string
		check, level        string
		says                []string
		code                int
	}{
		{
			name: "the guarantee is gone", code: 3, check: "unique index", level: "error", says: []string{"bids_one_active_per_posting"},
			breaks: "DROP INDEX bids_one_active_per_posting",
			mends:  "CREATE UNIQUE INDEX bids_one_active_per_posting ON bids (marketplace, job_id) WHERE status = 'ACTIVE'",
		},
		{
			name: "newer", code: 4, check: "schema", level: "error", says: []string{"newer than this program", "run the bidder that migrated"},
			breaks: "UPDATE schema_migrations SET version = version + 1",
			mends:  "UPDATE schema_migrations SET version = version - 1",
		},
		{
			name: "a table is not vacuumed", code: 0, check: "vacuum of tables", level: "warning", says: []string{"candidates", "RESET (autovacuum_enabled)"},
			breaks: "ALTER TABLE candidates SET (autovacuum_enabled = false)", mends: "ALTER TABLE candidates RESET (autovacuum_enabled)",
		},
		{
			name: "another isolation level", code: 0, check: "isolation", level: "warning", says: []string{"serializable"},
			breaks: "ALTER DATABASE postgres SET default_transaction_isolation = serializable",
			mends:  "ALTER DATABASE postgres RESET default_transaction_isolation",
		},
		{
			name: "read-only", code: 4, check: "primary", level: "error", says: []string{"target_session_attrs"},
			breaks: "ALTER DATABASE postgres SET default_transaction_read_only = on",
			mends:  "SET default_transaction_read_only = off; ALTER DATABASE postgres RESET default_transaction_read_only",
		},
		{
			name: "few connections for the database", code: 0, check: "connections", level: "warning", says: []string{"the database's limit 4", "BIDDER_MAX_CONNS"},
			breaks: "ALTER DATABASE postgres CONNECTION LIMIT 4", mends: "ALTER DATABASE postgres CONNECTION LIMIT -1",
		},
		{
			name: "many pods at once", code: 0, check: "lock slots", level: "warning", says: []string{"40 runs at once", "BIDDER_BATCH"},
			breaks: "INSERT INTO runs (kind, updated_at) SELECT 'run', now() + interval '1 second' FROM generate_series(1, 40)", mends: "DELETE FROM runs",
		},
		{
			name: "a killed run", code: 0, check: "killed runs", level: "note", says: []string{"1 runs", "memory"},
			breaks: "INSERT INTO runs (kind, started_at, updated_at) VALUES ('run', now() - interval '1 hour', now() - interval '1 hour')", mends: "DELETE FROM runs",
		},
		{
			name: "nobody delivers", code: 0, check: "owed deliveries", level: "warning", says: []string{"1 bids owe", "1h0m", "bidder run"},
			breaks: "INSERT INTO bids (marketplace, job_id, amount_cents, delivery_kind, delivery_state, next_attempt_at) VALUES ('upwork', '1', 1, 'place', 'pending', now() - interval '1 hour')",
			mends:  "UPDATE bids SET status = 'LOST', delivery_kind = NULL, delivery_state = NULL, next_attempt_at = NULL",
		},
		{
			name: "a person is waited for", code: 0, check: "for a person", level: "note", says: []string{"1 await approval", "bidder review list"},
			breaks: "INSERT INTO bids (marketplace, job_id, amount_cents, delivery_kind, delivery_state) VALUES ('upwork', '2', 1, 'place', 'awaiting_approval')",
			mends:  "UPDATE bids SET status = 'LOST', delivery_kind = NULL, delivery_state = NULL WHERE status = 'ACTIVE'",
		},
		{
			name: "and does not come", code: 0, check: "for a person", level: "warning", says: []string{"1 bids are in review, the oldest for 48h"},
			breaks: "INSERT INTO bids (marketplace, job_id, amount_cents, delivery_kind, delivery_state, review_since, review_reason) VALUES ('upwork', '3', 1, 'place', 'review', now() - interval '2 days', 'no_api')",
			mends:  "UPDATE bids SET status = 'LOST', delivery_kind = NULL, delivery_state = NULL, review_since = NULL, review_reason = NULL WHERE status = 'ACTIVE'",
		},
		{
			name: "paused", code: 0, check: "paused", level: "warning", says: []string{"upwork by ann", "storm", "bidder resume"},
			breaks: "INSERT INTO accounts (marketplace, account, paused_at, paused_reason, paused_by) VALUES ('upwork', '*', now(), 'storm', 'ann')",
			mends:  "DELETE FROM accounts",
		},
		{
			name: "parked candidates", code: 0, check: "parked candidates", level: "warning", says: []string{"upwork stuck", "bidder why"},
			breaks: "INSERT INTO candidates (marketplace, job_id, cached_at, not_before, tries) VALUES ('upwork', 'stuck', now(), 'infinity', 8)",
			mends:  "DELETE FROM candidates",
		},
		{
			name: "not migrated", code: 4, check: "schema", level: "error", says: []string{"bidder migrate up"},
			breaks: "UPDATE schema_migrations SET version = version - 1",
			mends:  "UPDATE schema_migrations SET version = version + 1",
		},
		{
			name: "dirty", code: 4, check: "schema", level: "error", says: []string{"bidder migrate"},
			breaks: "UPDATE schema_migrations SET dirty = true",
			mends:  "UPDATE schema_migrations SET dirty = false",
		},
		{
			name: "a check takes too long", code: 4, check: "database", level: "error", says: []string{"57014", "the checks after this one are missing"},
			breaks: "ALTER TABLE candidates RENAME TO c; CREATE VIEW candidates AS SELECT c.* FROM c, pg_sleep(60); ALTER DATABASE postgres SET statement_timeout = '2s'",
			mends:  "DROP VIEW candidates; ALTER TABLE c RENAME TO candidates; ALTER DATABASE postgres RESET statement_timeout",
		},
		{
			name: "no durability", code: 0, check: "synchronous_commit", level: "warning", says: []string{"synchronous_commit"},
			breaks: "ALTER DATABASE postgres SET synchronous_commit = off",
			mends:  "ALTER DATABASE postgres RESET synchronous_commit",
		},
	}
	for _, tt := range tests {
		f.exec(tt.breaks)
		report := decode[doctorReport](t, doctor(address).want(t, tt.code))
		level, text := report.level(tt.check)
		if strings.Contains(text, "…") {
			t.Errorf("%s: it is cut: %s", tt.name, text)
		}
		if level != tt.level || report.OK != (tt.code == 0) {
			t.Errorf("%s: %+v", tt.name, report)
		}
		for _, said := range tt.says {
			if !strings.Contains(text, said) {
				t.Errorf("%s: it is not said that %q: %s", tt.name, said, text)
			}
		}
		f.exec(tt.mends)
		healthy()
	}

	// Settings of the program that do not fit the server.
	report := decode[doctorReport](t, doctor(address, "BIDDER_BATCH=1000", "BIDDER_WORKERS=100", "BIDDER_MAX_CONNS=1000").want(t, 0))
	for check, said := range map[string]string{"lock slots": "BIDDER_BATCH", "connections": "BIDDER_MAX_CONNS"} {
		if level, text := report.level(check); level != "warning" || !strings.Contains(text, said) {
			t.Errorf("%s: %s: %s", check, level, text)
		}
	}
	table := call{args: []string{"doctor"}, env: []string{"DATABASE_URL=" + address}}.run(t).want(t, 0).stdout
	if !strings.Contains(table, "lock slots") || !strings.Contains(table, "superuser") {
		t.Errorf("the table:\n%s", table)
	}
}

// TestDoctorRights: a role that lacks a right, has one too many, or few connections.
func TestDoctorRights(t *testing.T) {
	t.Parallel()
	address, pool := ownServer(t, "fsync=on", "full_page_writes=on", "synchronous_commit=on")
	f := &fixture{t: t, pool: pool}
	doctor := func(url string) result {
		return call{args: []string{"doctor", "-o", "json"}, env: []string{"DATABASE_URL=" + url, "BIDDER_CONSOLE_TOKEN=" + goodToken}}.run(t)
	}
	var report doctorReport
	f.exec("CREATE ROLE worker LOGIN; CREATE ROLE reader LOGIN")
	f.exec(call{args: []string{"grants", "--worker", "worker", "--reader", "reader"}}.run(t).want(t, 0).stdout)
	asWorker, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	asWorker.User = url.User("worker")
	report = decode[doctorReport](t, doctor(asWorker.String()).want(t, 0))
	for _, c := range report.Checks {
		if c.Level != "ok" {
			t.Errorf("as a worker %s: %s: %s", c.Name, c.Level, c.Message)
		}
	}
	f.exec("REVOKE INSERT ON bids FROM worker")
	report = decode[doctorReport](t, doctor(asWorker.String()).want(t, 3))
	if level, text := report.level("rights"); level != "error" || !strings.Contains(text, "INSERT on bids") || !strings.Contains(text, "bidder grants") {
		t.Errorf("rights: %s: %s", level, text)
	}
	f.exec("GRANT INSERT, DELETE ON bids TO worker")
	report = decode[doctorReport](t, doctor(asWorker.String()).want(t, 0))
	if level, text := report.level("role"); level != "warning" || !strings.Contains(text, "DELETE on bids") {
		t.Errorf("too many rights: %s: %s", level, text)
	}
	f.exec("REVOKE SELECT ON schema_migrations FROM worker")
	report = decode[doctorReport](t, doctor(asWorker.String()).want(t, 4))
	if level, text := report.level("schema"); level != "error" || !strings.Contains(text, "bidder grants") || strings.Contains(text, "migrate up") {
		t.Errorf("no right to read the version: %s: %s", level, text)
	}
	f.exec("GRANT SELECT ON schema_migrations TO worker; ALTER ROLE worker CONNECTION LIMIT 3")
	report = decode[doctorReport](t, doctor(asWorker.String()).want(t, 0))
	if level, text := report.level("connections"); level != "warning" || !strings.Contains(text, "the role's limit 3") {
		t.Errorf("few connections: %s: %s", level, text)
	}
}

// goodToken cannot be guessed.
const goodToken = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"

// TestDoctorServer: settings of the server that are wrong, or too small.
func TestDoctorServer(t *testing.T) {
	t.Parallel()
	address, _ := ownServer(t, "fsync=off", "full_page_writes=off", "synchronous_commit=off", "autovacuum=off", "max_locks_per_transaction=10", "max_connections=12")
	r := call{args: []string{"doctor", "-o", "json"}, env: []string{"DATABASE_URL=" + address, "BIDDER_MAX_CONNS=10"}}.run(t).want(t, 3)
	report := decode[doctorReport](t, r)
	for name, want := range map[string]struct{ level, says string }{
		"fsync": {"error", "fsync = on"}, "full_page_writes": {"warning", "full_page_writes = on"}, "synchronous_commit": {"warning", "set it to on"},
		"autovacuum": {"warning", "autovacuum = on"}, "lock slots": {"warning", "lower BIDDER_BATCH to 15"}, "connections": {"warning", "9 may be used"},
		"pooler": {"ok", "none"}, "time zone": {"ok", "UTC"}, "clock": {"ok", ""}, "standbys": {"ok", "0 standbys"},
	} {
		if level, text := report.level(name); level != want.level || !strings.Contains(text, want.says) {
			t.Errorf("%s: %s: %s; want %s with %q", name, level, text, want.level, want.says)
		}
	}
}

// TestDoctorBloat: what vacuum has left is found.
func TestDoctorBloat(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.exec("ALTER TABLE candidates SET (autovacuum_enabled = false)")
	f.exec("INSERT INTO candidates (marketplace, job_id, cached_at) SELECT 'upwork', n, now() FROM generate_series(1, 12000) AS n")
	f.exec("DELETE FROM candidates")
	f.await("the server has counted", "coalesce((SELECT n_dead_tup >= 10000 FROM pg_stat_user_tables WHERE relname = 'candidates'), false)")
	report := decode[doctorReport](t, f.bidder("doctor", "-o", "json"))
	if level, text := report.level("bloat"); level != "warning" || !strings.Contains(text, "candidates has 12000 dead rows") || !strings.Contains(text, "VACUUM (ANALYZE) candidates") {
		t.Errorf("%s: %s", level, text)
	}
}

// TestDoctorPooler: PgBouncer in between is found, and its mode.
func TestDoctorPooler(t *testing.T) {
	t.Parallel()
	f := setup(t, testdb.WithPgBouncer())
	doctor := func(url string) (level, text string) {
		r := call{args: []string{"doctor", "-o", "json"}, env: []string{"DATABASE_URL=" + url}}.run(t)
		return decode[doctorReport](t, r).level("pooler")
	}
	if level, text := doctor(parameter(t, f.URL, "default_query_exec_mode", "exec")); level != "note" || !strings.Contains(text, "transaction mode") || !strings.Contains(text, "bidder migrate") {
		t.Errorf("behind PgBouncer: %s: %s", level, text)
	}
	if level, text := doctor(f.DirectURL); level != "ok" {
		t.Errorf("straight to the server: %s: %s", level, text)
	}
}

// TestDoctorMarketplaces: whether they answer, and know who asks.
func TestDoctorMarketplaces(t *testing.T) {
	t.Parallel()
	f := setup(t)
	_, url := serve(t, sandbox.FreelancerRules{})
	bridge := func(name, at, secret string) []string {
		return []string{
			"  " + name + ":", "    handler: bridge", "    base_url: " + at, "    allow_private_networks: true", "    signing_secrets_env: [" + secret + "]", "    timeout: 5s",
			"    place: {path: /bids}", "    lookup: {path: '/bids/by-key/{idempotency_key}'}", "    withdraw: {path: '/bids/{external_bid_id}/withdraw'}",
		}
	}
	lines := slices.Concat(
		[]string{"marketplaces:", "  hand: {handler: manual}", "  off: {handler: none}"},
		[]string{"  up:", "    handler: sandbox", "    base_url: " + url, "    allow_private_networks: true"},
		bridge("known", url+"/known", "GOOD"), bridge("stranger", url+"/stranger", "BAD"), bridge("down", "http://127.0.0.1:1", "GOOD"),
		[]string{
			"  freelancer:", "    handler: freelancer", "    base_url: " + url + sandbox.FreelancerAPI, "    allow_private_networks: true", "    token_env: TOKEN",
			"  expired:", "    handler: freelancer", "    base_url: " + url + sandbox.FreelancerAPI, "    allow_private_networks: true", "    token_env: OLD_TOKEN",
		},
	)
	secret := func(key string) string { return "whsec_" + base64.StdEncoding.EncodeToString([]byte(key)) }
	env := []string{
		"BIDDER_CONFIG=" + file(t, "bidder.yaml", lines...), "GOOD=" + secret(sandbox.Secret().Reveal()), "BAD=" + secret(strings.Repeat("x", 32)),
		"TOKEN=" + sandbox.FreelancerToken, "OLD_TOKEN=expired-token-of-somebody",
	}
	f.bidder("pause", "freelancer").want(t, 0)
	look := func(env []string, args ...string) doctorReport {
		t.Helper()
		return decode[doctorReport](t, f.call(append([]string{"doctor", "-o", "json"}, args...)...).with(env...).run(t).want(t, 3))
	}
	want := func(report doctorReport, name, level, says string) {
		t.Helper()
		if got, text := report.level(name); got != level || !strings.Contains(text, says) {
			t.Errorf("%s: %s: %s; want %s with %q", name, got, text, level, says)
		}
	}
	report := look(env)
	want(report, "marketplace hand", "ok", "by hand")
	want(report, "marketplace off", "ok", "switched off")
	want(report, "marketplace up", "ok", "answers")
	want(report, "marketplace known", "ok", "answers")
	want(report, "marketplace stranger", "error", "signing_secrets_env")
	want(report, "marketplace down", "error", "base_url")
	want(report, "marketplace freelancer", "note", "paused")
	want(report, "marketplace expired", "error", "TOKEN")
	f.bidder("resume").want(t, 0)
	want(look(env), "marketplace freelancer", "ok", "signed in")
	want(look(env, "--dry-run"), "marketplace known", "note", "dry run")
	f.wantCount(0, "bids")

	missing := look(env[:1])
	want(missing, "secrets", "error", "GOOD")
	if report, _ := missing.level("marketplace known"); report != "missing" {
		t.Error("a marketplace was asked without its secret")
	}
}

// TestDoctorInstallation: how this process is set up.
func TestDoctorInstallation(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for _, tt := range []struct{ token, level, says string }{
		{"", "note", "openssl"},
		{"short", "warning", "could be guessed"},
		{strings.Repeat("ab", 20), "warning", "could be guessed"},
		{goodToken, "ok", ""},
	} {
		report := decode[doctorReport](t, f.call("doctor", "-o", "json").with("BIDDER_CONSOLE_TOKEN="+tt.token).run(t))
		if level, text := report.level("console token"); level != tt.level || !strings.Contains(text, tt.says) {
			t.Errorf("token %q: %s: %s", tt.token, level, text)
		}
	}
}
