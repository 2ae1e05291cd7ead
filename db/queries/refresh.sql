-- name: LiveAccounts :many
-- The accounts that have live bids which owe nothing, and may be called. Jumps from account
-- to account in the index: its cost is the number of accounts, not of bids.
WITH RECURSIVE living(marketplace, account) AS (
    (SELECT b.marketplace, b.account FROM bids AS b
     WHERE b.status = 'ACTIVE' AND b.external_bid_id IS NOT NULL AND b.delivery_kind IS NULL
     ORDER BY b.marketplace, b.account LIMIT 1)
    UNION ALL
    SELECT next.marketplace, next.account
    FROM living
    CROSS JOIN LATERAL (
        SELECT b.marketplace, b.account FROM bids AS b
        WHERE b.status = 'ACTIVE' AND b.external_bid_id IS NOT NULL AND b.delivery_kind IS NULL
            AND (b.marketplace, b.account) > (living.marketplace, living.account)
        ORDER BY b.marketplace, b.account LIMIT 1
    ) AS next
)
SELECT living.marketplace::text AS marketplace, living.account::text AS account
FROM living
WHERE NOT account_is_paused(living.marketplace, living.account);

-- name: CountChecks :one
-- How many bids of an account a pass would look up.
SELECT count(*)::bigint AS due
FROM bids AS b
WHERE b.marketplace = @marketplace AND b.account = @account
    AND b.status = 'ACTIVE' AND b.external_bid_id IS NOT NULL AND b.delivery_kind IS NULL
    AND coalesce(b.checked_at, '-infinity'::timestamptz) <= clock_timestamp() - @every::interval;

-- name: TakeCheck :one
-- Takes the bid of an account whose last look-up is the longest ago, if that is long enough;
-- nothing of an account that is paused. Nobody else takes it before the time between two
-- look-ups has passed again, less what is given: a lease before that, if this pod dies. The
-- columns are those of LeaseDelivery; nothing is sent, so what is sent is empty.
WITH due AS MATERIALIZED (
    SELECT b.id FROM bids AS b
    WHERE b.marketplace = @marketplace AND b.account = @account
        AND NOT account_is_paused(@marketplace, @account)
        AND b.status = 'ACTIVE' AND b.external_bid_id IS NOT NULL AND b.delivery_kind IS NULL
        AND coalesce(b.checked_at, '-infinity'::timestamptz) <= @checked_before::timestamptz
    ORDER BY coalesce(b.checked_at, '-infinity'::timestamptz)
    LIMIT 1
    FOR UPDATE SKIP LOCKED
)
UPDATE bids AS b
SET checked_at = clock_timestamp() - @sooner::interval,
    lease_token = b.lease_token + 1
FROM due
WHERE b.id = due.id
RETURNING b.*, false::boolean AS abandoned, clock_timestamp()::timestamptz AS leased_at,
    ''::text AS title, ''::text AS job_url, ''::text AS pricing, false::boolean AS is_open, false::boolean AS armed;

-- name: RecordCheck :one
-- Nothing changes for the bid: it was seen, or it was not.
WITH checked AS (
    UPDATE bids AS b
    SET checked_at = clock_timestamp(),
        seen_at = CASE WHEN @seen::boolean THEN clock_timestamp() ELSE b.seen_at END
    WHERE b.id = @id AND b.lease_token = @token AND b.status = 'ACTIVE' AND b.delivery_kind IS NULL
    RETURNING b.id
)
SELECT count(*)::integer AS recorded FROM checked;

-- name: ReturnCheck :one
-- Not looked up after all: due now.
WITH returned AS (
    UPDATE bids AS b
    SET checked_at = NULL
    WHERE b.id = @id AND b.lease_token = @token AND b.status = 'ACTIVE' AND b.delivery_kind IS NULL
    RETURNING b.id
)
SELECT count(*)::integer AS recorded FROM returned;

-- name: RecordStatus :one
-- The marketplace shows how the bid ended.
WITH ended AS (
    UPDATE bids AS b
    SET status = @status::text,
        withdrawn_reason = CASE WHEN @status = 'WITHDRAWN' THEN @withdrawn_reason::text END,
        withdrawal_timestamp = CASE WHEN @status = 'WITHDRAWN' THEN clock_timestamp() END,
        checked_at = clock_timestamp(), seen_at = clock_timestamp(),
        lease_token = b.lease_token + 1
    WHERE b.id = @id AND b.lease_token = @token AND b.status = 'ACTIVE' AND b.delivery_kind IS NULL
    RETURNING b.id
),
recorded AS (
    INSERT INTO bid_events (bid_id, actor, from_status, to_status, detail)
    SELECT ended.id, @actor::text, 'ACTIVE', @status, @detail::jsonb FROM ended
)
SELECT count(*)::integer AS recorded FROM ended;

-- name: AskForStatus :one
-- A person must look how the bid stands there: it was not seen for too long, or waits for
-- somebody to agree. It keeps its external id, and so is never sent again.
WITH asked AS (
    UPDATE bids AS b
    SET delivery_kind = 'place', delivery_state = 'review', next_attempt_at = NULL, delivery_attempts = 0,
        review_reason = @reason::text, review_since = clock_timestamp(),
        last_error = nullif(@last_error::text, ''),
        checked_at = clock_timestamp(),
        seen_at = CASE WHEN @seen::boolean THEN clock_timestamp() ELSE b.seen_at END,
        lease_token = b.lease_token + 1
    WHERE b.id = @id AND b.lease_token = @token AND b.status = 'ACTIVE' AND b.delivery_kind IS NULL
    RETURNING b.id
),
recorded AS (
    INSERT INTO bid_events (bid_id, actor, detail) SELECT asked.id, @actor::text, @detail::jsonb FROM asked
)
SELECT count(*)::integer AS recorded FROM asked;
