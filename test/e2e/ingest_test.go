package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// seen is a member for a posting that was seen so long ago.
func seen(ago time.Duration) string {
	return fmt.Sprintf(`,"cached_at":%q`, time.Now().Add(-ago).UTC().Format(time.RFC3339Nano))
}

// TestRejects has one line for each thing that can be wrong with a line, and nothing else.
func TestRejects(t *testing.T) {
	t.Parallel()
	now := seen(time.Minute)
	object := func(members string) string { return "{" + members + now + "}" }
	tests := []struct{ name, line, code string }{
		{"no marketplace", object(`"job_id":"1","title":"x"`), "missing_field"},
		{"no job_id", object(`"marketplace":"upwork","title":"x"`), "missing_field"},
		{"null job_id", object(`"marketplace":"upwork","job_id":null,"title":"x"`), "missing_field"},
		{"no title", object(`"marketplace":"upwork","job_id":"1"`), "missing_field"},
		{"blank title", object(`"marketplace":"upwork","job_id":"1","title":"  "`), "missing_field"},
		{"no cached_at", line("1"), "missing_field"},
		{"upper-case key", object(`"marketplace":"upwork","job_id":"1","Title":"x"`), "missing_field"},
		{"marketplace with a space", object(`"marketplace":"up work","job_id":"1","title":"x"`), "invalid_marketplace"},
		{"long marketplace", object(`"marketplace":"` + strings.Repeat("a", 65) + `","job_id":"1","title":"x"`), "invalid_marketplace"},
		{"empty job_id", line("", now), "invalid_job_id"},
		{"blank job_id", line(" \t ", now), "invalid_job_id"},
		{"job_id None", line("None", now), "invalid_job_id"},
		{"job_id null as text", line("null", now), "invalid_job_id"},
		{"job_id undefined", line("undefined", now), "invalid_job_id"},
		{"job_id <nil>", line("<nil>", now), "invalid_job_id"},
		{"job_id of 513 bytes", line(strings.Repeat("j", 513), now), "invalid_job_id"},
		{"job_id with a control character", line("a\tb", now), "invalid_job_id"},
		{"fraction as job_id", object(`"marketplace":"upwork","job_id":1.0,"title":"x"`), "invalid_job_id"},
		{"exponent as job_id", object(`"marketplace":"upwork","job_id":1e3,"title":"x"`), "invalid_job_id"},
		{"negative job_id", object(`"marketplace":"upwork","job_id":-1,"title":"x"`), "invalid_job_id"},
		{"boolean job_id", object(`"marketplace":"upwork","job_id":true,"title":"x"`), "invalid_job_id"},
		{"key twice", line("1", now, `,"title":"y"`), "duplicate_key"},
		{"key and its other name", line("1", now, `,"budget":5`), "duplicate_key"},
		{"negative amount", line("1", now, `,"budget_min":-1`), "invalid_amount"},
		{"NaN", line("1", now, `,"budget_min":"NaN"`), "invalid_amount"},
		{"three decimals", line("1", now, `,"budget_min":"1.234"`), "invalid_amount"},
		{"above 10^11 cents", line("1", now, `,"budget_min":1000000000.01`), "invalid_amount"},
		{"amount of another kind", line("1", now, `,"budget_min":[]`), "invalid_amount"},
		{"currency", line("1", now, `,"currency":"EURO"`), "invalid_currency"},
		{"pricing", line("1", now, `,"pricing":"weekly"`), "invalid_pricing"},
		{"skills", line("1", now, `,"skills":"Go"`), "invalid_skills"},
		{"bid", line("1", now, `,"bid":5`), "invalid_bid"},
		{"amount of the bid", line("1", now, `,"bid":{"amount":"x"}`), "invalid_amount"},
		{"period of the bid", line("1", now, `,"bid":{"period_days":0}`), "invalid_period"},
		{"cached_at without zone", line("1", `,"cached_at":"2026-11-23T08:00:00"`), "time_without_zone"},
		{"cached_at that is no time", line("1", `,"cached_at":"yesterday"`), "invalid_time"},
		{"cached_at as a number", line("1", `,"cached_at":1700000000`), "invalid_time"},
		{"cached_at in the future", line("1", seen(-6*time.Minute)), "cached_at_in_future"},
		{"deadline without zone", line("1", now, `,"deadline":"2026-11-23 08:00:00"`), "time_without_zone"},
		{"escaped NUL", line("1", now, `,"description":"a\u0000b"`), "nul_byte"},
		{"raw NUL", line("1", now, ",\"description\":\"a\x00b\""), "nul_byte"},
		{"invalid UTF-8", line("1", now, ",\"description\":\"a\xffb\""), "invalid_utf8"},
		{"half a surrogate", line("1", now, `,"description":"\ud800"`), "invalid_utf8"},
		{"too deep", line("1", now, `,"x":`+strings.Repeat("[", 64)+strings.Repeat("]", 64)), "too_deep"},
		{"trailing data", line("1", now) + "x", "trailing_data"},
		{"two objects", line("1", now) + line("2", now), "trailing_data"},
		{"array", "[1]", "not_an_object"},
		{"null", "null", "not_an_object"},
		{"cut short", `{"marketplace":"upwork"`, "invalid_json"},
		{"no JSON", "hello", "invalid_json"},
		{"5 MiB", line("1", now, `,"description":"`, strings.Repeat("x", 5<<20), `"`), "line_too_long"},
		{"description that is no text", line("1", now, `,"description":5`), "wrong_type"},
	}
	f := setup(t)
	input := make([]string, len(tests))
	for i, tt := range tests {
		input[i] = tt.line
	}
	input = slices.Concat([]string{line("first", now)}, input, []string{line("last", now)})
	rejects := filepath.Join(t.TempDir(), "rejects.ndjson")
	r := f.bidder("ingest", file(t, "postings.ndjson", input...), "--rejects", rejects, "-o", "json").want(t, 3)

	report := decode[ingestReport](t, r)
	if want := (counts{Read: len(tests) + 2, Accepted: 2, Rejected: len(tests)}); report.counts != want {
		t.Errorf("got %+v, want %+v", report.counts, want)
	}
	if len(report.Rejects) != len(tests) {
		t.Fatalf("%d lines are reported, want %d", len(report.Rejects), len(tests))
	}
	for i, got := range report.Rejects {
		if tt := tests[i]; got.Line != i+2 || got.Code != tt.code || got.Message == "" || len(got.Message) > 300 {
			t.Errorf("%s: got line %d, %s (%s), want line %d, %s", tt.name, got.Line, got.Code, got.Message, i+2, tt.code)
		}
	}
	f.wantCount(2, "postings WHERE job_id IN ('first', 'last')")
	f.wantCount(2, "postings")

	// The file of rejects holds the same.
	if diff := cmp.Diff(report.Rejects, readRejects(t, rejects)); diff != "" {
		t.Errorf("the report and the file differ (-report +file):\n%s", diff)
	}
}

// TestRejectsOfSeveralFiles: a line has its number in its own file.
func TestRejectsOfSeveralFiles(t *testing.T) {
	t.Parallel()
	f := setup(t)
	monday, tuesday := file(t, "monday.ndjson", "bad", line("1", seen(time.Minute))), file(t, "tuesday.ndjson", line("2", seen(time.Minute)), "bad")
	rejects := filepath.Join(t.TempDir(), "rejects.ndjson")
	report := decode[ingestReport](t, f.call("ingest", monday, "-", tuesday, "--rejects", rejects).json().reading("bad").run(t).want(t, 3))
	var got []reject
	for _, r := range report.Rejects {
		got = append(got, reject{File: r.File, Line: r.Line})
	}
	if diff := cmp.Diff([]reject{{File: monday, Line: 1}, {File: "-", Line: 1}, {File: tuesday, Line: 2}}, got); diff != "" {
		t.Errorf("the report (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(report.Rejects, readRejects(t, rejects)); diff != "" {
		t.Errorf("the report and the file differ (-report +file):\n%s", diff)
	}
}

// readRejects reads a file of rejects.
func readRejects(t *testing.T, path string) (written []reject) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for text := range strings.Lines(string(content)) {
		written = append(written, decode[reject](t, result{stdout: text}))
	}
	return written
}

// TestNormalForm reads lines that are all fine, however unlike each other they look.
func TestNormalForm(t *testing.T) {
	t.Parallel()
	f := setup(t)
	now := seen(time.Minute)
	input := "\ufeff" + strings.Join([]string{
		`{"marketplace_name":" UpWork ","job_id":" ~01 ","title":" A title ","skills_required":["Go"," ","SQL"],"budget":"250.5",` +
			`"pricing_model":"Fixed","created_at":"2026-01-02T03:04:05+02:00"` + now + `}`,
		"",
		"   ",
		`{"marketplace":"PeopleHour","job_id":12345678901234567890123,"title":"x","budget_min":0.1,"currency":"eur","unknown":1,"another":{}` + now + `}`,
		`{"marketplace":"upwork","job_id":"über","title":"x","url":"ftp://example.com","deadline":null,"pricing":null` + now + `}`,
		`{"marketplace":"upwork","job_id":"long","title":"x","url":"https://example.com/1","description":"a` + strings.Repeat("é", 1<<20) + `"` + now + `}`,
		`{"marketplace":"upwork","job_id":"reversed","title":"x","budget_min":10,"budget_max":5,"pricing":"HOURLY"` + now + `}`,
	}, "\r\n") // and no end of the last line
	c := f.call("ingest", "-", "-o", "json")
	c.stdin = input
	report := decode[ingestReport](t, c.run(t).want(t, 0))
	if want := (counts{Read: 7, Accepted: 5, Blank: 2}); report.counts != want {
		t.Errorf("got %+v, want %+v", report.counts, want)
	}
	wantNotes := map[string]int{"unknown_key": 2, "url_dropped": 1, "description_truncated": 1, "budget_reversed": 1}
	if diff := cmp.Diff(wantNotes, report.Notes); diff != "" {
		t.Errorf("notes (-want +got):\n%s", diff)
	}
	f.wantCount(1, `postings WHERE marketplace = 'upwork' AND job_id = '~01' AND title = 'A title' AND skills = '{Go,SQL}' AND budget_max_cents = 25050
		AND budget_min_cents IS NULL AND currency = 'USD' AND pricing = 'fixed' AND posted_at = '2026-01-02T01:04:05Z'`)
	f.wantCount(1, `postings WHERE marketplace = 'peopleperhour' AND job_id = '12345678901234567890123' AND budget_min_cents = 10 AND currency = 'EUR'`)
	f.wantCount(1, `postings WHERE job_id = 'über' AND url IS NULL AND deadline IS NULL AND pricing IS NULL`)
	f.wantCount(1, `postings WHERE job_id = 'long' AND octet_length(description) BETWEEN 99990 AND 100000 AND url = 'https://example.com/1'`)
	f.wantCount(1, `postings WHERE job_id = 'reversed' AND budget_min_cents = 1000 AND budget_max_cents = 500 AND pricing = 'hourly'`)
	f.wantCount(5, "candidates")
}

// TestTrickle: what a scanner has written is in the cache soon, however long it writes on.
func TestTrickle(t *testing.T) {
	t.Parallel()
	f := setup(t)
	c := f.call("ingest", "--cached-at", "now", "-").json()
	var end *os.File
	c.input, end = pipe(t)
	p := c.start(t)
	for i, lines := range []string{line("1") + "\n" + line("2") + "\nbad\n", line("1", seen(-2*time.Minute)) + "\n"} {
		if _, err := end.WriteString(lines); err != nil {
			t.Fatal(err)
		}
		f.await("the lines are written", "(SELECT count(*) + coalesce(sum(refreshes), 0) FROM postings) = 2 + $1", i)
	}
	if err := end.Close(); err != nil {
		t.Fatal(err)
	}
	report := decode[ingestReport](t, p.wait().want(t, 3))
	if want := (counts{Read: 4, Accepted: 2, Updated: 1, Rejected: 1}); report.counts != want {
		t.Errorf("got %+v, want %+v", report.counts, want)
	}
}

func TestRefresh(t *testing.T) {
	t.Parallel()
	f := setup(t)
	older, newer := seen(2*time.Hour), seen(time.Hour)
	ingest := func(want counts, names ...string) {
		t.Helper()
		report := decode[ingestReport](t, f.bidder(append([]string{"ingest", "-o", "json"}, names...)...).want(t, 0))
		if report.counts != want {
			t.Errorf("got %+v, want %+v", report.counts, want)
		}
	}
	old := file(t, "old.ndjson", line("1", older), line("2", older))
	renewed := file(t, "new.ndjson", line("1", newer, `,"description":"newer"`), line("3", newer))
	ingest(counts{Read: 4, Accepted: 3, Updated: 1}, old, renewed)
	ingest(counts{Read: 4, Unchanged: 4}, renewed, old)
	f.wantCount(1, "postings WHERE job_id = '1' AND description = 'newer' AND refreshes = 1")
	f.wantCount(3, "candidates")

	// Lines on the same posting in one file.
	ingest(counts{Read: 4, Accepted: 1, Updated: 1, Unchanged: 2}, file(t, "same.ndjson",
		line("4", older), line("4", newer), line("4", older), line("4", newer)))

	// A decided posting becomes a candidate only by newer content.
	f.bidder("run").want(t, 0)
	f.wantCount(0, "candidates")
	ingest(counts{Read: 2, Unchanged: 2}, old)
	f.wantCount(0, "candidates")
	ingest(counts{Read: 1, Updated: 1}, file(t, "newest.ndjson", line("2", seen(0))))
	f.wantCount(1, "candidates")
}

func TestCachedAt(t *testing.T) {
	t.Parallel()
	f := setup(t)
	own := seen(time.Hour)
	f.call("ingest", "-", "--cached-at", "2026-01-02T03:04:05+01:00").reading(line("given"), line("own", own)).run(t).want(t, 0)
	f.wantCount(1, "postings WHERE job_id = 'given' AND cached_at = '2026-01-02T02:04:05Z'")
	f.wantCount(1, "postings WHERE job_id = 'own' AND cached_at BETWEEN now() - interval '62 minutes' AND now() - interval '59 minutes'")

	before := read[time.Time](f, "SELECT clock_timestamp()")
	f.call("ingest", "-", "--cached-at", "now").reading(line("a"), line("b")).run(t).want(t, 0)
	f.wantCount(2, "postings WHERE job_id IN ('a', 'b') AND cached_at BETWEEN $1 AND clock_timestamp()", before)
	f.wantCount(1, "(SELECT DISTINCT cached_at FROM postings WHERE job_id IN ('a', 'b')) AS times")

	f.untouched(func() {
		for _, wrong := range []string{"yesterday", "2026-01-02T03:04:05", "NOW()"} {
			f.call("ingest", "-", "--cached-at", wrong).reading(line("c")).run(t).wantError(t, 2, "--cached-at")
		}
		f.call("ingest", "-").reading(line("c")).run(t).want(t, 3)
	})
}

// TestManyRejects: the report is bounded, the file is not.
func TestManyRejects(t *testing.T) {
	t.Parallel()
	f := setup(t)
	const bad = 1005
	rejects := filepath.Join(t.TempDir(), "rejects.ndjson")
	input := strings.Split(strings.Repeat("bad\n", bad)+line("good", seen(0)), "\n")
	report := decode[ingestReport](t, f.call("ingest", "-", "--rejects", rejects, "-o", "json").reading(input...).run(t).want(t, 3))
	if report.Rejected != bad || report.Accepted != 1 || len(report.Rejects) != 1000 {
		t.Errorf("got %+v with %d rejects", report.counts, len(report.Rejects))
	}
	content, err := os.ReadFile(rejects)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(string(content), "\n"); got != bad {
		t.Errorf("the file has %d lines", got)
	}

	// A pass does its work all the same, and says the same.
	pass := decode[runReport](t, f.call("run", "--postings", "-", "-o", "json").reading(input...).run(t).want(t, 3))
	if pass.Ingest.Rejected != bad || pass.Outcomes["claimed"] != 1 {
		t.Errorf("the pass ended in %+v, %v", pass.Ingest, pass.Outcomes)
	}
	f.wantCount(1, `runs WHERE exit_code = 3 AND counters -> 'ingest' @> '{"read": 1006, "rejected": 1005}'`)
}

// TestUnusableInput: nothing is touched when a file cannot be read.
func TestUnusableInput(t *testing.T) {
	t.Parallel()
	f := setup(t)
	good := file(t, "good.ndjson", line("1", seen(0)))
	missing := filepath.Join(t.TempDir(), "missing.ndjson")
	rejects := file(t, "rejects.ndjson", "kept")
	f.untouched(func() {
		f.bidder("ingest", good, missing, "--rejects", rejects, "-o", "json").wantError(t, 2, missing)
		f.bidder("ingest", good, t.TempDir()).wantError(t, 2, "directory")
		f.bidder("ingest").wantError(t, 2)
		f.bidder("ingest", good, "--rejects", filepath.Join(missing, "x")).wantError(t, 2, missing)
		f.bidder("run", "--postings", missing, "--rejects", rejects, "-o", "json").wantError(t, 2, missing)
		f.call("ingest", good, "--rejects", rejects).with("BIDDER_WORKERS=0").run(t).wantError(t, 2, "BIDDER_WORKERS")
		call{args: []string{"ingest", good, "--rejects", rejects}}.run(t).wantError(t, 2, "DATABASE_URL")
	})
	if content, err := os.ReadFile(rejects); err != nil || string(content) != "kept\n" {
		t.Errorf("the file for rejects was touched: %q, %v", content, err)
	}

	// What is read is no file for rejects, by whatever name it is read.
	stdin, err := os.Open(good)
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	f.untouched(func() {
		f.bidder("ingest", good, "--rejects", good).wantError(t, 2, good)
		for _, args := range [][]string{{"ingest", "-"}, {"run", "--postings", "-"}, {"policy", "test", "-"}} {
			c := f.call(append(args, "--rejects", good)...)
			c.input = stdin
			c.run(t).wantError(t, 2, good)
		}
	})
	c := f.call("ingest", "-", "--rejects", os.DevNull)
	if c.input, err = os.Open(os.DevNull); err != nil {
		t.Fatal(err)
	}
	defer c.input.Close()
	c.run(t).want(t, 0)
	if content, err := os.ReadFile(good); err != nil || !strings.Contains(string(content), "A title") {
		t.Errorf("the input was touched: %q, %v", content, err)
	}
}
