DROP TRIGGER bids_commit_within_lock_ttl ON bids;

CREATE CONSTRAINT TRIGGER bids_commit_within_lock_ttl AFTER INSERT ON bids
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION bids_refuse_late_commit();
