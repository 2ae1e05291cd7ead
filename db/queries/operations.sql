-- name: HeldAdvisoryLocks :many
-- Advisory locks with one 64-bit key that sessions of this database hold.
SELECT
    (l.classid::bigint << 32 | l.objid::bigint)::bigint AS key,
    l.pid::integer AS pid,
    coalesce(a.application_name, '')::text AS application_name,
    coalesce(a.xact_start, a.backend_start, clock_timestamp())::timestamptz AS since
FROM pg_catalog.pg_locks AS l
LEFT JOIN pg_catalog.pg_stat_activity AS a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted
    AND l.database = (SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname = current_database())
ORDER BY since, key;

-- name: PostingsOfLockKeys :many
-- Which postings these keys belong to. Reads every key of the cache: a hash has no way back.
SELECT p.marketplace, p.job_id, bid_lock_key(p.marketplace, p.job_id)::bigint AS key
FROM postings AS p
WHERE bid_lock_key(p.marketplace, p.job_id) = ANY(@keys::bigint[]);

-- name: LockKey :one
SELECT bid_lock_key(@marketplace::text, @job_id::text)::bigint AS key;

-- name: ServerFacts :one
-- What doctor looks at, in one reading.
SELECT
    current_setting('server_version')::text AS version,
    current_setting('server_version_num')::integer AS version_num,
    current_setting('server_encoding')::text AS encoding,
    pg_is_in_recovery()::boolean AS in_recovery,
    current_setting('default_transaction_read_only')::boolean AS read_only,
    current_setting('default_transaction_isolation')::text AS isolation,
    current_setting('fsync')::boolean AS fsync,
    current_setting('full_page_writes')::boolean AS full_page_writes,
    current_setting('synchronous_commit')::text AS synchronous_commit,
    current_setting('max_locks_per_transaction')::integer AS max_locks_per_transaction,
    current_setting('max_connections')::integer AS max_connections,
    current_setting('max_prepared_transactions')::integer AS max_prepared_transactions,
    (current_setting('superuser_reserved_connections')::integer
        + coalesce(current_setting('reserved_connections', true)::integer, 0))::integer AS reserved_connections, -- since 16
    current_setting('TimeZone')::text AS time_zone,
    (current_setting('autovacuum')::boolean AND current_setting('track_counts')::boolean)::boolean AS autovacuum,
    current_setting('synchronous_standby_names')::text AS synchronous_standbys,
    (SELECT count(*) FROM pg_catalog.pg_stat_replication)::integer AS standbys,
    (SELECT r.rolconnlimit FROM pg_catalog.pg_roles AS r WHERE r.rolname = current_user)::integer AS role_connections,
    (SELECT d.datconnlimit FROM pg_catalog.pg_database AS d WHERE d.datname = current_database())::integer AS database_connections,
    (SELECT sum(d.numbackends) FROM pg_catalog.pg_stat_database AS d)::integer AS connections, -- which every role may see
    current_user::text AS role,
    (SELECT r.rolsuper FROM pg_catalog.pg_roles AS r WHERE r.rolname = current_user)::boolean AS superuser,
    coalesce(current_schema(), '')::text AS schema,
    clock_timestamp()::timestamptz AS now;

-- name: MissingRights :many
-- What this role lacks for the commands of a worker.
SELECT n.object::text AS object, n.privilege::text AS privilege
FROM (VALUES
    ('postings', 'SELECT'), ('postings', 'INSERT'), ('postings', 'UPDATE'),
    ('candidates', 'SELECT'), ('candidates', 'INSERT'), ('candidates', 'UPDATE'), ('candidates', 'DELETE'),
    ('bids', 'SELECT'), ('bids', 'INSERT'), ('bids', 'UPDATE'),
    ('bid_events', 'SELECT'), ('bid_events', 'INSERT'),
    ('runs', 'SELECT'), ('runs', 'INSERT'), ('runs', 'UPDATE'),
    ('run_totals', 'SELECT'), ('run_totals', 'INSERT'), ('run_totals', 'UPDATE'), ('uncounted_runs', 'SELECT'),
    ('accounts', 'SELECT'), ('accounts', 'INSERT'), ('accounts', 'UPDATE'),
    ('tokens', 'SELECT'), ('tokens', 'INSERT'), ('tokens', 'UPDATE'), ('tokens', 'DELETE'),
    ('callbacks', 'SELECT'), ('callbacks', 'INSERT'), ('callbacks', 'DELETE'),
    ('spending', 'SELECT'), ('spending', 'INSERT'), ('spending', 'UPDATE'),
    ('schema_migrations', 'SELECT')
) AS n(object, privilege)
WHERE NOT has_table_privilege(n.object, n.privilege);

-- name: ExcessRights :many
-- What this role may do and a worker must not, and whether it owns the tables, which is more
-- than any right: an owner can switch the rules of a bid's life off.
SELECT n.object::text AS object, n.privilege::text AS privilege
FROM (VALUES
    ('bids', 'DELETE'), ('bids', 'TRUNCATE'), ('bids', 'TRIGGER'),
    ('bid_events', 'UPDATE'), ('bid_events', 'DELETE'), ('bid_events', 'TRUNCATE'),
    ('postings', 'DELETE'), ('postings', 'TRUNCATE'), ('candidates', 'TRUNCATE'),
    ('runs', 'DELETE'), ('run_totals', 'DELETE'), ('spending', 'DELETE'),
    ('schema_migrations', 'INSERT'), ('schema_migrations', 'UPDATE'), ('schema_migrations', 'DELETE')
) AS n(object, privilege)
WHERE has_table_privilege(n.object, n.privilege)
UNION ALL
SELECT c.relname, 'OWNER'
FROM pg_catalog.pg_class AS c
WHERE c.oid = to_regclass('bids') AND pg_has_role(c.relowner, 'USAGE');

-- name: PeakRuns :one
-- The most runs at once within a day, and how many of them have said nothing for a while:
-- they were killed.
WITH recent AS MATERIALIZED (
    SELECT r.started_at, r.finished_at, r.updated_at FROM runs AS r
    WHERE r.started_at >= clock_timestamp() - interval '1 day'
),
changes AS (
    SELECT r.started_at AS moment, 1 AS change FROM recent AS r
    UNION ALL
    SELECT coalesce(r.finished_at, r.updated_at), -1 FROM recent AS r
),
levels AS (
    SELECT sum(c.change) OVER (ORDER BY c.moment, c.change ROWS UNBOUNDED PRECEDING) AS at_once FROM changes AS c
)
SELECT
    (SELECT coalesce(max(l.at_once), 0) FROM levels AS l)::bigint AS at_once,
    (SELECT count(*) FROM recent AS r WHERE r.finished_at IS NULL AND r.updated_at < clock_timestamp() - interval '10 minutes')::bigint AS killed;

-- name: TableUpkeep :many
-- Dead rows of the tables that change all the time, and whether they are vacuumed.
SELECT
    s.relname::text AS relation,
    s.n_live_tup::bigint AS live,
    s.n_dead_tup::bigint AS dead,
    coalesce('autovacuum_enabled=false' = ANY(c.reloptions), false)::boolean AS switched_off
FROM pg_catalog.pg_stat_user_tables AS s
JOIN pg_catalog.pg_class AS c ON c.oid = s.relid
WHERE s.relid IN (to_regclass('bids'), to_regclass('candidates'), to_regclass('postings'), to_regclass('spending'))
ORDER BY s.relname;

-- name: BackendPID :one
-- The server process that answers.
SELECT pg_backend_pid()::integer AS pid;

-- name: LiveIndexIsValid :one
-- Whether the index that makes a second live bid impossible is there, unique and valid.
SELECT EXISTS (
    SELECT FROM pg_catalog.pg_index AS i
    WHERE i.indexrelid = to_regclass('bids_one_active_per_posting') AND i.indisunique AND i.indisvalid
)::boolean AS valid;

-- name: QueueFacts :one
SELECT
    (SELECT count(*) FROM candidates WHERE not_before <= clock_timestamp())::bigint AS due,
    (SELECT count(*) FROM candidates WHERE not_before = 'infinity')::bigint AS parked,
    (SELECT count(*) FROM bids WHERE delivery_kind IS NOT NULL)::bigint AS owed,
    (SELECT coalesce(min(next_attempt_at), clock_timestamp()) FROM bids WHERE delivery_kind IS NOT NULL)::timestamptz AS oldest_owed,
    (SELECT count(*) FROM bids WHERE delivery_state IN ('review', 'awaiting_approval'))::bigint AS for_person;

-- name: ParkedCandidates :many
SELECT marketplace, job_id, tries, coalesce(last_error, '')::text AS last_error
FROM candidates
WHERE not_before = 'infinity'
ORDER BY marketplace, job_id
LIMIT @page::integer;
