package bidding

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/arbitrageai/bidder/pkg/posting"
)

// circumstances are what can stand against a bid, in every combination.
type circumstances struct {
	cached, live   bool
	ended          string        // the status of an earlier bid, or ""
	endedAgo       time.Duration // when that was
	stale, noPrice bool
}

func allCircumstances() []circumstances {
	ends := make([]circumstances, 1, 9) // the first without an end
	for _, status := range []string{"WON", "LOST", "REJECTED", "WITHDRAWN"} {
		for _, ago := range []time.Duration{time.Minute, time.Hour} {
			ends = append(ends, circumstances{ended: status, endedAgo: ago})
		}
	}
	combinations := make([]circumstances, 0, 16*len(ends))
	for _, c := range ends {
		for bits := range 16 {
			c.cached, c.live, c.stale, c.noPrice = bits&1 != 0, bits&2 != 0, bits&4 != 0, bits&8 != 0
			combinations = append(combinations, c)
		}
	}
	return combinations
}

// expected is the contract's table, from top to bottom.
func (c circumstances) expected(pass bool) string {
	switch {
	case !c.cached:
		return "unknown"
	case c.live:
		return "duplicate"
	case c.ended == "WON":
		return "closed won"
	case c.ended == "LOST":
		return "closed lost"
	case c.ended == "REJECTED":
		return "closed rejected"
	case c.ended == "WITHDRAWN" && pass:
		return "closed withdrawn"
	case c.ended == "WITHDRAWN" && c.endedAgo < rebidWindow:
		return "recent"
	case c.stale:
		return "stale"
	case c.noPrice:
		return "ineligible no_amount"
	}
	return "claimed"
}

// arrange makes a posting, which is a candidate, in these circumstances. It returns the live bid.
func (c circumstances) arrange(t *testing.T, f *fixture, key posting.Key) (live uuid.UUID) {
	t.Helper()
	cachedAt := noon()
	if c.stale {
		cachedAt = cachedAt.Add(-postingTTL - time.Hour)
	}
	f.cache(t, cachedAt, key)
	if !c.cached {
		f.exec(t, "DELETE FROM postings WHERE job_id = $1", key.JobID)
	}
	if c.noPrice {
		f.exec(t, "UPDATE postings SET budget_max_cents = NULL WHERE job_id = $1", key.JobID)
	}
	if c.ended != "" {
		at := noon().Add(-c.endedAgo)
		past := bid{status: c.ended, created: at}
		if c.ended == "WITHDRAWN" {
			past.withdrawn = at
		}
		f.insert(t, key, past)
	}
	if c.live {
		live = f.insert(t, key, bid{status: "ACTIVE", created: noon().Add(-2 * time.Hour)})
	}
	return live
}

// TestPrecedence holds every combination of circumstances against the contract: as a
// preview, in a pass, and by hand.
func TestPrecedence(t *testing.T) {
	t.Parallel()
	for _, inPass := range []bool{true, false} {
		t.Run(map[bool]string{true: "pass", false: "by hand"}[inPass], func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			combinations := allCircumstances()
			keys := jobs(len(combinations))
			live := make([]uuid.UUID, len(keys))
			for i, c := range combinations {
				live[i] = c.arrange(t, f, keys[i])
			}
			c := f.claimer(at(noon()))

			previews := preview(t, c, keys, PreviewOptions{Pass: inPass})
			var attempts []Attempt
			if inPass {
				attempts = pass(t, c, PassOptions{Batch: 1000})
			} else {
				for _, key := range keys {
					attempts = append(attempts, attempt(t, c, key, AttemptOptions{}))
				}
			}

			if len(attempts) != len(keys) {
				t.Fatalf("got %d attempts, want one for each of %d postings", len(attempts), len(keys))
			}
			for i, a := range attempts {
				wanted := combinations[i].expected(inPass)
				about := fmt.Sprintf("%+v", combinations[i])
				want(t, about, verdict(a), wanted)
				want(t, "preview of "+about, verdict(previews[i]), wanted)
				want(t, "amount in the preview of "+about, previews[i].AmountCents, a.AmountCents)
				want(t, "whether a bid is reported by "+about, a.BidID != uuid.Nil, a.Outcome == Claimed)
				if a.Outcome == Duplicate {
					want(t, "existing bid of "+about, a.ExistingBidID, live[i])
				} else {
					want(t, "existing bid of "+about, a.ExistingBidID, uuid.Nil)
				}
				f.checkTraces(t, about, a, combinations[i], inPass)
			}
			f.tally(t, attempts...)
		})
	}
}

// checkTraces looks at what an attempt has left in the database.
func (f *fixture) checkTraces(t *testing.T, about string, a Attempt, c circumstances, inPass bool) {
	t.Helper()
	alive := 0
	if c.live || a.Outcome == Claimed {
		alive = 1
	}
	want(t, "live bids of "+about, f.live(t, a.Key), alive)
	audits := 0
	if a.Outcome == Duplicate && !inPass {
		audits = 1
	}
	want(t, "audit rows of "+about, f.count(t, "bids WHERE status = 'DUPLICATE' AND job_id = $1 AND duplicate_of = $2::text::uuid",
		a.Key.JobID, a.ExistingBidID.String()), audits)
	// An orphan of the queue is for passes to remove.
	want(t, "whether queued still, "+about, f.queued(t, a.Key), a.Outcome == Recent || a.Outcome == Unknown && !inPass)
}

func TestRefreshMakesFresh(t *testing.T) {
	t.Parallel()
	f := setup(t)
	c := f.claimer(at(noon()))
	f.cache(t, noon().Add(-25*time.Hour), job("1"))
	want(t, "before", verdict(pass(t, c, PassOptions{})[0]), "stale")
	f.cache(t, noon().Add(-23*time.Hour), job("1"))
	want(t, "after", verdict(pass(t, c, PassOptions{})[0]), "claimed")
}
