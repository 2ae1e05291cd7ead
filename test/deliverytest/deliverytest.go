// Package deliverytest is what tests of deliveries share: bids in a database, scripted
// marketplaces and sandboxes.
package deliverytest

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/sethvargo/go-retry"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/delivery"
	"github.com/arbitrageai/bidder/pkg/marketplace"
	"github.com/arbitrageai/bidder/pkg/withdraw"
	"github.com/arbitrageai/bidder/test/testdb"
)

// Settle is the settle time of accounts here, unless a test chooses its own.
const Settle = 10 * time.Minute

// Limits are wide enough for a slow machine.
func Limits() db.Limits {
	return db.Limits{Statement: time.Minute, Lock: time.Minute, Idle: time.Minute, Life: 5 * time.Minute}
}

// World is a database with bids.
type World struct {
	tb   testing.TB
	DB   *testdb.DB
	Pool *pgxpool.Pool // what engines use
	SQL  *pgxpool.Pool // what the test uses
	Log  *Log
}

// New returns an empty world.
func New(tb testing.TB) *World {
	tb.Helper()
	database := testdb.New(tb)
	w := &World{tb: tb, DB: database, SQL: database.Pool(tb), Log: &Log{}}
	w.Pool = w.Open(database.URL)
	return w
}

// Open returns another pool, for an engine of its own.
func (w *World) Open(url string) *pgxpool.Pool {
	w.tb.Helper()
	pool, err := db.Open(w.tb.Context(), db.Options{URL: url, MaxConns: 6})
	if err != nil {
		w.tb.Fatal(err)
	}
	w.tb.Cleanup(pool.Close)
	return pool
}

// Bid inserts a posting and the claim of it, which owes its placing; set is the list of an
// UPDATE that follows. Marketplace and job are its own unless they are named.
func (w *World) Bid(set string, names ...string) queries.Bid {
	w.tb.Helper()
	id := uuid.Must(uuid.NewV7())
	name, job := "m-"+strings.ToLower(id.String()), "job-"+id.String()
	if len(names) > 0 {
		name = names[0]
	}
	if len(names) > 1 {
		job = names[1]
	}
	w.Exec(`INSERT INTO postings (marketplace, job_id, cached_at, title, url, pricing)
		VALUES ($1, $2, clock_timestamp(), 'A title', 'https://example.test/1', 'fixed') ON CONFLICT DO NOTHING`, name, job)
	w.Exec(`INSERT INTO bids (id, marketplace, job_id, amount_cents, period_days, proposal, delivery_kind, delivery_state, next_attempt_at)
		VALUES ($1, $2, $3, 48000, 10, 'I can.', 'place', 'pending', clock_timestamp())`, id, name, job)
	w.Exec("DELETE FROM candidates WHERE marketplace = $1 AND job_id = $2", name, job)
	w.Set(id, set)
	return w.Row(id)
}

// What SQL says of POSTs, for [World.Bid].
const (
	Sent    = "place_posts = 1, first_post_at = clock_timestamp(), last_post_at = clock_timestamp()"
	Settled = "place_posts = 1, first_post_at = clock_timestamp() - interval '1 hour', last_post_at = clock_timestamp() - interval '1 hour'"
	Twice   = "place_posts = 2, first_post_at = clock_timestamp() - interval '1 hour', last_post_at = clock_timestamp() - interval '1 hour'"
)

// Exec runs a statement.
func (w *World) Exec(sql string, args ...any) {
	w.tb.Helper()
	if _, err := w.SQL.Exec(context.WithoutCancel(w.tb.Context()), sql, args...); err != nil {
		w.tb.Fatalf("%s: %v", sql, err)
	}
}

// Set updates a bid.
func (w *World) Set(id uuid.UUID, set string) {
	w.tb.Helper()
	if set != "" {
		w.Exec("UPDATE bids SET "+set+" WHERE id = $1", id)
	}
}

// Due makes what a bid owes due now.
func (w *World) Due(id uuid.UUID) {
	w.tb.Helper()
	w.Set(id, "next_attempt_at = clock_timestamp()")
}

// Value returns the one value of the one row.
func Value[T any](w *World, sql string, args ...any) T {
	w.tb.Helper()
	rows, err := w.SQL.Query(context.WithoutCancel(w.tb.Context()), sql, args...)
	if err != nil {
		w.tb.Fatalf("%s: %v", sql, err)
	}
	value, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[T])
	if err != nil {
		w.tb.Fatalf("%s: %v", sql, err)
	}
	return value
}

// Row reads a bid.
func (w *World) Row(id uuid.UUID) queries.Bid {
	w.tb.Helper()
	bid, err := queries.New(w.SQL).GetBid(context.WithoutCancel(w.tb.Context()), id)
	if err != nil {
		w.tb.Fatal(err)
	}
	return bid
}

// State says in one line how a bid stands: "ACTIVE place pending", "ACTIVE submitted e-1",
// "ACTIVE withdraw review awarded", "WITHDRAWN", with "foreign" and the POSTs where there are any.
func (w *World) State(id uuid.UUID) string {
	w.tb.Helper()
	return Describe(w.Row(id))
}

// Describe is [World.State] of a row.
func Describe(bid queries.Bid) string {
	words := []string{bid.Status}
	for _, word := range []*string{bid.DeliveryKind, bid.DeliveryState, bid.ReviewReason} {
		if word != nil {
			words = append(words, *word)
		}
	}
	if bid.SubmittedAt != nil {
		words = append(words, "submitted")
	}
	if bid.ExternalBidID != nil {
		words = append(words, *bid.ExternalBidID)
	}
	if bid.IsForeign {
		words = append(words, "foreign")
	}
	if bid.PlacePosts > 0 {
		words = append(words, fmt.Sprintf("posts=%d", bid.PlacePosts))
	}
	if bid.DeliveryAttempts > 0 {
		words = append(words, fmt.Sprintf("failed=%d", bid.DeliveryAttempts))
	}
	return strings.Join(words, " ")
}

// Events are what the history of a bid says, as "kind result code".
func (w *World) Events(id uuid.UUID) string {
	w.tb.Helper()
	return Value[string](w, `SELECT coalesce(string_agg(concat_ws(' ', detail ->> 'kind', detail ->> 'result', detail ->> 'code'), ', ' ORDER BY id), '')
		FROM bid_events WHERE bid_id = $1`, id)
}

// Wait is how long from now until a bid's delivery is due.
func (w *World) Wait(id uuid.UUID) time.Duration {
	w.tb.Helper()
	return Value[time.Duration](w, "SELECT next_attempt_at - clock_timestamp() FROM bids WHERE id = $1", id)
}

// Eventually waits until a condition holds.
func Eventually(tb testing.TB, what string, holds func() bool) {
	tb.Helper()
	err := retry.Do(tb.Context(), retry.WithMaxDuration(20*time.Second, retry.NewConstant(5*time.Millisecond)), func(context.Context) error {
		if holds() {
			return nil
		}
		return retry.RetryableError(fmt.Errorf("never: %s", what))
	})
	if err != nil {
		tb.Fatal(err)
	}
}

// Engine is an engine with its counters.
type Engine struct {
	*delivery.Engine
	delivery.Counters

	tb testing.TB
}

// Options are those of engines here.
func Options(account func(string) (delivery.Account, error)) delivery.Options {
	return delivery.Options{
		Account: account, Lease: time.Minute, PostingTTL: 24 * time.Hour,
		RetryBase: 15 * time.Second, RetryCap: 15 * time.Minute, RetryMax: 8,
	}
}

// Engine returns an engine for one client at all marketplaces.
func (w *World) Engine(client marketplace.Client, change ...func(*delivery.Options)) *Engine {
	options := Options(func(string) (delivery.Account, error) {
		return delivery.Account{Client: client, Settle: Settle}, nil
	})
	for _, change := range change {
		change(&options)
	}
	return w.EngineOf(w.Pool, options)
}

// EngineOf returns an engine of its own pool and options.
func (w *World) EngineOf(pool *pgxpool.Pool, options delivery.Options) *Engine {
	e := &Engine{tb: w.tb}
	e.Engine = delivery.New(pool, options, withdraw.Carry, &e.Counters, slog.New(slog.NewJSONHandler(w.Log, nil)))
	return e
}

// Attempt makes one attempt at what a bid owes, which must be due.
func (e *Engine) Attempt(bid queries.Bid) {
	e.tb.Helper()
	worked, err := e.DeliverBid(e.tb.Context(), bid.Marketplace, bid.Account, bid.ID)
	if err != nil {
		e.tb.Fatal(err)
	}
	if !worked {
		e.tb.Fatalf("nothing was due for bid %s", bid.ID)
	}
}

// Log keeps what is logged.
type Log struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf.Write(p)
	return len(p), nil
}

// Lines are the lines that have a text in them.
func (l *Log) Lines(text string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var lines []string
	for line := range strings.Lines(l.buf.String()) {
		if strings.Contains(line, text) {
			lines = append(lines, line)
		}
	}
	return lines
}
