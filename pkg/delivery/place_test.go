package delivery_test

import (
	"testing"
	"time"

	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/delivery"
	"github.com/arbitrageai/bidder/pkg/marketplace"
	"github.com/arbitrageai/bidder/test/deliverytest"
)

// The states of a bid before a look-up.
const (
	unsent  = ""
	sent    = deliverytest.Sent
	settled = deliverytest.Settled
	twice   = deliverytest.Twice
)

// TestFinding: what a look-up before a POST proves.
func TestFinding(t *testing.T) {
	t.Parallel()
	shows := deliverytest.Shows
	failed := marketplace.Finding{Result: marketplace.Result{Kind: marketplace.Ambiguous, Code: "server_error", Status: 500}}
	missing := marketplace.Finding{Known: true}
	tests := []struct {
		name  string
		found marketplace.Finding
		set   string
		want  string
		calls string
	}{
		{"live, unsent", shows(marketplace.Submitted), unsent, "ACTIVE submitted e-1 foreign", "lookup"},
		{"live, sent", shows(marketplace.Submitted), sent, "ACTIVE submitted e-1 posts=1", "lookup"},
		{"live, settled", shows(marketplace.Submitted), settled, "ACTIVE submitted e-1 posts=1", "lookup"},
		{"live, twice", shows(marketplace.Submitted), twice, "ACTIVE submitted e-1 posts=2", "lookup"},
		{"awarded, unsent", shows(marketplace.Accepted), unsent, "ACTIVE submitted e-1 foreign", "lookup"},
		{"awarded, sent", shows(marketplace.Accepted), sent, "ACTIVE submitted e-1 posts=1", "lookup"},
		{
			"live by posting, sent",
			marketplace.Finding{Known: true, Found: true, ExternalID: "e-1", Status: marketplace.Submitted, Foreign: true},
			sent, "ACTIVE submitted e-1 foreign posts=1", "lookup",
		},
		{"rejected, unsent", shows(marketplace.Rejected), unsent, "ACTIVE place review rejected_elsewhere", "lookup"},
		{"rejected, sent", shows(marketplace.Rejected), sent, "ACTIVE place pending posts=1", "lookup"},
		{"rejected, settled", shows(marketplace.Rejected), settled, "REJECTED posts=1", "lookup"},
		{"rejected, twice", shows(marketplace.Rejected), twice, "ACTIVE place review rejected_elsewhere posts=2", "lookup"},
		{"withdrawn, unsent", shows(marketplace.Withdrawn), unsent, "ACTIVE place review withdrawn_elsewhere", "lookup"},
		{"withdrawn, sent", shows(marketplace.Withdrawn), sent, "ACTIVE place pending posts=1", "lookup"},
		{"withdrawn, settled", shows(marketplace.Withdrawn), settled, "ACTIVE place review withdrawn_elsewhere posts=1", "lookup"},
		{"withdrawn, twice", shows(marketplace.Withdrawn), twice, "ACTIVE place review withdrawn_elsewhere posts=2", "lookup"},
		{"lost, settled", shows(marketplace.Lost), settled, "ACTIVE place review lost_elsewhere posts=1", "lookup"},
		{"expired, settled", shows(marketplace.Expired), settled, "ACTIVE place review expired_elsewhere posts=1", "lookup"},
		{"nothing, unsent", missing, unsent, "ACTIVE submitted e-1 posts=1", "lookup place"},
		{"nothing, sent", missing, sent, "ACTIVE place pending posts=1", "lookup"},
		{"nothing, settled", missing, settled, "ACTIVE submitted e-1 posts=2", "lookup place"},
		{"nothing, twice", missing, twice, "ACTIVE place review unresolved posts=2", "lookup"},
		{"failed, unsent", failed, unsent, "ACTIVE place pending failed=1", "lookup"},
		{"failed, sent", failed, sent, "ACTIVE place pending posts=1 failed=1", "lookup"},
		{"failed, settled", failed, settled, "ACTIVE place pending posts=1 failed=1", "lookup"},
		{"failed for the last time, unsent", failed, "delivery_attempts = 7", "ACTIVE place review retries_exhausted failed=8", "lookup"},
		{"failed for the last time, settled", failed, settled + ", delivery_attempts = 7", "ACTIVE place review retries_exhausted posts=1 failed=8", "lookup" + " lookup"},
		{"429", marketplace.Finding{Result: marketplace.Result{Kind: marketplace.NotExecuted, Status: 429}}, "delivery_attempts = 7", "ACTIVE place pending failed=7", "lookup"},
		{"not signed in", marketplace.Finding{Result: marketplace.Result{Kind: marketplace.AuthNeeded}}, sent, "ACTIVE place review auth_needed posts=1", "lookup"},
		{"paused", marketplace.Finding{Result: marketplace.Result{Kind: marketplace.PauseAccount}}, sent, "ACTIVE place pending posts=1", "lookup"},
		{"needs a person", marketplace.Finding{Result: marketplace.Result{Kind: marketplace.NeedsHuman}}, sent, "ACTIVE place review needs_human posts=1", "lookup"},
	}
	w := deliverytest.New(t)
	for _, dedup := range []marketplace.Dedup{marketplace.NaturalKey, marketplace.IdempotencyKey, marketplace.NoDedup} {
		for _, tt := range tests {
			t.Run(string(dedup)+"/"+tt.name, func(t *testing.T) {
				t.Parallel()
				if dedup == marketplace.NoDedup && tt.name == "nothing, settled" {
					tt.want, tt.calls = "ACTIVE place review unresolved posts=1", "lookup"
				}
				script, bid := deliverytest.NewScript(dedup), w.Bid(tt.set)
				script.Can.LooksUpByPosting, script.Found = true, []marketplace.Finding{tt.found}
				w.Engine(script).Attempt(bid)
				if got := w.State(bid.ID); got != tt.want {
					t.Errorf("%s, want %s", got, tt.want)
				}
				if got := script.Calls(); got != tt.calls {
					t.Errorf("calls %q, want %q", got, tt.calls)
				}
			})
		}
	}
}

// TestNoLookUpByPosting: an unsent bid is not looked up where that cannot find anything.
func TestNoLookUpByPosting(t *testing.T) {
	t.Parallel()
	w := deliverytest.New(t)
	script, bid := deliverytest.NewScript(marketplace.IdempotencyKey), w.Bid(unsent)
	w.Engine(script).Attempt(bid)
	if got := script.Calls(); got != "place" {
		t.Errorf("calls %q", got)
	}
	if got, want := w.Events(bid.ID), "place armed, place placed "+"placed"; got != want {
		t.Errorf("events %q, want %q", got, want)
	}
}

// TestAnswer: what an answer to a POST proves.
func TestAnswer(t *testing.T) {
	t.Parallel()
	type result = marketplace.Result
	const again1, again2 = "ACTIVE place pending posts=1", "ACTIVE place pending posts=2"
	tests := []struct {
		name          string
		answer        marketplace.Result
		first, second string
		paused        bool
	}{
		{"done", result{Kind: marketplace.Done, ExternalID: "e-1"}, "ACTIVE submitted e-1 posts=1", "ACTIVE submitted e-1 posts=2", false},
		{"done without an id", result{Kind: marketplace.Done}, again1, again2, false},
		{
			"duplicate with an id",
			result{Kind: marketplace.Permanent, Code: "duplicate_bid", ExternalID: "e-9"},
			"ACTIVE submitted e-9 foreign posts=1", "ACTIVE submitted e-9 foreign posts=2", false,
		},
		{"duplicate", result{Kind: marketplace.Permanent, Code: "duplicate_bid"}, again1, again2, false},
		{"refused", result{Kind: marketplace.Permanent, Code: "job_closed", Status: 409}, "REJECTED posts=1", again2, false},
		{"429", result{Kind: marketplace.NotExecuted, Status: 429}, "ACTIVE place pending", again1, false},
		{"not sent", result{Kind: marketplace.NotExecuted, Code: "not_sent"}, "ACTIVE place pending failed=1", again1 + " failed=1", false},
		{"not signed in", result{Kind: marketplace.AuthNeeded}, "ACTIVE place review auth_needed posts=1", again2, true},
		{"paused", result{Kind: marketplace.PauseAccount, Code: "limit_exhausted", After: time.Hour}, again1, again2, true},
		{"needs a person", result{Kind: marketplace.NeedsHuman, Code: "verification"}, "ACTIVE place review verification posts=1", again2, false},
		{"no answer", result{Kind: marketplace.Ambiguous}, again1, again2, false},
	}
	w := deliverytest.New(t)
	for _, dedup := range []marketplace.Dedup{marketplace.NaturalKey, marketplace.IdempotencyKey, marketplace.NoDedup} {
		for _, tt := range tests {
			for set, want := range map[string]string{unsent: tt.first, settled: tt.second} {
				if dedup == marketplace.NoDedup && set != unsent {
					continue // there is no second POST
				}
				t.Run(string(dedup)+"/"+tt.name+"/"+map[string]string{unsent: "first", settled: "second"}[set], func(t *testing.T) {
					t.Parallel()
					script, bid := deliverytest.NewScript(dedup), w.Bid(set)
					script.Placed = tt.answer
					w.Engine(script).Attempt(bid)
					if got := w.State(bid.ID); got != want {
						t.Errorf("%s, want %s", got, want)
					}
					if got := deliverytest.Value[bool](w, "SELECT account_is_paused($1, 'default')", bid.Marketplace); got != tt.paused {
						t.Errorf("paused: %t, want %t", got, tt.paused)
					}
					row := w.Row(bid.ID)
					if row.FirstPostAt == nil || row.PlacePosts > 0 != (row.LastPostAt != nil) {
						t.Errorf("%d POSTs, the first at %v, the last at %v", row.PlacePosts, row.FirstPostAt, row.LastPostAt)
					}
				})
			}
		}
	}
}

// TestLookBeforePerson: a bid that the marketplace has, although it asked for a person, needs none.
func TestLookBeforePerson(t *testing.T) {
	t.Parallel()
	const review = "ACTIVE place review verification posts=1"
	tests := []struct {
		name  string
		found marketplace.Finding
		want  string
	}{
		{"live", deliverytest.Shows(marketplace.Submitted), "ACTIVE submitted e-1 posts=1"},
		{"rejected", deliverytest.Shows(marketplace.Rejected), review},
		{"nothing", marketplace.Finding{Known: true}, review},
		{"no answer", marketplace.Finding{Result: marketplace.Result{Kind: marketplace.Ambiguous}}, review},
	}
	w := deliverytest.New(t)
	for _, dedup := range []marketplace.Dedup{marketplace.NaturalKey, marketplace.IdempotencyKey, marketplace.NoDedup} {
		for _, tt := range tests {
			t.Run(string(dedup)+"/"+tt.name, func(t *testing.T) {
				t.Parallel()
				script, bid := deliverytest.NewScript(dedup), w.Bid(unsent)
				script.Placed = marketplace.Result{Kind: marketplace.NeedsHuman, Code: "verification"}
				script.Found = []marketplace.Finding{tt.found}
				calls := "place lookup"
				if script.Can.LooksUpByPosting = dedup == marketplace.NaturalKey; script.Can.LooksUpByPosting {
					script.Found = []marketplace.Finding{{Known: true}, tt.found}
					calls = "lookup " + calls
				}
				w.Engine(script).Attempt(bid)
				if got := w.State(bid.ID); got != tt.want || script.Calls() != calls {
					t.Errorf("%s after %s, want %s after %s", got, script.Calls(), tt.want, calls)
				}
			})
		}
	}
}

// TestArm: each of its guards alone keeps the POST from being sent. What changes does so
// between the look-up and arming.
func TestArm(t *testing.T) {
	t.Parallel()
	w := deliverytest.New(t)
	tests := []struct {
		name  string
		set   string
		sql   string // with the bid as $1
		armed bool
	}{
		{name: "nothing changes", sql: "SELECT $1::uuid", armed: true},
		{name: "another owner", sql: "UPDATE bids SET lease_token = lease_token + 1 WHERE id = $1"},
		{name: "given back", sql: "UPDATE bids SET delivery_state = 'pending', lease_expires_at = NULL WHERE id = $1"},
		{name: "withdrawing", sql: "UPDATE bids SET delivery_kind = 'withdraw' WHERE id = $1"},
		{name: "ended", sql: "UPDATE bids SET status = 'LOST', delivery_kind = NULL, delivery_state = NULL, lease_expires_at = NULL WHERE id = $1"},
		{name: "withdrawal requested", sql: "UPDATE bids SET withdraw_requested_at = now(), withdraw_requested_reason = 'r' WHERE id = $1"},
		{name: "cap reached", set: settled, sql: "UPDATE bids SET place_posts = 2 WHERE id = $1"},
		{name: "lease too short", sql: "UPDATE bids SET lease_expires_at = clock_timestamp() + interval '1.4 seconds' WHERE id = $1"},
		{name: "lease just long enough", sql: "UPDATE bids SET lease_expires_at = clock_timestamp() + interval '20 seconds' WHERE id = $1", armed: true},
		{name: "no longer fresh", sql: "UPDATE postings SET cached_at = now() - interval '25 hours' WHERE job_id = (SELECT job_id FROM bids WHERE id = $1)"},
		{name: "deadline over", sql: "UPDATE postings SET deadline = now() WHERE job_id = (SELECT job_id FROM bids WHERE id = $1)"},
		{name: "pruned", sql: "DELETE FROM postings WHERE job_id = (SELECT job_id FROM bids WHERE id = $1)"},
		{name: "the second does not need it", set: settled, sql: "DELETE FROM postings WHERE job_id = (SELECT job_id FROM bids WHERE id = $1)", armed: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			script, bid := deliverytest.NewScript(marketplace.NaturalKey), w.Bid(tt.set)
			script.Can.LooksUpByPosting = true
			script.During = func(op string) {
				if op == "lookup" {
					w.Exec(tt.sql, bid.ID)
				}
			}
			w.Engine(script).Attempt(bid)
			want := "lookup"
			if tt.armed {
				want = "lookup place"
			}
			if got := script.Calls(); got != want {
				t.Errorf("calls %q, want %q; %s", got, want, w.State(bid.ID))
			}
		})
	}
}

// TestStale: what is no longer fresh, or over, is for a person and not for the marketplace.
func TestStale(t *testing.T) {
	t.Parallel()
	w := deliverytest.New(t)
	for name, set := range map[string]string{"old": "cached_at = now() - interval '25 hours'", "over": "deadline = now()"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			script, bid := deliverytest.NewScript(marketplace.NaturalKey), w.Bid(unsent)
			w.Exec("UPDATE postings SET "+set+" WHERE job_id = $1", bid.JobID)
			w.Engine(script).Attempt(bid)
			if got, want := w.State(bid.ID), "ACTIVE place review stale"; got != want || script.Calls() != "" {
				t.Errorf("%s, want %s; calls %q", got, want, script.Calls())
			}
		})
	}
}

// TestForgottenKey: there is no second POST when the marketplace may have forgotten the key.
func TestForgottenKey(t *testing.T) {
	t.Parallel()
	w := deliverytest.New(t)
	script, bid := deliverytest.NewScript(marketplace.IdempotencyKey), w.Bid(settled)
	script.Can.KeyLife = time.Hour
	w.Engine(script).Attempt(bid)
	if got, want := w.State(bid.ID), "ACTIVE place review unresolved posts=1"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	script.Can.KeyLife = 2 * time.Hour
	young := w.Bid(settled)
	w.Engine(script).Attempt(young)
	if got, want := w.State(young.ID), "ACTIVE submitted e-1 posts=2"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// TestOvertaken: who no longer holds the lease records nothing.
func TestOvertaken(t *testing.T) {
	t.Parallel()
	w := deliverytest.New(t)
	for name, answer := range map[string]marketplace.Result{
		"done":           {Kind: marketplace.Done, ExternalID: "e-1"},
		"refused":        {Kind: marketplace.Permanent, Code: "job_closed"},
		"not sent":       {Kind: marketplace.NotExecuted},
		"needs a person": {Kind: marketplace.NeedsHuman},
		"no answer":      {Kind: marketplace.Ambiguous},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			script, bid := deliverytest.NewScript(marketplace.NaturalKey), w.Bid(unsent)
			script.Placed = answer
			script.During = func(string) { w.Set(bid.ID, "lease_token = lease_token + 1") }
			engine := w.Engine(script)
			engine.Attempt(bid)
			if got, want := w.State(bid.ID), "ACTIVE place leased posts=1"; got != want {
				t.Errorf("%s, want %s", got, want)
			}
			if got := engine.Totals(); got != (delivery.Totals{}) {
				t.Errorf("counted %+v", got)
			}
			if len(w.Log.Lines("overtaken")) == 0 {
				t.Error("nothing in the log")
			}
		})
	}
}

// TestIDOfAnother: a bid does not take the id that another row has, live or ended.
func TestIDOfAnother(t *testing.T) {
	t.Parallel()
	w := deliverytest.New(t)
	const live = "external_bid_id = 'e-1', submitted_at = now(), delivery_kind = NULL, delivery_state = NULL"
	for name, owner := range map[string]string{"live": live, "ended": live + ", status = 'WITHDRAWN'"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			other := w.Bid(owner)
			script, bid := deliverytest.NewScript(marketplace.NaturalKey), w.Bid(unsent, other.Marketplace)
			engine := w.Engine(script)
			engine.Attempt(bid)
			if got, want := w.State(bid.ID), "ACTIVE place review external_id_clash posts=1"; got != want {
				t.Errorf("answered: %s, want %s", got, want)
			}
			if got := engine.Totals(); got.Place != (delivery.Counts{Review: 1}) || got.ForPerson != 1 {
				t.Errorf("counted %+v", got)
			}
			script.Found = []marketplace.Finding{deliverytest.Shows(marketplace.Submitted)}
			found := w.Bid(sent, other.Marketplace)
			engine.Attempt(found)
			if got, want := w.State(found.ID), "ACTIVE place pending posts=1"; got != want {
				t.Errorf("found: %s, want %s", got, want)
			}
		})
	}
}

// TestIDTakenMeanwhile: the index has the last word when two bids learn of one id at once.
func TestIDTakenMeanwhile(t *testing.T) {
	t.Parallel()
	w := deliverytest.New(t)
	script, bid := deliverytest.NewScript(marketplace.NaturalKey), w.Bid(unsent)
	other := w.Bid(sent, bid.Marketplace)
	var engine *deliverytest.Engine
	w.Exec(`CREATE FUNCTION take() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		IF NEW.external_bid_id IS NOT NULL AND OLD.external_bid_id IS NULL AND pg_trigger_depth() = 1 THEN
			UPDATE bids SET external_bid_id = NEW.external_bid_id WHERE id <> NEW.id AND marketplace = NEW.marketplace;
		END IF; RETURN NEW; END $$`)
	w.Exec("CREATE TRIGGER aa_take BEFORE UPDATE ON bids FOR EACH ROW EXECUTE FUNCTION take()")
	engine = w.Engine(script)
	engine.Attempt(bid)
	if got, want := w.State(bid.ID), "ACTIVE place review external_id_clash posts=1"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := engine.Totals(); got.Place != (delivery.Counts{Review: 1}) {
		t.Errorf("counted %+v", got)
	}
	if w.Row(other.ID).ExternalBidID != nil {
		t.Error("the refused statement left something")
	}
}

// TestOvertakenByWithdrawal: what a withdrawal was asked for meanwhile goes on by itself,
// whatever came of the POST.
func TestOvertakenByWithdrawal(t *testing.T) {
	t.Parallel()
	w := deliverytest.New(t)
	for name, tt := range map[string]struct {
		answer marketplace.Result
		want   string
	}{
		"done":           {marketplace.Result{Kind: marketplace.Done, ExternalID: "e-1"}, "ACTIVE withdraw pending submitted e-1 posts=1"},
		"needs a person": {marketplace.Result{Kind: marketplace.NeedsHuman}, "ACTIVE withdraw pending posts=1"},
		"no answer":      {marketplace.Result{Kind: marketplace.Ambiguous, After: time.Hour}, "ACTIVE withdraw pending posts=1"},
		"not sent":       {marketplace.Result{Kind: marketplace.NotExecuted, After: time.Hour}, "ACTIVE withdraw pending"},
		"refused":        {marketplace.Result{Kind: marketplace.Permanent, Code: "job_closed"}, "REJECTED posts=1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			script, bid := deliverytest.NewScript(marketplace.NaturalKey), w.Bid(unsent)
			script.Placed = tt.answer
			script.During = func(string) {
				w.Set(bid.ID, "withdraw_requested_at = now(), withdraw_requested_reason = 'r'")
			}
			engine := w.Engine(script)
			engine.Attempt(bid)
			if got := w.State(bid.ID); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
			if engine.Totals().ForPerson != 0 {
				t.Error("counted as waiting for a person")
			}
			if row := w.Row(bid.ID); row.Status == "ACTIVE" && w.Wait(bid.ID) > 0 {
				t.Errorf("due in %v", w.Wait(bid.ID))
			}
		})
	}
}

// TestSameBytes: the second POST is the first one to the byte, although the posting was
// refreshed, or is gone.
func TestSameBytes(t *testing.T) { //nolint:tparallel // subtests would wait for each other's locks
	t.Parallel()
	w := deliverytest.New(t)
	noAnswer, tooMany := marketplace.Result{Kind: marketplace.Ambiguous}, marketplace.Result{Kind: marketplace.NotExecuted, Status: 429}
	for name, tt := range map[string]struct { //nolint:paralleltest // as above
		answer        marketplace.Result
		change, calls string
	}{
		"refreshed":                  {noAnswer, "UPDATE postings SET url = NULL, title = 'Another', pricing = 'hourly' WHERE job_id = $1", "place lookup place"},
		"pruned":                     {noAnswer, "DELETE FROM postings WHERE job_id = $1", "place lookup place"},
		"refreshed, after a refusal": {tooMany, "UPDATE postings SET url = NULL, title = 'Another', pricing = 'hourly' WHERE job_id = $1", "place" + " place"},
	} {
		t.Run(name, func(t *testing.T) {
			script, bid := deliverytest.NewScript(marketplace.IdempotencyKey), w.Bid(unsent)
			script.Placed = tt.answer
			engine := w.Engine(script)
			engine.Attempt(bid)
			w.Exec(tt.change, bid.JobID)
			w.Exec("UPDATE accounts SET next_slot = now() WHERE marketplace = $1", bid.Marketplace)
			// An hour passes, for the history too, which does not change otherwise.
			w.Exec("ALTER TABLE bid_events DISABLE TRIGGER ALL")
			w.Exec("UPDATE bid_events SET at = at - interval '1 hour' WHERE bid_id = $1", bid.ID)
			w.Exec("ALTER TABLE bid_events ENABLE TRIGGER ALL")
			w.Set(bid.ID, "first_post_at = first_post_at - interval '1 hour', last_post_at = last_post_at - interval '1 hour', next_attempt_at = now()")
			engine.Attempt(bid)
			bids := script.Bids()
			if script.Calls() != tt.calls {
				t.Fatalf("calls %q", script.Calls())
			}
			first, second := bids[0], bids[len(bids)-1]
			first.ArmedAt = first.ArmedAt.Add(-time.Hour)
			if first != second || first.JobURL == "" || first.Pricing != "fixed" || first.Title != "A title" {
				t.Errorf("first  %+v\nsecond %+v", first, second)
			}
		})
	}
}

// TestByHand: what only a person can do is handed to one without being a failure.
func TestByHand(t *testing.T) {
	t.Parallel()
	w := deliverytest.New(t)
	script, bid := deliverytest.NewScript(marketplace.NoDedup), w.Bid(unsent)
	script.Can.ByHand = true
	engine := w.Engine(script)
	engine.Attempt(bid)
	if got, want := w.State(bid.ID), "ACTIVE place review no_api"; got != want || script.Calls() != "" {
		t.Errorf("%s, want %s; calls %q", got, want, script.Calls())
	}
	if got, want := engine.Totals(), (delivery.Totals{Place: delivery.Counts{Review: 1}}); got != want {
		t.Errorf("counted %+v, want %+v", got, want)
	}
	if lines := w.Log.Lines(`"level":"ERROR"`); len(lines) > 0 {
		t.Errorf("logged %q", lines)
	}

	// What another handler may have sent is not to be sent by hand.
	maybe := w.Bid(sent)
	engine.Attempt(maybe)
	if got, want := w.State(maybe.ID), "ACTIVE place review unresolved posts=1"; got != want || script.Calls() != "" {
		t.Errorf("%s, want %s; calls %q", got, want, script.Calls())
	}
	if got := engine.Totals().ForPerson; got != 1 {
		t.Errorf("%d for a person, want 1", got)
	}
}

// TestNoHandler: without a client the delivery waits for a person.
func TestNoHandler(t *testing.T) {
	t.Parallel()
	w := deliverytest.New(t)
	var bid queries.Bid
	for _, set := range []string{unsent, settled + ", delivery_kind = 'withdraw', withdraw_requested_at = now(), withdraw_requested_reason = 'r'"} {
		bid = w.Bid(set)
		engine := w.EngineOf(w.Pool, deliverytest.Options(func(string) (delivery.Account, error) { return delivery.Account{}, delivery.ErrNoHandler }))
		engine.Attempt(bid)
		if row := w.Row(bid.ID); row.ReviewReason == nil || *row.ReviewReason != delivery.ReasonNoHandler {
			t.Errorf("%s", w.State(bid.ID))
		}
	}
}
