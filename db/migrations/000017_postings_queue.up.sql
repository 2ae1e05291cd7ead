-- A posting becomes a candidate when it is inserted and when its cached_at moves forward, whoever writes it: also a
-- program that puts postings in the cache by SQL. `bidder` itself queues what it writes in the same statement, with the
-- place of each posting, and is told here by a setting that all of its transactions have.

CREATE FUNCTION queue_posting() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO candidates (marketplace, job_id, cached_at)
    VALUES (NEW.marketplace, NEW.job_id, NEW.cached_at)
    ON CONFLICT (marketplace, job_id)
        DO UPDATE SET cached_at = excluded.cached_at, posting = NULL, not_before = excluded.not_before, tries = 0, last_error = NULL
        WHERE candidates.cached_at < excluded.cached_at;
    RETURN NULL;
END $$;

COMMENT ON FUNCTION queue_posting() IS 'Makes a posting that another program has written a candidate.';

CREATE TRIGGER postings_queue_new AFTER INSERT ON postings
    FOR EACH ROW WHEN (coalesce(current_setting('bidder.lock_ttl', true), '') = '')
    EXECUTE FUNCTION queue_posting();

CREATE TRIGGER postings_queue_refreshed AFTER UPDATE OF cached_at ON postings
    FOR EACH ROW WHEN (NEW.cached_at > OLD.cached_at AND coalesce(current_setting('bidder.lock_ttl', true), '') = '')
    EXECUTE FUNCTION queue_posting();
