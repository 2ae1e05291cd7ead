package delivery_test

import (
	"errors"
	"testing"
	"time"

	"github.com/arbitrageai/bidder/pkg/delivery"
	"github.com/arbitrageai/bidder/pkg/marketplace"
	"github.com/arbitrageai/bidder/test/deliverytest"
)

// TestBrokenDatabase: when a statement fails, no further call is made and nothing is
// recorded: the lease runs out, and the next one looks.
func TestBrokenDatabase(t *testing.T) {
	t.Parallel()
	const withdrawing = deliverytest.Settled + ", delivery_kind = 'withdraw', withdraw_requested_at = now(), withdraw_requested_reason = 'r'"
	live := deliverytest.Shows(marketplace.Submitted)
	tests := []struct {
		name   string
		set    string
		found  marketplace.Finding
		answer marketplace.Kind
		during string // the call during which it breaks; empty: before
		sql    string
		calls  string
		left   string // the state in which it leaves the bid
	}{
		{"leasing", unsent, live, "", "", "ALTER TABLE bids RENAME COLUMN lease_token TO gone", "", "pending"},
		{"posting", unsent, live, "", "", "ALTER TABLE postings RENAME TO gone", "", "pending"},
		{"slot", unsent, live, "", "", "ALTER TABLE accounts ADD CHECK (next_slot IS NULL)", "", "leased"},
		{"owner of an id that was found", unsent, live, "", "lookup", "ALTER TABLE bids RENAME COLUMN external_bid_id TO gone", "lookup", "leased"},
		{"recording", unsent, live, "", "lookup", "ALTER TABLE bid_events RENAME TO gone", "lookup", "leased"},
		{"arming", unsent, marketplace.Finding{Known: true}, marketplace.Done, "lookup", "ALTER TABLE bid_events RENAME TO gone", "lookup", "leased"},
		{"owner of an id that was answered", unsent, marketplace.Finding{Known: true}, marketplace.Done, "place", "ALTER TABLE bids RENAME COLUMN external_bid_id TO gone", "lookup place", "leased"},
		{"pausing", unsent, marketplace.Finding{Known: true}, marketplace.PauseAccount, "place", "ALTER TABLE accounts RENAME COLUMN paused_by TO gone", "lookup place", "leased"},
		{"recording what was found", withdrawing, live, "", "lookup", "ALTER TABLE bid_events RENAME TO gone", "lookup", "leased"},
		{"holding", withdrawing + ", external_bid_id = 'e-1'", live, "", "lookup", "ALTER TABLE bids RENAME COLUMN lease_expires_at TO gone", "lookup", "leased"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := deliverytest.New(t)
			script, bid := deliverytest.NewScript(marketplace.NaturalKey), w.Bid(tt.set)
			script.Can.LooksUpByPosting, script.Found = true, []marketplace.Finding{tt.found}
			script.Placed.Kind = tt.answer
			script.During = func(op string) {
				if op == tt.during {
					w.Exec(tt.sql)
				}
			}
			script.During("")
			gap := time.Duration(0)
			if tt.name == "slot" { // which nothing takes without a rate
				gap = time.Millisecond
			}
			engine := w.Engine(script, withGap(script, gap))
			if err := engine.Pass(t.Context(), 1); err == nil {
				t.Error("no error")
			}
			if got := script.Calls(); got != tt.calls {
				t.Errorf("calls %q, want %q", got, tt.calls)
			}
			if got := deliverytest.Value[string](w, "SELECT delivery_state FROM bids WHERE id = $1", bid.ID); got != tt.left {
				t.Errorf("the bid is %s, want %s", got, tt.left)
			}
			if got := engine.Totals(); got != (delivery.Totals{}) {
				t.Errorf("counted %+v", got)
			}
		})
	}
}

func TestNoDatabase(t *testing.T) {
	t.Parallel()
	w := deliverytest.New(t)
	bid := w.Bid(unsent)
	pool := w.Open(w.DB.URL)
	engine := w.EngineOf(pool, deliverytest.Options(nil))
	pool.Close()
	if err := engine.Pass(t.Context(), 1); err == nil {
		t.Error("a pass without a database")
	}
	if worked, err := engine.DeliverBid(t.Context(), bid.Marketplace, bid.Account, bid.ID); err == nil || worked {
		t.Errorf("worked: %t, %v", worked, err)
	}
	w.Exec("ALTER TABLE bids RENAME TO gone")
	if err := w.Engine(nil).Pass(t.Context(), 1); err == nil {
		t.Error("a pass without bids")
	}
}

// TestNoClient: a client that cannot be made is a failed attempt of the bids of its own
// marketplace; those of others are delivered in the same pass.
func TestNoClient(t *testing.T) {
	t.Parallel()
	w := deliverytest.New(t)
	bid, sent, other := w.Bid(unsent), w.Bid(deliverytest.Settled+", delivery_attempts = 7"), w.Bid(unsent, "guru")
	script := deliverytest.NewScript(marketplace.NaturalKey)
	engine := w.EngineOf(w.Pool, deliverytest.Options(func(name string) (delivery.Account, error) {
		if name == "guru" {
			return delivery.Account{Client: script, Settle: deliverytest.Settle}, nil
		}
		return delivery.Account{}, errors.New("the key is broken")
	}))
	if err := engine.Pass(t.Context(), 1); err != nil {
		t.Error(err)
	}
	if row := w.Row(bid.ID); *row.DeliveryState != "pending" || row.DeliveryAttempts != 1 || *row.LastError != "no_client: the key is broken" ||
		row.NextAttemptAt.Before(time.Now().Add(5*time.Second)) {
		t.Errorf("%s, %+v", w.State(bid.ID), row)
	}
	if row := w.Row(sent.ID); row.ReviewReason == nil || *row.ReviewReason != delivery.ReasonRetriesExhausted || row.PlacePosts != 1 {
		t.Errorf("after the last attempt: %s", w.State(sent.ID))
	}
	if row := w.Row(other.ID); row.ExternalBidID == nil {
		t.Errorf("the bid at another marketplace: %s", w.State(other.ID))
	}
}

// TestShortLease: no call begins that may end after the lease.
func TestShortLease(t *testing.T) {
	t.Parallel()
	w := deliverytest.New(t)
	script, bid := deliverytest.NewScript(marketplace.NaturalKey), w.Bid(deliverytest.Settled)
	w.Engine(script, func(o *delivery.Options) { o.Lease = 1400 * time.Millisecond }).Attempt(bid)
	if got, want := w.State(bid.ID), "ACTIVE place pending posts=1"; got != want || script.Calls() != "" {
		t.Errorf("%s, want %s; calls %q", got, want, script.Calls())
	}
}
