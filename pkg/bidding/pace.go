package bidding

import (
	"context"
	"time"

	"github.com/arbitrageai/bidder/db/queries"
)

// pace says how many workers of a pass work at once: as many as make it clearly faster.
//
// A pass begins with a few, or its part of them beside others, and doubles them until that brings too little.
// Transactions beyond those that a server has processors for, and disks to wait for, make each other slower
// (docs/performance.md), and how many that are no server can be asked. Now and then it tries again whether more
// are better, and whether half of them do as well: what else the machine does can have made any trial look good.
type pace struct {
	least, most int // workers
	workers     int // at once, from now on
	before      int // they were before, and made rate postings a second; 0 unless this is a trial
	rate        float64
	fewer       bool // this trial, or the next, is of fewer
	phase       phase
	since       time.Time // it is in that phase
	from        progress
	rest        time.Duration // between two trials
}

// progress is what the workers of a pass have brought to an outcome.
type progress struct{ batches, postings int }

type phase int

const (
	settling  phase = iota // new workers connect, and learn the statements
	measuring              // how much is done
	resting                // before the next trial
)

const (
	// few is how many workers a pass begins with, if it may have as many.
	few = 4
	// clearly is how much faster more workers must be than fewer.
	clearly = 1.08
	// glance and stare are the shortest and the longest time for a phase that waits for batches.
	glance, stare = 50 * time.Millisecond, 500 * time.Millisecond
	// rest is the time between two trials, and longRest that beside other runs: each looks to its own rate,
	// which grows with its workers also where that of all of them does not.
	rest, longRest = time.Second, 5 * time.Second
	// sample is how many batches tell how fast it goes.
	sample = 32
)

// newPace is the pace, from now on, of a pass that may have at most so many workers, and is at work beside others.
// Together they begin with a few, and each with one at least.
func newPace(most int, others int64, now time.Time, done progress) pace {
	least := min(most, max(few/int(others+1), 1))
	p := pace{least: least, most: most, workers: least, since: now, from: done, rest: rest}
	if others > 0 {
		p.phase, p.rest = resting, longRest
	}
	return p
}

// isFixed says that there will never be more workers, nor fewer.
func (p *pace) isFixed() bool { return p.least == p.most }

// pause is how long there is nothing to look at.
func (p *pace) pause(now time.Time) time.Duration {
	if p.phase == resting {
		return p.rest - now.Sub(p.since)
	}
	return glance / 5
}

// next is how many workers may work from now on.
func (p *pace) next(now time.Time, done progress) int {
	elapsed, batches := now.Sub(p.since), done.batches-p.from.batches
	switch {
	case p.phase == resting && elapsed >= p.rest:
		p.enter(measuring, now, done)
	case p.phase == settling && (elapsed >= stare || elapsed >= glance && batches >= p.workers):
		p.enter(measuring, now, done)
	case p.phase == measuring && (elapsed >= stare || elapsed >= glance && batches >= sample):
		p.judge(float64(done.postings-p.from.postings) / elapsed.Seconds())
		if p.before > 0 {
			p.enter(settling, now, done)
		} else {
			p.enter(resting, now, done)
		}
	}
	return p.workers
}

func (p *pace) enter(phase phase, now time.Time, done progress) {
	p.phase, p.since, p.from = phase, now, done
}

// judge ends a trial whose workers make rate postings a second. What has proved good is tried further in the same
// direction, and after a rest the other one is.
func (p *pace) judge(rate float64) {
	next := min(2*p.workers, p.most)
	if p.fewer {
		next = max(p.workers/2, p.least)
	}
	switch {
	case p.before > 0 && !p.isBetter(rate):
		p.workers, p.before, p.fewer = p.before, 0, !p.fewer
	case next == p.workers:
		p.before, p.fewer = 0, !p.fewer
	default:
		p.before, p.rate, p.workers = p.workers, rate, next
	}
}

// isBetter says whether the workers of a trial, who make rate postings a second, are kept: more for being clearly
// faster, and fewer where those before are not.
func (p *pace) isBetter(rate float64) bool {
	if p.fewer {
		return p.rate < clearly*rate
	}
	return rate >= clearly*p.rate
}

// keepPace lets as many workers work as make the pass faster, and at most so many, until they are done. hire
// starts those that are missing.
func (c *Claimer) keepPace(ctx context.Context, p *passing, most int, hire func()) error {
	pace, over, err := c.pace(ctx, p, most)
	for !over && err == nil {
		if p.allow(pace.workers) {
			hire()
		}
		over = pace.isFixed() || p.waits(pace.pause(time.Now()))
		pace.next(time.Now(), p.made())
	}
	return err
}

// pace is that of a pass which has begun, unless it is over before that is known. A run asks for company when
// its first worker is not done at once: others may have begun in the same second.
func (c *Claimer) pace(ctx context.Context, p *passing, most int) (_ pace, over bool, err error) {
	var company queries.RunsAtWorkRow
	if c.runID != nil {
		if p.waits(glance) {
			return pace{}, true, nil
		}
		if company, err = c.company(context.WithoutCancel(ctx)); err != nil {
			return pace{}, false, err
		}
	}
	return newPace(most, company.Others, time.Now(), p.made()), false, nil
}

// waits returns after d, or earlier when the pass is over, and says whether it is.
func (p *passing) waits(d time.Duration) bool {
	select {
	case <-p.over:
		return true
	case <-time.After(d):
		return false
	}
}

// made is what the workers have brought to an outcome so far.
func (p *passing) made() progress {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.done
}

// add counts a batch.
func (p *passing) add(postings int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done.batches++
	p.done.postings += postings
}

// allow sets how many workers may work at once, and says whether some are missing.
func (p *passing) allow(limit int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.limit = limit
	return p.working < p.limit
}

// join says whether one more worker is wanted, who then is one.
func (p *passing) join() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.isOver || p.last != nil || p.working >= p.limit || p.working > 0 && !p.hasRoom() {
		return false
	}
	p.working++
	p.present++
	return true
}

// hasRoom says whether there is something to do for one more worker.
func (p *passing) hasRoom() bool {
	for _, s := range p.stretches {
		if !s.started || p.isWide(s) {
			return true
		}
	}
	return false
}

// retires says whether a worker is one too many. Another one goes on with its stretch.
func (p *passing) retires(s *stretch) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.working <= p.limit || p.last != nil {
		return false
	}
	p.working--
	s.started = false
	return true
}

// left is called by each worker that joined, when it has nothing open any more.
func (p *passing) left() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.present--; p.present == 0 {
		p.isOver = true
		close(p.over)
	}
}
