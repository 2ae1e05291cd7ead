package bidding

import (
	"context"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
	"golang.org/x/sync/errgroup"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/posting"
)

// PassOptions say how a pass works through the queue.
type PassOptions struct {
	// Workers is how many claim transactions may run at once. A pass begins with four, and takes more for
	// as long as they make it clearly faster. That of a run begins with one; when it is not done after 50 ms
	// others join, up to four together with those of all other runs at work. At least one.
	Workers int
	// Batch is how many postings one transaction attempts, at least one.
	Batch int
	// Observe, unless nil, is called with the attempts of each finished batch, from
	// several goroutines. They hold no locks meanwhile, and call it for up to sixteen batches in a row.
	// What it keeps of the attempts it must copy: they make room for those of later batches.
	Observe func([]Attempt)
}

// Pass attempts every candidate that is due now, each once, beside any number of other
// pods. It returns when none is left, or with an error when the database failed. When ctx
// is cancelled the batches under way end first.
//
// Only of a batch that breaks may something be attempted twice: the server frees it before its
// worker knows, and another one may be faster to take it.
func (c *Claimer) Pass(ctx context.Context, options PassOptions) error {
	options.Workers, options.Batch = max(options.Workers, 1), max(options.Batch, 1)
	queue, err := c.bounds(ctx)
	if err != nil {
		return fmt.Errorf("look at the queue: %w", err)
	}
	workers, working := errgroup.WithContext(ctx)
	if !queue.First.IsZero() {
		c.meet(queue.Marketplaces)
		p := newPassing(options.Workers, queue.First, queue.Last, queue.Now)
		if c.runID != nil {
			company, err := c.company(ctx)
			if err != nil {
				return err
			}
			p.begin(company.Earlier)
		}
		hire := func() {
			for p.join() {
				workers.Go(func() error {
					defer p.left()
					return c.drain(working, p, options)
				})
			}
		}
		hire()
		if options.Workers > p.limit {
			workers.Go(func() error { return c.keepPace(ctx, p, options.Workers, hire) })
		}
	}
	if err := workers.Wait(); err != nil {
		return err //nolint:wrapcheck // drain's own
	}
	return context.Cause(ctx) //nolint:wrapcheck // who interrupted it
}

// bounds is where the queue begins and ends. It is asked under the limits of a claim: after the
// statistics of an empty queue it would read all that is due, and all that was deleted and is not yet
// vacuumed.
func (c *Claimer) bounds(ctx context.Context) (queue queries.QueueBoundsRow, err error) {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	for tries := 1; ; tries++ {
		err := db.Look(ctx, c.pool, c.limited(), func(q *queries.Queries) (err error) {
			queue, err = q.QueueBounds(ctx)
			return err
		})
		if !isPassing(err) || tries == takeTries {
			return queue, err
		}
	}
}

// AtWorkWithin is how long ago a run that is still at work has said so at most; it does about every second.
const AtWorkWithin = 5 * time.Second

// company are the other runs at work. Where c is of no run, nobody can tell.
func (c *Claimer) company(ctx context.Context) (queries.RunsAtWorkRow, error) {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	company, err := queries.New(db.Once(c.pool)).RunsAtWork(ctx, *c.runID, AtWorkWithin)
	if err != nil {
		return company, fmt.Errorf("look for other runs: %w", err)
	}
	return company, nil
}

// stretch is a part of the queue: the candidates due from place to end, both included.
type stretch struct {
	place, end time.Time
	started    bool
	isPart     bool // cut off another, and nothing was found in it yet
	attempted  bool // something, since the worker was last at the beginning
}

const (
	// narrow is a stretch that is no longer cut in two.
	narrow = 2 * time.Millisecond
	// telling is how many candidates must lie together for the gap before them to tell that
	// another pod was there: of fewer it is too often chance.
	telling = 8
	// enough fruitless parts tell that other pods are emptying the same stretches.
	enough = 2
)

// passing is what the workers of one pass know of each other.
//
// They work on stretches of their own: side by side each would step over what the others hold,
// and over what they have deleted. Who is done with one goes on with the second half of the
// widest that is left. Who finds that another pod has been here, and is likely to be right ahead,
// goes on in the middle of what is left, and the half in between waits until somebody has time.
//
// Where a claim transaction breaks, its candidates are free again while its worker still brings
// each of them to an outcome. The others leave them alone, also when it is done: they would be
// attempted twice in one pass.
type passing struct {
	first, dueBy time.Time

	mu        sync.Mutex
	stretches []*stretch // that may hold more
	last      *stretch   // all that is due once more, for what others held or brought late
	limit     int        // how many may work at once
	working   int        // how many do, and have not come to their end
	present   int        // of those that joined
	done      progress
	over      chan struct{} // closed when nobody is present any more
	isOver    bool
	broken    map[posting.Key]bool

	// fruitless counts the parts in which nothing was found, since something was in one.
	fruitless int
}

// newPassing cuts the queue, from first to last, into stretches for so many workers. The cuts
// differ from pod to pod, which often begin in the same second; the oldest come first, but only
// for one worker. Before first lies what passes have deleted: not even the last worker goes over it.
func newPassing(workers int, first, last, dueBy time.Time) *passing {
	p := &passing{first: first, dueBy: dueBy, limit: min(workers, few), over: make(chan struct{})}
	part := float64(last.Sub(first)) / float64(workers)
	shift := rand.Float64() //nolint:gosec // no secret
	from := first
	for i := range workers - 1 {
		end := first.Add(time.Duration((float64(i) + shift) * part))
		p.stretches = append(p.stretches, &stretch{place: from, end: end})
		from = end.Add(time.Microsecond)
	}
	p.stretches = append(p.stretches, &stretch{place: from, end: last})
	return p
}

// begin has the pass of a run begin with one worker, and with the first at the front of the queue. Those
// that find others at work begin as far from them as can be, if all do: in the middle, at a quarter, at three
// quarters, at an eighth, and so on.
func (p *passing) begin(earlier int64) {
	p.limit = 1
	if earlier == 0 {
		return
	}
	queue := stretch{place: p.first, end: p.stretches[len(p.stretches)-1].end}
	const whole = 1 << 32
	part := float64(bits.Reverse32(uint32(earlier))) / whole //nolint:gosec // never so many
	behind := queue.cutAt(time.Duration(part * float64(queue.width())))
	p.stretches = []*stretch{behind, &queue}
}

// next is the stretch for a worker that found nothing more in done: one that nobody has begun,
// or half of the widest. The last worker goes over the whole queue until that holds nothing more;
// for the others nil is the end.
func (p *passing) next(done *stretch) *stretch {
	p.mu.Lock()
	defer p.mu.Unlock()
	if done != nil && done == p.last {
		if !done.attempted {
			return nil
		}
		done.place, done.attempted = p.first, false
		return done
	}
	p.stretches = slices.DeleteFunc(p.stretches, func(s *stretch) bool { return s == done })
	if done != nil && done.isPart {
		if p.fruitless++; p.fruitless >= enough {
			p.unite()
		}
	}
	var widest *stretch
	for _, s := range p.stretches {
		if !s.started {
			s.started = true
			return s
		}
		if widest == nil || s.width() > widest.width() {
			widest = s
		}
	}
	switch {
	case widest != nil && p.isWide(widest):
		half := widest.cut()
		half.started, half.isPart = true, true
		p.stretches = append(p.stretches, half)
		return half
	case widest != nil:
		return widest // together: it may still hold many, all due at the same time
	}
	p.working--
	if p.working == 0 {
		p.last = &stretch{place: p.first, end: p.dueBy}
	}
	return p.last
}

// unite makes one stretch of all parts that nobody has begun, and of what lies between them: one
// look tells whether there is still something to be found.
func (p *passing) unite() {
	var whole *stretch
	p.stretches = slices.DeleteFunc(p.stretches, func(s *stretch) bool {
		if s.started {
			return false
		}
		if whole == nil {
			whole = s
			return false
		}
		if s.place.Before(whole.place) {
			whole.place = s.place
		}
		if s.end.After(whole.end) {
			whole.end = s.end
		}
		return true
	})
}

// isWide says whether a stretch is worth two workers of its own. After parts without anything in
// them none is: they would halve, again and again, what other pods have emptied.
func (p *passing) isWide(s *stretch) bool { return s.width() > narrow && p.fruitless < enough }

func (s *stretch) width() time.Duration { return s.end.Sub(s.place) }

// cut leaves s its first half, and returns the second.
func (s *stretch) cut() *stretch { return s.cutAt(s.width() / 2) }

// cutAt leaves s its beginning, so wide, and returns the rest.
func (s *stretch) cutAt(width time.Duration) *stretch {
	end := s.place.Add(width)
	rest := &stretch{place: end.Add(time.Microsecond), end: s.end} // as fine as the database's clock
	s.end = end
	return rest
}

// take takes up to n candidates of the stretch that no other pod holds into what rows has room for, and moves
// the stretch's place behind them.
func (p *passing) take(s *stretch, n int, rows *[]queries.TakeCandidatesRow) take {
	p.mu.Lock()
	place, end := s.place, s.end
	p.mu.Unlock()
	return func(ctx context.Context, q *queries.Queries, b *batch) error {
		var row queries.TakeCandidatesRow
		params := queries.TakeCandidatesParams{DueBy: end, Place: place, Batch: int32(n), Plain: b.plain != nil} //nolint:gosec // a batch size
		*rows = (*rows)[:0]
		err := queries.TakeCandidatesEach(ctx, q, params, &row, func() error {
			*rows = append(*rows, row)
			return nil
		})
		if err != nil {
			return fmt.Errorf("take candidates: %w", err)
		}
		taken := len(*rows)
		if b.plain == nil {
			b.taken = make(map[pgtype.TID]int, taken)
		} else {
			b.numbers = make([]int, 0, taken)
		}
		order, numbers := keyOrder(*rows), lockedNumbers(*rows)
		p.mu.Lock()
		defer p.mu.Unlock()
		b.attempts = slices.Grow(b.attempts[:0], taken)
		nearest := end
		for _, i := range order {
			row := &(*rows)[i]
			if row.NotBefore.After(s.place) {
				s.place = row.NotBefore
			}
			if row.NotBefore.Before(nearest) {
				nearest = row.NotBefore
			}
			if key := keyOf(row); !p.broken[key] {
				b.note(key, row, numbers[i])
			}
		}
		if taken > 0 && s.isPart {
			p.fruitless, s.isPart = 0, false
		}
		s.attempted = s.attempted || len(b.attempts) > 0
		if taken > 0 && len(b.attempts) == 0 && !s.place.After(place) {
			s.place = place.Add(time.Microsecond) // what is left to others stays where it is
		}
		// As many as were asked for and yet further away than they lie apart.
		if s != p.last && taken == n && n >= telling && nearest.Sub(place) > s.place.Sub(nearest) && s.width() > narrow {
			ahead := s.cut()
			s.place, s.end, ahead.place, ahead.end = ahead.place, ahead.end, s.place, s.end
			ahead.isPart = true // as it is now what was left behind
			p.stretches = append(p.stretches, ahead)
		}
		return nil
	}
}

func keyOf(row *queries.TakeCandidatesRow) posting.Key {
	return posting.Key{Marketplace: row.Marketplace, JobID: row.JobID}
}

// keyOrder are the indexes of what was taken, in the order of its keys.
func keyOrder(rows []queries.TakeCandidatesRow) []int {
	order := make([]int, len(rows))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(x, y int) int { return keyOf(&rows[x]).Compare(keyOf(&rows[y])) })
	return order
}

// lockedNumbers are, for each of what was taken, its number among those that were locked, or -1.
func lockedNumbers(rows []queries.TakeCandidatesRow) []int {
	numbers, locked := make([]int, len(rows)), 0
	for i := range rows {
		numbers[i] = -1
		if rows[i].Locked {
			numbers[i] = locked
			locked++
		}
	}
	return numbers
}

// note makes an attempt of a candidate that was taken, and that is the one of that number of those that
// were locked, or -1.
func (b *batch) note(key posting.Key, row *queries.TakeCandidatesRow, number int) {
	if b.plain == nil {
		b.taken[row.Place] = len(b.attempts)
	} else {
		b.numbers = append(b.numbers, number)
	}
	b.attempts = append(b.attempts, Attempt{Key: key, queuedAt: row.CachedAt})
	a := &b.attempts[len(b.attempts)-1]
	a.lock(row.Locked)
	a.place = row.Place
}

// isWhole says that no candidate is left to one worker.
func (p *passing) isWhole() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.broken) == 0
}

func (p *passing) broke(attempts []Attempt) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.broken == nil {
		p.broken = make(map[posting.Key]bool)
	}
	for i := range attempts {
		p.broken[attempts[i].Key] = true
	}
}
