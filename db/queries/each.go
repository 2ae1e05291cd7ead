// Package queries is all SQL that runs, in *.sql, and the Go that sqlc makes of it, in *.sql.go.
package queries

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// TakeCandidatesEach is [Queries.TakeCandidates] for a worker that runs it over and over: it reads one row after
// the other into row and calls fn after each, where the method allocates for each of them, and more for their slice.
func TakeCandidatesEach(ctx context.Context, q *Queries, arg TakeCandidatesParams, row *TakeCandidatesRow, fn func() error) error {
	rows, err := q.db.Query(ctx, TakeCandidates, arg.DueBy, arg.Place, arg.Batch, arg.Plain)
	if err != nil {
		return err
	}
	_, err = pgx.ForEachRow(rows, []any{&row.Marketplace, &row.JobID, &row.CachedAt, &row.NotBefore, &row.Place, &row.Locked}, fn)
	return err //nolint:wrapcheck // whoever asks says what for
}

// InsertPlainEach is [Queries.InsertPlain], read as [TakeCandidatesEach] reads.
func InsertPlainEach(ctx context.Context, q *Queries, arg *InsertPlainParams, row *InsertPlainRow, fn func() error) error {
	rows, err := q.db.Query(ctx, InsertPlain,
		arg.IDs, arg.RunID, arg.NeedApproval, arg.Now, arg.Marketplaces, arg.PostingTTL, arg.MinAmounts, arg.MaxAmounts)
	if err != nil {
		return err
	}
	_, err = pgx.ForEachRow(rows, []any{&row.ID, &row.AmountCents, &row.Currency, &row.CachedAt}, fn)
	return err //nolint:wrapcheck // whoever asks says what for
}
