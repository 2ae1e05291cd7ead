-- name: HearCallback :one
-- What a marketplace says of a bid is never believed as it is: it makes the bid due for the
-- look-up that proves it. One statement, so that a call is remembered exactly if it has had
-- its effect. The same call again has none. A look-up under way is overtaken: it may have
-- been answered before the change. What a pod has leased is left to it, and what waits for a
-- person to that person, whom the history tells. A bid that was never sent has nothing to look up.
-- On the disk, whatever the server's settings are: what was answered is not repeated.
WITH heard AS (
    INSERT INTO callbacks (marketplace, webhook_id)
    SELECT @marketplace::text, @webhook_id::text
    WHERE current_setting('synchronous_commit') <> 'off' OR set_config('synchronous_commit', 'on', true) IS NOT NULL
    ON CONFLICT DO NOTHING
    RETURNING marketplace
),
told AS MATERIALIZED (
    SELECT b.id FROM heard
    JOIN bids AS b ON b.marketplace = heard.marketplace AND b.status <> 'DUPLICATE'
        AND (b.id = sqlc.narg('bid_id')::uuid
            OR sqlc.narg('bid_id') IS NULL AND b.external_bid_id = sqlc.narg('external_bid_id')::text AND b.status = 'ACTIVE')
    FOR UPDATE OF b
),
rung AS (
    UPDATE bids AS b
    SET checked_at = CASE WHEN b.delivery_kind IS NULL THEN NULL ELSE b.checked_at END,
        next_attempt_at = CASE WHEN b.delivery_kind IS NULL THEN NULL ELSE least(b.next_attempt_at, clock_timestamp()) END,
        lease_token = b.lease_token + 1
    FROM told
    WHERE b.id = told.id AND b.status = 'ACTIVE'
        AND (b.delivery_kind IS NULL AND b.external_bid_id IS NOT NULL
            OR b.delivery_state = 'pending' AND (b.place_posts > 0 OR b.external_bid_id IS NOT NULL))
    RETURNING b.id
),
recorded AS (
    INSERT INTO bid_events (bid_id, actor, detail) SELECT told.id, @actor::text, @detail::jsonb FROM told
)
SELECT (SELECT count(*) FROM heard)::integer AS heard,
    (SELECT count(*) FROM told)::integer AS told,
    (SELECT count(*) FROM rung)::integer AS rung;

-- name: ForgetCallbacks :execrows
-- Some of the callbacks that are older than any repetition of them can be.
DELETE FROM callbacks AS c
USING (
    SELECT o.marketplace, o.webhook_id FROM callbacks AS o
    WHERE o.received_at < clock_timestamp() - @older_than::interval
    ORDER BY o.received_at
    LIMIT @page::integer
) AS old
WHERE c.marketplace = old.marketplace AND c.webhook_id = old.webhook_id;
