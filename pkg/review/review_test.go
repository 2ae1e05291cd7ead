package review_test

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/review"
	"github.com/arbitrageai/bidder/pkg/withdraw"
	"github.com/arbitrageai/bidder/test/deliverytest"
)

const (
	toApprove = "delivery_state = 'awaiting_approval', next_attempt_at = NULL"
	waits     = ", delivery_state = 'review', next_attempt_at = NULL, review_reason = 'unresolved', review_since = now()"
	inReview  = deliverytest.Settled + waits
	sentNow   = deliverytest.Sent + waits
	ended     = deliverytest.Settled + ", status = 'LOST', delivery_kind = NULL, delivery_state = NULL, next_attempt_at = NULL"
)

func desk(w *deliverytest.World) review.Desk {
	return review.Desk{Pool: w.Pool, Limits: deliverytest.Limits(), Settle: func(string) time.Duration { return deliverytest.Settle }}
}

func resolve(t *testing.T, as, note, by string) review.Decision {
	t.Helper()
	decision, err := review.Resolve(as, note, by)
	if err != nil {
		t.Fatal(err)
	}
	return decision
}

// kind is what an error of a decision is.
func kind(err error) string {
	var notWaiting review.NotWaitingError
	var unsettled review.UnsettledError
	var changed review.ChangedError
	var notLive withdraw.NotLiveError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &notWaiting):
		return "not waiting"
	case errors.As(err, &unsettled):
		return "unsettled"
	case errors.As(err, &changed):
		return "changed"
	case errors.As(err, &notLive):
		return "not live"
	case errors.Is(err, review.ErrNoName):
		return "no name"
	case errors.Is(err, review.ErrOtherBid):
		return "other bid"
	case errors.Is(err, review.ErrNoSuchBid):
		return "no such bid"
	}
	return err.Error()
}

// TestDecide: which decision can be made on which bid, and what comes of it.
func TestDecide(t *testing.T) {
	t.Parallel()
	w := deliverytest.New(t)
	withdrawal, err := review.Withdraw("a mistake", "mara")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name     string
		set      string
		decision review.Decision
		want     string // how the bid stands then
		kind     string // of the error
	}{
		{"approve", toApprove, review.Approve("mara"), "ACTIVE place pending", ""},
		{"approve what is in review", inReview, review.Approve("mara"), "ACTIVE place review unresolved posts=1", "not waiting"},
		{"approve what is sent anyway", "", review.Approve("mara"), "ACTIVE place pending", "not waiting"},
		{"nobody approves", toApprove, review.Approve(" "), "ACTIVE place awaiting_approval", "no name"},
		{"retry", inReview + ", delivery_attempts = 8", review.Retry("mara"), "ACTIVE place pending posts=1", ""},
		{"retry what is to be approved", toApprove, review.Retry("mara"), "ACTIVE place awaiting_approval", "not waiting"},
		{"placed", inReview, resolve(t, "placed:p-1", "", "mara"), "ACTIVE submitted p-1 posts=1", ""},
		{"placed, just now", sentNow, resolve(t, "placed:p-2", "", "mara"), "ACTIVE submitted p-2 posts=1", ""},
		{"not placed", inReview, resolve(t, "not-placed", "closed", "mara"), "WITHDRAWN posts=1", ""},
		{"not placed, just sent", sentNow, resolve(t, "not-placed", "", "mara"), "ACTIVE place review unresolved posts=1", "unsettled"},
		{"rejected, just sent", sentNow, resolve(t, "rejected", "", "mara"), "ACTIVE place review unresolved posts=1", "unsettled"},
		{"withdrawn, and known there", sentNow + ", external_bid_id = 'p-3'", resolve(t, "withdrawn", "", "mara"), "WITHDRAWN p-3 posts=1", ""},
		{"withdrawn, and one like it is known", sentNow + ", external_bid_id = 'p-4', is_guessed = true", resolve(t, "withdrawn", "", "mara"), "ACTIVE place review unresolved p-4 posts=1", "unsettled"},
		{"withdrawn, and another's is known", sentNow + ", external_bid_id = 'p-5', is_foreign = true", resolve(t, "withdrawn", "", "mara"), "ACTIVE place review unresolved p-5 foreign posts=1", "unsettled"},
		{"withdrawn, and sent twice", "place_posts = 2, first_post_at = now(), last_post_at = now(), external_bid_id = 'p-6'" + waits, resolve(t, "withdrawn", "", "mara"), "ACTIVE place review unresolved p-6 posts=2", "unsettled"},
		{"won, just sent", sentNow, resolve(t, "won", "", "mara"), "WON posts=1", ""},
		{"resolve what is not in review", toApprove, resolve(t, "lost", "", "mara"), "ACTIVE place awaiting_approval", "not waiting"},
		{"withdraw", toApprove, withdrawal, "WITHDRAWN", ""},
		{"withdraw what has ended", ended, withdrawal, "LOST posts=1", "not live"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			bid := w.Bid(tt.set)
			for _, seen := range []*review.Version{new(review.VersionOf(queries.Bid{})), new(review.VersionOf(bid))} {
				decided, err := desk(w).Decide(t.Context(), bid.ID, seen, tt.decision)
				wanted := tt.kind
				if *seen != review.VersionOf(bid) {
					wanted = "changed"
				}
				if kind(err) != wanted {
					t.Fatalf("%v, want %q", err, wanted)
				}
				if err == nil && review.VersionOf(decided) != review.VersionOf(w.Row(bid.ID)) {
					t.Error("returned is another state")
				}
			}
			if got := w.State(bid.ID); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
			actors := deliverytest.Value[string](w, "SELECT coalesce(string_agg(actor, ','), '') FROM bid_events WHERE bid_id = $1", bid.ID)
			if want := map[bool]string{true: "mara"}[tt.kind == ""]; actors != want {
				t.Errorf("recorded are %q, want %q", actors, want)
			}
		})
	}
	// What a person has found is ours only if nothing else can still come of a POST.
	for set, guessed := range map[string]bool{
		sentNow: true, "place_posts = 0" + waits: false, sentNow + ", external_bid_id = 'ours'": false, sentNow + ", external_bid_id = 'other'": true,
		sentNow + ", external_bid_id = 'ours', is_guessed = true": true,
	} {
		bid := w.Bid(set)
		if decided, err := desk(w).Decide(t.Context(), bid.ID, nil, resolve(t, "placed:ours", "", "mara")); err != nil || decided.IsGuessed != guessed {
			t.Errorf("%s: guessed: %t, %v", set, decided.IsGuessed, err)
		}
	}
	if _, err := desk(w).Decide(t.Context(), uuid.New(), nil, review.Approve("mara")); kind(err) != "no such bid" {
		t.Error(err)
	}
	one, other := w.Bid(inReview), w.Bid(inReview)
	w.Set(one.ID, "external_bid_id = 'taken'")
	w.Exec("UPDATE bids SET external_bid_id = 'taken-2' WHERE id = $1", one.ID)
	third := w.Bid(inReview, one.Marketplace)
	if _, err := desk(w).Decide(t.Context(), third.ID, nil, resolve(t, "placed:taken-2", "", "mara")); kind(err) != "other bid" {
		t.Error(err)
	}
	if _, err := desk(w).Decide(t.Context(), other.ID, nil, resolve(t, "placed:taken-2", "", "mara")); err != nil { // another marketplace's
		t.Error(err)
	}
}

// TestFirstDecides: of many at once one decides, with the state that they saw or without.
func TestFirstDecides(t *testing.T) {
	t.Parallel()
	w := deliverytest.New(t)
	for _, want := range []string{"changed", "not waiting"} {
		bid := w.Bid(toApprove)
		var seen *review.Version
		if want == "changed" {
			seen = new(review.VersionOf(bid))
		}
		var decided, late atomic.Int64
		var group errgroup.Group
		for i := range 6 {
			group.Go(func() error {
				_, err := desk(w).Decide(t.Context(), bid.ID, seen, review.Approve(fmt.Sprint("operator ", i)))
				switch kind(err) {
				case "":
					decided.Add(1)
				case want:
					late.Add(1)
				default:
					return err
				}
				return nil
			})
		}
		if err := group.Wait(); err != nil || decided.Load() != 1 || late.Load() != 5 {
			t.Errorf("%d decided, %d were late (%s): %v", decided.Load(), late.Load(), want, err)
		}
		if got := w.Events(bid.ID); got != "place approved" {
			t.Errorf("the history says %q", got)
		}
	}
}

// TestSettled: it is the database's clock that says how long ago a bid was sent, to the last moment.
func TestSettled(t *testing.T) {
	t.Parallel()
	sent := time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)
	d := review.Desk{Settle: func(string) time.Duration { return deliverytest.Settle }}
	bid := queries.Bid{LastPostAt: &sent, PlacePosts: 1, DeliveryState: new(review.InReview)}
	decision := resolve(t, "not-placed", "", "mara")
	if err := d.Check(bid, decision, sent.Add(deliverytest.Settle-time.Microsecond)); kind(err) != "unsettled" {
		t.Error(err)
	}
	if err := d.Check(bid, decision, sent.Add(deliverytest.Settle)); err != nil {
		t.Error(err)
	}
}

// TestWords: what cannot be a decision, and states as text.
func TestWords(t *testing.T) {
	t.Parallel()
	if _, err := review.Resolve("placed: ", "", "mara"); !errors.Is(err, review.ErrNoExternalID) {
		t.Error(err)
	}
	var unknown review.UnknownEndingError
	if _, err := review.Resolve("gone", "", "mara"); !errors.As(err, &unknown) || unknown.As != "gone" {
		t.Error(err)
	}
	for _, words := range [][2]string{{" ", "mara"}, {"why", ""}} {
		if _, err := review.Withdraw(words[0], words[1]); !errors.Is(err, withdraw.ErrNoReason) {
			t.Error(err)
		}
	}
	seen := review.VersionOf(queries.Bid{LeaseToken: 7, UpdatedAt: time.Now()})
	if read, ok := review.ParseVersion(seen.String()); !ok || read != seen {
		t.Errorf("%s is read as %s", seen, read)
	}
	for _, text := range []string{"", "7", "7-", "-7", "a-b", "7-8-9", "99999999999999999999-1"} {
		if _, ok := review.ParseVersion(text); ok {
			t.Errorf("%q is a state", text)
		}
	}
}
