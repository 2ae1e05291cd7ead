package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/pkg/terminal"
)

type migrateReport struct {
	Version uint   `json:"version"`
	Latest  uint   `json:"latest"`
	Dirty   bool   `json:"dirty"`
	Schema  string `json:"schema"`
}

func (a *app) migrateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Change the schema of the database",
		Long: `Brings the schema to the version that this program needs, or takes it back. Workers
never do that by themselves. The schema is the first of the connection's search_path.

Use an address that leads straight to the server, not through PgBouncer in
transaction mode: the lock that keeps two migrations apart belongs to a session.`,
		Example: `  bidder migrate up
  bidder migrate version -o json
  bidder migrate down --steps 1 --yes`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.unsaid(cmd, "up, down, version or force") },
	}
	cmd.AddCommand(a.migrateUpCommand(), a.migrateDownCommand(), a.migrateVersionCommand(), a.migrateForceCommand())
	return cmd
}

// migration runs one change of the schema, or only says what it would do, and prints
// where the schema is then.
func (a *app) migration(cmd *cobra.Command, change func(ctx context.Context, s *session, state db.SchemaState) error) error {
	s, err := a.connect(cmd)
	if err != nil {
		return err
	}
	defer s.close()
	state, err := db.ReadSchemaState(cmd.Context(), s.pool)
	if err != nil {
		return err
	}
	switch {
	case state.Replica:
		return db.ErrReplica
	case state.Schema == "":
		return usageError{errors.New("no schema of the search_path exists: create it first (CREATE SCHEMA …)")}
	}
	if err := change(cmd.Context(), s, state); err != nil {
		return err
	}
	if state, err = db.ReadSchemaState(cmd.Context(), s.pool); err != nil {
		return err
	}
	if a.output == "json" {
		return printJSON(a.stdout, migrateReport{state.Version, state.Latest, state.Dirty, state.Schema})
	}
	t := a.screen.Table(terminal.Columns("schema", "version", "this program needs", "state")...)
	t.Row(state.Schema, state.Version, state.Latest, schemaStatus(state))
	t.Print()
	return nil
}

func schemaStatus(state db.SchemaState) string {
	switch {
	case state.Dirty:
		return "dirty"
	case state.Version < state.Latest:
		return "to be migrated: bidder migrate up"
	case state.Version > state.Latest:
		return "newer than this program"
	}
	return "up to date"
}

func (a *app) migrateUpCommand() *cobra.Command {
	return &cobra.Command{
		Use: "up", Short: "Bring the schema to the version that this program needs",
		Example: "  bidder migrate up\n  bidder migrate up --dry-run",
		Args:    noArgs,
		RunE: a.action(tableOrJSON, func(cmd *cobra.Command, _ []string) error {
			return a.migration(cmd, func(ctx context.Context, s *session, state db.SchemaState) error {
				if state.Version > state.Latest {
					return fmt.Errorf("%w (it is at version %d, this program knows %d)", db.ErrNewerSchema, state.Version, state.Latest)
				}
				if s.DryRun {
					fmt.Fprintf(a.stderr, "Dry run: the schema would go from version %d to %d.\n", state.Version, state.Latest)
					return nil
				}
				return a.explainDirt(db.MigrateUp(ctx, s.url), state)
			})
		}),
	}
}

func (a *app) migrateDownCommand() *cobra.Command {
	var steps int
	var yes bool
	cmd := &cobra.Command{
		Use: "down", Short: "Take migrations back, with the data of their tables",
		Example: "  bidder migrate down --steps 1 --yes",
		Args:    noArgs,
		RunE: a.action(tableOrJSON, func(cmd *cobra.Command, _ []string) error {
			if steps < 1 {
				return usageError{fmt.Errorf("--steps %d: take back at least one", steps)}
			}
			return a.migration(cmd, func(ctx context.Context, s *session, state db.SchemaState) error {
				if s.DryRun {
					fmt.Fprintf(a.stderr, "Dry run: %d migrations would be taken back from version %d.\n", steps, state.Version)
					return nil
				}
				if !yes {
					return usageError{errors.New("this deletes the data of the tables it takes back: add --yes")}
				}
				return a.explainDirt(db.MigrateDown(ctx, s.url, steps), state)
			})
		}),
	}
	cmd.Flags().IntVar(&steps, "steps", 1, "how many migrations to take back")
	cmd.Flags().BoolVar(&yes, "yes", false, "yes, delete the data")
	return cmd
}

func (a *app) migrateVersionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Say where the schema is and what to do about it",
		Example: "  bidder migrate version -o json",
		Args:    noArgs,
		RunE: a.action(tableOrJSON, func(cmd *cobra.Command, _ []string) error {
			return a.migration(cmd, func(_ context.Context, _ *session, state db.SchemaState) error {
				if state.Dirty {
					a.sayDirt(state.Version)
				}
				return nil
			})
		}),
	}
}

func (a *app) migrateForceCommand() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use: "force VERSION", Short: "Record a version as clean, after a migration was cut off",
		Long: `Records that the schema is at VERSION and clean, without running anything. It is for
migrations whose process or connection ended before Postgres answered: one that Postgres
refuses leaves the version before it, clean. ` + "`bidder migrate version`" + ` says how to
find out which is right.`,
		Example: "  bidder migrate force 2 --yes",
		Args:    exactArgs(1),
		RunE: a.action(tableOrJSON, func(cmd *cobra.Command, args []string) error {
			version, err := strconv.Atoi(args[0])
			if err != nil || version < 0 {
				return usageError{fmt.Errorf("%q is not a version", args[0])}
			}
			if !yes {
				return usageError{errors.New("a wrong version breaks later migrations: look at `bidder migrate version`, then add --yes")}
			}
			return a.migration(cmd, func(ctx context.Context, s *session, _ db.SchemaState) error {
				if err := refuseDryRun(s.Config, "migrate force"); err != nil {
					return err
				}
				return db.MigrateForce(ctx, s.url, uint(version))
			})
		}),
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "yes, this is the version")
	return cmd
}

// explainDirt says what a dirty version means, where a migration was refused for it.
func (a *app) explainDirt(err error, before db.SchemaState) error {
	if err != nil && before.Dirty {
		a.sayDirt(before.Version)
	}
	return err
}

func (a *app) sayDirt(version uint) {
	fmt.Fprintf(a.stderr, "A migration to version %d is running, or its process or connection ended before Postgres answered. It is running while\n"+
		"  SELECT FROM pg_stat_activity WHERE application_name = 'bidder migrate'\n"+
		"finds anything: then wait. Else its file was applied as a whole or not at all, so look at what db/migrations/%06[1]d_*.sql does:\n"+
		"  what it makes is there, and nothing of what later ones make: `bidder migrate force %[1]d --yes`\n"+
		"  what it makes is not there:                                  `bidder migrate force %[2]d --yes`\n"+
		"  also what the next one makes is there (it was a way down):   `bidder migrate force %[3]d --yes`\n"+
		"and go on with `bidder migrate up`.\n", version, max(version, 1)-1, version+1)
}
