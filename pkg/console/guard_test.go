package console_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/arbitrageai/bidder/pkg/config"
	"github.com/arbitrageai/bidder/pkg/console"
)

// TestHeaders: every answer tells browsers to load and run nothing from elsewhere.
func TestHeaders(t *testing.T) {
	t.Parallel()
	w := setupPages(t)
	ops := w.as("mara", token)
	for _, a := range []answered{w.browser().get("/"), ops.get("/"), ops.get("/nothing"), ops.get("/assets/style.css"), ops.get("/healthz"), ops.do(http.MethodPost, "/pause", url.Values{})} {
		for name, wanted := range map[string]string{
			"Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
			"X-Frame-Options":         "DENY", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin",
			"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin",
		} {
			if got := a.header.Get(name); got != wanted {
				t.Errorf("%d: %s is %q, want %q", a.status, name, got, wanted)
			}
		}
		if strings.Contains(a.text, " style=") || strings.Contains(a.text, "<script") || strings.Contains(a.text, "<style") || strings.Contains(a.text, " onclick") {
			t.Errorf("the page has what the policy forbids: %s", a.text)
		}
	}
	if got := ops.get("/").header.Get("Cache-Control"); got != "no-store" {
		t.Errorf("a page may be kept: %q", got)
	}
}

// TestForgedForms: a form that is not of the session, or comes from another site, does nothing.
func TestForgedForms(t *testing.T) {
	t.Parallel()
	w := setupPages(t)
	bid := w.Bid("delivery_state = 'awaiting_approval', next_attempt_at = NULL")
	ops, other := w.as("mara", token), w.as("milo", token)
	approve := "/bids/" + bid.ID.String() + "/approve"
	for _, csrf := range []string{"", "x", field(t, csrfField, other.page("/"))} {
		want(t, ops.decide(bid.ID, "approve", ops.form(bid.ID, "csrf", csrf)), http.StatusForbidden, "not of your session")
	}
	form := ops.form(bid.ID)
	for _, from := range []func(*http.Request){
		func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") },
		func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-site") },
		func(r *http.Request) { r.Header.Del("Sec-Fetch-Site"); r.Header.Set("Origin", "https://evil.example") },
		func(r *http.Request) { r.Header.Del("Sec-Fetch-Site"); r.Header.Set("Origin", "null") },
	} {
		for _, path := range []string{approve, "/pause", "/resume", "/sign-in", "/sign-out"} {
			want(t, ops.do(http.MethodPost, path, form, from), http.StatusForbidden, "another site")
		}
	}
	want(t, ops.do(http.MethodGet, approve+"?"+form.Encode(), nil), http.StatusNotFound)
	want(t, ops.do(http.MethodPost, approve+"?"+form.Encode(), url.Values{}), http.StatusForbidden) // only the body counts
	if got := w.State(bid.ID); got != "ACTIVE place awaiting_approval" {
		t.Fatal(got)
	}
	want(t, ops.decide(bid.ID, "approve", form), http.StatusSeeOther)
}

// TestHost: a name that was made to point at this machine is not answered to.
func TestHost(t *testing.T) {
	t.Parallel()
	as := func(host string) func(*http.Request) { return func(r *http.Request) { r.Host = host } }
	for _, tt := range []struct {
		name  string
		hosts []string
		open  bool
		host  string
		want  int
	}{
		{"localhost", nil, true, "localhost:8080", 200},
		{"an address", nil, true, "127.0.0.1", 200},
		{"another address of it", nil, true, "127.8.8.8:1", 200},
		{"IPv6", nil, true, "[::1]:8080", 200},
		{"a foreign name", nil, true, "evil.example:8080", 421},
		{"a foreign address", nil, true, "10.0.0.1", 421},
		{"a name like ours", nil, true, "localhost.evil.example", 421},
		{"a foreign name, with tokens", nil, false, "evil.example", 421},
		{"a proxy's name", []string{"bidder.example"}, false, "Bidder.example:443", 200},
		{"a proxy's name, without tokens", []string{"bidder.example"}, true, "bidder.example", 421},
		{"not the proxy's name", []string{"bidder.example"}, false, "evil.example", 421},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := setupPages(t, func(o *console.Options) {
				o.Hosts = tt.hosts
				if tt.open {
					o.Token, o.ReadonlyToken = config.Secret{}, config.Secret{}
				}
			})
			want(t, w.browser().get("/sign-in", as(tt.host)), map[bool]int{true: http.StatusSeeOther, false: tt.want}[tt.open && tt.want == 200])
			want(t, w.browser().get("/healthz", as(tt.host)), http.StatusOK)
		})
	}
}

// TestForwarded: without a token, what a proxy on this machine has passed on is refused, whatever
// name it says; a token is all that it takes.
func TestForwarded(t *testing.T) {
	t.Parallel()
	open := setupPages(t, func(o *console.Options) { o.Token, o.ReadonlyToken = config.Secret{}, config.Secret{} })
	closed := setupPages(t)
	for _, name := range []string{"Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Port", "X-Forwarded-Proto", "X-Forwarded-Server", "x-forwarded-ssl", "X-Real-IP"} {
		passedOn := func(r *http.Request) {
			r.Header.Add(name, "") // from whoever wants to look
			r.Header.Add(name, "198.51.100.7")
		}
		for _, path := range []string{"/", "/bids", "/metrics", "/assets/console.css"} {
			want(t, open.browser().get(path, passedOn), http.StatusForbidden, "BIDDER_CONSOLE_TOKEN")
		}
		want(t, open.browser().get("/healthz", passedOn), http.StatusOK)
		want(t, closed.browser().get("/sign-in", passedOn), http.StatusOK)
	}
	want(t, open.browser().get("/"), http.StatusOK)
}

// TestBounds: what is too long is refused, and breaks nothing.
func TestBounds(t *testing.T) {
	t.Parallel()
	w := setupPages(t)
	bid := w.Bid("")
	ops := w.as("mara", token)
	long := strings.Repeat("x", 70<<10)
	want(t, ops.decide(bid.ID, "withdraw", ops.form(bid.ID, "reason", long)), http.StatusBadRequest, "too long")
	want(t, ops.decide(bid.ID, "withdraw", ops.form(bid.ID, "reason", long[:1001])), http.StatusUnprocessableEntity)
	want(t, ops.do(http.MethodPost, "/sign-in", url.Values{"name": {long}, "token": {token}}), http.StatusBadRequest)
	want(t, ops.do(http.MethodPost, "/pause", url.Values{"csrf": {field(t, csrfField, ops.page("/"))}, "marketplace": {"*"}, "reason": {long[:1001]}}), http.StatusUnprocessableEntity)
	for path, status := range map[string]int{
		"/bids?q=" + long[:4000]: 200, "/bids?q=%00%ff%25_\\": 200, "/bids?before=x": 400, "/bids?status=NONE": 400, "/bids?since=yesterday": 400, "/bids?marketplace=+": 400,
		"/bids/x": 404, "/bids/" + bid.ID.String() + "?before=x": 404, "/bids/0192f3a4-7c1e-7b32-9d55-1f0e6a2b8c41": 404,
		"/review?state=x": 404, "/review?after=x": 404, "/postings/upwork/none": 404, "/postings/up%20work/1": 404, "/postings/upwork/%01": 404,
	} {
		want(t, ops.get(path), status)
	}
	if got := w.State(bid.ID); got != "ACTIVE place pending" {
		t.Error(got)
	}
}
