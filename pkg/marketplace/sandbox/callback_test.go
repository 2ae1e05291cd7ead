package sandbox_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/arbitrageai/bidder/pkg/marketplace"
	"github.com/arbitrageai/bidder/pkg/marketplace/bridge"
	"github.com/arbitrageai/bidder/pkg/marketplace/bridge/signature"
	"github.com/arbitrageai/bidder/pkg/marketplace/sandbox"
)

// TestCallback: with a change of a bid the sandbox calls back, as bidder understands it.
func TestCallback(t *testing.T) {
	t.Parallel()
	s, bid := start(t, reliable()), newBid("job-1")
	external := s.client.Place(t.Context(), bid).ExternalID
	heard := make(chan bridge.Callback, 1)
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		callback, err := bridge.ParseCallback(body)
		if signed := signature.Verify(r.Header, [][]byte{[]byte(sandbox.Secret().Reveal())}, time.Now(), body); err != nil || signed != nil {
			t.Errorf("%s: %v, %v", body, err, signed)
		}
		heard <- callback
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(hook.Close)
	post := func(body string) (int, string) {
		request, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+"/admin/bids/"+external+"/status", strings.NewReader(body))
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = response.Body.Close() }()
		text, _ := io.ReadAll(response.Body)
		return response.StatusCode, string(text)
	}
	if status, text := post(`{"status":"lost","callback":"` + hook.URL + `"}`); status != http.StatusOK || !strings.Contains(text, `"callback_status":204`) {
		t.Errorf("%d %s", status, text)
	}
	if got, want := <-heard, (bridge.Callback{Status: marketplace.Lost, BidID: bid.ID, ExternalID: external}); got != want {
		t.Errorf("heard %+v, want %+v", got, want)
	}
	if status, text := post(`{"status":"accepted","callback":"http://127.0.0.1:1"}`); status != http.StatusBadGateway {
		t.Errorf("nobody listens: %d %s", status, text)
	}
	if _, err := s.Callback(t.Context(), hook.URL, "unknown"); !errors.Is(err, sandbox.ErrNotFound) {
		t.Errorf("of an unknown bid: %v", err)
	}
	if _, err := s.Callback(t.Context(), ":", external); err == nil {
		t.Error("no URL")
	}
}
