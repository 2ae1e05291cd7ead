package testdb

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/sethvargo/go-retry"
)

const (
	leakWait = 5 * time.Second // a client's goodbye reaches the server a little later
	leakPoll = 25 * time.Millisecond
)

// checkLeaks waits until the test has left nothing behind, and says what it did leave.
func (d *DB) checkLeaks(ctx context.Context) error {
	return d.poll(ctx, func(ctx context.Context) error {
		rows, err := d.instance.admin.Query(ctx, `
			SELECT format('pid %s (%s): %s%s; last query: %s', pid, application_name, state,
				CASE WHEN locks > 0 THEN format(', holds %s advisory locks', locks) END, query)
			FROM pg_stat_activity
			CROSS JOIN LATERAL (
				SELECT count(*) AS locks FROM pg_locks
				WHERE pg_locks.pid = pg_stat_activity.pid AND locktype = 'advisory' AND granted
			) AS held
			WHERE datname = $1 AND backend_type = 'client backend'
				AND (NOT $2 OR locks > 0 OR state LIKE 'idle in transaction%')
			ORDER BY pid`, d.Name, d.bounced)
		if err != nil {
			return fmt.Errorf("look for leaks: %w", err)
		}
		left, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return fmt.Errorf("look for leaks: %w", err)
		}
		if len(left) > 0 {
			return retry.RetryableError(fmt.Errorf("the test left sessions behind:\n\t%s", strings.Join(left, "\n\t")))
		}

		return nil
	})
}

// Deadlocks returns how many deadlocks the server has found in this database. Call it when the code under test has
// closed its pools: a session reports what it counted when it ends, so the ones that idle are ended. One that is busy
// and stays so fails the test.
func (d *DB) Deadlocks(tb testing.TB) int64 {
	tb.Helper()
	ctx, cancel := cleanupContext(tb)
	defer cancel()

	d.mu.Lock()
	for _, pool := range d.pools {
		pool.Reset() // or the next query on one of its connections would find it dead
	}
	d.mu.Unlock()

	var deadlocks int64
	err := d.poll(ctx, func(ctx context.Context) error {
		var left int
		if err := d.instance.admin.QueryRow(ctx, `
			SELECT count(*), count(*) FILTER (WHERE state = 'idle' AND pg_terminate_backend(pid))
			FROM pg_stat_activity WHERE datname = $1 AND backend_type = 'client backend'`, d.Name).Scan(&left, nil); err != nil {
			return fmt.Errorf("end idle sessions: %w", err)
		}
		if left > 0 {
			return retry.RetryableError(errors.New("count deadlocks: sessions of the database stay busy"))
		}

		return d.instance.admin.QueryRow(ctx,
			"SELECT deadlocks FROM pg_stat_database WHERE datname = $1", d.Name).Scan(&deadlocks)
	})
	if err != nil {
		tb.Fatalf("testdb: %v", err)
	}

	return deadlocks
}

// poll calls check until it succeeds, and returns its last error when it does not within the time for leaks.
func (d *DB) poll(ctx context.Context, check func(context.Context) error) error {
	return retry.Do(ctx, retry.WithMaxDuration(d.leakWait, retry.NewConstant(leakPoll)), check)
}
