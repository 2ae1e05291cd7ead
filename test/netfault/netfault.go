// Package netfault puts a TCP proxy between a client and a server and breaks the line on demand.
package netfault

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// dialTimeout bounds connecting to the upstream.
const dialTimeout = 10 * time.Second

// Proxy forwards connections to a server. All its methods may be called at any time from any goroutine.
type Proxy struct {
	// Addr is the host:port that the proxy listens on.
	Addr string
	// URL is the Postgres URL given to New, leading through the proxy, without TLS. It is empty if New got an address.
	URL string

	network  string
	listener net.Listener
	serving  sync.WaitGroup

	mu       sync.Mutex
	upstream string
	closed   bool
	open     chan struct{} // closed unless the line is a black hole
	latency  time.Duration
	links    map[*link]struct{}
	traps    []*trap
}

// trap waits for a marker from a client.
type trap struct {
	marker  []byte // in lower case
	forward bool
	sprung  chan struct{}
}

// New starts a proxy to the upstream: the postgres:// URL of a server, a host:port, or the path of a Unix socket. It
// ends with the test.
func New(tb testing.TB, upstream string) *Proxy {
	tb.Helper()
	p, err := bind(tb.Context(), "127.0.0.1:0", upstream)
	if err != nil {
		tb.Fatalf("netfault: %v", err)
	}
	switch {
	case strings.Contains(upstream, "://"):
		if err := p.toPostgres(upstream); err != nil {
			_ = p.listener.Close()
			tb.Fatalf("netfault: %v", err)
		}
	case strings.HasPrefix(upstream, "/"):
		p.network = "unix"
	}
	p.serving.Go(p.accept)
	tb.Cleanup(p.Close)

	return p
}

// Listen starts a proxy from an address of this machine to an upstream, both host:port, where there is no test with
// which it would end. Close it after use.
func Listen(ctx context.Context, address, upstream string) (*Proxy, error) {
	p, err := bind(ctx, address, upstream)
	if err != nil {
		return nil, fmt.Errorf("netfault: %w", err)
	}
	p.serving.Go(p.accept)

	return p, nil
}

func bind(ctx context.Context, address, upstream string) (*Proxy, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	p := &Proxy{network: "tcp", upstream: upstream, listener: listener, Addr: listener.Addr().String(), open: make(chan struct{}), links: map[*link]struct{}{}}
	close(p.open)

	return p, nil
}

// Redirect leads new connections to another upstream, and resets those that are open.
func (p *Proxy) Redirect(upstream string) {
	p.mu.Lock()
	p.upstream = upstream
	p.mu.Unlock()
	p.Cut()
}

// Latency makes everything, in each direction, arrive later by d from now on. Zero ends it.
func (p *Proxy) Latency(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.latency = d
}

// Cut resets all connections, on both sides. New ones are forwarded as before.
func (p *Proxy) Cut() {
	for _, l := range p.current() {
		l.cut()
	}
}

// Blackhole makes bytes, and the news that a connection was closed, vanish on the way while it is on. What was held
// back arrives when it is off again, as TCP would retransmit it. [Proxy.Cut] drops it instead.
func (p *Proxy) Blackhole(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if on == p.isBlackhole() {
		return
	}
	if on {
		p.open = make(chan struct{})
	} else {
		close(p.open)
	}
}

// DropAnswerTo lets the next message with the marker through to the server, waits for the first bytes of its answer,
// drops them and resets the connection: the client cannot know whether the server did it. It did. Upper and lower case
// are the same. The channel is closed when it has happened, and the proxy is then as before.
//
//	committed := proxy.DropAnswerTo("commit\x00")
func (p *Proxy) DropAnswerTo(marker string) <-chan struct{} {
	return p.trap(marker, true)
}

// CutBefore resets the connection when the next message with the marker arrives, without letting the end of the marker
// through: the server did not do it. Otherwise it is like [Proxy.DropAnswerTo].
func (p *Proxy) CutBefore(marker string) <-chan struct{} {
	return p.trap(marker, false)
}

// toPostgres sets the upstream and URL from the URL of a Postgres server.
func (p *Proxy) toPostgres(dsn string) error {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return fmt.Errorf("address of the server: %w", err)
	}
	through, err := url.Parse(dsn)
	if err != nil {
		return fmt.Errorf("address of the server: %w", err)
	}
	p.network, p.upstream = pgconn.NetworkAddress(config.Host, config.Port)

	query := through.Query()
	query.Del("host")
	query.Del("port")
	query.Set("sslmode", "disable") // markers could not be read otherwise
	through.Host, through.RawQuery = p.Addr, query.Encode()
	p.URL = through.String()

	return nil
}

func (p *Proxy) trap(marker string, forward bool) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	set := &trap{marker: bytes.ToLower([]byte(marker)), forward: forward, sprung: make(chan struct{})}
	p.traps = append(p.traps, set)

	return set.sprung
}

// spring returns the first trap whose marker is in the chunk, or ends in it after beginning in what was sent before, and
// removes it. Without one it returns nil.
func (p *Proxy) spring(before, chunk []byte) *trap {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.traps) == 0 {
		return nil
	}
	lower := bytes.ToLower(slices.Concat(before, chunk))
	i := slices.IndexFunc(p.traps, func(t *trap) bool {
		return bytes.Contains(lower[max(0, len(before)-len(t.marker)+1):], t.marker)
	})
	if i < 0 {
		return nil
	}
	found := p.traps[i]
	p.traps = slices.Delete(p.traps, i, i+1)

	return found
}

// longestMarker is how many bytes of the longest marker may have come in an earlier chunk.
func (p *Proxy) longestMarker() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	longest := 0
	for _, t := range p.traps {
		longest = max(longest, len(t.marker)-1)
	}

	return longest
}

// pass waits until bytes may go on. It returns false when the link was cut meanwhile.
func (p *Proxy) pass(l *link) bool {
	p.mu.Lock()
	latency := p.latency
	p.mu.Unlock()
	if latency > 0 {
		late := time.NewTimer(latency)
		defer late.Stop()
		select {
		case <-late.C:
		case <-l.gone:
			return false
		}
	}
	for {
		p.mu.Lock()
		open, blackhole := p.open, p.isBlackhole()
		p.mu.Unlock()
		if !blackhole {
			return !l.isCut()
		}
		select {
		case <-open:
		case <-l.gone:
			return false
		}
	}
}

// isBlackhole needs mu.
func (p *Proxy) isBlackhole() bool {
	select {
	case <-p.open:
		return false
	default:
		return true
	}
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return // the listener was closed
		}
		l := &link{client: client, gone: make(chan struct{})}
		if !p.register(l) {
			l.cut()

			return
		}
		p.serving.Go(func() {
			defer p.forget(l)
			p.serve(l)
		})
	}
}

func (p *Proxy) serve(l *link) {
	if !p.pass(l) {
		return
	}
	p.mu.Lock()
	upstream := p.upstream
	p.mu.Unlock()
	server, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(context.Background(), p.network, upstream)
	if err != nil || !l.connect(server) {
		l.cut()

		return
	}
	var answers sync.WaitGroup
	answers.Go(func() { p.pump(l, server, l.client, l.answer) })
	p.pump(l, l.client, server, func(chunk []byte) bool { return l.request(p, chunk) })
	answers.Wait()
	l.hangUp()
}

// pump forwards what allow does not refuse, until the source is closed or the link is cut.
func (p *Proxy) pump(l *link, from, to net.Conn, allow func(chunk []byte) bool) {
	const size = 32 << 10
	buffer := make([]byte, size)
	for {
		n, err := from.Read(buffer)
		if !p.pass(l) {
			return
		}
		if n > 0 {
			if !allow(buffer[:n]) {
				return
			}
			if _, err := to.Write(buffer[:n]); err != nil {
				l.cut()

				return
			}
		}
		if err != nil {
			l.finish(to, err)

			return
		}
	}
}

func (p *Proxy) register(l *link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.links[l] = struct{}{}

	return true
}

func (p *Proxy) forget(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.links, l)
}

func (p *Proxy) current() []*link {
	p.mu.Lock()
	defer p.mu.Unlock()
	links := make([]*link, 0, len(p.links))
	for l := range p.links {
		links = append(links, l)
	}

	return links
}

// Close ends the proxy and all its connections.
func (p *Proxy) Close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	_ = p.listener.Close() // which can only fail because it is closed
	p.Cut()
	p.serving.Wait()
}
