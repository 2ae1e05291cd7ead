// Package wire sends the requests of marketplaces' clients, each exactly once, and reads what
// is alike in their answers.
package wire

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"syscall"
	"time"

	"github.com/arbitrageai/bidder/pkg/config"
)

const (
	maxBody   = 1 << 20
	maxHeader = 64 << 10
	// idle is short: a connection that the other side has meanwhile closed turns a POST into
	// one of which nobody knows what came of it.
	idle = 2 * time.Second
)

// Caller sends requests. It follows no redirects, uses no proxy, keeps no cookies, and speaks
// HTTP/1.1 only, where a connection carries one request at a time: what was written on it
// belongs to that request.
type Caller struct {
	transport *http.Transport
}

// Answer is a complete answer. The body is empty where it was longer than 1 MiB.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Error says that there is no answer.
type Error struct {
	// Sent is false only if not a byte of the request left this process.
	Sent  bool
	Cause error
}

func (e *Error) Error() string {
	if e.Sent {
		return "no answer: " + e.Cause.Error()
	}
	return "not sent: " + e.Cause.Error()
}

func (e *Error) Unwrap() error { return e.Cause }

// NewCaller returns a Caller that may reach what the marketplace allows. Certificates are
// verified against roots, or the system's where it is nil.
func NewCaller(m config.Marketplace, roots *x509.CertPool) *Caller {
	d := dialer{private: m.AllowPrivateNetworks, timeout: m.Timeout, roots: roots}
	protocols := &http.Protocols{}
	protocols.SetHTTP1(true)
	return &Caller{transport: &http.Transport{
		DialContext:            d.plain,
		DialTLSContext:         d.encrypted,
		Protocols:              protocols,
		DisableCompression:     true,
		MaxIdleConnsPerHost:    16,
		IdleConnTimeout:        idle,
		MaxResponseHeaderBytes: maxHeader,
	}}
}

// Close closes idle connections. The Caller stays usable.
func (c *Caller) Close() { c.transport.CloseIdleConnections() }

// Do sends a request and reads the whole answer. Any error is an [*Error]. A request whose
// context's deadline has passed does not begin to leave.
func (c *Caller) Do(request *http.Request) (Answer, error) {
	p := &passage{}
	p.deadline, _ = request.Context().Deadline()
	ctx := httptrace.WithClientTrace(request.Context(), &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) {
			if conn, ours := info.Conn.(*countedConn); ours {
				conn.passage.Store(p)
			}
		},
	})
	request = request.WithContext(ctx)
	// With it, http.Transport would send a POST a second time when a connection is reset.
	request.GetBody = nil
	// Not http.Client: it would follow redirects and put URLs into errors.
	response, err := c.transport.RoundTrip(request)
	if err != nil {
		return Answer{}, &Error{Sent: p.end(), Cause: err}
	}
	defer func() { _ = response.Body.Close() }() // what was read is what counts
	if response.StatusCode == http.StatusSwitchingProtocols {
		// The body is the bare connection now, which no deadline of the request ends.
		return Answer{Status: response.StatusCode, Header: response.Header}, nil
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxBody+1))
	if err != nil {
		return Answer{}, &Error{Sent: true, Cause: fmt.Errorf("read answer: %w", err)}
	}
	if len(body) > maxBody {
		body = nil
	}
	return Answer{Status: response.StatusCode, Header: response.Header, Body: body}, nil
}

// dialer makes connections whose written bytes are counted.
type dialer struct {
	private bool
	timeout time.Duration
	roots   *x509.CertPool
}

func (d dialer) plain(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := d.dial(ctx, network, address, true)
	if err != nil {
		return nil, err
	}
	return &countedConn{Conn: conn}, nil
}

func (d dialer) encrypted(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("split host and port: %w", err)
	}
	raw, err := d.dial(ctx, network, address, false)
	if err != nil {
		return nil, err
	}
	conn := tls.Client(raw, &tls.Config{
		MinVersion: tls.VersionTLS12, ServerName: host, RootCAs: d.roots, NextProtos: []string{"http/1.1"},
	})
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("TLS handshake: %w", err), raw.Close())
	}
	return &countedConn{Conn: conn}, nil
}

func (d dialer) dial(ctx context.Context, network, address string, plain bool) (net.Conn, error) {
	dialer := net.Dialer{Timeout: d.timeout, Control: func(_, address string, _ syscall.RawConn) error {
		return checkAddress(address, d.private, plain)
	}}
	conn, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	return conn, nil
}
