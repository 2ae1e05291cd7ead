package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/pkg/delivery"
	"github.com/arbitrageai/bidder/pkg/marketplace"
	"github.com/arbitrageai/bidder/pkg/posting"
	"github.com/arbitrageai/bidder/pkg/retention"
	"github.com/arbitrageai/bidder/test/messages"
)

// showing is an instant marketplace that shows all bids in a status.
type showing struct {
	instant
	status marketplace.Status
}

func (s showing) Lookup(_ context.Context, bid marketplace.Bid) marketplace.Finding {
	return marketplace.Finding{Known: true, Found: true, ExternalID: bid.ID.String(), Status: s.status}
}

// step is a part of a bid's life.
type step struct {
	name string
	// prepare, unless nil, is done before and not measured.
	prepare string
	do      func(ctx context.Context, b *bench, pool *pgxpool.Pool, n int) error
	// done is a number that must be that of the bids.
	done string
}

const lifeWorkers = 4 // the default of BIDDER_WORKERS

// life: what a bid costs from its posting to its deletion, step by step.
func life() row {
	waiting := map[string][]sample{} // a life is lived at once, but its steps are ways of their own
	r := row{name: "life", work: "the whole life of a bid, for each"}
	for _, s := range steps() {
		r.ways = append(r.ways, way{s.name, func(ctx context.Context, b *bench) (sample, error) {
			if len(waiting[s.name]) == 0 {
				if err := b.live(ctx, waiting); err != nil {
					return sample{}, err
				}
			}
			next := waiting[s.name][0]
			waiting[s.name] = waiting[s.name][1:]
			return next, nil
		}})
	}
	return r
}

func steps() []step {
	refresh := func(status marketplace.Status) func(ctx context.Context, _ *bench, pool *pgxpool.Pool, _ int) error {
		return func(ctx context.Context, _ *bench, pool *pgxpool.Pool, _ int) error {
			return newEngine(pool, showing{status: status}).Refresh(ctx, lifeWorkers)
		}
	}
	const due = "UPDATE bids SET checked_at = clock_timestamp() - interval '2 hours'"
	return []step{
		{name: "ingest", done: "SELECT count(*) FROM candidates", do: func(ctx context.Context, b *bench, pool *pgxpool.Pool, _ int) error {
			lines := filepath.Join(b.dir, "life.ndjson")
			file, err := os.Open(lines)
			if err != nil {
				return err
			}
			defer file.Close()
			_, err = posting.Ingest(ctx, pool, lifeLimits(), posting.NewDecoder(file, posting.Options{Now: time.Now, DefaultCurrency: "USD"}), posting.Observer{})
			return err
		}},
		{name: "claim", done: "SELECT count(*) FROM bids WHERE delivery_kind = 'place'", do: func(ctx context.Context, _ *bench, pool *pgxpool.Pool, _ int) error {
			_, err := drain(ctx, pool, lifeWorkers, batchSize)
			return err
		}},
		{name: "delivery", done: "SELECT count(*) FROM bids WHERE submitted_at IS NOT NULL", do: func(ctx context.Context, _ *bench, pool *pgxpool.Pool, _ int) error {
			return newEngine(pool, instant{}).Pass(ctx, lifeWorkers)
		}},
		{name: "look-up", prepare: due, done: "SELECT count(*) FROM bids WHERE status = 'ACTIVE' AND seen_at > clock_timestamp() - interval '5 minutes'", do: refresh(marketplace.Submitted)},
		{name: "end", prepare: due, done: "SELECT count(*) FROM bids WHERE status = 'LOST'", do: refresh(marketplace.Lost)},
		{
			// What is newest of a posting, and of those with an id, stays for ever: each bid gets a later one, not counted here.
			name: "prune", prepare: `SET session_replication_role = replica;
				UPDATE bids SET created_at = created_at - interval '90 days', updated_at = updated_at - interval '90 days', last_post_at = NULL, place_posts = 0, submitted_at = NULL;
				UPDATE postings SET cached_at = cached_at - interval '90 days', updated_at = updated_at - interval '90 days';
				INSERT INTO bids (marketplace, job_id, status, amount_cents, external_bid_id) SELECT marketplace, job_id, 'LOST', amount_cents, external_bid_id FROM bids;
				SET session_replication_role = origin`,
			done: "SELECT count(*) FROM bids WHERE NOT EXISTS (SELECT FROM postings) AND NOT EXISTS (SELECT FROM bid_events)",
			do: func(ctx context.Context, _ *bench, pool *pgxpool.Pool, _ int) error {
				_, _, err := retention.Pruner{Pool: pool, Limits: lifeLimits(), Age: retention.Age(0)}.Prune(ctx)
				return err
			},
		},
	}
}

func lifeLimits() db.Limits {
	return db.Limits{Statement: time.Minute, Lock: time.Second, Idle: time.Minute, Life: 5 * time.Minute}
}

// newEngine is an engine whose marketplaces all are the same.
func newEngine(pool *pgxpool.Pool, client marketplace.Client) *delivery.Engine {
	return delivery.New(pool, delivery.Options{
		Account: func(string) (delivery.Account, error) {
			return delivery.Account{Client: client, Settle: 10 * time.Minute, Refresh: time.Hour, AskAfter: 14 * 24 * time.Hour}, nil
		},
		Lease: 5 * time.Minute, PostingTTL: 24 * time.Hour, RetryBase: time.Second, RetryCap: time.Minute, RetryMax: 8,
	}, nil, &delivery.Counters{}, slog.New(slog.DiscardHandler))
}

// live has bids live from the beginning to the end, and adds what each step cost.
func (b *bench) live(ctx context.Context, lived map[string][]sample) error {
	n := b.sizes.life
	lines, copied := filepath.Join(b.dir, "life.ndjson"), filepath.Join(b.dir, "life.copy")
	if err := writePostings(lines, copied, n); err != nil {
		return err
	}
	d, err := b.database(ctx, 1)
	if err != nil {
		return err
	}
	defer d.drop(ctx)
	for _, step := range steps() {
		s, err := b.step(ctx, d, step, n)
		if err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
		lived[step.name] = append(lived[step.name], s)
	}
	return nil
}

func (b *bench) step(ctx context.Context, d *database, step step, n int) (sample, error) {
	s := sample{ops: n}
	if err := errors.Join(d.exec(ctx, step.prepare), d.settle(ctx)); err != nil {
		return s, err
	}
	trips := &messages.Counter{}
	pool, err := trips.Pool(ctx, d.pool, lifeWorkers+2)
	if err != nil {
		return s, err
	}
	defer pool.Close()
	before, err := d.costs(ctx)
	if err != nil {
		return s, err
	}
	started := time.Now()
	err = step.do(ctx, b, pool, n)
	s.elapsed = time.Since(started)
	if err := errors.Join(err, d.spent(ctx, &s, before), d.expect(ctx, n, step.name, step.done)); err != nil {
		return s, err
	}
	s.extra["round trips"] = float64(trips.Sent()) / float64(n)
	s.extra["connections"] = float64(pool.Stat().TotalConns())
	for _, table := range []string{"postings", "candidates", "bids", "bid_events"} {
		size, err := d.count(ctx, "SELECT pg_total_relation_size($1)", table)
		if err != nil {
			return s, err
		}
		s.extra["bytes of "+table] = float64(size) / float64(n)
	}
	return s, nil
}
