package bidding

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/pkg/posting"
	"github.com/arbitrageai/bidder/test/testdb"
)

func TestMain(m *testing.M) { testdb.Main(m) }

func TestSmoke(t *testing.T) {
	t.Parallel()
	d := testdb.New(t)
	pool, err := db.Open(t.Context(), db.Options{URL: d.URL, MaxConns: 6})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	for i := range 200 {
		_, err := pool.Exec(t.Context(), `WITH p AS (INSERT INTO postings (marketplace, job_id, cached_at, title, budget_max_cents) VALUES ('upwork', $1::int::text, now(), 't', 1000) RETURNING *) INSERT INTO candidates (marketplace, job_id, cached_at) SELECT marketplace, job_id, cached_at FROM p`, i)
		if err != nil {
			t.Fatal(err)
		}
	}
	var counters Counters
	c := NewClaimer(pool, Limits{TTL: 5 * time.Minute, Statement: 5 * time.Second, Wait: time.Second}, Rules{PostingTTL: 24 * time.Hour, RebidWindow: 5 * time.Minute, Policy: Budget{}.Decide}, &counters, uuid.Nil)
	a, err := c.Attempt(context.Background(), posting.Key{Marketplace: "upwork", JobID: "7"}, AttemptOptions{})
	t.Log(a, err)
	a, err = c.Attempt(context.Background(), posting.Key{Marketplace: "upwork", JobID: "7"}, AttemptOptions{})
	t.Log(a, err)
	if err := c.Pass(t.Context(), PassOptions{Workers: 4, Batch: 64}); err != nil {
		t.Fatal(err)
	}
	t.Log(counters.Counts())
	rows, _ := pool.Query(t.Context(), "select status, count(*), (select count(*) from candidates) from bids group by 1")
	for rows.Next() {
		v, _ := rows.Values()
		t.Log(v)
	}
}
