package main

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/bidding"
	"github.com/arbitrageai/bidder/pkg/posting"
	"github.com/arbitrageai/bidder/pkg/terminal"
	"github.com/arbitrageai/bidder/pkg/why"
)

type whyReport struct {
	Marketplace string          `json:"marketplace"`
	JobID       string          `json:"job_id"`
	Outcome     bidding.Outcome `json:"outcome"`
	Detail      *string         `json:"detail"`
	// ResetsAt is when the day of a cap that is reached ends.
	ResetsAt *time.Time `json:"resets_at"`
	Reasons  []string   `json:"reasons"`
	Bids     []bidJSON  `json:"bids"`
}

func (a *app) whyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "why MARKETPLACE JOB_ID",
		Short: "What a run would do with a posting now, and what happened before",
		Example: `  bidder why upwork '~01abc'
  bidder why freelancer 39812345 -o json`,
		Args: exactArgs(2),
		RunE: a.action(tableOrJSON, func(cmd *cobra.Command, args []string) error {
			key, err := parseKey(args[0], args[1])
			if err != nil {
				return err
			}
			s, err := a.open(cmd)
			if err != nil {
				return err
			}
			defer s.close()
			return a.why(cmd.Context(), s, key)
		}),
	}
	settings(cmd, "posting-ttl", "rebid-window")
	return cmd
}

func (a *app) why(ctx context.Context, s *session, key posting.Key) error {
	var attempt bidding.Attempt
	var reasons []string
	var bids []queries.Bid
	err := db.View(ctx, s.pool, s.writeLimits(), func(tx pgx.Tx) (err error) {
		if attempt, reasons, err = s.explain(ctx, tx, key); err != nil {
			return err
		}
		if bids, err = queries.New(tx).BidsOfPosting(ctx, key.Marketplace, key.JobID, nil); err != nil {
			return fmt.Errorf("read the bids on %s: %w", key, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	report := whyReport{
		Marketplace: key.Marketplace, JobID: key.JobID, Outcome: attempt.Outcome, Detail: textOrNull(attempt.Detail), Reasons: reasons, Bids: []bidJSON{},
	}
	if !attempt.Until.IsZero() && attempt.Detail != bidding.DetailCapLiveBids {
		report.ResetsAt = &attempt.Until
	}
	for _, b := range bids {
		report.Bids = append(report.Bids, newBidJSON(b))
	}
	if a.output == "json" {
		return printJSON(a.stdout, report)
	}
	a.screen.Say("", fmt.Sprintf("%s: a run would now end in %q.", keyID(key.Marketplace, key.JobID), attempt.Outcome))
	for _, reason := range report.Reasons {
		a.screen.Say("- ", terminal.Text(reason))
	}
	if len(bids) == 0 {
		return nil
	}
	fmt.Fprintln(a.stdout)
	t := a.screen.Table(
		terminal.Column{Name: "bid"}, terminal.Column{Name: "status"}, terminal.Column{Name: "amount", Right: true}, terminal.Column{Name: "created"},
		terminal.Column{Name: "owes"}, terminal.Column{Name: "reason", Min: 20, Wrap: true},
	)
	for _, b := range bids {
		t.Row(b.ID, styled(b.Status), money(b.AmountCents, b.Currency), a.ago(b.CreatedAt), owes(b), orDash(b.WithdrawnReason, plain))
	}
	t.Print()
	return nil
}

// explain says how an attempt of a run would end now, and why.
func (s *session) explain(ctx context.Context, tx pgx.Tx, key posting.Key) (bidding.Attempt, []string, error) {
	claimer := bidding.NewClaimer(s.pool, s.lockLimits(), s.rules(), &bidding.Counters{}, uuid.Nil)
	attempts, err := claimer.Preview(ctx, tx, []posting.Key{key}, bidding.PreviewOptions{Pass: true})
	if err != nil {
		return bidding.Attempt{}, nil, err
	}
	reasons, err := why.Reasons(ctx, queries.New(tx), s.Config, attempts[0])
	return attempts[0], reasons, err
}
