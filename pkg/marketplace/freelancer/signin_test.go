package freelancer

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/arbitrageai/bidder/pkg/config"
	"github.com/arbitrageai/bidder/pkg/marketplace"
)

const appSecret = "s3cr3t"

func newSignIn(t *testing.T, s *site) *SignIn {
	t.Helper()
	m := s.market()
	m.Freelancer.ClientID, m.Freelancer.ClientSecret = config.NewSecret("2f6c0d1e-8f0a-4c56-9f0f-3f1b8f0e6a11"), config.NewSecret(appSecret)
	m.Freelancer.RedirectURI = "https://example.test/cb"
	signIn := NewSignIn(m)
	t.Cleanup(signIn.Close)
	return signIn
}

func TestAuthorizeURL(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	address, err := url.Parse(newSignIn(t, s).AuthorizeURL("st4te"))
	if err != nil {
		t.Fatal(err)
	}
	want := url.Values{
		"response_type": {"code"}, "client_id": {"2f6c0d1e-8f0a-4c56-9f0f-3f1b8f0e6a11"}, "redirect_uri": {"https://example.test/cb"},
		"scope": {"basic"}, "advanced_scopes": {"2"}, "prompt": {"select_account consent"}, "state": {"st4te"},
	}
	if diff := cmp.Diff(want, address.Query()); diff != "" || address.Path != "/oauth/authorize" {
		t.Errorf("%s (-want +got):\n%s", address, diff)
	}
}

func TestExchangeAndRenew(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.answer(postToken, reply{status: 200, body: payload(t, 2)}, reply{status: 200, body: payload(t, 2), header: http.Header{"Content-Type": {"text/plain"}}},
		reply{status: 200, body: `{"access_token":"new-access","expires_in":60,"token_type":"Bearer"}`})
	signIn := newSignIn(t, s)
	got, err := signIn.Exchange(t.Context(), "c0dE1234")
	if err != nil || got.AccessToken != testToken || got.RefreshToken != "pL9eR4uV8sWd2" || got.ExpiresIn != 2592000 {
		t.Errorf("exchange: %v", err)
	}
	if got, err = signIn.Renew(t.Context(), "old-refresh"); err != nil || got.RefreshToken != "pL9eR4uV8sWd2" {
		t.Errorf("renewal: %v", err)
	}
	if got, err = signIn.Renew(t.Context(), "old-refresh"); err != nil || got.AccessToken != "new-access" || got.RefreshToken != "old-refresh" {
		t.Errorf("renewal without a refresh token: %v", err)
	}
	_, body, _ := strings.Cut(payload(t, 1), "\n\n")
	form := func(body string) url.Values {
		values, err := url.ParseQuery(strings.TrimPrefix(body, "POST /oauth/token application/x-www-form-urlencoded "))
		if err != nil {
			t.Fatal(err)
		}
		return values
	}
	renewal := url.Values{
		"grant_type": {"refresh_token"}, "refresh_token": {"old-refresh"}, "client_id": {"2f6c0d1e-8f0a-4c56-9f0f-3f1b8f0e6a11"}, "client_secret": {appSecret},
	}
	if diff := cmp.Diff([]url.Values{form(body), renewal, renewal}, []url.Values{form(s.requests()[0]), form(s.requests()[1]), form(s.requests()[2])}); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

// What a failed renewal proves of the refresh token: worth nothing, maybe used up, or as before.
func TestRenewFails(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		reply reply
		want  error // nil: it is as before
		says  string
	}{
		"refused":           {reply{status: 400, body: payload(t, 3)}, marketplace.ErrAuthNeeded, "invalid_grant"},
		"refused, HTTP 200": {reply{status: 200, body: payload(t, 3)}, marketplace.ErrAuthNeeded, "invalid_grant"},
		"wrong app":         {reply{status: 401, body: `{"error":"invalid_client","error_description":"` + appSecret + ` old-refresh"}`}, nil, "invalid_client [redacted] [redacted]"},
		"rate":              {reply{status: 429}, nil, "429"},
		"gateway":           {reply{status: 502, body: "<html>"}, marketplace.ErrNoAnswer, "502"},
		"wall":              {reply{status: 403, body: "<html>"}, marketplace.ErrNoAnswer, "403"},
		"cut":               {reply{}, marketplace.ErrNoAnswer, "no answer"},
		"nonsense":          {reply{status: 200, body: "old-refresh"}, marketplace.ErrNoAnswer, "makes no sense"},
		"no token in it":    {reply{status: 200, body: `{"refresh_token":"old-refresh"}`}, marketplace.ErrNoAnswer, "makes no sense"},
		"redirect":          {reply{status: 307, header: http.Header{"Location": {"/elsewhere"}}}, marketplace.ErrNoAnswer, "307"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.answer(postToken, tt.reply)
			_, err := newSignIn(t, s).Renew(t.Context(), "old-refresh")
			for _, sentinel := range []error{marketplace.ErrAuthNeeded, marketplace.ErrNoAnswer} {
				if errors.Is(err, sentinel) != errors.Is(tt.want, sentinel) {
					t.Errorf("error %v: is %v: %v", err, sentinel, !errors.Is(tt.want, sentinel))
				}
			}
			if err == nil || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "old-refresh") || strings.Contains(err.Error(), appSecret) {
				t.Errorf("error %v, want it to say %q, and no secret", err, tt.says)
			}
			if len(s.requests()) != 1 {
				t.Errorf("%d requests, want one", len(s.requests()))
			}
		})
	}
	s := newSite(t)
	signIn := newSignIn(t, s)
	signIn.config.Endpoint.TokenURL = "http://127.0.0.1:1/oauth/token"
	if _, err := signIn.Renew(t.Context(), "old-refresh"); err == nil || errors.Is(err, marketplace.ErrNoAnswer) || errors.Is(err, marketplace.ErrAuthNeeded) {
		t.Errorf("not sent: %v, want an error that says that the refresh token is as before", err)
	}
}
