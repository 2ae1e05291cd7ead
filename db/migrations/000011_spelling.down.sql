ALTER TABLE bids
    DROP CONSTRAINT bids_marketplace_spelling,
    ADD CONSTRAINT bids_marketplace_spelling CHECK (
        marketplace ~ '^[a-z0-9][a-z0-9._-]{0,63}$' AND marketplace <> 'peoplehour');

ALTER TABLE postings
    DROP CONSTRAINT postings_marketplace_spelling,
    ADD CONSTRAINT postings_marketplace_spelling CHECK (
        marketplace ~ '^[a-z0-9][a-z0-9._-]{0,63}$' AND marketplace <> 'peoplehour');
