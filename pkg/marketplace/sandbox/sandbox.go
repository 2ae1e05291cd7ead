// Package sandbox is a marketplace to try everything on. It speaks the protocol of connectors
// and that of the Freelancer.com API, keeps its bids in memory, writes down every request, and
// fails as it is told. docs/sandbox.md is its manual.
package sandbox

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/arbitrageai/bidder/pkg/config"
)

// Rules are what a marketplace promises.
type Rules struct {
	// Idempotent: a repeated key gets the first answer, and no second bid.
	Idempotent bool
	// NaturalKey: a second live bid on a posting is refused.
	NaturalKey bool
}

// Options are how a [Server] behaves. The zero value promises nothing and believes everybody.
type Options struct {
	// Rules apply to marketplaces that Marketplaces does not name.
	Rules        Rules
	Marketplaces map[string]Rules
	// Secrets are the keys of which one must have signed each call. Without any, signatures
	// do not matter.
	Secrets []config.Secret
	// Freelancer is how the Freelancer.com API behaves.
	Freelancer FreelancerRules
	// Observe, unless nil, is called with each request when it has ended, from several goroutines.
	Observe func(Entry)
}

// Secret is the signing key of sandboxes that need none of their own. It is no secret: it is
// there so that a trial signs its calls as production does.
func Secret() config.Secret { return config.NewSecret("bidder sandbox: not a secret") }

// Config returns what the handler bridge needs to bid on a marketplace of the sandbox at
// baseURL, which is without a slash at the end.
func Config(baseURL, name string, secret config.Secret) config.Marketplace {
	return config.Marketplace{
		Handler:               config.HandlerSandbox,
		BaseURL:               baseURL + "/" + name,
		Place:                 config.Route{Method: http.MethodPost, Path: "/bids"},
		Lookup:                config.Route{Method: http.MethodGet, Path: "/bids/by-key/{idempotency_key}"},
		Withdraw:              config.Route{Method: http.MethodPost, Path: "/bids/{external_bid_id}/withdraw"},
		SigningSecrets:        []config.Secret{secret},
		Timeout:               5 * time.Second,
		LookupIsAuthoritative: true,
		IdempotentPlace:       true,
		AllowPrivateNetworks:  true,
	}
}

// Server is a sandbox with any number of marketplaces, each under the path of its name. It
// is an [http.Handler], and safe for concurrent use.
type Server struct {
	opts    Options
	handler http.Handler
	prefix  string // of external ids, which no other sandbox has given

	closing sync.Once
	closed  chan struct{}

	mu      sync.Mutex
	bids    []*Bid
	byID    map[pair]*Bid
	byKey   map[pair]*Bid
	live    map[pair]*Bid // by job
	keys    map[pair]*keyed
	journal []*Entry
	faults  []*armed
	faultID int64
	held    int
	changed chan struct{} // closed at the next change of held

	freelancer *freelancer

	state   *os.File // nil: what it holds is gone when it ends
	unsaved error    // why the state is not written any more
}

// pair is a marketplace and something of it.
type pair struct{ marketplace, name string }

// keyed is what a marketplace remembers of an idempotency key.
type keyed struct {
	sum    [sha256.Size]byte // of the body
	answer reply
	bid    string // its external id, once it is stored
}

// New returns a sandbox. [Server.Close] it after use.
func New(opts Options) *Server {
	s := &Server{
		opts: opts, prefix: "sb-" + uuid.NewString()[:8] + "-", closed: make(chan struct{}), changed: make(chan struct{}),
		byID: map[pair]*Bid{}, byKey: map[pair]*Bid{}, live: map[pair]*Bid{}, keys: map[pair]*keyed{},
	}
	s.freelancer = newFreelancer(s, opts.Freelancer)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /{marketplace}/bids", s.operation(s.connector(), Place, s.place))
	mux.HandleFunc("GET /{marketplace}/bids/by-key/{key}", s.operation(s.connector(), Lookup, s.lookup))
	mux.HandleFunc("POST /{marketplace}/bids/{id}/withdraw", s.operation(s.connector(), Withdraw, s.withdraw))
	s.freelancer.route(mux)
	s.routeAdmin(mux)
	s.freelancer.routeAdmin(mux)
	// A page in somebody's browser must not be able to change anything here.
	s.handler = http.NewCrossOriginProtection().Handler(mux)
	return s
}

// ServeHTTP implements [http.Handler].
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// Serve answers on a listener until the context ends. It closes both the listener and the
// sandbox.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	server := &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute}
	stop := context.AfterFunc(ctx, func() {
		s.Close()
		_ = server.Close()
	})
	defer stop()
	defer s.Close()
	err := server.Serve(listener)
	if errors.Is(err, http.ErrServerClosed) {
		return s.closeState()
	}
	return errors.Join(fmt.Errorf("serve sandbox: %w", err), s.closeState())
}

// Close drops the requests that are held.
func (s *Server) Close() { s.closing.Do(func() { close(s.closed) }) }

func (s *Server) rules(marketplace string) Rules {
	if rules, named := s.opts.Marketplaces[marketplace]; named {
		return rules
	}
	return s.opts.Rules
}
