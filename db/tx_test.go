package db_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/test/netfault"
	"github.com/arbitrageai/bidder/test/testdb"
)

// settings reads everything that a transaction's limits change.
func settings(t *testing.T, conn querier) map[string]string {
	t.Helper()
	read := map[string]string{}
	for _, name := range []string{
		"statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "transaction_timeout",
		"bidder.lock_ttl", "plan_cache_mode", "enable_seqscan", "enable_bitmapscan", "synchronous_commit",
	} {
		read[name] = value[string](t, conn, "SELECT coalesce(current_setting($1, true), '')", name)
	}
	return read
}

// Limits hold inside the transaction, however it ends, and nowhere else.
func TestLimits(t *testing.T) {
	t.Parallel()
	database := testdb.New(t)
	exec(t, database.Pool(t), fmt.Sprintf("ALTER DATABASE %s SET synchronous_commit = off", database.Name))
	pool := open(t, database.URL, 1)
	before := settings(t, pool)
	if before["synchronous_commit"] != "off" {
		t.Fatalf("synchronous_commit is %s", before["synchronous_commit"])
	}
	narrow := db.Limits{
		Statement: 61 * time.Second, Lock: 1500 * time.Millisecond, Idle: 2 * time.Second, Life: 90 * time.Second, ByIndex: true,
	}
	want := map[string]string{
		"statement_timeout": "61s", "lock_timeout": "1500ms", "idle_in_transaction_session_timeout": "2s",
		"bidder.lock_ttl": "90000", "plan_cache_mode": "force_generic_plan", "enable_seqscan": "off", "enable_bitmapscan": "off",
		"synchronous_commit": "on",
	}
	if _, has := hasTransactionTimeout(t, pool); has {
		want["transaction_timeout"] = "90s"
	} else {
		want["transaction_timeout"] = ""
	}
	broken := errors.New("broken")
	for _, end := range []error{nil, broken} {
		err := db.InTx(t.Context(), pool, narrow, func(tx *db.Tx) error {
			if diff := cmp.Diff(want, settings(t, tx)); diff != "" {
				t.Errorf("inside the transaction (-want +got):\n%s", diff)
			}
			return end
		})
		if !errors.Is(err, end) {
			t.Errorf("InTx: %v, want %v", err, end)
		}
		after := settings(t, pool)
		if diff := cmp.Diff(before, after); diff != "" {
			t.Errorf("after the transaction (-before +after):\n%s", diff)
		}
	}
	if err := db.InTx(t.Context(), pool, limits, func(tx *db.Tx) error {
		for _, name := range []string{"enable_seqscan", "enable_bitmapscan"} {
			if got := settings(t, tx)[name]; got != "on" {
				t.Errorf("%s is %s without ByIndex", name, got)
			}
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

func hasTransactionTimeout(t *testing.T, conn querier) (version int, has bool) {
	t.Helper()
	version = value[int](t, conn, "SELECT current_setting('server_version_num')::int")
	return version, version >= 170000
}

// Only a commit that a power cut can undo is made safer; what is safe enough stays.
func TestLimitsKeepSafeCommits(t *testing.T) {
	t.Parallel()
	for _, level := range []string{"on", "local", "remote_apply"} {
		t.Run(level, func(t *testing.T) {
			t.Parallel()
			database := testdb.New(t)
			exec(t, database.Pool(t), fmt.Sprintf("ALTER DATABASE %s SET synchronous_commit = %s", database.Name, level))
			if err := db.InTx(t.Context(), open(t, database.URL, 1), limits, func(tx *db.Tx) error {
				if got := settings(t, tx)["synchronous_commit"]; got != level {
					t.Errorf("synchronous_commit is %s, want %s", got, level)
				}
				return nil
			}); err != nil {
				t.Error(err)
			}
		})
	}
}

// Durations that Postgres cannot express are rounded to those that it can, never to none.
func TestLimitsOutOfRange(t *testing.T) {
	t.Parallel()
	pool := open(t, testdb.New(t).URL, 1)
	wide := db.Limits{Statement: 365 * 24 * time.Hour, Lock: 365 * 24 * time.Hour, Idle: 365 * 24 * time.Hour, Life: 365 * 24 * time.Hour}
	if err := db.InTx(t.Context(), pool, wide, func(*db.Tx) error { return nil }); err != nil {
		t.Errorf("a year: %v", err)
	}
	tiny := limits
	tiny.Lock = 0
	if err := db.InTx(t.Context(), pool, tiny, func(tx *db.Tx) error {
		if got := settings(t, tx)["lock_timeout"]; got != "1ms" {
			t.Errorf("no time at all became %q", got)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

func TestStatementIsCut(t *testing.T) {
	t.Parallel()
	pool := open(t, testdb.New(t).URL, 1)
	short := limits
	short.Statement = 20 * time.Millisecond
	err := db.InTx(t.Context(), pool, short, func(tx *db.Tx) error {
		_, err := tx.Exec(t.Context(), "SELECT pg_sleep(60)")
		return err
	})
	if db.Code(err) != db.CodeQueryCanceled {
		t.Errorf("got %v", err)
	}
	wantUsable(t, pool)
}

func TestLockWaitIsCut(t *testing.T) {
	t.Parallel()
	database := testdb.New(t)
	exec(t, database.Pool(t), "INSERT INTO runs (kind) VALUES ('run')")
	holder := begin(t, database.Pool(t))
	exec(t, holder, "SELECT FROM runs FOR UPDATE")
	pool := open(t, database.URL, 1)
	short := limits
	short.Lock = 20 * time.Millisecond
	err := db.InTx(t.Context(), pool, short, func(tx *db.Tx) error {
		_, err := tx.Exec(t.Context(), "UPDATE runs SET host = 'x'")
		return err
	})
	if db.Code(err) != db.CodeLockNotAvailable {
		t.Errorf("got %v", err)
	}
	wantUsable(t, pool)
}

func TestSilenceIsCut(t *testing.T) {
	t.Parallel()
	database := testdb.New(t)
	watch, pool := database.Pool(t), open(t, database.URL, 1)
	short := limits
	short.Idle = 500 * time.Millisecond // enough for the first statement
	err := db.InTx(t.Context(), pool, short, func(tx *db.Tx) error {
		exec(t, tx, "SELECT")
		awaitGone(t, watch)
		_, err := tx.Exec(t.Context(), "SELECT")
		return err
	})
	if !db.IsLost(err) || !db.IsUnavailable(err) {
		t.Errorf("got %v", err)
	}
	wantUsable(t, pool)
}

// awaitGone waits until no transaction is open in the database but its own.
func awaitGone(t *testing.T, conn querier) {
	t.Helper()
	await(t, "the server ends the transaction", func() bool {
		return value[bool](t, conn, `SELECT NOT EXISTS (SELECT FROM pg_stat_activity
			WHERE datname = current_database() AND pid <> pg_backend_pid() AND state LIKE 'idle in transaction%')`)
	})
}

// A transaction's life ends although each statement is short, and also where the server's
// own limit is wider.
func TestLifeIsCut(t *testing.T) {
	t.Parallel()
	for _, configured := range []string{"0", "1h"} {
		t.Run("server says "+configured, func(t *testing.T) {
			t.Parallel()
			database := testdb.New(t)
			if version, has := hasTransactionTimeout(t, database.Pool(t)); !has {
				t.Skipf("server version %d has no transaction_timeout", version)
			}
			exec(t, database.Pool(t), fmt.Sprintf("ALTER DATABASE %s SET transaction_timeout = '%s'", database.Name, configured))
			pool := open(t, database.URL, 1)
			short := limits
			short.Life = 100 * time.Millisecond
			err := db.InTx(t.Context(), pool, short, func(tx *db.Tx) error {
				for range 500 {
					if _, err := tx.Exec(t.Context(), "SELECT pg_sleep(0.01)"); err != nil {
						return err
					}
				}
				return errors.New("the transaction lives on")
			})
			if !db.IsLost(err) || !db.IsUnavailable(err) {
				t.Errorf("got %v", err)
			}
			wantUsable(t, pool)
		})
	}
}

// wantUsable checks that no connection is held, and that the pool works.
func wantUsable(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	await(t, "no connection is held", func() bool { return pool.Stat().AcquiredConns() == 0 })
	exec(t, pool, "SELECT")
}

// rewriting begins transactions in another way than it was asked for.
type rewriting struct {
	db.Beginner

	begin string
}

func (r rewriting) SendBatch(ctx context.Context, batch *pgx.Batch) pgx.BatchResults {
	batch.QueuedQueries[0].SQL = r.begin
	return r.Beginner.SendBatch(ctx, batch)
}

func TestIsolation(t *testing.T) {
	t.Parallel()
	database := testdb.New(t)
	exec(t, database.Pool(t), fmt.Sprintf("ALTER DATABASE %s SET default_transaction_isolation = serializable", database.Name))
	pool := open(t, database.URL, 1)
	if err := db.InTx(t.Context(), pool, limits, func(tx *db.Tx) error {
		if got := value[string](t, tx, "SHOW transaction_isolation"); got != "read committed" {
			t.Errorf("the transaction is %s", got)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	for _, level := range []pgx.TxIsoLevel{pgx.RepeatableRead, pgx.Serializable} {
		for how, first := range firstStatements() {
			err := db.InTx(t.Context(), rewriting{pool, "begin isolation level " + string(level)}, limits, func(tx *db.Tx) error {
				for range 2 { // also whoever does not listen
					if err := first(t.Context(), tx, "INSERT INTO runs (kind) VALUES ('run') RETURNING 1"); !errors.Is(err, db.ErrIsolation) {
						t.Errorf("%s in a %s transaction: %v", how, level, err)
					}
				}
				return nil
			})
			wantIs(t, err, db.ErrIsolation)
			wantUsable(t, pool)
		}
	}
	if rows := value[int](t, pool, "SELECT count(*)::int FROM runs"); rows != 0 {
		t.Errorf("%d rows were written", rows)
	}
}

// firstStatements are the ways to run the first statement of a transaction.
func firstStatements() map[string]func(ctx context.Context, tx *db.Tx, sql string) error {
	return map[string]func(ctx context.Context, tx *db.Tx, sql string) error{
		"Exec": func(ctx context.Context, tx *db.Tx, sql string) error {
			_, err := tx.Exec(ctx, sql)
			return err
		},
		"Query": func(ctx context.Context, tx *db.Tx, sql string) error {
			rows, err := tx.Query(ctx, sql)
			if err != nil {
				return err
			}
			_, err = pgx.CollectRows(rows, pgx.RowTo[int])
			return err
		},
		"QueryRow": func(ctx context.Context, tx *db.Tx, sql string) error {
			var n int
			return tx.QueryRow(ctx, sql).Scan(&n)
		},
		"Together": func(ctx context.Context, tx *db.Tx, _ string) error {
			return tx.Together(ctx, func(q *queries.Queries) error {
				_, err := q.StartRun(ctx, queries.StartRunParams{ID: uuid.New(), Kind: "run"})
				return err
			})
		},
	}
}

func TestBeginFails(t *testing.T) {
	t.Parallel()
	pool := open(t, testdb.New(t).URL, 1)
	for how, first := range firstStatements() {
		tx := db.Begin(pool, limits)
		if err := first(canceled(t), tx, "SELECT 1"); !errors.Is(err, context.Canceled) {
			t.Errorf("%s when interrupted: %v", how, err)
		}
		tx.Rollback(t.Context())
		for begin, code := range map[string]string{"begin isolation level none": "42601", "begin read only": db.CodeReadOnly} {
			tx := db.Begin(rewriting{pool, begin}, limits)
			if err := first(t.Context(), tx, "INSERT INTO runs (kind) VALUES ('run') RETURNING 1"); db.Code(err) != code {
				t.Errorf("%s after %s: %v", how, begin, err)
			}
			tx.Rollback(t.Context())
		}
	}
	nothing := func(*db.Tx) error { return nil }
	if err := db.InTx(canceled(t), pool, limits, nothing); !errors.Is(err, context.Canceled) {
		t.Errorf("commit when interrupted: %v", err)
	}
	if err := db.InTx(t.Context(), pool, limits, nothing); err != nil {
		t.Errorf("a transaction of nothing: %v", err)
	}
	if err := db.ReadOnly(canceled(t), pool, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("read when interrupted: %v", err)
	}
	wantUsable(t, pool)
}

// Whatever ends fn, nothing is written and the connection is given back as good as before.
func TestInTxRollsBack(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	tests := []struct {
		name string
		fn   func(cancel func(), tx *db.Tx) error
		want error
	}{
		{"error", func(func(), *db.Tx) error { return broken }, broken},
		{"panic", func(func(), *db.Tx) error { panic(broken) }, broken},
		{"interrupted", func(cancel func(), _ *db.Tx) error {
			cancel()
			return context.Canceled
		}, context.Canceled},
		{"interrupted unnoticed", func(cancel func(), _ *db.Tx) error {
			cancel()
			return nil
		}, context.Canceled},
		{"swallowed error", func(_ func(), tx *db.Tx) error {
			_, _ = tx.Exec(context.Background(), "SELECT 1 / 0") // swallowed
			return nil
		}, pgx.ErrTxCommitRollback},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			database := testdb.New(t)
			pool := open(t, database.URL, 1)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			err := func() (err error) {
				defer func() {
					if panicked, ok := recover().(error); ok {
						err = panicked
					}
				}()
				return db.InTx(ctx, pool, limits, func(tx *db.Tx) error {
					exec(t, tx, "INSERT INTO runs (kind) VALUES ('run')")
					return tt.fn(cancel, tx)
				})
			}()
			wantIs(t, err, tt.want, db.ErrCommitUnknown)
			wantUsable(t, pool)
			if rows := value[int](t, database.Pool(t), "SELECT count(*)::int FROM runs"); rows != 0 {
				t.Errorf("%d rows were written", rows)
			}
			if made := pool.Stat().NewConnsCount(); made != 1 {
				t.Errorf("the connection was thrown away")
			}
		})
	}
}

func TestCommit(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		spoil   func(t *testing.T, proxy *netfault.Proxy, tx *db.Tx) context.Context
		unknown bool
		kept    bool
	}{
		{"answered", func(t *testing.T, _ *netfault.Proxy, _ *db.Tx) context.Context {
			t.Helper()
			return t.Context()
		}, false, true},
		{"refused", func(t *testing.T, _ *netfault.Proxy, tx *db.Tx) context.Context {
			t.Helper()
			exec(t, tx, "SELECT set_config('bidder.lock_ttl', '0', true)")
			return t.Context()
		}, false, false},
		{"interrupted before", func(t *testing.T, _ *netfault.Proxy, _ *db.Tx) context.Context {
			t.Helper()
			return canceled(t)
		}, false, false},
		{"ended by the server", func(t *testing.T, _ *netfault.Proxy, tx *db.Tx) context.Context {
			t.Helper()
			exec(t, tx, `CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS
				$$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$;
				CREATE CONSTRAINT TRIGGER die AFTER INSERT ON runs DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION die()`)
			exec(t, tx, "INSERT INTO runs (kind) VALUES ('run')")
			return t.Context()
		}, true, false},
		{"answer lost", func(t *testing.T, proxy *netfault.Proxy, _ *db.Tx) context.Context {
			t.Helper()
			proxy.DropAnswerTo(testdb.Running("commit"))
			return t.Context()
		}, true, true},
		{"lost on the way", func(t *testing.T, proxy *netfault.Proxy, _ *db.Tx) context.Context {
			t.Helper()
			proxy.CutBefore(testdb.Running("commit"))
			return t.Context()
		}, true, false},
		{"too slow", func(t *testing.T, proxy *netfault.Proxy, _ *db.Tx) context.Context {
			t.Helper()
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			t.Cleanup(cancel)
			proxy.Blackhole(true)
			return ctx
		}, true, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			database := testdb.New(t)
			proxy := netfault.New(t, database.URL)
			pool := open(t, proxy.URL, 1)
			tx := db.Begin(pool, limits)
			exec(t, tx, "INSERT INTO bids (marketplace, job_id, amount_cents) VALUES ('upwork', '1', 100)")

			err := tx.CommitWith(tt.spoil(t, proxy, tx), func(q *queries.Queries) error {
				return q.PauseAccount(t.Context(), queries.PauseAccountParams{Marketplace: "upwork", Account: "*", Reason: "test", PausedBy: "test"})
			})
			if failed := tt.unknown || !tt.kept; failed != (err != nil) {
				t.Errorf("commit: %v", err)
			}
			if errors.Is(err, db.ErrCommitUnknown) != tt.unknown {
				t.Errorf("commit: %v; is it known: %t", err, !tt.unknown)
			}
			if !tt.unknown {
				await(t, "the connection is given back", func() bool { return pool.Stat().AcquiredConns() == 0 })
			}
			if tt.unknown && !db.IsUnavailable(err) {
				t.Errorf("%v should mean that the database is unavailable", err)
			}
			proxy.Cut()
			proxy.Blackhole(false)
			tx.Rollback(t.Context())
			watch := database.Pool(t)
			awaitGone(t, watch)
			for _, table := range []string{"bids", "accounts"} {
				if kept := value[bool](t, watch, "SELECT EXISTS (SELECT FROM "+table+")"); kept != tt.kept {
					t.Errorf("%s were kept: %t, want %t", table, kept, tt.kept)
				}
			}
		})
	}
}

func TestReadOnly(t *testing.T) {
	t.Parallel()
	database := testdb.New(t)
	pool := open(t, database.URL, 1)
	const count = "SELECT count(*)::int FROM runs"
	broken := errors.New("broken")
	err := db.ReadOnly(t.Context(), pool, func(tx pgx.Tx) error {
		before := value[int](t, tx, count)
		exec(t, database.Pool(t), "INSERT INTO runs (kind) VALUES ('run')")
		if after := value[int](t, tx, count); before != 0 || after != 0 {
			t.Errorf("%d rows, then %d: not one snapshot", before, after)
		}
		return broken
	})
	wantIs(t, err, broken)
	err = db.ReadOnly(t.Context(), pool, func(tx pgx.Tx) error {
		_, err := tx.Exec(t.Context(), "DELETE FROM runs")
		return err
	})
	if db.Code(err) != db.CodeReadOnly {
		t.Errorf("a write: %v", err)
	}
	if err := db.ReadOnly(t.Context(), pool, func(tx pgx.Tx) error {
		if rows := value[int](t, tx, count); rows != 1 {
			t.Errorf("%d rows, want 1", rows)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	wantUsable(t, pool)
}

// TestView: it reads one snapshot, under limits, and writes nothing.
func TestView(t *testing.T) {
	t.Parallel()
	pool := open(t, testdb.New(t).URL, 2)
	limits := db.Limits{Statement: 61 * time.Second, Lock: time.Second, Idle: time.Minute, Life: time.Minute}
	err := db.View(t.Context(), pool, limits, func(tx pgx.Tx) error {
		if got := settings(t, tx); got["statement_timeout"] != "61s" && got["statement_timeout"] != "61000ms" || got["lock_timeout"] != "1s" {
			t.Errorf("the limits are %v", got)
		}
		before := value[int64](t, tx, "SELECT count(*) FROM postings")
		exec(t, pool, "INSERT INTO postings (marketplace, job_id, cached_at, title) VALUES ('upwork', '1', now(), 'x')")
		if after := value[int64](t, tx, "SELECT count(*) FROM postings"); after != before {
			t.Errorf("%d postings have become %d", before, after)
		}
		_, err := tx.Exec(t.Context(), "DELETE FROM postings")
		return err
	})
	if db.Code(err) != db.CodeReadOnly {
		t.Errorf("writing ended in %v", err)
	}
}
