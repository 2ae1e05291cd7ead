-- Postings, and the queue of those that are still to be decided on.
--
-- Keys compare as bytes everywhere (COLLATE "C"): the order in which claims take
-- their locks must not depend on the locale of a server.

CREATE FUNCTION bid_lock_key(marketplace text, job_id text) RETURNS bigint
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN hashtextextended(('bid:lock:' || marketplace || ':' || job_id) COLLATE "C", 0);

COMMENT ON FUNCTION bid_lock_key(text, text) IS
    'The advisory lock key of bid:lock:{marketplace}:{job_id}. The only place where it is computed.';

CREATE TABLE postings (
    marketplace      text COLLATE "C" NOT NULL,
    job_id           text COLLATE "C" NOT NULL,
    cached_at        timestamptz      NOT NULL,
    title            text             NOT NULL,
    description      text             NOT NULL DEFAULT '',
    url              text,
    budget_min_cents bigint,
    budget_max_cents bigint,
    currency         text             NOT NULL DEFAULT 'USD',
    pricing          text,
    skills           text[]           NOT NULL DEFAULT '{}',
    posted_at        timestamptz,
    deadline         timestamptz,
    bid_amount_cents bigint,
    bid_period_days  integer,
    bid_proposal     text,
    refreshes        integer          NOT NULL DEFAULT 0,
    created_at       timestamptz      NOT NULL DEFAULT clock_timestamp(),
    updated_at       timestamptz      NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT postings_pkey PRIMARY KEY (marketplace, job_id),
    CONSTRAINT postings_marketplace_spelling CHECK (
        marketplace ~ '^[a-z0-9][a-z0-9._-]{0,63}$' AND marketplace <> 'peoplehour'),
    CONSTRAINT postings_job_id_spelling CHECK (
        octet_length(job_id) BETWEEN 1 AND 512
        AND job_id !~ '[\u0001-\u001f\u007f-\u009f]|^[ \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]|[ \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]$'
        AND job_id NOT IN ('None', 'null', 'undefined', '<nil>')),
    CONSTRAINT postings_title_present CHECK (title <> ''),
    CONSTRAINT postings_money_not_negative CHECK (
        budget_min_cents >= 0 AND budget_max_cents >= 0 AND bid_amount_cents >= 0),
    CONSTRAINT postings_currency_code CHECK (currency ~ '^[A-Z]{3}$'),
    CONSTRAINT postings_pricing_known CHECK (pricing IN ('fixed', 'hourly')),
    CONSTRAINT postings_period_positive CHECK (bid_period_days > 0)
);

COMMENT ON TABLE postings IS 'The cache of postings: the newest content of each job that a scanner has seen.';
COMMENT ON COLUMN postings.marketplace IS 'Name of the marketplace in its normal form: lower case, no alias.';
COMMENT ON COLUMN postings.job_id IS 'The marketplace''s own id of the job, byte for byte.';
COMMENT ON COLUMN postings.cached_at IS 'When the scanner read this content. Moves only forward; freshness is measured from it.';
COMMENT ON COLUMN postings.budget_min_cents IS 'Lower end of the client''s budget in hundredths of the currency.';
COMMENT ON COLUMN postings.budget_max_cents IS 'Upper end of the client''s budget in hundredths of the currency.';
COMMENT ON COLUMN postings.pricing IS 'fixed or hourly; null when the marketplace does not say.';
COMMENT ON COLUMN postings.bid_amount_cents IS 'The amount that the scanner wants bid; null: derived from the budget.';
COMMENT ON COLUMN postings.bid_period_days IS 'The period that the scanner wants offered, in days.';
COMMENT ON COLUMN postings.bid_proposal IS 'The text that the scanner wants sent.';
COMMENT ON COLUMN postings.refreshes IS 'How often newer content has replaced the first one.';

CREATE TABLE candidates (
    marketplace text COLLATE "C" NOT NULL,
    job_id      text COLLATE "C" NOT NULL,
    cached_at   timestamptz      NOT NULL,
    not_before  timestamptz      NOT NULL DEFAULT clock_timestamp(),
    tries       integer          NOT NULL DEFAULT 0,
    last_error  text,
    CONSTRAINT candidates_pkey PRIMARY KEY (marketplace, job_id)
);

-- Narrow, short-lived rows that many pods take and delete: vacuum early.
ALTER TABLE candidates SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);

CREATE INDEX candidates_due ON candidates (not_before);

COMMENT ON TABLE candidates IS 'Postings that passes are still to decide on; a row leaves when its posting is decided.';
COMMENT ON COLUMN candidates.cached_at IS 'The refresh that made it a candidate: a decision on older content does not remove it.';
COMMENT ON COLUMN candidates.not_before IS 'A pass leaves it alone until then; infinity: parked after too many failures.';
COMMENT ON COLUMN candidates.tries IS 'Failed attempts since the last refresh.';
COMMENT ON COLUMN candidates.last_error IS 'Why the last attempt failed.';
