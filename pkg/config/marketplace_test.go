package config_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/arbitrageai/bidder/pkg/config"
)

// signing is a signing secret with white space at both ends of its bytes.
var signing = "whsec_" + base64.StdEncoding.EncodeToString([]byte(signingBytes))

const signingBytes = "\n23456789012345678901 2 "

// bridgeEnv has the secrets of the file that bridgeWith makes.
var bridgeEnv = []string{"UPWORK_BRIDGE_AUTH=Bearer hunter2", "UPWORK_BRIDGE_SECRET=" + signing, "BIDDER_OLD_SECRET=" + signing}

// bridgeLines are the keys of a bridge, each in a line of its own.
const bridgeLines = `handler: bridge
base_url: https://connector.example.test/upwork/
place: {method: POST, path: /bids}
lookup: {method: GET, path: /bids/by-key/{idempotency_key}}
withdraw: {method: POST, path: "/bids/{external_bid_id}/withdraw"}
auth: {header: Authorization, value_env: UPWORK_BRIDGE_AUTH}
signing_secrets_env: [UPWORK_BRIDGE_SECRET, BIDDER_OLD_SECRET]
timeout: 25s
lookup_is_authoritative: true
idempotent_place: true
allow_private_networks: false
`

// bridgeWith returns a file with a bridge. Each change replaces, by its key,
// the line of that key, or removes it where no value follows the colon.
func bridgeWith(t *testing.T, changes ...string) string {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(bridgeLines), "\n")
	for _, change := range changes {
		key, rest, _ := strings.Cut(change, ":")
		found := false
		for i, line := range lines {
			if strings.HasPrefix(line, key+":") {
				found = true
				if lines[i] = change; rest == "" {
					lines[i] = "# removed"
				}
			}
		}
		if !found {
			t.Fatalf("no key %q to change", key)
		}
	}
	return "marketplaces:\n  upwork:\n    " + strings.Join(lines, "\n    ") + "\n"
}

// twoWeeks are the default of ask_after.
const twoWeeks = 14 * 24 * time.Hour

func TestBridge(t *testing.T) {
	t.Parallel()

	key := config.NewSecret("x" + signingBytes + "x") // so that nothing is trimmed
	cfg := load(t, source(bridgeWith(t), append(bridgeEnv, dsn)...))
	got := cfg.Marketplaces["upwork"]
	want := config.Marketplace{
		Caps:    config.Caps{Zone: "UTC"},
		Handler: "bridge", Approval: "none", Settle: 10 * time.Minute, Refresh: time.Hour, AskAfter: twoWeeks, BaseURL: "https://connector.example.test/upwork",
		Place:             config.Route{Method: "POST", Path: "/bids"},
		Lookup:            config.Route{Method: "GET", Path: "/bids/by-key/{idempotency_key}"},
		Withdraw:          config.Route{Method: "POST", Path: "/bids/{external_bid_id}/withdraw"},
		Auth:              config.Auth{Header: "Authorization", ValueEnv: "UPWORK_BRIDGE_AUTH", Value: config.NewSecret("Bearer hunter2")},
		SigningSecretsEnv: []string{"UPWORK_BRIDGE_SECRET", "BIDDER_OLD_SECRET"},
		SigningSecrets:    got.SigningSecrets,
		Timeout:           25 * time.Second, LookupIsAuthoritative: true, IdempotentPlace: true,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("marketplace (-want +got):\n%s", diff)
	}
	if len(got.SigningSecrets) != 2 || "x"+got.SigningSecrets[1].Reveal()+"x" != key.Reveal() {
		t.Errorf("there are %d signing secrets, want 2, decoded byte for byte", len(got.SigningSecrets))
	}
	if printed := fmt.Sprint(cfg.Settings()); strings.Contains(printed, "hunter2") || strings.Contains(printed, signing) {
		t.Errorf("settings show a secret: %s", printed)
	}
}

func TestBridge_defaults(t *testing.T) {
	t.Parallel()

	file := bridgeWith(t, "place: {path: /a}", "lookup: {path: '/a/{idempotency_key}'}", "withdraw: {path: /w}", "timeout:",
		"auth:", "signing_secrets_env: UPWORK_BRIDGE_SECRET", "lookup_is_authoritative:", "idempotent_place:", "allow_private_networks:")
	cfg := load(t, source(file, bridgeEnv[1]))
	got := cfg.Marketplace("upwork")
	got.SigningSecrets = nil
	if !slices.ContainsFunc(cfg.Settings(), func(s config.Setting) bool {
		return s.Name == "marketplaces.upwork.timeout" && s.Value == "20s" && s.From == config.OriginDefault
	}) {
		t.Error("settings do not show the default timeout of the bridge")
	}
	want := config.Marketplace{
		Caps:    config.Caps{Zone: "UTC"},
		Handler: "bridge", Approval: "none", Settle: 10 * time.Minute, Refresh: time.Hour, AskAfter: twoWeeks, BaseURL: "https://connector.example.test/upwork",
		Place: config.Route{Method: "POST", Path: "/a"}, Lookup: config.Route{Method: "GET", Path: "/a/{idempotency_key}"},
		Withdraw: config.Route{Method: "POST", Path: "/w"}, SigningSecretsEnv: []string{"UPWORK_BRIDGE_SECRET"}, Timeout: 20 * time.Second,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("marketplace (-want +got):\n%s", diff)
	}
}

func TestBridge_problems(t *testing.T) {
	t.Parallel()

	tests := []struct {
		name    string
		changes []string
		want    []string
	}{
		{"base_url_missing", []string{"base_url:"}, []string{"bidder.yaml:3:14: handler bridge needs base_url (add it to marketplaces.upwork)"}},
		{"routes_missing", []string{"place:", "lookup:", "withdraw:"}, []string{
			"bidder.yaml:3:14: handler bridge needs place.path", "bidder.yaml:3:14: handler bridge needs lookup.path", "bidder.yaml:3:14: handler bridge needs withdraw.path",
		}},
		{"no_proof_of_identity", []string{"auth:", "signing_secrets_env:"}, []string{"bidder.yaml:3:14: handler bridge needs signing_secrets_env or auth"}},
		{"auth_without_header", []string{"auth: {value_env: UPWORK_BRIDGE_AUTH}"}, []string{"bidder.yaml:3:14: auth needs both header and value_env"}},
		{"auth_without_value", []string{"auth: {header: X-Key}"}, []string{"bidder.yaml:3:14: auth needs both header and value_env"}},

		{"base_url_not_a_url", []string{"base_url: 'https://a:b c'"}, []string{"bidder.yaml:4:15: base_url is not a URL with a host"}},
		{"base_url_without_host", []string{"base_url: 'https:///x'"}, []string{"bidder.yaml:4:15: base_url is not a URL with a host"}},
		{"base_url_port", []string{"base_url: https://a.test:65536"}, []string{"bidder.yaml:4:15: base_url is not a URL with a host"}},
		{"base_url_scheme", []string{"base_url: ftp://a.test"}, []string{"bidder.yaml:4:15: base_url is not an https URL"}},
		{"base_url_userinfo", []string{"base_url: https://u:hunter2@a.test"}, []string{"bidder.yaml:4:15: base_url has a user name or password"}},
		{"base_url_query", []string{"base_url: https://a.test?k=hunter2"}, []string{"bidder.yaml:4:15: base_url has a query or a fragment"}},
		{"base_url_fragment", []string{"base_url: 'https://a.test#x'"}, []string{"bidder.yaml:4:15: base_url has a query or a fragment"}},
		{"http_elsewhere", []string{"base_url: http://a.test", "allow_private_networks: true"}, []string{"bidder.yaml:4:15: http is for this machine only"}},
		{"http_on_a_private_network", []string{"base_url: http://10.0.0.1", "allow_private_networks: true"}, []string{"bidder.yaml:4:15: http is for this machine only"}},
		{"http_loopback_not_allowed", []string{"base_url: http://127.0.0.1:8080"}, []string{"bidder.yaml:4:15: 127.0.0.1 is on a private network or this machine"}},
		{"https_private_not_allowed", []string{"base_url: https://192.168.1.1"}, []string{"bidder.yaml:4:15: 192.168.1.1 is on a private network"}},
		{"https_link_local_not_allowed", []string{"base_url: https://169.254.169.254"}, []string{"bidder.yaml:4:15: 169.254.169.254 is on a private network"}},
		{"https_mapped_loopback_not_allowed", []string{"base_url: 'https://[::ffff:127.0.0.1]'"}, []string{"bidder.yaml:4:15: ::ffff:127.0.0.1 is on a private network"}},
		{"https_mapped_private_not_allowed", []string{"base_url: 'https://[::ffff:10.0.0.1]'"}, []string{"bidder.yaml:4:15: ::ffff:10.0.0.1 is on a private network"}},
		{"allowing_wrongly_written", []string{"base_url: http://127.0.0.1", "allow_private_networks: yes"}, []string{`bidder.yaml:13:29: "yes" is not a switch`}},
		{"http_loopback_allowed", []string{"base_url: http://127.0.0.1:8080", "allow_private_networks: true"}, nil},
		{"http_ipv6_loopback_allowed", []string{"base_url: 'http://[::1]:8080/x'", "allow_private_networks: true"}, nil},
		{"http_localhost_allowed", []string{"base_url: http://LOCALHOST", "allow_private_networks: true"}, nil},
		{"https_private_allowed", []string{"base_url: https://10.0.0.1", "allow_private_networks: true"}, nil},

		{"place_by_get", []string{"place: {method: GET, path: /a}"}, []string{`bidder.yaml:5:21: "GET" is not known (use one of: POST, PUT)`}},
		{"place_by_put", []string{"place: {method: put, path: '/a/{idempotency_key}'}"}, nil},
		{"lookup_by_post", []string{"lookup: {method: POST, path: '/a/{idempotency_key}'}"}, []string{`bidder.yaml:6:22: "POST" is not known (use one of: GET)`}},
		{"withdraw_by_delete", []string{"withdraw: {method: DELETE, path: /a}"}, []string{`bidder.yaml:7:24: "DELETE" is not known`}},
		{"path_relative", []string{"place: {path: bids}"}, []string{`bidder.yaml:5:19: path "bids" does not begin with /`}},
		{"path_unknown_placeholder", []string{"withdraw: {path: '/a/{bid}'}"}, []string{`bidder.yaml:7:22: path "/a/{bid}" has an unknown placeholder (it may have the placeholders {external_bid_id} and {idempotency_key})`}},
		{"place_before_the_id_is_known", []string{"place: {path: '/a/{external_bid_id}'}"}, []string{`bidder.yaml:5:19: path "/a/{external_bid_id}" has an unknown placeholder (it may have the placeholders {idempotency_key})`}},
		{"path_query", []string{"place: {path: '/a?b=c'}"}, []string{`bidder.yaml:5:19: path "/a?b=c" has a query or a fragment`}},
		{"path_space", []string{"place: {path: /a b}"}, []string{`bidder.yaml:5:19: path "/a b" has characters that need percent-encoding`}},
		{"path_not_ascii", []string{"place: {path: /ä}"}, []string{`bidder.yaml:5:19: path "/ä" has characters that need percent-encoding`}},
		{"path_wrong_escape", []string{"place: {path: '/%zz'}"}, []string{`bidder.yaml:5:19: path "/%zz" has characters that need percent-encoding`}},
		{"path_upwards", []string{"place: {path: /a/../b}"}, []string{`bidder.yaml:5:19: path "/a/../b" has a segment . or ..`}},
		{"path_missing_value_is_one_problem", []string{"place: {path: }"}, []string{`bidder.yaml:5:`}},
		{"lookup_of_nothing_in_particular", []string{"lookup: {path: /bids}"}, []string{"bidder.yaml:6:20: path has no {idempotency_key}"}},

		{"header_with_value", []string{"auth: {header: 'X-Key: hunter2', value_env: UPWORK_BRIDGE_AUTH}"}, []string{"bidder.yaml:8:20: header is not the name of an HTTP header"}},
		{"header_of_our_own", []string{"auth: {header: Idempotency-Key, value_env: UPWORK_BRIDGE_AUTH}"}, []string{"bidder.yaml:8:20: header Idempotency-Key is one that bidder sets itself"}},
		{"secret_instead_of_variable", []string{"auth: {header: X-Key, value_env: hunter2}"}, []string{"bidder.yaml:8:38: this is not the name of an environment variable"}},
		{"signing_secret_instead_of_variable", []string{"signing_secrets_env: [UPWORK_BRIDGE_SECRET, whsec_hunter2]"}, []string{"bidder.yaml:9:49: this is not the name of an environment variable"}},
		{"wrong_variable_is_one_problem", []string{"auth:", "signing_secrets_env: [lower]"}, []string{"bidder.yaml:9:27: this is not the name of an environment variable"}},
		{"variable_begins_with_digit", []string{"auth: {header: X-Key, value_env: 1A}"}, []string{"bidder.yaml:8:38: this is not the name"}},
		{"variables_not_set", []string{"auth: {header: X-Key, value_env: NOWHERE}", "signing_secrets_env: [UPWORK_BRIDGE_SECRET, EMPTY]"}, []string{
			"bidder.yaml:8:38: NOWHERE is not set in the environment", "bidder.yaml:9:49: EMPTY is not set in the environment",
		}},
		{"signing_secrets_wrong", []string{"signing_secrets_env: [NO_PREFIX, NO_BASE64, TOO_SHORT, TOO_LONG, JUST_SHORT, JUST_LONG]"}, []string{
			"NO_PREFIX: is not a signing secret (write whsec_", "NO_BASE64: is not a signing secret", "TOO_SHORT: is not a signing secret", "TOO_LONG: is not a signing secret",
		}},
		{"auth_value_wrong", []string{"auth: {header: X-Key, value_env: TWO_LINES}"}, []string{"TWO_LINES: has characters that an HTTP header cannot have"}},
		{"timeout_too_long_for_the_lease", []string{"timeout: 149501ms"}, []string{"BIDDER_DELIVERY_LEASE: 5m is too short for marketplaces.upwork, where a call may take 2m29.501s (use at least 5m0.002s"}},
		{"timeout_just_right", []string{"timeout: 149500ms"}, nil},
		{"timeout_zero", []string{"timeout: 0"}, []string{`bidder.yaml:10:14: "0" is out of range (use 1ms to 1h)`}},
		{"switch", []string{"idempotent_place: maybe"}, []string{`bidder.yaml:12:23: "maybe" is not a switch`}},

		{"switched_off_needs_no_secrets", []string{"handler: manual", "auth: {header: X-Key, value_env: NOWHERE}", "timeout: 1h", "place:"}, nil},
		{"switched_off_is_checked_all_the_same", []string{"handler: manual", "base_url: ftp://a.test"}, []string{"bidder.yaml:4:15: base_url is not an https URL"}},
	}
	encode := func(n int) string { return "whsec_" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("k"), n)) }
	environ := append([]string{
		"EMPTY= ", "NO_PREFIX=" + strings.TrimPrefix(signing, "whsec_"), "NO_BASE64=whsec_hunter2!", "TOO_SHORT=" + encode(23),
		"TOO_LONG=" + encode(65), "JUST_SHORT=" + encode(24), "JUST_LONG=" + encode(64), "TWO_LINES=hunter2\nhunter2",
	}, bridgeEnv...)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			environ := environ
			if !strings.Contains(bridgeWith(t, tt.changes...), "BIDDER_OLD_SECRET") {
				environ = environ[:len(environ)-1] // nobody names it: unknown
			}
			src := source(bridgeWith(t, tt.changes...), environ...)
			wantProblems(t, src, tt.want...)
			if got := strings.Join(problems(t, src), "\n"); strings.Contains(got, "hunter2") || strings.Contains(got, "kkkk") {
				t.Errorf("problems tell a secret:\n%s", got)
			}
		})
	}
}

func TestMarketplace_handlers(t *testing.T) {
	t.Parallel()

	tests := []struct {
		name    string
		file    string
		environ []string
		want    config.Marketplace
		problem []string
	}{
		{
			name: "sandbox_follows_the_lease", file: "handler: sandbox", environ: []string{"BIDDER_DELIVERY_LEASE=3s"},
			want: config.Marketplace{Handler: "sandbox", Approval: "none", Timeout: time.Second},
		},
		{
			name: "sandbox_with_hardly_any_lease", file: "handler: sandbox", environ: []string{"BIDDER_DELIVERY_LEASE=1s"},
			problem: []string{"BIDDER_DELIVERY_LEASE: 1s is too short for marketplaces.m, where a call may take 100ms"},
		},
		{
			name: "rate_slower_than_the_lease", file: "handler: sandbox, rate: 0.002",
			problem: []string{"BIDDER_DELIVERY_LEASE: 5m is too short for marketplaces.m, whose rate allows a call every 8m20s (use at least 8m31s, or a higher rate"},
		},
		{
			name: "manual", file: "handler: manual, timeout: 1h", environ: []string{"BIDDER_DELIVERY_LEASE=1s"},
			want: config.Marketplace{Handler: "manual", Approval: "none", Timeout: time.Hour},
		},
		{
			name: "embedded_manual", file: "handler: manual", environ: []string{"BIDDER_EMBEDDED=true"},
			want: config.Marketplace{Handler: "manual", Approval: "none"},
		},
		{
			name: "embedded_freelancer", file: "handler: freelancer, token_env: T", environ: []string{"BIDDER_EMBEDDED=true", "T=hunter2"},
			problem: []string{"bidder.yaml:2:16: handler freelancer does not work with the private Postgres of BIDDER_EMBEDDED"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			src := source("marketplaces:\n  m: {"+tt.file+"}\n", tt.environ...)
			wantProblems(t, src, tt.problem...)
			if tt.problem != nil {
				return
			}
			tt.want.Settle, tt.want.AskAfter, tt.want.Caps.Zone = 10*time.Minute, twoWeeks, "UTC"
			if tt.want.Handler != "manual" {
				tt.want.Refresh = time.Hour
			}
			if diff := cmp.Diff(tt.want, load(t, src).Marketplaces["m"]); diff != "" {
				t.Errorf("marketplace (-want +got):\n%s", diff)
			}
		})
	}
}

func TestLoad_embeddedBridge(t *testing.T) {
	t.Parallel()

	wantProblems(t, source(bridgeWith(t), append(bridgeEnv, "BIDDER_EMBEDDED=1")...),
		"bidder.yaml:3:14: handler bridge does not work with the private Postgres of BIDDER_EMBEDDED")
	wantProblems(t, source("default_handler: sandbox\n", "BIDDER_DELIVERY_LEASE=1.1s"),
		"BIDDER_DELIVERY_LEASE: 1.1s is too short for default_handler sandbox")
}
