package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/arbitrageai/bidder/pkg/marketplace/bridge/signature"
)

// callbackTime bounds the sending of a callback.
const callbackTime = 10 * time.Second

// Callback says to a hook of bidder (http://127.0.0.1:8080/hooks/MARKETPLACE) how a bid
// stands, signed as connectors sign, and returns the status of the answer. Each has another id.
func (s *Server) Callback(ctx context.Context, hook, externalID string) (int, error) {
	bids := s.Bids()
	at := slices.IndexFunc(bids, func(b Bid) bool { return b.ExternalID == externalID })
	if at < 0 {
		return 0, fmt.Errorf("%s: %w", externalID, ErrNotFound)
	}
	now := time.Now()
	body, err := json.Marshal(map[string]any{
		"type": "bid." + string(bids[at].Status), "timestamp": now.UTC(),
		"data": map[string]string{"bid_id": bids[at].BidID, "external_bid_id": externalID},
	})
	if err != nil {
		return 0, fmt.Errorf("encode a callback: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, callbackTime)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, hook, bytes.NewReader(body))
	if err != nil {
		return 0, fmt.Errorf("build a callback: %w", err)
	}
	request.Header.Set("Content-Type", "application/json")
	keys := make([][]byte, len(s.opts.Secrets))
	for i, secret := range s.opts.Secrets {
		keys[i] = []byte(secret.Reveal())
	}
	signature.Sign(request.Header, keys, "msg_"+uuid.NewString(), now, body)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, fmt.Errorf("send a callback: %w", err)
	}
	_ = response.Body.Close() // its status is all that is wanted
	return response.StatusCode, nil
}
