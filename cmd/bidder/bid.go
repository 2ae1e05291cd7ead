package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/pkg/bidding"
	"github.com/arbitrageai/bidder/pkg/posting"
	"github.com/arbitrageai/bidder/pkg/terminal"
	"github.com/arbitrageai/bidder/pkg/why"
)

type bidReport struct {
	Outcome       bidding.Outcome `json:"outcome"`
	BidID         *string         `json:"bid_id"`
	ExistingBidID *string         `json:"existing_bid_id"`
	Marketplace   string          `json:"marketplace"`
	JobID         string          `json:"job_id"`
	LockKey       string          `json:"lock_key"`
	WaitedMS      int64           `json:"waited_ms"`
	Detail        *string         `json:"detail"`
}

func (a *app) bidCommand() *cobra.Command {
	var amount string
	cmd := &cobra.Command{
		Use:   "bid MARKETPLACE JOB_ID",
		Short: "Try to bid on one posting",
		Long: `Makes one attempt to claim a posting of the cache, waiting for its lock if another
attempt is at it. The bid is live from then on; a later run delivers it.

What was withdrawn before may be bid on again this way. Meeting a live bid leaves a
DUPLICATE row as a record. The exit code is 0 only if the posting was claimed, else 3.`,
		Example: `  bidder bid upwork '~01abc'
  bidder bid freelancer 39812345 --amount 480.00 --lock-wait 0
  bidder bid freelancer 39812345 --dry-run -o json`,
		Args: exactArgs(2),
		RunE: a.action(tableOrJSON, func(cmd *cobra.Command, args []string) error {
			return a.bid(cmd, args[0], args[1], amount)
		}),
	}
	cmd.Flags().StringVar(&amount, "amount", "", "bid this amount, within min_amount and max_amount")
	settings(cmd, "lock-wait", "lock-ttl", "statement-timeout", "posting-ttl", "rebid-window")
	return cmd
}

func (a *app) bid(cmd *cobra.Command, marketplace, jobID, amount string) error {
	key, err := parseKey(marketplace, jobID)
	if err != nil {
		return err
	}
	cents, err := a.parseBidAmount(cmd, amount)
	if err != nil {
		return err
	}
	s, err := a.open(cmd)
	if err != nil {
		return err
	}
	defer s.close()
	ctx := cmd.Context()
	if s.DryRun {
		attempt, err := s.preview(ctx, key, bidding.PreviewOptions{AmountCents: cents})
		if err != nil {
			return err
		}
		return a.printBid(s, attempt)
	}
	recorder, err := startRun(ctx, s, "bid")
	if err != nil {
		return err
	}
	claimer := bidding.NewClaimer(s.pool, s.lockLimits(), s.rules(), &recorder.counters, recorder.id)
	attempt, err := claimer.Attempt(ctx, key, bidding.AttemptOptions{Wait: s.LockWait, AmountCents: cents})
	if err == nil {
		err = attemptError(attempt)
	}
	err = interrupted(ctx, err)
	_, finishErr := recorder.finish(ctx, exitCode(err))
	if _, interrupted := errors.AsType[interruption](err); interrupted {
		return errors.Join(err, finishErr)
	}
	return errors.Join(a.printBid(s, attempt), finishErr)
}

// parseBidAmount reads --amount, which must be within the configured bounds.
func (a *app) parseBidAmount(cmd *cobra.Command, amount string) (*int64, error) {
	if amount == "" {
		return nil, nil //nolint:nilnil // no amount is given
	}
	cents, err := posting.ParseAmount(amount)
	if err != nil {
		return nil, usageError{fmt.Errorf("--amount: %w", err)}
	}
	c, err := a.load(cmd, true)
	if err != nil {
		return nil, err
	}
	switch {
	case cents == 0:
		return nil, usageError{errors.New("--amount: it must be more than 0")}
	case c.MinAmountCents != nil && cents < *c.MinAmountCents:
		return nil, usageError{fmt.Errorf("--amount: %s is below min_amount %s", amount, posting.FormatAmount(*c.MinAmountCents))}
	case c.MaxAmountCents != nil && cents > *c.MaxAmountCents:
		return nil, usageError{fmt.Errorf("--amount: %s is above max_amount %s", amount, posting.FormatAmount(*c.MaxAmountCents))}
	}
	return &cents, nil
}

// preview says how an attempt would end now.
func (s *session) preview(ctx context.Context, key posting.Key, options bidding.PreviewOptions) (bidding.Attempt, error) {
	claimer := bidding.NewClaimer(s.pool, s.lockLimits(), s.rules(), &bidding.Counters{}, uuid.Nil)
	var attempt bidding.Attempt
	err := db.View(ctx, s.pool, s.writeLimits(), func(tx pgx.Tx) error {
		attempts, err := claimer.Preview(ctx, tx, []posting.Key{key}, options)
		if err == nil {
			attempt = attempts[0]
		}
		return err
	})
	return attempt, err
}

// attemptError is what the exit code says of an attempt by hand.
func attemptError(attempt bidding.Attempt) error {
	switch {
	case attempt.Outcome == bidding.Claimed:
		return nil
	case attempt.Outcome != bidding.Failed:
		return personError{}
	case db.IsUnavailable(attempt.Err) || errors.Is(attempt.Err, bidding.ErrLockExpired):
		return databaseError{attempt.Err}
	}
	return attempt.Err
}

func (a *app) printBid(s *session, attempt bidding.Attempt) error {
	err := attemptError(attempt)
	if a.output == "json" {
		return errors.Join(printJSON(a.stdout, bidReport{
			Outcome: attempt.Outcome, BidID: orNull(attempt.BidID), ExistingBidID: orNull(attempt.ExistingBidID),
			Marketplace: attempt.Key.Marketplace, JobID: attempt.Key.JobID, LockKey: attempt.Key.LockKey(),
			WaitedMS: attempt.Waited.Milliseconds(), Detail: textOrNull(attempt.Detail),
		}), err)
	}
	t := a.screen.Fields()
	t.Field("posting", keyID(attempt.Key.Marketplace, attempt.Key.JobID))
	outcome := string(attempt.Outcome)
	if attempt.Detail != "" {
		outcome += " (" + attempt.Detail + ")"
	}
	meaning := why.Meaning(attempt.Outcome)
	if attempt.Outcome == bidding.Ineligible {
		meaning = why.Reason(s.Config, attempt)
	}
	t.Field("outcome", terminal.Styled{Value: outcome + ": " + meaning, Style: styles[string(attempt.Outcome)]})
	if attempt.AmountCents > 0 {
		t.Field("amount", money(&attempt.AmountCents, attempt.Currency))
	}
	if !attempt.Until.IsZero() && !why.NeverFits(s.Config, attempt) {
		t.Field("room again", a.moment(attempt.Until)+" at the earliest")
	}
	if attempt.BidID != uuid.Nil {
		t.Field("bid", attempt.BidID)
	}
	if attempt.ExistingBidID != uuid.Nil {
		t.Field("live bid", attempt.ExistingBidID)
	}
	if attempt.Waited >= time.Millisecond {
		t.Field("waited", attempt.Waited.Round(time.Millisecond))
	}
	t.Print()
	if s.DryRun {
		fmt.Fprintln(a.stdout, "\nDry run: nothing was written.")
	}
	return err
}
