package sandbox_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/arbitrageai/bidder/pkg/marketplace"
	"github.com/arbitrageai/bidder/pkg/marketplace/sandbox"
)

const duplicate = "ProjectExceptionCodes.DUPLICATE_BID"

func TestFreelancerFaults(t *testing.T) {
	t.Parallel()
	coded := func(status int, code string) sandbox.Fault {
		return sandbox.Fault{Do: sandbox.Answer, Status: status, Code: code}
	}
	tests := []struct {
		name   string
		fault  sandbox.Fault
		status int
		body   string // documented; not JSON if it does not begin with a brace
		header map[string]string
		stored bool
	}{
		{name: "commit, then 500", fault: sandbox.Fault{Do: sandbox.Answer, When: sandbox.After, Status: 500}, status: 500, body: unknownErrorPayload, stored: true},
		{name: "GAF exception", fault: coded(500, "ProjectExceptionCodes.GAF_EXCEPTION"), status: 500, body: gafPayload},
		{name: "limit", fault: coded(400, "ProjectExceptionCodes.BID_LIMIT_EXCEEDED"), status: 400, body: limitPayload},
		{name: "restricted", fault: coded(403, "ProjectExceptionCodes.RESTRICTED_FROM_BIDDING_PREMIUM_VERIFIED"), status: 403, body: restrictedPayload},
		{name: "minimum", fault: coded(403, "ProjectExceptionCodes.BID_MINIMUM_REQUIREMENT_NOT_MET"), status: 403, body: minimumPayload},
		{name: "error in 200", fault: coded(200, duplicate), status: 200, body: duplicatePayload},
		{
			name: "token expired once", fault: sandbox.Fault{Do: sandbox.Answer, Status: 401}, status: 401, body: noTokenPayload,
		},
		{
			name: "rate limit", fault: sandbox.Fault{Do: sandbox.Answer, Status: 429}, status: 429, body: rateLimitedPayload,
			header: map[string]string{"RateLimit-Limit": "50, 50;window=60, 1000;window=3600", "RateLimit-Remaining": "0", "Retry-After": ""},
		},
		{
			name: "rate limit that says when", fault: sandbox.Fault{Do: sandbox.Answer, Status: 429, RetryAfter: 7}, status: 429, body: rateLimitedPayload,
			header: map[string]string{"RateLimit-Remaining": "0", "Retry-After": "7"},
		},
		{
			name: "gateway", fault: sandbox.Fault{Do: sandbox.Answer, Status: 502}, status: 502, body: "<html><body>502 Bad Gateway</body></html>",
			header: map[string]string{"Content-Type": "text/html", "RateLimit-Remaining": ""},
		},
		{name: "robot wall", fault: sandbox.Fault{Do: sandbox.Answer, Status: 403}, status: 403, header: map[string]string{"Content-Type": "text/html"}},
		{name: "no result", fault: sandbox.Fault{Do: sandbox.Answer, When: sandbox.After, Status: 200}, status: 200, body: retractPayload, stored: true},
		{name: "slow", fault: sandbox.Fault{Do: sandbox.Slow, MS: 1}, status: 200, body: placedPayload, stored: true},
		{name: "no id", fault: sandbox.Fault{Do: sandbox.NoID}, status: 200, body: strings.Replace(placedPayload, `"id":412345678,`, "", 1), stored: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := startSite(t, sandbox.FreelancerRules{})
			tt.fault.Op, tt.fault.Count, tt.fault.JobID = sandbox.Place, 1, project
			s.fault(t, tt.fault)
			got := s.place(t, form(project))
			if strings.HasPrefix(tt.body, "{") {
				wantPayload(t, got, tt.status, tt.body, volatile...)
			} else if got.status != tt.status || got.body != tt.body {
				t.Errorf("%d %q, want %d %q", got.status, got.body, tt.status, tt.body)
			}
			for name, value := range tt.header {
				if got.header.Get(name) != value {
					t.Errorf("%s: %q, want %q", name, got.header.Get(name), value)
				}
			}
			if stored := s.count(isLive) == 1; stored != tt.stored || s.Journal()[0].Stored != tt.stored || len(s.Journal()[0].Faults) != 1 {
				t.Errorf("stored: %v, want %v: %+v", stored, tt.stored, s.Journal()[0])
			}
			next := s.place(t, form(project)) // the fault is used up, and the natural key holds
			if (next.status == 409) != tt.stored || s.count(isLive) != 1 {
				t.Errorf("then %d %s", next.status, next.body)
			}
		})
	}
}

func TestFreelancerDrops(t *testing.T) {
	t.Parallel()
	for _, when := range []sandbox.When{sandbox.Before, sandbox.After} {
		s := startSite(t, sandbox.FreelancerRules{})
		s.fault(t, sandbox.Fault{Do: sandbox.Drop, When: when, Op: sandbox.Place})
		if got, err := s.send(t, "POST", s.url+"/projects/0.1/bids/", "application/json", form(project)); err == nil {
			t.Errorf("an answer: %+v", got)
		}
		if live := s.count(isLive); (live == 1) != (when == sandbox.After) || s.Journal()[0].State != sandbox.Dropped {
			t.Errorf("dropped %s: %d bids, %+v", when, live, s.Journal()[0])
		}
	}
}

func TestFreelancerHold(t *testing.T) {
	t.Parallel()
	s := startSite(t, sandbox.FreelancerRules{})
	fault := s.fault(t, sandbox.Fault{Do: sandbox.Hold, Op: sandbox.Place, Count: 1})
	placed := make(chan answer, 1)
	go func() {
		got, _ := s.send(t, "POST", s.url+"/projects/0.1/bids/", "application/json", form(project))
		placed <- got
	}()
	held, err := s.remote.WaitHeld(t.Context(), 1)
	if err != nil || len(held) != 1 || held[0].JobID != project || held[0].Stored {
		t.Fatalf("%+v, %v", held, err)
	}
	s.Release(fault)
	if got := <-placed; got.status != 200 || s.count(isLive) != 1 {
		t.Errorf("%+v", got)
	}
}

func TestFreelancerLag(t *testing.T) {
	t.Parallel()
	s := startSite(t, sandbox.FreelancerRules{})
	s.fault(t, sandbox.Fault{Do: sandbox.Lag, MS: 3_600_000, Count: 1})
	s.fault(t, sandbox.Fault{Do: sandbox.Lag, MS: 1, Count: 1})
	id := s.place(t, form(project)).id(t)
	wantPayload(t, s.list(t), 200, noBidsPayload)
	wantPayload(t, s.place(t, form(project)), 409, duplicatePayload) // what is not listed is there all the same
	if s.bid(t, id).id(t) != id {
		t.Error("the bid is not there by its id")
	}
	s.setRules(t, sandbox.FreelancerRules{Duplicates: true})
	brief := s.place(t, form(project)).id(t)
	wait(t, "the bid shows up", func() bool { return strings.Contains(s.list(t).body, brief) })
	if s.count(isLive) != 2 {
		t.Errorf("%d live bids without a natural key, want 2", s.count(isLive))
	}
}

func TestFreelancerErrorStyles(t *testing.T) {
	t.Parallel()
	s := startSite(t, sandbox.FreelancerRules{ErrorIn200: true})
	s.place(t, form(project)).id(t)
	wantPayload(t, s.place(t, form(project)), 200, duplicatePayload)
	s.fault(t, sandbox.Fault{Do: sandbox.Answer, Status: 500, Count: 1})
	wantPayload(t, s.place(t, form(project)), 500, unknownErrorPayload)
	s.setRules(t, sandbox.FreelancerRules{NestedErrors: true})
	wantPayload(t, s.place(t, form(project)), 409, nestedPayload)
	s.setRules(t, sandbox.FreelancerRules{MinimalPlace: true})
	body := strings.NewReplacer("39812345", "39812407", text, "…").Replace(form(project))
	wantPayload(t, s.place(t, body), 200, strings.NewReplacer("39812345", "39812407", "51200331", "51200389").Replace(minimalPlacedPayload), volatile...)
}

func TestFreelancerRetractEncodings(t *testing.T) {
	t.Parallel()
	type encoding struct{ query, kind, body string }
	encodings := map[string]encoding{
		sandbox.RetractForm:  {"", "application/x-www-form-urlencoded", "action=retract"},
		sandbox.RetractJSON:  {"", "application/json; charset=utf-8", `{"action":"retract"}`},
		sandbox.RetractQuery: {"?action=retract", "application/x-www-form-urlencoded", ""},
	}
	for _, rule := range []string{"", sandbox.RetractForm, sandbox.RetractJSON, sandbox.RetractQuery, sandbox.RetractAny} {
		for name, e := range encodings {
			t.Run(rule+" "+name, func(t *testing.T) {
				t.Parallel()
				s := startSite(t, sandbox.FreelancerRules{RetractEncoding: rule})
				path := "/projects/0.1/bids/" + s.place(t, form(project)).id(t) + "/"
				got := s.must(t, "PUT", path+e.query, e.kind, e.body)
				if rule == name || rule == sandbox.RetractAny || rule == "" && name == sandbox.RetractForm {
					wantPayload(t, got, 200, retractPayload)
				} else {
					wantPayload(t, got, 405, wrongEncodingPayload)
				}
				if (s.count(isLive) == 0) != (got.status == 200) {
					t.Errorf("%d, and %+v", got.status, s.Bids())
				}
			})
		}
	}
	s := startSite(t, sandbox.FreelancerRules{})
	path := "/projects/0.1/bids/" + s.place(t, form(project)).id(t) + "/"
	s.must(t, "PUT", path, "", "").want(t, 400, "RestExceptionCodes.BAD_FORM")
	s.must(t, "PUT", path, "application/x-www-form-urlencoded", "action=sponsor").want(t, 400, "RestExceptionCodes.BAD_FORM")
	if s.count(isLive) != 1 {
		t.Error("the bid has gone")
	}
}

func TestFreelancerRetractRules(t *testing.T) {
	t.Parallel()
	s := startSite(t, sandbox.FreelancerRules{RetractTwice: sandbox.RetractTwiceOK})
	id := s.place(t, form(project)).id(t)
	wantPayload(t, s.retract(t, id), 200, retractPayload)
	wantPayload(t, s.retract(t, id), 200, retractPayload)
	if journal := s.Journal(); !journal[1].Stored || journal[2].Stored {
		t.Errorf("%+v, want the first alone to have done it", journal)
	}
	wantPayload(t, s.bid(t, id), 200, strings.ReplaceAll(retractedPayload, "…", text), volatile...)

	stranger, err := s.PlaceByHand(sandbox.HandPlacedBid{ProjectID: 39812345, BidderID: 73000001, Amount: 300, Period: 5})
	if err != nil || s.SetStatus(stranger, marketplace.Withdrawn) != nil {
		t.Fatal(err)
	}
	s.setRules(t, sandbox.FreelancerRules{Rebid: sandbox.RebidSameID})
	if again := s.place(t, form(project)).id(t); again != id || len(s.Bids()) != 2 || s.count(isLive) != 1 {
		t.Errorf("bid again as %s, want %s: %+v", again, id, s.Bids())
	}
	s.setRules(t, sandbox.FreelancerRules{AwardBeforeRetract: true})
	wantPayload(t, s.retract(t, id), 400, tooLatePayload)
	wantPayload(t, s.bid(t, id), 200, strings.ReplaceAll(awardedPayload, "…", text), volatile...)
	s.setRules(t, sandbox.FreelancerRules{})
	for _, status := range []marketplace.Status{marketplace.AwardPending, marketplace.Accepted, marketplace.Rejected} {
		if err := s.SetStatus(id, status); err != nil {
			t.Fatal(err)
		}
		wantPayload(t, s.retract(t, id), 400, tooLatePayload)
		wantPayload(t, s.place(t, form(project)), 409, duplicatePayload) // only retracting makes room
	}
}

func TestFreelancerProjects(t *testing.T) {
	t.Parallel()
	s := startSite(t, sandbox.FreelancerRules{AnyProject: true})
	before := len(s.Projects())
	s.place(t, form("7")).id(t)
	if s.get(t, "/projects/0.1/projects/8/").id(t) != "8" || len(s.Projects()) != before {
		t.Error("projects that are made up are missing, or listed")
	}
	s.get(t, "/projects/0.1/projects/x/").want(t, 404, "RestExceptionCodes.NOT_FOUND")
	if err := s.remote.SetProjectStatus(t.Context(), 9, "frozen"); err != nil {
		t.Fatal(err)
	}
	s.place(t, form("9")).want(t, 400, "ProjectExceptionCodes.PROJECT_NOT_ACTIVE")

	s.setRules(t, sandbox.FreelancerRules{})
	s.place(t, form("10")).want(t, 404, "RestExceptionCodes.NOT_FOUND")
	added, err := s.remote.AddProject(t.Context(), sandbox.Project{Title: "New one", Skills: []sandbox.Skill{{ID: 5, Name: "A skill"}}})
	if err != nil || added.Status != "active" || added.SEOURL != "a-skill/new-one" || added.Maximum != 750 || time.Since(added.UpdatedAt) > time.Minute {
		t.Fatalf("%+v, %v", added, err)
	}
	id := s.place(t, form(strconv.FormatInt(added.ID, 10))).id(t)
	for _, want := range []float64{1, 0} {
		view := s.get(t, "/projects/0.1/projects/"+strconv.FormatInt(added.ID, 10)+"/").json(t)["result"].(map[string]any)
		if stats := view["bid_stats"].(map[string]any); stats["bid_count"] != want || stats["bid_avg"] != want*480 {
			t.Errorf("statistics %v, want %v bids", stats, want)
		}
		s.retract(t, id)
	}
	if err := s.SetProjectStatus(added.ID, "closed"); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(s.get(t, "/projects/0.1/projects/active/").body, "New one") || !strings.Contains(s.get(t, "/projects/0.1/projects/all/").body, "New one") {
		t.Error("a closed project is active, or gone")
	}
	for name, p := range map[string]sandbox.Project{
		"title": {}, "currency": {Title: "x", Currency: "JPY"}, "type": {Title: "x", Type: "daily"}, "status": {Title: "x", Status: "lost"}, "id": {Title: "x", ID: -1},
	} {
		if _, err := s.AddProject(p); !errors.Is(err, sandbox.ErrProject) {
			t.Errorf("%s: %v, want ErrProject", name, err)
		}
	}
}

// The example postings that lead to Freelancer.com can be bid on.
func TestFreelancerSeed(t *testing.T) {
	t.Parallel()
	s := startSite(t, sandbox.FreelancerRules{})
	titles := map[string]string{}
	for _, p := range s.Projects() {
		titles[strconv.FormatInt(p.ID, 10)] = p.Title
	}
	examples, err := os.ReadFile("../../../examples/postings.ndjson")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for line := range strings.Lines(string(examples)) {
		var posting struct {
			Marketplace string `json:"marketplace"`
			JobID       string `json:"job_id"`
			Title       string `json:"title"`
		}
		if err := json.Unmarshal([]byte(line), &posting); err != nil {
			t.Fatal(err)
		}
		if posting.Marketplace == sandbox.Freelancer {
			found++
			if titles[posting.JobID] != posting.Title {
				t.Errorf("project %s is %q, want %q", posting.JobID, titles[posting.JobID], posting.Title)
			}
		}
	}
	if found == 0 {
		t.Error("there are no such examples")
	}
}

func TestFreelancerAdminRefuses(t *testing.T) {
	t.Parallel()
	s := startSite(t, sandbox.FreelancerRules{})
	id := s.place(t, form(project)).id(t)
	for what, err := range map[string]error{
		"an unknown encoding":        s.remote.SetFreelancerRules(t.Context(), sandbox.FreelancerRules{RetractEncoding: "smoke"}),
		"retract twice":              s.remote.SetFreelancerRules(t.Context(), sandbox.FreelancerRules{RetractTwice: "maybe"}),
		"rebid":                      s.remote.SetFreelancerRules(t.Context(), sandbox.FreelancerRules{Rebid: "maybe"}),
		"a life before now":          s.remote.SetFreelancerRules(t.Context(), sandbox.FreelancerRules{TokenSeconds: -1}),
		"an unknown project":         s.remote.SetProjectStatus(t.Context(), 7, "closed"),
		"an unknown status":          s.remote.SetProjectStatus(t.Context(), 39812345, "lost"),
		"a bid that expires":         s.remote.SetStatus(t.Context(), id, "expired"),
		"a user without a token":     s.remote.AddFreelancerUser(t.Context(), sandbox.FreelancerUser{ID: 1}),
		"a bid without an amount":    second(s.remote.PlaceByHand(t.Context(), sandbox.HandPlacedBid{ProjectID: 39812407, Period: 1})),
		"a bid on nothing":           second(s.remote.PlaceByHand(t.Context(), sandbox.HandPlacedBid{ProjectID: 7, Amount: 1, Period: 1})),
		"a project without anything": second(s.remote.AddProject(t.Context(), sandbox.Project{})),
	} {
		if err == nil {
			t.Errorf("%s: no error", what)
		}
	}
	// What is not mentioned stays.
	address := s.remote.BaseURL + "/admin/freelancer/rules"
	for _, body := range []string{`{"rebid":"same_id"}`, `{"retract_encoding":"any"}`} {
		if got, err := s.send(t, http.MethodPost, address, "application/json", body); err != nil || got.status != http.StatusNoContent {
			t.Errorf("%+v, %v", got, err)
		}
	}
	rules, err := s.remote.FreelancerRules(t.Context())
	if err != nil || rules.Rebid != sandbox.RebidSameID || rules.RetractEncoding != sandbox.RetractAny || rules.RetractTwice != sandbox.RetractTwiceError {
		t.Errorf("%+v, %v", rules, err)
	}
	projects, err := s.remote.Projects(t.Context())
	if err != nil || len(projects) != len(s.Projects()) || len(projects) < 24 {
		t.Errorf("%d projects, %v", len(projects), err)
	}
}

func second[T any](_ T, err error) error { return err }

func TestFreelancerPage(t *testing.T) {
	t.Parallel()
	s := startSite(t, sandbox.FreelancerRules{})
	if _, err := s.PlaceByHand(sandbox.HandPlacedBid{ProjectID: 39812345, Amount: 300, Period: 5}); err != nil {
		t.Fatal(err)
	}
	s.list(t)
	page, err := s.send(t, "GET", s.remote.BaseURL+"/", "", "")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"1 bids, 1 of them live; 1 requests", "freelancer, bidder 84120077", "submitted, by hand", "Go service with Postgres queue", "250–750 USD"} {
		if !strings.Contains(page.body, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
}
