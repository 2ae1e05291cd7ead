package console

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/posting"
	"github.com/arbitrageai/bidder/pkg/review"
	"github.com/arbitrageai/bidder/pkg/withdraw"
)

const (
	// maxReason bounds what people write, in characters, and maxExternalID an id.
	maxReason     = 1000
	maxExternalID = 200
)

// act records what somebody decides on a bid, if the bid still is as they saw it.
func (s *Server) act(w http.ResponseWriter, r *http.Request) {
	by, ok := s.form(w, r)
	if !ok {
		return
	}
	id, err := uuid.Parse(r.PathValue("id"))
	if err != nil {
		s.message(w, r, http.StatusNotFound, "There is nothing here", "There is no such bid.")
		return
	}
	decision, done, problem := decisionOf(r, by)
	if problem != "" {
		s.message(w, r, http.StatusUnprocessableEntity, "Something is missing", problem+" Nothing was done: go back and try again.")
		return
	}
	seen, ok := review.ParseVersion(r.PostForm.Get("version"))
	if !ok {
		s.message(w, r, http.StatusBadRequest, "The form is not whole", "It does not say which state of the bid it is about. Nothing was done.")
		return
	}
	desk := review.Desk{Pool: s.options.Pool, Limits: s.options.Limits, Settle: s.options.Settle}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), pageTime) // who decides may be gone by now
	defer cancel()
	bid, err := desk.Decide(ctx, id, &seen, decision)
	if err != nil {
		s.notDecided(w, r, id, err)
		return
	}
	s.options.Log.Info("decided", "bid_id", id, "what", decision.What, "by", by, "status", bid.Status)
	visitorOf(r.Context()).session.say(done)
	http.Redirect(w, r, ownPath(r.PostForm.Get("back")), http.StatusSeeOther) //nolint:gosec // ownPath leads nowhere else
}

// decisionOf reads a decision, and what is said when it was recorded.
func decisionOf(r *http.Request, by string) (decision review.Decision, done, problem string) {
	field := func(name string) string {
		return strings.TrimSpace(strings.ToValidUTF8(strings.ReplaceAll(r.PostForm.Get(name), "\x00", ""), ""))
	}
	reason, note, externalID := field("reason"), field("note"), field("external_id")
	if utf8.RuneCountInString(reason) > maxReason || utf8.RuneCountInString(note) > maxReason {
		return decision, "", "A reason or a note has 1000 characters at most."
	}
	var err error
	switch r.PathValue("action") {
	case "approve":
		return review.Approve(by), "Approved. The next run sends it.", ""
	case "retry":
		return review.Retry(by), "It is tried again with the next run.", ""
	case "withdraw":
		if decision, err = review.Withdraw(reason, by); err != nil {
			return decision, "", "Say why it is taken back: the reason is kept with the bid."
		}
		return decision, "The withdrawal is asked for: what was sent, the next run takes back; nothing more is sent.", ""
	case "resolve":
		as := field("as")
		if as == "placed" {
			if externalID == "" || utf8.RuneCountInString(externalID) > maxExternalID {
				return decision, "", "Say under which id the marketplace has it."
			}
			as = "placed:" + externalID
		}
		if decision, err = review.Resolve(as, note, by); err != nil {
			return decision, "", "Say what became of it."
		}
		return decision, "Resolved as " + as + ".", ""
	}
	return decision, "", "There is no such decision."
}

// notDecided says why a decision was not recorded.
func (s *Server) notDecided(w http.ResponseWriter, r *http.Request, id uuid.UUID, err error) {
	changed, isChanged := errors.AsType[review.ChangedError](err)
	waiting, isNotWaiting := errors.AsType[review.NotWaitingError](err)
	unsettled, isUnsettled := errors.AsType[review.UnsettledError](err)
	notLive, isNotLive := errors.AsType[withdraw.NotLiveError](err)
	switch {
	case isChanged:
		s.faster(w, r, changed.Bid)
	case isNotWaiting:
		s.message(w, r, http.StatusConflict, "The bid does not wait for that",
			fmt.Sprintf("It is %s, and owes %s. Nothing was done.", waiting.Bid.Status, review.Owes(waiting.Bid)))
	case isUnsettled:
		s.message(w, r, http.StatusConflict, "It is too early to say that",
			fmt.Sprintf("It was sent %s ago and may still show up until %s: say what became of it then. Nothing was done.",
				span(time.Since(unsettled.Sent)), unsettled.Until.UTC().Format("15:04:05 UTC")))
	case isNotLive:
		s.message(w, r, http.StatusConflict, "There is nothing to take back", "The bid is "+notLive.Status+". Nothing was done.")
	case errors.Is(err, review.ErrOtherBid):
		s.message(w, r, http.StatusConflict, "That id belongs to another live bid", "Look for it among the bids: one bid there is one bid here. Nothing was done.")
	case errors.Is(err, review.ErrNoSuchBid):
		s.message(w, r, http.StatusNotFound, "There is nothing here", "There is no bid "+id.String()+".")
	default:
		s.broken(w, r, err)
	}
}

type fasterPage struct {
	Link, Status, Amount, Owes, State string
	Marketplace, JobID, Stands        string
	Last                              *event
}

// faster shows how a bid stands that somebody else has changed first.
func (s *Server) faster(w http.ResponseWriter, r *http.Request, b queries.Bid) {
	s.view(w, r, "faster", "review", func(ctx context.Context, v *reading) error {
		v.status = http.StatusConflict
		body := &fasterPage{
			Link: "/bids/" + b.ID.String(), Status: b.Status, Amount: money(b.AmountCents, b.Currency), Marketplace: b.Marketplace, JobID: b.JobID, Stands: stands(b),
		}
		v.Title, v.Body = "Somebody else was faster", body
		if b.DeliveryKind != nil && b.DeliveryState != nil {
			body.Owes, body.State = owing(*b.DeliveryKind, *b.DeliveryState), *b.DeliveryState
		}
		events, err := v.q.BidEventsBefore(ctx, b.ID, int64(^uint64(0)>>1), 1)
		if err != nil {
			return fmt.Errorf("read the history of bid %s: %w", b.ID, err)
		}
		if len(events) > 0 {
			last := v.event(events[0])
			body.Last = &last
		}
		return nil
	})
}

// everything is the marketplace and the account name that stand for all of them.
const everything = "*"

// pauseVersion names a pause: the one that began at that time.
func pauseVersion(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// pause stops all calls to a marketplace, or to all.
func (s *Server) pause(w http.ResponseWriter, r *http.Request) {
	by, ok := s.form(w, r)
	if !ok {
		return
	}
	name := r.PostForm.Get("marketplace")
	reason := strings.TrimSpace(r.PostForm.Get("reason"))
	if key, err := posting.ParseKey(name, "-"); name != everything && (err != nil || key.Marketplace != name) {
		s.message(w, r, http.StatusUnprocessableEntity, "Something is missing", "Say which marketplace is paused. Nothing was done.")
		return
	}
	if reason == "" || !utf8.ValidString(reason) || strings.Contains(reason, "\x00") || utf8.RuneCountInString(reason) > maxReason {
		s.message(w, r, http.StatusUnprocessableEntity, "Something is missing", "Say why, for those who find it paused. Nothing was done.")
		return
	}
	var paused queries.PausedAccountsRow
	err := s.write(r, func(ctx context.Context, q *queries.Queries) error {
		if err := q.PauseAccount(ctx, queries.PauseAccountParams{Marketplace: name, Account: everything, Reason: reason, PausedBy: by}); err != nil {
			return fmt.Errorf("pause %s: %w", name, err)
		}
		rows, err := q.PausedAccounts(ctx)
		for _, row := range rows {
			if row.Marketplace == name && row.Account == everything {
				paused = row
			}
		}
		return err
	})
	switch {
	case err != nil:
		s.broken(w, r, err)
		return
	case paused.PausedBy != by || paused.Reason != reason: // a pause without an end stays as it is
		s.message(w, r, http.StatusConflict, "Somebody else was faster",
			fmt.Sprintf("%s is paused already, by %s: %s", marketplaceName(name), paused.PausedBy, paused.Reason))
		return
	}
	s.options.Log.Info("paused", "marketplace", name, "by", by, "reason", reason)
	visitorOf(r.Context()).session.say(marketplaceName(name) + " is paused: from now on no pod calls it.")
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// resume ends the pause that was seen, and no other.
func (s *Server) resume(w http.ResponseWriter, r *http.Request) {
	by, ok := s.form(w, r)
	if !ok {
		return
	}
	name, account := r.PostForm.Get("marketplace"), r.PostForm.Get("account")
	seen, err := time.Parse(time.RFC3339Nano, r.PostForm.Get("version"))
	if err != nil {
		s.message(w, r, http.StatusBadRequest, "The form is not whole", "It does not say which pause it is about. Nothing was done.")
		return
	}
	var ended int64
	err = s.write(r, func(ctx context.Context, q *queries.Queries) (err error) {
		ended, err = q.ResumeAccount(ctx, queries.ResumeAccountParams{Marketplace: name, Account: account, PausedAt: seen, ResumedBy: by})
		return err
	})
	switch {
	case err != nil:
		s.broken(w, r, err)
		return
	case ended == 0:
		s.message(w, r, http.StatusConflict, "Somebody else was faster", "That pause has ended already, or another has taken its place. Nothing was done.")
		return
	}
	s.options.Log.Info("resumed", "marketplace", name, "account", account, "by", by)
	visitorOf(r.Context()).session.say(marketplaceName(name) + " is called again.")
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// marketplaceName is a marketplace, or all of them, in words.
func marketplaceName(name string) string {
	if name == everything {
		return "Everything"
	}
	return name
}

// write does something in one transaction, also if who asked is gone by now.
func (s *Server) write(r *http.Request, do func(context.Context, *queries.Queries) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), pageTime)
	defer cancel()
	return db.InTx(ctx, s.options.Pool, s.options.Limits, func(tx *db.Tx) error { return do(ctx, queries.New(tx)) })
}
