package bidding

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/arbitrageai/bidder/pkg/posting"
)

// replaceTryLock puts a function in front of the server's own, for connections to come.
func (f *fixture) replaceTryLock(t testing.TB, body string) {
	t.Helper()
	f.fake(t, "CREATE FUNCTION fake.pg_try_advisory_xact_lock(bigint) RETURNS boolean LANGUAGE sql AS $$ "+body+" $$")
}

// fake makes something that stands in front of what the server has.
func (f *fixture) fake(t testing.TB, create string) {
	t.Helper()
	f.exec(t, "CREATE SCHEMA IF NOT EXISTS fake")
	f.exec(t, create)
	f.exec(t, fmt.Sprintf("ALTER DATABASE %s SET search_path = fake, public, pg_catalog", pgx.Identifier{f.Name}.Sanitize()))
	f.renew(t)
}

// renew ends the idle sessions, so that new settings of the database apply.
func (f *fixture) renew(t testing.TB) {
	t.Helper()
	f.exec(t, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
		WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()`)
	f.direct.Reset()
	f.pool.Reset()
	eventually(t, "the pool works again", func() bool {
		var path string
		err := f.pool.QueryRow(t.Context(), "SHOW search_path").Scan(&path)
		return err == nil && path == "fake, public, pg_catalog"
	})
}

// TestWithoutLock: with an advisory lock that everybody gets, the index still lets one bid live.
func TestWithoutLock(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.replaceTryLock(t, "SELECT true")
	f.cacheNow(t, jobs(5)...)
	release := f.hold(t, jobs(1)[0]) // nobody looks at it
	c := f.claimer()
	made := make([]Attempt, 50)
	concurrently(len(made), func(i int) { made[i] = attempt(t, c, jobs(5)[i%5], AttemptOptions{Wait: patience}) })
	want(t, "outcomes", outcomes(made), map[Outcome]int{Claimed: 5, Duplicate: 45})
	want(t, "live bids", f.live(t), 5)
	f.tally(t, made...)
	release()

	again := jobs(64)
	f.cacheNow(t, again...)
	passes := make([][]Attempt, 4)
	concurrently(len(passes), func(i int) { passes[i] = pass(t, c, PassOptions{Batch: 16}) })
	want(t, "live bids after the passes", f.live(t), 64)
	want(t, "deadlocks", f.Deadlocks(t), 0)
}

// TestRogueCommits has a writer who takes no locks come in between.
func TestRogueCommits(t *testing.T) {
	t.Parallel()
	if err := scenarioRogueCommits(t, setup(t)); err != nil {
		t.Error(err)
	}
}

// scenarioRogueCommits: the live bid appears after the judgement, before the insert.
func scenarioRogueCommits(t *testing.T, f *fixture) error {
	t.Helper()
	keys := append(jobs(4), job("by hand"), posting.Key{Marketplace: "guru", JobID: "00001"})
	f.cacheNow(t, keys...)
	f.exec(t, "DELETE FROM candidates WHERE job_id = 'by hand'")
	ended := f.insert(t, keys[1], bid{status: "DUPLICATE", created: ago(0)})
	var errs []error

	made, err := tryPass(t.Context(), f.claimer(once("judged", func() {
		f.exec(t, insertLive, keys[1].Marketplace, keys[1].JobID)
	})), PassOptions{})
	winner := read[string](t, f, "SELECT id::text FROM bids WHERE amount_cents = 1")
	errs = append(errs, err, differ("outcomes", outcomes(made), map[Outcome]int{Claimed: 4, Duplicate: 1}),
		differ("candidates left", f.count(t, "candidates"), 0))
	for _, a := range made {
		if a.Outcome == Duplicate {
			errs = append(errs, differ("posting", a.Key, keys[1]), differ("who was first", a.ExistingBidID.String(), winner),
				differ("own bid", a.BidID.String(), "00000000-0000-0000-0000-000000000000"), differ("not", a.ExistingBidID != ended, true))
		}
	}

	a, err := f.claimer(once("judged", func() {
		f.exec(t, insertLive, "upwork", "by hand")
	})).Attempt(t.Context(), job("by hand"), AttemptOptions{})
	errs = append(errs, err, differ("by hand", verdict(a), "duplicate"),
		differ("audit rows", f.count(t, "bids WHERE status = 'DUPLICATE' AND duplicate_of = $1::text::uuid", a.ExistingBidID.String()), 1))
	return errors.Join(errs...)
}

// TestRogueStays: an open transaction on one posting does not keep a batch from the others,
// and what comes of it is found out later.
func TestRogueStays(t *testing.T) {
	t.Parallel()
	for _, commits := range []bool{true, false} {
		t.Run(fmt.Sprintf("commits %v", commits), func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			keys := jobs(20)
			f.cacheNow(t, keys...)
			open := f.rogue(t, insertLive, keys[7].Marketplace, keys[7].JobID)
			c := f.claimer()

			started := time.Now()
			made := pass(t, c, PassOptions{})
			if took := time.Since(started); took > f.limits.Statement {
				t.Errorf("the pass took %v, want two lock time-outs and a little", took)
			}
			want(t, "outcomes", outcomes(made), map[Outcome]int{Claimed: 19, Locked: 1})
			want(t, "stalled", verdict(made[7]), "locked")
			want(t, "tries", read[int](t, f, "SELECT tries FROM candidates"), 0)
			byHand := attempt(t, c, keys[7], AttemptOptions{})
			want(t, "by hand", verdict(byHand), "locked")
			f.tally(t, append(made, byHand)...)

			outcome := "claimed"
			if commits {
				open.commit()
				outcome = "duplicate"
			} else {
				open.rollback()
			}
			f.exec(t, "UPDATE candidates SET not_before = clock_timestamp()")
			made = pass(t, c, PassOptions{})
			want(t, "once it has ended", verdict(made[0]), outcome)
			want(t, "live bids", f.live(t), 20)
			if commits {
				want(t, "who was first", made[0].ExistingBidID.String(), read[string](t, f, "SELECT id::text FROM bids WHERE amount_cents = 1"))
			}
		})
	}
}

// TestRogueInTime: one that ends while the claim waits for it is waited for.
func TestRogueInTime(t *testing.T) {
	t.Parallel()
	for _, commits := range []bool{true, false} {
		t.Run(fmt.Sprintf("commits %v", commits), func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			f.cacheNow(t, job("1"))
			open := f.rogue(t, insertLive, "upwork", "1")
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				eventually(t, "the claim waits", func() bool {
					return f.count(t, "pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'") == 1
				})
				if commits {
					open.commit()
				} else {
					open.rollback()
				}
			}()
			// Waiting, because a slow machine may take longer than the lock time-out to see it.
			a := attempt(t, f.claimer(), job("1"), AttemptOptions{Wait: patience})
			<-ended
			want(t, "outcome", verdict(a), map[bool]string{true: "duplicate", false: "claimed"}[commits])
			want(t, "live bids", f.live(t), 1)
		})
	}
}
