package deliverytest

import (
	"context"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/arbitrageai/bidder/pkg/config"
	"github.com/arbitrageai/bidder/pkg/marketplace"
	"github.com/arbitrageai/bidder/pkg/marketplace/bridge"
	"github.com/arbitrageai/bidder/pkg/marketplace/sandbox"
)

// Script is a client that answers what it is told. The zero value is a marketplace with
// idempotency keys, on which nothing is found and everything is done.
type Script struct {
	Can       marketplace.Capabilities
	Placed    marketplace.Result
	Found     []marketplace.Finding // one for each look-up; the last one stays
	Withdrawn marketplace.Result
	// During, unless nil, is called during each call.
	During func(op string)

	mu    sync.Mutex
	calls []string
	bids  []marketplace.Bid
}

// NewScript returns a client that finds nothing, places as e-1 and withdraws.
func NewScript(dedup marketplace.Dedup) *Script {
	return &Script{
		Can:    marketplace.Capabilities{Dedup: dedup, LookupIsAuthoritative: true, Timeout: time.Second},
		Placed: marketplace.Result{Kind: marketplace.Done, ExternalID: "e-1", Status: 201}, Found: []marketplace.Finding{{Known: true}},
		Withdrawn: marketplace.Result{Kind: marketplace.Done, Status: 200},
	}
}

// Shows is a finding.
func Shows(status marketplace.Status) marketplace.Finding {
	return marketplace.Finding{Known: true, Found: true, ExternalID: "e-1", Status: status}
}

// Capabilities implements [marketplace.Client].
func (s *Script) Capabilities() marketplace.Capabilities { return s.Can }

// Place implements [marketplace.Client].
func (s *Script) Place(_ context.Context, bid marketplace.Bid) marketplace.Result {
	s.call("place", bid)
	return s.Placed
}

// Lookup implements [marketplace.Client].
func (s *Script) Lookup(_ context.Context, bid marketplace.Bid) marketplace.Finding {
	s.call("lookup", bid)
	s.mu.Lock()
	defer s.mu.Unlock()
	found := s.Found[0]
	if len(s.Found) > 1 {
		s.Found = s.Found[1:]
	}
	return found
}

// Withdraw implements [marketplace.Client].
func (s *Script) Withdraw(_ context.Context, bid marketplace.Bid) marketplace.Result {
	s.call("withdraw", bid)
	return s.Withdrawn
}

func (s *Script) call(op string, bid marketplace.Bid) {
	s.mu.Lock()
	s.calls, s.bids = append(s.calls, op), append(s.bids, bid)
	s.mu.Unlock()
	if s.During != nil {
		s.During(op)
	}
}

// Calls are the calls so far.
func (s *Script) Calls() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.calls, " ")
}

// Bids are what the calls were made with.
func (s *Script) Bids() []marketplace.Bid {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]marketplace.Bid{}, s.bids...)
}

// Sandbox is a sandbox behind a port.
type Sandbox struct {
	*sandbox.Server

	URL string
	tb  testing.TB
}

// NewSandbox starts one.
func NewSandbox(tb testing.TB, rules sandbox.Rules) *Sandbox {
	tb.Helper()
	s := &Sandbox{Server: sandbox.New(sandbox.Options{Rules: rules, Secrets: []config.Secret{sandbox.Secret()}}), tb: tb}
	server := httptest.NewServer(s.Server)
	tb.Cleanup(server.Close)
	tb.Cleanup(s.Close)
	s.URL = server.URL
	return s
}

// Client returns a client of one of its marketplaces.
func (s *Sandbox) Client(name string, change ...func(*config.Marketplace)) *bridge.Client {
	s.tb.Helper()
	m := sandbox.Config(s.URL, name, sandbox.Secret())
	for _, change := range change {
		change(&m)
	}
	client, err := bridge.New(m)
	if err != nil {
		s.tb.Fatal(err)
	}
	s.tb.Cleanup(client.Close)
	return client
}

// Fault adds a fault.
func (s *Sandbox) Fault(fault sandbox.Fault) {
	s.tb.Helper()
	if _, err := s.AddFault(fault); err != nil {
		s.tb.Fatal(err)
	}
}

// Calls counts the requests of an operation.
func (s *Sandbox) Calls(op sandbox.Op) int {
	n := 0
	for _, entry := range s.Journal() {
		if entry.Op == op {
			n++
		}
	}
	return n
}

// Live counts the live bids on a posting.
func (s *Sandbox) Live(job string) int {
	n := 0
	for _, bid := range s.Bids() {
		if bid.JobID == job && bid.Status.IsLive() {
			n++
		}
	}
	return n
}
