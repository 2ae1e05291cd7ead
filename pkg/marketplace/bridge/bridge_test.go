package bridge

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/arbitrageai/bidder/pkg/config"
	"github.com/arbitrageai/bidder/pkg/marketplace"
	"github.com/arbitrageai/bidder/pkg/marketplace/bridge/signature"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testID  = "0192f3a4-7c1e-7b32-9d55-1f0e6a2b8c41"
	testKey = "a signing key of the tests, 32 b"
)

func testMarket(baseURL string) config.Marketplace {
	return config.Marketplace{
		BaseURL:              baseURL,
		Place:                config.Route{Method: "POST", Path: "/bids"},
		Lookup:               config.Route{Method: "GET", Path: "/bids/by-key/{idempotency_key}"},
		Withdraw:             config.Route{Method: "POST", Path: "/bids/{external_bid_id}/withdraw"},
		Auth:                 config.Auth{Header: "Authorization", Value: config.NewSecret("Bearer opensesame-1234")},
		SigningSecrets:       []config.Secret{config.NewSecret(testKey)},
		Timeout:              10 * time.Second,
		AllowPrivateNetworks: true,
	}
}

func testBid() marketplace.Bid {
	return marketplace.Bid{
		ID: uuid.MustParse(testID), Marketplace: "upwork", JobID: "job-1", AmountCents: 48000, Currency: "USD", Proposal: "I can.",
		ArmedAt: time.Unix(1795420800, 0), Attempt: 1, ExternalID: "p-1", WithdrawReason: "mistake", WithdrawAskedAt: time.Unix(1795420900, 0),
	}
}

func newTestClient(tb testing.TB, m config.Marketplace) *Client {
	tb.Helper()
	client, err := New(m)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(client.Close)
	return client
}

// newServer returns a server and the number of requests that it got.
func newServer(tb testing.TB, handler http.HandlerFunc) (*httptest.Server, *atomic.Int64) {
	tb.Helper()
	var requests atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		handler(w, r)
	}))
	tb.Cleanup(server.Close)
	return server, &requests
}

// request is what a connector has seen of one.
type request struct {
	Method, Path, Key, MessageID, Attempt, Auth, Body string
	Signed                                            error
}

// recorder keeps requests and answers them all alike.
type recorder struct {
	answer string

	mu       sync.Mutex
	requests []request
}

func (s *recorder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, request{
		r.Method, r.URL.EscapedPath(), r.Header.Get("Idempotency-Key"), r.Header.Get("Webhook-Id"), r.Header.Get("X-Bidder-Attempt"),
		r.Header.Get("Authorization"), string(body), signature.Verify(r.Header, [][]byte{[]byte(testKey)}, time.Now(), body),
	})
	_, _ = io.WriteString(w, s.answer)
}

func TestRequests(t *testing.T) {
	t.Parallel()
	connector := &recorder{answer: `{"external_bid_id":"p-1","found":true,"status":"withdrawn"}`}
	server, _ := newServer(t, connector.ServeHTTP)
	client, bid := newTestClient(t, testMarket(server.URL+"/upwork")), testBid()

	placed := client.Place(t.Context(), bid)
	bid.Attempt = 2
	again := client.Place(t.Context(), bid)
	finding := client.Lookup(t.Context(), bid)
	bid.ExternalID = "p/1"
	withdrawn := client.Withdraw(t.Context(), bid)

	done := marketplace.Result{Kind: marketplace.Done, ExternalID: "p-1", Status: 200}
	if diff := cmp.Diff([]marketplace.Result{done, done, {Kind: marketplace.Done, Status: 200}}, []marketplace.Result{placed, again, withdrawn}); diff != "" {
		t.Errorf("results (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(marketplace.Finding{Known: true, Found: true, ExternalID: "p-1", Status: marketplace.Withdrawn}, finding); diff != "" {
		t.Errorf("finding (-want +got):\n%s", diff)
	}
	const auth = "Bearer opensesame-1234"
	placement := `{"type":"bid.place","timestamp":"2026-11-23T08:00:00Z","data":{"bid_id":"` + testID +
		`","marketplace":"upwork","job_id":"job-1","amount":"480.00","currency":"USD","proposal":"I can."}}`
	want := []request{
		{"POST", "/upwork/bids", `"place-` + testID + `"`, "msg_place_" + testID, "1", auth, placement, nil},
		{"POST", "/upwork/bids", `"place-` + testID + `"`, "msg_place_" + testID, "2", auth, placement, nil},
		{"GET", "/upwork/bids/by-key/place-" + testID, "", "msg_lookup_" + testID, "2", auth, "", nil},
		{
			"POST", "/upwork/bids/p%2F1/withdraw", `"withdraw-` + testID + `"`, "msg_withdraw_" + testID, "2", auth,
			`{"type":"bid.withdraw","timestamp":"2026-11-23T08:01:40Z","data":{"bid_id":"` + testID + `","external_bid_id":"p/1","reason":"mistake"}}`, nil,
		},
	}
	if diff := cmp.Diff(want, connector.requests); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

func TestNew(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*config.Marketplace){
		"no base_url":      func(m *config.Marketplace) { m.BaseURL = "" },
		"broken base_url":  func(m *config.Marketplace) { m.BaseURL = "http://[::1" },
		"no way to look":   func(m *config.Marketplace) { m.Lookup = config.Route{} },
		"no withdraw path": func(m *config.Marketplace) { m.Withdraw.Path = "" },
		"no place method":  func(m *config.Marketplace) { m.Place.Method = "" },
	} {
		m := testMarket("https://connector.example.com")
		change(&m)
		if _, err := New(m); err == nil {
			t.Errorf("%s: New has no objection", name)
		}
	}
}

func TestCapabilities(t *testing.T) {
	t.Parallel()
	m := testMarket("https://connector.example.com")
	want := marketplace.Capabilities{Dedup: marketplace.NoDedup, Timeout: 10 * time.Second}
	if diff := cmp.Diff(want, newTestClient(t, m).Capabilities()); diff != "" {
		t.Errorf("without promises (-want +got):\n%s", diff)
	}
	m.IdempotentPlace, m.LookupIsAuthoritative, m.Timeout = true, true, 0
	want = marketplace.Capabilities{
		Dedup: marketplace.IdempotencyKey, LookupIsAuthoritative: true, Timeout: 20 * time.Second, KeyLife: 24 * time.Hour,
	}
	if diff := cmp.Diff(want, newTestClient(t, m).Capabilities()); diff != "" {
		t.Errorf("with promises (-want +got):\n%s", diff)
	}
}

// operations calls each operation and returns what failed.
func operations() map[string]func(context.Context, *Client, marketplace.Bid) marketplace.Result {
	return map[string]func(context.Context, *Client, marketplace.Bid) marketplace.Result{
		"place": func(ctx context.Context, c *Client, bid marketplace.Bid) marketplace.Result { return c.Place(ctx, bid) },
		"lookup": func(ctx context.Context, c *Client, bid marketplace.Bid) marketplace.Result {
			return c.Lookup(ctx, bid).Result
		},
		"withdraw": func(ctx context.Context, c *Client, bid marketplace.Bid) marketplace.Result {
			return c.Withdraw(ctx, bid)
		},
	}
}

func TestWithoutAnswer(t *testing.T) {
	t.Parallel()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refusing := "http://" + listener.Addr().String()
	_ = listener.Close()
	dropping, drops := newServer(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		panic(http.ErrAbortHandler)
	})
	inside, insideRequests := newServer(t, func(http.ResponseWriter, *http.Request) {})

	tests := []struct {
		name, url string
		private   bool
		want      marketplace.Result
	}{
		{"refused", refusing, true, marketplace.Result{Kind: marketplace.NotExecuted, Code: "not_sent"}},
		{"unknown host", "https://connector.invalid", true, marketplace.Result{Kind: marketplace.NotExecuted, Code: "not_sent"}},
		{"private address", inside.URL, false, marketplace.Result{Kind: marketplace.NotExecuted, Code: "address_refused"}},
		{"closed after sending", dropping.URL, true, marketplace.Result{Kind: marketplace.Ambiguous, Code: "no_answer"}},
	}
	for _, tt := range tests {
		for op, call := range operations() {
			t.Run(tt.name+"/"+op, func(t *testing.T) {
				t.Parallel()
				market := testMarket(tt.url)
				market.AllowPrivateNetworks = tt.private
				got := call(t.Context(), newTestClient(t, market), testBid())
				if got.Message == "" {
					t.Error("no message")
				}
				if got.Message = ""; got != tt.want {
					t.Errorf("%+v, want %+v", got, tt.want)
				}
			})
		}
	}
	t.Cleanup(func() {
		if drops.Load() != 3 || insideRequests.Load() != 0 {
			t.Errorf("%d requests were sent again, %d went to a private address: want each of 3 once, and 0", drops.Load(), insideRequests.Load())
		}
	})
}

// What was certainly not sent is tried again within the call; the connector is back by then.
func TestWhatWasNotSentIsSentAgain(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"external_bid_id":"p-1"}`)
	}))
	server.Config.ErrorLog = nil
	t.Cleanup(server.Close)
	var handshakes atomic.Int64
	server.Listener = restarting{server.Listener, &handshakes}
	server.StartTLS()
	client, err := newClient(testMarket(server.URL), certPool(server))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	if got := client.Place(t.Context(), testBid()); got.Kind != marketplace.Done || handshakes.Load() != 3 {
		t.Errorf("%+v after %d connections, want it done with the third", got, handshakes.Load())
	}
}

// restarting closes the first two connections before TLS.
type restarting struct {
	net.Listener

	accepted *atomic.Int64
}

func (l restarting) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil || l.accepted.Add(1) > 2 {
			return conn, err
		}
		_ = conn.Close()
	}
}

func TestTimeout(t *testing.T) {
	t.Parallel()
	over := make(chan struct{})
	server, _ := newServer(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-over
	})
	t.Cleanup(func() { close(over) })
	market := testMarket(server.URL)
	market.Timeout = 500 * time.Millisecond // long enough to get the request out on a busy machine
	for op, call := range operations() {
		t.Run(op, func(t *testing.T) {
			t.Parallel()
			if got := call(t.Context(), newTestClient(t, market), testBid()); got.Kind != marketplace.Ambiguous || got.Code != "no_answer" {
				t.Errorf("%+v, want Ambiguous", got)
			}
		})
	}

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if got := newTestClient(t, market).Place(ended, testBid()); got.Kind != marketplace.NotExecuted {
		t.Errorf("with an ended context: %+v, want NotExecuted", got)
	}
}

func TestBidsThatCannotBeSent(t *testing.T) {
	t.Parallel()
	server, requests := newServer(t, func(http.ResponseWriter, *http.Request) {})
	client := newTestClient(t, testMarket(server.URL))
	nameless, unplaced := testBid(), testBid()
	nameless.ID, unplaced.ExternalID = uuid.Nil, ""
	for name, got := range map[string]marketplace.Result{
		"place without id":             client.Place(t.Context(), nameless),
		"withdraw without external id": client.Withdraw(t.Context(), unplaced),
	} {
		if got.Kind != marketplace.NeedsHuman || got.Code != "invalid_request" || requests.Load() != 0 {
			t.Errorf("%s = %+v with %d requests, want NeedsHuman without any", name, got, requests.Load())
		}
	}
}

func TestSecretsStayOutOfMessages(t *testing.T) {
	t.Parallel()
	echo, _ := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"title":"refused","detail":"Authorization: `+r.Header.Get("Authorization")+` key `+testKey+
			` whsec_YSBzaWduaW5nIGtleSBvZiB0aGUgdGVzdHMsIDMyIGI= see https://user:pass@example.com/a?token=t#f"}`)
	})
	got := newTestClient(t, testMarket(echo.URL)).Place(t.Context(), testBid())
	want := "refused: Authorization: [redacted] key [redacted] [redacted] see https://example.com/a"
	if got.Message != want {
		t.Errorf("message %q, want %q", got.Message, want)
	}

	market := testMarket("http://127.0.0.1:1/opensesame-1234")
	got = newTestClient(t, market).Place(t.Context(), testBid())
	if got.Kind != marketplace.NotExecuted || strings.Contains(got.Message, "opensesame") || strings.Contains(got.Message, "http://") {
		t.Errorf("%+v, want no URL in it", got)
	}
}
