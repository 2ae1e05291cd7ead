-- name: SetLimits :one
-- First statement of every transaction: the server ends what its client cannot.
-- All settings are local to the transaction, so a pooled connection carries nothing over.
SELECT
    current_setting('transaction_isolation')::text AS isolation,
    -- A name may lead to another server than it did: a standby grants advisory locks of its own, and may not have yet
    -- what the primary has committed.
    pg_is_in_recovery()::boolean AS in_recovery,
    num_nonnulls(
        set_config('statement_timeout', @statement_timeout::text, true),
        set_config('lock_timeout', @lock_timeout::text, true),
        set_config('idle_in_transaction_session_timeout', @idle_timeout::text, true),
        set_config('bidder.lock_ttl', @lock_ttl::text, true),
        -- A plan made while a table was tiny must not outlive that.
        set_config('plan_cache_mode', 'force_generic_plan', true),
        set_config('enable_seqscan', @scans::text, true),
        -- Nor one from when it was empty: to read all that there is and sort it looked as cheap as to read the first in
        -- the order of an index.
        set_config('enable_bitmapscan', @scans, true),
        -- Without sequential scans a plan may look so dear that it would be compiled, for longer than it runs.
        set_config('jit', 'off', true),
        -- A timer that the server's configuration has started is not set anew, so it is stopped first.
        CASE WHEN current_setting('server_version_num')::integer >= 170000
             THEN num_nonnulls(
                set_config('transaction_timeout', '0', true),
                set_config('transaction_timeout', @lock_ttl::text, true)) END,
        -- A commit that a power cut can undo is no claim.
        CASE WHEN current_setting('synchronous_commit') = 'off'
             THEN set_config('synchronous_commit', 'on', true) END
    )::integer AS settings;

-- name: PlanForValues :exec
-- Statements of this transaction that run once in a process are planned for what they look for: a filter that is not
-- asked for must not cost one that is its index.
SELECT set_config('plan_cache_mode', 'force_custom_plan', true);

-- name: LimitRemainingLife :one
-- Milliseconds that this transaction's lock may still live, if any; from now on the
-- server ends the session when they are over, also while it is silent.
SELECT life.remaining::bigint AS milliseconds
FROM (
    SELECT current_setting('bidder.lock_ttl')::bigint
        - floor(extract(epoch FROM clock_timestamp() - transaction_timestamp()) * 1000)::bigint AS remaining
) AS life
CROSS JOIN LATERAL set_config('idle_in_transaction_session_timeout', greatest(life.remaining, 1)::text, true) AS setting
WHERE setting IS NOT NULL;

-- name: ServerState :one
-- Whether this server may coordinate at all: a standby grants advisory locks of its own.
SELECT
    pg_is_in_recovery()::boolean AS in_recovery,
    current_setting('default_transaction_read_only')::boolean AS read_only,
    current_setting('server_version_num')::integer AS version,
    coalesce(current_schema(), '')::text AS schema,
    (to_regclass('schema_migrations') IS NOT NULL)::boolean AS migrated;

-- name: Now :one
SELECT clock_timestamp()::timestamptz AS now;

-- name: SchemaVersion :one
SELECT version::bigint AS version, dirty FROM schema_migrations LIMIT 1;

-- name: MarkLog :exec
-- Has the COMMIT of a transaction that only reads wait for synchronous standbys, as one that writes does: when it is
-- answered, all that came before it is there as well.
SELECT pg_logical_emit_message(true, 'bidder', '');
