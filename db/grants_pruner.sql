
-- The pruner deletes old history, and adds up what it takes away. That a live bid cannot be
-- deleted holds for it, too: it cannot switch triggers off, as the owner could.
GRANT USAGE ON SCHEMA :schema TO :pruner;
GRANT SELECT ON :schema.candidates, :schema.uncounted_runs, :schema.schema_migrations TO :pruner;
GRANT SELECT, DELETE ON :schema.postings, :schema.bids, :schema.runs, :schema.spending, :schema.callbacks TO :pruner;
GRANT UPDATE (counted, counters) ON :schema.runs TO :pruner;
GRANT SELECT, INSERT, UPDATE ON :schema.run_totals TO :pruner;
GRANT EXECUTE ON FUNCTION :schema.add_counters(jsonb, jsonb), :schema.sum_counters(jsonb) TO :pruner;
