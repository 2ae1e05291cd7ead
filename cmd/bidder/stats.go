package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/bidding"
	"github.com/arbitrageai/bidder/pkg/config"
	"github.com/arbitrageai/bidder/pkg/delivery"
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
each run writes its own about every second. Where the configuration has caps it also
shows what is used of them today, by the database's clock.`,
		Example: `  bidder stats
  bidder stats --since 24h -o json
  bidder stats -o prometheus > /var/lib/node_exporter/bidder.prom`,
		Args: cobra.NoArgs,
		RunE: a.action([]string{"table", "json", "prometheus"}, func(cmd *cobra.Command, _ []string) error {
			var within time.Duration
			if since != "" {
				var err error
				if within, err = config.ParseDuration(since); err != nil {
					return usageError{fmt.Errorf("--since: %w", err)}
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
	var within *time.Duration
	if since > 0 {
		within = &since
	}
	q, ctx := queries.New(s.pool), cmd.Context()
	counts, err := q.CountRuns(ctx, within)
	if err != nil {
		return fmt.Errorf("count runs: %w", err)
	}
	report := statsReport{
		Runs:     counts.Runs,
		Counters: lockCounters{counts.LockAttempts, counts.LockSuccesses, counts.LockConflicts, counts.LockTimeouts},
		Outcomes: map[bidding.Outcome]int64{},
	}
	for _, outcome := range bidding.Outcomes() {
		report.Outcomes[outcome] = 0
	}
	outcomes, err := q.SumOutcomes(ctx, within)
	if err != nil {
		return fmt.Errorf("add up outcomes: %w", err)
	}
	for _, row := range outcomes {
		report.Outcomes[bidding.Outcome(row.Outcome)] = row.Total
	}
	uncounted, err := q.UncountedClaims(ctx, within)
	if err != nil {
		return fmt.Errorf("count the claims of unfinished runs: %w", err)
	}
	report.Outcomes[bidding.Claimed] += uncounted
	report.Counters.LockAttempts += uncounted
	report.Counters.LockSuccesses += uncounted
	sums, err := q.SumDeliveries(ctx, within)
	if err != nil {
		return fmt.Errorf("add up deliveries: %w", err)
	}
	for _, row := range sums {
		report.Deliveries.Set(row.Kind, row.Result, row.Total)
	}
	looked, err := q.SumRefreshed(ctx, within)
	if err != nil {
		return fmt.Errorf("add up look-ups: %w", err)
	}
	for _, row := range looked {
		if count := report.Refreshed.Count(row.Result); count != nil {
			*count = row.Total
		}
	}
	if report.Caps, err = s.capUsage(ctx); err != nil {
		return err
	}
	switch a.output {
	case "json":
		return printJSON(a.stdout, report)
	case "prometheus":
		return a.printPrometheus(report)
	}
	a.printStats(report)
	if counts.Unfinished > 0 {
		fmt.Fprintf(a.stdout, "\n%d runs are under way or were killed.\n", counts.Unfinished)
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

// refreshResults are what look-ups of live bids come to, by their names in JSON.
var refreshResults = []string{"live", "lost", "rejected", "review", "unseen", "withdrawn", "won"} //nolint:gochecknoglobals // a constant

// printPrometheus writes the text exposition format, for a textfile collector:
// https://prometheus.io/docs/instrumenting/exposition_formats/
func (a *app) printPrometheus(report statsReport) error {
	var text strings.Builder
	counter := func(name, help string) {
		fmt.Fprintf(&text, "# HELP %s %s\n# TYPE %s counter\n", name, help, name)
	}
	for _, c := range []struct {
		name, help string
		value      int64
	}{
		{"bidder_runs_total", "Runs that were started.", report.Runs},
		{"bidder_lock_attempts_total", "Attempts to get the lock of a posting.", report.Counters.LockAttempts},
		{"bidder_lock_successes_total", "Attempts that got it.", report.Counters.LockSuccesses},
		{"bidder_lock_conflicts_total", "Attempts whose first try failed.", report.Counters.LockConflicts},
		{"bidder_lock_timeouts_total", "Attempts that gave up.", report.Counters.LockTimeouts},
	} {
		counter(c.name, c.help)
		fmt.Fprintf(&text, "%s %d\n", c.name, c.value)
	}
	counter("bidder_attempts_total", "Attempts to bid, by their outcome.")
	for _, outcome := range slices.Sorted(slices.Values(bidding.Outcomes())) {
		fmt.Fprintf(&text, "bidder_attempts_total{outcome=%q} %d\n", outcome, report.Outcomes[outcome])
	}
	counter("bidder_deliveries_total", "Attempts to deliver what bids owe, by their result.")
	deliveries := func(kind string, c delivery.Counts) {
		for _, r := range []struct {
			result string
			value  int64
		}{{"done", c.Done}, {"rejected", c.Rejected}, {"retry", c.Retry}, {"review", c.Review}} {
			fmt.Fprintf(&text, "bidder_deliveries_total{kind=%q,result=%q} %d\n", kind, r.result, r.value)
		}
	}
	deliveries(delivery.Place, report.Deliveries.Place)
	deliveries(delivery.Withdraw, report.Deliveries.Withdraw)
	counter("bidder_refreshed_total", "Look-ups of live bids, by what they showed.")
	for _, result := range refreshResults {
		fmt.Fprintf(&text, "bidder_refreshed_total{result=%q} %d\n", result, *report.Refreshed.Count(result))
	}
	prometheusCaps(&text, report.Caps)
	if _, err := io.WriteString(a.stdout, text.String()); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}
