DROP INDEX bids_history;

CREATE INDEX bids_history ON bids (marketplace, job_id, created_at, id) WHERE status <> 'ACTIVE';
