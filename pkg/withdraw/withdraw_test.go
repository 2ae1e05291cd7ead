package withdraw_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/delivery"
	"github.com/arbitrageai/bidder/pkg/marketplace"
	"github.com/arbitrageai/bidder/pkg/withdraw"
	"github.com/arbitrageai/bidder/test/deliverytest"
)

// What SQL says of bids whose withdrawal was requested.
const (
	asked     = "delivery_kind = 'withdraw', withdraw_requested_at = now(), withdraw_requested_reason = 'a mistake'"
	sent      = asked + ", " + deliverytest.Sent
	settled   = asked + ", " + deliverytest.Settled
	known     = ", external_bid_id = 'e-1', submitted_at = now()"
	submitted = "external_bid_id = 'e-1', submitted_at = now(), delivery_kind = NULL, delivery_state = NULL, next_attempt_at = NULL, " + deliverytest.Settled
)

func request(tb testing.TB, w *deliverytest.World, id uuid.UUID, reason string) queries.Bid {
	tb.Helper()
	bid, _, err := withdraw.Request(tb.Context(), w.Pool, deliverytest.Limits(), id, reason, "ops@example.test")
	if err != nil {
		tb.Fatal(err)
	}
	return bid
}

func TestRequest(t *testing.T) {
	t.Parallel()
	w := deliverytest.New(t)
	tests := []struct{ name, set, want, events string }{
		{"never sent", "", "WITHDRAWN", " withdraw requested"},
		{"never sent, awaiting approval", "delivery_state = 'awaiting_approval', next_attempt_at = NULL", "WITHDRAWN", ""},
		{"never sent, in review", "delivery_state = 'review', review_reason = 'stale', review_since = now(), next_attempt_at = NULL", "WITHDRAWN", ""},
		{"sent", deliverytest.Sent + ", delivery_attempts = 3", "ACTIVE withdraw pending posts=1", ""},
		{"sent, in review", deliverytest.Sent + ", delivery_state = 'review', review_reason = 'unresolved', review_since = now()", "ACTIVE withdraw pending posts=1", ""},
		{"submitted", submitted, "ACTIVE withdraw pending submitted e-1 posts=1", ""},
		{"adopted without a POST", "external_bid_id = 'e-1', delivery_kind = NULL, delivery_state = NULL", "ACTIVE withdraw pending e-1", ""},
		{"leased, unsent", "delivery_state = 'leased', lease_expires_at = now() + interval '1 hour'", "ACTIVE place leased", ""},
		{"leased, sent", deliverytest.Sent + ", delivery_state = 'leased', lease_expires_at = now() + interval '1 hour'", "ACTIVE place leased posts=1", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			bid := w.Bid(tt.set)
			got := request(t, w, bid.ID, "a mistake")
			if state := deliverytest.Describe(got); state != tt.want {
				t.Errorf("%s, want %s", state, tt.want)
			}
			if leased := bid.LeaseExpiresAt != nil; (got.LeaseToken == bid.LeaseToken) != leased {
				t.Errorf("token %d, before %d", got.LeaseToken, bid.LeaseToken)
			}
			if *got.WithdrawRequestedReason != "a mistake" || *got.WithdrawRequestedBy != "ops@example.test" {
				t.Errorf("asked %v by %v", *got.WithdrawRequestedReason, *got.WithdrawRequestedBy)
			}
			if ended := got.Status == "WITHDRAWN"; ended != (got.WithdrawalTimestamp != nil) || ended != (got.WithdrawnReason != nil) {
				t.Errorf("withdrawn at %v for %v", got.WithdrawalTimestamp, got.WithdrawnReason)
			}
			if events := w.Events(bid.ID); events != "withdraw requested" {
				t.Errorf("events %q", events)
			}
			again := request(t, w, bid.ID, "another reason")
			if again.UpdatedAt != got.UpdatedAt || *again.WithdrawRequestedReason != "a mistake" {
				t.Errorf("asked again: %+v", again)
			}
			if events := w.Events(bid.ID); events != "withdraw requested" {
				t.Errorf("asked again: events %q", events)
			}
		})
	}
}

func TestRefusedRequests(t *testing.T) {
	t.Parallel()
	w := deliverytest.New(t)
	const ended = ", delivery_kind = NULL, delivery_state = NULL"
	for _, status := range []string{"REJECTED", "WON", "LOST", "DUPLICATE"} {
		bid := w.Bid("")
		if status == "DUPLICATE" {
			w.Exec("INSERT INTO bids (id, marketplace, job_id, status) VALUES ($1, 'upwork', 'j', 'DUPLICATE')", uuid.NameSpaceDNS)
			bid.ID = uuid.NameSpaceDNS
		} else {
			w.Set(bid.ID, "status = '"+status+"'"+ended)
		}
		_, _, err := withdraw.Request(t.Context(), w.Pool, deliverytest.Limits(), bid.ID, "r", "b")
		if refused, ok := errors.AsType[withdraw.NotLiveError](err); !ok || refused.Status != status || !strings.Contains(err.Error(), status) {
			t.Errorf("%s: %v", status, err)
		}
		if row := w.Row(bid.ID); row.WithdrawRequestedAt != nil {
			t.Errorf("%s: %+v", status, row)
		}
	}
	if _, _, err := withdraw.Request(t.Context(), w.Pool, deliverytest.Limits(), uuid.New(), "r", "b"); !errors.Is(err, withdraw.ErrNoSuchBid) {
		t.Errorf("unknown: %v", err)
	}
	bid := w.Bid("")
	for _, words := range [][2]string{{" ", "b"}, {"r", ""}} {
		if _, _, err := withdraw.Request(t.Context(), w.Pool, deliverytest.Limits(), bid.ID, words[0], words[1]); !errors.Is(err, withdraw.ErrNoReason) {
			t.Errorf("%q: %v", words, err)
		}
	}
	if got := w.State(bid.ID); got != "ACTIVE place pending" {
		t.Error(got)
	}
	w.Exec("ALTER TABLE bids RENAME COLUMN review_since TO gone")
	if _, _, err := withdraw.Request(t.Context(), w.Pool, deliverytest.Limits(), bid.ID, "r", "b"); err == nil || errors.Is(err, withdraw.ErrNoSuchBid) {
		t.Errorf("broken database: %v", err)
	}
}

// TestCarry: what is found, read and answered decides what becomes of a withdrawal.
func TestCarry(t *testing.T) {
	t.Parallel()
	shows := deliverytest.Shows
	missing := marketplace.Finding{Known: true}
	failed := marketplace.Finding{Result: marketplace.Result{Kind: marketplace.Ambiguous, Status: 500}}
	another := func(status marketplace.Status) marketplace.Finding {
		return marketplace.Finding{Known: true, Found: true, ExternalID: "e-2", Status: status}
	}
	guessed := marketplace.Finding{Known: true, Found: true, ExternalID: "e-1", Status: marketplace.Submitted, Foreign: true}
	done := marketplace.Result{Kind: marketplace.Done}
	type findings = []marketplace.Finding
	tests := []struct {
		name   string
		set    string
		finds  findings
		answer marketplace.Result
		want   string
		calls  string
	}{
		{"unsent", asked, findings{shows(marketplace.Submitted)}, done, "WITHDRAWN", ""},
		// The id is unknown.
		{"found live, sent", sent, findings{shows(marketplace.Submitted), shows(marketplace.Withdrawn)}, done, "WITHDRAWN submitted e-1 posts=1", "lookup withdraw lookup"},
		{"found live, settled", settled, findings{shows(marketplace.Submitted), shows(marketplace.Withdrawn)}, done, "WITHDRAWN submitted e-1 posts=1", "lookup withdraw lookup"},
		{"found by posting, sent", sent, findings{guessed}, done, "ACTIVE withdraw pending submitted e-1 foreign posts=1", "lookup"},
		{"found by posting, settled", settled, findings{guessed, missing}, done, "WITHDRAWN submitted e-1 foreign posts=1", "lookup withdraw lookup"},
		{"found awarded", sent, findings{shows(marketplace.Accepted)}, done, "ACTIVE withdraw review awarded submitted e-1 posts=1", "lookup"},
		{"found rejected, sent", sent, findings{shows(marketplace.Rejected)}, done, "ACTIVE withdraw pending posts=1", "lookup"},
		{"found rejected, settled", settled, findings{shows(marketplace.Rejected)}, done, "REJECTED posts=1", "lookup"},
		{"found withdrawn, sent", sent, findings{shows(marketplace.Withdrawn)}, done, "ACTIVE withdraw pending posts=1", "lookup"},
		{"found withdrawn, settled", settled, findings{shows(marketplace.Withdrawn)}, done, "ACTIVE withdraw review unresolved posts=1", "lookup"},
		{"not found, sent", sent, findings{missing}, done, "ACTIVE withdraw pending posts=1", "lookup"},
		{"not found, settled", settled, findings{missing}, done, "ACTIVE withdraw review unresolved posts=1", "lookup"},
		{"look-up failed", settled, findings{failed}, done, "ACTIVE withdraw pending posts=1 failed=1", "lookup"},
		{"look-up failed for the last time", settled + ", delivery_attempts = 7", findings{failed}, done, "ACTIVE withdraw review retries_exhausted posts=1 failed=8", "lookup"},
		// The id is known.
		{"live", settled + known, findings{shows(marketplace.Submitted), shows(marketplace.Withdrawn)}, done, "WITHDRAWN submitted e-1 posts=1", "lookup withdraw lookup"},
		{"live, just sent", sent + known, findings{shows(marketplace.Submitted), shows(marketplace.Withdrawn)}, done, "WITHDRAWN submitted e-1 posts=1", "lookup withdraw lookup"},
		{"guessed, just sent", sent + known + ", is_foreign = true", findings{shows(marketplace.Submitted)}, done, "ACTIVE withdraw pending submitted e-1 foreign posts=1", "lookup"},
		{"guessed and withdrawn there, just sent", sent + known + ", is_foreign = true", findings{shows(marketplace.Withdrawn)}, done, "ACTIVE withdraw pending submitted e-1 foreign posts=1", "lookup"},
		{"adopted without a POST", asked + known + ", is_foreign = true", findings{shows(marketplace.Submitted), missing}, done, "WITHDRAWN submitted e-1 foreign", "lookup withdraw lookup"},
		{"withdrawn there", settled + known, findings{shows(marketplace.Withdrawn)}, done, "WITHDRAWN submitted e-1 posts=1", "lookup"},
		{"lost there", settled + known, findings{shows(marketplace.Lost)}, done, "LOST submitted e-1 posts=1", "lookup"},
		{"expired there", settled + known, findings{shows(marketplace.Expired)}, done, "WITHDRAWN submitted e-1 posts=1", "lookup"},
		{"rejected there", settled + known, findings{shows(marketplace.Rejected)}, done, "REJECTED submitted e-1 posts=1", "lookup"},
		{"awarded there", settled + known, findings{shows(marketplace.Accepted)}, done, "ACTIVE withdraw review awarded submitted e-1 posts=1", "lookup"},
		{"not shown", settled + known, findings{missing}, done, "WITHDRAWN submitted e-1 posts=1", "lookup withdraw lookup"},
		{"another is shown live", settled + known, findings{another(marketplace.Submitted)}, done, "ACTIVE withdraw review external_id_clash submitted e-1 posts=1", "lookup"},
		{"another is shown withdrawn", settled + known, findings{another(marketplace.Withdrawn)}, done, "WITHDRAWN submitted e-1 posts=1", "lookup withdraw lookup"},
		// Read again.
		{"still live", settled + known, findings{shows(marketplace.Submitted)}, done, "ACTIVE withdraw pending submitted e-1 posts=1 failed=1", "lookup withdraw lookup"},
		{"rejected meanwhile", settled + known, findings{shows(marketplace.Submitted), shows(marketplace.Rejected)}, done, "REJECTED submitted e-1 posts=1", "lookup withdraw lookup"},
		{"awarded meanwhile", settled + known, findings{shows(marketplace.Submitted), shows(marketplace.Accepted)}, done, "ACTIVE withdraw review awarded submitted e-1 posts=1", "lookup withdraw lookup"},
		{"reading again failed", settled + known, findings{shows(marketplace.Submitted), failed}, done, "ACTIVE withdraw pending submitted e-1 posts=1 failed=1", "lookup withdraw lookup"},
		// The answer to the retraction.
		{"no answer", settled + known, findings{shows(marketplace.Submitted)}, marketplace.Result{Kind: marketplace.Ambiguous}, "ACTIVE withdraw pending submitted e-1 posts=1 failed=1", "lookup withdraw"},
		{"not sent", settled + known, findings{shows(marketplace.Submitted)}, marketplace.Result{Kind: marketplace.NotExecuted}, "ACTIVE withdraw pending submitted e-1 posts=1 failed=1", "lookup withdraw"},
		{"429", settled + known, findings{shows(marketplace.Submitted)}, marketplace.Result{Kind: marketplace.NotExecuted, Status: 429}, "ACTIVE withdraw pending submitted e-1 posts=1", "lookup withdraw"},
		{"refused as awarded", settled + known, findings{shows(marketplace.Submitted)}, marketplace.Result{Kind: marketplace.Permanent, Code: "already_accepted"}, "ACTIVE withdraw review awarded submitted e-1 posts=1", "lookup withdraw"},
		{"a person for what is awarded", settled + known, findings{shows(marketplace.Submitted)}, marketplace.Result{Kind: marketplace.NeedsHuman, Code: "already_accepted"}, "ACTIVE withdraw review awarded submitted e-1 posts=1", "lookup withdraw"},
		{"refused", settled + known, findings{shows(marketplace.Submitted)}, marketplace.Result{Kind: marketplace.Permanent, Code: "invalid_request"}, "ACTIVE withdraw review invalid_request submitted e-1 posts=1", "lookup withdraw"},
		{"refused without a code", settled + known, findings{shows(marketplace.Submitted)}, marketplace.Result{Kind: marketplace.Permanent}, "ACTIVE withdraw review needs_human submitted e-1 posts=1", "lookup withdraw"},
		{"not signed in", settled + known, findings{shows(marketplace.Submitted)}, marketplace.Result{Kind: marketplace.AuthNeeded}, "ACTIVE withdraw review auth_needed submitted e-1 posts=1", "lookup withdraw"},
		{"paused", settled + known, findings{shows(marketplace.Submitted)}, marketplace.Result{Kind: marketplace.PauseAccount}, "ACTIVE withdraw pending submitted e-1 posts=1", "lookup withdraw"},
	}
	w := deliverytest.New(t)
	for _, dedup := range []marketplace.Dedup{marketplace.NaturalKey, marketplace.IdempotencyKey, marketplace.NoDedup} {
		for _, tt := range tests {
			t.Run(string(dedup)+"/"+tt.name, func(t *testing.T) {
				t.Parallel()
				if dedup == marketplace.NaturalKey && tt.name == "found live, sent" { // by posting: it may be a person's
					tt.want, tt.calls = "ACTIVE withdraw pending submitted e-1 posts=1", "lookup"
				}
				script, bid := deliverytest.NewScript(dedup), w.Bid(tt.set)
				script.Found, script.Withdrawn = tt.finds, tt.answer
				w.Engine(script).Attempt(bid)
				if got := w.State(bid.ID); got != tt.want {
					t.Errorf("%s, want %s", got, tt.want)
				}
				if got := script.Calls(); got != tt.calls {
					t.Errorf("calls %q, want %q", got, tt.calls)
				}
				row := w.Row(bid.ID)
				if row.Status == "WITHDRAWN" && (*row.WithdrawnReason != "a mistake" || row.WithdrawalTimestamp == nil) {
					t.Errorf("withdrawn %v at %v", row.WithdrawnReason, row.WithdrawalTimestamp)
				}
				if row.Status == "REJECTED" && row.WithdrawnReason != nil {
					t.Errorf("withdrawn for %s", *row.WithdrawnReason)
				}
			})
		}
	}
}

// clocked is a client, and a tracer of what is asked of the database, that tell when.
type clocked struct {
	*deliverytest.Script

	asked, deadline time.Time
}

func (c *clocked) Withdraw(ctx context.Context, bid marketplace.Bid) marketplace.Result {
	c.deadline, _ = ctx.Deadline()
	return c.Script.Withdraw(ctx, bid)
}

func (c *clocked) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	if strings.Contains(data.SQL, "name: HoldsLease") {
		c.asked = time.Now()
	}
	return ctx
}

func (c *clocked) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// TestRetractionInTime: the time of a retraction counts from before it was asked whether the lease still covers it.
func TestRetractionInTime(t *testing.T) {
	t.Parallel()
	w := deliverytest.New(t)
	client, bid := &clocked{Script: deliverytest.NewScript(marketplace.IdempotencyKey)}, w.Bid(settled+known)
	client.Found = []marketplace.Finding{deliverytest.Shows(marketplace.Submitted), deliverytest.Shows(marketplace.Withdrawn)}
	config := w.Pool.Config()
	config.ConnConfig.Tracer = client
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	w.EngineOf(pool, deliverytest.Options(func(string) (delivery.Account, error) {
		return delivery.Account{Client: client, Settle: deliverytest.Settle}, nil
	})).Attempt(bid)
	if got, want := w.State(bid.ID), "WITHDRAWN submitted e-1 posts=1"; got != want || client.asked.IsZero() {
		t.Fatalf("%s, want %s; asked at %v", got, want, client.asked)
	}
	if began := client.deadline.Add(-client.Can.Timeout); began.After(client.asked) {
		t.Errorf("the deadline counts from %v after the lease was asked for", began.Sub(client.asked))
	}
}

// TestGuessedTwice: after two POSTs to a marketplace that refuses a second live bid, the
// other one may still take the place of what is retracted; one with keys does not let it.
func TestGuessedTwice(t *testing.T) {
	t.Parallel()
	w := deliverytest.New(t)
	set := strings.Replace(sent, "place_posts = 1", "place_posts = 2", 1) + known
	for dedup, want := range map[marketplace.Dedup]string{marketplace.NaturalKey: "lookup", marketplace.IdempotencyKey: "lookup withdraw lookup"} {
		script, bid := deliverytest.NewScript(dedup), w.Bid(set)
		script.Found = []marketplace.Finding{deliverytest.Shows(marketplace.Submitted), {Known: true}}
		w.Engine(script).Attempt(bid)
		if got := script.Calls(); got != want {
			t.Errorf("%s: calls %q, want %q", dedup, got, want)
		}
	}
}

// TestGuessedByPosting: where a look-up finds bids by posting, what it finds may be a person's,
// though it looks like ours, until ours had the time to arrive.
func TestGuessedByPosting(t *testing.T) {
	t.Parallel()
	w := deliverytest.New(t)
	for dedup, want := range map[marketplace.Dedup]string{marketplace.NaturalKey: "lookup", marketplace.IdempotencyKey: "lookup withdraw lookup"} {
		want = "lookup " + want // the one that finds it
		script, bid := deliverytest.NewScript(dedup), w.Bid(deliverytest.Sent)
		script.Found = []marketplace.Finding{deliverytest.Shows(marketplace.Submitted), deliverytest.Shows(marketplace.Submitted), {Known: true}}
		engine := w.Engine(script)
		engine.Attempt(bid) // finds it, and takes it for ours
		request(t, w, bid.ID, "a mistake")
		engine.Attempt(bid)
		if got := script.Calls(); got != want {
			t.Errorf("%s: calls %q, want %q; %s", dedup, got, want, w.State(bid.ID))
		}
		if row := w.Row(bid.ID); row.IsGuessed != (dedup == marketplace.NaturalKey) || row.IsForeign {
			t.Errorf("%s: %+v", dedup, row)
		}
	}
}

// TestAdoptionClash: an id that another row took in between is for a person.
func TestAdoptionClash(t *testing.T) {
	t.Parallel()
	w := deliverytest.New(t)
	script, bid := deliverytest.NewScript(marketplace.NaturalKey), w.Bid(settled)
	other := w.Bid(deliverytest.Sent, bid.Marketplace)
	w.Exec(`CREATE FUNCTION take() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		IF NEW.external_bid_id IS NOT NULL AND OLD.external_bid_id IS NULL AND pg_trigger_depth() = 1 THEN
			UPDATE bids SET external_bid_id = NEW.external_bid_id WHERE id <> NEW.id AND marketplace = NEW.marketplace;
		END IF; RETURN NEW; END $$`)
	w.Exec("CREATE TRIGGER aa_take BEFORE UPDATE ON bids FOR EACH ROW EXECUTE FUNCTION take()")
	script.Found = []marketplace.Finding{deliverytest.Shows(marketplace.Submitted)}
	w.Engine(script).Attempt(bid)
	if got, want := w.State(bid.ID), "ACTIVE withdraw review external_id_clash posts=1"; got != want || script.Calls() != "lookup" {
		t.Errorf("%s, want %s; calls %q; %s", got, want, script.Calls(), w.State(other.ID))
	}
}

// TestOvertakenBeforeRetracting: nobody retracts without the lease.
func TestOvertakenBeforeRetracting(t *testing.T) {
	t.Parallel()
	w := deliverytest.New(t)
	for name, set := range map[string]string{
		"another owner": "lease_token = lease_token + 1", "lease too short": "lease_expires_at = clock_timestamp() + interval '1 second'",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			script, bid := deliverytest.NewScript(marketplace.NaturalKey), w.Bid(settled)
			script.Found = []marketplace.Finding{deliverytest.Shows(marketplace.Submitted)}
			script.During = func(string) { w.Set(bid.ID, set) }
			w.Engine(script).Attempt(bid)
			if got := script.Calls(); got != "lookup" {
				t.Errorf("calls %q", got)
			}
		})
	}
}

// TestByHand: without an API a withdrawal is a person's, but for what was never sent.
func TestByHand(t *testing.T) {
	t.Parallel()
	w := deliverytest.New(t)
	script := deliverytest.NewScript(marketplace.NoDedup)
	script.Can.ByHand = true
	engine := w.Engine(script)
	for set, want := range map[string]string{settled + known: "ACTIVE withdraw review no_api submitted e-1 posts=1", asked: "WITHDRAWN"} {
		bid := w.Bid(set)
		engine.Attempt(bid)
		if got := w.State(bid.ID); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	if got, want := engine.Totals(), (delivery.Totals{Withdraw: delivery.Counts{Done: 1, Review: 1}}); got != want {
		t.Errorf("counted %+v, want %+v", got, want)
	}
}

// TestGuarded: pauses and the account's rate hold for each of the three calls, and are no failures.
func TestGuarded(t *testing.T) {
	t.Parallel()
	w := deliverytest.New(t)
	for _, during := range []string{"", "lookup", "withdraw"} {
		script, bid := deliverytest.NewScript(marketplace.NaturalKey), w.Bid(settled+known)
		pause := func() {
			w.Exec("INSERT INTO accounts (marketplace, account, paused_at, paused_reason, paused_by) VALUES ($1, '*', now(), 'r', 'b')", bid.Marketplace)
		}
		script.Found = []marketplace.Finding{deliverytest.Shows(marketplace.Submitted)}
		script.During = func(op string) {
			if op == during {
				pause()
			}
		}
		if during == "" {
			pause()
		}
		worked, err := w.Engine(script).DeliverBid(t.Context(), bid.Marketplace, bid.Account, bid.ID)
		if err != nil || worked != (during != "") {
			t.Errorf("worked: %t, %v", worked, err)
		}
		if got, want := w.State(bid.ID), "ACTIVE withdraw pending submitted e-1 posts=1"; got != want || !strings.HasSuffix(script.Calls(), during) {
			t.Errorf("paused during %q: %s, want %s; calls %q", during, got, want, script.Calls())
		}
	}
}

// TestRejectedByHand: what was taken back may turn out to have been rejected.
func TestRejectedByHand(t *testing.T) {
	t.Parallel()
	w := deliverytest.New(t)
	bid := w.Bid("")
	request(t, w, bid.ID, "a mistake")
	w.Set(bid.ID, "status = 'REJECTED'")
	if _, _, err := withdraw.Request(t.Context(), w.Pool, deliverytest.Limits(), bid.ID, "r", "b"); err == nil {
		t.Error("withdrawn after it was rejected")
	}
}

// TestWhileLeased: a request leaves the pod that is at the bid alone, and comes after it.
func TestWhileLeased(t *testing.T) {
	t.Parallel()
	w := deliverytest.New(t)
	script, bid := deliverytest.NewScript(marketplace.NaturalKey), w.Bid("")
	script.During = func(op string) {
		if op == "place" {
			request(t, w, bid.ID, "a mistake")
		}
	}
	engine := w.Engine(script)
	engine.Attempt(bid)
	if got, want := w.State(bid.ID), "ACTIVE withdraw pending submitted e-1 posts=1"; got != want {
		t.Fatalf("%s, want %s", got, want)
	}
	script.Found = []marketplace.Finding{deliverytest.Shows(marketplace.Submitted), deliverytest.Shows(marketplace.Withdrawn)}
	if err := engine.Pass(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	if got, want := script.Calls(), "place lookup withdraw lookup"; got != want {
		t.Errorf("calls %q, want %q", got, want)
	}
	if got, want := engine.Totals(), (delivery.Totals{Place: delivery.Counts{Done: 1}, Withdraw: delivery.Counts{Done: 1}}); got != want {
		t.Errorf("counted %+v, want %+v", got, want)
	}
	if got, want := w.Events(bid.ID), "place armed, withdraw requested, place placed placed, withdraw ended withdrawn_there"; got != want {
		t.Errorf("events %q, want %q", got, want)
	}
}

// TestRequestedBeforeTheCrash: the lease of a pod that died with a placing becomes the withdrawal.
func TestRequestedBeforeTheCrash(t *testing.T) {
	t.Parallel()
	w := deliverytest.New(t)
	bid := w.Bid("delivery_state = 'leased', delivery_attempts = 5, lease_expires_at = clock_timestamp() + interval '1 hour'")
	request(t, w, bid.ID, "a mistake")
	w.Set(bid.ID, "lease_expires_at = clock_timestamp(), next_attempt_at = clock_timestamp()")
	engine := w.Engine(deliverytest.NewScript(marketplace.NaturalKey))
	engine.Attempt(bid)
	if got, want := w.State(bid.ID), "WITHDRAWN"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := engine.Totals(); got.Recovered != 1 || got.Withdraw.Done != 1 {
		t.Errorf("counted %+v", got)
	}
	if took := time.Since(*w.Row(bid.ID).WithdrawalTimestamp); took > time.Minute || took < -time.Minute {
		t.Errorf("withdrawn %v ago", took)
	}
}
