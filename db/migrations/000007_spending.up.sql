-- What each account has used of its caps: the count that claims agree on. The truth is in
-- bids; a row here is counted from them once, and from then on changed by the claims
-- themselves, in their own transactions.
--
-- A cap that is far from reached is cut into shares, so that claims on one account need
-- not wait for each other's COMMIT: each takes from a share that nobody holds. What was
-- cut stands here and not in a configuration, so pods whose files differ cannot give out
-- the same room twice.

CREATE TABLE spending (
    marketplace text COLLATE "C" NOT NULL,
    account     text COLLATE "C" NOT NULL DEFAULT 'default',
    cap         text COLLATE "C" NOT NULL,
    currency    text COLLATE "C" NOT NULL DEFAULT '',
    day         date             NOT NULL,
    share       integer          NOT NULL DEFAULT 0,
    used        bigint,
    allotted    bigint           NOT NULL DEFAULT 0,
    of_cap      bigint           NOT NULL DEFAULT 0,
    CONSTRAINT spending_pkey PRIMARY KEY (marketplace, account, cap, currency, day, share),
    CONSTRAINT spending_marketplace_spelling CHECK (marketplace ~ '^[a-z0-9][a-z0-9._-]{0,63}$'),
    CONSTRAINT spending_account_present CHECK (account <> ''),
    CONSTRAINT spending_cap_known CHECK (cap IN ('bids_per_day', 'money_per_day', 'live_bids')),
    CONSTRAINT spending_currency_of_money CHECK (
        CASE WHEN cap = 'money_per_day' THEN currency ~ '^[A-Z]{3}$' ELSE currency = '' END),
    CONSTRAINT spending_day_of_days CHECK ((day = '-infinity') = (cap = 'live_bids')),
    CONSTRAINT spending_share_counted CHECK (share >= 0 AND (share = 0 OR used IS NOT NULL)),
    CONSTRAINT spending_not_negative CHECK (used >= 0 AND allotted >= 0 AND of_cap >= 0),
    CONSTRAINT spending_within_share CHECK (share = 0 OR used <= allotted)
);

-- A few hot rows: each page keeps room for their next versions, and no index holds a
-- column that changes, so that an update touches one page.
ALTER TABLE spending SET (fillfactor = 10, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);

COMMENT ON TABLE spending IS 'What accounts have used of their caps. Share 0 is what was used when the cap was last cut; the others are what may be used since, and was.';
COMMENT ON COLUMN spending.marketplace IS 'Where the account bids.';
COMMENT ON COLUMN spending.account IS 'The account whose bids are counted.';
COMMENT ON COLUMN spending.cap IS 'bids_per_day, money_per_day or live_bids.';
COMMENT ON COLUMN spending.currency IS 'The currency of money_per_day; empty for the others.';
COMMENT ON COLUMN spending.day IS 'The date in the zone of the cap; -infinity for live_bids.';
COMMENT ON COLUMN spending.share IS '0 is the whole cap: whoever holds it and all shares decides exactly. From 1 on: a part that one claim takes from at a time.';
COMMENT ON COLUMN spending.used IS 'Bids, or hundredths of the currency. Null: not counted yet. For live_bids an upper bound: ended bids are found when the cap is cut again.';
COMMENT ON COLUMN spending.allotted IS 'Until where used may go in this share.';
COMMENT ON COLUMN spending.of_cap IS 'The cap that this share was cut from. A claim that knows another one cuts again.';
