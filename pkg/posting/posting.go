// Package posting holds what bidder knows about a job on a marketplace: the
// [Posting] and its normal form, and the [Decoder] that reads postings from
// newline-delimited JSON.
package posting

import "time"

// A Posting is a job on a marketplace in its normal form: everything in it
// can be stored as it is. Text is valid UTF-8 without NUL; times are in UTC
// and, like the database's, exact to the microsecond.
type Posting struct {
	Key

	// CachedAt is when the posting was last seen on the marketplace.
	CachedAt time.Time
	// Title is never empty.
	Title string
	// Description is at most [MaxDescription] bytes long.
	Description string
	// URL is an http or https address, or empty.
	URL string
	// BudgetMinCents and BudgetMaxCents are in hundredths of Currency, from 0
	// to [MaxCents], or nil where the posting names none. Marketplaces do
	// publish a minimum above the maximum; see [NoteBudgetReversed].
	BudgetMinCents, BudgetMaxCents *int64
	// Currency is three upper-case letters.
	Currency string
	// Pricing is [PricingFixed], [PricingHourly], or empty if not known.
	Pricing string
	// Skills are not empty and hold no control characters.
	Skills []string
	// PostedAt and Deadline are nil where not known.
	PostedAt, Deadline *time.Time
	// Bid is what the file asks to bid, or nil.
	Bid *Bid
}

// The kinds of pricing.
const (
	PricingFixed  = "fixed"
	PricingHourly = "hourly"
)

// A Bid is what the file asks to bid on a posting. What it leaves out is left
// to the policy.
type Bid struct {
	// AmountCents is in hundredths of the posting's currency, from 0 to
	// [MaxCents], or nil.
	AmountCents *int64
	// PeriodDays is positive, or nil.
	PeriodDays *int32
	// Proposal is the text of the bid, or empty.
	Proposal string
}
