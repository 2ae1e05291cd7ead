-- What accounts are signed in with. Encrypted before it comes here: whoever reads the
-- database, or a backup of it, cannot bid.

CREATE TABLE tokens (
    marketplace    text COLLATE "C" NOT NULL,
    account        text COLLATE "C" NOT NULL DEFAULT 'default',
    issuer         text COLLATE "C" NOT NULL,
    key_id         text COLLATE "C" NOT NULL,
    sealed         bytea            NOT NULL,
    expires_at     timestamptz      NOT NULL,
    version        uuid             NOT NULL DEFAULT gen_random_uuid(),
    signed_in_at   timestamptz      NOT NULL DEFAULT clock_timestamp(),
    renewed_at     timestamptz,
    renewing_until timestamptz,
    unanswered_at  timestamptz,
    refused_at     timestamptz,
    CONSTRAINT tokens_pkey PRIMARY KEY (marketplace, account, issuer),
    CONSTRAINT tokens_marketplace_spelling CHECK (marketplace ~ '^[a-z0-9][a-z0-9._-]{0,63}$')
);

COMMENT ON TABLE tokens IS 'Tokens that accounts are signed in with, encrypted with a key that is not in the database.';
COMMENT ON COLUMN tokens.issuer IS 'Who issued them: the address that people sign in at. Tokens are shown to nobody else.';
COMMENT ON COLUMN tokens.key_id IS 'Which key encrypted them: the beginning of its hash.';
COMMENT ON COLUMN tokens.sealed IS 'The access and the refresh token, AES-256-GCM, nonce first; marketplace, account, issuer and key are bound in.';
COMMENT ON COLUMN tokens.expires_at IS 'When the access token ends.';
COMMENT ON COLUMN tokens.version IS 'Changes with every new token; what was found out about an old one is not recorded.';
COMMENT ON COLUMN tokens.signed_in_at IS 'When a person signed in.';
COMMENT ON COLUMN tokens.renewed_at IS 'When the tokens were last renewed since then.';
COMMENT ON COLUMN tokens.renewing_until IS 'Until when one process alone may renew them.';
COMMENT ON COLUMN tokens.unanswered_at IS 'Since when a renewal is under way or has got lost: the refresh token may be used up.';
COMMENT ON COLUMN tokens.refused_at IS 'When a renewal was refused for good; a person has to sign in.';
