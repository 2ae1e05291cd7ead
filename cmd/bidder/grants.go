package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/arbitrageai/bidder/db"
)

func (a *app) grantsCommand() *cobra.Command {
	var roles db.Roles
	var apply bool
	cmd := &cobra.Command{
		Use:   "grants",
		Short: "Print the rights that each role needs, and no more, or grant them",
		Long: `Prints the SQL that gives two existing roles their rights: a worker, which can bid but
neither change the schema nor delete bids or history, and a reader, which can only look.
With --pruner also those of a role for ` + "`bidder prune`" + `, which deletes old history and can
neither bid nor touch what is live. Run it as the owner of the schema, after each
` + "`bidder migrate up`" + `; --apply runs it, all or nothing.

With --owner it prints what the owner needs before the first migration, instead; whoever
administers the database runs that.`,
		Example: `  bidder grants --owner bidder_owner | psql "$ADMIN_URL"
  bidder grants | psql "$OWNER_URL"
  DATABASE_URL=$OWNER_URL bidder grants --apply --pruner bidder_pruner
  bidder grants --worker bidder_worker --reader grafana --schema bidding`,
		Args: noArgs,
		RunE: a.action(tableOrJSON, func(cmd *cobra.Command, _ []string) error {
			statements := roles.Grants()
			if roles.Owner != "" {
				statements = roles.OwnerGrants()
			}
			if apply {
				if err := a.applyGrants(cmd, roles); err != nil {
					return err
				}
			}
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
	cmd.Flags().StringVar(&roles.Owner, "owner", "", "print what this role needs to make the schema, instead")
	cmd.Flags().StringVar(&roles.Schema, "schema", "public", "schema of the tables")
	cmd.Flags().BoolVar(&apply, "apply", false, "grant them too, as the owner of the schema")
	cmd.MarkFlagsMutuallyExclusive("owner", "apply")
	return cmd
}

func (a *app) applyGrants(cmd *cobra.Command, roles db.Roles) error {
	s, err := a.open(cmd)
	if err != nil {
		return err
	}
	defer s.close()
	if s.DryRun {
		fmt.Fprintln(a.stderr, "Dry run: nothing is granted.")
		return nil
	}
	err = roles.Apply(cmd.Context(), s.url)
	if errors.Is(err, db.ErrNotGranted) {
		return usageError{fmt.Errorf("%w\nThe roles must exist, and DATABASE_URL has to be that of the owner of the schema", err)}
	}
	return err
}
