package model

import (
	"testing"
)

// The worlds, by what the marketplace does about duplicates.
var (
	natural     = World{Dedup: NaturalKey, ByPosting: true}
	idempotent  = World{Dedup: IdempotencyKey}
	single      = World{Dedup: NoDedup}
	idempotentP = World{Dedup: IdempotencyKey, ByPosting: true}
	singleP     = World{Dedup: NoDedup, ByPosting: true}
)

func (w World) with(change func(*World)) World {
	change(&w)
	return w
}

func lateArrivals(w *World)    { w.LateArrivals = true }
func unknownBid(w *World)      { w.Unknown = true }
func unlistedBid(w *World)     { w.Unknown, w.UnknownUnlisted = true, true }
func byHand(w *World)          { w.ByHand = true; w.Rows = 2 }
func endsThere(w *World)       { w.EndsThere = true }
func staleLists(w *World)      { w.StaleLists = true }
func hastyRetraction(w *World) { w.HastyRetraction = true }
func hides(w *World)           { w.Hides = true }
func twoRows(w *World)         { w.Rows = 2 }

func promises(letters string) func(*World) {
	return func(w *World) { w.Promises = letters }
}

func TestProtocolKeepsItsPromises(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		world World
	}{
		{"natural key", natural},
		{"natural key, a bid that no row knows", natural.with(unknownBid)},
		{"natural key, a bid that no row knows and no look-up shows yet", natural.with(unlistedBid)},
		{"natural key, a person bids there too", natural.with(byHand)},
		{"natural key, the client rejects bids", natural.with(endsThere)},
		{"natural key, stale lists", natural.with(staleLists)},
		{"natural key, hasty retraction", natural.with(hastyRetraction)},
		{"natural key, look-ups by id that find nothing", natural.with(hides).with(endsThere).with(twoRows)},
		{"natural key, late arrivals", natural.with(lateArrivals).with(twoRows).with(promises("adefgim"))},
		{"idempotency key", idempotent},
		{"idempotency key, look-ups by posting", idempotentP},
		{"idempotency key, a bid that no row knows", idempotentP.with(unknownBid)},
		{"idempotency key, the client rejects bids", idempotent.with(endsThere)},
		{"idempotency key, a bid that no row knows, look-ups by id that find nothing", idempotentP.with(unknownBid).with(hides).with(twoRows)},
		{"idempotency key, hasty retraction", idempotent.with(hastyRetraction)},
		{"idempotency key, late arrivals", idempotent.with(lateArrivals).with(twoRows)},
		{"one POST", single},
		{"one POST, look-ups by posting", singleP},
		{"one POST, a bid that no row knows", singleP.with(unknownBid)},
		{"one POST, the client rejects bids", single.with(endsThere)},
		{"one POST, look-ups by id that find nothing", single.with(hides).with(endsThere).with(twoRows)},
		{"one POST, hasty retraction", single.with(hastyRetraction)},
		{"one POST, late arrivals", single.with(lateArrivals)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := Check(AllRules(), tt.world)
			t.Logf("%d states", r.States)
			if r.Violation != "" {
				t.Errorf("broken: %s", r.Violation)
				show(t, r)
			}
		})
	}
}

func TestEachRuleIsNeeded(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		off     func(*Rules)
		world   World
		promise string
	}{
		{"unique index, with a writer that takes no lock", func(r *Rules) { r.UniqueIndex, r.ClaimLock = false, false }, natural, "i"},
		{"claim lock", func(r *Rules) { r.ClaimLock = false }, natural, "f"},
		{"record needs token", func(r *Rules) { r.RecordNeedsToken = false }, natural, "e"},
		{"arm needs token", func(r *Rules) { r.ArmNeedsToken = false }, natural, "e"},
		{"arm needs that no withdrawal was requested", func(r *Rules) { r.ArmNeedsNoRequest = false }, natural, "g"},
		{"deadline of the POST", func(r *Rules) { r.PostDeadline = false }, natural, "c"},
		{"cap of POSTs", func(r *Rules) { r.PostCap = false }, single.with(lateArrivals), "a"},
		{"look first", func(r *Rules) { r.LookFirst = false }, idempotentP.with(unknownBid), "a"},
		{"settle before a second POST", func(r *Rules) { r.SettleBeforeSecond = false }, natural, "c"},
		{"settle, then look", func(r *Rules) { r.SettleThenLook = false }, idempotent.with(endsThere), "e"},
		{"a miss gives no POST back", func(r *Rules) { r.MissKeepsPosts = false }, single.with(lateArrivals), "c"},
		{"a miss is not withdrawn", func(r *Rules) { r.MissIsNotWithdrawn = false }, single, "c"},
		{"a refusal must answer the only POST", func(r *Rules) { r.RefusalNeedsAccounts = false }, idempotent.with(lateArrivals), "e"},
		{"a duplicate is no refusal", func(r *Rules) { r.DuplicateIsNoRefusal = false }, natural.with(unlistedBid), "c"},
		{"what has an id was sent", func(r *Rules) { r.UnsentHasNoID = false }, natural.with(unknownBid), "c"},
		{"retraction by id", func(r *Rules) { r.RetractByID = false }, natural, "b"},
		{"a lost retraction proves nothing", func(r *Rules) { r.LostRetraction = false }, natural, "c"},
		{"read again after retracting", func(r *Rules) { r.ReadAgain = false }, natural.with(hastyRetraction), "c"},
		{"ids of other bids", func(r *Rules) { r.OthersIDs = false }, natural.with(staleLists), "b"},
		{"an ended bid must be this one", func(r *Rules) { r.OthersIDs, r.EndedNeedsID, r.RetractAfterSettle = false, false, false }, natural, "c"},
		{"an ended bid must be accounted for", func(r *Rules) { r.RefreshNeedsAccounts = false }, natural.with(byHand).with(endsThere).with(promises("e")), "e"},
		{"a live bid that is not shown has not ended", func(r *Rules) { r.RefreshMissEndsNothing = false }, single, "c"},
		{"what is known is not sent again", func(r *Rules) { r.KnownIsNotSent = false }, idempotentP.with(unknownBid).with(hides).with(promises("a")), "a"},
		{"retract what was guessed after settle", func(r *Rules) { r.RetractAfterSettle = false }, natural.with(byHand), "c"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			rules := AllRules()
			tt.off(&rules)
			world := tt.world
			world.Rows = 2
			r := Check(rules, world)
			if r.Violation == "" {
				t.Fatalf("nothing breaks in %d states", r.States)
			}
			if r.Violation[:1] != tt.promise {
				t.Errorf("broken: %s, want promise %s", r.Violation, tt.promise)
			}
			t.Logf("without it, after %d of %d states: %s", len(r.Trace), r.States, r.Violation)
			show(t, r)
		})
	}
}

// Where the promises end, as docs/protocol.md says.
func TestLimits(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		world   World
		promise string
	}{
		{"natural key, a first POST that arrives after the second one's bid was withdrawn", natural.with(lateArrivals), "c"},
		{"natural key, a person's bid is taken for ours and ends before ours arrives", natural.with(byHand).with(endsThere), "b"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := Check(AllRules(), tt.world)
			if r.Violation == "" || r.Violation[:1] != tt.promise {
				t.Fatalf("broken: %q, want promise %s", r.Violation, tt.promise)
			}
			t.Logf("after %d steps: %s", len(r.Trace), r.Violation)
			show(t, r)
		})
	}
}

// What these rules do is not needed for any promise, so they must have another reason;
// docs/protocol.md says which.
func TestRulesThatNoPromiseNeeds(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		off      func(*Rules)
		promises string
	}{
		{"unique index, while everybody locks", func(r *Rules) { r.UniqueIndex = false }, ""},
		{"claim lock, but for closed postings", func(r *Rules) { r.ClaimLock = false }, "abcdegim"},
		{"arm needs lease", func(r *Rules) { r.ArmNeedsLease = false }, ""},
		{"arm needs that no withdrawal was requested, but for that itself", func(r *Rules) { r.ArmNeedsNoRequest = false }, "abcdefim"},
		{"request waits for lease", func(r *Rules) { r.RequestWaitsForLease = false }, ""},
		{"a look-up of a live bid is recorded only if nothing has changed", func(r *Rules) { r.RefreshNeedsToken = false }, ""},
		{"an ended bid must be known, if settled", func(r *Rules) { r.EndedNeedsID = false }, ""},
	}
	for _, tt := range tests {
		for _, world := range []World{natural, idempotent, single} {
			t.Run(tt.name, func(t *testing.T) {
				t.Parallel()
				rules := AllRules()
				tt.off(&rules)
				r := Check(rules, world.with(twoRows).with(promises(tt.promises)))
				if r.Violation != "" {
					t.Errorf("broken after all: %s", r.Violation)
					show(t, r)
				}
			})
		}
	}
}

func show(t *testing.T, r Report) {
	t.Helper()
	if !testing.Verbose() && !t.Failed() {
		return
	}
	for i, line := range r.Trace {
		t.Logf("%3d. %s", i+1, line)
	}
}
