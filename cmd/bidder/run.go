package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/bidding"
	"github.com/arbitrageai/bidder/pkg/config"
	"github.com/arbitrageai/bidder/pkg/delivery"
	"github.com/arbitrageai/bidder/pkg/posting"
	"github.com/arbitrageai/bidder/pkg/terminal"
	"github.com/arbitrageai/bidder/pkg/why"
)

type runReport struct {
	RunID      *string                   `json:"run_id"`
	StartedAt  time.Time                 `json:"started_at"`
	FinishedAt time.Time                 `json:"finished_at"`
	DryRun     bool                      `json:"dry_run"`
	Ingest     posting.Counts            `json:"ingest"`
	Attempts   int64                     `json:"attempts"`
	Outcomes   map[bidding.Outcome]int64 `json:"outcomes"`
	Locks      bidding.Locks             `json:"locks"`
	Deliveries delivery.Totals           `json:"deliveries"`
	Recovered  int64                     `json:"recovered"`
}

type runOptions struct {
	input
	reconsider bool
	noDelivery bool
}

func (a *app) runCommand() *cobra.Command {
	var options runOptions
	var postings, every string
	cmd := &cobra.Command{
		Use: "run", Annotations: calls(),
		Short: "One whole pass: read postings, claim what is due, deliver what is owed, and exit",
		Long: `Reads postings if --postings names a file, then claims every candidate that is due,
each at most once, beside any number of other pods. A claimed posting has a live bid
that owes its delivery to the marketplace; then everything that is owed and due is
delivered: new bids, withdrawals, and what crashed pods have left. At last live bids
are looked up whose last look-up is long enough ago ("refresh" in the configuration),
so that bids which were won, lost or rejected there count as that here.

It never waits for a posting that another pod is at, and can be started as often as
you like: whatever a crash leaves behind, the next run goes on with.`,
		Example: `  bidder run --postings postings.ndjson --cached-at now
  my-scanner | bidder run --postings - -o json
  bidder run --dry-run --postings postings.ndjson
  * * * * *  bidder run        # from cron, on as many hosts as you like`,
		Args: noArgs,
		RunE: a.action(tableOrJSON, func(cmd *cobra.Command, _ []string) error {
			switch {
			case postings != "":
				options.names = []string{postings}
			case options.rejects != "" || options.cachedAt != "":
				return usageError{errors.New("--rejects and --cached-at are about the lines of a file: name it with --postings")}
			}
			return a.run(cmd, &options, every)
		}),
	}
	cmd.Flags().StringVar(&every, "every", "", "go on: pass after pass, this long from the end of one to the start of the next; each prints its report")
	cmd.Flags().StringVar(&postings, "postings", "", "read postings from this file first; - is standard input")
	cmd.Flags().BoolVar(&options.reconsider, "reconsider", false, "decide again on every fresh posting without a live bid")
	cmd.Flags().BoolVar(&options.noDelivery, "no-delivery", false, "read and claim only; what is owed stays owed")
	options.flags(cmd)
	settings(cmd, "batch", "workers", "max-conns", "posting-ttl", "rebid-window", "lock-ttl", "statement-timeout")
	return cmd
}

func (a *app) run(cmd *cobra.Command, options *runOptions, every string) error {
	if every == "" {
		return a.runOnce(cmd, options)
	}
	pause, err := config.ParseDuration(every)
	if err != nil || pause <= 0 {
		return usageError{fmt.Errorf("--every %q is not a duration such as 30s or 5m", every)}
	}
	if slices.Contains(options.names, "-") {
		return usageError{errors.New("--every reads the postings again each time: name a file instead of standard input")}
	}
	c, err := a.load(cmd, true)
	if err != nil {
		return err
	}
	log, ctx := a.logger(c), cmd.Context()
	for first := true; ; first = false {
		err := a.runOnce(cmd, options)
		code := exitCode(err)
		switch {
		case code == codeUsage && first || code > codeSignal:
			return err
		case code == codePerson:
			log.Warn("the pass left something for a person", "exit_code", code, "error", err)
		case err != nil: // an outage, or a file that is just being replaced, ends no pod
			log.Error("the pass could not be finished; the next one goes on", "exit_code", code, "error", err)
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx) //nolint:wrapcheck // the signal
		}
	}
}

// runOnce is one pass, recorded as a run.
func (a *app) runOnce(cmd *cobra.Command, options *runOptions) (err error) {
	s, err := a.connectTo(cmd, &options.input)
	if err != nil {
		return err
	}
	defer s.close()
	defer options.close(&err)
	ctx := cmd.Context()
	if s.DryRun {
		return a.rehearse(ctx, s, options)
	}
	recorder, err := startRun(ctx, s, "run")
	if err != nil {
		return err
	}
	report := runReport{RunID: orNull(recorder.id), StartedAt: recorder.startedAt}
	err = interrupted(ctx, a.pass(ctx, s, options, recorder, &report))
	finishedAt, finishErr := recorder.finish(ctx, exitCode(err))
	counts := recorder.counters.Counts()
	report.FinishedAt, report.Attempts, report.Outcomes, report.Locks = finishedAt, counts.Attempts, counts.Outcomes, counts.Locks
	err = errors.Join(err, finishErr)
	totals := recorder.deliveries.Totals()
	report.Deliveries, report.Recovered = totals, totals.Recovered
	return errors.Join(err, a.printRun(report))
}

// pass does the work of a run; its error joins everything that went wrong.
func (a *app) pass(ctx context.Context, s *session, options *runOptions, recorder *recorder, report *runReport) error {
	var problems []error
	if len(options.names) > 0 {
		read, _, err := a.read(ctx, s, &options.input)
		report.Ingest = read.Counts
		recorder.setIngest(read.Counts)
		if err != nil {
			problems = append(problems, err)
			if exitCode(err) != codePerson {
				return errors.Join(problems...)
			}
		}
	}
	if options.reconsider {
		if err := s.reconsider(ctx); err != nil {
			return errors.Join(append(problems, err)...)
		}
	}
	claimer := bidding.NewClaimer(s.pool, s.lockLimits(), s.rules(), &recorder.counters, recorder.id)
	failures := &failureLog{session: s}
	bar := a.countProgress("claiming", "attempts", a.dueCandidates(ctx, s))
	err := claimer.Pass(ctx, bidding.PassOptions{Workers: s.Workers, Batch: s.Batch, Observe: func(attempts []bidding.Attempt) {
		bar.add(len(attempts))
		failures.observe(attempts)
	}})
	bar.finish()
	problems = append(problems, err, failures.err())
	if err == nil && !options.noDelivery {
		problems = append(problems, a.deliver(ctx, s, recorder))
	}
	return errors.Join(problems...)
}

// deliver delivers what is owed and due, and looks live bids up; what then needs a person is
// a personError.
func (a *app) deliver(ctx context.Context, s *session, recorder *recorder) error {
	engine, totals := s.engine(&recorder.deliveries), recorder.deliveries.Totals
	stop := a.countProgress("delivering", "deliveries", a.dueDeliveries(ctx, s)).follow(ctx, func() int64 { return delivered(totals()) })
	err := engine.Pass(ctx, s.Workers)
	stop()
	if err != nil {
		return err
	}
	stop = a.countProgress("looking up live bids", "look-ups", a.dueChecks(ctx, engine)).follow(ctx, func() int64 { return lookedUp(totals().Refreshed) })
	err = engine.Refresh(ctx, s.Workers)
	stop()
	if err != nil {
		return err
	}
	if err := s.tellPauses(ctx); err != nil {
		return err
	}
	if n := recorder.deliveries.Totals().ForPerson; n > 0 {
		return personError{fmt.Sprintf("%d bids need a person: `bidder review list`", n)}
	}
	return nil
}

// tellPauses logs what is not called: a run that has nothing to say would look like one with
// nothing to do.
func (s *session) tellPauses(ctx context.Context) error {
	paused, err := queries.New(db.Once(s.pool)).PausedAccounts(ctx)
	if err != nil {
		return fmt.Errorf("list what is paused: %w", err)
	}
	for _, p := range paused {
		s.log.Warn("calls are paused; `bidder resume` starts them again", "marketplace", p.Marketplace, "account", p.Account,
			"since", p.PausedAt, "until", orDash(p.PausedUntil, exactTime), "by", p.PausedBy, "reason", p.Reason)
	}
	return nil
}

// reconsideredAtOnce is how many postings a statement of reconsider reads: little enough for its time.
const reconsideredAtOnce = 5000

func (s *session) reconsider(ctx context.Context) error {
	limits := s.writeLimits()
	limits.ByIndex = true
	page := queries.ReconsiderPostingsParams{PostingTTL: s.PostingTTL, Page: reconsideredAtOnce}
	n := int64(0)
	for done := false; !done; {
		var row queries.ReconsiderPostingsRow
		err := db.Repeat(ctx, func(ctx context.Context) error {
			return db.InTx(ctx, s.pool, limits, func(tx *db.Tx) (err error) {
				row, err = queries.New(tx).ReconsiderPostings(ctx, page)
				return err
			})
		})
		if err != nil {
			return fmt.Errorf("queue fresh postings again: %w", err)
		}
		n += row.Queued
		page.AfterMarketplace, page.AfterJobID = row.Marketplace, row.JobID
		done = row.JobID == ""
	}
	s.log.Info("fresh postings queued again", "postings", n)
	return nil
}

// failureLog logs failed attempts and remembers one cause of each kind. It also logs some
// of the postings that the policy has no answer for: they may be a mistake in the policy.
type failureLog struct {
	session    *session
	mu         sync.Mutex
	database   error
	other      error
	unanswered int
}

// maxLoggedUnanswered bounds the postings that are logged because the policy has no answer.
const maxLoggedUnanswered = 10

func (f *failureLog) observe(attempts []bidding.Attempt) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range attempts {
		attempt := &attempts[i]
		if attempt.Detail == bidding.ReasonPolicyError {
			if f.unanswered++; f.unanswered <= maxLoggedUnanswered {
				f.session.log.Warn("the policy has no answer; `bidder why` tells of each posting", "marketplace", attempt.Key.Marketplace,
					"job_id", attempt.Key.JobID, "expression", attempt.Rule, "error", attempt.Err)
			}
		}
		if attempt.Outcome != bidding.Failed {
			continue
		}
		f.session.log.Error("attempt failed", "marketplace", attempt.Key.Marketplace, "job_id", attempt.Key.JobID,
			"detail", attempt.Detail, "error", attempt.Err)
		if db.IsUnavailable(attempt.Err) || errors.Is(attempt.Err, bidding.ErrLockExpired) {
			f.database = databaseError{attempt.Err}
		} else {
			f.other = fmt.Errorf("attempt on %s: %w", attempt.Key, attempt.Err)
		}
	}
}

func (f *failureLog) err() error { return errors.Join(f.database, f.other) }

func (a *app) printRun(report runReport) error {
	if a.output == "json" {
		return printJSON(a.stdout, report)
	}
	if report.Ingest.Read > 0 {
		a.printIngest(report.Ingest)
		fmt.Fprintln(a.stdout)
	}
	t := a.screen.Table(
		terminal.Column{Name: "outcome"}, terminal.Column{Name: "attempts", Right: true}, terminal.Column{Name: "meaning", Min: 24, Wrap: true},
	)
	for _, outcome := range bidding.Outcomes() {
		if n := report.Outcomes[outcome]; n > 0 {
			t.Row(styled(outcome), n, why.Meaning(outcome))
		}
	}
	t.Row("total", report.Attempts, "")
	t.Print()
	printDeliveries(a.screen, report.Deliveries, report.Deliveries.Refreshed)
	if report.DryRun {
		fmt.Fprintln(a.stdout, "\nDry run: nothing was written.")
		return nil
	}
	a.screen.Say("\n", fmt.Sprintf("locks: %d attempts, %d successes, %d conflicts, %d time-outs; %s",
		report.Locks.Attempts, report.Locks.Successes, report.Locks.Conflicts, report.Locks.Timeouts,
		report.FinishedAt.Sub(report.StartedAt).Round(time.Millisecond)))
	return nil
}

func printDeliveries(screen terminal.Screen, totals delivery.Totals, r delivery.Refreshed) {
	if totals.Place != (delivery.Counts{}) || totals.Withdraw != (delivery.Counts{}) {
		fmt.Fprintln(screen)
		t := screen.Table(append(terminal.Columns("delivery"), terminal.Numbers("done", "again later", "for a person", "rejected")...)...)
		t.Row("place", totals.Place.Done, totals.Place.Retry, totals.Place.Review, totals.Place.Rejected)
		t.Row("withdraw", totals.Withdraw.Done, totals.Withdraw.Retry, totals.Withdraw.Review, totals.Withdraw.Rejected)
		t.Print()
	}
	if r != (delivery.Refreshed{}) {
		fmt.Fprintln(screen)
		t := screen.Table(append(terminal.Columns("looked up"), terminal.Numbers("still live", "won", "lost", "rejected", "withdrawn", "not seen", "for a person")...)...)
		t.Row("live bids", r.Live, r.Won, r.Lost, r.Rejected, r.Withdrawn, r.Unseen, r.Review)
		t.Print()
	}
}
