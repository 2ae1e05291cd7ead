package sandbox_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/arbitrageai/bidder/pkg/marketplace/sandbox"
)

const application = "2f6c0d1e-8f0a-4c56-9f0f-3f1b8f0e6a11"

func (s *site) account(path string) string {
	return s.remote.BaseURL + sandbox.FreelancerAccounts + path
}

// exchange asks for tokens.
func (s *site) exchange(tb testing.TB, members ...string) answer {
	tb.Helper()
	form := url.Values{"client_id": {application}, "client_secret": {"s3cr3t"}}
	for i := 0; i < len(members); i += 2 {
		form.Set(members[i], members[i+1])
	}
	got, err := s.send(tb, "POST", s.account("/oauth/token"), "application/x-www-form-urlencoded", form.Encode())
	if err != nil {
		tb.Fatal(err)
	}
	return got
}

// authorized is what the browser is sent back with.
func (s *site) authorized(tb testing.TB, spelling, state string) url.Values {
	tb.Helper()
	query := url.Values{
		"response_type": {"code"}, "client_id": {application}, "redirect_uri": {"https://example.test/cb?a=b"}, "scope": {"basic"}, "advanced_scopes": {"2"},
	}
	if state != "" {
		query.Set("state", state)
	}
	got, err := s.send(tb, "GET", s.account("/oauth/"+spelling+"?"+query.Encode()), "", "")
	if err != nil || got.status != 302 || !strings.HasPrefix(got.header.Get("Location"), "https://example.test/cb?") {
		tb.Fatalf("%+v, %v", got, err)
	}
	back, err := url.Parse(got.header.Get("Location"))
	if err != nil || back.Query().Get("a") != "b" || back.Query().Get("code") == "" {
		tb.Fatalf("%v, %v", back, err)
	}
	return back.Query()
}

func TestFreelancerSignIn(t *testing.T) {
	t.Parallel()
	s := startSite(t, sandbox.FreelancerRules{})
	back := s.authorized(t, "authorize", "a state")
	if back.Get("state") != "a state" {
		t.Errorf("back with %v", back)
	}
	if s.authorized(t, "authorise", "").Has("state") {
		t.Error("a state that nobody sent")
	}
	code := []string{"grant_type", "authorization_code", "code", back.Get("code"), "redirect_uri", "https://example.test/cb?a=b"}
	first := s.exchange(t, code...)
	wantPayload(t, first, 200, tokenPayload, "access_token", "refresh_token")
	tokens := first.json(t)
	s.token = tokens["access_token"].(string)
	if s.get(t, "/users/0.1/self/").id(t) != "84120077" {
		t.Error("the token is another user's")
	}

	// A code works once, and so does a refresh token.
	spent := strings.Replace(invalidGrantPayload, "refresh token", "code", 1)
	wantPayload(t, s.exchange(t, code...), 400, spent)
	refresh := []string{"grant_type", "refresh_token", "refresh_token", tokens["refresh_token"].(string)}
	second := s.exchange(t, refresh...)
	wantPayload(t, second, 200, tokenPayload, "access_token", "refresh_token")
	wantPayload(t, s.exchange(t, refresh...), 400, invalidGrantPayload)
	rotated := second.json(t)
	if rotated["refresh_token"] == tokens["refresh_token"] || rotated["access_token"] == tokens["access_token"] {
		t.Error("the tokens are the old ones")
	}

	stolen := s.exchange(t, code[0], code[1], "code", s.authorized(t, "authorize", "").Get("code"), "redirect_uri", code[5]).json(t)["refresh_token"].(string)
	wantPayload(t, s.exchange(t, "grant_type", "refresh_token", "refresh_token", stolen, "client_id", "other"), 400, invalidGrantPayload)

	// Tokens that have ended are refused, until they are renewed.
	s.token = rotated["access_token"].(string)
	s.get(t, "/users/0.1/self/").id(t)
	if err := s.remote.ExpireTokens(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantPayload(t, s.get(t, "/users/0.1/self/"), 401, noTokenPayload)
	renewed := s.exchange(t, "grant_type", "refresh_token", "refresh_token", rotated["refresh_token"].(string)).json(t)
	s.token = renewed["access_token"].(string)
	s.get(t, "/users/0.1/self/").id(t)
	s.token = sandbox.FreelancerToken // does not end
	s.get(t, "/users/0.1/self/").id(t)

	count := map[sandbox.Op]int{}
	for _, e := range s.Journal() {
		count[e.Op]++
		if e.Op == sandbox.Token && e.Stored != (e.Status == 200) {
			t.Errorf("entry %+v", e)
		}
	}
	if count[sandbox.Authorize] != 3 || count[sandbox.Token] != 7 {
		t.Errorf("journal %v", count)
	}
}

func TestFreelancerTokensEnd(t *testing.T) {
	t.Parallel()
	s := startSite(t, sandbox.FreelancerRules{TokenSeconds: 1})
	got := s.exchange(t, "grant_type", "refresh_token", "refresh_token", sandbox.FreelancerRefreshToken)
	wantPayload(t, got, 200, strings.Replace(tokenPayload, "2592000", "1", 1), "access_token", "refresh_token")
	s.token = got.json(t)["access_token"].(string)
	wait(t, "the token ends", func() bool { return s.get(t, "/users/0.1/self/").status == 401 })
}

func TestFreelancerSignInRefuses(t *testing.T) {
	t.Parallel()
	s := startSite(t, sandbox.FreelancerRules{})
	code := func() string { return s.authorized(t, "authorize", "x").Get("code") }
	const grant, by, redirect = "grant_type", "authorization_code", "https://example.test/cb?a=b"
	for name, tt := range map[string]struct {
		members []string
		status  int
		code    string
	}{
		"another address":     {[]string{grant, by, "code", code(), "redirect_uri", "https://example.test/other"}, 400, "invalid_grant"},
		"another application": {[]string{grant, by, "code", code(), "redirect_uri", redirect, "client_id", "other"}, 400, "invalid_grant"},
		"no code":             {[]string{grant, by, "redirect_uri", redirect}, 400, "invalid_grant"},
		"no refresh token":    {[]string{grant, "refresh_token"}, 400, "invalid_grant"},
		"another grant":       {[]string{grant, "password"}, 400, "unsupported_grant_type"},
		"no client":           {[]string{grant, by, "client_id", ""}, 401, "invalid_client"},
		"no secret":           {[]string{grant, by, "client_secret", ""}, 401, "invalid_client"},
	} {
		got := s.exchange(t, tt.members...)
		if got.status != tt.status || got.json(t)["error"] != tt.code {
			t.Errorf("%s: %d %s, want %d %s", name, got.status, got.body, tt.status, tt.code)
		}
	}
	for name, query := range map[string]string{
		"no address":     "response_type=code&client_id=x",
		"not of the web": "response_type=code&client_id=x&redirect_uri=javascript:alert(1)",
		"no client":      "response_type=code&redirect_uri=https://example.test/",
		"another kind":   "response_type=token&client_id=x&redirect_uri=https://example.test/",
	} {
		if got, err := s.send(t, "GET", s.account("/oauth/authorize?"+query), "", ""); err != nil || got.status != 400 {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	if got, err := s.send(t, "POST", s.account("/oauth/token"), "application/json", "{}"); err != nil || got.status != 400 {
		t.Errorf("JSON: %+v, %v", got, err)
	}
	s.fault(t, sandbox.Fault{Do: sandbox.Answer, Op: sandbox.Token, Status: 503, Count: 1})
	if got := s.exchange(t, grant, by); got.status != 503 || got.json(t)["error"] != "server_error" {
		t.Errorf("told to fail: %+v", got)
	}
}
