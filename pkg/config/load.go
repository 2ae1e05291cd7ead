package config

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"
)

// Load reads the configuration. The error is an [*Error] with everything that
// is wrong.
func Load(src Source) (Config, error) {
	l := loader{
		src: src,
		env: environment(src.Environ),
		cfg: Config{origins: map[string]Origin{}},
		bad: map[string]bool{},
	}
	l.readVariables()
	l.readFile()
	l.readSecrets()
	l.chooseDatabase()
	l.checkDatabase()
	l.resolveStateDir()
	l.checkTogether()
	l.checkMarketplaces()
	l.checkUnknown()
	if len(l.problems) > 0 {
		return Config{}, &Error{Problems: l.problems}
	}
	return l.cfg, nil
}

// A loader is one call of Load under way.
type loader struct {
	src      Source
	env      map[string]string
	cfg      Config
	problems []Problem
	// bad has the fields that could not be read; comparing them with others
	// would only repeat that.
	bad map[string]bool
	// secrets has the variables that the file names.
	secrets []string
}

// environment returns what os.Environ returned as a map.
func environment(environ []string) map[string]string {
	env := make(map[string]string, len(environ))
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		env[name] = value
	}
	return env
}

func (l *loader) report(where, message, hint string) {
	l.problems = append(l.problems, Problem{Where: where, Message: message, Hint: hint})
}

// set reads text into a field.
func (l *loader) set(f field, text string, from Origin, where string) {
	l.reportError(where, l.read(f, text, from))
}

// read is set that leaves the reporting to its caller.
func (l *loader) read(f field, text string, from Origin) error {
	l.cfg.origins[f.name] = from
	err := f.value.set(text)
	if err != nil {
		l.bad[f.name] = true
	}
	return err
}

// reportError reports the error of a field, if there is one.
func (l *loader) reportError(where string, err error) {
	if err == nil {
		return
	}
	problem, ok := errors.AsType[Problem](err)
	if !ok {
		problem.Message = err.Error()
	}
	l.report(where, problem.Message, problem.Hint)
}

// ok reports whether all the fields could be read.
func (l *loader) ok(names ...string) bool {
	return !slices.ContainsFunc(names, func(name string) bool { return l.bad[name] })
}

// where says where the user put a field: the place to look at.
func (l *loader) where(name string) string {
	switch from := l.cfg.origins[name]; from {
	case OriginFlag:
		return FlagName(name)
	case OriginEnvironment, OriginDefault, "":
		return name
	default:
		return string(from)
	}
}

// item names one value of a list, or the list where that is a single value.
func (l *loader) item(list string, i int) string {
	if _, several := l.cfg.origins[item(list, i)]; several {
		return item(list, i)
	}
	return list
}

func (l *loader) readVariables() {
	setDefaults(variables(&l.cfg))
	for _, f := range variables(&l.cfg) {
		// An empty variable is as good as none, except where a script that
		// lost the value on its way would bid for real.
		if text, given := l.env[f.name]; text != "" || given && f.name == dryRun {
			l.set(f, text, OriginEnvironment, f.name)
		}
		if text, given := l.src.Flags[f.name]; given {
			l.set(f, text, OriginFlag, FlagName(f.name))
		}
	}
}

// setDefaults gives the fields their fixed defaults.
func setDefaults(fields []field) {
	for _, f := range fields {
		if f.standard == "" {
			continue
		}
		if err := f.value.set(f.standard); err != nil {
			panic(fmt.Sprintf("default of %s: %v", f.name, err)) // a mistake in the table
		}
	}
}

// chooseDatabase settles which database is used where two are asked for: the
// one that a flag names. Between two of the same rank nobody can tell which was
// meant, and a guess could give each pod a database of its own.
func (l *loader) chooseDatabase() {
	c := &l.cfg
	if !c.Embedded || !c.DatabaseURL.IsSet() {
		return
	}
	switch flagged := c.origins[embedded] == OriginFlag; {
	case flagged == (c.origins[databaseURL] == OriginFlag):
		l.report(l.where(embedded), fmt.Sprintf("asks for a private Postgres, but %s is set too", l.where(databaseURL)),
			"keep one of the two")
	case flagged:
		c.DatabaseURL, c.origins[databaseURL] = Secret{}, "not used: "+Origin(FlagName(embedded))
	default:
		c.Embedded, c.origins[embedded] = false, "not used: "+Origin(FlagName(databaseURL))
	}
}

// checkDatabase finds a database that is missing or cannot be meant.
func (l *loader) checkDatabase() {
	c := &l.cfg
	if c.DatabaseURL.IsSet() {
		// The driver's error may quote a part of the password, wherever the
		// text does not have the form that was meant: say nothing of it.
		if _, err := pgxpool.ParseConfig(c.DatabaseURL.Reveal()); err != nil {
			l.report(l.where(databaseURL), "cannot be read as a Postgres connection string",
				"write postgres://USER:PASSWORD@HOST:5432/DATABASE, with special characters percent-encoded (@ is %40), "+
					"or host=HOST user=USER dbname=DATABASE; files that it names must be readable")
		}
	}
	if l.src.NeedDatabase && !c.Embedded && !c.DatabaseURL.IsSet() && l.ok(embedded) {
		l.report(databaseURL, "is not set", "set it to postgres://USER:PASSWORD@HOST:5432/DATABASE; to try bidder "+
			"without a server, use "+FlagName(embedded))
	}
}

// resolveStateDir finds the default of the state directory.
func (l *loader) resolveStateDir() {
	const own = "bidder"
	c := &l.cfg
	// The XDG specification wants a relative path ignored.
	base := l.env["XDG_STATE_HOME"]
	switch {
	case c.StateDir != "" || !l.ok(stateDir):
		return
	case filepath.IsAbs(base):
		c.StateDir, c.origins[stateDir] = filepath.Join(base, own), "XDG_STATE_HOME"
	case l.src.UID == 0:
		c.StateDir = filepath.Join("/var/lib", own)
	case filepath.IsAbs(l.src.Home):
		c.StateDir = filepath.Join(l.src.Home, ".local", "state", own)
	case c.Embedded:
		l.report(stateDir, "is not set, and there is no home directory to put the private Postgres in",
			"set it to a directory of your own")
	}
}

// checkTogether finds values that are right one by one, but not together.
func (l *loader) checkTogether() {
	c := &l.cfg
	if l.ok(retryBase, retryCap) && c.RetryBase > c.RetryCap {
		l.report(l.where(retryBase), fmt.Sprintf("%s is longer than the longest gap, %s of %s",
			FormatDuration(c.RetryBase), FormatDuration(c.RetryCap), retryCap), "lower the one or raise the other")
	}
	if c.ConsoleToken.IsSet() && l.ok(consoleToken, readonlyToken) && c.ConsoleToken.Equal(c.ConsoleReadonlyToken) {
		l.report(l.where(readonlyToken), "is the same as "+consoleToken, "a token for reading only must be another one")
	}
	if l.ok(minAmount, maxAmount) && c.MinAmountCents != nil && c.MaxAmountCents != nil &&
		*c.MinAmountCents > *c.MaxAmountCents {
		l.report(l.where(minAmount), "min_amount is more than max_amount", "no bid could be made: swap or correct them")
	}
}

// checkUnknown finds variables that look like bidder's and are not: a typo in
// one would otherwise change nothing, silently.
func (l *loader) checkUnknown() {
	fields := variables(&l.cfg)
	known, short := make([]string, len(fields)), make([]string, len(fields))
	for i, f := range fields {
		known[i], short[i] = f.name, strings.TrimPrefix(f.name, prefix)
	}
	for _, name := range slices.Sorted(maps.Keys(l.env)) {
		if !strings.HasPrefix(name, prefix) || isServiceLink(name) ||
			slices.Contains(known, name) || slices.Contains(l.secrets, name) {
			continue
		}
		hint := ""
		if i := slices.Index(short, nearest(strings.TrimPrefix(name, prefix), short)); i >= 0 {
			hint = "did you mean " + known[i] + "?"
		}
		l.report(name, "is not a variable of bidder", hint)
	}
	for _, name := range slices.Sorted(maps.Keys(l.src.Flags)) {
		if !slices.Contains(known, name) {
			l.report(FlagName(name), "is not a setting of bidder", "")
		}
	}
}
