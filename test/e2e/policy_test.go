package e2e

import (
	"strings"
	"testing"
)

type policyReport struct {
	Items []struct {
		JobID      string `json:"job_id"`
		Eligible   bool
		Detail     *string
		Amount     *string
		Currency   string
		Expression *string
		At         *string
		Reason     string
	}
	Read, Rejected int
	Rejects        []reject
}

// TestPolicy: what `policy test` says of postings without a database is what a dry run, a run
// and `why` then say of them.
func TestPolicy(t *testing.T) {
	t.Parallel()
	f := setup(t)
	configuration := file(t, "bidder.yaml",
		`max_amount: "400.00"`,
		`eligible: 'posting.budget_max >= money("50") && "go" in posting.skills.map(s, s.lowerAscii())'`,
		`amount: posting.budget_max.percent(90)`,
		`marketplaces:`,
		`  guru:`,
		`    eligible: |`,
		`      posting.description.matches("(?i)crawler")`,
		`        && posting.budget_min > money("1")`,
	)
	onGuru := func(jobID, more string) string {
		return `{"marketplace":"guru","job_id":"` + jobID + `","title":"A title","budget_max":100` + more + `}`
	}
	postings := []string{
		line("yes", `,"skills":["Go"]`),
		`{"marketplace":"upwork","job_id":"clamped","title":"x","budget_max":1000,"skills":["GO"]}`,
		line("wanted", `,"skills":["Go"],"bid":{"amount":"12.50"}`),
		line("no skill"),
		`{"marketplace":"upwork","job_id":"no budget","title":"x","skills":["go"]}`,
		onGuru("own", `,"budget_min":50,"description":"A Crawler"`),
		onGuru("own, no", `,"budget_min":50`),
		onGuru("own, error", `,"description":"A crawler"`),
		"bad",
	}
	type verdict struct{ detail, amount, expression, at, reason string }
	const top, own = "bidder.yaml:2:11", "bidder.yaml:6:15"
	wanted := map[string]verdict{
		"yes":        {"<null>", "90.00", "amount", "bidder.yaml:3:9", "a bid of 90.00 USD, by amount ("},
		"clamped":    {"<null>", "400.00", "amount", "bidder.yaml:3:9", "a bid of 400.00"},
		"wanted":     {"<null>", "12.50", "<null>", "<null>", "a bid of 12.50 USD."},
		"no skill":   {"policy", "<null>", "eligible", top, "eligible ("},
		"no budget":  {"policy_error", "<null>", "eligible", top, "posting.budget_max is absent: ask has(posting.budget_max) first (at 1:8 of the expression)"},
		"own":        {"<null>", "90.00", "amount", "bidder.yaml:3:9", "a bid of 90.00"},
		"own, no":    {"policy", "<null>", "marketplaces.guru.eligible", own, "marketplaces.guru.eligible ("},
		"own, error": {"policy_error", "<null>", "marketplaces.guru.eligible", own, "posting.budget_min is absent"},
	}
	test := call{args: []string{"policy", "test", "-", "--cached-at", "now", "--config", configuration}}.reading(postings...)
	report := decode[policyReport](t, test.json().run(t).want(t, 3))
	if report.Read != 9 || report.Rejected != 1 || len(report.Rejects) != 1 || report.Rejects[0].Line != 9 || len(report.Items) != len(wanted) {
		t.Errorf("got %+v", report)
	}
	for _, item := range report.Items {
		want := wanted[item.JobID]
		if orNone(item.Detail) != want.detail || orNone(item.Amount) != want.amount || orNone(item.Expression) != want.expression ||
			!strings.HasSuffix(orNone(item.At), want.at) || !strings.Contains(item.Reason, want.reason) || item.Eligible != (item.Detail == nil) {
			t.Errorf("%s: got %s %s %s %s %q, want %+v", item.JobID, orNone(item.Detail), orNone(item.Amount), orNone(item.Expression), orNone(item.At), item.Reason, want)
		}
	}
	if table := test.run(t).want(t, 3).stdout; !strings.Contains(table, "400.00 USD") || !strings.Contains(table, "is absent") {
		t.Errorf("got\n%s", table)
	}

	run := f.call("run", "--postings", "-", "--cached-at", "now", "--config", configuration).reading(postings...)
	var rehearsed runReport
	f.untouched(func() {
		rehearsed = decode[runReport](t, run.with("BIDDER_DRY_RUN=true").json().run(t).want(t, 3))
	})
	done := run.json().run(t)
	for _, report := range []runReport{rehearsed, decode[runReport](t, done)} {
		if report.Outcomes["claimed"] != 4 || report.Outcomes["ineligible"] != 4 || report.Attempts != 8 {
			t.Errorf("got %v", report.Outcomes)
		}
	}
	if !strings.Contains(done.stderr, "the policy has no answer") || !strings.Contains(done.stderr, "posting.budget_min is absent") {
		t.Errorf("the log says nothing of errors of the policy:\n%s", done.stderr)
	}
	f.wantCount(2, "bids WHERE amount_cents = 9000")
	f.wantCount(1, "bids WHERE amount_cents = 40000")
	f.wantCount(1, "bids WHERE amount_cents = 1250")
	f.wantCount(0, "candidates")

	for _, item := range report.Items {
		if item.Eligible {
			continue
		}
		marketplace := "upwork"
		if strings.HasPrefix(item.JobID, "own") {
			marketplace = "guru"
		}
		why := decode[struct {
			Outcome string
			Reasons []string
		}](t, f.bidder("why", marketplace, item.JobID, "--config", configuration, "-o", "json").want(t, 0))
		if why.Outcome != "ineligible" || len(why.Reasons) == 0 || why.Reasons[0] != item.Reason {
			t.Errorf("%s: why says %+v, policy test %q", item.JobID, why, item.Reason)
		}
	}
	// By hand the policy holds as well, but for the amount.
	byHand := f.bidder("bid", "upwork", "no skill", "--amount", "5", "--config", configuration, "-o", "json").want(t, 3)
	if got := decode[bidReport](t, byHand); got.Outcome != "ineligible" || orNone(got.Detail) != "policy" {
		t.Errorf("got %+v", got)
	}
}

// TestPolicyMistakes: no command works with a policy that has mistakes, and all are told at once.
func TestPolicyMistakes(t *testing.T) {
	t.Parallel()
	f := setup(t)
	configuration := file(t, "bidder.yaml",
		`eligible: 'posting.budgt_max >= money("200")'`,
		`amount: posting.budget_max * 0.9`,
	)
	f.untouched(func() {
		for _, args := range [][]string{{"config", "check"}, {"policy", "test", "-"}, {"run"}, {"bid", "upwork", "1"}} {
			r := f.call(append(args, "--config", configuration)...).reading(line("1")).run(t).want(t, 2)
			for _, problem := range []string{
				"bidder.yaml:1:19: there is no field \"budgt_max\" (did you mean budget_max?)",
				"bidder.yaml:2:28: \"*\" does not take (money, double) (a number with a point is not exact",
			} {
				if !strings.Contains(r.stderr, problem) {
					t.Errorf("%v: no %q in\n%s", args, problem, r.stderr)
				}
			}
		}
	})
	(call{args: []string{"policy", "test", "missing.ndjson"}}).run(t).want(t, 2)
	(call{args: []string{"policy", "test"}}).run(t).want(t, 2)
}
