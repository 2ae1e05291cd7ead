package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/bidding"
	"github.com/arbitrageai/bidder/pkg/posting"
	"github.com/arbitrageai/bidder/pkg/terminal"
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
		Args: cobra.ExactArgs(2),
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
	attempt, err := s.preview(ctx, key, bidding.PreviewOptions{Pass: true})
	if err != nil {
		return err
	}
	q := queries.New(s.pool)
	bids, err := q.BidsOfPosting(ctx, key.Marketplace, key.JobID)
	if err != nil {
		return fmt.Errorf("read the bids on %s: %w", key, err)
	}
	report := whyReport{Marketplace: key.Marketplace, JobID: key.JobID, Outcome: attempt.Outcome, Detail: textOrNull(attempt.Detail), Bids: []bidJSON{}}
	if !attempt.Until.IsZero() && attempt.Detail != bidding.DetailCapLiveBids {
		report.ResetsAt = &attempt.Until
	}
	for _, b := range bids {
		report.Bids = append(report.Bids, newBidJSON(b))
	}
	if report.Reasons, err = s.reasons(ctx, q, attempt); err != nil {
		return err
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

// reasons explain an outcome in sentences.
func (s *session) reasons(ctx context.Context, q *queries.Queries, attempt bidding.Attempt) ([]string, error) {
	reasons := []string{s.reason(attempt)}
	if attempt.Outcome == bidding.Closed && attempt.Detail == bidding.DetailWithdrawn {
		reasons = append(reasons, "`bidder bid` bids on it again by hand.")
	}
	candidate, err := q.GetCandidate(ctx, attempt.Key.Marketplace, attempt.Key.JobID)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		reasons = append(reasons, "It is not queued: newer content, or `bidder run --reconsider`, queues it.")
	case err != nil:
		return nil, fmt.Errorf("read the queue: %w", err)
	case candidate.Parked:
		reasons = append(reasons, fmt.Sprintf("It is parked after %d failed attempts; newer content frees it. The last error: %s",
			candidate.Tries, orDash(candidate.LastError, plain)))
	case candidate.NotBefore.After(time.Now()):
		reasons = append(reasons, "It is queued, and runs leave it alone until "+exactTime(candidate.NotBefore)+
			"; newer content, or `bidder run --reconsider`, has it decided before that.")
	default:
		reasons = append(reasons, "It is queued: the next run decides on it.")
	}
	return reasons, nil
}

func (s *session) reason(attempt bidding.Attempt) string {
	switch attempt.Outcome {
	case bidding.Unknown:
		return "The posting is not in the cache: `bidder ingest` puts it there."
	case bidding.Duplicate:
		return "The live bid " + attempt.ExistingBidID.String() + " is on it."
	case bidding.Closed:
		return "Its newest bid ended: " + attempt.Detail + "."
	case bidding.Recent:
		return "A bid on it was made, sent or withdrawn less than " + s.RebidWindow.String() + " ago."
	case bidding.Stale:
		return fmt.Sprintf("It was last seen %s ago (%s), longer than %s.", time.Since(attempt.CachedAt).Round(time.Second), exactTime(attempt.CachedAt), s.PostingTTL)
	case bidding.Ineligible:
		return s.refusal(attempt)
	default:
		text := "Nothing stands against a bid of " + money(&attempt.AmountCents, attempt.Currency)
		if attempt.Rule != "" {
			text += ", by " + s.rule(attempt) + " and the bounds"
		}
		return text + "."
	}
}

// neverFits says whether a bid is larger than all the money of a day: no day has room for it.
func (s *session) neverFits(attempt bidding.Attempt) bool {
	most := s.Marketplace(attempt.Key.Marketplace).Caps.MoneyPerDayCents
	return attempt.Detail == bidding.DetailCapMoneyPerDay && most != nil && attempt.AmountCents > *most
}

// refusal explains why a posting is ineligible.
func (s *session) refusal(attempt bidding.Attempt) string {
	if s.neverFits(attempt) {
		return fmt.Sprintf("A bid of %s is more than the whole money_per_day of its marketplace, %s: it never fits.", money(&attempt.AmountCents, attempt.Currency),
			money(s.Marketplace(attempt.Key.Marketplace).Caps.MoneyPerDayCents, attempt.Currency))
	}
	switch attempt.Detail {
	case bidding.ReasonPolicy:
		return "The policy says no: " + s.rule(attempt) + " is false."
	case bidding.ReasonPolicyError:
		return fmt.Sprintf("The policy has no answer: %s: %v.", s.rule(attempt), attempt.Err)
	case bidding.ReasonNoAmount:
		if attempt.Rule == bidding.RuleAmount {
			return "The policy's amount is nothing: " + s.rule(attempt) + " says " + money(&attempt.AmountCents, attempt.Currency) + "."
		}
		return "Neither the posting nor its budget says what to bid."
	}
	return map[string]string{
		bidding.ReasonHandlerNone:        "Its marketplace is switched off (handler: none).",
		bidding.ReasonAmountBelowMinimum: "The amount it asks for is below min_amount.",
		bidding.ReasonAmountAboveMaximum: "The amount it asks for is above max_amount.",
		bidding.DetailCapBidsPerDay:      "bids_per_day of its marketplace is reached; the next day begins at " + exactTime(attempt.Until) + ".",
		bidding.DetailCapMoneyPerDay: "A bid of " + money(&attempt.AmountCents, attempt.Currency) +
			" does not fit into what money_per_day leaves today; the next day begins at " + exactTime(attempt.Until) + ".",
		bidding.DetailCapLiveBids: "As many bids as live_bids of its marketplace are live: one must end first.",
	}[attempt.Detail]
}

// rule names the expression that decided, and where it stands.
func (s *session) rule(attempt bidding.Attempt) string {
	key, from := s.Deciding(attempt.Key.Marketplace, attempt.Rule)
	return fmt.Sprintf("%s (%s)", key, from)
}
