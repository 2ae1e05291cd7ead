package posting_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/sethvargo/go-retry"
	"golang.org/x/sync/errgroup"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/pkg/posting"
	"github.com/arbitrageai/bidder/test/testdb"
)

func TestMain(m *testing.M) { testdb.Main(m) }

// limits are wide enough for a slow machine.
var limits = db.Limits{Statement: time.Minute, Lock: time.Minute, Idle: time.Minute, Life: 5 * time.Minute}

// start is when the first version of the tests' postings was seen.
var start = time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)

func open(t testing.TB, address string) *pgxpool.Pool {
	t.Helper()
	pool, err := db.Open(t.Context(), db.Options{URL: address, MaxConns: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

func decoder(r io.Reader) *posting.Decoder {
	return posting.NewDecoder(r, posting.Options{Now: func() time.Time { return start.AddDate(1, 0, 0) }, DefaultCurrency: "USD"})
}

// item is a line of a posting; version says when it was seen, and is in the title.
func item(jobID string, version int, more ...string) string {
	return fmt.Sprintf(`{"marketplace":"upwork","job_id":%q,"title":"version %d","cached_at":%q%s}`+"\n",
		jobID, version, start.Add(time.Duration(version)*time.Minute).Format(time.RFC3339), strings.Join(append([]string{""}, more...), ","))
}

// ingest puts lines in the cache and checks what became of them.
func ingest(t testing.TB, pool *pgxpool.Pool, lines string, want posting.Counts) {
	t.Helper()
	got, err := posting.Ingest(t.Context(), pool, limits, decoder(strings.NewReader(lines)), posting.Observer{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
}

// rows returns a query's rows as text.
func rows(t testing.TB, pool *pgxpool.Pool, sql string, args ...any) []string {
	t.Helper()
	result, err := pool.Query(t.Context(), sql, args...)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := pgx.CollectRows(result, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

func wantRows(t testing.TB, pool *pgxpool.Pool, sql string, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, rows(t, pool, sql)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", sql, diff)
	}
}

func exec(t testing.TB, pool *pgxpool.Pool, sql string, args ...any) {
	t.Helper()
	if _, err := pool.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

const (
	cache = "SELECT job_id || ': ' || title || ', refreshed ' || refreshes FROM postings ORDER BY job_id"
	queue = "SELECT job_id || ' of ' || to_char(cached_at AT TIME ZONE 'UTC', 'HH24:MI') FROM candidates ORDER BY job_id"
)

func TestIngestCounts(t *testing.T) {
	t.Parallel()
	pool := open(t, testdb.New(t).URL)
	ingest(t, pool, "\n"+item("a", 1)+item("b", 1)+"  \r\n"+item("c", 1)+"nonsense\n",
		posting.Counts{Read: 6, Accepted: 3, Rejected: 1, Blank: 2})
	wantRows(t, pool, queue, "a of 08:01", "b of 08:01", "c of 08:01")
	exec(t, pool, "DELETE FROM candidates")

	ingest(t, pool, item("a", 0)+item("b", 1)+item("c", 2)+item("d", 2)+"{}\n\n",
		posting.Counts{Read: 6, Accepted: 1, Updated: 1, Unchanged: 2, Rejected: 1, Blank: 1})
	wantRows(t, pool, cache, "a: version 1, refreshed 0", "b: version 1, refreshed 0", "c: version 2, refreshed 1", "d: version 2, refreshed 0")
	wantRows(t, pool, queue, "c of 08:02", "d of 08:02")

	ingest(t, pool, "", posting.Counts{})
	ingest(t, pool, "\n\n", posting.Counts{Read: 2, Blank: 2})
	if got, want := (posting.Counts{1, 2, 3, 4, 5, 6}).Add(posting.Counts{10, 20, 30, 40, 50, 60}), (posting.Counts{11, 22, 33, 44, 55, 66}); got != want {
		t.Errorf("the sum is %+v, want %+v", got, want)
	}
}

// A posting on several lines: the newest wins wherever it stands, the first of equals too.
func TestIngestDuplicates(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, before, lines, cached string
		want                        posting.Counts
	}{
		{"rising", "", item("a", 1) + item("a", 2) + item("a", 3), "version 3, refreshed 0", posting.Counts{Read: 3, Accepted: 1, Updated: 2}},
		{"falling", "", item("a", 3) + item("a", 2) + item("a", 1), "version 3, refreshed 0", posting.Counts{Read: 3, Accepted: 1, Unchanged: 2}},
		{"mixed", "", item("a", 2) + item("a", 1) + item("a", 3), "version 3, refreshed 0", posting.Counts{Read: 3, Accepted: 1, Updated: 1, Unchanged: 1}},
		{
			"equal", "", item("a", 1) + strings.Replace(item("a", 1), "version 1", "other", 1), "version 1, refreshed 0",
			posting.Counts{Read: 2, Accepted: 1, Unchanged: 1},
		},
		{
			"equal to the cache", item("a", 1), strings.Replace(item("a", 1), "version 1", "other", 1), "version 1, refreshed 0",
			posting.Counts{Read: 1, Unchanged: 1},
		},
		{"rising over the cache", item("a", 2), item("a", 1) + item("a", 3) + item("a", 4), "version 4, refreshed 1", posting.Counts{Read: 3, Updated: 2, Unchanged: 1}},
		{"below the cache", item("a", 9), item("a", 1) + item("a", 2), "version 9, refreshed 0", posting.Counts{Read: 2, Unchanged: 2}},
		{"with others", "", item("a", 1) + item("b", 1) + item("a", 2), "version 2, refreshed 0", posting.Counts{Read: 3, Accepted: 2, Updated: 1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			pool := open(t, testdb.New(t).URL)
			if tt.before != "" {
				ingest(t, pool, tt.before, posting.Counts{Read: 1, Accepted: 1})
			}
			ingest(t, pool, tt.lines, tt.want)
			if got := rows(t, pool, cache); len(got) == 0 || got[0] != "a: "+tt.cached {
				t.Errorf("the cache holds %q, want %q", got, tt.cached)
			}
		})
	}
}

// Everything that a line can say, and what it leaves out, is in the database as it was said.
func TestIngestContent(t *testing.T) {
	t.Parallel()
	for name, before := range map[string]int{"upserted": 0, "inserted": 2000} { // lines before it that are new
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := open(t, testdb.New(t).URL)
			ingest(t, pool, fresh("~", before)+item("full", 1, `"description":"a \"b\"\n\\c\u001f"`, `"url":"https://example.com/?a=1"`, `"budget_min":"0"`, `"budget_max":750.5`,
				`"currency":"eur"`, `"pricing":"Fixed"`, `"skills":["Go","a,b","{\"}","NULL","",  "x\u001fy","é 🙂"]`,
				`"posted_at":"2026-11-22T10:00:00.123456Z"`, `"deadline":"2026-12-01T00:00:00+02:00"`,
				`"bid":{"amount":"480.01","period_days":10,"proposal":"Dear 'you'"}`)+
				item("bare", 1)+item("none", 1, `"skills":[]`, `"bid":{}`), posting.Counts{Read: int64(before + 3), Accepted: int64(before + 3)})
			got := rows(t, pool, `SELECT (to_jsonb(p) - '{cached_at,title,created_at,updated_at,refreshes,marketplace}'::text[])::text FROM postings AS p WHERE job_id < '~' ORDER BY job_id`)
			want := []string{
				`{"job_id":"bare","description":"","url":null,"budget_min_cents":null,"budget_max_cents":null,"currency":"USD","pricing":null,
					"skills":[],"posted_at":null,"deadline":null,"bid_amount_cents":null,"bid_period_days":null,"bid_proposal":null}`,
				`{"job_id":"full","description":"a \"b\"\n\\c\u001f","url":"https://example.com/?a=1","budget_min_cents":0,"budget_max_cents":75050,
					"currency":"EUR","pricing":"fixed","skills":["Go","a,b","{\"}","NULL","x y","é 🙂"],
					"posted_at":"2026-11-22T10:00:00.123456+00:00","deadline":"2026-11-30T22:00:00+00:00",
					"bid_amount_cents":48001,"bid_period_days":10,"bid_proposal":"Dear 'you'"}`,
				`{"job_id":"none","description":"","url":null,"budget_min_cents":null,"budget_max_cents":null,"currency":"USD","pricing":null,
					"skills":[],"posted_at":null,"deadline":null,"bid_amount_cents":null,"bid_period_days":null,"bid_proposal":null}`,
			}
			for i := range want {
				if diff := cmp.Diff(object(t, want[i]), object(t, got[i])); diff != "" {
					t.Errorf("row (-want +got):\n%s", diff)
				}
			}

			// Newer content replaces all of the old, also by nothing.
			ingest(t, pool, item("full", 2), posting.Counts{Read: 1, Updated: 1})
			wantRows(t, pool, `SELECT num_nulls(url, budget_min_cents, budget_max_cents, pricing, posted_at, deadline, bid_amount_cents, bid_period_days, bid_proposal)
				|| currency || description || skills::text || (updated_at > created_at)::text FROM postings WHERE job_id = 'full'`, "9USD{}true")
		})
	}
}

func object(t *testing.T, text string) map[string]any {
	t.Helper()
	var decoded map[string]any
	if err := json.Unmarshal([]byte(text), &decoded); err != nil {
		t.Fatal(err)
	}
	return decoded
}

// A refresh makes a posting a candidate like a new one, whatever became of the candidate before.
func TestIngestQueuesAgain(t *testing.T) {
	t.Parallel()
	pool := open(t, testdb.New(t).URL)
	ingest(t, pool, item("a", 1)+item("b", 1), posting.Counts{Read: 2, Accepted: 2})
	exec(t, pool, "UPDATE candidates SET not_before = 'infinity', tries = 8, last_error = 'broken'")
	ingest(t, pool, item("a", 2)+item("b", 1), posting.Counts{Read: 2, Updated: 1, Unchanged: 1})
	wantRows(t, pool, `SELECT concat_ws(' ', job_id, tries, last_error, not_before <= clock_timestamp()) FROM candidates ORDER BY job_id`,
		"a 0 t", "b 8 broken f")
}

// More lines than fit in a batch, each posting on several of them, in different batches.
func TestIngestBatches(t *testing.T) {
	t.Parallel()
	pool := open(t, testdb.New(t).URL)
	var lines strings.Builder
	for version := range 3 {
		for job := range 1100 {
			lines.WriteString(item(fmt.Sprintf("%04d", job), version))
		}
	}
	var steps []posting.Counts
	got, err := posting.Ingest(t.Context(), pool, limits, decoder(strings.NewReader(lines.String())), posting.Observer{
		Progress: func(counts posting.Counts) { steps = append(steps, counts) },
	})
	want := posting.Counts{Read: 3300, Accepted: 1100, Updated: 2200}
	if err != nil || got != want {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
	if diff := cmp.Diff([]posting.Counts{
		{Read: 1000, Accepted: 1000}, {Read: 2000, Accepted: 1100, Updated: 900}, {Read: 3000, Accepted: 1100, Updated: 1900}, want,
	}, steps); diff != "" {
		t.Errorf("progress (-want +got):\n%s", diff)
	}
	wantRows(t, pool, "SELECT DISTINCT title || ' ' || refreshes FROM postings", "version 2 2")
	wantRows(t, pool, "SELECT count(*)::text FROM candidates WHERE cached_at = '2026-11-23 08:02Z'", "1100")
}

// statements counts the statements of a pool by the names that they have in db/queries.
type statements struct {
	mu    sync.Mutex
	names map[string]int
}

func (s *statements) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	s.mu.Lock()
	defer s.mu.Unlock()
	if name, _, named := strings.Cut(strings.TrimPrefix(data.SQL, "-- name: "), " "); named {
		s.names[name]++
	}
	return ctx
}

func (*statements) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// traced returns a pool on the same database, and what counts its statements.
func traced(t testing.TB, pool *pgxpool.Pool) (*pgxpool.Pool, *statements) {
	t.Helper()
	config, seen := pool.Config(), &statements{names: make(map[string]int)}
	config.ConnConfig.Tracer = seen
	other, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(other.Close)
	return other, seen
}

// fresh are n lines of as many postings.
func fresh(name string, n int) string {
	var lines strings.Builder
	for job := range n {
		lines.WriteString(item(fmt.Sprintf("%s-%04d", name, job), 1))
	}
	return lines.String()
}

// While the input is new to the cache it is inserted as such. Where it is not, that is found out, and makes no
// difference to what comes of it.
func TestIngestNew(t *testing.T) {
	t.Parallel()
	pool, seen := traced(t, open(t, testdb.New(t).URL))
	ingest(t, pool, item("newer", 5)+item("older", 1), posting.Counts{Read: 2, Accepted: 2})
	exec(t, pool, "DELETE FROM candidates")

	ingest(t, pool, fresh("a", 1000)+fresh("b", 1000)+ // one after the other, or both at once
		fresh("c", 997)+item("often", 1)+item("often", 3)+item("often", 2)+
		fresh("d", 998)+item("newer", 4)+item("older", 2)+
		fresh("e", 10),
		posting.Counts{Read: 4010, Accepted: 4006, Updated: 2, Unchanged: 2})
	wantRows(t, pool, "SELECT title || ', refreshed ' || refreshes || ', ' || count(*) FROM postings GROUP BY title, refreshes ORDER BY 1",
		"version 1, refreshed 0, 4005", "version 2, refreshed 1, 1", "version 3, refreshed 0, 1", "version 5, refreshed 0, 1")
	wantRows(t, pool, `SELECT to_char(cached_at AT TIME ZONE 'UTC', 'HH24:MI ') || count(*) FROM candidates AS c GROUP BY cached_at ORDER BY 1`,
		"08:01 4005", "08:02 1", "08:03 1")
	wantRows(t, pool, "SELECT count(*)::text FROM candidates AS c JOIN postings AS p ON p.ctid = c.posting AND p.job_id = c.job_id", "4007")

	inserts, upserts := seen.names["InsertPostings"], seen.names["UpsertPostings"]
	if inserts < 2 || inserts+upserts != 7 {
		t.Errorf("%d inserts and %d upserts for 6 batches, one of which is not as new as it looked", inserts, upserts)
	}

	ingest(t, pool, fresh("a", 1000)+fresh("b", 1000)+fresh("e", 10), posting.Counts{Read: 2010, Unchanged: 2010})
	if again := seen.names["InsertPostings"]; again != inserts {
		t.Errorf("%d inserts of what the cache knows", again-inserts)
	}
}

func TestIngestRejected(t *testing.T) {
	t.Parallel()
	pool := open(t, testdb.New(t).URL)
	var rejected []string
	record := func(r *posting.Reject) error {
		rejected = append(rejected, fmt.Sprint(r.Line, " ", r.Code))
		return nil
	}
	lines := item("a", 1) + "nonsense\n" + item("b", 1) + "{}\n" + item("c", 1)
	if _, err := posting.Ingest(t.Context(), pool, limits, decoder(strings.NewReader(lines)), posting.Observer{Rejected: record}); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"2 invalid_json", "4 missing_field"}, rejected); diff != "" {
		t.Errorf("rejected (-want +got):\n%s", diff)
	}

	full := errors.New("disk full")
	got, err := posting.Ingest(t.Context(), pool, limits, decoder(strings.NewReader(strings.ReplaceAll(lines, "08:01", "08:05"))), posting.Observer{
		Rejected: func(*posting.Reject) error { return full },
	})
	if want := (posting.Counts{Read: 2, Updated: 1, Rejected: 1}); !errors.Is(err, full) || got != want {
		t.Errorf("when the rejects cannot be written: %+v, %v; want %+v, %v", got, err, want, full)
	}
	wantRows(t, pool, queue, "a of 08:05", "b of 08:01", "c of 08:01")
}

// items are the lines of jobs from first to last.
func items(first, last, version int) string {
	var lines strings.Builder
	for job := first; job <= last; job++ {
		lines.WriteString(item(fmt.Sprintf("%04d", job), version))
	}
	return lines.String()
}

// lock holds a posting of the cache until the returned function is called.
func lock(t *testing.T, pool *pgxpool.Pool, jobID string) (release func()) {
	t.Helper()
	holder, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	release = func() { db.Rollback(context.WithoutCancel(t.Context()), holder) }
	t.Cleanup(release)
	if tag, err := holder.Exec(t.Context(), "SELECT FROM postings WHERE job_id = $1 FOR UPDATE", jobID); err != nil || tag.RowsAffected() != 1 {
		t.Fatal(tag, err)
	}
	return release
}

// A batch is written while the one before waits, but not if they share a posting: then the order
// of its versions decides what comes of them. What is counted, is counted in order.
func TestIngestTwoBatchesAtOnce(t *testing.T) {
	t.Parallel()
	other := func(version int) string {
		return strings.Replace(item("0999", version), fmt.Sprintf("version %d", version), "other", 1)
	}
	tests := []struct {
		name, second string
		together     bool
		cached       string
		want         posting.Counts
	}{
		{"nothing shared", items(1000, 1999, 2), true, "version 2 0", posting.Counts{Read: 2000, Accepted: 1999, Updated: 1}},
		{"newer", items(1000, 1998, 2) + other(3), false, "other 1", posting.Counts{Read: 2000, Accepted: 1998, Updated: 2}},
		{"equal", items(1000, 1998, 2) + other(2), false, "version 2 0", posting.Counts{Read: 2000, Accepted: 1998, Updated: 1, Unchanged: 1}},
		{"older", items(1000, 1998, 2) + other(1), false, "version 2 0", posting.Counts{Read: 2000, Accepted: 1998, Updated: 1, Unchanged: 1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			database := testdb.New(t)
			pool, watch := open(t, database.URL), database.Pool(t)
			ingest(t, pool, item("0000", 1), posting.Counts{Read: 1, Accepted: 1})
			release := lock(t, watch, "0000")
			var steps []posting.Counts
			var got posting.Counts
			ingested := make(chan error, 1)
			go func() {
				var err error
				got, err = posting.Ingest(t.Context(), pool, limits, decoder(strings.NewReader(items(0, 999, 2)+tt.second)), posting.Observer{
					Progress: func(counts posting.Counts) { steps = append(steps, counts) },
				})
				ingested <- err
			}()
			patience := 300 * time.Millisecond // for what must not happen
			if tt.together {
				patience = 20 * time.Second
			}
			second := func(context.Context) error {
				if rows(t, watch, "SELECT EXISTS (SELECT FROM postings WHERE job_id = '1000')::text")[0] == "false" {
					return retry.RetryableError(errors.New("the second batch is not written"))
				}
				return nil
			}
			err := retry.Do(t.Context(), retry.WithMaxDuration(patience, retry.NewConstant(2*time.Millisecond)), second)
			if together := err == nil; together != tt.together {
				t.Errorf("the second batch written before the first: %t", together)
			}
			release()
			if err := <-ingested; err != nil || got != tt.want {
				t.Errorf("%+v, %v; want %+v", got, err, tt.want)
			}
			if diff := cmp.Diff([]posting.Counts{{Read: 1000, Accepted: 999, Updated: 1}, tt.want}, steps); diff != "" {
				t.Errorf("progress (-want +got):\n%s", diff)
			}
			wantRows(t, pool, "SELECT title || ' ' || refreshes FROM postings WHERE job_id = '0999'", tt.cached)
			wantRows(t, pool, "SELECT count(*)::text FROM candidates JOIN postings USING (marketplace, job_id, cached_at)", fmt.Sprint(tt.want.Accepted+1))
		})
	}
}

// One of the batches that are written at once fails: the other is kept, and counted.
func TestIngestOneOfTwoFails(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, locked string
		want         []string // the first job of each batch that is kept
	}{
		{"first", "0000", []string{"1000"}},          // so the third is not begun
		{"second", "1000", []string{"0000", "2000"}}, // and the third begins when the first is done
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			database := testdb.New(t)
			pool := open(t, database.URL)
			ingest(t, pool, item(tt.locked, 1), posting.Counts{Read: 1, Accepted: 1})
			lock(t, database.Pool(t), tt.locked)
			short := limits
			short.Lock = 10 * time.Millisecond
			var last posting.Counts
			got, err := posting.Ingest(t.Context(), pool, short, decoder(strings.NewReader(items(0, 2999, 2))), posting.Observer{
				Progress: func(counts posting.Counts) { last = counts },
			})
			n := int64(1000 * len(tt.want))
			if want := (posting.Counts{Read: n, Accepted: n}); db.Code(err) != db.CodeLockNotAvailable || got != want || last != want {
				t.Errorf("%+v, at last %+v, %v; want %+v", got, last, err, want)
			}
			wantRows(t, pool, "SELECT min(job_id) FROM postings WHERE title = 'version 2' GROUP BY left(job_id, 1) ORDER BY 1", tt.want...)
		})
	}
}

func TestIngestOneConnection(t *testing.T) {
	t.Parallel()
	pool, err := db.Open(t.Context(), db.Options{URL: testdb.New(t).URL, MaxConns: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	ingest(t, pool, items(0, 3499, 1)+items(0, 99, 2), posting.Counts{Read: 3600, Accepted: 3500, Updated: 100})
	wantRows(t, pool, "SELECT count(*) || ' ' || sum(refreshes) FROM postings", "3500 100")
}

// What is read while batches are written is kept with them.
func TestIngestInterrupted(t *testing.T) {
	t.Parallel()
	pool := open(t, testdb.New(t).URL)
	lines := items(0, 3499, 1)
	signal := errors.New("signal")
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	var last posting.Counts
	got, err := posting.Ingest(ctx, pool, limits, decoder(strings.NewReader(lines)), posting.Observer{
		Progress: func(counts posting.Counts) { last = counts; cancel(signal) },
	})
	if want := (posting.Counts{Read: 3000, Accepted: 3000}); !errors.Is(err, signal) || got != want || last != want {
		t.Errorf("%+v, at last %+v, %v; want %+v, %v", got, last, err, want, signal)
	}
	wantRows(t, pool, "SELECT count(*) || ' ' || max(job_id) FROM postings", "3000 2999")
	ingest(t, pool, lines, posting.Counts{Read: 3500, Accepted: 500, Unchanged: 3000})
}

// What was read of a pipe is kept when the reading is interrupted within a batch: nobody gives
// those lines again.
func TestIngestInterruptedWithinBatch(t *testing.T) {
	t.Parallel()
	pool := open(t, testdb.New(t).URL)
	signal := errors.New("signal")
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	lines := item("a", 1) + item("b", 1) + "{}\n" + item("c", 1)
	got, err := posting.Ingest(ctx, pool, limits, decoder(strings.NewReader(lines)), posting.Observer{
		Rejected: func(*posting.Reject) error { cancel(signal); return nil },
	})
	if want := (posting.Counts{Read: 3, Accepted: 2, Rejected: 1}); !errors.Is(err, signal) || got != want {
		t.Errorf("%+v, %v; want %+v, %v", got, err, want, signal)
	}
	wantRows(t, pool, queue, "a of 08:01", "b of 08:01")
}

// An interrupted writing that cannot go on ends all the same, soon.
func TestIngestInterruptedWhileBlocked(t *testing.T) {
	t.Parallel()
	database := testdb.New(t)
	pool := open(t, database.URL)
	tx, err := database.Pool(t).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(t.Context())
	if _, err := tx.Exec(t.Context(), "LOCK TABLE postings IN ACCESS EXCLUSIVE MODE"); err != nil {
		t.Fatal(err)
	}
	signal := errors.New("signal")
	ctx, cancel := context.WithCancelCause(t.Context())
	patient := db.Limits{Statement: time.Minute, Lock: time.Minute, Idle: time.Minute, Life: time.Minute}
	began := time.Now()
	cancel(signal)
	got, err := posting.Ingest(ctx, pool, patient, decoder(strings.NewReader("{}\n"+item("a", 1))), posting.Observer{})
	if got != (posting.Counts{}) || !errors.Is(err, signal) {
		t.Errorf("nothing read yet: %+v, %v", got, err)
	}
	ctx, cancel = context.WithCancelCause(t.Context())
	got, err = posting.Ingest(ctx, pool, patient, decoder(strings.NewReader(item("a", 1)+"{}\n"+item("b", 1))), posting.Observer{
		Rejected: func(*posting.Reject) error { cancel(signal); return nil },
	})
	if want := (posting.Counts{Read: 1, Rejected: 1}); got != want || !errors.Is(err, signal) {
		t.Errorf("%+v, %v; want %+v, %v", got, err, want, signal)
	}
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("it took %v to end", took)
	}
}

func TestIngestInputFails(t *testing.T) {
	t.Parallel()
	pool := open(t, testdb.New(t).URL)
	for name, cause := range map[string]error{"broken": errors.New("broken disk"), "cut": io.ErrUnexpectedEOF} {
		input := io.MultiReader(strings.NewReader(item(name, 1)+"{}\n"+item("half "+name, 1)[:20]), iotest.ErrReader(cause))
		got, err := posting.Ingest(t.Context(), pool, limits, decoder(input), posting.Observer{})
		if want := (posting.Counts{Read: 2, Accepted: 1, Rejected: 1}); !errors.Is(err, cause) || got != want {
			t.Errorf("%+v, %v; want %+v, %v", got, err, want, cause)
		}
		if err == nil || !strings.Contains(err.Error(), "line 3") {
			t.Errorf("%v does not say where", err)
		}
	}
	wantRows(t, pool, queue, "broken of 08:01", "cut of 08:01")
}

func TestIngestDatabaseFails(t *testing.T) {
	t.Parallel()
	database := testdb.New(t)
	pool := open(t, database.URL)
	exec(t, database.Pool(t), "ALTER TABLE postings RENAME TO elsewhere")
	for name, lines := range map[string]string{"write": item("a", 1), "read before writing": item("a", 1) + item("a", 2)} {
		rejects := lines + "{}\n"
		for _, observer := range []posting.Observer{{}, {Rejected: func(*posting.Reject) error { return errors.New("full") }}} {
			got, err := posting.Ingest(t.Context(), pool, limits, decoder(strings.NewReader(rejects)), observer)
			if want := (posting.Counts{Read: 1, Rejected: 1}); db.Code(err) != db.CodeUndefinedTable || got != want {
				t.Errorf("%s: %+v, %v", name, got, err)
			}
		}
	}
	var many strings.Builder
	for job := range 2001 {
		many.WriteString(item(fmt.Sprint(job), 1))
	}
	if got, err := posting.Ingest(t.Context(), pool, limits, decoder(strings.NewReader(many.String())), posting.Observer{}); db.Code(err) != db.CodeUndefinedTable || got != (posting.Counts{}) {
		t.Errorf("whole batches: %+v, %v", got, err)
	}
	if _, err := posting.Rehearse(t.Context(), pool, decoder(strings.NewReader(item("a", 1))), map[posting.Key]posting.Posting{}, false, posting.Observer{}); db.Code(err) != db.CodeUndefinedTable {
		t.Errorf("rehearsal: %v", err)
	}
}

// A batch that meets a lock is tried again, and given up when the lock stays.
func TestIngestLocked(t *testing.T) {
	t.Parallel()
	database := testdb.New(t)
	pool := open(t, database.URL)
	ingest(t, pool, item("a", 1), posting.Counts{Read: 1, Accepted: 1})
	holder, err := database.Pool(t).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Rollback(t.Context(), holder)
	if _, err := holder.Exec(t.Context(), "SELECT FROM postings FOR UPDATE"); err != nil {
		t.Fatal(err)
	}
	short := limits
	short.Lock = 10 * time.Millisecond
	tries := 0
	counted := beginner{pool, func() { tries++ }}
	_, err = posting.Ingest(t.Context(), counted, short, decoder(strings.NewReader(item("a", 2))), posting.Observer{})
	if db.Code(err) != db.CodeLockNotAvailable || tries != 6 {
		t.Errorf("after %d tries: %v", tries, err)
	}

	tries = 0
	freed := beginner{pool, func() {
		if tries++; tries == 3 {
			db.Rollback(t.Context(), holder)
		}
	}}
	got, err := posting.Ingest(t.Context(), freed, short, decoder(strings.NewReader(item("a", 2))), posting.Observer{})
	if want := (posting.Counts{Read: 1, Updated: 1}); err != nil || got != want {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
}

// beginner does something before each transaction.
type beginner struct {
	db.Beginner

	before func()
}

func (b beginner) SendBatch(ctx context.Context, batch *pgx.Batch) pgx.BatchResults {
	b.before()
	return b.Beginner.SendBatch(ctx, batch)
}

// Scanners with the same postings in opposite order do not wait for each other in turn.
func TestIngestTogether(t *testing.T) {
	t.Parallel()
	const jobs, rounds = 120, 30
	database := testdb.New(t)
	pool := open(t, database.URL)
	var both errgroup.Group
	for scanner := range 2 {
		both.Go(func() error {
			for round := range rounds {
				var lines bytes.Buffer
				for job := range jobs {
					if scanner == 1 {
						job = jobs - 1 - job
					}
					lines.WriteString(item(fmt.Sprintf("%03d", job), 2*round+scanner))
				}
				counts, err := posting.Ingest(t.Context(), pool, limits, decoder(&lines), posting.Observer{})
				if err != nil {
					return err
				}
				if counts.Read != jobs || counts.Accepted+counts.Updated+counts.Unchanged != jobs {
					return fmt.Errorf("counts do not add up: %+v", counts)
				}
			}
			return nil
		})
	}
	if err := both.Wait(); err != nil {
		t.Error(err)
	}
	wantRows(t, pool, "SELECT DISTINCT title FROM postings", fmt.Sprintf("version %d", 2*rounds-1))
	wantRows(t, pool, "SELECT count(*)::text FROM candidates JOIN postings USING (marketplace, job_id, cached_at)", fmt.Sprint(jobs))
	pool.Close()
	if n := database.Deadlocks(t); n != 0 {
		t.Errorf("%d deadlocks", n)
	}
}

// A refresh that meets a pass about to take the candidate off the queue is not lost.
func TestIngestBesideAPass(t *testing.T) {
	t.Parallel()
	database := testdb.New(t)
	pool, watch := open(t, database.URL), database.Pool(t)
	ingest(t, pool, item("a", 1), posting.Counts{Read: 1, Accepted: 1})
	pass, err := watch.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Rollback(t.Context(), pass)
	if _, err := pass.Exec(t.Context(), "SELECT FROM candidates FOR UPDATE SKIP LOCKED"); err != nil {
		t.Fatal(err)
	}
	ingested := make(chan error, 1)
	go func() {
		_, err := posting.Ingest(t.Context(), pool, limits, decoder(strings.NewReader(item("a", 2))), posting.Observer{})
		ingested <- err
	}()
	// The refresh waits for the pass; if it does not, it is through.
	err = retry.Do(t.Context(), retry.WithMaxDuration(20*time.Second, retry.NewConstant(2*time.Millisecond)), func(context.Context) error {
		if len(ingested) == 0 && rows(t, watch, `SELECT EXISTS (SELECT FROM pg_stat_activity
			WHERE datname = current_database() AND cardinality(pg_blocking_pids(pid)) > 0)::text`)[0] == "false" {
			return retry.RetryableError(errors.New("the refresh neither waits nor ends"))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pass.Exec(t.Context(), "DELETE FROM candidates"); err != nil {
		t.Fatal(err)
	}
	if err := pass.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-ingested; err != nil {
		t.Error(err)
	}
	wantRows(t, pool, queue, "a of 08:02")
}
