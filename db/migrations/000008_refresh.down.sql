DROP TABLE callbacks;
DROP INDEX bids_to_check;
ALTER TABLE bids DROP COLUMN seen_at, DROP COLUMN checked_at;
