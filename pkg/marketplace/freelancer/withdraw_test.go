package freelancer

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/arbitrageai/bidder/pkg/marketplace"
)

// asSeen is a request of the documentation as the site records it.
func asSeen(text string) string {
	head, body, _ := strings.Cut(strings.TrimRight(text, "\n"), "\n\n")
	lines := strings.Split(head, "\n")
	request := strings.TrimSuffix(lines[0], " HTTP/1.1")
	i := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, "Content-Type: ") })
	return strings.TrimSpace(request + " " + strings.TrimPrefix(lines[i], "Content-Type: ") + " " + body)
}

// A refused encoding changed nothing, so the others are tried; no other refusal is repeated.
func TestWithdraw(t *testing.T) {
	t.Parallel()
	form, query := asSeen(payload(t, 35)), asSeen(payload(t, 37))
	asJSON := "PUT /api/projects/0.1/bids/412345678/ application/json " + payload(t, 36)
	done, other, bad := reply{status: 200, body: payload(t, 38)}, reply{status: 405, body: payload(t, 39)}, reply{status: 400, body: payload(t, 19)}
	isDone := marketplace.Result{Kind: marketplace.Done, Status: 200}
	tests := []struct {
		name, encoding string
		replies        []reply
		want           marketplace.Result
		requests       []string
	}{
		{"form", "form", []reply{done}, isDone, []string{form}},
		{"then JSON", "form", []reply{other, done}, isDone, []string{form, asJSON}},
		{"then query", "form", []reply{bad, other, done}, isDone, []string{form, asJSON, query}},
		{"JSON first", "json", []reply{other, done}, isDone, []string{asJSON, form}},
		{"query first", "query", []reply{done}, isDone, []string{query}},
		{"none", "query", []reply{other}, marketplace.Result{Kind: marketplace.NeedsHuman, Code: "unexpected_status", Status: 405}, []string{query, form, asJSON}},
		{"bad form thrice", "form", []reply{bad}, marketplace.Result{Kind: marketplace.NeedsHuman, Code: "invalid_request", Status: 400}, []string{form, asJSON, query}},
		{"awarded", "form", []reply{{status: 400, body: payload(t, 40)}}, marketplace.Result{Kind: marketplace.Ambiguous, Code: "unexpected_status", Status: 400}, []string{form}},
		{"lost with the second", "form", []reply{other, {}}, marketplace.Result{Kind: marketplace.Ambiguous, Code: "no_answer"}, []string{form, asJSON}},
		{"nothing readable", "form", []reply{{status: 200}}, marketplace.Result{Kind: marketplace.Ambiguous, Code: "unavailable", Status: 200}, []string{form}},
		{"without status", "form", []reply{{status: 200, body: `{"request_id":"3c9eafb0"}`}}, isDone, []string{form}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.answer(putBid, tt.replies...)
			m := s.market()
			m.Freelancer.RetractEncoding = tt.encoding
			wantResult(t, newTestClient(t, m, nil).Withdraw(t.Context(), placedBid()), tt.want)
			if diff := cmp.Diff(tt.requests, s.requests()); diff != "" {
				t.Errorf("requests (-want +got):\n%s", diff)
			}
		})
	}
	s := newSite(t)
	for _, id := range []string{"", "x", ".", "1/2", "0"} {
		bid := testBid()
		bid.ExternalID = id
		if got := s.client(t, nil).Withdraw(t.Context(), bid); got.Kind != marketplace.NeedsHuman || len(s.requests()) != 0 {
			t.Errorf("id %q: %+v after %v, want NeedsHuman before any call", id, got, s.requests())
		}
	}
}
