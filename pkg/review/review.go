// Package review records what people decide on bids: that one may be sent, is to be tried
// again, has become this or that, or is to be taken back. Everybody who decides says who
// they are, and who has seen an older state of the bid decides nothing.
package review

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/delivery"
	"github.com/arbitrageai/bidder/pkg/withdraw"
)

// States of deliveries that wait for a person.
const (
	AwaitingApproval = "awaiting_approval"
	InReview         = "review"
)

var (
	// ErrNoName means that a decision does not say whose it is.
	ErrNoName = errors.New("a decision needs the name of who decides")
	// ErrNoExternalID means that a bid was said to be placed, but not under which id.
	ErrNoExternalID = errors.New("say under which id: placed:ID")
	// ErrOtherBid means that the id of the marketplace belongs to another live bid.
	ErrOtherBid = errors.New("that id belongs to another live bid")
	// ErrNoSuchBid means that there is no bid with the id.
	ErrNoSuchBid = withdraw.ErrNoSuchBid
)

// UnknownEndingError means that a resolution is none of those that there are.
type UnknownEndingError struct{ As string }

func (e UnknownEndingError) Error() string {
	return fmt.Sprintf("%q is not placed:ID, not-placed, withdrawn, rejected, won or lost", e.As)
}

// NotWaitingError means that a bid does not wait for this decision.
type NotWaitingError struct{ Bid queries.Bid }

func (e NotWaitingError) Error() string {
	owes := Owes(e.Bid)
	if owes == "-" {
		owes = "nothing"
	}
	return fmt.Sprintf("bid %s does not wait for this decision: it is %s and owes %s", e.Bid.ID, e.Bid.Status, owes)
}

// UnsettledError means that a bid was sent so lately that it may still show up: until then
// nobody can have seen that it is not there.
type UnsettledError struct {
	BidID       uuid.UUID
	Sent, Until time.Time
}

func (e UnsettledError) Error() string {
	return fmt.Sprintf("bid %s was sent at %s and may still show up until %s: say what became of it then", e.BidID,
		e.Sent.UTC().Format(exact), e.Until.UTC().Format(exact))
}

// exact is how times are written for people.
const exact = "2006-01-02 15:04:05Z"

// ChangedError means that somebody, or the program, changed the bid after the state that the
// decision was made on.
type ChangedError struct{ Bid queries.Bid }

func (e ChangedError) Error() string {
	return fmt.Sprintf("bid %s has changed meanwhile: it is %s and owes %s", e.Bid.ID, e.Bid.Status, Owes(e.Bid))
}

// Owes is what a bid owes its marketplace, for people.
func Owes(b queries.Bid) string {
	if b.DeliveryKind == nil || b.DeliveryState == nil {
		return "-"
	}
	return *b.DeliveryKind + " (" + strings.ReplaceAll(*b.DeliveryState, "_", " ") + ")"
}

// Waits says whether a bid waits for a person.
func Waits(b queries.Bid) bool {
	return b.DeliveryState != nil && (*b.DeliveryState == InReview || *b.DeliveryState == AwaitingApproval)
}

// Reason is why a bid waits for a person, and since when.
func Reason(b queries.Bid) (reason string, since time.Time) {
	switch {
	case b.DeliveryState == nil || *b.DeliveryState != InReview:
		return delivery.ReasonApproval, b.CreatedAt // those in review carry theirs
	case b.ReviewReason == nil:
		reason = "-"
	default:
		reason = *b.ReviewReason
	}
	if b.ReviewSince == nil {
		return reason, b.UpdatedAt
	}
	return reason, *b.ReviewSince
}

// Version is a state of a bid: every change of its row makes another one.
type Version struct {
	token   int64
	updated int64 // microseconds, which is what the database keeps
}

// VersionOf is the state that a bid was read in.
func VersionOf(b queries.Bid) Version { return Version{b.LeaseToken, b.UpdatedAt.UnixMicro()} }

func (v Version) String() string { return fmt.Sprintf("%d-%d", v.token, v.updated) }

// ParseVersion reads what [Version.String] wrote.
func ParseVersion(text string) (v Version, ok bool) {
	token, updated, _ := strings.Cut(text, "-")
	var tokenErr, updatedErr error
	v.token, tokenErr = strconv.ParseInt(token, 10, 64)
	v.updated, updatedErr = strconv.ParseInt(updated, 10, 64)
	return v, tokenErr == nil && updatedErr == nil
}

// Decision is what a person decides on a bid.
type Decision struct {
	// What a bid is by it, for messages: "approved", "tried again", "resolved as won".
	What string

	by, state string // the delivery state that it is for; "" is any
	hides     bool   // it says that the bid is not live at its marketplace
	record    func(ctx context.Context, tx *db.Tx, id uuid.UUID) error
}

// Approve lets a bid be sent that waits for approval.
func Approve(by string) Decision {
	return Decision{What: "approved", by: by, state: AwaitingApproval, record: func(ctx context.Context, tx *db.Tx, id uuid.UUID) error {
		_, err := queries.New(tx).ApproveBid(ctx, by, id)
		return err
	}}
}

// Retry has a delivery in review tried again, as if it had never failed.
func Retry(by string) Decision {
	return Decision{What: "tried again", by: by, state: InReview, record: func(ctx context.Context, tx *db.Tx, id uuid.UUID) error {
		_, err := queries.New(tx).RetryDelivery(ctx, id, by)
		return err
	}}
}

// Resolve records what a person found out or did about a delivery in review: placed:ID,
// not-placed, withdrawn, rejected, won or lost, and what to remember about it.
func Resolve(as, note, by string) (Decision, error) {
	decision := Decision{What: "resolved as " + as, by: by, state: InReview}
	if externalID, placed := strings.CutPrefix(as, "placed:"); placed {
		externalID = strings.TrimSpace(externalID)
		if externalID == "" {
			return Decision{}, ErrNoExternalID
		}
		decision.record = func(ctx context.Context, tx *db.Tx, id uuid.UUID) error {
			_, err := queries.New(tx).ResolvePlaced(ctx, queries.ResolvePlacedParams{ID: id, ExternalBidID: externalID, Actor: by, Note: note})
			return err
		}
		return decision, nil
	}
	status, known := map[string]string{"not-placed": "WITHDRAWN", "withdrawn": "WITHDRAWN", "rejected": "REJECTED", "won": "WON", "lost": "LOST"}[as]
	if !known {
		return Decision{}, UnknownEndingError{as}
	}
	detail, err := json.Marshal(map[string]string{"result": "resolved", "as": as, "note": note})
	if err != nil {
		return Decision{}, fmt.Errorf("encode the note: %w", err)
	}
	decision.hides = as == "not-placed" || as == "withdrawn" || as == "rejected"
	decision.record = func(ctx context.Context, tx *db.Tx, id uuid.UUID) error {
		_, err := queries.New(tx).EndBid(ctx, queries.EndBidParams{
			ID: id, FromStatus: "ACTIVE", ToStatus: status, Actor: by, Detail: detail, WithdrawnReason: strings.TrimSuffix(as+": "+note, ": "),
		})
		return err
	}
	return decision, nil
}

// Withdraw asks for a live bid to be taken back, as [withdraw.Request] does.
func Withdraw(reason, by string) (Decision, error) {
	if strings.TrimSpace(reason) == "" || strings.TrimSpace(by) == "" {
		return Decision{}, withdraw.ErrNoReason
	}
	return Decision{What: "withdrawn", by: by, record: func(ctx context.Context, tx *db.Tx, id uuid.UUID) error {
		_, _, err := withdraw.Ask(ctx, tx, id, reason, by)
		return err
	}}, nil
}

// Desk is where decisions are recorded.
type Desk struct {
	Pool   db.Beginner
	Limits db.Limits
	// Settle is how long a bid that was sent may take to show up at a marketplace.
	Settle func(marketplace string) time.Duration
}

// Check says why a decision cannot be made on a bid as it is, now by the database's clock:
// [ErrNoName], [NotWaitingError] or [UnsettledError].
func (d Desk) Check(b queries.Bid, decision Decision, now time.Time) error {
	if strings.TrimSpace(decision.by) == "" {
		return ErrNoName
	}
	if decision.state != "" && (b.DeliveryState == nil || *b.DeliveryState != decision.state) {
		return NotWaitingError{b}
	}
	if decision.hides {
		return d.Settled(b, now)
	}
	return nil
}

// Settled is an [UnsettledError] if a POST of the bid may still take effect, now by the database's
// clock: until none can, only "it is there" can be seen. Of what is known to have made the bid, nothing
// more comes; an id that was found by the posting, or is another's, says nothing of what was sent.
func (d Desk) Settled(b queries.Bid, now time.Time) error {
	known := b.ExternalBidID != nil && !b.IsGuessed && !b.IsForeign && b.PlacePosts == 1
	if b.LastPostAt == nil || known {
		return nil
	}
	if until := b.LastPostAt.Add(d.Settle(b.Marketplace)); now.Before(until) {
		return UnsettledError{b.ID, *b.LastPostAt, until}
	}
	return nil
}

// Decide records a decision and returns the bid as it is then. Of several people one is
// first; with the state that they saw the others get [ChangedError], and without it what
// [Desk.Check] says of the bid then. Other errors: [ErrNoSuchBid], [ErrOtherBid],
// [withdraw.NotLiveError].
func (d Desk) Decide(ctx context.Context, id uuid.UUID, seen *Version, decision Decision) (bid queries.Bid, err error) {
	err = db.InTx(ctx, d.Pool, d.Limits, func(tx *db.Tx) error {
		q := queries.New(tx)
		locked, err := q.LockBid(ctx, id) // two people, one after the other
		if errors.Is(err, pgx.ErrNoRows) {
			return ErrNoSuchBid
		}
		if err != nil {
			return fmt.Errorf("lock bid %s: %w", id, err)
		}
		current, err := q.GetBid(ctx, id)
		if err != nil {
			return fmt.Errorf("read bid %s: %w", id, err)
		}
		if seen != nil && *seen != VersionOf(current) {
			return ChangedError{current}
		}
		if err := d.Check(current, decision, locked.Now); err != nil {
			return err
		}
		if err := decision.record(ctx, tx, id); err != nil { // exactly one row: it is locked and in that state
			return fmt.Errorf("record that bid %s is %s: %w", id, decision.What, err)
		}
		if bid, err = q.GetBid(ctx, id); err != nil {
			return fmt.Errorf("read bid %s: %w", id, err)
		}
		return nil
	})
	if db.Constraint(err) == "bids_one_active_per_external_id" {
		return bid, ErrOtherBid
	}
	return bid, err
}
