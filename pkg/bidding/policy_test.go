package bidding

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/arbitrageai/bidder/pkg/policy"
	"github.com/arbitrageai/bidder/pkg/posting"
)

func TestBudget(t *testing.T) {
	t.Parallel()
	bounds := Budget{MinCents: cents(1000), MaxCents: cents(50000)}

	tests := []struct {
		name     string
		budget   Budget
		min, max *int64 // of the client's budget
		wanted   *int64 // by the scanner
		want     Decision
	}{
		{name: "upper end of the budget", min: cents(10000), max: cents(20000), want: Decision{AmountCents: 20000}},
		{name: "lower end, where there is no upper one", min: cents(10000), want: Decision{AmountCents: 10000}},
		{name: "no budget", want: Decision{Refused: ReasonNoAmount}},
		{name: "budget of nothing", max: cents(0), want: Decision{Refused: ReasonNoAmount}},
		{name: "budget of nothing is not moved to the minimum", budget: bounds, max: cents(0), want: Decision{Refused: ReasonNoAmount}},
		{name: "budget at the minimum", budget: bounds, max: cents(1000), want: Decision{AmountCents: 1000}},
		{name: "budget below the minimum", budget: bounds, max: cents(999), want: Decision{AmountCents: 1000}},
		{name: "budget at the maximum", budget: bounds, max: cents(50000), want: Decision{AmountCents: 50000}},
		{name: "budget above the maximum", budget: bounds, max: cents(50001), want: Decision{AmountCents: 50000}},

		{name: "wanted beats the budget", max: cents(20000), wanted: cents(123), want: Decision{AmountCents: 123}},
		{name: "wanted nothing", wanted: cents(0), max: cents(20000), want: Decision{Refused: ReasonNoAmount}},
		{name: "wanted at the minimum", budget: bounds, wanted: cents(1000), want: Decision{AmountCents: 1000}},
		{name: "wanted below the minimum", budget: bounds, wanted: cents(999), want: Decision{AmountCents: 999, Refused: ReasonAmountBelowMinimum}},
		{name: "wanted at the maximum", budget: bounds, wanted: cents(50000), want: Decision{AmountCents: 50000}},
		{name: "wanted above the maximum", budget: bounds, wanted: cents(50001), want: Decision{AmountCents: 50001, Refused: ReasonAmountAboveMaximum}},

		{
			name:   "switched off",
			budget: Budget{SwitchedOff: func(marketplace string) bool { return marketplace == "upwork" }},
			wanted: cents(123), want: Decision{Refused: ReasonHandlerNone},
		},
		{
			name:   "another one is switched off",
			budget: Budget{SwitchedOff: func(marketplace string) bool { return marketplace != "upwork" }},
			wanted: cents(123), want: Decision{AmountCents: 123},
		},
		{
			name:   "approval",
			budget: Budget{NeedsApproval: func(marketplace string) bool { return marketplace == "upwork" }},
			max:    cents(123), want: Decision{AmountCents: 123, NeedsApproval: true},
		},
		{
			name:   "approval elsewhere",
			budget: Budget{NeedsApproval: func(marketplace string) bool { return marketplace != "upwork" }},
			max:    cents(123), want: Decision{AmountCents: 123},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := posting.Posting{Key: job("1"), BudgetMinCents: tt.min, BudgetMaxCents: tt.max, Bid: &posting.Bid{AmountCents: tt.wanted}}
			want(t, "decision", tt.budget.Decide(t.Context(), p, noon()), tt.want)
			if tt.wanted == nil {
				p.Bid = nil
				want(t, "decision without a word from the scanner", tt.budget.Decide(t.Context(), p, noon()), tt.want)
			}
		})
	}
}

// expressions makes the policy of every marketplace; "" is none.
func expressions(t *testing.T, eligible, amount string) func(string) (*policy.Eligible, *policy.Amount) {
	t.Helper()
	var e *policy.Eligible
	var a *policy.Amount
	var err, amountErr error
	if eligible != "" {
		e, err = policy.CompileEligible(eligible)
	}
	if amount != "" {
		a, amountErr = policy.CompileAmount(amount)
	}
	if err := errors.Join(err, amountErr); err != nil {
		t.Fatal(err)
	}
	return func(string) (*policy.Eligible, *policy.Amount) { return e, a }
}

func TestExpressions(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name             string
		eligible, amount string
		min, max         *int64 // of the amounts
		budget, wanted   *int64
		want             Decision
		cause            string // the beginning of Err
	}{
		{name: "none", budget: cents(1000), want: Decision{AmountCents: 1000}},
		{name: "eligible", eligible: "true", budget: cents(1000), want: Decision{AmountCents: 1000}},
		{name: "not eligible", eligible: "false", budget: cents(1000), want: Decision{Refused: ReasonPolicy, Rule: RuleEligible}},
		{name: "not eligible, and no amount", eligible: "false", want: Decision{Refused: ReasonPolicy, Rule: RuleEligible}},
		{name: "not eligible, and wanted", eligible: "false", wanted: cents(1), want: Decision{Refused: ReasonPolicy, Rule: RuleEligible}},
		{
			name: "eligible has no answer", eligible: `posting.budget_max > money("1")`,
			want: Decision{Refused: ReasonPolicyError, Rule: RuleEligible}, cause: "posting.budget_max is absent",
		},
		{name: "sees what is wanted", eligible: `posting.bid_amount == money("7")`, wanted: cents(700), want: Decision{AmountCents: 700}},
		{name: "knows the time", eligible: `posting.age == duration("1h") && now == timestamp("2030-01-02T12:00:00Z")`, budget: cents(1), want: Decision{AmountCents: 1}},

		{name: "amount", amount: "posting.budget_max.percent(90)", budget: cents(1000), want: Decision{AmountCents: 900, Rule: RuleAmount}},
		{name: "amount without a budget", amount: `money("5")`, want: Decision{AmountCents: 500, Rule: RuleAmount}},
		{name: "wanted beats it", amount: "posting.budget_max / 0", budget: cents(1000), wanted: cents(1), want: Decision{AmountCents: 1}},
		{name: "moved up to the minimum", amount: `money("5")`, min: cents(600), want: Decision{AmountCents: 600, Rule: RuleAmount}},
		{name: "moved down to the maximum", amount: `money("5")`, max: cents(400), want: Decision{AmountCents: 400, Rule: RuleAmount}},
		{name: "nothing is not moved", amount: `money("0")`, min: cents(600), want: Decision{Refused: ReasonNoAmount, Rule: RuleAmount}},
		{name: "less than nothing", amount: `money("1") - money("2")`, min: cents(600), want: Decision{AmountCents: -100, Refused: ReasonNoAmount, Rule: RuleAmount}},
		{
			name: "amount has no answer", amount: "posting.budget_max / 0", budget: cents(1000),
			want: Decision{Refused: ReasonPolicyError, Rule: RuleAmount}, cause: "division by zero",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := Budget{MinCents: tt.min, MaxCents: tt.max, Expressions: expressions(t, tt.eligible, tt.amount)}
			p := posting.Posting{Key: job("1"), CachedAt: noon().Add(-time.Hour), BudgetMaxCents: tt.budget, Bid: &posting.Bid{AmountCents: tt.wanted}}
			got := b.Decide(t.Context(), p, noon())
			if cause := got.Err; cause == nil && tt.cause != "" || cause != nil && (tt.cause == "" || !strings.HasPrefix(cause.Error(), tt.cause)) {
				t.Errorf("cause: %v, want %q", cause, tt.cause)
			}
			got.Err = nil
			want(t, "decision", got, tt.want)
		})
	}
}

// TestPolicyInClaim: what the policy refuses, or has no answer for, is decided without a bid;
// by hand, --amount beats the amount alone.
func TestPolicyInClaim(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.cache(t, noon(), job("bad"), job("good"), job("none"), job("rich"))
	f.exec(t, "UPDATE postings SET title = job_id, bid_period_days = 3")
	f.exec(t, "UPDATE postings SET budget_max_cents = NULL WHERE job_id = 'none'")
	f.exec(t, "UPDATE postings SET budget_max_cents = 99999 WHERE job_id = 'rich'")
	f.rules.Reads = policy.Reads{Content: true}
	f.rules.Policy = Budget{MaxCents: cents(50000), Expressions: expressions(t,
		`posting.title != "bad" && posting.bid_period_days == 3`, `posting.budget_max * "1.5"`)}.Decide
	c := f.claimer(at(noon()))

	previews := preview(t, c, []posting.Key{job("bad"), job("good"), job("none"), job("rich")}, PreviewOptions{Pass: true})
	made := pass(t, c, PassOptions{})
	for _, attempts := range [][]Attempt{previews, made} {
		want(t, "outcomes", verdicts(attempts), []string{"ineligible policy", "claimed", "ineligible policy_error", "claimed"})
		want(t, "amounts", []int64{attempts[1].AmountCents, attempts[3].AmountCents}, []int64{1500, 50000})
		want(t, "rules", []string{attempts[0].Rule, attempts[1].Rule, attempts[2].Rule}, []string{RuleEligible, RuleAmount, RuleAmount})
		if err := attempts[2].Err; err == nil || !strings.Contains(err.Error(), "posting.budget_max is absent") {
			t.Errorf("cause: %v", err)
		}
	}
	want(t, "candidates left", f.count(t, "candidates"), 0)
	want(t, "bids", f.live(t), 2)

	want(t, "by hand", verdict(attempt(t, c, job("none"), AttemptOptions{AmountCents: cents(123)})), "claimed")
	want(t, "amount by hand", f.count(t, "bids WHERE job_id = 'none' AND amount_cents = 123"), 1)
	want(t, "by hand, refused", verdict(attempt(t, c, job("bad"), AttemptOptions{AmountCents: cents(123)})), "ineligible policy")
}

// TestPolicyOfLongContent: an expression has no answer on a text that is too long, and on the longest one
// that is not it has.
func TestPolicyOfLongContent(t *testing.T) {
	t.Parallel()
	tests := []struct{ eligible, longest, longer string }{
		{`posting.title.endsWith("x")`, "title = repeat('x', 10000)", "title = repeat('x', 10001)"},
		{`posting.title.endsWith("é")`, "title = repeat('é', 5000)", "title = repeat('é', 5001)"},
		{`posting.url.endsWith("x")`, "url = repeat('x', 10000)", "url = repeat('x', 20000)"},
		{`posting.description.endsWith("x")`, "description = repeat('x', 100000)", "description = repeat('x', 200000)"},
		{`size(posting.skills) == 250`, "skills = array_fill('x'::text, '{250}')", "skills = array_fill('x'::text, '{251}')"},
		{`size(posting.skills) == 1`, "skills = ARRAY[repeat('x', 250)]", "skills = ARRAY[repeat('x', 500)]"},
	}
	for _, tt := range tests {
		t.Run(tt.eligible, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			f.cache(t, noon(), job("1"), job("2"))
			f.exec(t, "UPDATE postings SET "+tt.longest+" WHERE job_id = '1'")
			f.exec(t, "UPDATE postings SET "+tt.longer+" WHERE job_id = '2'")
			f.rules.Reads = policy.Reads{Content: true, Description: true}
			f.rules.Policy = Budget{Expressions: expressions(t, tt.eligible, "")}.Decide
			want(t, "outcomes", verdicts(pass(t, f.claimer(at(noon())), PassOptions{})), []string{"claimed", "ineligible policy_error"})
		})
	}
}

// TestPolicyOfAFile: a dry run's policy sees the newer content of the file, whole.
func TestPolicyOfAFile(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.cache(t, noon().Add(-time.Hour), job("1"))
	f.rules.Reads = policy.Reads{Content: true, Description: true}
	f.rules.Policy = Budget{Expressions: expressions(t, `posting.title == "new" && posting.description == "text" && posting.skills == ["go"]`, "")}.Decide
	newer := posting.Posting{Key: job("1"), CachedAt: noon(), Title: "new", Description: "text", Skills: []string{"go"}, BudgetMaxCents: cents(5)}
	for _, amount := range []*int64{nil, cents(7)} {
		options := PreviewOptions{Pass: true, AmountCents: amount, Refreshed: map[posting.Key]posting.Posting{job("1"): newer}}
		want(t, "with the file", verdict(preview(t, f.claimer(at(noon())), []posting.Key{job("1")}, options)[0]), "claimed")
	}
	want(t, "without", verdict(preview(t, f.claimer(at(noon())), []posting.Key{job("1")}, PreviewOptions{Pass: true})[0]), "ineligible policy")
}

// TestContent: the policy sees what it reads, of each posting its own.
func TestContent(t *testing.T) {
	t.Parallel()
	if err := scenarioContent(t, setup(t)); err != nil {
		t.Error(err)
	}
}

func scenarioContent(t *testing.T, f *fixture) error {
	t.Helper()
	long := posting.Key{Marketplace: "upwork", JobID: "long"}
	keys := []posting.Key{{Marketplace: "guru", JobID: "1"}, {Marketplace: "guru", JobID: "2"}, {Marketplace: "upwork", JobID: "1"}, long}
	f.cache(t, noon(), keys...)
	f.exec(t, `UPDATE postings SET title = marketplace || job_id, url = 'https://' || job_id, currency = 'EUR', pricing = 'fixed',
		skills = ARRAY[job_id, 'go'], posted_at = $1, deadline = $2, bid_period_days = 9, description = 'of ' || marketplace || job_id`, noon(), noon().Add(time.Hour))
	f.exec(t, `UPDATE postings SET title = repeat('é', 20000), url = repeat('u', 20000), description = repeat('d', 200000),
		skills = ARRAY(SELECT n || repeat('s', 300) FROM generate_series(1, 300) AS n) WHERE job_id = 'long'`)
	var skills []string // no more than shows that all is too long
	for n := range 251 {
		skills = append(skills, (strconv.Itoa(n+1) + strings.Repeat("s", 300))[:251])
	}
	var errs []error
	for _, reads := range []policy.Reads{{}, {Content: true}, {Content: true, Description: true}} {
		seen := map[posting.Key]posting.Posting{}
		f.rules.Reads = reads
		f.rules.Policy = func(_ context.Context, p posting.Posting, now time.Time) Decision {
			errs = append(errs, differ("time", now, noon()))
			seen[p.Key] = p
			return Decision{Refused: ReasonPolicy}
		}
		_, err := f.claimer(at(noon())).tryPreview(t.Context(), keys, PreviewOptions{})
		wanted := map[posting.Key]posting.Posting{}
		for _, key := range keys {
			p := posting.Posting{Key: key, CachedAt: noon(), BudgetMaxCents: cents(1000), Currency: "EUR", Bid: &posting.Bid{}}
			if reads.Content {
				days, posted, deadline := int32(9), noon(), noon().Add(time.Hour)
				p.Title, p.URL, p.Pricing = key.Marketplace+key.JobID, "https://"+key.JobID, "fixed"
				p.Skills, p.PostedAt, p.Deadline, p.Bid.PeriodDays = []string{key.JobID, "go"}, &posted, &deadline, &days
			}
			if reads.Description {
				p.Description = "of " + key.Marketplace + key.JobID
			}
			if reads.Content && key == long {
				p.Title, p.URL, p.Skills = strings.Repeat("é", 10001), strings.Repeat("u", 10001), skills
			}
			if reads.Description && key == long {
				p.Description = strings.Repeat("d", 100001)
			}
			wanted[key] = p
		}
		errs = append(errs, err, differ("seen", seen, wanted))
	}
	return errors.Join(errs...)
}

// TestSlowPolicy: a policy that takes longer than the server bears, and than the claim's own time, is no outage: the
// postings are tried one by one, and the one that is slow by itself waits longer for its next turn.
func TestSlowPolicy(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.limits.TTL, f.limits.Statement = 2*time.Second, time.Second
	f.cacheNow(t, jobs(3)...)
	decide := f.rules.Policy
	var evaluations atomic.Int64
	f.rules.Policy = func(ctx context.Context, p posting.Posting, now time.Time) Decision {
		if evaluations.Add(1) == 1 || p.Key == jobs(3)[2] {
			<-ctx.Done()
		}
		return decide(context.WithoutCancel(ctx), p, now)
	}
	made := pass(t, f.claimer(), PassOptions{})
	want(t, "outcomes", verdicts(made), []string{"claimed", "claimed", "failed lock_expired"})
	want(t, "live bids", f.live(t), 2)
	want(t, "the slow one waits", f.count(t, "candidates WHERE job_id = $1 AND tries = 1 AND last_error LIKE 'lock_expired: %'", jobs(3)[2].JobID), 1)
}

// TestPolicyOutOfTime: a claim whose time ends while the policy is asked takes no answer of it for what it thinks of the
// posting, also where the policy itself was quick and the rest was slow.
func TestPolicyOutOfTime(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.limits.TTL, f.limits.Statement = 2*time.Second, 300*time.Millisecond
	f.cacheNow(t, job("1"))
	decide := f.rules.Policy
	var evaluations atomic.Int64
	f.rules.Policy = func(ctx context.Context, p posting.Posting, now time.Time) Decision {
		if evaluations.Add(1) > 1 {
			return decide(ctx, p, now)
		}
		<-ctx.Done()
		return Decision{Refused: ReasonPolicyError, Err: ctx.Err()}
	}
	c := f.claimer(once("beginning", func() { time.Sleep(3 * f.limits.Statement) })) // as for a connection
	a := attempt(t, c, job("1"), AttemptOptions{})
	want(t, "outcome", verdict(a), "failed lock_expired")
	want(t, "next time", verdict(attempt(t, c, job("1"), AttemptOptions{})), "claimed")
}
