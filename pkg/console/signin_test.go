package console_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/arbitrageai/bidder/pkg/config"
	"github.com/arbitrageai/bidder/pkg/console"
)

func bearer(token string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) }
}

// everyPage are the addresses that need somebody who may look.
func everyPage(w *pages) []string {
	id := w.Bid("").ID.String()
	return []string{"/", "/bids", "/bids/" + id, "/review", "/locks", "/postings/upwork/1", "/metrics", "/nothing"}
}

// TestNobody: without signing in there is nothing to see but the way in, and whether all is well.
func TestNobody(t *testing.T) {
	t.Parallel()
	w := setupPages(t)
	b := w.browser()
	for _, path := range everyPage(w) {
		a := b.get(path)
		want(t, a, http.StatusUnauthorized)
		if strings.Contains(a.text, "<nav") {
			t.Errorf("%s shows more than the way in: %s", path, a.text)
		}
	}
	want(t, b.do(http.MethodPost, "/pause", url.Values{"marketplace": {"*"}, "reason": {"x"}}), http.StatusUnauthorized)
	want(t, b.do(http.MethodPost, "/sign-out", url.Values{}), http.StatusUnauthorized)
	for _, path := range []string{"/healthz", "/readyz", "/sign-in", "/assets/style.css", "/assets/icon.svg"} {
		want(t, b.get(path), http.StatusOK)
	}
	want(t, b.get("/assets/now.html"), http.StatusNotFound)
	want(t, b.get("/assets/..%2Fpage.go"), http.StatusNotFound)
	// What was asked for comes after signing in.
	want(t, b.get("/bids?status=WON"), http.StatusUnauthorized, `name="next" value="/bids?status=WON"`)
	a := b.do(http.MethodPost, "/sign-in", url.Values{"name": {"mara"}, "token": {token}, "next": {"/bids?status=WON"}})
	if a.status != http.StatusSeeOther || a.header.Get("Location") != "/bids?status=WON" {
		t.Errorf("answered %d to %q", a.status, a.header.Get("Location"))
	}
}

// TestRoles: who looks decides nothing, with a session and with a token.
func TestRoles(t *testing.T) {
	t.Parallel()
	w := setupPages(t)
	bid := w.Bid("delivery_state = 'awaiting_approval', next_attempt_at = NULL")
	reader, ops := w.as("rita", readonlyToken), w.as("mara", token)
	for _, path := range everyPage(w) {
		status := http.StatusOK
		if path == "/nothing" || path == "/metrics" || path == "/postings/upwork/1" {
			status = http.StatusNotFound
		}
		want(t, reader.get(path), status)
		want(t, w.browser().get(path, bearer(token)), status)
		want(t, w.browser().get(path, bearer(readonlyToken)), status)
	}
	if page := reader.page("/review"); strings.Contains(page, "/approve") || !strings.Contains(page, "may look") {
		t.Errorf("a reader is offered decisions: %s", page)
	}
	form := ops.form(bid.ID)
	form.Set("csrf", field(t, csrfField, reader.page("/review")))
	want(t, reader.decide(bid.ID, "approve", form), http.StatusForbidden, "You may look")
	want(t, w.browser().do(http.MethodPost, "/bids/"+bid.ID.String()+"/approve", form, bearer(readonlyToken)), http.StatusForbidden)
	if got := w.State(bid.ID); got != "ACTIVE place awaiting_approval" {
		t.Fatal(got)
	}
	// A program that shows the operator's token says whose decision it is.
	want(t, w.browser().do(http.MethodPost, "/bids/"+bid.ID.String()+"/approve", form, bearer(token)), http.StatusBadRequest, "Who decides?")
	form.Set("by", "robot of mara")
	want(t, w.browser().do(http.MethodPost, "/bids/"+bid.ID.String()+"/approve", form, bearer(token)), http.StatusSeeOther)
	if row := w.Row(bid.ID); *row.ApprovedBy != "robot of mara" || *row.DeliveryState != "pending" {
		t.Errorf("%+v", row)
	}
}

// TestSession: what the cookie is like, and when it ends.
func TestSession(t *testing.T) {
	t.Parallel()
	w := setupPages(t)
	now := time.Now()
	w.server.SetClock(func() time.Time { return now })
	signIn := func(b *browser, change ...func(*http.Request)) string {
		t.Helper()
		a := b.do(http.MethodPost, "/sign-in", url.Values{"name": {"mara"}, "token": {token}}, change...)
		want(t, a, http.StatusSeeOther)
		return a.header.Get("Set-Cookie")
	}
	b := w.browser()
	cookie := signIn(b)
	for _, wanted := range []string{"bidder-session=", "Path=/", "Max-Age=43200", "HttpOnly", "SameSite=Lax"} {
		if !strings.Contains(cookie, wanted) {
			t.Errorf("%s is not in the cookie %q", wanted, cookie)
		}
	}
	secure := signIn(w.browser(), func(r *http.Request) { r.Header.Set("X-Forwarded-Proto", "https") })
	if !strings.HasPrefix(secure, "__Host-bidder-session=") || !strings.Contains(secure, "Secure") || strings.Contains(secure, "Domain") {
		t.Errorf("over TLS the cookie is %q", secure)
	}
	if strings.Contains(cookie, token) || strings.Contains(b.page("/"), token) {
		t.Error("the token is shown")
	}
	// A copy of the cookie is worth nothing once its owner has signed out.
	copied := func(r *http.Request) { r.Header.Set("Cookie", strings.Split(cookie, ";")[0]) }
	want(t, w.browser().get("/", copied), http.StatusOK)
	want(t, b.do(http.MethodPost, "/sign-out", url.Values{"csrf": {"of another"}}), http.StatusForbidden)
	want(t, w.browser().get("/", copied), http.StatusOK)
	want(t, b.do(http.MethodPost, "/sign-out", url.Values{"csrf": {field(t, csrfField, b.page("/"))}}), http.StatusSeeOther)
	want(t, w.browser().get("/", copied), http.StatusUnauthorized)
	want(t, b.get("/"), http.StatusUnauthorized)
	// Signing in anew ends the session that was.
	cookie = signIn(b)
	signIn(b)
	want(t, w.browser().get("/", copied), http.StatusUnauthorized)
	now = now.Add(12*time.Hour - time.Second)
	want(t, b.get("/"), http.StatusOK)
	now = now.Add(2 * time.Second)
	want(t, b.get("/"), http.StatusUnauthorized)
}

// TestSessionsAreBounded: however many sign in, so many are remembered.
func TestSessionsAreBounded(t *testing.T) {
	t.Parallel()
	w := setupPages(t)
	now := time.Now()
	w.server.SetClock(func() time.Time { now = now.Add(time.Millisecond); return now })
	first, second := w.as("first", token), w.as("second", token)
	for range 999 {
		w.as("mara", readonlyToken)
	}
	want(t, first.get("/"), http.StatusUnauthorized)
	want(t, second.get("/"), http.StatusOK)
}

// TestSignInRefused: names that cannot be recorded, and wrong tokens, of which there is an end.
func TestSignInRefused(t *testing.T) {
	t.Parallel()
	w := setupPages(t)
	b := w.browser()
	for _, name := range []string{"", " ", "delivery", "Callback", "refresh", "a\x1bb", "\u202eevil", strings.Repeat("x", 61)} {
		want(t, b.do(http.MethodPost, "/sign-in", url.Values{"name": {name}, "token": {token}}), http.StatusUnprocessableEntity, `role="alert"`)
	}
	for range 5 {
		want(t, b.do(http.MethodPost, "/sign-in", url.Values{"name": {"mara"}, "token": {token[:10]}}), http.StatusUnauthorized, "That is not the token")
	}
	// From then on right ones are refused, too, however they are shown; other addresses are not.
	a := b.do(http.MethodPost, "/sign-in", url.Values{"name": {"mara"}, "token": {token}})
	want(t, a, http.StatusTooManyRequests)
	if a.header.Get("Retry-After") == "" || a.header.Get("Set-Cookie") != "" {
		t.Errorf("the answer has %v", a.header)
	}
	want(t, b.get("/", bearer(token)), http.StatusTooManyRequests)
	want(t, b.get("/healthz"), http.StatusOK)
	if lines := w.Log.Lines("wrong token"); len(lines) != 5 || strings.Contains(strings.Join(lines, ""), token[:10]) {
		t.Errorf("the log says %v", lines)
	}
}

// TestBearerRefused: the answer to a wrong token tells nothing.
func TestBearerRefused(t *testing.T) {
	t.Parallel()
	w := setupPages(t)
	for _, header := range []string{"", "wrong", token + "x", token[1:]} {
		a := w.browser().get("/", bearer(header))
		want(t, a, http.StatusUnauthorized, "the token is not right")
		if a.header.Get("WWW-Authenticate") == "" {
			t.Error("the answer does not say how")
		}
	}
	want(t, w.browser().get("/", func(r *http.Request) { r.Header.Set("Authorization", "Basic "+token) }), http.StatusUnauthorized, "Sign in")
}

// TestOpen: without a token whoever is on this machine looks, and nobody decides.
func TestOpen(t *testing.T) {
	t.Parallel()
	w := setupPages(t, func(o *console.Options) { o.Token, o.ReadonlyToken = config.Secret{}, config.Secret{} })
	bid := w.Bid("delivery_state = 'awaiting_approval', next_attempt_at = NULL")
	b := w.browser()
	if page := b.page("/review"); !strings.Contains(page, "read-only") || strings.Contains(page, "/approve") {
		t.Errorf("the page is %s", page)
	}
	for _, change := range []func(*http.Request){func(*http.Request) {}, bearer(""), bearer("x")} {
		want(t, b.do(http.MethodPost, "/bids/"+bid.ID.String()+"/approve", url.Values{"version": {"0-0"}, "by": {"mara"}}, change), http.StatusForbidden)
	}
	want(t, b.do(http.MethodPost, "/sign-in", url.Values{"name": {"mara"}, "token": {""}}), http.StatusSeeOther)
	want(t, b.do(http.MethodPost, "/pause", url.Values{"marketplace": {"*"}, "reason": {"x"}}), http.StatusForbidden)
	if got := w.State(bid.ID); got != "ACTIVE place awaiting_approval" {
		t.Error(got)
	}
}

// TestMetrics: they are behind the same door.
func TestMetrics(t *testing.T) {
	t.Parallel()
	w := setupPages(t, func(o *console.Options) {
		o.Metrics = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("bidder_runs_total 1\n")) })
	})
	want(t, w.browser().get("/metrics"), http.StatusUnauthorized)
	want(t, w.browser().get("/metrics", bearer(readonlyToken)), http.StatusOK, "bidder_runs_total 1\n")
	want(t, w.as("rita", readonlyToken).get("/metrics"), http.StatusOK, "bidder_runs_total 1\n")
}

// TestOwnPath: signing in leads nowhere else.
func TestOwnPath(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"/bids?status=WON": "/bids?status=WON", "": "/", "bids": "/", "//evil.example": "/", "/\\evil.example": "/", "https://evil.example": "/",
		"/\t/evil.example": "/", "javascript:alert(1)": "/", "/" + strings.Repeat("x", 3000): "/",
	} {
		if got := console.OwnPath(text); got != want {
			t.Errorf("%q leads to %q, want %q", text, got, want)
		}
	}
}
