package freelancer

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/arbitrageai/bidder/pkg/config"
	"github.com/arbitrageai/bidder/pkg/marketplace"
)

func TestCapabilities(t *testing.T) {
	t.Parallel()
	client := newTestClient(t, config.Marketplace{BaseURL: "https://www.freelancer-sandbox.com/api"}, nil)
	want := marketplace.Capabilities{Dedup: marketplace.NaturalKey, LooksUpByPosting: true, LookupIsAuthoritative: true, Timeout: 30 * time.Second}
	if diff := cmp.Diff(want, client.Capabilities()); diff != "" {
		t.Errorf("capabilities (-want +got):\n%s", diff)
	}
	if _, err := New(config.Marketplace{}, Fixed{}, nil); err == nil {
		t.Error("New has no objection to no base_url")
	}
	if _, err := New(config.Marketplace{BaseURL: "https://x.test"}, nil, nil); err == nil {
		t.Error("New has no objection to no token")
	}
}

// The body is the documented one to the byte; who the account is, is asked once.
func TestPlace(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.answer(postBid, reply{status: 200, body: payload(t, 12)}, reply{status: 200, body: payload(t, 13)})
	client := s.client(t, nil)
	for range 2 {
		wantResult(t, client.Place(t.Context(), testBid()), marketplace.Result{Kind: marketplace.Done, ExternalID: bidID, Status: 200})
	}
	post := "POST /api/projects/0.1/bids/ application/json " + payload(t, 11)
	want := []string{"GET /api/users/0.1/self/", "GET /api/projects/0.1/projects/39812345/", post, "GET /api/projects/0.1/projects/39812345/", post}
	if diff := cmp.Diff(want, s.requests()); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	for _, token := range s.usedTokens() {
		if token != testToken {
			t.Errorf("a request came with the token %q", token)
		}
	}
}

func TestPlacement(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.answer(postBid, reply{status: 200, body: payload(t, 12)})
	m := s.market()
	m.Freelancer.PeriodDays, m.Freelancer.MilestonePercentage = 3, 100
	client := newTestClient(t, m, nil)
	bid := testBid()
	bid.PeriodDays, bid.AmountCents, bid.Proposal = 0, 48005, strings.Repeat("é", 1501)
	client.Place(t.Context(), bid)
	bid.AmountCents, bid.Proposal, bid.PeriodDays = 1<<53*100+10, strings.Repeat("x", 1499)+"\U0001F642y", 1
	client.Place(t.Context(), bid)
	bid.Proposal = ""
	client.Place(t.Context(), bid)
	const begin, milestone = `POST /api/projects/0.1/bids/ application/json {"project_id":39812345,"bidder_id":84120077,"amount":`, `,"milestone_percentage":100`
	want := []string{
		begin + `480.05,"period":3` + milestone + `,"description":"` + strings.Repeat("é", 1500) + `"}`,
		begin + `9007199254740992.10,"period":1` + milestone + `,"description":"` + strings.Repeat("x", 1499) + "\U0001F642" + `"}`,
		begin + `9007199254740992.10,"period":1` + milestone + `}`,
	}
	if diff := cmp.Diff(want, s.requests("POST")); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

func TestBidsThatCannotBePlaced(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	client := s.client(t, nil)
	for name, change := range map[string]func(*marketplace.Bid){
		"no job id":               func(b *marketplace.Bid) { b.JobID = "" },
		"a job id of letters":     func(b *marketplace.Bid) { b.JobID = "~01abc" },
		"a path":                  func(b *marketplace.Bid) { b.JobID = "1/../2" },
		"another spelling of one": func(b *marketplace.Bid) { b.JobID = "039812345" },
		"a negative one":          func(b *marketplace.Bid) { b.JobID = "-1" },
		"a very long one":         func(b *marketplace.Bid) { b.JobID = "99999999999999999999" },
		"no amount":               func(b *marketplace.Bid) { b.AmountCents = 0 },
		"a negative period":       func(b *marketplace.Bid) { b.PeriodDays = -1 },
	} {
		bid := testBid()
		change(&bid)
		got := client.Place(t.Context(), bid)
		if got.Kind != marketplace.NeedsHuman || got.Code != "invalid_request" || len(s.requests()) != 0 {
			t.Errorf("%s: %+v after %v, want NeedsHuman before any call", name, got, s.requests())
		}
	}
}

// What the reads before a POST meet never leads to a POST, and proves that there was none.
func TestReadsBeforeThePost(t *testing.T) {
	t.Parallel()
	project := func(replaced, with string) reply {
		return reply{status: 200, body: strings.ReplaceAll(payload(t, 8), replaced, with)}
	}
	notExecuted := func(code string, status int, after time.Duration) marketplace.Result {
		return marketplace.Result{Kind: marketplace.NotExecuted, Code: code, Status: status, After: after}
	}
	limited := reply{status: 429, body: payload(t, 24), header: http.Header{"RateLimit-Limit": {"50, 50;window=60, 1000;window=3600"}, "RateLimit-Remaining": {"0"}}}
	tests := []struct {
		name, route string
		reply       reply
		want        marketplace.Result
	}{
		{"self not signed in", getSelf, reply{status: 401, body: payload(t, 5)}, notExecuted("auth_failed", 0, 0)},
		{"self limited", getSelf, limited, notExecuted("rate_limited", 429, time.Minute)},
		{"self gateway", getSelf, reply{status: 502, body: payload(t, 25)}, notExecuted("unavailable", 502, 0)},
		{"self cut", getSelf, reply{}, notExecuted("no_answer", 0, 0)},
		{"self forbidden", getSelf, reply{status: 403}, notExecuted("forbidden", 403, 0)},
		{"self without id", getSelf, reply{status: 200, body: `{"status":"success","result":{"username":"x"}}`}, notExecuted("unreadable_answer", 200, 0)},
		{"self HTML", getSelf, reply{status: 200, body: "<html>"}, notExecuted("unreadable_answer", 200, 0)},
		{"project closed", getProject, reply{status: 200, body: payload(t, 9)}, marketplace.Result{Kind: marketplace.Permanent, Code: "job_closed", Status: 200}},
		{"project frozen", getProject, project(`"status":"active"`, `"status":"frozen"`), marketplace.Result{Kind: marketplace.Permanent, Code: "job_closed", Status: 200}},
		{"project in progress", getProject, project(`"open"`, `"work_in_progress"`), marketplace.Result{Kind: marketplace.Permanent, Code: "job_closed", Status: 200}},
		{"project deleted", getProject, project(`"deleted":false`, `"deleted":true`), marketplace.Result{Kind: marketplace.Permanent, Code: "job_closed", Status: 200}},
		{"project unknown", getProject, reply{status: 404, body: payload(t, 10)}, marketplace.Result{Kind: marketplace.Permanent, Code: "not_found", Status: 404}},
		{"project in another currency", getProject, project(`"code":"USD"`, `"code":"EUR"`), marketplace.Result{Kind: marketplace.NeedsHuman, Code: "invalid_request"}},
		{"another project", getProject, project("39812345", "39812346"), notExecuted("unreadable_answer", 200, 0)},
		{"project without status", getProject, project(`"status":"active",`, ""), notExecuted("unreadable_answer", 200, 0)},
		{"project gateway", getProject, reply{status: 502, body: payload(t, 25)}, notExecuted("unavailable", 502, 0)},
		{"project gateway 404", getProject, reply{status: 404, body: "<html>"}, notExecuted("unavailable", 404, 0)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.answer(tt.route, tt.reply)
			wantResult(t, s.client(t, nil).Place(t.Context(), testBid()), tt.want)
			if posts := s.requests("POST"); len(posts) != 0 {
				t.Errorf("it was sent: %v", posts)
			}
		})
	}
}

// A project that says nothing of its page's state, or of its currency, is bid on.
func TestProjectThatSaysLittle(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.answer(getProject, reply{status: 200, body: `{"status":"success","result":{"id":39812345,"status":"active"}}`})
	s.answer(postBid, reply{status: 200, body: payload(t, 12)})
	wantResult(t, s.client(t, nil).Place(t.Context(), testBid()), marketplace.Result{Kind: marketplace.Done, ExternalID: bidID, Status: 200})
}

// Slow reads leave half of the time to the POST, and end in time.
func TestReadsAreBounded(t *testing.T) {
	t.Parallel()
	over := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-over }))
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(over) })
	client := newTestClient(t, config.Marketplace{BaseURL: server.URL, Timeout: time.Hour, AllowPrivateNetworks: true}, nil)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	wantResult(t, client.Place(ctx, testBid()), marketplace.Result{Kind: marketplace.NotExecuted, Code: "no_answer"})
	if ctx.Err() != nil {
		t.Error("the reads took all of the time")
	}
}

func TestAnswersToAPost(t *testing.T) {
	t.Parallel()
	change := func(replaced, with string) string { return strings.Replace(payload(t, 12), replaced, with, 1) }
	tests := []struct {
		name  string
		reply reply
		want  marketplace.Result
	}{
		{"of another project", reply{status: 200, body: change(`"project_id":39812345`, `"project_id":1`)}, marketplace.Result{Kind: marketplace.Ambiguous, Code: "unreadable_answer", Status: 200}},
		{"of another bidder", reply{status: 200, body: change(`"bidder_id":84120077`, `"bidder_id":1`)}, marketplace.Result{Kind: marketplace.Ambiguous, Code: "unreadable_answer", Status: 200}},
		{"without id", reply{status: 200, body: change(`"id":412345678,`, "")}, marketplace.Result{Kind: marketplace.Ambiguous, Code: "unreadable_answer", Status: 200}},
		{"id is text", reply{status: 200, body: change(`"id":412345678`, `"id":"None"`)}, marketplace.Result{Kind: marketplace.Ambiguous, Code: "unreadable_answer", Status: 200}},
		{"no result", reply{status: 200, body: `{"status":"success"}`}, marketplace.Result{Kind: marketplace.Ambiguous, Code: "unreadable_answer", Status: 200}},
		{"no body", reply{status: 200}, marketplace.Result{Kind: marketplace.Ambiguous, Code: "unavailable", Status: 200}},
		{"another status", reply{status: 200, body: change("success", "pending")}, marketplace.Result{Kind: marketplace.Ambiguous, Code: "unexpected_status", Status: 200}},
		{"a redirect", reply{status: 302, header: http.Header{"Location": {"/elsewhere"}}}, marketplace.Result{Kind: marketplace.Ambiguous, Code: "redirected", Status: 302}},
		{"too long", reply{status: 200, body: change("success", "success"+strings.Repeat(" ", 1<<20))}, marketplace.Result{Kind: marketplace.Ambiguous, Code: "unavailable", Status: 200}},
		{"busy, says when", reply{status: 503, header: http.Header{"Retry-After": {"30"}}}, marketplace.Result{Kind: marketplace.Ambiguous, Code: "unavailable", Status: 503, After: 30 * time.Second}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.answer(postBid, tt.reply)
			wantResult(t, s.client(t, nil).Place(t.Context(), testBid()), tt.want)
			if posts := s.requests("POST"); len(posts) != 1 {
				t.Errorf("%d POSTs, want one", len(posts))
			}
		})
	}
}

// Whatever becomes of the connection, one Place is one POST on the wire at most.
func TestTransport(t *testing.T) {
	t.Parallel()
	t.Run("refused", func(t *testing.T) {
		t.Parallel()
		listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		_ = listener.Close()
		client := newTestClient(t, config.Marketplace{BaseURL: "http://" + listener.Addr().String(), AllowPrivateNetworks: true}, nil)
		unsent := marketplace.Result{Kind: marketplace.NotExecuted, Code: "not_sent"}
		wantResult(t, client.Place(t.Context(), testBid()), unsent)
		wantResult(t, client.Withdraw(t.Context(), placedBid()), unsent)
		wantResult(t, client.Lookup(t.Context(), testBid()).Result, unsent)
	})
	t.Run("private address", func(t *testing.T) {
		t.Parallel()
		s := newSite(t)
		m := s.market()
		m.AllowPrivateNetworks = false
		wantResult(t, newTestClient(t, m, nil).Withdraw(t.Context(), placedBid()), marketplace.Result{Kind: marketplace.NotExecuted, Code: "address_refused"})
	})
	t.Run("cut after sending", func(t *testing.T) {
		t.Parallel()
		s := newSite(t)
		s.answer(postBid, reply{})
		s.answer(putBid, reply{})
		client := s.client(t, nil)
		lost := marketplace.Result{Kind: marketplace.Ambiguous, Code: "no_answer"}
		wantResult(t, client.Place(t.Context(), testBid()), lost)
		wantResult(t, client.Withdraw(t.Context(), placedBid()), lost)
		if len(s.requests("POST")) != 1 || len(s.requests("PUT")) != 1 {
			t.Errorf("requests %v, want each change once", s.requests())
		}
	})
	t.Run("time-out", func(t *testing.T) {
		t.Parallel()
		over := make(chan struct{})
		var posts atomic.Int64
		s := newSite(t)
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost {
				posts.Add(1)
				<-over
				return
			}
			s.ServeHTTP(w, r)
		}))
		t.Cleanup(server.Close)
		t.Cleanup(func() { close(over) })
		m := s.market()
		m.BaseURL, m.Timeout = server.URL+"/api", 2*time.Second // long enough for the reads on a busy machine
		wantResult(t, newTestClient(t, m, nil).Place(t.Context(), testBid()), marketplace.Result{Kind: marketplace.Ambiguous, Code: "no_answer"})
		if posts.Load() != 1 {
			t.Errorf("%d POSTs, want one", posts.Load())
		}
	})
}

// A token that is refused is renewed once. Reads then go on; a change is left to the engine.
func TestRefusedTokens(t *testing.T) {
	t.Parallel()
	unauthorized := reply{status: 401, body: payload(t, 5)}
	t.Run("a read", func(t *testing.T) {
		t.Parallel()
		s, tokens := newSite(t), &rotating{tokens: []string{"first-token", "second-token"}}
		s.answer(getSelf, unauthorized, reply{status: 200, body: payload(t, 4)})
		s.answer(getBids, reply{status: 200, body: payload(t, 26)})
		if got := s.client(t, tokens).Lookup(t.Context(), testBid()); !got.Known || got.Found {
			t.Errorf("%+v, want that there is none", got)
		}
		if diff := cmp.Diff([]string{"first-token", "second-token", "second-token"}, s.usedTokens()); diff != "" {
			t.Errorf("tokens (-want +got):\n%s", diff)
		}
	})
	t.Run("a read, for good", func(t *testing.T) {
		t.Parallel()
		s, tokens := newSite(t), &rotating{tokens: []string{"first-token", "second-token", "third-token"}}
		s.answer(getSelf, unauthorized)
		got := s.client(t, tokens).Lookup(t.Context(), testBid())
		wantResult(t, got.Result, marketplace.Result{Kind: marketplace.AuthNeeded, Code: "auth_failed", Status: 401})
		if diff := cmp.Diff([]string{"first-token"}, tokens.refused); diff != "" {
			t.Errorf("renewed (-want +got):\n%s", diff)
		}
	})
	for _, tt := range []struct {
		name   string
		tokens *rotating
		want   marketplace.Result
	}{
		{"renewed", &rotating{tokens: []string{"first-token", "second-token"}}, marketplace.Result{Kind: marketplace.NotExecuted, Code: "auth_failed", Status: 401}},
		{"not renewed", &rotating{tokens: []string{"first-token"}}, marketplace.Result{Kind: marketplace.AuthNeeded, Code: "auth_failed", Status: 401}},
		{"not now", &rotating{tokens: []string{"first-token"}, renewal: errors.New("busy")}, marketplace.Result{Kind: marketplace.NotExecuted, Code: "auth_failed", Status: 401}},
	} {
		t.Run("a change, "+tt.name, func(t *testing.T) {
			t.Parallel()
			for _, change := range []struct {
				route string
				call  func(*Client) marketplace.Result
			}{
				{postBid, func(c *Client) marketplace.Result { return c.Place(t.Context(), testBid()) }},
				{putBid, func(c *Client) marketplace.Result { return c.Withdraw(t.Context(), placedBid()) }},
			} {
				s := newSite(t)
				s.answer(change.route, unauthorized)
				tokens := &rotating{tokens: tt.tokens.tokens, renewal: tt.tokens.renewal}
				wantResult(t, change.call(s.client(t, tokens)), tt.want)
				if len(tokens.refused) != 1 || len(s.requests("POST"))+len(s.requests("PUT")) != 1 {
					t.Errorf("%s: %d renewals, requests %v; want one of each", change.route, len(tokens.refused), s.requests())
				}
			}
		})
	}
	t.Run("none", func(t *testing.T) {
		t.Parallel()
		s := newSite(t)
		for err, want := range map[error]marketplace.Result{
			marketplace.ErrAuthNeeded:      {Kind: marketplace.AuthNeeded, Code: "auth_failed"},
			errors.New("database is down"): {Kind: marketplace.NotExecuted, Code: "unavailable"},
		} {
			client := s.client(t, &rotating{tokens: []string{""}, err: err})
			wantResult(t, client.Lookup(t.Context(), testBid()).Result, want)
			wantResult(t, client.Withdraw(t.Context(), placedBid()), want)
			want.Kind = marketplace.NotExecuted
			wantResult(t, client.Place(t.Context(), testBid()), want)
		}
		if len(s.requests()) != 0 {
			t.Errorf("something was sent: %v", s.requests())
		}
	})
}

// After somebody else has signed in, bids go out under the new account's id.
func TestAnotherAccount(t *testing.T) {
	t.Parallel()
	s, tokens := newSite(t), &rotating{tokens: []string{"first-token"}}
	s.answer(getSelf, reply{status: 200, body: payload(t, 4)}, reply{status: 200, body: strings.ReplaceAll(payload(t, 4), "84120077", "5")})
	s.answer(postBid, reply{status: 200, body: payload(t, 12)})
	client := s.client(t, tokens)
	client.Place(t.Context(), testBid())
	tokens.tokens = []string{"second-token"}
	client.Place(t.Context(), testBid())
	if posts := s.requests("POST"); len(posts) != 2 || !strings.Contains(posts[1], `"bidder_id":5,`) {
		t.Errorf("POSTs %v, want the second for bidder 5", posts)
	}
}
