-- Who an account is at its marketplace, so that nothing is looked up, or sent again, as somebody else while bids of
-- the one before are live.

ALTER TABLE accounts ADD COLUMN user_id text;

COMMENT ON COLUMN accounts.user_id IS 'Whose bids the live ones are, as the marketplace calls that user; null where nobody was asked yet.';
