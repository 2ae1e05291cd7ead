package main

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rivo/uniseg"

	"github.com/arbitrageai/bidder/pkg/terminal"
	"github.com/arbitrageai/bidder/test/testdb"
)

var update = flag.Bool("update", false, "write the golden files")

func TestMain(m *testing.M) { testdb.Main(m) }

// now is the time of these tests.
var now = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

// hostile has what a posting may do to a terminal.
const hostile = "Build \x1b[31mthis\x1b[0m \x1b]8;;http://evil.example\x07link\x1b]8;;\x07 \u202Egpj.exe\u202C pay\u200Bpal \U000E0041 a\u2028b " +
	"Z\u0301\u0301\u0301\u0301\u0301\u0301\u0301\u0301algo データベース移行 👩‍💻 and so on, for longer than any line is"

// called is what a call of the program prints and returns.
type called struct {
	stdout, stderr string
	code           int
}

// call runs the program in this process, at the time of these tests.
func call(t *testing.T, environ []string, args ...string) called {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), &app{
		args: args, environ: append([]string{"BIDDER_LOG_LEVEL=error"}, environ...), stdin: strings.NewReader(""), stdout: &stdout, stderr: &stderr,
		clock: func() time.Time { return now },
	})
	return called{stdout.String(), stderr.String(), code}
}

// screens are the widths that golden files show; 0 is a pipe.
var screens = []int{80, 160, 0}

// golden compares what is printed on each screen with its file, and checks what is true of
// everything that is printed.
func golden(t *testing.T, name string, show func(environ ...string) string) {
	t.Helper()
	var all strings.Builder
	for _, columns := range screens {
		what, environ := "a pipe", []string(nil)
		if columns > 0 {
			what, environ = strconv.Itoa(columns)+" columns", []string{"COLUMNS=" + strconv.Itoa(columns)}
		}
		text := show(environ...)
		all.WriteString("== " + what + "\n" + text + "\n")
		for line := range strings.Lines(text) {
			line = strings.TrimSuffix(line, "\n")
			if width := uniseg.StringWidth(line); columns > 0 && width > columns {
				t.Errorf("%s: a line of %d columns on %d: %s", name, width, columns, line)
			}
			if strings.ContainsAny(line, "\x00\x07\x1b\u009b\u200b\u202c\u202e\u2028\U000E0041") {
				t.Errorf("%s: it is not harmless: %q", name, line)
			}
		}
		colored := show(append(environ, "CLICOLOR_FORCE=1")...)
		if plain := regexp.MustCompile(`\x1b\[[0-9;]*m`).ReplaceAllString(colored, ""); plain != text {
			t.Errorf("%s: colours change more than colours:\n%s", name, cmp.Diff(text, plain))
		}
		if without := show(append(environ, "CLICOLOR_FORCE=1", "NO_COLOR=1")...); without != text {
			t.Errorf("%s: NO_COLOR is not obeyed:\n%q", name, without)
		}
	}
	path := filepath.Join("testdata", name+".txt")
	if *update {
		if err := os.WriteFile(path, []byte(all.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), all.String()); diff != "" {
		t.Errorf("%s (-want +got; -update accepts it):\n%s", name, diff)
	}
}

// TestCommandsOnScreens calls commands on a database with fixed ids and times.
func TestCommandsOnScreens(t *testing.T) {
	t.Parallel()
	d := testdb.New(t)
	seed, err := os.ReadFile("testdata/seed.sql")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Pool(t).Exec(t.Context(), strings.ReplaceAll(string(seed), ":hostile", "$h$"+hostile+"$h$")); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		args []string
		code int
	}{
		{"bids", []string{"bids"}, 0},
		{"bids-show", []string{"bids", "show", "01a20000-0000-7000-8000-000000000001"}, 0},
		{"bids-show-duplicate", []string{"bids", "show", "01a20000-0000-7000-8000-000000000005"}, 0},
		{"review-list", []string{"review", "list"}, 0},
		{"review-show", []string{"review", "show", "01a20000-0000-7000-8000-000000000003"}, 0},
		{"review-show-approval", []string{"review", "show", "01a20000-0000-7000-8000-000000000004"}, 0},
		{"why", []string{"why", "upwork", "~01ab\u200bc"}, 0},
		{"stats", []string{"stats"}, 0},
		{"pause", []string{"pause", "--dry-run", "guru"}, 0},
		{"bid", []string{"bid", "upwork", "~01abc", "--dry-run"}, 3},
		{"withdraw", []string{"withdraw", "01a20000-0000-7000-8000-000000000002", "--reason", "x", "--dry-run"}, 0},
		{"ingest", []string{"ingest", "--dry-run", "--cached-at", "now", "testdata/postings.ndjson"}, 3},
		{"run", []string{"run", "--dry-run", "--cached-at", "now", "--postings", "testdata/postings.ndjson"}, 3},
		{"policy-test", []string{"policy", "test", "--config", "testdata/policy.yaml", "--cached-at", "now", "testdata/postings.ndjson"}, 3},
		{"key", []string{"key", "upwork", "~01ab\u200bc"}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			show := func(args []string) func(environ ...string) string {
				return func(environ ...string) string {
					c := call(t, append(environ, "DATABASE_URL="+d.URL), args...)
					if c.code != tt.code {
						t.Fatalf("%q: exit code %d: %s", args, c.code, c.stderr)
					}
					return c.stdout
				}
			}
			golden(t, tt.name, show(tt.args))
			inJSON := show(append(tt.args, "-o", "json"))
			wants := timesAndDurations.ReplaceAllString(inJSON(), "")
			if got := timesAndDurations.ReplaceAllString(inJSON("COLUMNS=20", "CLICOLOR_FORCE=1"), ""); got != wants {
				t.Errorf("JSON depends on the screen:\n%s", cmp.Diff(wants, got))
			}
		})
	}
}

// timesAndDurations of dry runs are those of the test.
var timesAndDurations = regexp.MustCompile(`"(started|finished)_at": .*`)

// TestReportsOnScreens prints what depends on servers and marketplaces.
func TestReportsOnScreens(t *testing.T) {
	t.Parallel()
	on := func(show func(a *app)) func(environ ...string) string {
		return func(environ ...string) string {
			var out bytes.Buffer
			a := &app{stdout: &out, screen: terminal.NewScreen(&out, environ), clock: func() time.Time { return now }}
			show(a)
			return out.String()
		}
	}
	text := func(s string) *string { return &s }
	golden(t, "doctor", on(func(a *app) {
		a.printChecks([]check{
			{Name: "connection", Level: levelOK, Message: "PostgreSQL 17.2 as bidder_worker"},
			{
				Name: "caps", Level: levelWarning, Fix: text("postings that meet a cap wait in the queue; after raising it, `bidder run --reconsider` takes them at once"),
				Message: "upwork bids_per_day: 40 of 40 (resets 2026-11-26 00:00:00Z); upwork money_per_day: 4800.00 USD of 5000.00 USD (resets 2026-11-26 00:00:00Z)",
			},
			{Name: "paused", Level: levelError, Message: "1 accounts are paused upwork (" + hostile + ")", Fix: text("`bidder resume MARKETPLACE` when the reason is gone")},
		})
	}))
	golden(t, "locks", on(func(a *app) {
		a.printLocks([]lockJSON{
			{"upwork", "~01\u00a0ae\u0301\u200bc", 4711, "bidder run", now.Add(-3 * time.Second)},
			{"upwork", strings.Repeat("0123456789", 12), 4712, "psql of \x1b[31mann", now.Add(-2 * time.Hour)},
		})
	}))
	golden(t, "freelancer-status", on(func(a *app) {
		id, expires := int64(84120077), now.Add(36*time.Hour)
		a.printFreelancer(freelancerStatus{
			Marketplace: "freelancer", Host: "www.freelancer-sandbox.com", SignedIn: true, UserID: &id, Username: text("quiet\u202eforge"), Token: "oauth",
			ExpiresAt: &expires, UnansweredAt: &now,
		})
		a.printFreelancer(freelancerStatus{Marketplace: "freelancer", Host: "www.freelancer-sandbox.com", Token: "personal"})
	}))
}
