package main

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// latency: what a network of 1 ms costs.
func latency() row {
	run := func(delay time.Duration) func(ctx context.Context, b *bench) (sample, error) {
		return func(ctx context.Context, b *bench) (sample, error) {
			return b.onFresh(ctx, 1, b.sizes.batched, true, func(d *database) (sample, error) {
				far, err := listen(b.server.Address(), delay/2)
				if err != nil {
					return sample{}, err
				}
				defer far.close()
				pool, err := warmPool(ctx, strings.Replace(b.server.TCP(d.name), b.server.Address(), far.address(), 1), claimWorkers)
				if err != nil {
					return sample{}, err
				}
				defer pool.Close()
				if _, err := drain(ctx, pool, claimWorkers, batchSize); err != nil { // prepares the statements
					return sample{}, err
				}
				if err := errors.Join(d.seed(ctx, b.sizes.batched, b.sizes.batched, true), d.settle(ctx)); err != nil {
					return sample{}, err
				}
				far.trips.Store(0)
				s, err := drain(ctx, pool, claimWorkers, batchSize)
				s.extra["round trips per batch"] = float64(far.trips.Load()) / (float64(b.sizes.batched) / batchSize)
				return s, errors.Join(err, d.exec(ctx, "SET session_replication_role = replica"),
					d.exec(ctx, "DELETE FROM bids WHERE job_id >= $1", key(b.sizes.batched).JobID))
			})
		}
	}
	return row{
		name: "latency", work: "claims in batches of 64, 32 workers, over a network",
		bars: []bar{{measure: "rate", of: "1 ms", to: "no latency", atLeast: 0.85}},
		ways: []way{{"no latency", run(0)}, {"1 ms", run(time.Millisecond)}},
	}
}

// line is a TCP proxy that delivers everything later, and counts how often a client waits
// for an answer.
type line struct {
	listener net.Listener
	upstream string
	delay    time.Duration
	trips    atomic.Int64
	open     sync.WaitGroup
}

func listen(upstream string, delay time.Duration) (*line, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	l := &line{listener: listener, upstream: upstream, delay: delay}
	l.open.Go(l.accept)
	return l, nil
}

func (l *line) address() string { return l.listener.Addr().String() }

func (l *line) close() {
	_ = l.listener.Close()
	l.open.Wait()
}

func (l *line) accept() {
	for {
		client, err := l.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", l.upstream)
		if err != nil {
			_ = client.Close()
			continue
		}
		var asked atomic.Bool
		l.open.Go(func() { l.carry(client, server, func() { asked.Store(true) }) })
		l.open.Go(func() {
			l.carry(server, client, func() {
				if asked.Swap(false) {
					l.trips.Add(1)
				}
			})
		})
	}
}

// carry forwards what from says, each piece as late as the line is long.
func (l *line) carry(from, to net.Conn, heard func()) {
	type piece struct {
		due  time.Time
		data []byte
	}
	pieces := make(chan piece, 1024)
	l.open.Go(func() {
		for p := range pieces {
			time.Sleep(time.Until(p.due))
			if _, err := to.Write(p.data); err != nil {
				break
			}
		}
		_ = to.Close()
		for range pieces { // nobody listens any more
		}
	})
	for {
		data := make([]byte, 32<<10)
		n, err := from.Read(data)
		if err != nil {
			break
		}
		heard()
		pieces <- piece{time.Now().Add(l.delay), data[:n]}
	}
	close(pieces)
}
