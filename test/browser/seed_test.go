package browser

import (
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/arbitrageai/bidder/pkg/bidding"
	"github.com/arbitrageai/bidder/test/deliverytest"
)

// everyday fills the database with what there is on an ordinary day.
func (w *world) everyday() (review, live, approval uuid.UUID) {
	w.t.Helper()
	titles := []string{
		"Go service with a Postgres queue", "Landing page for a bakery", "Migrate a Rails monolith to Kubernetes", "Data pipeline: Kafka to ClickHouse",
		"Fix flaky CI for a TypeScript monorepo", "Terraform modules for a fintech", "Scrape and normalise real-estate listings", "Native iOS app, three screens",
	}
	markets := []string{"freelancer", "guru", "peopleperhour", "upwork"}
	for i := range 64 {
		market, job := markets[i%4], fmt.Sprintf("~01%012x", 0x5ea2b100+i)
		created := time.Duration(64-i) * 41 * time.Minute
		w.Exec(`INSERT INTO postings (marketplace, job_id, cached_at, title, description, url, pricing, budget_min_cents, budget_max_cents, skills, posted_at)
			VALUES ($1, $2, now() - $3::interval, $4, $5, $6, 'fixed', 25000, 120000, '{Go,PostgreSQL,Docker}', now() - $3::interval - interval '2 hours')`,
			market, job, created, titles[i%8], "We have a queue in Postgres and need somebody who knows SKIP LOCKED.\n\nPlease say how you would test it.", "https://"+market+".example/jobs/"+job)
		id := uuid.Must(uuid.NewV7())
		ms := time.Now().Add(-created).UnixMilli()
		for b := range 6 {
			id[b] = byte(ms >> (40 - 8*b))
		}
		status := []string{"ACTIVE", "ACTIVE", "ACTIVE", "WON", "LOST", "WITHDRAWN", "ACTIVE", "REJECTED"}[(i*5+i/8)%8]
		w.Exec(`INSERT INTO bids (id, marketplace, job_id, status, amount_cents, period_days, proposal, created_at, external_bid_id, submitted_at, seen_at, withdrawn_reason, withdrawal_timestamp, place_posts, first_post_at, last_post_at)
			VALUES ($1, $2, $3, $4, $5, 10, 'I have built three of these.', now() - $6::interval, $7, now() - $6::interval, now() - interval '20 minutes',
				CASE WHEN $4 = 'WITHDRAWN' THEN 'client changed the scope' END, CASE WHEN $4 = 'WITHDRAWN' THEN now() - interval '3 hours' END, 1, now() - $6::interval, now() - $6::interval)`,
			id, market, job, status, 48000+i*1250, created, fmt.Sprintf("p-%d", 7000+i))
		w.event(id, created-time.Minute, "delivery", `{"kind": "place", "result": "armed", "title": "A title", "job_url": "https://example.test/1", "pricing": "fixed"}`)
		w.event(id, created-2*time.Minute, "delivery", fmt.Sprintf(`{"kind": "place", "result": "placed", "external_bid_id": "p-%d", "attempt": 1}`, 7000+i))
		live = id
	}
	review = w.Bid(deliverytest.Settled+`, delivery_state = 'review', next_attempt_at = NULL, review_reason = 'unresolved', review_since = now() - interval '95 minutes', delivery_attempts = 4,
		last_error = 'HTTP 502: upstream connect error or disconnect/reset before headers', created_at = now() - interval '4 hours'`, "upwork", "~01f00d").ID
	w.event(review, 230*time.Minute, "delivery", `{"kind": "place", "result": "armed", "title": "Go service", "job_url": "https://upwork.example/jobs/1", "pricing": "fixed"}`)
	w.event(review, 229*time.Minute, "delivery", `{"kind": "place", "result": "again", "code": "no_answer", "message": "the connection was closed before the answer", "attempt": 1, "delay_ms": 15000}`)
	w.event(review, 200*time.Minute, "callback", `{"kind": "callback", "result": "submitted", "webhook_id": "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W"}`)
	w.event(review, 97*time.Minute, "ops@example.com", `{"kind": "place", "result": "retry_asked"}`)
	w.event(review, 95*time.Minute, "delivery", `{"kind": "place", "result": "review", "code": "unresolved", "http_status": 502, "message": "upstream connect error or disconnect/reset before headers", "attempt": 4}`)
	w.Exec(`UPDATE postings SET title = 'Rewrite our job queue in Go, exactly once', url = 'https://upwork.example/jobs/f00d', description = 'We lose jobs when a worker dies.' WHERE job_id = '~01f00d'`)
	approval = w.Bid(`delivery_state = 'awaiting_approval', next_attempt_at = NULL, amount_cents = 245000, created_at = now() - interval '25 minutes'`, "freelancer", "39812345").ID
	w.Exec(`UPDATE postings SET title = 'Payments reconciliation for a marketplace', url = 'https://freelancer.example/39812345' WHERE job_id = '39812345'`)
	w.Bid(deliverytest.Settled+`, external_bid_id = 'g-1', submitted_at = now(), delivery_kind = 'withdraw', delivery_state = 'review', next_attempt_at = NULL, review_reason = 'awarded', review_since = now() - interval '10 minutes',
		withdraw_requested_at = now() - interval '1 hour', withdraw_requested_reason = 'double booked', withdraw_requested_by = 'mara'`, "guru", "g-4711")
	w.Bid(`next_attempt_at = now() - interval '2 minutes', created_at = now() - interval '3 hours'`, "guru", "g-4712")
	w.Bid(`delivery_state = 'leased', lease_expires_at = now() + interval '4 minutes'`, "upwork", "~01beef")
	w.Exec("DELETE FROM candidates") // all of it is decided
	w.Exec(`INSERT INTO candidates (marketplace, job_id, cached_at, not_before, tries, last_error) VALUES
		('upwork', 'parked-1', now(), 'infinity', 8, 'statement timeout'), ('upwork', 'due-1', now(), '-infinity', 0, NULL), ('guru', 'due-2', now(), '-infinity', 0, NULL)`)
	w.Exec(`INSERT INTO accounts (marketplace, account, paused_at, paused_reason, paused_by) VALUES ('peopleperhour', '*', now() - interval '40 minutes', 'their status page is red', 'mara')`)
	w.Exec(`INSERT INTO runs (id, kind, started_at, updated_at, finished_at, exit_code, host, version, counters)
		SELECT gen_random_uuid(), CASE WHEN n % 37 = 0 THEN 'bid' ELSE 'run' END, now() - n * interval '9 minutes', now() - n * interval '9 minutes' + interval '4 seconds',
			CASE WHEN n <> 5 THEN now() - n * interval '9 minutes' + interval '4 seconds' END, CASE WHEN n = 5 THEN NULL WHEN n % 11 = 3 THEN 3 WHEN n % 29 = 8 THEN 4 ELSE 0 END,
			'pod-' || n % 5, 'v1.4.0',
			jsonb_build_object('lock_attempts', c + d + 9, 'lock_successes', c + d, 'lock_conflicts', 9 + n % 4, 'lock_timeouts', n % 3,
				'outcomes', jsonb_build_object('claimed', c, 'duplicate', d, 'recent', d / 3, 'closed', d / 2, 'stale', n % 7, 'ineligible', (c + 5) / 2, 'locked', n % 3, 'failed', CASE WHEN n BETWEEN 60 AND 70 THEN 14 ELSE 0 END, 'unknown', 0),
				'deliveries', jsonb_build_object('place', jsonb_build_object('done', c, 'retry', n % 2)))
		FROM (SELECT n, (12 + 11 * sin(n / 14.0) + n % 5)::integer AS c, (16 + 9 * cos(n / 11.0) + n % 3)::integer AS d FROM generate_series(0, 5000) AS n) AS s`)
	resets := time.Now().UTC().Truncate(24 * time.Hour).Add(24 * time.Hour)
	w.caps = []bidding.CapUsage{
		{Marketplace: "freelancer", Account: "default", Cap: "bids_per_day", Used: 38, Limit: 50, ResetsAt: &resets},
		{Marketplace: "freelancer", Account: "default", Cap: "money_per_day", Currency: "USD", Used: 1843000, Limit: 2500000, ResetsAt: &resets},
		{Marketplace: "upwork", Account: "default", Cap: "bids_per_day", Used: 20, Limit: 20, ResetsAt: &resets},
		{Marketplace: "upwork", Account: "default", Cap: "live_bids", Used: 14, Limit: 60},
	}
	return review, live, approval
}

func (w *world) event(id uuid.UUID, ago time.Duration, actor, detail string) {
	w.t.Helper()
	w.Exec(`INSERT INTO bid_events (bid_id, at, actor, detail) VALUES ($1, now() - $2::interval, $3, $4)`, id, ago, actor, detail)
}
