-- What golden tests look at: fixed ids and times; :hostile is text that does harm on a terminal.
INSERT INTO postings (marketplace, job_id, cached_at, title, description, url, budget_max_cents, currency)
VALUES ('upwork', E'~01ab\u200Bc', '2026-11-25 11:00:00Z', :hostile, :hostile || repeat(' and more of it', 40), 'https://example.com/1', 10000, 'USD'),
       ('upwork', '~01abc', '2026-11-25 11:00:00Z', 'Go service with Postgres queue', '', NULL, 10000, 'EUR'),
       ('guru', 'g-1', '2026-11-25 11:00:00Z', 'データベース移行とバックエンド開発のエンジニアを募集しています', '', NULL, 10000, 'USD');
DELETE FROM candidates; -- they are decided
INSERT INTO runs (id, kind, started_at, finished_at, host, version, counters, exit_code)
VALUES ('01a20000-0000-7000-8000-00000000000a', 'run', '2026-11-25 11:00:00Z', '2026-11-25 11:00:01Z', 'pod-1', 'test',
    '{"lock_attempts": 5, "lock_successes": 5, "lock_conflicts": 1, "lock_timeouts": 0, "outcomes": {"claimed": 5},
      "deliveries": {"place": {"done": 2, "retry": 1, "review": 1, "rejected": 0}, "withdraw": {"done": 0, "retry": 1, "review": 0, "rejected": 0}},
      "refreshed": {"live": 1, "won": 0, "lost": 0, "rejected": 0, "withdrawn": 0, "unseen": 1, "review": 0}}', 0);
INSERT INTO bids (id, marketplace, job_id, amount_cents, currency, period_days, proposal, posting_cached_at, run_id, created_at, updated_at, external_bid_id, submitted_at,
    place_posts, first_post_at, last_post_at, delivery_kind, delivery_state, next_attempt_at, delivery_attempts, last_error, checked_at)
VALUES ('01a20000-0000-7000-8000-000000000001', 'upwork', E'~01ab\u200Bc', 10000, 'USD', 10, :hostile, '2026-11-25 11:00:00Z', '01a20000-0000-7000-8000-00000000000a',
    '2026-11-25 11:58:30Z', '2026-11-25 11:58:30Z', E'p-\u202E778', '2026-11-25 11:59:00Z', 1, '2026-11-25 11:59:00Z', '2026-11-25 11:59:00Z',
    'withdraw', 'pending', '2026-11-25 12:03:00Z', 1, :hostile, NULL),
    ('01a20000-0000-7000-8000-000000000002', 'upwork', '~01abc', 123456700, 'EUR', NULL, NULL, '2026-11-25 11:00:00Z', '01a20000-0000-7000-8000-00000000000a',
    '2026-11-25 09:00:00Z', '2026-11-25 09:00:00Z', 'p-779', '2026-11-25 09:00:00Z', 1, '2026-11-25 09:00:00Z', '2026-11-25 09:00:00Z',
    NULL, NULL, NULL, 0, NULL, '2026-11-25 11:00:00Z');
INSERT INTO bids (id, marketplace, job_id, amount_cents, currency, run_id, created_at, updated_at, place_posts, first_post_at, last_post_at,
    delivery_kind, delivery_state, next_attempt_at, review_reason, review_since, last_error)
VALUES ('01a20000-0000-7000-8000-000000000003', 'upwork', 'a-job-id-that-is-as-long-as-they-come:' || repeat('0123456789', 10), 9900, 'USD', '01a20000-0000-7000-8000-00000000000a',
    '2026-11-23 10:00:00Z', '2026-11-23 10:00:00Z', 1, '2026-11-23 10:00:00Z', '2026-11-23 10:00:00Z', 'place', 'review', '2026-11-23 10:00:00Z',
    'unresolved', '2026-11-23 11:00:00Z', 'gone: ' || :hostile),
    ('01a20000-0000-7000-8000-000000000004', 'guru', 'g-1', 5000, 'USD', '01a20000-0000-7000-8000-00000000000a',
    '2026-10-01 10:00:00Z', '2026-10-01 10:00:00Z', 0, NULL, NULL, 'place', 'awaiting_approval', '2026-10-01 10:00:00Z', NULL, NULL, NULL);
INSERT INTO bids (id, marketplace, job_id, status, duplicate_of, created_at, updated_at)
VALUES ('01a20000-0000-7000-8000-000000000005', 'upwork', '~01abc', 'DUPLICATE', '01a20000-0000-7000-8000-000000000002', '2026-11-25 11:59:59Z', '2026-11-25 11:59:59Z');
INSERT INTO bid_events (bid_id, at, actor, from_status, to_status, detail)
VALUES ('01a20000-0000-7000-8000-000000000001', '2026-11-25 11:59:00Z', 'delivery', NULL, NULL, jsonb_build_object('kind', 'place', 'result', 'armed', 'title', :hostile, 'job_url', '', 'pricing', '')),
    ('01a20000-0000-7000-8000-000000000001', '2026-11-25 11:59:00Z', 'delivery', NULL, NULL, '{"kind": "place", "result": "placed", "code": "placed", "http_status": 201, "external_bid_id": "p-\u202e778", "attempt": 1}'),
    ('01a20000-0000-7000-8000-000000000001', '2026-11-25 11:59:10Z', E'ann \u202E', NULL, NULL, '{"kind": "withdraw", "result": "requested", "reason": "client changed the scope"}'),
    ('01a20000-0000-7000-8000-000000000001', '2026-11-25 11:59:11Z', 'delivery', NULL, NULL, jsonb_build_object('kind', 'withdraw', 'result', 'again', 'code', 'server_error', 'http_status', 500, 'message', :hostile, 'attempt', 1, 'delay_ms', 15000)),
    ('01a20000-0000-7000-8000-000000000001', '2026-11-25 11:59:12Z', 'migration', NULL, NULL, '{"result": "something new", "weight": 1.50, "why": "later versions may say more"}'),
    ('01a20000-0000-7000-8000-000000000001', '2026-11-25 11:59:13Z', 'ann', 'ACTIVE', 'WON', '{"note": "signed on Monday"}');
INSERT INTO accounts (marketplace, account, paused_at, paused_until, paused_reason, paused_by)
VALUES ('upwork', 'default', '2026-11-25 11:00:00Z', NULL, :hostile, 'delivery'), ('*', '*', '2026-11-25 11:55:00Z', NULL, 'their status page is red', E'ann\u202E');
