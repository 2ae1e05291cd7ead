package db_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/sethvargo/go-retry"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/test/testdb"
)

func TestMain(m *testing.M) { testdb.Main(m) }

// limits are wide enough for a slow machine.
var limits = db.Limits{Statement: time.Minute, Lock: time.Minute, Idle: time.Minute, Life: 5 * time.Minute}

// execer runs statements: a pool, a connection or a transaction.
type execer interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

func open(t *testing.T, address string, maxConns int32) *pgxpool.Pool {
	t.Helper()
	pool, err := db.Open(t.Context(), db.Options{URL: address, MaxConns: maxConns})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

func connect(t *testing.T, address string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

func exec(t *testing.T, conn execer, sql string, args ...any) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// column returns the first column of all rows.
func column[T any](t *testing.T, conn querier, sql string, args ...any) []T {
	t.Helper()
	rows, err := conn.Query(t.Context(), sql, args...)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	values, err := pgx.CollectRows(rows, pgx.RowTo[T])
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return values
}

// value returns the one value of the one row.
func value[T any](t *testing.T, conn querier, sql string, args ...any) T {
	t.Helper()
	values := column[T](t, conn, sql, args...)
	if len(values) != 1 {
		t.Fatalf("%s: %d rows, want 1", sql, len(values))
	}
	return values[0]
}

// with returns the address with another parameter.
func with(t *testing.T, address, name, setting string) string {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	query := u.Query()
	query.Set(name, setting)
	u.RawQuery = strings.ReplaceAll(query.Encode(), "+", "%20") // libpq knows no other blank
	return u.String()
}

// await polls until the condition holds.
func await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	err := retry.Do(t.Context(), retry.WithMaxDuration(20*time.Second, retry.NewConstant(2*time.Millisecond)),
		func(context.Context) error {
			if condition() {
				return nil
			}
			return retry.RetryableError(fmt.Errorf("still waiting until %s", what))
		})
	if err != nil {
		t.Fatal(err)
	}
}

// wantRefusal checks that the server refused by a constraint.
func wantRefusal(t *testing.T, err error, constraint string) {
	t.Helper()
	want := db.CodeCheckViolation
	switch {
	case strings.HasSuffix(constraint, "_pkey"), strings.HasPrefix(constraint, "bids_one_active"):
		want = db.CodeUniqueViolation
	case strings.HasSuffix(constraint, "_fkey"):
		want = "23503"
	}
	if db.Code(err) != want || db.Constraint(err) != constraint {
		t.Errorf("got %v (constraint %q), want SQLSTATE %s of constraint %q", err, db.Constraint(err), want, constraint)
	}
}

// fill puts rows of every kind in every table, and returns how many each has.
func fill(t *testing.T, conn *pgxpool.Pool) map[string]int64 {
	t.Helper()
	//nolint:dupword // it is SQL
	exec(t, conn, `
		INSERT INTO postings (marketplace, job_id, cached_at, title) VALUES ('upwork', 'plain', now(), 'title');
		INSERT INTO postings (
			marketplace, job_id, cached_at, title, description, url, budget_min_cents, budget_max_cents, currency, pricing,
			skills, posted_at, deadline, bid_amount_cents, bid_period_days, bid_proposal, refreshes)
		VALUES ('freelancer', 'full', now(), 'title', 'text', 'https://example.com', 1, 2, 'EUR', 'fixed',
			'{Go,SQL}', now(), now(), 3, 4, 'proposal', 5);
		DELETE FROM candidates; -- what the postings were queued as
		INSERT INTO candidates (marketplace, job_id, cached_at) VALUES ('upwork', 'plain', now());
		INSERT INTO candidates VALUES ('freelancer', 'full', now(), 'infinity', 8, 'broken');
		INSERT INTO runs (kind) VALUES ('run'), ('bid'), ('withdraw');
		INSERT INTO runs (kind, finished_at, exit_code, host, version, counters) VALUES ('run', now(), 0, 'pod-1', 'v1',
			'{"lock_attempts": 3, "lock_successes": 2, "lock_conflicts": 1, "lock_timeouts": 1,
			  "outcomes": {"claimed": 2, "locked": 1}, "deliveries": {"place": {"done": 2}, "withdraw": {"retry": 1}}}');
		INSERT INTO run_totals (kind, runs, counters) VALUES ('run', 2, '{"lock_attempts": 5, "outcomes": {"claimed": 5}}');
		INSERT INTO bids (marketplace, job_id, status, amount_cents)
		SELECT 'upwork', 'plain', status, 100 FROM unnest('{ACTIVE,WITHDRAWN,WITHDRAWN,DUPLICATE,REJECTED,WON,LOST}'::text[]) AS status;
		INSERT INTO bids (
			marketplace, account, job_id, amount_cents, period_days, proposal, posting_cached_at, external_bid_id, is_foreign,
			submitted_at, run_id, delivery_kind, delivery_state, delivery_attempts, next_attempt_at, lease_expires_at, lease_token,
			last_error, place_posts, first_post_at, last_post_at, approved_at, approved_by,
			withdraw_requested_at, withdraw_requested_reason, withdraw_requested_by)
		VALUES ('freelancer', 'second', 'full', 100, 7, 'proposal', now(), 'ext', true,
			now(), gen_random_uuid(), 'withdraw', 'leased', 1, now(), now(), 3,
			'time-out', 2, now(), now(), now(), 'ann',
			now(), 'mistake', 'bob');
		INSERT INTO bids (marketplace, job_id, status, duplicate_of)
		SELECT 'upwork', 'plain', 'DUPLICATE', id FROM bids WHERE status = 'ACTIVE' LIMIT 1;
		INSERT INTO bid_events (bid_id, actor, from_status, to_status, detail)
		SELECT id, 'engine', 'ACTIVE', status, '{"why": "test"}' FROM bids;
		INSERT INTO accounts (marketplace) VALUES ('upwork');
		INSERT INTO accounts VALUES ('*', 'second', now(), now(), now(), 'storm', 'ann');
		INSERT INTO callbacks (marketplace, webhook_id) VALUES ('upwork', 'msg-1');
		INSERT INTO tokens (marketplace, issuer, key_id, sealed, expires_at) VALUES ('freelancer', 'https://accounts.example.com', 'k', '\x00', now());
		INSERT INTO spending (marketplace, cap, currency, day, used, of_cap) VALUES ('upwork', 'money_per_day', 'EUR', '2030-01-02', 5, 9);
		INSERT INTO spending (marketplace, cap, day, share, used, allotted) VALUES ('upwork', 'live_bids', '-infinity', 1, 5, 9);`)
	counts := map[string]int64{}
	for _, table := range column[string](t, conn, "SELECT tablename::text FROM pg_tables WHERE schemaname = current_schema()") {
		counts[table] = value[int64](t, conn, "SELECT count(*) FROM "+table)
		if counts[table] == 0 {
			t.Fatalf("%s is empty", table)
		}
	}
	return counts
}

// listing describes everything in a schema.
func listing(t *testing.T, conn querier, schema string) []string {
	t.Helper()
	return column[string](t, conn, `
		WITH space AS (SELECT oid FROM pg_namespace WHERE nspname = $1)
		SELECT format('class %s %s %s', c.relkind, c.relname, c.reloptions) FROM pg_class c WHERE relnamespace = (TABLE space)
		UNION ALL
		SELECT format('column %s %s %s %s %s %s', c.relname, row_number() OVER (PARTITION BY c.oid ORDER BY a.attnum), a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, l.collname)
		FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid LEFT JOIN pg_collation l ON l.oid = a.attcollation
		WHERE c.relnamespace = (TABLE space) AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped
		UNION ALL
		SELECT 'default ' || c.relname || a.attname || pg_get_expr(d.adbin, d.adrelid)
		FROM pg_attrdef d JOIN pg_class c ON c.oid = d.adrelid JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = d.adnum
		WHERE c.relnamespace = (TABLE space)
		UNION ALL
		SELECT 'constraint ' || conname || pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace = (TABLE space)
		UNION ALL
		SELECT 'index ' || pg_get_indexdef(i.indexrelid) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE c.relnamespace = (TABLE space)
		UNION ALL
		SELECT 'trigger ' || pg_get_triggerdef(g.oid) FROM pg_trigger g JOIN pg_class c ON c.oid = g.tgrelid
		WHERE c.relnamespace = (TABLE space) AND NOT g.tgisinternal
		UNION ALL
		SELECT 'function ' || pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = (TABLE space) AND prokind = 'f'
		UNION ALL
		SELECT format('aggregate %s %s', aggfnoid, aggtransfn) FROM pg_aggregate a JOIN pg_proc p ON p.oid = a.aggfnoid WHERE p.pronamespace = (TABLE space)
		UNION ALL
		SELECT 'view ' || viewname || definition FROM pg_views WHERE schemaname = $1
		UNION ALL
		SELECT format('type %s %s', t.typtype, t.typname) FROM pg_type t WHERE t.typnamespace = (TABLE space)
		ORDER BY 1`, schema)
}

// wantListing compares what two schemas hold, but for the version table of the migrations.
func wantListing(t *testing.T, got, want []string) {
	t.Helper()
	if diff := cmp.Diff(withoutVersionTable(want), withoutVersionTable(got)); diff != "" {
		t.Errorf("schema differs (-want +got):\n%s", diff)
	}
}

func withoutVersionTable(listing []string) []string {
	return slices.DeleteFunc(slices.Clone(listing), func(line string) bool {
		return versionTable.MatchString(line)
	})
}

// canceled returns a context that is done.
func canceled(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

// wantIs checks an error, and that it is not some others.
func wantIs(t *testing.T, err, want error, not ...error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("got error %v, want %v", err, want)
	}
	for _, other := range not {
		if errors.Is(err, other) {
			t.Errorf("error %v is also %v", err, other)
		}
	}
}
