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
	"github.com/sethvargo/go-retry"

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
	// ByIndex keeps look-ups on their index, and in its order, while a table is tiny or empty or
	// its statistics are from then.
	ByIndex bool
}

// ErrIsolation means that the transaction does not run READ COMMITTED. Under REPEATABLE
// READ a statement after the lock would still see the snapshot from before it.
var ErrIsolation = errors.New("the transaction is not READ COMMITTED")

// ErrCommitUnknown means that the connection was lost after COMMIT was sent and before it
// was answered: the transaction may or may not have been committed.
var ErrCommitUnknown = errors.New("it is unknown whether the transaction was committed")

// Beginner begins transactions: a pool.
type Beginner interface {
	BeginTx(ctx context.Context, options pgx.TxOptions) (pgx.Tx, error)
	SendBatch(ctx context.Context, batch *pgx.Batch) pgx.BatchResults
}

// Tx is a READ COMMITTED transaction under limits. It begins right before its first statement, with
// BEGIN and the limits in one message; what [Tx.Together] runs first goes with them. A Tx is not safe
// for concurrent use.
type Tx struct {
	pool   Beginner
	limits Limits
	begun  pgx.Tx // nil before the first statement
	failed error  // to begin as it should
}

// Begin returns a transaction. Nothing is sent before its first statement, which fails with
// [ErrIsolation] where the server did not follow, and with [ErrReplica] where it is a standby. The caller
// ends it with [Tx.Commit] or [Tx.Rollback].
func Begin(pool Beginner, limits Limits) *Tx { return &Tx{pool: pool, limits: limits} }

// Begun is the transaction as pgx has it, or nil before the first statement.
func (t *Tx) Begun() pgx.Tx { return t.begun }

// Exec runs a statement.
func (t *Tx) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	if err := t.begin(ctx); err != nil {
		return pgconn.CommandTag{}, err
	}
	return t.begun.Exec(ctx, sql, args...) //nolint:wrapcheck // whoever asks says what for
}

// Query runs a statement that answers rows.
func (t *Tx) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	if err := t.begin(ctx); err != nil {
		return nil, err
	}
	return t.begun.Query(ctx, sql, args...) //nolint:wrapcheck // whoever asks says what for
}

// QueryRow runs a statement that answers one row.
func (t *Tx) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	if err := t.begin(ctx); err != nil {
		return noRow{err}
	}
	return t.begun.QueryRow(ctx, sql, args...)
}

// noRow is the answer to a statement that was not sent.
type noRow struct{ err error }

func (r noRow) Scan(...any) error { return r.err }

// beginning is how BEGIN is written, wherever it is sent: each text of it would be prepared by itself.
const beginning = "begin isolation level read committed"

// Together runs the statements of fn in one message, and with BEGIN and the limits where they are the
// first. fn is called twice: to send them, where they answer nothing, and to read what they answered.
//
// What a connection has not prepared before it prepares in a message of its own, and so before BEGIN:
// there only ctx bounds how long first statements wait for a table that somebody has locked.
func (t *Tx) Together(ctx context.Context, fn func(q *queries.Queries) error) error {
	if t.failed != nil {
		return t.failed
	}
	batch := &pgx.Batch{}
	first := t.begun == nil
	if first {
		batch.BeginTx(pgx.TxOptions{BeginQuery: beginning})
		t.limit(ctx, batch)
	}
	if err := fn(queries.New(sending{batch})); err != nil {
		return err
	}
	if first {
		results := t.pool.SendBatch(ctx, batch)
		t.begun = results.Tx()
		return t.readBegun(ctx, results, fn)
	}
	return read(t.begun.SendBatch(ctx, batch), fn)
}

// Together runs the statements of fn in one message, as [Tx.Together] does, in a transaction that begins and ends
// with it, without limits: all of them are committed, or none. An error that the server has not answered
// ([IsLost], or that of ctx) leaves open which.
func Together(ctx context.Context, pool Beginner, fn func(q *queries.Queries) error) error {
	batch := &pgx.Batch{}
	if err := fn(queries.New(sending{batch})); err != nil {
		return err
	}
	return read(pool.SendBatch(ctx, batch), fn)
}

// Look is [Together] under limits, for statements that only read.
func Look(ctx context.Context, pool Beginner, limits Limits, fn func(q *queries.Queries) error) error {
	return Together(ctx, pool, func(q *queries.Queries) error {
		_, err := q.SetLimits(ctx, limits.params())
		return errors.Join(err, fn(q))
	})
}

// read has fn read what its statements answered. Only the end of the message says that it was committed.
func read(results pgx.BatchResults, fn func(q *queries.Queries) error) error {
	err := fn(queries.New(reading{results}))
	if closing := results.Close(); err == nil {
		err = closing
	}
	return err
}

// limit sends the limits.
func (t *Tx) limit(ctx context.Context, batch *pgx.Batch) {
	_, _ = queries.New(sending{batch}).SetLimits(ctx, t.limits.params())
}

// readBegun reads the answers to BEGIN, the limits and the statements of fn.
func (t *Tx) readBegun(ctx context.Context, results pgx.BatchResults, fn func(q *queries.Queries) error) error {
	t.failed = asked(ctx, results)
	err := t.failed
	if err == nil {
		err = fn(queries.New(reading{results}))
	}
	if closing := results.Close(); err == nil {
		err = closing
	}
	if t.failed != nil { // nothing of the transaction is left, whoever ignores it
		t.Rollback(ctx)
	}
	return err
}

// begin sends BEGIN and the limits, once. A statement by itself has a message of its own after them,
// so that also what it waits for to be prepared is bounded.
func (t *Tx) begin(ctx context.Context) error {
	if t.begun != nil {
		return t.failed
	}
	return t.Together(ctx, func(*queries.Queries) error { return nil })
}

// asked reads whether the transaction began as it was asked to.
func asked(ctx context.Context, results pgx.BatchResults) error {
	if _, err := results.Exec(); err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	return isolated(queries.New(reading{results}).SetLimits(ctx, queries.SetLimitsParams{}))
}

// isolated says whether the server did as it was told.
func isolated(set queries.SetLimitsRow, err error) error {
	switch {
	case err != nil:
		return fmt.Errorf("set the transaction's limits: %w", err)
	case set.InRecovery:
		return fmt.Errorf("begin: %w", ErrReplica)
	case set.Isolation != "read committed":
		return fmt.Errorf("%w: it is %s", ErrIsolation, set.Isolation)
	}
	return nil
}

// sending takes statements for a message in place of running them: their answers come later.
type sending struct{ batch *pgx.Batch }

func (s sending) Exec(_ context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	s.batch.Queue(sql, args...)
	return pgconn.CommandTag{}, nil
}

func (s sending) Query(_ context.Context, sql string, args ...any) (pgx.Rows, error) {
	s.batch.Queue(sql, args...)
	return later{}, nil
}

func (s sending) QueryRow(_ context.Context, sql string, args ...any) pgx.Row {
	s.batch.Queue(sql, args...)
	return later{}
}

// later is an answer that is not there yet.
type later struct{ pgx.Rows }

func (later) Close()                              {}
func (later) CommandTag() (tag pgconn.CommandTag) { return tag }
func (later) Err() error                          { return nil }
func (later) Next() bool                          { return false }
func (later) Scan(...any) error                   { return nil }

// reading hands the answers to such statements out, in their order.
type reading struct{ results pgx.BatchResults }

func (r reading) Exec(context.Context, string, ...any) (pgconn.CommandTag, error) {
	return r.results.Exec() //nolint:wrapcheck // whoever asks says what for
}

func (r reading) Query(context.Context, string, ...any) (pgx.Rows, error) {
	return r.results.Query() //nolint:wrapcheck // whoever asks says what for
}

func (r reading) QueryRow(context.Context, string, ...any) pgx.Row { return r.results.QueryRow() }

func (l Limits) params() queries.SetLimitsParams {
	scans := "on"
	if l.ByIndex {
		scans = "off"
	}
	return queries.SetLimitsParams{
		StatementTimeout: milliseconds(l.Statement),
		LockTimeout:      milliseconds(l.Lock),
		IdleTimeout:      milliseconds(l.Idle),
		LockTTL:          milliseconds(l.Life),
		Scans:            scans,
	}
}

// milliseconds never says 0, which Postgres reads as "no limit", nor more than the 24 days that it can count.
func milliseconds(d time.Duration) string {
	return strconv.FormatInt(min(max(d.Milliseconds(), 1), math.MaxInt32), 10)
}

// InTx runs fn in a transaction under the limits and commits it. fn's error, a panic or a
// cancelled context rolls it back. A lost COMMIT is reported as [ErrCommitUnknown].
func InTx(ctx context.Context, pool Beginner, limits Limits, fn func(tx *Tx) error) error {
	tx := Begin(pool, limits)
	defer tx.Rollback(ctx)
	if err := fn(tx); err != nil {
		return err
	}
	return tx.Commit(ctx)
}

// Commit commits what was written. An error that wraps [ErrCommitUnknown] means that nobody
// knows; any other error means that the transaction was rolled back.
func (t *Tx) Commit(ctx context.Context) error {
	return t.CommitWith(ctx, func(*queries.Queries) error { return nil })
}

// CommitWith is [Tx.Commit] in one message with the statements of last, of which nothing is read
// but whether they failed.
func (t *Tx) CommitWith(ctx context.Context, last func(q *queries.Queries) error) error {
	batch := &pgx.Batch{}
	if err := t.endWith(ctx, batch, last); err != nil || batch.Len() == 0 {
		return err
	}
	results := t.begun.SendBatch(ctx, batch)
	if err := t.readCommitted(ctx, results, batch.Len()); err != nil {
		return err
	}
	_ = results.Close() // all is read
	t.release(ctx)
	return nil
}

// CommitAnd is [Tx.CommitWith] and, in the same message, the beginning of the transaction that follows on
// the same connection under the same limits, with first as [Tx.Together] says. From then on t is that one.
// Where committed is an error nothing has begun; else begun says whether what followed went well.
func (t *Tx) CommitAnd(ctx context.Context, last, first func(q *queries.Queries) error) (committed, begun error) {
	batch := &pgx.Batch{}
	if err := t.endWith(ctx, batch, last); err != nil {
		return err, nil
	}
	if batch.Len() == 0 { // there is nothing to commit
		return nil, t.Together(ctx, first)
	}
	n := batch.Len()
	batch.Queue(beginning)
	t.limit(ctx, batch)
	if err := first(queries.New(sending{batch})); err != nil {
		return err, nil
	}
	results := t.begun.SendBatch(ctx, batch)
	if err := t.readCommitted(ctx, results, n); err != nil {
		return err, nil
	}
	return nil, t.readBegun(ctx, results, first)
}

// endWith sends the statements of last and COMMIT, or nothing where that cannot be.
func (t *Tx) endWith(ctx context.Context, batch *pgx.Batch, last func(q *queries.Queries) error) error {
	if err := ctx.Err(); err != nil {
		t.Rollback(ctx)
		return fmt.Errorf("commit: %w", err)
	}
	if t.begun == nil || t.failed != nil {
		return t.failed
	}
	if err := last(queries.New(sending{batch})); err != nil {
		return err
	}
	batch.Queue("commit")
	return nil
}

// readCommitted reads n answers, of which the last is to COMMIT. Where it fails the transaction has ended.
func (t *Tx) readCommitted(ctx context.Context, results pgx.BatchResults, n int) error {
	var tag pgconn.CommandTag
	var err error
	for i := 0; i < n && err == nil; i++ {
		tag, err = results.Exec()
	}
	if err == nil && tag.String() == "ROLLBACK" {
		err = pgx.ErrTxCommitRollback
	}
	if err == nil {
		return nil
	}
	_ = results.Close()
	t.Rollback(ctx) // gives the connection back
	// Not pgconn.SafeToRetry: it is true, too, when the answer to COMMIT was lost.
	if pgErr, answered := errors.AsType[*pgconn.PgError](err); errors.Is(err, pgx.ErrTxCommitRollback) ||
		answered && pgErr.SeverityUnlocalized == "ERROR" {
		return fmt.Errorf("commit: %w", err)
	}
	return fmt.Errorf("commit: %w: %w", ErrCommitUnknown, err)
}

// release gives the connection of a transaction that has ended back to the pool: pgx does that
// with a commit, of which a context that is over lets it send nothing.
func (t *Tx) release(ctx context.Context) {
	over, cancel := context.WithCancel(ctx)
	cancel()
	_ = t.begun.Commit(over)
}

// Rollback rolls back what was written, also when ctx is cancelled; after a commit it does nothing. It
// cannot fail: where the server does not answer, pgx closes the connection, and the
// server rolls back what a closed connection has begun.
func (t *Tx) Rollback(ctx context.Context) {
	if t.begun != nil {
		Rollback(ctx, t.begun)
	}
}

// Rollback is [Tx.Rollback] for a transaction of pgx.
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
		if _, err := queries.New(tx).SetLimits(ctx, limits.params()); err != nil {
			return fmt.Errorf("set the transaction's limits: %w", err)
		}
		return fn(tx)
	})
}

// Repeat makes a transaction that can meet other writers of the same rows, and again where it did: as it is whole
// or not there at all, and making it twice changes nothing, that is safe.
func Repeat(ctx context.Context, do func(ctx context.Context) error) error {
	backoff := retry.WithMaxRetries(5, retry.WithJitterPercent(50, retry.NewExponential(20*time.Millisecond)))
	return retry.Do(ctx, backoff, func(ctx context.Context) error { //nolint:wrapcheck // it is do's
		err := do(ctx)
		switch Code(err) {
		case CodeDeadlock, CodeSerialization, CodeLockNotAvailable:
			return retry.RetryableError(err)
		}
		return err
	})
}
