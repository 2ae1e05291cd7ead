package e2e

import (
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/arbitrageai/bidder/db"
)

// TestWrongUsage: whatever is wrong before the work begins is exit code 2, and nothing is touched.
func TestWrongUsage(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.ingest(line("1"))
	unknownKey := file(t, "bidder.yaml", "default_handler: manual", "", "marketplace:", "  upwork: {}")
	wrongValues := file(t, "bidder.yaml", "default_handler: nobody", "marketplaces:", "  upwork:", "    handler: manual", "    priority: high")
	tests := []struct {
		name, args string
		env        []string
		says       []string
	}{
		{name: "unknown command", args: "bidd upwork 1", says: []string{`"bidd"`, "--help"}},
		{name: "unknown flag", args: "run --postigns x", says: []string{"--postigns", "--help"}},
		{name: "unknown flag of the wrong command", args: "stats --amount 5", says: []string{"--amount"}},
		{name: "missing argument", args: "bid upwork", says: []string{"bidder bid MARKETPLACE JOB_ID", "bidder bid --help"}},
		{name: "too many arguments", args: "run x", says: []string{`"x"`, "bidder run --help"}},
		{name: "unknown sub-command", args: "review lst", says: []string{`"lst"`, "list", "bidder review --help"}},
		{name: "unknown output", args: "bids -o yaml", says: []string{"yaml", "table", "json"}},
		{name: "no sub-command", args: "migrate", says: []string{"up, down"}},
		{name: "unknown variable", args: "run", env: []string{"BIDDER_LOCKWAIT=1s"}, says: []string{"BIDDER_LOCKWAIT", "BIDDER_LOCK_WAIT"}},
		{name: "unknown key", args: "run --config " + unknownKey, says: []string{"bidder.yaml:3", "marketplace"}},
		{name: "file in the environment", args: "run", env: []string{"BIDDER_CONFIG=" + unknownKey}, says: []string{"bidder.yaml:3"}},
		{name: "missing file", args: "run --config nowhere.yaml", says: []string{"nowhere.yaml"}},
		{
			name: "everything at once", args: "run --lock-ttl 10m --config " + wrongValues, env: []string{"BIDDER_WORKERS=0", "BIDDER_LOCK_WAIT=11s", "BIDDER_POSTING_TTL=24"},
			says: []string{"--lock-ttl", "BIDDER_WORKERS", "BIDDER_LOCK_WAIT", "BIDDER_POSTING_TTL", "nobody", "bidder.yaml:5", "priority"},
		},
		{name: "not a marketplace", args: "bid up/work 1", says: []string{"marketplace"}},
		{name: "negative wait", args: "bid upwork 1 --lock-wait -1s", says: []string{"--lock-wait"}},
		{name: "help about nothing", args: "help bidd", says: []string{`"bidd"`, "--help"}},
		{name: "help about no sub-command", args: "help bids shwo", says: []string{`"shwo"`, "--help"}},
		{name: "rejects of no file", args: "run --rejects /dev/null", says: []string{"--rejects", "--postings"}},
		{name: "a time for no file", args: "run --cached-at now", says: []string{"--cached-at", "--postings"}},
		{name: "negative time", args: "stats --since -1h", says: []string{"--since"}},
		{name: "no time at all", args: "stats --since 0s", says: []string{"--since 0", "leave it out"}},
	}
	f.untouched(func() {
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				f.call(strings.Fields(tt.args)...).with(tt.env...).run(t).wantError(t, 2, tt.says...)
			})
		}
	})
}

// TestEmptyOptions: a variable that a script or crontab has not set is no amount, file or filter that was not meant.
func TestEmptyOptions(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.ingest(line("1"))
	f.untouched(func() {
		for option, args := range map[string][]string{
			"--amount": {"bid", "upwork", "1", "--amount", ""}, "--postings": {"run", "--postings", ""}, "--every": {"run", "--every="},
			"--rejects": {"ingest", "-", "--rejects", ""}, "--cached-at": {"ingest", "-", "--cached-at", ""}, "--marketplace": {"bids", "--marketplace", ""},
			"--status": {"bids", "--status", ""}, "--since": {"stats", "--since", ""}, "--host": {"console", "--host", ""}, "--country": {"scan", "freelancer", "--country", ""},
		} {
			f.call(args...).reading(line("2", seen(0))).run(t).wantError(t, 2, option+": nothing is given")
		}
	})
	f.call("bids", "--after", "").run(t).want(t, 0) // where a listing begins
	f.call("run", "--config", "").run(t).want(t, 0) // whatever the environment says
}

func TestNoDatabase(t *testing.T) {
	t.Parallel()
	for _, args := range append(needDatabase(t), []string{"doctor"}, []string{"migrate", "up"}) {
		for _, env := range [][]string{nil, {"DATABASE_URL="}} {
			call{args: args, env: env}.run(t).wantError(t, 2, "DATABASE_URL", "--embedded")
		}
	}
}

func TestConfigCheck(t *testing.T) {
	t.Parallel()
	configuration := file(t, "bidder.yaml", "default_currency: EUR", `max_amount: "500.00"`)
	c := call{
		args: []string{"config", "check", "--batch", "8", "-o", "json"},
		env: []string{
			"BIDDER_CONFIG=" + configuration, "BIDDER_BATCH=16", "BIDDER_WORKERS=2", "BIDDER_POSTING_TTL=2d",
			"DATABASE_URL=postgres://somebody:hunter2@db.example.com/bidder", "BIDDER_CONSOLE_TOKEN=hunter3-hunter3-hunter3-hunter3",
			"BIDDER_SERVICE_HOST=10.0.0.1", "BIDDER_PORT=tcp://10.0.0.1:80", "BIDDER_SERVICE_PORT_HTTP=80", "BIDDER_PORT_80_TCP_ADDR=10.0.0.1", // of Kubernetes
		},
	}
	r := c.run(t).want(t, 0)
	type setting struct{ Name, Value, From string }
	settings := map[string]setting{}
	for _, s := range decode[list[setting]](t, r).Items {
		settings[s.Name] = s
	}
	for name, want := range map[string]setting{
		"BIDDER_BATCH":       {Value: "8", From: "flag"},
		"BIDDER_WORKERS":     {Value: "2", From: "environment"},
		"BIDDER_POSTING_TTL": {Value: "48h", From: "environment"},
		"BIDDER_LOCK_WAIT":   {Value: "10s", From: "default"},
		"BIDDER_LOCK_TTL":    {Value: "5m", From: "default"},
		"BIDDER_DRY_RUN":     {Value: "false", From: "default"},
	} {
		if got := settings[name]; got.Value != want.Value || got.From != want.From {
			t.Errorf("%s: got %+v, want %+v", name, got, want)
		}
	}
	c.args = c.args[:4:4]
	table := c.run(t).want(t, 0)
	for _, text := range []string{r.stdout, r.stderr, table.stdout, table.stderr} {
		if strings.Contains(text, "hunter") {
			t.Errorf("a secret is shown:\n%s", text)
		}
	}
	call{args: []string{"config", "check"}}.run(t).want(t, 0) // no database is needed
}

// TestExitCodes has several things go wrong at once: which of them the code tells is fixed.
func TestExitCodes(t *testing.T) {
	t.Parallel()
	run := func(f *fixture, args ...string) *process {
		f.ingest(line("broken"), line("slow"))
		return f.call(append([]string{"run", "--postings", "-", "--cached-at", "now", "--batch", "1", "--workers", "1", "-o", "json"}, args...)...).
			reading("bad", line("new")).start(f.t)
	}
	// Nothing of a broken posting is the database's fault.
	breakBids := func(f *fixture) {
		f.exec(`CREATE FUNCTION break_bid() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''broken''; END'`)
		f.exec("CREATE TRIGGER break_bid BEFORE INSERT ON bids FOR EACH ROW WHEN (NEW.job_id = 'broken') EXECUTE FUNCTION break_bid()")
	}
	t.Run("3 for rejected lines", func(t *testing.T) {
		t.Parallel()
		f := setup(t)
		report := decode[runReport](t, run(f).wait().want(t, 3))
		if report.Outcomes["claimed"] != 3 {
			t.Errorf("got %v", report.Outcomes)
		}
	})
	t.Run("1 before 3", func(t *testing.T) {
		t.Parallel()
		f := setup(t)
		breakBids(f)
		report := decode[runReport](t, run(f).wait().want(t, 1))
		if report.Outcomes["claimed"] != 2 || report.Outcomes["failed"] != 1 {
			t.Errorf("one bad posting has dropped others: %v", report.Outcomes)
		}
		f.wantCount(1, "candidates WHERE job_id = 'broken' AND tries = 1 AND last_error LIKE '%broken%'")
		f.bidder("bid", "upwork", "broken").want(t, 1)
	})
	t.Run("4 before 1 and 3", func(t *testing.T) {
		t.Parallel()
		f := setup(t)
		breakBids(f)
		f.stallAt("slow")
		report := decode[runReport](t, run(f, "--statement-timeout", "300ms").wait().want(t, 4))
		if report.Outcomes["failed"] != 2 || report.Ingest.Rejected != 1 {
			t.Errorf("got %v, %+v", report.Outcomes, report.Ingest)
		}
		f.wantCount(1, "runs WHERE exit_code = 4")
	})
	t.Run("a signal before everything", func(t *testing.T) {
		t.Parallel()
		f := setup(t)
		breakBids(f)
		f.stallAt("slow")
		p := run(f, "--statement-timeout", "1m")
		f.awaitStalled(1)
		p.signal(syscall.SIGTERM)
		eventually(t, "the signal is taken", func() bool { return !p.pending() })
		f.openGate()
		report := decode[runReport](t, p.wait().want(t, 143))
		if report.Outcomes["failed"] != 1 || report.Ingest.Rejected != 1 {
			t.Errorf("got %v, %+v", report.Outcomes, report.Ingest)
		}
		f.wantCount(1, "runs WHERE exit_code = 143")
	})
	t.Run("2 before 4", func(t *testing.T) {
		t.Parallel()
		call{args: []string{"run", "--workers", "0"}, env: []string{"DATABASE_URL=postgres://x@127.0.0.1:1/x"}}.run(t).wantError(t, 2, "--workers")
	})
}

// TestLogs: what the program says besides its report goes to stderr, as programs can read it.
func TestLogs(t *testing.T) {
	t.Parallel()
	f := setup(t)
	c := f.call("run", "--postings", "-", "--cached-at", "now", "-o", "json").reading("bad", line("1"))
	stderr := c.run(t).want(t, 3).stderr
	if !strings.Contains(stderr, "invalid_json") || !strings.Contains(stderr, "run finished") {
		t.Errorf("stderr: %s", stderr)
	}
	for line := range strings.Lines(stderr) {
		entry := decode[map[string]any](t, result{stdout: line})
		for _, key := range []string{"time", "level", "msg"} {
			if _, ok := entry[key].(string); !ok {
				t.Errorf("a line without %s: %s", key, line)
			}
		}
	}
	wantFlat(t, stderr)
	if !strings.Contains(stderr, `"kind":"run"`) || !strings.Contains(stderr, `"duration_ms":`) || !strings.Contains(stderr, `"claimed":1`) {
		t.Errorf("the line of the run: %s", stderr)
	}
	byHand := f.bidder("bid", "upwork", "nowhere").want(t, 3).stderr
	if !strings.Contains(byHand, `"kind":"bid"`) || strings.Count(byHand, "run_id") != 1 {
		t.Errorf("the line of a bid by hand: %s", byHand)
	}
	if stderr := c.with("BIDDER_LOG_LEVEL=error").run(t).want(t, 3).stderr; stderr != "" {
		t.Errorf("stderr with level error: %s", stderr)
	}
	if stderr := c.with("BIDDER_LOG_FORMAT=text").run(t).want(t, 3).stderr; !strings.Contains(stderr, "level=WARN") || strings.Contains(stderr, "{") {
		t.Errorf("stderr as text: %s", stderr)
	}
	if stderr := c.with("BIDDER_LOG_LEVEL=loud").run(t).want(t, 2).stderr; !strings.Contains(stderr, "loud") {
		t.Errorf("stderr: %s", stderr)
	}
}

// wantFlat checks that no attribute of a log in JSON is a structure, or a text that shows one.
func wantFlat(t *testing.T, logs string) {
	t.Helper()
	for line := range strings.Lines(logs) {
		for key, value := range decode[map[string]any](t, result{stdout: line}) {
			text, isText := value.(string)
			switch value.(type) {
			case map[string]any, []any:
				t.Errorf("%s is no single value: %s", key, line)
			}
			if isText && (strings.HasPrefix(text, "{") || strings.HasPrefix(text, "map[")) {
				t.Errorf("%s shows a structure: %s", key, line)
			}
		}
	}
}

// TestHelp walks through the help of all commands.
func TestHelp(t *testing.T) {
	t.Parallel()
	listed := regexp.MustCompile(`(?m)^  ([a-z-]+) +\S`)
	seen := 0
	var walk func(command []string)
	walk = func(command []string) {
		r := call{args: append(command, "--help")}.run(t).want(t, 0)
		seen++
		if !strings.Contains(r.stdout, "Examples:\n") || !strings.Contains(r.stdout, "bidder") || r.stderr != "" {
			t.Errorf("help of %q:\n%s%s", command, r.stdout, r.stderr)
		}
		_, commands, found := strings.Cut(r.stdout, "Available Commands:\n")
		if !found {
			return
		}
		commands, _, _ = strings.Cut(commands, "\n\n")
		for _, match := range listed.FindAllStringSubmatch(commands, -1) {
			if name := match[1]; name != "help" && name != "completion" { // cobra's own
				walk(append(slices.Clip(command), name))
			}
		}
	}
	walk(nil)
	if seen < 18 {
		t.Errorf("only %d commands were found", seen)
	}
	if r := (call{args: []string{"--version"}}).run(t).want(t, 0); !strings.HasPrefix(r.stdout, "bidder ") {
		t.Errorf("the version is %q", r.stdout)
	}
	built := decode[struct {
		Version, Go, Platform string
		Schema                uint
	}](t, call{args: []string{"version", "-o", "json"}}.run(t).want(t, 0))
	if built.Version == "" || built.Go != runtime.Version() || built.Platform != runtime.GOOS+"/"+runtime.GOARCH || built.Schema != db.LatestVersion() {
		t.Errorf("built: %+v", built)
	}
	direct, about := (call{args: []string{"bids", "show", "--help"}}).run(t).want(t, 0), (call{args: []string{"help", "bids", "show"}}).run(t).want(t, 0)
	if about.stdout != direct.stdout || about.stderr != "" {
		t.Errorf("help bids show:\n%s%s", about.stdout, about.stderr)
	}
	if r := (call{}).run(t).want(t, 0); !strings.Contains(r.stdout, "Available Commands:") {
		t.Errorf("without arguments:\n%s%s", r.stdout, r.stderr)
	}
}

func TestCompletion(t *testing.T) {
	t.Parallel()
	for _, shell := range []string{"bash", "zsh", "fish"} {
		script := call{args: []string{"completion", shell}}.run(t).want(t, 0).stdout
		if !strings.Contains(script, "bidder") {
			t.Errorf("%s: %s", shell, script)
		}
		program, err := exec.LookPath(shell)
		if err != nil {
			continue // there is nobody to ask
		}
		path := file(t, "completion", script)
		if output, err := exec.Command(program, "-n", path).CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", shell, err, output)
		}
	}
	for _, tt := range []struct {
		args []string
		want []string
	}{
		{args: []string{""}, want: []string{"run", "bid", "bids", "ingest", "migrate"}},
		{args: []string{"bids", "--status", ""}, want: []string{"ACTIVE", "WITHDRAWN", "DUPLICATE"}},
		{args: []string{"help", "bids", ""}, want: []string{"show", "mark"}},
		{args: []string{"stats", "-o", ""}, want: []string{"table", "json"}},
		{args: []string{"bids", "mark", "0192f3a4-7c1e-7b32-9d55-1f0e6a2b8c41", "--note", "x", ""}, want: []string{"won", "lost", "rejected"}},
	} {
		offered := call{args: append([]string{"__complete"}, tt.args...)}.run(t).want(t, 0).stdout
		for _, word := range tt.want {
			if !regexp.MustCompile(`(?m)^` + word + `\b`).MatchString(offered) {
				t.Errorf("after %q %s is not offered:\n%s", tt.args, word, offered)
			}
		}
	}
}

// TestExamples uses the files that the project gives its users.
func TestExamples(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for _, name := range []string{"../../examples/postings.ndjson", "../../examples/bidder.yaml"} {
		if _, err := os.Stat(name); err != nil {
			t.Fatal(err)
		}
	}
	report := decode[runReport](t, f.bidder("run", "--postings", "../../examples/postings.ndjson", "--cached-at", "now", "-o", "json").want(t, 0))
	if report.Ingest.Accepted == 0 || report.Outcomes["claimed"] != report.Ingest.Accepted {
		t.Errorf("got %+v, %v", report.Ingest, report.Outcomes)
	}
}
