package delivery

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/db/queries"
)

// event is the detail of a delivery's event in the history of a bid.
type event struct {
	Kind          string `json:"kind"`
	Result        string `json:"result"`
	Code          string `json:"code,omitempty"`
	Status        int    `json:"http_status,omitempty"`
	Message       string `json:"message,omitempty"`
	ExternalBidID string `json:"external_bid_id,omitempty"`
	Attempt       int32  `json:"attempt,omitempty"`
	DelayMS       int64  `json:"delay_ms,omitempty"`
}

// recorded is what became of recording a verdict.
type recorded struct {
	rows    int32 // 0: the lease was overtaken
	clashes bool  // another bid has the marketplace's id
	goesOn  bool  // a withdrawal was asked for meanwhile, so nobody needs to look
}

// record writes the verdict under the token, and returns what was really recorded; false means that the lease
// was overtaken. In the same message it asks for the next lease, unless next is nil.
func (l *Lease) record(ctx context.Context, v Verdict, next *leasing) (Verdict, bool, error) {
	r, err := within(ctx, func(ctx context.Context) (r recorded, err error) {
		if next == nil {
			return l.write(ctx, l.engine.q, v)
		}
		err = db.Together(ctx, l.engine.pool, func(q *queries.Queries) error {
			if r, err = l.write(ctx, q, v); err != nil {
				return err
			}
			return next.ask(ctx, q)
		})
		return r, err
	})
	switch {
	case r.clashes && err == nil: // the next lease is there already
		next = nil
		fallthrough
	case r.clashes:
		return l.record(ctx, clash("the marketplace's id "+v.placed.externalID+" belongs to another bid"), next)
	case next != nil && db.Code(err) != "" && !db.IsLost(err): // what is known must not be lost with a lease that fails
		next.failed = true
		return l.record(ctx, v, nil)
	case r.goesOn:
		v.review = ""
	}
	return v, r.rows > 0, err
}

// write is the statement that records a verdict.
func (l *Lease) write(ctx context.Context, q *queries.Queries, v Verdict) (r recorded, err error) {
	id, token := l.Bid.ID, l.Bid.LeaseToken
	e := event{Kind: *l.Bid.DeliveryKind, Code: v.code, Status: v.status, Message: v.message, Attempt: l.Bid.DeliveryAttempts + 1}
	var returned, failures int32
	if v.unsent {
		returned = 1
	}
	if v.failed {
		failures = 1
	}
	switch {
	case v.placed != nil:
		e.Result, e.ExternalBidID = "placed", v.placed.externalID
		row, err := q.RecordPlaced(ctx, queries.RecordPlacedParams{
			Marketplace: l.Bid.Marketplace, Account: l.Bid.Account, ExternalBidID: v.placed.externalID,
			IsForeign: v.placed.foreign, IsGuessed: v.placed.guessed, ID: id, Token: token, Actor: actor, Detail: e.json(),
		})
		return recorded{rows: row.Recorded, clashes: isClash(err) || err == nil && row.Recorded == 0 && row.IsOther}, err
	case v.ended != "":
		e.Result = "ended"
		r.rows, err = q.RecordEnded(ctx, queries.RecordEndedParams{
			Status: v.ended, WithdrawnReason: ReasonWithdrawnElsewhere, LastError: v.lastError(), ID: id, Token: token, Actor: actor, Detail: e.json(),
		})
	case v.review != "":
		e.Result = "review"
		row, err := q.RecordReview(ctx, queries.RecordReviewParams{
			Reason: v.review, ForApproval: v.review == ReasonApproval, Failures: failures, ReturnedPosts: returned,
			LastError: v.lastError(), ID: id, Token: token, Actor: actor, Detail: e.json(),
		})
		return recorded{rows: row.Recorded, goesOn: row.Recorded > 0 && !row.Waits}, err
	default:
		e.Result, e.DelayMS = "again", v.delay.Milliseconds()
		r.rows, err = q.RecordAgain(ctx, queries.RecordAgainParams{
			Delay: v.delay, Failures: failures, ReturnedPosts: returned, LastError: v.lastError(), ID: id, Token: token, Actor: actor, Detail: e.json(),
		})
	}
	return r, err
}

// armed is the event of a POST, with what it says of the posting: what is missing then is
// missing in its repetition too.
type armed struct {
	Kind    string `json:"kind"`
	Result  string `json:"result"`
	Title   string `json:"title"`
	JobURL  string `json:"job_url"`
	Pricing string `json:"pricing"`
}

func (e event) json() json.RawMessage {
	encoded, err := json.Marshal(e)
	if err != nil {
		panic(err) // text and numbers always encode
	}
	return encoded
}

// holdBack keeps the account's further calls, of all pods, from going out too soon, where its marketplace
// has asked for that.
func (l *Lease) holdBack(ctx context.Context, v Verdict) error {
	switch {
	case v.pause != nil:
		return l.pause(ctx, v)
	case v.rest == 0:
		return nil
	}
	_, err := within(ctx, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, l.engine.q.RestAccount(ctx, l.Bid.Marketplace, l.Bid.Account, v.rest)
	})
	if err != nil {
		return fmt.Errorf("let the account rest: %w", err)
	}
	return nil
}

func (l *Lease) pause(ctx context.Context, v Verdict) error {
	var length *time.Duration
	if v.pause.length > 0 {
		length = &v.pause.length
	}
	_, err := within(ctx, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, l.engine.q.PauseAccount(ctx, queries.PauseAccountParams{
			Marketplace: l.Bid.Marketplace, Account: l.Bid.Account, Pause: length, Reason: v.lastError(), PausedBy: actor,
		})
	})
	if err != nil {
		return fmt.Errorf("pause the account: %w", err)
	}
	level, until := slog.LevelWarn, "it ends by itself"
	if length == nil {
		level, until = slog.LevelError, "until `bidder resume "+l.Bid.Marketplace+"`"
	}
	l.engine.log.Log(ctx, level, "the account is paused", "marketplace", l.Bid.Marketplace, "account", l.Bid.Account, "until", until, "reason", v.lastError())
	return nil
}

// report logs one line for each delivery; what needs a person at error level.
func (e *Engine) report(l *Lease, kind string, v Verdict) {
	attributes := []any{
		"bid_id", l.Bid.ID, "kind", kind, "marketplace", l.Bid.Marketplace, "job_id", l.Bid.JobID, "code", v.code,
	}
	switch {
	case v.review != "" && !v.expected():
		e.askPerson(l, v.review, v.lastError(), append(attributes, "external_bid_id", orZero(l.Bid.ExternalBidID)))
	case v.review == ReasonApproval:
		e.log.Info("waits for approval", attributes...)
	case v.review != "":
		e.log.Info("handed to a person", attributes...)
	case v.placed != nil && v.placed.foreign:
		e.log.Warn("a bid that is not from here was there already, and counts as placed", append(attributes, "external_bid_id", v.placed.externalID)...)
	case v.placed != nil:
		e.log.Info("placed", append(attributes, "external_bid_id", v.placed.externalID)...)
	case v.ended != "":
		e.log.Info("ended", append(attributes, "status", v.ended)...)
	default:
		e.log.Info("again later", append(attributes, "delay", v.delay, "failed", v.failed, "last_error", v.lastError())...)
	}
}

// askPerson logs all that somebody needs to look at a bid.
func (e *Engine) askPerson(l *Lease, reason, lastError string, attributes []any) {
	e.log.Error("a person must look at a bid", append(attributes, "reason", reason, "amount_cents", orZero(l.Bid.AmountCents),
		"currency", l.Bid.Currency, "posts", l.posts, "last_error", lastError)...)
}
