package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/arbitrageai/bidder/pkg/bidding"
	"github.com/arbitrageai/bidder/pkg/posting"
	"github.com/arbitrageai/bidder/pkg/terminal"
	"github.com/arbitrageai/bidder/pkg/why"
)

// verdictJSON is what the policy says of one posting.
type verdictJSON struct {
	Marketplace string `json:"marketplace"`
	JobID       string `json:"job_id"`
	Title       string `json:"title"`
	Eligible    bool   `json:"eligible"`
	// Detail is why not, as in the outcomes of attempts.
	Detail        *string `json:"detail"`
	Amount        *string `json:"amount"`
	Currency      string  `json:"currency"`
	NeedsApproval bool    `json:"needs_approval"`
	// Expression is the key that decided, and At is where it stands.
	Expression *string `json:"expression"`
	At         *string `json:"at"`
	Reason     string  `json:"reason"`
}

type policyReport struct {
	Items    []verdictJSON     `json:"items"`
	Read     int64             `json:"read"`
	Rejected int64             `json:"rejected"`
	Rejects  []*posting.Reject `json:"rejects"`
	Notes    map[string]int    `json:"notes"`
}

func (a *app) policyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "policy", Short: "Try out which postings are bid on, and for how much",
		Long: `The policy is what the configuration file says of postings: the expressions eligible and
amount, min_amount and max_amount, handlers and approval. docs/policy.md explains the
expressions, and ` + "`bidder config check`" + ` says what is wrong with them.`,
		Example: `  bidder policy test postings.ndjson
  bidder config check`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { a.started = true; return cmd.Help() },
	}
	var in input
	test := &cobra.Command{
		Use:   "test FILE|-",
		Short: "Say what the policy makes of postings, without a database",
		Long: `Reads postings as ` + "`bidder ingest`" + ` does, with the same rejects, and prints what the policy
says of each: whether it is bid on, for how much, which expression decided, and why.

No database is needed and nothing is written. Only the policy is asked, by this machine's
clock: a run also leaves alone what is stale, or has a bid already; see ` + "`bidder why`" + `.
The exit code is 3 if lines were rejected.`,
		Example: `  bidder policy test postings.ndjson
  bidder policy test --config new.yaml --cached-at now postings.ndjson
  my-scanner | bidder policy test - -o json | jq '.items[] | select(.eligible | not)'`,
		Args: exactArgs(1),
		RunE: a.action(tableOrJSON, func(cmd *cobra.Command, args []string) error {
			in.names = args
			return a.testPolicy(cmd, &in)
		}),
	}
	in.flags(test)
	cmd.AddCommand(test)
	return cmd
}

func (a *app) testPolicy(cmd *cobra.Command, in *input) (err error) {
	c, err := a.load(cmd, false)
	if err != nil {
		return err
	}
	if err := in.open(cmd.Context(), a.stdin); err != nil {
		return err
	}
	defer in.close(&err)
	if err := in.createRejects(a.stdin); err != nil {
		return err
	}
	s := &session{Config: c, log: a.logger(c)}
	report, err := a.judgeLines(cmd.Context(), s, in)
	if err != nil && exitCode(err) != codePerson {
		return err
	}
	if a.output == "json" {
		return errors.Join(printJSON(a.stdout, report), err)
	}
	t := a.screen.Table(
		terminal.Column{Name: "posting", Min: 24, Wrap: true}, terminal.Column{Name: "eligible"}, terminal.Column{Name: "amount", Right: true},
		terminal.Column{Name: "reason", Min: 24, Wrap: true},
	)
	for _, item := range report.Items {
		amount := orDash(item.Amount, func(amount string) string { return amount + " " + item.Currency })
		t.Row(keyID(item.Marketplace, item.JobID), yesNo(item.Eligible), amount, item.Reason)
	}
	t.Print()
	return err
}

// judgeLines asks the policy about every line; its error is a personError when only lines
// were rejected.
func (a *app) judgeLines(ctx context.Context, s *session, in *input) (policyReport, error) {
	options, rules := in.options(time.Now().UTC(), s.DefaultCurrency), s.rules()
	var rejects ingestReport
	report := policyReport{Items: []verdictJSON{}}
	reader := a.stdin
	if in.files[0] != nil {
		reader = in.files[0]
	}
	d := posting.NewDecoder(interruptible(ctx, reader), options)
	for {
		item, err := d.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return report, fmt.Errorf("%s: %w", in.names[0], err)
		}
		if item.Blank {
			continue
		}
		report.Read++
		if item.Reject != nil {
			report.Rejected++
			if err := a.rejected(s, in, in.names[0], &rejects, item.Reject); err != nil {
				return report, err
			}
			continue
		}
		report.Items = append(report.Items, s.verdict(item.Posting, rules.Policy(ctx, item.Posting, options.Now())))
	}
	report.Rejects, report.Notes = append([]*posting.Reject{}, rejects.Rejects...), d.Notes()
	if report.Rejected > 0 {
		return report, personError{fmt.Sprintf("%d lines were rejected", report.Rejected)}
	}
	return report, nil
}

// verdict is a decision for people and programs.
func (s *session) verdict(p posting.Posting, decision bidding.Decision) verdictJSON {
	attempt := bidding.Attempt{
		Key: p.Key, Outcome: bidding.Claimed, Detail: decision.Refused, AmountCents: decision.AmountCents, Currency: p.Currency,
		Rule: decision.Rule, Err: decision.Err,
	}
	v := verdictJSON{
		Marketplace: p.Marketplace, JobID: p.JobID, Title: p.Title, Eligible: decision.Refused == "", Detail: textOrNull(decision.Refused),
		Currency: p.Currency, NeedsApproval: decision.NeedsApproval,
	}
	if v.Eligible {
		amount := posting.FormatAmount(decision.AmountCents)
		v.Amount = &amount
	} else {
		attempt.Outcome = bidding.Ineligible
	}
	if decision.Rule != "" {
		key, from := s.Deciding(p.Marketplace, decision.Rule)
		v.Expression, v.At = &key, textOrNull(string(from))
	}
	v.Reason = why.Reason(s.Config, attempt)
	return v
}

func yesNo(yes bool) terminal.Styled {
	if yes {
		return terminal.Styled{Value: "yes", Style: terminal.Good}
	}
	return terminal.Styled{Value: "no", Style: terminal.Faint}
}
