package delivery_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/delivery"
	"github.com/arbitrageai/bidder/pkg/marketplace"
	"github.com/arbitrageai/bidder/pkg/review"
	"github.com/arbitrageai/bidder/test/deliverytest"
)

// TestTooManyRequests: what one call was told with 429, or in words, holds for the account: nothing of it goes out sooner, from
// whatever pod, and no attempt is counted as failed. Other accounts go on.
func TestTooManyRequests(t *testing.T) {
	t.Parallel()
	const withdrawing = deliverytest.Settled + ", external_bid_id = 'e-' || id, delivery_kind = 'withdraw', withdraw_requested_at = now(), withdraw_requested_reason = 'r'"
	for name, tt := range map[string]struct {
		set   string
		calls string
	}{
		"POST":     {"", "place"},
		"in words": {"", "place"},
		"look-up":  {deliverytest.Settled, "lookup"},
		"retract":  {withdrawing, "lookup withdraw"},
		"at a gap": {"", "place"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := deliverytest.New(t)
			script := deliverytest.NewScript(marketplace.IdempotencyKey)
			tooMany := marketplace.Result{Kind: marketplace.NotExecuted, Status: 429, After: time.Hour}
			if name == "in words" {
				tooMany.Status, tooMany.Code = 200, marketplace.CodeRateLimited
			}
			script.Placed, script.Withdrawn = tooMany, tooMany
			if name == "look-up" {
				script.Found = []marketplace.Finding{{Result: tooMany}}
			}
			var bids []queries.Bid
			for range 4 {
				bids = append(bids, w.Bid(tt.set, "upwork"))
			}
			gap := time.Duration(0)
			if name == "at a gap" {
				gap = time.Millisecond
			}
			for pod := range 2 {
				pass(t, w.Engine(script, withGap(script, gap)), 1)
				if got := script.Calls(); got != tt.calls {
					t.Fatalf("calls %q, want %q", got, tt.calls)
				}
				if leased := deliverytest.Value[int](w, "SELECT count(*) FROM bids WHERE lease_token > 0"); pod == 0 && leased != 1 {
					t.Errorf("%d were leased, to be given back", leased)
				}
			}
			for _, bid := range bids {
				if got := w.Row(bid.ID); got.DeliveryAttempts != 0 || got.PlacePosts != bid.PlacePosts || got.DeliveryState == nil || *got.DeliveryState != "pending" {
					t.Error(w.State(bid.ID))
				}
			}
			wantDue(t, w, bids[0], 50*time.Minute, time.Hour)
			if paused := deliverytest.Value[bool](w, "SELECT account_is_paused('upwork', 'default')"); paused {
				t.Error("the account is paused")
			}
			other := w.Bid("", "freelancer")
			calm := deliverytest.NewScript(marketplace.IdempotencyKey)
			pass(t, w.Engine(calm), 1)
			if got := w.State(other.ID); got != "ACTIVE submitted e-1 posts=1" || calm.Calls() != "place" {
				t.Errorf("the other account: %s, calls %q", got, calm.Calls())
			}
			// When the time is over all goes on.
			w.Exec("UPDATE accounts SET next_slot = clock_timestamp()")
			w.Exec("UPDATE bids SET next_attempt_at = clock_timestamp() WHERE marketplace = 'upwork'")
			worked, err := w.Engine(calm, withGap(calm, gap)).DeliverBid(t.Context(), "upwork", bids[0].Account, bids[0].ID)
			if err != nil || !worked || calm.Calls() == "place" {
				t.Errorf("worked: %t, %v; calls %q", worked, err, calm.Calls())
			}
		})
	}
}

// TestLongerRestStands: of two rests the one that ends later stands.
func TestLongerRestStands(t *testing.T) {
	t.Parallel()
	w := deliverytest.New(t)
	for _, length := range []time.Duration{time.Minute, time.Hour, time.Second} {
		if err := queries.New(w.SQL).RestAccount(t.Context(), "upwork", "default", length); err != nil {
			t.Fatal(err)
		}
	}
	if left := deliverytest.Value[time.Duration](w, "SELECT next_slot - clock_timestamp() FROM accounts"); left < 50*time.Minute || left > time.Hour {
		t.Errorf("rests for %v", left)
	}
}

// TestSilence: a marketplace that does not answer is let be after some calls, so that its deadlines hold nobody up. One
// that answers in between is not.
func TestSilence(t *testing.T) {
	t.Parallel()
	const bids, most = 12, 5
	for name, tt := range map[string]struct {
		answer  marketplace.Result
		every   int // this call is answered
		workers int
		least   int
		calls   int
	}{
		"no answer":         {marketplace.Result{Kind: marketplace.Ambiguous}, 0, 1, most, most},
		"not reached":       {marketplace.Result{Kind: marketplace.NotExecuted, Code: "not_sent"}, 0, 1, most, most},
		"several workers":   {marketplace.Result{Kind: marketplace.Ambiguous}, 0, 3, most, most + 2},
		"an error is one":   {marketplace.Result{Kind: marketplace.Ambiguous, Status: 502}, 0, 1, bids, bids},
		"some are answered": {marketplace.Result{Kind: marketplace.Ambiguous}, 3, 1, bids, bids},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := deliverytest.New(t)
			script := deliverytest.NewScript(marketplace.IdempotencyKey)
			script.Placed = tt.answer
			if tt.every > 0 {
				script.During = func(string) {
					script.Placed = tt.answer
					if len(script.Bids())%tt.every == 0 {
						script.Placed = marketplace.Result{Kind: marketplace.Permanent, Code: "job_closed", Status: 422}
					}
				}
			}
			for i := range bids {
				w.Bid("", "upwork", fmt.Sprint(i))
			}
			pass(t, w.Engine(script), tt.workers)
			if got := len(script.Bids()); got < tt.least || got > tt.calls {
				t.Errorf("%d calls, want %d to %d", got, tt.least, tt.calls)
			}
			untouched := deliverytest.Value[int](w, "SELECT count(*) FROM bids WHERE lease_token = 0 AND delivery_state = 'pending'")
			if untouched != bids-len(script.Bids()) {
				t.Errorf("%d were left alone, of %d", untouched, bids)
			}
		})
	}
}

// TestSilenceOfLastAttempts: also where a person is asked in the end, after one more look, an account that does not
// answer is let be.
func TestSilenceOfLastAttempts(t *testing.T) {
	t.Parallel()
	silence := marketplace.Result{Kind: marketplace.NotExecuted, Code: "not_sent"}
	for name, tt := range map[string]struct {
		found marketplace.Finding
		asked int
	}{
		"nothing is answered":   {marketplace.Finding{Result: silence}, 5},
		"look-ups are answered": {marketplace.Finding{Known: true, Definitive: true}, 12},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := deliverytest.New(t)
			script := deliverytest.NewScript(marketplace.IdempotencyKey)
			script.Placed, script.Found = silence, []marketplace.Finding{tt.found}
			for i := range 12 {
				w.Bid(deliverytest.Settled+", delivery_attempts = 7", "upwork", fmt.Sprint(i))
			}
			pass(t, w.Engine(script), 1)
			if got := deliverytest.Value[int](w, "SELECT count(*) FROM bids WHERE review_reason = 'retries_exhausted'"); got != tt.asked {
				t.Errorf("people are asked about %d bids, want %d", got, tt.asked)
			}
		})
	}
}

// TestSilenceIsShared: a worker that comes from another account later does not call it either.
func TestSilenceIsShared(t *testing.T) {
	t.Parallel()
	w := deliverytest.New(t)
	silent, other := deliverytest.NewScript(marketplace.IdempotencyKey), deliverytest.NewScript(marketplace.IdempotencyKey)
	silent.Placed = marketplace.Result{Kind: marketplace.Ambiguous}
	for range 7 {
		w.Bid("", "a-silent")
	}
	last := w.Bid("", "other")
	other.During = func(string) {
		deliverytest.Eventually(t, "the first worker has given up", func() bool {
			return deliverytest.Value[int](w, "SELECT count(*) FROM bids WHERE place_posts = 1 AND delivery_state = 'pending'") == 5
		})
	}
	clients := map[string]marketplace.Client{"a-silent": silent, "other": other}
	pass(t, w.EngineOf(w.Pool, deliverytest.Options(func(name string) (delivery.Account, error) {
		return delivery.Account{Client: clients[name], Settle: deliverytest.Settle}, nil
	})), 2)
	if got := len(silent.Bids()); got != 5 || w.Row(last.ID).SubmittedAt == nil {
		t.Errorf("%d calls, want 5; the other: %s", got, w.State(last.ID))
	}
}

// TestApprovalAtDelivery: what was claimed when no approval was asked for waits for one as well, once it is.
func TestApprovalAtDelivery(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		set   string
		want  string
		calls string
	}{
		"never sent":          {"", "ACTIVE place awaiting_approval", ""},
		"approved":            {"approved_at = now(), approved_by = 'mara'", "ACTIVE submitted e-1 posts=1", "place"},
		"sent, and not there": {deliverytest.Settled, "ACTIVE place review unresolved posts=1", "lookup"},
		"sent, approved":      {deliverytest.Settled + ", approved_at = now(), approved_by = 'mara'", "ACTIVE submitted e-1 posts=2", "lookup place"},
		"no longer open":      {"", "ACTIVE place review stale", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := deliverytest.New(t)
			script := deliverytest.NewScript(marketplace.IdempotencyKey)
			script.Found = []marketplace.Finding{{Known: true}}
			bid := w.Bid(tt.set)
			if name == "no longer open" {
				w.Exec("DELETE FROM postings")
			}
			engine := w.Engine(script, approving(script))
			pass(t, engine, 1)
			if got := w.State(bid.ID); got != tt.want || script.Calls() != tt.calls {
				t.Fatalf("%s, want %s; calls %q, want %q", got, tt.want, script.Calls(), tt.calls)
			}
			if name != "never sent" {
				return
			}
			if got := engine.Totals(); got.Place.Review != 1 || got.ForPerson != 0 || len(w.Log.Lines(`"level":"ERROR"`)) > 0 {
				t.Errorf("counted %+v", got)
			}
			desk := review.Desk{Pool: w.Pool, Limits: deliverytest.Limits(), Settle: func(string) time.Duration { return deliverytest.Settle }}
			if _, err := desk.Decide(t.Context(), bid.ID, nil, review.Approve("mara")); err != nil {
				t.Fatal(err)
			}
			pass(t, engine, 1)
			if got := w.State(bid.ID); got != "ACTIVE submitted e-1 posts=1" {
				t.Errorf("approved: %s", got)
			}
		})
	}
	t.Run("withdrawn meanwhile", func(t *testing.T) {
		t.Parallel()
		w := deliverytest.New(t)
		script, bid := deliverytest.NewScript(marketplace.IdempotencyKey), w.Bid("")
		w.Exec(`CREATE FUNCTION ask() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			IF NEW.delivery_state = 'leased' THEN NEW.withdraw_requested_at = now(); NEW.withdraw_requested_reason = 'r'; NEW.withdraw_requested_by = 'mara'; END IF;
			RETURN NEW; END $$`)
		w.Exec("CREATE TRIGGER aa_ask BEFORE UPDATE ON bids FOR EACH ROW EXECUTE FUNCTION ask()")
		w.Engine(script, approving(script)).Attempt(bid)
		if got := w.State(bid.ID); got != "ACTIVE withdraw pending" || script.Calls() != "" {
			t.Errorf("%s; calls %q", got, script.Calls())
		}
	})
}

func approving(client marketplace.Client) func(*delivery.Options) {
	return func(o *delivery.Options) {
		o.Account = func(string) (delivery.Account, error) {
			return delivery.Account{Client: client, Settle: deliverytest.Settle, NeedsApproval: true}, nil
		}
	}
}
