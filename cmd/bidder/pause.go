package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/terminal"
)

// everything is the marketplace name that stands for all of them.
const everything = "*"

type pausedJSON struct {
	Marketplace string     `json:"marketplace"`
	Account     string     `json:"account"`
	Since       time.Time  `json:"since"`
	Until       *time.Time `json:"until"`
	Reason      string     `json:"reason"`
	By          string     `json:"by"`
}

func (a *app) pauseCommand() *cobra.Command {
	var reason, by string
	cmd := &cobra.Command{
		Use:   "pause [MARKETPLACE]",
		Short: "Stop all calls of all pods, to one marketplace or to all",
		Long: `From the next call on no pod calls the marketplace (or any), until ` + "`bidder resume`" + `.
Claims go on; what bids owe stays owed.`,
		Example: `  bidder pause upwork --reason "their status page is red"
  bidder pause`,
		Args: cobra.MaximumNArgs(1),
		RunE: a.action(tableOrJSON, func(cmd *cobra.Command, args []string) error {
			return a.changePause(cmd, args, "paused", func(s *session, name string) error {
				// Not by itself: what has been said to be paused must survive a crash of the server.
				err := db.InTx(cmd.Context(), s.pool, s.writeLimits(), func(tx *db.Tx) error {
					return queries.New(tx).PauseAccount(cmd.Context(), queries.PauseAccountParams{
						Marketplace: name, Account: everything, Reason: reason, PausedBy: by,
					})
				})
				if err == nil {
					a.doubt(cmd.Context(), s, name)
				}
				return err
			})
		}),
	}
	cmd.Flags().StringVar(&reason, "reason", "by hand", "why, for those who find it paused")
	cmd.Flags().StringVar(&by, "by", operator(), "who pauses")
	return cmd
}

func (a *app) resumeCommand() *cobra.Command {
	var by string
	cmd := &cobra.Command{
		Use:   "resume [MARKETPLACE]",
		Short: "Start calls again that were paused, by hand or by a marketplace's answer",
		Long: `Lifts the pauses of a marketplace, or all pauses there are. A pause of everything stays
when one marketplace is resumed; '*' ends it alone, and leaves those of marketplaces.`,
		Example: `  bidder resume upwork
  bidder resume '*'
  bidder resume`,
		Args: cobra.MaximumNArgs(1),
		RunE: a.action(tableOrJSON, func(cmd *cobra.Command, args []string) error {
			return a.changePause(cmd, args, "resumed", func(s *session, name string) error {
				return a.resumeAccounts(cmd.Context(), s, name, by, len(args) == 0)
			})
		}),
	}
	cmd.Flags().StringVar(&by, "by", operator(), "who resumes")
	return cmd
}

// orAll is a marketplace or an account for people.
func orAll(name string) string {
	if name == everything {
		return "all"
	}
	return name
}

// doubt tells of a name that may be mistaken. It is no error: a pause may come first, and its marketplace be hard to
// find among millions of bids.
func (a *app) doubt(ctx context.Context, s *session, name string) {
	if _, named := s.Marketplaces[name]; named || name == everything {
		return
	}
	var bids []queries.Bid
	err := s.view(ctx, func(q *queries.Queries) (err error) {
		bids, err = q.ListBids(ctx, queries.ListBidsParams{Marketplace: &name, Page: 1})
		return err
	})
	if err == nil && len(bids) == 0 {
		fmt.Fprintf(a.stderr, "Note: %s is not in the configuration, and no bid is on it: is the name right?\n", name)
	}
}

// resumeAccounts lifts the pauses of name, or all there are, and says which they were.
func (a *app) resumeAccounts(ctx context.Context, s *session, name, by string, all bool) error {
	var before []queries.PausedAccountsRow
	err := db.InTx(ctx, s.pool, s.writeLimits(), func(tx *db.Tx) (err error) {
		q := queries.New(tx)
		if before, err = q.PausedAccounts(ctx); err != nil {
			return fmt.Errorf("list what is paused: %w", err)
		}
		_, err = q.ResumeAccounts(ctx, by, name, all)
		return err
	})
	if err != nil {
		return err
	}
	lifted := 0
	for _, p := range before {
		if all || p.Marketplace == name {
			lifted++
			fmt.Fprintf(a.stderr, "Resumed %s, account %s: paused %s by %s (%s).\n", orAll(p.Marketplace), orAll(p.Account), a.moment(p.PausedAt),
				terminal.Text(p.PausedBy), terminal.Text(p.Reason))
		}
	}
	switch {
	case lifted > 0:
	case all:
		fmt.Fprintln(a.stderr, "Nothing was paused.")
	case name == everything:
		fmt.Fprintln(a.stderr, "There was no pause of everything.")
	default:
		fmt.Fprintf(a.stderr, "%s was not paused.\n", name)
	}
	return nil
}

// changePause changes the pause of one marketplace or of all, and shows what is paused then.
func (a *app) changePause(cmd *cobra.Command, args []string, what string, change func(s *session, name string) error) error {
	name := everything
	if len(args) > 0 && args[0] != everything {
		key, err := parseKey(args[0], "-")
		if err != nil {
			return err
		}
		name = key.Marketplace
	}
	s, err := a.open(cmd)
	if err != nil {
		return err
	}
	defer s.close()
	if s.DryRun {
		fmt.Fprintf(a.stderr, "Dry run: %s would be %s.\n", name, what)
	} else if err := change(s, name); err != nil {
		return fmt.Errorf("have %s %s: %w", name, what, err)
	}
	var paused []queries.PausedAccountsRow
	err = s.view(cmd.Context(), func(q *queries.Queries) (err error) {
		paused, err = q.PausedAccounts(cmd.Context())
		return err
	})
	if err != nil {
		return fmt.Errorf("list what is paused: %w", err)
	}
	items := list[pausedJSON]{Items: []pausedJSON{}}
	for _, p := range paused {
		items.Items = append(items.Items, pausedJSON{p.Marketplace, p.Account, p.PausedAt, p.PausedUntil, p.Reason, p.PausedBy})
	}
	if a.output == "json" {
		return printJSON(a.stdout, items)
	}
	if len(items.Items) == 0 {
		fmt.Fprintln(a.stdout, "Nothing is paused.")
		return nil
	}
	t := a.screen.Table(
		terminal.Column{Name: "marketplace"}, terminal.Column{Name: "account"}, terminal.Column{Name: "since"}, terminal.Column{Name: "until"},
		terminal.Column{Name: "by", Min: 8, Wrap: true}, terminal.Column{Name: "reason", Min: 24, Wrap: true},
	)
	for _, p := range items.Items {
		t.Row(orAll(p.Marketplace), orAll(p.Account), a.ago(p.Since), orDash(p.Until, a.ago), p.By, p.Reason)
	}
	t.Print()
	return nil
}
