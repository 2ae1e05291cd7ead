package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/arbitrageai/bidder/pkg/marketplace/sandbox"
)

// checker looks at what the marketplaces say and at what the database says, and knows what
// must be true of both at any time, and at the end.
type checker struct {
	s      *storm
	seq    map[string]int64 // of each journal, read so far
	posts  map[string]int64 // POSTs that each bid was sent with
	looks  int
	failed int // looks for which the database, or a marketplace, was not there
}

func newChecker(s *storm) *checker {
	return &checker{s: s, seq: map[string]int64{}, posts: map[string]int64{}}
}

// watch looks again and again.
func (c *checker) watch(ctx context.Context) {
	for ctx.Err() == nil {
		began := time.Now()
		looking, cancel := context.WithTimeout(ctx, time.Minute)
		err := c.look(looking)
		cancel()
		switch {
		case err == nil:
			c.looks++
		case ctx.Err() == nil:
			c.failed++
		}
		sleep(ctx, max(3*time.Second, 5*time.Since(began))) // it must not become the main load
	}
}

// look checks what is true at any time. The order of its readings matters: a bid that was
// read as ended is live nowhere later, and a POST that was read was armed earlier.
func (c *checker) look(ctx context.Context) error {
	ended, err := c.strings(ctx, `SELECT id::text FROM bids WHERE status IN ('WITHDRAWN', 'REJECTED')`)
	if err != nil {
		return err
	}
	bids, err := c.market(ctx)
	if err != nil {
		return err
	}
	c.overlaps(bids)
	isEnded := map[string]bool{}
	for _, id := range ended {
		isEnded[id] = true
	}
	for _, bid := range bids {
		if bid.Status.IsLive() && isEnded[bid.BidID] {
			c.s.violations.addf("ended here, live there", "bid %s on %s", bid.BidID, bid.JobID)
		}
	}
	if err := c.armed(ctx); err != nil {
		return err
	}
	return c.none(ctx, map[string]string{
		"two live bids here": `SELECT marketplace || ' ' || job_id FROM bids WHERE status = 'ACTIVE' GROUP BY marketplace, job_id HAVING count(*) > 1`,
		"one bid of a marketplace, two rows here": `SELECT external_bid_id FROM bids WHERE external_bid_id IS NOT NULL GROUP BY marketplace, external_bid_id
			HAVING count(*) > 1`,
		"owed, and neither due nor leased nor in review": `SELECT id::text FROM bids WHERE delivery_kind IS NOT NULL AND NOT coalesce(CASE delivery_state
			WHEN 'pending' THEN next_attempt_at < now() + interval '1 minute' WHEN 'leased' THEN lease_expires_at < now() + interval '1 minute' WHEN 'review' THEN review_reason IS NOT NULL END, false)`,
	})
}

// market reads all bids, and what is new in the journals.
func (c *checker) market(ctx context.Context) ([]sandbox.Bid, error) {
	var all []sandbox.Bid
	for name, market := range c.s.world.markets {
		bids, err := market.Bids(ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, bids...)
		entries, err := market.JournalAfter(ctx, c.seq[name])
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			c.seq[name] = e.Seq
			if e.Op == sandbox.Place {
				c.posts[e.BidID]++
			}
		}
	}
	return all, nil
}

// overlaps checks that no two bids on a posting were ever live at the same time at the marketplace.
func (c *checker) overlaps(bids []sandbox.Bid) {
	for _, pair := range overlapping(bids) {
		c.s.violations.addf("two live bids at the marketplace", "%s: %s and %s", pair[0].JobID, pair[0].ExternalID, pair[1].ExternalID)
	}
}

func overlapping(bids []sandbox.Bid) (pairs [][2]sandbox.Bid) {
	byJob := map[[2]string][]sandbox.Bid{}
	for _, bid := range bids {
		job := [2]string{bid.Marketplace, bid.JobID}
		byJob[job] = append(byJob[job], bid)
	}
	for _, list := range byJob {
		slices.SortFunc(list, func(a, b sandbox.Bid) int { return a.PlacedAt.Compare(b.PlacedAt) })
		for i, bid := range list[:len(list)-1] {
			if bid.Status.IsLive() || bid.UpdatedAt.After(list[i+1].PlacedAt) {
				pairs = append(pairs, [2]sandbox.Bid{bid, list[i+1]})
			}
		}
	}
	return pairs
}

// armed checks that each POST that a marketplace saw was armed in the database before.
func (c *checker) armed(ctx context.Context) error {
	rows, err := c.s.world.cluster.pool.Query(ctx, `SELECT bid_id::text, count(*) FROM bid_events WHERE detail ->> 'result' = 'armed' GROUP BY bid_id`)
	if err != nil {
		return err
	}
	armed := map[string]int64{}
	var id string
	var n int64
	if _, err := pgx.ForEachRow(rows, []any{&id, &n}, func() error { armed[id] = n; return nil }); err != nil {
		return err
	}
	for id, posts := range c.posts {
		if posts > armed[id] {
			c.s.violations.addf("sent without being armed", "bid %s: %d POSTs, armed %d times", id, posts, armed[id])
		}
	}
	return nil
}

// none checks that queries find nothing.
func (c *checker) none(ctx context.Context, queries map[string]string) error {
	for promise, sql := range queries {
		found, err := c.strings(ctx, sql)
		if err != nil {
			return fmt.Errorf("%s: %w", promise, err)
		}
		for _, text := range found[:min(len(found), 10)] {
			c.s.violations.addf(promise, "%s (%d in all)", text, len(found))
		}
	}
	return nil
}

func (c *checker) strings(ctx context.Context, sql string, args ...any) ([]string, error) {
	rows, err := c.s.world.cluster.pool.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// atRest says whether there is nothing left to be done but what waits for a person.
func (c *checker) atRest(ctx context.Context) (bool, error) {
	return read[bool](ctx, c.s.world.cluster.pool, `SELECT NOT EXISTS (SELECT FROM bids WHERE delivery_state IN ('pending', 'leased'))
		AND NOT EXISTS (SELECT FROM candidates WHERE not_before < 'infinity')`)
}

// final checks what is true when all has come to rest.
func (c *checker) final(ctx context.Context) error {
	if err := c.look(ctx); err != nil {
		return err
	}
	if err := c.none(ctx, map[string]string{
		"a candidate was given up": `SELECT marketplace || ' ' || job_id || ': ' || coalesce(last_error, '') FROM candidates`,
		"two bids lived at once here": `SELECT a.id::text FROM bids AS a JOIN bids AS b ON (a.marketplace, a.job_id) = (b.marketplace, b.job_id) AND a.id < b.id
			AND 'DUPLICATE' NOT IN (a.status, b.status)
			WHERE b.created_at < coalesce((SELECT max(e.at) FROM bid_events AS e WHERE e.bid_id = a.id AND e.to_status IS NOT NULL), 'infinity')`,
		// Counters: a run that ended has counted its claims. A COMMIT whose answer was never
		// found out is counted as failed, and may have happened.
		"claims were counted wrong": `SELECT r.id::text || ': counted ' || n.claimed || ', has ' || n.bids FROM runs AS r CROSS JOIN LATERAL (
				SELECT coalesce((r.counters -> 'outcomes' ->> 'claimed')::bigint, 0) AS claimed, coalesce((r.counters -> 'outcomes' ->> 'failed')::bigint, 0) AS failed,
					(SELECT count(*) FROM bids AS b WHERE b.run_id = r.id AND b.status <> 'DUPLICATE') AS bids) AS n
			WHERE n.claimed > n.bids OR r.finished_at IS NOT NULL AND n.bids > n.claimed + n.failed`,
		"outcomes do not add up": `SELECT r.id::text FROM runs AS r WHERE coalesce((r.counters ->> 'lock_attempts')::bigint, 0)
				> (SELECT coalesce(sum(value::bigint), 0) FROM jsonb_each_text(coalesce(r.counters -> 'outcomes', '{}')))
			OR coalesce((r.counters ->> 'lock_successes')::bigint, 0) + coalesce((r.counters ->> 'lock_timeouts')::bigint, 0) > coalesce((r.counters ->> 'lock_attempts')::bigint, 0)`,
	}); err != nil {
		return err
	}
	if err := c.nothingLost(ctx); err != nil {
		return err
	}
	return c.agree(ctx)
}

// nothingLost checks that each posting was decided on, and that all that was said to be claimed is there.
func (c *checker) nothingLost(ctx context.Context) error {
	decided, err := c.strings(ctx, `SELECT DISTINCT marketplace || ' ' || job_id FROM bids WHERE status <> 'DUPLICATE'`)
	if err != nil {
		return err
	}
	is := map[string]bool{}
	for _, key := range decided {
		is[key] = true
	}
	for n := range c.s.feed.total {
		if marketplace, jobID := job(n); !is[marketplace+" "+jobID] {
			c.s.violations.addf("a posting was lost", "%s %s", marketplace, jobID)
		}
	}
	c.s.tally.mu.Lock()
	defer c.s.tally.mu.Unlock()
	for run, outcomes := range c.s.tally.runs {
		n, err := read[int64](ctx, c.s.world.cluster.pool, `SELECT count(*) FROM bids WHERE run_id = $1 AND status <> 'DUPLICATE'`, run)
		if err != nil {
			return err
		}
		if n < outcomes["claimed"] {
			c.s.violations.addf("a claim was lost", "run %s said %d, there are %d", run, outcomes["claimed"], n)
		}
	}
	for id := range c.s.tally.bids {
		if n, err := read[int64](ctx, c.s.world.cluster.pool, `SELECT count(*) FROM bids WHERE id = $1::text::uuid`, id); err != nil || n != 1 {
			c.s.violations.addf("a claim was lost", "bid %s: %v", id, cmp.Or(err, errNotYet))
		}
	}
	return nil
}

// agree checks that live bids here and there correspond, but for those that a person will look at.
func (c *checker) agree(ctx context.Context) error {
	bids, err := c.market(ctx)
	if err != nil {
		return err
	}
	there := map[string]sandbox.Bid{}
	for _, bid := range bids {
		if bid.Status.IsLive() {
			there[bid.Marketplace+" "+bid.ExternalID] = bid
		}
	}
	rows, err := c.s.world.cluster.pool.Query(ctx, `SELECT id::text, marketplace || ' ' || job_id, marketplace || ' ' || coalesce(external_bid_id, ''), coalesce(delivery_state, '') FROM bids WHERE status = 'ACTIVE'`)
	if err != nil {
		return err
	}
	var id, key, external, state string
	reviewed := map[string]bool{}
	_, err = pgx.ForEachRow(rows, []any{&id, &key, &external, &state}, func() error {
		if state == "review" {
			reviewed[key] = true
			return nil
		}
		if there[external].BidID != id {
			c.s.violations.addf("live here, not there", "bid %s on %s as %s", id, key, external)
		}
		delete(there, external)
		return nil
	})
	if err != nil {
		return err
	}
	for _, bid := range there {
		if !reviewed[bid.Marketplace+" "+bid.JobID] {
			c.s.violations.addf("live there, not here", "bid %s on %s %s as %s", bid.BidID, bid.Marketplace, bid.JobID, bid.ExternalID)
		}
	}
	return nil
}

// left checks that the workers, which have ended, have left no lock and no session behind.
func (c *checker) left(ctx context.Context) error {
	if err := c.gone(ctx, `SELECT 'lock of session ' || pid FROM pg_locks WHERE locktype = 'advisory'
		UNION ALL SELECT 'session ' || pid || ' is ' || state FROM pg_stat_activity WHERE usename = 'bidder_worker' AND state <> 'idle'`); err != nil {
		return err
	}
	if c.s.world.bouncer { // it keeps sessions, as it should
		if err := c.s.world.engine.kill(ctx, "bouncer", "KILL", time.Minute); err != nil {
			return err
		}
	}
	if err := c.s.world.links.cut(breakable(c.s.world.workers)...); err != nil { // of hosts that have gone, the server may not know yet
		return err
	}
	return c.gone(ctx, `SELECT 'session ' || pid FROM pg_stat_activity WHERE usename = 'bidder_worker'`)
}

// gone waits until a query finds nothing more.
func (c *checker) gone(ctx context.Context, sql string) error {
	var found []string
	err := await(ctx, "nothing is left behind", func(ctx context.Context) (_ bool, err error) {
		found, err = c.strings(ctx, sql)
		return len(found) == 0, err
	})
	for _, text := range found {
		c.s.violations.addf("left behind", "%s", text)
		err = nil
	}
	return err
}
