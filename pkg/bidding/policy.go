package bidding

import (
	"context"
	"time"

	"github.com/arbitrageai/bidder/pkg/policy"
	"github.com/arbitrageai/bidder/pkg/posting"
)

// Reasons of a refusing policy; they become the Detail of Ineligible.
const (
	// ReasonHandlerNone means that the marketplace is switched off.
	ReasonHandlerNone = "handler_none"
	// ReasonNoAmount means that neither the posting nor its budget says what to bid.
	ReasonNoAmount = "no_amount"
	// ReasonAmountBelowMinimum means that the wanted amount is below min_amount.
	ReasonAmountBelowMinimum = "amount_below_minimum"
	// ReasonAmountAboveMaximum means that the wanted amount is above max_amount.
	ReasonAmountAboveMaximum = "amount_above_maximum"
	// ReasonPolicy means that the operator's own condition is false.
	ReasonPolicy = "policy"
	// ReasonPolicyError means that an expression of the operator's has no answer for the
	// posting, such as a division by zero.
	ReasonPolicyError = "policy_error"
)

// The expressions of the operator, as the configuration calls them.
const (
	RuleEligible = "eligible"
	RuleAmount   = "amount"
)

// Decision is what a policy says of a posting.
type Decision struct {
	// Refused is the reason not to bid, or "".
	Refused string
	// AmountCents is what to bid, in hundredths of the posting's currency.
	AmountCents int64
	// NeedsApproval means that a person must approve the bid before it is sent.
	NeedsApproval bool
	// Rule is the expression of the operator's that decided, [RuleEligible] or [RuleAmount],
	// or "".
	Rule string
	// Err says why that expression has no answer, for ReasonPolicyError.
	Err error
}

// Policy decides at the time now whether and how much to bid on a posting that nothing else
// stands against. It must be quick and pure: it runs while the posting's lock is held. Of the
// posting it sees the key, the budget, the wanted amount, cached_at and what [Rules] read.
// The end of ctx ends a long evaluation; the claim then fails by itself. A panic ends the process: the
// postings of other callers may be in the same transaction.
type Policy func(ctx context.Context, p posting.Posting, now time.Time) Decision

// Budget bids what the posting asks for, else what the operator's expression says, else the
// client's budget, the latter two within bounds.
type Budget struct {
	// MinCents and MaxCents bound every amount; nil is no bound.
	MinCents, MaxCents *int64
	// SwitchedOff says which marketplaces are not bid on; nil is none.
	SwitchedOff func(marketplace string) bool
	// NeedsApproval says where a person approves each bid; nil is nowhere.
	NeedsApproval func(marketplace string) bool
	// Expressions are what the operator has written for a marketplace, each nil where that
	// is nothing; nil is nothing anywhere.
	Expressions func(marketplace string) (*policy.Eligible, *policy.Amount)
}

// Decide is a [Policy]. An amount that someone asked for is never changed: outside the
// bounds it is refused. A budget, and what an expression makes of it, is moved to the nearer
// bound.
func (b Budget) Decide(ctx context.Context, p posting.Posting, now time.Time) Decision {
	if b.SwitchedOff != nil && b.SwitchedOff(p.Marketplace) {
		return Decision{Refused: ReasonHandlerNone}
	}
	var amount *policy.Amount
	if b.Expressions != nil {
		var eligible *policy.Eligible
		eligible, amount = b.Expressions(p.Marketplace)
		if refused := check(ctx, eligible, p, now); refused.Refused != "" {
			return refused
		}
	}
	decision := Decision{NeedsApproval: b.NeedsApproval != nil && b.NeedsApproval(p.Marketplace)}
	switch {
	case p.Bid != nil && p.Bid.AmountCents != nil:
		decision.AmountCents = *p.Bid.AmountCents
		decision.Refused = b.outOfBounds(decision.AmountCents)
		return decision
	case amount != nil:
		decision.Rule = RuleAmount
		if decision.AmountCents, decision.Err = amount.Evaluate(ctx, p, now); decision.Err != nil {
			decision.Refused = ReasonPolicyError
			return decision
		}
	case p.BudgetMaxCents != nil:
		decision.AmountCents = *p.BudgetMaxCents
	case p.BudgetMinCents != nil:
		decision.AmountCents = *p.BudgetMinCents
	}
	if decision.AmountCents <= 0 {
		decision.Refused = ReasonNoAmount
		return decision
	}
	if b.MaxCents != nil {
		decision.AmountCents = min(decision.AmountCents, *b.MaxCents)
	}
	if b.MinCents != nil {
		decision.AmountCents = max(decision.AmountCents, *b.MinCents)
	}
	return decision
}

// check refuses what the operator's condition refuses.
func check(ctx context.Context, eligible *policy.Eligible, p posting.Posting, now time.Time) Decision {
	if eligible == nil {
		return Decision{}
	}
	switch ok, err := eligible.Evaluate(ctx, p, now); {
	case err != nil:
		return Decision{Refused: ReasonPolicyError, Rule: RuleEligible, Err: err}
	case !ok:
		return Decision{Refused: ReasonPolicy, Rule: RuleEligible}
	}
	return Decision{}
}

func (b Budget) outOfBounds(cents int64) string {
	switch {
	case cents <= 0:
		return ReasonNoAmount
	case b.MinCents != nil && cents < *b.MinCents:
		return ReasonAmountBelowMinimum
	case b.MaxCents != nil && cents > *b.MaxCents:
		return ReasonAmountAboveMaximum
	}
	return ""
}
