// Package messages counts what tests and benchmarks send to Postgres.
package messages

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Counter counts what is sent to the server and waited for; a message of several statements is one.
type Counter struct{ n atomic.Int64 }

// Pool returns a pool with the settings of another, of so many connections, whose messages are counted. The
// caller closes it.
func (c *Counter) Pool(ctx context.Context, like *pgxpool.Pool, conns int32) (*pgxpool.Pool, error) {
	config := like.Config()
	config.MaxConns, config.ConnConfig.Tracer = conns, c
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("open a pool that counts: %w", err)
	}
	return pool, nil
}

// Sent is how many there were so far.
func (c *Counter) Sent() int64 { return c.n.Load() }

// TraceQueryStart implements [pgx.QueryTracer].
func (c *Counter) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	c.n.Add(1)
	return ctx
}

// TraceQueryEnd implements [pgx.QueryTracer].
func (c *Counter) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// TraceBatchStart implements [pgx.BatchTracer].
func (c *Counter) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	c.n.Add(1)
	return ctx
}

// TraceBatchQuery implements [pgx.BatchTracer].
func (c *Counter) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}

// TraceBatchEnd implements [pgx.BatchTracer].
func (c *Counter) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {}
