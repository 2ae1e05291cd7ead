package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/bidding"
	"github.com/arbitrageai/bidder/pkg/config"
	"github.com/arbitrageai/bidder/pkg/delivery"
	"github.com/arbitrageai/bidder/pkg/metrics"
	"github.com/arbitrageai/bidder/pkg/terminal"
)

type statsReport struct {
	Runs       int64                     `json:"runs"`
	Counters   lockCounters              `json:"counters"`
	Outcomes   map[bidding.Outcome]int64 `json:"outcomes"`
	Deliveries delivery.Totals           `json:"deliveries"`
	Refreshed  delivery.Refreshed        `json:"refreshed"`
	Caps       []bidding.CapUsage        `json:"caps"`
}

type lockCounters struct {
	LockAttempts  int64 `json:"lock_attempts"`
	LockSuccesses int64 `json:"lock_successes"`
	LockConflicts int64 `json:"lock_conflicts"`
	LockTimeouts  int64 `json:"lock_timeouts"`
}

func (a *app) statsCommand() *cobra.Command {
	var since string
	cmd := &cobra.Command{
		Use:   "stats",
		Short: "Counters over all runs",
		Long: `Adds up the counters of all runs, those under way and those that were killed included:
each run writes its own about every second, and what was pruned stays counted. Where the
configuration has caps it also shows what is used of them today, by the database's clock.

With -o prometheus it prints every metric there is, also of how things stand: what is
live, owed, queued, waiting for a person, paused (docs/operations.md). A textfile of them
must be renamed to its name when it is whole, so that nobody reads half of it.`,
		Example: `  bidder stats
  bidder stats --since 24h -o json
  f=/var/lib/node_exporter/bidder.prom; bidder stats -o prometheus > $f.$$ && mv $f.$$ $f || rm -f $f.$$`,
		Args: noArgs,
		RunE: a.action([]string{"table", "json", "prometheus"}, func(cmd *cobra.Command, _ []string) error {
			var within time.Duration
			if since != "" && a.output == "prometheus" {
				return usageError{errors.New("--since does not go with -o prometheus: counters there only grow")}
			}
			if since != "" {
				var err error
				if within, err = config.ParseDuration(since); err != nil {
					return usageError{fmt.Errorf("--since: %w", err)}
				}
				if within == 0 {
					return usageError{errors.New("--since 0: no run has started within that; leave it out for all")}
				}
			}
			return a.stats(cmd, within)
		}),
	}
	cmd.Flags().StringVar(&since, "since", "", "only runs that started within this time (default all)")
	return cmd
}

func (a *app) stats(cmd *cobra.Command, since time.Duration) error {
	s, err := a.open(cmd)
	if err != nil {
		return err
	}
	defer s.close()
	ctx := cmd.Context()
	if a.output == "prometheus" {
		return s.exporter().Write(ctx, a.stdout)
	}
	var totals metrics.Totals
	if since > 0 {
		totals, err = metrics.ReadTotalsSince(ctx, s.pool, since)
	} else {
		totals, err = metrics.ReadTotals(ctx, s.pool)
	}
	if err != nil {
		return err
	}
	report := statsReport{
		Runs:     totals.Runs,
		Counters: lockCounters{totals.Locks.Attempts, totals.Locks.Successes, totals.Locks.Conflicts, totals.Locks.Timeouts},
		Outcomes: totals.Outcomes, Deliveries: totals.Deliveries, Refreshed: totals.Refreshed,
	}
	if report.Caps, err = s.capUsage(ctx); err != nil {
		return err
	}
	if a.output == "json" {
		return printJSON(a.stdout, report)
	}
	a.printStats(report)
	if totals.Unfinished > 0 {
		fmt.Fprintf(a.stdout, "\n%d runs are under way or were killed.\n", totals.Unfinished)
	}
	return nil
}

func (a *app) printStats(report statsReport) {
	t := a.screen.Table(append(terminal.Columns("counter"), terminal.Numbers("total")...)...)
	t.Row("runs", report.Runs)
	t.Row("lock_attempts", report.Counters.LockAttempts)
	t.Row("lock_successes", report.Counters.LockSuccesses)
	t.Row("lock_conflicts", report.Counters.LockConflicts)
	t.Row("lock_timeouts", report.Counters.LockTimeouts)
	for _, outcome := range bidding.Outcomes() {
		t.Row("outcome "+string(outcome), report.Outcomes[outcome])
	}
	t.Print()
	printDeliveries(a.screen, report.Deliveries, report.Refreshed)
	a.printCaps(report.Caps)
}

// exporter reads the metrics, for a textfile collector as for a scrape.
func (s *session) exporter() *metrics.Exporter {
	caps := func(ctx context.Context, conn queries.DBTX) ([]bidding.CapUsage, error) {
		return s.readCaps(ctx, conn, false)
	}
	return &metrics.Exporter{Pool: s.pool, Caps: caps, Version: programVersion()}
}
