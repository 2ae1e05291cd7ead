DROP VIEW uncounted_runs;
DROP AGGREGATE sum_counters(jsonb);
DROP FUNCTION add_counters(jsonb, jsonb);
DROP TABLE run_totals;
DROP INDEX runs_uncounted;
ALTER TABLE runs DROP COLUMN counted;
