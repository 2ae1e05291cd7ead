package bidding

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/policy"
	"github.com/arbitrageai/bidder/pkg/posting"
)

// bounded are rules with a policy that is simple on upwork and guru, where a person approves, and not on toptal.
func (f *fixture) bounded() {
	budget := Budget{
		MinCents: cents(500), MaxCents: cents(5000),
		NeedsApproval: func(marketplace string) bool { return marketplace == "guru" },
	}
	f.rules.Policy = budget.Decide
	f.rules.Terms = func(marketplace string) (Terms, bool) {
		terms, simple := budget.Terms(marketplace)
		return terms, simple && marketplace != "toptal"
	}
}

// listed is a posting with what it wants, and what becomes of it in a pass.
type listed struct {
	key     string // marketplace and job
	columns string // an UPDATE of its posting, or ""
	age     time.Duration
	past    string // status of a bid on it
	wanted  string
}

func plainPostings() []listed {
	return []listed{
		{key: "upwork a", wanted: "claimed 1000 USD pending"},
		{key: "upwork asked", columns: "bid_amount_cents = 700, currency = 'EUR'", wanted: "claimed 700 EUR pending"},
		{key: "upwork from", columns: "budget_min_cents = 600, budget_max_cents = 800", wanted: "claimed 800 USD pending"},
		{key: "upwork least", columns: "budget_min_cents = 600, budget_max_cents = NULL", wanted: "claimed 600 USD pending"},
		{key: "upwork lower bound", columns: "bid_amount_cents = 500", wanted: "claimed 500 USD pending"},
		{key: "upwork upper bound", columns: "bid_amount_cents = 5000", wanted: "claimed 5000 USD pending"},
		{key: "upwork oldest", age: postingTTL, wanted: "claimed 1000 USD pending"},
		{key: "upwork audited", past: "DUPLICATE", wanted: "claimed 1000 USD pending"},
		{key: "guru asked", wanted: "claimed 1000 USD awaiting_approval"},
		{key: "guru lost", columns: "bid_amount_cents = 900", wanted: "claimed 900 USD awaiting_approval"},
	}
}

func otherPostings() []listed {
	return []listed{
		{key: "upwork above", columns: "bid_amount_cents = 5001", wanted: "ineligible amount_above_maximum"},
		{key: "upwork below", columns: "bid_amount_cents = 499", wanted: "ineligible amount_below_minimum"},
		{key: "upwork brought down", columns: "budget_max_cents = 9000", wanted: "claimed 5000 USD pending"},
		{key: "upwork for nothing", columns: "budget_max_cents = NULL", wanted: "ineligible no_amount"},
		{key: "upwork stale", age: postingTTL + time.Microsecond, wanted: "stale"},
		{key: "upwork live", past: "ACTIVE", wanted: "duplicate"},
		{key: "upwork lost", past: "LOST", wanted: "closed lost"},
		{key: "toptal a", wanted: "claimed 1000 USD pending"},
	}
}

// list puts postings in the cache and in the queue, and returns what should become of them.
func (f *fixture) list(t *testing.T, postings []listed) map[string]string {
	t.Helper()
	wanted := map[string]string{}
	for _, l := range postings {
		marketplace, jobID, _ := strings.Cut(l.key, " ")
		key := posting.Key{Marketplace: marketplace, JobID: jobID}
		f.cache(t, noon().Add(-l.age), key)
		if l.columns != "" {
			f.exec(t, "WITH moved AS (UPDATE postings SET "+l.columns+` WHERE marketplace = $1 AND job_id = $2 RETURNING ctid)
				UPDATE candidates SET posting = moved.ctid FROM moved WHERE marketplace = $1 AND job_id = $2`, marketplace, jobID)
		}
		if l.past != "" {
			f.insert(t, key, bid{status: l.past, created: noon().Add(-time.Hour)})
		}
		wanted[l.key] = l.wanted
	}
	return wanted
}

// becomes is what became of all that is due, by the attempts and by the database.
func (f *fixture) becomes(t *testing.T, c *Claimer) (map[string]string, error) {
	t.Helper()
	became := map[string]string{}
	var errs []error
	p := wholeQueue(read[time.Time](t, f, "SELECT clock_timestamp()"))
	err := c.drain(t.Context(), p, PassOptions{Batch: 64, Observe: func(attempts []Attempt) {
		for _, a := range attempts {
			got := verdict(a)
			if a.Outcome == Claimed {
				got = fmt.Sprintf("claimed %d %s", a.AmountCents, a.Currency)
				var stored string
				errs = append(errs, f.direct.QueryRow(context.WithoutCancel(t.Context()), `SELECT concat_ws(' ', marketplace, job_id, amount_cents, currency, delivery_state,
						CASE WHEN (next_attempt_at IS NOT NULL) <> (delivery_state = 'pending') OR next_attempt_at <> $2 THEN 'due at another time' END,
						CASE WHEN created_at <> $2 OR updated_at <> $2 OR posting_cached_at <> $3 THEN 'of another time' END)
					FROM bids WHERE id = $1::text::uuid`, a.BidID.String(), noon(), a.CachedAt).Scan(&stored))
				errs = append(errs, differ("the bid of "+a.Key.String(), strings.HasPrefix(stored, a.Key.String()+" "), true))
				got += stored[max(strings.LastIndex(stored, " "), 0):]
			}
			if before, again := became[a.Key.String()]; again {
				got = before + ", then " + got
			}
			became[a.Key.String()] = got
		}
	}})
	return became, errors.Join(append(errs, err)...)
}

// TestOnlyPlain: where all is plain nothing is judged.
func TestOnlyPlain(t *testing.T) {
	t.Parallel()
	if err := scenarioOnlyPlain(t, setup(t)); err != nil {
		t.Error(err)
	}
}

func scenarioOnlyPlain(t *testing.T, f *fixture) error {
	t.Helper()
	f.bounded()
	wanted := f.list(t, plainPostings())
	// Neighbours by each part of the key, which are not queued.
	f.insert(t, posting.Key{Marketplace: "upwork", JobID: "lost"}, bid{status: "LOST", created: noon().Add(-time.Hour)})
	f.insert(t, posting.Key{Marketplace: "upwork", JobID: "live"}, bid{status: "ACTIVE"})
	f.insert(t, posting.Key{Marketplace: "toptal", JobID: "asked"}, bid{status: "ACTIVE"})
	sent := f.statements()
	became, err := f.becomes(t, f.claimer(at(noon())))
	return errors.Join(err, differ("outcomes", became, wanted), differ("judged", sent("Judge"), 0),
		differ("candidates left", f.count(t, "candidates"), 0))
}

// TestPlain: what is plain is claimed on the way, beside what must be judged.
func TestPlain(t *testing.T) {
	t.Parallel()
	if err := scenarioPlain(t, setup(t)); err != nil {
		t.Error(err)
	}
}

func scenarioPlain(t *testing.T, f *fixture) error {
	t.Helper()
	f.bounded()
	wanted := f.list(t, append(plainPostings(), otherPostings()...))
	gone, held, later := job("gone"), job("held"), job("later")
	f.cache(t, noon(), gone, held, later)
	f.exec(t, "DELETE FROM postings WHERE job_id = 'gone'")
	f.exec(t, "UPDATE candidates SET not_before = 'infinity' WHERE job_id = 'later'")
	release := f.hold(t, held)
	defer release()
	wanted[gone.String()], wanted[held.String()] = "unknown", "locked"
	sent := f.statements()
	became, err := f.becomes(t, f.claimer(at(noon())))
	return errors.Join(err, differ("outcomes", became, wanted),
		differ("done again one by one", sent("LockPostings"), 0),
		differ("claimed by the way", sent("InsertPlain") > 0, true),
		differ("bids on what was held or is due later", f.live(t, held, later), 0),
		differ("candidates left", f.count(t, "candidates"), 2))
}

// TestMoved: a posting that does not lie where its candidate says is judged, and nothing is bid on
// what lies there now.
func TestMoved(t *testing.T) {
	t.Parallel()
	if err := scenarioMoved(t, setup(t)); err != nil {
		t.Error(err)
	}
}

func scenarioMoved(t *testing.T, f *fixture) error {
	t.Helper()
	f.bounded()
	wanted := f.list(t, []listed{
		{key: "upwork a", columns: "bid_amount_cents = 600", wanted: "claimed 600 USD pending"},
		{key: "upwork b", columns: "bid_amount_cents = 700", wanted: "claimed 700 USD pending"},
		{key: "upwork moved", wanted: "claimed 800 USD pending"},
		{key: "upwork unknown place", columns: "bid_amount_cents = 900", wanted: "claimed 900 USD pending"},
		{key: "upwork where another is", columns: "bid_amount_cents = 1100", wanted: "claimed 1100 USD pending"},
		{key: "upwork where nothing is", columns: "bid_amount_cents = 1200", wanted: "claimed 1200 USD pending"},
	})
	notQueued := posting.Key{Marketplace: "upwork", JobID: "not queued"}
	f.cache(t, noon(), notQueued)
	f.exec(t, "DELETE FROM candidates WHERE job_id = 'not queued'")
	f.exec(t, "UPDATE postings SET bid_amount_cents = 800 WHERE job_id = 'moved'")
	f.exec(t, "UPDATE candidates SET posting = NULL WHERE job_id = 'unknown place'")
	f.exec(t, "UPDATE candidates SET posting = (SELECT ctid FROM postings WHERE job_id = 'not queued') WHERE job_id = 'where another is'")
	f.exec(t, "UPDATE candidates SET posting = '(1000000,1)' WHERE job_id = 'where nothing is'")
	sent := f.statements()
	became, err := f.becomes(t, f.claimer(at(noon())))
	return errors.Join(err, differ("outcomes", became, wanted), differ("bids on what is not queued", f.live(t, notQueued), 0),
		differ("judged", sent("Judge") > 0, true), differ("done again one by one", sent("LockPostings"), 0))
}

// TestPlainPlans: the postings of what was taken are found by their places, and what was bid on before
// by its index, also after the statistics of an empty queue.
func TestPlainPlans(t *testing.T) {
	t.Parallel()
	if err := scenarioPlainPlans(t, setup(t)); err != nil {
		t.Error(err)
	}
}

func scenarioPlainPlans(t *testing.T, f *fixture) error {
	t.Helper()
	f.exec(t, "VACUUM ANALYZE candidates")
	return f.planned(t, map[string]int{
		"Tid Scan on postings": 1, "candidates": 0, "postings_pkey": 0, "bids_one_active_per_posting": 1, "bids_history": 1, "Seq Scan": 0,
	}, queries.InsertPlain, []string{}, nil, []bool{false}, noon(), []string{"guru"}, postingTTL, []int64{1}, []int64{9})
}

// TestPlainFails: one by one they are judged.
func TestPlainFails(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.rules.Terms = Budget{}.Terms
	f.cacheNow(t, jobs(3)...)
	f.rewrite = func(sql string) string {
		if sql == queries.InsertPlain {
			return strings.Replace(sql, ") AS number", ") / 0 AS number", 1)
		}
		return sql
	}
	made := pass(t, f.claimer(), PassOptions{})
	want(t, "outcomes", verdicts(made), []string{"claimed", "claimed", "claimed"})
	want(t, "live bids", f.live(t), 3)
	want(t, "candidates left", f.count(t, "candidates"), 0)
	f.tally(t, made...)
}

// TestRestFails: what is plain is not claimed without a judgement of the rest of its batch.
func TestRestFails(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.rules.Terms = Budget{}.Terms
	keys := jobs(2)
	f.cacheNow(t, keys...)
	f.exec(t, "UPDATE postings SET budget_max_cents = NULL WHERE job_id = $1", keys[1].JobID)
	f.rewrite = func(sql string) string {
		if sql == queries.Judge {
			return strings.Replace(sql, "ELSE ''", "ELSE (1 / (k.number - k.number))::text", 1)
		}
		return sql
	}
	made := pass(t, f.claimer(), PassOptions{})
	want(t, "outcomes", verdicts(made), []string{"failed database_error", "failed database_error"})
	want(t, "bids", f.count(t, "bids"), 0)
	want(t, "still queued", f.count(t, "candidates WHERE tries = 1"), 2)
	f.tally(t, made...)
}

// TestPlainOutrun: a writer that takes no locks was faster at one, after the statement's snapshot.
func TestPlainOutrun(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 3} {
		t.Run(strconv.Itoa(n), func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			f.rules.Terms = Budget{}.Terms
			keys := jobs(n)
			f.cacheNow(t, keys...)
			live := f.insert(t, keys[0], bid{status: "ACTIVE"})
			f.rewrite = func(sql string) string {
				if sql == queries.InsertPlain { // its snapshot does not show that bid
					return strings.Replace(sql, "b.status = 'ACTIVE'", "b.status = 'ACTIVE' AND b.id IS NULL", 1)
				}
				return sql
			}
			sent := f.statements()
			made := pass(t, f.claimer(), PassOptions{})
			counts := outcomes(made)
			want(t, "duplicate", counts[Duplicate], 1)
			want(t, "claimed", counts[Claimed], n-1)
			want(t, "the bid that was first", made[0].ExistingBidID, live)
			want(t, "done again together", sent("LockPostings"), 1)
			want(t, "live bids", f.live(t), n)
			want(t, "candidates left", f.count(t, "candidates"), 0)
			f.tally(t, made...)
		})
	}
}

// TestPlainLeft: a candidate that another worker brings to its outcome after a batch of its own
// broke is not claimed by the way, though it was taken before anybody knew.
func TestPlainLeft(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 3} {
		t.Run(strconv.Itoa(n), func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			f.rules.Terms = Budget{}.Terms
			keys := jobs(n)
			f.cacheNow(t, keys...)
			p := wholeQueue(read[time.Time](t, f, "SELECT clock_timestamp()"))
			c := f.claimer(once("beginning", func() { p.broke([]Attempt{{Key: keys[n/2]}}) }))
			var made []Attempt
			want(t, "error", c.drain(t.Context(), p, PassOptions{Batch: 64, Observe: func(a []Attempt) { made = append(made, a...) }}), nil)
			want(t, "claimed", outcomes(made)[Claimed], n-1)
			want(t, "attempts", len(made), n-1)
			want(t, "bids on what is another's", f.live(t, keys[n/2]), 0)
			want(t, "still queued", f.queued(t, keys[n/2]), true)
			f.tally(t, made...)
		})
	}
}

// TestSeldomPlain: where less than half is plain, batches are judged at once for a while.
func TestSeldomPlain(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.rules.Terms = Budget{}.Terms
	f.cache(t, read[time.Time](t, f, "SELECT clock_timestamp()").Add(-2*postingTTL), jobs(judgedBatches+3)...)
	sent := f.statements()
	made := pass(t, f.claimer(), PassOptions{Batch: 1})
	want(t, "outcomes", outcomes(made), map[Outcome]int{Stale: judgedBatches + 3})
	want(t, "tried", sent("InsertPlain"), 2)
	f.tally(t, made...)
}

// TestMeet: a claimer learns the terms of so many marketplaces, of those without caps.
func TestMeet(t *testing.T) {
	t.Parallel()
	c := &Claimer{rules: Rules{
		Terms: func(marketplace string) (Terms, bool) { return Terms{1, 2, true}, marketplace != "complicated" },
		Caps: func(marketplace string) Caps {
			if marketplace == "capped" {
				return Caps{LiveBids: cents(1)}
			}
			return Caps{}
		},
	}}
	c.meet([]string{"capped", "complicated"})
	want(t, "nothing is simple", c.plain(64) == nil, true)
	c.meet((&batch{attempts: []Attempt{{Key: job("1")}, {Key: job("2")}}}).marketplaces())
	c.meet([]string{"upwork"})
	p := c.plain(2)
	want(t, "ids", len(p.IDs), 2)
	want(t, "known", p.Marketplaces, []string{"upwork"})
	want(t, "bounds", []int64{p.MinAmounts[0], p.MaxAmounts[0]}, []int64{1, 2})
	want(t, "approval", p.NeedApproval, []bool{true})
	for i := range 2 * maxTerms {
		c.meet([]string{strconv.Itoa(i)})
	}
	want(t, "so many", len(c.plain(1).Marketplaces), maxTerms)
}

// TestTerms: within its terms a policy bids what the posting wants.
func TestTerms(t *testing.T) {
	t.Parallel()
	marketplace := func(name string) func(string) bool { return func(m string) bool { return m == name } }
	_, simple := Budget{SwitchedOff: marketplace("upwork")}.Terms("upwork")
	want(t, "switched off", simple, false)
	for _, expressions := range []func(string) (*policy.Eligible, *policy.Amount){
		func(string) (*policy.Eligible, *policy.Amount) { return new(policy.Eligible), nil },
		func(string) (*policy.Eligible, *policy.Amount) { return nil, new(policy.Amount) },
	} {
		_, simple = Budget{Expressions: expressions}.Terms("upwork")
		want(t, "with an expression", simple, false)
	}
	terms, simple := Budget{}.Terms("upwork")
	want(t, "without bounds", simple, true)
	want(t, "they are any amount", terms, Terms{1, math.MaxInt64, false})

	rapid.Check(t, func(rt *rapid.T) {
		amount := func(what string) *int64 {
			return rapid.Ptr(rapid.SampledFrom([]int64{-1, 0, 1, 2, 3}), true).Draw(rt, what)
		}
		b := Budget{
			MinCents: amount("min"), MaxCents: amount("max"), SwitchedOff: marketplace("guru"), NeedsApproval: marketplace("toptal"),
			Expressions: func(string) (*policy.Eligible, *policy.Amount) { return nil, nil },
		}
		p := posting.Posting{
			Key:            posting.Key{Marketplace: rapid.SampledFrom([]string{"upwork", "toptal"}).Draw(rt, "marketplace")},
			BudgetMinCents: amount("budget from"), BudgetMaxCents: amount("budget to"), Bid: &posting.Bid{AmountCents: amount("wanted")},
		}
		terms, simple := b.Terms(p.Marketplace)
		if !simple {
			rt.Fatal("it is simple")
		}
		for _, wanted := range []*int64{p.Bid.AmountCents, p.BudgetMaxCents, p.BudgetMinCents} {
			if wanted == nil {
				continue
			}
			if got := b.Decide(t.Context(), p, noon()); *wanted >= terms.MinCents && *wanted <= terms.MaxCents &&
				(got != Decision{AmountCents: *wanted, NeedsApproval: terms.NeedsApproval}) {
				rt.Fatalf("within %+v the policy says %+v of %d", terms, got, *wanted)
			}
			break // the first of them counts
		}
	})
}
