package bidding

import "time"

// pace says how many workers of a pass work at once: as many as make it clearly faster.
//
// A pass begins with a few and doubles them until that brings too little. Transactions beyond those that a
// server has processors for, and disks to wait for, make each other slower (docs/performance.md), and how many
// that are no server can be asked.
type pace struct {
	most    int // workers
	workers int // at once, from now on
	fewer   int // they were before, and made rate postings a second; 0 unless this is a trial
	rate    float64
	phase   phase
	since   time.Time // it is in that phase
	from    progress
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
	// clearly is how much faster twice the workers must be.
	clearly = 1.08
	// glance and stare are the shortest and the longest time for a phase that waits for batches, and rest
	// is that between two trials.
	glance, stare, rest = 50 * time.Millisecond, 500 * time.Millisecond, time.Second
	// sample is how many batches tell how fast it goes.
	sample = 32
)

// next is how many workers may work from now on.
func (p *pace) next(now time.Time, done progress) int {
	elapsed, batches := now.Sub(p.since), done.batches-p.from.batches
	switch {
	case p.phase == resting && elapsed >= rest:
		p.enter(measuring, now, done)
	case p.phase == settling && (elapsed >= stare || elapsed >= glance && batches >= p.workers):
		p.enter(measuring, now, done)
	case p.phase == measuring && (elapsed >= stare || elapsed >= glance && batches >= sample):
		p.judge(float64(done.postings-p.from.postings) / elapsed.Seconds())
		if p.fewer > 0 {
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

// judge ends a trial whose workers make rate postings a second, and may begin the next.
func (p *pace) judge(rate float64) {
	switch {
	case p.fewer > 0 && rate < clearly*p.rate:
		p.workers, p.fewer = p.fewer, 0
	case p.workers == p.most:
		p.fewer = 0
	default:
		p.fewer, p.rate, p.workers = p.workers, rate, min(2*p.workers, p.most)
	}
}

// keepPace lets as many workers work as make the pass faster, and at most so many, until they are done. hire
// starts those that are missing.
func (p *passing) keepPace(most int, hire func()) {
	pace := pace{most: most, workers: few, since: time.Now()}
	tick := time.NewTicker(glance / 5)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			if p.allow(pace.next(now, p.made())) {
				hire()
			}
		case <-p.over:
			return
		}
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
