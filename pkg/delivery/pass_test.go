package delivery_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/config"
	"github.com/arbitrageai/bidder/pkg/delivery"
	"github.com/arbitrageai/bidder/pkg/marketplace"
	"github.com/arbitrageai/bidder/pkg/marketplace/sandbox"
	"github.com/arbitrageai/bidder/test/deliverytest"
)

// reliable are the rules of a marketplace that keeps doubles out by itself.
var reliable = sandbox.Rules{Idempotent: true, NaturalKey: true}

func pass(t *testing.T, engine *deliverytest.Engine, workers int) {
	t.Helper()
	if err := engine.Pass(t.Context(), workers); err != nil {
		t.Fatal(err)
	}
}

func withGap(client marketplace.Client, gap time.Duration) func(*delivery.Options) {
	return func(o *delivery.Options) {
		o.Account = func(string) (delivery.Account, error) {
			return delivery.Account{Client: client, Gap: gap, Settle: deliverytest.Settle}, nil
		}
	}
}

func wantDue(t *testing.T, w *deliverytest.World, bid queries.Bid, earliest, latest time.Duration) {
	t.Helper()
	if wait := w.Wait(bid.ID); wait > latest || wait < earliest-10*time.Second {
		t.Errorf("due in %v, want in %v to %v", wait, earliest, latest)
	}
}

func TestPass(t *testing.T) {
	t.Parallel()
	w := deliverytest.New(t)
	script := deliverytest.NewScript(marketplace.IdempotencyKey)
	engine := w.Engine(script)
	pass(t, engine, 3) // nothing is owed
	for i := range 12 {
		w.Bid("", fmt.Sprintf("market-%d", i%3), fmt.Sprintf("job-%d", i))
		w.Exec("UPDATE bids SET external_bid_id = NULL")
	}
	later := w.Bid("next_attempt_at = clock_timestamp() + interval '1 hour'")
	abandoned := w.Bid("delivery_state = 'leased', lease_token = 7, lease_expires_at = clock_timestamp()")
	held := w.Bid("delivery_state = 'leased', lease_token = 7, lease_expires_at = clock_timestamp() + interval '1 hour'")
	waiting := w.Bid("delivery_state = 'awaiting_approval', next_attempt_at = NULL")
	script.Placed = marketplace.Result{Kind: marketplace.Ambiguous}
	pass(t, engine, 3)
	if got, want := engine.Totals(), (delivery.Totals{Place: delivery.Counts{Retry: 13}, Recovered: 1}); got != want {
		t.Errorf("counted %+v, want %+v", got, want)
	}
	if got := w.Row(abandoned.ID); got.LeaseToken != 8 || got.PlacePosts != 1 {
		t.Errorf("abandoned: %s, token %d", w.State(abandoned.ID), got.LeaseToken)
	}
	for _, bid := range []queries.Bid{later, held, waiting} {
		if diff := cmp.Diff(bid, w.Row(bid.ID)); diff != "" {
			t.Errorf("not due, but (-before +after):\n%s", diff)
		}
	}
	worked, err := engine.DeliverBid(t.Context(), later.Marketplace, later.Account, later.ID)
	if err != nil || worked {
		t.Errorf("not due, but worked: %t, %v", worked, err)
	}
}

// TestCounts: every ending counts once, where it belongs.
func TestCounts(t *testing.T) {
	t.Parallel()
	w := deliverytest.New(t)
	script := deliverytest.NewScript(marketplace.NoDedup)
	engine := w.Engine(script)
	for _, answer := range []marketplace.Result{
		{Kind: marketplace.Done, ExternalID: "e-1"},
		{Kind: marketplace.Ambiguous},
		{Kind: marketplace.Permanent, Code: "job_closed"},
		{Kind: marketplace.NeedsHuman, Code: "verification"},
	} {
		script.Placed = answer
		engine.Attempt(w.Bid(""))
	}
	want := delivery.Totals{Place: delivery.Counts{Done: 1, Retry: 1, Review: 1, Rejected: 1}, ForPerson: 1}
	if got := engine.Totals(); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// TestReviewIsLogged: the line for a person says what there is to know, and no more.
func TestReviewIsLogged(t *testing.T) {
	t.Parallel()
	w := deliverytest.New(t)
	s := deliverytest.NewSandbox(t, reliable)
	s.Fault(sandbox.Fault{Do: sandbox.Answer, Status: 451, Code: "needs_human"})
	bid := w.Bid("proposal = 'my confidential words'")
	client := s.Client(bid.Marketplace, func(m *config.Marketplace) {
		m.Auth = config.Auth{Header: "Authorization", Value: config.NewSecret("Bearer token-of-the-account")}
	})
	w.Engine(client).Attempt(bid)
	lines := w.Log.Lines(`"level":"ERROR"`)
	if len(lines) != 1 {
		t.Fatalf("%d lines: %q", len(lines), lines)
	}
	for _, word := range []string{bid.ID.String(), bid.Marketplace, bid.JobID, `"reason":"needs_human"`, `"amount_cents":48000`, `"currency":"USD"`, `"posts":1`, "HTTP 451", `"kind":"place"`} {
		if !strings.Contains(lines[0], word) {
			t.Errorf("no %s in %s", word, lines[0])
		}
	}
	for _, secret := range []string{"token-of-the-account", sandbox.Secret().Reveal(), "confidential"} {
		if len(w.Log.Lines(secret)) > 0 {
			t.Errorf("%q is logged", secret)
		}
	}
}

// TestDelays: when a delivery is due again, and what counts as failed.
func TestDelays(t *testing.T) {
	t.Parallel()
	w := deliverytest.New(t)
	tests := []struct {
		name             string
		set              string
		answer           marketplace.Result
		earliest, latest time.Duration
		failed           int32
	}{
		{"first failure", "", marketplace.Result{Kind: marketplace.NotExecuted}, 7500 * time.Millisecond, 15 * time.Second, 1},
		{"fifth failure", "delivery_attempts = 4", marketplace.Result{Kind: marketplace.NotExecuted}, 2 * time.Minute, 4 * time.Minute, 5},
		{"the marketplace's wish", "delivery_attempts = 4", marketplace.Result{Kind: marketplace.NotExecuted, After: time.Hour}, time.Hour, time.Hour, 5},
		{"429", "delivery_attempts = 7", marketplace.Result{Kind: marketplace.NotExecuted, Status: 429, After: 5 * time.Minute}, 5 * time.Minute, 5 * time.Minute, 7},
		{"429, no wish", "", marketplace.Result{Kind: marketplace.NotExecuted, Status: 429}, 15 * time.Second, 15 * time.Second, 0},
		{"paused", "delivery_attempts = 7", marketplace.Result{Kind: marketplace.PauseAccount, After: time.Hour}, time.Hour, time.Hour, 7},
		{"paused without end", "delivery_attempts = 7", marketplace.Result{Kind: marketplace.PauseAccount}, 10 * time.Second, 10 * time.Second, 7},
		{"no answer", "", marketplace.Result{Kind: marketplace.Ambiguous}, 0, 2 * time.Second, 0},
		{"no answer, a wish", "", marketplace.Result{Kind: marketplace.Ambiguous, After: time.Hour}, time.Hour, time.Hour, 0},
		{"looking", deliverytest.Sent, marketplace.Result{}, 0, 2 * time.Second, 0},
		{"looking later", "place_posts = 1, first_post_at = now() - interval '2 minutes', last_post_at = now() - interval '2 minutes'", marketplace.Result{}, 470 * time.Second, 8 * time.Minute, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			script, bid := deliverytest.NewScript(marketplace.IdempotencyKey), w.Bid(tt.set)
			script.Placed = tt.answer
			w.Engine(script).Attempt(bid)
			wantDue(t, w, bid, tt.earliest, tt.latest)
			if got := w.Row(bid.ID).DeliveryAttempts; got != tt.failed {
				t.Errorf("%d failed, want %d", got, tt.failed)
			}
		})
	}
}

// TestLastLook: before a person is asked, what there is at the marketplace is adopted.
func TestLastLook(t *testing.T) {
	t.Parallel()
	w := deliverytest.New(t)
	failed := marketplace.Finding{Result: marketplace.Result{Kind: marketplace.Ambiguous}}
	for want, second := range map[string]marketplace.Finding{
		"ACTIVE submitted e-1 posts=1":                           deliverytest.Shows(marketplace.Submitted),
		"ACTIVE place review retries_exhausted posts=1 failed=8": deliverytest.Shows(marketplace.Withdrawn),
	} {
		script, bid := deliverytest.NewScript(marketplace.IdempotencyKey), w.Bid(deliverytest.Settled+", delivery_attempts = 7")
		script.Found = []marketplace.Finding{failed, second}
		w.Engine(script).Attempt(bid)
		if got := w.State(bid.ID); got != want || strings.Count(script.Calls(), "lookup") != 2 {
			t.Errorf("%s, want %s; calls %q", got, want, script.Calls())
		}
	}
	// What was certainly not sent is not looked for.
	script, bid := deliverytest.NewScript(marketplace.IdempotencyKey), w.Bid("delivery_attempts = 7")
	script.Placed = marketplace.Result{Kind: marketplace.NotExecuted, Code: "not_sent"}
	w.Engine(script).Attempt(bid)
	if got, want := w.State(bid.ID), "ACTIVE place review retries_exhausted failed=8"; got != want || script.Calls() != "place" {
		t.Errorf("%s, want %s; calls %q", got, want, script.Calls())
	}
}

// TestRate: two pods together keep to the account's rate, and use it up.
func TestRate(t *testing.T) {
	t.Parallel()
	const gap, bids = 100 * time.Millisecond, 12
	w := deliverytest.New(t)
	s := deliverytest.NewSandbox(t, reliable)
	for i := range bids {
		w.Bid("", "upwork", fmt.Sprint(i))
	}
	client := s.Client("upwork")
	engines := []*deliverytest.Engine{w.Engine(client, withGap(client, gap)), w.EngineOf(w.Open(w.DB.URL), deliverytest.Options(nil))}
	engines[1] = w.Engine(client, withGap(client, gap))
	var group errgroup.Group
	for _, engine := range engines {
		group.Go(func() error { return engine.Pass(t.Context(), 2) })
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	journal := s.Journal()
	if len(journal) != bids {
		t.Fatalf("%d calls, want %d", len(journal), bids)
	}
	// A call may start late, but its slot is not late: no more calls than slots fit into any time.
	for i := range journal {
		for j := i + 4; j < len(journal); j++ {
			if took := journal[j].At.Sub(journal[i].At); took < time.Duration(j-i-2)*gap {
				t.Errorf("calls %d to %d within %v", i, j, took)
			}
		}
	}
}

// TestCrowded: those who find the rate used up leave the slots to those who wait.
func TestCrowded(t *testing.T) {
	t.Parallel()
	const gap = 1100 * time.Millisecond
	w := deliverytest.New(t)
	for i := range 7 {
		w.Bid("", "upwork", fmt.Sprint(i))
	}
	script := deliverytest.NewScript(marketplace.IdempotencyKey)
	script.Placed = marketplace.Result{Kind: marketplace.Ambiguous}
	engine := w.Engine(script, withGap(script, gap))
	pass(t, engine, 4)
	if ahead := deliverytest.Value[time.Duration](w, "SELECT next_slot - clock_timestamp() FROM accounts"); ahead > gap {
		t.Errorf("nobody is left, and slots are taken for %v", ahead)
	}
	if calls := strings.Count(script.Calls(), "place"); calls < 4 {
		t.Errorf("only %d calls: one worker gave back what the others would have done", calls)
	}
}

// TestSlowRate: a wait that is longer than a worker's patience does not keep a lease from its second call.
func TestSlowRate(t *testing.T) {
	t.Parallel()
	w := deliverytest.New(t)
	script, bid := deliverytest.NewScript(marketplace.NaturalKey), w.Bid("")
	script.Can.LooksUpByPosting = true
	script.During = func(op string) {
		if op == "lookup" { // others take the next slots
			w.Exec("UPDATE accounts SET next_slot = clock_timestamp() + interval '2500 milliseconds' WHERE marketplace = $1", bid.Marketplace)
		}
	}
	w.Engine(script, withGap(script, time.Millisecond)).Attempt(bid)
	if got, want := w.State(bid.ID), "ACTIVE submitted e-1 posts=1"; got != want {
		t.Errorf("%s, want %s; calls %q", got, want, script.Calls())
	}
	// But one that does not fit into the lease is not waited for.
	script, bid = deliverytest.NewScript(marketplace.NaturalKey), w.Bid("")
	script.Can.LooksUpByPosting = true
	w.Engine(script, withGap(script, time.Hour)).Attempt(bid)
	if got := w.State(bid.ID); got != "ACTIVE place pending" || script.Calls() != "lookup" {
		t.Errorf("%s; calls %q", got, script.Calls())
	}
	wantDue(t, w, bid, time.Hour, time.Hour)
}

func pauseAccount(w *deliverytest.World, name, account string, length *time.Duration, by string) {
	err := queries.New(w.SQL).PauseAccount(context.Background(), queries.PauseAccountParams{
		Marketplace: name, Account: account, Pause: length, Reason: "because of " + by, PausedBy: by,
	})
	if err != nil {
		panic(err)
	}
}

// TestPause: calls stop with the next one, and go on with the next one.
func TestPause(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ marketplace, account string }{{"upwork", "default"}, {"upwork", "*"}, {"*", "*"}} {
		t.Run(tt.marketplace+" "+tt.account, func(t *testing.T) {
			t.Parallel()
			w := deliverytest.New(t)
			script, bid, other := deliverytest.NewScript(marketplace.NaturalKey), w.Bid("", "upwork"), w.Bid("", "freelancer")
			script.Can.LooksUpByPosting = true
			script.During = func(op string) {
				if op == "lookup" {
					pauseAccount(w, tt.marketplace, tt.account, nil, "ops")
				}
			}
			engine := w.Engine(script)
			engine.Attempt(bid)
			if got := w.State(bid.ID); got != "ACTIVE place pending" || script.Calls() != "lookup" {
				t.Errorf("%s; calls %q", got, script.Calls())
			}
			script.During, script.Placed.ExternalID = nil, "e-2"
			w.Due(bid.ID)
			pass(t, engine, 2)
			if worked, err := engine.DeliverBid(t.Context(), "upwork", "default", bid.ID); err != nil || worked {
				t.Errorf("worked: %t, %v", worked, err)
			}
			if isAll, calls := tt.marketplace == "*", script.Calls(); (calls == "lookup") != isAll || w.State(bid.ID) != "ACTIVE place pending" {
				t.Errorf("%s, %s; calls %q", w.State(bid.ID), w.State(other.ID), calls)
			}
			if _, err := queries.New(w.SQL).ResumeAccounts(t.Context(), "mara", tt.marketplace, false); err != nil {
				t.Fatal(err)
			}
			w.Due(bid.ID)
			pass(t, engine, 2)
			if got := w.State(bid.ID); got != "ACTIVE submitted e-2 posts=1" {
				t.Errorf("resumed: %s", got)
			}
		})
	}
}

// TestPauseWhileWaiting: who waits for a slot when the account is paused does not call.
func TestPauseWhileWaiting(t *testing.T) {
	t.Parallel()
	w := deliverytest.New(t)
	script, bid := deliverytest.NewScript(marketplace.NaturalKey), w.Bid("")
	w.Exec("INSERT INTO accounts (marketplace, next_slot) VALUES ($1, clock_timestamp() + interval '1500 milliseconds')", bid.Marketplace)
	before := deliverytest.Value[time.Time](w, "SELECT next_slot FROM accounts")
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.Engine(script, withGap(script, time.Millisecond)).Attempt(bid)
	}()
	deliverytest.Eventually(t, "the slot is taken", func() bool {
		return deliverytest.Value[time.Time](w, "SELECT next_slot FROM accounts").After(before)
	})
	pauseAccount(w, bid.Marketplace, "*", nil, "ops")
	<-done
	if got := w.State(bid.ID); got != "ACTIVE place pending" || script.Calls() != "" {
		t.Errorf("%s; calls %q", got, script.Calls())
	}
}

// TestPauses: of two pauses the one that ends later stands.
func TestPauses(t *testing.T) {
	t.Parallel()
	w := deliverytest.New(t)
	hour, minute := time.Hour, time.Minute
	tests := []struct {
		name        string
		first, then *time.Duration
		by          string
		left        any
	}{
		{"endless stays", nil, &hour, "first", nil},
		{"endless wins", &hour, nil, "then", nil},
		{"longer wins", &minute, &hour, "then", 60.0},
		{"longer stays", &hour, &minute, "first", 60.0},
	}
	for i, tt := range tests {
		name := fmt.Sprint("m", i)
		pauseAccount(w, name, "default", tt.first, "first")
		pauseAccount(w, name, "default", tt.then, "then")
		by := deliverytest.Value[string](w, "SELECT paused_by FROM accounts WHERE marketplace = $1", name)
		left := deliverytest.Value[any](w, "SELECT round(extract(epoch FROM paused_until - clock_timestamp()) / 60)::float8 FROM accounts WHERE marketplace = $1", name)
		if by != tt.by || left != tt.left {
			t.Errorf("%s: by %s, %v minutes, want by %s, %v", tt.name, by, left, tt.by, tt.left)
		}
	}
	w.Exec("UPDATE accounts SET paused_at = now() - interval '2 hours', paused_until = now() - interval '1 hour' WHERE marketplace = 'm3'")
	pauseAccount(w, "m3", "default", &minute, "anew")
	if since := deliverytest.Value[time.Duration](w, "SELECT clock_timestamp() - paused_at FROM accounts WHERE marketplace = 'm3'"); since > time.Minute {
		t.Errorf("a new pause since %v", since)
	}
}

// TestOthersGoOn: a slow marketplace does not hold up another.
func TestOthersGoOn(t *testing.T) {
	t.Parallel()
	w := deliverytest.New(t)
	s := deliverytest.NewSandbox(t, reliable)
	s.Fault(sandbox.Fault{Do: sandbox.Hold, Marketplace: "a-slow"})
	slow := []queries.Bid{w.Bid("", "a-slow"), w.Bid("", "a-slow")}
	var fast []queries.Bid
	for range 5 {
		fast = append(fast, w.Bid("", "fast"))
	}
	clients := map[string]marketplace.Client{"a-slow": s.Client("a-slow"), "fast": s.Client("fast")}
	engine := w.EngineOf(w.Pool, deliverytest.Options(func(name string) (delivery.Account, error) {
		return delivery.Account{Client: clients[name], Settle: deliverytest.Settle}, nil
	}))
	done := make(chan error, 1)
	go func() { done <- engine.Pass(t.Context(), 2) }()
	for _, bid := range fast {
		deliverytest.Eventually(t, "the fast one is done", func() bool { return w.Row(bid.ID).SubmittedAt != nil })
	}
	if w.Row(slow[0].ID).SubmittedAt != nil {
		t.Error("the slow one was not slow")
	}
	s.Reset()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for _, bid := range slow {
		if w.Row(bid.ID).SubmittedAt == nil {
			t.Error(w.State(bid.ID))
		}
	}
}

// TestNothingHeld: while a marketplace is called there is no transaction and no lock.
func TestNothingHeld(t *testing.T) {
	t.Parallel()
	w := deliverytest.New(t)
	s := deliverytest.NewSandbox(t, reliable)
	bid := w.Bid("")
	engine := w.Engine(s.Client(bid.Marketplace))
	s.Fault(sandbox.Fault{Do: sandbox.Hold})
	calledSoFar := 0
	attempt := func(calls int) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			engine.Attempt(bid)
		}()
		for range calls {
			calledSoFar++
			deliverytest.Eventually(t, "the next call is held", func() bool {
				journal := s.Journal()
				return len(journal) == calledSoFar && journal[calledSoFar-1].State == sandbox.Held
			})
			open := deliverytest.Value[int](w, `SELECT count(*) FROM pg_stat_activity AS a WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
				AND (xact_start IS NOT NULL OR EXISTS (SELECT FROM pg_locks AS l WHERE l.pid = a.pid AND l.locktype <> 'virtualxid'))`)
			if open > 0 {
				t.Errorf("%d sessions have a transaction or a lock during %s", open, s.Journal()[len(s.Journal())-1].Op)
			}
			s.Release(0)
		}
		<-done
	}
	attempt(1)
	w.Set(bid.ID, "delivery_kind = 'withdraw', delivery_state = 'pending', next_attempt_at = now(), withdraw_requested_at = now(), withdraw_requested_reason = 'r'")
	attempt(3)
	if got := w.Row(bid.ID).Status; got != "WITHDRAWN" {
		t.Error(w.State(bid.ID))
	}
}

// TestStop: the call under way ends, what it proved is recorded, and no other begins.
func TestStop(t *testing.T) {
	t.Parallel()
	w := deliverytest.New(t)
	s := deliverytest.NewSandbox(t, reliable)
	first, second := w.Bid("next_attempt_at = now() - interval '1 hour'", "upwork"), w.Bid("", "upwork")
	engine := w.Engine(s.Client("upwork"))
	s.Fault(sandbox.Fault{Do: sandbox.Hold})
	errInterrupted := errors.New("interrupted")
	ctx, cancel := context.WithCancelCause(t.Context())
	done := make(chan error, 1)
	go func() { done <- engine.Pass(ctx, 1) }()
	if err := s.WaitHeld(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	cancel(errInterrupted)
	s.Reset()
	if err := <-done; !errors.Is(err, errInterrupted) {
		t.Errorf("the pass ended with %v", err)
	}
	if row := w.Row(first.ID); row.SubmittedAt == nil || row.DeliveryKind != nil {
		t.Error(w.State(first.ID))
	}
	if diff := cmp.Diff(second, w.Row(second.ID)); diff != "" || s.Calls(sandbox.Place) != 1 {
		t.Errorf("the other one (-before +after):\n%s", diff)
	}
	pass(t, engine, 1)
	if row := w.Row(second.ID); row.SubmittedAt == nil {
		t.Error(w.State(second.ID))
	}
}

// TestStopBetweenCalls: neither the next call of a lease, nor one that waits for its slot, begins.
func TestStopBetweenCalls(t *testing.T) {
	t.Parallel()
	w := deliverytest.New(t)
	for _, gap := range []time.Duration{0, 20 * time.Second} {
		script, bid := deliverytest.NewScript(marketplace.NaturalKey), w.Bid("")
		script.Can.LooksUpByPosting = true
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		script.During = func(string) {
			if gap == 0 {
				cancel()
				return
			}
			taken := deliverytest.Value[time.Time](w, "SELECT next_slot FROM accounts WHERE marketplace = $1", bid.Marketplace)
			go func() {
				deliverytest.Eventually(t, "the second slot is taken", func() bool {
					return deliverytest.Value[time.Time](w, "SELECT next_slot FROM accounts WHERE marketplace = $1", bid.Marketplace).After(taken)
				})
				cancel()
			}()
		}
		if _, err := w.Engine(script, withGap(script, gap)).DeliverBid(ctx, bid.Marketplace, bid.Account, bid.ID); err != nil {
			t.Error(err)
		}
		if got := w.State(bid.ID); got != "ACTIVE place pending" || script.Calls() != "lookup" || w.Wait(bid.ID) > 0 {
			t.Errorf("%s in %v; calls %q", got, w.Wait(bid.ID), script.Calls())
		}
	}
}
