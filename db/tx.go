package db

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/arbitrageai/bidder/db/queries"
)

// rollbackTimeout bounds the clean-up after a cancelled or failed transaction.
const rollbackTimeout = 5 * time.Second

// Limits bound a transaction at the server, which goes on when its client is gone. They
// are set inside the transaction (set_config(…, true)), so nothing leaks to the next
// client of a pooled connection and PgBouncer's transaction mode is fine.
type Limits struct {
	// Statement is the longest a statement may run.
	Statement time.Duration
	// Lock is the longest a statement may wait for a row or an index entry.
	Lock time.Duration
	// Idle is the longest silence between two statements.
	Idle time.Duration
	// Life is the longest life of the transaction and of the locks it holds.
	Life time.Duration
	// NoSeqScan keeps look-ups by key on their index while a table is tiny or its
	// statistics are old.
	NoSeqScan bool
}

// ErrIsolation means that the transaction does not run READ COMMITTED. Under REPEATABLE
// READ a statement after the lock would still see the snapshot from before it.
var ErrIsolation = errors.New("the transaction is not READ COMMITTED")

// ErrCommitUnknown means that the connection was lost after COMMIT was sent and before it
// was answered: the transaction may or may not have been committed.
var ErrCommitUnknown = errors.New("it is unknown whether the transaction was committed")

// Beginner begins transactions: a pool or a connection.
type Beginner interface {
	BeginTx(ctx context.Context, options pgx.TxOptions) (pgx.Tx, error)
}

// Begin begins a READ COMMITTED transaction under the limits. The caller ends it with
// [Commit] or [Rollback].
func Begin(ctx context.Context, pool Beginner, limits Limits) (pgx.Tx, error) {
	tx, err := pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.ReadCommitted})
	if err != nil {
		return nil, fmt.Errorf("begin: %w", err)
	}
	if err := setLimits(ctx, tx, limits); err != nil {
		Rollback(ctx, tx)
		return nil, err
	}
	return tx, nil
}

func setLimits(ctx context.Context, tx pgx.Tx, limits Limits) error {
	isolation, err := limit(ctx, tx, limits)
	if err != nil {
		return err
	}
	if isolation != "read committed" {
		return fmt.Errorf("%w: it is %s", ErrIsolation, isolation)
	}
	return nil
}

// limit puts a transaction under the limits, and says how isolated it is.
func limit(ctx context.Context, tx pgx.Tx, limits Limits) (isolation string, err error) {
	seqScan := "on"
	if limits.NoSeqScan {
		seqScan = "off"
	}
	set, err := queries.New(tx).SetLimits(ctx, queries.SetLimitsParams{
		StatementTimeout: milliseconds(limits.Statement),
		LockTimeout:      milliseconds(limits.Lock),
		IdleTimeout:      milliseconds(limits.Idle),
		LockTTL:          milliseconds(limits.Life),
		Seqscan:          seqScan,
	})
	if err != nil {
		return "", fmt.Errorf("set the transaction's limits: %w", err)
	}
	return set.Isolation, nil
}

// milliseconds never says 0, which Postgres reads as "no limit", nor more than the 24 days that it can count.
func milliseconds(d time.Duration) string {
	return strconv.FormatInt(min(max(d.Milliseconds(), 1), math.MaxInt32), 10)
}

// InTx runs fn in a transaction under the limits and commits it. fn's error, a panic or a
// cancelled context rolls it back. A lost COMMIT is reported as [ErrCommitUnknown].
func InTx(ctx context.Context, pool Beginner, limits Limits, fn func(tx pgx.Tx) error) error {
	tx, err := Begin(ctx, pool, limits)
	if err != nil {
		return err
	}
	defer Rollback(ctx, tx)
	if err := fn(tx); err != nil {
		return err
	}
	return Commit(ctx, tx)
}

// Commit commits tx. An error that wraps [ErrCommitUnknown] means that nobody knows;
// any other error means that the transaction was rolled back.
func Commit(ctx context.Context, tx pgx.Tx) error {
	if err := ctx.Err(); err != nil { // then nothing is sent
		Rollback(ctx, tx)
		return fmt.Errorf("commit: %w", err)
	}
	err := tx.Commit(ctx)
	if err == nil {
		return nil
	}
	// Not pgconn.SafeToRetry: it is true, too, when the answer to COMMIT was lost.
	if pgErr, answered := errors.AsType[*pgconn.PgError](err); errors.Is(err, pgx.ErrTxCommitRollback) ||
		answered && pgErr.SeverityUnlocalized == "ERROR" {
		return fmt.Errorf("commit: %w", err)
	}
	return fmt.Errorf("commit: %w: %w", ErrCommitUnknown, err)
}

// Rollback rolls tx back, also when ctx is cancelled; after a commit it does nothing. It
// cannot fail: where the server does not answer, pgx closes the connection, and the
// server rolls back what a closed connection has begun.
func Rollback(ctx context.Context, tx pgx.Tx) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
	defer cancel()
	_ = tx.Rollback(ctx)
}

// ReadOnly runs fn in one READ ONLY transaction with one snapshot: it sees a consistent
// state, changes nothing and takes no locks.
func ReadOnly(ctx context.Context, pool Beginner, fn func(tx pgx.Tx) error) error {
	tx, err := pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return fmt.Errorf("begin read only: %w", err)
	}
	defer Rollback(ctx, tx)
	return fn(tx)
}

// View is [ReadOnly] under limits.
func View(ctx context.Context, pool Beginner, limits Limits, fn func(tx pgx.Tx) error) error {
	return ReadOnly(ctx, pool, func(tx pgx.Tx) error {
		if _, err := limit(ctx, tx, limits); err != nil {
			return err
		}
		return fn(tx)
	})
}
