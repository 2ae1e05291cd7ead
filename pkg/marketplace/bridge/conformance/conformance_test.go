package conformance

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/arbitrageai/bidder/pkg/config"
	"github.com/arbitrageai/bidder/pkg/marketplace"
	"github.com/arbitrageai/bidder/pkg/marketplace/sandbox"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// names returns the names of the results of one verdict.
func names(results []Result, verdict Verdict) []string {
	names := []string{}
	for _, result := range results {
		if result.Verdict == verdict {
			names = append(names, result.Name)
		}
	}
	return names
}

func good() sandbox.Options {
	return sandbox.Options{Rules: sandbox.Rules{Idempotent: true, NaturalKey: true}, Secrets: []config.Secret{sandbox.Secret()}}
}

// try checks a sandbox, through what the test puts in front of it.
func try(tb testing.TB, opts sandbox.Options, front func(http.Handler) http.Handler, change func(*config.Marketplace)) (bool, []Result, *sandbox.Server) {
	tb.Helper()
	connector := sandbox.New(opts)
	server := httptest.NewServer(front(connector))
	tb.Cleanup(server.Close)
	market := sandbox.Config(server.URL, "upwork", sandbox.Secret())
	change(&market)
	var results []Result
	ok, err := run(tb.Context(), market, "upwork", 100*time.Millisecond, func(r Result) { results = append(results, r) })
	if err != nil {
		tb.Fatal(err)
	}
	if len(results) != len((&session{}).checks()) {
		tb.Errorf("%d results", len(results))
	}
	return ok, results, connector
}

func straight(next http.Handler) http.Handler { return next }

func asItIs(*config.Marketplace) {}

func TestTheSandboxPasses(t *testing.T) {
	t.Parallel()
	ok, results, connector := try(t, good(), straight, asItIs)
	if !ok {
		t.Errorf("results %+v", results)
	}
	if diff := cmp.Diff([]string{"a wrong auth header is refused"}, names(results, Skipped)); diff != "" {
		t.Errorf("skipped (-want +got):\n%s", diff)
	}
	for _, bid := range connector.Bids() {
		if bid.Status != marketplace.Withdrawn {
			t.Errorf("a bid is left: %+v", bid)
		}
	}
}

func TestWhatIsNotPromisedIsSkipped(t *testing.T) {
	t.Parallel()
	ok, results, _ := try(t, sandbox.Options{}, straight, func(m *config.Marketplace) {
		m.IdempotentPlace, m.LookupIsAuthoritative, m.SigningSecrets = false, false, nil
	})
	want := []string{
		"the same key returns the same id", "the same key at the same time makes one bid", "the same key with another body is refused",
		"a bid without a key is refused", "a wrong signature is refused", "a missing signature is refused", "an old timestamp is refused",
		"one right signature of several is enough", "a wrong auth header is refused",
	}
	if diff := cmp.Diff(want, names(results, Skipped)); diff != "" || !ok {
		t.Errorf("ok: %v; skipped (-want +got):\n%s", ok, diff)
	}
}

// Every check fails for what it is there to find.
func TestFailures(t *testing.T) {
	t.Parallel()
	loose := good()
	loose.Rules = sandbox.Rules{}
	gullible := good()
	gullible.Secrets = nil
	tests := []struct {
		name   string
		opts   sandbox.Options
		front  func(http.Handler) http.Handler
		change func(*config.Marketplace)
		want   []string
	}{
		{name: "not idempotent", opts: loose, want: []string{
			"the same key returns the same id", "the same key at the same time makes one bid", "the same key with another body is refused",
		}},
		{name: "verifies nothing", opts: gullible, want: []string{
			"a wrong signature is refused", "a missing signature is refused", "an old timestamp is refused",
		}},
		{
			name: "does not look at auth", opts: good(), want: []string{"a wrong auth header is refused"},
			change: func(m *config.Marketplace) {
				m.Auth = config.Auth{Header: "Authorization", Value: config.NewSecret("right")}
			},
		},
		{name: "looks at the first signature only", opts: good(), want: []string{"one right signature of several is enough"}, front: func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				first, _, _ := strings.Cut(r.Header.Get("Webhook-Signature"), " ")
				r.Header.Set("Webhook-Signature", first)
				next.ServeHTTP(w, r)
			})
		}},
		{name: "makes keys up", opts: good(), want: []string{"a bid without a key is refused"}, front: func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Idempotency-Key") == "" {
					r.Header.Set("Idempotency-Key", `"made-up"`)
				}
				next.ServeHTTP(w, r)
			})
		}},
		{name: "finds nothing", opts: good(), front: instead("/by-key/", 200, `{"found":false}`, 0), want: []string{
			"a look-up finds the bid", "a look-up shows the withdrawal",
			"a wrong signature is refused", "a missing signature is refused", "an old timestamp is refused",
		}},
		{name: "is not sure", opts: good(), front: instead("/by-key/", 200, `{"found":false,"definitive":false}`, 1), want: []string{
			"a look-up of an unknown key finds nothing",
		}},
		{name: "finds everything", opts: good(), front: instead("/by-key/", 200, `{"found":true,"external_bid_id":"x","status":"submitted"}`, 1), want: []string{
			"a look-up of an unknown key finds nothing",
		}},
		{name: "breaks when nothing is found", opts: good(), front: instead("/by-key/", 500, ``, 1), want: []string{
			"a look-up of an unknown key finds nothing",
		}},
		{name: "does not withdraw", opts: good(), front: instead("/withdraw", 405, ``, 0), want: []string{
			"a wrong signature is refused", "a missing signature is refused", "an old timestamp is refused", "a withdrawal by id succeeds",
			"a look-up shows the withdrawal", "withdrawing again succeeds", "withdrawing an unknown bid is not_found", "refusals are problem+json",
		}},
		{name: "withdraws anything", opts: good(), front: instead("/bidder-check-unknown/withdraw", 200, `{"status":"withdrawn"}`, 0), want: []string{
			"withdrawing an unknown bid is not_found", "refusals are problem+json",
		}},
		{name: "poor problems", opts: good(), front: instead("/bidder-check-unknown/withdraw", 404, `{"code":"not_found"}`, 0), want: []string{"refusals are problem+json"}},
		{name: "broken problems", opts: good(), front: instead("/bidder-check-unknown/withdraw", 404, `{"code":"not_found","status":"404"}`, 0), want: []string{"refusals are problem+json"}},
		{name: "problems in HTML", opts: good(), want: []string{"refusals are problem+json"}, front: func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { next.ServeHTTP(html{w}, r) })
		}},
		{name: "down", opts: good(), front: func(http.Handler) http.Handler {
			return http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
		}, want: []string{
			"place returns an id", "a look-up of an unknown key finds nothing", "a wrong signature is refused", "a missing signature is refused",
			"an old timestamp is refused", "one right signature of several is enough", "withdrawing an unknown bid is not_found", "refusals are problem+json",
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if tt.front == nil {
				tt.front = straight
			}
			if tt.change == nil {
				tt.change = asItIs
			}
			ok, results, _ := try(t, tt.opts, tt.front, tt.change)
			got := map[string]bool{}
			for _, name := range names(results, Failed) {
				got[name] = true
			}
			want := map[string]bool{}
			for _, name := range tt.want {
				want[name] = true
			}
			if diff := cmp.Diff(want, got); diff != "" || ok {
				t.Errorf("ok: %v; failed (-want +got):\n%s\n%+v", ok, diff, results)
			}
		})
	}
}

// instead answers requests whose path contains a text, or only the one with a number that counts
// those that are not refused.
func instead(path string, status int, body string, number int64) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		var seen atomic.Int64
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			// The second look-up of all is the one of the unknown key: the first finds the bid.
			if !strings.Contains(r.URL.Path, path) || number > 0 && seen.Add(1) != number+1 {
				next.ServeHTTP(w, r)
				return
			}
			w.Header().Set("Content-Type", "application/problem+json; charset=utf-8")
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		})
	}
}

// html makes HTML of everything, by its header.
type html struct{ http.ResponseWriter }

func (h html) WriteHeader(status int) {
	h.Header().Set("Content-Type", "text/html")
	h.ResponseWriter.WriteHeader(status)
}

func TestCheckNeedsAConfiguration(t *testing.T) {
	t.Parallel()
	if _, err := Check(t.Context(), config.Marketplace{}, "upwork", func(Result) { t.Error("a check ran") }); err == nil {
		t.Error("no error")
	}
}
