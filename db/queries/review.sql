-- name: ListReview :many
-- What waits for a person, oldest bid first, a page at a time.
SELECT * FROM bids AS b
WHERE b.delivery_state IN ('review', 'awaiting_approval')
    AND (sqlc.narg('marketplace')::text IS NULL OR b.marketplace = sqlc.narg('marketplace'))
    AND (sqlc.narg('after_id')::uuid IS NULL OR b.id > sqlc.narg('after_id'))
ORDER BY b.id
LIMIT @page::integer;

-- name: ApproveBid :one
-- Lets a bid be sent. Like every change by hand it overtakes whoever holds the delivery.
WITH approved AS (
    UPDATE bids AS b
    SET delivery_state = 'pending', next_attempt_at = clock_timestamp(), lease_token = b.lease_token + 1,
        approved_at = clock_timestamp(), approved_by = @approved_by::text
    WHERE b.id = @id AND b.delivery_state = 'awaiting_approval'
    RETURNING b.id
),
recorded AS (
    INSERT INTO bid_events (bid_id, actor, detail)
    SELECT approved.id, @approved_by, jsonb_build_object('kind', 'place', 'result', 'approved') FROM approved
)
SELECT count(*)::integer AS approved FROM approved;

-- name: RetryDelivery :one
-- Tries what is in review again, as if it had never failed.
WITH retried AS (
    UPDATE bids AS b
    SET delivery_state = 'pending', next_attempt_at = clock_timestamp(), lease_token = b.lease_token + 1,
        delivery_attempts = 0, review_reason = NULL, review_since = NULL
    WHERE b.id = @id AND b.delivery_state = 'review'
    RETURNING b.id, b.delivery_kind
),
recorded AS (
    INSERT INTO bid_events (bid_id, actor, detail)
    SELECT retried.id, @actor::text, jsonb_build_object('kind', retried.delivery_kind, 'result', 'retry_asked') FROM retried
)
SELECT count(*)::integer AS retried FROM retried;

-- name: ResolvePlaced :one
-- A person knows that the bid is at the marketplace, and under which id. Where a POST was armed and
-- nobody knew what came of it, that may still make another: it is a guess that this is the one.
WITH resolved AS (
    UPDATE bids AS b
    SET external_bid_id = @external_bid_id::text,
        is_guessed = b.is_guessed OR b.place_posts > 0 AND b.external_bid_id IS DISTINCT FROM @external_bid_id,
        submitted_at = coalesce(b.submitted_at, clock_timestamp()),
        checked_at = clock_timestamp(), seen_at = clock_timestamp(),
        delivery_kind = CASE WHEN b.withdraw_requested_at IS NOT NULL THEN 'withdraw' END,
        delivery_state = CASE WHEN b.withdraw_requested_at IS NOT NULL THEN 'pending' END,
        next_attempt_at = CASE WHEN b.withdraw_requested_at IS NOT NULL THEN clock_timestamp() END,
        delivery_attempts = 0, lease_token = b.lease_token + 1,
        review_reason = NULL, review_since = NULL, last_error = NULL
    WHERE b.id = @id AND b.delivery_state = 'review'
    RETURNING b.id
),
recorded AS (
    INSERT INTO bid_events (bid_id, actor, detail)
    SELECT resolved.id, @actor::text, jsonb_build_object('result', 'resolved', 'as', 'placed', 'external_bid_id', @external_bid_id, 'note', @note::text) FROM resolved
)
SELECT count(*)::integer AS resolved FROM resolved;
