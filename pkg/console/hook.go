package console

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/marketplace/bridge"
	"github.com/arbitrageai/bidder/pkg/marketplace/bridge/signature"
)

const (
	// maxCallback bounds the body of a callback, in bytes.
	maxCallback = 64 << 10
	// maxWebhookID bounds webhook-id, in bytes.
	maxWebhookID = 256

	// Callbacks that are not signed right are answered, and logged, so many at once and then
	// one each so often. Those that are signed right are never held up by others.
	failureBurst = 20
	failurePause = 3 * time.Second

	// keepCallbacks is how long a callback is known again: longer than anybody repeats one.
	keepCallbacks = 7 * 24 * time.Hour
	forgetEvery   = time.Hour
	forgetPage    = 1000
)

// hook hears a callback. Nothing that it says is believed: it makes the bid due for the
// look-up that proves it, with the next pass. So a forged, repeated, old or misordered one
// costs a look-up at most.
func (s *Server) hook(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("marketplace")
	keys := s.options.Keys(name)
	if len(keys) == 0 {
		answer(w, http.StatusNotFound, "there is no such hook")
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxCallback))
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		answer(w, http.StatusRequestEntityTooLarge, "a callback has 64 KiB at most")
		return
	}
	if err != nil {
		answer(w, http.StatusBadRequest, "the body is incomplete")
		return
	}
	if err := signature.Verify(r.Header, keys, time.Now(), body); err != nil {
		if !s.failures.Allow() {
			w.Header().Set("Retry-After", "60")
			answer(w, http.StatusTooManyRequests, "too many requests are not signed")
			return
		}
		s.options.Log.Warn("a callback is not signed right", "marketplace", name, "remote", r.RemoteAddr, "error", err)
		answer(w, http.StatusUnauthorized, "the signature is not right") // which part is not said
		return
	}
	id := r.Header.Get(signature.IDHeader)
	if len(id) > maxWebhookID || strings.ContainsFunc(id, func(c rune) bool { return c <= ' ' || c > '~' }) {
		answer(w, http.StatusBadRequest, "webhook-id is no short text of visible ASCII characters")
		return
	}
	callback, err := bridge.ParseCallback(body)
	if err != nil {
		answer(w, http.StatusBadRequest, err.Error())
		return
	}
	if callback.Status != "" {
		if err := s.hear(r.Context(), name, id, callback); err != nil {
			s.options.Log.Error("a callback was not recorded", "marketplace", name, "webhook_id", id, "error", err)
			w.Header().Set("Retry-After", "30")
			answer(w, http.StatusServiceUnavailable, "not recorded: send it again")
			return
		}
	}
	w.WriteHeader(http.StatusNoContent)
}

// heard is the event of a callback in the history of a bid.
type heard struct {
	Kind          string `json:"kind"`
	Result        string `json:"result"`
	ExternalBidID string `json:"external_bid_id,omitempty"`
	WebhookID     string `json:"webhook_id"`
}

// hear records a callback with its effect, also if the sender is gone by now.
func (s *Server) hear(ctx context.Context, name, id string, callback bridge.Callback) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), databaseTime)
	defer cancel()
	params := queries.HearCallbackParams{Marketplace: name, WebhookID: id, Actor: "callback"}
	if callback.BidID != uuid.Nil {
		params.BidID = &callback.BidID
	}
	if callback.ExternalID != "" {
		params.ExternalBidID = &callback.ExternalID
	}
	var err error
	params.Detail, err = json.Marshal(heard{"callback", string(callback.Status), callback.ExternalID, id})
	if err != nil {
		return err //nolint:wrapcheck // texts always encode
	}
	row, err := s.q.HearCallback(ctx, params)
	if err != nil {
		return err
	}
	s.options.Log.Info("callback", "marketplace", name, "webhook_id", id, "status", callback.Status, "bid_id", callback.BidID,
		"external_bid_id", callback.ExternalID, "repeated", row.Heard == 0, "known", row.Told > 0, "looked_up_next", row.Rung > 0)
	return nil
}

// forget removes callbacks that nobody repeats any more, now and then.
func (s *Server) forget(ctx context.Context) {
	ticks := time.NewTicker(forgetEvery)
	defer ticks.Stop()
	for {
		for removed := int64(forgetPage); removed == forgetPage; {
			var err error
			if removed, err = s.q.ForgetCallbacks(ctx, keepCallbacks, forgetPage); err != nil && ctx.Err() == nil {
				s.options.Log.Warn("old callbacks are not removed; it is tried again in an hour", "error", err)
			}
		}
		select {
		case <-ticks.C:
		case <-ctx.Done():
			return
		}
	}
}
