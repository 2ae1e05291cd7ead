package db_test

import (
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/test/testdb"
)

// TestPostingsQueue: what another program puts in the cache by SQL becomes a candidate, and again when it is seen
// later; nothing else that it changes makes one. What bidder writes it queues itself.
func TestPostingsQueue(t *testing.T) {
	t.Parallel()
	database := testdb.New(t)
	pool := database.Pool(t)
	queued := func() string {
		t.Helper()
		return value[string](t, pool, `SELECT coalesce(string_agg(concat(c.job_id, ' ', p.cached_at = c.cached_at, ' ', c.tries), ', ' ORDER BY c.job_id), '')
			FROM candidates AS c JOIN postings AS p USING (marketplace, job_id)`)
	}
	wants := func(what, want string) {
		t.Helper()
		if got := queued(); got != want {
			t.Errorf("%s: queued are %q, want %q", what, got, want)
		}
	}
	exec(t, pool, "INSERT INTO postings (marketplace, job_id, cached_at, title) SELECT 'upwork', n, now(), 't' FROM generate_series(1, 2) AS n")
	wants("inserted", "1 t 0, 2 t 0")

	exec(t, pool, "UPDATE candidates SET tries = 8, not_before = 'infinity', last_error = 'x', posting = '(0,1)' WHERE job_id = '2'")
	exec(t, pool, "DELETE FROM candidates WHERE job_id = '1'")
	exec(t, pool, "UPDATE postings SET title = 'another', cached_at = cached_at")
	exec(t, pool, "UPDATE postings SET cached_at = cached_at - interval '1 hour'")
	exec(t, pool, "UPDATE candidates AS c SET cached_at = p.cached_at FROM postings AS p WHERE p.job_id = c.job_id")
	wants("not seen later", "2 t 8")

	exec(t, pool, "UPDATE postings SET cached_at = cached_at + interval '2 hours'")
	wants("seen later", "1 t 0, 2 t 0")
	if !value[bool](t, pool, "SELECT bool_and(not_before <= clock_timestamp() AND last_error IS NULL AND posting IS NULL) FROM candidates") {
		t.Error("it is not as if it had never been tried")
	}

	limits := db.Limits{Statement: time.Minute, Lock: time.Minute, Idle: time.Minute, Life: time.Minute}
	err := db.InTx(t.Context(), pool, limits, func(tx *db.Tx) error {
		_, err := tx.Exec(t.Context(), "INSERT INTO postings (marketplace, job_id, cached_at, title) VALUES ('upwork', '3', now(), 't')")
		if err == nil {
			_, err = tx.Exec(t.Context(), "UPDATE postings SET cached_at = cached_at + interval '1 hour' WHERE job_id = '1'")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	wants("by bidder", "1 f 0, 2 t 0")

	// Also from a session that looks for tables elsewhere.
	elsewhere, err := pgxpool.New(t.Context(), with(t, database.DirectURL, "search_path", "pg_catalog"))
	if err != nil {
		t.Fatal(err)
	}
	defer elsewhere.Close()
	exec(t, elsewhere, "INSERT INTO public.postings (marketplace, job_id, cached_at, title) VALUES ('upwork', '4', now(), 't')")
	if got := queued(); !strings.HasSuffix(got, ", 4 t 0") {
		t.Errorf("from elsewhere: queued are %q", got)
	}
}
