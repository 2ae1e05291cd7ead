-- One row for each run of a command that attempts bids: the durable home of all
-- counters, because pods are short-lived and their memory is not.

CREATE TABLE runs (
    id          uuid        NOT NULL DEFAULT gen_random_uuid(),
    kind        text        NOT NULL,
    started_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz,
    exit_code   integer,
    host        text        NOT NULL DEFAULT '',
    version     text        NOT NULL DEFAULT '',
    counters    jsonb       NOT NULL DEFAULT '{}',
    CONSTRAINT runs_pkey PRIMARY KEY (id),
    CONSTRAINT runs_kind_known CHECK (kind IN ('run', 'bid', 'withdraw')),
    CONSTRAINT runs_counters_object CHECK (jsonb_typeof(counters) = 'object'),
    CONSTRAINT runs_exit_code_when_finished CHECK ((exit_code IS NULL) = (finished_at IS NULL))
);

CREATE INDEX runs_started ON runs (started_at);

COMMENT ON TABLE runs IS 'One row per run, bid or withdraw: who ran it, when, and what it counted.';
COMMENT ON COLUMN runs.updated_at IS 'When the counters were last written; about every second while it runs.';
COMMENT ON COLUMN runs.finished_at IS 'Null while it runs, and for ever if it was killed.';
COMMENT ON COLUMN runs.exit_code IS 'The exit code of the process.';
COMMENT ON COLUMN runs.counters IS 'Absolute totals of this run: lock_attempts, lock_successes, lock_conflicts, lock_timeouts, outcomes, ingest, deliveries.';
