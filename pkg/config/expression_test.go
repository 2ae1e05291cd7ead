package config_test

import (
	"testing"

	"github.com/arbitrageai/bidder/pkg/config"
	"github.com/arbitrageai/bidder/pkg/policy"
)

func TestExpressions(t *testing.T) {
	t.Parallel()
	const file = `
eligible: posting.title != ""
amount: 'money("5")'
marketplaces:
  upwork:
    eligible: |-
      posting.description
        != ""
  guru:
    amount: posting.budget_max
`
	cfg := load(t, source(file))
	tests := []struct {
		marketplace, eligible, amount string
		eligibleKey, amountKey        string
		eligibleAt, amountAt          config.Origin
	}{
		{"upwork", "posting.description\n  != \"\"", `money("5")`, "marketplaces.upwork.eligible", "amount", "bidder.yaml:6:15", "bidder.yaml:3:9"},
		{"guru", `posting.title != ""`, "posting.budget_max", "eligible", "marketplaces.guru.amount", "bidder.yaml:2:11", "bidder.yaml:10:13"},
		{"unnamed", `posting.title != ""`, `money("5")`, "eligible", "amount", "bidder.yaml:2:11", "bidder.yaml:3:9"},
	}
	for _, tt := range tests {
		m := cfg.Marketplace(tt.marketplace)
		eligible, amount := m.Eligible, m.Amount
		if eligible.String() != tt.eligible || amount.String() != tt.amount {
			t.Errorf("%s: got %q and %q", tt.marketplace, eligible, amount)
		}
		if key, at := cfg.Deciding(tt.marketplace, "eligible"); key != tt.eligibleKey || at != tt.eligibleAt {
			t.Errorf("%s: %s at %s decides who is eligible", tt.marketplace, key, at)
		}
		if key, at := cfg.Deciding(tt.marketplace, "amount"); key != tt.amountKey || at != tt.amountAt {
			t.Errorf("%s: %s at %s decides on the amount", tt.marketplace, key, at)
		}
	}
	if got, want := cfg.Reads(), (policy.Reads{Content: true, Description: true}); got != want {
		t.Errorf("reads %+v, want %+v", got, want)
	}

	none := load(t, source(" "))
	if m := none.Marketplace("upwork"); m.Eligible != nil || m.Amount != nil || none.Reads() != (policy.Reads{}) {
		t.Errorf("got %v, %v and %+v without any", m.Eligible, m.Amount, none.Reads())
	}
}

// TestExpressions_places: a mistake is shown where it stands in the file, however YAML writes
// the text. The mistake is always the name x.
func TestExpressions_places(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, file, where string }{
		{"plain", "eligible: true && x\n", "1:19"},
		{"single quotes", "eligible: 'true && x'\n", "1:20"},
		{"doubled quotes", "eligible: 'posting.title == ''a'' && x'\n", "1:38"},
		{"double quotes", `eligible: "true && x"` + "\n", "1:20"},
		{"escapes", `eligible: "posting.title == \"\x61\u00e9\U0001F600\" && x"` + "\n", "1:57"},
		{"an escaped name", `eligible: "true && \u0078"` + "\n", "1:20"},
		{"an escaped line end", `eligible: "true\n&& x"` + "\n", "1:21"},
		{"wide characters", "eligible: 'posting.title == \"é😀\" && x'\n", "1:37"},
		{"in the next line", "eligible:\n  true && x\n", "2:11"},
		{"plain in two lines", "eligible: true\n  && x\n", "2:6"},
		{"quoted in three lines", "eligible: 'true\n\n   && x'\n", "3:7"},
		{"continued in double quotes", "eligible: \"true \\\n  && x\"\n", "2:6"},
		{"literal", "eligible: |\n  true\n    && x\n", "3:8"},
		{"literal with an indentation", "eligible: |2-\n    true\n   && x\n", "3:7"},
		{"folded", "eligible: >-\n  true\n  && x\n", "3:6"},
		{"folded with a blank line", "eligible: >\n  true\n\n  && x\n", "4:6"},
		{"of a marketplace", "marketplaces:\n  upwork:\n    eligible: 'x'\n", "3:16"},
		{"in braces", "marketplaces: {upwork: {eligible: true && x}}\n", "1:43"},
		{"with a comment", "# é\neligible: true && x # no\n", "2:19"},
		{"with line ends of Windows", "# é\r\neligible: |\r\n  true\r\n  && x\r\n", "4:6"},
		{"after a byte order mark", "\uFEFFeligible: true && x\n", "1:19"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			wantProblems(t, source(tt.file), "bidder.yaml:"+tt.where+`: "x" is not known`)
		})
	}
}

func TestExpressions_problems(t *testing.T) {
	t.Parallel()
	const file = `
eligible: posting.titl == "" && posting.budget_max >= 200
amount: 5
marketplaces:
  upwork: {eligible: true, amount: }
  guru: {eligible: [a], amount: postng.budget_max}
`
	wantProblems(t, source(file),
		`bidder.yaml:2:18: there is no field "titl" (did you mean title?)`,
		`bidder.yaml:2:52: ">=" does not take (money, int) (write money("200"))`,
		`bidder.yaml:3:9: must be money, and is int`,
		`bidder.yaml:5:35: a value is missing here`,
		`bidder.yaml:6:20: a single value is expected here`,
		`bidder.yaml:6:33: "postng" is not known (did you mean posting?)`,
	)
}
