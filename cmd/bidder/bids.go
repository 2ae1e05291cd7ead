package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/review"
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
		Args: cobra.NoArgs,
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
	bids, err := queries.New(s.pool).ListBids(cmd.Context(), params)
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
	t := newTable(a.stdout, "id", "marketplace", "job", "status", "amount", "owes", "created")
	for _, b := range bids {
		t.AppendRow([]any{b.ID, b.Marketplace, printable(b.JobID, 32), b.Status, money(b.AmountCents, b.Currency), review.Owes(b), exactTime(b.CreatedAt)})
	}
	t.Render()
	if page.Next != nil {
		fmt.Fprintf(a.stdout, "\nMore: bidder bids --after %s\n", *page.Next)
	}
	return nil
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
		Args:    cobra.ExactArgs(1),
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
	q := queries.New(s.pool)
	b, err := s.bid(ctx, id)
	if err != nil {
		return err
	}
	history, err := q.BidHistory(ctx, id)
	if err != nil {
		return fmt.Errorf("read the history of bid %s: %w", id, err)
	}
	if a.output == "json" {
		shown := bidWithHistory{bidJSON: newBidJSON(b), History: []queries.BidEvent{}}
		shown.History = append(shown.History, history...)
		return printJSON(a.stdout, shown)
	}
	t := newTable(a.stdout)
	for _, row := range bidRows(b) {
		if row[1] != "-" {
			t.AppendRow([]any{row[0], row[1]})
		}
	}
	t.Render()
	if len(history) > 0 {
		fmt.Fprintln(a.stdout)
		h := newTable(a.stdout, "at", "actor", "from", "to", "detail")
		for _, e := range history {
			h.AppendRow([]any{exactTime(e.At), printable(e.Actor, 24), orDash(e.FromStatus, plain), orDash(e.ToStatus, plain), printable(string(e.Detail), 80)})
		}
		h.Render()
	}
	return nil
}

func plain(s string) string { return printable(s, 200) }

// bidRows are the fields of a bid, for people; what is absent is "-".
func bidRows(b queries.Bid) [][2]string {
	return [][2]string{
		{"id", b.ID.String()},
		{"posting", b.Marketplace + " " + printable(b.JobID, 80)},
		{"status", b.Status},
		{"amount", money(b.AmountCents, b.Currency)},
		{"period", orDash(b.PeriodDays, func(d int32) string { return fmt.Sprintf("%d days", d) })},
		{"proposal", orDash(b.Proposal, plain)},
		{"owes", review.Owes(b)},
		{"external id", orDash(b.ExternalBidID, plain)},
		{"created", exactTime(b.CreatedAt)},
		{"submitted", orDash(b.SubmittedAt, exactTime)},
		{"seen there", orDash(b.SeenAt, exactTime)},
		{"posting seen", orDash(b.PostingCachedAt, exactTime)},
		{"withdrawn", orDash(b.WithdrawalTimestamp, exactTime)},
		{"reason", orDash(b.WithdrawnReason, plain)},
		{"duplicate of", orDash(b.DuplicateOf, uuid.UUID.String)},
		{"run", orDash(b.RunID, uuid.UUID.String)},
		{"last error", orDash(b.LastError, plain)},
	}
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
		Args:    cobra.ExactArgs(2),
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
	err = db.InTx(cmd.Context(), s.pool, s.writeLimits(), func(tx pgx.Tx) error {
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
		if err := refuseEnding(id, row.Status, to); err != nil {
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
	if err := refuseEnding(id, b.Status, to); err != nil {
		return err
	}
	fmt.Fprintf(a.stderr, "Dry run: bid %s would go from %s to %s.\n", id, b.Status, to)
	return a.showBid(ctx, s, id)
}

// refuseEnding says why a bid cannot end so; the database would refuse it as well.
func refuseEnding(id uuid.UUID, from, to string) error {
	if from == "ACTIVE" || from == to || from == "WITHDRAWN" && to == "REJECTED" {
		return nil
	}
	return personError{fmt.Sprintf("bid %s is %s and cannot become %s", id, from, to)}
}
