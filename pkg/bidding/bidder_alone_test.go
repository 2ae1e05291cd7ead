package bidding

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/pkg/posting"
)

// idle checks that a Bidder whose callers are gone holds nothing, and still works.
func (b *Bidder) idle(t *testing.T, f *fixture, key posting.Key) Attempt {
	t.Helper()
	f.cacheNow(t, key)
	a := b.call(t.Context(), key, patience).result(t)
	want(t, "afterwards", verdict(a), "claimed")
	b.Close()
	want(t, "lanes", b.running, 0)
	want(t, "postings under way", len(b.flying), 0)
	return a
}

// stagedBidder is a Bidder whose first transactions wait each for a gate of its own.
func stagedBidder(t testing.TB, f *fixture, gates ...chan struct{}) (b *Bidder, begun *atomic.Int32) {
	t.Helper()
	return heldBidder(t, f, func(number int) chan struct{} {
		if number < len(gates) {
			return gates[number]
		}
		return nil
	})
}

// TestBidderAloneCancelled: an attempt that is alone is taken back when its caller's context ends,
// wherever it is before its COMMIT: nothing is written, nothing counted.
func TestBidderAloneCancelled(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"beginning", "locked", "judged", "written"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			f.cacheNow(t, job("1"))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			b := newBidder(t, f.claimer(once(step, cancel)))
			a, err := b.Bid(ctx, job("1"), 0)
			want(t, "error", errors.Is(err, context.Canceled) && !errors.Is(err, ErrUnderWay), true)
			want(t, "outcome", a.Outcome, Outcome(""))
			want(t, "attempts", f.counters.Counts().Attempts, int64(0))
			want(t, "live bids", f.live(t), 0)
			f.tally(t, b.idle(t, f, job("1")))
		})
	}
}

// TestBidderAloneCutShort: that holds too while the server is at work on it.
func TestBidderAloneCutShort(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.cacheNow(t, job("1"))
	b := newBidder(t, f.claimer())
	first := b.call(t.Context(), job("1"), 0).result(t) // all is prepared
	f.cacheNow(t, job("2"))
	release := f.rogue(t, "LOCK TABLE bids").rollback
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c := b.call(ctx, job("2"), patience)
	f.waiting(t)
	cancel()
	<-c.done
	want(t, "error", errors.Is(c.err, context.Canceled) && !errors.Is(c.err, ErrUnderWay), true)
	release()
	f.tally(t, first, b.idle(t, f, job("2")))
}

// TestBidderAloneCommitting: a COMMIT is not called back. What becomes of it is found out, and counted.
func TestBidderAloneCommitting(t *testing.T) {
	t.Parallel()
	for name, fails := range map[string]bool{"committed": false, "refused": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, proxy := setupProxy(t)
			f.cacheNow(t, job("1"))
			finish := f.slowCommit(t, fails)
			b := newBidder(t, f.claimer())
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			c := b.call(ctx, job("1"), patience)
			f.waiting(t)
			proxy.CutBefore(cancelRequest)
			cancel()
			<-c.done
			want(t, "error", errors.Is(c.err, ErrUnderWay) && errors.Is(c.err, context.Canceled), true)
			want(t, "outcome", c.attempt.Outcome, Outcome(""))
			finish()
			b.Close()
			outcome := Claimed
			if fails {
				outcome = Failed
			}
			want(t, "counted", f.counters.Counts().Outcomes[outcome], int64(1))
			want(t, "attempts", f.counters.Counts().Attempts, int64(1))
			want(t, "live bids", f.live(t), map[bool]int{false: 1, true: 0}[fails])
		})
	}
}

// TestBidderAloneInTrouble: where it takes more than one claim, that is made as for any other call, and
// those who came meanwhile get their turn.
func TestBidderAloneInTrouble(t *testing.T) {
	t.Parallel()
	for _, others := range []int{0, 1, 5} {
		t.Run(name(others), func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			f.raising(t, db.CodeDeadlock, 1)
			keys := jobs(1 + others)
			f.cacheNow(t, keys...)
			first, second := make(chan struct{}), make(chan struct{})
			gates := []chan struct{}{first}
			if others > 0 { // else the second is the first once more
				gates = append(gates, second)
			}
			b, begun := stagedBidder(t, f, gates...)
			calls := []*calling{b.call(t.Context(), keys[0], 0)}
			eventually(t, "the first is under way", func() bool { return begun.Load() == 1 })
			for i, key := range keys[1:] {
				calls = append(calls, b.call(t.Context(), key, 0))
				eventually(t, "the second is under way", func() bool { return begun.Load() == 2 })
				b.queued(t, i)
			}
			close(first)
			<-calls[0].done
			close(second)
			made := make([]Attempt, 0, len(calls))
			for _, c := range calls {
				made = append(made, c.result(t))
			}
			want(t, "outcomes", outcomes(made), map[Outcome]int{Claimed: len(keys)})
			f.tally(t, append(made, b.idle(t, f, job("last")))...)
		})
	}
}

// TestBidderAloneThenTogether: whoever comes while an attempt is alone under way, for the same posting or for
// others, rides when that is done.
func TestBidderAloneThenTogether(t *testing.T) {
	t.Parallel()
	f := setup(t)
	keys := jobs(3)
	f.cacheNow(t, keys...)
	first, second := make(chan struct{}), make(chan struct{})
	b, begun := stagedBidder(t, f, first, second)
	var calls []*calling
	for i, key := range []posting.Key{keys[0], keys[1], keys[0], keys[2]} {
		calls = append(calls, b.call(t.Context(), key, 0))
		eventually(t, "a lane is under way", func() bool { return int(begun.Load()) == min(i+1, lanes) })
		b.queued(t, max(0, i+1-lanes))
	}
	close(first)
	made := []Attempt{calls[0].result(t), calls[2].result(t), calls[3].result(t)}
	close(second)
	made = append(made, calls[1].result(t))
	want(t, "outcomes", verdicts(made), []string{"claimed", "duplicate", "claimed", "claimed"})
	want(t, "transactions", begun.Load(), int32(3))
	f.tally(t, append(made, b.idle(t, f, job("last")))...)
}

// TestBidderAlonePanics: a policy that panics takes its caller along, and nobody else.
func TestBidderAlonePanics(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.cacheNow(t, job("1"))
	b := newBidder(t, f.claimer(once("judged", func() { panic("at the policy") })))
	func() {
		defer func() { want(t, "panic", recover(), any("at the policy")) }()
		_, _ = b.Bid(t.Context(), job("1"), time.Second)
	}()
	want(t, "live bids", f.live(t), 0)
	want(t, "connections in use", f.pool.Stat().AcquiredConns(), 0)
	f.tally(t, b.idle(t, f, job("1")))
}
