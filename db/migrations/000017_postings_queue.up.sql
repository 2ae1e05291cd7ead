-- A posting becomes a candidate when it is inserted and when its cached_at moves forward, also where another program
-- puts it in the cache by SQL. `bidder` itself queues what it writes in the same statement, with the place of each
-- posting, and says so by a setting of its transaction.
--
-- With the rights of the schema's owner: who writes postings need not know of the queue. In the schema of the table,
-- whatever the writer's search_path is.

CREATE FUNCTION queue_posting() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    EXECUTE format(
        'INSERT INTO %I.candidates (marketplace, job_id, cached_at) VALUES ($1, $2, $3)
        ON CONFLICT (marketplace, job_id)
            DO UPDATE SET cached_at = excluded.cached_at, posting = NULL, not_before = excluded.not_before, tries = 0, last_error = NULL',
        TG_TABLE_SCHEMA)
    USING NEW.marketplace, NEW.job_id, NEW.cached_at;
    RETURN NULL;
END $$;

COMMENT ON FUNCTION queue_posting() IS 'Makes a posting that another program has written a candidate.';

CREATE TRIGGER postings_queue_new AFTER INSERT ON postings
    FOR EACH ROW WHEN (current_setting('bidder.queues', true) IS DISTINCT FROM 'on')
    EXECUTE FUNCTION queue_posting();

CREATE TRIGGER postings_queue_refreshed AFTER UPDATE OF cached_at ON postings
    FOR EACH ROW WHEN (NEW.cached_at > OLD.cached_at AND current_setting('bidder.queues', true) IS DISTINCT FROM 'on')
    EXECUTE FUNCTION queue_posting();
