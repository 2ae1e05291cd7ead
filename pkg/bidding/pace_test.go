package bidding

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/arbitrageai/bidder/pkg/posting"
)

// TestPace: workers are doubled for as long as that makes the pass clearly faster, now and then anew.
func TestPace(t *testing.T) {
	t.Parallel()
	upTo := func(n int) func(int, time.Duration) int { // so many workers do 20 batches a second each, more do not help
		return func(workers int, _ time.Duration) int { return 20 * min(workers, n) }
	}
	tests := []struct {
		name  string
		most  int
		speed func(workers int, after time.Duration) int // in batches a second
		want  []int                                      // workers, as they change
	}{
		{name: "more would help, and there are no more", most: 20, speed: upTo(100), want: []int{4, 8, 16, 20}},
		{name: "more do not help", most: 64, speed: upTo(4), want: []int{4, 8, 4, 8, 4, 8, 4}},
		{name: "more help a little", most: 64, speed: func(workers int, _ time.Duration) int { return 100 + workers }, want: []int{4, 8, 4, 8, 4, 8, 4}},
		{name: "up to some", most: 64, speed: upTo(20), want: []int{4, 8, 16, 32, 64, 32, 64, 32}},
		{name: "all wait", most: 20, speed: func(int, time.Duration) int { return 0 }, want: []int{4, 8, 16, 20}},
		{name: "later they help", most: 16, speed: func(workers int, after time.Duration) int {
			if after < 2*time.Second {
				return 100
			}
			return 20 * workers
		}, want: []int{4, 8, 4, 8, 16}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := pace{most: tt.most, workers: few, since: noon()}
			got, done := []int{few}, 0.
			const tick = 10 * time.Millisecond
			for after := tick; len(got) < len(tt.want)+1 && after < 10*time.Second; after += tick {
				done += float64(tt.speed(p.workers, after)) * tick.Seconds()
				if n := p.next(noon().Add(after), progress{int(done), int(64 * done)}); n != got[len(got)-1] {
					got = append(got, n)
				}
			}
			want(t, "workers", got[:min(len(got), len(tt.want))], tt.want)
			if last := tt.want[len(tt.want)-1]; last == tt.most {
				want(t, "workers in the end", p.workers, last)
			}
		})
	}
}

// TestJoining: as many workers join as may, for as long as there is something to do for one more.
func TestJoining(t *testing.T) {
	t.Parallel()
	p := newPassing(8, noon(), noon().Add(time.Hour), noon().Add(time.Hour))
	var own []*stretch
	for p.join() {
		own = append(own, p.next(nil))
	}
	want(t, "joined", len(own), few)
	want(t, "whether some are missing when it is twice as many", p.allow(2*few), true)
	for p.join() {
		own = append(own, p.next(nil))
	}
	want(t, "joined", len(own), 2*few)
	want(t, "whether some are missing", p.allow(2*few), false)

	want(t, "whether one is too many", p.retires(own[0]), false)
	want(t, "whether some are missing with less", p.allow(2*few-1), false)
	want(t, "whether one is too many", p.retires(own[1]), true)
	want(t, "whether another is", p.retires(own[0]), false)
	p.allow(2 * few)
	want(t, "joined", p.join(), true)
	want(t, "goes on with what was left", p.next(nil) == own[1], true)

	for _, s := range own { // all is narrow
		s.place = s.end
	}
	p.allow(3 * few)
	want(t, "joined when nothing is wide enough for two", p.join(), false)
	p.stretches = nil
	for range 2 * few {
		p.next(nil)
	}
	want(t, "the last one goes over the whole queue", p.last != nil, true)
	p.allow(0)
	want(t, "whether that one is too many", p.retires(p.last), false)
	p.allow(3 * few)
	want(t, "joined beside it", p.join(), false)
	for range 2*few + 1 {
		p.left()
	}
	<-p.over
	p.last = nil
	want(t, "joined when it is over", p.join(), false)
}

// TestRetires: who is one too many commits what it has begun, and another one goes on with its stretch.
func TestRetires(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.cacheNow(t, jobs(10)...)
	p := wholeQueue(time.Now().Add(time.Hour))
	p.working = 2
	drain := func() (made []Attempt) {
		options := PassOptions{Batch: 2, Observe: func(attempts []Attempt) { made = append(made, attempts...) }}
		want(t, "error", f.claimer().drain(t.Context(), p, options), nil)
		return made
	}
	want(t, "by the one too many", outcomes(drain()), map[Outcome]int{Claimed: 2})
	want(t, "live bids", f.live(t), 2)
	want(t, "by the other", outcomes(drain()), map[Outcome]int{Claimed: 8})
}

// TestStuckWorkers: where all that a pass began with wait for something, others go on.
func TestStuckWorkers(t *testing.T) {
	t.Parallel()
	f := setup(t)
	keys := jobs(few + 2)
	f.cacheNow(t, keys...)
	for i, key := range keys { // far apart
		f.exec(t, "UPDATE candidates SET not_before = clock_timestamp() - make_interval(hours => $1) WHERE job_id = $2", len(keys)-i, key.JobID)
	}
	var (
		mu     sync.Mutex
		stuck  int
		others = make(chan struct{})
	)
	c := f.claimer(func(c *Claimer) {
		c.after = func(step string) {
			if step != "locked" {
				return
			}
			mu.Lock()
			stuck++
			mine := stuck
			mu.Unlock()
			switch {
			case mine <= few:
				<-others
			case mine == few+1:
				close(others)
			}
		}
	})
	made := pass(t, c, PassOptions{Workers: 2 * few, Batch: 1})
	want(t, "outcomes", outcomes(made), map[Outcome]int{Claimed: len(keys)})
	f.tally(t, made...)
}

// TestInterruptedCrew: many workers end with the batches that they are at.
func TestInterruptedCrew(t *testing.T) {
	t.Parallel()
	f := setup(t)
	keys := jobs(100)
	f.cacheNow(t, keys...)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var (
		mu   sync.Mutex
		seen []posting.Key
	)
	err := f.claimer().Pass(ctx, PassOptions{Workers: 2 * few, Batch: 1, Observe: func(attempts []Attempt) {
		mu.Lock()
		defer mu.Unlock()
		for _, a := range attempts {
			seen = append(seen, a.Key)
		}
		cancel()
	}})
	want(t, "interrupted", errors.Is(err, context.Canceled), true)
	want(t, "live bids", f.live(t), len(seen))
	want(t, "still queued", f.count(t, "candidates"), len(keys)-len(seen))
	slices.SortFunc(seen, posting.Key.Compare)
	want(t, "attempted once each", len(slices.Compact(seen)), f.live(t))
}
