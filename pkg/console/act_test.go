package console_test

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/arbitrageai/bidder/test/deliverytest"
)

// States of bids that wait for a person.
const (
	toApprove = "delivery_state = 'awaiting_approval', next_attempt_at = NULL"
	inReview  = deliverytest.Settled + ", delivery_state = 'review', next_attempt_at = NULL, review_reason = 'unresolved', review_since = now()"
)

// TestDecisions: each decision has its effect, once, and says whose it was.
func TestDecisions(t *testing.T) {
	t.Parallel()
	w := setupPages(t)
	for _, tt := range []struct {
		name, state, action string
		fields              []string
		want, events        string
	}{
		{"approve", toApprove, "approve", nil, "ACTIVE place pending", "place approved"},
		{"retry", inReview, "retry", nil, "ACTIVE place pending posts=1", "place retry_asked"},
		{"placed", inReview, "resolve", []string{"as", "placed", "external_id", " p-1 ", "note", "seen"}, "ACTIVE submitted p-1 posts=1", "resolved"},
		{"not placed", inReview, "resolve", []string{"as", "not-placed"}, "WITHDRAWN posts=1", "resolved"},
		{"withdrawn there", inReview, "resolve", []string{"as", "withdrawn"}, "WITHDRAWN posts=1", "resolved"},
		{"rejected", inReview, "resolve", []string{"as", "rejected"}, "REJECTED posts=1", "resolved"},
		{"won", inReview, "resolve", []string{"as", "won"}, "WON posts=1", "resolved"},
		{"lost", inReview, "resolve", []string{"as", "lost"}, "LOST posts=1", "resolved"},
		{"withdraw unsent", "", "withdraw", []string{"reason", "client changed the scope"}, "WITHDRAWN", "withdraw requested"},
		{"withdraw sent", deliverytest.Settled, "withdraw", []string{"reason", "x"}, "ACTIVE withdraw pending posts=1", "withdraw requested"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := &pages{World: w.World, t: t, url: w.url, server: w.server}
			bid := w.Bid(tt.state)
			ops := w.as("Mara Ilić", token)
			form := ops.form(bid.ID, tt.fields...)
			a := ops.decide(bid.ID, tt.action, form)
			want(t, a, http.StatusSeeOther)
			if got := a.header.Get("Location"); got != "/review" {
				t.Errorf("leads to %q", got)
			}
			if got := w.State(bid.ID); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
			if got := w.Events(bid.ID); got != tt.events {
				t.Errorf("the history says %q, want %q", got, tt.events)
			}
			if got := deliverytest.Value[string](w.World, "SELECT actor FROM bid_events WHERE bid_id = $1", bid.ID); got != "Mara Ilić" {
				t.Errorf("it was %q", got)
			}
			if page := ops.page("/review"); !strings.Contains(page, `role="status"`) || strings.Contains(ops.page("/review"), `role="status"`) {
				t.Error("what was done is not said once")
			}
			// The same form again: the bid is another by now.
			want(t, ops.decide(bid.ID, tt.action, form), http.StatusConflict, "Somebody else was faster", "Mara Ilić")
			if got := w.Events(bid.ID); got != tt.events {
				t.Errorf("the history says %q", got)
			}
			want(t, ops.get("/bids/"+bid.ID.String()), http.StatusOK, "Mara Ilić")
		})
	}
}

// TestIncompleteDecisions: what is not whole does nothing, and says what is missing.
func TestIncompleteDecisions(t *testing.T) {
	t.Parallel()
	w := setupPages(t)
	ops := w.as("mara", token)
	bid, fresh := w.Bid(inReview), w.Bid(strings.Replace(inReview, deliverytest.Settled, deliverytest.Sent, 1))
	before := w.Row(bid.ID)
	for _, tt := range []struct {
		action string
		fields []string
		status int
		text   string
	}{
		{"resolve", nil, 422, "Say what became of it"},
		{"resolve", []string{"as", "gone"}, 422, "Say what became of it"},
		{"resolve", []string{"as", "placed"}, 422, "under which id"},
		{"resolve", []string{"as", "placed", "external_id", " "}, 422, "under which id"},
		{"withdraw", []string{"reason", " "}, 422, "Say why"},
		{"approve", nil, 409, "does not wait for that"},
		{"retry", []string{"version", ""}, 400, "not whole"},
		{"retry", []string{"version", "0-0"}, 409, "Somebody else was faster"},
		{"dance", nil, 422, "no such decision"},
	} {
		want(t, ops.decide(bid.ID, tt.action, ops.form(bid.ID, tt.fields...)), tt.status, tt.text)
	}
	want(t, ops.decide(fresh.ID, "resolve", ops.form(fresh.ID, "as", "not-placed")), http.StatusConflict, "may still show up")
	want(t, ops.decide(uuid.New(), "retry", ops.form(bid.ID)), http.StatusNotFound)
	want(t, ops.do(http.MethodPost, "/bids/x/retry", ops.form(bid.ID)), http.StatusNotFound)
	if row := w.Row(bid.ID); row.UpdatedAt != before.UpdatedAt || w.Events(bid.ID) != "" {
		t.Errorf("the bid is %s", w.State(bid.ID))
	}
	other := w.Bid(deliverytest.Settled+", external_bid_id = 'taken', submitted_at = now(), delivery_kind = NULL, delivery_state = NULL, next_attempt_at = NULL", bid.Marketplace)
	want(t, ops.decide(bid.ID, "resolve", ops.form(bid.ID, "as", "placed", "external_id", *other.ExternalBidID)), http.StatusConflict, "belongs to another live bid")
}

// TestTwoOperators: of two who have seen the same state one decides, whatever each decides.
func TestTwoOperators(t *testing.T) {
	t.Parallel()
	w := setupPages(t)
	one, two := w.as("one", token), w.as("two", token)
	for range 8 {
		bid := w.Bid(inReview)
		retry, resolve := one.form(bid.ID), two.form(bid.ID, "as", "lost")
		statuses := make([]int, 2)
		var group errgroup.Group
		group.Go(func() error { statuses[0] = one.decide(bid.ID, "retry", retry).status; return nil })
		group.Go(func() error { statuses[1] = two.decide(bid.ID, "resolve", resolve).status; return nil })
		_ = group.Wait() // decide reports
		if statuses[0]+statuses[1] != http.StatusSeeOther+http.StatusConflict {
			t.Errorf("answered %v", statuses)
		}
		if got := w.Events(bid.ID); got != "place retry_asked" && got != "resolved" {
			t.Errorf("the history says %q", got)
		}
	}
}

// TestPodIsFaster: what the program does meanwhile overtakes people, too, also where it
// leaves the lease token as it is.
func TestPodIsFaster(t *testing.T) {
	t.Parallel()
	w := setupPages(t)
	ops := w.as("mara", token)
	bid := w.Bid(deliverytest.Sent + ", delivery_state = 'leased', lease_expires_at = now() + interval '1 hour'")
	form := ops.form(bid.ID, "reason", "x")
	w.Set(bid.ID, "delivery_kind = NULL, delivery_state = NULL, lease_expires_at = NULL, next_attempt_at = NULL, external_bid_id = 'p-1', submitted_at = now()")
	want(t, ops.decide(bid.ID, "withdraw", form), http.StatusConflict, "Somebody else was faster", "the marketplace has it")
	if got := w.State(bid.ID); got != "ACTIVE submitted p-1 posts=1" {
		t.Error(got)
	}
}

// TestPause: pausing and resuming, each once.
func TestPause(t *testing.T) {
	t.Parallel()
	w := setupPages(t)
	w.Bid("", "upwork")
	one, two := w.as("one", token), w.as("two", token)
	form := func(b *browser, fields ...string) url.Values {
		form := url.Values{"csrf": {field(t, csrfField, b.page("/"))}}
		for i := 0; i < len(fields); i += 2 {
			form.Set(fields[i], fields[i+1])
		}
		return form
	}
	want(t, one.do(http.MethodPost, "/pause", form(one, "marketplace", "upwork", "reason", " ")), http.StatusUnprocessableEntity)
	want(t, one.do(http.MethodPost, "/pause", form(one, "marketplace", "Up work", "reason", "x")), http.StatusUnprocessableEntity)
	want(t, one.do(http.MethodPost, "/pause", form(one, "marketplace", "upwork", "reason", "red")), http.StatusSeeOther)
	want(t, two.do(http.MethodPost, "/pause", form(two, "marketplace", "upwork", "reason", "green")), http.StatusConflict, "by one: red")
	if got := deliverytest.Value[string](w.World, "SELECT paused_by || paused_reason FROM accounts WHERE marketplace = 'upwork'"); got != "onered" {
		t.Error(got)
	}
	page := two.page("/")
	if !strings.Contains(page, "red") || !strings.Contains(page, "1 pause stops calls") {
		t.Errorf("the page does not say so: %s", page)
	}
	version := field(t, regexp.MustCompile(`name="account" value="\*"><input type="hidden" name="version" value="([^"]+)"`), page)
	resume := []string{"marketplace", "upwork", "account", "*", "version", version}
	want(t, one.do(http.MethodPost, "/resume", form(one, resume...)), http.StatusSeeOther)
	want(t, two.do(http.MethodPost, "/resume", form(two, resume...)), http.StatusConflict)
	// A newer pause is not ended by who has seen the old one.
	want(t, one.do(http.MethodPost, "/pause", form(one, "marketplace", "upwork", "reason", "again")), http.StatusSeeOther)
	want(t, two.do(http.MethodPost, "/resume", form(two, resume...)), http.StatusConflict)
	want(t, two.do(http.MethodPost, "/resume", form(two, "marketplace", "upwork", "account", "*", "version", "x")), http.StatusBadRequest)
	want(t, one.do(http.MethodPost, "/pause", form(one, "marketplace", "*", "reason", "all")), http.StatusSeeOther)
	if got := deliverytest.Value[int64](w.World, "SELECT count(*) FROM accounts WHERE paused_at IS NOT NULL"); got != 2 {
		t.Errorf("%d are paused", got)
	}
	if by := deliverytest.Value[string](w.World, "SELECT resumed_by FROM accounts WHERE marketplace = 'upwork'"); by != "one" {
		t.Errorf("resumed by %q", by)
	}
	if len(w.Log.Lines(`"msg":"resumed"`)) != 1 {
		t.Error("the log does not say who resumed")
	}
}
