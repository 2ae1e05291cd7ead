package bidding

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/arbitrageai/bidder/db"
)

// shortLife is a lock's life that is over soon, and long enough to get something done.
const shortLife = 300 * time.Millisecond

// expire acquires the lock of a posting, writes a bid under it and lets its life pass:
// silently, or with statements all the time, also where the server would not have that.
func (f *fixture) expire(t *testing.T, how string) *Lock {
	t.Helper()
	f.limits.TTL = shortLife
	f.cacheNow(t, job("1"))
	lock, err := f.locker().Acquire(t.Context(), "upwork", "1", 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := write(t.Context(), lock.Tx()); err != nil {
		t.Fatal(err)
	}
	switch how {
	case "silent":
		f.untilCut(t)
		return lock
	case "busy, unlimited":
		f.undoLimits(t, lock.Tx())
	}
	for range 4 {
		// Servers without transaction_timeout bear with a holder who is never silent.
		if _, err := lock.Tx().Exec(t.Context(), "SELECT pg_sleep(0.1)"); err != nil {
			want(t, "cut by the server", expired(err, lock.started, lock.ttl), true)
			break
		}
	}
	return lock
}

// TestExpired: a holder who outlives the lock is told so by whatever comes next, has written
// nothing, and keeps nobody.
func TestExpired(t *testing.T) {
	t.Parallel()
	release := func(ctx context.Context, lock *Lock) error { return lock.Release(ctx) }

	tests := []struct {
		name string
		how  string
		end  func(ctx context.Context, lock *Lock) error
		want error
	}{
		{name: "silent", how: "silent", end: release, want: ErrLockExpired},
		{name: "busy", how: "busy", end: release, want: ErrLockExpired},
		{name: "busy on a server that bears it", how: "busy, unlimited", end: release, want: ErrLockExpired},
		{name: "silent, then another statement", how: "silent", want: ErrLockExpired, end: func(ctx context.Context, lock *Lock) error {
			_, err := lock.Tx().Exec(ctx, "SELECT 1")
			return lock.explain(err)
		}},
		{name: "silent, committing past the lock", how: "silent", end: func(ctx context.Context, lock *Lock) error { return lock.Tx().Commit(ctx) }},
		{name: "busy, committing past the lock", how: "busy", end: func(ctx context.Context, lock *Lock) error { return lock.Tx().Commit(ctx) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			patient := f.claimer()
			lock := f.expire(t, tt.how)
			err := tt.end(t.Context(), lock)
			if err == nil {
				t.Error("it succeeded")
			}
			if tt.want != nil {
				want(t, "error", errors.Is(err, tt.want), true)
			}
			lock.Discard(t.Context())
			want(t, "written", f.live(t), 0)
			want(t, "the next one", verdict(attempt(t, patient, job("1"), AttemptOptions{Wait: patience})), "claimed")
			want(t, "connections in use", f.pool.Stat().AcquiredConns(), 0)
		})
	}
}

// undoLimits takes back what would have the server end the transaction before its COMMIT.
func (f *fixture) undoLimits(t *testing.T, tx pgx.Tx) {
	t.Helper()
	settings := "set_config('idle_in_transaction_session_timeout', '0', true)"
	if read[int](t, f, "SELECT current_setting('server_version_num')::int") >= 170000 {
		settings += ", set_config('transaction_timeout', '0', true)"
	}
	if _, err := tx.Exec(t.Context(), "SELECT "+settings); err != nil {
		t.Error(err)
	}
}

// TestLateCommit: where the server has no transaction_timeout, or it was undone, the COMMIT
// itself is refused: of a bid by hand, and of a claim.
func TestLateCommit(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.cacheNow(t, job("1"), job("2"))
	f.limits.TTL = shortLife
	outlive := "SELECT pg_sleep(0.4)"

	lock, err := f.locker().Acquire(t.Context(), "upwork", "1", 0)
	if err != nil {
		t.Fatal(err)
	}
	f.undoLimits(t, lock.Tx())
	if err := write(t.Context(), lock.Tx()); err != nil {
		t.Fatal(err)
	}
	if _, err := lock.Tx().Exec(t.Context(), outlive); err != nil {
		t.Fatal(err)
	}
	err = lock.Tx().Commit(t.Context())
	want(t, "refused by", db.Constraint(err), "bids_commit_within_lock_ttl")
	want(t, "explained", errors.Is(lock.explain(err), ErrLockExpired), true)

	var current pgx.Tx
	c := f.claimer(func(c *Claimer) {
		c.pool = remembering{c.pool, &current}
		c.after = func(step string) {
			switch step {
			case "locked":
				f.undoLimits(t, current)
			case "written":
				if _, err := current.Exec(t.Context(), outlive); err != nil {
					t.Error(err)
				}
			}
		}
	})
	a := attempt(t, c, job("2"), AttemptOptions{})
	want(t, "claim", verdict(a), "failed lock_expired")
	want(t, "refused by", db.Constraint(a.Err), "bids_commit_within_lock_ttl")
	want(t, "bids", f.count(t, "bids"), 0)
}

// remembering shows the transaction that was begun last.
type remembering struct {
	database

	current *pgx.Tx
}

func (r remembering) SendBatch(ctx context.Context, batch *pgx.Batch) pgx.BatchResults {
	results := r.database.SendBatch(ctx, batch)
	*r.current = results.Tx()
	return results
}

// TestExpiredWithin: the function of WithLock meets the end of the lock itself, or hides it.
func TestExpiredWithin(t *testing.T) {
	t.Parallel()
	for _, hides := range []bool{true, false} {
		t.Run(map[bool]string{true: "hidden", false: "told"}[hides], func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			f.limits.TTL = shortLife
			err := f.locker().WithLock(t.Context(), "upwork", "1", 0, func(ctx context.Context, tx pgx.Tx) error {
				if err := write(ctx, tx); err != nil {
					return err
				}
				f.untilCut(t)
				_, err := tx.Exec(ctx, "SELECT 1")
				if hides {
					return nil
				}
				return err
			})
			want(t, "expired", errors.Is(err, ErrLockExpired), true)
			want(t, "written", f.live(t), 0)
		})
	}
}
