package main

import (
	"context"
	"errors"
	"time"
)

const (
	soakChunk  = 20_000 // candidates
	youngEvery = 4      // chunks of the soak for one of the young database
	youngAge   = 8      // chunks, after which the young database is emptied
)

// soak: claims go on for minutes, autovacuum with its defaults beside them, as fast as they can. A machine that others
// share has slow minutes; so a database that is kept young takes its turn all along, and what became of its rate is the
// machine's doing.
func soak() row {
	return row{
		name: "soak", work: "claims without a pause: the last minute against the first", once: true,
		bars: []bar{{measure: "last to first, beside a young database", of: "bidder", atLeast: 0.9}},
		ways: []way{{"bidder", func(ctx context.Context, b *bench) (sample, error) { return b.soak(ctx) }}},
	}
}

func (b *bench) soak(ctx context.Context) (sample, error) {
	s := sample{extra: map[string]float64{}}
	d, err := b.database(ctx, claimWorkers)
	if err != nil {
		return s, err
	}
	defer d.drop(ctx)
	young, err := b.database(ctx, claimWorkers)
	if err != nil {
		return s, err
	}
	defer young.drop(ctx)
	var chunks, youngs []chunk
	for s.elapsed < time.Duration(b.sizes.soak)*time.Second {
		c, err := d.chunk(ctx, s.ops)
		if err != nil {
			return s, err
		}
		c.at = s.elapsed
		chunks = append(chunks, c)
		s.ops += c.claims
		s.elapsed += c.took
		if len(chunks)%youngEvery != 0 {
			continue
		}
		age := len(youngs) % youngAge
		if age == 0 {
			if err := young.empty(ctx); err != nil {
				return s, err
			}
		}
		y, err := young.chunk(ctx, age*soakChunk)
		if err != nil {
			return s, err
		}
		y.at = c.at
		youngs = append(youngs, y)
		if err := young.claimed(ctx, (age+1)*soakChunk); err != nil {
			return s, err
		}
	}
	minute := min(time.Minute, s.elapsed/4)
	of := func(chunks []chunk) (rate, spent float64) {
		first, last := window(chunks, 0, minute), window(chunks, s.elapsed-minute, s.elapsed)
		return last.rate() / first.rate(), last.perClaim() / first.perClaim()
	}
	rate, spent := of(chunks)
	youngRate, youngSpent := of(youngs)
	s.series, s.control = rates(chunks), rates(youngs)
	s.extra["last to first"], s.extra["last to first of the young database"] = rate, youngRate
	s.extra["last to first, beside a young database"] = rate / youngRate
	s.extra["processors, last to first, beside a young database"] = spent / youngSpent // what others do disturbs it less
	return s, errors.Join(d.claimed(ctx, s.ops), d.bloat(ctx, s.extra))
}

// chunk is what some candidates came to.
type chunk struct {
	at     time.Duration // in the soak
	claims int
	took   time.Duration
	spent  time.Duration // of processors, client and server
}

// chunk fills the queue, as ingest would, and measures the pass that empties it.
func (d *database) chunk(ctx context.Context, from int) (chunk, error) {
	if err := d.seed(ctx, from, soakChunk, true); err != nil {
		return chunk{}, err
	}
	before, err := d.costs(ctx)
	if err != nil {
		return chunk{}, err
	}
	part, err := drain(ctx, d.pool, claimWorkers, batchSize)
	if err != nil {
		return chunk{}, err
	}
	after, err := d.costs(ctx)
	return chunk{claims: part.ops, took: part.elapsed, spent: after.server - before.server + after.client - before.client}, err
}

// empty makes the database as young as it was.
func (d *database) empty(ctx context.Context) error {
	return errors.Join(d.exec(ctx, "SET session_replication_role = replica"), // live bids are guarded
		d.exec(ctx, "TRUNCATE bids, candidates, postings CASCADE"),
		d.exec(ctx, "SET session_replication_role = origin"))
}

func (c chunk) rate() float64     { return float64(c.claims) / c.took.Seconds() }
func (c chunk) perClaim() float64 { return c.spent.Seconds() / float64(c.claims) }

func rates(chunks []chunk) (rates []float64) {
	for _, c := range chunks {
		rates = append(rates, c.rate())
	}
	return rates
}

// window sums up the chunks that began in it.
func window(chunks []chunk, from, to time.Duration) (sum chunk) {
	for _, c := range chunks {
		if c.at >= from && c.at < to {
			sum.claims += c.claims
			sum.took += c.took
			sum.spent += c.spent
		}
	}
	return sum
}

// bloat adds the sizes of what claims write.
func (d *database) bloat(ctx context.Context, extra map[string]float64) error {
	err := d.exec(ctx, "CREATE EXTENSION IF NOT EXISTS pgstattuple")
	for _, table := range []string{"bids", "candidates"} {
		n, countErr := d.count(ctx, "SELECT dead_tuple_percent::bigint FROM pgstattuple($1)", table)
		extra["dead % of "+table] = float64(n)
		err = errors.Join(err, countErr)
	}
	for _, index := range []string{"bids_pkey", "bids_one_active_per_posting", "bids_due", "candidates_pkey", "candidates_due"} {
		n, countErr := d.count(ctx, "SELECT coalesce(nullif(avg_leaf_density, 'NaN'), 0)::bigint FROM pgstatindex($1)", index)
		extra["leaf density % of "+index] = float64(n)
		size, sizeErr := d.count(ctx, "SELECT pg_relation_size($1::regclass)", index)
		extra["MB of "+index] = float64(size >> 20)
		err = errors.Join(err, countErr, sizeErr)
	}
	return err
}
