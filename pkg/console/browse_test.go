package console_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/bidding"
	"github.com/arbitrageai/bidder/pkg/config"
	"github.com/arbitrageai/bidder/pkg/console"
	"github.com/arbitrageai/bidder/pkg/posting"
	"github.com/arbitrageai/bidder/pkg/why"
	"github.com/arbitrageai/bidder/test/deliverytest"
)

const (
	token         = "operator-token-0123456789abcdef"
	readonlyToken = "reader-token-0123456789abcdef"
)

// pages is a console with tokens.
type pages struct {
	*deliverytest.World
	t      *testing.T
	url    string
	server *console.Server
}

func setupPages(t *testing.T, change ...func(*console.Options)) *pages {
	t.Helper()
	w := &pages{World: deliverytest.New(t), t: t}
	w.server = console.New(options(w.World, change...))
	server := httptest.NewServer(w.server)
	t.Cleanup(server.Close)
	w.url = server.URL
	return w
}

func options(w *deliverytest.World, change ...func(*console.Options)) console.Options {
	settings, err := config.Load(config.Source{})
	if err != nil {
		panic(err)
	}
	o := console.Options{
		Pool: w.Pool, Log: slog.New(slog.NewJSONHandler(w.Log, nil)), Keys: func(string) [][]byte { return nil },
		Token: config.NewSecret(token), ReadonlyToken: config.NewSecret(readonlyToken),
		Limits: deliverytest.Limits(), Settle: func(string) time.Duration { return deliverytest.Settle },
		Explain: func(ctx context.Context, tx pgx.Tx, key posting.Key) (bidding.Attempt, []string, error) {
			rules := bidding.Rules{PostingTTL: settings.PostingTTL, RebidWindow: settings.RebidWindow, Policy: bidding.Budget{}.Decide}
			attempts, err := bidding.NewClaimer(w.Pool, bidding.Limits{TTL: time.Minute, Statement: time.Minute}, rules, &bidding.Counters{}, uuid.Nil).
				Preview(ctx, tx, []posting.Key{key}, bidding.PreviewOptions{Pass: true})
			if err != nil {
				return bidding.Attempt{}, nil, err
			}
			reasons, err := why.Reasons(ctx, queries.New(tx), settings, attempts[0])
			return attempts[0], reasons, err
		},
	}
	for _, change := range change {
		change(&o)
	}
	return o
}

// browser is somebody's browser: it keeps cookies, and says where forms come from.
type browser struct {
	w      *pages
	client *http.Client
}

// answered is what a request was answered.
type answered struct {
	status int
	header http.Header
	text   string
}

func (w *pages) browser() *browser {
	w.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return &browser{w, &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

func (b *browser) do(method, path string, form url.Values, change ...func(*http.Request)) answered {
	b.w.t.Helper()
	request, err := http.NewRequestWithContext(b.w.t.Context(), method, b.w.url+path, strings.NewReader(form.Encode()))
	if err != nil {
		b.w.t.Fatal(err)
	}
	if form != nil {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		request.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	for _, change := range change {
		change(request)
	}
	response, err := b.client.Do(request)
	if err != nil {
		b.w.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		b.w.t.Fatal(err)
	}
	return answered{response.StatusCode, response.Header, string(body)}
}

func (b *browser) get(path string, change ...func(*http.Request)) answered {
	b.w.t.Helper()
	return b.do(http.MethodGet, path, nil, change...)
}

// page is a page that must be there.
func (b *browser) page(path string) string {
	b.w.t.Helper()
	a := b.get(path)
	if a.status != http.StatusOK {
		b.w.t.Fatalf("%s answered %d: %s", path, a.status, a.text)
	}
	return a.text
}

// as is a browser that somebody has signed in with.
func (w *pages) as(name, token string) *browser {
	w.t.Helper()
	b := w.browser()
	if a := b.do(http.MethodPost, "/sign-in", url.Values{"name": {name}, "token": {token}}); a.status != http.StatusSeeOther {
		w.t.Fatalf("sign in: answered %d: %s", a.status, a.text)
	}
	return b
}

var (
	csrfField    = regexp.MustCompile(`name="csrf" value="([^"]+)"`)
	versionField = regexp.MustCompile(`name="version" value="([^"]+)"`)
)

func field(t *testing.T, pattern *regexp.Regexp, page string) string {
	t.Helper()
	found := pattern.FindStringSubmatch(page)
	if found == nil {
		t.Fatalf("%s is not on the page: %s", pattern, page)
	}
	return found[1]
}

// form is the form of a bid as it is on its page now, with what is filled in.
func (b *browser) form(id uuid.UUID, fields ...string) url.Values {
	b.w.t.Helper()
	page := b.page("/bids/" + id.String())
	form := url.Values{"csrf": {field(b.w.t, csrfField, page)}, "version": {field(b.w.t, versionField, page)}, "back": {"/review"}}
	for i := 0; i < len(fields); i += 2 {
		form.Set(fields[i], fields[i+1])
	}
	return form
}

// decide sends a form of a bid.
func (b *browser) decide(id uuid.UUID, action string, form url.Values) answered {
	b.w.t.Helper()
	return b.do(http.MethodPost, "/bids/"+id.String()+"/"+action, form)
}

func want(t *testing.T, a answered, status int, texts ...string) {
	t.Helper()
	if a.status != status {
		t.Errorf("answered %d, want %d: %s", a.status, status, a.text)
	}
	for _, text := range texts {
		if !strings.Contains(a.text, text) {
			t.Errorf("%q is not in the answer: %s", text, a.text)
		}
	}
}
