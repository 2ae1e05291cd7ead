package console_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/console"
	"github.com/arbitrageai/bidder/pkg/delivery"
	"github.com/arbitrageai/bidder/pkg/marketplace"
	"github.com/arbitrageai/bidder/pkg/marketplace/bridge/signature"
	"github.com/arbitrageai/bidder/pkg/marketplace/sandbox"
	"github.com/arbitrageai/bidder/test/deliverytest"
)

// world is a database with bids, and a console before it.
type world struct {
	*deliverytest.World
	t   *testing.T
	url string
}

func key() []byte { return []byte(sandbox.Secret().Reveal()) }

func setup(t *testing.T) *world {
	t.Helper()
	w := &world{World: deliverytest.New(t), t: t}
	server := httptest.NewServer(console.New(console.Options{
		Pool: w.Pool, Log: slog.New(slog.NewJSONHandler(w.Log, nil)), Limits: deliverytest.Limits(),
		Keys: func(name string) [][]byte {
			if name == "mute" {
				return nil
			}
			return [][]byte{[]byte("an older key of the same connector"), key()}
		},
	}))
	t.Cleanup(server.Close)
	w.url = server.URL
	return w
}

// callback is a request to a hook.
type callback struct {
	marketplace, id, body string
	at                    time.Time
	key                   []byte
}

func about(bid queries.Bid, status string) callback {
	return callback{
		marketplace: bid.Marketplace, id: "msg_" + uuid.NewString(), at: time.Now(), key: key(),
		body: fmt.Sprintf(`{"type":"bid.%s","timestamp":"2026-11-23T08:00:00Z","data":{"bid_id":%q}}`, status, bid.ID),
	}
}

func (w *world) send(c callback, change ...func(*http.Request)) (status int, text string) {
	w.t.Helper()
	request, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, w.url+"/hooks/"+c.marketplace, strings.NewReader(c.body))
	if err != nil {
		w.t.Fatal(err)
	}
	signature.Sign(request.Header, [][]byte{c.key}, c.id, c.at, []byte(c.body))
	for _, change := range change {
		change(request)
	}
	return w.do(request)
}

func (w *world) do(request *http.Request) (status int, text string) {
	w.t.Helper()
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

func (w *world) want(c callback, want int) {
	w.t.Helper()
	if status, text := w.send(c); status != want {
		w.t.Errorf("answered %d %q, want %d", status, text, want)
	}
}

// placed is a bid that was placed and looked up a moment ago.
func (w *world) placed(set ...string) queries.Bid {
	w.t.Helper()
	bid := w.Bid(deliverytest.Settled)
	w.Set(bid.ID, `external_bid_id = 'e-1', submitted_at = now(), checked_at = now(), seen_at = now(),
		delivery_kind = NULL, delivery_state = NULL, next_attempt_at = NULL`)
	for _, set := range set {
		w.Set(bid.ID, set)
	}
	return w.Row(bid.ID)
}

// TestCallback: what a callback does to a bid, which never is a change of its status.
func TestCallback(t *testing.T) {
	t.Parallel()
	w := setup(t)
	const later = "next_attempt_at = clock_timestamp() + interval '1 hour'"
	for _, tt := range []struct {
		name   string
		set    string // after it was placed
		status string
		due    bool // for a look-up, or the next attempt at what it owes
	}{
		{"live", "checked_at = now()", "accepted", true},
		{"live, and said to be", "checked_at = now()", "submitted", true},
		{"ended", "status = 'LOST'", "accepted", false},
		{"withdrawn", "status = 'WITHDRAWN', withdrawn_reason = 'x'", "submitted", false},
		{"ambiguous", "external_bid_id = NULL, submitted_at = NULL, delivery_kind = 'place', delivery_state = 'pending', " + later, "submitted", true},
		{"ambiguous, and said to have ended", "external_bid_id = NULL, submitted_at = NULL, delivery_kind = 'place', delivery_state = 'pending', " + later, "rejected", true},
		{"a withdrawal is owed", "delivery_kind = 'withdraw', delivery_state = 'pending', " + later, "withdrawn", true},
		{"never sent", "external_bid_id = NULL, place_posts = 0, submitted_at = NULL, delivery_kind = 'place', delivery_state = 'pending', " + later, "submitted", false},
		{"not approved", "external_bid_id = NULL, place_posts = 0, submitted_at = NULL, delivery_kind = 'place', delivery_state = 'awaiting_approval'", "submitted", false},
		{"a pod is at it", "delivery_kind = 'withdraw', delivery_state = 'leased', lease_expires_at = now() + interval '1 hour', " + later, "withdrawn", false},
		{"waits for a person", "delivery_kind = 'place', delivery_state = 'review', review_reason = 'status_unknown'", "accepted", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := &world{World: w.World, t: t, url: w.url}
			bid := w.placed(tt.set)
			call := about(bid, tt.status)
			w.want(call, http.StatusNoContent)
			row := w.Row(bid.ID)
			if got, want := deliverytest.Describe(row), deliverytest.Describe(bid); got != want {
				t.Errorf("%s, want %s as before", got, want)
			}
			due := row.CheckedAt == nil || row.NextAttemptAt != nil && time.Until(*row.NextAttemptAt) < time.Minute
			if due != tt.due || (row.LeaseToken > bid.LeaseToken) != tt.due {
				t.Errorf("due: %t, token from %d to %d; want due: %t", due, bid.LeaseToken, row.LeaseToken, tt.due)
			}
			if got, want := w.Events(bid.ID), "callback "+tt.status; got != want {
				t.Errorf("the history says %q, want %q", got, want)
			}
			// The same again has no effect, whatever it says.
			w.Set(bid.ID, "checked_at = now()")
			before := w.Row(bid.ID)
			repeated := call
			repeated.at = time.Now()
			repeated.body = strings.Replace(call.body, tt.status, "withdrawn", 1)
			w.want(repeated, http.StatusNoContent)
			if after := w.Row(bid.ID); after.UpdatedAt != before.UpdatedAt || strings.Contains(w.Events(bid.ID), ",") {
				t.Errorf("the repetition had an effect: %+v, %s", after, w.Events(bid.ID))
			}
		})
	}
}

// TestCallbackIsProved: in whatever order callbacks come, the look-up decides.
func TestCallbackIsProved(t *testing.T) {
	t.Parallel()
	w := setup(t)
	bid := w.placed()
	w.want(about(bid, "accepted"), http.StatusNoContent)
	w.want(about(bid, "submitted"), http.StatusNoContent)
	w.want(about(bid, "withdrawn"), http.StatusNoContent) // a lie
	script := deliverytest.NewScript(marketplace.NoDedup)
	script.Found = []marketplace.Finding{deliverytest.Shows(marketplace.Accepted)}
	engine := w.Engine(script, func(o *delivery.Options) {
		o.Account = func(string) (delivery.Account, error) {
			return delivery.Account{Client: script, Settle: deliverytest.Settle, Refresh: time.Hour}, nil
		}
	})
	if err := engine.Refresh(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	if got := w.State(bid.ID); got != "WON submitted e-1 posts=1" || script.Calls() != "lookup" {
		t.Errorf("%s, calls %q", got, script.Calls())
	}
	w.want(about(bid, "submitted"), http.StatusNoContent)
	if got := w.State(bid.ID); got != "WON submitted e-1 posts=1" {
		t.Error(got)
	}
}

// TestCallbackDuringTheLookUp: what was looked up before a callback is not recorded over it.
func TestCallbackDuringTheLookUp(t *testing.T) {
	t.Parallel()
	w := setup(t)
	bid := w.placed("checked_at = NULL")
	script := deliverytest.NewScript(marketplace.NoDedup)
	script.Found = []marketplace.Finding{deliverytest.Shows(marketplace.Submitted), deliverytest.Shows(marketplace.Accepted)}
	script.During = func(string) {
		if script.Calls() == "lookup" {
			w.want(about(bid, "accepted"), http.StatusNoContent)
		}
	}
	engine := w.Engine(script, func(o *delivery.Options) {
		o.Account = func(string) (delivery.Account, error) {
			return delivery.Account{Client: script, Settle: deliverytest.Settle, Refresh: time.Hour}, nil
		}
	})
	if err := engine.Refresh(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if got := w.State(bid.ID); got != "WON submitted e-1 posts=1" || len(script.Bids()) != 2 {
		t.Errorf("%s, calls %q", got, script.Calls())
	}
}

// TestCallbackByExternalID: a connector that does not remember bidder's id names its own.
func TestCallbackByExternalID(t *testing.T) {
	t.Parallel()
	w := setup(t)
	bid, other := w.placed(), w.placed()
	call := about(bid, "accepted")
	call.body = `{"type":"bid.accepted","data":{"external_bid_id":"e-1"}}`
	w.want(call, http.StatusNoContent)
	if w.Row(bid.ID).CheckedAt != nil || w.Row(other.ID).CheckedAt == nil {
		t.Error("it rang at the wrong door")
	}
}

// TestCallbackOfOthers: a marketplace has no say in the bids of another.
func TestCallbackOfOthers(t *testing.T) {
	t.Parallel()
	w := setup(t)
	bid := w.placed()
	call := about(bid, "accepted")
	call.marketplace = "another"
	w.want(call, http.StatusNoContent)
	call.body = fmt.Sprintf(`{"type":"bid.accepted","data":{"bid_id":%q}}`, uuid.New())
	call.marketplace, call.id = bid.Marketplace, "msg_unknown"
	w.want(call, http.StatusNoContent) // unknown bids are no reason to send it again
	if got := w.Row(bid.ID); got.LeaseToken != bid.LeaseToken || got.CheckedAt == nil || w.Events(bid.ID) != "" {
		t.Errorf("changed to %+v", got)
	}
}

// TestCallbacksAtOnce: of equal callbacks at once one has an effect.
func TestCallbacksAtOnce(t *testing.T) {
	t.Parallel()
	w := setup(t)
	bid := w.placed()
	call := about(bid, "accepted")
	var group errgroup.Group
	for range 12 {
		group.Go(func() error { w.want(call, http.StatusNoContent); return nil })
	}
	_ = group.Wait() // want reports
	if got := w.Row(bid.ID).LeaseToken - bid.LeaseToken; got != 1 || w.Events(bid.ID) != "callback accepted" {
		t.Errorf("%d effects: %s", got, w.Events(bid.ID))
	}
}

// TestCallbackRefused: what is not signed right, or cannot be read, has no effect.
func TestCallbackRefused(t *testing.T) {
	t.Parallel()
	w := setup(t)
	bid := w.placed()
	unauthorized := "the signature is not right\n"
	for _, tt := range []struct {
		name   string
		change func(*callback)
		header func(*http.Request)
		status int
		text   string
	}{
		{"no secrets", func(c *callback) { c.marketplace = "mute" }, nil, http.StatusNotFound, "there is no such hook\n"},
		{"forged", func(c *callback) { c.key = []byte("another key altogether, of somebody") }, nil, http.StatusUnauthorized, unauthorized},
		{"old", func(c *callback) { c.at = time.Now().Add(-6 * time.Minute) }, nil, http.StatusUnauthorized, unauthorized},
		{"of the future", func(c *callback) { c.at = time.Now().Add(6 * time.Minute) }, nil, http.StatusUnauthorized, unauthorized},
		{"not signed", nil, func(r *http.Request) { r.Header.Del(signature.SignatureHeader) }, http.StatusUnauthorized, unauthorized},
		{"under another id", nil, func(r *http.Request) { r.Header.Set(signature.IDHeader, "msg_2") }, http.StatusUnauthorized, unauthorized},
		{"huge", func(c *callback) { c.body += strings.Repeat(" ", 64<<10) }, nil, http.StatusRequestEntityTooLarge, "a callback has 64 KiB at most\n"},
		{"a long id", func(c *callback) { c.id = strings.Repeat("x", 257) }, nil, http.StatusBadRequest, ""},
		{"an odd id", func(c *callback) { c.id = "msg\u00e9" }, nil, http.StatusBadRequest, ""},
		{"no JSON", func(c *callback) { c.body = "bid.accepted" }, nil, http.StatusBadRequest, ""},
		{"no bid", func(c *callback) { c.body = `{"type":"bid.accepted","data":{}}` }, nil, http.StatusBadRequest, ""},
		{"a type that means nothing here", func(c *callback) { c.body = strings.Replace(c.body, "accepted", "viewed", 1) }, nil, http.StatusNoContent, ""},
		{"our own call, sent back", func(c *callback) { c.body = strings.Replace(c.body, "accepted", "place", 1) }, nil, http.StatusNoContent, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := &world{World: w.World, t: t, url: w.url}
			call := about(bid, "accepted")
			if tt.change != nil {
				tt.change(&call)
			}
			header := tt.header
			if header == nil {
				header = func(*http.Request) {}
			}
			if status, text := w.send(call, header); status != tt.status || tt.text != "" && text != tt.text {
				t.Errorf("answered %d %q, want %d %q", status, text, tt.status, tt.text)
			}
		})
	}
	t.Cleanup(func() {
		if w.Row(bid.ID).LeaseToken != bid.LeaseToken || deliverytest.Value[int64](w.World, "SELECT count(*) FROM callbacks") != 0 {
			t.Error("one of them had an effect")
		}
	})
}

// TestForgeries: a flood of forged callbacks is neither logged one by one nor keeps those out
// that are signed right.
func TestForgeries(t *testing.T) {
	t.Parallel()
	w := setup(t)
	bid := w.placed()
	forged, seen := about(bid, "accepted"), map[int]int{}
	forged.key = []byte("another key altogether, of somebody")
	for range 60 {
		status, _ := w.send(forged)
		seen[status]++
	}
	if seen[http.StatusUnauthorized] < 20 || seen[http.StatusTooManyRequests] == 0 || len(w.Log.Lines("not signed right")) != seen[http.StatusUnauthorized] {
		t.Errorf("answered %v, logged %d", seen, len(w.Log.Lines("not signed right")))
	}
	w.want(about(bid, "accepted"), http.StatusNoContent)
	if w.Row(bid.ID).CheckedAt != nil {
		t.Error("the true one had no effect")
	}
	if len(w.Log.Lines(sandbox.Secret().Reveal())) > 0 {
		t.Error("the key is logged")
	}
}

// TestDatabaseDown: the sender is told to send it again, and does so with an effect.
func TestDatabaseDown(t *testing.T) {
	t.Parallel()
	w := setup(t)
	bid := w.placed()
	call := about(bid, "accepted")
	w.Exec("ALTER TABLE callbacks RENAME TO away")
	w.want(call, http.StatusServiceUnavailable)
	w.Exec("ALTER TABLE away RENAME TO callbacks")
	w.want(call, http.StatusNoContent)
	if w.Row(bid.ID).CheckedAt != nil {
		t.Error("the second one had no effect")
	}
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 200, "/": 200, "/hooks/upwork": 405} {
		request, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, w.url+path, http.NoBody)
		if status, text := w.do(request); status != want {
			t.Errorf("%s: %d %q, want %d", path, status, text, want)
		}
	}
	w.Pool.Close()
	call.id = "msg_2"
	w.want(call, http.StatusServiceUnavailable)
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 503} {
		request, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, w.url+path, http.NoBody)
		if status, text := w.do(request); status != want || want == 503 && text != "the database cannot be used\n" {
			t.Errorf("%s without a database: %d %q, want %d", path, status, text, want)
		}
	}
}

// TestNotMigrated: a database that is older than the program is not ready.
func TestNotMigrated(t *testing.T) {
	t.Parallel()
	w := setup(t)
	if err := db.MigrateDown(t.Context(), w.DB.DirectURL, 1); err != nil {
		t.Fatal(err)
	}
	request, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, w.url+"/readyz", http.NoBody)
	if status, _ := w.do(request); status != http.StatusServiceUnavailable {
		t.Errorf("%d, want 503", status)
	}
}

// TestListen: nobody else is let in by accident.
func TestListen(t *testing.T) {
	t.Parallel()
	for address, refused := range map[string]bool{"127.0.0.1:0": false, "localhost:0": false, ":0": true, "0.0.0.0:0": true} {
		for _, exposed := range []bool{false, true} {
			listener, err := console.Listen(t.Context(), address, exposed)
			if got, want := errors.Is(err, console.ErrExposed), refused && !exposed; got != want || err != nil && !got {
				t.Errorf("%s, exposed: %t: %v", address, exposed, err)
			}
			if err == nil {
				_ = listener.Close()
			}
		}
	}
	if _, err := console.Listen(t.Context(), "nowhere", true); err == nil {
		t.Error("an address without a port is no address")
	}
}

// TestServe: it forgets what is old, and ends when it is told to.
func TestServe(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.Exec(`INSERT INTO callbacks SELECT 'upwork', n::text, clock_timestamp() - interval '8 days' FROM generate_series(1, 2500) AS n;
		INSERT INTO callbacks VALUES ('upwork', 'young', clock_timestamp() - interval '6 days')`)
	server := console.New(console.Options{Pool: w.Pool, Log: slog.New(slog.NewJSONHandler(w.Log, nil)), Keys: func(string) [][]byte { return nil }})
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ctx, listener) }()
	deliverytest.Eventually(t, "the old ones are forgotten", func() bool {
		return deliverytest.Value[int64](w.World, "SELECT count(*) FROM callbacks") == 1
	})
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
