package netfault

import (
	"errors"
	"io"
	"net"
	"slices"
	"sync"
)

// link is a client's connection and the one to the server that belongs to it.
type link struct {
	client net.Conn
	gone   chan struct{} // closed when the link was cut

	sent []byte // the end of what the client sent before, where a marker may have begun; only request uses it

	mu      sync.Mutex
	server  net.Conn
	swallow *trap // that takes the answer
}

// connect adds the connection to the server. It returns false, and closes that, when the link was cut meanwhile.
func (l *link) connect(server net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.isCut() {
		_ = server.Close()

		return false
	}
	l.server = server

	return true
}

// request decides about a chunk from the client.
func (l *link) request(p *Proxy, chunk []byte) bool {
	found := p.spring(l.sent, chunk)
	l.sent = append(l.sent, chunk...)
	l.sent = slices.Clone(l.sent[max(0, len(l.sent)-p.longestMarker()):])
	if found == nil {
		return true
	}
	if found.forward {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.swallow = found // before the server can answer

		return true
	}
	l.cut()
	close(found.sprung)

	return false
}

// answer decides about a chunk from the server.
func (l *link) answer([]byte) bool {
	l.mu.Lock()
	found := l.swallow
	l.mu.Unlock()
	if found == nil {
		return true
	}
	l.cut()
	close(found.sprung)

	return false
}

// finish tells the other side how this one ended: a close is passed on as one, and anything else as a reset.
func (l *link) finish(to net.Conn, err error) {
	half, ok := to.(interface{ CloseWrite() error })
	if !errors.Is(err, io.EOF) || !ok || half.CloseWrite() != nil {
		l.cut()
	}
}

// cut resets both connections.
func (l *link) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.isCut() {
		return
	}
	close(l.gone)
	for _, conn := range []net.Conn{l.client, l.server} {
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // a reset instead of a goodbye; a closed connection needs neither
		}
		if conn != nil {
			_ = conn.Close()
		}
	}
}

func (l *link) isCut() bool {
	select {
	case <-l.gone:
		return true
	default:
		return false
	}
}

// hangUp closes both connections once both sides have said goodbye.
func (l *link) hangUp() {
	_ = l.client.Close()
	_ = l.server.Close()
}
