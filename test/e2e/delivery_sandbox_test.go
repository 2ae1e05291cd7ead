package e2e

import (
	"encoding/base64"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"github.com/arbitrageai/bidder/pkg/marketplace/sandbox"
)

// sandboxProcess is a sandbox as users start it, and where it is.
func sandboxProcess(t *testing.T, args ...string) (p *process, url string) {
	t.Helper()
	p = call{args: append([]string{"sandbox", "--listen", "127.0.0.1:0"}, args...)}.start(t)
	eventually(t, "the sandbox is open", func() bool {
		_, after, found := strings.Cut(p.stdout.String(), "open at ")
		url, _, _ = strings.Cut(after, "\n")
		return found && strings.Contains(after, "\n")
	})
	return p, url
}

// TestSandboxProcess bids on a sandbox in a process of its own, as the first steps of a user do.
func TestSandboxProcess(t *testing.T) {
	t.Parallel()
	f := setup(t)
	sandboxed, url := sandboxProcess(t)
	configured := "BIDDER_CONFIG=" + file(t, "bidder.yaml", "marketplaces:", "  upwork:", "    handler: sandbox",
		"    allow_private_networks: true", "    base_url: "+url)
	f.ingest(line("1"), line("2"))
	report := decode[passReport](t, f.call("run").with(configured).json().run(t).want(t, 0))
	if report.Deliveries.Place.Done != 2 {
		t.Errorf("the pass delivered %+v", report.Deliveries)
	}
	remote := sandbox.Remote{BaseURL: url, Client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
	bids, err := remote.Bids(t.Context())
	if err != nil || len(bids) != 2 {
		t.Errorf("the sandbox has %+v: %v", bids, err)
	}
	eventually(t, "it shows what it saw", func() bool { return strings.Count(sandboxed.stdout.String(), "place ") == 2 })
	sandboxed.signal(syscall.SIGTERM)
	sandboxed.wait().want(t, 143)

	// Nobody answers any more: certainly not sent, tried again later.
	f.ingest(line("3"))
	report = decode[passReport](t, f.call("run").with(configured).json().run(t).want(t, 0))
	if report.Deliveries.Place.Retry != 1 {
		t.Errorf("the pass without a sandbox delivered %+v", report.Deliveries)
	}
	f.wantCount(1, "bids WHERE job_id = '3' AND place_posts = 0 AND delivery_state = 'pending' AND delivery_attempts = 1")
}

// TestBridgeCheck: the sandbox keeps to the protocol, unless it is told not to.
func TestBridgeCheck(t *testing.T) {
	t.Parallel()
	type check struct{ Name, Verdict, Detail string }
	tests := []struct {
		name string
		args []string
		code int
	}{
		{name: "as it should be"},
		{name: "broken", args: []string{"--forgetful", "--duplicates"}, code: 3},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, url := sandboxProcess(t, tt.args...)
			report := decode[struct {
				OK     bool
				Checks []check
			}](t, call{args: []string{"bridge", "check", url + "/upwork", "-o", "json"}}.run(t).want(t, tt.code))
			if report.OK != (tt.code == 0) || len(report.Checks) == 0 {
				t.Errorf("the report is %+v", report)
			}
		})
	}
	t.Run("usage", func(t *testing.T) {
		t.Parallel()
		call{args: []string{"bridge", "check", "upwork"}}.run(t).wantError(t, 2, "manual")
		call{args: []string{"bridge", "check", "http://127.0.0.1:1/x", "--secret-env", "NONE"}}.run(t).wantError(t, 2, "NONE")
		call{args: []string{"sandbox", "--listen", "nowhere"}}.run(t).wantError(t, 2, "nowhere")
	})
}

// TestBridge: a connector of one's own, with routes and a secret from the configuration, is
// called as the sandbox is.
func TestBridge(t *testing.T) {
	t.Parallel()
	m := setupMarket(t, patient())
	// The secret of the sandbox, as a variable would hold it.
	m.env = []string{
		"SECRET=whsec_" + base64.StdEncoding.EncodeToString([]byte(sandbox.Secret().Reveal())),
		"BIDDER_CONFIG=" + file(t, "bridge.yaml", "marketplaces:", "  upwork:", "    handler: bridge", "    allow_private_networks: true",
			"    base_url: "+m.url+"/upwork", "    idempotent_place: false", "    signing_secrets_env: [SECRET]", "    settle: 1s",
			"    place: {path: /bids}", "    lookup: {path: '/bids/by-key/{idempotency_key}'}",
			"    withdraw: {path: '/bids/{external_bid_id}/withdraw'}"),
	}
	id := m.placed("1")[0]
	m.withdraw(id, "a mistake", 0)
	m.wantLive(0)

	// Without idempotency a bid is POSTed once, ever: what got lost is a person's.
	m.fault(sandbox.Fault{Do: sandbox.Drop, Op: sandbox.Place, Count: 1})
	lost := m.owing("2")[0]
	m.converge()
	m.wantState(lost, "ACTIVE", " place review")
	m.wantCalls(sandbox.Place, 2)
	m.wantCount(1, "bids WHERE review_reason = 'unresolved'")
}

// TestSandboxFreelancer: the sandbox speaks the Freelancer.com API as its flags say, and as its help says.
func TestSandboxFreelancer(t *testing.T) {
	t.Parallel()
	help := call{args: []string{"sandbox", "--help"}}.run(t).want(t, 0).stdout
	for _, want := range []string{"/freelancer/api", "/freelancer/accounts", sandbox.FreelancerToken} {
		if !strings.Contains(help, want) {
			t.Errorf("the help lacks %s:\n%s", want, help)
		}
	}
	const bid = `{"project_id":7,"bidder_id":84120077,"amount":480,"period":10,"milestone_percentage":50}`
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for _, tt := range []struct {
		args   []string
		status []int
	}{
		{nil, []int{404, 404}},
		{[]string{"--any-project"}, []int{200, 409}},
		{[]string{"--any-project", "--duplicates"}, []int{200, 200}},
	} {
		sandboxed, url := sandboxProcess(t, tt.args...)
		for i, want := range tt.status {
			request, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, url+sandbox.FreelancerAPI+"/projects/0.1/bids/", strings.NewReader(bid))
			request.Header.Set("Content-Type", "application/json")
			request.Header.Set("Authorization", "Bearer "+sandbox.FreelancerToken)
			response, err := client.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			_ = response.Body.Close()
			if response.StatusCode != want {
				t.Errorf("%v: POST %d is answered %d, want %d", tt.args, i+1, response.StatusCode, want)
			}
		}
		eventually(t, "it shows what it saw", func() bool { return strings.Count(sandboxed.stdout.String(), "freelancer 7") == 2 })
	}
}
