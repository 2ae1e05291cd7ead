package config_test

import (
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/arbitrageai/bidder/pkg/config"
)

const dsn = "DATABASE_URL=postgres://bidder:hunter2@db.example.com:5432/bids"

// source returns a Source with an environment, and with a file where yaml is
// not empty.
func source(yaml string, environ ...string) config.Source {
	src := config.Source{
		Environ: environ,
		Flags:   map[string]string{},
		UID:     1000,
		Home:    "/home/ann",
		Open: func(name string) (io.ReadCloser, error) {
			if name != "bidder.yaml" {
				return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
			}
			return io.NopCloser(strings.NewReader(yaml)), nil
		},
	}
	if yaml != "" {
		src.Environ = append(slices.Clone(environ), "BIDDER_CONFIG=bidder.yaml")
	}
	return src
}

func load(t *testing.T, src config.Source) config.Config {
	t.Helper()
	cfg, err := config.Load(src)
	if err != nil {
		t.Fatalf("Load: %v", err)
	}
	return cfg
}

// problems returns the problems of a source, one text each.
func problems(t *testing.T, src config.Source) []string {
	t.Helper()
	_, err := config.Load(src)
	if err == nil {
		return nil
	}
	all, ok := errors.AsType[*config.Error](err)
	if !ok {
		t.Fatalf("Load: %v (%T), want a *config.Error", err, err)
	}
	texts := make([]string, len(all.Problems))
	for i, p := range all.Problems {
		texts[i] = p.Error()
	}
	if got, want := err.Error(), strings.Join(texts, "\n"); got != want {
		t.Errorf("Error() = %q, want one problem per line: %q", got, want)
	}
	return texts
}

// wantProblems checks that each problem begins as wanted, in order.
func wantProblems(t *testing.T, src config.Source, want ...string) {
	t.Helper()
	got := problems(t, src)
	if !slices.EqualFunc(got, want, strings.HasPrefix) {
		t.Errorf("problems differ (+got -want beginnings):\n%s", cmp.Diff(want, got))
	}
}

var ignoreOrigins = cmpopts.IgnoreUnexported(config.Config{})

func TestLoad_defaults(t *testing.T) {
	t.Parallel()

	want := config.Config{
		StateDir:         "/home/ann/.local/state/bidder",
		LockWait:         10 * time.Second,
		LockTTL:          5 * time.Minute,
		StatementTimeout: 5 * time.Second,
		PostingTTL:       24 * time.Hour,
		RebidWindow:      5 * time.Minute,
		DeliveryLease:    5 * time.Minute,
		RetryBase:        15 * time.Second,
		RetryCap:         15 * time.Minute,
		RetryMax:         8,
		Batch:            64,
		Workers:          4,
		MaxConns:         6,
		LogLevel:         slog.LevelInfo,
		DefaultHandler:   "manual",
		DefaultCurrency:  "USD",
	}
	if diff := cmp.Diff(want, load(t, source("")), ignoreOrigins); diff != "" {
		t.Errorf("Load without anything (-want +got):\n%s", diff)
	}
}

func TestLoad_everyVariable(t *testing.T) {
	t.Parallel()

	got := load(t, source("default_handler: none\n", dsn,
		"BIDDER_EMBEDDED=0", "BIDDER_STATE_DIR=/srv/bidder", "BIDDER_LOCK_WAIT=0", "BIDDER_LOCK_TTL=1m",
		"BIDDER_STATEMENT_TIMEOUT=1s", "BIDDER_POSTING_TTL=1d12h", "BIDDER_REBID_WINDOW=0", "BIDDER_DELIVERY_LEASE=1m1s",
		"BIDDER_RETRY_BASE=1s", "BIDDER_RETRY_CAP=1s", "BIDDER_RETRY_MAX=1", "BIDDER_BATCH=1", "BIDDER_WORKERS=32",
		"BIDDER_MAX_CONNS=2", "BIDDER_DRY_RUN=1", "BIDDER_CONSOLE_TOKEN=full\n", "BIDDER_CONSOLE_READONLY_TOKEN=read",
		"BIDDER_LOG_FORMAT=JSON", "BIDDER_LOG_LEVEL=debug"))
	want := config.Config{
		DatabaseURL: config.NewSecret("postgres://bidder:hunter2@db.example.com:5432/bids"),
		StateDir:    "/srv/bidder", File: "bidder.yaml",
		LockTTL: time.Minute, StatementTimeout: time.Second, PostingTTL: 36 * time.Hour, DeliveryLease: 61 * time.Second,
		RetryBase: time.Second, RetryCap: time.Second, RetryMax: 1, Batch: 1, Workers: 32, MaxConns: 2, DryRun: true,
		ConsoleToken: config.NewSecret("full"), ConsoleReadonlyToken: config.NewSecret("read"),
		LogFormat: "json", LogLevel: slog.LevelDebug, DefaultHandler: "none", DefaultCurrency: "USD",
	}
	if diff := cmp.Diff(want, got, ignoreOrigins); diff != "" {
		t.Errorf("Load (-want +got):\n%s", diff)
	}
}

func TestLoad_precedence(t *testing.T) {
	t.Parallel()

	src := source("", "BIDDER_LOCK_WAIT=3s", "BIDDER_BATCH=5", "BIDDER_WORKERS=")
	src.Flags["BIDDER_LOCK_WAIT"] = "2s"
	cfg := load(t, src)
	if cfg.LockWait != 2*time.Second || cfg.Batch != 5 || cfg.Workers != 4 {
		t.Errorf("lock wait %s, batch %d, workers %d; want 2s of the flag, 5 of the environment, 4 by default",
			cfg.LockWait, cfg.Batch, cfg.Workers)
	}
	from := map[string]config.Origin{}
	for _, s := range cfg.Settings() {
		from[s.Name] = s.From
	}
	for name, want := range map[string]config.Origin{
		"BIDDER_LOCK_WAIT": config.OriginFlag, "BIDDER_BATCH": config.OriginEnvironment, "BIDDER_WORKERS": config.OriginDefault,
	} {
		if from[name] != want {
			t.Errorf("%s comes from %q, want %q", name, from[name], want)
		}
	}

	t.Run("a_flag_does_not_hide_a_wrong_variable", func(t *testing.T) {
		t.Parallel()
		src := source("", "BIDDER_DRY_RUN=yes")
		src.Flags["BIDDER_DRY_RUN"] = "true"
		wantProblems(t, src, `BIDDER_DRY_RUN: "yes" is not a switch (use true, false, 1 or 0)`)
	})
	t.Run("an_empty_flag_beats_the_environment", func(t *testing.T) {
		t.Parallel()
		src := source("nonsense", dsn)
		src.Flags["BIDDER_CONFIG"] = ""
		if cfg := load(t, src); cfg.File != "" {
			t.Errorf("File = %q, want none", cfg.File)
		}
	})
}

func TestLoad_variableProblems(t *testing.T) {
	t.Parallel()

	tests := []struct {
		name    string
		environ []string
		want    []string
	}{
		{"lock_wait_too_long", []string{"BIDDER_LOCK_WAIT=10001ms"}, []string{`BIDDER_LOCK_WAIT: "10001ms" is out of range (use 0s to 10s)`}},
		{"lock_wait_bare_number", []string{"BIDDER_LOCK_WAIT=5"}, []string{`BIDDER_LOCK_WAIT: "5" has no unit (write 5s for seconds)`}},
		{"lock_wait_negative", []string{"BIDDER_LOCK_WAIT=-1s"}, []string{`BIDDER_LOCK_WAIT: "-1s" is negative`}},
		{"lock_ttl_zero", []string{"BIDDER_LOCK_TTL=0"}, []string{`BIDDER_LOCK_TTL: "0" is out of range (use 1ms to 5m)`}},
		{"lock_ttl_too_long", []string{"BIDDER_LOCK_TTL=5m1s"}, []string{`BIDDER_LOCK_TTL: "5m1s" is out of range`}},
		{"statement_timeout_below_what_the_server_counts", []string{"BIDDER_STATEMENT_TIMEOUT=999us"}, []string{`BIDDER_STATEMENT_TIMEOUT: "999us" is out of range (use 1ms`}},
		{"statement_timeout_too_long", []string{"BIDDER_STATEMENT_TIMEOUT=25h"}, []string{`BIDDER_STATEMENT_TIMEOUT: "25h" is out of range`}},
		{"posting_ttl_zero", []string{"BIDDER_POSTING_TTL=0"}, []string{`BIDDER_POSTING_TTL: "0" is out of range`}},
		{"delivery_lease_too_short", []string{"BIDDER_DELIVERY_LEASE=999ms"}, []string{`BIDDER_DELIVERY_LEASE: "999ms" is out of range`}},
		{"retry_base_zero", []string{"BIDDER_RETRY_BASE=0"}, []string{`BIDDER_RETRY_BASE: "0" is out of range`}},
		{"retry_cap_zero", []string{"BIDDER_RETRY_CAP=0"}, []string{`BIDDER_RETRY_CAP: "0" is out of range`}},
		{"retry_base_above_cap", []string{"BIDDER_RETRY_BASE=16m"}, []string{`BIDDER_RETRY_BASE: 16m is longer than the longest gap, 15m of BIDDER_RETRY_CAP`}},
		{"retry_base_not_compared_with_a_wrong_cap", []string{"BIDDER_RETRY_BASE=16m", "BIDDER_RETRY_CAP=x"}, []string{`BIDDER_RETRY_CAP: "x" is not a duration`}},
		{"retry_max_zero", []string{"BIDDER_RETRY_MAX=0"}, []string{`BIDDER_RETRY_MAX: "0" is out of range (use 1 to 1000)`}},
		{"batch_zero", []string{"BIDDER_BATCH=0"}, []string{`BIDDER_BATCH: "0" is out of range (use 1 to 1000)`}},
		{"batch_too_large", []string{"BIDDER_BATCH=1001"}, []string{`BIDDER_BATCH: "1001" is out of range`}},
		{"batch_not_whole", []string{"BIDDER_BATCH=1.5"}, []string{`BIDDER_BATCH: "1.5" is not a whole number (use 1 to 1000)`}},
		{"workers_zero", []string{"BIDDER_WORKERS=0"}, []string{`BIDDER_WORKERS: "0" is out of range`}},
		{"max_conns_zero", []string{"BIDDER_MAX_CONNS=0"}, []string{`BIDDER_MAX_CONNS: "0" is out of range`}},
		{"dry_run_typo", []string{"BIDDER_DRY_RUN=ture"}, []string{`BIDDER_DRY_RUN: "ture" is not a switch`}},
		{"dry_run_capitals", []string{"BIDDER_DRY_RUN=TRUE"}, []string{`BIDDER_DRY_RUN: "TRUE" is not a switch`}},
		{"dry_run_empty", []string{"BIDDER_DRY_RUN="}, []string{`BIDDER_DRY_RUN: "" is not a switch`}},
		{"embedded_typo", []string{"BIDDER_EMBEDDED=yes"}, []string{`BIDDER_EMBEDDED: "yes" is not a switch`}},
		{"log_format", []string{"BIDDER_LOG_FORMAT=xml"}, []string{`BIDDER_LOG_FORMAT: "xml" is not known (use one of: text, json)`}},
		{"log_level", []string{"BIDDER_LOG_LEVEL=info+1"}, []string{`BIDDER_LOG_LEVEL: "info+1" is not known (use one of: debug, info, warn, error)`}},
		{"state_dir_relative", []string{"BIDDER_STATE_DIR=state"}, []string{`BIDDER_STATE_DIR: "state" is not an absolute path`}},
		{"token_with_space", []string{"BIDDER_CONSOLE_TOKEN=a b"}, []string{`BIDDER_CONSOLE_TOKEN: has characters that a bearer token cannot have`}},
		{"tokens_equal", []string{"BIDDER_CONSOLE_TOKEN=x", "BIDDER_CONSOLE_READONLY_TOKEN=x"}, []string{`BIDDER_CONSOLE_READONLY_TOKEN: is the same as BIDDER_CONSOLE_TOKEN`}},
		{"file_missing", []string{"BIDDER_CONFIG=other.yaml"}, []string{`BIDDER_CONFIG: open the configuration file: open other.yaml: file does not exist`}},
		{"long_values_are_cut", []string{"BIDDER_BATCH=" + strings.Repeat("9", 200)}, []string{`BIDDER_BATCH: "` + strings.Repeat("9", 60) + `…" is not a whole number`}},
		{"unknown_with_hint", []string{"BIDDER_LOCKWAIT=1s"}, []string{`BIDDER_LOCKWAIT: is not a variable of bidder (did you mean BIDDER_LOCK_WAIT?)`}},
		{"unknown_with_prefix_too_many", []string{"BIDDER_DATABASE_URL=x"}, []string{`BIDDER_DATABASE_URL: is not a variable of bidder (did you mean DATABASE_URL?)`}},
		{"unknown_without_hint", []string{"BIDDER_QQQQQQQQQ=x"}, []string{`BIDDER_QQQQQQQQQ: is not a variable of bidder`}},
		{"unknown_though_it_begins_like_a_service_link", []string{"BIDDER_PORTS=1", "BIDDER_SERVICE_HOSTS=x"}, []string{`BIDDER_PORTS: is not a variable`, `BIDDER_SERVICE_HOSTS: is not a variable`}},
		{"service_links", []string{
			"BIDDER_SERVICE_HOST=10.0.0.1", "BIDDER_SERVICE_PORT=80", "BIDDER_SERVICE_PORT_HTTP=80", "BIDDER_PORT=tcp://10.0.0.1:80",
			"BIDDER_PORT_80_TCP=tcp://10.0.0.1:80", "BIDDER_PORT_80_TCP_ADDR=10.0.0.1", "BIDDER_CONSOLE_SERVICE_HOST=10.0.0.2",
		}, nil},
		{"others_are_not_looked_at", []string{"BIDDERS=x", "bidder_batch=x", "PATH=x", "=C:=x", "NOT_A_PAIR"}, nil},
		{"empty_is_unset", []string{"BIDDER_LOCK_WAIT=", "BIDDER_EMBEDDED=", "BIDDER_LOG_FORMAT=", "BIDDER_CONFIG=", "DATABASE_URL="}, nil},
		{"all_at_once", []string{"BIDDER_LOCK_WAIT=1", "BIDDER_BATCH=x", "BIDDER_BACH=1"}, []string{
			`BIDDER_LOCK_WAIT: "1" has no unit`, `BIDDER_BATCH: "x" is not a whole number`, `BIDDER_BACH: is not a variable of bidder (did you mean BIDDER_BATCH?)`,
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			wantProblems(t, source("", tt.environ...), tt.want...)
		})
	}
}

func TestLoad_flagProblems(t *testing.T) {
	t.Parallel()

	src := source("")
	src.Flags = map[string]string{"BIDDER_LOCK_WAIT": "11s", "BIDDER_RETRY_BASE": "1h", "BIDDER_CONFIG": "none.yaml", "BIDDER_LISTEN": "x"}
	wantProblems(t, src,
		`--lock-wait: "11s" is out of range`,
		`--config: open the configuration file`,
		`--retry-base: 1h is longer than the longest gap`,
		`--listen: is not a setting of bidder`)
}

func TestLoad_database(t *testing.T) {
	t.Parallel()

	tests := []struct {
		name         string
		environ      []string
		flags        map[string]string
		need         bool
		wantEmbedded bool
		wantURL      bool
		want         []string
	}{
		{name: "not_needed"},
		{name: "needed", need: true, want: []string{"DATABASE_URL: is not set (set it to postgres://"}},
		{name: "needed_and_empty", need: true, environ: []string{"DATABASE_URL= \n"}, want: []string{"DATABASE_URL: is not set"}},
		{name: "given", need: true, environ: []string{dsn}, wantURL: true},
		{name: "keywords", need: true, environ: []string{"DATABASE_URL=host=/run/postgresql dbname=bids"}, wantURL: true},
		{name: "embedded", need: true, environ: []string{"BIDDER_EMBEDDED=true"}, wantEmbedded: true},
		{name: "wrong_switch_is_one_problem", need: true, environ: []string{"BIDDER_EMBEDDED=y"}, want: []string{"BIDDER_EMBEDDED:"}},
		{name: "both_in_the_environment", environ: []string{dsn, "BIDDER_EMBEDDED=true"}, want: []string{"BIDDER_EMBEDDED: asks for a private Postgres, but DATABASE_URL is set too"}},
		{name: "both_as_flags", flags: map[string]string{"DATABASE_URL": "host=x", "BIDDER_EMBEDDED": "true"}, want: []string{"--embedded: asks for a private Postgres, but --database-url is set too"}},
		{name: "embedded_flag_beats_variable", environ: []string{"DATABASE_URL=mysql://x"}, flags: map[string]string{"BIDDER_EMBEDDED": "true"}, wantEmbedded: true},
		{name: "url_flag_beats_embedded_variable", environ: []string{"BIDDER_EMBEDDED=1"}, flags: map[string]string{"DATABASE_URL": "host=x"}, wantURL: true},
		{name: "embedded_switched_off_by_flag", environ: []string{"BIDDER_EMBEDDED=1"}, flags: map[string]string{"BIDDER_EMBEDDED": "false"}, need: true, want: []string{"DATABASE_URL: is not set"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			src := source("", tt.environ...)
			src.Flags, src.NeedDatabase = tt.flags, tt.need
			wantProblems(t, src, tt.want...)
			cfg, _ := config.Load(src)
			if cfg.Embedded != tt.wantEmbedded || cfg.DatabaseURL.IsSet() != tt.wantURL {
				t.Errorf("embedded %t, URL set %t; want %t, %t", cfg.Embedded, cfg.DatabaseURL.IsSet(), tt.wantEmbedded, tt.wantURL)
			}
		})
	}
}

func TestLoad_databaseURLProblemsTellNoSecret(t *testing.T) {
	t.Parallel()

	for _, url := range []string{
		"postgres://u:hunter2%zz@h/d", "postgres://u:hunter2/x@h/d", "postgres://u:hunter2@h:port/d", "mysql://u:hunter2@h/d",
		"postgres://u:hunter2@h/d?sslmode=hunter2", "host=h password='hunter2", "password=hunter2 port=x", "hunter2",
		"postgres://h/d?pool_max_conns=hunter2", "postgres://u:hunter2@h:99999/d",
	} {
		got := problems(t, source("", "DATABASE_URL="+url))
		if len(got) != 1 || !strings.HasPrefix(got[0], "DATABASE_URL: cannot be read as a Postgres connection string (write postgres://") {
			t.Errorf("problems of %q: %q", url, got)
		}
		if strings.Contains(strings.Join(got, ""), "hunter") {
			t.Errorf("problems of %q repeat the password: %q", url, got)
		}
	}
}

func TestLoad_stateDir(t *testing.T) {
	t.Parallel()

	tests := []struct {
		name    string
		environ []string
		uid     int
		home    string
		want    string
		problem []string
	}{
		{name: "home", uid: 1000, home: "/home/ann", want: "/home/ann/.local/state/bidder"},
		{name: "root", home: "/root", want: "/var/lib/bidder"},
		{name: "xdg", uid: 1000, home: "/home/ann", environ: []string{"XDG_STATE_HOME=/xdg"}, want: "/xdg/bidder"},
		{name: "xdg_of_root", home: "/root", environ: []string{"XDG_STATE_HOME=/xdg"}, want: "/xdg/bidder"},
		{name: "relative_xdg_is_ignored", uid: 1000, home: "/home/ann", environ: []string{"XDG_STATE_HOME=xdg"}, want: "/home/ann/.local/state/bidder"},
		{name: "own", environ: []string{"BIDDER_STATE_DIR=/srv", "XDG_STATE_HOME=/xdg"}, want: "/srv"},
		{name: "nowhere_and_not_needed", uid: 1000},
		{name: "nowhere", uid: 1000, environ: []string{"BIDDER_EMBEDDED=1"}, problem: []string{"BIDDER_STATE_DIR: is not set, and there is no home directory"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			src := source("", tt.environ...)
			src.UID, src.Home = tt.uid, tt.home
			wantProblems(t, src, tt.problem...)
			if cfg, _ := config.Load(src); cfg.StateDir != tt.want {
				t.Errorf("StateDir = %q, want %q", cfg.StateDir, tt.want)
			}
		})
	}
}

func TestSettings(t *testing.T) {
	t.Parallel()

	const file = `
max_amount: 99.5
marketplaces:
  upwork:
    handler: manual
    timeout: 90s
    signing_secrets_env: [A, B]
`
	cfg := load(t, source(file, dsn, "BIDDER_CONSOLE_TOKEN=hunter2", "XDG_STATE_HOME=/xdg"))
	var got []string
	for _, s := range cfg.Settings() {
		if s.Meaning == "" {
			t.Errorf("%s has no meaning", s.Name)
		}
		got = append(got, s.Name+"|"+s.Value+"|"+string(s.From))
	}
	want := []string{
		"DATABASE_URL|[redacted]|environment", "BIDDER_EMBEDDED|false|default", "BIDDER_STATE_DIR|/xdg/bidder|XDG_STATE_HOME",
		"BIDDER_CONFIG|bidder.yaml|environment", "BIDDER_LOCK_WAIT|10s|default", "BIDDER_LOCK_TTL|5m|default",
		"BIDDER_STATEMENT_TIMEOUT|5s|default", "BIDDER_POSTING_TTL|24h|default", "BIDDER_REBID_WINDOW|5m|default",
		"BIDDER_DELIVERY_LEASE|5m|default", "BIDDER_RETRY_BASE|15s|default", "BIDDER_RETRY_CAP|15m|default",
		"BIDDER_RETRY_MAX|8|default", "BIDDER_BATCH|64|default", "BIDDER_WORKERS|4|default", "BIDDER_MAX_CONNS|6|default",
		"BIDDER_DRY_RUN|false|default", "BIDDER_CONSOLE_TOKEN|[redacted]|environment", "BIDDER_CONSOLE_READONLY_TOKEN||default",
		"BIDDER_LOG_FORMAT||default", "BIDDER_LOG_LEVEL|info|default", "default_handler|manual|default",
		"default_currency|USD|default", "min_amount||default", "max_amount|99.50|bidder.yaml:2:13", "eligible||default", "amount||default",
		"caps.bids_per_day||default", "caps.money_per_day||default", "caps.live_bids||default", "caps.zone||default",
		"marketplaces.upwork.handler|manual|bidder.yaml:5:14", "marketplaces.upwork.approval|none|default",
		"marketplaces.upwork.rate|0|default", "marketplaces.upwork.settle|10m|default",
		"marketplaces.upwork.refresh|0s|default", "marketplaces.upwork.ask_after|336h|default",
		"marketplaces.upwork.eligible||default", "marketplaces.upwork.amount||default",
		"marketplaces.upwork.caps.bids_per_day||default", "marketplaces.upwork.caps.money_per_day||default",
		"marketplaces.upwork.caps.live_bids||default", "marketplaces.upwork.caps.zone|UTC|default",
		"marketplaces.upwork.signing_secrets_env|A, B|bidder.yaml:7:26", "marketplaces.upwork.timeout|1m30s|bidder.yaml:6:14",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Settings (-want +got):\n%s", diff)
	}

	t.Run("of_the_database_that_was_not_used", func(t *testing.T) {
		t.Parallel()
		src := source("", dsn)
		src.Flags["BIDDER_EMBEDDED"] = "true"
		if got := load(t, src).Settings()[0]; got.Value != "" || got.From != "not used: --embedded" {
			t.Errorf("DATABASE_URL is %q from %q, want nothing, not used", got.Value, got.From)
		}
	})
}

func TestExample(t *testing.T) {
	t.Parallel()

	src := source("", "UPWORK_BRIDGE_AUTH=Bearer abc", "UPWORK_BRIDGE_SECRET="+signing, "UPWORK_BRIDGE_SECRET_OLD="+signing, "FREELANCER_TOKEN=abc")
	src.Flags["BIDDER_CONFIG"] = "../../examples/bidder.yaml"
	src.Open = func(name string) (io.ReadCloser, error) { return os.Open(name) }
	cfg := load(t, src)
	for name, want := range map[string]string{
		"upwork": "bridge", "freelancer": "freelancer", "peopleperhour": "manual", "guru": "none", "fiverr": "manual",
	} {
		if got := cfg.Handler(name); got != want {
			t.Errorf("Handler(%q) = %q, want %q", name, got, want)
		}
	}
}
