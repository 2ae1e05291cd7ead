package e2e

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/pkg/localpg"
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

// TestDoctor breaks a good installation in one way after the other, and mends it again.
func TestDoctor(t *testing.T) {
	t.Parallel()
	// The server of the other tests is not durable, which doctor rightly finds wrong.
	server, err := localpg.StartTemporary(t.Context(), "fsync=on", "full_page_writes=on", "synchronous_commit=on")
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
	address := server.DSN("postgres")
	if err := db.MigrateUp(t.Context(), address); err != nil {
		t.Fatal(err)
	}
	pool, err := pgxpool.New(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	f := &fixture{t: t, pool: pool}
	doctor := func(url string, env ...string) result {
		return call{args: []string{"doctor", "-o", "json"}, env: append(env, "DATABASE_URL="+url)}.run(t)
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
			name: "no durability", code: 0, check: "synchronous_commit", level: "warning", says: []string{"synchronous_commit"},
			breaks: "ALTER DATABASE postgres SET synchronous_commit = off",
			mends:  "ALTER DATABASE postgres RESET synchronous_commit",
		},
	}
	for _, tt := range tests {
		f.exec(tt.breaks)
		report := decode[doctorReport](t, doctor(address).want(t, tt.code))
		level, text := report.level(tt.check)
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

	// A role that lacks a right.
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
		t.Errorf("rights: %s: %s", level, fmt.Sprint(text))
	}
}
