package main

import (
	"context"
	"errors"
)

const claimWorkers = 32

// batched: the claim of a pass against the bare insert of the same rows.
func batched() row {
	return row{
		name: "batched", work: "claims in batches of 64, 32 workers, distinct postings",
		bars: []bar{{measure: "rate", of: "bidder", to: "raw insert of 64 rows", atLeast: 0.65}},
		ways: []way{
			{"raw insert of 64 rows", func(ctx context.Context, b *bench) (sample, error) {
				return b.onFresh(ctx, claimWorkers, b.sizes.batched, false, func(d *database) (sample, error) {
					return insertBatches(ctx, d.pool, claimWorkers, b.sizes.batched)
				})
			}},
			{"bidder", func(ctx context.Context, b *bench) (sample, error) {
				return b.onFresh(ctx, claimWorkers, b.sizes.batched, true, func(d *database) (sample, error) {
					return drain(ctx, d.pool, claimWorkers, batchSize)
				})
			}},
		},
	}
}

// onFresh runs work on a new database with n postings, and checks that each has its bid.
func (b *bench) onFresh(ctx context.Context, conns, n int, queued bool, work func(d *database) (sample, error)) (sample, error) {
	d, err := b.database(ctx, conns)
	if err != nil {
		return sample{}, err
	}
	defer d.drop(ctx)
	if err := errors.Join(d.seed(ctx, 0, n, queued), d.settle(ctx)); err != nil {
		return sample{}, err
	}
	s, err := work(d)
	return s, errors.Join(err, d.claimed(ctx, n))
}
