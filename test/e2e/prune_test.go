package e2e

import (
	"strings"
	"testing"
	"time"
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
