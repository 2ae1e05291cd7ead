package db_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/arbitrageai/bidder/pkg/posting"
	"github.com/arbitrageai/bidder/test/testdb"
)

func TestComments(t *testing.T) {
	t.Parallel()
	pool := testdb.New(t).Pool(t)
	got := column[string](t, pool, `
		SELECT c.relname || coalesce('.' || a.attname, '')
		FROM pg_class AS c
		LEFT JOIN LATERAL (
			SELECT attname, attnum FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped
			UNION ALL SELECT NULL, 0
		) AS a ON true
		WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND c.relname <> 'schema_migrations'
			AND NOT EXISTS (SELECT FROM pg_description AS d
				WHERE d.classoid = 'pg_class'::regclass AND d.objoid = c.oid AND d.objsubid = a.attnum)
		ORDER BY 1`)
	obvious := []string{
		"accounts.account", "accounts.marketplace",
		"bid_events.at", "bid_events.bid_id", "bid_events.detail", "bid_events.id",
		"bids.approved_at", "bids.created_at", "bids.currency", "bids.id", "bids.job_id", "bids.marketplace",
		"bids.period_days", "bids.proposal", "bids.updated_at",
		"callbacks.marketplace", "callbacks.received_at",
		"candidates.job_id", "candidates.marketplace",
		"postings.created_at", "postings.currency", "postings.deadline", "postings.description", "postings.posted_at",
		"postings.skills", "postings.title", "postings.updated_at", "postings.url",
		"runs.host", "runs.id", "runs.kind", "runs.started_at", "runs.version",
		"tokens.account", "tokens.marketplace",
	}
	if diff := cmp.Diff(obvious, got); diff != "" {
		t.Errorf("tables and columns without a comment (-expected +found):\n%s", diff)
	}
	if missing := column[string](t, pool, `
		SELECT proname::text FROM pg_proc AS p
		WHERE pronamespace = 'public'::regnamespace AND prorettype <> 'trigger'::regtype AND obj_description(oid, 'pg_proc') IS NULL`,
	); len(missing) > 0 {
		t.Errorf("functions without a comment: %v", missing)
	}
}

// Whatever the locale of the server, keys compare as bytes.
func TestKeysCompareAsBytes(t *testing.T) {
	t.Parallel()
	pool := testdb.New(t).Pool(t)
	got := column[string](t, pool, `
		SELECT c.relname || '.' || a.attname || ' ' || l.collname
		FROM pg_attribute AS a
		JOIN pg_class AS c ON c.oid = a.attrelid
		JOIN pg_collation AS l ON l.oid = a.attcollation
		WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r'
			AND a.attname IN ('marketplace', 'job_id', 'account', 'external_bid_id', 'status', 'delivery_kind', 'delivery_state')
		ORDER BY 1`)
	want := []string{
		"accounts.account C", "accounts.marketplace C",
		"bids.account C", "bids.delivery_kind C", "bids.delivery_state C", "bids.external_bid_id C", "bids.job_id C",
		"bids.marketplace C", "bids.status C",
		"callbacks.marketplace C", "candidates.job_id C", "candidates.marketplace C", "postings.job_id C", "postings.marketplace C",
		"spending.account C", "spending.marketplace C",
		"tokens.account C", "tokens.marketplace C",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("collations of keys (-want +got):\n%s", diff)
	}

	ids := []string{"10", "9", "A", "Z", "a", "a b", "a-b", "ab", "b", "É", "é", "\u4e2d", "🙂"}
	exec(t, pool, "INSERT INTO postings (marketplace, job_id, cached_at, title) SELECT 'upwork', unnest($1::text[]), now(), 't'", ids)
	slices.Sort(ids)
	if diff := cmp.Diff(ids, column[string](t, pool, "SELECT job_id FROM postings ORDER BY job_id")); diff != "" {
		t.Errorf("order of keys (-want +got):\n%s", diff)
	}
}

// keyTables hold postings' keys that anybody may write.
func keyTables() map[string]string {
	return map[string]string{
		"postings": "INSERT INTO postings (marketplace, job_id, cached_at, title) VALUES ($1, $2, now(), 't') ON CONFLICT DO NOTHING",
		"bids":     "INSERT INTO bids (marketplace, job_id, status) VALUES ($1, $2, 'DUPLICATE')",
	}
}

func TestKeySpelling(t *testing.T) {
	t.Parallel()
	pool := testdb.New(t).Pool(t)
	const market, job = "_marketplace_spelling", "_job_id_spelling"
	tests := []struct {
		name, marketplace, jobID string
		refusal                  string // suffix of the constraint
	}{
		{"plain", "upwork", "1", ""},
		{"all characters", "0a.b_c-9", "1", ""},
		{"64 bytes", strings.Repeat("m", 64), "1", ""},
		{"512 bytes", "upwork", strings.Repeat("é", 256), ""},
		{"emoji", "upwork", "job 🙂 \u4e2d", ""},
		{"case kept", "upwork", "~01AbC", ""},
		{"colon in the id", "upwork", "a:b", ""},
		{"none of another case", "upwork", "none", ""},
		{"upper case", "Upwork", "1", market},
		{"other letters", "ünited", "1", market},
		{"other name", "peoplehour", "1", market},
		{"blank before", " upwork", "1", market},
		{"line end", "upwork\n", "1", market},
		{"first a dot", ".upwork", "1", market},
		{"colon", "up:work", "1", market},
		{"65 bytes", strings.Repeat("m", 65), "1", market},
		{"no marketplace", "", "1", market},
		{"no id", "upwork", "", job},
		{"blank", "upwork", " ", job},
		{"blank first", "upwork", " 1", job},
		{"blank last", "upwork", "1 ", job},
		{"tab last", "upwork", "1\t", job},
		{"line end last", "upwork", "1\n", job},
		{"no-break space last", "upwork", "1\u00a0", job},
		{"ideographic space first", "upwork", "\u30001", job},
		{"tab inside", "upwork", "1\t2", job},
		{"escape", "upwork", "1\x1b[0m", job},
		{"delete", "upwork", "1\x7f2", job},
		{"C1", "upwork", "1\u00852", job},
		{"None", "upwork", "None", job},
		{"null", "upwork", "null", job},
		{"undefined", "upwork", "undefined", job},
		{"nil", "upwork", "<nil>", job},
		{"513 bytes", "upwork", strings.Repeat("é", 256) + "x", job},
	}
	for table, insert := range keyTables() {
		for _, tt := range tests {
			t.Run(table+"/"+tt.name, func(t *testing.T) {
				t.Parallel()
				_, err := pool.Exec(t.Context(), insert, tt.marketplace, tt.jobID)
				if tt.refusal == "" {
					if err != nil {
						t.Error(err)
					}
					return
				}
				wantRefusal(t, err, table+tt.refusal)
			})
		}
	}
}

// The database takes a key exactly when the program would leave it as it is.
func TestKeySpellingIsNormalForm(t *testing.T) {
	t.Parallel()
	pool := testdb.New(t).Pool(t)
	spaces := []rune("\t\n\v\f\r \u0085\u00a0\u1680\u2000\u2003\u200a\u200b\u2028\u2029\u202f\u205f\u2060\u3000\ufeff")
	others := []rune("aZ09._-:/é\u00ad\u0001\u007f\u009f\u0301\u4e2d🙂İK")
	text := rapid.OneOf(
		rapid.StringOfN(rapid.SampledFrom(slices.Concat(spaces, others)), 0, 4, -1),
		rapid.SampledFrom([]string{"None", "null", "undefined", "<nil>", "NULL", "nil", "peoplehour", "peopleperhour"}),
		rapid.StringMatching(`[a-z0-9A][a-z0-9._-]{0,70}`),
		rapid.Map(rapid.IntRange(500, 520), func(n int) string { return strings.Repeat("x", n) }),
	)
	rapid.Check(t, func(t *rapid.T) {
		s := text.Draw(t, "text")
		for table, insert := range keyTables() {
			key, err := posting.ParseKey(s, "1")
			_, refusal := pool.Exec(t.Context(), insert, s, "1")
			if want := err == nil && key.Marketplace == s; want != (refusal == nil) {
				t.Errorf("%s: marketplace %q: the program keeps it: %t, the database says %v", table, s, want, refusal)
			}
			key, err = posting.ParseKey("upwork", s)
			_, refusal = pool.Exec(t.Context(), insert, "upwork", s)
			if want := err == nil && key.JobID == s; want != (refusal == nil) {
				t.Errorf("%s: job_id %q: the program keeps it: %t, the database says %v", table, s, want, refusal)
			}
		}
	})
}

// Pods of all versions, on servers of all versions, must agree on these for ever.
func TestLockKey(t *testing.T) {
	t.Parallel()
	pool := testdb.New(t).Pool(t)
	tests := []struct {
		marketplace, jobID string
		want               int64
	}{
		{"upwork", "1", 3564092915978980387},
		{"freelancer", "39812345", -812406616085830795},
		{"upwork", "~01AbC", 7816909853818558809},
		{"upwork", "~01abc", 648470810856654687},
		{"guru", "job 🙂 \u4e2d", -9119597228205461149},
		{"a.b_c-9", strings.Repeat("x", 512), 2316515449450515104},
	}
	seen := map[int64]bool{}
	for _, tt := range tests {
		got := value[int64](t, pool, "SELECT bid_lock_key($1, $2)", tt.marketplace, tt.jobID)
		if got != tt.want {
			t.Errorf("bid_lock_key(%q, %.20q) = %d, want %d", tt.marketplace, tt.jobID, got, tt.want)
		}
		text := posting.Key{Marketplace: tt.marketplace, JobID: tt.jobID}.LockKey()
		if hash := value[int64](t, pool, "SELECT hashtextextended($1, 0)", text); got != hash {
			t.Errorf("bid_lock_key(%q, %.20q) = %d, but %q hashes to %d", tt.marketplace, tt.jobID, got, text, hash)
		}
		seen[got] = true
	}
	if len(seen) != len(tests) {
		t.Errorf("%d keys for %d postings", len(seen), len(tests))
	}
}

// The key is a hash of bytes, even of text whose collation takes different bytes as equal.
func TestLockKeyIgnoresCollations(t *testing.T) {
	t.Parallel()
	pool := testdb.New(t).Pool(t)
	if !value[bool](t, pool, "SELECT EXISTS (SELECT FROM pg_collation WHERE collprovider = 'i')") {
		t.Skip("the server has no ICU collations")
	}
	exec(t, pool, "CREATE COLLATION caseless (provider = icu, locale = 'und-u-ks-level2', deterministic = false)")
	if !value[bool](t, pool, "SELECT 'A' COLLATE caseless = 'a'") {
		t.Fatal("the collation is not what the test needs")
	}
	got := column[int64](t, pool, `SELECT bid_lock_key(m COLLATE caseless, j COLLATE caseless)
		FROM (VALUES ('upwork', '~01AbC'), ('upwork', '~01abc')) AS v (m, j)`)
	want := column[int64](t, pool, "SELECT bid_lock_key('upwork', j) FROM (VALUES ('~01AbC'), ('~01abc')) AS v (j)")
	if diff := cmp.Diff(want, got); diff != "" || got[0] == got[1] {
		t.Errorf("keys under another collation are %v, want %v", got, want)
	}
}

// The key's text has one reading only, because no marketplace holds a colon.
func TestLockKeyIsUnambiguous(t *testing.T) {
	t.Parallel()
	pool := testdb.New(t).Pool(t)
	if value[int64](t, pool, "SELECT bid_lock_key('a', 'b:c')") != value[int64](t, pool, "SELECT bid_lock_key('a:b', 'c')") {
		t.Fatal("the test expects keys of the same text")
	}
	for table, insert := range keyTables() {
		if _, err := pool.Exec(t.Context(), insert, "a", "b:c"); err != nil {
			t.Errorf("%s: %v", table, err)
		}
		_, err := pool.Exec(t.Context(), insert, "a:b", "c")
		wantRefusal(t, err, table+"_marketplace_spelling")
	}
	if got := column[*int64](t, pool, "SELECT bid_lock_key(NULL, 'x') UNION SELECT bid_lock_key('x', NULL)"); len(got) != 1 || got[0] != nil {
		t.Errorf("without a key the lock key is %v, want null", got)
	}
}

// What is checked of each row that is written holds for the rows from before, too.
func TestConstraintsAreValidated(t *testing.T) {
	t.Parallel()
	pool := testdb.New(t).Pool(t)
	if got := column[string](t, pool, "SELECT conname::text FROM pg_constraint WHERE NOT convalidated"); len(got) > 0 {
		t.Errorf("not validated: %v", got)
	}
}
