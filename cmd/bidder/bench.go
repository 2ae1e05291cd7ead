package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/terminal"
)

// benchSchema is made, worked in and dropped by bench; see CreateBenchSchema.
const benchSchema = "bidder_bench"

type benchReport struct {
	Server   string      `json:"server"`
	Postings int         `json:"postings"`
	Runs     []benchRun  `json:"runs"`
	Advice   benchAdvice `json:"advice"`
}

// benchRun is what claims came to with one batch size and so many workers.
type benchRun struct {
	Batch              int     `json:"batch"`
	Workers            int     `json:"workers"`
	Rate               float64 `json:"rate"` // claims a second
	P50MS              float64 `json:"p50_ms"`
	P99MS              float64 `json:"p99_ms"` // from taking a batch until its COMMIT is answered
	RoundTripsPerBatch float64 `json:"round_trips_per_batch"`
	WALBytesPerBid     float64 `json:"wal_bytes_per_bid"`
}

// benchAdvice is what to set, and what the server has room for then.
type benchAdvice struct {
	Batch     int `json:"batch"`
	Workers   int `json:"workers"`
	MaxConns  int `json:"max_conns"`
	LockSlots int `json:"lock_slots"`
	Pods      int `json:"pods"`
}

func (a *app) benchCommand() *cobra.Command {
	var postings int
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure claims on your database, and advise on batch size and workers",
		Long: `Makes the schema ` + benchSchema + ` in your database, claims postings of a marketplace
of its own there, with several batch sizes and numbers of workers, and drops the
schema again, also when it is interrupted. Nothing else in the database is touched,
but the server has to work as hard as it can: not for the busiest hour.

The role must be allowed to create schemas, and the address must lead straight to
the server, not through PgBouncer. WAL counts what the server wrote for others, too.`,
		Example: `  bidder bench
  DATABASE_URL=$OWNER_URL bidder bench --postings 20000 -o json | jq .advice`,
		Args: noArgs,
		RunE: a.action(tableOrJSON, func(cmd *cobra.Command, _ []string) error { return a.bench(cmd, postings) }),
	}
	cmd.Flags().IntVar(&postings, "postings", 5000, "how many postings each measurement claims")
	settings(cmd, "batch", "workers")
	return cmd
}

func (a *app) bench(cmd *cobra.Command, postings int) (err error) {
	if postings < 1 || postings > 10_000_000 {
		return usageError{fmt.Errorf("--postings %d is not between 1 and 10,000,000", postings)}
	}
	s, err := a.connect(cmd)
	if err != nil {
		return err
	}
	defer s.close()
	if err := refuseDryRun(s.Config, "bench"); err != nil {
		return err
	}
	ctx := cmd.Context()
	drop, err := s.makeBenchSchema(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, drop()) }()
	report, err := a.measure(ctx, s, postings)
	if err != nil {
		return err
	}
	if a.output == "json" {
		return printJSON(a.stdout, report)
	}
	t := a.screen.Table(terminal.Numbers("batch", "workers", "claims/s", "p50 ms", "p99 ms", "round trips", "WAL bytes/bid")...)
	for _, r := range report.Runs {
		t.Row(r.Batch, r.Workers, fmt.Sprintf("%.0f", r.Rate), fmt.Sprintf("%.1f", r.P50MS), fmt.Sprintf("%.1f", r.P99MS),
			fmt.Sprintf("%.1f", r.RoundTripsPerBatch), fmt.Sprintf("%.0f", r.WALBytesPerBid))
	}
	t.Print()
	advice := report.Advice
	fmt.Fprintf(a.stdout, "\nTimes and round trips are those of a batch, from taking it to the answer to its COMMIT. Good for this database:\n"+
		"  BIDDER_BATCH=%d BIDDER_WORKERS=%d BIDDER_MAX_CONNS=%d\n"+
		"The server's lock table has %d slots: with half of it left to others, room for %d such processes.\n",
		advice.Batch, advice.Workers, advice.MaxConns, advice.LockSlots, advice.Pods)
	return nil
}

// benchDropTimeout bounds the dropping of the schema.
const benchDropTimeout = time.Minute

// makeBenchSchema makes the schema and returns what drops it, also when ctx has ended.
func (s *session) makeBenchSchema(ctx context.Context) (drop func() error, err error) {
	q := queries.New(s.pool)
	server, err := q.ServerState(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the server's state: %w", err)
	}
	if server.InRecovery || server.ReadOnly {
		return nil, db.ErrReplica
	}
	err = q.CreateBenchSchema(ctx)
	switch db.Code(err) {
	case db.CodeNoPrivilege:
		return nil, usageError{fmt.Errorf("bench needs a schema of its own, and this role may not create one: "+
			"GRANT CREATE ON DATABASE … TO it, or use the owner's address: %w", err)}
	case db.CodeDuplicateSchema:
		return nil, usageError{fmt.Errorf("another bench is running, or was killed before it could clean up: "+
			"if none is, DROP SCHEMA %s CASCADE: %w", benchSchema, err)}
	}
	if err != nil {
		return nil, fmt.Errorf("create the schema %s: %w", benchSchema, err)
	}
	drop = func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), benchDropTimeout)
		defer cancel()
		if err := q.DropBenchSchema(ctx); err != nil {
			return fmt.Errorf("DROP SCHEMA %s CASCADE, by hand: %w", benchSchema, err)
		}
		return nil
	}
	err = db.MigrateUp(ctx, db.WithSchema(s.url, benchSchema))
	switch {
	case db.Code(err) == db.CodeProtocolViolation:
		err = usageError{fmt.Errorf("bench works in a schema of its own, and the pooler in between refuses to set search_path: "+
			"use the server's own address: %w", err)}
	case err != nil:
		err = fmt.Errorf("make the tables: %w", err)
	}
	if err != nil {
		return nil, errors.Join(err, drop())
	}
	return drop, nil
}
