package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/config"
	"github.com/arbitrageai/bidder/pkg/terminal"
)

// A check is one thing that doctor looked at.
type check struct {
	Name    string  `json:"name"`
	Level   string  `json:"level"`
	Message string  `json:"message"`
	Fix     *string `json:"fix"` // null where the level is ok
}

// The levels of checks. A note is worth knowing and may be meant; a warning is a risk; with
// an error something does not work, or is not safe.
const (
	levelOK      = "ok"
	levelNote    = "note"
	levelWarning = "warning"
	levelError   = "error"
)

type doctorReport struct {
	OK     bool    `json:"ok"` // no errors
	Checks []check `json:"checks"`
}

func (a *app) doctorCommand() *cobra.Command {
	return &cobra.Command{
		Use: "doctor", Annotations: calls(),
		Short: "Check the installation, and say how to mend it",
		Long: `Looks at the server, the schema, the rights, the limits, the queue, what is owed, and
the configuration, asks each marketplace for something that changes nothing there (where
calls are not paused; a token that has run out is renewed), and prints each finding with its
fix. The exit code is 3 when something is wrong, and 4 when the database cannot be
used at all.`,
		Example: `  bidder doctor
  bidder doctor -o json | jq '.checks[] | select(.level != "ok")'`,
		Args: noArgs,
		RunE: a.action(tableOrJSON, func(cmd *cobra.Command, _ []string) error { return a.doctor(cmd) }),
	}
}

func (a *app) doctor(cmd *cobra.Command) error {
	c, secrets, err := a.loadWithoutSecrets(cmd)
	if err != nil {
		return err
	}
	s, err := a.connectWith(cmd, c)
	if err != nil {
		return err
	}
	defer s.close()
	e := &examination{s: s, environ: a.environ}
	unusable := e.examine(cmd.Context(), secrets)
	var problem error
	if slices.ContainsFunc(e.checks, func(c check) bool { return c.Level == levelError }) {
		problem = personError{}
	}
	if unusable != nil {
		problem = unusable
	}
	report := doctorReport{OK: problem == nil, Checks: e.checks}
	if a.output == "json" {
		return errors.Join(printJSON(a.stdout, report), problem)
	}
	a.printChecks(e.checks)
	return problem
}

// loadWithoutSecrets reads the configuration. Where only secrets are missing that calls need,
// it returns what is left without them, and that problem.
func (a *app) loadWithoutSecrets(cmd *cobra.Command) (c config.Config, secrets, err error) {
	c, err = a.load(cmd, true)
	if _, wrong := errors.AsType[*config.Error](err); !wrong {
		return c, nil, err
	}
	c, lenient := a.loadFor(cmd, true, false)
	if lenient != nil {
		return c, nil, err
	}
	return c, err, nil
}

// printChecks prints each finding, with its fix below it.
func (a *app) printChecks(checks []check) {
	t := a.screen.Table(terminal.Column{Name: "level"}, terminal.Column{Name: "check"}, terminal.Column{Name: "finding", Min: 40, Wrap: true})
	counts := map[string]int{}
	for _, c := range checks {
		counts[c.Level]++
		t.Row(styled(c.Level), c.Name, c.Message)
		if c.Fix != nil {
			t.Row("", "", "to do: "+*c.Fix)
		}
	}
	t.Print()
	fmt.Fprintf(a.stdout, "\nerrors: %d, warnings: %d, notes: %d, ok: %d\n", counts[levelError], counts[levelWarning], counts[levelNote], counts[levelOK])
}

// examination collects the findings.
type examination struct {
	s       *session
	environ []string
	checks  []check
}

func (e *examination) report(name, level, message, fix string) {
	c := check{Name: name, Level: level, Message: message}
	if level != levelOK {
		c.Fix = &fix
	}
	e.checks = append(e.checks, c)
}

// expect reports message as ok, or as level with its fix.
func (e *examination) expect(name string, good bool, level, message, fix string) {
	if good {
		level = levelOK
	}
	e.report(name, level, message, fix)
}

// examine runs all checks. Its error is set when the database cannot be used.
func (e *examination) examine(ctx context.Context, secrets error) error {
	q := queries.New(e.s.pool)
	asked := time.Now()
	facts, err := q.ServerFacts(ctx)
	if err != nil {
		e.report("connection", levelError, err.Error(), connectionFix(err))
		return databaseError{fmt.Errorf("ask the server: %w", err)}
	}
	skew := facts.Now.Sub(asked.Add(time.Since(asked) / 2)) // give or take half of the round trip
	e.report("connection", levelOK, "PostgreSQL "+facts.Version+" as "+facts.Role, "")
	e.server(facts)
	e.encryption(e.s.pool.Config().ConnConfig)
	e.clock(facts, skew)
	e.pooler(ctx)
	e.installation()
	unusable := db.CheckSchema(ctx, e.s.pool)
	if unusable != nil {
		e.report("schema", levelError, unusable.Error(), schemaFix(unusable, facts))
		e.capacity(facts, queries.PeakRunsRow{})
		return unusable
	}
	e.report("schema", levelOK, fmt.Sprintf("version %d, in %s", db.LatestVersion(), facts.Schema), "")
	missing, err := e.rights(ctx, q, facts)
	if err != nil {
		return e.cut(err)
	}
	if slices.ContainsFunc(missing, func(m queries.MissingRightsRow) bool { return m.Privilege == "SELECT" && m.Object != "tokens" }) {
		e.capacity(facts, queries.PeakRunsRow{})
		return nil // nothing more can be looked at; a reader sees all but tokens
	}
	for _, look := range []func(context.Context, *queries.Queries) error{
		func(ctx context.Context, q *queries.Queries) error { return e.runs(ctx, q, facts) },
		e.upkeep, e.caps, e.queue, e.owed, e.paused,
	} {
		if err := look(ctx, q); err != nil {
			return e.cut(err)
		}
	}
	e.marketplaces(ctx, secrets)
	return nil
}

// cut reports that the database did not answer a check, and so none after it either.
func (e *examination) cut(err error) error {
	e.report("database", levelError, err.Error(), "mend that, and run doctor again: the checks after this one are missing")
	return err
}
