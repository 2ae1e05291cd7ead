package posting

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

// testingT is what *testing.T and *rapid.T share.
type testingT interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

var marketplacePattern = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)

// checkNormal fails if the database could refuse the posting, or if it does
// not come back when it is written and read again.
func checkNormal(t testingT, p Posting) {
	t.Helper()
	if !marketplacePattern.MatchString(p.Marketplace) {
		t.Errorf("marketplace %q", p.Marketplace)
	}
	if p.JobID == "" || len(p.JobID) > 512 || p.JobID != strings.TrimSpace(p.JobID) || strings.ContainsFunc(p.JobID, unicode.IsControl) {
		t.Errorf("job id %q", p.JobID)
	}
	texts := append([]string{p.JobID, p.Title, p.Description, p.URL, p.Currency, p.Pricing}, p.Skills...)
	amounts := []*int64{p.BudgetMinCents, p.BudgetMaxCents}
	if p.Bid != nil {
		texts, amounts = append(texts, p.Bid.Proposal), append(amounts, p.Bid.AmountCents)
		if p.Bid.PeriodDays != nil && *p.Bid.PeriodDays < 1 {
			t.Errorf("period of %d days", *p.Bid.PeriodDays)
		}
	}
	for _, text := range texts {
		if !utf8.ValidString(text) || strings.Contains(text, "\x00") {
			t.Errorf("text %q cannot be stored", text)
		}
	}
	for _, amount := range amounts {
		if amount != nil && (*amount < 0 || *amount > MaxCents) {
			t.Errorf("amount of %d cents", *amount)
		}
	}
	checkTimes(t, &p.CachedAt, p.PostedAt, p.Deadline)
	for _, skill := range p.Skills {
		if skill == "" || strings.ContainsFunc(skill, unicode.IsControl) {
			t.Errorf("skill %q", skill)
		}
	}
	if p.Title == "" || len(p.Description) > MaxDescription || len(p.Currency) != 3 {
		t.Errorf("title %q, description of %d bytes, currency %q", p.Title, len(p.Description), p.Currency)
	}

	again := newTestParser()
	line := encode(t, p)
	got, rej := again.parse(line)
	if rej != nil || len(again.notes) > 0 && p.BudgetMinCents == nil {
		t.Fatalf("%s is rejected: %v, notes %v", line, rej, again.notes)
	}
	if diff := cmp.Diff(p, got); diff != "" {
		t.Errorf("written and read again (-want +got):\n%s", diff)
	}
}

func checkTimes(t testingT, times ...*time.Time) {
	t.Helper()
	for _, at := range times {
		if at != nil && (at.Location() != time.UTC || at.Nanosecond()%1000 != 0 || at.Year() < 1 || at.Year() > 9999) {
			t.Errorf("time %v", at)
		}
	}
}

func newTestParser() parser { return parser{opts: testOptions(), notes: map[string]int{}} }

// encode writes a posting as a line.
func encode(t testingT, p Posting) []byte {
	t.Helper()
	members := map[string]any{
		"marketplace": p.Marketplace, "job_id": p.JobID, "title": p.Title, "description": p.Description, "url": p.URL,
		"budget_min": decimal(p.BudgetMinCents), "budget_max": decimal(p.BudgetMaxCents), "currency": p.Currency, "pricing": p.Pricing,
		"skills": p.Skills, "posted_at": p.PostedAt, "deadline": p.Deadline, "cached_at": p.CachedAt, "bid": nil,
	}
	if p.Bid != nil {
		members["bid"] = map[string]any{
			"amount": decimal(p.Bid.AmountCents), "period_days": p.Bid.PeriodDays, "proposal": p.Bid.Proposal,
		}
	}
	line, err := json.Marshal(members)
	if err != nil {
		t.Fatalf("encode: %v", err)
	}
	return line
}

func decimal(cents *int64) any {
	if cents == nil {
		return nil
	}
	return FormatAmount(*cents)
}

func TestAmountsComeBack(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.Int64Range(0, MaxCents).Draw(t, "cents")
		if got, err := ParseAmount(FormatAmount(want)); got != want || err != nil {
			t.Errorf("%d comes back as %d, %v", want, got, err)
		}
	})
}

func TestKeysAreNormal(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		marketplace := rapid.OneOf(rapid.String(), rapid.StringMatching(`[ \t]*[A-Z0-9a-zK][A-Za-z0-9._-]{0,70}\s?`)).Draw(t, "marketplace")
		jobID := rapid.OneOf(rapid.String(), rapid.StringMatching(`\s*.{0,200}\s*`)).Draw(t, "job id")
		key, err := ParseKey(marketplace, jobID)
		if err != nil {
			return
		}
		if again, err := ParseKey(key.Marketplace, key.JobID); again != key || err != nil {
			t.Errorf("%+v normalised again is %+v, %v", key, again, err)
		}
	})
}

// TestPostingsAreNormal reads lines of good, odd and bad members, in two
// orders: the order must not matter, and what is accepted must be normal.
func TestPostingsAreNormal(t *testing.T) {
	t.Parallel()
	text := rapid.Map(rapid.String(), func(s string) string {
		quoted, _ := json.Marshal(s)
		return string(quoted)
	})
	amounts := rapid.OneOf(
		rapid.Map(rapid.Int64Range(0, MaxCents), FormatAmount),
		rapid.SampledFrom([]string{"null", `"5"`, "4.8e2", "0", "1.234", `""`}),
	)
	times := rapid.SampledFrom([]string{`"2026-11-23T08:00:00.123456789+05:30"`, `"2026-01-01t00:00:00z"`, `"0001-01-01T00:00:00Z"`, `"2026-11-23T08:00:00"`})
	members := map[string]*rapid.Generator[string]{
		"marketplace":    rapid.SampledFrom([]string{`"UpWork"`, `" peoplehour"`, `"a b"`}),
		"job_id":         rapid.OneOf(text, rapid.SampledFrom([]string{"5", `"None"`, "-5"})),
		"title":          text,
		"description":    text,
		"url":            rapid.OneOf(text, rapid.SampledFrom([]string{`" https://example.com/é?a=b#c "`, `"ftp://example.com"`})),
		"budget_min":     amounts,
		"budget":         amounts,
		"currency":       rapid.SampledFrom([]string{`"eur"`, `""`, "null"}),
		"pricing":        rapid.SampledFrom([]string{`"FIXED"`, `"hourly "`, `""`}),
		"skills":         rapid.Map(rapid.SliceOf(text), func(s []string) string { return "[" + strings.Join(s, ",") + "]" }),
		"created_at":     times,
		"deadline":       times,
		"cached_at":      times,
		"something else": text,
		"bid": rapid.Map(amounts, func(amount string) string {
			return `{"period_days":14,"amount":` + amount + `,"proposal":"a\nb"}`
		}),
	}
	required := []string{"marketplace", "job_id", "title", "cached_at"}
	names := slices.Sorted(maps.Keys(members))
	accepted := 0
	rapid.Check(t, func(t *rapid.T) {
		var parts []string
		for _, name := range names {
			if slices.Contains(required, name) || rapid.Bool().Draw(t, "with "+name) {
				parts = append(parts, `"`+name+`":`+members[name].Draw(t, name))
			}
		}
		parse := func(parts []string) (Posting, *Reject) {
			p := newTestParser()
			return p.parse([]byte("{" + strings.Join(parts, ",") + "}"))
		}
		got, rej := parse(parts)
		shuffled, shuffledRej := parse(rapid.Permutation(parts).Draw(t, "order"))
		if diff := cmp.Diff([]any{got, rej}, []any{shuffled, shuffledRej}, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("in another order (-first +second):\n%s", diff)
		}
		if rej == nil {
			accepted++
			checkNormal(t, got)
		}
	})
	if accepted == 0 {
		t.Error("no line was accepted: the test checks nothing")
	}
}

// FuzzParse looks for lines that make the parser panic, or that it accepts
// although the database would not.
func FuzzParse(f *testing.F) {
	for _, path := range []string{"../../examples/postings.ndjson", "testdata/origin-shaped.ndjson"} {
		line, _, _ := strings.Cut(string(readFile(f, path)), "\n")
		f.Add([]byte(line))
	}
	f.Add([]byte(lineWith("bid", `{"amount":"480.00","period_days":10,"proposal":"\ud83d\ude00"}`, "skills", `["a\u001fb"]`, "x", `[{"y":[[]]}]`)))
	f.Fuzz(func(t *testing.T, line []byte) {
		p := newTestParser()
		p.opts.CachedAt = testNow()
		posting, rej := p.parse(line)
		if rej == nil {
			checkNormal(t, posting)
			return
		}
		if rej.Code == "" {
			t.Error("a reject without a code")
		}
		if diff := cmp.Diff(Posting{}, posting); diff != "" {
			t.Errorf("a rejected line has a posting:\n%s", diff)
		}
		checkMessage(t, rej.Message)
	})
}
