// Package withdraw takes bids back: it records what a person asks for, and carries it out
// at the marketplace whenever the delivery engine has leased it.
package withdraw

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/delivery"
	"github.com/arbitrageai/bidder/pkg/marketplace"
)

var (
	// ErrNoSuchBid means that there is no bid with the id.
	ErrNoSuchBid = errors.New("there is no such bid")
	// ErrNoReason means that the request says neither why nor by whom.
	ErrNoReason = errors.New("a withdrawal needs a reason and the name of who asks")
)

// NotLiveError means that a bid has ended in a way that leaves nothing to take back.
type NotLiveError struct{ Status string }

func (e NotLiveError) Error() string {
	return "the bid is " + e.Status + ": only a live bid can be withdrawn"
}

// Request asks for a bid to be taken back, and returns how it stands then. What was never
// sent is withdrawn at once; everything else is owed from here on and carried out by the
// delivery engine. No POST of the bid can start after this. Asking again, which is not the first
// request, changes nothing: the first reason stays.
func Request(ctx context.Context, pool db.Beginner, limits db.Limits, id uuid.UUID, reason, by string) (bid queries.Bid, first bool, err error) {
	if strings.TrimSpace(reason) == "" || strings.TrimSpace(by) == "" {
		return queries.Bid{}, false, ErrNoReason
	}
	err = db.InTx(ctx, pool, limits, func(tx *db.Tx) error {
		bid, first, err = Ask(ctx, tx, id, reason, by)
		return err
	})
	return bid, first, err
}

// Ask is [Request] as a part of a transaction, with a reason and a name that are not empty.
func Ask(ctx context.Context, tx *db.Tx, id uuid.UUID, reason, by string) (bid queries.Bid, first bool, err error) {
	q := queries.New(tx)
	asked, err := q.RequestWithdrawal(ctx, reason, by, id)
	if err != nil {
		return queries.Bid{}, false, fmt.Errorf("ask for the withdrawal of bid %s: %w", id, err)
	}
	bid, err = q.GetBid(ctx, id)
	if errors.Is(err, pgx.ErrNoRows) {
		return queries.Bid{}, false, ErrNoSuchBid
	}
	if err != nil {
		return queries.Bid{}, false, fmt.Errorf("read bid %s: %w", id, err)
	}
	if bid.Status != "ACTIVE" && bid.Status != "WITHDRAWN" {
		return bid, false, NotLiveError{bid.Status}
	}
	return bid, asked > 0, nil
}

// Carry is the [delivery.Procedure] of withdrawals: find the bid, read it, retract it by its
// id, read it again.
func Carry(ctx context.Context, l *delivery.Lease) (delivery.Verdict, error) {
	if l.NeverSent() {
		return delivery.EndAs("WITHDRAWN", "never_sent"), nil
	}
	if l.Account.Client.Capabilities().ByHand {
		return delivery.Review(delivery.ReasonNoAPI), nil
	}
	finding, verdict, ok, err := l.LookUp(ctx)
	if err != nil || !ok {
		return verdict, err
	}
	if verdict, decided, err := before(ctx, l, finding); err != nil || decided {
		return verdict, err
	}
	if !l.Accounted() {
		// The id was found by posting while a POST of ours may still land: retracting what was
		// found would make room for it.
		return l.LookAgain(), nil
	}
	if verdict, ok, err := l.Slot(ctx); err != nil || !ok {
		return verdict, err
	}
	result, held, err := l.Change(ctx, marketplace.Client.Withdraw)
	if err != nil {
		return delivery.Verdict{}, fmt.Errorf("retract: %w", err)
	}
	if !held {
		return delivery.Again(0), nil
	}
	if result.Kind != marketplace.Done {
		return judge(l, result), nil
	}
	return after(ctx, l, result)
}

// before says what the look-up before the retraction decides.
func before(ctx context.Context, l *delivery.Lease, f delivery.Finding) (delivery.Verdict, bool, error) {
	known := l.External().ExternalID != ""
	switch {
	case !f.Known:
		return l.FailedCall(f.Result), true, nil
	case f.Found && known:
		verdict, over := ended(l, f)
		return verdict, over, nil
	case known:
		return delivery.Verdict{}, false, nil // the look-up by our key does not know what was placed by hand
	case f.Found && f.Status.IsLive():
		clash, err := l.Found(ctx, f)
		if err != nil {
			return delivery.Verdict{}, false, fmt.Errorf("adopt: %w", err)
		}
		if clash {
			return delivery.Review(delivery.ReasonExternalIDClash), true, nil
		}
		verdict, over := ended(l, f)
		return verdict, over, nil
	case !f.Settled:
		return l.LookAgain(), true, nil
	case f.Found && f.Status == marketplace.Rejected:
		return delivery.EndAs("REJECTED", "rejected_there"), true, nil
	}
	// Sent, and not to be found: that never means that it is not there.
	return delivery.Review(delivery.ReasonUnresolved), true, nil
}

// ended says what it means that the marketplace no longer has the bid live.
func ended(l *delivery.Lease, f delivery.Finding) (delivery.Verdict, bool) {
	switch f.Status {
	case marketplace.Withdrawn:
		return end(l, "WITHDRAWN", "withdrawn_there"), true
	case marketplace.Expired:
		return end(l, "WITHDRAWN", "expired_there"), true
	case marketplace.Rejected:
		return end(l, "REJECTED", "rejected_there"), true
	case marketplace.Lost:
		return end(l, "LOST", "lost_there"), true
	case marketplace.Accepted, marketplace.AwardPending:
		return delivery.Review(delivery.ReasonAwarded), true
	case marketplace.Submitted:
	}
	return delivery.Verdict{}, false
}

// end ends the bid's life, unless a POST of it may still take effect: then the next lease
// reads again.
func end(l *delivery.Lease, status, code string) delivery.Verdict {
	if l.Accounted() {
		return delivery.EndAs(status, code)
	}
	return l.LookAgain()
}

// after reads the bid again: the retraction is believed when the marketplace shows it, or
// confirmed it and cannot show the bid at all.
func after(ctx context.Context, l *delivery.Lease, result marketplace.Result) (delivery.Verdict, error) {
	finding, verdict, ok, err := l.LookUp(ctx)
	switch {
	case err != nil || !ok:
		return verdict, err
	case !finding.Known:
		return l.FailedCall(finding.Result), nil
	case !finding.Found:
		return end(l, "WITHDRAWN", "withdrawn").Because(result), nil
	}
	if verdict, over := ended(l, finding); over {
		return verdict, nil
	}
	return delivery.Failed("still_live"), nil // not believed yet: read, and retract again, later
}

// judge says what an answer other than Done means.
func judge(l *delivery.Lease, r marketplace.Result) delivery.Verdict {
	switch {
	case r.Code == marketplace.CodeAlreadyAccepted:
		return delivery.Review(delivery.ReasonAwarded).Because(r)
	case r.Kind == marketplace.Permanent:
		r.Kind = marketplace.NeedsHuman // a bid that cannot be taken back may be live
	}
	return l.FailedCall(r)
}
