-- name: ReadSpending :many
-- How much of each cap is used at the given time, and when its day ends. Counted from
-- bids where asked for, where nothing was counted on that day, and always for live bids.
-- Withdrawn and rejected bids stay with the day on which they were claimed. Ids grow with
-- time, so that only bids of the last two days are looked at.
SELECT
    k.marketplace::text AS marketplace,
    k.account::text AS account,
    k.cap::text AS cap,
    k.currency::text AS currency,
    (CASE
        WHEN k.cap = 'live_bids' THEN (
            SELECT count(*) FROM bids AS b
            WHERE b.marketplace = k.marketplace AND b.account = k.account AND b.status = 'ACTIVE')
        WHEN k.recount OR counted.used IS NULL THEN (
            SELECT coalesce(sum(CASE WHEN k.cap = 'money_per_day' THEN b.amount_cents ELSE 1 END), 0) FROM bids AS b
            WHERE b.id >= (lpad(to_hex(floor(extract(epoch FROM least(@now::timestamptz, now()) - interval '2 days') * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
                AND b.marketplace = k.marketplace AND b.account = k.account
                AND (k.currency = '' OR b.currency = k.currency)
                AND b.status <> 'DUPLICATE'
                AND (b.created_at AT TIME ZONE k.zone)::date = k.day)
        ELSE counted.used
    END)::bigint AS used,
    ((k.day + 1)::timestamp AT TIME ZONE k.zone)::timestamptz AS day_ends
FROM (
    SELECT m.*, ((@now::timestamptz) AT TIME ZONE m.zone)::date AS day
    FROM (
        SELECT
            unnest(@marketplaces::text[]) AS marketplace,
            unnest(@accounts::text[]) AS account,
            unnest(@caps::text[]) AS cap,
            unnest(@currencies::text[]) AS currency,
            unnest(@zones::text[]) AS zone,
            unnest(@recounts::boolean[]) AS recount
    ) AS m
) AS k
LEFT JOIN LATERAL (
    SELECT sum(s.used)::bigint AS used FROM spending AS s
    WHERE s.marketplace = k.marketplace AND s.account = k.account AND s.cap = k.cap AND s.currency = k.currency
        AND s.day = k.day
    HAVING every(s.used IS NOT NULL)
) AS counted ON true;

-- name: TakeShares :one
-- Takes from a share of each cap: one that nobody holds, so this waits for no one. Tells how
-- many of the caps had one with enough room.
WITH held AS MATERIALIZED (
    SELECT k.*, free.share
    FROM (
        SELECT m.*, CASE WHEN m.cap = 'live_bids' THEN '-infinity' ELSE ((@now::timestamptz) AT TIME ZONE m.zone)::date END AS day
        FROM (
            SELECT
                unnest(@marketplaces::text[]) AS marketplace,
                unnest(@accounts::text[]) AS account,
                unnest(@caps::text[]) AS cap,
                unnest(@currencies::text[]) AS currency,
                unnest(@zones::text[]) AS zone,
                unnest(@of_caps::bigint[]) AS of_cap,
                unnest(@first_shares::integer[]) AS first_share,
                unnest(@amounts::bigint[]) AS amount
        ) AS m
    ) AS k
    CROSS JOIN LATERAL (
        SELECT s.share FROM spending AS s
        WHERE s.marketplace = k.marketplace AND s.account = k.account AND s.cap = k.cap AND s.currency = k.currency
            AND s.day = k.day AND s.share >= k.first_share AND s.of_cap = k.of_cap AND s.used + k.amount <= s.allotted
        ORDER BY s.share
        LIMIT 1
        FOR UPDATE OF s SKIP LOCKED
    ) AS free
),
taken AS (
    UPDATE spending AS s SET used = s.used + held.amount
    FROM held
    WHERE s.marketplace = held.marketplace AND s.account = held.account AND s.cap = held.cap AND s.currency = held.currency
        AND s.day = held.day AND s.share = held.share
    RETURNING s.share
)
SELECT count(*)::bigint FROM taken;

-- name: LockSpending :exec
-- Takes the caps as a whole, in key order, and begins their day where that is new. Waits
-- for whoever decides exactly on one of them.
INSERT INTO spending (marketplace, account, cap, currency, day)
SELECT k.marketplace, k.account, k.cap, k.currency,
    CASE WHEN k.cap = 'live_bids' THEN '-infinity' ELSE ((@now::timestamptz) AT TIME ZONE k.zone)::date END AS day
FROM (
    SELECT
        unnest(@marketplaces::text[]) AS marketplace,
        unnest(@accounts::text[]) AS account,
        unnest(@caps::text[]) AS cap,
        unnest(@currencies::text[]) AS currency,
        unnest(@zones::text[]) AS zone
) AS k
ORDER BY k.marketplace COLLATE "C", k.account COLLATE "C", k.cap COLLATE "C", k.currency COLLATE "C", day
ON CONFLICT (marketplace, account, cap, currency, day, share) DO UPDATE SET of_cap = spending.of_cap;

-- name: LockShares :many
-- Takes all shares of caps that are locked, in key order: waits for the claims that take
-- from them. A statement of its own, so that it sees the shares that the last holder cut.
SELECT s.share
FROM (
    SELECT
        unnest(@marketplaces::text[]) AS marketplace,
        unnest(@accounts::text[]) AS account,
        unnest(@caps::text[]) AS cap,
        unnest(@currencies::text[]) AS currency,
        unnest(@zones::text[]) AS zone
) AS k
JOIN spending AS s ON s.marketplace = k.marketplace AND s.account = k.account AND s.cap = k.cap AND s.currency = k.currency
    AND s.day = CASE WHEN k.cap = 'live_bids' THEN '-infinity' ELSE ((@now::timestamptz) AT TIME ZONE k.zone)::date END
WHERE s.share > 0
ORDER BY s.marketplace, s.account, s.cap, s.currency, s.day, s.share
FOR UPDATE OF s;

-- name: CutSpending :exec
-- Writes what is used of caps that are locked, and cuts what is left into shares. Shares
-- of an earlier cut are emptied.
INSERT INTO spending (marketplace, account, cap, currency, day, share, used, allotted, of_cap)
SELECT k.marketplace, k.account, k.cap, k.currency, k.day, n.share,
    CASE WHEN n.share = 0 THEN k.used ELSE 0 END,
    CASE WHEN n.share BETWEEN 1 AND k.shares THEN k.size ELSE 0 END,
    k.of_cap
FROM (
    SELECT m.*, CASE WHEN m.cap = 'live_bids' THEN '-infinity' ELSE ((@now::timestamptz) AT TIME ZONE m.zone)::date END AS day
    FROM (
        SELECT
            unnest(@marketplaces::text[]) AS marketplace,
            unnest(@accounts::text[]) AS account,
            unnest(@caps::text[]) AS cap,
            unnest(@currencies::text[]) AS currency,
            unnest(@zones::text[]) AS zone,
            unnest(@used::bigint[]) AS used,
            unnest(@shares::integer[]) AS shares,
            unnest(@sizes::bigint[]) AS size,
            unnest(@of_caps::bigint[]) AS of_cap
    ) AS m
) AS k
CROSS JOIN LATERAL generate_series(0, greatest(k.shares, (
    SELECT max(s.share) FROM spending AS s
    WHERE s.marketplace = k.marketplace AND s.account = k.account AND s.cap = k.cap AND s.currency = k.currency
        AND s.day = k.day))) AS n(share)
ON CONFLICT (marketplace, account, cap, currency, day, share)
    DO UPDATE SET used = excluded.used, allotted = excluded.allotted, of_cap = excluded.of_cap;

-- name: SpendingAccounts :many
-- Which accounts have spent under caps, and in which currencies.
SELECT DISTINCT marketplace, account, currency FROM spending ORDER BY marketplace, account, currency;

-- name: UnknownZones :many
-- Which of the zones this server does not know.
SELECT z.zone::text AS zone
FROM unnest(@zones::text[]) AS z(zone)
WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_timezone_names AS known WHERE lower(known.name) = lower(z.zone))
ORDER BY z.zone;
