package db_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/test/netfault"
	"github.com/arbitrageai/bidder/test/testdb"
)

// startRun is a statement that writes: a run of that kind, which may be none.
func startRun(ctx context.Context, kind string) func(q *queries.Queries) error {
	return func(q *queries.Queries) error {
		_, err := q.StartRun(ctx, queries.StartRunParams{ID: uuid.New(), Kind: kind})
		return err
	}
}

// One transaction follows the other in one message, and each comes to what it would have by itself.
func TestCommitAnd(t *testing.T) {
	t.Parallel()
	refused := errors.New("refused")
	tests := []struct {
		name      string
		spoil     func(t *testing.T, proxy *netfault.Proxy, tx *db.Tx) context.Context // unless nil, the first
		last      string                                                               // kind of run that the first writes with its COMMIT
		first     func(q *queries.Queries) error                                       // unless nil, of the second
		committed string                                                               // what the first comes to: "", "rolled back", "unknown"
		begun     string                                                               // SQLSTATE of the second
		kept      []string                                                             // kinds of the runs of the first that are there in the end
	}{
		{name: "both go well", last: "bid", kept: []string{"bid", "run"}},
		{name: "a last statement fails", last: "none", committed: "rolled back"},
		{name: "the commit is refused", last: "bid", spoil: func(t *testing.T, _ *netfault.Proxy, tx *db.Tx) context.Context {
			t.Helper()
			exec(t, tx, `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'refused'; END $$;
				CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON runs DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()`)
			return t.Context()
		}, committed: "rolled back"},
		{name: "the first had failed", last: "bid", spoil: func(t *testing.T, _ *netfault.Proxy, tx *db.Tx) context.Context {
			t.Helper()
			_, _ = tx.Exec(t.Context(), "SELECT 1 / 0")
			return t.Context()
		}, committed: "rolled back"},
		{name: "interrupted before", last: "bid", spoil: func(t *testing.T, _ *netfault.Proxy, _ *db.Tx) context.Context {
			t.Helper()
			return canceled(t)
		}, committed: "rolled back"},
		{name: "nothing can be sent", last: "bid", first: func(*queries.Queries) error { return refused }, committed: "rolled back"},
		{name: "the answer is lost", last: "bid", spoil: func(t *testing.T, proxy *netfault.Proxy, _ *db.Tx) context.Context {
			t.Helper()
			proxy.DropAnswerTo(testdb.Running("commit"))
			return t.Context()
		}, committed: "unknown", kept: []string{"bid", "run"}},
		{name: "lost on the way", last: "bid", spoil: func(t *testing.T, proxy *netfault.Proxy, _ *db.Tx) context.Context {
			t.Helper()
			proxy.CutBefore(testdb.Running("commit"))
			return t.Context()
		}, committed: "unknown"},
		{name: "the second fails", last: "bid", first: startRun(t.Context(), "none"), begun: db.CodeCheckViolation, kept: []string{"bid", "run"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			database := testdb.New(t)
			watch, proxy := database.Pool(t), netfault.New(t, database.URL)
			pool := open(t, proxy.URL, 1)
			tx := db.Begin(pool, limits)
			exec(t, tx, "INSERT INTO runs (kind) VALUES ('run')")
			ctx := t.Context()
			if tt.spoil != nil {
				ctx = tt.spoil(t, proxy, tx)
			}
			first := startRun(t.Context(), "withdraw")
			if tt.first != nil {
				first = tt.first
			}
			committed, begun := tx.CommitAnd(ctx, startRun(ctx, tt.last), first)
			if got := errors.Is(committed, db.ErrCommitUnknown); (committed == nil) != (tt.committed == "") || got != (tt.committed == "unknown") {
				t.Errorf("committed: %v", committed)
			}
			if db.Code(begun) != tt.begun {
				t.Errorf("begun: %v", begun)
			}
			if tt.committed == "" && tt.begun == "" {
				if got := settings(t, tx)["statement_timeout"]; got != "1min" {
					t.Errorf("the second has a statement_timeout of %s", got)
				}
			}
			tx.Rollback(t.Context())
			wantUsable(t, pool)
			awaitGone(t, watch)
			await(t, "the first is as it was ended", func() bool {
				return slices.Equal(tt.kept, column[string](t, watch, "SELECT kind FROM runs ORDER BY kind"))
			})
		})
	}
}

// Where nothing was begun there is nothing to commit, and where it was not begun as it should nothing follows.
func TestCommitAndBegins(t *testing.T) {
	t.Parallel()
	pool := open(t, testdb.New(t).URL, 1)
	nothing := func(*queries.Queries) error { return nil }
	tx := db.Begin(pool, limits)
	committed, begun := tx.CommitAnd(t.Context(), nothing, startRun(t.Context(), "run"))
	wantIs(t, committed, nil)
	wantIs(t, begun, nil)
	wantIs(t, tx.Commit(t.Context()), nil)
	if rows := value[int](t, pool, "SELECT count(*)::int FROM runs"); rows != 1 {
		t.Errorf("%d rows were written", rows)
	}
	serializable := db.Begin(rewriting{pool, "begin isolation level serializable"}, limits)
	_, _ = serializable.Exec(t.Context(), "SELECT") // not listened to
	committed, begun = serializable.CommitAnd(t.Context(), nothing, startRun(t.Context(), "run"))
	wantIs(t, committed, db.ErrIsolation)
	wantIs(t, begun, nil)
	wantUsable(t, pool)
}

// Statements in one message are done together or not at all, whichever of them fails.
func TestTogether(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		kinds [2]string
		code  string
		rows  int
	}{
		"both go well":     {kinds: [2]string{"run", "bid"}, rows: 2},
		"the first fails":  {kinds: [2]string{"none", "bid"}, code: db.CodeCheckViolation},
		"the second fails": {kinds: [2]string{"run", "none"}, code: db.CodeCheckViolation},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := open(t, testdb.New(t).URL, 1)
			err := db.Together(t.Context(), pool, func(q *queries.Queries) error {
				return errors.Join(startRun(t.Context(), tt.kinds[0])(q), startRun(t.Context(), tt.kinds[1])(q))
			})
			if db.Code(err) != tt.code {
				t.Errorf("error %v", err)
			}
			if rows := value[int](t, pool, "SELECT count(*)::int FROM runs"); rows != tt.rows {
				t.Errorf("%d rows were written, want %d", rows, tt.rows)
			}
			wantUsable(t, pool)
		})
	}
	refused := errors.New("refused")
	wantIs(t, db.Together(t.Context(), nil, func(*queries.Queries) error { return refused }), refused)
}
