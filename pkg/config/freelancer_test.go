package config_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/arbitrageai/bidder/pkg/config"
)

// oauthKeys are the keys of a freelancer that signs in.
const oauthKeys = "client_id_env: ID, client_secret_env: SECRET, redirect_uri: 'https://example.test/cb', token_key_env: [KEY, OLD_KEY]"

// freelancerEnv has the secrets that the tests name.
func freelancerEnv() []string {
	encode := func(n int) string { return base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("\n"), n)) }
	return []string{
		"T=hunter2", "ID=app-1", "SECRET=hunter3", "KEY=" + encode(32), "OLD_KEY=" + encode(32) + "\n", "SHORT=" + encode(31), "TWO_LINES=hunter2\nhunter2",
		"NO_BASE64=hunter2",
	}
}

func TestFreelancer(t *testing.T) {
	t.Parallel()
	const sandbox, accounts, production = "https://www.freelancer-sandbox.com/api", "https://accounts.freelancer-sandbox.com", "https://www.freelancer.com/api"
	key := config.NewSecret("x" + strings.Repeat("\n", 32) + "x")
	personal := config.Freelancer{AccountsURL: accounts, TokenEnv: "T", Token: config.NewSecret("hunter2"), RetractEncoding: "form", MilestonePercentage: 50, PeriodDays: 7}
	with := func(change func(*config.Marketplace)) config.Marketplace {
		m := config.Marketplace{
			Handler: "freelancer", Approval: "none", Rate: 1, Settle: 10 * time.Minute, Refresh: time.Hour, AskAfter: twoWeeks, Caps: config.Caps{Zone: "UTC"}, Timeout: 30 * time.Second, BaseURL: sandbox, Freelancer: personal,
		}
		if change != nil {
			change(&m)
		}
		return m
	}
	tests := []struct {
		name, file string
		environ    []string
		want       config.Marketplace
		problem    []string
	}{
		{name: "personal token", file: "token_env: T", want: with(nil)},
		{name: "unlimited", file: "token_env: T, rate: 0", want: with(func(m *config.Marketplace) { m.Rate = 0 })},
		{
			name: "everything", file: "token_env: T, retract_encoding: JSON, milestone_percentage: 100, period_days: 3",
			want: with(func(m *config.Marketplace) {
				m.Freelancer.RetractEncoding, m.Freelancer.MilestonePercentage, m.Freelancer.PeriodDays = "json", 100, 3
			}),
		},
		{
			name: "OAuth", file: oauthKeys,
			want: with(func(m *config.Marketplace) {
				f := &m.Freelancer
				f.TokenEnv, f.Token = "", config.Secret{}
				f.ClientIDEnv, f.ClientID, f.ClientSecretEnv, f.ClientSecret = "ID", config.NewSecret("app-1"), "SECRET", config.NewSecret("hunter3")
				f.RedirectURI, f.TokenKeyEnv = "https://example.test/cb", []string{"KEY", "OLD_KEY"}
			}),
		},
		{
			name: "production", file: "token_env: T, base_url: '" + production + "/', permission_attested: 'letter of 2026-10-01'",
			want: with(func(m *config.Marketplace) {
				m.Approval, m.BaseURL, m.Freelancer.AccountsURL = "required", production, "https://accounts.freelancer.com"
				m.Freelancer.PermissionAttested = "letter of 2026-10-01"
			}),
		},
		{
			name: "this machine", file: "token_env: T, base_url: 'http://127.0.0.1:1/api', allow_private_networks: true",
			want: with(func(m *config.Marketplace) {
				m.BaseURL, m.AllowPrivateNetworks, m.Freelancer.AccountsURL = "http://127.0.0.1:1/api", true, "http://127.0.0.1:1"
			}),
		},
		{
			name: "production without permission", file: "token_env: T, base_url: '" + production + "'",
			problem: []string{"bidder.yaml:2:52: Freelancer.com allows bids by program only with its written permission (say in permission_attested"},
		},
		{
			name: "production with an empty permission", file: "token_env: T, base_url: '" + production + "', permission_attested: ' '",
			problem: []string{"bidder.yaml:2:52: Freelancer.com allows bids by program only with its written permission"},
		},
		{
			name: "a look-alike is production", file: "token_env: T, base_url: 'https://notfreelancer-sandbox.com'",
			problem: []string{"bidder.yaml:2:52: Freelancer.com allows bids by program only with its written permission"},
		},
		{
			name: "production without approval", file: "token_env: T, base_url: '" + production + "', permission_attested: x, approval: none",
			problem: []string{"bidder.yaml:2:120: on Freelancer.com itself a person has to approve each bid"},
		},
		{
			name: "lease", file: "token_env: T", environ: []string{"BIDDER_DELIVERY_LEASE=60s"},
			problem: []string{"BIDDER_DELIVERY_LEASE: 1m is too short for marketplaces.m, where a call may take 30s (use at least 1m1s"},
		},
		{name: "nothing to sign in with", file: "rate: 1", problem: []string{"bidder.yaml:2:16: handler freelancer needs token_env, or the keys of OAuth (add"}},
		{
			name: "half of OAuth", file: "client_id_env: ID, redirect_uri: 'https://example.test/cb'",
			problem: []string{"bidder.yaml:2:16: OAuth needs client_secret_env and token_key_env (add it to marketplaces.m"},
		},
		{name: "both", file: "token_env: T, client_id_env: ID", problem: []string{"bidder.yaml:2:39: token_env and the keys of OAuth exclude each other"}},
		{
			name: "no place to sign in", file: oauthKeys + ", base_url: 'https://api.freelancer-sandbox.com'",
			problem: []string{"bidder.yaml:2:16: OAuth needs accounts_url for this base_url"},
		},
		{
			name: "unencrypted place to sign in", file: oauthKeys + ", accounts_url: 'http://accounts.example.test'",
			problem: []string{"bidder.yaml:2:160: http is for this machine only (use https)"},
		},
		{name: "no place at all", file: "token_env: T, accounts_url: nowhere", problem: []string{"bidder.yaml:2:56: accounts_url is not a URL with a host"}},
		{
			name: "redirect_uri", file: strings.Replace(oauthKeys, "'https://example.test/cb'", "/cb", 1),
			problem: []string{"bidder.yaml:2:88: redirect_uri is not a whole URL"},
		},
		{
			name: "variables that are not set", file: "client_id_env: A, client_secret_env: B, redirect_uri: 'https://example.test/cb', token_key_env: C",
			problem: []string{"bidder.yaml:2:43: A is not set", "bidder.yaml:2:65: B is not set", "bidder.yaml:2:124: C is not set"},
		},
		{
			name: "keys", file: strings.Replace(oauthKeys, "KEY, OLD_KEY", "SHORT, NO_BASE64", 1),
			problem: []string{"SHORT: is not a key (write the base64 of 32 random bytes", "NO_BASE64: is not a key"},
		},
		{name: "token of two lines", file: "token_env: TWO_LINES", problem: []string{"TWO_LINES: has characters that an HTTP header cannot have"}},
		{name: "milestone", file: "token_env: T, milestone_percentage: 19", problem: []string{`bidder.yaml:2:64: "19" is out of range (use 20 to 100)`}},
		{name: "encoding", file: "token_env: T, retract_encoding: xml", problem: []string{`bidder.yaml:2:60: "xml" is not known`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			src := source("marketplaces:\n  m: {handler: freelancer, "+tt.file+"}\n", append(freelancerEnv(), tt.environ...)...)
			wantProblems(t, src, tt.problem...)
			if got := fmt.Sprint(problems(t, src)); strings.Contains(got, "hunter") {
				t.Errorf("problems tell a secret: %s", got)
			}
			if tt.problem != nil {
				return
			}
			cfg := load(t, src)
			got := cfg.Marketplaces["m"]
			for _, have := range got.Freelancer.TokenKeys {
				if "x"+have.Reveal()+"x" != key.Reveal() {
					t.Error("a key is not what its variable encodes, byte for byte")
				}
			}
			if len(got.Freelancer.TokenKeys) != len(tt.want.Freelancer.TokenKeyEnv) {
				t.Errorf("%d keys", len(got.Freelancer.TokenKeys))
			}
			got.Freelancer.TokenKeys = nil
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("marketplace (-want +got):\n%s", diff)
			}
			if printed := fmt.Sprint(cfg.Settings(), cfg); strings.Contains(printed, "hunter") {
				t.Errorf("it prints a secret: %s", printed)
			}
		})
	}
}

// What calls nobody needs no secrets.
func TestFreelancer_callsNobody(t *testing.T) {
	t.Parallel()
	src := source("marketplaces:\n  m: {handler: freelancer, token_env: NOWHERE}\n  n: {handler: manual, " + oauthKeys + "}\n")
	src.CallsNobody = true
	load(t, src)
}
