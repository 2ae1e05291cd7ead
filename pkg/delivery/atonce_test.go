package delivery_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/delivery"
	"github.com/arbitrageai/bidder/pkg/marketplace"
	"github.com/arbitrageai/bidder/test/deliverytest"
)

// leaseAtOnce leases what a bid owes, named or not, for whom nothing keeps from arming at once.
func leaseAtOnce(t *testing.T, w *deliverytest.World, bid queries.Bid, id *uuid.UUID) (queries.LeaseDeliveryRow, error) {
	t.Helper()
	return queries.New(w.SQL).LeaseDelivery(context.WithoutCancel(t.Context()), queries.LeaseDeliveryParams{
		Marketplace: bid.Marketplace, Account: bid.Account, BidID: id, DueBy: time.Now().Add(time.Hour), AtOnce: true,
		PostingTTL: 24 * time.Hour, Lease: time.Minute, Actor: "test",
	})
}

// TestLeaseArms: each guard of arming alone keeps a lease from arming too; the lease is had all the same.
func TestLeaseArms(t *testing.T) {
	t.Parallel()
	w := deliverytest.New(t)
	const posting = " WHERE job_id = (SELECT job_id FROM bids WHERE id = $1)"
	tests := []struct {
		name  string
		set   string
		sql   string // with the bid as $1
		armed bool
	}{
		{name: "nothing is in the way", armed: true},
		{name: "failed before", set: "delivery_attempts = 3", armed: true},
		{name: "abandoned unsent", set: "delivery_state = 'leased', lease_expires_at = now()", armed: true},
		{name: "sent", set: sent},
		{name: "settled", set: settled},
		{name: "known", set: "external_bid_id = 'e-1'"},
		{name: "withdrawing", set: "delivery_kind = 'withdraw'"},
		{name: "withdrawal requested", set: "withdraw_requested_at = now(), withdraw_requested_reason = 'r'"},
		{name: "no longer fresh", sql: "UPDATE postings SET cached_at = now() - interval '25 hours'" + posting},
		{name: "deadline over", sql: "UPDATE postings SET deadline = now()" + posting},
		{name: "pruned", sql: "DELETE FROM postings" + posting},
		{name: "others have the next slot", sql: "INSERT INTO accounts (marketplace, next_slot) SELECT marketplace, now() + interval '1 hour' FROM bids WHERE id = $1"},
		{name: "a slot that is over", sql: "INSERT INTO accounts (marketplace, next_slot) SELECT marketplace, now() FROM bids WHERE id = $1", armed: true},
	}
	for _, tt := range tests {
		for way, named := range map[string]bool{"of the account": false, "of the bid": true} {
			t.Run(tt.name+" "+way, func(t *testing.T) {
				t.Parallel()
				bid := w.Bid(tt.set)
				if tt.sql != "" {
					w.Exec(tt.sql, bid.ID)
				}
				var id *uuid.UUID
				if named {
					id = &bid.ID
				}
				row, err := leaseAtOnce(t, w, bid, id)
				if err != nil {
					t.Fatal(err)
				}
				after := w.Row(bid.ID)
				if row.ID != bid.ID || *after.DeliveryState != "leased" || after.LeaseToken != bid.LeaseToken+1 {
					t.Errorf("not leased: %s", w.State(bid.ID))
				}
				posts := bid.PlacePosts
				if tt.armed {
					posts++
				}
				if row.Armed != tt.armed || row.PlacePosts != posts || after.PlacePosts != posts || (w.Events(bid.ID) != "") != tt.armed {
					t.Errorf("armed: %t, want %t; %s, events %q", row.Armed, tt.armed, w.State(bid.ID), w.Events(bid.ID))
				}
				if tt.armed && (!row.FirstPostAt.Equal(row.LeasedAt) || !row.LastPostAt.Equal(row.LeasedAt) || !row.LeaseExpiresAt.Equal(row.LeasedAt.Add(time.Minute))) {
					t.Errorf("armed at %v and %v, leased at %v until %v", row.FirstPostAt, row.LastPostAt, row.LeasedAt, row.LeaseExpiresAt)
				}
			})
		}
	}
}

// TestLeaseOfPaused: nothing is leased of a paused account, nor of another one than the bid's.
func TestLeaseOfPaused(t *testing.T) {
	t.Parallel()
	for _, paused := range []struct{ marketplace, account string }{{"upwork", "default"}, {"upwork", "*"}, {"*", "*"}} {
		t.Run(paused.marketplace+" "+paused.account, func(t *testing.T) {
			t.Parallel()
			w := deliverytest.New(t)
			bid := w.Bid(unsent, "upwork")
			other := bid
			other.Marketplace = "guru"
			if _, err := leaseAtOnce(t, w, other, &bid.ID); !errors.Is(err, pgx.ErrNoRows) {
				t.Errorf("leased as another account's: %v", err)
			}
			pauseAccount(w, paused.marketplace, paused.account, nil, "ops")
			for _, id := range []*uuid.UUID{nil, &bid.ID} {
				if _, err := leaseAtOnce(t, w, bid, id); !errors.Is(err, pgx.ErrNoRows) {
					t.Errorf("leased although paused: %v", err)
				}
			}
			if diff := cmp.Diff(bid, w.Row(bid.ID)); diff != "" {
				t.Errorf("(-before +after):\n%s", diff)
			}
		})
	}
}

// TestLeaseSeesTheRequest: a withdrawal that was asked for after the statement began, and before
// it had the row, is seen: nothing is armed.
func TestLeaseSeesTheRequest(t *testing.T) {
	t.Parallel()
	for way, named := range map[string]bool{"of the account": false, "of the bid": true} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			w := deliverytest.New(t)
			bid := w.Bid(unsent)
			var id *uuid.UUID
			if named {
				id = &bid.ID
			}
			// Reading whether the account is paused, which comes before the row, waits for the test.
			w.Exec("INSERT INTO accounts (marketplace, account) VALUES ('*', '*')")
			w.Exec("ALTER TABLE accounts RENAME TO real_accounts")
			w.Exec(`CREATE VIEW accounts AS SELECT marketplace, account, paused_at, paused_until, next_slot FROM real_accounts
				WHERE pg_advisory_xact_lock(7) IS NOT NULL`)
			tx, err := w.SQL.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tx.Exec(t.Context(), "SELECT pg_advisory_xact_lock(7)"); err != nil {
				t.Fatal(err)
			}
			type leased struct {
				row queries.LeaseDeliveryRow
				err error
			}
			done := make(chan leased)
			go func() {
				row, err := leaseAtOnce(t, w, bid, id)
				done <- leased{row, err}
			}()
			deliverytest.Eventually(t, "the lease waits", func() bool {
				return deliverytest.Value[bool](w, "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))")
			})
			w.Set(bid.ID, "withdraw_requested_at = now(), withdraw_requested_reason = 'r'")
			if err := tx.Commit(t.Context()); err != nil {
				t.Fatal(err)
			}
			got := <-done
			if got.err != nil {
				t.Fatal(got.err)
			}
			if got.row.Armed || *got.row.DeliveryKind != delivery.Withdraw || w.State(bid.ID) != "ACTIVE withdraw leased" || w.Events(bid.ID) != "" {
				t.Errorf("armed: %t; %s, events %q", got.row.Armed, w.State(bid.ID), w.Events(bid.ID))
			}
		})
	}
}

// TestArmedAlike: what is kept of a POST is the same, whichever statement armed it.
func TestArmedAlike(t *testing.T) {
	t.Parallel()
	w := deliverytest.New(t)
	armed := func(looks bool, set string) string {
		script, bid := deliverytest.NewScript(marketplace.IdempotencyKey), w.Bid(unsent)
		script.Can.LooksUpByPosting = looks
		w.Exec("UPDATE postings SET "+set+" WHERE job_id = $1", bid.JobID)
		w.Engine(script).Attempt(bid)
		return deliverytest.Value[string](w, "SELECT actor || ' ' || detail FROM bid_events WHERE bid_id = $1 ORDER BY id LIMIT 1", bid.ID)
	}
	for _, set := range []string{`title = '"<a> & b\u2028', url = 'https://example.test/?a=1&b=2'`, "url = NULL, pricing = NULL"} {
		if diff := cmp.Diff(armed(true, set), armed(false, set)); diff != "" {
			t.Errorf("(-armed by itself +armed with the lease):\n%s", diff)
		}
	}
}

// deadline is a script that says until when its POST may begin.
type deadline struct {
	*deliverytest.Script

	at time.Time
}

func (d *deadline) Place(ctx context.Context, bid marketplace.Bid) marketplace.Result {
	d.at, _ = ctx.Deadline()
	return d.Script.Place(ctx, bid)
}

// TestAtOnce: a POST is armed with its lease exactly where nothing has to come between, and its
// deadline counts from before that.
func TestAtOnce(t *testing.T) {
	t.Parallel()
	w := deliverytest.New(t)
	tests := []struct {
		name   string
		can    func(*marketplace.Capabilities)
		change func(*delivery.Options)
		calls  string
		atOnce bool
	}{
		{name: "nothing comes between", calls: "place", atOnce: true},
		{name: "a look-up", can: func(c *marketplace.Capabilities) { c.LooksUpByPosting = true }, calls: "lookup place"},
		{name: "a person", can: func(c *marketplace.Capabilities) { c.ByHand = true }},
		{name: "the lease is too short", change: func(o *delivery.Options) { o.Lease = 1500 * time.Millisecond }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			client, bid := &deadline{Script: deliverytest.NewScript(marketplace.NoDedup)}, w.Bid(unsent)
			var options delivery.Options
			change := func(o *delivery.Options) {
				if tt.change != nil {
					tt.change(o)
				}
				options = *o
			}
			if tt.can != nil {
				tt.can(&client.Can)
			}
			var during queries.Bid
			client.During = func(op string) {
				if op == "place" {
					during = w.Row(bid.ID)
				}
			}
			w.Engine(client, change).Attempt(bid)
			if client.Calls() != tt.calls {
				t.Fatalf("calls %q, want %q; %s", client.Calls(), tt.calls, w.State(bid.ID))
			}
			if during.FirstPostAt == nil {
				if got := w.Row(bid.ID).PlacePosts; got != 0 {
					t.Errorf("%d POSTs and none was sent", got)
				}
				return
			}
			if atOnce := during.FirstPostAt.Equal(during.LeaseExpiresAt.Add(-options.Lease)); atOnce != tt.atOnce || during.PlacePosts != 1 {
				t.Errorf("at once: %t, want %t; %d POSTs", atOnce, tt.atOnce, during.PlacePosts)
			}
			if began := client.at.Add(-client.Can.Timeout); began.After(*during.FirstPostAt) {
				t.Errorf("the deadline counts from %v after arming", began.Sub(*during.FirstPostAt))
			}
			if got := client.Bids()[len(client.Bids())-1].ArmedAt; !got.Equal(*during.FirstPostAt) {
				t.Errorf("sent as armed at %v, was %v", got, during.FirstPostAt)
			}
		})
	}
	t.Run("a rate", func(t *testing.T) {
		t.Parallel()
		script, bid := deliverytest.NewScript(marketplace.NoDedup), w.Bid(unsent)
		var during queries.Bid
		script.During = func(string) { during = w.Row(bid.ID) }
		w.Engine(script, withGap(script, time.Millisecond)).Attempt(bid)
		if during.FirstPostAt == nil || !during.FirstPostAt.After(during.LeaseExpiresAt.Add(-time.Minute)) {
			t.Errorf("armed at %v, leased until %v; calls %q", during.FirstPostAt, during.LeaseExpiresAt, script.Calls())
		}
	})
}

// TestStopAtOnce: who is told to stop while it leases and arms sends nothing, and gives the POST back.
func TestStopAtOnce(t *testing.T) {
	t.Parallel()
	w := deliverytest.New(t)
	script, bid := deliverytest.NewScript(marketplace.NoDedup), w.Bid(unsent)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	engine := w.Engine(script, func(o *delivery.Options) {
		o.Account = func(string) (delivery.Account, error) { // right before the lease
			cancel()
			return delivery.Account{Client: script, Settle: deliverytest.Settle}, nil
		}
	})
	if _, err := engine.DeliverBid(ctx, bid.Marketplace, bid.Account, bid.ID); err != nil {
		t.Error(err)
	}
	if got := w.State(bid.ID); got != "ACTIVE place pending" || script.Calls() != "" || w.Wait(bid.ID) > 0 {
		t.Errorf("%s in %v; calls %q", got, w.Wait(bid.ID), script.Calls())
	}
	if got, want := w.Events(bid.ID), "place armed, place again stopping"; got != want {
		t.Errorf("events %q, want %q", got, want)
	}
	engine = w.Engine(script)
	engine.Attempt(bid)
	if got, want := w.State(bid.ID), "ACTIVE submitted e-1 posts=1"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// TestCrashAfterArmingAtOnce: the next lease sees what was armed, looks, and does not send before settle.
func TestCrashAfterArmingAtOnce(t *testing.T) {
	t.Parallel()
	w := deliverytest.New(t)
	script, bid := deliverytest.NewScript(marketplace.IdempotencyKey), w.Bid(unsent)
	if row, err := leaseAtOnce(t, w, bid, nil); err != nil || !row.Armed {
		t.Fatalf("armed: %t, %v", row.Armed, err)
	}
	w.Set(bid.ID, "lease_expires_at = now(), next_attempt_at = now()") // the pod has died
	w.Engine(script).Attempt(bid)
	if got, want := w.State(bid.ID), "ACTIVE place pending posts=1"; got != want || script.Calls() != "lookup" {
		t.Errorf("%s, want %s; calls %q", got, want, script.Calls())
	}
}
