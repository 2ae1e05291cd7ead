package e2e

import (
	"os"
	"path/filepath"
	"testing"
)

// TestRejectsAreNotTheInput: a slip of the hand must not empty the file that is read.
func TestRejectsAreNotTheInput(t *testing.T) {
	t.Parallel()
	f := setup(t)
	name := filepath.Join(t.TempDir(), "postings.ndjson")
	content := line("1") + "\n"
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"ingest", name, "--rejects", name}, {"run", "--postings", name, "--rejects", name}} {
		f.bidder(args...).wantError(t, 2, "--rejects")
	}
	if got, err := os.ReadFile(name); err != nil || string(got) != content {
		t.Errorf("the input is now %q, %v", got, err)
	}
	f.wantCount(0, "postings")
}

// TestFullDisk: a report that cannot be written is an error, whatever its form.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	f := setup(t)
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("this system has no /dev/full")
	}
	t.Cleanup(func() { _ = full.Close() })
	for _, args := range [][]string{{"run"}, {"bids"}, {"stats"}, {"stats", "-o", "json"}, {"config", "check"}} {
		c := f.call(args...)
		c.output = full
		c.run(t).want(t, 1)
	}
}

// TestBridgeCheckIsNoDryRun: it places bids, so it refuses to be simulated.
func TestBridgeCheckIsNoDryRun(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.bidder("bridge", "check", "http://127.0.0.1:1/upwork", "--dry-run").wantError(t, 2, "cannot be simulated")
}

// TestStatsCountClaimsOfKilledRuns: what a killed run claimed is counted, though it could not.
func TestStatsCountClaimsOfKilledRuns(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.ingest(line("1"), line("2"), line("3"))
	f.bidder("run").want(t, 0)
	f.exec("UPDATE runs SET finished_at = NULL, exit_code = NULL, counters = jsonb_set(counters, '{outcomes,claimed}', '1')")
	got := decode[statsReport](t, f.bidder("stats", "-o", "json", "--since", "1d").want(t, 0))
	if got.Outcomes["claimed"] != 3 {
		t.Errorf("claimed: %d, want 3", got.Outcomes["claimed"])
	}
}
