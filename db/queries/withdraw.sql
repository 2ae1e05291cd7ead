-- name: RequestWithdrawal :one
-- Asks for a bid to be taken back. From here on no POST of it can be armed. What was never
-- sent, and is not in a pod's hands, is withdrawn at once; what a pod is at is withdrawn
-- after that pod; all else is due now. Asking again changes nothing.
WITH asked AS (
    UPDATE bids AS b
    SET withdraw_requested_at = clock_timestamp(),
        withdraw_requested_reason = @reason::text,
        withdraw_requested_by = @requested_by::text,
        status = CASE WHEN sent.nothing THEN 'WITHDRAWN' ELSE b.status END,
        withdrawn_reason = CASE WHEN sent.nothing THEN @reason END,
        withdrawal_timestamp = CASE WHEN sent.nothing THEN clock_timestamp() END,
        delivery_kind = CASE WHEN sent.nothing THEN NULL WHEN b.delivery_state = 'leased' THEN b.delivery_kind ELSE 'withdraw' END,
        delivery_state = CASE WHEN sent.nothing THEN NULL WHEN b.delivery_state = 'leased' THEN 'leased' ELSE 'pending' END,
        next_attempt_at = CASE WHEN sent.nothing THEN NULL WHEN b.delivery_state = 'leased' THEN b.next_attempt_at ELSE clock_timestamp() END,
        delivery_attempts = CASE WHEN b.delivery_state = 'leased' THEN b.delivery_attempts ELSE 0 END,
        lease_token = CASE WHEN b.delivery_state = 'leased' THEN b.lease_token ELSE b.lease_token + 1 END,
        review_reason = NULL, review_since = NULL
    FROM (
        SELECT s.id, (s.place_posts = 0 AND s.external_bid_id IS NULL AND coalesce(s.delivery_state, '') <> 'leased') AS nothing
        FROM bids AS s WHERE s.id = @id FOR UPDATE
    ) AS sent
    WHERE b.id = sent.id AND b.status = 'ACTIVE' AND b.withdraw_requested_at IS NULL
    RETURNING b.id, b.status
),
recorded AS (
    INSERT INTO bid_events (bid_id, actor, from_status, to_status, detail)
    SELECT asked.id, @requested_by,
        CASE WHEN asked.status = 'WITHDRAWN' THEN 'ACTIVE' END, CASE WHEN asked.status = 'WITHDRAWN' THEN 'WITHDRAWN' END,
        jsonb_build_object('kind', 'withdraw', 'result', 'requested', 'reason', @reason)
    FROM asked
)
SELECT count(*)::integer AS asked FROM asked;
