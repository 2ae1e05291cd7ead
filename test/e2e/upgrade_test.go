package e2e

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/pkg/marketplace/sandbox"
)

// previousProgram builds the program as it is without its last migration, as the release
// before knew the schema. That holds as long as passes do not need that migration.
func previousProgram(t *testing.T) string {
	t.Helper()
	directory, err := filepath.Abs("../../db/migrations")
	if err != nil {
		t.Fatal(err)
	}
	names, err := filepath.Glob(filepath.Join(directory, "*.sql"))
	if err != nil || len(names) < 4 {
		t.Fatalf("migrations: %v, %v", names, err)
	}
	removed := map[string]string{}
	for _, name := range names[len(names)-2:] { // down and up
		removed[name] = ""
	}
	overlay, err := json.Marshal(map[string]any{"Replace": removed})
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), "bidder-before")
	list := file(t, "overlay.json", string(overlay))
	if output, err := exec.CommandContext(t.Context(), "go", "build", "-overlay", list, "-o", program, "../../cmd/bidder").CombinedOutput(); err != nil {
		t.Fatalf("build the release before: %v: %s", err, output)
	}
	return program
}

// TestRollingUpgrade: pods of the release before and of this one, side by side over a migration,
// with work going on. Before it the new ones wait, after it the old ones, and nothing is bid on twice.
func TestRollingUpgrade(t *testing.T) {
	t.Parallel()
	m := setupMarket(t, patient())
	before := previousProgram(t)
	old := func(args ...string) call {
		c := m.call(args...)
		c.program = before
		return c
	}
	direct := "DATABASE_URL=" + m.DirectURL
	m.call("migrate", "down", "--yes").with(direct).run(t).want(t, 0)
	m.bidder("run").wantError(t, 4, "bidder migrate up") // this release came first: it touches nothing

	postings, jobIDs := lines(240)
	feed := func(c call, lines []string) {
		t.Helper()
		c.reading(lines...).run(t).want(t, 0)
	}
	feed(old("ingest", "--cached-at", "now", "-"), postings[:120])
	var pods []*process
	for _, start := range []func(...string) call{old, old, m.call, m.call} {
		pods = append(pods, start("run", "--every", "20ms", "--batch", "4").start(t))
	}
	m.await("the old pods bid", "(SELECT count(*) FROM bids) > 20")
	feed(old("ingest", "--cached-at", "now", "-"), postings[120:180])
	m.call("migrate", "up").with(direct).run(t).want(t, 0)
	old("run").run(t).wantError(t, 4, "newer than this program")
	feed(m.call("ingest", "--cached-at", "now", "-"), postings[180:])
	m.await("all is bid on and sent", "(SELECT count(*) FROM bids WHERE status = 'ACTIVE' AND submitted_at IS NOT NULL) = $1", len(jobIDs))
	for _, pod := range pods {
		pod.signal(syscall.SIGTERM)
	}
	for _, pod := range pods {
		pod.wait().want(t, 143)
	}
	m.wantAgreement()
	m.wantLive(len(jobIDs))
	m.wantCount(len(jobIDs), "bids")
	m.wantCalls(sandbox.Place, len(jobIDs))
	if got, want := read[int](m.fixture, "SELECT version FROM schema_migrations"), int(db.LatestVersion()); got != want {
		t.Errorf("the schema is at %d, want %d", got, want)
	}
}
