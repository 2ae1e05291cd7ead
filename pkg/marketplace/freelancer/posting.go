package freelancer

import (
	"slices"
	"strconv"
	"time"

	"github.com/arbitrageai/bidder/pkg/posting"
)

// The reasons for which a project cannot be bid on by a program, whoever the account is.
const (
	ObstacleNotOpen    = "not_open"
	ObstaclePrivate    = "private"        // offered to one freelancer
	ObstacleNDA        = "nda"            // bidders have to sign something first
	ObstaclePreferred  = "preferred_only" // only for members of the Preferred Freelancer Program
	ObstacleNoCurrency = "no_currency"
)

// Obstacle says for which reason no bid can be placed on the project, or is empty. Whether the
// account may bid on projects that are featured, or large, or need a test, only a bid tells.
// Bids on sealed projects are like others: it is other bidders who do not see them.
func (p Project) Obstacle() string {
	switch {
	case !p.IsOpen:
		return ObstacleNotOpen
	case p.IsPrivate:
		return ObstaclePrivate
	case slices.Contains(p.Upgrades, "NDA"):
		return ObstacleNDA
	case slices.Contains(p.Upgrades, "pf_only"):
		return ObstaclePreferred
	case p.Currency == "": // another than the project's would be guessed
		return ObstacleNoCurrency
	}
	return ""
}

// maxBidPeriod bounds what is believed of how long a project takes bids, in days.
const maxBidPeriod = 3650

// Record is the project as a posting that was seen at a time. What becomes of it, or that it
// makes no posting, is for a [posting.Decoder] to say. The deadline is left out once it has
// passed: a project that is open in spite of it was prolonged.
func (p Project) Record(marketplace string, seenAt time.Time) posting.Record {
	r := posting.Record{
		Marketplace: marketplace, JobID: strconv.FormatInt(p.ID, 10), Title: p.Title, CachedAt: seenAt.Format(time.RFC3339Nano),
		Description: p.Description, URL: p.URL, BudgetMin: p.BudgetMin, BudgetMax: p.BudgetMax, Currency: p.Currency,
		Pricing: p.Type, Skills: p.Skills,
	}
	if p.SubmittedAt.IsZero() {
		return r
	}
	r.PostedAt = p.SubmittedAt.Format(time.RFC3339)
	if deadline := p.SubmittedAt.AddDate(0, 0, p.BidPeriodDays); 0 < p.BidPeriodDays && p.BidPeriodDays <= maxBidPeriod && deadline.After(seenAt) {
		r.Deadline = deadline.Format(time.RFC3339)
	}
	return r
}
