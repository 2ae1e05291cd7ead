package console_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/uuid"

	"github.com/arbitrageai/bidder/pkg/console"
	"github.com/arbitrageai/bidder/test/deliverytest"
)

// BenchmarkPages measures the server's time of each page with a million bids behind it:
//
//	go test ./pkg/console -run '^$' -bench BenchmarkPages
func BenchmarkPages(b *testing.B) {
	w := deliverytest.New(b)
	million(w)
	bid := deliverytest.Value[uuid.UUID](w, "SELECT bid_id FROM bid_events GROUP BY bid_id ORDER BY count(*) DESC, bid_id LIMIT 1")
	lock, err := w.SQL.Begin(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = lock.Rollback(context.WithoutCancel(b.Context())) }()
	if _, err := lock.Exec(b.Context(), "SELECT pg_advisory_xact_lock(bid_lock_key('upwork', 'queued-1')), pg_advisory_xact_lock(4711)"); err != nil {
		b.Fatal(err)
	}
	server := console.New(options(w))
	for _, page := range []struct{ name, path string }{
		{"now", "/"},
		{"now over 30 days", "/?range=30d"},
		{"bids", "/bids"},
		{"bids deep", "/bids?until=2026-01-01"},
		{"bids live", "/bids?status=ACTIVE"},
		{"bids rare status", "/bids?status=DUPLICATE"},
		{"bids rare marketplace", "/bids?marketplace=rare"},
		{"bids owing", "/bids?owing=yes&status=WON"},
		{"bids text", "/bids?q=postgres"},
		{"bids text nowhere", "/bids?q=nothing+like+that"},
		{"bids of a job", "/bids?q=job-777777"},
		{"bids everything at once", "/bids?q=none&marketplace=upwork&status=LOST&since=2020-01-01"},
		{"bid", "/bids/" + bid.String()},
		{"review", "/review"},
		{"review rare", "/review?marketplace=rare&state=awaiting_approval"},
		{"posting", "/postings/upwork/job-777779"},
		{"locks", "/locks"},
	} {
		b.Run(page.name, func(b *testing.B) {
			for b.Loop() {
				request := httptest.NewRequestWithContext(b.Context(), http.MethodGet, page.path, http.NoBody)
				request.Header.Set("Authorization", "Bearer "+token)
				request = request.WithContext(context.WithValue(request.Context(), http.LocalAddrContextKey, loopback))
				request.Host = "localhost"
				answer := httptest.NewRecorder()
				server.ServeHTTP(answer, request)
				if answer.Code != http.StatusOK {
					b.Fatalf("%s answered %d: %s", page.path, answer.Code, answer.Body)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/1000/float64(b.N), "ms/page")
		})
	}
}

// loopback is the address of a server that is reached from its own machine.
var loopback net.Addr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8080}

// million makes a million bids of half a year: 200,000 live, 30,000 of which owe something
// and 12,000 of those wait for a person; their postings, 300,000 events and 100,000 runs.
func million(w *deliverytest.World) {
	w.Exec(`INSERT INTO postings (marketplace, job_id, cached_at, title, description, url)
		SELECT (ARRAY['freelancer', 'guru', 'peopleperhour', 'upwork'])[1 + n % 4], 'job-' || n, now() - n * interval '16 seconds',
			CASE WHEN n % 5000 = 0 THEN 'A queue in Postgres, number ' ELSE 'An ordinary posting, number ' END || n, repeat('What the client wants. ', 12), 'https://example.test/' || n
		FROM generate_series(1, 1000000) AS n`)
	w.Exec(`INSERT INTO bids (id, marketplace, job_id, status, amount_cents, proposal, created_at, updated_at, external_bid_id, submitted_at, withdrawal_timestamp,
			place_posts, first_post_at, last_post_at, delivery_kind, delivery_state, next_attempt_at, review_reason, review_since)
		SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || substr(md5(n::text), 1, 3) || '8' || substr(md5(n::text), 5, 15))::uuid,
			(ARRAY['freelancer', 'guru', 'peopleperhour', 'upwork'])[1 + n % 4], 'job-' || n, status, 10000 + n % 90000, repeat('I can do that. ', 10), at AS created, at AS updated,
			CASE WHEN state IS NULL THEN 'p-' || n END, CASE WHEN state IS NULL THEN at END, CASE WHEN status = 'WITHDRAWN' THEN at END,
			CASE WHEN state IS NULL THEN 1 ELSE 0 END, at AS first_post, at AS last_post, CASE WHEN state IS NOT NULL THEN 'place' END, state,
			CASE WHEN state = 'pending' THEN at END, CASE WHEN state = 'review' THEN 'unresolved' END, CASE WHEN state = 'review' THEN at END
		FROM (
			SELECT n, now() - n * interval '16 seconds' AS at,
				CASE WHEN n % 5 = 0 THEN 'ACTIVE' ELSE (ARRAY['WON', 'LOST', 'LOST', 'WITHDRAWN', 'REJECTED'])[1 + n % 5] END AS status,
				CASE WHEN n % 100 = 0 THEN 'pending' WHEN n % 100 = 50 AND n % 200 = 50 THEN 'review' WHEN n % 1000 = 150 THEN 'awaiting_approval' END AS state
			FROM generate_series(1, 1000000) AS n
		) AS s`)
	w.Exec(`INSERT INTO bid_events (bid_id, actor, detail)
		SELECT b.id, 'delivery', jsonb_build_object('kind', 'place', 'result', 'again', 'message', 'no answer', 'attempt', e) FROM bids AS b CROSS JOIN generate_series(1, 10) AS e WHERE b.delivery_kind IS NOT NULL`)
	w.Exec(`INSERT INTO bid_events (bid_id, actor, detail)
		SELECT b.id, 'delivery', '{"kind": "place", "result": "again", "message": "no answer"}' FROM (SELECT id FROM bids ORDER BY id DESC LIMIT 1) AS b CROSS JOIN generate_series(1, 20000)`)
	w.Exec(`INSERT INTO runs (id, kind, started_at, finished_at, exit_code, host, counters)
		SELECT gen_random_uuid(), 'run', now() - n * interval '25 seconds', now() - n * interval '25 seconds', 0, 'pod-' || n % 10,
			'{"lock_attempts": 90, "lock_successes": 80, "lock_conflicts": 10, "lock_timeouts": 3, "outcomes": {"unknown": 0, "duplicate": 20, "closed": 3, "recent": 2, "stale": 1, "ineligible": 14, "claimed": 40, "locked": 2, "failed": 0}, "deliveries": {"place": {"done": 40, "retry": 0, "review": 0, "rejected": 0}}}'
		FROM generate_series(1, 100000) AS n`)
	w.Exec("TRUNCATE candidates") // all of it is decided
	w.Exec("INSERT INTO candidates (marketplace, job_id, cached_at) SELECT 'upwork', 'queued-' || n, now() FROM generate_series(1, 50000) AS n")
	w.Exec("VACUUM ANALYZE")
}
