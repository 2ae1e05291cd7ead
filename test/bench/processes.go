package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"time"
)

// processes: pods do not trip over each other.
func processes() row {
	const pods, workers = 8, 4
	return row{
		name: "processes", work: "8 processes draining the queue, against one with as many workers",
		bars: []bar{
			{measure: "rate", of: "8 processes", to: "1 process", atLeast: 0.9},
			{measure: "wasted", of: "8 processes", atMost: 0.02},
		},
		ways: []way{
			{"1 process", func(ctx context.Context, b *bench) (sample, error) { return b.pods(ctx, 1, pods*workers) }},
			{"8 processes", func(ctx context.Context, b *bench) (sample, error) { return b.pods(ctx, pods, workers) }},
		},
	}
}

// pods drains the queue with so many processes at once.
func (b *bench) pods(ctx context.Context, pods, workers int) (sample, error) {
	return b.onFresh(ctx, 1, b.sizes.processes, true, func(d *database) (sample, error) {
		var (
			mu      sync.Mutex
			running sync.WaitGroup
			failure error
			counted = map[string]int{}
			started = time.Now()
		)
		for range pods {
			running.Go(func() {
				outcomes, err := d.runBidder(ctx, "run", "--no-delivery", "-o", "json",
					"--workers", strconv.Itoa(workers), "--max-conns", strconv.Itoa(workers+2))
				mu.Lock()
				defer mu.Unlock()
				failure = errors.Join(failure, err)
				for outcome, n := range outcomes {
					counted[outcome] += n
				}
			})
		}
		running.Wait()
		s := sample{ops: counted["claimed"], elapsed: time.Since(started)}
		wasted := counted["duplicate"] + counted["locked"]
		s.extra = map[string]float64{"wasted": float64(wasted) / float64(s.ops+wasted)}
		return s, failure
	})
}

// runBidder runs the program on the database and returns the outcomes that it reports.
func (d *database) runBidder(ctx context.Context, args ...string) (map[string]int, error) {
	cmd := exec.CommandContext(ctx, d.b.program, args...)
	cmd.Env = []string{"DATABASE_URL=" + d.url, "HOME=" + d.b.dir, "PATH=" + os.Getenv("PATH"), "BIDDER_LOG_LEVEL=error"}
	cmd.Stderr = os.Stderr
	output, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("bidder %v: %w", args, err)
	}
	var report struct {
		Outcomes map[string]int `json:"outcomes"`
	}
	if err := json.Unmarshal(output, &report); err != nil {
		return nil, fmt.Errorf("bidder %v: %w", args, err)
	}
	return report.Outcomes, nil
}
