package netfault_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/sethvargo/go-retry"

	"github.com/arbitrageai/bidder/test/netfault"
	"github.com/arbitrageai/bidder/test/testdb"
)

func TestMain(m *testing.M) { testdb.Main(m) }

// patience bounds every wait for what must happen, and is long enough for a busy machine.
const patience = 10 * time.Second

// fixture is a table behind a proxy, and a connection that leads straight to it.
type fixture struct {
	proxy  *netfault.Proxy
	direct *pgx.Conn
}

func setup(t *testing.T) *fixture {
	t.Helper()
	database := testdb.New(t, testdb.WithoutMigrations())
	f := &fixture{proxy: netfault.New(t, database.DirectURL), direct: connect(t, database.DirectURL)}
	f.exec(t, "CREATE TABLE written (n int)")

	return f
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Second)
		defer cancel()
		_ = conn.Close(ctx) // many of these connections are broken on purpose
	})

	return conn
}

func (f *fixture) exec(t *testing.T, sql string) {
	t.Helper()
	if _, err := f.direct.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}

func (f *fixture) count(t *testing.T, sql string) int {
	t.Helper()
	var n int
	if err := f.direct.QueryRow(t.Context(), sql).Scan(&n); err != nil {
		t.Fatal(err)
	}

	return n
}

// sessions counts those of the database besides the direct one.
func (f *fixture) sessions(t *testing.T) int {
	t.Helper()

	return f.count(t, `SELECT count(*) FROM pg_stat_activity
		WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()`)
}

// begin opens a transaction through the proxy that has inserted a row.
func (f *fixture) begin(t *testing.T) pgx.Tx {
	t.Helper()
	tx, err := connect(t, f.proxy.URL).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "INSERT INTO written VALUES (1)"); err != nil {
		t.Fatal(err)
	}

	return tx
}

func eventually(t *testing.T, what string, check func() bool) {
	t.Helper()
	backoff := retry.WithMaxDuration(patience, retry.NewConstant(10*time.Millisecond))
	err := retry.Do(t.Context(), backoff, func(context.Context) error {
		if !check() {
			return retry.RetryableError(errors.New("not within the time"))
		}

		return nil
	})
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

func happened(t *testing.T, what string, signal <-chan struct{}) {
	t.Helper()
	select {
	case <-signal:
	case <-time.After(patience):
		t.Fatalf("%s did not happen", what)
	}
}

func TestCommit(t *testing.T) {
	t.Parallel()

	tests := []struct {
		name string
		trap func(*netfault.Proxy, string) <-chan struct{}
		want int // rows afterwards
	}{
		{name: "answer dropped", trap: (*netfault.Proxy).DropAnswerTo, want: 1},
		{name: "cut before", trap: (*netfault.Proxy).CutBefore, want: 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			tx := f.begin(t)
			sprung := tt.trap(f.proxy, "COMMIT\x00")
			if err := tx.Commit(t.Context()); err == nil {
				t.Error("Commit succeeded")
			}
			happened(t, "the fault", sprung)
			eventually(t, "the session ends", func() bool { return f.sessions(t) == 0 })
			if got := f.count(t, "SELECT count(*) FROM written"); got != tt.want {
				t.Errorf("got %d rows, want %d", got, tt.want)
			}

			if err := f.begin(t).Commit(t.Context()); err != nil {
				t.Errorf("a trap works once, but the next Commit: %v", err)
			}
		})
	}
}

func TestCut(t *testing.T) {
	t.Parallel()
	f := setup(t)
	conn := connect(t, f.proxy.URL)
	f.proxy.Cut()
	if err := conn.Ping(t.Context()); err == nil {
		t.Error("a connection survived")
	}
	eventually(t, "the server notices", func() bool { return f.sessions(t) == 0 })
	if err := connect(t, f.proxy.URL).Ping(t.Context()); err != nil {
		t.Errorf("new connection: %v", err)
	}
}

func TestBlackhole(t *testing.T) {
	t.Parallel()
	f := setup(t)
	conn := connect(t, f.proxy.URL)
	if _, err := conn.Exec(t.Context(), "SELECT pg_advisory_lock(1)"); err != nil {
		t.Fatal(err)
	}

	f.proxy.Blackhole(true)
	short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := conn.Exec(short, "INSERT INTO written VALUES (1)"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want a deadline", err)
	}
	eventually(t, "the client gives up", conn.IsClosed)
	const locks = `SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database
		WHERE locktype = 'advisory' AND datname = current_database()`
	if got := f.count(t, locks); got != 1 {
		t.Errorf("the server holds %d locks, want the one of the client that it cannot know has gone", got)
	}
	if _, err := pgx.Connect(short, f.proxy.URL); err == nil {
		t.Error("a new connection came through")
	}

	f.proxy.Blackhole(false)
	eventually(t, "the server notices", func() bool { return f.sessions(t) == 0 })
	if err := connect(t, f.proxy.URL).Ping(t.Context()); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestCutInBlackhole(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.begin(t)
	f.proxy.Blackhole(true)
	f.proxy.Cut()
	eventually(t, "the server notices", func() bool { return f.sessions(t) == 0 })
}

func TestLatency(t *testing.T) {
	t.Parallel()
	f := setup(t)
	conn := connect(t, f.proxy.URL)
	const latency = 50 * time.Millisecond
	f.proxy.Latency(latency)
	start := time.Now()
	if err := conn.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took < 2*latency {
		t.Errorf("there and back took %v, want %v at least", took, 2*latency)
	}
}

// echo answers every line over the listener with the same line.
func echo(t *testing.T, network, address string) string {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(conn, conn)
				_ = conn.Close()
			}()
		}
	}()

	return listener.Addr().String()
}

func TestUpstreams(t *testing.T) {
	t.Parallel()

	tests := []struct{ name, network, address string }{
		{name: "TCP", network: "tcp", address: "127.0.0.1:0"},
		{name: "Unix socket", network: "unix", address: t.TempDir() + "/socket"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			proxy := netfault.New(t, echo(t, tt.network, tt.address))
			conn := dial(t, proxy.Addr)
			long := strings.Repeat("0123456789", 100_000)
			go func() { // more than fits on the way, so that it must be read at the same time
				_, _ = io.WriteString(conn, long)
				_ = conn.CloseWrite()
			}()
			got, err := io.ReadAll(conn)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != long {
				t.Errorf("got %d bytes back, want the %d sent", len(got), len(long))
			}
		})
	}
}

func dial(t *testing.T, address string) *net.TCPConn {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		t.Fatalf("got %T", conn)
	}

	return tcp
}

// TestMarkerInPieces sends a marker byte by byte, each echoed before the next is sent.
func TestMarkerInPieces(t *testing.T) {
	t.Parallel()
	proxy := netfault.New(t, echo(t, "tcp", "127.0.0.1:0"))
	conn := dial(t, proxy.Addr)
	sprung := proxy.CutBefore("Mark")
	proxy.CutBefore("another, longer one")

	sent := "a ma mar marK"
	for i := range len(sent) - 1 {
		if _, err := io.WriteString(conn, sent[i:i+1]); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
			t.Fatalf("byte %d of %q: %v", i, sent, err)
		}
	}
	if _, err := io.WriteString(conn, sent[len(sent)-1:]); err != nil {
		t.Fatal(err)
	}
	if n, err := conn.Read(make([]byte, 1)); err == nil {
		t.Errorf("got %d bytes, want a reset", n)
	}
	happened(t, "the cut", sprung)
}
