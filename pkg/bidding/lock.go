package bidding

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/sethvargo/go-retry"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/posting"
)

var (
	// ErrLocked means that someone else held the lock for the whole wait.
	ErrLocked = errors.New("the posting is locked by another attempt")
	// ErrLockExpired means that the holder outlived its lock: the server has rolled its
	// transaction back and the next holder may be at work. Nothing was written.
	ErrLockExpired = errors.New("the lock on the posting has expired, nothing was written")
)

const (
	// retryBase and retryCap bound the sleep between two tries for a lock.
	retryBase = 5 * time.Millisecond
	retryCap  = 250 * time.Millisecond
	// rowLockTimeout bounds the wait for a row or index entry that a writer who never
	// takes the lock keeps open: it must not stall a batch until the statement time-out.
	rowLockTimeout = 500 * time.Millisecond
	// idleLimit is the longest silence of a claim before the server ends it.
	idleLimit = 10 * time.Second
)

// Limits bound the transactions that hold locks. The server enforces them.
type Limits struct {
	// TTL is the longest life of a transaction that holds a lock.
	TTL time.Duration
	// Statement is the longest a statement may run.
	Statement time.Duration
	// Wait is how long a claim waits for the lock of a posting to find out what became of
	// a COMMIT that was never answered.
	Wait time.Duration
}

// Locker guards critical sections on a posting beside the claim, with the claim's own
// lock. The lock lives and dies with a transaction: a crash frees it at once, a frozen
// holder is cut by the server after the TTL, and since the holder's writes are in that
// same transaction, a holder that was cut has written nothing. There is nothing to
// renew, and no way to go on believing in a lock that is gone.
type Locker struct {
	pool     *pgxpool.Pool
	limits   Limits
	counters *Counters
}

// NewLocker returns a Locker that counts into counters.
func NewLocker(pool *pgxpool.Pool, limits Limits, counters *Counters) *Locker {
	return &Locker{pool: pool, limits: limits, counters: counters}
}

// Lock is a held lock, and the transaction to write under it. It is not safe for
// concurrent use.
type Lock struct {
	tx      *db.Tx
	ttl     time.Duration
	started time.Time
}

// Acquire gets the lock of a posting, waiting for it up to wait; 0 is one try. No
// connection is held between tries. It fails with [ErrLocked] when the wait is over, and
// with the context's error when that ends first.
func (l *Locker) Acquire(ctx context.Context, marketplace, jobID string, wait time.Duration) (*Lock, error) {
	key, err := posting.ParseKey(marketplace, jobID)
	if err != nil {
		return nil, fmt.Errorf("lock a posting: %w", err)
	}
	var lock *Lock
	conflicted := false
	err = untilUnlocked(ctx, wait, func(ctx context.Context) error {
		var err error
		lock, err = l.try(ctx, key)
		conflicted = conflicted || errors.Is(err, ErrLocked)
		return err
	})
	l.counters.addLock(err == nil, conflicted, errors.Is(err, ErrLocked))
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", key, err)
	}
	return lock, nil
}

func (l *Locker) try(ctx context.Context, key posting.Key) (*Lock, error) {
	started := time.Now()
	tx := db.Begin(l.pool, db.Limits{
		Statement: l.limits.Statement, Lock: rowLockTimeout, Idle: l.limits.TTL, Life: l.limits.TTL,
	})
	rows, err := queries.New(tx).LockPostings(ctx, []string{key.Marketplace}, []string{key.JobID})
	if err == nil && !rows[0].Locked {
		err = ErrLocked
	}
	if err != nil {
		tx.Rollback(ctx)
		return nil, err
	}
	return &Lock{tx: tx, ttl: l.limits.TTL, started: started}, nil
}

// Tx is the transaction that holds the lock. What is written through it becomes visible
// with [Lock.Release]. Do not commit it, and take no further locks in a savepoint: they
// would go with it.
func (l *Lock) Tx() pgx.Tx { return l.tx.Begun() }

// Release commits what was written and frees the lock. It fails with [ErrLockExpired],
// and has committed nothing, when the lock has lived too long. Only after
// [db.ErrCommitUnknown] without that it may have been committed.
func (l *Lock) Release(ctx context.Context) error {
	// From here on the server ends the session when the lock's life does, so that a holder
	// that freezes before its COMMIT cannot commit late, on servers of every version.
	left, err := queries.New(l.tx).LimitRemainingLife(ctx)
	if err == nil && left <= 0 {
		err = ErrLockExpired
	}
	if err == nil {
		err = l.tx.Commit(ctx)
	}
	if err != nil {
		l.tx.Rollback(ctx)
		return l.explain(err)
	}
	return nil
}

// Discard rolls back what was written and frees the lock.
func (l *Lock) Discard(ctx context.Context) { l.tx.Rollback(ctx) }

// WithLock runs fn while the lock of a posting is held and commits what it wrote, or
// rolls it back when fn fails or panics. Errors are those of [Locker.Acquire] and
// [Lock.Release], and fn's own, which wrap [ErrLockExpired] when the server cut it off.
func (l *Locker) WithLock(
	ctx context.Context, marketplace, jobID string, wait time.Duration, fn func(ctx context.Context, tx pgx.Tx) error,
) error {
	lock, err := l.Acquire(ctx, marketplace, jobID, wait)
	if err != nil {
		return err
	}
	defer lock.Discard(ctx)
	if err := fn(ctx, lock.Tx()); err != nil {
		return lock.explain(err)
	}
	return lock.Release(ctx)
}

// explain adds ErrLockExpired to the many ways in which a cut transaction shows: the
// server's own words, a connection that is simply gone, or a refused COMMIT.
func (l *Lock) explain(err error) error {
	if !errors.Is(err, ErrLockExpired) && expired(err, l.started, l.ttl) {
		return fmt.Errorf("%w: %w", ErrLockExpired, err)
	}
	return err
}

func expired(err error, started time.Time, ttl time.Duration) bool {
	switch db.Code(err) {
	case db.CodeIdleInTransaction, db.CodeTransactionTimeout:
		return true
	case db.CodeCheckViolation:
		return db.Constraint(err) == "bids_commit_within_lock_ttl"
	}
	// A COMMIT that was not answered may have been in time.
	return db.IsLost(err) && !errors.Is(err, db.ErrCommitUnknown) && time.Since(started) >= ttl
}

// untilUnlocked calls try until it does not fail with ErrLocked, for at most wait, and
// returns its last error.
func untilUnlocked(ctx context.Context, wait time.Duration, try func(ctx context.Context) error) error {
	if wait <= 0 {
		return try(ctx)
	}
	backoff := retry.WithMaxDuration(wait, retry.WithJitterPercent(50, retry.WithCappedDuration(retryCap, retry.NewExponential(retryBase))))
	return retry.Do(ctx, backoff, func(ctx context.Context) error { //nolint:wrapcheck // the caller's own errors
		err := try(ctx)
		if errors.Is(err, ErrLocked) {
			return retry.RetryableError(err)
		}
		return err
	})
}
