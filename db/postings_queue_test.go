package db_test

import (
	"testing"

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

	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	exec(t, tx, "SET LOCAL bidder.queues = 'on'")
	exec(t, tx, "INSERT INTO postings (marketplace, job_id, cached_at, title) VALUES ('upwork', '3', now(), 't')")
	exec(t, tx, "UPDATE postings SET cached_at = cached_at + interval '1 hour' WHERE job_id = '1'")
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	wants("by bidder", "1 f 0, 2 t 0")

	// Also from a session that looks for tables elsewhere, and may write nothing but postings.
	scanner := value[string](t, pool, "SELECT format('%I', 'scanner_' || current_database())")
	exec(t, pool, "CREATE ROLE "+scanner)
	defer exec(t, pool, "DROP ROLE "+scanner)
	defer exec(t, pool, "DROP OWNED BY "+scanner)
	exec(t, pool, "GRANT INSERT ON postings TO "+scanner)
	elsewhere, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	exec(t, elsewhere, "SET LOCAL search_path = pg_catalog")
	exec(t, elsewhere, "SET LOCAL ROLE "+scanner)
	exec(t, elsewhere, "INSERT INTO public.postings (marketplace, job_id, cached_at, title) VALUES ('upwork', '4', now(), 't')")
	if err := elsewhere.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	wants("from elsewhere", "1 f 0, 2 t 0, 4 t 0")
}
