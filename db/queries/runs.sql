-- name: StartRun :one
INSERT INTO runs (id, kind, host, version) VALUES (@id, @kind, @host, @version)
RETURNING started_at;

-- name: RecordRun :exec
-- Absolute totals, so that writing them twice changes nothing.
UPDATE runs SET counters = @counters, updated_at = clock_timestamp() WHERE id = @id AND finished_at IS NULL;

-- name: FinishRun :one
UPDATE runs
SET counters = @counters, exit_code = @exit_code::integer, updated_at = clock_timestamp(), finished_at = clock_timestamp()
WHERE id = @id AND finished_at IS NULL
RETURNING finished_at::timestamptz AS finished_at;

-- name: CountRuns :one
SELECT
    count(*)::bigint AS runs,
    count(*) FILTER (WHERE finished_at IS NULL)::bigint AS unfinished,
    coalesce(sum((counters ->> 'lock_attempts')::bigint), 0)::bigint AS lock_attempts,
    coalesce(sum((counters ->> 'lock_successes')::bigint), 0)::bigint AS lock_successes,
    coalesce(sum((counters ->> 'lock_conflicts')::bigint), 0)::bigint AS lock_conflicts,
    coalesce(sum((counters ->> 'lock_timeouts')::bigint), 0)::bigint AS lock_timeouts
FROM runs
WHERE started_at >= clock_timestamp() - coalesce(sqlc.narg('since')::interval, interval '1000 years');

-- name: SumOutcomes :many
-- A run that has counted nothing may say null.
SELECT o.key::text AS outcome, sum(o.value::bigint)::bigint AS total
FROM runs
CROSS JOIN LATERAL jsonb_each_text(nullif(runs.counters -> 'outcomes', 'null')) AS o(key, value)
WHERE runs.started_at >= clock_timestamp() - coalesce(sqlc.narg('since')::interval, interval '1000 years')
GROUP BY o.key
ORDER BY o.key;

-- name: UncountedClaims :one
-- Claims that runs made and did not come to count: they were killed, or are about to. Bids
-- carry their run, and ids grow with time, so only bids since the run are looked at.
SELECT coalesce(sum(greatest(made.bids - coalesce((r.counters -> 'outcomes' ->> 'claimed')::bigint, 0), 0)), 0)::bigint AS claims
FROM runs AS r
CROSS JOIN LATERAL (
    SELECT count(*) AS bids FROM bids AS b
    WHERE b.id > r.id AND b.run_id = r.id AND b.status <> 'DUPLICATE'
) AS made
WHERE r.finished_at IS NULL
    AND r.started_at >= clock_timestamp() - coalesce(sqlc.narg('since')::interval, interval '1000 years');

-- name: SumDeliveries :many
SELECT k.key::text AS kind, r.key::text AS result, sum(r.value::bigint)::bigint AS total
FROM runs
CROSS JOIN LATERAL jsonb_each(nullif(runs.counters -> 'deliveries', 'null')) AS k(key, value)
CROSS JOIN LATERAL jsonb_each_text(nullif(k.value, 'null')) AS r(key, value)
WHERE runs.started_at >= clock_timestamp() - coalesce(sqlc.narg('since')::interval, interval '1000 years')
GROUP BY k.key, r.key
ORDER BY k.key, r.key;

-- name: SumRefreshed :many
SELECT r.key::text AS result, sum(r.value::bigint)::bigint AS total
FROM runs
CROSS JOIN LATERAL jsonb_each_text(nullif(runs.counters -> 'refreshed', 'null')) AS r(key, value)
WHERE runs.started_at >= clock_timestamp() - coalesce(sqlc.narg('since')::interval, interval '1000 years')
GROUP BY r.key
ORDER BY r.key;
