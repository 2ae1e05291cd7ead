// Package browser drives the console in a real browser: headless Chromium.
package browser

import (
	"context"
	"errors"
	"log/slog"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/bidding"
	"github.com/arbitrageai/bidder/pkg/config"
	"github.com/arbitrageai/bidder/pkg/console"
	"github.com/arbitrageai/bidder/pkg/posting"
	"github.com/arbitrageai/bidder/pkg/why"
	"github.com/arbitrageai/bidder/test/deliverytest"
	"github.com/arbitrageai/bidder/test/testdb"
)

func TestMain(m *testing.M) { testdb.Main(m) }

const (
	token         = "the token of an operator, 0123456789abcdef"
	readonlyToken = "the token of somebody who looks"
	// patience bounds what a test waits for the browser altogether.
	patience = 3 * time.Minute
)

// chromium starts a browser with a new profile, which ends with the test.
func chromium(t *testing.T) context.Context {
	t.Helper()
	var path string
	for _, name := range []string{os.Getenv("BIDDER_TEST_CHROMIUM"), "chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
		if found, err := exec.LookPath(name); name != "" && err == nil {
			path = found
			break
		}
	}
	if path == "" {
		const missing = "there is no Chromium: apt-get install chromium fonts-dejavu-core, or say where it is with BIDDER_TEST_CHROMIUM"
		if os.Getenv("CI") == "true" {
			t.Fatal(missing)
		}
		t.Skip(missing)
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.UserDataDir(t.TempDir()), chromedp.Flag("font-render-hinting", "none"), chromedp.WSURLReadTimeout(patience))
	timed, end := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
	allocator, endAllocator := chromedp.NewExecAllocator(timed, options...)
	ctx, endBrowser := chromedp.NewContext(allocator)
	t.Cleanup(func() { endBrowser(); endAllocator(); end() })
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("start the browser: %v", err)
	}
	return ctx
}

// world is a database with bids, a console before it, and people who look at it.
type world struct {
	*deliverytest.World
	t       *testing.T
	browser context.Context //nolint:containedctx // of the browser
	url     string
	caps    []bidding.CapUsage
}

func setup(t *testing.T) *world {
	t.Helper()
	ctx := chromium(t)
	w := &world{World: deliverytest.New(t), t: t, browser: ctx}
	settings, err := config.Load(config.Source{})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(console.New(console.Options{
		Pool: w.Pool, Log: slog.New(slog.NewJSONHandler(w.Log, nil)), Keys: func(string) [][]byte { return nil },
		Token: config.NewSecret(token), ReadonlyToken: config.NewSecret(readonlyToken),
		Limits: deliverytest.Limits(), Settle: func(string) time.Duration { return deliverytest.Settle },
		Caps: func(context.Context, pgx.Tx) ([]bidding.CapUsage, error) { return w.caps, nil },
		Explain: func(ctx context.Context, tx pgx.Tx, key posting.Key) (bidding.Attempt, []string, error) {
			rules := bidding.Rules{PostingTTL: settings.PostingTTL, RebidWindow: settings.RebidWindow, Policy: bidding.Budget{}.Decide}
			limits := bidding.Limits{TTL: time.Minute, Statement: time.Minute}
			attempts, err := bidding.NewClaimer(w.Pool, limits, rules, &bidding.Counters{}, uuid.Nil).
				Preview(ctx, tx, []posting.Key{key}, bidding.PreviewOptions{Pass: true})
			if err != nil {
				return bidding.Attempt{}, nil, err
			}
			reasons, err := why.Reasons(ctx, queries.New(tx), settings, attempts[0])
			return attempts[0], reasons, err
		},
	}))
	t.Cleanup(server.Close)
	w.url = server.URL
	return w
}

// person is somebody with a browser profile of their own.
type person struct {
	t   *testing.T
	w   *world
	ctx context.Context //nolint:containedctx // of the tab
}

// visitor opens a tab that nobody has signed in with.
func (w *world) visitor() *person {
	w.t.Helper()
	ctx, closeTab := chromedp.NewContext(w.browser, chromedp.WithNewBrowserContext())
	w.t.Cleanup(closeTab)
	return &person{w.t, w, ctx}
}

// signedIn opens a tab and signs somebody in.
func (w *world) signedIn(name, token string) *person {
	w.t.Helper()
	p := w.visitor()
	p.open("/")
	p.do(chromedp.SetValue(chromedp.CSS("input[name=name]"), name), chromedp.SendKeys(chromedp.CSS("input[name=token]"), token))
	p.click(".signin button", 200)
	return p
}

func (p *person) do(steps ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	for _, step := range steps {
		if err := settled(func() error { return chromedp.Do(p.ctx, step) }); err != nil {
			p.t.Fatal(err)
		}
	}
}

// settled does something again whose element the browser gave another number meanwhile, as it
// may while a page has only just come: nothing was done to the element then.
func settled(do func() error) (err error) {
	for range 5 {
		var refused *cdproto.Error
		if err = do(); !errors.As(err, &refused) || refused.Code != noSuchNode {
			return err
		}
	}
	return err
}

// noSuchNode is how the DevTools protocol says so.
const noSuchNode = -32000

func get[T any](p *person, action chromedp.Action[T]) T {
	p.t.Helper()
	value, err := chromedp.Run(p.ctx, action)
	if err != nil {
		p.t.Fatal(err)
	}
	return value
}

// open goes to a page, and returns the status of the answer.
func (p *person) open(path string) int64 {
	p.t.Helper()
	response, err := chromedp.Run(p.ctx, chromedp.NavigateResponse(p.w.url+path))
	if err != nil {
		p.t.Fatalf("%s: %v", path, err)
	}
	return response.Status
}

// click clicks what leads to another page, whose answer has the status.
func (p *person) click(selector string, want int64) {
	p.t.Helper()
	var response *network.Response
	err := settled(func() (err error) {
		response, err = chromedp.RunResponse(p.ctx, chromedp.Click(chromedp.CSS(selector)))
		return err
	})
	if err != nil {
		p.t.Fatalf("click %s: %v", selector, err)
	}
	if response.Status != want {
		p.t.Fatalf("click %s: answered %d, want %d", selector, response.Status, want)
	}
}

func (p *person) text() string {
	p.t.Helper()
	return js[string](p, "document.body.innerText")
}

// sees says whether all texts are on the page.
func (p *person) sees(texts ...string) {
	p.t.Helper()
	page := p.text()
	for _, text := range texts {
		if !strings.Contains(page, text) {
			p.t.Errorf("%q is not on the page:\n%s", text, page)
		}
	}
}

// seesNot says whether none of the texts are.
func (p *person) seesNot(texts ...string) {
	p.t.Helper()
	page := p.text()
	for _, text := range texts {
		if strings.Contains(page, text) {
			p.t.Errorf("%q is on the page:\n%s", text, page)
		}
	}
}

// js evaluates JavaScript on the page.
func js[T any](p *person, expression string) T {
	p.t.Helper()
	return get(p, chromedp.Evaluate[T](expression))
}

// looks sets the width of the window, in pixels, and the colours that the person prefers;
// nothing moves.
func (p *person) looks(width int64, colours string) {
	p.t.Helper()
	p.do(chromedp.EmulateViewport(width, 900))
	_, err := chromedp.Call(p.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: colours}, {Name: "prefers-reduced-motion", Value: "reduce"}},
	})
	if err != nil {
		p.t.Fatal(err)
	}
}
