package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/config"
	"github.com/arbitrageai/bidder/pkg/gate"
	"github.com/arbitrageai/bidder/pkg/marketplace/freelancer"
	"github.com/arbitrageai/bidder/pkg/terminal"
)

type verifyReport struct {
	Marketplace string                   `json:"marketplace"`
	Host        string                   `json:"host"`
	ProjectID   int64                    `json:"project_id"`
	Questions   []freelancer.Observation `json:"questions"`
	// Left explains what may be left of the bids, or is null.
	Left *string `json:"left"`
}

// verifyFlags are how it is verified.
type verifyFlags struct {
	project    int64
	patience   string
	yes, award bool
}

func (a *app) freelancerVerifyCommand() *cobra.Command {
	var flags verifyFlags
	cmd := &cobra.Command{
		Use: "verify [MARKETPLACE]", Annotations: calls(),
		Short: "Find out at the sandbox what nobody outside can know",
		Long: `Asks the questions of docs/marketplaces.md one by one, by placing and retracting bids on a
project, and prints what it saw and what to configure. It needs an open project that the
account has no bid on, best one that you have posted from a second account; no other
program may bid on it meanwhile. It costs the account two bids of its allowance.

It works at Freelancer.com's sandbox and at ` + "`bidder sandbox`" + `, and never at Freelancer.com itself.
Its bids are retracted whatever happens; where that fails, it says which bid is left, and the
exit code is 3. With --award it asks you to award the second bid, which cannot be retracted
after that: you have to end it on the site, as the client.`,
		Example: `  bidder freelancer verify --project 39812345
  bidder freelancer verify --project 39812345 --yes -o json | jq '.questions[] | select(.configure != "")'
  bidder freelancer verify --project 39812345 --award`,
		Args: cobra.MaximumNArgs(1),
		RunE: a.action(tableOrJSON, func(cmd *cobra.Command, args []string) error { return a.freelancerVerify(cmd, args, flags) }),
	}
	f := cmd.Flags()
	f.Int64Var(&flags.project, "project", 0, "id of the project to bid on")
	f.StringVar(&flags.patience, "patience", "1m", "how long a new bid may take to be listed")
	f.BoolVar(&flags.award, "award", false, "ask for an award, and wait for a line on standard input")
	f.BoolVar(&flags.yes, "yes", false, "do not ask before it bids")
	_ = cmd.MarkFlagRequired("project")
	return cmd
}

func (a *app) freelancerVerify(cmd *cobra.Command, args []string, flags verifyFlags) error {
	patience, err := config.ParseDuration(flags.patience)
	switch {
	case err != nil:
		return usageError{fmt.Errorf("--patience: %w", err)}
	case flags.project < 1:
		return usageError{errors.New("--project is the id of a project, a number above 0")}
	}
	c, err := a.load(cmd, true)
	if err != nil {
		return err
	}
	if err := refuseDryRun(c, cmd.CommandPath()); err != nil {
		return err
	}
	name, err := freelancerName(c, args)
	if err != nil {
		return err
	}
	m := c.Marketplace(name)
	if m.IsProductionFreelancer() {
		return usageError{fmt.Errorf("%s: %w", m.BaseURL, freelancer.ErrProduction)}
	}
	if err := a.agree(cmd.Context(), hostOf(m.BaseURL), flags); err != nil {
		return err
	}
	s, account, _, err := a.openFreelancer(cmd, args, false)
	if err != nil {
		return err
	}
	defer s.close()
	report := verifyReport{Marketplace: name, Host: hostOf(m.BaseURL), ProjectID: flags.project, Questions: []freelancer.Observation{}}
	verification := freelancer.Verification{
		Project: flags.project, Patience: patience,
		Pass: pass(gate.Gate{Queries: queries.New(s.pool), Marketplace: name, Account: defaultAccount, Gap: m.Gap()}),
		Report: func(o freelancer.Observation) {
			report.Questions = append(report.Questions, o)
			s.log.Info("asked", "question", o.Question, "result", o.Result)
		},
	}
	if flags.award {
		verification.Award = a.askAward
	}
	return a.reportVerify(report, account.client.Verify(cmd.Context(), verification))
}

// agree asks whether bids may be spent.
func (a *app) agree(ctx context.Context, host string, flags verifyFlags) error {
	if flags.yes {
		return nil
	}
	if f, ok := a.stdin.(*os.File); !ok || !terminal.IsTerminal(f) {
		return usageError{errors.New("this bids on the project, and costs two bids of the allowance: say --yes")}
	}
	fmt.Fprintf(a.stderr, "This bids on project %d at %s, and costs two bids of the allowance. Go on? [y/N] ", flags.project, host)
	line, err := readLine(ctx, a.stdin)
	if err != nil {
		return err
	}
	if line != "y" && line != "yes" {
		return usageError{errors.New("nothing was done")}
	}
	return nil
}

// pass waits for the account's gate.
func pass(account gate.Gate) func(context.Context) error {
	return func(ctx context.Context) error {
		answer, err := account.Await(ctx, ctx, func(time.Duration) {})
		switch {
		case err != nil:
			return err
		case answer == gate.Paused:
			return errors.New("the account is paused; `bidder resume` ends that")
		case answer == gate.Stopped:
			return context.Cause(ctx)
		}
		return nil
	}
}

// askAward has a person award a bid.
func (a *app) askAward(ctx context.Context, bid string) (bool, error) {
	fmt.Fprintf(a.stderr, "Award the bid %s now, as the project's client, then press Enter (or type no): ", bid)
	line, err := readLine(ctx, a.stdin)
	fmt.Fprintln(a.stderr)
	return line == "" || line == "yes", err
}

func (a *app) reportVerify(report verifyReport, err error) error {
	switch {
	case errors.Is(err, freelancer.ErrUnfit), errors.Is(err, freelancer.ErrProduction):
		return usageError{err}
	case errors.Is(err, freelancer.ErrLeft):
		text := err.Error()
		report.Left = &text
	}
	if err != nil && !db.IsUnavailable(err) {
		err = personError{err.Error()} // who runs this is the person
	}
	if len(report.Questions) == 0 && report.Left == nil {
		return err
	}
	if a.output == "json" {
		return errors.Join(printJSON(a.stdout, report), err)
	}
	printObservations(a.screen, report.Questions)
	return err
}

func printObservations(screen terminal.Screen, questions []freelancer.Observation) {
	t := screen.Table(
		terminal.Column{Name: "question", Min: 20, Wrap: true}, terminal.Column{Name: "result", Min: 12, Wrap: true}, terminal.Column{Name: "saw", Min: 24, Wrap: true},
	)
	for _, q := range questions {
		t.Row(q.Question, string(q.Result), q.Saw)
	}
	t.Print()
	first := true
	for _, q := range questions {
		if q.Configure == "" {
			continue
		}
		if first {
			fmt.Fprintln(screen, "\nWhat follows from it:")
			first = false
		}
		screen.Say("- ", terminal.Text(q.Configure))
	}
}
