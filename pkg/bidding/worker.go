package bidding

import (
	"context"
	"errors"
	"time"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/db/queries"
)

// chained is how many batches a worker claims before it commits one without taking the next: only then
// has it nothing locked, and reports what came of them.
const chained = 16

// worker claims one batch of a pass after the other. What it has decided it commits in the message that
// takes the next batch, so that a batch costs a round trip less.
type worker struct {
	claimer *Claimer
	pass    *passing
	options PassOptions

	size     int // of a batch
	troubles int // since something was taken
	judged   int // how many batches it still judges before it tries again whether they are plain

	open  *batch      // decided, and not committed yet; nil at the beginning and after trouble
	ended [][]Attempt // of the batches since the last report

	// What batches leave is used again: pages that a process has not touched before cost more than what it does in them.
	rows  []queries.TakeCandidatesRow
	spare [][]Attempt
}

// drain takes and claims batches for as long as there is a stretch of the queue to take them from.
func (c *Claimer) drain(ctx context.Context, p *passing, options PassOptions) (err error) {
	w := &worker{claimer: c, pass: p, options: options, size: options.Batch}
	working := context.WithoutCancel(ctx)
	for s := p.next(nil); s != nil && err == nil && ctx.Err() == nil; {
		if s, err = w.claim(working, s); s != nil && p.retires(s) {
			s = nil
		}
	}
	return errors.Join(err, w.finish(working))
}

// claim claims a batch of a stretch, and returns where to go on.
func (w *worker) claim(ctx context.Context, s *stretch) (*stretch, error) {
	b := w.batch()
	if len(w.ended) >= chained-1 || w.open != nil && !w.open.goesWith(b) {
		if err := w.finish(ctx); err != nil {
			return s, err
		}
	}
	last := w.open
	w.open = nil
	committed, err := w.claimer.begin(ctx, last, b, w.pass.take(s, w.size, &w.rows))
	if last != nil {
		if problem := w.settle(ctx, last, committed); problem != nil || committed != nil {
			return s, problem
		}
	}
	w.claimer.meet(b.marketplaces())
	if b.plain != nil && len(b.attempts) > 0 && 2*b.inserted < len(b.attempts) {
		w.judged = judgedBatches
	}
	if err != nil {
		return s, w.failed(ctx, b, err)
	}
	w.open, w.troubles = b, 0
	if len(w.rows) < w.size { // what others hold there is for the last worker to look for once more
		s = w.pass.next(s)
	}
	return s, nil
}

// failed goes on after a batch that could not be begun, unless err is for the pass to say.
func (w *worker) failed(ctx context.Context, b *batch, err error) error {
	switch {
	case len(b.attempts) > 0:
		w.troubles = 0
		return w.settle(ctx, b, err)
	case db.Code(err) == db.CodeOutOfMemory && w.size > 1:
		w.size = (w.size + 1) / 2 // the server's lock table is full: take fewer at once
	case (isPassing(err) || errors.Is(err, errNotPlain)) && w.troubles < takeTries:
		w.troubles++
	default:
		return err
	}
	return nil
}

// batch is the next one: plain, unless the last ones were not.
func (w *worker) batch() *batch {
	b := &batch{pass: w.pass, automatic: true}
	if n := len(w.spare); n > 0 {
		b.attempts, w.spare = w.spare[n-1][:0], w.spare[:n-1]
	}
	if w.judged--; w.judged < 0 && w.pass.isWhole() {
		b.plain = w.claimer.plain(w.size)
	}
	return b
}

// goesWith says whether next may be taken in the message that commits b. What a connection has not
// prepared before it prepares first, while the locks of b are held.
func (b *batch) goesWith(next *batch) bool { return (b.plain == nil) == (next.plain == nil) }

// settle brings the attempts of a batch to an outcome after its claim.
func (w *worker) settle(ctx context.Context, b *batch, err error) error {
	started := b.started
	err = w.claimer.settled(ctx, b, err)
	if took := time.Since(started); len(b.attempts) > 0 {
		for i := range b.attempts {
			b.attempts[i].Took = took
		}
		w.claimer.counters.add(b.attempts)
		w.pass.add(len(b.attempts))
		w.ended = append(w.ended, b.attempts)
	}
	return err
}

// finish commits what is open, and reports what came of all batches since it last did.
func (w *worker) finish(ctx context.Context) error {
	var err error
	if b := w.open; b != nil {
		w.open = nil
		err = w.settle(ctx, b, w.claimer.commit(ctx, b))
	}
	if w.options.Observe != nil {
		for _, attempts := range w.ended {
			w.options.Observe(attempts)
		}
	}
	w.spare, w.ended = append(w.spare, w.ended...), w.ended[:0]
	return err
}
