package testdb

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Messages counts what is sent to the server and waited for.
type Messages struct{ n atomic.Int64 }

// OneConnection returns a pool of one connection with the settings of another, whose messages are counted.
func (m *Messages) OneConnection(tb testing.TB, like *pgxpool.Pool) *pgxpool.Pool {
	tb.Helper()
	config := like.Config()
	config.MaxConns, config.MinConns, config.ConnConfig.Tracer = 1, 0, m
	pool, err := pgxpool.NewWithConfig(tb.Context(), config)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(pool.Close)
	return pool
}

// During is how many there are while do runs.
func (m *Messages) During(do func()) int64 {
	before := m.n.Load()
	do()
	return m.n.Load() - before
}

// TraceQueryStart implements [pgx.QueryTracer].
func (m *Messages) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	m.n.Add(1)
	return ctx
}

// TraceQueryEnd implements [pgx.QueryTracer].
func (m *Messages) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// TraceBatchStart implements [pgx.BatchTracer].
func (m *Messages) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	m.n.Add(1)
	return ctx
}

// TraceBatchQuery implements [pgx.BatchTracer].
func (m *Messages) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}

// TraceBatchEnd implements [pgx.BatchTracer].
func (m *Messages) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {}
