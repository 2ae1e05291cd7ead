package bidding

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/arbitrageai/bidder/pkg/posting"
)

// BenchmarkClassify is the policy on one posting: it runs while the posting is locked.
func BenchmarkClassify(b *testing.B) {
	policy := Budget{MinCents: cents(1000), MaxCents: cents(50_000)}.Decide
	p := posting.Posting{Key: job("1"), BudgetMinCents: cents(25_000), BudgetMaxCents: cents(75_000), Bid: &posting.Bid{}}
	b.ReportAllocs()
	for b.Loop() {
		if policy(b.Context(), p, time.Time{}).AmountCents != 50_000 {
			b.Fatal("not the bound")
		}
	}
}

// BenchmarkCarry is what a [Bidder] does beside the transaction: 100 calls ride together
// and are answered.
func BenchmarkCarry(b *testing.B) {
	bidder := NewBidder(&Claimer{counters: &Counters{}}, 64)
	bidder.running = lanes // this is the lane
	keys := jobs(100)
	b.ReportAllocs()
	for b.Loop() {
		for _, key := range keys {
			_, _ = bidder.board(&call{attempt: Attempt{Key: key}, done: make(chan struct{}, 1)})
		}
		for len(bidder.queue) > 0 {
			riders := bidder.take()
			results := make([]Attempt, len(riders))
			for i, calls := range riders {
				results[i] = Attempt{Key: calls[0].attempt.Key, Outcome: Claimed, tried: true, acquired: true}
			}
			bidder.answer(riders, results)
		}
	}
}

// BenchmarkCount adds a finished batch to the counters.
func BenchmarkCount(b *testing.B) {
	attempts := make([]Attempt, 64)
	for i, key := range jobs(64) {
		attempts[i] = Attempt{Key: key, Outcome: Claimed, BidID: uuid.Must(uuid.NewV7()), CachedAt: time.Now(), acquired: true}
	}
	var counters Counters
	b.ReportAllocs()
	for b.Loop() {
		counters.add(attempts)
	}
}
