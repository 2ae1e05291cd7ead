package policy_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/arbitrageai/bidder/pkg/policy"
	"github.com/arbitrageai/bidder/pkg/posting"
)

// FuzzCompile looks for expressions that panic, hang, or fail with anything but a report of
// what is wrong; what compiles has an answer or an error for every posting.
func FuzzCompile(f *testing.F) {
	for _, text := range []string{
		`posting.budget_max >= money("200") && "go" in posting.skills.map(s, s.lowerAscii())`,
		`min(posting.budget_max * "0.9", money("480.00")).percent("12.5") / 3`,
		`now - posting.posted_at < duration("2h") ? true : has(posting.url)`,
		`posting.description.matches("(?i)\\bgo\\b")`,
		"((((((((", "[[[[{'a': posting}]]]].map(x, x)", "posting.`title` == r'\xff'", "\xff\x00", "1 / 0 == 1",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		eligible, err := policy.CompileEligible(text)
		check(t, err)
		amount, err := policy.CompileAmount(text)
		check(t, err)
		for _, p := range []posting.Posting{full(), bare()} {
			if eligible != nil {
				_, err := eligible.Evaluate(t.Context(), p, noon())
				checkEvaluation(t, err)
			}
			if amount != nil {
				_, err := amount.Evaluate(t.Context(), p, noon())
				checkEvaluation(t, err)
			}
		}
	})
}

func check(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		return
	}
	wrong, ok := errors.AsType[*policy.Error](err)
	if !ok || len(wrong.Problems) == 0 {
		t.Fatalf("%T: %v", err, err)
	}
	for _, p := range wrong.Problems {
		if p.Line < 1 || p.Column < 1 || p.Message == "" {
			t.Errorf("%+v", p)
		}
	}
}

// checkEvaluation lets no recovered panic pass for an answer.
func checkEvaluation(t *testing.T, err error) {
	t.Helper()
	if err != nil && strings.Contains(err.Error(), "internal error") {
		t.Error(err)
	}
}
