package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"
)

// row is one experiment.
type row struct {
	name string // of the row, for -only
	work string // what is done
	bars []bar
	ways []way
	// prepare, unless nil, makes once what all runs of the row use; its result undoes it.
	prepare func(ctx context.Context, b *bench) (func(), error)
	once    bool // not repeated
	// note, unless nil, says more about the results.
	note func(r result) string
}

// way is one way to do the work of a row.
type way struct {
	name string
	run  func(ctx context.Context, b *bench) (sample, error)
}

// sample is what one run of a way came to.
type sample struct {
	ops       int
	elapsed   time.Duration
	latencies []time.Duration
	extra     map[string]float64 // other measures
	series    []float64          // the rate over time
	control   []float64          // and of a control beside it
}

func (s sample) rate() float64 { return float64(s.ops) / s.elapsed.Seconds() }

func (s sample) quantile(q float64) time.Duration {
	if len(s.latencies) == 0 {
		return 0
	}
	slices.Sort(s.latencies)
	return s.latencies[int(q*float64(len(s.latencies)-1))]
}

// value is a measure of the sample, by its name.
func (s sample) value(measure string) float64 {
	switch measure {
	case "rate":
		return s.rate()
	case "p50":
		return s.quantile(0.5).Seconds()
	case "p99":
		return s.quantile(0.99).Seconds()
	case "time":
		return s.elapsed.Seconds()
	}
	return s.extra[measure]
}

// bar is what a row promises: a measure of one way, as a ratio to that of another, or
// itself where there is no other.
type bar struct {
	measure, of, to string
	atLeast, atMost float64 // one of them
}

// met says whether ratio clears the bar.
func (b bar) met(ratio float64) bool {
	if b.atLeast > 0 {
		return ratio >= b.atLeast
	}
	return ratio <= b.atMost
}

// result is what a row came to.
type result struct {
	row     row
	samples map[string][]sample // by way
}

// median of a measure over the runs of a way.
func (r result) median(way, measure string) float64 {
	var values []float64
	for _, s := range r.samples[way] {
		values = append(values, s.value(measure))
	}
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	return (values[(len(values)-1)/2] + values[len(values)/2]) / 2
}

// of is what a bar came to.
func (r result) of(b bar) float64 {
	if b.to == "" {
		return r.median(b.of, b.measure)
	}
	return r.median(b.of, b.measure) / r.median(b.to, b.measure)
}

// measure runs the ways of a row in turn, each time beginning with another.
func (b *bench) measure(ctx context.Context, r row, reps int) (result, error) {
	fmt.Fprintf(os.Stderr, "bench: %s\n", r.work)
	res := result{row: r, samples: map[string][]sample{}}
	if r.prepare != nil {
		undo, err := r.prepare(ctx, b)
		if err != nil {
			return res, fmt.Errorf("prepare: %w", err)
		}
		defer undo()
	}
	if r.once {
		reps = 1
	}
	for rep := range reps {
		for i := range r.ways {
			w := r.ways[(i+rep)%len(r.ways)]
			s, err := w.run(ctx, b)
			if err != nil {
				return res, fmt.Errorf("%s: %w", w.name, err)
			}
			res.samples[w.name] = append(res.samples[w.name], s)
			fmt.Fprintf(os.Stderr, "bench:   %d/%d %-28s %10.0f/s  p50 %s  p99 %s  %v\n", rep+1, reps, w.name,
				s.rate(), s.quantile(0.5).Round(time.Microsecond), s.quantile(0.99).Round(time.Microsecond), s.extra)
		}
	}
	return res, nil
}

// spread runs do for the indexes 0 to n-1 on so many workers, each taking the next when it
// is done with the last, and measures each call.
func spread(workers, n int, do func(worker, i int) error) (sample, error) {
	var (
		mu      sync.Mutex
		next    int
		failure error
		running sync.WaitGroup
		s       = sample{ops: n}
		started = time.Now()
	)
	take := func() (int, bool) {
		mu.Lock()
		defer mu.Unlock()
		next++
		return next - 1, next <= n && failure == nil
	}
	for worker := range workers {
		running.Go(func() {
			var latencies []time.Duration
			for i, ok := take(); ok; i, ok = take() {
				began := time.Now()
				if err := do(worker, i); err != nil {
					mu.Lock()
					failure = err
					mu.Unlock()
				}
				latencies = append(latencies, time.Since(began))
			}
			mu.Lock()
			defer mu.Unlock()
			s.latencies = append(s.latencies, latencies...)
		})
	}
	running.Wait()
	s.elapsed = time.Since(started)
	return s, failure
}
