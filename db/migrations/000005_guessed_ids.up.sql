-- Whether a marketplace's id was found by posting, where the account's live bid may be
-- another than the one that was sent.
ALTER TABLE bids ADD COLUMN is_guessed boolean NOT NULL DEFAULT false;

COMMENT ON COLUMN bids.is_guessed IS 'external_bid_id was found by posting, and may be that of a bid placed by hand: until the settle time is over, our own may still arrive.';
