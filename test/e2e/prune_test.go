package e2e

import (
	"context"
	"crypto/rand"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/arbitrageai/bidder/db"
)

type pruneReport struct {
	OlderThan string `json:"older_than"`
	Before    time.Time
	DryRun    bool `json:"dry_run"`
	Removed   map[string]int
}

// TestPrune: history goes, the posting stays closed, and no counter changes.
func TestPrune(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ids := f.claim("1", "2")
	f.bidder("withdraw", ids[0], "--reason", "a mistake").want(t, 0)
	f.exec("UPDATE runs SET started_at = started_at - interval '100 days', updated_at = updated_at - interval '100 days'")
	f.exec("ALTER TABLE bids DISABLE TRIGGER USER")
	f.exec(`UPDATE bids SET created_at = created_at - interval '100 days', updated_at = updated_at - interval '100 days',
		withdrawal_timestamp = withdrawal_timestamp - interval '100 days'`)
	f.exec("ALTER TABLE bids ENABLE TRIGGER USER")
	f.exec("UPDATE postings SET cached_at = cached_at - interval '100 days', updated_at = updated_at - interval '100 days'")
	f.ingest(line("1"))
	again := decode[bidReport](t, f.bidder("bid", "upwork", "1", "-o", "json").want(t, 0)) // a newer bid on it
	f.bidder("withdraw", orNone(again.BidID), "--reason", "again").want(t, 0)
	f.exec("UPDATE postings SET cached_at = cached_at - interval '100 days', updated_at = updated_at - interval '100 days' WHERE job_id = '1'")

	before := f.bidder("stats", "-o", "json").want(t, 0).stdout
	want := map[string]int{"bids": 1, "postings": 1, "runs": 3, "callbacks": 0, "spending": 0}
	check := func(r result, dryRun bool) {
		t.Helper()
		got := decode[pruneReport](t, r.want(t, 0))
		if got.DryRun != dryRun || got.OlderThan != "2160h" || got.Before.IsZero() {
			t.Errorf("got %+v", got)
		}
		for of, n := range want {
			if got.Removed[of] != n {
				t.Errorf("removed %d of %s, want %d", got.Removed[of], of, n)
			}
		}
	}
	f.untouched(func() { check(f.bidder("prune", "--older-than", "90d", "--dry-run", "-o", "json"), true) })
	check(f.bidder("prune", "--older-than", "90d", "-o", "json"), false)
	f.wantCount(0, "bids WHERE id = $1", ids[0])
	f.wantCount(0, "bid_events WHERE bid_id = $1", ids[0])
	f.wantCount(2, "bids")
	if after := f.bidder("stats", "-o", "json").want(t, 0).stdout; after != before {
		t.Errorf("stats before: %s\nafter: %s", before, after)
	}
	f.ingest(line("1"))
	if report := decode[runReport](t, f.bidder("run", "--no-delivery", "-o", "json").want(t, 0)); report.Outcomes["closed"] != 1 || report.Outcomes["claimed"] != 0 {
		t.Errorf("a pruned posting came to %v", report.Outcomes)
	}

	short := f.bidder("prune", "--older-than", "1s").want(t, 0)
	if !strings.Contains(short.stderr, "26h") || !strings.Contains(short.stdout, "postings") {
		t.Errorf("stdout:\n%s\nstderr:\n%s", short.stdout, short.stderr)
	}
	f.wantCount(2, "bids")
	for _, wrong := range [][]string{{"prune"}, {"prune", "--older-than", "90"}, {"prune", "--older-than", "0"}, {"prune", "--older-than=-1h"}, {"prune", "--older-than", "90d", "x"}} {
		f.bidder(wrong...).wantError(t, 2)
	}
}

// TestPrunerRole: a worker's role cannot prune, and the pruner's can do nothing else.
func TestPrunerRole(t *testing.T) {
	t.Parallel()
	f := setup(t)
	suffix := strings.ToLower(rand.Text()[:10])
	worker, reader, pruner := "w-"+suffix, "r-"+suffix, "p-"+suffix
	asWorker, _, asPruner := f.role(worker), f.role(reader), f.role(pruner)
	f.exec(f.bidder("grants", "--worker", worker, "--reader", reader, "--pruner", pruner).want(t, 0).stdout)
	f.exec("INSERT INTO bids (marketplace, job_id, status, created_at, updated_at) SELECT 'upwork', n, 'DUPLICATE', now() - interval '99 days', now() - interval '99 days' FROM generate_series(1, 3) AS n")
	f.exec("INSERT INTO bid_events (bid_id, actor) SELECT id, 'x' FROM bids")
	f.exec("INSERT INTO runs (kind, started_at, updated_at) VALUES ('run', now() - interval '99 days', now() - interval '99 days')")
	f.exec("INSERT INTO bids (marketplace, job_id, amount_cents) VALUES ('upwork', 'live', 1)")
	prune := call{args: []string{"prune", "--older-than", "90d", "-o", "json"}}
	if r := prune.with("DATABASE_URL="+asWorker).run(t).want(t, 4); !strings.Contains(r.stderr, "--pruner") {
		t.Errorf("it is not said which role may: %s", r.stderr)
	}
	f.wantCount(4, "bids")
	f.wantCount(1, "runs")
	report := decode[pruneReport](t, prune.with("DATABASE_URL="+asPruner).run(t).want(t, 0))
	if report.Removed["bids"] != 3 || report.Removed["runs"] != 1 {
		t.Errorf("removed %v", report.Removed)
	}
	f.wantCount(1, "bids")
	f.wantCount(0, "bid_events")
	refused(
		t, asPruner, "UPDATE bids SET status = 'LOST'", "INSERT INTO bids (marketplace, job_id, amount_cents) VALUES ('upwork', 'x', 1)", "TRUNCATE bids",
		"ALTER TABLE bids DISABLE TRIGGER ALL", "DELETE FROM bid_events", "DELETE FROM candidates", "DELETE FROM run_totals", "UPDATE postings SET title = 'x'", "SELECT FROM tokens",
		"UPDATE runs SET kind = 'bid'",
	)
	conn, err := pgx.Connect(t.Context(), asPruner)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	if _, err := conn.Exec(t.Context(), "DELETE FROM bids"); db.Constraint(err) != "bids_live_undeletable" {
		t.Errorf("a pruner can delete a live bid: %v", err)
	}
}

// TestUpgradeBesideOldPods: a program that is older than the schema does nothing, and goes on
// when the schema fits again.
func TestUpgradeBesideOldPods(t *testing.T) {
	t.Parallel()
	f := setup(t)
	p := f.start("run", "--every", "50ms", "--no-delivery", "-o", "json")
	f.await("it runs", "count(*) > 0 FROM runs WHERE finished_at IS NOT NULL")
	f.exec("UPDATE schema_migrations SET version = version + 1")
	f.await("no run is under way", "NOT EXISTS (SELECT FROM runs WHERE finished_at IS NULL)")
	f.bidder("run").wantError(t, 4, "newer")
	eventually(t, "it asks, and does nothing", func() bool { return strings.Contains(p.stderr.String(), "newer than this program") })
	f.exec("UPDATE schema_migrations SET version = version - 1")
	f.ingest(line("2"))
	f.await("it goes on", "EXISTS (SELECT FROM bids WHERE job_id = '2')")
	p.signal(syscall.SIGTERM)
	p.wait().want(t, 143)
}
