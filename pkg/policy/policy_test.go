package policy_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/arbitrageai/bidder/pkg/policy"
	"github.com/arbitrageai/bidder/pkg/posting"
)

func noon() time.Time { return time.Date(2030, 1, 2, 12, 0, 0, 0, time.UTC) }

// full is a posting with everything, and bare one with nothing but what it must have.
func full() posting.Posting {
	low, high, wanted, days := int64(10000), int64(100000), int64(70000), int32(7)
	posted, deadline := noon().Add(-2*time.Hour), noon().Add(48*time.Hour)
	return posting.Posting{
		Key: posting.Key{Marketplace: "upwork", JobID: "1"}, CachedAt: noon().Add(-time.Hour),
		Title: "Write a Crawler", Description: "In go, please.", URL: "https://example.com/1",
		BudgetMinCents: &low, BudgetMaxCents: &high, Currency: "USD", Pricing: "fixed", Skills: []string{"Go", "SQL"},
		PostedAt: &posted, Deadline: &deadline, Bid: &posting.Bid{AmountCents: &wanted, PeriodDays: &days},
	}
}

func bare() posting.Posting {
	return posting.Posting{Key: posting.Key{Marketplace: "guru", JobID: "2"}, CachedAt: noon(), Title: "T", Currency: "EUR"}
}

func TestEligible(t *testing.T) {
	t.Parallel()
	const absent = "is absent: ask has("
	tests := []struct {
		text       string
		full, bare string // true, false, or what the error has
	}{
		{`posting.budget_max >= money("200") && "go" in posting.skills.map(s, s.lowerAscii())`, "true", "false"},
		{`posting.budget_max >= money("200")`, "true", "posting.budget_max " + absent},
		{`posting.marketplace == "upwork" && posting.job_id == "1" && posting.currency == "USD"`, "true", "false"},
		{`posting.title.contains("Crawler") && posting.description.matches("(?i)\\bGO\\b") && posting.url.startsWith("https:")`, "true", "false"},
		{`posting.pricing == "fixed"`, "true", "false"},
		{`posting.pricing == "" && posting.url == "" && posting.description == "" && posting.skills == []`, "false", "true"},
		{`has(posting.pricing) || has(posting.url) || has(posting.description) || has(posting.skills)`, "true", "false"},
		{`has(posting.budget_min) && has(posting.budget_max) && has(posting.posted_at) && has(posting.deadline) && has(posting.bid_amount) && has(posting.bid_period_days)`, "true", "false"},
		{`has(posting.budget_min) || has(posting.budget_max) || has(posting.posted_at) || has(posting.deadline) || has(posting.bid_amount) || has(posting.bid_period_days)`, "true", "false"},
		{`has(posting.marketplace) && has(posting.title) && has(posting.age) && has(posting.cached_at)`, "true", "true"},
		{`posting.budget_min < posting.budget_max`, "true", "posting.budget_min " + absent},
		{`posting.bid_amount == money("700") && posting.bid_period_days == 7`, "true", absent},
		{`posting.age == duration("1h")`, "true", "false"},
		{`posting.cached_at + posting.age == now`, "true", "true"},
		{`now - posting.posted_at < duration("3h") && posting.deadline - now > duration("24h")`, "true", "posting.posted_at " + absent},
		{`posting.cached_at.getHours("Europe/Berlin") == 12 && posting.cached_at.getHours() == 11`, "true", "false"},
		{`posting.skills.exists(s, s.lowerAscii() in ["go", "rust"])`, "true", "false"},
		{`posting.skills.all(s, size(s) < 10) && size(posting.skills) < 3`, "true", "true"},
		{`!has(posting.budget_max) || posting.budget_max > money("2000")`, "false", "true"},
		// An error beside what decides anyway is none.
		{`posting.budget_max > money("1") || posting.title != ""`, "true", "true"},
		{`posting.title == "" && posting.budget_max > money("1")`, "false", "false"},
		{`1 / posting.skills.size() >= 0`, "true", "division by zero (at 1:3 of the expression)"},
		{"posting.title == 'T' &&\n  posting.skills[0] == 'a'", "false", "index out of bounds: 0 (at 2:17 of the expression)"},
		{`money(posting.title) > money("1")`, "is not a decimal number", "is not a decimal number"},
		{`timestamp(posting.title) > now`, "", ""},
		{`posting.title.size() > 9223372036854775807 + posting.title.size()`, "overflow", "overflow"},
		{`posting == posting`, "true", "true"},
	}
	for _, tt := range tests {
		t.Run(tt.text, func(t *testing.T) {
			t.Parallel()
			e, err := policy.CompileEligible(tt.text)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range []struct {
				p    posting.Posting
				want string
			}{{full(), tt.full}, {bare(), tt.bare}} {
				got, err := e.Evaluate(t.Context(), c.p, noon())
				if _, ok := errors.AsType[*policy.EvaluationError](err); err != nil && !ok {
					t.Errorf("%v is a %T", err, err)
				}
				switch {
				case c.want == "true" || c.want == "false":
					if err != nil || got != (c.want == "true") {
						t.Errorf("%s: %t, %v, want %s", c.p.Key, got, err, c.want)
					}
				case got || err == nil || !strings.Contains(err.Error(), c.want):
					t.Errorf("%s: %t, %v, want an error with %q", c.p.Key, got, err, c.want)
				}
			}
		})
	}
}

func TestAmount(t *testing.T) {
	t.Parallel()
	tests := []struct {
		text string
		want int64
		err  string
	}{
		{text: `posting.budget_max * "0.9"`, want: 90000},
		{text: `posting.budget_max * 2`, want: 200000},
		{text: `posting.budget_max.percent(90)`, want: 90000},
		{text: `posting.budget_max.percent("12.5")`, want: 12500},
		{text: `posting.budget_max / 3`, want: 33333},
		{text: `(posting.budget_min + posting.budget_max) / 2`, want: 55000},
		{text: `posting.budget_max - money("0.01")`, want: 99999},
		{text: `min(posting.budget_max, money("480.00"))`, want: 48000},
		{text: `max(posting.budget_min, money("480"))`, want: 48000},
		{text: `posting.pricing == "hourly" ? money("50") : posting.budget_max`, want: 100000},
		{text: `has(posting.budget_max) ? posting.budget_max : money("300")`, want: 100000},
		{text: `money("0.01") / 2`, want: 0}, // half to even
		{text: `money("0.03") / 2`, want: 2}, // half to even
		{text: `money("0.05") / "2"`, want: 2},
		{text: `posting.budget_min - posting.budget_max`, want: -90000},
		{text: `(posting.budget_min - posting.budget_max).percent(50)`, want: -45000},
		{text: `money("1000000000")`, want: posting.MaxCents},
		{text: `money("1000000000") + money("0.01")`, err: "the amount is more than 1000000000.00"},
		{text: `posting.budget_max / 0`, err: "division by zero"},
		{text: `posting.budget_max / "0.00"`, err: "division by zero"},
		{text: `posting.budget_max * 9223372036854775807`, err: "too large to compute with"},
		{text: `money("1000000000") * 90000000 + money("1000000000") * 90000000`, err: "too large to compute with"},
		{text: `posting.budget_max - money("1000000000") * 90000000 - money("1000000000") * 90000000`, err: "too large to compute with"},
		{text: `posting.budget_max * posting.title`, err: "is not a decimal number"},
		{text: `[posting.budget_max, money("1")][7]`, err: "index out of bounds"},
	}
	for _, tt := range tests {
		t.Run(tt.text, func(t *testing.T) {
			t.Parallel()
			a, err := policy.CompileAmount(tt.text)
			if err != nil {
				t.Fatal(err)
			}
			got, err := a.Evaluate(t.Context(), full(), noon())
			if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) || got != tt.want {
				t.Errorf("%d, %v, want %d, %q", got, err, tt.want, tt.err)
			}
		})
	}
}

// TestProblems also holds still the words of CEL that the hints go by.
func TestProblems(t *testing.T) {
	t.Parallel()
	eligible := func(text string) error { _, err := policy.CompileEligible(text); return err }
	amount := func(text string) error { _, err := policy.CompileAmount(text); return err }
	tests := []struct {
		compile func(string) error
		text    string
		want    string // the beginnings of the problems
	}{
		{eligible, `posting.budgt_max > money("1")`, `1:8: there is no field "budgt_max" (known: marketplace, job_id, `},
		{eligible, `posting.titl == "x" || foo ||` + "\n" + `  posting.budget_max == 2`, `1:8: there is no field "titl"|1:24: "foo" is not known (the variables|2:22: "==" does not take (money, int) (write money("2"))`},
		{eligible, `title == "x"`, `1:1: "title" is not known (write posting.title)`},
		{eligible, `posting.budget_max >= 200`, `1:20: ">=" does not take (money, int) (write money("200"))`},
		{eligible, `200.5 < posting.budget_max`, `1:7: "<" does not take (double, money) (write money("200.5"))`},
		{eligible, `posting.budget_max == "480.00"`, `1:20: "==" does not take (money, string) (write money("480.00"))`},
		{eligible, `posting.budget_max == "x"`, `1:20: "==" does not take (money, string) (write money("200"))`},
		{eligible, `posting.age > 3`, `1:13: ">" does not take (duration, int)`},
		{eligible, `posting.deadline > posting.age`, `1:18: ">" does not take (timestamp, duration)`},
		{eligible, `posting.budget_max`, `1:1: must be a condition (bool), and is money (compare it`},
		{eligible, `posting`, `1:1: must be a condition (bool), and is posting`},
		{amount, `5`, `1:1: must be money, and is int (write money("480.00")`},
		{amount, `posting.budget_max * 0.9`, `1:20: "*" does not take (money, double) (a number with a point is not exact: write it as text, * "0.9", or use percent)`},
		{amount, `posting.budget_max / 1.5`, `1:20: "/" does not take (money, double) (a number with a point is not exact: write it as text, / "1.5"`},
		{amount, `0.9 * posting.budget_max`, `1:5: "*" does not take (double, money) (write the money first: posting.budget_max * "0.9")`},
		{amount, `posting.budget_max.percent(12.5)`, `1:27: "percent" does not take money.(double) (write it as text: percent("12.5"))`},
		{amount, `posting.budget_max * "ninety"`, `1:22: ninety is not a decimal number`},
		{amount, `posting.budget_max * "1e9"`, `1:22: 1e9 is not a decimal number`},
		{amount, `posting.budget_max.percent("-5")`, `1:28: -5 is not a decimal number`},
		{amount, `posting.budget_max * money("2")`, `1:20: "*" does not take (money, money)`},
		{amount, `money(5)`, `1:6: "money" does not take (int) (write the amount as text: money("5"))`},
		{amount, `money("12.345")`, `1:7: amount "12.345" has more than two decimals`},
		{amount, `min(posting.budget_max, 3)`, `1:4: "min" does not take (money, int) (write money("3"))`},
		{eligible, `posting.title +`, `1:16: Syntax error: mismatched input '<EOF>'`},
		{eligible, ``, `1:1: Syntax error: mismatched input '<EOF>'`},
		{eligible, `posting.title.matches("a(")`, `1:23: invalid matches argument`},
		{eligible, `posting.title.matches(posting.description)`, `1:30: the pattern must be written out`},
		{eligible, `posting.title.matches("(a{1000}){1000}")`, `1:23: invalid matches argument`},
		{eligible, `posting.title.replace("a", "b") == ""`, `1:22: the function replace is not supported`},
		{eligible, `dyn(1) == 1`, `1:4: "dyn" is not known`},
		{eligible, `type(1) == int`, `1:5: "type" is not known`},
		{eligible, `[1, "a"].size() > 1`, `1:5: expected type 'int' but found 'string'`},
		{eligible, `timestamp("tomorrow") > now`, `1:11: invalid timestamp argument`},
		{eligible, `duration("1 day") > posting.age`, `1:10: invalid duration argument`},
		{eligible, `Posting{} == posting`, `1:8: objects cannot be made here`},
		{eligible, `posting.skills.exists(a, posting.skills.exists(b, posting.skills.exists(c, a == c)))`, `1:72: comprehension exceeds nesting limit`},
		{eligible, `posting.skills.exists(a, posting.skills.exists(b, a == b))`, `1:1: may take too long on a long posting`},
		{eligible, `posting.skills.all(s, posting.description.contains(s))`, `1:1: may take too long on a long posting`},
		{eligible, strings.Repeat("(", 1000) + "true" + strings.Repeat(")", 1000), `1:1: expression recursion limit exceeded`},
		{eligible, strings.Repeat("[", 1000) + strings.Repeat("]", 1000) + " == []", `1:1: expression recursion limit exceeded`},
		{eligible, "true" + strings.Repeat(" && true", 1000), `1:1: is longer than 4096 characters`},
		{eligible, "1" + strings.Repeat("+1", 200) + " > 0", `1:1: max recursion depth exceeded`},
		{eligible, "posting.title == \"\xff\"", `1:1: is not UTF-8 text`},
		{eligible, strings.Repeat(`posting.x == "" || `, 20) + "true", `1:8: there is no field "x"`},
		{eligible, "a || b || c || d || e || f || g || h || i || j || k || l", strings.TrimSuffix(strings.Repeat("1:|", 10), "|")},
	}
	for _, tt := range tests {
		name := tt.text[:min(len(tt.text), 60)]
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wrong, ok := errors.AsType[*policy.Error](tt.compile(tt.text))
			if !ok {
				t.Fatalf("compiled: %v", tt.compile(tt.text))
			}
			got, want := strings.Split(wrong.Error(), "\n"), strings.Split(tt.want, "|")
			matches := len(got) == len(want)
			for i := range got {
				matches = matches && strings.HasPrefix(got[i], want[i])
			}
			if !matches {
				t.Errorf("problems (-want +got):\n%s", cmp.Diff(want, got))
			}
		})
	}
}

// TestAllowed are expressions that stand near a limit.
func TestAllowed(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"true" + strings.Repeat(" && posting.title != ''", 150),
		strings.Repeat("(", 40) + "true" + strings.Repeat(")", 40),
		"1" + strings.Repeat("+1", 40) + " > 0",
		`["go", "rust", "sql"].exists(w, posting.description.contains(w))`,
		`posting.skills.exists(s, ["go", "rust"].exists(w, s.lowerAscii() == w))`,
		strings.TrimSuffix(strings.Repeat(`posting.description.matches("(?i)\\bgo\\b") || `, 8), " || "),
		`posting.title.lowerAscii().contains("go") && posting.title.upperAscii().trim() != ""`,
	} {
		if _, err := policy.CompileEligible(text); err != nil {
			t.Errorf("%.60s: %v", text, err)
		}
	}
}

func TestReads(t *testing.T) {
	t.Parallel()
	content, all := policy.Reads{Content: true}, policy.Reads{Content: true, Description: true}
	for text, want := range map[string]policy.Reads{
		`posting.budget_max > posting.budget_min && has(posting.bid_amount) && posting.job_id == posting.marketplace && posting.age < duration("1h") && now > posting.cached_at`: {},
		`posting.title == ""`:                            content,
		`posting.url == ""`:                              content,
		`posting.currency == ""`:                         content,
		`posting.pricing == ""`:                          content,
		`posting.skills == []`:                           content,
		`has(posting.posted_at)`:                         content,
		`posting.deadline > now`:                         content,
		`posting.bid_period_days == 1`:                   content,
		`has(posting.description)`:                       all,
		`posting == posting`:                             all,
		`[posting].exists(p, p.url=="x")`:                all,
		`posting.skills.exists(posting, posting == "x")`: all, // more than it reads does no harm
	} {
		e, err := policy.CompileEligible(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := e.Reads(); got != want {
			t.Errorf("%s reads %+v, want %+v", text, got, want)
		}
	}
}

// TestHostilePostings: what a scanner writes cannot make an evaluation long, nor break it.
func TestHostilePostings(t *testing.T) {
	t.Parallel()
	long := full()
	long.Title, long.URL = strings.Repeat("a", 4<<20), strings.Repeat("b", 4<<20)
	long.Description, long.Skills = strings.Repeat("c", posting.MaxDescription+1), make([]string, 1_000_000)
	wide := full()
	wide.Skills = []string{strings.Repeat("s", 251)}
	broken := full()
	broken.Title, broken.Skills = "\xff\xfe", []string{"\xc3"}
	most := full()
	most.Title, most.Description = strings.Repeat("a", 10_000), strings.Repeat("aaaaaaaa\U0001F600", posting.MaxDescription/12)
	most.Skills = make([]string, 250)
	for i := range most.Skills {
		most.Skills[i] = strings.Repeat("s", 250)
	}

	tests := []struct {
		text string
		p    posting.Posting
		err  string
	}{
		{`posting.title == ""`, long, "posting.title is longer than 10000 bytes"},
		{`posting.url.matches("a*b")`, long, "posting.url is longer than 10000 bytes"},
		{`posting.description.contains("x")`, long, "posting.description is longer than 100000 bytes"},
		{`posting.skills.exists(s, s == "x")`, long, "posting.skills has more than 250 skills"},
		{`posting.skills.exists(s, s == "x")`, wide, "posting.skills has one longer than 250 bytes"},
		{`posting.title.matches("x") || posting.skills.exists(s, s.lowerAscii() == "x")`, broken, ""},
		{`posting.description.matches("(a|b|ab)*c{1,30}$") && posting.skills.all(s, s.matches("^(ss?)*$"))`, most, ""},
		{strings.TrimSuffix(strings.Repeat(`posting.description.matches("(?i)(x+x+)+y") || `, 7), " || "), most, ""},
	}
	for _, tt := range tests {
		e, err := policy.CompileEligible(tt.text)
		if err != nil {
			t.Errorf("%s: %v", tt.text, err)
			continue
		}
		got, err := e.Evaluate(t.Context(), tt.p, noon())
		if got || tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
			t.Errorf("%s: %t, %v, want %q", tt.text, got, err, tt.err)
		}
	}
}

// TestCostOfPatterns: a pattern counts by what it is compiled to, and money costs nothing to compare.
func TestCostOfPatterns(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`posting.description.matches("(?i)\\b(golang|postgres|kubernetes|terraform|rust|python)\\b")`: "",
		`posting.title.matches("(a?){30}b")`:                                                   "",
		`posting.description.matches("(a?){200}b")`:                                            "program size",
		`posting.description.matches("(a?){60}b")`:                                             "may take too long",
		`posting.description.lowerAscii().matches("(a?){60}b")`:                                "may take too long",
		`posting.description.matches("(a?){20}b") || posting.description.matches("(a?){21}b")`: "may take too long",
		`posting.budget_min * 2 == money("1") && posting.budget_max.percent(50) != money("1")`: "",
		`now.getHours("Europe/Berlin") < 20 && now.getHours("+02:00") < 20`:                    "",
		`now.getHours("Europe/Berln") < 20`:                                                    "no time zone",
	} {
		_, err := policy.CompileEligible(text)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func TestInterrupted(t *testing.T) {
	t.Parallel()
	e, err := policy.CompileEligible(`posting.skills.all(s, s != "x")`)
	if err != nil {
		t.Fatal(err)
	}
	p := full()
	p.Skills = make([]string, 250)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := e.Evaluate(ctx, p, noon()); err == nil || !strings.Contains(err.Error(), "interrupted") {
		t.Errorf("error %v", err)
	}
}

func TestConcurrent(t *testing.T) {
	t.Parallel()
	e, err := policy.CompileEligible(`posting.skills.exists(s, s.lowerAscii() == "go") && posting.title.matches("Craw.er")`)
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 200 {
				yes, err := e.Evaluate(t.Context(), full(), noon())
				no, noErr := e.Evaluate(t.Context(), bare(), noon())
				if !yes || no || err != nil || noErr != nil {
					t.Errorf("%t %t %v %v", yes, no, err, noErr)
					return
				}
			}
		})
	}
	group.Wait()
}

// BenchmarkEligible is an ordinary condition on an ordinary posting.
func BenchmarkEligible(b *testing.B) {
	benchmark(b, `posting.budget_max >= money("200") && "go" in posting.skills.map(s, s.lowerAscii())`, full())
}

// BenchmarkDescription looks through an ordinary description.
func BenchmarkDescription(b *testing.B) {
	p := full()
	p.Description = strings.Repeat("We need somebody who knows Python and SQL. ", 50)
	benchmark(b, `posting.description.matches("(?i)\\b(golang|rust)\\b")`, p)
}

// BenchmarkWorst comes close to the limit of the cost.
func BenchmarkWorst(b *testing.B) {
	p := full()
	p.Description = strings.Repeat("x", posting.MaxDescription)
	benchmark(b, strings.TrimSuffix(strings.Repeat(`posting.description.matches("(x|xx|xxx)*z{9}") || `, 4), " || "), p)
}

func BenchmarkAmount(b *testing.B) {
	a, err := policy.CompileAmount(`min(posting.budget_max * "0.9", money("480"))`)
	if err != nil {
		b.Fatal(err)
	}
	p := full()
	for b.Loop() {
		if _, err := a.Evaluate(b.Context(), p, noon()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCompile(b *testing.B) {
	for b.Loop() {
		if _, err := policy.CompileEligible(`posting.budget_max >= money("200") && "go" in posting.skills.map(s, s.lowerAscii())`); err != nil {
			b.Fatal(err)
		}
	}
}

func benchmark(b *testing.B, text string, p posting.Posting) {
	b.Helper()
	e, err := policy.CompileEligible(text)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := e.Evaluate(b.Context(), p, noon()); err != nil {
			b.Fatal(err)
		}
	}
}
