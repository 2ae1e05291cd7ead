package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/arbitrageai/bidder/pkg/marketplace"
	"github.com/arbitrageai/bidder/pkg/marketplace/sandbox"
)

// withdraw has a person ask for the withdrawal of one of the newest bids.
func (s *storm) withdraw(ctx context.Context, d dice) error {
	id, err := read[string](ctx, s.world.cluster.pool, `SELECT id::text FROM (
			SELECT id FROM bids WHERE status = 'ACTIVE' AND withdraw_requested_at IS NULL ORDER BY id DESC LIMIT 300
		) AS new ORDER BY md5($1 || id::text) LIMIT 1`, fmt.Sprint(d.number))
	if err != nil {
		return nil // no bid, or no database
	}
	s.tally.hand(s.launch(ctx, d.worker, fmt.Sprintf("withdraw-%d", d.number), nil, nil, "/bidder", "withdraw", id, "--reason", "storm"))
	return nil
}

// byHand has three people bid on one posting at once, that passes may be at too.
func (s *storm) byHand(ctx context.Context, d dice) error {
	rows, err := s.world.cluster.pool.Query(ctx, `SELECT marketplace, job_id FROM (
			(SELECT marketplace, job_id FROM candidates ORDER BY not_before DESC LIMIT 50)
			UNION ALL
			(SELECT marketplace, job_id FROM bids AS b WHERE status = 'WITHDRAWN' AND withdrawal_timestamp < now() - $2::interval
				AND NOT EXISTS (SELECT FROM bids AS l WHERE l.marketplace = b.marketplace AND l.job_id = b.job_id AND l.status = 'ACTIVE')
				ORDER BY id DESC LIMIT 50)
		) AS free ORDER BY md5($1 || job_id) LIMIT 1`, fmt.Sprint(d.number), 2*rebidWindow)
	if err != nil {
		return nil // no database
	}
	key, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[struct{ Marketplace, JobID string }])
	if err != nil {
		return nil // nothing to bid on
	}
	var people sync.WaitGroup
	for i := range 3 {
		people.Go(func() {
			s.tally.hand(s.launch(ctx, (d.worker+i)%s.world.workers, fmt.Sprintf("bid-%d-%d", d.number, i), nil, nil, "/bidder", "bid", key.Marketplace, key.JobID))
		})
	}
	people.Wait()
	return nil
}

// ambush lies in wait where the protocol rests on its lease tokens: a worker's POST is refused, and
// what it then says to the database is held up until another has taken over and sent the bid a second time.
func (s *storm) ambush(ctx context.Context, d dice) error {
	market, pool := s.world.markets[keyed], s.world.cluster.pool
	ctx, cancel := context.WithTimeout(ctx, 2*lease+20*time.Second)
	defer cancel()
	for _, fault := range []sandbox.Fault{
		{Do: sandbox.Slow, Op: sandbox.Place, MS: 700, Count: 12},
		{Do: sandbox.Answer, Op: sandbox.Place, Status: 409, Code: marketplace.CodeJobClosed, Count: 12},
	} {
		if _, err := market.AddFault(ctx, fault); err != nil {
			return nil // the marketplace is down
		}
	}
	// Some bids are about to be refused.
	var victims []uuid.UUID
	for len(victims) == 0 {
		rows, err := pool.Query(ctx, `SELECT id FROM bids WHERE marketplace = $1 AND delivery_state = 'leased' AND delivery_kind = 'place' AND place_posts = 1
			AND last_post_at > clock_timestamp() - interval '600 ms'`, keyed)
		if err == nil {
			victims, _ = pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
		}
		if len(victims) == 0 && !sleep(ctx, 50*time.Millisecond) {
			return nil
		}
	}
	var all []string
	for i := range s.world.workers {
		all = append(all, toDatabase(i)...)
	}
	spared := toDatabase(d.second) // who takes over
	held := all[:0:0]
	for _, link := range all {
		if !contains(spared, link) {
			held = append(held, link)
		}
	}
	return during(ctx, 0, func() error { return s.world.links.blackhole(true, held...) }, func() error {
		if _, err := market.AddFault(ctx, sandbox.Fault{Do: sandbox.Slow, Op: sandbox.Place, MS: 1200, Count: 12}); err != nil {
			cancel()
		}
		for {
			took, _ := read[bool](ctx, pool, `SELECT EXISTS (SELECT FROM bids WHERE id = ANY($1) AND delivery_state = 'leased' AND place_posts = 2)`, victims)
			if took || !sleep(ctx, 50*time.Millisecond) {
				return s.world.links.blackhole(false, held...)
			}
		}
	})
}

func contains(list []string, wanted string) bool {
	for _, item := range list {
		if item == wanted {
			return true
		}
	}
	return false
}
