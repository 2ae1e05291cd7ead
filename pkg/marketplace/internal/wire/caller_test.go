package wire

import (
	"bufio"
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/arbitrageai/bidder/pkg/config"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newServer returns a server, and the number of requests that it got.
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

func newCaller(tb testing.TB, m config.Marketplace, roots *x509.CertPool) *Caller {
	tb.Helper()
	m.Timeout = 10 * time.Second
	caller := NewCaller(m, roots)
	tb.Cleanup(caller.Close)
	return caller
}

func local() config.Marketplace { return config.Marketplace{AllowPrivateNetworks: true} }

// post sends a POST as the client does.
func post(ctx context.Context, tb testing.TB, caller *Caller, url string) (Answer, error) {
	tb.Helper()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(`{"type":"bid.place"}`))
	if err != nil {
		tb.Fatal(err)
	}
	request.Header.Set("Idempotency-Key", `"place-1"`)
	return caller.Do(request)
}

// wantError fails unless err says whether anything was sent.
func wantError(tb testing.TB, err error, sent bool) {
	tb.Helper()
	failure, ok := errors.AsType[*Error](err)
	if !ok || failure.Sent != sent {
		tb.Fatalf("error %v, want one with Sent: %v", err, sent)
	}
	if begins := map[bool]string{true: "no answer: ", false: "not sent: "}[sent]; !strings.HasPrefix(err.Error(), begins) {
		tb.Errorf("error %q, want it to begin with %q", err, begins)
	}
}

// Go's transport repeats a request with an Idempotency-Key and a GetBody by itself.
func TestOneDoIsOnePOSTWhenAReusedConnectionIsReset(t *testing.T) {
	t.Parallel()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var posts, connections atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			connections.Add(1)
			serveThenReset(conn.(*net.TCPConn), &posts)
		}
	}()

	caller := newCaller(t, local(), nil)
	url := "http://" + listener.Addr().String()
	if answer, err := post(t.Context(), t, caller, url); err != nil || answer.Status != http.StatusOK {
		t.Fatalf("first POST: %v, %v", answer, err)
	}
	_, err = post(t.Context(), t, caller, url)
	wantError(t, err, true)
	_ = listener.Close()
	<-done
	if posts.Load() != 2 || connections.Load() != 1 {
		t.Errorf("the server got %d POSTs on %d connections, want 2 on 1", posts.Load(), connections.Load())
	}
}

// serveThenReset answers the first request of a connection and resets it on the second.
func serveThenReset(conn *net.TCPConn, posts *atomic.Int64) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	for {
		request, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, request.Body)
		if posts.Add(1) > 1 {
			_ = conn.SetLinger(0)
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
	}
}

func TestNotSent(t *testing.T) {
	t.Parallel()
	closed, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	var requests atomic.Int64
	encrypted := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { requests.Add(1) }))
	encrypted.Config.ErrorLog = nil
	encrypted.StartTLS()
	t.Cleanup(encrypted.Close)
	plain, _ := newServer(t, func(http.ResponseWriter, *http.Request) { requests.Add(1) })
	roots := x509.NewCertPool()
	roots.AddCert(encrypted.Certificate())
	ended, cancel := context.WithCancel(t.Context())
	cancel()

	tests := []struct {
		name   string
		ctx    context.Context //nolint:containedctx // one of them has ended
		market config.Marketplace
		roots  *x509.CertPool
		url    string
		says   string
	}{
		{name: "refused", market: local(), url: "http://" + closed.Addr().String(), says: "refused"},
		{name: "unknown host", market: local(), url: "https://connector.invalid", says: "connector.invalid"},
		{name: "unknown authority", market: local(), url: encrypted.URL, says: "certificate"},
		{name: "other name in the certificate", market: local(), roots: roots, url: strings.Replace(encrypted.URL, "127.0.0.1", "localhost", 1), says: "localhost"},
		{name: "https to a server of http", market: local(), url: strings.Replace(plain.URL, "http:", "https:", 1), says: "TLS"},
		{name: "private address", url: encrypted.URL, roots: roots, says: "allow_private_networks"},
		{name: "name of a private address", url: strings.Replace(encrypted.URL, "127.0.0.1", "localhost", 1), roots: roots, says: "allow_private_networks"},
		{name: "ended before", ctx: ended, market: local(), url: plain.URL, says: "canceled"},
		{name: "no such scheme", market: local(), url: "gopher://127.0.0.1", says: "scheme"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ctx := tt.ctx
			if ctx == nil {
				ctx = t.Context()
			}
			_, err := post(ctx, t, newCaller(t, tt.market, tt.roots), tt.url)
			wantError(t, err, false)
			if !strings.Contains(err.Error(), tt.says) {
				t.Errorf("error %q does not say %q", err, tt.says)
			}
			if _, refused := errors.AsType[*AddressError](err); refused != (tt.says == "allow_private_networks") {
				t.Errorf("error %v is an AddressError: %v", err, refused)
			}
		})
	}
	t.Cleanup(func() {
		if requests.Load() != 0 {
			t.Errorf("%d requests arrived", requests.Load())
		}
	})
}

func TestTLS(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Proto)
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	caller := newCaller(t, local(), roots)
	for range 2 {
		answer, err := post(t.Context(), t, caller, server.URL)
		if err != nil || string(answer.Body) != "HTTP/1.1" {
			t.Errorf("answer %q, %v: want HTTP/1.1, where a connection has one request at a time", answer.Body, err)
		}
	}
}

func TestSentWithoutAnswer(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		handler http.HandlerFunc
	}{
		{"closed", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }},
		{"half a body", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, `{"external_bid_id":"p-1"}`)
		}},
		{"endless headers", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Long", strings.Repeat("x", 80<<10))
		}},
		{"not HTTP", func(w http.ResponseWriter, _ *http.Request) {
			conn, _, _ := http.NewResponseController(w).Hijack()
			_, _ = io.WriteString(conn, "SSH-2.0-OpenSSH\r\n")
			_ = conn.Close()
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server, requests := newServer(t, tt.handler)
			_, err := post(t.Context(), t, newCaller(t, local(), nil), server.URL)
			wantError(t, err, true)
			if requests.Load() != 1 {
				t.Errorf("%d requests arrived, want 1", requests.Load())
			}
		})
	}
}

func TestTimeoutAfterSending(t *testing.T) {
	t.Parallel()
	arrived, over := make(chan struct{}), make(chan struct{})
	server, _ := newServer(t, func(http.ResponseWriter, *http.Request) { close(arrived); <-over })
	defer close(over)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-arrived; cancel() }()
	_, err := post(ctx, t, newCaller(t, local(), nil), server.URL)
	wantError(t, err, true)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v hides its cause", err)
	}
}

// TestSwitchingProtocols: what is not HTTP any more is not waited for.
func TestSwitchingProtocols(t *testing.T) {
	t.Parallel()
	hung := make(chan struct{})
	server, _ := newServer(t, func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = conn.Close() }()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
		_, _ = io.Copy(io.Discard, conn) // until the other side hangs up
		close(hung)
	})
	answer, err := post(t.Context(), t, newCaller(t, local(), nil), server.URL)
	if err != nil || answer.Status != http.StatusSwitchingProtocols || len(answer.Body) > 0 {
		t.Errorf("%+v, %v", answer, err)
	}
	<-hung
}

func TestAnswersAreBounded(t *testing.T) {
	t.Parallel()
	for size, want := range map[int]int{maxBody: maxBody, maxBody + 1: 0} {
		server, _ := newServer(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusCreated)
			_, _ = w.Write(make([]byte, size))
		})
		answer, err := post(t.Context(), t, newCaller(t, local(), nil), server.URL)
		if err != nil || len(answer.Body) != want || answer.Status != http.StatusCreated {
			t.Errorf("an answer of %d bytes: %d bytes, status %d, %v", size, len(answer.Body), answer.Status, err)
		}
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	t.Parallel()
	for _, status := range []int{301, 303, 307, 308} {
		server, requests := newServer(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", status) })
		answer, err := post(t.Context(), t, newCaller(t, local(), nil), server.URL)
		if err != nil || answer.Status != status || requests.Load() != 1 {
			t.Errorf("status %d, %v, %d requests: want %d of one request", answer.Status, err, requests.Load(), status)
		}
	}
}

// frozen is a context that has a deadline and never notices it, as in a process that was
// stopped and has just come back.
type frozen struct {
	context.Context //nolint:containedctx // it is one

	deadline time.Time
}

func (f frozen) Deadline() (time.Time, bool) { return f.deadline, true }

func TestTheDeadlineIsCheckedBeforeTheFirstByte(t *testing.T) {
	t.Parallel()
	server, requests := newServer(t, func(http.ResponseWriter, *http.Request) {})
	caller := newCaller(t, local(), nil)
	if _, err := post(t.Context(), t, caller, server.URL); err != nil { // from here on there is a connection to reuse
		t.Fatal(err)
	}
	_, err := post(frozen{t.Context(), time.Now().Add(-time.Millisecond)}, t, caller, server.URL)
	wantError(t, err, false)
	if !errors.Is(err, errLate) || requests.Load() != 1 {
		t.Errorf("error %v, %d requests: want the second not to leave", err, requests.Load())
	}
}

func TestIsPast(t *testing.T) {
	t.Parallel()
	now := time.Now()
	suspended := now.Round(0).Add(-time.Minute) // by the clock on the wall, where the monotonic one stood still
	for deadline, want := range map[time.Time]bool{
		{}:                       false,
		now.Add(time.Second):     false,
		now.Add(-time.Second):    true,
		suspended:                true,
		suspended.Add(time.Hour): false,
	} {
		if isPast(deadline, now) != want {
			t.Errorf("isPast(%v, %v) = %v", deadline, now, !want)
		}
	}
}

// pipe is a connection whose writes do what the test wants.
type pipe struct {
	net.Conn

	write func([]byte) (int, error)
}

func (p pipe) Write(b []byte) (int, error) { return p.write(b) }

func TestPassage(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	tests := []struct {
		name  string
		write func(*passage) func([]byte) (int, error)
		sent  bool
	}{
		{"all", func(*passage) func([]byte) (int, error) {
			return func(b []byte) (int, error) { return len(b), nil }
		}, true},
		{"some", func(*passage) func([]byte) (int, error) {
			return func([]byte) (int, error) { return 1, broken }
		}, true},
		{"nothing", func(*passage) func([]byte) (int, error) {
			return func([]byte) (int, error) { return 0, broken }
		}, false},
		{"over while writing", func(p *passage) func([]byte) (int, error) {
			return func([]byte) (int, error) {
				if !p.end() {
					t.Error("a write that is under way counts as nothing")
				}
				return 0, broken
			}
		}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := &passage{}
			conn := &countedConn{Conn: pipe{write: tt.write(p)}}
			if _, err := conn.Write([]byte("before a request")); !errors.Is(err, errEnded) {
				t.Errorf("Write without a request = %v", err)
			}
			conn.passage.Store(p)
			_, _ = conn.Write([]byte("request"))
			if sent := p.end(); sent != tt.sent {
				t.Errorf("end = %v, want %v", sent, tt.sent)
			}
			if n, err := conn.Write([]byte("too late")); n != 0 || !errors.Is(err, errEnded) {
				t.Errorf("Write after the end = %d, %v", n, err)
			}
		})
	}
}

func TestTheDeadlineDoesNotCutWhatHasBegun(t *testing.T) {
	t.Parallel()
	p := &passage{deadline: time.Now()}
	if err := p.begin(p.deadline.Add(-time.Second)); err != nil {
		t.Fatal(err)
	}
	p.wrote(1)
	if err := p.begin(p.deadline.Add(time.Second)); err != nil {
		t.Errorf("the second half is refused: %v", err)
	}
}

func TestNoProxy(t *testing.T) {
	t.Parallel()
	// A proxy would resolve names itself, past the check of addresses.
	if newCaller(t, local(), nil).transport.Proxy != nil {
		t.Error("requests may go through a proxy")
	}
}
