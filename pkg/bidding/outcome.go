// Package bidding decides on postings: it claims each at most once, however many
// processes try at the same time, and says what came of every attempt.
//
// Two walls keep a posting from being bid on twice, and each would do alone: an advisory
// lock held by the transaction that checks and inserts, and the partial unique index
// bids_one_active_per_posting. See docs/architecture.md.
package bidding

import (
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/arbitrageai/bidder/pkg/posting"
)

// Outcome is how an attempt to bid on a posting ended. Every attempt has exactly one.
type Outcome string

// The outcomes, in the order of precedence: the first of the first seven that applies.
const (
	// Unknown means that the posting is not in the cache.
	Unknown Outcome = "unknown"
	// Duplicate means that a live bid on the posting exists.
	Duplicate Outcome = "duplicate"
	// Closed means that the posting's newest bid has ended for good.
	Closed Outcome = "closed"
	// Recent means that a bid on the posting was made, sent or withdrawn within the window.
	Recent Outcome = "recent"
	// Stale means that the cached posting is older than its time to live.
	Stale Outcome = "stale"
	// Ineligible means that the policy refuses the posting or finds no amount.
	Ineligible Outcome = "ineligible"
	// Claimed means that this attempt inserted the live bid.
	Claimed Outcome = "claimed"
	// Locked means that nothing was decided: another attempt was at it the whole time.
	Locked Outcome = "locked"
	// Failed means that nothing was decided, because something broke.
	Failed Outcome = "failed"
)

// Outcomes are all of them, in the order of precedence.
func Outcomes() []Outcome {
	return []Outcome{Unknown, Duplicate, Closed, Recent, Stale, Ineligible, Claimed, Locked, Failed}
}

// Details that say more about an outcome. Programs may rely on them.
const (
	// DetailWithdrawn comes with Closed: the last bid was withdrawn, and what a person
	// took back is not bid on again by itself.
	DetailWithdrawn = "withdrawn"
	// DetailCommitUnknown comes with Failed: the connection was lost during COMMIT and
	// nobody could be asked since. The bid may be live; its id is reported.
	DetailCommitUnknown = "commit_unknown"
	// DetailStatementTimeout comes with Failed: the server cut a statement that took too long.
	DetailStatementTimeout = "statement_timeout"
	// DetailLockExpired comes with Failed: the transaction outlived its lock and was refused.
	DetailLockExpired = "lock_expired"
	// DetailConnectionLost comes with Failed: the connection broke; nothing was written.
	DetailConnectionLost = "connection_lost"
	// DetailDatabase comes with Failed: the server refused for another reason; see Err.
	DetailDatabase = "database_error"
)

// Attempt is one try to bid on a posting and what came of it.
type Attempt struct {
	Key     posting.Key
	Outcome Outcome
	// Detail says more about some outcomes: one of the Detail constants, the status that
	// closed the posting, or the policy's reason.
	Detail string
	// BidID is the bid that this attempt claimed, or may have claimed ([DetailCommitUnknown]).
	BidID uuid.UUID
	// ExistingBidID is the live bid that was there first, for Duplicate.
	ExistingBidID uuid.UUID
	// AmountCents is what was bid, or would be.
	AmountCents int64
	// Currency is the currency of AmountCents.
	Currency string
	// Until is when there may be room again under the cap that stood against the bid; zero
	// for everything else.
	Until time.Time
	// CachedAt is the cached_at of the content that was judged; zero for Unknown.
	CachedAt time.Time
	// Waited is how long the attempt waited for the lock.
	Waited time.Duration
	// Took is, in a pass, the time from taking its batch until its COMMIT was answered, or what took its place.
	Took time.Duration
	// Err is the cause of Failed, and of [ReasonPolicyError].
	Err error
	// Rule is the operator's expression that the policy's decision rests on; see [Decision].
	Rule string

	tried         bool // it has tried for the posting's lock
	conflicted    bool // its first try failed
	acquired      bool // one of its tries succeeded
	held          bool // the transaction under way holds the lock
	needsApproval bool
	waits         bool       // for room under a cap
	queuedAt      time.Time  // cached_at of the candidate that a pass took
	place         pgtype.TID // where that candidate lies, in the transaction that took it
	judged        version    // the content that was judged
}

// version names one version of a posting: another one at the same place has another writer.
type version struct {
	inTable   uint32
	place     pgtype.TID
	writtenBy uint32 // transaction
}

// Decided says whether the outcome is final for this content of the posting: it need not
// be tried again before a refresh. Recent, Locked and Failed are tried again, and so is
// what waits for room under a cap.
func (a *Attempt) Decided() bool {
	switch a.Outcome {
	case Recent, Locked, Failed:
		return false
	case Ineligible:
		return !a.waits
	default:
		return true
	}
}
