package config_test

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/arbitrageai/bidder/pkg/config"
)

func TestFile(t *testing.T) {
	t.Parallel()

	const file = "\uFEFF" + `%YAML 1.2
---
default_handler: Sandbox
default_currency: eur
min_amount: 10.10
max_amount: "500"
marketplaces:
  PeopleHour: {handler: none, approval: required, rate: 2.5, settle: 1d, refresh: 0, ask_after: 0}
  99designs:
  ? "guru"
  : rate: 0
    refresh: 2h
    ask_after: 1d
    settle: |-
      30s
`
	cfg := load(t, source(strings.ReplaceAll(file, "\n", "\r\n"), dsn))
	least, most, utc := int64(1010), int64(50000), config.Caps{Zone: "UTC"}
	want := config.Config{
		DefaultHandler: "sandbox", DefaultCurrency: "EUR", MinAmountCents: &least, MaxAmountCents: &most,
		Marketplaces: map[string]config.Marketplace{
			"peopleperhour": {Handler: "none", Approval: "required", Rate: 2.5, Settle: 24 * time.Hour, Caps: utc},
			"99designs":     {Handler: "sandbox", Approval: "none", Settle: 10 * time.Minute, Refresh: time.Hour, AskAfter: twoWeeks, Caps: utc, Timeout: 5 * time.Second},
			"guru":          {Handler: "sandbox", Approval: "none", Settle: 30 * time.Second, Refresh: 2 * time.Hour, AskAfter: 24 * time.Hour, Caps: utc, Timeout: 5 * time.Second},
		},
	}
	got := config.Config{
		DefaultHandler: cfg.DefaultHandler, DefaultCurrency: cfg.DefaultCurrency,
		MinAmountCents: cfg.MinAmountCents, MaxAmountCents: cfg.MaxAmountCents, Marketplaces: cfg.Marketplaces,
	}
	if diff := cmp.Diff(want, got, ignoreOrigins); diff != "" {
		t.Errorf("Load (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want.Marketplaces["99designs"], cfg.Marketplace("unnamed")); diff != "" {
		t.Errorf("a marketplace that is not named (-want +got):\n%s", diff)
	}
}

func TestFile_empty(t *testing.T) {
	t.Parallel()

	for _, file := range []string{" ", "# only a comment\n", "---\n", "~\n", "marketplaces:\n", "\n\n"} {
		if got := load(t, source(file)).Handler("upwork"); got != "manual" {
			t.Errorf("handler with file %q is %q, want manual", file, got)
		}
	}
}

func TestFile_problems(t *testing.T) {
	t.Parallel()

	tests := []struct {
		name string
		file string
		want []string
	}{
		{"unknown_key", "default_handlr: manual\n", []string{`bidder.yaml:1:1: key "default_handlr" is not known (did you mean default_handler?)`}},
		{"unknown_key_far_from_all", "zzzzzzzzzzzz: 1\n", []string{`bidder.yaml:1:1: key "zzzzzzzzzzzz" is not known (known here: marketplaces, default_handler, default_currency, min_amount, max_amount, eligible, amount, caps)`}},
		{"key_that_is_a_variable", "lock_wait: 1s\ndatabase_url: x\n", []string{
			`bidder.yaml:1:1: key "lock_wait" is not known (set the variable BIDDER_LOCK_WAIT instead)`,
			`bidder.yaml:2:1: key "database_url" is not known (set the variable DATABASE_URL instead)`,
		}},
		{"unknown_key_of_marketplace", "marketplaces:\n  upwork:\n    rte: 1\n", []string{`bidder.yaml:3:5: key "rte" is not known (did you mean rate?)`}},
		{"unknown_key_of_route", "marketplaces:\n  upwork:\n    place: {verb: GET}\n", []string{`bidder.yaml:3:13: key "verb" is not known (known here: method, path)`}},
		{"dotted_key", "marketplaces:\n  upwork:\n    auth.header: X-Key\n", []string{`bidder.yaml:3:5: key "auth.header" is not known`}},
		{"duplicate_key", "min_amount: 1\nmax_amount: 2\nmin_amount: 3\n", []string{`bidder.yaml:3:1: key "min_amount" stands here a second time (the first is at bidder.yaml:1:1)`}},
		{"duplicate_marketplaces", "marketplaces: {}\nmarketplaces: {}\n", []string{`bidder.yaml:2:1: key "marketplaces" stands here a second time`}},
		{"duplicate_nested_key", "marketplaces:\n  upwork:\n    rate: 1\n    rate: 1\n", []string{`bidder.yaml:4:5: key "rate" stands here a second time (the first is at bidder.yaml:3:5)`}},
		{"marketplaces_that_become_one", "marketplaces:\n  PeopleHour: {}\n  peopleperhour: {}\n", []string{`bidder.yaml:3:3: marketplace peopleperhour stands here a second time (the first is at bidder.yaml:2:3)`}},
		{"marketplaces_that_become_one_the_other_way_round", "marketplaces:\n  peopleperhour: {}\n  PeopleHour: {}\n", []string{`bidder.yaml:3:3: marketplace peopleperhour stands here a second time (the first is at bidder.yaml:2:3)`}},
		{"marketplace_name", "marketplaces:\n  up work: {}\n", []string{`bidder.yaml:2:3: marketplace "up work" is not a name`}},
		{"marketplaces_a_list", "marketplaces: [upwork]\n", []string{`bidder.yaml:1:15: keys are expected here`}},
		{"marketplace_a_text", "marketplaces:\n  upwork: bridge\n", []string{`bidder.yaml:2:11: keys are expected here`}},
		{"top_a_list", "- a\n", []string{`bidder.yaml:1:1: keys are expected here`}},
		{"value_missing", "max_amount:\n", []string{`bidder.yaml:1:13: a value is missing here`}},
		{"value_a_list", "max_amount: [1]\n", []string{`bidder.yaml:1:13: a single value is expected here`}},
		{"value_a_mapping", "max_amount: {a: 1}\n", []string{`bidder.yaml:1:13: a single value is expected here`}},
		{"default_handler_bridge", "default_handler: bridge\n", []string{`bidder.yaml:1:18: "bridge" is not known (use one of: manual, sandbox, none)`}},
		{"currency", "default_currency: Dollar\n", []string{`bidder.yaml:1:19: currency "Dollar" is not a code`}},
		{"amount_negative", "min_amount: -1\n", []string{`bidder.yaml:1:13: amount "-1" must not be negative`}},
		{"amount_three_decimals", "min_amount: 1.001\n", []string{`bidder.yaml:1:13: amount "1.001" has more than two decimals`}},
		{"amount_too_large", "max_amount: 1000000000.01\n", []string{`bidder.yaml:1:13: amount "1000000000.01" is too large`}},
		{"amount_hexadecimal", "max_amount: 0x10\n", []string{`bidder.yaml:1:13: amount "0x10" is not a decimal number`}},
		{"amount_not_a_number", "max_amount: .nan\n", []string{`bidder.yaml:1:13: amount ".nan" is not a decimal number`}},
		{"min_above_max", "min_amount: 10.01\nmax_amount: 10\n", []string{`bidder.yaml:1:13: min_amount is more than max_amount`}},
		{"min_not_compared_with_a_wrong_max", "min_amount: 10\nmax_amount: x\n", []string{`bidder.yaml:2:13: amount "x"`}},
		{"handler", "marketplaces:\n  upwork: {handler: moltjobs}\n", []string{`bidder.yaml:2:21: "moltjobs" is not known (use one of: bridge, manual, freelancer, sandbox, none)`}},
		{"approval", "marketplaces:\n  upwork: {approval: yes}\n", []string{`bidder.yaml:2:22: "yes" is not known (use one of: none, required)`}},
		{"settle_bare_number", "marketplaces:\n  upwork: {settle: 600}\n", []string{`bidder.yaml:2:20: "600" has no unit (write 600s for seconds)`}},
		{"settle_zero", "marketplaces:\n  upwork: {settle: 0}\n", []string{`bidder.yaml:2:20: "0" is out of range`}},
		{"rate_negative", "marketplaces:\n  upwork: {rate: -1}\n", []string{`bidder.yaml:2:18: "-1" is out of range (use 0 (unlimited), or 0.001 to 1000)`}},
		{"rate_not_a_number", "marketplaces:\n  upwork: {rate: nan}\n  guru: {rate: fast}\n", []string{`bidder.yaml:2:18: "nan" is out of range`, `bidder.yaml:3:16: "fast" is not a number`}},
		{"second_document", "min_amount: 1\n---\nmin_amount: 2\n", []string{`bidder.yaml:2:1: a second document begins`}},
		{"anchors", "min_amount: &a 1\nmax_amount: *a\n", []string{`bidder.yaml:1:13: anchors, aliases and tags are not supported`, `bidder.yaml:2:13: anchors`}},
		{"merge", "<<: {a: 1}\n", []string{`bidder.yaml:1:1: anchors, aliases and tags are not supported`}},
		{"tag", "min_amount: !!str 1\n", []string{`bidder.yaml:1:13: anchors, aliases and tags are not supported`}},
		{"syntax", "default_handler: manual: x\n", []string{`bidder.yaml:1:18: is not YAML: mapping value is not allowed in this context (check`}},
		{"tab", "marketplaces:\n\tupwork: {}\n", []string{`bidder.yaml:2:1: is not YAML: `}},
		{"unclosed", "marketplaces: {upwork: {}\n", []string{`bidder.yaml:1:15: is not YAML: `}},
		{"nul", "min_amount: 1\x00\n", []string{`bidder.yaml: is not UTF-8 text`}},
		{"not_utf8", "min_amount: \xff\n", []string{`bidder.yaml: is not UTF-8 text`}},
		{"too_long", strings.Repeat("#\n", 1<<19) + "#", []string{`bidder.yaml: is longer than 1048576 bytes`}},
		{"too_many_keys", strings.Repeat("a: 1\n", 20_000), []string{`bidder.yaml: has more than 20000 words and signs`}},
		{"too_deep", strings.Repeat("[", 100_000), []string{`bidder.yaml: has more than 20000 words and signs`}},
		{"all_at_once", "default_handler: x\nnope: 1\nmarketplaces:\n  upwork:\n    rate: x\n    settle: 1\n", []string{
			`bidder.yaml:1:18: "x" is not known`, `bidder.yaml:2:1: key "nope" is not known`,
			`bidder.yaml:5:11: "x" is not a number`, `bidder.yaml:6:13: "1" has no unit`,
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			wantProblems(t, source(tt.file), tt.want...)
		})
	}
}

func TestFile_atTheLimits(t *testing.T) {
	t.Parallel()

	load(t, source("#"+strings.Repeat("x", 1<<20-1)))
	load(t, source(strings.Repeat("#\n", 19_990)))
}

func TestFile_unreadable(t *testing.T) {
	t.Parallel()

	src := source("x")
	src.Open = func(string) (io.ReadCloser, error) {
		return io.NopCloser(iotest.ErrReader(errors.New("disk on fire"))), nil
	}
	wantProblems(t, src, "BIDDER_CONFIG: read the configuration file bidder.yaml: disk on fire")
}

// FuzzLoad looks for files that make Load panic or hang.
func FuzzLoad(f *testing.F) {
	f.Add("marketplaces:\n  upwork: {handler: bridge, lookup: {path: /bids/{idempotency_key}}}\n")
	f.Add("eligible: \"posting.title == \\\"\\x61\\\" \\\n && x\"\namount: |2\n  y +\n\n   1\n")
	f.Add("? [a, *b]\n: - !x &y |\n")
	f.Fuzz(func(t *testing.T, file string) {
		cfg, err := config.Load(source(file + " "))
		if err == nil && len(cfg.Settings()) == 0 {
			t.Error("no settings")
		}
	})
}
