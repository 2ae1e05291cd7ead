-- As the migration before left them.

ALTER TABLE postings
    DROP CONSTRAINT postings_marketplace_spelling,
    ADD CONSTRAINT postings_marketplace_spelling CHECK (
        octet_length(marketplace) <= 64 AND marketplace ~ '^[a-z0-9][a-z0-9._-]*$' AND marketplace <> 'peoplehour') NOT VALID;

ALTER TABLE bids
    DROP CONSTRAINT bids_marketplace_spelling,
    ADD CONSTRAINT bids_marketplace_spelling CHECK (
        octet_length(marketplace) <= 64 AND marketplace ~ '^[a-z0-9][a-z0-9._-]*$' AND marketplace <> 'peoplehour') NOT VALID;
