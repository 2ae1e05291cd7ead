package sandbox_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/arbitrageai/bidder/pkg/marketplace/sandbox"
)

const (
	me      = sandbox.FreelancerUserID
	project = "39812345"
	text    = "I have built three queue workers of this kind in Go. Plan: schema, worker, tests, hand-over."
)

// site is a sandbox whose Freelancer.com API is called by hand.
type site struct {
	*sandbox.Server

	remote sandbox.Remote
	url    string // of the API
	token  string
}

func startSite(tb testing.TB, rules sandbox.FreelancerRules) *site {
	tb.Helper()
	s := &site{Server: sandbox.New(sandbox.Options{Freelancer: rules}), token: sandbox.FreelancerToken}
	server := httptest.NewServer(s.Server)
	tb.Cleanup(server.Close)
	tb.Cleanup(s.Close)
	client := server.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	s.remote, s.url = sandbox.Remote{BaseURL: server.URL, Client: client}, server.URL+sandbox.FreelancerAPI
	return s
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   string
}

// json is the body; only what is JSON has one.
func (a answer) json(tb testing.TB) map[string]any {
	tb.Helper()
	var body map[string]any
	if err := json.Unmarshal([]byte(a.body), &body); err != nil || a.header.Get("Content-Type") != "application/json" {
		tb.Fatalf("%d %v %q: %v", a.status, a.header, a.body, err)
	}
	return body
}

// result is the id of the bid in the answer.
func (a answer) id(tb testing.TB) string {
	tb.Helper()
	result, _ := a.json(tb)["result"].(map[string]any)
	id, ok := result["id"].(float64)
	if !ok || a.status != http.StatusOK {
		tb.Fatalf("%d %s, want a bid", a.status, a.body)
	}
	return strconv.FormatFloat(id, 'f', 0, 64)
}

// code is the error code, of either style.
func (a answer) code(tb testing.TB) string {
	tb.Helper()
	body := a.json(tb)
	code, _ := body["error_code"].(string)
	if nested, ok := body["error"].(map[string]any); ok {
		code, _ = nested["code"].(string)
	}
	return code
}

func (a answer) want(tb testing.TB, status int, code string) {
	tb.Helper()
	if got := a.code(tb); a.status != status || got != code {
		tb.Errorf("%d %s, want %d %s", a.status, a.body, status, code)
	}
}

// send makes one request. The error is that of a connection that was dropped.
func (s *site) send(tb testing.TB, method, address, kind, body string) (answer, error) {
	tb.Helper()
	request, err := http.NewRequestWithContext(tb.Context(), method, address, strings.NewReader(body))
	if err != nil {
		tb.Fatal(err)
	}
	if s.token != "" {
		request.Header.Set("Freelancer-Oauth-V1", s.token)
	}
	if kind != "" {
		request.Header.Set("Content-Type", kind)
	}
	response, err := s.remote.Client.Do(request)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	read, err := io.ReadAll(response.Body)
	return answer{response.StatusCode, response.Header, string(read)}, err
}

func (s *site) must(tb testing.TB, method, path, kind, body string) answer {
	tb.Helper()
	got, err := s.send(tb, method, s.url+path, kind, body)
	if err != nil {
		tb.Fatal(err)
	}
	return got
}

func (s *site) get(tb testing.TB, path string) answer {
	tb.Helper()
	return s.must(tb, "GET", path, "", "")
}

func form(project string) string {
	return fmt.Sprintf(`{"project_id":%s,"bidder_id":%d,"amount":480,"period":10,"milestone_percentage":50,"description":%q}`, project, me, text)
}

func (s *site) place(tb testing.TB, body string) answer {
	tb.Helper()
	return s.must(tb, "POST", "/projects/0.1/bids/", "application/json", body)
}

func (s *site) list(tb testing.TB) answer {
	tb.Helper()
	return s.get(tb, "/projects/0.1/bids/?"+url.Values{"projects[]": {project}, "bidders[]": {strconv.FormatInt(me, 10)}, "limit": {"100"}, "offset": {"0"}}.Encode())
}

func (s *site) bid(tb testing.TB, id string) answer {
	tb.Helper()
	return s.get(tb, "/projects/0.1/bids/"+id+"/")
}

func (s *site) retract(tb testing.TB, id string) answer {
	tb.Helper()
	return s.must(tb, "PUT", "/projects/0.1/bids/"+id+"/", "application/x-www-form-urlencoded", "action=retract")
}

func (s *site) fault(tb testing.TB, fault sandbox.Fault) int64 {
	tb.Helper()
	id, err := s.AddFault(fault)
	if err != nil {
		tb.Fatal(err)
	}
	return id
}

func (s *site) setRules(tb testing.TB, rules sandbox.FreelancerRules) {
	tb.Helper()
	if err := s.SetFreelancerRules(rules); err != nil {
		tb.Fatal(err)
	}
}

func (s *site) count(wanted func(sandbox.Bid) bool) (n int) {
	for _, bid := range s.Bids() {
		if wanted(bid) {
			n++
		}
	}
	return n
}

func isLive(b sandbox.Bid) bool { return b.Status == "submitted" }

// wantPayload compares an answer with a documented one, member by member, nulls included. Of
// request ids, and of the members that vary, it compares what they are, not which.
func wantPayload(tb testing.TB, got answer, status int, documented string, vary ...string) {
	tb.Helper()
	if got.status != status {
		tb.Errorf("status %d, want %d", got.status, status)
	}
	var want map[string]any
	if err := json.Unmarshal([]byte(documented), &want); err != nil {
		tb.Fatal(err)
	}
	body := got.json(tb)
	if id, ok := body["request_id"].(string); ok && !regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(id) {
		tb.Errorf("request id %q", id)
	}
	vary = append(vary, "request_id")
	if diff := cmp.Diff(blur(want, vary), blur(body, vary)); diff != "" {
		tb.Errorf("(-documented +got):\n%s", diff)
	}
}

// blur replaces what varies by its type.
func blur(v any, vary []string) any {
	switch v := v.(type) {
	case map[string]any:
		blurred := map[string]any{}
		for name, member := range v {
			blurred[name] = blur(member, vary)
			for _, varies := range vary {
				if name == varies {
					blurred[name] = fmt.Sprintf("%T", member)
				}
			}
		}
		return blurred
	case []any:
		blurred := make([]any, len(v))
		for i, element := range v {
			blurred[i] = blur(element, vary)
		}
		return blurred
	default:
		return v
	}
}
