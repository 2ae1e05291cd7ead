package bidding

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/pkg/posting"
)

func (f *fixture) locker() *Locker { return NewLocker(f.pool, f.limits, &f.counters) }

// write is something to do under a lock.
func write(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, insertLive, "upwork", "1")
	return err
}

func (f *fixture) wantLocks(t *testing.T, wanted Locks) {
	t.Helper()
	want(t, "lock counters", f.counters.Counts().Locks, wanted)
}

func TestLock(t *testing.T) {
	t.Parallel()
	f := setup(t)
	l := f.locker()

	lock, err := l.Acquire(t.Context(), " UpWork ", " 1 ", 0) // any spelling of the same posting
	if err != nil {
		t.Fatal(err)
	}
	if err := write(t.Context(), lock.Tx()); err != nil {
		t.Fatal(err)
	}
	want(t, "visible before the release", f.live(t), 0)
	_, err = l.Acquire(t.Context(), "upwork", "1", 0)
	want(t, "second holder", errors.Is(err, ErrLocked), true)
	want(t, "attempt under the lock", verdict(attempt(t, f.claimer(), job("1"), AttemptOptions{})), "locked")
	other, err := l.Acquire(t.Context(), "upwork", "2", 0)
	if err != nil {
		t.Fatal(err)
	}
	other.Discard(t.Context())

	want(t, "release", lock.Release(t.Context()), nil)
	want(t, "visible after the release", f.live(t), 1)
	f.wantLocks(t, Locks{Attempts: 4, Successes: 2, Conflicts: 2, Timeouts: 2})

	again, err := l.Acquire(t.Context(), "upwork", "1", 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := again.Tx().Exec(t.Context(), "UPDATE bids SET amount_cents = 99"); err != nil {
		t.Fatal(err)
	}
	again.Discard(t.Context())
	again.Discard(t.Context()) // harmless
	want(t, "written by the one who let it be", f.count(t, "bids WHERE amount_cents = 99"), 0)
	if err := again.Release(t.Context()); err == nil {
		t.Error("released what was discarded")
	}
	want(t, "connections in use", f.pool.Stat().AcquiredConns(), 0)
}

func TestLockKey(t *testing.T) {
	t.Parallel()
	f := setup(t)
	l := f.locker()

	// Held from plain SQL, under the key that everybody may compute.
	release := f.hold(t, job("1"))
	_, err := l.Acquire(t.Context(), "upwork", "1", 0)
	want(t, "held from SQL", errors.Is(err, ErrLocked), true)
	release()

	lock, err := l.Acquire(t.Context(), "upwork", "1", 0)
	if err != nil {
		t.Fatal(err)
	}
	want(t, "free in SQL", read[bool](t, f, "SELECT pg_try_advisory_xact_lock(bid_lock_key('upwork', '1'))"), false)
	lock.Discard(t.Context())
	want(t, "free in SQL", read[bool](t, f, "SELECT pg_try_advisory_xact_lock(bid_lock_key('upwork', '1'))"), true)

	_, err = l.Acquire(t.Context(), "upwork", "None", 0)
	_, isReject := errors.AsType[*posting.Reject](err)
	want(t, "no posting", isReject, true)
	f.wantLocks(t, Locks{Attempts: 2, Successes: 1, Conflicts: 1, Timeouts: 1})
}

// TestLockWait has many wait for one lock: they hold it one after the other, and nobody
// holds a connection meanwhile.
func TestLockWait(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.pool = openPool(t, f.URL, 2)
	l := f.locker()
	release := f.hold(t, job("1"))
	var (
		mu      sync.Mutex
		holders int
		most    int
	)
	const waiters = 10
	done := make(chan struct{})
	go func() {
		defer close(done)
		concurrently(waiters, func(int) {
			err := l.WithLock(t.Context(), "upwork", "1", patience, func(ctx context.Context, tx pgx.Tx) error {
				mu.Lock()
				holders++
				most = max(most, holders)
				mu.Unlock()
				_, err := tx.Exec(ctx, "SELECT pg_sleep(0.01)")
				mu.Lock()
				holders--
				mu.Unlock()
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}()
	eventually(t, "some have tried", func() bool { return f.pool.Stat().AcquireCount() > waiters })
	release()
	<-done
	want(t, "holders at a time", most, 1)
	conflicts := f.counters.Counts().Locks.Conflicts
	want(t, "conflicts", 1 <= conflicts && conflicts <= waiters, true)
	f.wantLocks(t, Locks{Attempts: waiters, Successes: waiters, Conflicts: conflicts})
}

func TestLockTimeout(t *testing.T) {
	t.Parallel()
	f := setup(t)
	l := f.locker()
	release := f.hold(t, job("1"))
	defer release()

	const wait = 200 * time.Millisecond
	started := time.Now()
	_, err := l.Acquire(t.Context(), "upwork", "1", wait)
	want(t, "time-out", errors.Is(err, ErrLocked), true)
	if took := time.Since(started); took < wait {
		t.Errorf("gave up after %v, want %v", took, wait)
	}
	f.wantLocks(t, Locks{Attempts: 1, Conflicts: 1, Timeouts: 1})

	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := l.Acquire(ctx, "upwork", "1", patience)
		done <- err
	}()
	before := f.pool.Stat().AcquireCount()
	eventually(t, "it has tried", func() bool { return f.pool.Stat().AcquireCount() > before+1 })
	cancel()
	err = <-done
	want(t, "cancelled", errors.Is(err, context.Canceled), true)
	want(t, "no time-out", errors.Is(err, ErrLocked), false)

	_, err = l.Acquire(ctx, "upwork", "1", 0)
	want(t, "cancelled before", errors.Is(err, context.Canceled), true)
	f.wantLocks(t, Locks{Attempts: 3, Conflicts: 2, Timeouts: 1})
}

// TestLockBroken: a session that breaks while it asks for the lock is an error, not a time-out.
func TestLockBroken(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.raising(t, "XX000", 1)
	_, err := f.locker().Acquire(t.Context(), "upwork", "1", patience)
	want(t, "error", db.Code(err), "XX000")
	f.wantLocks(t, Locks{Attempts: 1})
}

func TestWithLock(t *testing.T) {
	t.Parallel()
	f := setup(t)
	l := f.locker()
	inLock := func(fn func(ctx context.Context, tx pgx.Tx) error) error {
		return l.WithLock(t.Context(), "upwork", "1", 0, fn)
	}

	failure := errors.New("not today")
	err := inLock(func(ctx context.Context, tx pgx.Tx) error {
		return errors.Join(write(ctx, tx), failure)
	})
	want(t, "error", errors.Is(err, failure), true)
	want(t, "written despite the error", f.live(t), 0)

	func() {
		defer func() { want(t, "panic", recover(), any("at the lock")) }()
		_ = inLock(func(ctx context.Context, tx pgx.Tx) error {
			if err := write(ctx, tx); err != nil {
				t.Error(err)
			}
			panic("at the lock")
		})
	}()
	want(t, "written despite the panic", f.live(t), 0)

	want(t, "no error", inLock(write), nil)
	want(t, "written", f.live(t), 1)

	// An error that was swallowed still keeps it from being committed.
	err = inLock(func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "UPDATE bids SET amount_cents = 99"); err != nil {
			return err
		}
		_ = write(ctx, tx) // a second live bid
		return nil
	})
	want(t, "swallowed", err != nil && !errors.Is(err, ErrLockExpired), true)
	want(t, "written despite the swallowed error", f.count(t, "bids WHERE amount_cents = 99"), 0)

	err = inLock(func(ctx context.Context, _ pgx.Tx) error {
		return l.WithLock(ctx, "upwork", "1", 0, func(context.Context, pgx.Tx) error { return failure })
	})
	want(t, "the lock twice", errors.Is(err, ErrLocked), true)
	want(t, "connections in use", f.pool.Stat().AcquiredConns(), 0)
	f.wantLocks(t, Locks{Attempts: 6, Successes: 5, Conflicts: 1, Timeouts: 1})
}

// TestReleaseUnanswered: nobody knows, and nobody claims to.
func TestReleaseUnanswered(t *testing.T) {
	t.Parallel()
	f, proxy := setupProxy(t)
	f.limits.TTL = 500 * time.Millisecond
	finish := f.slowCommit(t, false)
	lock, err := f.locker().Acquire(t.Context(), "upwork", "1", 0)
	if err != nil {
		t.Fatal(err)
	}
	f.undoLimits(t, lock.Tx())
	if err := write(t.Context(), lock.Tx()); err != nil {
		t.Fatal(err)
	}
	cut := make(chan struct{})
	go func() {
		defer close(cut)
		f.waiting(t)
		f.exec(t, "SELECT pg_sleep(0.6)") // until the lock's life would be over
		proxy.Cut()
	}()
	err = lock.Release(t.Context())
	<-cut
	want(t, "unknown", errors.Is(err, db.ErrCommitUnknown), true)
	want(t, "expired", errors.Is(err, ErrLockExpired), false)
	finish()
}
