package bidding

import (
	"context"
	"errors"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/pkg/posting"
)

// gate holds up transactions as they begin, until it is opened.
type gate struct {
	entered *atomic.Int32
	Open    func()
}

func newBidder(t testing.TB, c *Claimer) *Bidder {
	t.Helper()
	b := NewBidder(c, 64)
	t.Cleanup(b.Close)
	return b
}

// gatedBidder is a Bidder whose transactions wait behind a gate.
func gatedBidder(t testing.TB, f *fixture) (*Bidder, *gate) {
	t.Helper()
	opened := make(chan struct{})
	g := &gate{Open: sync.OnceFunc(func() { close(opened) })}
	var b *Bidder
	b, g.entered = heldBidder(t, f, func(int) chan struct{} { return opened })
	t.Cleanup(g.Open)
	return b, g
}

// heldBidder is a Bidder whose transactions, numbered from 0 on and counted, wait as they begin until
// their gate is closed, unless that is nil.
func heldBidder(t testing.TB, f *fixture, gate func(number int) chan struct{}) (b *Bidder, begun *atomic.Int32) {
	t.Helper()
	begun = new(atomic.Int32)
	return newBidder(t, f.claimer(func(c *Claimer) {
		c.after = func(step string) {
			if step != "beginning" {
				return
			}
			if held := gate(int(begun.Add(1)) - 1); held != nil {
				<-held
			}
		}
	})), begun
}

// calling is a call that is under way.
type calling struct {
	attempt Attempt
	err     error
	done    chan struct{}
}

func (b *Bidder) call(ctx context.Context, key posting.Key, wait time.Duration) *calling {
	c := &calling{done: make(chan struct{})}
	go func() {
		defer close(c.done)
		c.attempt, c.err = b.Bid(ctx, key, wait)
	}()
	return c
}

// result waits for the end of a call.
func (c *calling) result(t testing.TB) Attempt {
	t.Helper()
	<-c.done
	want(t, "error", c.err, nil)
	return c.attempt
}

// queued waits until so many calls are queued.
func (b *Bidder) queued(t testing.TB, n int) {
	t.Helper()
	eventually(t, "the calls are queued", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return len(b.queue) == n
	})
}

// callAll calls for each key, the first of them alone, so that the others meet busy lanes.
func (b *Bidder) callAll(t testing.TB, g *gate, keys []posting.Key) []*calling {
	t.Helper()
	var calls []*calling
	for _, key := range keys[:lanes] {
		calls = append(calls, b.call(t.Context(), key, 0))
		eventually(t, "the lane is under way", func() bool { return int(g.entered.Load()) == len(calls) })
	}
	for _, key := range keys[lanes:] {
		calls = append(calls, b.call(t.Context(), key, 0))
	}
	b.queued(t, len(keys)-lanes)
	return calls
}

// TestBidderShares: what is asked for while two transactions are under way rides in the
// next ones, and no batch is larger than asked for.
func TestBidderShares(t *testing.T) {
	t.Parallel()
	f := setup(t)
	keys := jobs(132)
	f.cacheNow(t, keys[1:]...)
	b, g := gatedBidder(t, f)
	calls := b.callAll(t, g, keys)
	g.Open()
	made := make([]Attempt, 0, len(calls))
	for i, c := range calls {
		made = append(made, c.result(t))
		want(t, "key", made[i].Key, keys[i])
	}
	want(t, "outcomes", outcomes(made), map[Outcome]int{Claimed: 131, Unknown: 1})
	want(t, "transactions", int(g.entered.Load()), 2+3)
	want(t, "live bids", f.live(t, keys[1:]...), 131)
	want(t, "candidates left", f.count(t, "candidates"), 0)
	for _, a := range made[1:] {
		want(t, "its bid", f.count(t, "bids WHERE id = $1::text::uuid AND job_id = $2", a.BidID.String(), a.Key.JobID), 1)
	}
	f.tally(t, made...)
}

// TestBidderSamePosting: those who ride together share the lock, and one of them wins.
func TestBidderSamePosting(t *testing.T) {
	t.Parallel()
	f := setup(t)
	keys := jobs(3)
	f.cacheNow(t, keys...)
	b, g := gatedBidder(t, f)
	// The first key is under way already: its second call waits for that transaction.
	calls := b.callAll(t, g, []posting.Key{keys[0], keys[1], keys[2], keys[2], keys[2], keys[0]})
	g.Open()
	var made []Attempt
	for _, c := range calls {
		made = append(made, c.result(t))
	}
	want(t, "outcomes", outcomes(made), map[Outcome]int{Claimed: 3, Duplicate: 3})
	for _, a := range made {
		if a.Outcome == Duplicate {
			want(t, "the bid", a.BidID, uuid.Nil)
			want(t, "the live bid", f.count(t, "bids WHERE id = $1::text::uuid AND job_id = $2", a.ExistingBidID.String(), a.Key.JobID), 1)
		}
	}
	want(t, "rows", f.count(t, "bids"), 3)
	f.tally(t, made...)
	want(t, "conflicts", f.counters.Counts().Locks.Conflicts, int64(0))
}

// TestBidderIsNoPerson: what a person took back stays so.
func TestBidderIsNoPerson(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.cacheNow(t, job("1"))
	long := noon().AddDate(-20, 0, 0)
	f.insert(t, job("1"), bid{status: "WITHDRAWN", created: long, withdrawn: long})
	want(t, "outcome", verdict(newBidder(t, f.claimer()).call(t.Context(), job("1"), 0).result(t)), "closed withdrawn")
}

// TestBidderWaits: who waits for a lock holds no connection and no lane.
func TestBidderWaits(t *testing.T) {
	t.Parallel()
	f := setup(t)
	keys := jobs(10)
	f.cacheNow(t, keys...)
	release := f.hold(t, keys[0])
	tried := make(chan struct{}, 1000)
	b := newBidder(t, f.claimer(func(c *Claimer) {
		c.after = func(step string) {
			if step == "written" {
				tried <- struct{}{}
			}
		}
	}))
	once := b.call(t.Context(), keys[0], 0).result(t)
	want(t, "one try", once.Outcome, Locked)
	waiting := b.call(t.Context(), keys[0], patience)
	<-tried
	<-tried
	eventually(t, "it holds no connection", func() bool { return f.pool.Stat().AcquiredConns() == 0 })
	made := []Attempt{once}
	for _, key := range keys[1:] {
		made = append(made, b.call(t.Context(), key, 0).result(t))
	}
	want(t, "the others", outcomes(made), map[Outcome]int{Locked: 1, Claimed: 9})
	release()
	made = append(made, waiting.result(t))
	want(t, "in the end", made[10].Outcome, Claimed)
	want(t, "whether it has waited", made[10].Waited > 0, true)
	f.tally(t, made...)
	want(t, "conflicts", f.counters.Counts().Locks.Conflicts, int64(2))
}

// TestBidderContexts: a caller leaves when its context ends, and takes its attempt along
// where that is still possible.
func TestBidderContexts(t *testing.T) {
	t.Parallel()
	for _, wait := range []time.Duration{0, patience} {
		t.Run(wait.String(), func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			keys := jobs(4)
			f.cacheNow(t, keys...)
			b, g := gatedBidder(t, f)
			ended, end := context.WithCancel(t.Context())
			end()
			a, err := b.Bid(ended, keys[0], wait)
			want(t, "before", errors.Is(err, context.Canceled) && !errors.Is(err, ErrUnderWay), true)
			want(t, "outcome", a.Outcome, Outcome(""))

			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			alone := b.call(t.Context(), keys[0], wait)
			eventually(t, "the first is under way", func() bool { return g.entered.Load() == 1 })
			flying := b.call(ctx, keys[1], wait)
			eventually(t, "both are under way", func() bool { return g.entered.Load() == 2 })
			queued := b.call(ctx, keys[2], wait)
			stays := b.call(t.Context(), keys[3], wait)
			b.queued(t, 2)
			cancel()
			<-flying.done
			want(t, "under way", errors.Is(flying.err, ErrUnderWay) && errors.Is(flying.err, context.Canceled), true)
			<-queued.done
			want(t, "queued", errors.Is(queued.err, context.Canceled) && !errors.Is(queued.err, ErrUnderWay), true)
			b.queued(t, 1)
			g.Open()
			want(t, "the first", alone.result(t).Outcome, Claimed)
			want(t, "who stays", stays.result(t).Outcome, Claimed)
			b.Close()
			want(t, "live bids", f.live(t, keys[0], keys[1], keys[3]), 3)
			want(t, "all live bids", f.live(t), 3)
			want(t, "counted", f.counters.Counts().Outcomes[Claimed], int64(3))
			want(t, "attempts", f.counters.Counts().Attempts, int64(3))
		})
	}
}

// TestBidderAnsweredInTime: an answer that is there counts, whatever the context says.
func TestBidderAnsweredInTime(t *testing.T) {
	t.Parallel()
	b := NewBidder(nil, 1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c := &call{done: make(chan struct{}, 1)}
	for range 100 { // select is free to look at either
		c.done <- struct{}{}
		want(t, "error", b.wait(ctx, c), nil)
	}
}

// TestBidderGivesUp: a context that ends during the wait for a lock leaves a counted attempt.
func TestBidderGivesUp(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.cacheNow(t, job("1"))
	defer f.hold(t, job("1"))()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	b := newBidder(t, f.claimer())
	tries := make(chan struct{}, 1000)
	b.claimer.after = func(step string) {
		if step == "beginning" {
			tries <- struct{}{}
		}
	}
	c := b.call(ctx, job("1"), patience)
	<-tries
	<-tries // it has waited in between
	cancel()
	<-c.done
	want(t, "error", errors.Is(c.err, context.Canceled), true)
	b.Close()
	want(t, "counted", f.counters.Counts().Outcomes[Locked], int64(1))
	want(t, "time-outs", f.counters.Counts().Locks.Timeouts, int64(1))
}

// TestBidderClose: what was asked for is done, who waits for a lock has waited long enough,
// and nobody comes in any more.
func TestBidderClose(t *testing.T) {
	t.Parallel()
	f := setup(t)
	keys := jobs(20)
	f.cacheNow(t, keys...)
	defer f.hold(t, keys[19])()
	b, g := gatedBidder(t, f)
	calls := b.callAll(t, g, keys[:19])
	calls = append(calls, b.call(t.Context(), keys[19], patience))
	b.queued(t, 18)
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		b.Close()
	}()
	eventually(t, "nobody comes in", func() bool {
		if b.enter() {
			b.busy.Done()
			return false
		}
		return true
	})
	_, err := b.Bid(t.Context(), job("late"), 0)
	want(t, "late", errors.Is(err, ErrBidderClosed), true)
	g.Open()
	<-closed
	made := make([]Attempt, 0, len(calls))
	for _, c := range calls {
		made = append(made, c.result(t))
	}
	want(t, "outcomes", outcomes(made), map[Outcome]int{Claimed: 19, Locked: 1})
	f.tally(t, made...)
}

// TestBidderOneIsBad: one bad posting does not drop those that ride with it.
func TestBidderOneIsBad(t *testing.T) {
	t.Parallel()
	f := setup(t)
	keys := jobs(12)
	f.cacheNow(t, keys...)
	f.exec(t, "ALTER TABLE bids ADD CONSTRAINT broken CHECK (job_id <> '"+keys[5].JobID+"')")
	b, g := gatedBidder(t, f)
	calls := b.callAll(t, g, append(keys, keys[5]))
	g.Open()
	var made []Attempt
	for _, c := range calls {
		made = append(made, c.result(t))
	}
	want(t, "outcomes", outcomes(made), map[Outcome]int{Claimed: 11, Failed: 2})
	want(t, "the bad one", verdict(made[5]), "failed "+DetailDatabase)
	want(t, "who rode with it", verdict(made[12]), "failed "+DetailDatabase)
	want(t, "its cause", db.Constraint(made[12].Err), "broken")
	f.tally(t, made...)
}

// TestBidderCommitUnknown: of those who ride together only the first may have the bid.
func TestBidderCommitUnknown(t *testing.T) {
	t.Parallel()
	id := uuid.Must(uuid.NewV7())
	unknown := Attempt{Key: job("1"), Outcome: Failed, Detail: DetailCommitUnknown, BidID: id, Err: db.ErrCommitUnknown}
	var first, second Attempt
	first.merge(unknown, false)
	second.merge(unknown, true)
	want(t, "first", first.BidID, id)
	want(t, "second", second.BidID, uuid.Nil)
	want(t, "second", second.ExistingBidID, id)
	want(t, "second", verdict(second), "failed commit_unknown")
}

// TestBidderRace: many goroutines of several processes, all on the same postings.
func TestBidderRace(t *testing.T) {
	t.Parallel()
	f := setup(t)
	keys := jobs(50)
	f.cacheNow(t, keys...)
	bidders := make([]*Bidder, 4)
	for i := range bidders {
		bidders[i] = newBidder(t, f.claimer())
	}
	made := make([]Attempt, 16*len(keys))
	concurrently(16, func(i int) {
		for n := range keys {
			key := keys[(n*7+i)%len(keys)]
			a, err := bidders[i%len(bidders)].Bid(t.Context(), key, patience)
			if err != nil {
				t.Error(err)
			}
			made[i*len(keys)+n] = a
		}
	})
	want(t, "outcomes", outcomes(made), map[Outcome]int{Claimed: len(keys), Duplicate: 15 * len(keys)})
	want(t, "live bids", f.live(t), len(keys))
	f.tally(t, made...)
	for _, b := range bidders {
		b.Close()
	}
	f.pool.Close()
	want(t, "deadlocks", f.Deadlocks(t), int64(0))
}

// TestWaited: whoever gives up has waited all of its time, also where a single try took it up.
func TestWaited(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.cacheNow(t, job("1"))
	defer f.hold(t, job("1"))()
	const wait = 50 * time.Millisecond
	slow := func(c *Claimer) {
		c.after = func(step string) {
			if step == "written" {
				time.Sleep(wait)
			}
		}
	}
	made := attempt(t, f.claimer(slow), job("1"), AttemptOptions{Wait: wait})
	want(t, "outcome", made.Outcome, Locked)
	want(t, "by hand, all of its time", made.Waited >= wait, true)
	made = newBidder(t, f.claimer(slow)).call(t.Context(), job("1"), wait).result(t)
	want(t, "outcome", made.Outcome, Locked)
	want(t, "together, all of its time", made.Waited >= wait, true)
	once := attempt(t, f.claimer(slow), job("1"), AttemptOptions{})
	want(t, "one try, no wait", once.Waited < wait, true)
}

// TestLeastSizes: a size that was left out is one, where nothing would ever be attempted with none.
func TestLeastSizes(t *testing.T) {
	t.Parallel()
	f := setup(t)
	keys := jobs(12)
	f.cacheNow(t, keys[:6]...)
	c := f.claimer()
	if err := c.Pass(t.Context(), PassOptions{}); err != nil {
		t.Fatal(err)
	}
	want(t, "live bids of a pass", f.live(t), 6)
	f.cacheNow(t, keys[6:]...)
	b := NewBidder(c, 0)
	var calls sync.WaitGroup
	for _, key := range keys[6:] { // not all of them are alone
		calls.Go(func() {
			a, err := b.Bid(t.Context(), key, 0)
			if err != nil || a.Outcome != Claimed {
				t.Errorf("%s: %s: %v", key, verdict(a), err)
			}
		})
	}
	calls.Wait()
	b.Close()
}

// TestCutOfHugeAmounts: amounts that only a writer of SQL can make do not overflow.
func TestCutOfHugeAmounts(t *testing.T) {
	t.Parallel()
	for _, amount := range []int64{1 << 57, 1 << 60, math.MaxInt64} {
		m := meter{limit: 1 << 40}
		shares, size := m.cut(0, need{bids: 1, amount: amount})
		want(t, "shares", [2]int64{int64(shares), size}, [2]int64{0, 0})
	}
}
