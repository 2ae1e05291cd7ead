-- The age of a transaction checked once at its COMMIT, not once for each bid in it.
--
-- The first bid notes the transaction, where ROLLBACK TO SAVEPOINT forgets it together with the bid.

DROP TRIGGER bids_commit_within_lock_ttl ON bids;

CREATE CONSTRAINT TRIGGER bids_commit_within_lock_ttl AFTER INSERT ON bids
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (CASE
        WHEN current_setting('bidder.checked_transaction', true) = pg_current_xact_id()::text THEN false
        ELSE set_config('bidder.checked_transaction', pg_current_xact_id()::text, true) IS NOT NULL
    END)
    EXECUTE FUNCTION bids_refuse_late_commit();
