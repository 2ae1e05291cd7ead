-- What the console shows. Nothing here reads a whole table, however large: what is counted is
-- counted up to a number, and what is searched is searched a window at a time. Of a text, which may be of
-- megabytes, a list reads somewhat more than it shows.

-- name: LiveFacts :one
-- How many bids are live: counted up to a number, and beyond that what the statistics of
-- their index say.
SELECT
    clock_timestamp()::timestamptz AS now,
    (SELECT count(*) FROM (SELECT FROM bids AS b WHERE b.status = 'ACTIVE' LIMIT @most::integer) AS counted)::bigint AS live,
    (SELECT greatest(coalesce(max(c.reltuples), 0), 0) FROM pg_catalog.pg_class AS c
     WHERE c.oid = to_regclass('bids_one_active_per_posting'))::bigint AS estimated;

-- name: OwedFacts :one
-- What bids owe their marketplaces, of so many that owe anything.
SELECT
    count(*)::bigint AS looked_at,
    count(*) FILTER (WHERE o.delivery_kind = 'place' AND o.by_itself)::bigint AS place,
    count(*) FILTER (WHERE o.delivery_kind = 'withdraw' AND o.by_itself)::bigint AS withdraw,
    count(*) FILTER (WHERE o.delivery_state = 'leased')::bigint AS leased,
    count(*) FILTER (WHERE o.by_itself AND o.next_attempt_at <= clock_timestamp() AND o.delivery_state = 'pending')::bigint AS due,
    coalesce(min(coalesce(o.withdraw_requested_at, o.created_at)) FILTER (WHERE o.by_itself), clock_timestamp())::timestamptz AS oldest
FROM (
    SELECT b.delivery_kind, b.delivery_state, b.next_attempt_at, b.withdraw_requested_at, b.created_at,
        b.delivery_state IN ('pending', 'leased') AS by_itself
    FROM bids AS b WHERE b.delivery_kind IS NOT NULL
    LIMIT @most::integer
) AS o;

-- name: PersonFacts :one
-- What waits for a person, of so many that do, and since when.
SELECT
    count(*)::bigint AS looked_at,
    count(*) FILTER (WHERE w.delivery_state = 'review')::bigint AS review,
    count(*) FILTER (WHERE w.delivery_state = 'awaiting_approval')::bigint AS approval,
    coalesce(min(w.since), clock_timestamp())::timestamptz AS oldest
FROM (
    SELECT b.delivery_state, coalesce(b.review_since, b.created_at) AS since
    FROM bids AS b WHERE b.delivery_state IN ('review', 'awaiting_approval')
    LIMIT @most::integer
) AS w;

-- name: CandidateFacts :one
-- The queue of postings, counted up to a number.
SELECT
    (SELECT count(*) FROM (SELECT FROM candidates AS c WHERE c.not_before <= clock_timestamp() LIMIT @most::integer) AS due)::bigint AS due,
    (SELECT count(*) FROM (SELECT FROM candidates AS c WHERE c.not_before = 'infinity' LIMIT @most) AS parked)::bigint AS parked;

-- name: RunHistory :many
-- What the newest runs since a time counted, by the span of time in which they began.
SELECT
    date_bin(@step::interval, r.started_at, @since::timestamptz)::timestamptz AS began,
    count(*)::bigint AS runs,
    min(r.started_at)::timestamptz AS first,
    coalesce(sum((r.counters -> 'outcomes' ->> 'unknown')::bigint), 0)::bigint AS unknown,
    coalesce(sum((r.counters -> 'outcomes' ->> 'duplicate')::bigint), 0)::bigint AS duplicate,
    coalesce(sum((r.counters -> 'outcomes' ->> 'closed')::bigint), 0)::bigint AS closed,
    coalesce(sum((r.counters -> 'outcomes' ->> 'recent')::bigint), 0)::bigint AS recent,
    coalesce(sum((r.counters -> 'outcomes' ->> 'stale')::bigint), 0)::bigint AS stale,
    coalesce(sum((r.counters -> 'outcomes' ->> 'ineligible')::bigint), 0)::bigint AS ineligible,
    coalesce(sum((r.counters -> 'outcomes' ->> 'claimed')::bigint), 0)::bigint AS claimed,
    coalesce(sum((r.counters -> 'outcomes' ->> 'locked')::bigint), 0)::bigint AS locked,
    coalesce(sum((r.counters -> 'outcomes' ->> 'failed')::bigint), 0)::bigint AS failed,
    coalesce(sum((r.counters ->> 'lock_attempts')::bigint), 0)::bigint AS lock_attempts,
    coalesce(sum((r.counters ->> 'lock_successes')::bigint), 0)::bigint AS lock_successes,
    coalesce(sum((r.counters ->> 'lock_conflicts')::bigint), 0)::bigint AS lock_conflicts,
    coalesce(sum((r.counters ->> 'lock_timeouts')::bigint), 0)::bigint AS lock_timeouts
FROM (
    SELECT n.started_at, n.counters FROM runs AS n
    WHERE n.started_at >= @since
    ORDER BY n.started_at DESC
    LIMIT @most::integer
) AS r
GROUP BY began
ORDER BY began;

-- name: RecentRuns :many
SELECT id, kind, started_at, updated_at, finished_at, exit_code, host, version, counters
FROM runs
ORDER BY started_at DESC
LIMIT @page::integer;

-- name: SearchBids :many
-- Newest first among the bids of a window: so many of those before an id. An index for each
-- way of asking would be written by every claim; the window bounds what one page reads.
SELECT
    b.id, b.marketplace, b.account, b.job_id, b.status, b.amount_cents, b.currency, b.external_bid_id,
    b.delivery_kind, b.delivery_state, b.review_reason, b.created_at,
    coalesce(left(p.title, 600), '')::text AS title
FROM (
    SELECT * FROM bids AS w
    WHERE w.id < @before_id::uuid AND w.id >= @from_id::uuid
    ORDER BY w.id DESC
    LIMIT @win::integer
) AS b
LEFT JOIN LATERAL (
    SELECT q.title FROM postings AS q WHERE q.marketplace = b.marketplace AND q.job_id = b.job_id LIMIT 1
) AS p ON true
WHERE (sqlc.narg('status')::text IS NULL OR b.status = sqlc.narg('status'))
    AND (sqlc.narg('marketplace')::text IS NULL OR b.marketplace = sqlc.narg('marketplace'))
    AND (NOT @owing::boolean OR b.delivery_kind IS NOT NULL)
    AND (@sought::text = '' OR strpos(lower(p.title), lower(@sought)) > 0 OR strpos(lower(b.job_id), lower(@sought)) > 0
        OR strpos(lower(coalesce(b.external_bid_id, '')), lower(@sought)) > 0)
ORDER BY b.id DESC
LIMIT @page::integer;

-- name: SearchEnd :one
-- The bid that so many stand before in a window, and when it was made; no row where the
-- window reaches the end.
SELECT w.id, w.created_at FROM bids AS w
WHERE w.id < @before_id::uuid AND w.id >= @from_id::uuid
ORDER BY w.id DESC
LIMIT 1 OFFSET (@win::integer);

-- name: FindBids :many
-- The bids of a job, or with an id of the marketplace, to the letter, newest first: by
-- their indexes, at each of the marketplaces given.
SELECT
    b.id, b.marketplace, b.account, b.job_id, b.status, b.amount_cents, b.currency, b.external_bid_id,
    b.delivery_kind, b.delivery_state, b.review_reason, b.created_at,
    coalesce(left(p.title, 600), '')::text AS title
FROM (
    SELECT found.*
    FROM (SELECT unnest(@marketplaces::text[]) AS name) AS m
    CROSS JOIN LATERAL (
        (SELECT l.id, l.marketplace, l.account, l.job_id, l.status, l.amount_cents, l.currency, l.external_bid_id, l.delivery_kind, l.delivery_state, l.review_reason, l.created_at
         FROM bids AS l WHERE l.marketplace = m.name AND l.job_id = @sought::text AND l.status = 'ACTIVE' LIMIT 1)
        UNION
        (SELECT h.id, h.marketplace, h.account, h.job_id, h.status, h.amount_cents, h.currency, h.external_bid_id, h.delivery_kind, h.delivery_state, h.review_reason, h.created_at
         FROM bids AS h WHERE h.marketplace = m.name AND h.job_id = @sought AND h.status <> 'ACTIVE'
         ORDER BY h.created_at DESC LIMIT @page::integer)
        UNION
        (SELECT x.id, x.marketplace, x.account, x.job_id, x.status, x.amount_cents, x.currency, x.external_bid_id, x.delivery_kind, x.delivery_state, x.review_reason, x.created_at
         FROM bids AS x WHERE x.marketplace = m.name AND x.account = 'default' AND x.external_bid_id = @sought LIMIT @page)
    ) AS found
) AS b
LEFT JOIN LATERAL (
    SELECT q.title FROM postings AS q WHERE q.marketplace = b.marketplace AND q.job_id = b.job_id LIMIT 1
) AS p ON true
ORDER BY b.id DESC
LIMIT @page;

-- name: BidMarketplaces :many
-- The marketplaces that have bids, so many at most. Jumps from one to the next in the
-- indexes: its cost is the number of marketplaces, not of bids.
WITH RECURSIVE living(marketplace) AS (
    (SELECT b.marketplace FROM bids AS b WHERE b.status = 'ACTIVE' ORDER BY b.marketplace LIMIT 1)
    UNION ALL
    SELECT next.marketplace FROM living
    CROSS JOIN LATERAL (
        SELECT b.marketplace FROM bids AS b WHERE b.status = 'ACTIVE' AND b.marketplace > living.marketplace
        ORDER BY b.marketplace LIMIT 1
    ) AS next
),
ended(marketplace) AS (
    (SELECT b.marketplace FROM bids AS b WHERE b.status <> 'ACTIVE' ORDER BY b.marketplace LIMIT 1)
    UNION ALL
    SELECT next.marketplace FROM ended
    CROSS JOIN LATERAL (
        SELECT b.marketplace FROM bids AS b WHERE b.status <> 'ACTIVE' AND b.marketplace > ended.marketplace
        ORDER BY b.marketplace LIMIT 1
    ) AS next
)
SELECT named.marketplace::text AS marketplace FROM (
    (SELECT living.marketplace FROM living LIMIT @most::integer)
    UNION
    (SELECT ended.marketplace FROM ended LIMIT @most)
) AS named
ORDER BY named.marketplace
LIMIT @most;

-- name: BidEventsBefore :many
-- The newest events of a bid before one of them, newest first.
SELECT * FROM bid_events WHERE bid_id = @bid_id AND id < @before_id ORDER BY id DESC LIMIT @page::integer;

-- name: WaitingBids :many
-- What waits for a person, the oldest bid first, of a window: so many of those after an id. Half an
-- address would lead elsewhere, so one that is too long is left out.
SELECT sqlc.embed(b), coalesce(left(p.title, 600), '')::text AS title,
    coalesce(CASE WHEN octet_length(p.url) <= 10000 THEN p.url END, '')::text AS url,
    coalesce(left(p.description, 600), '')::text AS description
FROM (
    SELECT w.id FROM bids AS w
    WHERE w.delivery_state IN ('review', 'awaiting_approval') AND w.id > @after_id::uuid
    ORDER BY w.id
    LIMIT @win::integer
) AS near
JOIN bids AS b ON b.id = near.id
LEFT JOIN LATERAL (
    SELECT q.title, q.url, q.description FROM postings AS q WHERE q.marketplace = b.marketplace AND q.job_id = b.job_id LIMIT 1
) AS p ON true
WHERE (sqlc.narg('marketplace')::text IS NULL OR b.marketplace = sqlc.narg('marketplace'))
    AND (sqlc.narg('state')::text IS NULL OR b.delivery_state = sqlc.narg('state'))
ORDER BY b.id
LIMIT @page::integer;

-- name: WaitingEnd :one
-- The bid that so many stand before in such a window; no row where the window reaches the end.
SELECT w.id FROM bids AS w
WHERE w.delivery_state IN ('review', 'awaiting_approval') AND w.id > @after_id::uuid
ORDER BY w.id
LIMIT 1 OFFSET (@win::integer);

-- name: ResumeAccount :execrows
-- Ends one pause: the one that began at the given time, and no other.
UPDATE accounts
SET paused_at = NULL, paused_until = NULL, paused_reason = NULL, paused_by = NULL, resumed_at = clock_timestamp(), resumed_by = @resumed_by::text
WHERE marketplace = @marketplace AND account = @account AND paused_at = @paused_at::timestamptz;

-- name: QueuedOfLockKeys :many
-- Which postings these keys belong to, among those that claims are likely to hold: the first
-- of the queue, and those of the newest bids.
SELECT DISTINCT k.marketplace, k.job_id, bid_lock_key(k.marketplace, k.job_id)::bigint AS key
FROM (
    (SELECT c.marketplace, c.job_id FROM candidates AS c ORDER BY c.not_before LIMIT @win::integer)
    UNION ALL
    (SELECT b.marketplace, b.job_id FROM bids AS b ORDER BY b.id DESC LIMIT @win)
) AS k
WHERE bid_lock_key(k.marketplace, k.job_id) = ANY(@keys::bigint[]);
