package main

import (
	"context"
	"errors"
	"time"
)

// soak: claims go on for minutes, autovacuum with its defaults beside them, as fast as they can.
func soak() row {
	return row{
		name: "soak", work: "claims without a pause: the last minute against the first", once: true,
		bars: []bar{{measure: "last to first", of: "bidder", atLeast: 0.9}},
		ways: []way{{"bidder", func(ctx context.Context, b *bench) (sample, error) {
			d, err := b.database(ctx, claimWorkers)
			if err != nil {
				return sample{}, err
			}
			defer d.drop(ctx)
			const chunk = 20_000
			s := sample{extra: map[string]float64{}}
			var spent []float64 // of processors for a claim, which other work on the machine disturbs less than the rate
			for s.elapsed < time.Duration(b.sizes.soak)*time.Second {
				if err := d.seed(ctx, s.ops, chunk, true); err != nil { // as ingest would, and not measured
					return s, err
				}
				before, err := d.costs(ctx)
				if err != nil {
					return s, err
				}
				part, err := drain(ctx, d.pool, claimWorkers, batchSize)
				if err != nil {
					return s, err
				}
				after, err := d.costs(ctx)
				if err != nil {
					return s, err
				}
				spent = append(spent, (after.server-before.server+after.client-before.client).Seconds()/float64(part.ops))
				s.ops += part.ops
				s.elapsed += part.elapsed
				s.latencies = append(s.latencies, part.latencies...)
				s.series = append(s.series, part.rate())
			}
			first, last := ends(s.series, s.elapsed)
			s.extra["last to first"] = last / first
			first, last = ends(spent, s.elapsed)
			s.extra["processors, last to first"] = last / first
			err = errors.Join(d.claimed(ctx, s.ops), d.bloat(ctx, s.extra))
			return s, err
		}}},
	}
}

// ends are the mean rates of the first and the last minute, or tenth where it lasted less
// than ten minutes.
func ends(series []float64, elapsed time.Duration) (first, last float64) {
	n := max(1, int(float64(len(series))*min(0.1, time.Minute.Seconds()/elapsed.Seconds())))
	for i := range n {
		first += series[i] / float64(n)
		last += series[len(series)-1-i] / float64(n)
	}
	return first, last
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
