-- name: GetToken :one
SELECT t.*, (t.expires_at - clock_timestamp())::interval AS life,
    coalesce(t.renewed_at > clock_timestamp() - @fresh::interval, false)::boolean AS is_fresh
FROM tokens AS t
WHERE t.marketplace = @marketplace AND t.account = @account AND t.issuer = @issuer;

-- name: SaveToken :exec
-- A person has signed in.
INSERT INTO tokens AS t (marketplace, account, issuer, key_id, sealed, expires_at)
VALUES (@marketplace, @account, @issuer, @key_id, @sealed, clock_timestamp() + @life::interval)
ON CONFLICT (marketplace, account, issuer) DO UPDATE
SET key_id = excluded.key_id, sealed = excluded.sealed, expires_at = excluded.expires_at, version = gen_random_uuid(),
    signed_in_at = clock_timestamp(), renewed_at = NULL, renewing_until = NULL, unanswered_at = NULL, refused_at = NULL;

-- name: BeginRenewal :execrows
-- Takes the right to renew a token, for one process at a time. That the renewal may get
-- lost is recorded before it is sent, on the disk whatever the server's settings are: afterwards might
-- be too late.
UPDATE tokens
SET renewing_until = clock_timestamp() + @lease::interval, unanswered_at = coalesce(unanswered_at, clock_timestamp())
WHERE marketplace = @marketplace AND account = @account AND issuer = @issuer AND version = @version
    AND refused_at IS NULL AND (renewing_until IS NULL OR renewing_until <= clock_timestamp())
    AND (current_setting('synchronous_commit') <> 'off' OR set_config('synchronous_commit', 'on', true) IS NOT NULL);

-- name: StoreRenewed :execrows
-- Whoever has a new token may store it, also after the time was over: the old one may be
-- worth nothing any more. On the disk, for the same reason.
UPDATE tokens
SET key_id = @key_id, sealed = @sealed, expires_at = clock_timestamp() + @life::interval, version = gen_random_uuid(),
    renewed_at = clock_timestamp(), renewing_until = NULL, unanswered_at = NULL, refused_at = NULL
WHERE marketplace = @marketplace AND account = @account AND issuer = @issuer AND version = @version
    AND (current_setting('synchronous_commit') <> 'off' OR set_config('synchronous_commit', 'on', true) IS NOT NULL);

-- name: RefuseRenewal :exec
-- The refresh token is worth nothing.
UPDATE tokens
SET refused_at = clock_timestamp(), renewing_until = NULL, unanswered_at = sqlc.narg('unanswered_at')
WHERE marketplace = @marketplace AND account = @account AND issuer = @issuer AND version = @version;

-- name: AbandonRenewal :exec
-- The renewal was certainly not carried out. The right to renew runs out by itself: a gap
-- before the next attempt.
UPDATE tokens
SET unanswered_at = sqlc.narg('unanswered_at')
WHERE marketplace = @marketplace AND account = @account AND issuer = @issuer AND version = @version;

-- name: DeleteToken :execrows
DELETE FROM tokens WHERE marketplace = @marketplace AND account = @account AND issuer = @issuer;

-- name: LockUser :one
-- Who the live bids of an account are of, and nobody else decides on that meanwhile; empty if nobody was asked yet.
INSERT INTO accounts AS a (marketplace, account) VALUES (@marketplace, @account)
ON CONFLICT (marketplace, account) DO UPDATE SET user_id = a.user_id
RETURNING coalesce(a.user_id, '')::text AS user_id;

-- name: ChangeUser :execrows
-- Another user has signed in, and whose bids are live there stays: look-ups as somebody else do not show them, and they
-- would be sent again. After LockUser, in a statement of its own: it has to see what was armed until then.
UPDATE accounts AS a
SET user_id = @user_id::text
WHERE a.marketplace = @marketplace AND a.account = @account
    AND (a.user_id IS NULL OR NOT EXISTS (
        SELECT FROM bids AS b
        WHERE b.marketplace = a.marketplace AND b.account = a.account AND b.status = 'ACTIVE'
            AND (b.place_posts > 0 OR b.external_bid_id IS NOT NULL)));
