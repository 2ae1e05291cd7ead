package bidding

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"

	"github.com/arbitrageai/bidder/pkg/posting"
)

// TestRace has many attempts at one posting at the same moment, each on its own connection.
func TestRace(t *testing.T) {
	t.Parallel()
	for _, n := range []int{2, 20, 120} {
		for _, waiting := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d attempts, waiting %v", n, waiting), func(t *testing.T) {
				t.Parallel()
				f := setup(t)
				f.pool = connected(t, openPool(t, f.URL, int32(n)))
				f.cacheNow(t, job("1"))
				options := AttemptOptions{}
				if waiting {
					options.Wait = patience
				}
				made := make([]Attempt, n)
				c := f.claimer()
				concurrently(n, func(i int) { made[i] = attempt(t, c, job("1"), options) })

				counts := outcomes(made)
				want(t, "claimed", counts[Claimed], 1)
				want(t, "accounted for", counts[Claimed]+counts[Duplicate]+counts[Locked], n)
				if waiting {
					want(t, "locked although they waited", counts[Locked], 0)
				}
				want(t, "live bids", f.live(t), 1)
				want(t, "audit rows", f.count(t, "bids WHERE status = 'DUPLICATE'"), counts[Duplicate])
				winner := read[string](t, f, "SELECT id::text FROM bids WHERE status = 'ACTIVE'")
				for _, a := range made {
					if a.Outcome == Duplicate {
						want(t, "the bid that was first", a.ExistingBidID.String(), winner)
					}
				}
				f.tally(t, made...)
				locks := f.counters.Counts().Locks
				want(t, "successes", locks.Successes, int64(counts[Claimed]+counts[Duplicate]))
				want(t, "time-outs", locks.Timeouts, int64(counts[Locked]))
				if locks.Conflicts < locks.Timeouts || locks.Conflicts > int64(n-1) {
					t.Errorf("got %d conflicts with %d time-outs of %d attempts", locks.Conflicts, locks.Timeouts, n)
				}
				want(t, "deadlocks", f.Deadlocks(t), 0)
			})
		}
	}
}

// TestPasses has three passes at 1,000 candidates in different orders.
func TestPasses(t *testing.T) {
	t.Parallel()
	eachWay(t, testPasses)
}

func testPasses(t *testing.T, terms func(string) (Terms, bool)) {
	t.Helper()
	f := setup(t)
	f.rules.Terms = terms
	keys := jobs(1000)
	f.cacheNow(t, keys...)
	f.exec(t, "UPDATE candidates SET not_before = not_before - random() * interval '1 hour'")
	made := make([][]Attempt, 3)
	concurrently(len(made), func(i int) { made[i] = pass(t, f.claimer(), PassOptions{Workers: 2, Batch: 16 + i}) })

	all := slices.Concat(made...)
	attempted := map[posting.Key]int{}
	for _, a := range all {
		attempted[a.Key]++
		want(t, "outcome", verdict(a), "claimed")
	}
	want(t, "attempts", len(all), len(keys))
	want(t, "postings attempted", len(attempted), len(keys))
	want(t, "live bids", f.live(t), len(keys))
	want(t, "postings bid on", read[int](t, f, "SELECT count(DISTINCT (marketplace, job_id)) FROM bids"), len(keys))
	want(t, "candidates left", f.count(t, "candidates"), 0)
	f.tally(t, all...)
	want(t, "deadlocks", f.Deadlocks(t), 0)
}

// TestPassesBesideHands: four claimers with batches, and people at the same postings.
func TestPassesBesideHands(t *testing.T) {
	t.Parallel()
	eachWay(t, testPassesBesideHands)
}

func testPassesBesideHands(t *testing.T, terms func(string) (Terms, bool)) {
	t.Helper()
	f := setup(t)
	f.rules.Terms = terms
	keys := jobs(300)
	f.cacheNow(t, keys...)
	byHand := slices.Clone(keys)
	rand.Shuffle(len(byHand), func(i, j int) { byHand[i], byHand[j] = byHand[j], byHand[i] })
	var (
		mu   sync.Mutex
		made []Attempt
	)
	concurrently(6, func(i int) {
		var own []Attempt
		if i < 4 {
			own = pass(t, f.claimer(), PassOptions{Workers: 1, Batch: 64})
		} else {
			for _, key := range byHand[:100] {
				own = append(own, attempt(t, f.claimer(), key, AttemptOptions{Wait: patience}))
			}
		}
		mu.Lock()
		defer mu.Unlock()
		made = append(made, own...)
	})
	f.tally(t, made...)
	want(t, "nothing failed", outcomes(made)[Failed], 0)

	// What was locked a moment ago is only postponed.
	f.exec(t, "UPDATE candidates SET not_before = clock_timestamp()")
	made = append(made, pass(t, f.claimer(), PassOptions{})...)
	claimed := map[posting.Key]int{}
	for _, a := range made {
		if a.Outcome == Claimed {
			claimed[a.Key]++
		}
	}
	want(t, "postings claimed", len(claimed), len(keys))
	want(t, "claims", outcomes(made)[Claimed], len(keys))
	want(t, "live bids", f.live(t), len(keys))
	want(t, "candidates left", f.count(t, "candidates"), 0)
	want(t, "deadlocks", f.Deadlocks(t), 0)
}

// TestOppositeOrders has two batches of the same postings take their locks in opposite orders.
func TestOppositeOrders(t *testing.T) {
	t.Parallel()
	f := setup(t)
	keys := jobs(20)
	f.cacheNow(t, keys...)
	c := f.claimer()
	for range 50 {
		made := f.settleTwice(t, c, keys)
		counts := outcomes(made)
		want(t, "accounted for", counts[Claimed]+counts[Duplicate]+counts[Locked], len(made))
		want(t, "claimed", counts[Claimed] == f.live(t) && counts[Claimed] > 0, true)
		f.exec(t, "UPDATE bids SET status = 'LOST', delivery_kind = NULL, delivery_state = NULL, next_attempt_at = NULL")
		f.exec(t, "DELETE FROM bids")
	}
	want(t, "deadlocks", f.Deadlocks(t), 0)
}

// settleTwice claims the keys in one transaction, and at the same time backwards in another.
func (f *fixture) settleTwice(t *testing.T, c *Claimer, keys []posting.Key) []Attempt {
	t.Helper()
	made := make([][]Attempt, 2)
	concurrently(2, func(i int) {
		b := &batch{}
		for _, key := range keys {
			b.attempts = append(b.attempts, Attempt{Key: key})
		}
		if i == 1 {
			slices.Reverse(b.attempts)
		}
		if err := c.settle(t.Context(), b, takeAttempts); err != nil {
			t.Error(err)
		}
		made[i] = b.attempts
	})
	return slices.Concat(made...)
}

// TestOppositeOrdersUnlocked is the same where nothing but the index is in the way.
func TestOppositeOrdersUnlocked(t *testing.T) {
	t.Parallel()
	if err := scenarioOppositeOrders(t, setup(t)); err != nil {
		t.Error(err)
	}
}

// scenarioOppositeOrders has no advisory locks, and inserts that take so long that two
// batches in opposite orders are certain to meet in the middle.
func scenarioOppositeOrders(t *testing.T, f *fixture) error {
	t.Helper()
	f.replaceTryLock(t, "SELECT true")
	f.exec(t, `CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.02); RETURN NEW; END $$`)
	f.exec(t, `CREATE TRIGGER slow BEFORE INSERT ON bids FOR EACH ROW EXECUTE FUNCTION slow()`)
	keys := jobs(8)
	f.cacheNow(t, keys...)
	var (
		both  sync.WaitGroup
		begun atomic.Int32
	)
	both.Add(2)
	c := f.claimer(func(c *Claimer) {
		c.after = func(step string) {
			switch {
			case step == "beginning":
				begun.Add(1)
			case step == "judged" && begun.Load() <= 2:
				both.Done()
				both.Wait()
			}
		}
	})
	counts := outcomes(f.settleTwice(t, c, keys))
	return errors.Join(
		differ("outcomes", counts, map[Outcome]int{Claimed: len(keys), Duplicate: len(keys)}),
		differ("transactions", begun.Load(), 2),
		differ("live bids", f.live(t), len(keys)),
	)
}

// TestFewConnections: more attempts than connections wait for one, and end like all others.
func TestFewConnections(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.pool = openPool(t, f.URL, 1)
	keys := jobs(10)
	f.cacheNow(t, keys...)
	c := f.claimer()
	made := make([]Attempt, 20)
	concurrently(len(made), func(i int) { made[i] = attempt(t, c, keys[i/2], AttemptOptions{Wait: patience}) })
	want(t, "outcomes", outcomes(made), map[Outcome]int{Claimed: 10, Duplicate: 10})
	f.tally(t, made...)

	f.cacheNow(t, jobs(40)...)
	made = pass(t, c, PassOptions{Workers: 4, Batch: 5})
	want(t, "outcomes of a pass", outcomes(made), map[Outcome]int{Claimed: 30, Duplicate: 10})
}

// TestRogues: the index alone lets one of fifty in, whoever they are.
func TestRogues(t *testing.T) {
	t.Parallel()
	f := setup(t)
	pool := openPool(t, f.URL, 50)
	refused := make([]error, 50)
	concurrently(len(refused), func(i int) {
		_, refused[i] = pool.Exec(t.Context(), insertLive, "upwork", "1")
	})
	n := 0
	for _, err := range refused {
		if err != nil {
			n++
		}
	}
	want(t, "refused", n, 49)
	want(t, "live bids", f.live(t), 1)
	for _, status := range []string{"WITHDRAWN", "LOST", "DUPLICATE"} {
		f.insert(t, job("1"), bid{status: status, id: uuid.New()})
		f.insert(t, job("1"), bid{status: status, id: uuid.New()})
	}
}
