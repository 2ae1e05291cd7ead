package delivery_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/arbitrageai/bidder/pkg/bidding"
	"github.com/arbitrageai/bidder/pkg/marketplace"
	"github.com/arbitrageai/bidder/pkg/marketplace/sandbox"
	"github.com/arbitrageai/bidder/pkg/posting"
	"github.com/arbitrageai/bidder/pkg/withdraw"
	"github.com/arbitrageai/bidder/test/deliverytest"
)

// TestClaimAgainstWithdrawal: while one bid is taken back and the posting is bid on again, at
// once and by several pods, there are never two live bids on it. The marketplace has no
// rule against that.
func TestClaimAgainstWithdrawal(t *testing.T) {
	t.Parallel()
	const rounds = 100
	w, s := deliverytest.New(t), deliverytest.NewSandbox(t, sandbox.Rules{Idempotent: true})
	first := w.Bid("", "upwork", "the-job")
	w.Exec("UPDATE postings SET bid_amount_cents = 48000")
	client := s.Client("upwork")
	engines := []*deliverytest.Engine{w.Engine(client), w.Engine(client)}
	claimer := bidding.NewClaimer(w.Pool, bidding.Limits{TTL: time.Minute, Statement: time.Minute, Wait: time.Second},
		bidding.Rules{PostingTTL: 24 * time.Hour, Policy: bidding.Budget{}.Decide}, &bidding.Counters{}, uuid.Nil)
	key, live := posting.Key{Marketplace: "upwork", JobID: "the-job"}, first.ID
	for round := range rounds {
		if round%2 == 0 { // else it races with its own placing too
			pass(t, engines[0], 1)
		}
		var group errgroup.Group
		for _, engine := range engines {
			group.Go(func() error { return engine.Pass(t.Context(), 1) })
		}
		group.Go(func() error {
			_, _, err := withdraw.Request(t.Context(), w.SQL, deliverytest.Limits(), live, "round "+fmt.Sprint(round), "ops")
			return err
		})
		group.Go(func() error {
			_, err := claimer.Attempt(t.Context(), key, bidding.AttemptOptions{Wait: time.Second})
			return err
		})
		if err := group.Wait(); err != nil {
			t.Fatal(err)
		}
		if n := s.Live("the-job"); n > 1 {
			t.Fatalf("round %d: %d live bids", round, n)
		}
		// What was taken back makes room for the next one; it may have been claimed already.
		deliverytest.Eventually(t, "there is a new live row", func() bool {
			pass(t, engines[0], 1)
			if _, err := claimer.Attempt(t.Context(), key, bidding.AttemptOptions{Wait: time.Second}); err != nil {
				t.Fatal(err)
			}
			row := deliverytest.Value[uuid.UUID](w, "SELECT id FROM bids WHERE status = 'ACTIVE'")
			isNew := row != live
			live = row
			return isNew
		})
	}
	pass(t, engines[0], 1)
	bids := s.Bids()
	for i, bid := range bids[1:] {
		if before := bids[i]; isLive(before) || before.UpdatedAt.After(bid.PlacedAt) {
			t.Errorf("two live bids at once:\n\t%+v\n\t%+v", before, bid)
		}
	}
	owner := w.Row(live)
	if !slices.ContainsFunc(bids, func(bid sandbox.Bid) bool {
		return isLive(bid) && owner.ExternalBidID != nil && bid.ExternalID == *owner.ExternalBidID
	}) {
		t.Errorf("%s, but the marketplace has %+v", w.State(live), bids[len(bids)-1])
	}
	if len(bids) < rounds/2 {
		t.Errorf("only %d bids were placed", len(bids))
	}
}

// TestDeliverBidWaits: what one bid owes is delivered also where somebody holds its row for a moment, as who asks for its
// withdrawal once more does.
func TestDeliverBidWaits(t *testing.T) {
	t.Parallel()
	w := deliverytest.New(t)
	script, bid := deliverytest.NewScript(marketplace.IdempotencyKey), w.Bid(unsent)
	holder, err := w.SQL.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = holder.Rollback(context.WithoutCancel(t.Context())) }()
	if _, err := holder.Exec(t.Context(), "SELECT FROM bids WHERE id = $1 FOR UPDATE", bid.ID); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.Engine(script).Attempt(bid)
	}()
	deliverytest.Eventually(t, "it waits", func() bool {
		return deliverytest.Value[bool](w, "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')")
	})
	if err := holder.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-done
	if got, want := w.State(bid.ID), "ACTIVE submitted e-1 posts=1"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
