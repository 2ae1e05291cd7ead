package freelancer

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/arbitrageai/bidder/pkg/marketplace"
)

func TestSearch(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.answer(getSearch, reply{status: 200, body: payload(t, 6)}, reply{status: 200, body: payload(t, 7)})
	client := s.client(t, nil)
	page, err := client.Search(t.Context(), Query{Text: "golang postgres", Types: []string{"fixed"}, Limit: 2})
	if err != nil {
		t.Fatal(err)
	}
	want := Page{Total: 57, Projects: []Project{
		{
			ID: 39812345, Title: "Go service with Postgres queue", Description: "Build a small worker that drains a queue table.",
			URL: s.url + "/projects/golang/service-with-postgres-queue", BudgetMin: "250", BudgetMax: "750", Currency: "USD", Type: "fixed",
			Skills: []string{"Golang", "PostgreSQL"}, SubmittedAt: time.Unix(1795330000, 0).UTC(), BidPeriodDays: 7, Status: "active", FrontendStatus: "open", IsOpen: true,
			Upgrades: []string{"listed"},
		},
		{
			ID: 39812399, Title: "Grafana dashboards", Description: "Five dashboards for an existing service.",
			URL: s.url + "/projects/grafana/grafana-dashboards", BudgetMin: "30", BudgetMax: "250", Currency: "EUR", Type: "fixed",
			Skills: []string{"Grafana"}, SubmittedAt: time.Unix(1795320000, 0).UTC(), BidPeriodDays: 7, Status: "active", FrontendStatus: "open", IsOpen: true,
			Upgrades: []string{"NDA", "featured", "listed", "urgent"},
		},
	}}
	if diff := cmp.Diff(want, page, cmpopts.IgnoreUnexported(Project{})); diff != "" {
		t.Errorf("page (-want +got):\n%s", diff)
	}
	page, err = client.Search(t.Context(), Query{
		Any: true, Skills: []int64{3, 9}, Types: []string{"fixed", "hourly"}, Countries: []string{"de"}, Languages: []string{"en"}, Upgrades: []string{"urgent"},
		MinPriceCents: 5000, MaxPriceCents: 10050, MinHourlyRateCents: 1, MaxHourlyRateCents: 2, From: time.Unix(1, 0), To: time.Unix(2, 0),
		Sort: "submitdate", Reverse: true, Offset: 100,
	})
	if err != nil || page.Total != 0 || page.Projects == nil || len(page.Projects) != 0 {
		t.Errorf("%+v, %v: want an empty page", page, err)
	}
	got := make([]url.Values, 2)
	for i, request := range s.requests() {
		_, query, _ := strings.Cut(request, "?")
		got[i], _ = url.ParseQuery(query)
	}
	details := func(more url.Values) url.Values {
		more["full_description"], more["job_details"], more["upgrade_details"] = []string{"true"}, []string{"true"}, []string{"true"}
		return more
	}
	wantQueries := []url.Values{
		details(url.Values{"query": {"golang postgres"}, "project_types[]": {"fixed"}, "limit": {"2"}, "offset": {"0"}, "sort_field": {"time_updated"}}),
		details(url.Values{
			"or_search_query": {"true"}, "jobs[]": {"3", "9"}, "project_types[]": {"fixed", "hourly"}, "countries[]": {"de"}, "languages[]": {"en"},
			"project_upgrades[]": {"urgent"}, "min_price": {"50"}, "max_price": {"100.50"}, "min_hourly_rate": {"0.01"}, "max_hourly_rate": {"0.02"},
			"from_time": {"1"}, "to_time": {"2"}, "sort_field": {"submitdate"}, "reverse_sort": {"true"}, "limit": {"100"}, "offset": {"100"},
		}),
	}
	if diff := cmp.Diff(wantQueries, got); diff != "" {
		t.Errorf("queries (-want +got):\n%s", diff)
	}
}

func TestProject(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.answer(getProject, reply{status: 200, body: payload(t, 9)}, reply{status: 404, body: payload(t, 10)}, reply{status: 200, body: `{"status":"success","result":[]}`})
	client := s.client(t, nil)
	got, err := client.Project(t.Context(), 39812345)
	want := Project{
		ID: 39812345, Title: "Go service with Postgres queue", URL: s.url + "/projects/golang/service-with-postgres-queue", BudgetMin: "250", BudgetMax: "750",
		Currency: "USD", Type: "fixed", BidPeriodDays: 7, Status: "closed", FrontendStatus: "work_in_progress",
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(Project{})); diff != "" || err != nil {
		t.Errorf("project, %v (-want +got):\n%s", err, diff)
	}
	_, err = client.Project(t.Context(), 39812345)
	if got := readError(t, err); got.Code != "not_found" {
		t.Errorf("%+v, want not_found", got)
	}
	_, err = client.Project(t.Context(), 39812345)
	if got := readError(t, err); got.Code != "unreadable_answer" {
		t.Errorf("%+v, want unreadable_answer", got)
	}
}

func TestParseProject(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Project{
		`{"id":7,"status":"active","title":5,"budget":{"minimum":12.5,"maximum":1e3},"jobs":[{"id":1},{"name":"Go"},7],"submitdate":5,"preview_description":"p","bidperiod":-1}`: {
			ID: 7, Status: "active", BudgetMin: "12.5", Skills: []string{"Go"}, SubmittedAt: time.Unix(5, 0).UTC(), Description: "p", IsOpen: true, path: "7",
		},
		`{"id":7,"status":"active","frontend_project_status":"pending","budget":null,"currency":null,"jobs":null}`: {ID: 7, Status: "active", FrontendStatus: "pending", path: "7"},
	} {
		got, ok := parseProject([]byte(text))
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(Project{})); diff != "" || !ok {
			t.Errorf("%s: %v (-want +got):\n%s", text, ok, diff)
		}
	}
}

func TestSearchFails(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	client := s.client(t, nil)
	for name, q := range map[string]Query{
		"too much": {Limit: 101}, "less than nothing": {Limit: -1}, "before the first": {Offset: -1}, "a negative price": {MaxPriceCents: -1},
		"very long": {Text: strings.Repeat("x", 1001)}, "many filters": {Skills: make([]int64, 201)},
	} {
		if _, err := client.Search(t.Context(), q); !errors.Is(err, ErrQuery) || len(s.requests()) != 0 {
			t.Errorf("%s: %v after %v, want ErrQuery before any call", name, err, s.requests())
		}
	}
	for _, tt := range []struct {
		reply reply
		want  marketplace.Result
	}{
		{reply{status: 401, body: payload(t, 5)}, marketplace.Result{Kind: marketplace.AuthNeeded, Code: "auth_failed"}},
		{reply{status: 429, body: payload(t, 24), header: http.Header{"Retry-After": {"9"}}}, marketplace.Result{Kind: marketplace.NotExecuted, Code: "rate_limited", Status: 429, After: 9 * time.Second}},
		{reply{status: 502, body: payload(t, 25)}, marketplace.Result{Kind: marketplace.Ambiguous, Code: "unavailable", Status: 502}},
		{reply{status: 200, body: `{"status":"success","result":null}`}, marketplace.Result{Kind: marketplace.Ambiguous, Code: "unreadable_answer", Status: 200}},
		{reply{}, marketplace.Result{Kind: marketplace.Ambiguous, Code: "no_answer"}},
	} {
		s.answer(getSearch, tt.reply)
		_, err := client.Search(t.Context(), Query{})
		wantResult(t, readError(t, err), tt.want)
		if errors.Is(err, marketplace.ErrAuthNeeded) != (tt.want.Kind == marketplace.AuthNeeded) {
			t.Errorf("%v is ErrAuthNeeded or not", err)
		}
	}
	s.answer(getSearch, reply{status: 200, body: `{"status":"success","result":{"projects":[{"id":"x"},{"id":7,"status":"active"}]}}`})
	if page, err := client.Search(t.Context(), Query{}); err != nil || page.Unreadable != 1 || len(page.Projects) != 1 {
		t.Errorf("%+v, %v: want one project, and one left out", page, err)
	}
}
