-- name: PrunePageOfBids :many
-- The next bids in the order of their ids, each with whether it is history that nobody needs:
-- ended, old, and not the newest bid of its posting, which is what keeps that closed. While
-- a live bid owes something its posting's history stays, to tell ids of the marketplace
-- apart, and so does of those with such an id the newest, for bids that may yet be made; so do the
-- bids of runs that are not in the totals yet.
SELECT
    b.id,
    (b.status <> 'ACTIVE'
        AND greatest(b.created_at, b.updated_at, b.submitted_at, b.last_post_at, b.withdrawal_timestamp) < @before::timestamptz
        AND NOT EXISTS (SELECT FROM runs AS r WHERE r.id = b.run_id AND NOT r.counted AND r.updated_at >= @silent_since::timestamptz)
        AND (b.status = 'DUPLICATE'
            OR NOT EXISTS (
                SELECT FROM bids AS live
                WHERE live.marketplace = b.marketplace AND live.job_id = b.job_id AND live.status = 'ACTIVE' AND live.delivery_kind IS NOT NULL)
            AND (EXISTS (
                    SELECT FROM bids AS newer
                    WHERE newer.marketplace = b.marketplace AND newer.job_id = b.job_id
                        AND newer.status <> 'ACTIVE' AND newer.status <> 'DUPLICATE'
                        AND (b.external_bid_id IS NULL OR newer.external_bid_id IS NOT NULL)
                        AND (newer.created_at, newer.id) > (b.created_at, b.id))
                OR EXISTS (
                    SELECT FROM bids AS live
                    WHERE live.marketplace = b.marketplace AND live.job_id = b.job_id AND live.status = 'ACTIVE'
                        AND (b.external_bid_id IS NULL OR live.external_bid_id IS NOT NULL)
                        AND (live.created_at, live.id) > (b.created_at, b.id)))))::boolean AS prunable
FROM (SELECT * FROM bids WHERE bids.id > @after::uuid ORDER BY bids.id LIMIT @page::integer) AS b
ORDER BY b.id;

-- name: PruneBids :execrows
-- Their history goes with them. What has changed since it was looked at stays. That a newer
-- bid is there cannot change: the newest is never deleted.
DELETE FROM bids WHERE id = ANY(@ids::uuid[]) AND status <> 'ACTIVE' AND updated_at < @before::timestamptz;

-- name: PrunePageOfPostings :many
-- The next postings in the order of their keys, each with whether nobody needs it: old, not
-- queued, and without a live bid.
SELECT
    p.marketplace,
    p.job_id,
    (p.cached_at < @before::timestamptz AND p.updated_at < @before::timestamptz
        AND NOT EXISTS (SELECT FROM candidates AS c WHERE c.marketplace = p.marketplace AND c.job_id = p.job_id)
        AND NOT EXISTS (SELECT FROM bids AS b WHERE b.marketplace = p.marketplace AND b.job_id = p.job_id AND b.status = 'ACTIVE'))::boolean AS prunable
FROM (
    SELECT * FROM postings
    WHERE (postings.marketplace, postings.job_id) > (@after_marketplace::text, @after_job_id::text)
    ORDER BY postings.marketplace, postings.job_id
    LIMIT @page::integer
) AS p
ORDER BY p.marketplace, p.job_id;

-- name: PrunePostings :execrows
DELETE FROM postings AS p
USING (SELECT unnest(@marketplaces::text[]) AS marketplace, unnest(@job_ids::text[]) AS job_id) AS k
WHERE p.marketplace = k.marketplace AND p.job_id = k.job_id
    AND p.cached_at < @before::timestamptz AND p.updated_at < @before::timestamptz
    AND NOT EXISTS (SELECT FROM candidates AS c WHERE c.marketplace = p.marketplace AND c.job_id = p.job_id)
    AND NOT EXISTS (SELECT FROM bids AS b WHERE b.marketplace = p.marketplace AND b.job_id = p.job_id AND b.status = 'ACTIVE');

-- name: PruneRuns :execrows
-- Some of the old runs that are in the totals.
DELETE FROM runs AS r
USING (
    SELECT o.id FROM runs AS o
    WHERE o.counted AND o.started_at < @before::timestamptz AND o.updated_at < @before::timestamptz
    ORDER BY o.started_at
    LIMIT @page::integer
) AS old
WHERE r.id = old.id;

-- name: PruneSpending :execrows
-- Some of what was used on days that were over everywhere by then.
DELETE FROM spending AS s
USING (
    SELECT o.marketplace, o.account, o.cap, o.currency, o.day, o.share FROM spending AS o
    WHERE o.day > '-infinity' AND o.day < ((@before::timestamptz) AT TIME ZONE 'UTC')::date - 1
    LIMIT @page::integer
) AS old
WHERE s.marketplace = old.marketplace AND s.account = old.account AND s.cap = old.cap AND s.currency = old.currency
    AND s.day = old.day AND s.share = old.share;

-- name: PrunePreview :one
-- How much of the rest would go, for dry runs.
SELECT
    (SELECT count(*) FROM runs AS r
     WHERE (r.counted OR r.updated_at < @silent_since::timestamptz) AND r.started_at < @before::timestamptz AND r.updated_at < @before::timestamptz)::bigint AS runs,
    (SELECT count(*) FROM spending AS s WHERE s.day > '-infinity' AND s.day < ((@before::timestamptz) AT TIME ZONE 'UTC')::date - 1)::bigint AS spending,
    (SELECT count(*) FROM callbacks AS c WHERE c.received_at < @callbacks_before::timestamptz)::bigint AS callbacks;
