// Package route builds the signed requests of a connector's three routes.
package route

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/arbitrageai/bidder/pkg/config"
	"github.com/arbitrageai/bidder/pkg/marketplace"
	"github.com/arbitrageai/bidder/pkg/marketplace/bridge/signature"
)

// Operation is one of a connector's routes.
type Operation string

// The operations.
const (
	Place    Operation = "place"
	Lookup   Operation = "lookup"
	Withdraw Operation = "withdraw"
)

// KeyHeader carries the idempotency key, as a string of RFC 9651: in quotes.
const KeyHeader = "Idempotency-Key"

// ErrExternalID says that a withdrawal has no external id that can stand in a path.
var ErrExternalID = errors.New("the bid has no external id that can stand in a path")

// Request is a request that can be sent again: only its time and signature differ then.
type Request struct {
	Method string
	URL    string
	// Key is the idempotency key, empty for look-ups.
	Key       string
	MessageID string
	Attempt   int
	Body      []byte
}

// Key returns the idempotency key of an operation: place-<bid id>.
func Key(op Operation, bid uuid.UUID) string { return string(op) + "-" + bid.String() }

// Build returns the request for an operation on a bid. The same bid always makes the same
// bytes.
func Build(m config.Marketplace, op Operation, bid marketplace.Bid) (Request, error) {
	route, payload := m.Lookup, any(nil)
	switch op {
	case Place:
		route, payload = m.Place, placement(bid)
	case Withdraw:
		route, payload = m.Withdraw, withdrawal(bid)
		if bid.ExternalID == "" || bid.ExternalID == "." || bid.ExternalID == ".." {
			return Request{}, ErrExternalID
		}
	case Lookup:
	}
	path := strings.NewReplacer(
		"{idempotency_key}", Key(Place, bid.ID),
		"{external_bid_id}", url.PathEscape(bid.ExternalID),
	).Replace(route.Path)
	request := Request{
		Method: route.Method, URL: m.BaseURL + path, MessageID: "msg_" + string(op) + "_" + bid.ID.String(), Attempt: bid.Attempt,
	}
	if payload == nil {
		return request, nil
	}
	body, err := json.Marshal(payload)
	if err != nil {
		return Request{}, fmt.Errorf("encode bid: %w", err)
	}
	request.Key, request.Body = Key(op, bid.ID), body
	return request, nil
}

// message is the payload form of Standard Webhooks. Its timestamp is not that of the
// attempt: a body that changed would be another request under the same key.
type message struct {
	Type      string `json:"type"`
	Timestamp string `json:"timestamp"`
	Data      any    `json:"data"`
}

func placement(bid marketplace.Bid) message {
	return message{"bid.place", stamp(bid.ArmedAt), struct {
		BidID       uuid.UUID `json:"bid_id"`
		Marketplace string    `json:"marketplace"`
		JobID       string    `json:"job_id"`
		JobURL      string    `json:"job_url,omitempty"`
		Amount      string    `json:"amount"`
		Currency    string    `json:"currency"`
		Pricing     string    `json:"pricing,omitempty"`
		PeriodDays  int32     `json:"period_days,omitempty"`
		Proposal    string    `json:"proposal"`
		ApprovedBy  string    `json:"approved_by,omitempty"`
		ApprovedAt  string    `json:"approved_at,omitempty"`
	}{
		bid.ID, bid.Marketplace, bid.JobID, bid.JobURL, fmt.Sprintf("%d.%02d", bid.AmountCents/100, bid.AmountCents%100),
		bid.Currency, bid.Pricing, bid.PeriodDays, bid.Proposal, bid.ApprovedBy, stamp(bid.ApprovedAt),
	}}
}

func withdrawal(bid marketplace.Bid) message {
	return message{"bid.withdraw", stamp(bid.WithdrawAskedAt), struct {
		BidID      uuid.UUID `json:"bid_id"`
		ExternalID string    `json:"external_bid_id"`
		Reason     string    `json:"reason"`
	}{bid.ID, bid.ExternalID, bid.WithdrawReason}}
}

// stamp drops what a database may round: the same instant has to look the same for ever.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// HTTP returns the request as it goes out at a given time, signed with all secrets.
func (r Request) HTTP(ctx context.Context, m config.Marketplace, at time.Time) (*http.Request, error) {
	request, err := http.NewRequestWithContext(ctx, r.Method, r.URL, bytes.NewReader(r.Body))
	if err != nil {
		return nil, fmt.Errorf("build request: %w", err)
	}
	request.Header.Set("Accept", "application/json, application/problem+json")
	request.Header.Set("User-Agent", "bidder")
	if r.Key != "" {
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set(KeyHeader, strconv.Quote(r.Key))
	}
	if r.Attempt > 0 {
		request.Header.Set("X-Bidder-Attempt", strconv.Itoa(r.Attempt))
	}
	if m.Auth.Header != "" {
		request.Header.Set(m.Auth.Header, m.Auth.Value.Reveal())
	}
	keys := make([][]byte, len(m.SigningSecrets))
	for i, secret := range m.SigningSecrets {
		keys[i] = []byte(secret.Reveal())
	}
	signature.Sign(request.Header, keys, r.MessageID, at, r.Body)
	return request, nil
}
