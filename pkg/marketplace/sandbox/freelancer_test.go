package sandbox_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/arbitrageai/bidder/pkg/marketplace"
	"github.com/arbitrageai/bidder/pkg/marketplace/sandbox"
)

// volatile are the members of bids that differ from run to run.
var volatile = []string{"id", "time_submitted", "submitdate", "time_awarded", "time_accepted"}

// documentedProjects puts the two projects of the documentation where they are documented to be.
func documentedProjects(tb testing.TB, s *site) {
	tb.Helper()
	for _, p := range s.Projects() {
		switch p.ID {
		case 39812345:
			p.SubmittedAt, p.UpdatedAt = time.Unix(1795330000, 0), time.Unix(1795331200, 0)
		case 39812399:
			p.SubmittedAt, p.UpdatedAt = time.Unix(1795320000, 0), time.Unix(1795320000, 0)
		default:
			p.Type = "hourly" // out of the way
		}
		if _, err := s.remote.AddProject(tb.Context(), p); err != nil {
			tb.Fatal(err)
		}
	}
}

func TestFreelancerReadPayloads(t *testing.T) {
	t.Parallel()
	s := startSite(t, sandbox.FreelancerRules{})
	documentedProjects(t, s)
	const search = "/projects/0.1/projects/active/?query=service&project_types[]=fixed&full_description=true&job_details=true&limit=2&offset=0&sort_field=time_updated"
	found := strings.Replace(searchPayload, `"total_count":57`, `"total_count":2`, 1) // of 57 in the documentation, two are shown
	var one struct {
		Result struct {
			Projects []json.RawMessage `json:"projects"`
		} `json:"result"`
	}
	if err := json.Unmarshal([]byte(found), &one); err != nil {
		t.Fatal(err)
	}
	wantPayload(t, s.get(t, "/users/0.1/self/"), 200, selfPayload)
	wantPayload(t, s.get(t, search), 200, found)
	wantPayload(t, s.get(t, "/projects/0.1/projects/active/?query=zeppelin"), 200, nothingFoundPayload)
	wantPayload(t, s.get(t, "/projects/0.1/projects/39812345/"), 200, `{"status":"success","result":`+string(one.Result.Projects[0])+`,"request_id":""}`)
	wantPayload(t, s.get(t, "/projects/0.1/projects/1/"), 404, notFoundPayload)
	wantPayload(t, s.list(t), 200, noBidsPayload)

	projects := s.Projects()
	closed := projects[slices.IndexFunc(projects, func(p sandbox.Project) bool { return p.ID == 39812345 })]
	closed.Status, closed.BidCount, closed.BidAverage = "closed", 29, 498.1
	if _, err := s.AddProject(closed); err != nil {
		t.Fatal(err)
	}
	wantPayload(t, s.get(t, "/projects/0.1/projects/39812345/"), 200, closedProjectPayload)
	wantPayload(t, s.place(t, form(project)), 400, notActivePayload)
	s.token = ""
	wantPayload(t, s.get(t, "/users/0.1/self/"), 401, noTokenPayload)
}

func TestFreelancerBidPayloads(t *testing.T) {
	t.Parallel()
	s := startSite(t, sandbox.FreelancerRules{})
	placed := s.place(t, form(project))
	wantPayload(t, placed, 200, placedPayload, volatile...)
	id := placed.id(t)
	live := strings.ReplaceAll(liveBidPayload, `"…"`, fmt.Sprintf("%q", text))
	one := `{"status":"success","result":` + live[strings.Index(live, "[")+1:strings.Index(live, "]")] + `,"request_id":""}`
	as := func(documented string, changes ...string) string {
		return strings.NewReplacer(append(changes, `"…"`, fmt.Sprintf("%q", text))...).Replace(documented)
	}
	wantPayload(t, s.list(t), 200, live, volatile...)
	wantPayload(t, s.get(t, "/projects/0.1/projects/39812345/bids/"), 200, live, volatile...)
	wantPayload(t, s.bid(t, id), 200, one, volatile...)
	wantPayload(t, s.place(t, form(project)), 409, duplicatePayload)
	wantPayload(t, s.place(t, strings.Replace(form("39812407"), ":50", ":19", 1)), 400, badFormPayload)

	waiting := as(awardedPayload, `"awarded"`, `"pending"`, `"incomplete"`, `null`, `"in_progress"`, `"active"`, `:1795503600`, `:null`)
	for _, step := range []struct {
		status     marketplace.Status
		documented string
	}{
		{marketplace.AwardPending, waiting},
		{marketplace.Accepted, as(awardedPayload)},
		{marketplace.AwardPending, waiting},
		{marketplace.Rejected, as(one, `"award_status":null`, `"award_status":"rejected"`)},
		{marketplace.Withdrawn, as(retractedPayload)},
		{marketplace.Submitted, one},
	} {
		if err := s.remote.SetStatus(t.Context(), id, step.status); err != nil {
			t.Fatal(err)
		}
		wantPayload(t, s.bid(t, id), 200, step.documented, volatile...)
		if got := s.Bids()[0].Status; got != step.status {
			t.Errorf("the bid is %s, want %s", got, step.status)
		}
	}
	wantPayload(t, s.retract(t, id), 200, retractPayload)
	wantPayload(t, s.bid(t, id), 200, as(retractedPayload), volatile...)
	wantPayload(t, s.retract(t, id), 400, tooLatePayload)

	// After that, one may bid again. The documentation shows less of these bids than there is.
	again := s.place(t, strings.NewReplacer(":480", ":450", ":10,", ":9,").Replace(form(project))).id(t)
	if again == id {
		t.Errorf("the second bid has the id of the first")
	}
	var documented, got struct {
		Result struct {
			Bids []map[string]any `json:"bids"`
		} `json:"result"`
	}
	if err := json.Unmarshal([]byte(as(rebidPayload)), &documented); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(s.list(t).body), &got); err != nil || len(got.Result.Bids) != 2 {
		t.Fatalf("%+v, %v", got, err)
	}
	if journal := s.Journal(); journal[len(journal)-1].ExternalID != again {
		t.Errorf("the journal says that the look-up found %s, want the live bid %s", journal[len(journal)-1].ExternalID, again)
	}
	for i, want := range documented.Result.Bids {
		seen := got.Result.Bids[i]
		for name, member := range want {
			if value, there := seen[name]; !there || blurAll(name, value) != blurAll(name, member) {
				t.Errorf("bid %d: %s is %v, want %v", i, name, value, member)
			}
		}
	}
}

func blurAll(name string, member any) any {
	return blur(map[string]any{name: member}, volatile).(map[string]any)[name]
}

// Others see little of a bid.
func TestFreelancerStrangers(t *testing.T) {
	t.Parallel()
	s := startSite(t, sandbox.FreelancerRules{})
	stranger := sandbox.HandPlacedBid{ProjectID: 39812345, BidderID: 73000001, Amount: 300, Period: 5, Description: "…"}
	id, err := s.remote.PlaceByHand(t.Context(), stranger)
	if err != nil {
		t.Fatal(err)
	}
	wantPayload(t, s.list(t), 200, noBidsPayload)
	s.setRules(t, sandbox.FreelancerRules{IgnoreBidderFilter: true})
	wantPayload(t, s.list(t), 200, strangerPayload, volatile...)
	s.retract(t, id).want(t, 403, "ProjectExceptionCodes.UNKNOWN_FAKE_CODE")
	s.place(t, form(project)).id(t) // it stands in nobody else's way
	if _, err := s.remote.PlaceByHand(t.Context(), sandbox.HandPlacedBid{ProjectID: 39812345, Amount: 1, Period: 1}); err == nil {
		t.Error("a second bid by hand was taken")
	}

	// The stranger's own view of it.
	if err := s.remote.AddFreelancerUser(t.Context(), sandbox.FreelancerUser{ID: 73000001, Username: "other", Token: "another token"}); err != nil {
		t.Fatal(err)
	}
	s.token = "another token"
	if result := s.bid(t, id).json(t)["result"].(map[string]any); result["frontend_bid_status"] != "active" {
		t.Errorf("the bidder sees %v", result)
	}
	if user := s.get(t, "/users/0.1/self/").json(t)["result"].(map[string]any); user["username"] != "other" || user["id"] != 73000001.0 {
		t.Errorf("self %v", user)
	}
	s.place(t, form(project)).want(t, 403, "ProjectExceptionCodes.UNKNOWN_FAKE_CODE")
	var byHand []sandbox.Bid
	for _, bid := range s.Bids() {
		if bid.ByHand {
			byHand = append(byHand, bid)
		}
	}
	if len(byHand) != 1 || byHand[0].ExternalID != id || byHand[0].BidderID != 73000001 || byHand[0].JobID != project || byHand[0].Amount != "300.00" {
		t.Errorf("bids by hand: %+v", byHand)
	}
}

func TestFreelancerEnforces(t *testing.T) {
	t.Parallel()
	s := startSite(t, sandbox.FreelancerRules{})
	const bids, unknown = "/projects/0.1/bids/", "ProjectExceptionCodes.UNKNOWN_FAKE_CODE"
	for _, tt := range []struct {
		name, method, path, kind, body string
		status                         int
		code                           string
	}{
		{"no slash at the end", "POST", "/projects/0.1/bids", "application/json", form(project), 404, "RestExceptionCodes.NOT_FOUND"},
		{"no slash at the end of a retraction", "PUT", "/projects/0.1/bids/1", "application/json", `{"action":"retract"}`, 404, "RestExceptionCodes.NOT_FOUND"},
		{"no such path", "GET", "/projects/0.2/bids/", "", "", 404, "RestExceptionCodes.NOT_FOUND"},
		{"a form", "POST", bids, "application/x-www-form-urlencoded", form(project), 400, "RestExceptionCodes.BAD_FORM"},
		{"no content type", "POST", bids, "", form(project), 400, "RestExceptionCodes.BAD_FORM"},
		{"no JSON", "POST", bids, "application/json", "{", 400, "RestExceptionCodes.BAD_FORM"},
		{"another bidder", "POST", bids, "application/json", strings.Replace(form(project), "84120077", "73000001", 1), 403, unknown},
		{"an id in quotes", "POST", bids, "application/json", form(`"39812345"`), 400, "RestExceptionCodes.BAD_FORM"},
		{"no project", "POST", bids, "application/json", form("null"), 400, "RestExceptionCodes.BAD_FORM"},
		{"no bidder", "POST", bids, "application/json", strings.Replace(form(project), "84120077", "null", 1), 400, "RestExceptionCodes.BAD_FORM"},
		{"project 0", "POST", bids, "application/json", form("0"), 500, "ExceptionCodes.UNKNOWN_ERROR"},
		{"an unknown project", "POST", bids, "application/json", form("7"), 404, "RestExceptionCodes.NOT_FOUND"},
		{"a closed project", "POST", bids, "application/json", form("39812688"), 400, "ProjectExceptionCodes.PROJECT_NOT_ACTIVE"},
		{"no amount", "POST", bids, "application/json", strings.Replace(form(project), ":480", ":0", 1), 400, "RestExceptionCodes.BAD_FORM"},
		{"half a day", "POST", bids, "application/json", strings.Replace(form(project), ":10,", ":0.5,", 1), 400, "RestExceptionCodes.BAD_FORM"},
		{"no day", "POST", bids, "application/json", strings.Replace(form(project), ":10,", ":0,", 1), 400, "RestExceptionCodes.BAD_FORM"},
		{"a small milestone", "POST", bids, "application/json", strings.Replace(form(project), ":50", ":19.9", 1), 400, "RestExceptionCodes.BAD_FORM"},
		{"a large milestone", "POST", bids, "application/json", strings.Replace(form(project), ":50", ":100.1", 1), 400, "RestExceptionCodes.BAD_FORM"},
		{"an unknown bid", "GET", bids + "1/", "", "", 404, "RestExceptionCodes.NOT_FOUND"},
		{"retract an unknown bid", "PUT", bids + "1/", "application/x-www-form-urlencoded", "action=retract", 404, "RestExceptionCodes.NOT_FOUND"},
		{"bids of an unknown project", "GET", "/projects/0.1/projects/7/bids/", "", "", 404, "RestExceptionCodes.NOT_FOUND"},
		{"a project that is no number", "GET", "/projects/0.1/projects/x/", "", "", 404, "RestExceptionCodes.NOT_FOUND"},
		{"a limit that is no number", "GET", bids + "?limit=x", "", "", 400, "RestExceptionCodes.BAD_FORM"},
	} {
		s.must(t, tt.method, tt.path, tt.kind, tt.body).want(t, tt.status, tt.code)
		if t.Failed() {
			t.Fatal(tt.name)
		}
	}
	if len(s.Bids()) != 0 {
		t.Errorf("%d bids, want none", len(s.Bids()))
	}
	least := strings.Replace(form(project), ":50", ":20", 1)
	s.place(t, least).id(t)
}

func TestFreelancerAuthentication(t *testing.T) {
	t.Parallel()
	s := startSite(t, sandbox.FreelancerRules{})
	for _, tt := range []struct {
		name, header, value, path string
		status                    int
	}{
		{"its own header", "freelancer-oauth-v1", sandbox.FreelancerToken, "/users/0.1/self/", 200},
		{"bearer", "Authorization", "bearer " + sandbox.FreelancerToken, "/users/0.1/self/", 200},
		{"basic", "Authorization", "Basic " + sandbox.FreelancerToken, "/users/0.1/self/", 401},
		{"another token", "Freelancer-OAuth-V1", "x", "/users/0.1/self/", 401},
		{"none", "X-None", "x", "/projects/0.1/projects/39812345/", 401},
		{"none, to search", "X-None", "x", "/projects/0.1/projects/active/", 200},
		{"another, to search", "Freelancer-OAuth-V1", "x", "/projects/0.1/projects/active/", 401},
		{"another bearer, to search", "Authorization", "Bearer x", "/projects/0.1/projects/active/", 401},
	} {
		request, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+tt.path, http.NoBody)
		request.Header.Set(tt.header, tt.value)
		response, err := s.remote.Client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != tt.status {
			t.Errorf("%s: %d, want %d", tt.name, response.StatusCode, tt.status)
		}
	}
}

// The journal says what was asked about which project, and what came of it.
func TestFreelancerJournal(t *testing.T) {
	t.Parallel()
	s := startSite(t, sandbox.FreelancerRules{})
	s.get(t, "/users/0.1/self/")
	s.get(t, "/projects/0.1/projects/active/")
	s.get(t, "/projects/0.1/projects/all/")
	s.get(t, "/projects/0.1/projects/39812345/")
	s.list(t)
	id := s.place(t, form(project)).id(t)
	s.place(t, form(project))
	s.list(t)
	s.bid(t, id)
	s.retract(t, id)
	entries, err := s.remote.Journal(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var story []string
	for _, e := range entries {
		if e.Marketplace != sandbox.Freelancer || e.BidderID != me {
			t.Errorf("entry %+v", e)
		}
		story = append(story, strings.TrimSpace(fmt.Sprintf("%s %d %s %s stored=%v %s", e.Op, e.Status, e.JobID, strings.Replace(e.ExternalID, id, "ID", 1), e.Stored, e.Code)))
	}
	if diff := cmp.Diff([]string{
		"self 200   stored=false", "search 200   stored=false", "search 200   stored=false", "project 200 39812345  stored=false",
		"lookup 200 39812345  stored=false", "place 200 39812345 ID stored=true",
		"place 409 39812345 ID stored=false ProjectExceptionCodes.DUPLICATE_BID",
		"lookup 200 39812345 ID stored=false", "lookup 200 39812345 ID stored=false", "withdraw 200 39812345 ID stored=true",
	}, story); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestFreelancerManyAtOnce(t *testing.T) {
	t.Parallel()
	s := startSite(t, sandbox.FreelancerRules{})
	var callers sync.WaitGroup
	for range 16 {
		callers.Go(func() {
			got, err := s.send(t, "POST", s.url+"/projects/0.1/bids/", "application/json", form(project))
			if err != nil || got.status != 200 && got.status != 409 {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
	callers.Wait()
	if live := s.count(isLive); live != 1 || len(s.Journal()) != 16 {
		t.Errorf("%d live bids of %d POSTs, want 1 of 16", live, len(s.Journal()))
	}
}
