package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/review"
	"github.com/arbitrageai/bidder/pkg/terminal"
)

// statuses are all that a bid can have.
var statuses = []string{"ACTIVE", "WITHDRAWN", "DUPLICATE", "REJECTED", "WON", "LOST"} //nolint:gochecknoglobals // a constant

func (a *app) bidsCommand() *cobra.Command {
	var status, marketplace, after string
	var limit int
	cmd := &cobra.Command{
		Use:   "bids",
		Short: "List bids, show one, or record how one ended",
		Example: `  bidder bids --status ACTIVE --marketplace upwork
  bidder bids -o json --limit 500
  bidder bids show 0192f3a4-7c1e-7b32-9d55-1f0e6a2b8c41
  bidder bids mark 0192f3a4-7c1e-7b32-9d55-1f0e6a2b8c41 won --note "signed on Monday"`,
		Args: noArgs,
		RunE: a.action(tableOrJSON, func(cmd *cobra.Command, _ []string) error {
			return a.listBids(cmd, status, marketplace, after, limit)
		}),
	}
	cmd.Flags().StringVar(&status, "status", "", "only bids with this status: "+strings.Join(statuses, ", "))
	cmd.Flags().StringVar(&marketplace, "marketplace", "", "only bids on this marketplace")
	cmd.Flags().IntVar(&limit, "limit", 50, "how many to list, 1 to 1000")
	cmd.Flags().StringVar(&after, "after", "", "go on where an earlier listing ended (its \"next\")")
	_ = cmd.RegisterFlagCompletionFunc("status", cobra.FixedCompletions(statuses, cobra.ShellCompDirectiveNoFileComp))
	cmd.AddCommand(a.showBidCommand(), a.markBidCommand())
	return cmd
}

func (a *app) listBids(cmd *cobra.Command, status, marketplace, after string, limit int) error {
	params, err := listParams(status, marketplace, after, limit)
	if err != nil {
		return usageError{err}
	}
	s, err := a.open(cmd)
	if err != nil {
		return err
	}
	defer s.close()
	var bids []queries.Bid
	err = s.view(cmd.Context(), func(q *queries.Queries) (err error) {
		bids, err = q.ListBids(cmd.Context(), params)
		return err
	})
	if err != nil {
		return fmt.Errorf("list bids: %w", err)
	}
	page := list[bidJSON]{Items: []bidJSON{}}
	if len(bids) > limit { // one more was asked for, to know whether there is a next page
		bids = bids[:limit]
		page.Next = orNull(bids[limit-1].ID)
	}
	for _, b := range bids {
		page.Items = append(page.Items, newBidJSON(b))
	}
	if a.output == "json" {
		return printJSON(a.stdout, page)
	}
	if len(bids) == 0 {
		fmt.Fprintln(a.stdout, "No bids match.")
		return nil
	}
	t := a.screen.Table(
		terminal.Column{Name: "id"}, terminal.Column{Name: "status"}, terminal.Column{Name: "amount", Right: true}, terminal.Column{Name: "created"},
		terminal.Column{Name: "posting", Min: 34, Wrap: true}, terminal.Column{Name: "owes"},
	)
	for _, b := range bids {
		t.Row(b.ID, styled(b.Status), money(b.AmountCents, b.Currency), a.ago(b.CreatedAt), keyID(b.Marketplace, b.JobID), owes(b))
	}
	t.Print()
	if page.Next != nil {
		fmt.Fprintf(a.stdout, "\nMore: %s\n", more(cmd, *page.Next))
	}
	return nil
}

// owes is what a bid owes its marketplace, for people.
func owes(b queries.Bid) terminal.Styled {
	return terminal.Styled{Value: review.Owes(b), Style: styles[orDash(b.DeliveryState, plain)]}
}

func listParams(status, marketplace, after string, limit int) (queries.ListBidsParams, error) {
	params := queries.ListBidsParams{Page: int32(limit) + 1} //nolint:gosec // checked next
	if limit < 1 || limit > 1000 {
		return params, fmt.Errorf("--limit %d is not between 1 and 1000", limit)
	}
	if status != "" {
		status = strings.ToUpper(status)
		known := false
		for _, s := range statuses {
			known = known || s == status
		}
		if !known {
			return params, fmt.Errorf("--status %q is not one of %s", status, strings.Join(statuses, ", "))
		}
		params.Status = &status
	}
	if marketplace != "" {
		key, err := parseKey(marketplace, "-")
		if err != nil {
			return params, fmt.Errorf("--marketplace: %w", err)
		}
		params.Marketplace = &key.Marketplace
	}
	if after != "" {
		id, err := uuid.Parse(after)
		if err != nil {
			return params, fmt.Errorf("--after %q is not what a listing gave as its next", after)
		}
		params.BeforeID = &id
	}
	return params, nil
}

func (a *app) showBidCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "show BID_ID",
		Short:   "Show one bid with its history",
		Example: `  bidder bids show 0192f3a4-7c1e-7b32-9d55-1f0e6a2b8c41 -o json`,
		Args:    exactArgs(1),
		RunE: a.action(tableOrJSON, func(cmd *cobra.Command, args []string) error {
			id, err := parseBidID(args[0])
			if err != nil {
				return err
			}
			s, err := a.open(cmd)
			if err != nil {
				return err
			}
			defer s.close()
			return a.showBid(cmd.Context(), s, id)
		}),
	}
}

func parseBidID(text string) (uuid.UUID, error) {
	id, err := uuid.Parse(text)
	if err != nil {
		return uuid.Nil, usageError{fmt.Errorf("%q is not a bid id: `bidder bids` lists them", text)}
	}
	return id, nil
}

type bidWithHistory struct {
	bidJSON
	History []queries.BidEvent `json:"history"`
}

func (a *app) showBid(ctx context.Context, s *session, id uuid.UUID) error {
	b, err := s.bid(ctx, id)
	if err != nil {
		return err
	}
	var history []queries.BidEvent
	err = s.view(ctx, func(q *queries.Queries) (err error) {
		history, err = historyOf(ctx, q, id)
		return err
	})
	if err != nil {
		return err
	}
	if a.output == "json" {
		shown := bidWithHistory{bidJSON: newBidJSON(b), History: []queries.BidEvent{}}
		shown.History = append(shown.History, history...)
		return printJSON(a.stdout, shown)
	}
	a.printBidFields(b)
	a.printHistory(history)
	return nil
}

// historyOf reads what happened to a bid after it was claimed.
func historyOf(ctx context.Context, q *queries.Queries, id uuid.UUID) ([]queries.BidEvent, error) {
	history, err := q.BidHistory(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("read the history of bid %s: %w", id, err)
	}
	return history, nil
}

// printBidFields prints what a bid is, but for what it has not.
func (a *app) printBidFields(b queries.Bid) {
	t := a.screen.Fields()
	for _, field := range []struct {
		name  string
		value any
	}{
		{"id", b.ID},
		{"posting", keyID(b.Marketplace, b.JobID)},
		{"status", styled(b.Status)},
		{"amount", money(b.AmountCents, b.Currency)},
		{"period", orDash(b.PeriodDays, func(d int32) string { return fmt.Sprintf("%d days", d) })},
		{"proposal", orDash(b.Proposal, plain)},
		{"owes", owes(b)},
		{"for a person", orDash(b.ReviewReason, plain)},
		{"next attempt", orDash(b.NextAttemptAt, a.moment)},
		{"external id", terminal.ID(orDash(b.ExternalBidID, plain))},
		{"created", a.moment(b.CreatedAt)},
		{"submitted", orDash(b.SubmittedAt, a.moment)},
		{"seen there", orDash(b.SeenAt, a.moment)},
		{"posting seen", orDash(b.PostingCachedAt, a.moment)},
		{"withdrawn", orDash(b.WithdrawalTimestamp, a.moment)},
		{"reason", orDash(b.WithdrawnReason, plain)},
		{"duplicate of", orDash(b.DuplicateOf, uuid.UUID.String)},
		{"run", orDash(b.RunID, uuid.UUID.String)},
		{"last error", orDash(b.LastError, plain)},
	} {
		if field.value != "-" && field.value != terminal.ID("-") && field.value != (terminal.Styled{Value: "-"}) {
			t.Field(field.name, field.value)
		}
	}
	t.Print()
}

func noSuchBid(id uuid.UUID) error {
	return personError{fmt.Sprintf("there is no bid %s: `bidder bids` lists them", id)}
}

func (a *app) markBidCommand() *cobra.Command {
	var note, by string
	cmd := &cobra.Command{
		Use:   "mark BID_ID won|lost|rejected",
		Short: "Record how a bid ended",
		Long: `Records what became of a live bid: won, lost or rejected; of a withdrawn one only that
it was rejected. Nothing is sent to the marketplace, and nothing is owed any more.
Recording the same ending again changes nothing.`,
		Example: `  bidder bids mark 0192f3a4-7c1e-7b32-9d55-1f0e6a2b8c41 lost --note "client chose another"`,
		Args:    exactArgs(2),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) != 1 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return []string{"won", "lost", "rejected"}, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: a.action(tableOrJSON, func(cmd *cobra.Command, args []string) error {
			return a.markBid(cmd, args[0], args[1], note, by)
		}),
	}
	cmd.Flags().StringVar(&note, "note", "", "what to remember about it (required)")
	cmd.Flags().StringVar(&by, "by", operator(), "who records it")
	_ = cmd.MarkFlagRequired("note")
	settings(cmd, "statement-timeout")
	return cmd
}

// operator is the name of the user at the keyboard.
func operator() string {
	if u, err := user.Current(); err == nil && u.Username != "" {
		return u.Username
	}
	if host, err := os.Hostname(); err == nil && host != "" {
		return host
	}
	return "unknown"
}

func (a *app) markBid(cmd *cobra.Command, bidID, ending, note, by string) error {
	id, err := parseBidID(bidID)
	if err != nil {
		return err
	}
	to := strings.ToUpper(ending)
	if to != "WON" && to != "LOST" && to != "REJECTED" {
		return usageError{fmt.Errorf("%q is not an ending: say won, lost or rejected", ending)}
	}
	if strings.TrimSpace(note) == "" || strings.TrimSpace(by) == "" {
		return usageError{errors.New("--note and --by must not be empty: they are the record of who decided what")}
	}
	s, err := a.open(cmd)
	if err != nil {
		return err
	}
	defer s.close()
	if s.DryRun {
		return a.rehearseEnding(cmd.Context(), s, id, to)
	}
	detail, err := json.Marshal(map[string]string{"note": note})
	if err != nil {
		return fmt.Errorf("encode the note: %w", err)
	}
	err = db.InTx(cmd.Context(), s.pool, s.writeLimits(), func(tx *db.Tx) error {
		q := queries.New(tx)
		row, err := q.LockBid(cmd.Context(), id)
		if errors.Is(err, pgx.ErrNoRows) {
			return noSuchBid(id)
		}
		if err != nil {
			return fmt.Errorf("lock bid %s: %w", id, err)
		}
		if row.Status == to {
			return nil
		}
		b, err := q.GetBid(cmd.Context(), id)
		if err != nil {
			return fmt.Errorf("read bid %s: %w", id, err)
		}
		if err := s.refuseEnding(b, to, row.Now); err != nil {
			return err
		}
		_, err = q.EndBid(cmd.Context(), queries.EndBidParams{ID: id, FromStatus: row.Status, ToStatus: to, Actor: by, Detail: detail})
		if err != nil {
			return fmt.Errorf("record the end of bid %s: %w", id, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return a.showBid(cmd.Context(), s, id)
}

// rehearseEnding says what markBid would do.
func (a *app) rehearseEnding(ctx context.Context, s *session, id uuid.UUID, to string) error {
	b, err := s.bid(ctx, id)
	if err != nil {
		return err
	}
	now, err := s.now(ctx)
	if err != nil {
		return err
	}
	if err := s.refuseEnding(b, to, now); err != nil {
		return err
	}
	fmt.Fprintf(a.stderr, "Dry run: bid %s would go from %s to %s.\n", id, b.Status, to)
	return a.showBid(ctx, s, id)
}

// refuseEnding says why a bid cannot end so, now by the database's clock. What was sent moments ago
// may still take effect, so nobody can have seen yet that it was rejected.
func (s *session) refuseEnding(b queries.Bid, to string, now time.Time) error {
	switch {
	case b.Status == to:
		return nil
	case b.Status != "ACTIVE" && (b.Status != "WITHDRAWN" || to != "REJECTED"): // the database would refuse it as well
		return personError{fmt.Sprintf("bid %s is %s and cannot become %s", b.ID, b.Status, to)}
	case b.Status == "ACTIVE" && to == "REJECTED":
		return forPerson(s.desk().Settled(b, now))
	}
	return nil
}
