-- name: CreateBenchSchema :exec
-- What `bidder bench` works in. The name is fixed: a second bench at the same time would
-- measure the first one.
CREATE SCHEMA bidder_bench;

-- name: DropBenchSchema :exec
DROP SCHEMA bidder_bench CASCADE;

-- name: WALPosition :one
-- How many bytes of WAL the server has written, for whomever.
SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint AS bytes;
