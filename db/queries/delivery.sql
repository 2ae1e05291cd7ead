-- name: Owing :one
-- The database's clock, and whether anything at all is owed: mostly nothing is, and then DueAccounts
-- would take longer to plan than to run.
SELECT
    clock_timestamp()::timestamptz AS now,
    coalesce((
        SELECT true FROM bids AS b
        WHERE b.delivery_kind IS NOT NULL
        ORDER BY account_key(b.marketplace, b.account) LIMIT 1), false)::boolean AS owing;

-- name: DueAccounts :many
-- The accounts that are owed something now and may be called. Jumps from account to
-- account in the index: its cost is the number of accounts, not of bids; so not by EXISTS,
-- for which Postgres may read all that is due. Of two accounts with the same key
-- (among a thousand, one chance in 37 million million) one waits until nothing is owed to the other.
WITH RECURSIVE owing(key, marketplace, account) AS (
    (SELECT account_key(b.marketplace, b.account), b.marketplace, b.account FROM bids AS b
     WHERE b.delivery_kind IS NOT NULL
     ORDER BY account_key(b.marketplace, b.account) LIMIT 1)
    UNION ALL
    SELECT next.key, next.marketplace, next.account
    FROM owing
    CROSS JOIN LATERAL (
        SELECT account_key(b.marketplace, b.account) AS key, b.marketplace, b.account FROM bids AS b
        WHERE b.delivery_kind IS NOT NULL AND account_key(b.marketplace, b.account) > owing.key
        ORDER BY account_key(b.marketplace, b.account) LIMIT 1
    ) AS next
)
SELECT owing.marketplace::text AS marketplace, owing.account::text AS account
FROM owing
WHERE NOT account_is_paused(owing.marketplace, owing.account)
    AND (
        SELECT true FROM bids AS b
        WHERE account_key(b.marketplace, b.account) = owing.key AND b.marketplace = owing.marketplace AND b.account = owing.account
            AND b.delivery_kind IS NOT NULL AND b.next_attempt_at <= @due_by::timestamptz
        ORDER BY b.next_attempt_at LIMIT 1);

-- name: LeaseDelivery :one
-- Takes the most overdue delivery of an account, or the one of a given bid: pending, or
-- left by a pod whose lease has run out; nothing of an account that is paused. A withdrawal
-- that was asked for in the meantime takes the place of the bid's placing here.
--
-- Whoever has nothing to look up before a first POST, and no rate to keep, says so (at_once):
-- then that POST is armed here, as ArmPost would right after, and with the same guards.
--
-- Its COMMIT reaches the disk whatever the server's settings are, as that of a claim does: a crash
-- that took it back would have the POST armed again, and the token given to two.
--
-- Also what is sent beside the bid, and whether the posting may still be bid on. Once a POST was
-- armed it is what that POST said, whatever became of the posting: a repetition is the same
-- to the byte.
--
-- Two ways to look, not one with an OR: that would be planned anew for every call. And whether
-- the account is paused is asked as account_is_paused does, whose call costs more than all of it.
WITH gate AS MATERIALIZED (
    SELECT coalesce(bool_or(a.paused_at IS NOT NULL AND (a.paused_until IS NULL OR a.paused_until > clock_timestamp())), false) AS is_paused,
        coalesce(bool_or(a.next_slot > clock_timestamp()), false) AS is_crowded
    FROM accounts AS a
    WHERE (a.marketplace, a.account) IN ((@marketplace::text, @account::text), (@marketplace, '*'), ('*', '*'))
),
due AS MATERIALIZED (
    SELECT next.*
    FROM (
        SELECT b.id, b.job_id, b.status, b.delivery_kind, b.delivery_state, b.withdraw_requested_at, b.external_bid_id, b.place_posts, b.first_post_at
        FROM bids AS b
        WHERE sqlc.narg('bid_id')::uuid IS NULL
            AND account_key(b.marketplace, b.account) = account_key(@marketplace, @account)
            AND b.marketplace = @marketplace AND b.account = @account
            AND b.delivery_kind IS NOT NULL AND b.delivery_state IN ('pending', 'leased')
            AND b.next_attempt_at <= @due_by::timestamptz
            AND (b.delivery_state = 'pending' OR b.lease_expires_at <= clock_timestamp())
            AND NOT (SELECT gate.is_paused FROM gate)
        ORDER BY b.next_attempt_at
        LIMIT 1
        FOR UPDATE OF b SKIP LOCKED
    ) AS next
    UNION ALL
    SELECT given.*
    FROM (
        SELECT b.id, b.job_id, b.status, b.delivery_kind, b.delivery_state, b.withdraw_requested_at, b.external_bid_id, b.place_posts, b.first_post_at
        FROM bids AS b
        WHERE b.id = sqlc.narg('bid_id')
            AND b.marketplace = @marketplace AND b.account = @account
            AND b.delivery_state IN ('pending', 'leased')
            AND b.next_attempt_at <= @due_by
            AND (b.delivery_state = 'pending' OR b.lease_expires_at <= clock_timestamp())
            AND NOT (SELECT gate.is_paused FROM gate)
        FOR UPDATE OF b -- it is this one that is wanted: whoever asks for its withdrawal as well holds it for a moment
    ) AS given
),
taken AS MATERIALIZED (
    SELECT due.id, due.delivery_state = 'leased' AS abandoned, clock_timestamp()::timestamptz AS leased_at,
        coalesce(sent.detail ->> 'title', p.title, '') AS title,
        coalesce(sent.detail ->> 'job_url', p.url, '') AS job_url,
        coalesce(sent.detail ->> 'pricing', p.pricing, '') AS pricing,
        coalesce(p.is_open, false) AS is_open,
        (@at_once::boolean AND due.status = 'ACTIVE' AND due.delivery_kind = 'place' AND due.withdraw_requested_at IS NULL
            AND due.external_bid_id IS NULL AND due.place_posts = 0
            AND NOT (SELECT gate.is_crowded FROM gate) AND coalesce(p.is_open, false))::boolean AS armed
    FROM due
    LEFT JOIN LATERAL (
        SELECT postings.title, postings.url, postings.pricing,
            postings.cached_at >= clock_timestamp() - @posting_ttl::interval
                AND (postings.deadline IS NULL OR postings.deadline > clock_timestamp()) AS is_open
        FROM postings
        WHERE postings.marketplace = @marketplace AND postings.job_id = due.job_id
        LIMIT 1
    ) AS p ON true
    LEFT JOIN LATERAL (
        SELECT e.detail FROM bid_events AS e
        WHERE e.bid_id = due.id AND e.at >= due.first_post_at AND e.detail ->> 'result' = 'armed'
        ORDER BY e.id LIMIT 1
    ) AS sent ON true
),
leased AS (
    UPDATE bids AS b
    SET delivery_kind = CASE WHEN b.withdraw_requested_at IS NULL THEN b.delivery_kind ELSE 'withdraw' END,
        delivery_attempts = CASE WHEN b.withdraw_requested_at IS NOT NULL AND b.delivery_kind = 'place' THEN 0 ELSE b.delivery_attempts END,
        delivery_state = 'leased',
        lease_token = b.lease_token + 1,
        lease_expires_at = taken.leased_at + @lease::interval,
        next_attempt_at = taken.leased_at + @lease::interval,
        place_posts = b.place_posts + taken.armed::integer,
        first_post_at = CASE WHEN taken.armed THEN coalesce(b.first_post_at, taken.leased_at) ELSE b.first_post_at END,
        last_post_at = CASE WHEN taken.armed THEN taken.leased_at ELSE b.last_post_at END
    FROM taken
    WHERE b.id = taken.id
        AND (current_setting('synchronous_commit') <> 'off' OR set_config('synchronous_commit', 'on', true) IS NOT NULL)
    RETURNING b.*, taken.abandoned, taken.leased_at, taken.title, taken.job_url, taken.pricing, taken.is_open, taken.armed
),
recorded AS (
    INSERT INTO bid_events (bid_id, actor, detail)
    SELECT leased.id, @actor::text, jsonb_build_object(
        'kind', 'place', 'result', 'armed', 'title', leased.title, 'job_url', leased.job_url, 'pricing', leased.pricing)
    FROM leased WHERE leased.armed
)
SELECT leased.* FROM leased;

-- name: PreviewDeliveries :many
-- What a pass would begin with what is due, for dry runs.
SELECT due.marketplace::text AS marketplace, due.paused::boolean AS paused, due.doing::text AS doing, due.approved::boolean AS approved, count(*)::bigint AS bids
FROM (
    SELECT b.marketplace, account_is_paused(b.marketplace, b.account) AS paused, b.approved_at IS NOT NULL AS approved,
        CASE
            WHEN b.delivery_kind = 'withdraw' OR b.withdraw_requested_at IS NOT NULL
                THEN CASE WHEN b.place_posts = 0 AND b.external_bid_id IS NULL THEN 'withdraw_unsent' ELSE 'withdraw' END
            WHEN b.place_posts > 0 THEN 'look_up'
            WHEN p.cached_at >= clock_timestamp() - @posting_ttl::interval AND (p.deadline IS NULL OR p.deadline > clock_timestamp()) THEN 'place'
            ELSE 'stale'
        END AS doing
    FROM bids AS b
    LEFT JOIN postings AS p ON p.marketplace = b.marketplace AND p.job_id = b.job_id
    WHERE b.delivery_kind IS NOT NULL AND b.delivery_state IN ('pending', 'leased')
        AND b.next_attempt_at <= clock_timestamp()
) AS due
GROUP BY due.marketplace, due.paused, due.doing, due.approved
ORDER BY due.marketplace, due.paused, due.doing, due.approved;

-- name: TakeSlot :one
-- The gate before every call: not paused, and within the account's rate, counted over all
-- pods. Answers how long to wait. A slot that is further away than the caller's patience is
-- not taken: slots that nobody uses would starve the account. Without a rate there is
-- nothing to write: every call of the account would wait for that one row.
WITH gate AS MATERIALIZED (
    SELECT @marketplace::text AS marketplace, @account::text AS account, @gap::interval AS gap,
        account_is_paused(@marketplace, @account) AS paused
),
taken AS (
    INSERT INTO accounts AS a (marketplace, account, next_slot)
    SELECT gate.marketplace, gate.account, clock_timestamp() + gate.gap
    FROM gate
    WHERE NOT gate.paused AND gate.gap > interval '0'
    ON CONFLICT (marketplace, account) DO UPDATE
        SET next_slot = greatest(a.next_slot, clock_timestamp()) + (SELECT gate.gap FROM gate)
        WHERE a.next_slot <= clock_timestamp() + @patience::interval
    RETURNING greatest(a.next_slot - (SELECT gate.gap FROM gate) - clock_timestamp(), interval '0') AS wait
)
SELECT gate.paused::boolean AS paused,
    (taken.wait IS NOT NULL OR gate.gap <= interval '0' AND NOT gate.paused
        AND coalesce(a.next_slot, '-infinity') <= clock_timestamp() + @patience::interval)::boolean AS taken,
    coalesce(taken.wait, greatest(greatest(a.next_slot, clock_timestamp()) - clock_timestamp(), interval '0'), interval '0')::interval AS wait
FROM gate
LEFT JOIN taken ON true
LEFT JOIN accounts AS a ON a.marketplace = gate.marketplace AND a.account = gate.account;

-- name: AccountIsPaused :one
SELECT account_is_paused(@marketplace::text, @account::text)::boolean AS paused;

-- name: ArmPost :one
-- Right before a POST, committed on its own: from here on the bid may be at the
-- marketplace. No row: no POST. A bid that the marketplace is known to have is never sent
-- again. The event keeps what is sent of the posting. On the disk, as a lease is, before the POST
-- leaves. Whoever has not taken a slot says so
-- (at_gate): then it must be free as it is.
WITH armed AS (
    UPDATE bids AS b
    SET place_posts = b.place_posts + 1,
        first_post_at = coalesce(b.first_post_at, clock_timestamp()),
        last_post_at = clock_timestamp()
    WHERE b.id = @id AND b.lease_token = @token AND b.delivery_state = 'leased' AND b.delivery_kind = 'place'
        AND b.status = 'ACTIVE' AND b.withdraw_requested_at IS NULL AND b.external_bid_id IS NULL
        AND b.place_posts < @most::integer
        AND b.lease_expires_at > clock_timestamp() + @needed::interval
        AND NOT EXISTS (
            SELECT FROM accounts AS a
            WHERE (a.marketplace, a.account) IN ((b.marketplace, b.account), (b.marketplace, '*'), ('*', '*'))
                AND (a.paused_at IS NOT NULL AND (a.paused_until IS NULL OR a.paused_until > clock_timestamp())
                    OR @at_gate::boolean AND a.next_slot > clock_timestamp()))
        AND (b.place_posts > 0 OR EXISTS (
            SELECT FROM postings AS p
            WHERE p.marketplace = b.marketplace AND p.job_id = b.job_id
                AND p.cached_at >= clock_timestamp() - @posting_ttl::interval
                AND (p.deadline IS NULL OR p.deadline > clock_timestamp())))
        AND (current_setting('synchronous_commit') <> 'off' OR set_config('synchronous_commit', 'on', true) IS NOT NULL)
    RETURNING b.id, b.place_posts, b.first_post_at
),
recorded AS (
    INSERT INTO bid_events (bid_id, actor, detail) SELECT armed.id, @actor::text, @detail::jsonb FROM armed
)
SELECT armed.place_posts, armed.first_post_at::timestamptz AS first_post_at FROM armed;

-- name: HoldsLease :one
-- Right before any other call that changes something.
SELECT EXISTS (
    SELECT FROM bids AS b
    WHERE b.id = @id AND b.lease_token = @token AND b.delivery_state = 'leased'
        AND b.lease_expires_at > clock_timestamp() + @needed::interval
)::boolean AS holds;

-- name: RecordPlaced :one
-- The marketplace has the bid. A withdrawal that was asked for meanwhile is owed next. Not
-- recorded where another bid here, live or ended, already has the marketplace's id.
WITH owner AS MATERIALIZED (
    SELECT EXISTS (
        SELECT FROM bids AS o
        WHERE o.marketplace = @marketplace AND o.account = @account AND o.external_bid_id = @external_bid_id::text AND o.id <> @id
    ) AS is_other
),
placed AS (
    UPDATE bids AS b
    SET external_bid_id = @external_bid_id::text,
        is_foreign = b.is_foreign OR @is_foreign::boolean,
        is_guessed = b.is_guessed OR b.external_bid_id IS NULL AND @is_guessed::boolean,
        submitted_at = coalesce(b.submitted_at, clock_timestamp()),
        checked_at = clock_timestamp(), seen_at = clock_timestamp(),
        delivery_kind = CASE WHEN b.withdraw_requested_at IS NOT NULL THEN 'withdraw' END,
        delivery_state = CASE WHEN b.withdraw_requested_at IS NOT NULL THEN 'pending' END,
        next_attempt_at = CASE WHEN b.withdraw_requested_at IS NOT NULL THEN clock_timestamp() END,
        delivery_attempts = 0, lease_expires_at = NULL, last_error = NULL
    WHERE b.id = @id AND b.lease_token = @token AND b.delivery_state = 'leased'
        AND (b.external_bid_id IS NOT NULL OR NOT (SELECT owner.is_other FROM owner))
    RETURNING b.id
),
recorded AS (
    INSERT INTO bid_events (bid_id, actor, detail) SELECT placed.id, @actor::text, @detail::jsonb FROM placed
)
SELECT (SELECT count(*) FROM placed)::integer AS recorded, owner.is_other::boolean AS is_other FROM owner;

-- name: RecordFound :one
-- The external id of a bid whose delivery goes on under the same lease.
WITH found AS (
    UPDATE bids AS b
    SET external_bid_id = @external_bid_id::text,
        is_foreign = b.is_foreign OR @is_foreign::boolean,
        is_guessed = b.is_guessed OR b.external_bid_id IS NULL AND @is_guessed::boolean,
        submitted_at = coalesce(b.submitted_at, clock_timestamp())
    WHERE b.id = @id AND b.lease_token = @token AND b.delivery_state = 'leased'
    RETURNING b.id
),
recorded AS (
    INSERT INTO bid_events (bid_id, actor, detail) SELECT found.id, @actor::text, @detail::jsonb FROM found
)
SELECT count(*)::integer AS recorded FROM found;

-- name: RecordAgain :one
-- Not done: the lease is given back and the delivery is due again. returned_posts are POSTs
-- that were certainly not executed; when the first one was armed stays all the same, as who refused it may have kept its
-- bytes under its key. A placing that a withdrawal overtook becomes that, due now.
WITH again AS (
    UPDATE bids AS b
    SET delivery_kind = CASE WHEN b.withdraw_requested_at IS NOT NULL THEN 'withdraw' ELSE b.delivery_kind END,
        delivery_state = 'pending', lease_expires_at = NULL,
        next_attempt_at = CASE
            WHEN b.withdraw_requested_at IS NOT NULL AND b.delivery_kind = 'place' THEN clock_timestamp()
            ELSE clock_timestamp() + @delay::interval END,
        delivery_attempts = CASE
            WHEN b.withdraw_requested_at IS NOT NULL AND b.delivery_kind = 'place' THEN 0
            ELSE b.delivery_attempts + @failures::integer END,
        place_posts = b.place_posts - @returned_posts::integer,
        last_post_at = CASE WHEN b.place_posts > @returned_posts THEN b.last_post_at END,
        last_error = nullif(@last_error::text, '')
    WHERE b.id = @id AND b.lease_token = @token AND b.delivery_state = 'leased'
    RETURNING b.id
),
recorded AS (
    INSERT INTO bid_events (bid_id, actor, detail) SELECT again.id, @actor::text, @detail::jsonb FROM again
)
SELECT count(*)::integer AS recorded FROM again;

-- name: RecordReview :one
-- A person must look, or approve it first. A placing that a withdrawal overtook is not looked at but withdrawn.
WITH review AS (
    UPDATE bids AS b
    SET delivery_kind = CASE WHEN b.withdraw_requested_at IS NOT NULL THEN 'withdraw' ELSE b.delivery_kind END,
        delivery_attempts = CASE
            WHEN b.withdraw_requested_at IS NOT NULL AND b.delivery_kind = 'place' THEN 0
            ELSE b.delivery_attempts + @failures::integer END,
        delivery_state = CASE
            WHEN b.withdraw_requested_at IS NOT NULL AND b.delivery_kind = 'place' THEN 'pending'
            WHEN @for_approval::boolean THEN 'awaiting_approval'
            ELSE 'review' END,
        next_attempt_at = CASE WHEN b.withdraw_requested_at IS NOT NULL AND b.delivery_kind = 'place' THEN clock_timestamp() END,
        review_reason = CASE WHEN @for_approval OR b.withdraw_requested_at IS NOT NULL AND b.delivery_kind = 'place' THEN NULL ELSE @reason::text END,
        review_since = CASE WHEN @for_approval OR b.withdraw_requested_at IS NOT NULL AND b.delivery_kind = 'place' THEN NULL ELSE clock_timestamp() END,
        lease_expires_at = NULL,
        place_posts = b.place_posts - @returned_posts::integer,
        last_post_at = CASE WHEN b.place_posts > @returned_posts THEN b.last_post_at END,
        last_error = nullif(@last_error::text, '')
    WHERE b.id = @id AND b.lease_token = @token AND b.delivery_state = 'leased'
    RETURNING b.id, b.delivery_state <> 'pending' AS waits
),
recorded AS (
    INSERT INTO bid_events (bid_id, actor, detail)
    SELECT review.id, @actor::text, @detail::jsonb || CASE WHEN review.waits THEN '{}' ELSE '{"result": "again"}' END::jsonb
    FROM review
)
SELECT count(*)::integer AS recorded, coalesce(bool_or(review.waits), false)::boolean AS waits FROM review;

-- name: RecordEnded :one
-- The bid's life has ended. WITHDRAWN is for the reason that was asked with, or else for the one given.
WITH ended AS (
    UPDATE bids AS b
    SET status = @status::text,
        withdrawn_reason = CASE WHEN @status = 'WITHDRAWN' THEN coalesce(b.withdraw_requested_reason, @withdrawn_reason::text) END,
        withdrawal_timestamp = CASE WHEN @status = 'WITHDRAWN' THEN clock_timestamp() END,
        delivery_kind = NULL, delivery_state = NULL, next_attempt_at = NULL, lease_expires_at = NULL,
        last_error = nullif(@last_error::text, '')
    WHERE b.id = @id AND b.lease_token = @token AND b.delivery_state = 'leased' AND b.status = 'ACTIVE'
    RETURNING b.id
),
recorded AS (
    INSERT INTO bid_events (bid_id, actor, from_status, to_status, detail)
    SELECT ended.id, @actor::text, 'ACTIVE', @status, @detail::jsonb FROM ended
)
SELECT count(*)::integer AS recorded FROM ended;

-- name: PauseAccount :exec
-- A pause gives way only to one that ends later: a person's, without an end, is not
-- shortened by what a call under way was told.
INSERT INTO accounts AS a (marketplace, account, paused_at, paused_until, paused_reason, paused_by)
VALUES (@marketplace, @account, clock_timestamp(), clock_timestamp() + sqlc.narg('pause')::interval, @reason::text, @paused_by::text)
ON CONFLICT (marketplace, account) DO UPDATE
    SET paused_at = CASE WHEN a.paused_until > clock_timestamp() THEN a.paused_at ELSE excluded.paused_at END,
        paused_until = excluded.paused_until, paused_reason = excluded.paused_reason, paused_by = excluded.paused_by
    WHERE a.paused_at IS NULL OR coalesce(excluded.paused_until, 'infinity') > coalesce(a.paused_until, 'infinity');

-- name: RestAccount :exec
-- No call of the account, of whatever pod, goes out sooner: its marketplace has asked for that.
INSERT INTO accounts AS a (marketplace, account, next_slot)
VALUES (@marketplace, @account, clock_timestamp() + @rest::interval)
ON CONFLICT (marketplace, account) DO UPDATE SET next_slot = excluded.next_slot WHERE a.next_slot < excluded.next_slot;

-- name: ResumeAccounts :execrows
-- Ends the pauses of a marketplace, that of everything ('*') included, or all there are.
UPDATE accounts
SET paused_at = NULL, paused_until = NULL, paused_reason = NULL, paused_by = NULL, resumed_at = clock_timestamp(), resumed_by = @resumed_by::text
WHERE paused_at IS NOT NULL AND (marketplace = @marketplace OR @all_there_are::boolean);

-- name: PausedAccounts :many
SELECT marketplace, account, paused_at::timestamptz AS paused_at, paused_until, paused_reason::text AS reason, paused_by::text AS paused_by
FROM accounts
WHERE paused_at IS NOT NULL AND (paused_until IS NULL OR paused_until > clock_timestamp())
ORDER BY marketplace, account;

-- name: ExternalIDIsTaken :one
-- Whether another bid here, live or ended, already has an id of the marketplace.
SELECT EXISTS (
    SELECT FROM bids AS b
    WHERE b.marketplace = @marketplace AND b.account = @account AND b.external_bid_id = @external_bid_id::text AND b.id <> @id
)::boolean AS taken;
