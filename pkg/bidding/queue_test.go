package bidding

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/posting"
)

func TestQueue(t *testing.T) {
	t.Parallel()
	if err := scenarioQueue(t, setup(t)); err != nil {
		t.Error(err)
	}
}

// scenarioQueue is about what a pass takes: what is due, first what has been due for
// longest, so much at a time, and nothing that another pod holds.
func scenarioQueue(t *testing.T, f *fixture) error {
	t.Helper()
	keys := jobs(6)
	f.cache(t, noon(), keys...)
	due := noon().Add(time.Hour)
	for i, offset := range []time.Duration{-time.Second, -3 * time.Second, 0, time.Microsecond, -2 * time.Second, -4 * time.Second} {
		f.exec(t, "UPDATE candidates SET not_before = $1 WHERE job_id = $2", due.Add(offset), keys[i].JobID)
	}
	other := f.rogue(t, "SELECT FROM candidates WHERE job_id = $1 FOR UPDATE", keys[5].JobID)

	var taken []string
	largest := 0
	drain := func(batch int) error {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		return f.claimer(at(noon())).drain(ctx, wholeQueue(due), PassOptions{Batch: batch, Observe: func(attempts []Attempt) {
			largest = max(largest, len(attempts))
			for _, a := range attempts {
				taken = append(taken, a.Key.JobID)
			}
			if len(taken) > len(keys) {
				cancel() // it would take them again and again
			}
		}})
	}
	alone := errors.Join(drain(1), differ("taken one by one", taken, []string{keys[1].JobID, keys[4].JobID, keys[0].JobID, keys[2].JobID}))
	other.rollback()
	taken = nil
	after := errors.Join(drain(1), differ("taken once the other pod lets go", taken, []string{keys[5].JobID}))

	f.cache(t, noon().Add(time.Minute), keys...)
	f.exec(t, "UPDATE candidates SET not_before = $1", due)
	taken = nil
	return errors.Join(alone, after, drain(4), differ("taken", len(taken), len(keys)), differ("largest batch", largest, 4))
}

// TestHeldLock has someone else at the posting, in the way that a person would from psql.
func TestHeldLock(t *testing.T) {
	t.Parallel()
	if err := scenarioHeldLock(t, setup(t)); err != nil {
		t.Error(err)
	}
}

func scenarioHeldLock(t *testing.T, f *fixture) error {
	t.Helper()
	held := []posting.Key{job("1"), job("2")}
	neighbours := []posting.Key{job("11"), {Marketplace: "guru", JobID: "1"}}
	f.cacheNow(t, slices.Concat(held, neighbours)...)
	f.exec(t, "DELETE FROM candidates WHERE job_id = '2'")
	releases := []func(){f.hold(t, held[0]), f.hold(t, held[1])}
	c := f.claimer()

	byHand, err := c.Attempt(t.Context(), held[1], AttemptOptions{})
	errs := []error{err, differ("by hand", verdict(byHand), "locked")}
	made, err := tryPass(t.Context(), c, PassOptions{})
	got := map[posting.Key]string{}
	for _, a := range made {
		got[a.Key] = verdict(a)
	}
	errs = append(errs, err,
		differ("pass", got, map[posting.Key]string{held[0]: "locked", neighbours[0]: "claimed", neighbours[1]: "claimed"}),
		differ("attempts, each once", len(made), 3),
		differ("still queued", f.queued(t, held[0]), true),
		differ("tries", read[int](t, f, "SELECT coalesce(sum(tries), -1) FROM candidates"), 0),
	)
	for _, release := range releases {
		release()
	}
	f.exec(t, "UPDATE candidates SET not_before = clock_timestamp()") // a second early
	made, err = tryPass(t.Context(), c, PassOptions{})
	return errors.Join(append(errs, err, differ("next pass", fmt.Sprint(outcomes(made)), "map[claimed:1]"))...)
}

// TestPostponed: a pass handles what was due at its start, once each, and what it could not
// decide is due again a moment later.
func TestPostponed(t *testing.T) {
	t.Parallel()
	f := setup(t)
	keys := jobs(10)
	f.cacheNow(t, keys...)
	release := f.hold(t, keys[3])
	defer release()
	for _, batch := range []int{1, 4, 64} {
		f.exec(t, "UPDATE candidates SET not_before = clock_timestamp()")
		before := read[time.Time](t, f, "SELECT clock_timestamp()")
		made := pass(t, f.claimer(), PassOptions{Workers: 3, Batch: batch})
		n := 0
		for _, a := range made {
			if a.Key == keys[3] {
				n++
				want(t, "outcome", verdict(a), "locked")
			}
		}
		want(t, "attempts", n, 1)
		again := read[time.Time](t, f, "SELECT not_before FROM candidates WHERE job_id = $1", keys[3].JobID)
		if pause := again.Sub(before); pause < undecidedPause || pause > undecidedPause+patience {
			t.Errorf("due again after %v, want %v", pause, undecidedPause)
		}
	}
}

// TestOrphans: a candidate whose posting is gone, or older than the queue says, leaves the
// queue as well; a pass that met it again and again would never end.
func TestOrphans(t *testing.T) {
	t.Parallel()
	f := setup(t)
	keys := jobs(4)
	f.cache(t, noon(), keys...)
	f.exec(t, "DELETE FROM postings WHERE job_id = $1", keys[0].JobID)
	f.exec(t, "UPDATE postings SET cached_at = cached_at - interval '1 hour' WHERE job_id = $1", keys[1].JobID)
	f.exec(t, "UPDATE postings SET cached_at = cached_at - interval '1 week' WHERE job_id = $1", keys[2].JobID)
	made := pass(t, f.claimer(at(noon())), PassOptions{})
	want(t, "outcomes", verdicts(made), []string{"unknown", "claimed", "stale", "claimed"})
	want(t, "candidates left", f.count(t, "candidates"), 0)
}

// TestAmountByHand: what a person asked for decides nothing for passes.
func TestAmountByHand(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.rules.Policy = Budget{MaxCents: cents(5000)}.Decide
	f.cacheNow(t, job("1"))
	c := f.claimer()
	refused := attempt(t, c, job("1"), AttemptOptions{AmountCents: cents(5001)})
	want(t, "by hand", verdict(refused), "ineligible amount_above_maximum")
	want(t, "still queued", f.queued(t, job("1")), true)
	made := pass(t, c, PassOptions{})
	want(t, "pass", verdict(made[0]), "claimed")
	want(t, "amount", made[0].AmountCents, int64(1000))
}

func TestNothingToDo(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.cacheNow(t, job("1"))
	f.exec(t, "UPDATE candidates SET not_before = 'infinity'")
	want(t, "attempts", len(pass(t, f.claimer(), PassOptions{Workers: 4})), 0)
	f.tally(t)
}

// TestBoundsUnderLimits: a pass looks at the queue under the limits of a claim, so that statistics from
// when it was empty do not have it read all of it.
func TestBoundsUnderLimits(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.cacheNow(t, job("1"))
	f.rewrite = func(sql string) string {
		if sql == queries.QueueBounds {
			sql += " WHERE current_setting('enable_bitmapscan') = 'off'"
		}
		return sql
	}
	want(t, "outcomes", verdicts(pass(t, f.claimer(), PassOptions{})), []string{"claimed"})
}

// TestInterruptedPass: the batch under way ends, the rest stays for a later pass.
func TestInterruptedPass(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.cacheNow(t, jobs(10)...)
	ctx, cancel := context.WithCancelCause(t.Context())
	interrupted := errors.New("interrupted")
	made, err := tryPass(ctx, f.claimer(once("judged", func() { cancel(interrupted) })), PassOptions{Batch: 3})
	want(t, "interrupted", errors.Is(err, interrupted), true)
	want(t, "outcomes", outcomes(made), map[Outcome]int{Claimed: 3})
	want(t, "live bids", f.live(t), 3)
	want(t, "candidates left", f.count(t, "candidates"), 7)
	f.tally(t, made...)

	_, err = tryPass(ctx, f.claimer(), PassOptions{})
	want(t, "interrupted before it began", err != nil, true)
	want(t, "live bids", f.live(t), 3)
}

// TestInterruptedWait: a person who no longer waits gets the error, and the attempt counts
// if there was one.
func TestInterruptedWait(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.cacheNow(t, job("1"))
	defer f.hold(t, job("1"))()
	ctx, cancel := context.WithCancel(t.Context())
	tries := 0
	c := f.claimer(func(c *Claimer) {
		c.after = func(step string) {
			if step == "locked" {
				if tries++; tries == 3 {
					cancel()
				}
			}
		}
	})
	a, err := c.Attempt(ctx, job("1"), AttemptOptions{Wait: patience})
	want(t, "cancelled", errors.Is(err, context.Canceled), true)
	want(t, "outcome", verdict(a), "locked")
	want(t, "tries", tries, 3)
	f.tally(t, a)

	a, err = c.Attempt(ctx, job("1"), AttemptOptions{Wait: patience})
	want(t, "cancelled", errors.Is(err, context.Canceled), true)
	want(t, "outcome", verdict(a), "")
	want(t, "attempts that were counted", f.counters.Counts().Attempts, 1)
}

// TestBackOff: 2^tries seconds, and after 8 failures the candidate is parked.
func TestBackOff(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.cacheNow(t, job("1"))
	f.exec(t, "ALTER TABLE bids ADD CONSTRAINT broken CHECK (status <> 'ACTIVE')")
	c := f.claimer()
	for tries := 1; tries <= 8; tries++ {
		f.exec(t, "UPDATE candidates SET not_before = clock_timestamp()")
		before := read[time.Time](t, f, "SELECT clock_timestamp()")
		made := pass(t, c, PassOptions{})
		want(t, "outcomes", outcomes(made), map[Outcome]int{Failed: 1})
		want(t, "detail", made[0].Detail, DetailDatabase)
		want(t, "constraint", db.Constraint(made[0].Err), "broken")
		want(t, "tries", read[int](t, f, "SELECT tries FROM candidates WHERE last_error LIKE 'database_error: %broken%'"), tries)
		if tries == 8 {
			want(t, "parked", read[bool](t, f, "SELECT not_before = 'infinity' FROM candidates"), true)
			break
		}
		pause := time.Second << tries
		if got := read[time.Time](t, f, "SELECT not_before FROM candidates").Sub(before); got < pause || got > pause+patience {
			t.Errorf("after %d failures: due again after %v, want %v", tries, got, pause)
		}
	}
	want(t, "attempts when parked", len(pass(t, c, PassOptions{})), 0)

	// A refresh starts anew.
	f.exec(t, "ALTER TABLE bids DROP CONSTRAINT broken")
	f.cacheNow(t, job("1"))
	want(t, "tries", read[int](t, f, "SELECT tries FROM candidates WHERE last_error IS NULL"), 0)
	want(t, "outcome", verdict(pass(t, c, PassOptions{})[0]), "claimed")
}

// TestOncePerPass: what a pass could not decide or could not do it does not try again. What several workers
// leave to each other is for TestBrokenBatch and those after it.
func TestOncePerPass(t *testing.T) {
	t.Parallel()
	f := setup(t)
	keys := jobs(30)
	f.cacheNow(t, keys...)
	f.exec(t, "ALTER TABLE bids ADD CONSTRAINT broken CHECK (job_id <> '"+keys[2].JobID+"')")
	defer f.hold(t, keys[0])()
	defer f.rogue(t, insertLive, keys[1].Marketplace, keys[1].JobID).rollback()
	got := map[posting.Key]string{}
	made := pass(t, f.claimer(), PassOptions{Batch: 8, Observe: func(attempts []Attempt) {
		for _, a := range attempts {
			got[a.Key] += verdict(a) + "."
		}
	}})
	want(t, "outcomes", outcomes(made), map[Outcome]int{Locked: 2, Failed: 1, Claimed: 27})
	want(t, "held lock", got[keys[0]], "locked.")
	want(t, "open transaction", got[keys[1]], "locked.")
	want(t, "broken", got[keys[2]], "failed database_error.")
	for _, a := range made {
		want(t, "bid reported by "+verdict(a), a.BidID.String() != "00000000-0000-0000-0000-000000000000", a.Outcome == Claimed)
	}
	f.tally(t, made...)
}

// TestPutBack: what happens to one candidate does not happen to those with a part of its key.
func TestPutBack(t *testing.T) {
	t.Parallel()
	if err := scenarioPutBack(t, setup(t)); err != nil {
		t.Error(err)
	}
}

func scenarioPutBack(t *testing.T, f *fixture) error {
	t.Helper()
	neighbours := []posting.Key{{Marketplace: "guru", JobID: "locked"}, {Marketplace: "guru", JobID: "failed"}, job("locked too"), job("failed too")}
	f.cacheNow(t, slices.Concat(neighbours, []posting.Key{job("locked"), job("failed")})...)
	f.exec(t, "ALTER TABLE bids ADD CONSTRAINT broken CHECK (marketplace <> 'upwork' OR job_id <> 'failed')")
	f.exec(t, "UPDATE candidates SET not_before = 'infinity' WHERE marketplace = 'guru' OR job_id LIKE '% too'")
	release := f.hold(t, job("locked"))
	made, err := tryPass(t.Context(), f.claimer(), PassOptions{})
	release()
	return errors.Join(err,
		differ("outcomes", outcomes(made), map[Outcome]int{Locked: 1, Failed: 1}),
		differ("untouched", f.count(t, "candidates WHERE not_before = 'infinity' AND tries = 0"), len(neighbours)),
		differ("put back", f.count(t, "candidates WHERE not_before > clock_timestamp() AND not_before <> 'infinity'"), 2),
		differ("failed", f.count(t, "candidates WHERE tries = 1 AND job_id = 'failed'"), 1),
	)
}

// TestBrokenBatch: what a worker redoes one by one, the other workers of its pass leave to it, while
// it is at it and afterwards. What is gone from the cache leaves the queue that way too.
func TestBrokenBatch(t *testing.T) {
	t.Parallel()
	f := setup(t)
	keys := jobs(3)
	f.cacheNow(t, keys...)
	f.exec(t, "DELETE FROM postings WHERE job_id = $1", keys[1].JobID)
	f.exec(t, "ALTER TABLE bids ADD CONSTRAINT broken CHECK (job_id <> '"+keys[0].JobID+"')")
	due := time.Now().Add(time.Hour)
	var (
		pass        = wholeQueue(due)
		mine, other []string
		begun       int
	)
	// The other worker goes through the queue before each of this one's transactions.
	neighbour := f.claimer()
	c := f.claimer(func(c *Claimer) {
		c.after = func(step string) {
			if step != "beginning" {
				return
			}
			if begun++; begun == 1 {
				return
			}
			pass.stretches = append(pass.stretches, &stretch{end: due})
			err := neighbour.drain(t.Context(), pass, PassOptions{Batch: 2, Observe: func(attempts []Attempt) {
				other = append(other, verdicts(attempts)...)
			}})
			if err != nil {
				t.Error(err)
			}
		}
	})
	pass.limit, pass.working = 9, 9 // so that nobody goes over the whole queue in the end
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	err := c.drain(ctx, pass, PassOptions{Batch: 3, Observe: func(attempts []Attempt) {
		mine = append(mine, verdicts(attempts)...)
		cancel() // one batch is enough
	}})
	want(t, "error", err, nil)
	want(t, "attempted", mine, []string{"failed database_error", "unknown", "claimed"})
	want(t, "attempted by the other", other, nil)
	want(t, "left in the queue", f.count(t, "candidates"), 1)
}

// TestBrokenBesideOthers: of what is taken together a worker leaves what another one's broken batch
// still brings to an outcome, and claims the rest.
func TestBrokenBesideOthers(t *testing.T) {
	t.Parallel()
	f := setup(t)
	keys := jobs(3)
	f.cacheNow(t, keys...)
	pass := wholeQueue(time.Now().Add(time.Hour))
	pass.broke([]Attempt{{Key: keys[1]}})
	var taken []queries.TakeCandidatesRow
	b := &batch{pass: pass, automatic: true}
	want(t, "error", f.claimer().claim(t.Context(), b, pass.take(pass.next(nil), len(keys), &taken)), nil)
	want(t, "taken", len(taken), len(keys))
	want(t, "attempted", verdicts(b.attempts), []string{"claimed", "claimed"})
	want(t, "left in the queue", f.queued(t, keys[1]), true)
	want(t, "candidates left", f.count(t, "candidates"), 1)
	want(t, "live bids", f.live(t, keys[0], keys[2]), 2)
}

// TestBrokenAndTaken: another worker may take what this one still brings to an outcome, and hold it until it
// commits what it has taken beside it: that is waited for.
func TestBrokenAndTaken(t *testing.T) {
	t.Parallel()
	f := setup(t)
	keys := jobs(2)
	f.cacheNow(t, keys...)
	f.exec(t, "ALTER TABLE bids ADD CONSTRAINT broken CHECK (job_id <> '"+keys[0].JobID+"')")
	var (
		begun   int
		release func()
	)
	c := f.claimer(func(c *Claimer) {
		c.after = func(step string) {
			if step != "beginning" {
				return
			}
			switch begun++; begun {
			case 2, 4: // each posting's first transaction of its own
				release = f.hold(t, keys[begun/2-1])
			case 3, 5:
				release()
			}
		}
	})
	made := pass(t, c, PassOptions{Batch: 2})
	want(t, "attempts", verdicts(made), []string{"failed database_error", "claimed"})
	f.tally(t, made...)
}

// TestShortBatch: fewer candidates than were asked for are the end of a stretch, without another look at it.
func TestShortBatch(t *testing.T) {
	t.Parallel()
	for candidates, looks := range map[int]int{
		6: 3, // 4, 2, and from the front
		8: 4, // 4, 4, none, and from the front
	} {
		f := setup(t)
		f.cacheNow(t, jobs(candidates)...)
		sent := f.statements()
		made := pass(t, f.claimer(), PassOptions{Workers: 1, Batch: 4})
		want(t, "outcomes", outcomes(made), map[Outcome]int{Claimed: candidates})
		want(t, "looks at the queue", sent("TakeCandidates"), looks)
	}
}
