package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/pkg/config"
	"github.com/arbitrageai/bidder/pkg/retention"
	"github.com/arbitrageai/bidder/pkg/terminal"
)

type pruneReport struct {
	OlderThan string            `json:"older_than"`
	Before    time.Time         `json:"before"`
	DryRun    bool              `json:"dry_run"`
	Removed   retention.Removed `json:"removed"`
}

func (a *app) pruneCommand() *cobra.Command {
	var olderThan string
	cmd := &cobra.Command{
		Use:   "prune --older-than D",
		Short: "Delete old history that nobody needs, in small batches",
		Long: `Deletes, where it is older than D: bids that have ended, with their history; postings;
runs, whose counters stay in the totals; what was spent on past days; callbacks.

It never deletes the newest bid of a posting, which keeps that from being bid on again,
nor anything that is live, owed or queued, nor anything younger than BIDDER_POSTING_TTL,
BIDDER_REBID_WINDOW, the longest "settle", or 26 hours, which caps may still count.

Pods may go on beside it, and it may be interrupted at any time. A worker's role must
not delete history: use a role of its own (` + "`bidder grants --pruner ROLE`" + `), or the owner.`,
		Example: `  bidder prune --older-than 90d --dry-run
  DATABASE_URL=$PRUNER_URL bidder prune --older-than 90d`,
		Args: noArgs,
		RunE: a.action(tableOrJSON, func(cmd *cobra.Command, _ []string) error { return a.prune(cmd, olderThan) }),
	}
	cmd.Flags().StringVar(&olderThan, "older-than", "", "how old what is deleted must be, such as 90d (required)")
	_ = cmd.MarkFlagRequired("older-than")
	settings(cmd, "posting-ttl", "rebid-window", "statement-timeout")
	return cmd
}

func (a *app) prune(cmd *cobra.Command, olderThan string) error {
	asked, err := config.ParseDuration(olderThan)
	if err == nil && asked <= 0 {
		err = errors.New("it must be longer than nothing")
	}
	if err != nil {
		return usageError{fmt.Errorf("--older-than %q: %w", olderThan, err)}
	}
	s, err := a.open(cmd)
	if err != nil {
		return err
	}
	defer s.close()
	needed := []time.Duration{s.PostingTTL, s.RebidWindow, s.DeliveryLease, s.Marketplace("").Settle}
	for _, m := range s.Marketplaces {
		needed = append(needed, m.Settle)
	}
	age := retention.Age(asked, needed...)
	if age > asked {
		fmt.Fprintf(a.stderr, "What is younger than %s is still needed, and stays.\n", config.FormatDuration(age))
	}
	bar := a.countProgress("looking", "rows", -1)
	pruner := retention.Pruner{Pool: s.pool, Limits: s.writeLimits(), Age: age, Observe: bar.add}
	report := pruneReport{OlderThan: config.FormatDuration(age), DryRun: s.DryRun}
	work := pruner.Prune
	if s.DryRun {
		work = pruner.Preview
	}
	report.Removed, report.Before, err = work(cmd.Context())
	bar.finish()
	if db.Code(err) == db.CodeNoPrivilege {
		err = fmt.Errorf("%w\nA worker must not delete history: use a role that `bidder grants --pruner ROLE` gives the rights, or the owner", err)
	}
	if report.Before.IsZero() {
		return err
	}
	return errors.Join(err, a.printPrune(report))
}

func (a *app) printPrune(report pruneReport) error {
	if a.output == "json" {
		return printJSON(a.stdout, report)
	}
	t := a.screen.Table(append(terminal.Columns("of"), terminal.Numbers("deleted")...)...)
	for _, row := range []struct {
		of string
		n  int64
	}{
		{"bids", report.Removed.Bids},
		{"postings", report.Removed.Postings},
		{"runs", report.Removed.Runs},
		{"callbacks", report.Removed.Callbacks},
		{"spending", report.Removed.Spending},
	} {
		t.Row(row.of, row.n)
	}
	t.Print()
	if report.DryRun {
		fmt.Fprintln(a.stdout, "\nDry run: nothing was deleted.")
	}
	return nil
}
