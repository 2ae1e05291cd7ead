-- name: CountLiveBids :many
-- Live bids of each marketplace: one pass over the index of live bids, whatever the history.
SELECT b.marketplace, count(*)::bigint AS bids
FROM bids AS b
WHERE b.status = 'ACTIVE'
GROUP BY b.marketplace
ORDER BY b.marketplace;

-- name: CountOwedDeliveries :many
-- What bids owe, and since when the oldest of each sort has waited: for a person, or for its
-- delivery. One pass over the index of what is owed.
SELECT
    b.marketplace,
    b.delivery_kind::text AS kind,
    b.delivery_state::text AS state,
    count(*)::bigint AS bids,
    min(CASE
        WHEN b.delivery_state = 'review' THEN b.review_since
        WHEN b.delivery_kind = 'withdraw' THEN b.withdraw_requested_at
        ELSE coalesce(b.last_post_at, b.approved_at, b.created_at)
    END)::timestamptz AS oldest,
    coalesce(min(b.next_attempt_at), clock_timestamp())::timestamptz AS due
FROM bids AS b
WHERE b.delivery_kind IS NOT NULL
GROUP BY b.marketplace, b.delivery_kind, b.delivery_state
ORDER BY b.marketplace, b.delivery_kind, b.delivery_state;

-- name: CountCandidates :one
-- The queue, by whether a pass would take it now, and since when the first one is due.
SELECT
    count(*) FILTER (WHERE c.not_before <= clock.now)::bigint AS due,
    count(*) FILTER (WHERE c.not_before > clock.now AND c.not_before < 'infinity')::bigint AS later,
    count(*) FILTER (WHERE c.not_before = 'infinity')::bigint AS parked,
    (clock.now - least(min(c.not_before), clock.now))::interval AS waiting
FROM (SELECT clock_timestamp() AS now) AS clock
LEFT JOIN candidates AS c ON true
GROUP BY clock.now;

-- name: CountPausedAccounts :one
SELECT count(*)::bigint AS paused
FROM accounts
WHERE paused_at IS NOT NULL AND (paused_until IS NULL OR paused_until > clock_timestamp());
