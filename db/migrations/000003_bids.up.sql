-- Bids. The partial unique index below is what makes a second live bid on a
-- posting impossible, whoever writes and whatever they forgot to lock.
--
-- There is no foreign key to postings: it costs a fifth of the claim's speed, and
-- a bid outlives the cached posting that it answered.

CREATE TABLE bids (
    id                        uuid             NOT NULL DEFAULT gen_random_uuid(),
    marketplace               text COLLATE "C" NOT NULL,
    account                   text COLLATE "C" NOT NULL DEFAULT 'default',
    job_id                    text COLLATE "C" NOT NULL,
    status                    text COLLATE "C" NOT NULL DEFAULT 'ACTIVE',
    amount_cents              bigint,
    currency                  text             NOT NULL DEFAULT 'USD',
    period_days               integer,
    proposal                  text,
    posting_cached_at         timestamptz,
    external_bid_id           text COLLATE "C",
    is_foreign                boolean          NOT NULL DEFAULT false,
    submitted_at              timestamptz,
    withdrawn_reason          text,
    withdrawal_timestamp      timestamptz,
    duplicate_of              uuid,
    run_id                    uuid,
    created_at                timestamptz      NOT NULL DEFAULT clock_timestamp(),
    updated_at                timestamptz      NOT NULL DEFAULT clock_timestamp(),
    -- what the bid owes its marketplace
    delivery_kind             text COLLATE "C",
    delivery_state            text COLLATE "C",
    delivery_attempts         integer          NOT NULL DEFAULT 0,
    next_attempt_at           timestamptz,
    lease_expires_at          timestamptz,
    lease_token               bigint           NOT NULL DEFAULT 0,
    last_error                text,
    review_reason             text,
    review_since              timestamptz,
    -- what was sent
    place_posts               integer          NOT NULL DEFAULT 0,
    first_post_at             timestamptz,
    last_post_at              timestamptz,
    -- what a person asked for
    approved_at               timestamptz,
    approved_by               text,
    withdraw_requested_at     timestamptz,
    withdraw_requested_reason text,
    withdraw_requested_by     text,
    CONSTRAINT bids_pkey PRIMARY KEY (id),
    CONSTRAINT bids_marketplace_spelling CHECK (
        marketplace ~ '^[a-z0-9][a-z0-9._-]{0,63}$' AND marketplace <> 'peoplehour'),
    CONSTRAINT bids_job_id_spelling CHECK (
        octet_length(job_id) BETWEEN 1 AND 512
        AND job_id !~ '[\u0001-\u001f\u007f-\u009f]|^[ \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]|[ \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]$'
        AND job_id NOT IN ('None', 'null', 'undefined', '<nil>')),
    CONSTRAINT bids_account_present CHECK (account <> ''),
    CONSTRAINT bids_status_known CHECK (
        status IN ('ACTIVE', 'WITHDRAWN', 'DUPLICATE', 'REJECTED', 'WON', 'LOST')),
    CONSTRAINT bids_amount_present CHECK (amount_cents IS NOT NULL OR status = 'DUPLICATE'),
    CONSTRAINT bids_amount_not_negative CHECK (amount_cents >= 0),
    CONSTRAINT bids_currency_code CHECK (currency ~ '^[A-Z]{3}$'),
    CONSTRAINT bids_period_positive CHECK (period_days > 0),
    CONSTRAINT bids_external_id_present CHECK (external_bid_id <> ''),
    CONSTRAINT bids_duplicate_of_duplicates CHECK (duplicate_of IS NULL OR status = 'DUPLICATE'),
    CONSTRAINT bids_withdrawal_recorded CHECK (status <> 'WITHDRAWN' OR withdrawal_timestamp IS NOT NULL),
    CONSTRAINT bids_withdrawal_ended CHECK (
        withdrawal_timestamp IS NULL AND withdrawn_reason IS NULL OR status IN ('WITHDRAWN', 'REJECTED')),
    CONSTRAINT bids_owes_while_active CHECK (status = 'ACTIVE' OR delivery_kind IS NULL),
    CONSTRAINT bids_delivery_kind_known CHECK (delivery_kind IN ('place', 'withdraw')),
    CONSTRAINT bids_delivery_state_known CHECK (
        delivery_state IN ('awaiting_approval', 'pending', 'leased', 'review')),
    CONSTRAINT bids_delivery_whole CHECK ((delivery_kind IS NULL) = (delivery_state IS NULL)),
    CONSTRAINT bids_lease_whole CHECK (
        coalesce(delivery_state = 'leased', false) = (lease_expires_at IS NOT NULL)),
    CONSTRAINT bids_review_current CHECK (
        coalesce(delivery_state = 'review', false) OR (review_reason IS NULL AND review_since IS NULL)),
    CONSTRAINT bids_delivery_attempts_not_negative CHECK (delivery_attempts >= 0),
    CONSTRAINT bids_posts_counted CHECK (
        place_posts >= 0
        AND (place_posts = 0 OR (first_post_at IS NOT NULL AND last_post_at IS NOT NULL))),
    CONSTRAINT bids_posts_in_order CHECK (last_post_at >= first_post_at),
    CONSTRAINT bids_approval_whole CHECK ((approved_at IS NULL) = (approved_by IS NULL)),
    CONSTRAINT bids_withdraw_request_whole CHECK (
        (withdraw_requested_at IS NULL) = (withdraw_requested_reason IS NULL))
);

-- The guarantee.
CREATE UNIQUE INDEX bids_one_active_per_posting ON bids (marketplace, job_id) WHERE status = 'ACTIVE';

-- One bid at the marketplace belongs to one live row here.
CREATE UNIQUE INDEX bids_one_active_per_external_id ON bids (marketplace, account, external_bid_id)
    WHERE status = 'ACTIVE' AND external_bid_id IS NOT NULL;

-- Which bid has an id of the marketplace, ended ones included: it is never adopted for another.
CREATE INDEX bids_external_id ON bids (marketplace, account, external_bid_id) WHERE external_bid_id IS NOT NULL;

-- What is owed to each account, by when it is due. A row enters at its claim and leaves when
-- nothing is owed. By account, so that a paused or slow one stands in nobody's way.
CREATE INDEX bids_due ON bids (marketplace, account, next_attempt_at) WHERE delivery_kind IS NOT NULL;

-- What waits for a person.
CREATE INDEX bids_for_person ON bids (id) WHERE delivery_state IN ('review', 'awaiting_approval');

-- History of postings: only rows that are no longer live, so that a claim does not write it.
CREATE INDEX bids_history ON bids (marketplace, job_id, created_at, id) WHERE status <> 'ACTIVE';

COMMENT ON TABLE bids IS 'Bids. Live while status is ACTIVE, from the claim to the end of the bid''s life.';
COMMENT ON COLUMN bids.account IS 'The account at the marketplace that bids.';
COMMENT ON COLUMN bids.status IS 'ACTIVE -> WITHDRAWN -> REJECTED, ACTIVE -> REJECTED, ACTIVE -> WON | LOST. DUPLICATE: audit of an attempt by hand that lost.';
COMMENT ON COLUMN bids.amount_cents IS 'The amount in hundredths of the currency; null only for duplicates.';
COMMENT ON COLUMN bids.posting_cached_at IS 'cached_at of the posting''s content that was bid on.';
COMMENT ON COLUMN bids.external_bid_id IS 'The marketplace''s own id of the bid.';
COMMENT ON COLUMN bids.is_foreign IS 'Found live at the marketplace without having been sent from here, and adopted.';
COMMENT ON COLUMN bids.submitted_at IS 'When the marketplace is known to have accepted it.';
COMMENT ON COLUMN bids.withdrawn_reason IS 'Why it was withdrawn; written by the transition, not by the request.';
COMMENT ON COLUMN bids.withdrawal_timestamp IS 'When it was withdrawn; written by the transition, not by the request.';
COMMENT ON COLUMN bids.duplicate_of IS 'For DUPLICATE: the live bid that was there first.';
COMMENT ON COLUMN bids.run_id IS 'The run that claimed it.';
COMMENT ON COLUMN bids.delivery_kind IS 'What the bid owes its marketplace: place, withdraw, or nothing (null).';
COMMENT ON COLUMN bids.delivery_state IS 'awaiting_approval, pending, leased or review.';
COMMENT ON COLUMN bids.delivery_attempts IS 'Failed attempts of the owed delivery.';
COMMENT ON COLUMN bids.next_attempt_at IS 'When the owed delivery is due; while leased: when the lease ends. Null while it waits for a person.';
COMMENT ON COLUMN bids.lease_expires_at IS 'Until when a pod owns the delivery.';
COMMENT ON COLUMN bids.lease_token IS 'Grows with every owner and every change by hand: a result is recorded only under its own token.';
COMMENT ON COLUMN bids.last_error IS 'What went wrong last with the owed delivery.';
COMMENT ON COLUMN bids.review_reason IS 'Why a person must look, while delivery_state is review.';
COMMENT ON COLUMN bids.review_since IS 'Since when a person must look.';
COMMENT ON COLUMN bids.place_posts IS 'POSTs armed and not known to be unexecuted. 0 means never sent, and nothing else does.';
COMMENT ON COLUMN bids.first_post_at IS 'When the first POST was armed.';
COMMENT ON COLUMN bids.last_post_at IS 'When the last POST was armed.';
COMMENT ON COLUMN bids.approved_by IS 'Who approved the sending, where approval is required.';
COMMENT ON COLUMN bids.withdraw_requested_at IS 'When a withdrawal was first asked for; stops every further POST.';
COMMENT ON COLUMN bids.withdraw_requested_reason IS 'The reason given with the first request.';
COMMENT ON COLUMN bids.withdraw_requested_by IS 'Who asked first.';

-- The rules of a bid's life, for every writer. Constraint names are part of the
-- interface: programs tell the refusals apart by them.

CREATE FUNCTION bids_guard_update() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.status = 'DUPLICATE' THEN
        RAISE EXCEPTION 'bid %: DUPLICATE rows never change', OLD.id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'bids_duplicates_final';
    END IF;
    IF (OLD.id, OLD.marketplace, OLD.account, OLD.job_id)
        IS DISTINCT FROM (NEW.id, NEW.marketplace, NEW.account, NEW.job_id) THEN
        RAISE EXCEPTION 'bid %: its id, marketplace, account and job_id never change', OLD.id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'bids_keys_immutable';
    END IF;
    IF OLD.place_posts > 0
        AND (OLD.amount_cents, OLD.currency, OLD.period_days, OLD.proposal)
            IS DISTINCT FROM (NEW.amount_cents, NEW.currency, NEW.period_days, NEW.proposal) THEN
        RAISE EXCEPTION 'bid %: what may have been sent does not change', OLD.id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'bids_sent_immutable';
    END IF;
    IF NEW.lease_token < OLD.lease_token THEN
        RAISE EXCEPTION 'bid %: lease_token never goes back', OLD.id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'bids_lease_token_grows';
    END IF;
    IF OLD.status <> NEW.status THEN
        IF NOT (OLD.status = 'ACTIVE' AND NEW.status IN ('WITHDRAWN', 'REJECTED', 'WON', 'LOST')
                OR OLD.status = 'WITHDRAWN' AND NEW.status = 'REJECTED') THEN
            RAISE EXCEPTION 'bid %: % does not become %', OLD.id, OLD.status, NEW.status
                USING ERRCODE = 'check_violation', CONSTRAINT = 'bids_status_transition';
        END IF;
        IF NEW.status = 'WITHDRAWN' THEN
            NEW.withdrawal_timestamp := coalesce(NEW.withdrawal_timestamp, clock_timestamp());
        END IF;
    END IF;
    NEW.updated_at := clock_timestamp();
    RETURN NEW;
END $$;

CREATE TRIGGER bids_guard_update BEFORE UPDATE ON bids
    FOR EACH ROW EXECUTE FUNCTION bids_guard_update();

CREATE FUNCTION bids_stamp_withdrawal() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    NEW.withdrawal_timestamp := clock_timestamp();
    RETURN NEW;
END $$;

CREATE TRIGGER bids_stamp_withdrawal BEFORE INSERT ON bids
    FOR EACH ROW WHEN (NEW.status = 'WITHDRAWN' AND NEW.withdrawal_timestamp IS NULL)
    EXECUTE FUNCTION bids_stamp_withdrawal();

CREATE FUNCTION bids_guard_delete() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'bid %: a live bid cannot be deleted', OLD.id
        USING ERRCODE = 'check_violation', CONSTRAINT = 'bids_live_undeletable',
              HINT = 'Withdraw it, or record how it ended.';
END $$;

CREATE TRIGGER bids_guard_delete BEFORE DELETE ON bids
    FOR EACH ROW WHEN (OLD.status = 'ACTIVE') EXECUTE FUNCTION bids_guard_delete();

-- Never, also when no bid is live: a TRUNCATE removes rows that its snapshot is too old to see.
CREATE FUNCTION bids_guard_truncate() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'bids cannot be truncated: live ones would be lost'
        USING ERRCODE = 'check_violation', CONSTRAINT = 'bids_live_undeletable',
              HINT = 'Delete bids that have ended.';
END $$;

CREATE TRIGGER bids_guard_truncate BEFORE TRUNCATE ON bids
    FOR EACH STATEMENT EXECUTE FUNCTION bids_guard_truncate();

-- A holder of the posting's lock that was frozen must not commit when it thaws.
-- Servers before 17 have no transaction_timeout, so the COMMIT itself is refused
-- when the transaction is older than the lock may live: bidder.lock_ttl
-- milliseconds where the session set it, five minutes at most in any case.
CREATE FUNCTION bids_refuse_late_commit() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
    ttl interval := least(
        coalesce(nullif(current_setting('bidder.lock_ttl', true), '')::bigint, 300000), 300000)
        * interval '1 millisecond';
BEGIN
    IF clock_timestamp() - transaction_timestamp() > ttl THEN
        RAISE EXCEPTION 'bid %: its transaction lasted longer than the lock may be held (%)', NEW.id, ttl
            USING ERRCODE = 'check_violation', CONSTRAINT = 'bids_commit_within_lock_ttl';
    END IF;
    RETURN NULL;
END $$;

CREATE CONSTRAINT TRIGGER bids_commit_within_lock_ttl AFTER INSERT ON bids
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION bids_refuse_late_commit();

CREATE TABLE bid_events (
    id          bigint      GENERATED ALWAYS AS IDENTITY,
    bid_id      uuid        NOT NULL,
    at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor       text        NOT NULL,
    from_status text,
    to_status   text,
    detail      jsonb       NOT NULL DEFAULT '{}',
    CONSTRAINT bid_events_pkey PRIMARY KEY (id),
    CONSTRAINT bid_events_bid_fkey FOREIGN KEY (bid_id) REFERENCES bids (id) ON DELETE CASCADE,
    CONSTRAINT bid_events_actor_present CHECK (actor <> ''),
    CONSTRAINT bid_events_detail_object CHECK (jsonb_typeof(detail) = 'object')
);

CREATE INDEX bid_events_bid ON bid_events (bid_id, id);

COMMENT ON TABLE bid_events IS 'Append-only history of everything that happened to a bid after its insert.';
COMMENT ON COLUMN bid_events.actor IS 'Who did it: a person, or the part of the program.';
COMMENT ON COLUMN bid_events.from_status IS 'Status before, where it changed.';
COMMENT ON COLUMN bid_events.to_status IS 'Status after, where it changed.';

-- Rows go only with their bid (the cascade runs one trigger deeper).
CREATE FUNCTION bid_events_append_only() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND pg_trigger_depth() > 1 THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'bid_events is append-only'
        USING ERRCODE = 'check_violation', CONSTRAINT = 'bid_events_append_only';
END $$;

CREATE TRIGGER bid_events_append_only BEFORE UPDATE OR DELETE ON bid_events
    FOR EACH ROW EXECUTE FUNCTION bid_events_append_only();

CREATE TRIGGER bid_events_not_truncated BEFORE TRUNCATE ON bid_events
    FOR EACH STATEMENT EXECUTE FUNCTION bid_events_append_only();
