-- What all pods must agree on before they call a marketplace: when the next call of an
-- account is allowed, and whether it is paused.

CREATE TABLE accounts (
    marketplace   text COLLATE "C" NOT NULL,
    account       text COLLATE "C" NOT NULL DEFAULT 'default',
    next_slot     timestamptz      NOT NULL DEFAULT '-infinity',
    paused_at     timestamptz,
    paused_until  timestamptz,
    paused_reason text,
    paused_by     text,
    CONSTRAINT accounts_pkey PRIMARY KEY (marketplace, account),
    CONSTRAINT accounts_marketplace_spelling CHECK (
        marketplace = '*' OR marketplace ~ '^[a-z0-9][a-z0-9._-]{0,63}$'),
    CONSTRAINT accounts_pause_whole CHECK (
        (paused_at IS NULL) = (paused_reason IS NULL) AND (paused_at IS NULL) = (paused_by IS NULL)
        AND (paused_at IS NOT NULL OR paused_until IS NULL))
);

COMMENT ON TABLE accounts IS 'Accounts at marketplaces: their rate and their pauses, shared by all pods. The row of marketplace * pauses everything.';
COMMENT ON COLUMN accounts.next_slot IS 'When the next call is allowed.';
COMMENT ON COLUMN accounts.paused_at IS 'Since when nothing is called; null: not paused.';
COMMENT ON COLUMN accounts.paused_until IS 'When the pause ends by itself; null: when a person ends it.';
COMMENT ON COLUMN accounts.paused_reason IS 'Why nothing is called.';
COMMENT ON COLUMN accounts.paused_by IS 'Who paused: a person, or delivery.';

CREATE FUNCTION account_is_paused(marketplace text, account text) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    SELECT EXISTS (
        SELECT FROM accounts AS a
        WHERE (a.marketplace, a.account) IN (($1, $2), ($1, '*'), ('*', '*'))
            AND a.paused_at IS NOT NULL
            AND (a.paused_until IS NULL OR a.paused_until > clock_timestamp()))
$$;

COMMENT ON FUNCTION account_is_paused(text, text) IS 'Whether calls of this account are paused: it, its marketplace, or everything.';
