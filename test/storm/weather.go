package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/arbitrageai/bidder/pkg/marketplace"
	"github.com/arbitrageai/bidder/pkg/marketplace/sandbox"
)

// A lane lets one kind of thing go wrong after another, each lane beside the others. What, in which order, how
// long and after which pauses depends on the seed alone.
type lane struct {
	name   string
	pause  time.Duration // before each event, half as long to one and a half times
	waits  bool          // for the end of an ambush, which would come to nothing otherwise
	events []event
}

// event is something that goes wrong, and is right again when do returns: what was begun is ended, also
// when its context ends meanwhile, as it does when the storm is over.
type event struct {
	kind   string
	weight int
	do     func(ctx context.Context, dice dice) error
}

// dice are thrown for each event before it begins, all of them: a seed always means the same.
type dice struct {
	worker, second int
	lasts          time.Duration // 1 to 9 s
	latency        time.Duration // 20 to 400 ms
	fault          sandbox.Fault
	heads          bool
	number         uint64
}

func (l lane) throw(random *rand.Rand, workers int) (pause time.Duration, e event, d dice) {
	pause = l.pause/2 + time.Duration(random.Int64N(int64(l.pause)))
	total := 0
	for _, e := range l.events {
		total += e.weight
	}
	n := random.IntN(total)
	for _, e = range l.events {
		if n -= e.weight; n < 0 {
			break
		}
	}
	d = dice{
		worker: random.IntN(workers), second: random.IntN(workers), lasts: time.Duration(1000+random.IntN(8000)) * time.Millisecond,
		latency: time.Duration(20+random.IntN(380)) * time.Millisecond, fault: mischief(random), heads: random.IntN(2) == 0, number: random.Uint64(),
	}
	return pause, e, d
}

// blow runs a lane until the storm is over.
func (s *storm) blow(ctx context.Context, l lane) {
	random := s.random(l.name)
	for {
		pause, e, d := l.throw(random, s.world.workers)
		if !sleep(ctx, pause) {
			return
		}
		if l.waits {
			s.ambushed.RLock()
		}
		err := e.do(ctx, d)
		if l.waits {
			s.ambushed.RUnlock()
		}
		if err != nil {
			if s.ctx.Err() == nil {
				s.fail(fmt.Errorf("%s: %w", e.kind, err))
			}
			return
		}
		s.tally.event(e.kind)
	}
}

// mischief is a fault that proves nothing, or a refusal that is true, for the next few calls.
func mischief(random *rand.Rand) sandbox.Fault {
	ms := 1 + random.IntN(int(callTimeout/time.Millisecond)*3/2)
	faults := []sandbox.Fault{
		{Do: sandbox.Answer, When: sandbox.After, Status: 500},
		{Do: sandbox.Answer, Status: 503},
		{Do: sandbox.Answer, Status: 429},
		{Do: sandbox.Answer, Status: 429, RetryAfter: 1},
		{Do: sandbox.Answer, Status: 409, Code: marketplace.CodeJobClosed, Op: sandbox.Place},
		{Do: sandbox.Drop},
		{Do: sandbox.Drop, When: sandbox.After},
		{Do: sandbox.Slow, MS: ms},
		{Do: sandbox.Slow, When: sandbox.After, MS: ms},
		{Do: sandbox.NoID, Op: sandbox.Place},
		{Do: sandbox.Lag, Op: sandbox.Place, MS: min(ms, 1500)},
	}
	fault := faults[random.IntN(len(faults))]
	if op := []sandbox.Op{"", sandbox.Place, sandbox.Lookup, sandbox.Withdraw}[random.IntN(4)]; fault.Op == "" {
		fault.Op = op
	}
	fault.Count = 1 + random.IntN(10)
	return fault
}

// lanes are all that goes wrong, beside the fates of passes.
func (s *storm) lanes() []lane {
	return []lane{
		{"network 1", 1500 * time.Millisecond, true, s.network()},
		{"network 2", 2500 * time.Millisecond, true, s.network()},
		{"replication", 8 * time.Second, true, s.replication()},
		{"database", 20 * time.Second, true, s.database()},
		{"marketplaces", 400 * time.Millisecond, false, []event{{"a fault of a marketplace", 1, func(ctx context.Context, d dice) error {
			return s.market(d).add(ctx, d.fault)
		}}}},
		{"restarts of marketplaces", 12 * time.Second, true, []event{{"restart a marketplace", 1, func(_ context.Context, d dice) error {
			name := marketplaces()[d.number%2]
			if err := s.world.engine.kill(s.ctx, name, "KILL", time.Minute); err != nil {
				return err
			}
			return s.world.engine.start(s.ctx, name)
		}}}},
		{"people who withdraw", 3 * time.Second, false, []event{{"ask for a withdrawal", 1, s.withdraw}}},
		{"people who bid", 6 * time.Second, true, []event{{"bid by hand, three at once", 1, s.byHand}}},
		{"ambushes", 12 * time.Second, false, []event{{"ambush a refusal", 1, s.ambush}}},
	}
}

// during has something the matter with links for a while.
func during(ctx context.Context, lasts time.Duration, begin, end func() error) error {
	if err := begin(); err != nil {
		return err
	}
	sleep(ctx, lasts)
	return end()
}

// network is what happens between workers, the database and the marketplaces.
func (s *storm) network() []event {
	links := s.world.links
	of := func(d dice, side func(int) []string) []string {
		if d.number%8 == 0 { // all at once
			var all []string
			for i := range s.world.workers {
				all = append(all, side(i)...)
			}
			return all
		}
		return side(d.worker)
	}
	var events []event
	for side, to := range map[string]func(int) []string{"database": toDatabase, "marketplaces": toMarket} {
		events = append(events,
			event{"cut worker-" + side, 5, func(_ context.Context, d dice) error { return links.cut(of(d, to)...) }},
			event{"delay worker-" + side, 3, func(ctx context.Context, d dice) error {
				return during(ctx, d.lasts, func() error { return links.latency(d.latency, of(d, to)...) }, func() error { return links.latency(0, of(d, to)...) })
			}},
			event{"black hole worker-" + side, 2, func(ctx context.Context, d dice) error {
				return during(ctx, d.lasts, func() error { return links.blackhole(true, of(d, to)...) }, func() error { return links.blackhole(false, of(d, to)...) })
			}})
	}
	if events[0].kind > events[3].kind { // the order of a map must not decide
		events = append(events[3:], events[:3]...)
	}
	return events
}

// replication is what happens between database and standby.
func (s *storm) replication() []event {
	links, engine := s.world.links, s.world.engine
	return []event{
		{"cut database-standby", 3, func(context.Context, dice) error { return links.cut(replication()...) }},
		{"delay database-standby", 3, func(ctx context.Context, d dice) error {
			return during(ctx, d.lasts, func() error { return links.latency(d.latency/4, replication()...) }, func() error { return links.latency(0, replication()...) })
		}},
		{"black hole database-standby", 2, func(ctx context.Context, d dice) error {
			return during(ctx, d.lasts, func() error { return links.blackhole(true, replication()...) }, func() error { return links.blackhole(false, replication()...) })
		}},
		{"take the standby off the network", 1, func(ctx context.Context, d dice) error {
			s.world.cluster.mu.Lock()
			defer s.world.cluster.mu.Unlock()
			name := s.world.cluster.standby
			return during(ctx, d.lasts, func() error {
				_, err := docker(s.ctx, "network", "disconnect", engine.of("data"), engine.of(name))
				return err
			}, func() error {
				_, err := docker(s.ctx, "network", "connect", "--alias", name, engine.of("data"), engine.of(name))
				return err
			})
		}},
	}
}

// database is what happens to the servers.
func (s *storm) database() []event {
	c := &s.world.cluster
	restart := func(standby bool, signal string) func(context.Context, dice) error {
		return func(context.Context, dice) error { return c.restart(s.ctx, standby, signal) }
	}
	failOver := func(signal string) func(context.Context, dice) error {
		return func(_ context.Context, d dice) error { return c.failOver(s.ctx, signal, d.heads) }
	}
	return []event{
		{"restart the database: fast", 3, restart(false, "INT")},
		{"restart the database: immediate", 3, restart(false, "QUIT")},
		{"restart the database: kill -9", 3, restart(false, "KILL")},
		{"restart the standby", 2, restart(true, "INT")},
		{"fail over from a crash", 4, failOver("KILL")},
		{"fail over in good order", 2, failOver("INT")},
		{"freeze the database", 3, func(ctx context.Context, d dice) error {
			c.mu.Lock()
			defer c.mu.Unlock()
			primary := s.world.engine.of(c.primary)
			return during(ctx, d.lasts, func() error { _, err := docker(s.ctx, "pause", primary); return err }, func() error {
				return repeat(func() error { _, err := docker(s.ctx, "unpause", primary); return err })
			})
		}},
	}
}

// remote is a marketplace, which may be about to restart.
type remote struct{ sandbox.Remote }

func (s *storm) market(d dice) remote { return remote{s.world.markets[marketplaces()[d.number%2]]} }

// add adds a fault. A marketplace that is down has one of its own.
func (r remote) add(ctx context.Context, f sandbox.Fault) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	_, _ = r.AddFault(ctx, f)
	return nil
}
