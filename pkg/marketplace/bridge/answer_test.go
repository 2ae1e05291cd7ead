package bridge

import (
	"crypto/x509"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/arbitrageai/bidder/pkg/marketplace"
)

func certPool(server *httptest.Server) *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(server.Certificate())
	return pool
}

// reply is a connector's answer to everything.
type reply struct {
	status int
	body   string
	after  string // Retry-After
}

func (a reply) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	if a.after != "" {
		w.Header().Set("Retry-After", a.after)
	}
	if a.status >= 300 && a.status < 400 {
		w.Header().Set("Location", "/elsewhere")
	}
	w.WriteHeader(a.status)
	_, _ = io.WriteString(w, a.body)
}

// Each row is an answer and what it proves: of a placement with and without idempotency, a
// look-up and a withdrawal.
func TestRefusals(t *testing.T) {
	t.Parallel()
	const (
		again  = marketplace.NotExecuted
		maybe  = marketplace.Ambiguous
		never  = marketplace.Permanent
		pause  = marketplace.PauseAccount
		auth   = marketplace.AuthNeeded
		human  = marketplace.NeedsHuman
		done   = marketplace.Done
		absent = marketplace.Kind("absent")
	)
	tests := []struct {
		name                          string
		answer                        reply
		idempotent, place, look, back marketplace.Kind
		code                          string
		waits                         bool // Ambiguous and NotExecuted always do
	}{
		{"bare 400", reply{400, "", ""}, never, never, never, never, "invalid_request", false},
		{"bare 401", reply{401, "", ""}, pause, pause, auth, pause, "auth_failed", false},
		{"bare 402", reply{402, "", ""}, human, human, human, human, "unexpected_status", false},
		{"bare 403", reply{403, "", ""}, never, never, pause, human, "forbidden", false},
		{"bare 404", reply{404, "", ""}, never, never, absent, human, "not_found", false},
		{"bare 405", reply{405, "", ""}, human, human, human, human, "unexpected_status", false},
		{"bare 408", reply{408, "", ""}, maybe, maybe, maybe, maybe, "unavailable", false},
		{"bare 409", reply{409, "", ""}, maybe, maybe, never, human, "conflict", false},
		{"bare 410", reply{410, "", ""}, pause, pause, pause, pause, "endpoint_off", false},
		{"bare 422", reply{422, "", ""}, never, never, never, never, "invalid_request", false},
		{"bare 425", reply{425, "", ""}, maybe, maybe, maybe, maybe, "unavailable", false},
		{"bare 429", reply{429, "", ""}, again, again, again, again, "rate_limited", false},
		{"bare 500", reply{500, "", ""}, maybe, maybe, maybe, maybe, "server_error", false},
		{"bare 501", reply{501, "", ""}, maybe, maybe, maybe, maybe, "server_error", false},
		{"bare 502", reply{502, "", ""}, maybe, maybe, maybe, maybe, "unavailable", false},
		{"bare 503", reply{503, "", ""}, maybe, maybe, maybe, maybe, "unavailable", false},
		{"bare 504", reply{504, "", ""}, maybe, maybe, maybe, maybe, "unavailable", false},
		{"301", reply{301, "", ""}, maybe, maybe, maybe, maybe, "redirected", false},
		{"303", reply{303, "", ""}, maybe, maybe, maybe, maybe, "redirected", false},
		{"307", reply{307, "", ""}, maybe, maybe, maybe, maybe, "redirected", false},
		{"no status of HTTP", reply{600, "", ""}, maybe, maybe, maybe, maybe, "unexpected_status", false},

		{"duplicate_bid", reply{409, `{"code":"duplicate_bid"}`, ""}, maybe, maybe, human, human, "duplicate_bid", false},
		{"in_progress", reply{409, `{"code":"in_progress"}`, ""}, maybe, maybe, maybe, maybe, "in_progress", false},
		{"idempotency_key_reuse", reply{422, `{"code":"idempotency_key_reuse"}`, ""}, human, human, human, human, "idempotency_key_reuse", false},
		{"job_closed", reply{409, `{"code":"job_closed"}`, ""}, never, never, human, human, "job_closed", false},
		{"not_eligible", reply{403, `{"code":"not_eligible"}`, ""}, never, never, human, human, "not_eligible", false},
		{"limit_exhausted", reply{403, `{"code":"limit_exhausted"}`, ""}, pause, pause, pause, pause, "limit_exhausted", true},
		{"auth_failed", reply{403, `{"code":"auth_failed"}`, ""}, pause, pause, auth, pause, "auth_failed", false},
		{"rate_limited", reply{503, `{"code":"rate_limited"}`, ""}, again, again, again, again, "rate_limited", false},
		{"already_accepted", reply{409, `{"code":"already_accepted"}`, ""}, human, human, human, human, "already_accepted", false},
		{"already_withdrawn", reply{409, `{"code":"already_withdrawn"}`, ""}, human, human, human, done, "already_withdrawn", false},
		{"already_withdrawn as 404", reply{404, `{"code":"already_withdrawn"}`, ""}, human, human, human, done, "already_withdrawn", false},
		{"not_found", reply{404, `{"code":"not_found"}`, ""}, never, never, absent, human, "not_found", false},
		{"not_found as 410", reply{410, `{"code":"not_found"}`, ""}, never, never, absent, human, "not_found", false},
		{"invalid_request", reply{400, `{"code":"invalid_request"}`, ""}, never, never, never, never, "invalid_request", false},
		{"unavailable", reply{503, `{"code":"unavailable"}`, ""}, maybe, maybe, maybe, maybe, "unavailable", false},
		{"needs_human", reply{403, `{"code":"needs_human"}`, ""}, human, human, human, human, "needs_human", false},

		{"a code beats retryable", reply{409, `{"code":"job_closed","retryable":true}`, ""}, never, never, human, human, "job_closed", false},
		{"a code beats the status", reply{500, `{"code":"job_closed"}`, ""}, never, never, human, human, "job_closed", false},
		{"a code beats 429", reply{429, `{"code":"limit_exhausted"}`, ""}, pause, pause, pause, pause, "limit_exhausted", true},
		{"an unknown code is none", reply{400, `{"code":"odd"}`, ""}, never, never, never, never, "invalid_request", false},
		{"a code that is no text", reply{400, `{"code":7}`, ""}, never, never, never, never, "invalid_request", false},

		{"retryable 400", reply{400, `{"retryable":true}`, ""}, maybe, never, maybe, maybe, "invalid_request", false},
		{"retryable 404", reply{404, `{"retryable":true}`, ""}, maybe, never, maybe, maybe, "not_found", false},
		{"retryable 410", reply{410, `{"retryable":true}`, ""}, maybe, pause, maybe, maybe, "endpoint_off", false},
		{"retryable 429", reply{429, `{"retryable":true}`, ""}, again, again, again, again, "rate_limited", false},
		{"retryable 500", reply{500, `{"retryable":true}`, ""}, maybe, maybe, maybe, maybe, "server_error", false},
		{"not retryable 400", reply{400, `{"retryable":false}`, ""}, never, never, never, never, "invalid_request", false},
		{"not retryable 404", reply{404, `{"retryable":false}`, ""}, never, never, absent, human, "not_found", false},
		{"not retryable 429", reply{429, `{"retryable":false}`, ""}, human, human, human, human, "rate_limited", false},
		{"not retryable 500", reply{500, `{"retryable":false}`, ""}, maybe, maybe, human, human, "server_error", false},
		{"retryable is no boolean", reply{400, `{"retryable":"true"}`, ""}, never, never, never, never, "invalid_request", false},

		{
			"quota-exceeded",
			reply{429, `{"type":"https://iana.org/assignments/http-problem-types#quota-exceeded"}`, ""},
			pause, pause, pause, pause, "limit_exhausted", true,
		},
		{"temporary-reduced-capacity", reply{503, `{"type":"/problems/temporary-reduced-capacity"}`, ""}, maybe, maybe, maybe, maybe, "unavailable", false},
		{"abnormal-usage-detected", reply{429, `{"type":"abnormal-usage-detected","code":"odd"}`, ""}, human, human, human, human, "needs_human", false},
		{"a code beats the type", reply{429, `{"type":"quota-exceeded","code":"rate_limited"}`, ""}, again, again, again, again, "rate_limited", false},

		{"HTML", reply{400, "<html>", ""}, never, never, never, never, "invalid_request", false},
		{"an array", reply{400, `[{"code":"job_closed"}]`, ""}, never, never, never, never, "invalid_request", false},
		{"a code twice", reply{400, `{"code":"job_closed","code":"unavailable"}`, ""}, never, never, never, never, "invalid_request", false},
		{"two objects", reply{400, `{"code":"job_closed"}{}`, ""}, never, never, never, never, "invalid_request", false},
		{"over a mebibyte", reply{400, `{"code":"job_closed","x":"` + strings.Repeat("x", 1<<20) + `"}`, ""}, never, never, never, never, "invalid_request", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.answer.after = "30"
			server, _ := newServer(t, tt.answer.ServeHTTP)
			market := testMarket(server.URL)
			client := newTestClient(t, market)
			market.IdempotentPlace = true
			idempotent := newTestClient(t, market)

			finding := client.Lookup(t.Context(), testBid())
			if finding.Known {
				finding.Result = marketplace.Result{Kind: absent, Code: tt.code, Status: tt.answer.status, Message: "absent"}
			}
			for op, call := range map[string]struct{ got, want marketplace.Result }{
				"idempotent place": {idempotent.Place(t.Context(), testBid()), marketplace.Result{Kind: tt.idempotent}},
				"place":            {client.Place(t.Context(), testBid()), marketplace.Result{Kind: tt.place}},
				"lookup":           {finding.Result, marketplace.Result{Kind: tt.look}},
				"withdraw":         {client.Withdraw(t.Context(), testBid()), marketplace.Result{Kind: tt.back}},
			} {
				want := call.want
				want.Code, want.Status = tt.code, tt.answer.status
				if tt.waits || want.Kind == maybe || want.Kind == again {
					want.After = 30 * time.Second
				}
				if diff := cmp.Diff(want, call.got, cmpopts.IgnoreFields(want, "Message")); diff != "" {
					t.Errorf("%s (-want +got):\n%s", op, diff)
				}
				if call.got.Message == "" {
					t.Errorf("%s has no message", op)
				}
			}
		})
	}
}

func TestPlacementAnswers(t *testing.T) {
	t.Parallel()
	landed := func(id string, status int) marketplace.Result {
		return marketplace.Result{Kind: marketplace.Done, ExternalID: id, Status: status}
	}
	unreadable := marketplace.Result{
		Kind: marketplace.Ambiguous, Code: "unreadable_answer", Status: 200, Message: "the answer has no external_bid_id that can be used",
	}
	pending := marketplace.Result{
		Kind: marketplace.Ambiguous, Code: "pending", Status: 202, Message: "the connector is still at it", After: 7 * time.Second,
	}
	duplicate := marketplace.Result{
		Kind: marketplace.Done, ExternalID: "p-778", Code: "duplicate_bid", Status: 409, Message: "the connector answered 409 Conflict",
	}
	tests := []struct {
		name   string
		answer reply
		want   marketplace.Result
	}{
		{"200", reply{200, `{"external_bid_id":"p-778","status":"submitted","placed_at":"2026-11-23T08:00:01Z"}`, ""}, landed("p-778", 200)},
		{"201", reply{201, `{"external_bid_id":"p-778"}`, ""}, landed("p-778", 201)},
		{"an integer", reply{200, `{"external_bid_id":778001122334455667788}`, ""}, landed("778001122334455667788", 200)},
		{"escapes", reply{200, `{"external_bid_id":"p/\u00fc ?"}`, ""}, landed("p/ü ?", 200)},
		{"longest", reply{200, `{"external_bid_id":"` + strings.Repeat("x", 512) + `"}`, ""}, landed(strings.Repeat("x", 512), 200)},
		{"202", reply{202, `{"status":"pending"}`, "7"}, pending},
		{"202 with an id", reply{202, `{"external_bid_id":"p-1","status":"pending"}`, "7"}, pending},
		{"202 without a body", reply{202, "", "7"}, pending},
		{"no body", reply{200, "", ""}, unreadable},
		{"HTML", reply{200, "<html>", ""}, unreadable},
		{"null", reply{200, "null", ""}, unreadable},
		{"no id", reply{200, `{"status":"submitted"}`, ""}, unreadable},
		{"other case", reply{200, `{"External_Bid_ID":"p-1"}`, ""}, unreadable},
		{"two ids", reply{200, `{"external_bid_id":"p-1","external_bid_id":"p-2"}`, ""}, unreadable},
		{"empty id", reply{200, `{"external_bid_id":""}`, ""}, unreadable},
		{"null id", reply{200, `{"external_bid_id":null}`, ""}, unreadable},
		{"the text None", reply{200, `{"external_bid_id":"None"}`, ""}, unreadable},
		{"a fraction", reply{200, `{"external_bid_id":1.5}`, ""}, unreadable},
		{"a negative number", reply{200, `{"external_bid_id":-1}`, ""}, unreadable},
		{"dots", reply{200, `{"external_bid_id":".."}`, ""}, unreadable},
		{"spaces around", reply{200, `{"external_bid_id":" p-1"}`, ""}, unreadable},
		{"control character", reply{200, `{"external_bid_id":"p\u0000"}`, ""}, unreadable},
		{"too long", reply{200, `{"external_bid_id":"` + strings.Repeat("x", 513) + `"}`, ""}, unreadable},
		{"over a mebibyte", reply{200, `{"external_bid_id":"p-1","x":"` + strings.Repeat("x", 1<<20) + `"}`, ""}, unreadable},
		{"duplicate with its id", reply{409, `{"code":"duplicate_bid","external_bid_id":"p-778"}`, "9"}, duplicate},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server, _ := newServer(t, tt.answer.ServeHTTP)
			got := newTestClient(t, testMarket(server.URL)).Place(t.Context(), testBid())
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("Place (-want +got):\n%s", diff)
			}
		})
	}
}

func TestLookupAnswers(t *testing.T) {
	t.Parallel()
	found := func(status marketplace.Status) marketplace.Finding {
		return marketplace.Finding{Known: true, Found: true, ExternalID: "p-778", Status: status}
	}
	absent, proven := marketplace.Finding{Known: true}, marketplace.Finding{Known: true, Definitive: true}
	failed := func(kind marketplace.Kind, code, id string) marketplace.Finding {
		return marketplace.Finding{Result: marketplace.Result{Kind: kind, Code: code, ExternalID: id, Status: 200}}
	}
	unreadable := failed(marketplace.Ambiguous, "unreadable_answer", "")
	unknown := failed(marketplace.NeedsHuman, "unknown_status", "p-778")
	tests := []struct {
		name                 string
		answer               reply
		plain, authoritative marketplace.Finding
	}{
		{"submitted", reply{200, `{"found":true,"external_bid_id":"p-778","status":"submitted"}`, ""}, found("submitted"), found("submitted")},
		{"accepted", reply{200, `{"found":true,"external_bid_id":"p-778","status":"accepted"}`, ""}, found("accepted"), found("accepted")},
		{"rejected", reply{200, `{"found":true,"external_bid_id":"p-778","status":"rejected"}`, ""}, found("rejected"), found("rejected")},
		{"withdrawn", reply{200, `{"found":true,"external_bid_id":"p-778","status":"withdrawn"}`, ""}, found("withdrawn"), found("withdrawn")},
		{"lost", reply{200, `{"found":true,"external_bid_id":"p-778","status":"lost"}`, ""}, found("lost"), found("lost")},
		{"expired", reply{200, `{"found":true,"external_bid_id":"p-778","status":"expired"}`, ""}, found("expired"), found("expired")},
		{"unknown status", reply{200, `{"found":true,"external_bid_id":"p-778","status":"shortlisted"}`, ""}, unknown, unknown},
		{"no status", reply{200, `{"found":true,"external_bid_id":"p-778"}`, ""}, unknown, unknown},
		{"definitive miss", reply{200, `{"found":false,"definitive":true}`, ""}, absent, proven},
		{"miss that is not definitive", reply{200, `{"found":false,"definitive":false}`, ""}, absent, absent},
		{"miss that does not say", reply{200, `{"found":false}`, ""}, absent, proven},
		{"404", reply{404, "", ""}, absent, proven},
		{"no id", reply{200, `{"found":true,"status":"submitted"}`, ""}, unreadable, unreadable},
		{"no found", reply{200, `{"external_bid_id":"p-778","status":"submitted"}`, ""}, unreadable, unreadable},
		{"found is no boolean", reply{200, `{"found":"no"}`, ""}, unreadable, unreadable},
		{"no body", reply{200, "", ""}, unreadable, unreadable},
		{"HTML", reply{200, "<html>", ""}, unreadable, unreadable},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server, _ := newServer(t, tt.answer.ServeHTTP)
			market := testMarket(server.URL)
			for _, want := range []marketplace.Finding{tt.plain, tt.authoritative} {
				got := newTestClient(t, market).Lookup(t.Context(), testBid())
				if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(marketplace.Result{}, "Message")); diff != "" {
					t.Errorf("Lookup, authoritative %v (-want +got):\n%s", market.LookupIsAuthoritative, diff)
				}
				market.LookupIsAuthoritative = true
			}
		})
	}
}

func TestWithdrawalAnswers(t *testing.T) {
	t.Parallel()
	done := marketplace.Result{Kind: marketplace.Done, Status: 200}
	unreadable := marketplace.Result{Kind: marketplace.Ambiguous, Code: "unreadable_answer", Status: 200, Message: "the answer does not say that the bid is withdrawn"}
	tests := []struct {
		name   string
		answer reply
		want   marketplace.Result
	}{
		{"withdrawn", reply{200, `{"status":"withdrawn"}`, ""}, done},
		{"already withdrawn", reply{200, `{"status":"already_withdrawn"}`, ""}, done},
		{"another status", reply{200, `{"status":"submitted"}`, ""}, unreadable},
		{"no body", reply{200, "", ""}, unreadable},
		{"pending", reply{202, `{"status":"withdrawn"}`, "90"}, marketplace.Result{
			Kind: marketplace.Ambiguous, Code: "pending", Status: 202, Message: "the connector is still at it", After: 90 * time.Second,
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server, _ := newServer(t, tt.answer.ServeHTTP)
			got := newTestClient(t, testMarket(server.URL)).Withdraw(t.Context(), testBid())
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("Withdraw (-want +got):\n%s", diff)
			}
		})
	}
}

func TestWaitTime(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)
	tests := []struct {
		name   string
		header http.Header
		want   time.Duration
	}{
		{"nothing", http.Header{}, 0},
		{"seconds", http.Header{"Retry-After": {" 30 "}}, 30 * time.Second},
		{"zero", http.Header{"Retry-After": {"0"}}, time.Second},
		{"very long", http.Header{"Retry-After": {"86400"}}, 15 * time.Minute},
		{"longer than a number", http.Header{"Retry-After": {"99999999999999999999"}}, 15 * time.Minute},
		{"date", http.Header{"Retry-After": {"Mon, 23 Nov 2026 08:02:00 GMT"}}, 2 * time.Minute},
		{"date by the server's clock", http.Header{"Retry-After": {"Mon, 23 Nov 2026 10:02:00 GMT"}, "Date": {"Mon, 23 Nov 2026 10:00:00 GMT"}}, 2 * time.Minute},
		{"past date", http.Header{"Retry-After": {"Mon, 23 Nov 2020 08:02:00 GMT"}}, time.Second},
		{"neither", http.Header{"Retry-After": {"-5"}}, 0},
		{"RateLimit", http.Header{"Ratelimit": {`"default";r=0;t=30`}}, 30 * time.Second},
		{"RateLimit with something left", http.Header{"Ratelimit": {`"default";r=5;t=30`}}, 0},
		{"the longest of several", http.Header{"Ratelimit": {`"a";r=0;t=30, "b, r=0;t=99";r=1;t=70`, `"c" ; r=0 ; t=60`}}, time.Minute},
		{"RateLimit without a time", http.Header{"Ratelimit": {`"default";r=0`}}, 0},
		{"Retry-After wins", http.Header{"Retry-After": {"5"}, "Ratelimit": {`"default";r=0;t=30`}}, 5 * time.Second},
		{"a broken one does not", http.Header{"Retry-After": {"soon"}, "Ratelimit": {`"default";r=0;t=30`}}, 30 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := waitTime(tt.header, now); got != tt.want {
				t.Errorf("waitTime = %v, want %v", got, tt.want)
			}
		})
	}
}
