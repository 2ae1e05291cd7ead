package bidding

import "github.com/arbitrageai/bidder/pkg/posting"

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
)

// Decision is what a policy says of a posting.
type Decision struct {
	// Refused is the reason not to bid, or "".
	Refused string
	// AmountCents is what to bid, in hundredths of the posting's currency.
	AmountCents int64
	// NeedsApproval means that a person must approve the bid before it is sent.
	NeedsApproval bool
}

// Policy decides whether and how much to bid on a posting that nothing else stands
// against. It must be quick and pure: it runs while the posting's lock is held. Of the
// posting it sees the key, the budget, the wanted amount and cached_at.
type Policy func(posting.Posting) Decision

// Budget bids what the posting asks for, else the client's budget within bounds.
type Budget struct {
	// MinCents and MaxCents bound every amount; nil is no bound.
	MinCents, MaxCents *int64
	// SwitchedOff says which marketplaces are not bid on; nil is none.
	SwitchedOff func(marketplace string) bool
	// NeedsApproval says where a person approves each bid; nil is nowhere.
	NeedsApproval func(marketplace string) bool
}

// Decide is a [Policy]. An amount that someone asked for is never changed: outside the
// bounds it is refused. A budget is moved to the nearer bound.
func (b Budget) Decide(p posting.Posting) Decision {
	if b.SwitchedOff != nil && b.SwitchedOff(p.Marketplace) {
		return Decision{Refused: ReasonHandlerNone}
	}
	decision := Decision{NeedsApproval: b.NeedsApproval != nil && b.NeedsApproval(p.Marketplace)}
	switch {
	case p.Bid != nil && p.Bid.AmountCents != nil:
		decision.AmountCents = *p.Bid.AmountCents
		decision.Refused = b.outOfBounds(decision.AmountCents)
		return decision
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
