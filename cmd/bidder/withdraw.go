package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/config"
	"github.com/arbitrageai/bidder/pkg/withdraw"
)

type withdrawReport struct {
	BidID         uuid.UUID `json:"bid_id"`
	Status        string    `json:"status"`
	DeliveryState *string   `json:"delivery_state"`
	Done          bool      `json:"done"`
}

func (a *app) withdrawCommand() *cobra.Command {
	var reason, by string
	cmd := &cobra.Command{
		Use: "withdraw BID_ID", Annotations: calls(),
		Short: "Take a bid back",
		Long: `Asks for a live bid to be taken back, and tries it once now; later runs finish what
does not succeed at once. A bid that was never sent is withdrawn without a call.
From the request on nothing more of the bid is sent, whatever happens.

Asking again changes nothing and calls nobody: it tells how the withdrawal stands,
and "bidder run" carries it out. The exit code is 0 when the bid is withdrawn, and 3
while the withdrawal is owed or needs a person.`,
		Example: `  bidder withdraw 0192f3a4-7c1e-7b32-9d55-1f0e6a2b8c41 --reason "client changed the scope"`,
		Args:    exactArgs(1),
		RunE: a.action(tableOrJSON, func(cmd *cobra.Command, args []string) error {
			return a.withdraw(cmd, args[0], reason, by)
		}),
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why it is taken back (required)")
	cmd.Flags().StringVar(&by, "by", operator(), "who asks for it")
	_ = cmd.MarkFlagRequired("reason")
	settings(cmd, "statement-timeout", "delivery-lease")
	return cmd
}

func (a *app) withdraw(cmd *cobra.Command, bidID, reason, by string) error {
	id, err := parseBidID(bidID)
	if err != nil {
		return err
	}
	if strings.TrimSpace(reason) == "" || strings.TrimSpace(by) == "" {
		return usageError{withdraw.ErrNoReason}
	}
	s, err := a.open(cmd)
	if err != nil {
		return err
	}
	defer s.close()
	ctx := cmd.Context()
	if s.DryRun {
		return a.rehearseWithdrawal(ctx, s, id)
	}
	recorder, err := startRun(ctx, s, "withdraw")
	if err != nil {
		return err
	}
	bid, err := a.withdrawNow(ctx, s, recorder, id, reason, by)
	if err == nil && bid.Status != "WITHDRAWN" {
		err = personError{}
	}
	err = interrupted(ctx, err)
	_, finishErr := recorder.finish(ctx, exitCode(err))
	if bid.ID == uuid.Nil {
		return errors.Join(err, finishErr)
	}
	if bid.Status == "WITHDRAWN" && bid.ExternalBidID == nil && s.Marketplace(bid.Marketplace).Handler == config.HandlerManual {
		fmt.Fprintf(a.stderr, "%s is served by hand: if somebody has placed this bid there, it has to be taken back there, too.\n", bid.Marketplace)
	}
	return errors.Join(err, finishErr, a.printWithdrawal(bid))
}

// withdrawNow asks, and makes one attempt if nobody has asked before and that is due.
func (a *app) withdrawNow(ctx context.Context, s *session, recorder *recorder, id uuid.UUID, reason, by string) (queries.Bid, error) {
	bid, first, err := withdraw.Request(ctx, s.pool, s.writeLimits(), id, reason, by)
	if errors.Is(err, withdraw.ErrNoSuchBid) {
		return queries.Bid{}, noSuchBid(id)
	}
	if _, ended := errors.AsType[withdraw.NotLiveError](err); ended {
		return bid, cannotWithdraw(bid)
	}
	if err != nil {
		return queries.Bid{}, err
	}
	if bid.Status != "ACTIVE" || !first {
		return bid, nil
	}
	if _, err := s.engine(&recorder.deliveries).DeliverBid(ctx, bid.Marketplace, bid.Account, id); err != nil {
		return bid, err
	}
	// What came of the attempt is told after an interruption as well.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishTimeout)
	defer cancel()
	now, err := queries.New(s.pool).GetBid(ctx, id)
	if err != nil {
		return bid, fmt.Errorf("read bid %s: %w", id, err)
	}
	return now, nil
}

func cannotWithdraw(b queries.Bid) error {
	return personError{"bid " + b.ID.String() + " cannot be withdrawn: " + withdraw.NotLiveError{Status: b.Status}.Error()}
}

func (a *app) rehearseWithdrawal(ctx context.Context, s *session, id uuid.UUID) error {
	bid, err := s.bid(ctx, id)
	if err != nil {
		return err
	}
	switch {
	case bid.Status != "ACTIVE" && bid.Status != "WITHDRAWN":
		return errors.Join(cannotWithdraw(bid), a.printWithdrawal(bid))
	case bid.Status == "WITHDRAWN":
		fmt.Fprintf(a.stderr, "Dry run: bid %s is withdrawn already.\n", id)
	case bid.PlacePosts == 0 && bid.ExternalBidID == nil:
		fmt.Fprintf(a.stderr, "Dry run: bid %s was never sent and would be withdrawn without a call.\n", id)
	default:
		fmt.Fprintf(a.stderr, "Dry run: bid %s would be taken back at %s.\n", id, bid.Marketplace)
	}
	return a.printWithdrawal(bid)
}

func (a *app) printWithdrawal(bid queries.Bid) error {
	report := withdrawReport{BidID: bid.ID, Status: bid.Status, DeliveryState: bid.DeliveryState, Done: bid.Status == "WITHDRAWN"}
	if a.output == "json" {
		return printJSON(a.stdout, report)
	}
	t := a.screen.Fields()
	t.Field("bid", bid.ID)
	t.Field("status", styled(bid.Status))
	if bid.DeliveryState != nil {
		t.Field("owes", owes(bid))
		t.Field("next attempt", orDash(bid.NextAttemptAt, a.moment))
		t.Field("for a person", orDash(bid.ReviewReason, plain))
		t.Field("last error", orDash(bid.LastError, plain))
	}
	t.Print()
	return nil
}
