package wire

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// The errors of writes that are not allowed to begin.
var (
	errLate  = errors.New("the deadline passed before the first byte")
	errEnded = errors.New("the request is over")
)

// passage is the way of one request out of this process: it knows whether anything left, and
// once ended lets nothing more through, so that what it said stays true.
type passage struct {
	deadline time.Time // zero is none

	mu      sync.Mutex
	writing bool
	written bool
	ended   bool
}

// begin asks to write. The deadline counts for the first byte: what has begun to leave may as
// well arrive whole.
func (p *passage) begin(now time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.ended:
		return errEnded
	case !p.written && isPast(p.deadline, now):
		return errLate
	}
	p.writing = true
	return nil
}

// wrote says how many bytes a write that had begun has taken.
func (p *passage) wrote(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.writing = false
	p.written = p.written || n > 0
}

// end stops all further writing and reports whether anything may have left.
func (p *passage) end() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	return p.writing || p.written
}

// isPast goes by both clocks: the monotonic one stands still while a machine is suspended.
func isPast(deadline, now time.Time) bool {
	return !deadline.IsZero() && (now.After(deadline) || now.Round(0).After(deadline.Round(0)))
}

// countedConn is a connection, below it possibly TLS, that carries one request at a time.
type countedConn struct {
	net.Conn

	passage atomic.Pointer[passage]
}

func (c *countedConn) Write(b []byte) (int, error) {
	p := c.passage.Load()
	if p == nil {
		return 0, errEnded
	}
	if err := p.begin(time.Now()); err != nil {
		return 0, err
	}
	n, err := c.Conn.Write(b)
	p.wrote(n)
	return n, err //nolint:wrapcheck // net/http looks at it
}
