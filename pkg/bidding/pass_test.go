package bidding

import (
	"slices"
	"testing"
	"time"
)

// TestStretches: together they are the queue, none is worked on twice while there is another, and
// in the end one worker goes over all of it until nothing is left.
func TestStretches(t *testing.T) {
	t.Parallel()
	const workers = 4
	first, last, dueBy := noon(), noon().Add(time.Hour), noon().Add(2*time.Hour)
	p := passingOf(workers, first, last, dueBy)
	from := first
	own := make([]*stretch, workers)
	for i := range own {
		own[i] = p.next(nil)
		want(t, "begins where the one before ends", own[i].place, from)
		from = own[i].end.Add(time.Microsecond)
	}
	want(t, "ends with the queue", own[workers-1].end, last)

	for i, width := range []time.Duration{time.Minute, 40 * time.Minute, 10 * time.Minute, time.Minute} {
		own[i].place = own[i].end.Add(-width)
	}
	end := own[1].end
	half := p.next(own[0])
	want(t, "the second half of the widest", []time.Time{half.place, half.end}, []time.Time{own[1].end.Add(time.Microsecond), end})
	want(t, "the first half stays", own[1].width(), 20*time.Minute)

	other := p.next(half)
	want(t, "after a half with nothing in it", other.width(), 10*time.Minute-time.Microsecond)
	want(t, "after two of them: together", p.next(other) == own[1], true)
	p.fruitless = 0 // something was found
	other = p.next(nil)
	want(t, "then no more", other.width(), 5*time.Minute-time.Microsecond)
	p.fruitless = 0

	other.place, own[2].place, own[3].place = other.end, own[2].end, own[3].end
	own[1].place = own[1].end.Add(-narrow)
	want(t, "too narrow to be cut: together", p.next(other) == own[1], true)
	want(t, "not again", p.next(own[1]) == own[1], false)
	for _, s := range own[2:] {
		_ = p.next(s)
	}
	want(t, "no stretch is left", len(p.stretches), 0)

	p = passingOf(2, first, last, dueBy)
	own = []*stretch{p.next(nil), p.next(nil)}
	own[0].place, own[1].place = own[0].end, own[1].end
	want(t, "what the other is at", p.next(own[0]) == own[1], true)
	want(t, "nothing more for the first", p.next(own[1]) == nil, true)
	whole := p.next(own[1])
	want(t, "the whole queue for the last", []time.Time{whole.place, whole.end}, []time.Time{first, dueBy})
	whole.place, whole.attempted = last, true
	want(t, "once more", p.next(whole) == whole && whole.place.Equal(first), true)
	want(t, "then it ends", p.next(whole) == nil, true)
}

// TestFruitless: after parts in which nothing was found the others are looked through at once.
func TestFruitless(t *testing.T) {
	t.Parallel()
	p := passingOf(1, noon(), noon().Add(time.Hour), noon().Add(time.Hour))
	own := p.next(nil)
	minute := func(n int) time.Time { return noon().Add(time.Duration(n) * time.Minute) }
	for _, part := range [][2]int{{10, 11}, {20, 21}, {30, 31}, {25, 26}, {35, 36}} {
		p.stretches = append(p.stretches, &stretch{place: minute(part[0]), end: minute(part[1]), isPart: true})
	}
	first := p.next(nil)
	second := p.next(first)
	want(t, "one after the other", []time.Time{first.place, second.place}, []time.Time{minute(10), minute(20)})
	rest := p.next(second)
	want(t, "then all that is left", []time.Time{rest.place, rest.end}, []time.Time{minute(25), minute(36)})
	want(t, "then what the other is at", p.next(rest) == own, true)
}

// TestAnotherPodAhead: who finds that another pod has been here jumps ahead of it, and comes back.
func TestAnotherPodAhead(t *testing.T) {
	t.Parallel()
	f := setup(t)
	keys := jobs(80)
	f.cache(t, noon(), keys...)
	due := func(i int) time.Time { return noon().Add(time.Duration(i) * time.Second) }
	for i, key := range keys {
		f.exec(t, "UPDATE candidates SET not_before = $1 WHERE job_id = $2", due(i), key.JobID)
	}
	f.exec(t, "DELETE FROM candidates WHERE not_before < $1", due(40))
	var taken []int
	options := PassOptions{Batch: telling, Observe: func(attempts []Attempt) {
		for _, a := range attempts {
			taken = append(taken, slices.Index(keys, a.Key))
		}
	}}
	want(t, "error", f.claimer(at(noon())).drain(t.Context(), passingOf(1, due(0), due(79), due(80)), options), nil)
	var wanted []int
	for _, part := range [][2]int{{40, 47}, {64, 79}, {48, 63}} {
		for i := part[0]; i <= part[1]; i++ {
			wanted = append(wanted, i)
		}
	}
	want(t, "taken", taken, wanted)
}
