-- name: UpsertPostings :one
-- Puts a batch in the cache and, in the same statement, every new or refreshed posting in
-- the queue. The caller sends each key once, sorted. In arrays '' and -1 stand for null;
-- skills are joined by U+001F. Answers how many postings were new, and how many newer than those in the cache.
--
-- The queue's DO UPDATE is not cosmetic: DO NOTHING beside a pass that is about to
-- delete the row would lose the refresh.
WITH written AS (
    INSERT INTO postings AS p (
        marketplace, job_id, cached_at, title, description, url,
        budget_min_cents, budget_max_cents, currency, pricing, skills, posted_at, deadline,
        bid_amount_cents, bid_period_days, bid_proposal)
    SELECT
        a.marketplace, a.job_id, a.cached_at, a.title, a.description, nullif(a.url, ''),
        nullif(a.budget_min_cents, -1), nullif(a.budget_max_cents, -1), a.currency, nullif(a.pricing, ''),
        string_to_array(a.skills, U&'\001F'), nullif(a.posted_at, '0001-01-01 00:00Z'), nullif(a.deadline, '0001-01-01 00:00Z'),
        nullif(a.bid_amount_cents, -1), nullif(a.bid_period_days, -1), nullif(a.bid_proposal, '')
    FROM (
        SELECT
            unnest(@marketplaces::text[]) AS marketplace,
            unnest(@job_ids::text[]) AS job_id,
            unnest(@cached_ats::timestamptz[]) AS cached_at,
            unnest(@titles::text[]) AS title,
            unnest(@descriptions::text[]) AS description,
            unnest(@urls::text[]) AS url,
            unnest(@budget_mins::bigint[]) AS budget_min_cents,
            unnest(@budget_maxs::bigint[]) AS budget_max_cents,
            unnest(@currencies::text[]) AS currency,
            unnest(@pricings::text[]) AS pricing,
            unnest(@skills::text[]) AS skills,
            unnest(@posted_ats::timestamptz[]) AS posted_at,
            unnest(@deadlines::timestamptz[]) AS deadline,
            unnest(@bid_amounts::bigint[]) AS bid_amount_cents,
            unnest(@bid_periods::integer[]) AS bid_period_days,
            unnest(@bid_proposals::text[]) AS bid_proposal
    ) AS a
    WHERE (SELECT set_config('bidder.queues', 'on', true)) IS NOT NULL -- for the trigger of postings
    ON CONFLICT (marketplace, job_id) DO UPDATE SET
        cached_at = excluded.cached_at,
        title = excluded.title,
        description = excluded.description,
        url = excluded.url,
        budget_min_cents = excluded.budget_min_cents,
        budget_max_cents = excluded.budget_max_cents,
        currency = excluded.currency,
        pricing = excluded.pricing,
        skills = excluded.skills,
        posted_at = excluded.posted_at,
        deadline = excluded.deadline,
        bid_amount_cents = excluded.bid_amount_cents,
        bid_period_days = excluded.bid_period_days,
        bid_proposal = excluded.bid_proposal,
        refreshes = p.refreshes + 1,
        updated_at = clock_timestamp()
    WHERE p.cached_at < excluded.cached_at
    RETURNING marketplace, job_id, cached_at, refreshes, ctid AS place
),
queued AS (
    INSERT INTO candidates (marketplace, job_id, cached_at, posting)
    SELECT w.marketplace, w.job_id, w.cached_at, w.place
    FROM written AS w
    ORDER BY w.marketplace, w.job_id
    ON CONFLICT (marketplace, job_id)
        DO UPDATE SET cached_at = excluded.cached_at, posting = excluded.posting, not_before = excluded.not_before, tries = 0, last_error = NULL
)
SELECT
    count(*) FILTER (WHERE written.refreshes = 0) AS accepted,
    count(*) FILTER (WHERE written.refreshes > 0) AS updated
FROM written;

-- name: InsertPostings :exec
-- UpsertPostings for a batch of which the cache knows no posting; fails with unique_violation if it knows one.
-- ON CONFLICT looks into every index twice, and takes a lock for each row.
WITH written AS (
    INSERT INTO postings (
        marketplace, job_id, cached_at, title, description, url,
        budget_min_cents, budget_max_cents, currency, pricing, skills, posted_at, deadline,
        bid_amount_cents, bid_period_days, bid_proposal)
    SELECT
        a.marketplace, a.job_id, a.cached_at, a.title, a.description, nullif(a.url, ''),
        nullif(a.budget_min_cents, -1), nullif(a.budget_max_cents, -1), a.currency, nullif(a.pricing, ''),
        string_to_array(a.skills, U&'\001F'), nullif(a.posted_at, '0001-01-01 00:00Z'), nullif(a.deadline, '0001-01-01 00:00Z'),
        nullif(a.bid_amount_cents, -1), nullif(a.bid_period_days, -1), nullif(a.bid_proposal, '')
    FROM (
        SELECT
            unnest(@marketplaces::text[]) AS marketplace,
            unnest(@job_ids::text[]) AS job_id,
            unnest(@cached_ats::timestamptz[]) AS cached_at,
            unnest(@titles::text[]) AS title,
            unnest(@descriptions::text[]) AS description,
            unnest(@urls::text[]) AS url,
            unnest(@budget_mins::bigint[]) AS budget_min_cents,
            unnest(@budget_maxs::bigint[]) AS budget_max_cents,
            unnest(@currencies::text[]) AS currency,
            unnest(@pricings::text[]) AS pricing,
            unnest(@skills::text[]) AS skills,
            unnest(@posted_ats::timestamptz[]) AS posted_at,
            unnest(@deadlines::timestamptz[]) AS deadline,
            unnest(@bid_amounts::bigint[]) AS bid_amount_cents,
            unnest(@bid_periods::integer[]) AS bid_period_days,
            unnest(@bid_proposals::text[]) AS bid_proposal
    ) AS a
    WHERE (SELECT set_config('bidder.queues', 'on', true)) IS NOT NULL -- for the trigger of postings
    RETURNING marketplace, job_id, cached_at, ctid AS place
)
INSERT INTO candidates (marketplace, job_id, cached_at, posting)
SELECT w.marketplace, w.job_id, w.cached_at, w.place
FROM written AS w
ORDER BY w.marketplace, w.job_id;

-- name: CachedAts :many
-- When the cache last saw each posting, before a batch is written.
SELECT p.marketplace, p.job_id, p.cached_at
FROM (
    SELECT unnest(@marketplaces::text[]) AS marketplace, unnest(@job_ids::text[]) AS job_id
) AS k
CROSS JOIN LATERAL (
    SELECT postings.marketplace, postings.job_id, postings.cached_at FROM postings
    WHERE postings.marketplace = k.marketplace AND postings.job_id = k.job_id
    LIMIT 1
) AS p;

-- name: CachedPostings :many
-- What the cache holds of postings, before they are written again.
SELECT * FROM postings WHERE marketplace = @marketplace AND job_id = ANY(@job_ids::text[]);
