package bidding_test

import (
	"bytes"
	"context"
	"errors"
	"log"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/pkg/bidding"
	"github.com/arbitrageai/bidder/pkg/posting"
	"github.com/arbitrageai/bidder/test/testdb"
)

// A program of one's own takes part in the coordination: while it works on a posting,
// nobody bids on that, and what it writes is there at once or not at all.
func ExampleLocker_WithLock() { //nolint:testableexamples // TestExamples runs it
	ctx := context.Background()
	pool, err := db.Open(ctx, db.Options{URL: os.Getenv("DATABASE_URL"), MaxConns: 4})
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()

	var counters bidding.Counters
	locker := bidding.NewLocker(pool, bidding.Limits{TTL: time.Minute, Statement: 5 * time.Second}, &counters)

	err = locker.WithLock(ctx, "freelancer", "39812345", 10*time.Second, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE postings SET bid_amount_cents = 48000 WHERE marketplace = 'freelancer' AND job_id = '39812345'`)
		return err
	})
	switch {
	case errors.Is(err, bidding.ErrLocked):
		log.Print("somebody is bidding on it: try later")
	case errors.Is(err, bidding.ErrLockExpired):
		log.Print("it took more than a minute, and nothing was changed")
	case errors.Is(err, db.ErrCommitUnknown):
		log.Print("the connection was lost at the very end: look what the posting says")
	case err != nil:
		log.Print(err)
	}
	log.Printf("%+v", counters.Counts().Locks)
}

// A scanner of one's own bids on what it finds, from as many goroutines as it likes: they
// share transactions.
func ExampleBidder() { //nolint:testableexamples // TestExamples runs it
	ctx := context.Background()
	pool, err := db.Open(ctx, db.Options{URL: os.Getenv("DATABASE_URL"), MaxConns: 4})
	if err != nil {
		log.Print(err)
		return
	}
	defer pool.Close()

	var counters bidding.Counters
	claimer := bidding.NewClaimer(pool, bidding.Limits{TTL: time.Minute, Statement: 5 * time.Second, Wait: 10 * time.Second},
		bidding.Rules{PostingTTL: 24 * time.Hour, RebidWindow: 5 * time.Minute, Policy: bidding.Budget{}.Decide}, &counters, uuid.Nil)
	bidder := bidding.NewBidder(claimer, 64)
	defer bidder.Close()

	var scanners sync.WaitGroup
	for _, id := range []string{"39812345", "39812346", "39812347"} {
		scanners.Go(func() {
			// The posting itself was put in the cache before, by `bidder ingest` or posting.Ingest.
			key, err := posting.ParseKey("freelancer", id)
			if err != nil {
				log.Print(err)
				return
			}
			attempt, err := bidder.Bid(ctx, key, time.Second)
			switch {
			case err != nil:
				log.Print(err) // ctx has ended, or the bidder was closed
			case attempt.Outcome == bidding.Claimed:
				log.Printf("%s: bid %s, which the next `bidder run` delivers", key, attempt.BidID)
			case attempt.Outcome == bidding.Failed:
				log.Printf("%s: %v", key, attempt.Err)
			default:
				log.Printf("%s: %s %s", key, attempt.Outcome, attempt.Detail)
			}
		})
	}
	scanners.Wait()
}

func TestExamples(t *testing.T) {
	d := testdb.New(t)
	pool := d.Pool(t)
	t.Setenv("DATABASE_URL", d.URL)
	var said bytes.Buffer
	log.SetOutput(&said)
	t.Cleanup(func() { log.SetOutput(os.Stderr) })

	_, err := pool.Exec(t.Context(), `INSERT INTO postings (marketplace, job_id, cached_at, title, budget_max_cents)
		SELECT 'freelancer', job_id, now(), 'A posting', 50000 FROM unnest('{39812345,39812346,39812347}'::text[]) AS job_id`)
	if err != nil {
		t.Fatal(err)
	}
	ExampleLocker_WithLock()
	ExampleBidder()

	var amounts []int64
	err = pool.QueryRow(t.Context(), `SELECT array_agg(amount_cents ORDER BY job_id) FROM bids
		WHERE status = 'ACTIVE' AND marketplace = 'freelancer'`).Scan(&amounts)
	if err != nil {
		t.Fatal(err)
	}
	if want := []int64{48000, 50000, 50000}; !slices.Equal(amounts, want) {
		t.Errorf("amounts of the bids: %v, want %v; the examples said:\n%s", amounts, want, said.String())
	}
}
