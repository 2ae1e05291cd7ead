package bidding

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/posting"
)

// TestPace: workers are doubled for as long as that makes the pass clearly faster, and halved where that makes it
// no slower, now and then anew; beside other runs later and less often.
func TestPace(t *testing.T) {
	t.Parallel()
	upTo := func(n int) func(int, time.Duration) int { // so many workers do 20 batches a second each, more do not help
		return func(workers int, _ time.Duration) int { return 20 * min(workers, n) }
	}
	tests := []struct {
		name   string
		most   int
		others int64
		speed  func(workers int, after time.Duration) int // in batches a second
		want   []int                                      // workers, as they change
	}{
		{name: "more would help, and there are no more", most: 20, speed: upTo(100), want: []int{4, 8, 16, 20, 10, 20, 10, 20}},
		{name: "more do not help", most: 64, speed: upTo(4), want: []int{4, 8, 4, 8, 4, 8, 4}},
		{name: "more help a little", most: 64, speed: func(workers int, _ time.Duration) int { return 100 + workers }, want: []int{4, 8, 4, 8, 4, 8, 4}},
		{name: "up to some", most: 64, speed: upTo(20), want: []int{4, 8, 16, 32, 64, 32, 16, 32, 64, 32, 16, 32}},
		{name: "all wait", most: 20, speed: func(int, time.Duration) int { return 0 }, want: []int{4, 8, 16, 20, 10, 20}},
		{name: "they seemed to help", most: 64, speed: func(workers int, after time.Duration) int {
			if after < time.Second {
				return 20 * min(workers, 32)
			}
			return 100
		}, want: []int{4, 8, 16, 32, 64, 32, 16, 8, 4, 8, 4, 8, 4}},
		{name: "later they help", most: 16, speed: func(workers int, after time.Duration) int {
			if after < 2*time.Second {
				return 100
			}
			return 20 * workers
		}, want: []int{4, 8, 4, 8, 16, 8, 16, 8, 16}},
		{name: "fewer are wanted", most: 2, speed: upTo(100), want: []int{2}},
		{name: "beside another run", most: 4, others: 1, speed: upTo(100), want: []int{2, 4, 2, 4}},
		{name: "beside others", most: 4, others: 7, speed: upTo(100), want: []int{1, 2, 4, 2, 4}},
		{name: "beside others more do not help", most: 4, others: 2, speed: upTo(1), want: []int{1, 2, 1, 2, 1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := newPace(tt.most, tt.others, noon(), progress{})
			got, done := []int{p.workers}, 0.
			var changed, tick time.Duration
			for after := p.pause(noon()); len(got) < len(tt.want)+1 && after < time.Minute; after += tick {
				done += float64(tt.speed(p.workers, after)) * max(tick, glance/5).Seconds()
				now := noon().Add(after)
				if n := p.next(now, progress{int(done), int(64 * done)}); n != got[len(got)-1] {
					got = append(got, n)
					if tt.others > 0 && len(got) == 2 {
						want(t, "whether five seconds went by before", after-changed >= 5*time.Second, true)
					}
					changed = after
				}
				tick = p.pause(now)
			}
			want(t, "workers", got[:min(len(got), len(tt.want))], tt.want)
			want(t, "whether that is for good", p.isFixed(), tt.want[0] == tt.most)
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

// TestBegin: passes that begin one after the other begin far from each other, each with one worker.
func TestBegin(t *testing.T) {
	t.Parallel()
	const span = 8 * time.Hour
	for earlier, begins := range []int{0, 4, 2, 6, 1, 5, 3, 7} {
		p := newPassing(4, noon(), noon().Add(span), noon().Add(span))
		p.begin(int64(earlier))
		want(t, "joined", p.join(), true)
		want(t, "another one", p.join(), false)
		own := p.next(nil)
		want(t, "where it begins", own.place.Sub(noon()).Round(time.Second), time.Duration(begins)*time.Hour)
		var whole time.Duration
		for _, s := range p.stretches {
			whole += s.width()
		}
		want(t, "what is looked through", whole.Round(time.Second), span)
		if earlier > 0 {
			want(t, "where it goes on", p.next(own).place, noon())
		}
	}
}

// run records a run of that kind which last said something so long ago.
func (f *fixture) run(t testing.TB, kind string, silent time.Duration) uuid.UUID {
	t.Helper()
	id := uuid.Must(uuid.NewV7())
	f.exec(t, "INSERT INTO runs (id, kind, updated_at) VALUES ($1, $2, clock_timestamp() - $3::interval)", id, kind, silent)
	return id
}

// ahead is the silence of a run that is at work however slow the machine is.
const ahead = -time.Hour

// ofRun makes a claimer that of a run.
func ofRun(id uuid.UUID) func(*Claimer) { return func(c *Claimer) { c.runID = &id } }

// TestCompany: a run knows of others that are at work.
func TestCompany(t *testing.T) {
	t.Parallel()
	f := setup(t)
	atWork := f.run(t, "run", 0)
	f.run(t, "run", time.Minute) // killed
	f.run(t, "bid", 0)
	f.exec(t, "UPDATE runs SET finished_at = clock_timestamp(), exit_code = 0 WHERE id = $1", f.run(t, "run", 0))
	f.exec(t, "UPDATE runs SET counted = true WHERE id = $1", f.run(t, "run", 0)) // taken for killed
	own := f.run(t, "run", 0)
	c := f.claimer(ofRun(own))
	for later := range int64(3) {
		f.exec(t, "UPDATE runs SET updated_at = clock_timestamp() - interval '1 second' WHERE id = $1", atWork)
		company, err := c.company(t.Context())
		want(t, "error", err, nil)
		want(t, "others and those that began earlier", company, queries.RunsAtWorkRow{Others: 1 + later, Earlier: 1})
		f.run(t, "run", ahead)
	}
}

// TestFirstPace: runs share the workers that one has alone, and a pass that is not part of a run.
func TestFirstPace(t *testing.T) {
	t.Parallel()
	f := setup(t)
	p := wholeQueue(noon())
	pace := func(c *Claimer) int {
		pace, over, err := c.pace(t.Context(), p, 2*few)
		want(t, "error", err, nil)
		want(t, "whether it is over", over, false)
		return pace.workers
	}
	own := f.run(t, "run", 0)
	want(t, "workers alone", pace(f.claimer(ofRun(own))), few)
	f.run(t, "run", ahead)
	want(t, "workers beside another run", pace(f.claimer(ofRun(own))), few/2)
	want(t, "workers of a pass that is not part of a run", pace(f.claimer()), few)

	p.present = 1
	p.left()
	_, over, err := f.claimer(ofRun(own)).pace(t.Context(), p, 2*few)
	want(t, "error", err, nil)
	want(t, "whether it is over", over, true)
}

// TestCompanyUnknown: a database that does not say whether there are other runs ends the pass.
func TestCompanyUnknown(t *testing.T) {
	t.Parallel()
	for _, nth := range []int32{1, 2} {
		f := setup(t)
		f.cacheNow(t, jobs(3)...)
		f.rewrite = breaking(queries.RunsAtWork, nth)
		asked := f.statements()
		c := f.claimer(ofRun(f.run(t, "run", 0)), once("locked", func() {
			eventually(t, "it asks again", func() bool { return asked("RunsAtWork") == 2 })
		}))
		made, err := tryPass(t.Context(), c, PassOptions{Workers: 2, Batch: 1})
		want(t, "SQLSTATE", db.Code(err), "22012")
		want(t, "whether it had begun", len(made) > 0, nth == 2)
		want(t, "live bids", f.live(t), len(made))
		want(t, "still queued", f.count(t, "candidates"), 3-len(made))
	}
}

// spreadQueue caches so many postings that are due an hour after each other, up to now.
func (f *fixture) spreadQueue(t testing.TB, n int) []posting.Key {
	t.Helper()
	keys := jobs(n)
	f.cacheNow(t, keys...)
	for i, key := range keys {
		f.exec(t, "UPDATE candidates SET not_before = clock_timestamp() - make_interval(hours => $1) WHERE job_id = $2", n-i, key.JobID)
	}
	return keys
}

// TestRunBegins: the pass of a run begins in the middle of the queue where another one has begun before, and
// decides on everything all the same.
func TestRunBegins(t *testing.T) {
	t.Parallel()
	for earlier, first := range []int{0, 4, 2, 6} {
		f := setup(t)
		for range earlier {
			f.run(t, "run", ahead)
		}
		keys := f.spreadQueue(t, 8)
		made := pass(t, f.claimer(ofRun(f.run(t, "run", 0))), PassOptions{Batch: 1})
		want(t, "outcomes", outcomes(made), map[Outcome]int{Claimed: len(keys)})
		want(t, "the first", job(read[string](t, f, "SELECT job_id FROM bids ORDER BY id LIMIT 1")), keys[first])
		f.tally(t, made...)
	}
}

// TestRunStuck: when the first worker of a run is not done at once, others join.
func TestRunStuck(t *testing.T) {
	t.Parallel()
	f := setup(t)
	keys := f.spreadQueue(t, 8)
	var (
		begun  atomic.Int32
		joined = make(chan struct{})
	)
	c := f.claimer(ofRun(f.run(t, "run", 0)), func(c *Claimer) {
		c.after = func(step string) {
			if step != "beginning" {
				return
			}
			switch begun.Add(1) {
			case 1:
				<-joined
			case 2:
				close(joined)
			}
		}
	})
	made := pass(t, c, PassOptions{Workers: 4, Batch: 1})
	want(t, "outcomes", outcomes(made), map[Outcome]int{Claimed: len(keys)})
	f.tally(t, made...)
}

// TestStuckWorkers: where all that a pass began with wait for something, others go on.
func TestStuckWorkers(t *testing.T) {
	t.Parallel()
	f := setup(t)
	keys := f.spreadQueue(t, few+2)
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
