package freelancer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/arbitrageai/bidder/pkg/config"
	"github.com/arbitrageai/bidder/pkg/marketplace"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testToken = "xN2kq7Yw0aTz1"
	bidID     = "412345678"
	proposal  = "I have built three queue workers of this kind in Go. Plan: schema, worker, tests, hand-over."
)

// payload is an example of the API's documentation, as it goes over the wire.
func payload(tb testing.TB, number int) string {
	tb.Helper()
	names, err := filepath.Glob(fmt.Sprintf("testdata/%02d_*", number))
	if err != nil || len(names) != 1 {
		tb.Fatalf("payload %d: %v %v", number, names, err)
	}
	text, err := os.ReadFile(names[0])
	if err != nil {
		tb.Fatal(err)
	}
	return string(text)
}

// reply is one answer; a status of 0 cuts the connection after reading the request.
type reply struct {
	status int
	body   string
	header http.Header
}

// site answers by a script: for each route its replies, of which the last one stays.
type site struct {
	url string

	mu      sync.Mutex
	replies map[string][]reply
	seen    []string // "POST /api/projects/0.1/bids/ application/json {…}"
	tokens  []string
}

// The routes of the API.
const (
	getSelf    = "GET /api/users/0.1/self/"
	getProject = "GET /api/projects/0.1/projects/39812345/"
	getSearch  = "GET /api/projects/0.1/projects/active/"
	postBid    = "POST /api/projects/0.1/bids/"
	getBids    = "GET /api/projects/0.1/bids/"
	getBid     = "GET /api/projects/0.1/bids/" + bidID + "/"
	putBid     = "PUT /api/projects/0.1/bids/" + bidID + "/"
	postToken  = "POST /oauth/token"
)

// newSite returns a site at which the account is known and the project is open.
func newSite(tb testing.TB) *site {
	tb.Helper()
	s := &site{replies: map[string][]reply{}}
	s.answer(getSelf, reply{status: 200, body: payload(tb, 4)})
	s.answer(getProject, reply{status: 200, body: payload(tb, 8)})
	server := httptest.NewServer(s)
	tb.Cleanup(server.Close)
	s.url = server.URL
	return s
}

func (s *site) answer(route string, replies ...reply) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.replies[route] = replies
}

func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	route := r.Method + " " + r.URL.Path
	s.mu.Lock()
	s.seen = append(s.seen, strings.TrimSpace(strings.Join([]string{r.Method, r.URL.RequestURI(), r.Header.Get("Content-Type"), string(body)}, " ")))
	s.tokens = append(s.tokens, r.Header.Get("Freelancer-Oauth-V1"))
	replies := s.replies[route]
	if len(replies) == 0 {
		replies = []reply{{status: 418, body: `{"status":"error","message":"not in the script"}`}}
	}
	if len(replies) > 1 {
		s.replies[route] = replies[1:]
	}
	s.mu.Unlock()
	if replies[0].status == 0 {
		panic(http.ErrAbortHandler)
	}
	for name, values := range replies[0].header {
		w.Header()[http.CanonicalHeaderKey(name)] = values
	}
	if w.Header().Get("Content-Type") == "" {
		w.Header().Set("Content-Type", "application/json")
	}
	w.WriteHeader(replies[0].status)
	_, _ = io.WriteString(w, replies[0].body)
}

// requests are what arrived, all or with these methods.
func (s *site) requests(methods ...string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.seen), func(r string) bool {
		method, _, _ := strings.Cut(r, " ")
		return len(methods) > 0 && !slices.Contains(methods, method)
	})
}

// usedTokens are the tokens that requests came with.
func (s *site) usedTokens() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.tokens)
}

func (s *site) market() config.Marketplace {
	return config.Marketplace{
		BaseURL: s.url + "/api", Timeout: 10 * time.Second, AllowPrivateNetworks: true,
		Freelancer: config.Freelancer{AccountsURL: s.url, RetractEncoding: config.RetractByForm, MilestonePercentage: 50, PeriodDays: 7},
	}
}

func (s *site) client(tb testing.TB, tokens Tokens) *Client {
	tb.Helper()
	return newTestClient(tb, s.market(), tokens)
}

func newTestClient(tb testing.TB, m config.Marketplace, tokens Tokens) *Client {
	tb.Helper()
	if tokens == nil {
		tokens = NewFixed(config.NewSecret(testToken), "FREELANCER_TOKEN")
	}
	client, err := New(m, tokens, nil)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(client.Close)
	return client
}

func testBid() marketplace.Bid {
	return marketplace.Bid{
		ID: uuid.MustParse("0192f3a4-7c1e-7b32-9d55-1f0e6a2b8c41"), Marketplace: "freelancer", Account: "default", JobID: "39812345",
		AmountCents: 48000, Currency: "USD", PeriodDays: 10, Proposal: proposal, Attempt: 1,
	}
}

func placedBid() marketplace.Bid {
	bid := testBid()
	bid.ExternalID = bidID
	return bid
}

// rotating are tokens of which each is renewed once it is refused, until there are none left.
type rotating struct {
	mu      sync.Mutex
	tokens  []string
	refused []string
	err     error // of Token
	renewal error // of Refused
}

func (r *rotating) Token(context.Context) (config.Secret, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return config.NewSecret(r.tokens[0]), r.err
}

func (r *rotating) Refused(_ context.Context, token config.Secret) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refused = append(r.refused, token.Reveal())
	if r.renewal != nil {
		return r.renewal
	}
	if len(r.tokens) == 1 {
		return fmt.Errorf("%w: no token is left", marketplace.ErrAuthNeeded)
	}
	r.tokens = r.tokens[1:]
	return nil
}

var ignoreMessage = cmpopts.IgnoreFields(marketplace.Result{}, "Message")

// wantResult compares all but the message, of which only is asked that there is one.
func wantResult(tb testing.TB, got, want marketplace.Result) {
	tb.Helper()
	if diff := cmp.Diff(want, got, ignoreMessage); diff != "" {
		tb.Errorf("result (-want +got):\n%s%s", diff, got.Message)
	}
	if got.Kind != marketplace.Done && got.Message == "" {
		tb.Error("the result does not explain itself")
	}
	if strings.Contains(fmt.Sprintf("%+v", got), testToken) {
		tb.Errorf("the result tells the token: %+v", got)
	}
}

func readError(tb testing.TB, err error) marketplace.Result {
	tb.Helper()
	failed, ok := errors.AsType[*ReadError](err)
	if !ok {
		tb.Fatalf("error %v, want a ReadError", err)
	}
	return failed.Result
}
