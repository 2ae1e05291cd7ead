package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
)

//go:embed partitioned.sql
var partition string

const (
	wholeWay     = "one table"
	partsWay     = "8 partitions"
	wholeFullWay = "one table, full"
	partsFullWay = "8 partitions, full"
)

// partitioned: the same claim on tables that are cut into hash partitions by the key of the
// lock and of the unique index.
func partitioned() row {
	var full [2]*database // as they are, and partitioned
	return row{
		name: "partitioned", work: "the claim on hash partitions of bids and postings, empty and with what has accumulated",
		prepare: func(ctx context.Context, b *bench) (func(), error) {
			undo := func() {
				for _, d := range full {
					if d != nil {
						d.drop(ctx)
					}
				}
			}
			for i, parts := range []bool{false, true} {
				d, err := b.partitions(ctx, parts)
				if err != nil {
					return undo, err
				}
				full[i] = d
				if err := d.fill(ctx, b.sizes.partitioned); err != nil {
					return undo, err
				}
			}
			return undo, nil
		},
		ways: []way{
			{wholeWay, func(ctx context.Context, b *bench) (sample, error) { return b.claimOnEmpty(ctx, false) }},
			{partsWay, func(ctx context.Context, b *bench) (sample, error) { return b.claimOnEmpty(ctx, true) }},
			{wholeFullWay, func(ctx context.Context, b *bench) (sample, error) { return b.claimOnTop(ctx, full[0]) }},
			{partsFullWay, func(ctx context.Context, b *bench) (sample, error) { return b.claimOnTop(ctx, full[1]) }},
		},
		note: func(r result) string {
			return fmt.Sprintf("8 partitions came to %.2f of the rate of one table, and with what has accumulated to %.2f. [Scaling](scaling.md) says what they cost besides.",
				r.of(bar{measure: "rate", of: partsWay, to: wholeWay}), r.of(bar{measure: "rate", of: partsFullWay, to: wholeFullWay}))
		},
	}
}

// partitions makes a database, with partitions or without.
func (b *bench) partitions(ctx context.Context, parts bool) (*database, error) {
	d, err := b.database(ctx, claimWorkers)
	if err == nil && parts {
		err = d.exec(ctx, partition)
	}
	return d, err
}

// fill adds as many decided postings, each with a bid that has ended, and half as many live bids.
func (d *database) fill(ctx context.Context, n int) error {
	return errors.Join(
		d.seed(ctx, 0, n, false),
		d.exec(ctx, `INSERT INTO bids (id, marketplace, job_id, status, amount_cents, created_at)
			SELECT gen_random_uuid(), marketplace, job_id, 'LOST', 50000, clock_timestamp() - interval '1 hour' FROM postings`),
		d.exec(ctx, `INSERT INTO bids (id, marketplace, job_id, amount_cents, created_at, submitted_at, external_bid_id)
			SELECT gen_random_uuid(), 'market' || i % 5, 'live-' || lpad(i::text, 9, '0'), 50000,
				clock_timestamp() - interval '2 days', clock_timestamp() - interval '2 days', 'live-' || i
			FROM generate_series(1, $1::integer / 2) AS i`, n),
		d.settle(ctx))
}

func (b *bench) claimOnEmpty(ctx context.Context, parts bool) (sample, error) {
	d, err := b.partitions(ctx, parts)
	if err != nil {
		return sample{}, err
	}
	defer d.drop(ctx)
	return b.claimOnTop(ctx, d)
}
