// Command bench measures bidder against raw statements on the same server, and against the
// tools that one would use instead. Each row of the report is one experiment: its ways are
// run in turn, several times, each on a database of its own, and what they left is checked
// after each run. What counts are ratios of medians: they survive a busy machine.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"runtime/debug"
	"syscall"
)

// sizes are how much work the rows do.
type sizes struct {
	batched, single, contended, peers int // postings
	processes                         int // candidates
	history, decided, live            int // old bids, postings already decided, live bids
	claims                            int // on top of the history
	ingest                            int // postings
	deliveries                        int
	starts                            int
	life, partitioned                 int // bids; old bids
	soak                              int // seconds
}

func full() sizes {
	return sizes{
		batched: 200_000, single: 30_000, contended: 8_000, peers: 20_000, processes: 100_000,
		history: 5_000_000, decided: 1_000_000, live: 1_000_000, claims: 60_000, ingest: 1_000_000,
		deliveries: 6_000, starts: 20, life: 6_000, partitioned: 500_000, soak: 600,
	}
}

func quick() sizes {
	return sizes{
		batched: 12_000, single: 6_000, contended: 1_600, peers: 2_400, processes: 10_000,
		history: 100_000, decided: 20_000, live: 20_000, claims: 12_000, ingest: 20_000,
		deliveries: 1_000, starts: 5, life: 2_000, partitioned: 50_000, soak: 10,
	}
}

func main() {
	debug.SetGCPercent(400) // as the program does, here for all ways alike
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	isQuick := flag.Bool("quick", false, "small sizes and 3 repetitions: two minutes instead of an hour; writes no report")
	only := flag.String("only", "", "run only the rows whose name matches this regular expression; writes no report")
	out := flag.String("out", "", "directory of the project's documentation, to write benchmarks.md and its plots there")
	reps := flag.Int("reps", 5, "how often each way is run")
	history := flag.Int("history", 0, "old bids, in place of 5,000,000")
	soak := flag.Int("soak", 0, "seconds of the soak, in place of 600")
	flag.Parse()
	wanted, err := regexp.Compile(*only)
	if err != nil {
		return fmt.Errorf("-only: %w", err)
	}
	size := full()
	if *isQuick {
		size, *reps = quick(), min(*reps, 3)
	}
	if *history > 0 {
		size.history, size.decided, size.live = *history, *history/5, *history/5
	}
	if *soak > 0 {
		size.soak = *soak
	}
	b, err := start(ctx, size)
	if err != nil {
		return err
	}
	defer b.stop()
	report := &report{machine: b.machine(ctx), reps: *reps}
	for _, r := range rows() {
		if !wanted.MatchString(r.name) {
			continue
		}
		result, err := b.measure(ctx, r, *reps)
		if err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
		report.results = append(report.results, result)
		report.print(os.Stdout, result)
		if *out == "" || *isQuick || *only != "" {
			continue
		}
		if err := report.write(*out); err != nil { // after each row: an hour is long
			return err
		}
	}
	return nil
}

// rows are the experiments in the order of the report.
func rows() []row {
	return []row{
		batched(), callers(), contended(), peers(), processes(), history(), emptyPass(), latency(),
		ingest(), wal(), instructions(), deliveries(), starting(), life(), partitioned(), soak(),
	}
}
