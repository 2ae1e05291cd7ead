package sandbox_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"
	"github.com/sethvargo/go-retry"
	"go.uber.org/goleak"

	"github.com/arbitrageai/bidder/pkg/config"
	"github.com/arbitrageai/bidder/pkg/marketplace"
	"github.com/arbitrageai/bidder/pkg/marketplace/bridge"
	"github.com/arbitrageai/bidder/pkg/marketplace/sandbox"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// setup is a sandbox behind a port, and a client of its marketplace upwork.
type setup struct {
	*sandbox.Server

	url    string
	client *bridge.Client
	remote sandbox.Remote
}

func start(tb testing.TB, opts sandbox.Options) setup {
	tb.Helper()
	opts.Secrets = []config.Secret{sandbox.Secret()}
	return serve(tb, sandbox.New(opts))
}

// open is start, with the state of a file.
func open(tb testing.TB, path string) setup {
	tb.Helper()
	opts := reliable()
	opts.Secrets = []config.Secret{sandbox.Secret()}
	server, err := sandbox.Open(opts, path)
	if err != nil {
		tb.Fatal(err)
	}
	return serve(tb, server)
}

func serve(tb testing.TB, sandboxed *sandbox.Server) setup {
	tb.Helper()
	s := setup{Server: sandboxed}
	server := httptest.NewServer(s.Server)
	tb.Cleanup(server.Close)
	tb.Cleanup(s.Close) // before, so that nothing is held
	s.url = server.URL
	s.client = s.connect(tb, sandbox.Secret())
	s.remote = sandbox.Remote{BaseURL: server.URL, Client: server.Client()}
	return s
}

func (s setup) connect(tb testing.TB, secret config.Secret) *bridge.Client {
	tb.Helper()
	client, err := bridge.New(sandbox.Config(s.url, "upwork", secret))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(client.Close)
	return client
}

func (s setup) fault(tb testing.TB, fault sandbox.Fault) int64 {
	tb.Helper()
	id, err := s.AddFault(fault)
	if err != nil {
		tb.Fatal(err)
	}
	return id
}

func newBid(job string) marketplace.Bid {
	return marketplace.Bid{
		ID: uuid.New(), Marketplace: "upwork", JobID: job, JobURL: "https://example.com/" + job, AmountCents: 48000, Currency: "USD",
		Proposal: "I <b>can</b>.", ArmedAt: time.Unix(1795420800, 0), Attempt: 1, WithdrawReason: "mistake", WithdrawAskedAt: time.Unix(1795420900, 0),
	}
}

func reliable() sandbox.Options {
	return sandbox.Options{Rules: sandbox.Rules{Idempotent: true, NaturalKey: true}}
}

func wantKind(tb testing.TB, result marketplace.Result, kind marketplace.Kind, code string) {
	tb.Helper()
	if result.Kind != kind || result.Code != code {
		tb.Fatalf("%+v, want %s %s", result, kind, code)
	}
}

func TestLifeOfABid(t *testing.T) {
	t.Parallel()
	s, bid := start(t, reliable()), newBid("job-1")
	if finding := s.client.Lookup(t.Context(), bid); !finding.Known || finding.Found || !finding.Definitive {
		t.Errorf("before: %+v, want a definitive miss", finding)
	}
	placed := s.client.Place(t.Context(), bid)
	wantKind(t, placed, marketplace.Done, "")
	bid.ExternalID = placed.ExternalID
	want := marketplace.Finding{Known: true, Found: true, ExternalID: placed.ExternalID, Status: marketplace.Submitted}
	if finding := s.client.Lookup(t.Context(), bid); finding != want {
		t.Errorf("placed: %+v, want %+v", finding, want)
	}
	wantKind(t, s.client.Withdraw(t.Context(), bid), marketplace.Done, "")
	wantKind(t, s.client.Withdraw(t.Context(), bid), marketplace.Done, "")
	if finding := s.client.Lookup(t.Context(), bid); finding.Status != marketplace.Withdrawn {
		t.Errorf("withdrawn: %+v", finding)
	}

	stored := []sandbox.Bid{{
		ExternalID: placed.ExternalID, Marketplace: "upwork", BidID: bid.ID.String(), Key: "place-" + bid.ID.String(), JobID: "job-1",
		JobURL: "https://example.com/job-1", Amount: "480.00", Currency: "USD", Proposal: "I <b>can</b>.", Status: marketplace.Withdrawn, WithdrawReason: "mistake",
	}}
	if diff := cmp.Diff(stored, s.Bids(), cmpopts.IgnoreTypes(time.Time{})); diff != "" {
		t.Errorf("bids (-want +got):\n%s", diff)
	}
	story := []string{}
	for i, entry := range s.Journal() {
		if entry.Seq != int64(i+1) || entry.EndedAt == nil || entry.JobID == "" && i > 0 {
			t.Errorf("entry %+v", entry)
		}
		line := string(entry.Op) + " " + string(entry.State)
		if entry.Stored {
			line += " stored"
		}
		story = append(story, line)
	}
	if diff := cmp.Diff([]string{
		"lookup answered", "place answered stored", "lookup answered", "withdraw answered stored", "withdraw answered", "lookup answered",
	}, story); diff != "" {
		t.Errorf("journal (-want +got):\n%s", diff)
	}
}

func TestRules(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name             string
		rules            sandbox.Rules
		sameKey, sameJob int // bids after a repetition, and after another bid on the posting
	}{
		{"both", sandbox.Rules{Idempotent: true, NaturalKey: true}, 1, 1},
		{"idempotent", sandbox.Rules{Idempotent: true}, 1, 2},
		{"natural key", sandbox.Rules{NaturalKey: true}, 1, 1},
		{"neither", sandbox.Rules{}, 2, 3},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, bid := start(t, sandbox.Options{Marketplaces: map[string]sandbox.Rules{"upwork": tt.rules}}), newBid("job-1")
			first, again := s.client.Place(t.Context(), bid), s.client.Place(t.Context(), bid)
			if len(s.Bids()) != tt.sameKey || (first.ExternalID == again.ExternalID) != (tt.sameKey == 1) {
				t.Errorf("the same key makes %d bids, %+v and %+v, want %d", len(s.Bids()), first, again, tt.sameKey)
			}
			other := s.client.Place(t.Context(), newBid("job-1"))
			if len(s.Bids()) != tt.sameJob {
				t.Errorf("another bid on the posting makes %d, %+v, want %d", len(s.Bids()), other, tt.sameJob)
			}
			if finding := s.client.Lookup(t.Context(), bid); finding.ExternalID != first.ExternalID {
				t.Errorf("a look-up finds %+v, want the first bid", finding)
			}
		})
	}
}

func TestTheNaturalKeyEndsWithTheBid(t *testing.T) {
	t.Parallel()
	for _, status := range []marketplace.Status{marketplace.Rejected, marketplace.Expired, marketplace.Withdrawn, marketplace.Accepted} {
		s := start(t, reliable())
		first := s.client.Place(t.Context(), newBid("job-1"))
		if err := s.SetStatus(first.ExternalID, status); err != nil {
			t.Fatal(err)
		}
		second := s.client.Place(t.Context(), newBid("job-1"))
		if isNew := second.ExternalID != first.ExternalID; isNew != (status != marketplace.Accepted) {
			t.Errorf("after %s: %+v", status, second)
		}
	}
}

func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	s := start(t, reliable())
	bids := []marketplace.Bid{newBid("job-1"), newBid("job-1")}
	var callers sync.WaitGroup
	for i := range 32 {
		callers.Go(func() { wantID(t, s.client.Place(t.Context(), bids[i%2])) })
	}
	callers.Wait()
	if len(s.Bids()) != 1 || len(s.Journal()) != 32 {
		t.Errorf("%d bids of %d requests, want 1 of 32", len(s.Bids()), len(s.Journal()))
	}
}

func wantID(t *testing.T, result marketplace.Result) {
	t.Helper()
	if result.Kind != marketplace.Done || result.ExternalID == "" {
		t.Errorf("%+v, want an id", result)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	s, bid := start(t, reliable()), newBid("job-1")
	stranger := s.connect(t, config.NewSecret("a key of somebody else"))
	wantKind(t, stranger.Place(t.Context(), bid), marketplace.PauseAccount, "auth_failed")
	wantKind(t, stranger.Lookup(t.Context(), bid).Result, marketplace.AuthNeeded, "auth_failed")
	wantKind(t, s.client.Place(t.Context(), newBid("")), marketplace.Permanent, "invalid_request")

	placed := s.client.Place(t.Context(), bid)
	changed := bid
	changed.AmountCents++
	wantKind(t, s.client.Place(t.Context(), changed), marketplace.NeedsHuman, "idempotency_key_reuse")

	bid.ExternalID = "unknown"
	wantKind(t, s.client.Withdraw(t.Context(), bid), marketplace.NeedsHuman, "not_found")
	bid.ExternalID = placed.ExternalID
	for status, code := range map[marketplace.Status]string{marketplace.Accepted: "already_accepted", marketplace.Rejected: "job_closed"} {
		if err := s.SetStatus(placed.ExternalID, status); err != nil {
			t.Fatal(err)
		}
		wantKind(t, s.client.Withdraw(t.Context(), bid), marketplace.NeedsHuman, code)
	}
	if err := s.SetStatus("unknown", marketplace.Accepted); !errors.Is(err, sandbox.ErrNotFound) {
		t.Errorf("SetStatus of an unknown bid = %v", err)
	}
	if len(s.Bids()) != 1 {
		t.Errorf("%d bids, want 1", len(s.Bids()))
	}
}

// Without secrets, everybody may call; what is called still has to make sense.
func TestRawRequests(t *testing.T) {
	t.Parallel()
	open := sandbox.New(sandbox.Options{})
	server := httptest.NewServer(open)
	t.Cleanup(server.Close)
	tests := []struct {
		name, path, key, body string
		status                int
	}{
		{"no key", "/x/bids", "", `{}`, 400},
		{"a key without quotes", "/x/bids", "place-1", `{}`, 400},
		{"no bid", "/x/bids", `"place-1"`, `{}`, 422},
		{"a number as amount", "/x/bids", `"place-1"`, `{"type":"bid.place","timestamp":"2026-11-23T08:00:00Z","data":{"bid_id":"1","job_id":"1","amount":"1"}}`, 422},
		{"not a withdrawal", "/x/bids/1/withdraw", `"withdraw-1"`, `{"type":"bid.withdraw","data":{"external_bid_id":"2"}}`, 422},
		{"too long", "/x/bids", `"place-1"`, strings.Repeat(" ", 1<<20+1), 413},
		{"a bid", "/x/bids", `"place-1"`, `{"type":"bid.place","timestamp":"2026-11-23T08:00:00Z","data":{"bid_id":"1","job_id":"1","amount":"1.00"}}`, 201},
	}
	for _, tt := range tests {
		request, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+tt.path, strings.NewReader(tt.body))
		request.Header.Set("Idempotency-Key", tt.key)
		response, err := server.Client().Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		kind := response.Header.Get("Content-Type")
		if response.StatusCode != tt.status || (kind == "application/problem+json") != (tt.status >= 400) {
			t.Errorf("%s: %d %s, want %d", tt.name, response.StatusCode, kind, tt.status)
		}
	}
	if len(open.Bids()) != 1 {
		t.Errorf("%d bids, want 1", len(open.Bids()))
	}
}

func TestServe(t *testing.T) {
	t.Parallel()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	server := sandbox.New(sandbox.Options{})
	go func() { served <- server.Serve(ctx, listener) }()
	client, err := bridge.New(sandbox.Config("http://"+listener.Addr().String(), "upwork", sandbox.Secret()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := server.AddFault(sandbox.Fault{Do: sandbox.Hold, Op: sandbox.Place}); err != nil {
		t.Fatal(err)
	}
	result := make(chan marketplace.Result, 1)
	go func() { result <- client.Place(t.Context(), newBid("job-1")) }()
	if err := server.WaitHeld(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-served; err != nil {
		t.Errorf("Serve = %v", err)
	}
	wantKind(t, <-result, marketplace.Ambiguous, "no_answer")
	wait(t, "the held request ends", func() bool { return server.Journal()[0].State == sandbox.Dropped })
	if len(server.Bids()) != 0 {
		t.Errorf("a request that was held when the sandbox closed made %d bids", len(server.Bids()))
	}
	if err := server.Serve(t.Context(), listener); err == nil {
		t.Error("Serve on a closed listener has no error")
	}
}

// wait polls for what has no signal.
func wait(tb testing.TB, what string, is func() bool) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), 10*time.Second)
	defer cancel()
	if err := retry.Constant(ctx, time.Millisecond, func(context.Context) error {
		if is() {
			return nil
		}
		return retry.RetryableError(errors.New("not yet"))
	}); err != nil {
		tb.Fatalf("%s: %v", what, err)
	}
}

func get(tb testing.TB, s setup, path string) (int, string, http.Header) {
	tb.Helper()
	request, _ := http.NewRequestWithContext(tb.Context(), http.MethodGet, s.url+path, http.NoBody)
	response, err := s.remote.Client.Do(request)
	if err != nil {
		tb.Fatal(err)
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(response.Body)
	return response.StatusCode, string(body), response.Header
}
