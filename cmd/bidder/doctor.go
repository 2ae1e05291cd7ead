package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/terminal"
)

// A check is one thing that doctor looked at.
type check struct {
	Name    string  `json:"name"`
	Level   string  `json:"level"`
	Message string  `json:"message"`
	Fix     *string `json:"fix"`
}

// The levels of checks.
const (
	levelOK      = "ok"
	levelWarning = "warning"
	levelError   = "error"
)

type doctorReport struct {
	OK     bool    `json:"ok"`
	Checks []check `json:"checks"`
}

func (a *app) doctorCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Check the installation, and say how to mend it",
		Long: `Looks at the server, the schema, the rights, the limits and the queue, and prints each
finding with its fix. The exit code is 3 when something is wrong, and 4 when the
database cannot be used at all.`,
		Example: `  bidder doctor
  bidder doctor -o json | jq '.checks[] | select(.level != "ok")'`,
		Args: cobra.NoArgs,
		RunE: a.action(tableOrJSON, func(cmd *cobra.Command, _ []string) error { return a.doctor(cmd) }),
	}
}

func (a *app) doctor(cmd *cobra.Command) error {
	s, err := a.connect(cmd)
	if err != nil {
		return err
	}
	defer s.close()
	checks, unusable := s.examine(cmd.Context(), a.environ)
	report := doctorReport{OK: true, Checks: checks}
	var problem error
	for _, c := range checks {
		if c.Level == levelError {
			report.OK, problem = false, personError{}
		}
	}
	if unusable != nil {
		problem = unusable
	}
	if a.output == "json" {
		return errors.Join(printJSON(a.stdout, report), problem)
	}
	a.printChecks(checks)
	return problem
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
	fmt.Fprintf(a.stdout, "\nerrors: %d, warnings: %d, ok: %d\n", counts[levelError], counts[levelWarning], counts[levelOK])
}

// examination collects the findings.
type examination struct {
	s      *session
	checks []check
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
func (s *session) examine(ctx context.Context, environ []string) ([]check, error) {
	e := &examination{s: s}
	q := queries.New(s.pool)
	facts, err := q.ServerFacts(ctx)
	if err != nil {
		e.report("connection", levelError, err.Error(), "check DATABASE_URL, the network and the server's log")
		return e.checks, databaseError{fmt.Errorf("ask the server: %w", err)}
	}
	e.report("connection", levelOK, "PostgreSQL "+facts.Version+" as "+facts.Role, "")
	e.server(facts)
	e.capacity(facts)
	inPod := slices.ContainsFunc(environ, func(v string) bool { return strings.HasPrefix(v, "KUBERNETES_SERVICE_HOST=") })
	e.expect("embedded", !s.Embedded || !inPod, levelError, fmt.Sprintf("embedded: %t, in a pod: %t", s.Embedded, inPod),
		"give all pods one DATABASE_URL: private servers do not coordinate with each other")
	unusable := db.CheckSchema(ctx, s.pool)
	if unusable != nil {
		e.report("schema", levelError, unusable.Error(), "bidder migrate up")
		return e.checks, unusable
	}
	e.report("schema", levelOK, "migrated, in "+facts.Schema, "")
	if err := e.schema(ctx, q, facts); err != nil {
		return e.checks, err
	}
	if err := e.caps(ctx, q); err != nil {
		return e.checks, err
	}
	return e.checks, e.queue(ctx, q)
}

// oldestServer is the oldest major version that the program is tested on.
const oldestServer = 150000

func (e *examination) server(facts queries.ServerFactsRow) {
	e.expect("version", facts.VersionNum >= oldestServer, levelError, "server "+facts.Version, "use PostgreSQL 15 or newer")
	e.expect("primary", !facts.InRecovery && !facts.ReadOnly, levelError,
		fmt.Sprintf("in recovery: %t, read-only: %t", facts.InRecovery, facts.ReadOnly),
		"connect to the primary: add target_session_attrs=read-write to DATABASE_URL")
	e.expect("encoding", facts.Encoding == "UTF8", levelError, facts.Encoding, "create the database with ENCODING 'UTF8'")
	e.expect("fsync", facts.Fsync, levelError, fmt.Sprintf("fsync: %t", facts.Fsync), "set fsync = on: a crash can lose claimed bids")
	e.expect("full_page_writes", facts.FullPageWrites, levelWarning, fmt.Sprintf("full_page_writes: %t", facts.FullPageWrites),
		"set full_page_writes = on unless the storage writes pages atomically")
	e.expect("synchronous_commit", facts.SynchronousCommit != "off", levelWarning, "synchronous_commit: "+facts.SynchronousCommit,
		"claims turn it on for themselves; set it to on for everything else")
	e.expect("isolation", facts.Isolation == "read committed", levelWarning, "default: "+facts.Isolation,
		"claims say READ COMMITTED themselves; set default_transaction_isolation back for everything else")
	skew := time.Until(facts.Now)
	e.expect("clock", skew.Abs() < 5*time.Second, levelWarning, fmt.Sprintf("this machine and the server differ by %s", skew.Abs().Round(time.Second)),
		"synchronise the clocks: the server's decides, but scanners stamp cached_at with their own")
	e.expect("role", !facts.Superuser || e.s.Embedded, levelWarning, facts.Role+" is a superuser",
		"use a role of its own with the rights that `bidder grants` prints")
}

func (e *examination) capacity(facts queries.ServerFactsRow) {
	// The shared lock table has this many slots; each posting of a batch takes one.
	slots := int(facts.MaxLocksPerTransaction) * int(facts.MaxConnections+facts.MaxPreparedTransactions)
	perPod := e.s.Batch * e.s.Workers
	pods := slots / 2 / perPod // half of the table is left to everything else
	e.expect("lock slots", pods >= 1, levelWarning,
		fmt.Sprintf("%d slots; %d postings at once per pod (batch %d x workers %d): room for %d pods", slots, perPod, e.s.Batch, e.s.Workers, pods),
		fmt.Sprintf("lower BIDDER_BATCH to %d, or raise max_locks_per_transaction", max(slots/2/e.s.Workers, 1)))
	free := int(facts.MaxConnections - facts.ReservedConnections - facts.Connections)
	e.expect("connections", free >= e.s.MaxConns, levelWarning,
		fmt.Sprintf("%d of %d are free; this process uses up to %d", free, facts.MaxConnections, e.s.MaxConns),
		"lower BIDDER_MAX_CONNS or the number of pods, raise max_connections, or put PgBouncer in between")
}

func (e *examination) schema(ctx context.Context, q *queries.Queries, facts queries.ServerFactsRow) error {
	valid, err := q.LiveIndexIsValid(ctx)
	if err != nil {
		return fmt.Errorf("look at the unique index: %w", err)
	}
	e.expect("unique index", valid, levelError, fmt.Sprintf("bids_one_active_per_posting is valid: %t", valid),
		"it is what makes a second live bid impossible: stop all pods and create it again")
	missing, err := q.MissingRights(ctx)
	if err != nil {
		return fmt.Errorf("look at the rights: %w", err)
	}
	rights := make([]string, len(missing))
	for i, m := range missing {
		rights[i] = m.Privilege + " on " + m.Object
	}
	message := "all that a worker needs"
	if len(rights) > 0 {
		message = facts.Role + " lacks " + strings.Join(rights, ", ")
	}
	e.expect("rights", len(rights) == 0, levelError, message, "run what `bidder grants --worker "+facts.Role+"` prints, as the owner")
	return nil
}

// parkedShown is how many parked candidates are named.
const parkedShown = 5

func (e *examination) queue(ctx context.Context, q *queries.Queries) error {
	facts, err := q.QueueFacts(ctx)
	if err != nil {
		return fmt.Errorf("look at the queue: %w", err)
	}
	e.report("queue", levelOK, fmt.Sprintf("%d candidates are due", facts.Due), "")
	parked, err := q.ParkedCandidates(ctx, parkedShown)
	if err != nil {
		return fmt.Errorf("list parked candidates: %w", err)
	}
	names := make([]string, len(parked))
	for i, p := range parked {
		names[i] = p.Marketplace + " " + p.JobID
	}
	e.expect("parked candidates", facts.Parked == 0, levelWarning,
		strings.TrimSpace(fmt.Sprintf("%d are parked after failing too often %s", facts.Parked, strings.Join(names, ", "))),
		"`bidder why MARKETPLACE JOB_ID` shows the error; newer content or `bidder run --reconsider` tries them again")
	message := "nothing is owed"
	if facts.Owed > 0 {
		message = fmt.Sprintf("%d bids owe a delivery, the oldest since %s", facts.Owed, exactTime(facts.OldestOwed))
	}
	e.report("owed deliveries", levelOK, message, "")
	e.report("for a person", levelOK, fmt.Sprintf("%d bids wait for a person: `bidder review list`", facts.ForPerson), "")
	paused, err := q.PausedAccounts(ctx)
	if err != nil {
		return fmt.Errorf("list what is paused: %w", err)
	}
	var pauses []string
	for _, p := range paused {
		pauses = append(pauses, p.Marketplace+" ("+p.Reason+")")
	}
	e.expect("paused", len(paused) == 0, levelWarning, strings.TrimSpace(fmt.Sprintf("%d accounts are paused %s", len(paused), strings.Join(pauses, ", "))),
		"`bidder resume MARKETPLACE` when the reason is gone")
	return nil
}
