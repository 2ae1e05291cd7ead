package browser

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/chromedp/chromedp"
)

// TestScreenshots takes a picture of every page, for people to look at, and looks at what a
// program can see of them: nothing is wider than the window.
func TestScreenshots(t *testing.T) {
	t.Parallel()
	w := setup(t)
	review, live, _ := w.everyday()
	dir := os.Getenv("BIDDER_TEST_SCREENSHOTS")
	if dir == "" {
		dir = t.ArtifactDir()
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	lock, err := w.SQL.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lock.Rollback(t.Context()) }()
	if _, err := lock.Exec(t.Context(), "SELECT pg_advisory_xact_lock(bid_lock_key('upwork', 'due-1')), pg_advisory_xact_lock(4711)"); err != nil {
		t.Fatal(err)
	}
	visitor, ops := w.visitor(), w.signedIn("Mara Ilić", token)
	for _, shot := range []struct {
		name, path string
		by         *person
		prepare    string
	}{
		{"sign-in", "/", visitor, ""},
		{"now", "/", ops, ""},
		{"bids", "/bids", ops, ""},
		{"bids-none", "/bids?q=nothing+like+this", ops, ""},
		{"bid", "/bids/" + review.String(), ops, ""},
		{"bid-resolve", "/bids/" + review.String(), ops, "document.querySelectorAll('details').forEach(d => d.open = true)"},
		{"bid-live", "/bids/" + live.String(), ops, ""},
		{"review", "/review", ops, ""},
		{"posting", "/postings/upwork/~01f00d", ops, ""},
		{"locks", "/locks", ops, ""},
		{"missing", "/bids/none", ops, ""},
	} {
		for _, width := range []int64{360, 800, 1400} {
			for _, colours := range []string{"light", "dark"} {
				shot.by.looks(width, colours)
				shot.by.open(shot.path)
				if shot.prepare != "" {
					shot.by.do(chromedp.Evaluate[chromedp.Void](shot.prepare))
				}
				if wide := js[int64](shot.by, "document.documentElement.scrollWidth"); wide > width {
					t.Errorf("%s is %d pixels wide in a window of %d", shot.name, wide, width)
				}
				picture := get(shot.by, chromedp.FullScreenshot(100))
				if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%s-%d-%s.png", shot.name, width, colours)), picture, 0o644); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}
