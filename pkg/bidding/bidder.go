package bidding

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/pkg/posting"
)

// lanes is how many transactions of a [Bidder] are under way at once: one works while the
// other waits for its COMMIT to reach the disk. More of them only make smaller batches.
const lanes = 2

var (
	// ErrUnderWay means that the caller's context ended when its attempt could no longer be
	// called back. It goes on without the caller: it is counted, and if it claims the posting
	// the bid is live and will be delivered. Asking again tells.
	ErrUnderWay = errors.New("the attempt goes on without its caller")
	// ErrBidderClosed means that the Bidder was closed before the attempt was made.
	ErrBidderClosed = errors.New("the bidder is closed")
)

// Bidder makes single attempts for many goroutines of one process, and is the way to embed
// the claim in a program. Attempts share transactions: whatever was asked for while the
// last ones were under way rides together in the next. There is no timer: an attempt that
// is alone goes at once, in a transaction of its own and on its caller's goroutine, and
// costs what [Claimer.Attempt] does.
//
// Attempts are those of a program, not of a person: as in a pass, a posting whose bid was
// withdrawn is closed, and meeting a live bid leaves no DUPLICATE row. It uses two
// connections of the Claimer's pool, however many goroutines call it.
type Bidder struct {
	claimer *Claimer
	batch   int

	mu      sync.Mutex
	queue   []*call
	flying  map[posting.Key]bool // keys of the transactions under way
	running int                  // lanes
	company bool                 // the last transaction was not of one call, with nobody else about
	closed  bool
	busy    sync.WaitGroup // calls and lanes
}

// NewBidder returns a Bidder whose transactions attempt at most batch postings each, and at least
// one; 64 is a good number. Its attempts count among the claimer's.
func NewBidder(claimer *Claimer, batch int) *Bidder {
	return &Bidder{claimer: claimer, batch: max(batch, 1), flying: make(map[posting.Key]bool)}
}

// call is one attempt that somebody waits for.
type call struct {
	attempt Attempt
	done    chan struct{} // a value for each try that was made
	left    bool          // nobody waits any more
}

// Bid attempts one posting and waits for a lock on it up to wait; 0 is one try. While it
// waits it holds no connection, and nobody waits for it.
//
// Calls for the same posting that ride together share its lock: the first may claim it, and
// the others find that bid. Everything that can become of an attempt is an outcome. The
// error is the context's, if that ended before the attempt was made or while it waited for
// the lock; with [ErrUnderWay] if it ended later than that; or [ErrBidderClosed]. An attempt
// that is alone can be called back until its COMMIT, as one queued can, at the price of its
// connection where the server was at work on it.
func (b *Bidder) Bid(ctx context.Context, key posting.Key, wait time.Duration) (Attempt, error) {
	if !b.enter() {
		return Attempt{Key: key}, ErrBidderClosed
	}
	defer b.busy.Done()
	started := time.Now()
	c := &call{attempt: Attempt{Key: key}, done: make(chan struct{}, 1)}
	err := untilUnlocked(ctx, wait, func(ctx context.Context) error {
		c.attempt.Waited = time.Since(started) // until the last try
		if err := b.ride(ctx, c); err != nil {
			return err
		}
		if c.attempt.Outcome == Locked {
			return ErrLocked
		}
		return nil
	})
	switch {
	case errors.Is(err, ErrUnderWay): // whoever makes the attempt counts it
		return Attempt{Key: key}, err
	case c.attempt.Outcome == "": // no attempt was made
		return c.attempt, err
	case errors.Is(err, ErrLocked), errors.Is(err, ErrBidderClosed):
		err = nil // the outcome says it
		c.attempt.gaveUp(started, wait)
	}
	b.claimer.counters.add([]Attempt{c.attempt})
	return c.attempt, err
}

// Close waits until everything that was asked for is done. Attempts that wait for a lock
// end as [Locked]; later calls fail with [ErrBidderClosed].
func (b *Bidder) Close() {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.busy.Wait()
}

// enter notes that a call is under way, unless the Bidder is closed.
func (b *Bidder) enter() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		b.busy.Add(1)
	}
	return !b.closed
}

// ride makes one try of c, alone or with others, and waits until it was made.
func (b *Bidder) ride(ctx context.Context, c *call) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("bid on %s: %w", c.attempt.Key, err)
	}
	alone, err := b.board(c)
	switch {
	case err != nil:
		return err
	case alone:
		return b.alone(ctx, c)
	}
	return b.wait(ctx, c)
}

// board queues c for a lane, or says that c is alone: it has a lane then.
func (b *Bidder) board(c *call) (alone bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed && c.attempt.tried { // it has waited for a lock
		return false, ErrBidderClosed
	}
	alone = b.running == 0 && !b.company
	if alone {
		b.flying[c.attempt.Key] = true
	} else {
		b.queue = append(b.queue, c)
	}
	if b.running < lanes {
		b.running++
		if !alone {
			b.busy.Go(b.run)
		}
	}
	return alone, nil
}

// alone makes the try of c under its caller's context and on its goroutine: to hand it over to
// another and back takes longer, by one part in fifteen. Where more is to be done than to claim
// it once, another does that.
func (b *Bidder) alone(ctx context.Context, c *call) error {
	riders := [][]*call{{c}}
	batch := together(riders)
	handedOver := false
	defer func() {
		if !handedOver { // or the policy panics
			b.leave(c)
		}
	}()
	err := b.claimer.claim(ctx, batch, takeAttempts)
	switch {
	case err == nil:
		c.attempt.merge(batch.attempts[0], false)
		return nil
	case ctx.Err() != nil && !errors.Is(err, db.ErrCommitUnknown): // nothing of it is left
		return fmt.Errorf("bid on %s: %w", c.attempt.Key, ctx.Err())
	}
	handedOver = true
	b.busy.Go(func() {
		if b.finish(riders, batch, err) {
			b.run()
		}
	})
	return b.wait(ctx, c)
}

// leave gives the lane of c, which was alone, to those who came meanwhile.
func (b *Bidder) leave(c *call) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.flying, c.attempt.Key)
	if b.goesOn(false) {
		b.busy.Go(b.run)
	}
}

// wait waits for the answer to c, or takes it back when ctx ends first.
func (b *Bidder) wait(ctx context.Context, c *call) error {
	select {
	case <-c.done:
		return nil
	case <-ctx.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if i := slices.Index(b.queue, c); i >= 0 {
		b.queue = slices.Delete(b.queue, i, i+1)
		return fmt.Errorf("bid on %s: %w", c.attempt.Key, ctx.Err())
	}
	select {
	case <-c.done:
		return nil
	default:
		c.left = true
		return fmt.Errorf("bid on %s: %w: %w", c.attempt.Key, ErrUnderWay, ctx.Err())
	}
}

// run is a lane: one transaction after the other, until nothing is queued.
func (b *Bidder) run() {
	for on := true; on; {
		runtime.Gosched() // those who were just answered may have the next posting at hand
		riders := b.take()
		if len(riders) == 0 {
			return
		}
		batch := together(riders)
		// Not any caller's context: its attempt is one of many.
		on = b.finish(riders, batch, b.claimer.claim(context.Background(), batch, takeAttempts))
	}
}

// together is the batch of the riders.
func together(riders [][]*call) *batch {
	batch := &batch{attempts: make([]Attempt, len(riders)), automatic: true}
	for i, calls := range riders {
		batch.attempts[i].Key = calls[0].attempt.Key
	}
	return batch
}

// finish settles what a first claim that ended with err left to do, and answers.
func (b *Bidder) finish(riders [][]*call, batch *batch, err error) (on bool) {
	_ = b.claimer.settled(context.Background(), batch, err) // an outage is in the attempts
	return b.answer(riders, batch.attempts)
}

// take takes the next calls off the queue, by posting and in key order. A posting that the
// other lane is at stays: the two would only find each other's lock.
func (b *Bidder) take() [][]*call {
	b.mu.Lock()
	defer b.mu.Unlock()
	taken := make(map[posting.Key][]*call, b.batch)
	var left []*call
	for i, c := range b.queue {
		key := c.attempt.Key
		if len(taken) == b.batch && taken[key] == nil {
			left = append(left, b.queue[i:]...)
			break
		}
		if b.flying[key] {
			left = append(left, c)
			continue
		}
		taken[key] = append(taken[key], c)
	}
	b.queue = left
	riders := make([][]*call, 0, len(taken))
	for key, calls := range taken {
		b.flying[key] = true
		riders = append(riders, calls)
	}
	slices.SortFunc(riders, func(x, y []*call) int { return x[0].attempt.Key.Compare(y[0].attempt.Key) })
	if len(riders) == 0 {
		b.running--
	}
	return riders
}

// answer tells the callers what came of their attempts, and says whether the lane goes on.
func (b *Bidder) answer(riders [][]*call, results []Attempt) (on bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, calls := range riders {
		delete(b.flying, results[i].Key)
		for n, c := range calls {
			c.attempt.merge(results[i], n > 0)
			if c.left {
				b.claimer.counters.add([]Attempt{c.attempt})
				continue
			}
			c.done <- struct{}{}
		}
	}
	return b.goesOn(len(riders) > 1 || len(riders[0]) > 1)
}

// goesOn says whether the lane of a transaction that has ended, and was shared or not, looks at the
// queue. Where it was alone all the time the lane is free. It is called with mu held.
func (b *Bidder) goesOn(shared bool) bool {
	b.company = shared || len(b.queue) > 0 || b.running > 1
	if !b.company {
		b.running--
	}
	return b.company
}

// merge notes what came of a try that was made for a, or for another attempt on the same
// posting that was ahead of it in the same transaction.
func (a *Attempt) merge(result Attempt, behind bool) {
	result.Waited = a.Waited
	result.conflicted = a.conflicted || !a.tried && result.conflicted
	result.acquired = a.acquired || result.acquired
	result.tried = a.tried || result.tried
	if behind && result.BidID != uuid.Nil { // whoever is ahead has it, or may have it
		result.ExistingBidID, result.BidID = result.BidID, uuid.Nil
		if result.Outcome == Claimed {
			result.Outcome = Duplicate
		}
	}
	*a = result
}
