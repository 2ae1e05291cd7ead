// Package model checks the delivery protocol of docs/protocol.md by visiting every state
// that one posting, two pods, the database, people and a marketplace can get into.
//
// The world is nondeterministic wherever the real one is: pods die or freeze between any
// two steps, leases run out, answers get lost, POSTs arrive late, look-ups lag behind.
// Each rule of the protocol can be switched off, to see what it is for.
package model

// Dedup is what keeps the marketplace from taking the same bid twice.
type Dedup uint8

// The kinds of [Dedup].
const (
	NaturalKey Dedup = iota
	IdempotencyKey
	NoDedup
)

// Rules are those of the protocol. [AllRules] has all of them on.
type Rules struct {
	// UniqueIndex: the database refuses a second ACTIVE row on the posting.
	UniqueIndex bool
	// ClaimLock: a claim is judged and inserted under one lock.
	ClaimLock bool
	// RecordNeedsToken: a result is recorded only under the lease it was made with.
	RecordNeedsToken bool
	// ArmNeedsToken: so is a POST armed.
	ArmNeedsToken bool
	// ArmNeedsNoRequest: no POST is armed after a withdrawal was requested.
	ArmNeedsNoRequest bool
	// ArmNeedsLease: the lease outlasts the POST's deadline.
	ArmNeedsLease bool
	// PostDeadline: a POST whose deadline is over is not begun.
	PostDeadline bool
	// PostCap: one POST without dedup, two with.
	PostCap bool
	// LookFirst: look before the first POST too, where the client can look up by posting.
	LookFirst bool
	// SettleBeforeSecond: no second POST before the first has settled.
	SettleBeforeSecond bool
	// SettleThenLook: whether a POST has settled is measured before the look-up, not after it.
	SettleThenLook bool
	// MissKeepsPosts: a look-up that finds nothing gives no POST back, however late it is.
	MissKeepsPosts bool
	// MissIsNotWithdrawn: nor does it make a bid WITHDRAWN.
	MissIsNotWithdrawn bool
	// RefusalNeedsAccounts: a refusal is final only if it answers the only POST.
	RefusalNeedsAccounts bool
	// DuplicateIsNoRefusal: "you have bid already" proves that there is a bid.
	DuplicateIsNoRefusal bool
	// RequestWaitsForLease: a request leaves a leased delivery to its pod.
	RequestWaitsForLease bool
	// UnsentHasNoID: an adopted bid counts as sent.
	UnsentHasNoID bool
	// RetractByID: a retraction names the bid.
	RetractByID bool
	// LostRetraction: a retraction without an answer proves nothing.
	LostRetraction bool
	// ReadAgain: a retraction is believed when the marketplace shows it.
	ReadAgain bool
	// OthersIDs: a bid whose id another row has, ended or not, is not this row's.
	OthersIDs bool
	// EndedNeedsID: a bid that has ended there ends the row only if the row knows its id.
	EndedNeedsID bool
	// RetractAfterSettle: a bid that was found by posting, and may be somebody else's, is not
	// retracted before the row's own POSTs have settled.
	RetractAfterSettle bool
	// RefreshNeedsToken: what a look-up of a live bid proves is recorded only if nothing has
	// changed since it was taken.
	RefreshNeedsToken bool
	// RefreshNeedsAccounts: that the bid has ended there is believed only if no POST of the row
	// can still take effect.
	RefreshNeedsAccounts bool
	// RefreshMissEndsNothing: that it is not shown ends nothing.
	RefreshMissEndsNothing bool
	// KnownIsNotSent: a row that knows its bid is never POSTed, also if a person has its
	// placing tried again.
	KnownIsNotSent bool
}

// AllRules is the protocol as it is.
func AllRules() Rules {
	return Rules{
		UniqueIndex: true, ClaimLock: true, RecordNeedsToken: true, ArmNeedsToken: true, ArmNeedsNoRequest: true,
		ArmNeedsLease: true, PostDeadline: true, PostCap: true, LookFirst: true, SettleBeforeSecond: true,
		SettleThenLook: true, MissKeepsPosts: true, MissIsNotWithdrawn: true, RefusalNeedsAccounts: true,
		DuplicateIsNoRefusal: true, RequestWaitsForLease: true, UnsentHasNoID: true, RetractByID: true,
		LostRetraction: true, ReadAgain: true, OthersIDs: true, EndedNeedsID: true, RetractAfterSettle: true,
		RefreshNeedsToken: true, RefreshNeedsAccounts: true, RefreshMissEndsNothing: true, KnownIsNotSent: true,
	}
}

// World is the marketplace and what may happen around the protocol.
type World struct {
	Dedup Dedup
	// ByPosting: look-ups also find bids on the posting that were not made under the row's
	// key. With a natural key they always do, and cannot tell them apart.
	ByPosting bool
	// LateArrivals: a POST may take effect, and show up, later than the settle time.
	LateArrivals bool
	// Unknown: at the start the account has a live bid on the posting that no row knows,
	// as after a restored backup. UnknownUnlisted: look-ups do not show it yet.
	Unknown, UnknownUnlisted bool
	// ByHand: a person may place a bid at the marketplace, once, at any time.
	ByHand bool
	// EndsThere: the client may reject a live bid at any time.
	EndsThere bool
	// StaleLists: a look-up by posting may show as live what is withdrawn, although an
	// earlier one did not.
	StaleLists bool
	// HastyRetraction: the marketplace may say "withdrawn" before it is, and then fail.
	HastyRetraction bool
	// Hides: a look-up by id may find nothing, although the bid is there.
	Hides bool
	// Rows is how often the posting is bid on: again after each withdrawal. 0 is 3.
	Rows int
	// Promises are the letters of those that are checked, "" for all.
	Promises string
}
