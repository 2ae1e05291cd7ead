package freelancer

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/arbitrageai/bidder/pkg/marketplace"
)

// shown is a list with bids of the account on the project, each with these members besides.
func shown(bids ...string) reply {
	for i, members := range bids {
		bids[i] = `{"bidder_id":84120077,"project_id":39812345,"amount":480,"period":10,"description":"` + proposal + `",` + members + `}`
	}
	return reply{status: 200, body: `{"status":"success","result":{"bids":[` + strings.Join(bids, ",") + `]}}`}
}

func found(id string, status marketplace.Status, foreign bool) marketplace.Finding {
	return marketplace.Finding{Known: true, Found: true, ExternalID: id, Status: status, Foreign: foreign}
}

func wantFinding(tb testing.TB, got, want marketplace.Finding) {
	tb.Helper()
	if diff := cmp.Diff(want, got, ignoreMessage); diff != "" {
		tb.Errorf("finding (-want +got):\n%s%s", diff, got.Result.Message)
	}
}

func absent() marketplace.Finding { return marketplace.Finding{Known: true, Definitive: true} }

func TestLookupByPosting(t *testing.T) {
	t.Parallel()
	none := reply{status: 200, body: payload(t, 26)}
	tests := []struct {
		name  string
		pages []reply
		want  marketplace.Finding
	}{
		{"none", []reply{none}, absent()},
		{"a live one that somebody placed by hand", []reply{{status: 200, body: payload(t, 27)}}, found(bidID, "submitted", true)},
		{"ours", []reply{{status: 200, body: strings.ReplaceAll(payload(t, 27), "…", proposal)}}, found(bidID, "submitted", false)},
		{"a retracted one, then a live one", []reply{{status: 200, body: payload(t, 28)}}, found("412349001", "submitted", true)},
		{"of others only, as the filter was ignored", []reply{{status: 200, body: payload(t, 29)}, none}, absent()},
		{"of another project only", []reply{{status: 200, body: strings.ReplaceAll(payload(t, 27), `"project_id":39812345`, `"project_id":1`)}, none}, absent()},
		{"retracted ones only, the newest counts", []reply{
			shown(`"id":3,"retracted":true,"time_submitted":10`, `"id":1,"retracted":true,"time_submitted":30`, `"id":2,"retracted":true,"time_submitted":20`), none,
		}, found("1", "withdrawn", false)},
		{"the same page again ends the list", []reply{shown(`"id":3,"retracted":true`)}, found("3", "withdrawn", false)},
		{"on a later page", []reply{shown(`"id":3,"retracted":true`), shown(`"id":4,"retracted":false`)}, found("4", "submitted", false)},
		{"a rejected one after a retracted one", []reply{
			shown(`"id":3,"retracted":true,"time_submitted":10`, `"id":4,"retracted":false,"award_status":"rejected","time_submitted":20`), none,
		}, found("4", "rejected", false)},
		{"an unknown state before one that has ended", []reply{shown(`"id":3,"retracted":true`, `"id":2,"retracted":false,"award_status":"shelved"`), none}, marketplace.Finding{
			Result: marketplace.Result{Kind: marketplace.NeedsHuman, Code: "unknown_status", ExternalID: "2"},
		}},
		{"not a list", []reply{{status: 200, body: payload(t, 38)}}, marketplace.Finding{Result: marketplace.Result{Kind: marketplace.Ambiguous, Code: "unreadable_answer", Status: 200}}},
		{"a bid without bidder", []reply{{status: 200, body: `{"status":"success","result":{"bids":[{"id":1,"project_id":39812345}]}}`}}, marketplace.Finding{
			Result: marketplace.Result{Kind: marketplace.Ambiguous, Code: "unreadable_answer", Status: 200},
		}},
		{"gateway", []reply{{status: 502, body: payload(t, 25)}}, marketplace.Finding{Result: marketplace.Result{Kind: marketplace.Ambiguous, Code: "unavailable", Status: 502}}},
		{"forbidden", []reply{{status: 403, body: payload(t, 16)}}, marketplace.Finding{Result: marketplace.Result{Kind: marketplace.PauseAccount, Code: "forbidden", Status: 403}}},
		{"gateway on a later page", []reply{shown(`"id":3,"retracted":true`), {status: 502}}, marketplace.Finding{
			Result: marketplace.Result{Kind: marketplace.Ambiguous, Code: "unavailable", Status: 502},
		}},
		{"no such route", []reply{{status: 404, body: payload(t, 10)}}, marketplace.Finding{Result: marketplace.Result{Kind: marketplace.Permanent, Code: "not_found", Status: 404}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.answer(getBids, tt.pages...)
			wantFinding(t, s.client(t, nil).Lookup(t.Context(), testBid()), tt.want)
			if changes := len(s.requests("POST")) + len(s.requests("PUT")); changes != 0 {
				t.Errorf("a look-up changes something: %v", s.requests())
			}
		})
	}
}

func TestLookupPages(t *testing.T) {
	t.Parallel()
	page := func(first int) reply {
		bids := make([]string, 50) // smaller than was asked for
		for i := range bids {
			bids[i] = fmt.Sprintf(`{"id":%d,"bidder_id":1,"project_id":39812345}`, first+i)
		}
		return reply{status: 200, body: `{"status":"success","result":{"bids":[` + strings.Join(bids, ",") + `]}}`}
	}
	s := newSite(t)
	s.answer(getBids, page(1), page(51), shown(`"id":900,"retracted":false`))
	wantFinding(t, s.client(t, nil).Lookup(t.Context(), testBid()), found("900", "submitted", false))
	const list = "GET /api/projects/0.1/bids/?bidders%5B%5D=84120077&limit=100&offset="
	want := []string{"GET /api/users/0.1/self/", list + "0&projects%5B%5D=39812345", list + "50&projects%5B%5D=39812345", list + "100&projects%5B%5D=39812345"}
	if diff := cmp.Diff(want, s.requests()); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}

	endless := newSite(t)
	pages := make([]reply, 30)
	for i := range pages {
		pages[i] = page(1 + 50*i)
	}
	endless.answer(getBids, pages...)
	got := endless.client(t, nil).Lookup(t.Context(), testBid())
	if got.Known || got.Result.Kind != marketplace.Ambiguous || len(endless.requests()) != 21 {
		t.Errorf("%+v after %d requests, want it to give up after 20 pages", got, len(endless.requests())-1)
	}
}

func TestLookupByID(t *testing.T) {
	t.Parallel()
	gone, none := reply{status: 404, body: payload(t, 10)}, reply{status: 200, body: payload(t, 26)}
	tests := []struct {
		name  string
		byID  reply
		list  reply
		want  marketplace.Finding
		lists int
	}{
		{"live", reply{status: 200, body: payload(t, 30)}, none, found(bidID, "submitted", true), 0},
		{"retracted", reply{status: 200, body: payload(t, 31)}, none, found(bidID, "withdrawn", false), 0},
		{"awarded", reply{status: 200, body: payload(t, 32)}, none, found(bidID, "accepted", true), 0},
		{"award waits", reply{status: 200, body: payload(t, 33)}, none, found(bidID, "award_pending", true), 0},
		{"rejected", reply{status: 200, body: payload(t, 34)}, none, found(bidID, "rejected", false), 0},
		{"gone, and not in the list", gone, none, absent(), 1},
		{"gone, but in the list", gone, reply{status: 200, body: payload(t, 27)}, found(bidID, "submitted", true), 1},
		{"gone, and another one is live", gone, reply{status: 200, body: payload(t, 28)}, found("412349001", "submitted", true), 1},
		{"gone without a code", reply{status: 404, body: `{"status":"error","message":"x"}`}, none, absent(), 1},
		{"the gateway's 404", reply{status: 404, body: "<html>"}, none, marketplace.Finding{
			Result: marketplace.Result{Kind: marketplace.Ambiguous, Code: "unavailable", Status: 404},
		}, 0},
		{"of another bidder", reply{status: 200, body: strings.Replace(payload(t, 30), "84120077", "5", 1)}, none, marketplace.Finding{
			Result: marketplace.Result{Kind: marketplace.Ambiguous, Code: "unreadable_answer", Status: 200},
		}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.answer(getBid, tt.byID)
			s.answer(getBids, tt.list)
			wantFinding(t, s.client(t, nil).Lookup(t.Context(), placedBid()), tt.want)
			lists := 0
			for _, request := range s.requests() {
				if strings.Contains(request, "/bids/?") {
					lists++
				}
			}
			if (lists > 0) != (tt.lists > 0) {
				t.Errorf("%d lists, want %d", lists, tt.lists)
			}
		})
	}
	s := newSite(t)
	for _, id := range []string{"x", "1/../2", "007"} {
		bid := testBid()
		bid.ExternalID = id
		if got := s.client(t, nil).Lookup(t.Context(), bid); got.Known || got.Result.Kind != marketplace.NeedsHuman || len(s.requests()) != 0 {
			t.Errorf("id %q: %+v after %v", id, got, s.requests())
		}
	}
}

// TestLookupOfClosedProject: of a bid that nobody has chosen it is said whether its project still is open, and else
// whether another one has it; not before its id is known, nor where it is to be taken back. A project that is not shown
// says nothing of the account.
func TestLookupOfClosedProject(t *testing.T) {
	t.Parallel()
	project := func(replaced, with string) reply {
		return reply{status: 200, body: strings.Replace(payload(t, 9), replaced, with, 1)}
	}
	lost, dormant, open := found(bidID, "lost", true), found(bidID, "submitted", true), found(bidID, "submitted", true)
	lost.Dormant, dormant.Dormant = true, true
	unreadable := func(code string, status int) marketplace.Finding {
		finding := dormant
		finding.Result = marketplace.Result{Kind: marketplace.Ambiguous, Code: code, Status: status}
		return finding
	}
	failed := func(kind marketplace.Kind, code string, status int, after time.Duration) marketplace.Finding {
		return marketplace.Finding{Result: marketplace.Result{Kind: kind, Code: code, Status: status, After: after}}
	}
	for name, tt := range map[string]struct {
		project reply
		want    marketplace.Finding
	}{
		"another one works on it": {project("", ""), lost},
		"it is complete":          {project(`"work_in_progress"`, `"complete"`), lost},
		"nobody was chosen yet":   {project(`"work_in_progress"`, `"pending"`), dormant},
		"nothing more is said":    {project(`"frontend_project_status":"work_in_progress",`, ""), dormant},
		"frozen":                  {project(`"status":"closed"`, `"status":"frozen"`), dormant},
		"gone":                    {reply{status: 404, body: payload(t, 10)}, dormant},
		"open":                    {reply{status: 200, body: payload(t, 8)}, open},
		"of another project":      {project("39812345", "39812346"), unreadable("unreadable_answer", 200)},
		"private":                 {reply{status: 403, body: "<html>"}, dormant},
		"the gateway's 404":       {reply{status: 404, body: "<html>"}, unreadable("unavailable", 404)},
		"the gateway's 502":       {reply{status: 502, body: payload(t, 25)}, unreadable("unavailable", 502)},
		"too many requests":       {reply{status: 429, body: payload(t, 24)}, failed(marketplace.NotExecuted, "rate_limited", 429, time.Minute)},
		"signed out":              {reply{status: 401, body: payload(t, 5)}, failed(marketplace.AuthNeeded, "auth_failed", 0, 0)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.answer(getProject, tt.project)
			s.answer(getBid, reply{status: 200, body: payload(t, 30)})
			s.answer(getBids, reply{status: 200, body: payload(t, 27)})
			client := s.client(t, nil)
			wantFinding(t, client.Lookup(t.Context(), placedBid()), tt.want)
			wantFinding(t, client.Lookup(t.Context(), testBid()), open)
			unwanted := placedBid()
			unwanted.WithdrawAskedAt = time.Now()
			wantFinding(t, client.Lookup(t.Context(), unwanted), open)
		})
	}
}

// Each row is the state of a bid as the API says it, and the first rule that applies.
func TestStatus(t *testing.T) {
	t.Parallel()
	for state, want := range map[string]marketplace.Status{
		`"retracted":true,"award_status":"awarded"`:                                                "withdrawn",
		`"retracted":false,"award_status":"awarded"`:                                               "accepted",
		`"retracted":false,"award_status":"AWARDED"`:                                               "accepted",
		`"retracted":false,"time_accepted":1795503600`:                                             "accepted",
		`"retracted":false,"complete_status":"incomplete"`:                                         "accepted",
		`"retracted":false,"complete_status":"complete"`:                                           "accepted",
		`"retracted":false,"complete_status":"pending"`:                                            "submitted",
		`"retracted":false,"award_status":"pending"`:                                               "award_pending",
		`"retracted":false,"time_awarded":1795500000`:                                              "award_pending",
		`"retracted":false,"time_awarded":1795500000,"award_status":"revoked"`:                     "award_pending",
		`"retracted":false,"award_status":"rejected"`:                                              "rejected",
		`"retracted":false,"award_status":"revoked"`:                                               "rejected",
		`"retracted":false,"award_status":"canceled"`:                                              "rejected",
		`"retracted":false`:                                                                        "submitted",
		`"retracted":false,"award_status":null,"frontend_bid_status":"active","time_awarded":null`: "submitted",
		`"retracted":false,"time_awarded":0,"time_accepted":0`:                                     "submitted",
		`"retracted":false,"frontend_bid_status":"in_progress"`:                                    "",
		`"retracted":false,"award_status":"shelved"`:                                               "",
		`"award_status":null`:                                                                      "",
		`"retracted":null`:                                                                         "",
		`"retracted":"false"`:                                                                      "",
	} {
		b, ok := parseBid([]byte(`{"id":1,"bidder_id":2,"project_id":3,` + state + `}`))
		if got, known := b.status(); !ok || got != want || known != (want != "") {
			t.Errorf("%s: %q, want %q", state, got, want)
		}
	}
}

// A bid that differs from ours was placed by somebody else.
func TestForeign(t *testing.T) {
	t.Parallel()
	ours := func(replaced, with string) string {
		return strings.NewReplacer(replaced, with).Replace(`"id":1,"retracted":false,"amount":480,"period":10,"description":"` + strings.ReplaceAll(proposal, ". ", `.\n`) + `"`)
	}
	for name, tt := range map[string]struct {
		bid  string
		want bool
	}{
		"other white space":  {ours("", ""), false},
		"480.0":              {ours("480", "480.0"), false},
		"another amount":     {ours("480", "480.01"), true},
		"a broken amount":    {ours("480", "480.001"), true},
		"another period":     {ours("10", "9"), true},
		"another text":       {ours("I have", "I had"), true},
		"no text":            {`"id":1,"retracted":false,"amount":480,"period":10`, false},
		"nothing to compare": {`"id":1,"retracted":false`, false},
		"accepted":           {ours("10", `9,"award_status":"awarded"`), true},
	} {
		s := newSite(t)
		s.answer(getBids, reply{status: 200, body: `{"status":"success","result":{"bids":[{"bidder_id":84120077,"project_id":39812345,` + tt.bid + `}]}}`})
		if got := s.client(t, nil).Lookup(t.Context(), testBid()); !got.Found || got.Foreign != tt.want {
			t.Errorf("%s: %+v, want Foreign: %v", name, got, tt.want)
		}
	}
}
