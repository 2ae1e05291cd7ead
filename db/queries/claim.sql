-- name: LockPostings :many
-- Tries the lock of each posting, and nothing else: a try-lock in a WHERE clause or
-- below a sort locks rows that nobody gets. The caller sorts the keys and sends none twice.
SELECT
    k.marketplace::text AS marketplace,
    k.job_id::text AS job_id,
    pg_try_advisory_xact_lock(bid_lock_key(k.marketplace, k.job_id))::boolean AS locked
FROM (
    SELECT unnest(@marketplaces::text[]) AS marketplace, unnest(@job_ids::text[]) AS job_id
) AS k;

-- name: TakeCandidates :many
-- Takes the next due candidates that no other pod holds, from the caller's place in the
-- queue on, then tries the lock of each.
WITH taken AS MATERIALIZED (
    SELECT c.ctid, c.marketplace, c.job_id, c.cached_at, c.not_before
    FROM candidates AS c
    WHERE c.not_before <= @due_by::timestamptz
        AND c.not_before >= @place::timestamptz
    ORDER BY c.not_before
    LIMIT @batch::integer
    FOR UPDATE SKIP LOCKED
)
SELECT
    t.marketplace,
    t.job_id,
    t.cached_at,
    t.not_before,
    t.ctid AS place,
    pg_try_advisory_xact_lock(bid_lock_key(t.marketplace, t.job_id))::boolean AS locked
FROM taken AS t;

-- name: QueueBounds :one
-- The database's clock, and from when to when the candidates are due by then; the zero time
-- twice where none is.
SELECT
    clock.now::timestamptz AS now,
    coalesce((SELECT min(c.not_before) FROM candidates AS c WHERE c.not_before <= clock.now), '0001-01-01 00:00Z')::timestamptz AS first,
    coalesce((SELECT max(c.not_before) FROM candidates AS c WHERE c.not_before <= clock.now), '0001-01-01 00:00Z')::timestamptz AS last
FROM (SELECT clock_timestamp() AS now) AS clock;

-- name: Judge :many
-- What stands against a bid on each posting, by one reading of the clock: the first that
-- applies of unknown, duplicate, closed, recent and stale, or nothing (''). A statement
-- of its own after the lock, so that its snapshot sees what the last holder committed.
--
-- Also the whole of a dry run: refreshed holds what a file says cached_at would become.
--
-- What only the operator's own policy looks at is read and sent only where it does.
WITH clock AS MATERIALIZED (
    SELECT coalesce(sqlc.narg('now')::timestamptz, clock_timestamp()) AS now
)
SELECT
    k.marketplace::text AS marketplace,
    k.job_id::text AS job_id,
    clock.now::timestamptz AS judged_at,
    (CASE
        WHEN coalesce(k.refreshed, p.cached_at) IS NULL THEN 'unknown'
        WHEN live.id IS NOT NULL THEN 'duplicate'
        WHEN ended.status IN ('WON', 'LOST', 'REJECTED') THEN 'closed'
        WHEN ended.status = 'WITHDRAWN' AND @withdrawn_is_closed::boolean THEN 'closed'
        WHEN touched.at > clock.now - @rebid_window::interval THEN 'recent'
        WHEN greatest(k.refreshed, p.cached_at) < clock.now - @posting_ttl::interval THEN 'stale'
        ELSE ''
    END)::text AS outcome,
    coalesce(live.id, '00000000-0000-0000-0000-000000000000')::uuid AS live_bid_id,
    coalesce(ended.status, '')::text AS ended_status,
    coalesce(p.cached_at, '0001-01-01 00:00Z')::timestamptz AS cached_at,
    p.budget_min_cents,
    p.budget_max_cents,
    p.bid_amount_cents,
    coalesce(content.title, '')::text AS title,
    coalesce(content.url, '')::text AS url,
    coalesce(p.currency, '')::text AS currency,
    coalesce(content.pricing, '')::text AS pricing,
    content.skills,
    content.posted_at,
    content.deadline,
    content.bid_period_days,
    coalesce(CASE WHEN @with_description::boolean THEN content.description END, '')::text AS description
FROM clock
CROSS JOIN (
    SELECT
        unnest(@marketplaces::text[]) AS marketplace,
        unnest(@job_ids::text[]) AS job_id,
        nullif(unnest(sqlc.narg('refreshed')::timestamptz[]), '0001-01-01 00:00Z') AS refreshed
) AS k
LEFT JOIN LATERAL (
    SELECT * FROM postings
    WHERE postings.marketplace = k.marketplace AND postings.job_id = k.job_id
    LIMIT 1
) AS p ON true
LEFT JOIN LATERAL (
    SELECT * FROM postings AS c
    WHERE @with_content::boolean AND c.marketplace = k.marketplace AND c.job_id = k.job_id
    LIMIT 1
) AS content ON true
LEFT JOIN LATERAL (
    SELECT b.id FROM bids AS b
    WHERE b.marketplace = k.marketplace AND b.job_id = k.job_id AND b.status = 'ACTIVE'
    LIMIT 1
) AS live ON true
LEFT JOIN LATERAL (
    SELECT b.status FROM bids AS b
    WHERE b.marketplace = k.marketplace AND b.job_id = k.job_id
        AND b.status <> 'ACTIVE' AND b.status <> 'DUPLICATE'
    ORDER BY b.created_at DESC, b.id DESC
    LIMIT 1
) AS ended ON true
LEFT JOIN LATERAL (
    SELECT max(greatest(b.created_at, b.submitted_at, b.last_post_at, b.withdrawal_timestamp))::timestamptz AS at
    FROM bids AS b
    WHERE b.marketplace = k.marketplace AND b.job_id = k.job_id
        AND b.status <> 'ACTIVE' AND b.status <> 'DUPLICATE'
) AS touched ON true;

-- name: InsertBids :many
-- Inserts the bids, each owing its place from birth, and takes what is decided off the
-- queue. A posting refreshed since it was judged is left alone: it is judged again.
--
-- What was inserted is taken from a share of each cap that applies: one that nobody holds,
-- so this waits for no one. Where there is none, overspent says so; the claim is undone then.
WITH asked AS MATERIALIZED (
    SELECT
        unnest(@ids::uuid[]) AS id,
        unnest(@marketplaces::text[]) AS marketplace,
        unnest(@job_ids::text[]) AS job_id,
        unnest(@cached_ats::timestamptz[]) AS cached_at,
        unnest(@amounts::bigint[]) AS amount_cents,
        unnest(@states::text[]) AS delivery_state,
        unnest(@covers::timestamptz[]) AS covers,
        unnest(@places::tid[]) AS place
),
inserted AS (
    INSERT INTO bids (
        id, marketplace, job_id, amount_cents, currency, period_days, proposal, posting_cached_at,
        run_id, delivery_kind, delivery_state, next_attempt_at, created_at, updated_at)
    SELECT
        a.id, a.marketplace, a.job_id, a.amount_cents, p.currency, p.bid_period_days, p.bid_proposal, p.cached_at,
        sqlc.narg('run_id')::uuid, 'place', a.delivery_state,
        CASE WHEN a.delivery_state = 'pending' THEN @judged_at::timestamptz END, @judged_at, @judged_at
    FROM asked AS a
    CROSS JOIN LATERAL (
        SELECT * FROM postings
        WHERE postings.marketplace = a.marketplace AND postings.job_id = a.job_id
            AND postings.cached_at = a.cached_at
        LIMIT 1
    ) AS p
    ORDER BY a.marketplace, a.job_id
    ON CONFLICT (marketplace, job_id) WHERE status = 'ACTIVE' DO NOTHING
    RETURNING id, marketplace, account, currency, amount_cents
),
spent AS MATERIALIZED (
    SELECT k.marketplace, k.account, k.cap, k.currency, k.day, k.of_cap, k.first_share,
        sum(CASE WHEN k.cap = 'money_per_day' THEN inserted.amount_cents ELSE 1 END)::bigint AS amount
    FROM (
        SELECT m.*, CASE WHEN m.cap = 'live_bids' THEN '-infinity' ELSE ((@judged_at::timestamptz) AT TIME ZONE m.zone)::date END AS day
        FROM (
            SELECT
                unnest(@cap_marketplaces::text[]) AS marketplace,
                unnest(@cap_accounts::text[]) AS account,
                unnest(@caps::text[]) AS cap,
                unnest(@cap_currencies::text[]) AS currency,
                unnest(@cap_zones::text[]) AS zone,
                unnest(@of_caps::bigint[]) AS of_cap,
                unnest(@first_shares::integer[]) AS first_share
        ) AS m
    ) AS k
    JOIN inserted ON inserted.marketplace = k.marketplace AND inserted.account = k.account
        AND (k.currency = '' OR inserted.currency = k.currency)
    GROUP BY k.marketplace, k.account, k.cap, k.currency, k.day, k.of_cap, k.first_share
),
held AS MATERIALIZED (
    SELECT spent.*, free.share
    FROM spent
    CROSS JOIN LATERAL (
        SELECT s.share FROM spending AS s
        WHERE s.marketplace = spent.marketplace AND s.account = spent.account AND s.cap = spent.cap AND s.currency = spent.currency
            AND s.day = spent.day AND s.share >= spent.first_share AND s.of_cap = spent.of_cap AND s.used + spent.amount <= s.allotted
        ORDER BY s.share
        LIMIT 1
        FOR UPDATE OF s SKIP LOCKED
    ) AS free
),
taken AS (
    UPDATE spending AS s SET used = s.used + held.amount
    FROM held
    WHERE s.marketplace = held.marketplace AND s.account = held.account AND s.cap = held.cap AND s.currency = held.currency
        AND s.day = held.day AND s.share = held.share
    RETURNING s.share
),
decided AS (
    SELECT a.marketplace, a.job_id, a.covers, a.place FROM inserted JOIN asked AS a ON a.id = inserted.id
    UNION ALL
    SELECT unnest(@decided_marketplaces::text[]), unnest(@decided_job_ids::text[]), unnest(@decided_covers::timestamptz[]), unnest(@decided_places::tid[])
),
-- The places in the queue of what is decided. What a pass has taken it holds, so its place is
-- still the same. What was told by key may be queued: a refresh that arrived after the judgement
-- stays, its cached_at is newer than what the decision covers; and so does a candidate that a
-- pass holds: that pass will find it decided.
gone AS MATERIALIZED (
    SELECT d.place FROM decided AS d WHERE d.place IS NOT NULL
    UNION ALL
    SELECT queued.place
    FROM (
        SELECT c.ctid AS place
        FROM decided AS d
        JOIN candidates AS c ON c.marketplace = d.marketplace AND c.job_id = d.job_id AND c.cached_at <= d.covers
        WHERE d.place IS NULL
        FOR UPDATE OF c SKIP LOCKED
    ) AS queued
),
dropped AS (
    DELETE FROM candidates AS c USING gone WHERE c.ctid = gone.place
)
SELECT id, ((SELECT count(*) FROM spent) <> (SELECT count(*) FROM taken))::boolean AS overspent FROM inserted;

-- name: FindLiveBids :many
-- Who won the postings that could not be inserted: a new statement, so a new snapshot.
SELECT b.marketplace, b.job_id, b.id
FROM (
    SELECT unnest(@marketplaces::text[]) AS marketplace, unnest(@job_ids::text[]) AS job_id
) AS k
CROSS JOIN LATERAL (
    SELECT bids.marketplace, bids.job_id, bids.id FROM bids
    WHERE bids.marketplace = k.marketplace AND bids.job_id = k.job_id AND bids.status = 'ACTIVE'
    LIMIT 1
) AS b;

-- name: InsertDuplicates :exec
-- Audit rows of attempts by hand that met a live bid.
INSERT INTO bids (id, marketplace, job_id, status, currency, posting_cached_at, duplicate_of, run_id, created_at, updated_at)
SELECT d.id, b.marketplace, b.job_id, 'DUPLICATE', b.currency, d.cached_at, b.id, sqlc.narg('run_id')::uuid, @now::timestamptz, @now
FROM (
    SELECT unnest(@ids::uuid[]) AS id, unnest(@live_bid_ids::uuid[]) AS live_bid_id, unnest(@cached_ats::timestamptz[]) AS cached_at
) AS d
JOIN bids AS b ON b.id = d.live_bid_id;

-- name: FindBidsByID :many
SELECT id FROM bids WHERE id = ANY(@ids::uuid[]);

-- name: PostponeCandidates :exec
-- Candidates that stay, past the pass that took them, some until a time of their own.
UPDATE candidates AS c
SET not_before = greatest(clock_timestamp() + @pause::interval, held.until)
FROM (
    SELECT p.marketplace, p.job_id, k.until
    FROM candidates AS p
    JOIN (
        SELECT unnest(@marketplaces::text[]) AS marketplace, unnest(@job_ids::text[]) AS job_id, unnest(@untils::timestamptz[]) AS until
    ) AS k ON p.marketplace = k.marketplace AND p.job_id = k.job_id
    FOR UPDATE OF p SKIP LOCKED
) AS held
WHERE c.marketplace = held.marketplace AND c.job_id = held.job_id;

-- name: FailCandidates :exec
-- Candidates whose attempt broke: after 2^tries seconds again, parked after 8.
UPDATE candidates AS c
SET tries = c.tries + 1,
    last_error = @last_error::text,
    not_before = CASE
        WHEN c.tries + 1 >= 8 THEN 'infinity'
        ELSE clock_timestamp() + interval '1 second' * 2 ^ (c.tries + 1)
    END
FROM (
    SELECT f.marketplace, f.job_id
    FROM candidates AS f
    JOIN (
        SELECT unnest(@marketplaces::text[]) AS marketplace, unnest(@job_ids::text[]) AS job_id
    ) AS k ON f.marketplace = k.marketplace AND f.job_id = k.job_id
    FOR UPDATE OF f SKIP LOCKED
) AS held
WHERE c.marketplace = held.marketplace AND c.job_id = held.job_id;

-- name: ReconsiderPostings :execrows
-- Every fresh posting without a live bid becomes a candidate again.
INSERT INTO candidates (marketplace, job_id, cached_at)
SELECT p.marketplace, p.job_id, p.cached_at
FROM postings AS p
WHERE p.cached_at >= clock_timestamp() - @posting_ttl::interval
    AND NOT EXISTS (
        SELECT FROM bids AS b
        WHERE b.marketplace = p.marketplace AND b.job_id = p.job_id AND b.status = 'ACTIVE')
ORDER BY p.marketplace, p.job_id
ON CONFLICT (marketplace, job_id)
    DO UPDATE SET cached_at = excluded.cached_at, not_before = excluded.not_before, tries = 0, last_error = NULL;

-- name: DueCandidates :many
-- What a pass would take, for dry runs: a page in key order, without locking it. With
-- reconsider also what ReconsiderPostings would queue.
SELECT due.marketplace::text AS marketplace, due.job_id::text AS job_id
FROM (
    SELECT c.marketplace, c.job_id FROM candidates AS c
    WHERE c.not_before <= clock_timestamp()
    UNION
    SELECT p.marketplace, p.job_id FROM postings AS p
    WHERE @reconsider::boolean
        AND p.cached_at >= clock_timestamp() - @posting_ttl::interval
        AND NOT EXISTS (
            SELECT FROM bids AS b
            WHERE b.marketplace = p.marketplace AND b.job_id = p.job_id AND b.status = 'ACTIVE')
) AS due
WHERE (due.marketplace, due.job_id) > (@after_marketplace::text, @after_job_id::text)
ORDER BY due.marketplace, due.job_id
LIMIT @page::integer;
