// Package delivery makes marketplaces catch up with what bids owe them: it leases what is
// due, calls the marketplace outside any transaction, and records what the call proved.
//
// Postgres cannot fence a marketplace. What keeps a bid from being placed twice is that
// every POST is armed in the database first, that an answer which proves nothing is
// followed by look-ups and not by another POST, and that a result is recorded only under
// the token of the lease it was made with. docs/protocol.md explains each rule.
package delivery

import (
	"errors"
	"sync"
	"time"

	"github.com/arbitrageai/bidder/pkg/marketplace"
)

// Kinds of deliveries.
const (
	Place    = "place"
	Withdraw = "withdraw"
)

// Reasons for which a delivery waits for a person.
const (
	// ReasonNoAPI: nobody but a person can do it.
	ReasonNoAPI = "no_api"
	// ReasonStale: the posting was no longer fresh, or past its deadline, when the bid was to be sent.
	ReasonStale = "stale"
	// ReasonUnresolved: it was sent, the answer proved nothing, and no look-up has found it.
	ReasonUnresolved = "unresolved"
	// ReasonRetriesExhausted: too many failures in a row.
	ReasonRetriesExhausted = "retries_exhausted"
	// ReasonAuth: the account is not signed in.
	ReasonAuth = "auth_needed"
	// ReasonExternalIDClash: the id that the marketplace gives cannot be this bid's.
	ReasonExternalIDClash = "external_id_clash"
	// ReasonAwarded: the bid was awarded and cannot be taken back.
	ReasonAwarded = "awarded"
	// ReasonRejectedElsewhere: the marketplace says that it has rejected a bid that was never sent from here.
	ReasonRejectedElsewhere = "rejected_elsewhere"
	// ReasonWithdrawnElsewhere: the marketplace says that somebody took the bid back.
	ReasonWithdrawnElsewhere = "withdrawn_elsewhere"
	// ReasonExpiredElsewhere: the marketplace says that the bid has expired.
	ReasonExpiredElsewhere = "expired_elsewhere"
	// ReasonLostElsewhere: the marketplace says that another bid was chosen.
	ReasonLostElsewhere = "lost_elsewhere"
	// ReasonAwardPending: the client has chosen the bid, and a person has to agree at the marketplace.
	ReasonAwardPending = "award_pending"
	// ReasonStatusUnknown: the bid was placed, and for too long nobody has said how it stands there.
	ReasonStatusUnknown = "status_unknown"
	// ReasonApproval: a person has to approve it first. It waits for that, and not in review.
	ReasonApproval = "approval"
	// ReasonNoHandler: the configuration names no client for the marketplace.
	ReasonNoHandler = "no_handler"
)

// ErrNoHandler means that the configuration names no client for a marketplace that is owed something.
var ErrNoHandler = errors.New("no handler is configured for the marketplace")

// Account is what the engine needs to know of one marketplace.
type Account struct {
	Client marketplace.Client
	// Gap is the shortest time between two calls of the account, over all pods; 0 is none.
	Gap time.Duration
	// Settle is how long a bid that was sent may take to show up in look-ups. Before that
	// nothing is sent again and nothing is believed to be absent.
	Settle time.Duration
	// Refresh is how often a live bid is looked up to see how it stands there; 0 is never.
	Refresh time.Duration
	// AskAfter is how long nobody may have said how a live bid stands before a person is
	// asked; 0 is for ever.
	AskAfter time.Duration
	// NeedsApproval means that nothing is sent that no person has approved, also of what was
	// claimed when that was not asked for.
	NeedsApproval bool
}

// Options configure an [Engine].
type Options struct {
	// Account returns the client of a marketplace; where there is none, [ErrNoHandler] and an
	// Account whose AskAfter counts. Any other error concerns the bids of this marketplace
	// only; its text is kept with them.
	Account func(marketplace string) (Account, error)
	// Lease is how long one process owns a delivery.
	Lease time.Duration
	// PostingTTL is how fresh a posting must be when its bid is first sent.
	PostingTTL time.Duration
	// RetryBase, RetryCap and RetryMax: the first gap, the longest, and the failed attempts
	// after which a person must look.
	RetryBase, RetryCap time.Duration
	RetryMax            int
}

// Counts say what became of the deliveries of one kind.
type Counts struct {
	Done     int64 `json:"done"`
	Retry    int64 `json:"retry"`
	Review   int64 `json:"review"`
	Rejected int64 `json:"rejected"`
}

// Totals are the counts of a pass.
type Totals struct {
	Place    Counts `json:"place"`
	Withdraw Counts `json:"withdraw"`
	// Recovered are deliveries taken over from pods whose lease had run out.
	Recovered int64 `json:"-"`
	// ForPerson are deliveries that went to review and were not meant to be a person's from
	// the start.
	ForPerson int64 `json:"-"`
	// Refreshed are the look-ups of live bids; not deliveries, and so not printed with them.
	Refreshed Refreshed `json:"-"`
}

// Set sets one count by the names that it has in JSON; others are left alone.
func (t *Totals) Set(kind, result string, n int64) {
	counts := map[string]*Counts{Place: &t.Place, Withdraw: &t.Withdraw}[kind]
	if counts == nil {
		return
	}
	if field := map[string]*int64{
		"done": &counts.Done, "retry": &counts.Retry, "review": &counts.Review, "rejected": &counts.Rejected,
	}[result]; field != nil {
		*field = n
	}
}

// Counters add up deliveries, safe for concurrent use.
type Counters struct {
	mu     sync.Mutex
	totals Totals
}

// Totals reads the counters.
func (c *Counters) Totals() Totals {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.totals
}

func (c *Counters) add(kind string, abandoned bool, v Verdict) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if abandoned {
		c.totals.Recovered++
	}
	counts := &c.totals.Place
	if kind == Withdraw {
		counts = &c.totals.Withdraw
	}
	switch {
	case v.placed != nil, v.ended == "WITHDRAWN" && kind == Withdraw:
		counts.Done++
	case v.ended != "":
		counts.Rejected++
	case v.review != "":
		counts.Review++
		if !v.expected() {
			c.totals.ForPerson++
		}
	default:
		counts.Retry++
	}
}
