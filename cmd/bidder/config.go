package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/arbitrageai/bidder/pkg/config"
	"github.com/arbitrageai/bidder/pkg/terminal"
)

type settingJSON struct {
	Name    string        `json:"name"`
	Value   string        `json:"value"`
	From    config.Origin `json:"from"`
	Meaning string        `json:"meaning"`
}

func (a *app) configCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "config", Short: "Look at the configuration",
		Example: "  bidder config check",
		Args:    noArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { a.started = true; return cmd.Help() },
	}
	check := &cobra.Command{
		Use: "check", Annotations: calls(),
		Short: "Check the configuration and show what applies",
		Long: `Reads flags, environment and file as every command does, and prints each setting with
its value and where that comes from, or everything that is wrong. No database is
needed. Secrets are never shown.`,
		Example: `  bidder config check
  BIDDER_CONFIG=bidder.yaml bidder config check -o json`,
		Args: noArgs,
		RunE: a.action(tableOrJSON, func(cmd *cobra.Command, _ []string) error {
			c, err := a.load(cmd, false)
			if err != nil {
				return err
			}
			if a.output == "json" {
				page := list[settingJSON]{Items: []settingJSON{}}
				for _, s := range c.Settings() {
					page.Items = append(page.Items, settingJSON(s))
				}
				return printJSON(a.stdout, page)
			}
			t := a.screen.Table(
				terminal.Column{Name: "setting"}, terminal.Column{Name: "value", Min: 16, Wrap: true}, terminal.Column{Name: "from", Min: 12, Wrap: true},
				terminal.Column{Name: "meaning", Min: 24, Wrap: true},
			)
			for _, s := range c.Settings() {
				value := s.Value
				if value == "" {
					value = "-"
				}
				t.Row(s.Name, value, string(s.From), terminal.Styled{Value: s.Meaning, Style: terminal.Faint})
			}
			t.Print()
			if !c.DatabaseURL.IsSet() && !c.Embedded {
				fmt.Fprintln(a.stderr, "Note: DATABASE_URL is not set; every command that needs a database will say so.")
			}
			return nil
		}),
	}
	settings(check, "batch", "workers", "max-conns", "posting-ttl", "rebid-window", "lock-wait", "lock-ttl", "statement-timeout")
	cmd.AddCommand(check)
	return cmd
}
