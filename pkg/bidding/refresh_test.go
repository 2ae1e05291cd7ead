package bidding

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/posting"
)

// Refreshes beside a claimer. None may be lost, and none may be bid on by its old content.

// TestRefreshDuringPass: the candidate is taken, so the refresh waits, and queues it anew.
func TestRefreshDuringPass(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.cache(t, noon(), job("1"))
	refreshed := make(chan struct{})
	c := f.claimer(at(noon()), once("judged", func() {
		go func() {
			defer close(refreshed)
			f.cache(t, noon().Add(time.Second), job("1"))
		}()
		eventually(t, "the refresh waits", func() bool {
			return f.count(t, "pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'") == 1
		})
	}))
	made := pass(t, c, PassOptions{})
	want(t, "outcome", verdict(made[0]), "claimed")
	want(t, "content", made[0].CachedAt, noon())
	<-refreshed
	want(t, "queued anew", f.count(t, "candidates WHERE cached_at = $1", noon().Add(time.Second)), 1)
	want(t, "next pass", verdict(pass(t, f.claimer(at(noon())), PassOptions{})[0]), "duplicate")
	want(t, "candidates left", f.count(t, "candidates"), 0)
	want(t, "live bids", f.live(t), 1)
}

func TestRefreshBetween(t *testing.T) {
	t.Parallel()
	if err := scenarioRefreshBetween(t, setup(t)); err != nil {
		t.Error(err)
	}
}

// scenarioRefreshBetween has the content change between the judgement and the insert.
func scenarioRefreshBetween(t *testing.T, f *fixture) error {
	t.Helper()
	later := noon().Add(time.Second)
	refresh := func(key posting.Key) func() {
		return func() {
			f.cache(t, later, key)
			f.exec(t, "UPDATE postings SET budget_max_cents = 2222 WHERE job_id = $1", key.JobID)
		}
	}
	var errs []error
	check := func(what string, a Attempt, err error, outcome string, queued bool) {
		errs = append(errs, err, differ(what, verdict(a), outcome), differ("queued: "+what, f.queued(t, a.Key), queued))
	}

	// By hand, with no time to wait: nothing is decided.
	f.cache(t, noon(), job("1"))
	a, err := f.claimer(at(noon()), once("judged", refresh(job("1")))).Attempt(t.Context(), job("1"), AttemptOptions{})
	check("by hand", a, err, "locked", true)
	errs = append(errs, differ("bids", f.live(t), 0))

	// By hand, with time: the new content is judged.
	f.cache(t, noon(), job("2"))
	a, err = f.claimer(at(noon()), once("judged", refresh(job("2")))).Attempt(t.Context(), job("2"), AttemptOptions{Wait: patience})
	check("by hand, waiting", a, err, "claimed", false)
	errs = append(errs, differ("content", a.CachedAt, later), differ("amount", a.AmountCents, 2222))

	// Stale, and refreshed after that was seen: it stays queued.
	f.cache(t, noon().Add(-48*time.Hour), job("3"))
	a, err = f.claimer(at(noon()), once("judged", refresh(job("3")))).Attempt(t.Context(), job("3"), AttemptOptions{})
	check("stale by hand", a, err, "stale", true)

	// A pass, and a writer of postings, such as a replication, for whom the trigger that queues them does nothing.
	f.exec(t, "DELETE FROM candidates")
	f.cache(t, noon(), job("4"), job("4, undisturbed"))
	made, err := tryPass(t.Context(), f.claimer(at(noon()), once("judged", func() {
		f.exec(t, "UPDATE postings SET cached_at = $1 FROM set_config('session_replication_role', 'replica', true) WHERE job_id = '4'", later)
	})), PassOptions{})
	if len(made) != 2 {
		return errors.Join(append(errs, err, differ("attempts of the pass", len(made), 2))...)
	}
	check("pass", made[0], err, "locked", true)
	check("pass, undisturbed", made[1], err, "claimed", false)
	f.exec(t, "UPDATE candidates SET not_before = clock_timestamp()")
	made, err = tryPass(t.Context(), f.claimer(at(noon())), PassOptions{})
	if len(made) != 1 {
		return errors.Join(append(errs, err, differ("attempts of the next pass", len(made), 1))...)
	}
	check("next pass", made[0], err, "claimed", false)
	errs = append(errs, differ("content", made[0].CachedAt, later))

	// A decided candidate leaves also where it was queued with just the content that was judged.
	f.cache(t, noon(), job("5"))
	a, err = f.claimer(at(noon())).Attempt(t.Context(), job("5"), AttemptOptions{})
	check("by hand, undisturbed", a, err, "claimed", false)
	return errors.Join(errs...)
}

func TestPlaceReused(t *testing.T) {
	t.Parallel()
	if err := scenarioPlaceReused(t, setup(t)); err != nil {
		t.Error(err)
	}
}

// scenarioPlaceReused has other content lie where the content lay that was judged. When VACUUM
// frees a place is up to all that the server does, so the statement is told that place.
func scenarioPlaceReused(t *testing.T, f *fixture) error {
	t.Helper()
	judged := job("judged")
	var errs []error
	attempt := func(what string, change func()) {
		f.exec(t, "DELETE FROM postings")
		f.cache(t, noon(), judged)
		a, err := f.claimer(at(noon()), once("judged", change)).Attempt(t.Context(), judged, AttemptOptions{})
		errs = append(errs, err, differ(what, verdict(a), "locked"), differ("bids after that", f.count(t, "bids"), 0))
	}
	attempt("changed without a new time", func() { f.exec(t, "UPDATE postings SET bid_proposal = 'Another one'") })

	rewrite := f.rewrite
	f.rewrite = func(sql string) string {
		if rewrite != nil {
			sql = rewrite(sql)
		}
		return strings.Replace(sql, "= a.place", "= (SELECT o.ctid FROM postings AS o)", 1)
	}
	for other, cachedAt := range map[posting.Key]time.Time{
		judged: noon().Add(time.Second), {Marketplace: "guru", JobID: judged.JobID}: noon(), {Marketplace: judged.Marketplace, JobID: "other"}: noon(),
	} {
		attempt("in its place: "+other.String(), func() {
			f.exec(t, "DELETE FROM postings")
			f.cache(t, cachedAt, other)
		})
	}
	return errors.Join(errs...)
}

// TestPartitions: postings of several partitions lie at the same places, written by the same transaction.
func TestPartitions(t *testing.T) {
	t.Parallel()
	if err := scenarioPartitions(t, setup(t)); err != nil {
		t.Error(err)
	}
}

func scenarioPartitions(t *testing.T, f *fixture) error {
	t.Helper()
	f.exec(t, "CREATE TABLE whole (LIKE postings INCLUDING ALL) PARTITION BY HASH (marketplace, job_id)")
	f.exec(t, "DROP TABLE postings CASCADE")
	f.exec(t, "ALTER TABLE whole RENAME TO postings")
	for part := range 2 {
		f.exec(t, fmt.Sprintf("CREATE TABLE postings_%d PARTITION OF postings FOR VALUES WITH (MODULUS 2, REMAINDER %d)", part, part))
	}
	keys := jobs(20)
	f.cacheNow(t, keys...)
	f.exec(t, "UPDATE postings SET bid_proposal = job_id")
	made, err := tryPass(t.Context(), f.claimer(), PassOptions{})
	return errors.Join(err, differ("outcomes", outcomes(made), map[Outcome]int{Claimed: len(keys)}),
		differ("proposals of their own postings", f.count(t, "bids WHERE proposal = job_id"), len(keys)))
}

// TestRefreshDuringRedo: a batch that is done again one by one holds no candidates.
func TestRefreshDuringRedo(t *testing.T) {
	t.Parallel()
	f := setup(t)
	keys := jobs(3)
	f.cache(t, noon(), keys...)
	f.exec(t, "ALTER TABLE bids ADD CONSTRAINT broken CHECK (job_id <> '"+keys[1].JobID+"')")
	judged := 0
	c := f.claimer(at(noon()), func(c *Claimer) {
		c.after = func(step string) {
			if step == "judged" {
				if judged++; judged == 4 { // the batch, the first, the broken one, the last
					f.cache(t, noon().Add(time.Second), keys[2])
				}
			}
		}
	})
	made := pass(t, c, PassOptions{})
	want(t, "outcomes", verdicts(made), []string{"claimed", "failed database_error", "locked"})
	want(t, "queued with the new content", f.count(t, "candidates WHERE job_id = $1 AND cached_at = $2", keys[2].JobID, noon().Add(time.Second)), 1)
}

// TestHeldCandidate: an attempt by hand does not wait for the pod that has taken the candidate.
func TestHeldCandidate(t *testing.T) {
	t.Parallel()
	if err := scenarioHeldCandidate(t, setup(t)); err != nil {
		t.Error(err)
	}
}

func scenarioHeldCandidate(t *testing.T, f *fixture) error {
	t.Helper()
	f.cacheNow(t, job("1"))
	other := f.rogue(t, "SELECT FROM candidates FOR UPDATE")
	a, err := f.claimer().Attempt(t.Context(), job("1"), AttemptOptions{})
	other.rollback()
	return errors.Join(err, differ("outcome", verdict(a), "claimed"))
}

// TestPreviewRefreshed: a dry run sees the lines of its file as if they were in the cache.
func TestPreviewRefreshed(t *testing.T) {
	t.Parallel()
	if err := scenarioPreviewRefreshed(t, setup(t)); err != nil {
		t.Error(err)
	}
}

func scenarioPreviewRefreshed(t *testing.T, f *fixture) error {
	t.Helper()
	stale, fresh := noon().Add(-48*time.Hour), noon().Add(-time.Hour)
	keys := []posting.Key{job("new"), job("new and stale"), job("newer"), job("older"), job("poorer"), job("untouched")}
	f.cache(t, stale, job("newer"))
	f.cache(t, noon(), job("older"))
	f.cache(t, stale, job("poorer"), job("untouched"))
	file := func(key posting.Key, at time.Time, budget *int64) posting.Posting {
		return posting.Posting{Key: key, CachedAt: at, BudgetMaxCents: budget}
	}
	previews, err := f.claimer(at(noon())).tryPreview(t.Context(), keys, PreviewOptions{Pass: true, Refreshed: map[posting.Key]posting.Posting{
		keys[0]: file(keys[0], fresh, cents(77)),
		keys[1]: file(keys[1], stale, cents(77)),
		keys[2]: file(keys[2], fresh, cents(77)),
		keys[3]: file(keys[3], fresh, nil),
		keys[4]: file(keys[4], fresh, nil),
	}})
	type seen struct {
		Verdict  string
		Amount   int64
		CachedAt time.Time
	}
	got := make([]seen, len(previews))
	for i, a := range previews {
		got[i] = seen{verdict(a), a.AmountCents, a.CachedAt}
	}
	return errors.Join(err, differ("previews", got, []seen{
		{"claimed", 77, fresh},
		{"stale", 0, stale},
		{"claimed", 77, fresh},
		{"claimed", 1000, noon()},
		{"ineligible no_amount", 0, fresh},
		{"stale", 0, stale},
	}))
}

// TestPreviewOlder: a line of the file that is older than the cache changes nothing.
func TestPreviewOlder(t *testing.T) {
	t.Parallel()
	if err := scenarioPreviewOlder(t, setup(t)); err != nil {
		t.Error(err)
	}
}

func scenarioPreviewOlder(t *testing.T, f *fixture) error {
	t.Helper()
	f.cache(t, noon(), job("1"))
	previews, err := f.claimer(at(noon())).tryPreview(t.Context(), []posting.Key{job("1")}, PreviewOptions{
		Refreshed: map[posting.Key]posting.Posting{job("1"): {Key: job("1"), CachedAt: noon().Add(-48 * time.Hour)}},
	})
	if err != nil {
		return err
	}
	return differ("preview", verdict(previews[0]), "claimed")
}

// TestReconsiderKeepsARefresh: what came in after the look at the postings stays queued as it is.
func TestReconsiderKeepsARefresh(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.cacheNow(t, jobs(2)...)
	f.exec(t, "UPDATE candidates SET tries = 3, cached_at = cached_at + interval '1 minute', posting = '(7,7)' WHERE job_id = $1", jobs(2)[0].JobID)
	f.exec(t, "UPDATE candidates SET tries = 3, cached_at = cached_at - interval '1 minute', posting = '(7,7)' WHERE job_id = $1", jobs(2)[1].JobID)
	if _, err := queries.New(f.direct).ReconsiderPostings(t.Context(), queries.ReconsiderPostingsParams{PostingTTL: postingTTL, Page: 10}); err != nil {
		t.Fatal(err)
	}
	want(t, "reconsidered", f.count(t, "candidates WHERE tries = 0"), 2)
	want(t, "the newer one", f.count(t, "candidates AS c JOIN postings AS p USING (marketplace, job_id) WHERE c.job_id = $1 AND c.cached_at = p.cached_at + interval '1 minute' AND c.posting = '(7,7)'", jobs(2)[0].JobID), 1)
	want(t, "the older one", f.count(t, "candidates AS c JOIN postings AS p USING (marketplace, job_id) WHERE c.job_id = $1 AND c.cached_at = p.cached_at AND c.posting = p.ctid", jobs(2)[1].JobID), 1)
}

// TestReconsiderPages: every page begins where the one before ended, and the last one says so.
func TestReconsiderPages(t *testing.T) {
	t.Parallel()
	f := setup(t)
	keys := jobs(5)
	keys = append(keys, posting.Key{Marketplace: "guru", JobID: "1"}, posting.Key{Marketplace: "zeta", JobID: "1"})
	f.cacheNow(t, keys...)
	f.cache(t, time.Now().Add(-48*time.Hour), posting.Key{Marketplace: "upwork", JobID: "0 stale"}, posting.Key{Marketplace: "zeta", JobID: "2 stale"})
	f.exec(t, "DELETE FROM candidates")
	for _, size := range []int32{1, 2, 3, 100} {
		page := queries.ReconsiderPostingsParams{PostingTTL: postingTTL, Page: size}
		queued, pages := int64(0), 0
		for {
			row, err := queries.New(f.direct).ReconsiderPostings(t.Context(), page)
			if err != nil {
				t.Fatal(err)
			}
			if row.JobID == "" {
				break
			}
			queued += row.Queued
			pages++
			page.AfterMarketplace, page.AfterJobID = row.Marketplace, row.JobID
		}
		want(t, "queued", queued, int64(len(keys)))
		want(t, "candidates", f.count(t, "candidates"), len(keys))
		want(t, "pages", pages, (len(keys)+2+int(size)-1)/int(size))
		f.exec(t, "DELETE FROM candidates")
	}
}
