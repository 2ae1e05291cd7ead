package testdb

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// CommitLevel runs a statement where synchronous_commit is set to before, and returns what it is when the
// transaction commits.
func CommitLevel(ctx context.Context, pool *pgxpool.Pool, before string, run func(tx pgx.Tx) error) (level string, err error) {
	err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT set_config('synchronous_commit', $1, true)", before); err != nil {
			return fmt.Errorf("set synchronous_commit: %w", err)
		}
		if err := run(tx); err != nil {
			return err
		}
		return tx.QueryRow(ctx, "SELECT current_setting('synchronous_commit')").Scan(&level)
	})
	return level, err
}
