package withdraw_test

import (
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/config"
	"github.com/arbitrageai/bidder/pkg/marketplace"
	"github.com/arbitrageai/bidder/pkg/marketplace/sandbox"
	"github.com/arbitrageai/bidder/test/deliverytest"
)

// market is a world with a sandbox that keeps doubles out, and one bid that is live there.
func market(t *testing.T) (*deliverytest.World, *deliverytest.Sandbox, *deliverytest.Engine, queries.Bid) {
	t.Helper()
	w, s := deliverytest.New(t), deliverytest.NewSandbox(t, sandbox.Rules{Idempotent: true, NaturalKey: true})
	bid := w.Bid("", "upwork")
	engine := w.Engine(s.Client("upwork"))
	engine.Attempt(bid)
	if bid = w.Row(bid.ID); bid.SubmittedAt == nil || s.Live(bid.JobID) != 1 {
		t.Fatal(w.State(bid.ID))
	}
	return w, s, engine, bid
}

// TestTenEngines: however many pods see it, what is asked for is done once.
func TestTenEngines(t *testing.T) {
	t.Parallel()
	w, s, _, bid := market(t)
	request(t, w, bid.ID, "a mistake")
	client := s.Client("upwork")
	var group errgroup.Group
	for range 10 {
		engine := w.Engine(client)
		group.Go(func() error {
			request(t, w, bid.ID, "again")
			return engine.Pass(t.Context(), 2)
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	row := w.Row(bid.ID)
	if row.Status != "WITHDRAWN" || *row.WithdrawnReason != "a mistake" || s.Calls(sandbox.Withdraw) != 1 || s.Live(bid.JobID) != 0 {
		t.Errorf("%s, %d retractions", w.State(bid.ID), s.Calls(sandbox.Withdraw))
	}
	if stored := s.Bids()[0]; stored.Status != marketplace.Withdrawn || stored.WithdrawReason != "a mistake" {
		t.Errorf("%+v", stored)
	}
	request(t, w, bid.ID, "again")
	if got := w.Row(bid.ID); got.UpdatedAt != row.UpdatedAt {
		t.Errorf("asked again: %+v", got)
	}
}

// TestLostRetraction: a retraction without an answer is not believed, neither that it
// happened nor that it did not, until it was read.
func TestLostRetraction(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		fault sandbox.Fault
		calls int
	}{
		{"it happened", sandbox.Fault{Do: sandbox.Drop, When: sandbox.After}, 1},
		{"it did not", sandbox.Fault{Do: sandbox.Drop, When: sandbox.Before}, 2},
		{"a lie", sandbox.Fault{Do: sandbox.Answer, Status: 500, When: sandbox.After}, 1},
		{"pending", sandbox.Fault{Do: sandbox.Answer, Status: 202}, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w, s, engine, bid := market(t)
			tt.fault.Op, tt.fault.Count = sandbox.Withdraw, 1
			s.Fault(tt.fault)
			request(t, w, bid.ID, "a mistake")
			engine.Attempt(bid)
			if row := w.Row(bid.ID); row.Status != "ACTIVE" || *row.DeliveryState != "pending" || row.DeliveryAttempts != 1 {
				t.Fatal(w.State(bid.ID))
			}
			w.Due(bid.ID)
			engine.Attempt(bid)
			if row := w.Row(bid.ID); row.Status != "WITHDRAWN" || s.Calls(sandbox.Withdraw) != tt.calls || s.Live(bid.JobID) != 0 {
				t.Errorf("%s, %d retractions", w.State(bid.ID), s.Calls(sandbox.Withdraw))
			}
		})
	}
}

// TestDecidedThere: what the client of the marketplace did first stands.
func TestDecidedThere(t *testing.T) {
	t.Parallel()
	for status, want := range map[marketplace.Status]string{
		marketplace.Accepted: "ACTIVE", marketplace.Rejected: "REJECTED", marketplace.Withdrawn: "WITHDRAWN", marketplace.Expired: "WITHDRAWN",
	} {
		for _, during := range []sandbox.Op{"", sandbox.Withdraw} {
			t.Run(string(status)+" "+string(during), func(t *testing.T) {
				t.Parallel()
				w, s, engine, bid := market(t)
				if during == "" {
					if err := s.SetStatus(*bid.ExternalBidID, status); err != nil {
						t.Fatal(err)
					}
				} else {
					s.Fault(sandbox.Fault{Do: sandbox.Hold, Op: during})
				}
				request(t, w, bid.ID, "a mistake")
				done := make(chan struct{})
				go func() {
					defer close(done)
					engine.Attempt(bid)
				}()
				if during != "" {
					if err := s.WaitHeld(t.Context(), 1); err != nil {
						t.Fatal(err)
					}
					if err := s.SetStatus(*bid.ExternalBidID, status); err != nil {
						t.Fatal(err)
					}
					s.Reset()
				}
				<-done
				row := w.Row(bid.ID)
				if row.DeliveryState != nil && *row.ReviewReason == "job_closed" { // a person asks to try again
					if _, err := queries.New(w.SQL).RetryDelivery(t.Context(), bid.ID, "ops"); err != nil {
						t.Fatal(err)
					}
					engine.Attempt(bid)
					row = w.Row(bid.ID)
				}
				if row.Status != want || (row.DeliveryKind != nil) != (want == "ACTIVE") {
					t.Errorf("%s", w.State(bid.ID))
				}
				if want == "ACTIVE" && *row.ReviewReason != "awarded" {
					t.Errorf("%s", w.State(bid.ID))
				}
			})
		}
	}
}

// TestAmbiguousPlace: taking back what may or may not have arrived ends with no live bid,
// or with a person while the posting is protected.
func TestAmbiguousPlace(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name       string
		fault      sandbox.Fault
		idempotent bool
		want       string
	}{
		{"arrived", sandbox.Fault{Do: sandbox.Drop, When: sandbox.After}, true, "WITHDRAWN"},
		{"did not arrive", sandbox.Fault{Do: sandbox.Drop, When: sandbox.Before}, true, "review"},
		{"arrived, no keys", sandbox.Fault{Do: sandbox.Drop, When: sandbox.After}, false, "WITHDRAWN"},
		{"did not arrive, no keys", sandbox.Fault{Do: sandbox.Drop, When: sandbox.Before}, false, "review"},
		{"no id", sandbox.Fault{Do: sandbox.NoID}, true, "WITHDRAWN"},
		{"shows late", sandbox.Fault{Do: sandbox.Lag, MS: 60_000}, true, "late"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w, s := deliverytest.New(t), deliverytest.NewSandbox(t, sandbox.Rules{Idempotent: tt.idempotent})
			bid := w.Bid("", "upwork")
			engine := w.Engine(s.Client("upwork", func(m *config.Marketplace) { m.IdempotentPlace = tt.idempotent }))
			tt.fault.Count = 1
			s.Fault(tt.fault)
			if tt.want == "late" {
				s.Fault(sandbox.Fault{Do: sandbox.NoID, Count: 1})
			}
			engine.Attempt(bid)
			request(t, w, bid.ID, "a mistake")
			engine.Attempt(bid)
			if tt.want == "WITHDRAWN" {
				if row := w.Row(bid.ID); row.Status != "WITHDRAWN" || s.Live(bid.JobID) != 0 {
					t.Errorf("%s, %d live", w.State(bid.ID), s.Live(bid.JobID))
				}
				return
			}
			if got, want := w.State(bid.ID), "ACTIVE withdraw pending posts=1"; got != want {
				t.Fatalf("before settle: %s, want %s", got, want)
			}
			w.Set(bid.ID, "first_post_at = now() - interval '1 hour', last_post_at = now() - interval '1 hour', next_attempt_at = now()")
			engine.Attempt(bid)
			if got, want := w.State(bid.ID), "ACTIVE withdraw review unresolved posts=1"; got != want {
				t.Errorf("after settle: %s, want %s", got, want)
			}
			if s.Calls(sandbox.Place) != 1 || s.Calls(sandbox.Withdraw) != 0 {
				t.Errorf("%d placed, %d retracted", s.Calls(sandbox.Place), s.Calls(sandbox.Withdraw))
			}
		})
	}
}
