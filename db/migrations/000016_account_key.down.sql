DROP INDEX bids_due;

CREATE INDEX bids_due ON bids (marketplace, account, next_attempt_at) WHERE delivery_kind IS NOT NULL;

DROP FUNCTION account_key(text, text);
