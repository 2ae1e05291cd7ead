package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/arbitrageai/bidder/pkg/bidding"
)

// rivals is how many callers attempt each posting at once. Each has a pool and a Bidder of
// its own, as processes do, and goroutines enough to fill its batches.
const (
	rivals        = 8
	rivalRoutines = 16
)

// contended: everybody wants every posting.
func contended() row {
	return row{
		name: "contended", work: "every posting attempted by 8 callers at once, counted in attempts",
		bars: []bar{{measure: "rate", of: "8 callers at once", to: "uncontended", atLeast: 1}},
		ways: []way{
			{"uncontended", func(ctx context.Context, b *bench) (sample, error) {
				// As many attempts, each on a posting of its own.
				return b.rivals(ctx, rivals*b.sizes.contended, func(rival, i int) int { return rival*b.sizes.contended + i })
			}},
			{"8 callers at once", func(ctx context.Context, b *bench) (sample, error) {
				return b.rivals(ctx, b.sizes.contended, func(_, i int) int { return i })
			}},
		},
	}
}

// rivals has each of the rivals attempt as many postings, which posting says.
func (b *bench) rivals(ctx context.Context, postings int, posting func(rival, i int) int) (sample, error) {
	return b.onFresh(ctx, 1, postings, true, func(d *database) (sample, error) {
		var (
			mu      sync.Mutex
			running sync.WaitGroup
			total   = sample{ops: rivals * b.sizes.contended, extra: map[string]float64{}}
			failure error
			bidders [rivals]*bidding.Bidder
			counts  bidding.Counters
		)
		for r := range bidders {
			pool, err := warmPool(ctx, d.url, 2)
			if err != nil {
				return total, err
			}
			defer pool.Close()
			bidders[r] = bidding.NewBidder(newClaimer(pool, &counts), batchSize)
			defer bidders[r].Close()
		}
		started := time.Now()
		for r := range rivals {
			running.Go(func() {
				s, err := spread(rivalRoutines, b.sizes.contended, func(_, i int) error {
					a, err := bidders[r].Bid(ctx, key(posting(r, i)), 0)
					switch a.Outcome {
					case bidding.Claimed, bidding.Duplicate, bidding.Locked:
					default:
						err = errors.Join(err, fmt.Errorf("NOT EXACT: %s: %s %s %w", a.Key, a.Outcome, a.Detail, a.Err))
					}
					return err
				})
				mu.Lock()
				defer mu.Unlock()
				total.latencies = append(total.latencies, s.latencies...)
				failure = errors.Join(failure, err)
			})
		}
		running.Wait()
		total.elapsed = time.Since(started)
		for outcome, n := range counts.Counts().Outcomes {
			if n > 0 {
				total.extra[string(outcome)] = float64(n)
			}
		}
		return total, failure
	})
}
