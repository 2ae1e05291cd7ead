package delivery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/marketplace"
)

// place is the [Procedure] of placing: one look-up round and at most one POST. What the
// marketplace is known to have is looked up, and never sent again.
func place(ctx context.Context, l *Lease) (Verdict, error) {
	if l.Bid.Armed {
		return l.postAtOnce(ctx)
	}
	if l.Bid.ExternalBidID != nil {
		return l.recheck(ctx)
	}
	capabilities := l.Account.Client.Capabilities()
	switch {
	case capabilities.ByHand && l.posts > 0: // before that was its handler: what became of the POST only a person can see
		return Review(ReasonUnresolved), nil
	case capabilities.ByHand:
		return Review(ReasonNoAPI), nil
	}
	if l.NeverSent() && !l.Bid.IsOpen {
		return Review(ReasonStale), nil
	}
	if l.posts == 0 && l.unapproved() {
		return Review(ReasonApproval), nil
	}
	if l.posts > 0 || capabilities.LooksUpByPosting {
		finding, verdict, ok, err := l.LookUp(ctx)
		if err != nil || !ok {
			return verdict, err
		}
		if verdict, decided := l.judgeFinding(finding); decided {
			return verdict, nil
		}
	}
	if l.posts > 0 && (l.unapproved() || !l.mayRepeat(capabilities)) {
		return Review(ReasonUnresolved), nil
	}
	return l.post(ctx, capabilities)
}

// unapproved says that a person has to approve the bid before it may be sent. What was claimed
// before that was asked for has to wait as well.
func (l *Lease) unapproved() bool { return l.Account.NeedsApproval && l.Bid.ApprovedAt == nil }

// judgeFinding says what a look-up before a POST decides.
func (l *Lease) judgeFinding(f Finding) (Verdict, bool) {
	switch {
	case !f.Known:
		return l.FailedCall(f.Result), true
	case isLive(f.Finding):
		return l.adopt(f), true
	case l.posts == 0 && f.Found:
		return Review(endedElsewhere(f.Status)), true
	case l.posts == 0:
		return Verdict{}, false
	case !f.Settled:
		return l.LookAgain(), true
	case f.Found && f.Status == marketplace.Rejected && l.posts == 1:
		return EndAs("REJECTED", "rejected_there"), true
	case f.Found:
		return Review(endedElsewhere(f.Status)), true
	}
	return Verdict{}, false
}

// adopt is the verdict on a live bid that the marketplace has.
func (l *Lease) adopt(f Finding) Verdict {
	return Verdict{placed: &placed{externalID: f.ExternalID, foreign: f.Foreign || l.posts == 0, guessed: l.guesses()}, code: "found"}
}

// clash is the verdict on an id of the marketplace that cannot be this bid's.
func clash(message string) Verdict {
	v := Review(ReasonExternalIDClash)
	v.message = message
	return v
}

func isLive(f marketplace.Finding) bool {
	return f.Found && f.Status.IsLive()
}

func endedElsewhere(s marketplace.Status) string {
	switch s {
	case marketplace.Rejected:
		return ReasonRejectedElsewhere
	case marketplace.Expired:
		return ReasonExpiredElsewhere
	case marketplace.Lost:
		return ReasonLostElsewhere
	default:
		return ReasonWithdrawnElsewhere
	}
}

// FailedCall is the verdict on a call that changed nothing and answered nothing of use.
func (l *Lease) FailedCall(r marketplace.Result) Verdict {
	v := Verdict{delay: r.After, code: "call_failed"}
	switch r.Kind {
	case marketplace.AuthNeeded:
		v = Review(ReasonAuth)
		v.pause = &pause{}
	case marketplace.PauseAccount:
		v.delay, v.pause = max(r.After, pausedPause), &pause{length: r.After}
	case marketplace.NeedsHuman:
		v = Review(humanReason(r))
	default:
		v = l.notDone(v, r)
	}
	return v.Because(r)
}

// notDone is v as a failed attempt; but a refusal for the rate, with 429 or in other words, is none, and is meant for
// the account: the marketplace counts its calls, not the bid's, and none of them goes out sooner.
func (l *Lease) notDone(v Verdict, r marketplace.Result) Verdict {
	v.failed = r.Status != http.StatusTooManyRequests && r.Code != marketplace.CodeRateLimited
	if !v.failed {
		v.delay = max(r.After, l.engine.options.RetryBase)
		v.rest = v.delay
	}
	return v
}

func humanReason(r marketplace.Result) string {
	if r.Code == "" {
		return "needs_human"
	}
	return r.Code
}

// mostPosts is how many POSTs a bid may ever see: a second one only where the marketplace
// itself keeps it from becoming a second bid.
func mostPosts(d marketplace.Dedup) int32 {
	if d == marketplace.NoDedup {
		return 1
	}
	return 2
}

// mayRepeat says whether a second POST is allowed, after the settle time.
func (l *Lease) mayRepeat(c marketplace.Capabilities) bool {
	if l.posts >= mostPosts(c.Dedup) {
		return false
	}
	age := l.Bid.LeasedAt.Sub(orZero(l.Bid.FirstPostAt)) + time.Since(l.asked) // rather too long than too short
	return c.KeyLife == 0 || age+c.Timeout < c.KeyLife
}

// post arms and sends one POST, and says what its answer proves.
func (l *Lease) post(ctx context.Context, c marketplace.Capabilities) (Verdict, error) {
	row, armedHere, verdict, err := l.arm(ctx, c)
	if err != nil || row == nil {
		return verdict, err
	}
	l.posts, l.Bid.FirstPostAt = row.PlacePosts, &row.FirstPostAt
	return l.send(ctx, armedHere)
}

// postAtOnce sends the POST that was armed with the lease, unless no further call may begin.
func (l *Lease) postAtOnce(ctx context.Context) (Verdict, error) {
	if l.stop.Err() != nil {
		stopped := stopping()
		stopped.unsent = true
		return stopped, nil //nolint:nilerr // the verdict carries it
	}
	return l.send(ctx, l.asked)
}

// send sends the POST that was armed, and says what its answer proves: the marketplace may have the bid although it
// asks for a person; only who is not signed in need not look. Its deadline is absolute,
// counted from before arming: a process that was frozen in between finds it over and sends nothing.
func (l *Lease) send(ctx context.Context, armedHere time.Time) (Verdict, error) {
	call, cancel := context.WithDeadline(ctx, armedHere.Add(l.Account.Client.Capabilities().Timeout))
	defer cancel()
	answer := l.Account.Client.Place(call, l.External())
	verdict := l.judgePost(answer)
	if verdict.review != "" && answer.Kind == marketplace.NeedsHuman {
		return l.lastLook(ctx, verdict)
	}
	return verdict, nil
}

// arm passes the gate and arms a POST, or says why not. Where the account has no rate the gate
// is asked by the statement that arms, and only what finds it closed asks why.
func (l *Lease) arm(ctx context.Context, c marketplace.Capabilities) (row *queries.ArmPostRow, at time.Time, refused Verdict, err error) {
	content, err := json.Marshal(armed{Kind: Place, Result: "armed", Title: l.Bid.Title, JobURL: l.Bid.JobURL, Pricing: l.Bid.Pricing})
	if err != nil {
		return nil, at, refused, fmt.Errorf("encode an event: %w", err)
	}
	try := func(atGate bool) error {
		at = time.Now()
		armed, err := within(ctx, func(ctx context.Context) (queries.ArmPostRow, error) {
			return l.engine.q.ArmPost(ctx, queries.ArmPostParams{
				ID: l.Bid.ID, Token: l.Bid.LeaseToken, Most: mostPosts(c.Dedup), Needed: c.Timeout + leaseMargin, AtGate: atGate,
				PostingTTL: l.engine.options.PostingTTL, Actor: actor, Detail: content,
			})
		})
		switch {
		case err == nil:
			row = &armed
		case !errors.Is(err, pgx.ErrNoRows):
			return fmt.Errorf("arm: %w", err) // unknown whether armed: no POST, and the next lease looks
		}
		return nil
	}
	if l.Account.Gap == 0 && l.stop.Err() == nil {
		if err := try(true); err != nil || row != nil {
			return row, at, refused, err
		}
	}
	if refused, ok, err := l.Slot(ctx); err != nil || !ok {
		return nil, at, refused, err
	}
	if err := try(false); err != nil {
		return nil, at, refused, err
	}
	if row == nil {
		refused = Again(0) // a withdrawal, another owner, too little lease left, or no longer fresh
		refused.code = "not_armed"
	}
	return row, at, refused, nil
}

// judgePost says what the answer to a POST proves. While an earlier POST is unaccounted
// for, a refusal of this one proves nothing about that one.
func (l *Lease) judgePost(r marketplace.Result) Verdict {
	ambiguous := Verdict{delay: max(r.After, untilLookUp(0, l.Account.Settle)), code: "ambiguous"}
	alone := l.posts == 1
	v := ambiguous
	switch r.Kind {
	case marketplace.Done:
		if r.ExternalID != "" {
			v = Verdict{placed: &placed{externalID: r.ExternalID}, code: "placed"}
		}
	case marketplace.NotExecuted:
		v = l.notDone(Verdict{unsent: true, delay: r.After, code: "not_executed"}, r)
	case marketplace.Permanent:
		switch {
		case r.ExternalID != "":
			v = Verdict{placed: &placed{externalID: r.ExternalID, foreign: true}, code: "found"}
		case r.Code == marketplace.CodeDuplicateBid: // proves that there is a bid, not that it was refused
		case alone:
			v = EndAs("REJECTED", r.Code)
		}
	case marketplace.AuthNeeded:
		if alone {
			v = Review(ReasonAuth)
		}
		v.pause = &pause{}
	case marketplace.PauseAccount:
		v = Verdict{delay: max(r.After, pausedPause), code: "paused", pause: &pause{length: r.After}}
	case marketplace.NeedsHuman:
		if alone {
			v = Review(humanReason(r))
		}
	case marketplace.Ambiguous:
	}
	return v.Because(r)
}

// lastLook looks once more before a person is asked, if anything was ever sent: what it
// finds live is adopted.
func (l *Lease) lastLook(ctx context.Context, otherwise Verdict) (Verdict, error) {
	if otherwise.unsent {
		l.posts--
	}
	if l.posts == 0 || *l.Bid.DeliveryKind != Place {
		return otherwise, nil
	}
	finding, _, ok, err := l.LookUp(ctx)
	if err == nil && ok && isLive(finding.Finding) {
		return l.adopt(finding), nil
	}
	otherwise.silent = otherwise.silent && !finding.Known
	return otherwise, err
}
