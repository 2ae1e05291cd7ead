// Package console is bidder's own HTTP server: the operator's pages, what says whether the
// process and its database are well, and what hears marketplaces that call by themselves.
package console

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"html/template"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/time/rate"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/bidding"
	"github.com/arbitrageai/bidder/pkg/config"
	"github.com/arbitrageai/bidder/pkg/posting"
)

const (
	// maxHeader bounds the header of a request, in bytes.
	maxHeader = 16 << 10
	// stopTime is how long requests under way may take to end when the server stops.
	stopTime = 10 * time.Second
	// databaseTime bounds what a request waits for the database.
	databaseTime = 5 * time.Second
	// pageTime bounds what a page may take altogether; each of its statements has limits of its own.
	pageTime = 10 * time.Second
	// longLock is how long claims do not hold a lock, unless something is wrong.
	longLock = 10 * time.Second
)

// Options are what a [Server] works with.
type Options struct {
	Pool *pgxpool.Pool
	// Keys are those with which a marketplace signs its callbacks, of which one is enough.
	// Without any, it has no hook.
	Keys func(marketplace string) [][]byte
	Log  *slog.Logger

	// Token is the operator's, and ReadonlyToken that of those who only look. Without any,
	// whoever reaches the server over the loopback interface may look, and nobody decides.
	Token, ReadonlyToken config.Secret
	// Hosts are names under which the server is reached beside those of this machine itself,
	// in lower case and without a port: those of a proxy before it. With any, no other name
	// is answered to.
	Hosts []string
	// Limits bound what pages and decisions do at the database.
	Limits db.Limits
	// Settle is how long a bid that was sent may take to show up at a marketplace.
	Settle func(marketplace string) time.Duration
	// Caps reads what is used of the caps that are configured; nil: there are none.
	Caps func(ctx context.Context, tx pgx.Tx) ([]bidding.CapUsage, error)
	// Explain says how an attempt of a run would end now, and why; nil: nobody can say.
	Explain func(ctx context.Context, tx pgx.Tx, key posting.Key) (bidding.Attempt, []string, error)
	// Metrics answers at /metrics to whoever may look; nil: nothing is there.
	Metrics http.Handler
}

// Server is an [http.Handler], safe for concurrent use.
type Server struct {
	options  Options
	q        *queries.Queries
	mux      *http.ServeMux // everything
	failures *rate.Limiter

	pages       *http.ServeMux // what is guarded
	templates   map[string]*template.Template
	crossOrigin *http.CrossOriginProtection
	sessions    sessions
	attempts    attempts
}

// New returns a Server.
func New(options Options) *Server {
	s := &Server{
		options: options, q: queries.New(options.Pool), mux: http.NewServeMux(),
		failures: rate.NewLimiter(rate.Every(failurePause), failureBurst),
	}
	s.pages, s.templates, s.crossOrigin = http.NewServeMux(), parsePages(), http.NewCrossOriginProtection()
	s.sessions = sessions{byID: map[[sha256.Size]byte]*session{}, now: time.Now}
	s.attempts.byAddress = map[netip.Prefix]*rate.Limiter{}

	s.mux.HandleFunc("GET /healthz", s.healthz)
	s.mux.HandleFunc("GET /readyz", s.readyz)
	s.mux.HandleFunc("POST /hooks/{marketplace}", s.hook)
	s.mux.HandleFunc("/hooks/{marketplace}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Allow", http.MethodPost)
		answer(w, http.StatusMethodNotAllowed, "callbacks are POSTs")
	})
	s.mux.HandleFunc("/", s.guard)

	s.pages.HandleFunc("GET /{$}", s.now)
	s.pages.HandleFunc("GET /bids", s.bids)
	s.pages.HandleFunc("GET /bids/{id}", s.bid)
	s.pages.HandleFunc("POST /bids/{id}/{action}", s.act)
	s.pages.HandleFunc("GET /review", s.waiting)
	s.pages.HandleFunc("POST /pause", s.pause)
	s.pages.HandleFunc("POST /resume", s.resume)
	s.pages.HandleFunc("GET /postings/{marketplace}/{job_id}", s.posting)
	s.pages.HandleFunc("GET /locks", s.held)
	s.pages.HandleFunc("GET /sign-in", s.signInForm)
	s.pages.HandleFunc("POST /sign-in", s.signIn)
	s.pages.HandleFunc("POST /sign-out", s.signOut)
	s.pages.HandleFunc("GET /assets/{file}", s.assets)
	if options.Metrics != nil {
		s.pages.Handle("GET /metrics", options.Metrics)
	}
	s.pages.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.message(w, r, http.StatusNotFound, "There is nothing here", "The address is wrong, or what was here is gone.")
	})
	return s
}

// ServeHTTP implements [http.Handler].
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	protect(w.Header())
	s.mux.ServeHTTP(w, r)
}

// ErrExposed means that the server was to listen where others can reach it, without a token.
var ErrExposed = errors.New("others could reach this address: set BIDDER_CONSOLE_TOKEN, or listen on 127.0.0.1")

// Listen listens on an address; only on this machine itself unless it may be exposed.
func Listen(ctx context.Context, address string, exposed bool) (net.Listener, error) {
	resolved, err := net.ResolveTCPAddr("tcp", address) // once: a name could mean something else the second time
	if err != nil {
		return nil, fmt.Errorf("understand the address: %w", err)
	}
	if !exposed && !resolved.IP.IsLoopback() {
		return nil, ErrExposed
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", resolved.String())
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	return listener, nil
}

// Serve answers on a listener, and closes it, until the context ends; then what is under way
// may end, for some seconds.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	server := &http.Server{
		Handler: s, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 20 * time.Second, //nolint:mnd // explained by their names
		IdleTimeout: time.Minute, MaxHeaderBytes: maxHeader, ErrorLog: slog.NewLogLogger(s.options.Log.Handler(), slog.LevelWarn),
	}
	serving, end := context.WithCancel(ctx)
	defer end()
	forgetting := make(chan struct{})
	go func() {
		defer close(forgetting)
		s.forget(serving)
	}()
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		patience, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
		defer cancel()
		stopped <- errors.Join(server.Shutdown(patience), server.Close())
	})
	err := server.Serve(listener)
	if !stop() { // the context has ended
		err = <-stopped
	}
	end()
	<-forgetting
	if err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}

func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, "ok") }

// readyz says whether the database can be worked with. Why not stands in the log: anybody may ask.
func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), databaseTime)
	defer cancel()
	if err := db.CheckSchema(ctx, s.options.Pool); err != nil {
		s.options.Log.Warn("not ready", "error", err)
		answer(w, http.StatusServiceUnavailable, "the database cannot be used")
		return
	}
	answer(w, http.StatusOK, "ok")
}

func answer(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text+"\n") // the other side may be gone
}
