package main

import (
	"context"
	"fmt"
	"sync"
	"time"

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
		return nil //nolint:nilerr // no bid, or no database: for this time it comes to nothing
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
		return nil //nolint:nilerr // no database
	}
	key, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[struct{ Marketplace, JobID string }])
	if err != nil {
		return nil //nolint:nilerr // nothing to bid on
	}
	// They are slow, so that they meet.
	var slow []string
	for i := range 3 {
		slow = append(slow, toDatabase((d.worker+i)%s.world.workers)...)
	}
	if err := s.world.links.latency(100*time.Millisecond+d.latency, slow...); err != nil {
		return err
	}
	var people sync.WaitGroup
	for i := range 3 {
		people.Go(func() {
			s.tally.hand(s.launch(ctx, (d.worker+i)%s.world.workers, fmt.Sprintf("bid-%d-%d", d.number, i), nil, nil, "/bidder", "bid", key.Marketplace, key.JobID))
		})
	}
	people.Wait()
	return s.world.links.latency(0, slow...)
}

// ambush lies in wait where the protocol rests on its lease tokens: a worker's POST is refused, and what the worker
// then says to the database is held up until another has taken over and sends the bid a second time.
func (s *storm) ambush(ctx context.Context, d dice) error {
	s.ambushed.Lock()
	defer s.ambushed.Unlock()
	market, pool := s.world.markets[keyed], s.world.cluster.pool
	ctx, cancel := context.WithTimeout(ctx, 2*lease+20*time.Second)
	defer cancel()
	// Every other worker is a victim: those that say what they have to say in one message, which can arrive late as a
	// whole. Beside the others one more pass goes on all the time, so that somebody takes over at once.
	var held []string
	for i := 0; i < s.world.workers; i += 2 {
		held = append(held, toDatabase(i)...)
	}
	var helper sync.WaitGroup
	defer helper.Wait()
	defer cancel()
	name := fmt.Sprintf("ambush-%d", d.number)
	helper.Go(func() {
		s.launch(ctx, 1+2*(d.second%(s.world.workers/2)), name, nil, nil, "/bidder", "run", "--every", "100ms")
	})
	faults := func(list ...sandbox.Fault) bool {
		for _, fault := range list {
			if _, err := market.AddFault(ctx, fault); err != nil {
				return false // it is down: for this time it comes to nothing
			}
		}
		return true
	}
	if !faults(sandbox.Fault{Do: sandbox.Slow, Op: sandbox.Place, MS: 400, Count: 20},
		sandbox.Fault{Do: sandbox.Answer, Op: sandbox.Place, Status: 409, Code: marketplace.CodeJobClosed, Count: 20}) {
		return nil
	}
	since, err := read[time.Time](ctx, pool, "SELECT clock_timestamp()")
	if err != nil {
		return nil // there is no database: as above
	}
	const victims = `SELECT job_id FROM bids WHERE marketplace = $1 AND delivery_state = 'leased' AND delivery_kind = 'place' AND place_posts = 1 AND last_post_at > $2`
	s.jobs(ctx, victims, keyed, since)
	sleep(ctx, 100*time.Millisecond) // some more, perhaps
	if err := s.world.links.blackhole(true, held...); err != nil {
		return err
	}
	caught := s.jobs(ctx, victims, keyed, since)
	sleep(ctx, time.Second) // by now they are refused
	var second []sandbox.Fault
	for _, job := range caught {
		second = append(second, sandbox.Fault{Do: sandbox.Slow, Op: sandbox.Place, JobID: job, MS: 1200})
	}
	if market.Reset(ctx) == nil && faults(second...) {
		// Until one is being sent again, or all said what they had to say: they were not among those that are held up.
		s.jobs(ctx, `SELECT 'now' FROM bids WHERE marketplace = $1 AND job_id = ANY($2) HAVING bool_or(delivery_state = 'leased' AND place_posts = 2)
			OR NOT coalesce(bool_or(delivery_state IN ('leased', 'pending')), false)`, keyed, caught)
	}
	return s.world.links.blackhole(false, held...)
}

// jobs waits until there are bids of a kind, and returns their postings.
func (s *storm) jobs(ctx context.Context, sql string, args ...any) []string {
	for {
		rows, err := s.world.cluster.pool.Query(ctx, sql, args...)
		if err == nil {
			if found, err := pgx.CollectRows(rows, pgx.RowTo[string]); err == nil && len(found) > 0 {
				return found
			}
		}
		if !sleep(ctx, 30*time.Millisecond) {
			return nil
		}
	}
}
