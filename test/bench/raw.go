package main

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/arbitrageai/bidder/pkg/bidding"
	"github.com/arbitrageai/bidder/pkg/posting"
)

// batchSize is the default of BIDDER_BATCH.
const batchSize = 64

// key is the posting of that number, as seed makes it.
func key(i int) posting.Key {
	return posting.Key{Marketplace: fmt.Sprintf("market%d", i%5), JobID: fmt.Sprintf("job-%09d", i)}
}

// rawRow is the floor of single claims: the bare bid, as the claim would write it.
const rawRow = `INSERT INTO bids (id, marketplace, job_id, amount_cents, posting_cached_at, delivery_kind, delivery_state, next_attempt_at)
	VALUES ($1, $2, $3, 50000, $4, 'place', 'pending', $4)
	ON CONFLICT (marketplace, job_id) WHERE status = 'ACTIVE' DO NOTHING`

func insertRow(ctx context.Context, pool *pgxpool.Pool, i int) error {
	k := key(i)
	_, err := pool.Exec(ctx, rawRow, uuid.Must(uuid.NewV7()), k.Marketplace, k.JobID, time.Now())
	return err
}

// rawRows is the floor of batches.
const rawRows = `INSERT INTO bids (id, marketplace, job_id, amount_cents, posting_cached_at, delivery_kind, delivery_state, next_attempt_at)
	SELECT id, marketplace, job_id, 50000, $4, 'place', 'pending', $4
	FROM unnest($1::uuid[], $2::text[], $3::text[]) AS r(id, marketplace, job_id)
	ON CONFLICT (marketplace, job_id) WHERE status = 'ACTIVE' DO NOTHING`

// execer is a pool or a transaction.
type execer interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

// insertRows inserts the bids of the postings from to from+n-1.
func insertRows(ctx context.Context, conn execer, from, n int) error {
	ids, marketplaces, jobIDs := make([]uuid.UUID, n), make([]string, n), make([]string, n)
	for i := range n {
		k := key(from + i)
		ids[i], marketplaces[i], jobIDs[i] = uuid.Must(uuid.NewV7()), k.Marketplace, k.JobID
	}
	_, err := conn.Exec(ctx, rawRows, ids, marketplaces, jobIDs, time.Now())
	return err
}

// insertBatches inserts n bids in batches, and counts bids.
func insertBatches(ctx context.Context, pool *pgxpool.Pool, workers, n int) (sample, error) {
	batches := (n + batchSize - 1) / batchSize
	s, err := spread(workers, batches, func(_, i int) error {
		return insertRows(ctx, pool, i*batchSize, min(batchSize, n-i*batchSize))
	})
	s.ops = n
	return s, err
}

// newClaimer is a claimer with the program's defaults.
func newClaimer(pool *pgxpool.Pool, counters *bidding.Counters) *bidding.Claimer {
	return bidding.NewClaimer(pool,
		bidding.Limits{TTL: 5 * time.Minute, Statement: 5 * time.Second, Wait: 10 * time.Second},
		bidding.Rules{PostingTTL: 24 * time.Hour, RebidWindow: 5 * time.Minute, Policy: bidding.Budget{}.Decide, Terms: bidding.Budget{}.Terms}, counters, uuid.Nil)
}

// drain claims all candidates in one pass, and counts bids.
func drain(ctx context.Context, pool *pgxpool.Pool, workers, size int) (sample, error) {
	var counters bidding.Counters
	started := time.Now()
	err := newClaimer(pool, &counters).Pass(ctx, bidding.PassOptions{Workers: workers, Batch: size})
	s := sample{elapsed: time.Since(started)}
	counts := counters.Counts()
	s.ops = int(counts.Outcomes[bidding.Claimed])
	s.extra = map[string]float64{"wasted": 1 - float64(s.ops)/float64(max(counts.Attempts, 1))}
	return s, err
}
