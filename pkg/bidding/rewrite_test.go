package bidding

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// rewriting changes statements in transactions on their way to the server.
type rewriting struct {
	database

	rewrite func(sql string) string
}

func (r rewriting) SendBatch(ctx context.Context, batch *pgx.Batch) pgx.BatchResults {
	return rewritingResults{r.database.SendBatch(ctx, rewrittenBatch(batch, r.rewrite)), r.rewrite}
}

func (r rewriting) BeginTx(ctx context.Context, options pgx.TxOptions) (pgx.Tx, error) {
	tx, err := r.database.BeginTx(ctx, options)
	if err != nil {
		return nil, err
	}
	return rewritingTx{tx, r.rewrite}, nil
}

func (r rewriting) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	return r.database.QueryRow(ctx, r.rewrite(sql), args...)
}

func rewrittenBatch(batch *pgx.Batch, rewrite func(sql string) string) *pgx.Batch {
	for _, query := range batch.QueuedQueries {
		query.SQL = rewrite(query.SQL)
	}
	return batch
}

type rewritingResults struct {
	pgx.BatchResults

	rewrite func(sql string) string
}

func (r rewritingResults) Tx() pgx.Tx { return rewritingTx{r.BatchResults.Tx(), r.rewrite} }

type rewritingTx struct {
	pgx.Tx

	rewrite func(sql string) string
}

func (r rewritingTx) SendBatch(ctx context.Context, batch *pgx.Batch) pgx.BatchResults {
	return r.Tx.SendBatch(ctx, rewrittenBatch(batch, r.rewrite))
}

func (r rewritingTx) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	return r.Tx.Exec(ctx, r.rewrite(sql), args...)
}

func (r rewritingTx) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	return r.Tx.Query(ctx, r.rewrite(sql), args...)
}

func (r rewritingTx) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	return r.Tx.QueryRow(ctx, r.rewrite(sql), args...)
}
