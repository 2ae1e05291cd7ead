package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// freelancerSite is as much of Freelancer.com as a bid needs: an account whose tokens are
// access-N and refresh-N, open projects, and bids.
type freelancerSite struct {
	url string

	mu      sync.Mutex
	issued  int
	refused bool             // the newest access token is no longer accepted
	bids    []map[string]any // by id, from 1
	posts   int
}

func serveFreelancer(t *testing.T) *freelancerSite {
	t.Helper()
	s := &freelancerSite{}
	api := http.NewServeMux()
	api.HandleFunc("POST /oauth/token", func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("client_id") != "app-1" || r.FormValue("client_secret") != "hunter3" ||
			r.FormValue("code") != "c0de" && r.FormValue("refresh_token") != fmt.Sprintf("refresh-%d", s.issued) {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"error":"invalid_grant"}`)
			return
		}
		s.issued++
		s.refused = false
		fmt.Fprintf(w, `{"access_token":"access-%d","refresh_token":"refresh-%d","expires_in":2592000,"token_type":"Bearer"}`, s.issued, s.issued)
	})
	answer := func(w http.ResponseWriter, result any) {
		text, err := json.Marshal(map[string]any{"status": "success", "request_id": "0a7c1b93", "result": result})
		if err != nil {
			t.Error(err)
		}
		_, _ = w.Write(text)
	}
	api.HandleFunc("GET /api/users/0.1/self/", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]any{"id": 84120077, "username": "quietforge"})
	})
	api.HandleFunc("GET /api/projects/0.1/projects/{id}/", func(w http.ResponseWriter, r *http.Request) {
		answer(w, map[string]any{"id": json.Number(r.PathValue("id")), "status": "active", "currency": map[string]any{"code": "USD"}})
	})
	api.HandleFunc("GET /api/projects/0.1/bids/{$}", func(w http.ResponseWriter, r *http.Request) {
		found := []any{}
		for _, bid := range s.bids {
			if fmt.Sprint(bid["project_id"]) == r.FormValue("projects[]") && r.FormValue("offset") == "0" {
				found = append(found, bid)
			}
		}
		answer(w, map[string]any{"bids": found})
	})
	api.HandleFunc("POST /api/projects/0.1/bids/{$}", func(w http.ResponseWriter, r *http.Request) {
		bid := map[string]any{}
		_ = json.NewDecoder(r.Body).Decode(&bid)
		bid["id"], bid["retracted"], bid["project_id"] = len(s.bids)+1, false, int64(bid["project_id"].(float64))
		s.bids = append(s.bids, bid)
		s.posts++
		answer(w, bid)
	})
	api.HandleFunc("/api/projects/0.1/bids/{id}/", func(w http.ResponseWriter, r *http.Request) {
		var id int
		if _, err := fmt.Sscan(r.PathValue("id"), &id); err != nil || id < 1 || id > len(s.bids) {
			http.NotFound(w, r)
			return
		}
		if r.Method == http.MethodPut {
			s.bids[id-1]["retracted"] = r.FormValue("action") == "retract"
		}
		answer(w, s.bids[id-1])
	})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		if strings.HasPrefix(r.URL.Path, "/api/") && (s.refused || r.Header.Get("Freelancer-Oauth-V1") != fmt.Sprintf("access-%d", s.issued)) {
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, `{"status":"error","message":"You must be logged in to perform this request","error_code":"RestExceptionCodes.NOT_AUTHENTICATED"}`)
			return
		}
		api.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	s.url = server.URL
	return s
}

func (s *freelancerSite) refuse() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused = true
}

type freelancerReport struct {
	Marketplace, Host, Token string
	SignedIn                 bool    `json:"signed_in"`
	UserID                   *int64  `json:"user_id"`
	Username                 *string `json:"username"`
	ExpiresAt                *string `json:"expires_at"`
	Problem                  *string `json:"problem"`
}

// login signs in as a person does; change makes something of the address that the browser ends at.
func login(t *testing.T, c call, change func(state string) string) result {
	t.Helper()
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	defer out.Close()
	c.args, c.input = append([]string{"freelancer", "login"}, c.args...), in
	p := c.start(t)
	asked := regexp.MustCompile(`(http://\S+/oauth/authorize\?\S+)`)
	eventually(t, "it shows where to sign in", func() bool { return asked.MatchString(p.stderr.String()) })
	address, err := url.Parse(asked.FindString(p.stderr.String()))
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(out, change(address.Query().Get("state")))
	return p.wait()
}

func TestFreelancerSignIn(t *testing.T) {
	t.Parallel()
	f, site := setup(t), serveFreelancer(t)
	environment := []string{
		"ID=app-1", "SECRET=hunter3", "KEY=AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
		"BIDDER_CONFIG=" + file(t, "bidder.yaml", "marketplaces:", "  freelancer:", "    handler: freelancer", "    rate: 0", "    settle: 1s",
			"    base_url: "+site.url+"/api", "    allow_private_networks: true", "    client_id_env: ID", "    client_secret_env: SECRET",
			"    redirect_uri: https://example.test/cb", "    token_key_env: KEY"),
	}
	bidder := func(args ...string) call { return f.call(args...).with(environment...) }
	silent := func(r result) result {
		t.Helper()
		for _, secret := range []string{"hunter", "access-", "refresh-", "AAECAw"} {
			if strings.Contains(r.stdout+r.stderr, secret) {
				t.Errorf("it tells %q: %s%s", secret, r.stdout, r.stderr)
			}
		}
		return r
	}

	nobody := decode[freelancerReport](t, silent(bidder("freelancer", "status").json().run(t)).want(t, 3))
	if nobody.SignedIn || nobody.Problem == nil || !strings.Contains(*nobody.Problem, "bidder freelancer login") {
		t.Errorf("before signing in: %+v", nobody)
	}
	for _, tt := range []struct {
		name   string
		pasted func(state string) string
		says   string
		code   int
	}{
		{"another state", func(string) string { return "https://example.test/cb?code=c0de&state=other" }, "state differs", 2},
		{"no state", func(string) string { return "https://example.test/cb?code=c0de" }, "state differs", 2},
		{"refused", func(s string) string { return "https://example.test/cb?error=access_denied&state=" + s }, "access_denied", 2},
		{"no code", func(s string) string { return "https://example.test/cb?state=" + s }, "has no code", 2},
		{"nothing", func(string) string { return "" }, "neither an address nor a code", 2},
		{"an old code", func(string) string { return "0ld" }, "invalid_grant", 3},
	} {
		silent(login(t, bidder(), tt.pasted)).wantError(t, tt.code, tt.says)
	}
	f.wantCount(0, "tokens")
	back := func(state string) string { return "https://example.test/cb?code=c0de&state=" + state }
	report := decode[freelancerReport](t, silent(login(t, bidder().json(), back)).want(t, 0))
	id, name := int64(84120077), "quietforge"
	want := freelancerReport{
		Marketplace: "freelancer", Host: strings.TrimPrefix(site.url, "http://"), Token: "oauth", SignedIn: true, UserID: &id, Username: &name, ExpiresAt: report.ExpiresAt,
	}
	if diff := cmp.Diff(want, report); diff != "" || report.ExpiresAt == nil {
		t.Errorf("signed in (-want +got):\n%s", diff)
	}
	f.wantCount(1, "tokens AS k WHERE k::text || encode(sealed, 'escape') !~ 'access|refresh'")

	// Bids go out, and come back.
	f.ingest(strings.Replace(line("39812345"), "upwork", "freelancer", 1))
	silent(bidder("run").run(t)).want(t, 0)
	f.wantCount(1, "bids WHERE external_bid_id = '1' AND NOT is_foreign AND place_posts = 1 AND delivery_kind IS NULL")
	bid := ""
	if err := f.pool.QueryRow(t.Context(), "SELECT id::text FROM bids").Scan(&bid); err != nil {
		t.Fatal(err)
	}
	silent(bidder("withdraw", bid, "--reason", "a mistake").run(t)).want(t, 0)
	f.wantCount(1, "bids WHERE status = 'WITHDRAWN'")

	// A token that is refused is renewed.
	site.refuse()
	f.ingest(strings.Replace(line("2"), "upwork", "freelancer", 1))
	silent(bidder("run").run(t)).want(t, 0)
	f.wantCount(1, "bids WHERE external_bid_id = '2' AND place_posts = 1 AND delivery_attempts = 0")
	f.wantCount(1, "tokens WHERE renewed_at IS NOT NULL AND unanswered_at IS NULL")

	// Without one, a person is asked, and nothing was sent.
	silent(bidder("freelancer", "logout").run(t)).want(t, 0)
	f.ingest(strings.Replace(line("3"), "upwork", "freelancer", 1))
	silent(bidder("run").run(t)).want(t, 3)
	f.wantCount(1, "bids WHERE job_id = '3' AND review_reason = 'auth_needed' AND place_posts = 0")
	f.wantCount(1, "accounts WHERE marketplace = 'freelancer' AND paused_until IS NULL AND paused_at IS NOT NULL")
	if r := silent(login(t, bidder(), back)).want(t, 0); !strings.Contains(r.stderr, "bidder resume freelancer") || !strings.Contains(r.stdout, "quietforge (84120077)") {
		t.Errorf("signed in while paused: %s%s", r.stdout, r.stderr)
	}
	if site.posts != 2 {
		t.Errorf("%d POSTs, want 2", site.posts)
	}
	f.wantCount(0, "bid_events WHERE detail::text ~ 'access-|refresh-|hunter'")

	f.call("run").with(environment[1:]...).run(t).wantError(t, 2, "ID is not set")
	f.call("ingest", "-").with(environment[3:]...).run(t).want(t, 0)
	bidder("freelancer", "login", "upwork").run(t).wantError(t, 2, "not freelancer")
	f.call("freelancer", "status").run(t).wantError(t, 2, "no marketplace has the handler freelancer")
	personal := f.call("freelancer", "login").with("T=x", "BIDDER_CONFIG="+file(t, "t.yaml", "marketplaces: {f: {handler: freelancer, token_env: T}}"))
	personal.run(t).wantError(t, 2, "personal token of T")
}
