package bidding

import (
	"errors"
	"fmt"
	"testing"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/posting"
)

// TestCapShares: a claim takes from a share that is of its own caps, free and large enough.
func TestCapShares(t *testing.T) {
	t.Parallel()
	if err := scenarioCapShares(t, setup(t)); err != nil {
		t.Error(err)
	}
}

// scenarioCapShares has one right share for each cap, behind all kinds of wrong ones.
func scenarioCapShares(t *testing.T, f *fixture) error {
	t.Helper()
	caps := Caps{BidsPerDay: number(500), MoneyPerDayCents: number(50_000), LiveBids: number(500)}
	f.rules.Caps = func(marketplace string) Caps {
		if marketplace == "upwork" {
			return caps
		}
		return Caps{}
	}
	keys := append(jobs(3), posting.Key{Marketplace: "guru", JobID: "without caps"})
	f.cacheNow(t, keys...)
	f.exec(t, "UPDATE postings SET currency = 'EUR' WHERE job_id = '00001'")
	f.exec(t, `CREATE TABLE needs AS
		SELECT v.cap, v.currency, v.need, v.of_cap, (clock_timestamp() AT TIME ZONE 'UTC')::date AS today FROM (VALUES
			('bids_per_day', '', 3, 500), ('live_bids', '', 3, 500), ('money_per_day', 'EUR', 1000, 50000), ('money_per_day', 'USD', 2000, 50000)
		) AS v (cap, currency, need, of_cap)`)
	const right = 99 // after all wrong ones
	const insert = `INSERT INTO spending (marketplace, account, cap, currency, day, share, used, allotted, of_cap)
		SELECT %s, %s, cap, %s, CASE WHEN cap = 'live_bids' THEN '-infinity' ELSE today + %d END, s, 0, %s, of_cap + %d FROM needs
		CROSS JOIN generate_series(%d, %d) AS s WHERE %s`
	wrong := func(marketplace, account, currency string, days int, allotted string, ofCap, from, to int, where string) {
		f.exec(t, fmt.Sprintf(insert, marketplace, account, currency, days, allotted, ofCap, from, to, where))
	}
	wrong("'upwork'", "'default'", "currency", 0, "need", 0, right, right, "true") // the right one
	wrong("'upwork'", "'default'", "currency", 0, "90000", 0, 0, 0, "true")
	wrong("'upwork'", "'default'", "currency", 0, "90000", 1, 11, 12, "true")
	wrong("'upwork'", "'default'", "currency", 0, "need - 1", 0, 21, 22, "true")
	wrong("'upwork'", "'default'", "currency", 0, "90000", 0, 31, 32, "true") // somebody holds them
	for _, share := range []int{41, right} {
		wrong("'guru'", "'default'", "currency", 0, "90000", 0, share, share, "true")
		wrong("'upwork'", "'other'", "currency", 0, "90000", 0, share, share, "true")
		wrong("'upwork'", "'default'", "currency", -1, "90000", 0, share, share, "cap <> 'live_bids'")
		wrong("'upwork'", "'default'", "'GBP'", 0, "90000", 0, share, share, "currency = 'USD'")
	}
	open := f.rogue(t, "SELECT FROM spending WHERE share IN (31, 32) AND marketplace = 'upwork' AND account = 'default' FOR UPDATE")
	defer open.rollback()

	locked := 0
	c := f.claimer(func(c *Claimer) {
		c.after = func(step string) {
			if step == "beginning" {
				locked++
			}
		}
		c.cuts = map[meter]int32{}
		for _, currency := range []string{"EUR", "USD"} {
			for _, m := range caps.meters("upwork", currency) {
				c.cuts[m] = 4
			}
		}
	})
	made, err := tryPass(t.Context(), c, PassOptions{})
	return errors.Join(err,
		differ("outcomes", outcomes(made), map[Outcome]int{Claimed: 4}),
		differ("transactions", locked, 2), // and one that found the queue empty, from the front
		differ("taken", read[string](t, f, `SELECT coalesce(string_agg(format('%s %s%s %s', share, cap, currency, used), ', ' ORDER BY cap, currency), '') FROM spending
			WHERE used > 0 AND marketplace = 'upwork' AND account = 'default'`),
			"99 bids_per_day 3, 99 live_bids 3, 99 money_per_dayEUR 1000, 99 money_per_dayUSD 2000"),
		differ("taken elsewhere", f.count(t, "spending WHERE used > 0"), 4),
	)
}

// TestCapSpread: claims begin at different shares, so that they seldom want the same.
func TestCapSpread(t *testing.T) {
	t.Parallel()
	if err := scenarioCapSpread(t, setup(t)); err != nil {
		t.Error(err)
	}
}

func scenarioCapSpread(t *testing.T, f *fixture) error {
	t.Helper()
	f.rules.Caps = everywhere(Caps{BidsPerDay: number(10_000)})
	f.cacheNow(t, jobs(20)...)
	_, err := tryPass(t.Context(), f.claimer(), PassOptions{Batch: 1})
	return errors.Join(err, differ("shares in use", f.count(t, "spending WHERE share > 3 AND used > 0") > 1, true))
}

// TestCapOverspent: where no share is large enough the batch decides again.
func TestCapOverspent(t *testing.T) {
	t.Parallel()
	if err := scenarioCapOverspent(t, setup(t)); err != nil {
		t.Error(err)
	}
}

func scenarioCapOverspent(t *testing.T, f *fixture) error {
	t.Helper()
	f.rules.Caps = everywhere(Caps{BidsPerDay: number(300)})
	f.cacheNow(t, jobs(400)...)
	made, err := tryPass(t.Context(), f.claimer(), PassOptions{Batch: 40})
	return errors.Join(err, differ("outcomes", outcomes(made), capped(300, 100)), differ("counted", f.used(t, bidsPerDay), 300))
}

// TestCapCounts: what is used of each cap, as counted before or from the bids.
func TestCapCounts(t *testing.T) {
	t.Parallel()
	if err := scenarioCapCounts(t, setup(t)); err != nil {
		t.Error(err)
	}
}

func scenarioCapCounts(t *testing.T, f *fixture) error {
	t.Helper()
	// Ids as the program makes them: random ones are mostly larger than any of today.
	f.exec(t, `INSERT INTO bids (id, marketplace, account, job_id, status, amount_cents, currency, created_at)
		SELECT (lpad(to_hex((extract(epoch FROM now()) * 1000)::bigint), 12, '0') || lpad(amount::text, 20, '0'))::uuid,
			marketplace, account, job_id, status, amount, currency, created_at::timestamptz
		FROM (VALUES
			('upwork', 'default', '1', 'ACTIVE', 100, 'USD', '2030-01-02 11:00Z'),
			('upwork', 'default', '2', 'ACTIVE', 200, 'EUR', '2030-01-02 11:00Z'),
			('upwork', 'default', '3', 'REJECTED', 400, 'USD', '2030-01-02 11:00Z'),
			('upwork', 'default', '3', 'DUPLICATE', 800, 'USD', '2030-01-02 11:00Z'),
			('upwork', 'default', '4', 'ACTIVE', 1600, 'USD', '2030-01-02 09:00Z'),
			('upwork', 'default', '7', 'ACTIVE', 12800, 'USD', '2030-01-02 09:00Z'),
			('upwork', 'other', '5', 'ACTIVE', 3200, 'USD', '2030-01-02 11:00Z'),
			('guru', 'default', '6', 'ACTIVE', 6400, 'USD', '2030-01-02 11:00Z')
		) AS v (marketplace, account, job_id, status, amount, currency, created_at)`)
	f.exec(t, `INSERT INTO spending (marketplace, account, cap, currency, day, share, used, allotted) VALUES
		('upwork', 'default', 'bids_per_day', '', '2030-01-03', 0, 10, 0),
		('upwork', 'default', 'bids_per_day', '', '2030-01-03', 1, 5, 9),
		('upwork', 'default', 'bids_per_day', '', '2030-01-02', 0, 70, 0),
		('upwork', 'other', 'bids_per_day', '', '2030-01-03', 0, 80, 0),
		('guru', 'default', 'bids_per_day', '', '2030-01-03', 0, NULL, 0),
		('guru', 'default', 'bids_per_day', '', '2030-01-03', 1, 3, 9),
		('upwork', 'default', 'money_per_day', 'USD', '2030-01-03', 0, 90, 0),
		('upwork', 'default', 'money_per_day', 'EUR', '2030-01-03', 0, 91, 0),
		('upwork', 'default', 'live_bids', '', '-infinity', 0, 99, 0)`)
	// Noon in UTC is two o'clock of the next day there.
	const zone = "Pacific/Kiritimati"
	meters := []meter{
		{"upwork", DefaultAccount, bidsPerDay, "", zone, 1},
		{"upwork", DefaultAccount, moneyPerDay, "USD", zone, 1},
		{"upwork", DefaultAccount, moneyPerDay, "EUR", zone, 1},
		{"upwork", DefaultAccount, liveBids, "", zone, 1},
		{"guru", DefaultAccount, bidsPerDay, "", zone, 1},
		{"toptal", DefaultAccount, bidsPerDay, "", zone, 1},
	}
	var errs []error
	for recount, wanted := range map[bool]string{false: "15 90 91 4 1 0", true: "3 500 200 4 1 0"} {
		err := db.InTx(t.Context(), f.claimer().pool, f.claimer().limited(), func(tx *db.Tx) error {
			used, err := readSpending(t.Context(), queries.New(tx), meters, noon(), func(meter) bool { return recount })
			if err != nil {
				return err
			}
			got := ""
			for _, m := range meters {
				got += fmt.Sprint(used[m].used, " ")
			}
			return errors.Join(
				differ(fmt.Sprintf("used, recounted %v", recount), got, wanted+" "),
				differ("the day ends", used[meters[0]].dayEnds.UTC().String(), "2030-01-03 10:00:00 +0000 UTC"))
		})
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
