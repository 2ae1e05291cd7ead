package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/arbitrageai/bidder/db"
)

func (a *app) grantsCommand() *cobra.Command {
	var roles db.Roles
	cmd := &cobra.Command{
		Use:   "grants",
		Short: "Print the rights that a worker and a reader need, and no more",
		Long: `Prints the SQL that gives two existing roles their rights: a worker, which can bid but
neither change the schema nor delete bids or history, and a reader, which can only look.
With --pruner also those of a role for ` + "`bidder prune`" + `, which deletes old history and can
neither bid nor touch what is live. Run it as the owner of the schema, after each ` + "`bidder migrate up`" + `.`,
		Example: `  bidder grants | psql "$OWNER_URL"
  bidder grants --worker bidder_worker --reader grafana --schema bidding
  bidder grants --pruner bidder_pruner | psql "$OWNER_URL"`,
		Args: cobra.NoArgs,
		RunE: a.action([]string{"table", "json"}, func(*cobra.Command, []string) error {
			statements := roles.Grants()
			if a.output == "json" {
				return printJSON(a.stdout, struct {
					SQL string `json:"sql"`
				}{statements})
			}
			if _, err := fmt.Fprint(a.stdout, statements); err != nil {
				return fmt.Errorf("print: %w", err)
			}
			return nil
		}),
	}
	cmd.Flags().StringVar(&roles.Worker, "worker", "bidder_worker", "role of the pods")
	cmd.Flags().StringVar(&roles.Reader, "reader", "bidder_reader", "role of dashboards and people who look")
	cmd.Flags().StringVar(&roles.Pruner, "pruner", "", "role that prunes (default none)")
	cmd.Flags().StringVar(&roles.Schema, "schema", "public", "schema of the tables")
	return cmd
}
