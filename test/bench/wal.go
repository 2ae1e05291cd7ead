package main

import (
	"context"
	"errors"
)

// wal: what a claim makes the server write, and a standby receive.
func wal() row {
	run := func(queued bool, work func(ctx context.Context, d *database, n int) (sample, error)) func(ctx context.Context, b *bench) (sample, error) {
		return func(ctx context.Context, b *bench) (sample, error) {
			n := b.sizes.batched
			return b.onFresh(ctx, claimWorkers, n, queued, func(d *database) (sample, error) {
				// What a first change after a checkpoint adds, page images, depends on when that was.
				// Here, as with candidates that were queued a moment ago, it was before.
				if err := d.exec(ctx, "UPDATE candidates SET tries = 0 WHERE tries > 0"); err != nil {
					return sample{}, err
				}
				from, err := d.count(ctx, "SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint")
				if err != nil {
					return sample{}, err
				}
				s, err := work(ctx, d, n)
				to, lookErr := d.count(ctx, "SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint")
				s.extra = map[string]float64{"WAL bytes per bid": float64(to-from) / float64(n)}
				return s, errors.Join(err, lookErr)
			})
		}
	}
	return row{
		name: "wal", work: "WAL per claimed bid, everything included",
		bars: []bar{{measure: "WAL bytes per bid", of: "bidder", to: "raw insert of 64 rows", atMost: 1.6}},
		ways: []way{
			{"raw insert of 64 rows", run(false, func(ctx context.Context, d *database, n int) (sample, error) {
				return insertBatches(ctx, d.pool, claimWorkers, n)
			})},
			{"bidder", run(true, func(ctx context.Context, d *database, _ int) (sample, error) {
				return drain(ctx, d.pool, claimWorkers, batchSize)
			})},
		},
	}
}
