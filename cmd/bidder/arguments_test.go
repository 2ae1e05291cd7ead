package main

import (
	"testing"

	"github.com/spf13/cobra"
)

// TestMore: the next page is one of the same listing.
func TestMore(t *testing.T) {
	t.Parallel()
	root, list := &cobra.Command{Use: "bidder"}, &cobra.Command{Use: "bids", RunE: func(*cobra.Command, []string) error { return nil }}
	root.AddCommand(list)
	root.PersistentFlags().String("database-url", "", "")
	list.Flags().String("status", "", "")
	list.Flags().Int("limit", 50, "")
	list.Flags().String("marketplace", "", "")
	list.Flags().String("after", "", "")
	root.SetArgs([]string{"bids", "--limit", "2", "--status", "ACTIVE", "--after", "1", "--database-url", "postgres://x:secret@host/db"})
	if err := root.Execute(); err != nil {
		t.Fatal(err)
	}
	if got, want := more(list, "2"), "bidder bids --limit 2 --status ACTIVE --after 2"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
