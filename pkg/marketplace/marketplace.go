// Package marketplace says what a marketplace client can do and what its answers mean.
// One folder below it is one client. None of them knows the database, and none decides
// whether something is sent again: they make one call and report what it proves.
package marketplace

import (
	"context"
	"time"

	"github.com/google/uuid"
)

// Dedup is what keeps a marketplace from taking the same bid twice.
type Dedup string

const (
	// NaturalKey means: it refuses a second live bid of an account on a posting.
	NaturalKey Dedup = "natural_key"
	// IdempotencyKey means: it answers a repeated key with the first answer.
	IdempotencyKey Dedup = "idempotency_key"
	// NoDedup means: nothing does. A bid is POSTed once, ever.
	NoDedup Dedup = "none"
)

// Capabilities are what an engine must know of a client before it calls it.
type Capabilities struct {
	// ByHand: there is nothing to call; a person does it all.
	ByHand bool
	Dedup  Dedup
	// LooksUpByPosting: Lookup also finds live bids of the account on the posting that
	// were not placed under this bid's key.
	LooksUpByPosting bool
	// LookupIsAuthoritative: a look-up that finds nothing, later than the marketplace's
	// settle time, proves that there is nothing.
	LookupIsAuthoritative bool
	// Timeout bounds one call.
	Timeout time.Duration
	// KeyLife is how long an idempotency key is remembered; 0 is for ever.
	KeyLife time.Duration
}

// Bid is a bid as a marketplace sees it. What is sent for one bid never changes.
type Bid struct {
	ID          uuid.UUID
	Marketplace string
	Account     string
	JobID       string
	JobURL      string // may be empty
	Title       string
	AmountCents int64
	Currency    string
	Pricing     string // fixed, hourly or empty
	PeriodDays  int32  // 0: not said
	Proposal    string
	// ArmedAt is when the first POST was armed: the timestamp in its body, the same in
	// every repetition.
	ArmedAt    time.Time
	ApprovedBy string
	ApprovedAt time.Time
	// Attempt counts the calls for the operation at hand from 1, for information only.
	Attempt int
	// ExternalID is the marketplace's own id, once known.
	ExternalID string
	// WithdrawReason and WithdrawAskedAt belong to a withdrawal.
	WithdrawReason  string
	WithdrawAskedAt time.Time
}

// Kind is what one call proves.
type Kind string

const (
	// Done means: it happened. For Place, ExternalID is set.
	Done Kind = "done"
	// NotExecuted means: it certainly did not happen (not a byte was sent, or 429), and may be
	// sent again no earlier than After.
	NotExecuted Kind = "not_executed"
	// Ambiguous means: it may or may not have happened. After, where given, is when to look.
	Ambiguous Kind = "ambiguous"
	// Permanent means: it was refused for good, with a known Code.
	Permanent Kind = "permanent"
	// AuthNeeded means that the account is not signed in.
	AuthNeeded Kind = "auth_needed"
	// PauseAccount means that the account must not call before After, or before a person says so (zero).
	PauseAccount Kind = "pause_account"
	// NeedsHuman means: a person must look, for the reason in Code.
	NeedsHuman Kind = "needs_human"
)

// Result is what came of Place or Withdraw.
type Result struct {
	Kind       Kind
	ExternalID string        // Done of Place; also known with some refusals ("you have bid already")
	Code       string        // a stable word for the reason: job_closed, limit_exhausted, …
	Message    string        // for people; bounded, and without secrets
	After      time.Duration // see the kinds; 0 where the marketplace did not say
	Status     int           // HTTP status, 0 where there was no answer
}

// Status is what a marketplace says of a bid that it has.
type Status string

// The statuses of bids at marketplaces.
const (
	Submitted Status = "submitted"
	// AwardPending means that the client chose this bid, and a person has to agree there.
	AwardPending Status = "award_pending"
	Accepted     Status = "accepted"
	Rejected     Status = "rejected"
	Withdrawn    Status = "withdrawn"
	Expired      Status = "expired"
	// Lost means that the client chose another bid.
	Lost Status = "lost"
)

// IsAwarded says whether the client has chosen the bid, agreed to or not.
func (s Status) IsAwarded() bool { return s == AwardPending || s == Accepted }

// IsLive says whether a bid in this status stands in the way of another one of its account.
func (s Status) IsLive() bool { return s == Submitted || s.IsAwarded() }

// Finding is what came of Lookup.
type Finding struct {
	// Known is false when the look-up itself failed; Result says how.
	Known bool
	// Found says that the marketplace has the bid, as ExternalID and in Status.
	Found      bool
	ExternalID string
	Status     Status
	// Definitive says that not finding it proves its absence as of now.
	Definitive bool
	// Dormant says that nobody has decided on the bid, but its posting is open no more, so that perhaps
	// nobody ever will. Status is then what that comes to in the end: Lost where another bid was
	// chosen, Submitted where nobody says so. Result says if the posting could not be read.
	Dormant bool
	// Foreign says that it is the account's, on this posting, but was not placed under this bid's key.
	Foreign bool
	// Result explains a failed look-up.
	Result Result
}

// Client is one account at one marketplace. It is safe for concurrent use. One call of a
// method is at most one request that changes anything.
type Client interface {
	Capabilities() Capabilities
	// Place sends the bid.
	Place(ctx context.Context, bid Bid) Result
	// Lookup asks for the bid by its key, or by its external id where it is known.
	Lookup(ctx context.Context, bid Bid) Finding
	// Withdraw takes the bid back by its external id, which must be known.
	Withdraw(ctx context.Context, bid Bid) Result
}
