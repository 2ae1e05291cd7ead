-- The age of a transaction checked once at its COMMIT, not once for each bid in it. The first bid notes
-- the transaction. ROLLBACK TO SAVEPOINT forgets that together with the bid, and so does the check itself:
-- what comes after SET CONSTRAINTS IMMEDIATE is checked again.

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
    PERFORM set_config('bidder.checked_transaction', '', true);
    RETURN NULL;
END $$;

DROP TRIGGER bids_commit_within_lock_ttl ON bids;

CREATE CONSTRAINT TRIGGER bids_commit_within_lock_ttl AFTER INSERT ON bids
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (CASE
        WHEN current_setting('bidder.checked_transaction', true) = pg_current_xact_id()::text THEN false
        ELSE set_config('bidder.checked_transaction', pg_current_xact_id()::text, true) IS NOT NULL
    END)
    EXECUTE FUNCTION bids_refuse_late_commit();
