package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/delivery"
	"github.com/arbitrageai/bidder/pkg/review"
	"github.com/arbitrageai/bidder/pkg/terminal"
)

type reviewItem struct {
	Bid       bidJSON            `json:"bid"`
	Posting   *queries.Posting   `json:"posting"`
	Kind      string             `json:"kind"`
	Reason    string             `json:"reason"`
	Attempts  int32              `json:"attempts"`
	LastError *string            `json:"last_error"`
	Since     time.Time          `json:"since"`
	History   []queries.BidEvent `json:"history,omitempty"`
}

func newReviewItem(b queries.Bid, p *queries.Posting) reviewItem {
	item := reviewItem{Bid: newBidJSON(b), Posting: p, Attempts: b.DeliveryAttempts, LastError: b.LastError}
	if b.DeliveryKind != nil {
		item.Kind = *b.DeliveryKind
	}
	item.Reason, item.Since = review.Reason(b)
	return item
}

func (a *app) reviewCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "review",
		Short: "What needs a person: bids to approve, and deliveries that cannot go on by themselves",
		Example: `  bidder review list
  bidder review show 0192f3a4-7c1e-7b32-9d55-1f0e6a2b8c41
  bidder review approve 0192f3a4-7c1e-7b32-9d55-1f0e6a2b8c41
  bidder review retry 0192f3a4-7c1e-7b32-9d55-1f0e6a2b8c41
  bidder review resolve 0192f3a4-7c1e-7b32-9d55-1f0e6a2b8c41 --as placed:p-778`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.unsaid(cmd, "list, show, approve, retry or resolve")
		},
	}
	cmd.AddCommand(a.reviewListCommand(), a.reviewShowCommand(), a.reviewApproveCommand(), a.reviewRetryCommand(), a.reviewResolveCommand())
	return cmd
}

func (a *app) reviewListCommand() *cobra.Command {
	var marketplace, after string
	var limit int
	cmd := &cobra.Command{
		Use: "list", Short: "List what waits for a person, oldest first",
		Example: "  bidder review list -o json",
		Args:    noArgs,
		RunE: a.action(tableOrJSON, func(cmd *cobra.Command, _ []string) error {
			return a.listReview(cmd, marketplace, after, limit)
		}),
	}
	cmd.Flags().StringVar(&marketplace, "marketplace", "", "only of this marketplace")
	cmd.Flags().IntVar(&limit, "limit", 50, "how many to list, 1 to 1000")
	cmd.Flags().StringVar(&after, "after", "", "go on where an earlier listing ended (its \"next\")")
	return cmd
}

func (a *app) listReview(cmd *cobra.Command, marketplace, after string, limit int) error {
	page, err := listParams("", marketplace, after, limit)
	if err != nil {
		return usageError{err}
	}
	s, err := a.open(cmd)
	if err != nil {
		return err
	}
	defer s.close()
	items := list[reviewItem]{Items: []reviewItem{}}
	err = s.view(cmd.Context(), func(q *queries.Queries) error {
		bids, err := q.ListReview(cmd.Context(), page.Marketplace, page.BeforeID, page.Page)
		if err != nil {
			return fmt.Errorf("list what is in review: %w", err)
		}
		if len(bids) > limit {
			bids = bids[:limit]
			items.Next = orNull(bids[limit-1].ID)
		}
		for _, b := range bids {
			p, err := postingOf(cmd.Context(), q, b)
			if err != nil {
				return err
			}
			items.Items = append(items.Items, newReviewItem(b, p))
		}
		return nil
	})
	if err != nil {
		return err
	}
	if a.output == "json" {
		return printJSON(a.stdout, items)
	}
	if len(items.Items) == 0 {
		fmt.Fprintln(a.stdout, "Nothing waits for a person.")
		return nil
	}
	t := a.screen.Table(
		terminal.Column{Name: "bid"}, terminal.Column{Name: "reason"}, terminal.Column{Name: "owes"}, terminal.Column{Name: "since"},
		terminal.Column{Name: "amount", Right: true}, terminal.Column{Name: "posting", Min: 30, Wrap: true}, terminal.Column{Name: "title", Min: 24},
	)
	for _, item := range items.Items {
		title := "-"
		if item.Posting != nil {
			title = item.Posting.Title
		}
		t.Row(item.Bid.ID, terminal.Styled{Value: item.Reason, Style: styles[*item.Bid.DeliveryState]}, item.Kind, a.ago(item.Since),
			money(item.Bid.AmountCents, item.Bid.Currency), keyID(item.Bid.Marketplace, item.Bid.JobID), title)
	}
	t.Print()
	if items.Next != nil {
		fmt.Fprintf(a.stdout, "\nMore: %s\n", more(cmd, *items.Next))
	}
	return nil
}

// postingOf is the posting of a bid, or nil when the cache no longer has it.
func postingOf(ctx context.Context, q *queries.Queries, b queries.Bid) (*queries.Posting, error) {
	p, err := q.GetPosting(ctx, b.Marketplace, b.JobID)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil //nolint:nilnil // said above
	}
	if err != nil {
		return nil, fmt.Errorf("read the posting of bid %s: %w", b.ID, err)
	}
	return &p, nil
}

func (a *app) reviewShowCommand() *cobra.Command {
	return &cobra.Command{
		Use: "show BID_ID", Short: "Everything a person needs to decide",
		Example: "  bidder review show 0192f3a4-7c1e-7b32-9d55-1f0e6a2b8c41",
		Args:    exactArgs(1),
		RunE: a.action(tableOrJSON, func(cmd *cobra.Command, args []string) error {
			return a.onBid(cmd, args[0], func(ctx context.Context, s *session, b queries.Bid) error {
				if !review.Waits(b) {
					return notWaiting(b)
				}
				return a.showReview(ctx, s, b)
			})
		}),
	}
}

func notWaiting(b queries.Bid) error {
	return personError{review.NotWaitingError{Bid: b}.Error()}
}

func (a *app) showReview(ctx context.Context, s *session, b queries.Bid) error {
	var p *queries.Posting
	var history []queries.BidEvent
	err := s.view(ctx, func(q *queries.Queries) (err error) {
		if p, err = postingOf(ctx, q, b); err == nil {
			history, err = historyOf(ctx, q, b.ID)
		}
		return err
	})
	if err != nil {
		return err
	}
	item := newReviewItem(b, p)
	item.History = history
	if a.output == "json" {
		if item.History == nil {
			item.History = []queries.BidEvent{}
		}
		return printJSON(a.stdout, item)
	}
	t := a.screen.Fields()
	t.Field("waits for", terminal.Styled{Value: item.Reason, Style: styles[*b.DeliveryState]})
	t.Field("since", a.moment(item.Since))
	for i, line := range advice(item) {
		t.Field([]string{"what to do", ""}[min(i, 1)], line)
	}
	if p != nil {
		t.Field("title", p.Title)
		if p.URL != nil {
			t.Field("url", *p.URL)
		}
		if p.Description != "" {
			t.Field("description", excerpt(p.Description))
		}
	}
	t.Print()
	fmt.Fprintln(a.stdout)
	return a.showBid(ctx, s, b.ID)
}

// excerptLength is how much of a description is shown, in characters.
const excerptLength = 400

// excerpt is the beginning of a text; JSON has all of it.
func excerpt(s string) string {
	if runes := []rune(s); len(runes) > excerptLength {
		return string(runes[:excerptLength]) + "…"
	}
	return s
}

// advice says what a person can do with an item, and how, a line for each.
func advice(item reviewItem) []string {
	do := func(command, arguments string) string {
		return strings.TrimSpace("bidder " + command + " " + item.Bid.ID.String() + " " + arguments)
	}
	switch {
	case item.Reason == delivery.ReasonApproval:
		return []string{do("review approve", ""), "or: " + do("withdraw", "--reason TEXT")}
	case item.Kind == delivery.Place && item.Bid.ExternalBidID != nil:
		return []string{
			"look at the marketplace, then: " + do("review resolve", "--as placed:ID (it is still live), won, lost, rejected or withdrawn"),
			"or, to look it up again (it is never sent again): " + do("review retry", ""),
		}
	case item.Kind == delivery.Withdraw:
		return []string{"take it back there by hand, then: " + do("review resolve", "--as withdrawn (or won, lost, rejected)")}
	case item.Reason == delivery.ReasonNoAPI:
		return []string{"send it by hand, then: " + do("review resolve", "--as placed:ID (or not-placed)")}
	default:
		return []string{"look at the marketplace, then: " + do("review resolve", "--as placed:ID (or not-placed)"), "or: " + do("review retry", "")}
	}
}

func (a *app) reviewApproveCommand() *cobra.Command {
	var by string
	cmd := &cobra.Command{
		Use: "approve BID_ID", Short: "Let a bid be sent that waits for approval",
		Example: "  bidder review approve 0192f3a4-7c1e-7b32-9d55-1f0e6a2b8c41 --by ops@example.com",
		Args:    exactArgs(1),
		RunE: a.action(tableOrJSON, func(cmd *cobra.Command, args []string) error {
			return a.decide(cmd, args[0], by, review.Approve(by))
		}),
	}
	cmd.Flags().StringVar(&by, "by", operator(), "who approves")
	return cmd
}

func (a *app) reviewRetryCommand() *cobra.Command {
	var by string
	cmd := &cobra.Command{
		Use: "retry BID_ID", Short: "Try a delivery in review again, as if it had never failed",
		Example: "  bidder review retry 0192f3a4-7c1e-7b32-9d55-1f0e6a2b8c41",
		Args:    exactArgs(1),
		RunE: a.action(tableOrJSON, func(cmd *cobra.Command, args []string) error {
			return a.decide(cmd, args[0], by, review.Retry(by))
		}),
	}
	cmd.Flags().StringVar(&by, "by", operator(), "who wants it tried again")
	return cmd
}

func (a *app) reviewResolveCommand() *cobra.Command {
	var as, by, note string
	cmd := &cobra.Command{
		Use:   "resolve BID_ID",
		Short: "Record what a person found out or did",
		Long: `Records the truth about a delivery in review:
  placed:ID    the bid is live at the marketplace, under this id
  not-placed   it is not there, and will not be sent any more
  withdrawn    it was there and has been taken back
  rejected, won, lost   how it ended`,
		Example: `  bidder review resolve 0192f3a4-7c1e-7b32-9d55-1f0e6a2b8c41 --as placed:p-778 --by alice
  bidder review resolve 0192f3a4-7c1e-7b32-9d55-1f0e6a2b8c41 --as not-placed --note "job was closed"`,
		Args: exactArgs(1),
		RunE: a.action(tableOrJSON, func(cmd *cobra.Command, args []string) error {
			return a.resolve(cmd, args[0], as, by, note)
		}),
	}
	cmd.Flags().StringVar(&as, "as", "", "placed:ID, not-placed, withdrawn, rejected, won or lost (required)")
	cmd.Flags().StringVar(&by, "by", operator(), "who found out")
	cmd.Flags().StringVar(&note, "note", "", "what to remember about it")
	_ = cmd.MarkFlagRequired("as")
	_ = cmd.RegisterFlagCompletionFunc("as", cobra.FixedCompletions(
		[]string{"placed:", "not-placed", "withdrawn", "rejected", "won", "lost"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (a *app) resolve(cmd *cobra.Command, bidID, as, by, note string) error {
	decision, err := review.Resolve(as, note, by)
	if errors.Is(err, review.ErrNoExternalID) {
		return usageError{errors.New("--as placed: say under which id: placed:ID")}
	}
	if _, unknown := errors.AsType[review.UnknownEndingError](err); unknown {
		return usageError{fmt.Errorf("--as %w", err)}
	}
	if err != nil {
		return err
	}
	return a.decide(cmd, bidID, by, decision)
}

// decide records what a person decides on a bid, and shows it.
func (a *app) decide(cmd *cobra.Command, bidID, by string, decision review.Decision) error {
	if strings.TrimSpace(by) == "" {
		return usageError{errors.New("--by must not be empty: it is the record of who decided")}
	}
	return a.onBid(cmd, bidID, func(ctx context.Context, s *session, b queries.Bid) error {
		desk := s.desk()
		if s.DryRun {
			now, err := s.now(ctx)
			if err != nil {
				return err
			}
			if err := desk.Check(b, decision, now); err != nil {
				return forPerson(err)
			}
			fmt.Fprintf(a.stderr, "Dry run: bid %s would be %s.\n", b.ID, decision.What)
			return a.showBid(ctx, s, b.ID)
		}
		if _, err := desk.Decide(ctx, b.ID, nil, decision); err != nil {
			return forPerson(err)
		}
		return a.showBid(ctx, s, b.ID)
	})
}

// desk is where decisions are recorded.
func (s *session) desk() review.Desk {
	return review.Desk{Pool: s.pool, Limits: s.writeLimits(), Settle: func(marketplace string) time.Duration {
		return s.Marketplace(marketplace).Settle
	}}
}

// forPerson marks the errors of a decision that a person can do something about.
func forPerson(err error) error {
	_, notWaiting := errors.AsType[review.NotWaitingError](err)
	_, unsettled := errors.AsType[review.UnsettledError](err)
	switch {
	case errors.Is(err, review.ErrOtherBid):
		return personError{err.Error() + ": look for it with `bidder bids -o json`"}
	case notWaiting || unsettled:
		return personError{err.Error()}
	}
	return err
}

// onBid does something with the bid of an argument.
func (a *app) onBid(cmd *cobra.Command, bidID string, do func(ctx context.Context, s *session, b queries.Bid) error) error {
	id, err := parseBidID(bidID)
	if err != nil {
		return err
	}
	s, err := a.open(cmd)
	if err != nil {
		return err
	}
	defer s.close()
	b, err := s.bid(cmd.Context(), id)
	if err != nil {
		return err
	}
	return do(cmd.Context(), s, b)
}

// bid reads one bid.
func (s *session) bid(ctx context.Context, id uuid.UUID) (b queries.Bid, err error) {
	err = s.view(ctx, func(q *queries.Queries) error {
		b, err = q.GetBid(ctx, id)
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return b, noSuchBid(id)
	}
	if err != nil {
		return b, fmt.Errorf("read bid %s: %w", id, err)
	}
	return b, nil
}
