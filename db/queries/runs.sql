-- name: StartRun :one
-- Also whether CountSilentRuns has something to do.
INSERT INTO runs (id, kind, host, version) VALUES (@id, @kind, @host, @version)
RETURNING started_at, EXISTS (
    SELECT FROM runs AS r WHERE NOT r.counted AND r.updated_at < clock_timestamp() - @silence::interval
)::boolean AS any_silent;

-- name: RecordRun :exec
-- Absolute totals, so that writing them twice changes nothing.
UPDATE runs SET counters = @counters, updated_at = clock_timestamp() WHERE id = @id AND finished_at IS NULL AND NOT counted;

-- name: KeepRun :exec
-- The run lives, though it has counted nothing new. It is as if it had said so a while ago, so that
-- RunsAtWork does not take it for one that claims.
UPDATE runs SET updated_at = greatest(updated_at, clock_timestamp() - @ago::interval) WHERE id = @id AND finished_at IS NULL AND NOT counted;

-- name: FinishRun :one
-- The end of a run, and its counters in the totals: both or neither. A run that was taken
-- for killed, because it was silent for a day, is not counted twice.
WITH finished AS (
    UPDATE runs
    SET counters = @counters, exit_code = @exit_code::integer, updated_at = clock_timestamp(), finished_at = clock_timestamp(), counted = true
    WHERE id = @id AND finished_at IS NULL AND NOT counted
    RETURNING kind, counters, exit_code, finished_at
),
added AS (
    INSERT INTO run_totals AS t (kind, runs, counters, last_finished_at)
    SELECT f.kind, 1, f.counters || jsonb_build_object('exits', jsonb_build_object(f.exit_code::text, 1)), f.finished_at
    FROM finished AS f
    ON CONFLICT (kind) DO UPDATE
        SET runs = t.runs + excluded.runs, last_finished_at = greatest(t.last_finished_at, excluded.last_finished_at),
            counters = CASE -- most runs count nothing, and need not load PL/pgSQL to add that
                WHEN jsonb_path_exists(excluded.counters - 'exits', '$.** ? (@ > 0)') THEN add_counters(t.counters, excluded.counters)
                ELSE t.counters || jsonb_build_object('exits', coalesce(t.counters -> 'exits', '{}') || jsonb_build_object(
                    @exit_code::text, coalesce((t.counters -> 'exits' ->> @exit_code::text)::bigint, 0) + 1))
            END
)
SELECT finished.finished_at::timestamptz AS finished_at FROM finished;

-- name: RunsAtWork :one
-- How many other runs claim or deliver now, as their counters tell, which are written about every second;
-- and how many of them began before this one.
SELECT count(*)::bigint AS others, count(*) FILTER (WHERE r.id < @id::uuid)::bigint AS earlier
FROM runs AS r
WHERE NOT r.counted AND r.finished_at IS NULL AND r.kind = 'run' AND r.id <> @id
    AND r.updated_at > clock_timestamp() - @silence::interval;

-- name: CountSilentRuns :one
-- Adds some of the runs to the totals that have said nothing for so long: killed ones, with
-- the claims that only their bids tell of, and those of programs that knew no totals.
WITH silent AS MATERIALIZED (
    SELECT r.id FROM runs AS r
    WHERE NOT r.counted AND r.updated_at < clock_timestamp() - @silence::interval
    ORDER BY r.id
    LIMIT @page::integer
    FOR UPDATE SKIP LOCKED
),
counted AS (
    UPDATE runs AS r
    SET counted = true, counters = u.counters - 'exits'
    FROM silent JOIN uncounted_runs AS u ON u.id = silent.id
    WHERE r.id = silent.id
    RETURNING r.kind, r.finished_at,
        CASE WHEN r.finished_at IS NULL THEN add_counters(u.counters, '{"exits": {"killed": 1}}') ELSE u.counters END AS counters
),
added AS (
    INSERT INTO run_totals AS t (kind, runs, counters, last_finished_at)
    SELECT c.kind, count(*), sum_counters(c.counters), max(c.finished_at) FROM counted AS c GROUP BY c.kind ORDER BY c.kind
    ON CONFLICT (kind) DO UPDATE
        SET runs = t.runs + excluded.runs, counters = add_counters(t.counters, excluded.counters),
            last_finished_at = greatest(t.last_finished_at, excluded.last_finished_at)
)
SELECT count(*)::bigint AS runs FROM counted;

-- name: ReadCounters :many
-- All that all runs have counted, in one reading: pruned, ended, under way and killed.
SELECT
    a.kind::text AS kind,
    sum(a.runs)::bigint AS runs,
    sum(a.unfinished)::bigint AS unfinished,
    sum_counters(a.counters)::jsonb AS counters,
    coalesce(max(a.last_finished_at), '0001-01-01 00:00Z')::timestamptz AS last_finished_at
FROM (
    SELECT t.kind, t.runs, coalesce((t.counters -> 'exits' ->> 'killed')::bigint, 0) AS unfinished, t.counters, t.last_finished_at FROM run_totals AS t
    UNION ALL
    SELECT u.kind, 1, CASE WHEN u.finished_at IS NULL THEN 1 ELSE 0 END, u.counters, u.finished_at FROM uncounted_runs AS u
) AS a
GROUP BY a.kind
ORDER BY a.kind;

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
