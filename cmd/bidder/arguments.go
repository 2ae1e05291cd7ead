package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// noArgs is for commands without arguments.
func noArgs(cmd *cobra.Command, args []string) error {
	switch {
	case len(args) == 0:
		return nil
	case !cmd.HasAvailableSubCommands():
		return fmt.Errorf("`%s` takes no arguments, and got %q", cmd.CommandPath(), strings.Join(args, " "))
	}
	err := fmt.Errorf("there is no %q in `%s`", args[0], cmd.CommandPath())
	if cmd.SuggestionsMinimumDistance == 0 {
		cmd.SuggestionsMinimumDistance = 2
	}
	if similar := cmd.SuggestionsFor(args[0]); len(similar) > 0 {
		err = fmt.Errorf("%w: did you mean %s?", err, strings.Join(similar, " or "))
	}
	return err
}

// exactArgs is for commands that take the arguments that their usage line names.
func exactArgs(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != n {
			return fmt.Errorf("it got %d arguments, and is used like this: %s", len(args), cmd.UseLine())
		}
		return nil
	}
}

// more is the command that prints the next page of a listing.
func more(cmd *cobra.Command, next string) string {
	line := []string{cmd.CommandPath()}
	cmd.LocalNonPersistentFlags().VisitAll(func(flag *pflag.Flag) {
		if flag.Changed && flag.Name != "after" {
			line = append(line, "--"+flag.Name, flag.Value.String()) // statuses, names and numbers: nothing to be quoted
		}
	})
	return strings.Join(append(line, "--after", next), " ")
}
