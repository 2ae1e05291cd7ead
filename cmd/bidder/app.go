package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/bidding"
	"github.com/arbitrageai/bidder/pkg/config"
	"github.com/arbitrageai/bidder/pkg/embedded"
	"github.com/arbitrageai/bidder/pkg/policy"
	"github.com/arbitrageai/bidder/pkg/posting"
	"github.com/arbitrageai/bidder/pkg/terminal"
)

// app is one call of the program and all it may look at.
type app struct {
	args           []string
	environ        []string
	stdin          io.Reader
	stdout, stderr io.Writer

	screen terminal.Screen  // stdout, for people
	line   *statusLine      // stderr, if it is a terminal that can show progress
	clock  func() time.Time // unless nil, in place of the machine's, for what is said to people

	logsText bool // unless the configuration says otherwise

	output  string // -o
	started bool   // a command's own code has run: later errors are not usage
}

// run runs the command line and returns the exit code.
func run(ctx context.Context, a *app) int {
	a.screen = terminal.NewScreen(a.stdout, a.environ)
	a.logsText = terminal.IsTerminal(a.stderr)
	if a.logsText && !slices.Contains(a.environ, "TERM=dumb") {
		a.line = &statusLine{w: a.stderr}
		a.stderr = a.line
	}
	out := &checkedWriter{w: a.stdout}
	a.stdout, a.screen.Writer = out, out
	root := a.root()
	root.SetArgs(a.args)
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	command, err := root.ExecuteContextC(ctx)
	if out.err != nil { // tables do not say when they could not be written
		a.started = true
		err = errors.Join(err, fmt.Errorf("print: %w", out.err))
	}
	if err != nil && !a.started {
		err = usageError{fmt.Errorf("%w\nRun `%s --help` to see how it is used", err, command.CommandPath())}
	}
	a.complain(err)
	return exitCode(err)
}

// complain says what went wrong, and what to do about it where the error cannot know.
func (a *app) complain(err error) {
	if err == nil || err.Error() == "" {
		return
	}
	said := ""
	for line := range strings.Lines(err.Error()) {
		line = strings.TrimSpace(line)
		if line != said { // each try to connect says the same
			fmt.Fprintln(a.stderr, "bidder:", terminal.Text(line))
		}
		said = line
	}
	switch {
	case exitCode(err) != codeDatabase:
	case db.Code(err) == db.CodeNoPrivilege:
		fmt.Fprintln(a.stderr, "bidder: this role may not do that: `bidder grants` prints what each role needs, to be run as the owner")
	case db.IsLost(err):
		fmt.Fprintln(a.stderr, "bidder: nothing is lost: run it again when the server answers; `bidder doctor` looks for the reason")
	}
}

// checkedWriter remembers the first error of what it writes to. Several goroutines may use it.
type checkedWriter struct {
	w   io.Writer
	mu  sync.Mutex
	err error
}

func (c *checkedWriter) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, err := c.w.Write(p)
	if c.err == nil {
		c.err = err
	}
	return n, err //nolint:wrapcheck // as the writer says it
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "bidder",
		Short: "Bid on each posting exactly once, from any number of pods",
		Long: `bidder claims postings of freelance marketplaces exactly once, however many
processes try at the same time. Postgres is the only coordinator.

Every setting is an environment variable, and many are flags too; flags win.
` + "`bidder config check`" + ` lists them all with their values and where those come from.

Reports fit the terminal, or the width that COLUMNS says; what is piped is not cut.
NO_COLOR forbids colours. Characters that cannot be seen are shown as <U+200B>.

Exit codes: 0 done, 1 internal error, 2 wrong usage or configuration,
3 done with something for a person (what manual marketplaces hand over and
approvals aside), 4 database not usable (run again later),
130 and 143 interrupted.`,
		Example: `  bidder migrate up
  bidder run --postings postings.ndjson
  bidder why upwork '~01abc'
  bidder --embedded run --postings examples/postings.ndjson --cached-at now`,
		Version:       programVersion(),
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetVersionTemplate("bidder {{.Version}}\n")
	flags := root.PersistentFlags()
	flags.String("config", "", "configuration file (YAML) [BIDDER_CONFIG]")
	flags.String("database-url", "", "Postgres URL or libpq keywords; prefer the variable, other users see flags [DATABASE_URL]")
	flags.String("embedded", "", "use a private Postgres in the state directory [BIDDER_EMBEDDED]")
	flags.String("state-dir", "", "directory of the private Postgres [BIDDER_STATE_DIR]")
	flags.String("dry-run", "", "say what would be done, and do nothing [BIDDER_DRY_RUN]")
	flags.String("log-level", "", "debug, info, warn or error [BIDDER_LOG_LEVEL]")
	flags.String("log-format", "", "text or json [BIDDER_LOG_FORMAT]")
	flags.Lookup("embedded").NoOptDefVal = "true"
	flags.Lookup("dry-run").NoOptDefVal = "true"
	flags.StringVarP(&a.output, "output", "o", "table", "what to print: table or json")
	_ = root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json"}, cobra.ShellCompDirectiveNoFileComp))
	root.SetHelpCommand(a.helpCommand())
	root.AddCommand(
		a.migrateCommand(), a.ingestCommand(), a.scanCommand(), a.runCommand(), a.bidCommand(), a.bidsCommand(), a.whyCommand(),
		a.withdrawCommand(), a.reviewCommand(), a.pauseCommand(), a.resumeCommand(), a.sandboxCommand(), a.bridgeCommand(), a.freelancerCommand(), a.consoleCommand(),
		a.keyCommand(), a.locksCommand(), a.statsCommand(), a.configCommand(), a.policyCommand(), a.doctorCommand(), a.benchCommand(), a.grantsCommand(), a.pruneCommand(), a.versionCommand(),
	)
	return root
}

// helpCommand is cobra's, but takes a command that does not exist for an error.
func (a *app) helpCommand() *cobra.Command {
	return &cobra.Command{
		Use: "help [COMMAND]", Short: "Help about any command",
		Example: "  bidder help bids show",
		RunE: func(cmd *cobra.Command, args []string) error {
			found, rest, err := cmd.Root().Find(args)
			if err != nil {
				return err //nolint:wrapcheck // as for the command itself
			}
			if len(rest) > 0 {
				return fmt.Errorf("unknown command %q for %q", rest[0], found.CommandPath())
			}
			a.started = true
			found.InitDefaultHelpFlag()
			return found.Help()
		},
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			var names []string
			if found, _, err := cmd.Root().Find(args); err == nil {
				for _, child := range found.Commands() {
					if child.IsAvailableCommand() {
						names = append(names, child.Name()+"\t"+child.Short)
					}
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
	}
}

// settings adds flags for settings that matter to one command.
func settings(cmd *cobra.Command, flags ...string) {
	meanings := map[string]string{}
	for _, s := range variables() {
		meanings[config.FlagName(s.Name)] = fmt.Sprintf("%s [%s] (default %s)", s.Meaning, s.Name, s.Value)
	}
	for _, name := range flags {
		cmd.Flags().String(name, "", meanings["--"+name])
	}
}

// variables are all settings that are no keys of the file, with their defaults.
var variables = sync.OnceValue(func() []config.Setting { //nolint:gochecknoglobals // a constant
	defaults, _ := config.Load(config.Source{})
	return slices.DeleteFunc(defaults.Settings(), func(s config.Setting) bool { return s.Name != strings.ToUpper(s.Name) })
})

// action wraps a command's code: what fails before it is wrong usage.
func (a *app) action(outputs []string, do func(cmd *cobra.Command, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		if !slices.Contains(outputs, a.output) {
			return fmt.Errorf("--output %q is not one of %s", a.output, strings.Join(outputs, ", "))
		}
		if err := refuseEmpty(cmd.Flags()); err != nil {
			return err
		}
		a.started = true
		return interrupted(cmd.Context(), do(cmd, args))
	}
}

// refuseEmpty refuses options that are given with nothing, as a variable does that a crontab or
// script has not set: an amount, a file or a filter that was meant must not silently be none.
// Settings have an empty value of their own, and a listing begins after nothing.
func refuseEmpty(flags *pflag.FlagSet) error {
	var empty []string
	flags.Visit(func(f *pflag.Flag) {
		name := "--" + f.Name
		values, isList := f.Value.(pflag.SliceValue)
		isEmpty := f.Value.String() == "" || isList && len(values.GetSlice()) == 0
		isSetting := func(s config.Setting) bool { return config.FlagName(s.Name) == name }
		if isEmpty && name != "--after" && !slices.ContainsFunc(variables(), isSetting) {
			empty = append(empty, name)
		}
	})
	if len(empty) > 0 {
		return fmt.Errorf("%s: nothing is given; leave it out, or give it a value", strings.Join(empty, ", "))
	}
	return nil
}

// Outputs of commands.
var tableOrJSON = []string{"table", "json"} //nolint:gochecknoglobals // a constant

// callsMarketplaces annotates the commands that call marketplaces and so need their secrets.
const callsMarketplaces = "calls marketplaces"

// calls is that annotation.
func calls() map[string]string { return map[string]string{callsMarketplaces: "yes"} }

// load reads the configuration that a command needs.
func (a *app) load(cmd *cobra.Command, needDatabase bool) (config.Config, error) {
	return a.loadFor(cmd, needDatabase, cmd.Annotations[callsMarketplaces] != "")
}

// loadFor reads the configuration, with the secrets of marketplaces if any is called.
func (a *app) loadFor(cmd *cobra.Command, needDatabase, calls bool) (config.Config, error) {
	home, _ := os.UserHomeDir()
	source := config.Source{
		Environ: a.environ, Flags: map[string]string{}, NeedDatabase: needDatabase, CallsNobody: !calls, UID: os.Getuid(), Home: home,
		Open: func(name string) (io.ReadCloser, error) { return os.Open(name) },
	}
	for _, s := range variables() {
		if f := cmd.Flags().Lookup(strings.TrimPrefix(config.FlagName(s.Name), "--")); f != nil && f.Changed {
			source.Flags[s.Name] = f.Value.String()
		}
	}
	return config.Load(source)
}

// logger logs to stderr: for people on a terminal, else as JSON.
func (a *app) logger(c config.Config) *slog.Logger {
	options := &slog.HandlerOptions{Level: c.LogLevel, ReplaceAttr: durationsInMS}
	if c.LogFormat == "json" || c.LogFormat == "" && !a.logsText {
		return slog.New(slog.NewJSONHandler(jsonWriter{a.stderr}, options))
	}
	options.ReplaceAttr = forPeople
	return slog.New(slog.NewTextHandler(a.stderr, options))
}

// forPeople is durationsInMS for a terminal, where text from outside must do no harm.
func forPeople(groups []string, attr slog.Attr) slog.Attr {
	attr = durationsInMS(groups, attr)
	err, isError := attr.Value.Any().(error)
	switch {
	case attr.Key == "job_id" || attr.Key == "external_bid_id":
		attr.Value = slog.StringValue(terminal.ID(attr.Value.String()).String())
	case isError:
		attr.Value = slog.StringValue(terminal.Text(err.Error()))
	case attr.Value.Kind() == slog.KindString:
		attr.Value = slog.StringValue(terminal.Text(attr.Value.String()))
	}
	return attr
}

// durationsInMS logs durations as whole milliseconds, and says so in their names.
func durationsInMS(_ []string, attr slog.Attr) slog.Attr {
	if attr.Value.Kind() == slog.KindDuration {
		return slog.Int64(attr.Key+"_ms", attr.Value.Duration().Milliseconds())
	}
	return attr
}

// session is a loaded configuration and a database to work with.
type session struct {
	config.Config
	log  *slog.Logger
	url  string
	pool *pgxpool.Pool
	end  []func()
}

// unsaid is the error of a command that needs one of its own to know what to do, with its help beside it.
func (a *app) unsaid(cmd *cobra.Command, words string) error {
	a.started = true
	cmd.SetOut(a.stderr)
	return errors.Join(usageError{errors.New("say what to do: " + words)}, cmd.Help())
}

// connect loads the configuration and connects to its database, whatever state that is in.
func (a *app) connect(cmd *cobra.Command) (*session, error) {
	c, err := a.load(cmd, true)
	if err != nil {
		return nil, err
	}
	return a.connectWith(cmd, c)
}

// connectWith connects to the database of a configuration.
func (a *app) connectWith(cmd *cobra.Command, c config.Config) (s *session, err error) {
	s = &session{Config: c, log: a.logger(c), url: c.DatabaseURL.Reveal()}
	if c.Embedded {
		server, err := embedded.Start(cmd.Context(), embedded.Options{StateDir: c.StateDir, Migrate: db.MigrateUp, Log: s.log})
		if err != nil {
			return nil, databaseError{err}
		}
		s.url = server.DSN()
		s.end = append(s.end, func() { s.stopEmbedded(cmd.Context(), server) })
	}
	s.pool, err = db.Connect(cmd.Context(), db.Options{
		URL: s.url, MaxConns: int32(c.MaxConns), Application: cmd.CommandPath(), //nolint:gosec // at most 1000
	})
	if err != nil {
		s.close()
		return nil, err
	}
	s.end = append(s.end, s.pool.Close)
	if asksRoots(s.pool.Config().ConnConfig) {
		trustRoots()
	}
	return s, nil
}

// open is connect to a database that is ready for work.
func (a *app) open(cmd *cobra.Command) (*session, error) {
	s, err := a.connect(cmd)
	if err != nil {
		return nil, err
	}
	if err := db.CheckSchema(cmd.Context(), s.pool); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *session) close() {
	for _, end := range slices.Backward(s.end) {
		end()
	}
}

// embeddedStopTimeout bounds the wait for the private server to shut down.
const embeddedStopTimeout = 20 * time.Second

func (s *session) stopEmbedded(ctx context.Context, server *embedded.Server) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), embeddedStopTimeout)
	defer cancel()
	if err := server.Stop(ctx); err != nil {
		s.log.Warn("the private Postgres is still shutting down", "error", err)
	}
}

// lockLimits are the limits of the claim.
func (s *session) lockLimits() bidding.Limits {
	return bidding.Limits{TTL: s.LockTTL, Statement: s.StatementTimeout, Wait: s.LockWait}
}

// writeLimits are the limits of transactions that hold no posting's lock.
func (s *session) writeLimits() db.Limits {
	return db.Limits{Statement: s.StatementTimeout, Lock: s.StatementTimeout, Idle: s.StatementTimeout, Life: s.LockTTL}
}

// view reads, in one snapshot and under the limits, which the server enforces.
func (s *session) view(ctx context.Context, read func(q *queries.Queries) error) error {
	return db.View(ctx, s.pool, s.writeLimits(), func(tx pgx.Tx) error {
		q := queries.New(tx)
		if err := q.PlanForValues(ctx); err != nil {
			return fmt.Errorf("have statements planned: %w", err)
		}
		return read(q)
	})
}

// rules are what claims check, from the configuration.
func (s *session) rules() bidding.Rules {
	named, unnamed := make(map[string]*config.Marketplace, len(s.Marketplaces)), s.Marketplace("")
	for name, m := range s.Marketplaces {
		named[name] = &m
	}
	of := func(marketplace string) *config.Marketplace { return cmp.Or(named[marketplace], &unnamed) }
	budget := bidding.Budget{
		MinCents: s.MinAmountCents, MaxCents: s.MaxAmountCents,
		Expressions: func(marketplace string) (*policy.Eligible, *policy.Amount) {
			m := of(marketplace)
			return m.Eligible, m.Amount
		},
		SwitchedOff:   func(marketplace string) bool { return of(marketplace).Handler == config.HandlerNone },
		NeedsApproval: func(marketplace string) bool { return of(marketplace).NeedsApproval() },
	}
	return bidding.Rules{
		PostingTTL: s.PostingTTL, RebidWindow: s.RebidWindow, Reads: s.Reads(),
		Policy: budget.Decide, Terms: budget.Terms,
		Caps: func(marketplace string) bidding.Caps { return bidding.Caps(of(marketplace).Caps) },
	}
}

// parseKey is posting.ParseKey for arguments.
func parseKey(marketplace, jobID string) (posting.Key, error) {
	key, err := posting.ParseKey(marketplace, jobID)
	if err != nil {
		return posting.Key{}, usageError{err}
	}
	return key, nil
}

// refuseDryRun is for commands that cannot simulate what they do.
func refuseDryRun(c config.Config, command string) error {
	if c.DryRun {
		return usageError{errors.New(command + " cannot be simulated: run it without --dry-run (BIDDER_DRY_RUN)")}
	}
	return nil
}

// now reads the database's clock.
func (s *session) now(ctx context.Context) (time.Time, error) {
	now, err := queries.New(s.pool).Now(ctx)
	if err != nil {
		return now, fmt.Errorf("read the database's clock: %w", err)
	}
	return now, nil
}
