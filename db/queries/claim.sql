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
-- queue on, then tries the lock of each. What the next statement needs is noted for that, which comes in
-- the same message, before anybody has read what was taken: where the postings lie and the keys of the
-- locks that were got, for InsertPlain; where the candidates lie that were locked, for Judge.
WITH tried AS MATERIALIZED (
    SELECT t.*, pg_try_advisory_xact_lock(t.lock_key) AS locked
    FROM (
        SELECT c.ctid, c.marketplace, c.job_id, c.cached_at, c.not_before, c.posting, bid_lock_key(c.marketplace, c.job_id) AS lock_key
        FROM candidates AS c
        WHERE c.not_before <= @due_by::timestamptz
            AND c.not_before >= @place::timestamptz
        ORDER BY c.not_before
        LIMIT @batch::integer
        FOR UPDATE SKIP LOCKED
    ) AS t
),
noted AS MATERIALIZED (
    SELECT CASE
        WHEN @plain::boolean THEN num_nonnulls(
            set_config('bidder.postings', array_agg(t.posting)::text, true),
            set_config('bidder.lock_keys', (array_agg(t.lock_key) FILTER (WHERE t.locked))::text, true))
        ELSE num_nonnulls(set_config('bidder.taken', (array_agg(t.ctid) FILTER (WHERE t.locked))::text, true))
    END
    FROM tried AS t
)
SELECT
    t.marketplace,
    t.job_id,
    t.cached_at,
    t.not_before,
    t.ctid AS place,
    t.locked::boolean AS locked
FROM noted
CROSS JOIN tried AS t;

-- name: QueueBounds :one
-- The database's clock, from when to when the candidates are due by then (the zero time twice
-- where none is), and which marketplaces the first of them are of.
SELECT
    clock.now::timestamptz AS now,
    coalesce((SELECT min(c.not_before) FROM candidates AS c WHERE c.not_before <= clock.now), '0001-01-01 00:00Z')::timestamptz AS first,
    coalesce((SELECT max(c.not_before) FROM candidates AS c WHERE c.not_before <= clock.now), '0001-01-01 00:00Z')::timestamptz AS last,
    ARRAY(
        SELECT DISTINCT f.marketplace
        FROM (SELECT c.marketplace FROM candidates AS c WHERE c.not_before <= clock.now ORDER BY c.not_before LIMIT 64) AS f
    )::text[] AS marketplaces
FROM (SELECT clock_timestamp() AS now) AS clock;

-- name: InsertPlain :many
-- Claims the plain ones of what TakeCandidates has taken and locked in the same transaction: fresh, never
-- bid on, and with an amount within the terms of their marketplace. All else is left to Judge. A statement of
-- its own after the lock, so that its snapshot sees what the last holder committed. What was locked is
-- numbered as it was taken; so are the ids.
--
-- The postings are read, all at once, where their candidates say that they lie. Where one was rewritten
-- since, nothing may lie there, or another: only what has one of the locked keys is theirs.
--
-- Without ON CONFLICT, which would look for a live bid a second time: only a writer that takes no locks can
-- have made one since the snapshot, and then the statement fails.
INSERT INTO bids (
    id, marketplace, job_id, amount_cents, currency, period_days, proposal, posting_cached_at,
    run_id, delivery_kind, delivery_state, next_attempt_at, created_at, updated_at)
SELECT
    (@ids::uuid[])[p.number], p.marketplace, p.job_id, p.amount_cents, p.currency, p.bid_period_days, p.bid_proposal, p.cached_at,
    sqlc.narg('run_id')::uuid, 'place', CASE WHEN (@need_approval::boolean[])[p.terms] THEN 'awaiting_approval' ELSE 'pending' END,
    CASE WHEN NOT (@need_approval)[p.terms] THEN clock.now END, clock.now, clock.now
FROM (SELECT coalesce(sqlc.narg('now')::timestamptz, statement_timestamp()) AS now) AS clock
CROSS JOIN (
    SELECT
        postings.marketplace, postings.job_id, postings.cached_at, postings.currency, postings.bid_period_days, postings.bid_proposal,
        coalesce(postings.bid_amount_cents, postings.budget_max_cents, postings.budget_min_cents) AS amount_cents,
        array_position(@marketplaces::text[], postings.marketplace::text) AS terms,
        array_position(
            (SELECT nullif(current_setting('bidder.lock_keys', true), '')::bigint[]), -- read once, not for each posting
            bid_lock_key(postings.marketplace, postings.job_id)) AS number
    FROM postings
    WHERE postings.ctid = ANY(nullif(current_setting('bidder.postings', true), '')::tid[])
    OFFSET 0 -- else the number is worked out again wherever it is used
) AS p
WHERE p.number IS NOT NULL
    AND p.cached_at >= clock.now - @posting_ttl::interval
    AND p.amount_cents BETWEEN (@min_amounts::bigint[])[p.terms] AND (@max_amounts::bigint[])[p.terms]
    AND (
        SELECT b.id FROM bids AS b
        WHERE b.marketplace = p.marketplace AND b.job_id = p.job_id AND b.status = 'ACTIVE'
        LIMIT 1
    ) IS NULL
    AND (
        SELECT b.id FROM bids AS b
        WHERE b.marketplace = p.marketplace AND b.job_id = p.job_id
            AND b.status <> 'ACTIVE' AND b.status <> 'DUPLICATE'
        LIMIT 1
    ) IS NULL
ORDER BY p.marketplace, p.job_id
RETURNING id, amount_cents::bigint AS amount_cents, currency, posting_cached_at::timestamptz AS cached_at;

-- name: Judge :many
-- What stands against a bid on each posting, by one reading of the clock: the first that
-- applies of unknown, duplicate, closed, recent and stale, or nothing (''). A statement
-- of its own after the lock, so that its snapshot sees what the last holder committed.
-- The postings are those of the keys, by their numbers, or of the candidates that
-- TakeCandidates has taken and locked in the same transaction, by where they lie.
--
-- Also the whole of a dry run: refreshed holds what a file says cached_at would become.
SELECT
    coalesce(k.number, 0)::integer AS number,
    k.candidate,
    clock.now::timestamptz AS judged_at,
    (CASE
        WHEN coalesce(k.refreshed, p.cached_at) IS NULL THEN 'unknown'
        WHEN live.id IS NOT NULL THEN 'duplicate'
        WHEN past.status IN ('WON', 'LOST', 'REJECTED') THEN 'closed'
        WHEN past.status = 'WITHDRAWN' AND @withdrawn_is_closed::boolean THEN 'closed'
        WHEN past.touched_at > clock.now - @rebid_window::interval THEN 'recent'
        WHEN greatest(k.refreshed, p.cached_at) < clock.now - @posting_ttl::interval THEN 'stale'
        ELSE ''
    END)::text AS outcome,
    coalesce(live.id, '00000000-0000-0000-0000-000000000000')::uuid AS live_bid_id,
    coalesce(past.status, '')::text AS ended_status,
    coalesce(p.cached_at, '0001-01-01 00:00Z')::timestamptz AS cached_at,
    p.budget_min_cents,
    p.budget_max_cents,
    p.bid_amount_cents,
    coalesce(p.currency, '')::text AS currency,
    coalesce(p.tableoid, 0)::oid AS in_table,
    p.ctid AS place,
    coalesce(p.xmin, '0')::xid AS written_by
FROM (SELECT coalesce(sqlc.narg('now')::timestamptz, statement_timestamp()) AS now) AS clock
CROSS JOIN (
    SELECT
        unnest(@numbers::integer[]) AS number,
        NULL::tid AS candidate,
        unnest(@marketplaces::text[]) AS marketplace,
        unnest(@job_ids::text[]) AS job_id,
        nullif(unnest(sqlc.narg('refreshed')::timestamptz[]), '0001-01-01 00:00Z') AS refreshed
    UNION ALL
    SELECT NULL, c.ctid, c.marketplace, c.job_id, NULL
    FROM candidates AS c
    WHERE c.ctid = ANY(CASE WHEN @taken::boolean THEN nullif(current_setting('bidder.taken', true), '')::tid[] END)
) AS k
LEFT JOIN LATERAL (
    SELECT postings.tableoid, postings.ctid, postings.xmin, postings.cached_at, postings.budget_min_cents, postings.budget_max_cents, postings.bid_amount_cents, postings.currency
    FROM postings
    WHERE postings.marketplace = k.marketplace AND postings.job_id = k.job_id
    LIMIT 1
) AS p ON true
LEFT JOIN LATERAL (
    SELECT b.id FROM bids AS b
    WHERE b.marketplace = k.marketplace AND b.job_id = k.job_id AND b.status = 'ACTIVE'
    LIMIT 1
) AS live ON true
LEFT JOIN LATERAL (
    SELECT b.status, max(greatest(b.created_at, b.submitted_at, b.last_post_at, b.withdrawal_timestamp)) OVER () AS touched_at
    FROM bids AS b
    WHERE b.marketplace = k.marketplace AND b.job_id = k.job_id
        AND b.status <> 'ACTIVE' AND b.status <> 'DUPLICATE'
    ORDER BY b.created_at DESC, b.id DESC
    LIMIT 1
) AS past ON true;

-- name: PostingContents :many
-- What only the operator's own policy looks at, of postings that nothing else stands against. Of what is too
-- long for an expression (pkg/policy) so much that this can be told: a batch must fit into a pod, whatever
-- scanners write.
SELECT
    k.marketplace::text AS marketplace,
    k.job_id::text AS job_id,
    left(p.title, 10001)::text AS title,
    coalesce(left(p.url, 10001), '')::text AS url,
    coalesce(p.pricing, '')::text AS pricing,
    ARRAY(
        SELECT left(s.skill, 251)
        FROM unnest(p.skills[1:251]) WITH ORDINALITY AS s(skill, number)
        ORDER BY s.number
    )::text[] AS skills,
    p.posted_at,
    p.deadline,
    p.bid_period_days,
    (CASE WHEN @with_description::boolean THEN left(p.description, 100001) ELSE '' END)::text AS description
FROM (
    SELECT unnest(@marketplaces::text[]) AS marketplace, unnest(@job_ids::text[]) AS job_id
) AS k
CROSS JOIN LATERAL (
    SELECT * FROM postings
    WHERE postings.marketplace = k.marketplace AND postings.job_id = k.job_id
    LIMIT 1
) AS p;

-- name: InsertBids :execrows
-- Inserts the bids, each owing its place from birth, on the very content that was judged: the
-- table (one of several, were they partitions), the place in it and who wrote it name one version
-- of a posting. One refreshed since is left alone, and judged again.
INSERT INTO bids (
    id, marketplace, job_id, amount_cents, currency, period_days, proposal, posting_cached_at,
    run_id, delivery_kind, delivery_state, next_attempt_at, created_at, updated_at)
SELECT
    a.id, p.marketplace, p.job_id, a.amount_cents, p.currency, p.bid_period_days, p.bid_proposal, p.cached_at,
    sqlc.narg('run_id')::uuid, 'place', CASE WHEN a.needs_approval THEN 'awaiting_approval' ELSE 'pending' END,
    CASE WHEN NOT a.needs_approval THEN @judged_at::timestamptz END, @judged_at, @judged_at
FROM (
    SELECT
        unnest(@ids::uuid[]) AS id,
        unnest(@in_tables::oid[]) AS in_table,
        unnest(@places::tid[]) AS place,
        unnest(@written_by::xid[]) AS written_by,
        unnest(@amounts::bigint[]) AS amount_cents,
        unnest(@need_approval::boolean[]) AS needs_approval
) AS a
CROSS JOIN LATERAL (
    SELECT postings.marketplace, postings.job_id, postings.cached_at, postings.currency, postings.bid_period_days, postings.bid_proposal
    FROM postings
    WHERE postings.ctid = a.place AND postings.xmin = a.written_by AND postings.tableoid = a.in_table
    LIMIT 1
) AS p
ORDER BY p.marketplace, p.job_id
ON CONFLICT (marketplace, job_id) WHERE status = 'ACTIVE' DO NOTHING;

-- name: DropTaken :exec
-- Takes what is decided off the queue, where this transaction holds it: neither its content nor
-- its place has changed.
DELETE FROM candidates WHERE ctid = ANY(@places::tid[]);

-- name: DropCandidates :exec
-- Takes what is decided off the queue, where it is there. A refresh that arrived after the
-- judgement stays: its cached_at is newer than what the decision covers. A candidate that a
-- pass holds stays too: that pass will find it decided.
DELETE FROM candidates AS c
USING (
    SELECT q.ctid AS place
    FROM (
        SELECT
            unnest(@marketplaces::text[]) AS marketplace,
            unnest(@job_ids::text[]) AS job_id,
            unnest(@covers::timestamptz[]) AS covers
    ) AS d
    JOIN candidates AS q ON q.marketplace = d.marketplace AND q.job_id = d.job_id AND q.cached_at <= d.covers
    FOR UPDATE OF q SKIP LOCKED
) AS held
WHERE c.ctid = held.place;

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

-- name: ReconsiderPostings :one
-- Of a page of the cache in key order, every fresh posting without a live bid becomes a candidate again. Answers how
-- many, and the last key of the page; empty after the last one.
WITH page AS MATERIALIZED (
    SELECT p.marketplace, p.job_id, p.cached_at, p.ctid AS place
    FROM postings AS p
    WHERE (p.marketplace, p.job_id) > (@after_marketplace::text, @after_job_id::text)
    ORDER BY p.marketplace, p.job_id
    LIMIT @page::integer
),
queued AS (
    INSERT INTO candidates (marketplace, job_id, cached_at, posting)
    SELECT p.marketplace, p.job_id, p.cached_at, p.place
    FROM page AS p
    WHERE p.cached_at >= clock_timestamp() - @posting_ttl::interval
        AND NOT EXISTS (
            SELECT FROM bids AS b
            WHERE b.marketplace = p.marketplace AND b.job_id = p.job_id AND b.status = 'ACTIVE')
    ORDER BY p.marketplace, p.job_id
    ON CONFLICT (marketplace, job_id)
        DO UPDATE SET
            cached_at = greatest(candidates.cached_at, excluded.cached_at), -- a refresh may have come meanwhile
            posting = CASE WHEN candidates.cached_at > excluded.cached_at THEN candidates.posting ELSE excluded.posting END,
            not_before = excluded.not_before, tries = 0, last_error = NULL
    RETURNING candidates.job_id
)
SELECT
    (SELECT count(*) FROM queued)::bigint AS queued,
    coalesce(last.marketplace, '')::text AS marketplace,
    coalesce(last.job_id, '')::text AS job_id
FROM (SELECT) AS one
LEFT JOIN (
    SELECT page.marketplace, page.job_id FROM page
    ORDER BY page.marketplace DESC, page.job_id DESC
    LIMIT 1
) AS last ON true;

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
