package bidding

import (
	"testing"

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
			want(t, "decision", tt.budget.Decide(p), tt.want)
			if tt.wanted == nil {
				p.Bid = nil
				want(t, "decision without a word from the scanner", tt.budget.Decide(p), tt.want)
			}
		})
	}
}
