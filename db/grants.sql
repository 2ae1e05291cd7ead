-- The worker bids. It changes no schema, deletes no bid and rewrites no history; what it
-- may delete is the queue, row by row, as postings are decided, tokens, to sign out, and what it heard long ago.
GRANT USAGE ON SCHEMA :schema TO :worker;
GRANT SELECT, INSERT, UPDATE ON :schema.postings TO :worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON :schema.candidates TO :worker;
GRANT SELECT, INSERT, UPDATE ON :schema.bids TO :worker;
GRANT SELECT, INSERT ON :schema.bid_events TO :worker;
GRANT SELECT, INSERT, UPDATE ON :schema.runs, :schema.run_totals TO :worker;
GRANT SELECT ON :schema.uncounted_runs TO :worker;
GRANT SELECT, INSERT, UPDATE ON :schema.accounts TO :worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON :schema.tokens TO :worker;
GRANT SELECT, INSERT, DELETE ON :schema.callbacks TO :worker;
GRANT SELECT, INSERT, UPDATE ON :schema.spending TO :worker;
GRANT SELECT ON :schema.schema_migrations TO :worker;
GRANT EXECUTE ON FUNCTION :schema.bid_lock_key(text, text), :schema.account_key(text, text), :schema.account_is_paused(text, text), :schema.add_counters(jsonb, jsonb), :schema.sum_counters(jsonb) TO :worker;

-- The reader looks, but not at tokens.
GRANT USAGE ON SCHEMA :schema TO :reader;
GRANT SELECT ON :schema.postings, :schema.candidates, :schema.bids, :schema.bid_events, :schema.runs, :schema.run_totals, :schema.uncounted_runs, :schema.accounts, :schema.callbacks, :schema.spending, :schema.schema_migrations TO :reader;
GRANT EXECUTE ON FUNCTION :schema.bid_lock_key(text, text), :schema.account_key(text, text), :schema.account_is_paused(text, text), :schema.add_counters(jsonb, jsonb), :schema.sum_counters(jsonb) TO :reader;
