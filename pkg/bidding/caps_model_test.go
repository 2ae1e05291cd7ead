package bidding

import (
	"context"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/arbitrageai/bidder/pkg/posting"
)

// TestCapsModel lets claims, crashes, ends of bids, changes of the caps and midnights
// happen in any order, and compares with plain sums.
func TestCapsModel(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.rules.PostingTTL = 100 * postingTTL
	lives := 0
	rapid.Check(t, func(rt *rapid.T) {
		lives++
		f.exec(t, "DELETE FROM candidates")
		now := noon()
		marketplace := fmt.Sprintf("life-%d", lives)
		caps := Caps{BidsPerDay: number(5), Zone: "Europe/Berlin"}
		var today, live, jobID int64
		claimer := func() *Claimer {
			f.rules.Caps = everywhere(caps)
			return f.claimer(at(now))
		}
		kept := claimer() // one that remembers
		// fits is how many of n the caps leave room for.
		fits := func(n int64) int64 {
			if caps.BidsPerDay != nil {
				n = min(n, max(*caps.BidsPerDay-today, 0))
			}
			if caps.MoneyPerDayCents != nil {
				n = min(n, max((*caps.MoneyPerDayCents-1000*today)/1000, 0))
			}
			if caps.LiveBids != nil {
				n = min(n, max(*caps.LiveBids-live, 0))
			}
			return n
		}
		offer := func(n int64) {
			keys := make([]posting.Key, n)
			for i := range keys {
				jobID++
				keys[i] = posting.Key{Marketplace: marketplace, JobID: fmt.Sprint(jobID)}
			}
			f.exec(t, "DELETE FROM candidates")
			f.cache(t, now, keys...)
			f.exec(t, "UPDATE candidates SET not_before = $1", now.Add(-time.Second))
		}
		drain := func(ctx context.Context, c *Claimer) (made []Attempt) {
			_ = c.drain(ctx, wholeQueue(now), PassOptions{Batch: 70, Observe: func(a []Attempt) { made = append(made, a...) }})
			return made
		}
		rt.Repeat(map[string]func(*rapid.T){
			"claim": func(rt *rapid.T) {
				n := rapid.SampledFrom([]int64{1, 3, 80}).Draw(rt, "offered")
				c := kept
				if rapid.Bool().Draw(rt, "new pod") {
					c = claimer()
				}
				offer(n)
				wanted := fits(n)
				if got := int64(outcomes(drain(t.Context(), c))[Claimed]); got != wanted {
					rt.Fatalf("%d of %d were claimed, want %d", got, n, wanted)
				}
				today, live = today+wanted, live+wanted
			},
			"crash": func(rt *rapid.T) {
				step := rapid.SampledFrom([]string{"judged", "written"}).Draw(rt, "step")
				offer(3)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				made := drain(ctx, f.claimer(at(now), once(step, func() { f.terminate(t); cancel() })))
				if n := outcomes(made)[Claimed]; n != 0 {
					rt.Fatalf("%d were claimed by a pod that crashed", n)
				}
			},
			"end": func(*rapid.T) {
				f.exec(t, `UPDATE bids SET status = 'LOST', delivery_kind = NULL, delivery_state = NULL, next_attempt_at = NULL
					WHERE marketplace = $1 AND status = 'ACTIVE'`, marketplace)
				live = 0
			},
			"change": func(rt *rapid.T) {
				limits := func(name string, values ...int64) *int64 {
					if n := rapid.SampledFrom(append(values, -1)).Draw(rt, name); n >= 0 {
						return &n
					}
					return nil
				}
				caps.BidsPerDay = limits("bids", 0, 4, 60, 400)
				caps.MoneyPerDayCents = limits("money", 3999, 50_000, 500_000)
				caps.LiveBids = limits("live", 2, 90, 1000)
				kept = claimer()
			},
			"midnight": func(*rapid.T) {
				now, today = now.AddDate(0, 0, 1), 0
				rules := kept.cuts
				kept = claimer()
				kept.cuts = rules
			},
			"": func(rt *rapid.T) {
				if n := f.count(t, "bids WHERE marketplace = $1 AND status = 'ACTIVE'", marketplace); int64(n) != live {
					rt.Fatalf("%d bids are live, want %d", n, live)
				}
			},
		})
	})
}
