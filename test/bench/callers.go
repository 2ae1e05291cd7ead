package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/arbitrageai/bidder/pkg/bidding"
)

const (
	goroutines = 100
	// lockWait is the default of BIDDER_LOCK_WAIT. Nobody locks these postings, but on a busy
	// machine a wait for the table to be extended can exceed the claim's lock_timeout.
	lockWait = 10 * time.Second
)

// callers: a program that embeds the package, and calls from 100 goroutines.
func callers() row {
	return row{
		name: "callers", work: "library callers one by one, 100 goroutines in one process",
		bars: []bar{
			{measure: "rate", of: "bidder, coalesced", to: "raw single-row insert", atLeast: 3},
			{measure: "p99", of: "bidder, coalesced", to: "raw single-row insert", atMost: 1.0 / 3},
			// They take the same way, so this is 1 but for noise. With the attempt handed to another goroutine it was 0.84 to 0.94.
			{measure: "rate", of: "bidder, one caller", to: "one caller, one transaction", atLeast: 0.95},
		},
		ways: []way{
			{"raw single-row insert", func(ctx context.Context, b *bench) (sample, error) {
				return b.onFresh(ctx, goroutines, b.sizes.single, false, func(d *database) (sample, error) {
					return spread(goroutines, b.sizes.single, func(_, i int) error { return insertRow(ctx, d.pool, i) })
				})
			}},
			{"bidder, coalesced", func(ctx context.Context, b *bench) (sample, error) {
				return b.onFresh(ctx, 4, b.sizes.single, true, func(d *database) (sample, error) {
					bidder := bidding.NewBidder(newClaimer(d.pool, &bidding.Counters{}), batchSize)
					defer bidder.Close()
					return spread(goroutines, b.sizes.single, func(_, i int) error { return claim(ctx, bidder, i) })
				})
			}},
			{"bidder, one transaction each", func(ctx context.Context, b *bench) (sample, error) {
				return b.onFresh(ctx, claimWorkers, b.sizes.single, true, func(d *database) (sample, error) {
					claimer := newClaimer(d.pool, &bidding.Counters{})
					return spread(goroutines, b.sizes.single, func(_, i int) error {
						a, err := claimer.Attempt(ctx, key(i), bidding.AttemptOptions{Wait: lockWait})
						return errors.Join(err, mustBe(a, bidding.Claimed))
					})
				})
			}},
			{"bidder, one caller", func(ctx context.Context, b *bench) (sample, error) {
				n := b.sizes.single / 5
				return b.onFresh(ctx, 4, n, true, func(d *database) (sample, error) {
					bidder := bidding.NewBidder(newClaimer(d.pool, &bidding.Counters{}), batchSize)
					defer bidder.Close()
					return spread(1, n, func(_, i int) error { return claim(ctx, bidder, i) })
				})
			}},
			{"one caller, one transaction", func(ctx context.Context, b *bench) (sample, error) {
				n := b.sizes.single / 5
				return b.onFresh(ctx, 4, n, true, func(d *database) (sample, error) {
					claimer := newClaimer(d.pool, &bidding.Counters{})
					return spread(1, n, func(_, i int) error {
						a, err := claimer.Attempt(ctx, key(i), bidding.AttemptOptions{Wait: lockWait})
						return errors.Join(err, mustBe(a, bidding.Claimed))
					})
				})
			}},
		},
	}
}

func claim(ctx context.Context, bidder *bidding.Bidder, i int) error {
	a, err := bidder.Bid(ctx, key(i), lockWait)
	return errors.Join(err, mustBe(a, bidding.Claimed))
}

func mustBe(a bidding.Attempt, outcome bidding.Outcome) error {
	if a.Outcome != outcome {
		return fmt.Errorf("NOT EXACT: %s: %s %s %w", a.Key, a.Outcome, a.Detail, a.Err)
	}
	return nil
}
