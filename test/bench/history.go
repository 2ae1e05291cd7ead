package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/arbitrageai/bidder/pkg/bidding"
	"github.com/arbitrageai/bidder/pkg/delivery"
	"github.com/arbitrageai/bidder/pkg/marketplace/manual"
)

const (
	emptyWay = "empty database"
	oldWay   = "old bids and decided postings"
	liveWay  = "and live bids"
)

// history: what has accumulated does not slow the claim down.
func history() row {
	on := func(made func(b *bench) *database) func(ctx context.Context, b *bench) (sample, error) {
		return func(ctx context.Context, b *bench) (sample, error) { return b.claimOnTop(ctx, made(b)) }
	}
	return row{
		name: "history", work: "claims with 5,000,000 old bids and 1,000,000 decided fresh postings, then 1,000,000 live bids too",
		bars: []bar{
			{measure: "rate", of: oldWay, to: emptyWay, atLeast: 0.9},
			{measure: "rate", of: liveWay, to: emptyWay, atLeast: 0.8},
		},
		prepare: func(ctx context.Context, b *bench) (func(), error) { return b.makeHistories(ctx) },
		ways: []way{
			{emptyWay, func(ctx context.Context, b *bench) (sample, error) {
				d, err := b.database(ctx, claimWorkers)
				if err != nil {
					return sample{}, err
				}
				defer d.drop(ctx)
				return b.claimOnTop(ctx, d)
			}},
			{oldWay, on(func(b *bench) *database { return b.histories[0] })},
			{liveWay, on(func(b *bench) *database { return b.histories[1] })},
		},
	}
}

// freshFrom is the number of the first posting that is neither in the history nor decided.
const freshFrom = 100_000_000

// claimOnTop claims new postings on a database, and takes them away again.
func (b *bench) claimOnTop(ctx context.Context, d *database) (sample, error) {
	n := b.sizes.claims
	live, err := d.count(ctx, "SELECT count(*) FROM bids WHERE status = 'ACTIVE'")
	if err != nil {
		return sample{}, err
	}
	if err := errors.Join(d.seed(ctx, freshFrom, n, true), d.settle(ctx)); err != nil {
		return sample{}, err
	}
	before, err := d.costs(ctx)
	if err != nil {
		return sample{}, err
	}
	s, err := drain(ctx, d.pool, claimWorkers, batchSize)
	return s, errors.Join(err, d.spent(ctx, &s, before), d.claimed(ctx, int(live)+n),
		d.exec(ctx, "SET session_replication_role = replica"), // a live bid cannot be deleted otherwise
		d.exec(ctx, "DELETE FROM bids WHERE job_id >= 'job-100000000'"),
		d.exec(ctx, "DELETE FROM postings WHERE job_id >= 'job-100000000'"),
		d.exec(ctx, "SET session_replication_role = origin"), d.settle(ctx))
}

// makeHistories fills the two databases with a past.
func (b *bench) makeHistories(ctx context.Context) (func(), error) {
	if b.histories != nil {
		return func() {}, nil // emptyPass goes on with them
	}
	var err error
	for range 2 {
		d, openErr := b.database(ctx, claimWorkers)
		if openErr != nil {
			return nil, openErr
		}
		b.histories = append(b.histories, d)
		err = errors.Join(err,
			d.exec(ctx, `INSERT INTO bids (id, marketplace, job_id, status, amount_cents, created_at, submitted_at, external_bid_id)
				SELECT gen_random_uuid(), 'market' || i % 5, 'old-' || lpad(i::text, 9, '0'), 'LOST', 50000,
					clock_timestamp() - interval '90 days' + i * interval '1 second', clock_timestamp() - interval '90 days', 'ext-' || i
				FROM generate_series(1, $1::integer) AS i`, b.sizes.history),
			d.seed(ctx, 0, b.sizes.decided, false),
			d.exec(ctx, `INSERT INTO bids (id, marketplace, job_id, status, amount_cents, created_at)
				SELECT gen_random_uuid(), marketplace, job_id, 'LOST', 50000, clock_timestamp() - interval '1 hour' FROM postings`))
	}
	d := b.histories[1]
	err = errors.Join(err, d.exec(ctx, `INSERT INTO bids (id, marketplace, job_id, status, amount_cents, created_at, submitted_at, external_bid_id)
		SELECT gen_random_uuid(), 'market' || i % 5, 'live-' || lpad(i::text, 9, '0'), 'ACTIVE', 50000,
			clock_timestamp() - interval '2 days', clock_timestamp() - interval '2 days', 'live-' || i
		FROM generate_series(1, $1::integer) AS i`, b.sizes.live))
	for _, d := range b.histories {
		err = errors.Join(err, d.settle(ctx))
	}
	return func() {}, err
}

// emptyPass: a pass that finds nothing to do costs nothing, whatever there is.
func emptyPass() row {
	return row{
		name: "empty", work: "a pass with nothing to do, on the largest of these databases",
		bars: []bar{
			{measure: "buffers", of: "bidder", atMost: 200},
			{measure: "time", of: "bidder", atMost: 0.05},
		},
		prepare: func(ctx context.Context, b *bench) (func(), error) {
			if _, err := b.makeHistories(ctx); err != nil {
				return nil, err
			}
			return func() {
				for _, d := range b.histories {
					d.drop(ctx)
				}
				b.histories = nil
			}, nil
		},
		ways: []way{{"bidder", func(ctx context.Context, b *bench) (sample, error) {
			d := b.histories[1]
			err := errors.Join(
				d.exec(ctx, "CREATE EXTENSION IF NOT EXISTS pg_stat_statements"),
				d.exec(ctx, "SELECT pg_stat_statements_reset()"),
				d.exec(ctx, "ALTER DATABASE "+d.name+" SET pg_stat_statements.track = 'all'"))
			if err != nil {
				return sample{}, err
			}
			pool, err := warmPool(ctx, d.url, 6)
			if err != nil {
				return sample{}, err
			}
			defer pool.Close()
			if err := d.exec(ctx, "SELECT pg_stat_statements_reset()"); err != nil {
				return sample{}, err
			}
			var counters bidding.Counters
			engine := delivery.New(pool, delivery.Options{
				Account: func(string) (delivery.Account, error) { return delivery.Account{Client: manual.Client{}}, nil },
				Lease:   5 * time.Minute, PostingTTL: 24 * time.Hour, RetryMax: 8,
			}, nil, &delivery.Counters{}, slog.New(slog.DiscardHandler))
			started := time.Now()
			err = errors.Join(newClaimer(pool, &counters).Pass(ctx, bidding.PassOptions{Workers: 4, Batch: batchSize}), engine.Pass(ctx, 4))
			s := sample{ops: 1, elapsed: time.Since(started)}
			buffers, countErr := d.count(ctx, `SELECT coalesce(sum(shared_blks_hit + shared_blks_read), 0)::bigint FROM pg_stat_statements
				WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())`)
			s.extra = map[string]float64{"buffers": float64(buffers)}
			return s, errors.Join(err, countErr)
		}}},
	}
}
