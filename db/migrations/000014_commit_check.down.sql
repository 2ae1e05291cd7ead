DROP TRIGGER bids_commit_within_lock_ttl ON bids;

CREATE OR REPLACE FUNCTION bids_refuse_late_commit() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
    ttl interval := least(
        coalesce(nullif(current_setting('bidder.lock_ttl', true), '')::bigint, 300000), 300000)
        * interval '1 millisecond';
BEGIN
    IF clock_timestamp() - transaction_timestamp() > ttl THEN
        RAISE EXCEPTION 'bid %: its transaction lasted longer than the lock may be held (%)', NEW.id, ttl
            USING ERRCODE = 'check_violation', CONSTRAINT = 'bids_commit_within_lock_ttl';
    END IF;
    RETURN NULL;
END $$;

CREATE CONSTRAINT TRIGGER bids_commit_within_lock_ttl AFTER INSERT ON bids
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION bids_refuse_late_commit();
