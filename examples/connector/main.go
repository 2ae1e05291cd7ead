// Connector is an example of what bidder's handler bridge talks to. It keeps bids in memory
// and sends them nowhere: put the calls to your marketplace into submit and retract, and a
// database where the maps are.
package main

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

func main() {
	key, err := parseSecret(os.Getenv("CONNECTOR_SECRET")) //nolint:forbidigo // it is a program of its own
	if err != nil {
		log.Fatal("CONNECTOR_SECRET: ", err)
	}
	server := &http.Server{Addr: "127.0.0.1:8090", Handler: newConnector(key, submit, retract), ReadHeaderTimeout: 10 * time.Second}
	log.Print("listening on http://", server.Addr)
	log.Fatal(server.ListenAndServe())
}

// submit is where you place a bid; it returns the marketplace's id.
func submit(_ context.Context, p placement) (string, error) {
	log.Printf("bid %s %s on %s", p.Amount, p.Currency, p.JobID)
	return "bid-" + rand.Text(), nil
}

// retract is where you take a bid back.
func retract(_ context.Context, id string) error {
	log.Printf("withdraw %s", id)
	return nil
}

// parseSecret returns the key of a signing secret, whsec_ and base64.
func parseSecret(secret string) ([]byte, error) {
	encoded, ok := strings.CutPrefix(secret, "whsec_")
	key, err := base64.StdEncoding.DecodeString(encoded)
	if !ok || err != nil || len(key) < 24 {
		return nil, errors.New("write whsec_ and the base64 of at least 24 bytes: echo whsec_$(openssl rand -base64 32)")
	}
	return key, nil
}

type placement struct {
	JobID    string `json:"job_id"`
	Amount   string `json:"amount"`
	Currency string `json:"currency"`
	Proposal string `json:"proposal"`
}

// bid is what is kept of a placement. It outlives restarts in a real connector: one that forgets
// keys makes second bids.
type bid struct {
	ID     string // empty while nobody knows whether there is one
	Body   string // to notice another bid under the same key
	Status string // submitted, accepted, rejected, lost, withdrawn or expired
}

type connector struct {
	key     []byte
	submit  func(context.Context, placement) (string, error)
	retract func(context.Context, string) error

	mu    sync.Mutex // also while the marketplace is called: one key, one call
	byKey map[string]*bid
	byID  map[string]*bid
}

func newConnector(key []byte, submit func(context.Context, placement) (string, error), retract func(context.Context, string) error) http.Handler {
	c := &connector{key: key, submit: submit, retract: retract, byKey: map[string]*bid{}, byID: map[string]*bid{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /bids", c.verified(c.place))
	mux.HandleFunc("GET /bids/by-key/{key}", c.verified(c.lookup))
	mux.HandleFunc("POST /bids/{id}/withdraw", c.verified(c.withdraw))
	return mux
}

// verified calls next for requests that bidder signed within the last five minutes. The bytes
// that were signed are those of the wire: verify first, decode then.
func (c *connector) verified(next func(http.ResponseWriter, *http.Request, []byte)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
		if err != nil {
			refuse(w, http.StatusBadRequest, "invalid_request", "the body cannot be read")
			return
		}
		id, timestamp := r.Header.Get("Webhook-Id"), r.Header.Get("Webhook-Timestamp")
		seconds, err := strconv.ParseInt(timestamp, 10, 64)
		if err != nil || time.Since(time.Unix(seconds, 0)).Abs() > 5*time.Minute {
			refuse(w, http.StatusUnauthorized, "auth_failed", "webhook-timestamp is missing or more than five minutes away")
			return
		}
		mac := hmac.New(sha256.New, c.key)
		fmt.Fprintf(mac, "%s.%s.%s", id, timestamp, body)
		want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
		for signature := range strings.FieldsSeq(r.Header.Get("Webhook-Signature")) { // one for each secret of bidder
			if hmac.Equal([]byte(signature), []byte(want)) {
				next(w, r, body)
				return
			}
		}
		refuse(w, http.StatusUnauthorized, "auth_failed", "no signature matches")
	}
}

func (c *connector) place(w http.ResponseWriter, r *http.Request, body []byte) {
	key, err := strconv.Unquote(r.Header.Get("Idempotency-Key"))
	if err != nil || key == "" {
		refuse(w, http.StatusBadRequest, "invalid_request", "Idempotency-Key is missing")
		return
	}
	var message struct {
		Data placement `json:"data"`
	}
	if err := json.Unmarshal(body, &message); err != nil || message.Data.JobID == "" {
		refuse(w, http.StatusUnprocessableEntity, "invalid_request", "the body is not a bid")
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.byKey[key]
	if b != nil && b.Body != string(body) {
		refuse(w, http.StatusUnprocessableEntity, "idempotency_key_reuse", "the key came with another bid before")
		return
	}
	if b == nil {
		b = &bid{Body: string(body)}
		c.byKey[key] = b // before the call: whatever becomes of it, the key makes no second one
		if id, err := c.submit(r.Context(), message.Data); err == nil {
			b.ID, b.Status = id, "submitted"
			c.byID[id] = b
		}
	}
	if b.ID == "" {
		refuse(w, http.StatusBadGateway, "needs_human", "nobody knows whether the marketplace has this bid: look there")
		return
	}
	answer(w, http.StatusOK, map[string]any{"external_bid_id": b.ID, "status": b.Status})
}

func (c *connector) lookup(w http.ResponseWriter, r *http.Request, _ []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.byKey[r.PathValue("key")]
	if b == nil || b.ID == "" {
		answer(w, http.StatusOK, map[string]any{"found": false, "definitive": b == nil})
		return
	}
	answer(w, http.StatusOK, map[string]any{"found": true, "external_bid_id": b.ID, "status": b.Status})
}

func (c *connector) withdraw(w http.ResponseWriter, r *http.Request, _ []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.byID[r.PathValue("id")]
	switch {
	case b == nil:
		refuse(w, http.StatusNotFound, "not_found", "there is no such bid")
	case b.Status == "withdrawn":
		answer(w, http.StatusOK, map[string]any{"status": "already_withdrawn"})
	case b.Status == "accepted":
		refuse(w, http.StatusConflict, "already_accepted", "the client has accepted the bid")
	case c.retract(r.Context(), b.ID) != nil:
		refuse(w, http.StatusBadGateway, "unavailable", "the marketplace does not answer")
	default:
		b.Status = "withdrawn"
		answer(w, http.StatusOK, map[string]any{"status": b.Status})
	}
}

func answer(w http.ResponseWriter, status int, body map[string]any) {
	if w.Header().Get("Content-Type") == "" {
		w.Header().Set("Content-Type", "application/json")
	}
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) //nolint:errchkjson // texts, numbers and booleans; bidder may be gone
}

// refuse answers with a problem of RFC 9457.
func refuse(w http.ResponseWriter, status int, code, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	answer(w, status, map[string]any{"title": http.StatusText(status), "status": status, "detail": detail, "code": code})
}
