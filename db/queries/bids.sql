-- name: ListBids :many
-- Newest first, which for ids made here is the order of the ids; a page at a time: the
-- caller passes on where the last page ended.
SELECT * FROM bids AS b
WHERE (sqlc.narg('status')::text IS NULL OR b.status = sqlc.narg('status'))
    AND (sqlc.narg('marketplace')::text IS NULL OR b.marketplace = sqlc.narg('marketplace'))
    AND (sqlc.narg('before_id')::uuid IS NULL OR b.id < sqlc.narg('before_id'))
ORDER BY b.id DESC
LIMIT @page::integer;

-- name: GetBid :one
SELECT * FROM bids WHERE id = @id;

-- name: BidsOfPosting :many
-- The bids on a posting, newest first. In two parts, because each has an index of its own.
SELECT b.* FROM (
    SELECT * FROM bids AS live
    WHERE live.marketplace = @marketplace AND live.job_id = @job_id AND live.status = 'ACTIVE'
    UNION ALL
    SELECT * FROM bids AS ended
    WHERE ended.marketplace = @marketplace AND ended.job_id = @job_id AND ended.status <> 'ACTIVE'
) AS b
ORDER BY b.created_at DESC, b.id DESC
LIMIT sqlc.narg('page')::integer;

-- name: BidHistory :many
SELECT * FROM bid_events WHERE bid_id = @bid_id ORDER BY id;

-- name: LockBid :one
-- The row of a bid whose status is about to change, and the database's clock: before it was locked, if it had to wait.
SELECT status, clock_timestamp()::timestamptz AS now FROM bids WHERE id = @id FOR UPDATE;

-- name: EndBid :one
-- Records how a bid ended, with its history. Nothing is owed from then on; a pod that
-- holds a lease on it finds its token overtaken.
WITH ended AS (
    UPDATE bids AS b
    SET status = @to_status::text,
        withdrawn_reason = CASE WHEN @to_status = 'WITHDRAWN' THEN coalesce(b.withdraw_requested_reason, @withdrawn_reason::text) ELSE b.withdrawn_reason END,
        delivery_kind = NULL, delivery_state = NULL, next_attempt_at = NULL, lease_expires_at = NULL,
        review_reason = NULL, review_since = NULL,
        lease_token = b.lease_token + 1
    WHERE b.id = @id AND b.status = @from_status::text
    RETURNING b.id
),
recorded AS (
    INSERT INTO bid_events (bid_id, actor, from_status, to_status, detail)
    SELECT ended.id, @actor::text, @from_status, @to_status, @detail::jsonb FROM ended
)
SELECT count(*)::bigint AS ended FROM ended;

-- name: GetPosting :one
SELECT * FROM postings WHERE marketplace = @marketplace AND job_id = @job_id;

-- name: GetCandidate :one
SELECT cached_at, tries, last_error, (not_before = 'infinity')::boolean AS parked,
    (CASE WHEN not_before = 'infinity' THEN clock_timestamp() ELSE not_before END)::timestamptz AS not_before
FROM candidates
WHERE marketplace = @marketplace AND job_id = @job_id;
