package delivery_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/delivery"
	"github.com/arbitrageai/bidder/pkg/marketplace"
	"github.com/arbitrageai/bidder/pkg/marketplace/manual"
	"github.com/arbitrageai/bidder/pkg/marketplace/sandbox"
	"github.com/arbitrageai/bidder/test/deliverytest"
)

// submitted is a bid that was placed and looked up two hours ago. Its id there is that of
// [deliverytest.Shows]; set changes what is to be different.
func submitted(w *deliverytest.World, set string, names ...string) queries.Bid {
	first := live
	if strings.Contains(set, "external_bid_id") {
		_, first, _ = strings.Cut(live, ", ") // an account has each id once
	}
	bid := w.Bid(first, names...)
	w.Set(bid.ID, strings.TrimPrefix(set, ", "))
	return w.Row(bid.ID)
}

const live = `external_bid_id = 'e-1', submitted_at = clock_timestamp() - interval '2 hours', checked_at = clock_timestamp() - interval '2 hours',
	seen_at = clock_timestamp() - interval '2 hours', delivery_kind = NULL, delivery_state = NULL, next_attempt_at = NULL`

// refreshing are the options of an engine that looks live bids up each hour, and asks a
// person after a day.
func refreshing(client marketplace.Client, change ...func(*delivery.Account)) func(*delivery.Options) {
	return func(o *delivery.Options) {
		account := delivery.Account{Client: client, Settle: deliverytest.Settle, Refresh: time.Hour, AskAfter: 24 * time.Hour}
		for _, change := range change {
			change(&account)
		}
		o.Account = func(string) (delivery.Account, error) {
			if account.Client == nil {
				return account, delivery.ErrNoHandler
			}
			return account, nil
		}
	}
}

func refresh(t *testing.T, engine *deliverytest.Engine) {
	t.Helper()
	if err := engine.Refresh(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
}

func ago(column, age string) string {
	return fmt.Sprintf(", %s = clock_timestamp() - interval '%s'", column, age)
}

// TestRefresh: what a look-up of a live bid proves.
func TestRefresh(t *testing.T) { //nolint:tparallel // subtests share a world of live bids
	t.Parallel()
	w := deliverytest.New(t)
	const (
		once       = ", " + deliverytest.Settled
		unsettled  = ", " + deliverytest.Sent
		twice      = ", place_posts = 2, first_post_at = clock_timestamp(), last_post_at = clock_timestamp()"
		stillLive  = "ACTIVE submitted e-1"
		inReview   = "ACTIVE place review status_unknown submitted e-1"
		seen, miss = true, false
	)
	dormant, passedOver := deliverytest.Shows(marketplace.Submitted), deliverytest.Shows(marketplace.Lost)
	dormant.Dormant, passedOver.Dormant = true, true
	unread := dormant
	unread.Result = marketplace.Result{Kind: marketplace.Ambiguous, Code: "unavailable", Status: 502}
	unknown := marketplace.Finding{Result: marketplace.Result{Kind: marketplace.NeedsHuman, Code: "unknown_status"}}
	failed := marketplace.Finding{Result: marketplace.Result{Kind: marketplace.Ambiguous, Code: "no_answer"}}
	other := deliverytest.Shows(marketplace.Submitted)
	other.ExternalID = "e-2"
	tests := []struct {
		name  string
		set   string
		dedup marketplace.Dedup
		found marketplace.Finding
		want  string
		seen  bool
		count string
	}{
		{"live", once, marketplace.NoDedup, deliverytest.Shows(marketplace.Submitted), stillLive + " posts=1", seen, "live"},
		{"awarded", once, marketplace.NoDedup, deliverytest.Shows(marketplace.Accepted), "WON submitted e-1 posts=1", seen, "won"},
		{"rejected", once, marketplace.NoDedup, deliverytest.Shows(marketplace.Rejected), "REJECTED submitted e-1 posts=1", seen, "rejected"},
		{"lost", once, marketplace.NoDedup, deliverytest.Shows(marketplace.Lost), "LOST submitted e-1 posts=1", seen, "lost"},
		{"expired", once, marketplace.NoDedup, deliverytest.Shows(marketplace.Expired), "LOST submitted e-1 posts=1", seen, "lost"},
		{"withdrawn there", once, marketplace.NoDedup, deliverytest.Shows(marketplace.Withdrawn), "WITHDRAWN submitted e-1 posts=1", seen, "withdrawn"},
		{"adopted, and rejected", ", is_foreign = true", marketplace.NaturalKey, deliverytest.Shows(marketplace.Rejected), "REJECTED submitted e-1 foreign", seen, "rejected"},
		{"its own POST made it", unsettled, marketplace.NoDedup, deliverytest.Shows(marketplace.Rejected), "REJECTED submitted e-1 posts=1", seen, "rejected"},
		{"a POST may still land", unsettled + ", is_foreign = true", marketplace.NaturalKey, deliverytest.Shows(marketplace.Rejected), stillLive + " foreign posts=1", seen, "live"},
		{"the other POST may still land", twice, marketplace.NaturalKey, deliverytest.Shows(marketplace.Withdrawn), stillLive + " posts=2", seen, "live"},
		{"the other POST makes no bid", twice, marketplace.IdempotencyKey, deliverytest.Shows(marketplace.Withdrawn), "WITHDRAWN submitted e-1 posts=2", seen, "withdrawn"},
		{"chosen", once, marketplace.NoDedup, deliverytest.Shows(marketplace.AwardPending), "ACTIVE place review award_pending submitted e-1 posts=1", seen, "review"},
		{"awarded, while a POST may still land", twice, marketplace.NaturalKey, deliverytest.Shows(marketplace.Accepted), stillLive + " posts=2", seen, "live"},
		{"not shown", once, marketplace.NoDedup, marketplace.Finding{Known: true, Definitive: true}, stillLive + " posts=1", miss, "unseen"},
		{"not shown for long", once + ago("seen_at", "25 hours"), marketplace.NoDedup, marketplace.Finding{Known: true, Definitive: true}, inReview + " posts=1", miss, "review"},
		{"never seen since it was placed", once + ", seen_at = NULL" + ago("submitted_at", "25 hours"), marketplace.NoDedup, marketplace.Finding{Known: true}, inReview + " posts=1", miss, "review"},
		{"an ended one of another id", once, marketplace.NoDedup, func() marketplace.Finding { f := other; f.Status = marketplace.Rejected; return f }(), stillLive + " posts=1", miss, "unseen"},
		{"a live one of another id", once, marketplace.NoDedup, other, stillLive + " posts=1", miss, "unseen"},
		{"a live one of another id for long", once + ago("seen_at", "25 hours"), marketplace.NoDedup, other, inReview + " posts=1", miss, "review"},
		{"its posting is closed", once, marketplace.NoDedup, dormant, stillLive + " posts=1", miss, "live"},
		{"its posting cannot be read", once, marketplace.NoDedup, unread, stillLive + " posts=1", miss, "unseen"},
		{"another was chosen", once, marketplace.NoDedup, passedOver, stillLive + " posts=1", miss, "live"},
		{"another was chosen long ago", once + ago("seen_at", "25 hours"), marketplace.NoDedup, passedOver, "LOST submitted e-1 posts=1", seen, "lost"},
		{"its posting is closed for long", once + ago("seen_at", "25 hours"), marketplace.NoDedup, dormant, inReview + " posts=1", miss, "review"},
		{"an unknown status", once, marketplace.NoDedup, unknown, stillLive + " posts=1", miss, "unseen"},
		{"an unknown status for long", once + ago("seen_at", "25 hours"), marketplace.NoDedup, unknown, inReview + " posts=1", miss, "review"},
		{"the look-up fails", once, marketplace.NoDedup, failed, stillLive + " posts=1", miss, "unseen"},
		{"the look-up fails for long", once + ago("seen_at", "25 hours"), marketplace.NoDedup, failed, inReview + " posts=1", miss, "review"},
	}
	for _, tt := range tests { //nolint:paralleltest // as above
		t.Run(tt.name, func(t *testing.T) {
			script := deliverytest.NewScript(tt.dedup)
			script.Found = []marketplace.Finding{tt.found}
			bid := submitted(w, tt.set)
			engine := w.Engine(script, refreshing(script))
			only(w, bid)
			refresh(t, engine)
			row := w.Row(bid.ID)
			if got := w.State(bid.ID); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
			if script.Calls() != "lookup" {
				t.Errorf("calls %q, want one look-up", script.Calls())
			}
			if tt.count == "review" { // what there is to know is in the line that asks
				lines := w.Log.Lines(bid.ID.String())
				for _, word := range []string{`"level":"ERROR"`, `"amount_cents":48000`, `"currency":"USD"`, `"external_bid_id":"e-1"`, `"posts":`, `"reason":`} {
					if len(lines) != 1 || !strings.Contains(lines[0], word) {
						t.Errorf("no %s in %q", word, lines)
					}
				}
			}
			if isSeen := row.SeenAt != nil && time.Since(*row.SeenAt) < time.Hour; isSeen != tt.seen {
				t.Errorf("seen at %v, want now: %t", row.SeenAt, tt.seen)
			}
			totals := engine.Totals()
			if n := totals.Refreshed.Count(tt.count); *n != 1 {
				t.Errorf("counted %+v, want one %s", totals.Refreshed, tt.count)
			}
			if want := map[bool]int64{true: 1}[tt.count == "review"]; totals.ForPerson != want {
				t.Errorf("%d for a person, want %d", totals.ForPerson, want)
			}
			if row.LeaseToken <= bid.LeaseToken {
				t.Errorf("the token is %d, as before", row.LeaseToken)
			}
			if row.Status == "WITHDRAWN" && (row.WithdrawnReason == nil || *row.WithdrawnReason != "withdrawn_elsewhere") {
				t.Errorf("withdrawn because of %v", row.WithdrawnReason)
			}
			if changed := row.Status != "ACTIVE" || row.DeliveryKind != nil; changed != (w.Events(bid.ID) != "") {
				t.Errorf("the history says %q", w.Events(bid.ID))
			}
			refresh(t, engine) // not due any more
			if script.Calls() != "lookup" {
				t.Errorf("it was looked up again: %q", script.Calls())
			}
		})
	}
}

// only makes a bid the only one of its world that may be due.
func only(w *deliverytest.World, bid queries.Bid) {
	w.Exec("UPDATE bids SET checked_at = clock_timestamp() WHERE id <> $1", bid.ID)
}

// TestRefreshOrder: those of the longest ago go first, each once, and none that owes
// something, has ended, or was looked up lately.
func TestRefreshOrder(t *testing.T) {
	t.Parallel()
	w := deliverytest.New(t)
	script := deliverytest.NewScript(marketplace.IdempotencyKey)
	script.Found = []marketplace.Finding{{Known: true}}
	engine := w.Engine(script, refreshing(script))
	refresh(t, engine) // nothing is live
	submitted(w, ", external_bid_id = 'owes', delivery_kind = 'withdraw', delivery_state = 'review'", "upwork", "1")
	submitted(w, ", external_bid_id = 'ended', status = 'WON'", "upwork", "2")
	submitted(w, ", external_bid_id = 'fresh', checked_at = clock_timestamp() - interval '59 minutes'", "upwork", "3")
	w.Bid("", "upwork", "4")
	submitted(w, ", external_bid_id = 'second', checked_at = clock_timestamp() - interval '3 hours'", "upwork", "5")
	submitted(w, ", external_bid_id = 'third', checked_at = clock_timestamp() - interval '61 minutes'", "upwork", "6")
	submitted(w, ", external_bid_id = 'first', checked_at = NULL", "upwork", "7")
	if due, err := engine.DueChecks(t.Context()); err != nil || due != 3 {
		t.Errorf("%d are due, %v; want 3", due, err)
	}
	if err := engine.Refresh(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	var order []string
	for _, bid := range script.Bids() {
		order = append(order, bid.ExternalID)
	}
	if got := strings.Join(order, " "); got != "first second third" {
		t.Errorf("looked up %s", got)
	}
	if due, err := engine.DueChecks(t.Context()); err != nil || due != 0 {
		t.Errorf("%d are due, %v; want none", due, err)
	}
}

// TestRefreshTogether: of many pods one looks a bid up.
func TestRefreshTogether(t *testing.T) {
	t.Parallel()
	w := deliverytest.New(t)
	s := deliverytest.NewSandbox(t, reliable)
	client := s.Client("upwork")
	const bids, pods = 5, 10
	placing := w.Engine(client)
	for i := range bids {
		bid := w.Bid("", "upwork", fmt.Sprint(i))
		placing.Attempt(bid)
	}
	w.Exec("UPDATE bids SET checked_at = clock_timestamp() - interval '2 hours'")
	before := s.Calls(sandbox.Lookup)
	var group errgroup.Group
	for range pods {
		engine := w.Engine(client, refreshing(client))
		group.Go(func() error { return engine.Refresh(t.Context(), 2) })
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	if got := s.Calls(sandbox.Lookup) - before; got != bids {
		t.Errorf("%d look-ups of %d bids", got, bids)
	}
}

// TestRefreshOvertaken: what somebody changes during the look-up is not overwritten.
func TestRefreshOvertaken(t *testing.T) { //nolint:tparallel // subtests share a world of live bids
	t.Parallel()
	w := deliverytest.New(t)
	for name, tt := range map[string]struct{ change, want string }{ //nolint:paralleltest // as above
		"ended by hand":          {"status = 'LOST', lease_token = lease_token + 1", "LOST submitted e-1"},
		"a withdrawal is wanted": {"delivery_kind = 'withdraw', delivery_state = 'pending', next_attempt_at = now(), withdraw_requested_at = now(), withdraw_requested_reason = 'x', lease_token = lease_token + 1", "ACTIVE withdraw pending submitted e-1"},
		"taken by another pod":   {"lease_token = lease_token + 1", "ACTIVE submitted e-1"},
	} {
		for _, found := range []marketplace.Finding{
			deliverytest.Shows(marketplace.Rejected), deliverytest.Shows(marketplace.Submitted), {Known: true},
		} {
			t.Run(name, func(t *testing.T) {
				script := deliverytest.NewScript(marketplace.NoDedup)
				script.Found = []marketplace.Finding{found}
				bid := submitted(w, ago("seen_at", "25 hours"))
				script.During = func(string) { w.Set(bid.ID, tt.change) }
				engine := w.Engine(script, refreshing(script))
				only(w, bid)
				refresh(t, engine)
				if got := w.State(bid.ID); got != tt.want {
					t.Errorf("%s, want %s", got, tt.want)
				}
				if row := w.Row(bid.ID); time.Since(*row.SeenAt) < time.Hour {
					t.Errorf("recorded after all: seen at %v", row.SeenAt)
				}
				if got := engine.Totals(); got != (delivery.Totals{}) {
					t.Errorf("counted %+v", got)
				}
			})
		}
	}
}

// TestRefreshOfTheDead: what a killed pod has taken is due again when its lease ends, however
// long the time between two look-ups is.
func TestRefreshOfTheDead(t *testing.T) {
	t.Parallel()
	w := deliverytest.New(t)
	script := deliverytest.NewScript(marketplace.NoDedup)
	script.Found = []marketplace.Finding{deliverytest.Shows(marketplace.Accepted)}
	bid := submitted(w, "")
	engine := w.Engine(script, refreshing(script))
	dead, die := context.WithCancel(t.Context())
	script.During = func(string) {
		die()
		w.Set(bid.ID, "lease_token = lease_token + 1") // it does not come to record anything
	}
	if err := engine.Refresh(dead, 1); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	script.During = nil
	due := deliverytest.Value[time.Duration](w, "SELECT checked_at + interval '1 hour' - clock_timestamp() FROM bids")
	if due > time.Minute || due < 30*time.Second {
		t.Errorf("due again in %v, want when the lease of a minute ends", due)
	}
	w.Exec("UPDATE bids SET checked_at = checked_at - interval '1 minute'")
	refresh(t, engine)
	if got := w.State(bid.ID); got != "WON submitted e-1" {
		t.Error(got)
	}
}

// TestRefreshInterrupted: a look-up is cut short, proves nothing, and is due again at once.
func TestRefreshInterrupted(t *testing.T) {
	t.Parallel()
	w := deliverytest.New(t)
	s := deliverytest.NewSandbox(t, reliable)
	client := s.Client("upwork")
	bid := w.Bid("", "upwork", "1")
	w.Engine(client).Attempt(bid)
	w.Exec("UPDATE bids SET checked_at = clock_timestamp() - interval '2 hours', seen_at = clock_timestamp() - interval '2 days'")
	s.Fault(sandbox.Fault{Do: sandbox.Hold, Op: sandbox.Lookup})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	engine := w.Engine(client, refreshing(client))
	go func() { ended <- engine.Refresh(ctx, 1) }()
	if err := s.WaitHeld(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("ended in %v", err)
	}
	row := w.Row(bid.ID)
	if row.CheckedAt != nil || row.DeliveryKind != nil || engine.Totals() != (delivery.Totals{}) {
		t.Errorf("%s, checked at %v, counted %+v", w.State(bid.ID), row.CheckedAt, engine.Totals())
	}
}

// TestRefreshPauses: what pauses an account during a delivery pauses it here, and a failing
// marketplace is asked once a pass.
func TestRefreshPauses(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		result marketplace.Result
		paused bool
		calls  int
	}{
		"auth":  {marketplace.Result{Kind: marketplace.AuthNeeded, Status: 401}, true, 1},
		"pause": {marketplace.Result{Kind: marketplace.PauseAccount, Code: "limit_exhausted", After: time.Hour}, true, 1},
		"429":   {marketplace.Result{Kind: marketplace.NotExecuted, Status: 429, After: time.Hour}, false, 1},
		"down":  {marketplace.Result{Kind: marketplace.NotExecuted, Code: "not_sent"}, false, 2},
		"500":   {marketplace.Result{Kind: marketplace.Ambiguous, Status: 500}, false, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := deliverytest.New(t)
			script := deliverytest.NewScript(marketplace.NoDedup)
			script.Found = []marketplace.Finding{{Result: tt.result}}
			for i := range 3 {
				submitted(w, fmt.Sprintf(", external_bid_id = 'e-%d'", i), "upwork", fmt.Sprint(i))
			}
			engine := w.Engine(script, refreshing(script))
			for range 2 {
				if err := engine.Refresh(t.Context(), 1); err != nil {
					t.Fatal(err)
				}
			}
			paused := deliverytest.Value[bool](w, "SELECT account_is_paused('upwork', 'default')")
			if len(script.Bids()) != tt.calls || paused != tt.paused {
				t.Errorf("calls %q, want %d; paused: %t", script.Calls(), tt.calls, paused)
			}
			if got := engine.Totals().Refreshed; got.Unseen != int64(tt.calls) {
				t.Errorf("counted %+v", got)
			}
		})
	}
}

// TestRefreshYields: within the account's rate, look-ups take only turns that are free.
func TestRefreshYields(t *testing.T) {
	t.Parallel()
	w := deliverytest.New(t)
	script := deliverytest.NewScript(marketplace.NoDedup)
	script.Found = []marketplace.Finding{{Known: true}}
	const turn = 300 * time.Millisecond
	gap := func(a *delivery.Account) { a.Gap = turn }
	for i := range 4 {
		submitted(w, fmt.Sprintf(", external_bid_id = 'e-%d'", i), "upwork", fmt.Sprint(i))
	}
	engine := w.Engine(script, refreshing(script, gap))
	// Somebody waits for a turn that is far away: nothing is looked up, and all is due as before.
	w.Exec("INSERT INTO accounts (marketplace, next_slot) VALUES ('upwork', clock_timestamp() + interval '1 hour')")
	refresh(t, engine)
	if due, err := engine.DueChecks(t.Context()); err != nil || due != 4 || script.Calls() != "" {
		t.Errorf("%d are due, %v; calls %q", due, err, script.Calls())
	}
	// A turn that is near is waited for, but not taken before its time: a delivery that comes
	// meanwhile gets it.
	w.Exec("UPDATE accounts SET next_slot = clock_timestamp() + interval '1 second'")
	var taken atomic.Int64
	script.During = func(string) {
		ahead := deliverytest.Value[time.Duration](w, "SELECT next_slot - clock_timestamp() FROM accounts")
		taken.Store(max(taken.Load(), int64(ahead)))
	}
	began := time.Now()
	refresh(t, engine)
	if took := time.Since(began); took < 3*turn || len(script.Bids()) != 4 {
		t.Errorf("%d look-ups in %v", len(script.Bids()), took)
	}
	if ahead := time.Duration(taken.Load()); ahead > turn {
		t.Errorf("turns were taken for %v ahead", ahead)
	}
}

// TestRefreshByHand: where nobody can be asked, a person is, after the time for that.
func TestRefreshByHand(t *testing.T) { //nolint:tparallel // subtests share a world of live bids
	t.Parallel()
	w := deliverytest.New(t)
	script := deliverytest.NewScript(marketplace.NoDedup)
	for name, options := range map[string]func(*delivery.Options){ //nolint:paralleltest // as above
		"manual":            refreshing(manual.Client{}),
		"no handler":        refreshing(nil),
		"never to be asked": refreshing(script, func(a *delivery.Account) { a.Refresh = 0 }),
	} {
		t.Run(name, func(t *testing.T) {
			w.Exec("UPDATE bids SET checked_at = clock_timestamp()")
			young, old := submitted(w, ago("checked_at", "25 hours")+ago("seen_at", "23 hours")), submitted(w, ago("checked_at", "25 hours")+ago("seen_at", "25 hours"))
			engine := w.Engine(script, options)
			refresh(t, engine)
			if got := w.State(young.ID); got != "ACTIVE submitted e-1" {
				t.Error(got)
			}
			if got := w.State(old.ID); got != "ACTIVE place review status_unknown submitted e-1" {
				t.Error(got)
			}
			if got := engine.Totals(); got.Refreshed.Review != 1 || got.ForPerson != 0 {
				t.Errorf("counted %+v, want a hand-over that is no fault", got)
			}
		})
	}
	if script.Calls() != "" {
		t.Errorf("calls %q", script.Calls())
	}
	// Nobody wants to be asked.
	bid := submitted(w, ", checked_at = NULL, seen_at = NULL"+ago("submitted_at", "1 year"))
	engine := w.Engine(manual.Client{}, refreshing(manual.Client{}, func(a *delivery.Account) { a.AskAfter = 0 }))
	only(w, bid)
	refresh(t, engine)
	if got := w.State(bid.ID); got != "ACTIVE submitted e-1" {
		t.Error(got)
	}
}

// TestRecheck: what a person has tried again that is known to be there is looked up, and
// never sent, whatever is found.
func TestRecheck(t *testing.T) {
	t.Parallel()
	w := deliverytest.New(t)
	for _, tt := range []struct {
		name, set string
		found     marketplace.Finding
		want      string
	}{
		{"live", deliverytest.Settled, deliverytest.Shows(marketplace.Submitted), "ACTIVE submitted e-1 posts=1"},
		{"live, placed by hand", "place_posts = 0", deliverytest.Shows(marketplace.Submitted), "ACTIVE submitted e-1"},
		{"awarded", deliverytest.Settled, deliverytest.Shows(marketplace.Accepted), "WON submitted e-1 posts=1"},
		{"lost", deliverytest.Settled, deliverytest.Shows(marketplace.Lost), "LOST submitted e-1 posts=1"},
		{"withdrawn", deliverytest.Settled, deliverytest.Shows(marketplace.Withdrawn), "WITHDRAWN submitted e-1 posts=1"},
		{"not shown", deliverytest.Settled, marketplace.Finding{Known: true, Definitive: true}, "ACTIVE place review status_unknown submitted e-1 posts=1"},
		{"not shown, placed by hand", "place_posts = 0", marketplace.Finding{Known: true, Definitive: true}, "ACTIVE place review status_unknown submitted e-1"},
		{"not shown yet", deliverytest.Sent, marketplace.Finding{Known: true}, "ACTIVE place pending submitted e-1 posts=1"},
		{"an unknown status", deliverytest.Settled, marketplace.Finding{Result: marketplace.Result{Kind: marketplace.NeedsHuman, Code: "unknown_status"}}, "ACTIVE place review status_unknown submitted e-1 posts=1"},
		{"no answer", deliverytest.Settled, marketplace.Finding{Result: marketplace.Result{Kind: marketplace.Ambiguous}}, "ACTIVE place pending submitted e-1 posts=1 failed=1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			script := deliverytest.NewScript(marketplace.IdempotencyKey)
			script.Found = []marketplace.Finding{tt.found}
			bid := submitted(w, `, delivery_kind = 'place', delivery_state = 'review', review_reason = 'status_unknown', `+tt.set)
			if _, err := queries.New(w.SQL).RetryDelivery(t.Context(), bid.ID, "ann"); err != nil {
				t.Fatal(err)
			}
			w.Engine(script, refreshing(script)).Attempt(bid)
			if got := w.State(bid.ID); got != tt.want || script.Calls() != "lookup" {
				t.Errorf("%s, want %s; calls %q", got, tt.want, script.Calls())
			}
		})
	}
	t.Run("by hand", func(t *testing.T) {
		t.Parallel()
		bid := submitted(w, `, delivery_kind = 'place', delivery_state = 'pending', next_attempt_at = now()`)
		w.Engine(manual.Client{}).Attempt(bid)
		if got := w.State(bid.ID); got != "ACTIVE place review status_unknown submitted e-1" {
			t.Error(got)
		}
	})
}

// TestKnownIsNeverArmed: the database itself arms no POST of a bid that has an id.
func TestKnownIsNeverArmed(t *testing.T) {
	t.Parallel()
	w := deliverytest.New(t)
	for set, want := range map[string]int64{"lease_token = 3": 1, "lease_token = 3, external_bid_id = 'e-1'": 0} {
		bid := w.Bid(set + ", delivery_state = 'leased', lease_expires_at = clock_timestamp() + interval '1 hour'")
		_, err := queries.New(w.SQL).ArmPost(t.Context(), queries.ArmPostParams{
			ID: bid.ID, Token: 3, Most: 2, PostingTTL: time.Hour, Actor: "test", Detail: []byte("{}"),
		})
		if got := int64(w.Row(bid.ID).PlacePosts); got != want {
			t.Errorf("%s: %d POSTs armed, want %d: %v", set, got, want, err)
		}
	}
}

// TestRefreshCost: a pass with nothing to look up reads one row of an account, not all.
func TestRefreshCost(t *testing.T) {
	t.Parallel()
	w := deliverytest.New(t)
	w.Exec(`INSERT INTO bids (id, marketplace, job_id, amount_cents, external_bid_id, checked_at)
		SELECT gen_random_uuid(), 'm' || n % 3, n::text, 100, n::text, clock_timestamp() FROM generate_series(1, 3000) AS n`)
	w.Exec("VACUUM ANALYZE bids")
	script := deliverytest.NewScript(marketplace.NoDedup)
	engine := w.Engine(script, refreshing(script))
	tx, err := w.SQL.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	if _, err := tx.Exec(t.Context(), "SELECT pg_stat_clear_snapshot()"); err != nil {
		t.Fatal(err)
	}
	q := queries.New(tx)
	if _, err := q.LiveAccounts(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := q.TakeCheck(t.Context(), queries.TakeCheckParams{Marketplace: "m1", Account: "default", CheckedBefore: time.Now().Add(-time.Hour)}); err == nil {
		t.Fatal("something was due")
	}
	var read int64
	if err := tx.QueryRow(t.Context(), `SELECT seq_tup_read + coalesce(idx_tup_fetch, 0) FROM pg_stat_xact_user_tables WHERE relname = 'bids'`).Scan(&read); err != nil {
		t.Fatal(err)
	}
	if read > 20 {
		t.Errorf("%d rows were read to find that nothing is due", read)
	}
	refresh(t, engine)
	if script.Calls() != "" {
		t.Errorf("calls %q", script.Calls())
	}
}
