package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/arbitrageai/bidder/pkg/delivery"
	"github.com/arbitrageai/bidder/pkg/marketplace"
)

// instant is a marketplace that answers at once.
type instant struct{}

func (instant) Capabilities() marketplace.Capabilities {
	return marketplace.Capabilities{Dedup: marketplace.IdempotencyKey, LookupIsAuthoritative: true, Timeout: time.Second}
}

func (instant) Place(_ context.Context, bid marketplace.Bid) marketplace.Result {
	return marketplace.Result{Kind: marketplace.Done, ExternalID: bid.ID.String(), Status: 201}
}

func (instant) Lookup(context.Context, marketplace.Bid) marketplace.Finding {
	return marketplace.Finding{Known: true}
}

func (instant) Withdraw(context.Context, marketplace.Bid) marketplace.Result {
	return marketplace.Result{Kind: marketplace.Done, Status: 200}
}

// deliveries: the bookkeeping of a delivery against the three changes of the row that it
// consists of, each durable before the next. Here nothing comes between the first two, so
// bidder makes them at once.
func deliveries() row {
	const workers = 4
	return row{
		name: "deliveries", work: "delivery bookkeeping (lease, arm, record), 4 workers, instant marketplace",
		bars: []bar{{measure: "rate", of: "bidder", to: "three raw UPDATEs", atLeast: 0.8}},
		ways: []way{
			{"three raw UPDATEs", func(ctx context.Context, b *bench) (sample, error) {
				n := b.sizes.deliveries
				return b.onFresh(ctx, workers, n, false, func(d *database) (sample, error) {
					ids, err := d.owed(ctx, n)
					if err != nil {
						return sample{}, err
					}
					return spread(workers, n, func(_, i int) error {
						for _, sql := range []string{
							`UPDATE bids SET delivery_state = 'leased', lease_token = lease_token + 1,
								lease_expires_at = clock_timestamp() + interval '5 minutes', next_attempt_at = clock_timestamp() + interval '5 minutes' WHERE id = $1`,
							`UPDATE bids SET place_posts = place_posts + 1, first_post_at = clock_timestamp(), last_post_at = clock_timestamp() WHERE id = $1`,
							`UPDATE bids SET external_bid_id = id::text, submitted_at = clock_timestamp(), delivery_kind = NULL, delivery_state = NULL,
								next_attempt_at = NULL, lease_expires_at = NULL WHERE id = $1`,
						} {
							if _, err := d.pool.Exec(ctx, sql, ids[i]); err != nil {
								return err
							}
						}
						return nil
					})
				})
			}},
			{"bidder", func(ctx context.Context, b *bench) (sample, error) {
				n := b.sizes.deliveries
				return b.onFresh(ctx, workers, n, false, func(d *database) (sample, error) {
					if _, err := d.owed(ctx, n); err != nil {
						return sample{}, err
					}
					var counters delivery.Counters
					engine := delivery.New(d.pool, delivery.Options{
						Account: func(string) (delivery.Account, error) {
							return delivery.Account{Client: instant{}, Settle: 10 * time.Minute}, nil
						},
						Lease: 5 * time.Minute, PostingTTL: 24 * time.Hour, RetryBase: time.Second, RetryCap: time.Minute, RetryMax: 8,
					}, nil, &counters, slog.New(slog.DiscardHandler))
					started := time.Now()
					err := engine.Pass(ctx, workers)
					s := sample{ops: n, elapsed: time.Since(started)}
					if done := counters.Totals().Place.Done; err == nil && done != int64(n) {
						err = fmt.Errorf("NOT EXACT: %d of %d placed", done, n)
					}
					return s, errors.Join(err, d.expect(ctx, n, "submitted once",
						"SELECT count(*) FROM bids WHERE submitted_at IS NOT NULL AND delivery_kind IS NULL AND place_posts = 1"))
				})
			}},
		},
	}
}

// owed makes n bids that owe their placing.
func (d *database) owed(ctx context.Context, n int) ([]uuid.UUID, error) {
	if err := insertRows(ctx, d.pool, 0, n); err != nil {
		return nil, err
	}
	if err := d.settle(ctx); err != nil {
		return nil, err
	}
	rows, err := d.pool.Query(ctx, "SELECT id FROM bids ORDER BY id")
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
}
