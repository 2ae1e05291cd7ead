package delivery_test

import (
	"context"
	"errors"
	"testing"

	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/delivery"
	"github.com/arbitrageai/bidder/pkg/marketplace"
	"github.com/arbitrageai/bidder/test/deliverytest"
	"github.com/arbitrageai/bidder/test/messages"
	"github.com/arbitrageai/bidder/test/netfault"
)

// own is a marketplace that gives each bid an id of its own.
type own struct{ *deliverytest.Script }

func (o own) Place(ctx context.Context, bid marketplace.Bid) marketplace.Result {
	r := o.Script.Place(ctx, bid)
	if r.Kind == marketplace.Done {
		r.ExternalID = externalID(bid.JobID)
	}
	return r
}

func externalID(job string) string { return "their-" + job }

// TestNextLease: whatever becomes of recording one delivery, or of leasing the next in the same message, the other
// is done all the same; and nothing is leased that may not be called.
func TestNextLease(t *testing.T) {
	t.Parallel()
	const owned = `UPDATE bids SET external_bid_id = 'their-first', submitted_at = now(), delivery_kind = NULL, delivery_state = NULL,
		next_attempt_at = NULL WHERE job_id = 'third'`
	tests := []struct {
		name   string
		answer marketplace.Kind
		during string // the first POST
		stop   bool
		broken bool // the pass ends early
		first  string
		second string
		third  string
	}{
		{
			name: "all goes well", answer: marketplace.Done,
			first: "ACTIVE submitted their-first posts=1", second: "ACTIVE submitted their-second posts=1",
		},
		{
			name: "the lease fails", answer: marketplace.Done, during: "ALTER TABLE postings RENAME TO gone", broken: true,
			first: "ACTIVE submitted their-first posts=1", second: "ACTIVE place pending",
		},
		{
			name: "the lease was overtaken", answer: marketplace.Done, during: "UPDATE bids SET lease_token = lease_token + 1 WHERE job_id = 'first'",
			first: "ACTIVE place leased posts=1", second: "ACTIVE submitted their-second posts=1",
		},
		{
			name: "the id belongs to another bid", answer: marketplace.Done, during: owned,
			first: "ACTIVE place review external_id_clash posts=1", second: "ACTIVE submitted their-second posts=1", third: "ACTIVE submitted their-first",
		},
		{
			name: "the id is taken at the same time", answer: marketplace.Done, during: `CREATE FUNCTION take() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
				IF NEW.external_bid_id = 'their-first' AND OLD.external_bid_id IS NULL AND NEW.job_id = 'first' THEN ` + owned + `; END IF; RETURN NEW; END $$;
				CREATE TRIGGER aa_take BEFORE UPDATE ON bids FOR EACH ROW EXECUTE FUNCTION take()`,
			first: "ACTIVE place review external_id_clash posts=1", second: "ACTIVE submitted their-second posts=1", third: "ACTIVE place pending",
		},
		{
			name: "the account is paused", answer: marketplace.PauseAccount,
			first: "ACTIVE place pending posts=1", second: "ACTIVE place pending",
		},
		{
			name: "the process is told to stop", answer: marketplace.Done, stop: true,
			first: "ACTIVE submitted their-first posts=1", second: "ACTIVE place pending",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := deliverytest.New(t)
			bids := []queries.Bid{w.Bid("", "upwork", "first"), w.Bid("", "upwork", "second"), w.Bid("next_attempt_at = now() + interval '1 hour'", "upwork", "third")}
			client := own{deliverytest.NewScript(marketplace.IdempotencyKey)}
			client.Placed.Kind = tt.answer
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			client.During = func(string) {
				client.During = nil
				if tt.during != "" {
					w.Exec(tt.during)
				}
				if tt.stop {
					stop()
				}
			}
			err := w.Engine(client).Pass(ctx, 1)
			if tt.broken != (err != nil && !errors.Is(err, context.Canceled)) || tt.stop != errors.Is(err, context.Canceled) {
				t.Errorf("error %v", err)
			}
			if tt.broken {
				w.Exec("ALTER TABLE gone RENAME TO postings")
			}
			third := tt.third
			if third == "" {
				third = "ACTIVE place pending"
			}
			for i, want := range []string{tt.first, tt.second, third} {
				if got := w.State(bids[i].ID); got != want {
					t.Errorf("%s: %s, want %s", bids[i].JobID, got, want)
				}
			}
			if got, want := w.Row(bids[1].ID).LeaseToken, int64(0); tt.second == "ACTIVE place pending" && got != want {
				t.Errorf("the second was leased %d times", got)
			}
		})
	}
}

// TestNextAnswerLost: where nobody knows whether the message was done the pass ends, and what it leased and armed is
// looked up before it is sent.
func TestNextAnswerLost(t *testing.T) {
	t.Parallel()
	w := deliverytest.New(t)
	first, second := w.Bid("", "upwork", "first"), w.Bid("", "upwork", "second")
	proxy := netfault.New(t, w.DB.URL)
	client := own{deliverytest.NewScript(marketplace.IdempotencyKey)}
	options := deliverytest.Options(func(string) (delivery.Account, error) {
		return delivery.Account{Client: client, Settle: deliverytest.Settle}, nil
	})
	engine := w.EngineOf(w.Open(proxy.URL), options)
	happened := proxy.DropAnswerTo(externalID("first"))
	if err := engine.Pass(t.Context(), 1); err == nil {
		t.Error("no error")
	}
	<-happened
	deliverytest.Eventually(t, "the server is done", func() bool { return w.Row(second.ID).PlacePosts == 1 })
	if got, want := w.State(first.ID), "ACTIVE submitted their-first posts=1"; got != want {
		t.Errorf("first: %s, want %s", got, want)
	}
	w.Set(second.ID, "lease_expires_at = now(), next_attempt_at = now()")
	pass(t, engine, 1)
	if got, want := w.State(second.ID), "ACTIVE place pending posts=1"; got != want || client.Calls() != "place lookup" {
		t.Errorf("second: %s, want %s; calls %q", got, want, client.Calls())
	}
}

// TestDeliveryMessages: one more delivery costs one more message, where it is armed with its lease.
func TestDeliveryMessages(t *testing.T) {
	t.Parallel()
	w := deliverytest.New(t)
	sent := &messages.Counter{}
	pool, err := sent.Pool(t.Context(), w.Pool, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	client := own{deliverytest.NewScript(marketplace.IdempotencyKey)}
	engine := w.EngineOf(pool, deliverytest.Options(func(string) (delivery.Account, error) {
		return delivery.Account{Client: client, Settle: deliverytest.Settle}, nil
	}))
	costs := map[int]int64{}
	for _, n := range []int{3, 4, 7} {
		for range n {
			w.Bid("", "upwork")
		}
		before := sent.Sent()
		pass(t, engine, 1)
		costs[n] = sent.Sent() - before
	}
	if costs[4]-costs[3] != 1 || costs[7]-costs[4] != 3 {
		t.Errorf("messages by deliveries: %v", costs)
	}
	if got := engine.Totals().Place.Done; got != 14 {
		t.Errorf("placed %d, want 14", got)
	}
}
