package testdb

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/arbitrageai/bidder/db"
)

// Plan is what EXPLAIN says of a statement with these arguments, in a transaction under the limits.
func Plan(ctx context.Context, pool db.Beginner, limits db.Limits, sql string, args ...any) (string, error) {
	tx := db.Begin(pool, limits)
	defer tx.Rollback(ctx)
	rows, err := tx.Query(ctx, "EXPLAIN "+sql, append([]any{pgx.QueryExecModeExec}, args...)...)
	if err != nil {
		return "", fmt.Errorf("explain: %w", err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return "", fmt.Errorf("explain: %w", err)
	}
	return strings.Join(lines, "\n"), nil
}
