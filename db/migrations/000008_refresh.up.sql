-- How bids stand at their marketplaces: looked up now and then, so that statuses stay true,
-- and at once where a marketplace calls back.

ALTER TABLE bids ADD COLUMN checked_at timestamptz, ADD COLUMN seen_at timestamptz;

COMMENT ON COLUMN bids.checked_at IS 'When its status there was last looked up, or tried to be; null: a look-up is due now.';
COMMENT ON COLUMN bids.seen_at IS 'When its marketplace, or a person, last said how it stands there.';

-- Live bids that owe nothing, by when they were looked up last. A claim does not write it:
-- what it inserts owes its placing. By account, so that a pass jumps from one to the next.
CREATE INDEX bids_to_check ON bids (marketplace, account, (coalesce(checked_at, '-infinity'::timestamptz)))
    WHERE status = 'ACTIVE' AND external_bid_id IS NOT NULL AND delivery_kind IS NULL;

-- Which calls of marketplaces were heard: the same one again has no effect.
CREATE TABLE callbacks (
    marketplace text COLLATE "C" NOT NULL,
    webhook_id  text COLLATE "C" NOT NULL,
    received_at timestamptz      NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT callbacks_pkey PRIMARY KEY (marketplace, webhook_id),
    CONSTRAINT callbacks_marketplace_spelling CHECK (marketplace ~ '^[a-z0-9][a-z0-9._-]{0,63}$'),
    CONSTRAINT callbacks_webhook_id_bounded CHECK (octet_length(webhook_id) BETWEEN 1 AND 256)
);

-- For forgetting the old ones.
CREATE INDEX callbacks_received ON callbacks (received_at);

COMMENT ON TABLE callbacks IS 'Callbacks of marketplaces that were heard, so that the same one again has no effect. Forgotten after some days.';
COMMENT ON COLUMN callbacks.webhook_id IS 'The webhook-id header: the marketplace''s name of the message.';
