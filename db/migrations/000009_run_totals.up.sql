-- What runs have counted, added up once each has ended, so that reading it costs the same
-- however many runs there were, and so that old runs can be deleted without it going back.

ALTER TABLE runs ADD COLUMN counted boolean NOT NULL DEFAULT false;

COMMENT ON COLUMN runs.counted IS 'Whether its counters are in run_totals. Those of a killed run are added a day later.';

-- The runs that are read one by one: under way, or killed not long ago.
CREATE INDEX runs_uncounted ON runs (id) WHERE NOT counted;

CREATE TABLE run_totals (
    kind             text        NOT NULL,
    runs             bigint      NOT NULL,
    counters         jsonb       NOT NULL,
    last_finished_at timestamptz,
    CONSTRAINT run_totals_pkey PRIMARY KEY (kind),
    CONSTRAINT run_totals_runs_positive CHECK (runs > 0),
    CONSTRAINT run_totals_counters_object CHECK (jsonb_typeof(counters) = 'object')
);

-- A few hot rows: each page keeps room for their next versions.
ALTER TABLE run_totals SET (fillfactor = 20);

COMMENT ON TABLE run_totals IS 'The sums over all runs that have ended, deleted ones included: one row per kind. They only grow.';
COMMENT ON COLUMN run_totals.kind IS 'The kind of the runs.';
COMMENT ON COLUMN run_totals.runs IS 'How many there were.';
COMMENT ON COLUMN run_totals.counters IS 'The sums of runs.counters, and exits: how often each exit code was; killed where there was none.';
COMMENT ON COLUMN run_totals.last_finished_at IS 'When the last of them finished.';

CREATE FUNCTION add_counters(a jsonb, b jsonb) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    IF jsonb_typeof(a) = 'object' AND jsonb_typeof(b) = 'object' THEN
        RETURN (
            SELECT coalesce(jsonb_object_agg(k.key, add_counters(a -> k.key, b -> k.key)), '{}')
            FROM (SELECT jsonb_object_keys(a) UNION SELECT jsonb_object_keys(b)) AS k(key));
    ELSIF jsonb_typeof(a) = 'number' AND jsonb_typeof(b) = 'number' THEN
        RETURN to_jsonb((a #>> '{}')::numeric + (b #>> '{}')::numeric);
    ELSIF jsonb_typeof(a) IN ('object', 'number') THEN
        RETURN a;
    END IF;
    RETURN coalesce(b, 'null');
END $$;

COMMENT ON FUNCTION add_counters(jsonb, jsonb) IS 'Adds numbers, member by member; what is missing or null counts as nothing.';

CREATE AGGREGATE sum_counters(jsonb) (SFUNC = add_counters, STYPE = jsonb, INITCOND = '{}', PARALLEL = SAFE);

COMMENT ON AGGREGATE sum_counters(jsonb) IS 'The sum of counters, member by member.';

-- Claims that a run made and did not come to count are found by its bids. Their ids grow with
-- time, so only bids since the oldest of these runs are looked at, once for all of them.
CREATE VIEW uncounted_runs AS
WITH claimed AS (
    SELECT b.run_id, count(*) AS bids
    FROM bids AS b
    WHERE b.id > (SELECT o.id FROM runs AS o WHERE NOT o.counted AND o.finished_at IS NULL ORDER BY o.id LIMIT 1)
        AND b.run_id IN (SELECT u.id FROM runs AS u WHERE NOT u.counted AND u.finished_at IS NULL)
        AND b.status <> 'DUPLICATE'
    GROUP BY b.run_id
)
SELECT r.id, r.kind, r.finished_at,
    CASE
        WHEN r.finished_at IS NULL THEN add_counters(r.counters, jsonb_build_object(
            'lock_attempts', missing.claims, 'lock_successes', missing.claims,
            'outcomes', jsonb_build_object('claimed', missing.claims)))
        ELSE add_counters(r.counters, jsonb_build_object('exits', jsonb_build_object(r.exit_code::text, 1)))
    END AS counters
FROM runs AS r
LEFT JOIN claimed AS c ON c.run_id = r.id
CROSS JOIN LATERAL (
    SELECT greatest(coalesce(c.bids, 0) - coalesce((r.counters -> 'outcomes' ->> 'claimed')::bigint, 0), 0) AS claims
) AS missing
WHERE NOT r.counted;

COMMENT ON VIEW uncounted_runs IS 'Runs that are not in run_totals, with all that their bids and exit codes prove.';
