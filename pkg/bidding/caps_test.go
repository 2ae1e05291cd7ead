package bidding

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/posting"
)

// everywhere are the same caps at every marketplace.
func everywhere(caps Caps) func(string) Caps { return func(string) Caps { return caps } }

// capped are n attempts that a pass comes to: so many claimed, the others ineligible.
func capped(claimed, ineligible int) map[Outcome]int {
	counts := map[Outcome]int{Claimed: claimed, Ineligible: ineligible}
	for outcome, n := range counts {
		if n == 0 {
			delete(counts, outcome)
		}
	}
	return counts
}

// drained makes passes until nothing is due, also where attempts were locked for a moment.
func (f *fixture) drained(t testing.TB, c *Claimer, dueBy time.Time, batch int) (attempts []Attempt) {
	t.Helper()
	eventually(t, "nothing is due", func() bool {
		err := c.drain(t.Context(), wholeQueue(dueBy), PassOptions{Batch: batch, Observe: func(made []Attempt) { attempts = append(attempts, made...) }})
		if err != nil {
			t.Errorf("pass: %v", err)
		}
		f.exec(t, `UPDATE candidates AS c SET not_before = clock_timestamp() - interval '1 second'
			FROM (SELECT p.ctid FROM candidates AS p WHERE p.not_before < clock_timestamp() + interval '3 seconds' FOR UPDATE SKIP LOCKED) AS free
			WHERE c.ctid = free.ctid`)
		return f.count(t, "candidates WHERE not_before <= $1", dueBy) == 0
	})
	return attempts
}

// used is what the database says of a cap, over all its shares.
func (f *fixture) used(t testing.TB, name string) int {
	t.Helper()
	return read[int](t, f, "SELECT coalesce(sum(used), 0) FROM spending WHERE cap = $1", name)
}

func number(n int64) *int64 { return new(n) }

// TestCaps: a pass claims what there is room for, says what stands against the rest, keeps
// it until there may be room again, and ends.
func TestCaps(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		caps   Caps
		fits   int
		detail string
		until  string // of those that wait, in SQL
	}{
		{
			"bids",
			Caps{BidsPerDay: number(5), MoneyPerDayCents: number(20_000), LiveBids: number(30), Zone: "Asia/Tokyo"},
			5, DetailCapBidsPerDay, "((clock_timestamp() AT TIME ZONE 'Asia/Tokyo')::date + 1)::timestamp AT TIME ZONE 'Asia/Tokyo'",
		},
		{
			"money",
			Caps{BidsPerDay: number(10), MoneyPerDayCents: number(3999)},
			3, DetailCapMoneyPerDay, "((clock_timestamp() AT TIME ZONE 'UTC')::date + 1)::timestamp AT TIME ZONE 'UTC'",
		},
		{"live", Caps{BidsPerDay: number(10), LiveBids: number(4)}, 4, DetailCapLiveBids, ""},
		{"nothing", Caps{LiveBids: number(0)}, 0, DetailCapLiveBids, ""},
		{"room for all", Caps{BidsPerDay: number(12), MoneyPerDayCents: number(12_000), LiveBids: number(12)}, 12, "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			f.rules.Caps = everywhere(tt.caps)
			keys := jobs(12)
			f.cacheNow(t, keys...)
			// As little as a few seconds before midnight the postings would still be fresh after it.
			want(t, "preview", outcomes(preview(t, f.claimer(), keys, PreviewOptions{Pass: true})), capped(tt.fits, 12-tt.fits))
			want(t, "rows of a preview", f.count(t, "spending"), 0)

			c := f.claimer()
			made := pass(t, c, PassOptions{Batch: 5})
			want(t, "outcomes", outcomes(made), capped(tt.fits, 12-tt.fits))
			for _, a := range made {
				if a.Outcome == Ineligible {
					want(t, "detail", a.Detail, tt.detail)
					want(t, "waits", a.Until.After(time.Now()), true)
					want(t, "decided", a.Decided(), false)
				}
			}
			want(t, "candidates left", f.count(t, "candidates WHERE not_before > clock_timestamp()"), 12-tt.fits)
			if tt.until != "" {
				want(t, "until", f.count(t, "candidates WHERE not_before = "+tt.until), 12-tt.fits)
			}
			want(t, "next pass", len(pass(t, c, PassOptions{})), 0)
			f.tally(t, made...)
			if tt.fits < 12 {
				hand := attempt(t, c, made[len(made)-1].Key, AttemptOptions{})
				want(t, "by hand", verdict(hand), "ineligible "+tt.detail)
				want(t, "still queued", f.queued(t, hand.Key), true)
			}
			want(t, "live bids", f.live(t), tt.fits)
			if tt.caps.BidsPerDay != nil {
				want(t, "counted", f.used(t, bidsPerDay), tt.fits)
			}
			if tt.caps.MoneyPerDayCents != nil {
				want(t, "money", f.used(t, moneyPerDay), tt.fits*1000)
			}
		})
	}
}

// TestNoCaps: who has none has no row.
func TestNoCaps(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.rules.Caps = everywhere(Caps{Zone: "Europe/Berlin"})
	f.cacheNow(t, jobs(3)...)
	want(t, "outcomes", outcomes(pass(t, f.claimer(), PassOptions{})), capped(3, 0))
	want(t, "rows", f.count(t, "spending"), 0)
}

// TestCapsRace has sixteen claimers at marketplaces and currencies in any mixture, some of
// them far from their caps and some at the end.
func TestCapsRace(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.pool = openPool(t, f.URL, 16)
	f.rules.Caps = func(marketplace string) Caps {
		return map[string]Caps{
			"guru":   {BidsPerDay: number(700), MoneyPerDayCents: number(600_000), LiveBids: number(690)},
			"upwork": {BidsPerDay: number(35), MoneyPerDayCents: number(20_000)},
			"other":  {LiveBids: number(17), Zone: "America/New_York"},
			"free":   {},
		}[marketplace]
	}
	var keys []posting.Key
	for _, marketplace := range []string{"guru", "upwork", "other", "free"} {
		n := 150
		if marketplace == "guru" {
			n = 1100
		}
		for i := range n {
			keys = append(keys, posting.Key{Marketplace: marketplace, JobID: fmt.Sprintf("%05d", i)})
		}
	}
	f.cacheNow(t, keys...)
	f.exec(t, "UPDATE postings SET currency = CASE WHEN job_id::integer % 2 = 0 THEN 'EUR' ELSE 'USD' END")
	f.exec(t, "UPDATE candidates SET not_before = not_before - random() * interval '1 hour'")
	dueBy := read[time.Time](t, f, "SELECT clock_timestamp() + interval '10 seconds'")
	const claimers = 16
	made := make([][]Attempt, claimers+1)
	concurrently(claimers, func(i int) { made[i] = f.drained(t, f.claimer(), dueBy, 3+i) })
	// On a busy machine some may not have got at the caps by then, and are left for later.
	f.exec(t, "UPDATE candidates SET not_before = clock_timestamp()")
	made[claimers] = pass(t, f.claimer(), PassOptions{})

	live := func(marketplace, currency string) int {
		return f.count(t, "bids WHERE marketplace = $1 AND ($2 = '' OR currency = $2)", marketplace, currency)
	}
	want(t, "guru: live_bids is the smallest", live("guru", ""), 690)
	want(t, "upwork, EUR and USD: money", []bool{live("upwork", "EUR") <= 20, live("upwork", "USD") <= 20}, []bool{true, true})
	want(t, "upwork: bids", live("upwork", ""), 35)
	want(t, "other: live", live("other", ""), 17)
	want(t, "free", live("free", ""), 150)
	for _, a := range slices.Concat(made...) {
		want(t, "error", a.Err, nil)
	}
	want(t, "what is counted is what there is", f.miscounted(t), 0)
	want(t, "deadlocks", f.Deadlocks(t), 0)
}

// miscounted are the day's caps whose count is not what stands in bids, whoever's day it is.
func (f *fixture) miscounted(t testing.TB) int {
	t.Helper()
	return f.count(t, `(SELECT marketplace, cap, currency, day, sum(used) AS used FROM spending WHERE cap <> 'live_bids' GROUP BY 1, 2, 3, 4) AS s
		WHERE s.used <> (
			SELECT coalesce(sum(CASE WHEN s.cap = 'bids_per_day' THEN 1 ELSE b.amount_cents END), 0) FROM bids AS b
			WHERE b.marketplace = s.marketplace AND (s.currency = '' OR b.currency = s.currency)
				AND b.run_id IS NULL AND (b.created_at AT TIME ZONE 'UTC')::date = s.day)`)
}

// TestCapsShared: far from the cap a claim takes from a share, and waits for nobody who
// holds others; near its end the shares are put together again.
func TestCapsShared(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.rules.Caps = everywhere(Caps{BidsPerDay: number(300)})
	keys := jobs(400)
	f.cacheNow(t, keys[:10]...)
	locked := 0
	c := f.claimer(func(c *Claimer) {
		c.after = func(step string) {
			if step == "spending locked" {
				locked++
			}
		}
	})
	want(t, "first", outcomes(pass(t, c, PassOptions{})), capped(10, 0))
	want(t, "shares", f.count(t, "spending WHERE share > 0 AND allotted = 145"), 2)

	// One of the two is held: the other is taken, without waiting.
	open := f.rogue(t, "SELECT FROM spending WHERE share = 1 FOR UPDATE")
	f.cacheNow(t, keys[10:20]...)
	want(t, "from a share", outcomes(pass(t, c, PassOptions{})), capped(10, 0))
	want(t, "taken from", f.count(t, "spending WHERE share = 2 AND used = 10"), 1)
	want(t, "exact decisions", locked, 1)
	open.rollback()

	f.cacheNow(t, keys...)
	made := pass(t, c, PassOptions{})
	want(t, "the rest", outcomes(made), map[Outcome]int{Duplicate: 20, Claimed: 280, Ineligible: 100})
	want(t, "shares at the end", f.count(t, "spending WHERE share > 0 AND allotted > 0"), 0)
	want(t, "counted", f.used(t, bidsPerDay), 300)
	want(t, "miscounted", f.miscounted(t), 0)
	f.counters = Counters{}
}

// TestCapsBusy: whoever holds a cap as a whole is waited for, not for ever, and then nothing is decided.
func TestCapsBusy(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.rules.Caps = everywhere(Caps{BidsPerDay: number(300)})
	f.cacheNow(t, jobs(3)...)
	c := f.claimer()
	want(t, "first", outcomes(pass(t, c, PassOptions{})), capped(3, 0))
	for _, share := range []string{"share = 0", "share = 1"} {
		open := f.rogue(t, "SELECT FROM spending WHERE "+share+" FOR UPDATE")
		f.exec(t, "UPDATE bids SET status = 'LOST', delivery_kind = NULL, delivery_state = NULL, next_attempt_at = NULL")
		f.exec(t, "DELETE FROM bids")
		f.exec(t, "UPDATE postings SET cached_at = cached_at - interval '1 day'")
		f.cacheNow(t, jobs(3)...)
		made := pass(t, f.claimer(), PassOptions{})
		want(t, "outcomes", outcomes(made), map[Outcome]int{Locked: 3})
		want(t, "tries", f.count(t, "candidates WHERE tries = 0"), 3)
		open.rollback()
	}
}

// TestCapsAcrossMidnight: claims on both sides of midnight, at the same moment. Each day has its own.
func TestCapsAcrossMidnight(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.rules.PostingTTL = 3 * postingTTL
	const zone = "Europe/Berlin"
	f.rules.Caps = everywhere(Caps{BidsPerDay: number(7), MoneyPerDayCents: number(6500), Zone: zone})
	midnight := read[time.Time](t, f, "SELECT ((clock_timestamp() AT TIME ZONE $1)::date + 1)::timestamp AT TIME ZONE $1", zone)
	before, after := midnight.Add(-time.Microsecond), midnight
	f.cache(t, before.Add(-time.Hour), jobs(60)...)
	f.exec(t, "UPDATE candidates SET not_before = clock_timestamp() - interval '1 second'")
	dueBy := read[time.Time](t, f, "SELECT clock_timestamp() + interval '10 seconds'")
	concurrently(8, func(i int) {
		f.drained(t, f.claimer(at([]time.Time{before, after}[i%2])), dueBy, 5)
	})
	// Today's may have been faster at most of them, and left too few to yesterday's.
	f.cache(t, before.Add(-time.Hour), jobs(70)[60:]...)
	f.drained(t, f.claimer(at(before)), read[time.Time](t, f, "SELECT clock_timestamp() + interval '10 seconds'"), 5)
	// What met yesterday's cap waits for today, and today's for tomorrow.
	f.drained(t, f.claimer(at(after)), after, 5)
	for _, day := range []time.Time{before, after} {
		want(t, "bids of the day", f.count(t, "bids WHERE created_at = $1", day), 6)
	}
	want(t, "they wait", f.count(t, "candidates WHERE not_before = $1", read[time.Time](t, f, "SELECT ((($1::timestamptz AT TIME ZONE $2)::date + 1)::timestamp AT TIME ZONE $2)", after, zone)), 58)
	want(t, "deadlocks", f.Deadlocks(t), 0)
}

// TestCapsOutlived: what will be stale when there is room again does not wait for it.
func TestCapsOutlived(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.rules.Caps = everywhere(Caps{BidsPerDay: number(0)})
	midnight := time.Date(2030, 1, 3, 0, 0, 0, 0, time.UTC)
	f.cache(t, midnight.Add(-postingTTL), job("fresh at midnight"))
	f.cache(t, midnight.Add(-postingTTL-time.Microsecond), job("stale at midnight"))
	made := pass(t, f.claimer(at(noon())), PassOptions{})
	want(t, "outcomes", outcomes(made), capped(0, 2))
	want(t, "waits", f.queued(t, job("fresh at midnight")), true)
	want(t, "dropped", f.queued(t, job("stale at midnight")), false)
}

// TestCapsCrash ends the session while spending is locked, and after it was written.
func TestCapsCrash(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"spending locked", "written", "written from a share"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			f.rules.Caps = everywhere(Caps{BidsPerDay: number(400), LiveBids: number(400)})
			f.cacheNow(t, jobs(10)...)
			var crash atomic.Bool
			c := f.claimer(func(c *Claimer) {
				c.after = func(s string) {
					if strings.HasPrefix(step, s) && s != "beginning" && crash.CompareAndSwap(true, false) {
						f.terminate(t)
					}
				}
			})
			counted := 0
			if step == "written from a share" {
				want(t, "first", outcomes(pass(t, c, PassOptions{})), capped(10, 0))
				f.cacheNow(t, jobs(20)[10:]...)
				counted = 10
			}
			crash.Store(true)
			made, _ := tryPass(t.Context(), c, PassOptions{})
			want(t, "outcomes", outcomes(made), map[Outcome]int{Failed: 10})
			want(t, "counted", []int{f.used(t, bidsPerDay), f.used(t, liveBids)}, []int{counted, counted})
			f.exec(t, "UPDATE candidates SET not_before = clock_timestamp()")
			want(t, "afterwards", outcomes(pass(t, c, PassOptions{})), capped(10, 0))
			want(t, "counted afterwards", []int{f.used(t, bidsPerDay), f.used(t, liveBids)}, []int{counted + 10, counted + 10})
		})
	}
}

// TestCapsRogue: a bid that was not inserted after all is not counted, neither where the
// caps are locked nor from a share.
func TestCapsRogue(t *testing.T) {
	t.Parallel()
	if err := scenarioCapsRogue(t, setup(t)); err != nil {
		t.Error(err)
	}
}

func scenarioCapsRogue(t *testing.T, f *fixture) error {
	t.Helper()
	f.rules.Caps = everywhere(Caps{BidsPerDay: number(400), MoneyPerDayCents: number(400_000), LiveBids: number(400)})
	keys := jobs(20)
	claimed := 0
	for range 2 { // the second time from shares
		f.cacheNow(t, keys[:10]...)
		c := f.claimer(once("judged", func() { f.exec(t, insertLive, keys[3].Marketplace, keys[3].JobID) }))
		c.cuts = f.cuts
		made, err := tryPass(t.Context(), c, PassOptions{})
		if err != nil {
			return err
		}
		f.cuts = c.cuts
		claimed += 9
		if err := differ("outcomes", outcomes(made), map[Outcome]int{Claimed: 9, Duplicate: 1}); err != nil {
			return err
		}
		got := []int{f.used(t, bidsPerDay), f.used(t, moneyPerDay), f.used(t, liveBids)}
		// The first of the others' bids was there to be counted, the second was not.
		if err := differ("counted", got, []int{claimed + 1, 1000*claimed + 1, claimed + 1}); err != nil {
			return err
		}
		keys = keys[10:]
	}
	return differ("from shares", f.count(t, "spending WHERE share > 0 AND used > 0"), 3)
}

// TestCapsChange: a cap that is raised or lowered in the middle of a day counts what was claimed before.
func TestCapsChange(t *testing.T) {
	t.Parallel()
	f := setup(t)
	claimed, keys := 0, jobs(3000)
	change := func(limit *int64, offered, fits int) {
		t.Helper()
		f.rules.Caps = everywhere(Caps{BidsPerDay: limit})
		f.exec(t, "DELETE FROM candidates")
		f.cacheNow(t, keys[claimed:claimed+offered]...)
		want(t, "outcomes", outcomes(pass(t, f.claimer(), PassOptions{})), capped(fits, offered-fits))
		claimed += fits
	}
	change(nil, 10, 10) // no cap: nobody counts
	change(number(15), 10, 5)
	change(number(20), 10, 5)
	change(number(12), 10, 0)
	change(number(1000), 10, 10) // cut into shares
	change(number(40), 20, 10)   // which are worth nothing under another cap
	change(nil, 10, 10)          // lifted for a while
	change(number(55), 20, 5)
	want(t, "bids", f.count(t, "bids"), 55)
}

// TestTwoCaps: while pods with an old and a new file are at work, no more than the larger cap.
func TestTwoCaps(t *testing.T) {
	t.Parallel()
	for _, caps := range [][2]int64{{9, 30}, {300, 600}} {
		t.Run(fmt.Sprint(caps), func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			f.cacheNow(t, jobs(800)...)
			dueBy := read[time.Time](t, f, "SELECT clock_timestamp() + interval '10 seconds'")
			concurrently(4, func(i int) {
				rules := f.rules
				rules.Caps = everywhere(Caps{BidsPerDay: number(caps[i%2])})
				c := NewClaimer(f.pool, f.limits, rules, &f.counters, uuid.Nil)
				f.drained(t, c, dueBy, 20)
			})
			if n := int64(f.live(t)); n > caps[1] || n < caps[0] {
				t.Errorf("%d bids, with caps %v", n, caps)
			}
			want(t, "miscounted", f.miscounted(t), 0)
		})
	}
}

// TestLiveCapFrees: when a bid ends there is room for another.
func TestLiveCapFrees(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.rules.Caps = everywhere(Caps{LiveBids: number(3)})
	f.cacheNow(t, jobs(10)...)
	c := f.claimer()
	want(t, "first", outcomes(pass(t, c, PassOptions{})), capped(3, 7))
	f.exec(t, `UPDATE bids SET status = 'LOST', delivery_kind = NULL, delivery_state = NULL, next_attempt_at = NULL WHERE job_id <= '00001'`)
	f.exec(t, "UPDATE candidates SET not_before = clock_timestamp()")
	want(t, "after two have ended", outcomes(pass(t, c, PassOptions{})), capped(2, 5))
	want(t, "live", f.live(t), 3)
}

// TestCapsWithdrawn: a withdrawn or rejected bid stays with the day on which it was claimed.
func TestCapsWithdrawn(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.rules.Caps = everywhere(Caps{BidsPerDay: number(3), MoneyPerDayCents: number(3000)})
	f.cacheNow(t, jobs(2)...)
	want(t, "first", outcomes(pass(t, f.claimer(), PassOptions{})), capped(2, 0))
	f.exec(t, `UPDATE bids SET status = CASE job_id WHEN '00000' THEN 'WITHDRAWN' ELSE 'REJECTED' END,
		delivery_kind = NULL, delivery_state = NULL, next_attempt_at = NULL`)
	f.cacheNow(t, jobs(10)[2:]...)
	want(t, "then", outcomes(pass(t, f.claimer(), PassOptions{})), capped(1, 7))
}

// TestRehearsal: previews of one dry run keep to the caps together, and follow files.
func TestRehearsal(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.rules.Caps = everywhere(Caps{BidsPerDay: number(20), MoneyPerDayCents: number(15_000)})
	keys := jobs(100)
	f.cacheNow(t, keys...)
	want(t, "claimed before", verdict(attempt(t, f.claimer(), keys[99], AttemptOptions{})), "claimed")
	rehearsal := &Rehearsal{}
	claimed := 0
	for page := range 4 {
		made := preview(t, f.claimer(), keys[page*20:page*20+20], PreviewOptions{Pass: true, Rehearsal: rehearsal})
		claimed += outcomes(made)[Claimed]
		want(t, "others", outcomes(made)[Claimed]+outcomes(made)[Ineligible], 20)
	}
	want(t, "claimed", claimed, 14)
	amount := int64(2000)
	euro := posting.Posting{
		Key: keys[0], CachedAt: read[time.Time](t, f, "SELECT clock_timestamp()"), Currency: "EUR", Bid: &posting.Bid{AmountCents: &amount},
	}
	made := preview(t, f.claimer(), keys[:1], PreviewOptions{Rehearsal: rehearsal, Refreshed: map[posting.Key]posting.Posting{keys[0]: euro}})
	want(t, "in another currency", verdict(made[0]), "claimed")
}

// TestCapStatementsFail breaks each statement that caps add to a claim: nothing is half done.
func TestCapStatementsFail(t *testing.T) {
	t.Parallel()
	for name, broken := range map[string]string{
		"ReadSpending": queries.ReadSpending, "LockSpending": queries.LockSpending,
		"LockShares": queries.LockShares, "CutSpending": queries.CutSpending,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			f.rules.Caps = everywhere(Caps{BidsPerDay: number(7)})
			f.cacheNow(t, jobs(3)...)
			failing := func(f *fixture) {
				f.rewrite = func(sql string) string {
					if sql == broken {
						return strings.Replace(sql, "FROM", "FORM", 1)
					}
					return sql
				}
			}
			failing(f)
			fresh := f.claimer()
			made := pass(t, fresh, PassOptions{})
			want(t, "outcomes", outcomes(made), map[Outcome]int{Failed: 3})
			want(t, "rows", f.count(t, "spending")+f.count(t, "bids"), 0)

			f.rewrite = nil
			f.exec(t, "UPDATE candidates SET not_before = clock_timestamp()")
			c := f.claimer()
			want(t, "mended", outcomes(pass(t, c, PassOptions{})), capped(3, 0))
			failing(f)
			c.pool = rewriting{f.pool, f.rewrite}
			f.cacheNow(t, job("later"))
			want(t, "broken later", outcomes(pass(t, c, PassOptions{})), map[Outcome]int{Failed: 1})
			if _, err := c.tryPreview(t.Context(), jobs(4)[3:], PreviewOptions{}); err != nil {
				t.Errorf("preview of what is not in the cache: %v", err)
			}
			_, err := c.tryPreview(t.Context(), []posting.Key{job("later")}, PreviewOptions{})
			want(t, "preview fails", err != nil, broken == queries.ReadSpending)
			want(t, "counted", f.used(t, bidsPerDay), 3)
		})
	}
}

// TestTakeSharesFails: without its share nothing of a claim is left.
func TestTakeSharesFails(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.rules.Caps = everywhere(Caps{BidsPerDay: number(300)})
	f.cacheNow(t, jobs(3)...)
	c := f.claimer()
	want(t, "shares are cut", outcomes(pass(t, c, PassOptions{})), capped(3, 0))
	c.pool = rewriting{f.pool, func(sql string) string { return strings.Replace(sql, "-- name: TakeShares", "broken", 1) }}
	f.cacheNow(t, job("later"))
	want(t, "outcomes", outcomes(pass(t, c, PassOptions{})), map[Outcome]int{Failed: 1})
	want(t, "bids", f.count(t, "bids"), 3)
	want(t, "counted", f.used(t, bidsPerDay), 3)
}

// TestCapsOneAtATime: of one pod a single worker decides exactly. What it finds out spares
// the others that, and they do not wait for ever.
func TestCapsOneAtATime(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.rules.Caps = everywhere(Caps{BidsPerDay: number(300)})
	f.cacheNow(t, jobs(3)...)
	locked := 0
	tight := make(chan struct{}, 3)
	c := f.claimer(func(c *Claimer) {
		c.after = func(step string) {
			switch step {
			case "tight":
				tight <- struct{}{}
			case "spending locked":
				locked++
			}
		}
	})
	want(t, "cuts", verdict(attempt(t, c, jobs(1)[0], AttemptOptions{})), "claimed")
	<-tight
	cuts := c.cuts
	c.cuts = nil
	c.deciding <- struct{}{}
	done := make(chan Attempt)
	go func() { done <- attempt(t, c, jobs(2)[1], AttemptOptions{}) }()
	<-tight // it has seen no shares
	c.remember(cuts)
	<-c.deciding
	want(t, "from a share", verdict(<-done), "claimed")
	want(t, "exact decisions", locked, 1)

	c.deciding <- struct{}{}
	c.cuts = nil
	c.limits.Statement, c.limits.TTL = 20*time.Millisecond, 200*time.Millisecond
	want(t, "waiting too long", attempt(t, c, jobs(3)[2], AttemptOptions{}).Outcome, Failed)
	f.untilCut(t)
}

func TestReadCaps(t *testing.T) {
	t.Parallel()
	f := setup(t)
	caps := Caps{BidsPerDay: number(5), MoneyPerDayCents: number(9000), LiveBids: number(7)}
	f.rules.Caps = everywhere(caps)
	f.cacheNow(t, jobs(2)...)
	want(t, "outcomes", outcomes(pass(t, f.claimer(), PassOptions{})), capped(2, 0))
	used, err := ReadCaps(t.Context(), f.pool, "upwork", []string{"USD", "EUR"}, caps, true)
	want(t, "error", err, nil)
	var got []string
	for _, u := range used {
		got = append(got, fmt.Sprint(u.Account, " ", u.Cap, u.Currency, " ", u.Used, " of ", u.Limit, " ", u.ResetsAt != nil))
	}
	want(t, "used", got, []string{
		"default bids_per_day 2 of 5 true", "default live_bids 2 of 7 false",
		"default money_per_dayEUR 0 of 9000 true", "default money_per_dayUSD 2000 of 9000 true",
	})
	for _, broken := range []string{queries.Now, queries.ReadSpending} {
		err := db.ReadOnly(t.Context(), rewriting{f.pool, func(sql string) string {
			if sql == broken {
				return "SELECT FORM"
			}
			return sql
		}}, func(tx pgx.Tx) error {
			_, err := ReadCaps(t.Context(), tx, "upwork", []string{"USD"}, caps, true)
			return err
		})
		want(t, "fails", err != nil, true)
	}
}
