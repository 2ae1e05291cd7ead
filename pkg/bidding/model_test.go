package bidding

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/posting"
)

// world is what should be true of a few postings, next to the database where it should be.
type world struct {
	t   *testing.T
	f   *fixture
	now time.Time

	keys     []posting.Key
	postings map[posting.Key]*past
}

// past is everything that has happened to a posting.
type past struct {
	cachedAt time.Time // zero: not in the cache
	noPrice  bool
	queued   bool
	audits   int
	bids     []pastBid // the newest last
}

type pastBid struct {
	id      uuid.UUID
	status  string
	touched time.Time
}

func (p *past) newest() *pastBid {
	if len(p.bids) == 0 {
		return nil
	}
	return &p.bids[len(p.bids)-1]
}

// expected is the contract again, over a whole life.
func (p *past) expected(now time.Time, inPass bool) string {
	newest := p.newest()
	recent := slices.ContainsFunc(p.bids, func(b pastBid) bool { return now.Sub(b.touched) < rebidWindow })
	switch {
	case p.cachedAt.IsZero():
		return "unknown"
	case newest != nil && newest.status == "ACTIVE":
		return "duplicate"
	case newest != nil && newest.status == "WITHDRAWN" && inPass:
		return "closed withdrawn"
	case newest != nil && newest.status != "WITHDRAWN":
		return map[string]string{"WON": "closed won", "LOST": "closed lost", "REJECTED": "closed rejected"}[newest.status]
	case recent:
		return "recent"
	case now.Sub(p.cachedAt) > postingTTL:
		return "stale"
	case p.noPrice:
		return "ineligible no_amount"
	}
	return "claimed"
}

// happened notes an attempt that ended.
func (w *world) happened(rt *rapid.T, a Attempt, inPass bool) {
	p := w.postings[a.Key]
	wanted := p.expected(w.now, inPass)
	if got := verdict(a); got != wanted {
		rt.Fatalf("attempt at %s: got %s, want %s", a.Key, got, wanted)
	}
	switch a.Outcome {
	case Claimed:
		p.bids = append(p.bids, pastBid{a.BidID, "ACTIVE", w.now})
	case Duplicate:
		if live := p.newest().id; a.ExistingBidID != live {
			rt.Fatalf("attempt at %s met %s, want %s", a.Key, a.ExistingBidID, live)
		}
		if !inPass {
			p.audits++
		}
	}
	if inPass || a.Outcome != Recent {
		p.queued = false
	}
}

func (w *world) key(rt *rapid.T) posting.Key { return rapid.SampledFrom(w.keys).Draw(rt, "key") }

// preview asks what an attempt would come to.
func (w *world) preview(rt *rapid.T, inPass bool, keys ...posting.Key) {
	for _, a := range preview(w.t, w.f.claimer(at(w.now)), keys, PreviewOptions{Pass: inPass}) {
		if got, wanted := verdict(a), w.postings[a.Key].expected(w.now, inPass); got != wanted {
			rt.Fatalf("preview of %s: got %s, want %s", a.Key, got, wanted)
		}
	}
}

func (w *world) queuedKeys() []posting.Key {
	return slices.DeleteFunc(slices.Clone(w.keys), func(key posting.Key) bool { return !w.postings[key].queued })
}

func (w *world) refresh(rt *rapid.T) {
	key := w.key(rt)
	p := w.postings[key]
	at := w.now.Add(-rapid.SampledFrom([]time.Duration{0, time.Hour, postingTTL, postingTTL + time.Microsecond}).Draw(rt, "age"))
	if !at.After(p.cachedAt) {
		return // only newer content is a refresh
	}
	p.cachedAt, p.queued, p.noPrice = at, true, rapid.Bool().Draw(rt, "without a price")
	w.f.cache(w.t, at, key)
	if p.noPrice {
		w.f.exec(w.t, "UPDATE postings SET budget_max_cents = NULL WHERE job_id = $1", key.JobID)
	}
}

func (w *world) wait(rt *rapid.T) {
	w.now = w.now.Add(rapid.SampledFrom([]time.Duration{
		time.Microsecond, time.Minute, rebidWindow - time.Microsecond, rebidWindow, time.Hour, postingTTL,
	}).Draw(rt, "time"))
}

func (w *world) byHand(rt *rapid.T) {
	key := w.key(rt)
	w.preview(rt, false, key)
	w.happened(rt, attempt(w.t, w.f.claimer(at(w.now)), key, AttemptOptions{}), false)
}

func (w *world) underLock(rt *rapid.T) {
	key := w.key(rt)
	release := w.f.hold(w.t, key)
	defer release()
	if got := verdict(attempt(w.t, w.f.claimer(at(w.now)), key, AttemptOptions{})); got != "locked" {
		rt.Fatalf("attempt under a lock: got %s", got)
	}
}

// drain is a pass by the world's clock.
func (w *world) drain(ctx context.Context, c *Claimer, observe func(Attempt)) error {
	return c.drain(ctx, wholeQueue(w.now), PassOptions{Batch: 2, Observe: func(attempts []Attempt) {
		for _, a := range attempts {
			observe(a)
		}
	}})
}

func (w *world) pass(rt *rapid.T) {
	queued := w.queuedKeys()
	w.preview(rt, true, queued...)
	n := 0
	if err := w.drain(w.t.Context(), w.f.claimer(at(w.now)), func(a Attempt) { n++; w.happened(rt, a, true) }); err != nil {
		rt.Fatal(err)
	}
	if n != len(queued) {
		rt.Fatalf("the pass made %d attempts, want one for each of %d candidates", n, len(queued))
	}
}

// crash ends an attempt or a pass at one of its steps: then nothing has happened.
func (w *world) crash(rt *rapid.T) {
	steps := []string{"locked", "written"}
	if w.f.rules.Terms == nil {
		steps = append(steps, "judged") // plain postings are not
	}
	step := rapid.SampledFrom(steps).Draw(rt, "step")
	ctx, cancel := context.WithCancel(w.t.Context())
	defer cancel()
	c := w.f.claimer(at(w.now), once(step, func() {
		w.f.terminate(w.t)
		cancel() // the next one is a new process
	}))
	if rapid.Bool().Draw(rt, "by hand") {
		key := w.key(rt)
		a := attempt(w.t, c, key, AttemptOptions{})
		wanted := w.postings[key].expected(w.now, false)
		// What is no claim may have been final by then.
		if a.Outcome != Failed && (wanted == "claimed" || verdict(a) != wanted) {
			rt.Fatalf("got %s after a crash when %s, without it %s", verdict(a), step, wanted)
		}
		return
	}
	_ = w.drain(ctx, c, func(a Attempt) {
		if a.Outcome == Claimed {
			rt.Fatalf("got %s after a crash when %s", verdict(a), step)
		}
	})
}

func (w *world) live(rt *rapid.T) *pastBid {
	if b := w.postings[w.key(rt)].newest(); b != nil && b.status == "ACTIVE" {
		return b
	}
	return nil
}

func (w *world) submit(rt *rapid.T) {
	if b := w.live(rt); b != nil {
		column := rapid.SampledFrom([]string{"submitted_at = $1", "first_post_at = $1, last_post_at = $1"}).Draw(rt, "how")
		w.f.exec(w.t, "UPDATE bids SET "+column+" WHERE id = $2::text::uuid", w.now, b.id.String())
		b.touched = w.now
	}
}

func (w *world) end(rt *rapid.T) {
	b := w.live(rt)
	if b == nil {
		return
	}
	status := rapid.SampledFrom([]string{"WON", "LOST", "REJECTED"}).Draw(rt, "status")
	ended, err := queries.New(w.f.direct).EndBid(w.t.Context(), queries.EndBidParams{
		ToStatus: status, ID: b.id, FromStatus: "ACTIVE", Actor: "test", Detail: []byte("{}"),
	})
	if err != nil || ended != 1 {
		rt.Fatalf("ended %d bids: %v", ended, err)
	}
	b.status = status
}

func (w *world) withdraw(rt *rapid.T) {
	if b := w.live(rt); b != nil {
		w.f.exec(w.t, `UPDATE bids SET status = 'WITHDRAWN', withdrawal_timestamp = $1, delivery_kind = NULL, delivery_state = NULL, next_attempt_at = NULL
			WHERE id = $2::text::uuid`, w.now, b.id.String())
		b.status, b.touched = "WITHDRAWN", w.now
	}
}

// check compares the world with the database.
func (w *world) check(rt *rapid.T) {
	for _, key := range w.keys {
		p := w.postings[key]
		wanted := fmt.Sprintf("%d bids, %d audit rows, queued %v, newest ", len(p.bids), p.audits, p.queued)
		if b := p.newest(); b != nil {
			wanted += b.id.String() + " " + b.status
		}
		got := read[string](w.t, w.f, `SELECT format('%s bids, %s audit rows, queued %s, newest %s',
				count(*) FILTER (WHERE status <> 'DUPLICATE'), count(*) FILTER (WHERE status = 'DUPLICATE'),
				CASE WHEN EXISTS (SELECT FROM candidates WHERE job_id = $1) THEN 'true' ELSE 'false' END,
				(array_agg(id || ' ' || status ORDER BY created_at DESC, id DESC) FILTER (WHERE status <> 'DUPLICATE'))[1])
			FROM bids WHERE job_id = $1`, key.JobID)
		if got != wanted {
			rt.Fatalf("%s: got %s, want %s", key, got, wanted)
		}
	}
}

// TestModel lets anything happen to a few postings, in any order.
func TestModel(t *testing.T) {
	t.Parallel()
	eachWay(t, testModel)
}

func testModel(t *testing.T, terms func(string) (Terms, bool)) {
	t.Helper()
	f := setup(t)
	f.rules.Terms = terms
	lives := 0
	rapid.Check(t, func(rt *rapid.T) {
		lives++
		f.exec(t, "DELETE FROM candidates")
		w := &world{t: t, f: f, now: noon(), postings: map[posting.Key]*past{}}
		for i := range 3 {
			key := job(fmt.Sprintf("%d in life %d", i, lives))
			w.keys = append(w.keys, key)
			w.postings[key] = &past{}
		}
		rt.Repeat(map[string]func(*rapid.T){
			"refresh": w.refresh, "wait": w.wait, "by hand": w.byHand, "by hand again": w.byHand, "under lock": w.underLock,
			"pass": w.pass, "crash": w.crash, "submit": w.submit, "end": w.end, "withdraw": w.withdraw, "": w.check,
		})
	})
}
