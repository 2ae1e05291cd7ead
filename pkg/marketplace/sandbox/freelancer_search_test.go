package sandbox_test

import (
	"encoding/json"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/arbitrageai/bidder/pkg/marketplace"
	"github.com/arbitrageai/bidder/pkg/marketplace/sandbox"
)

// searched returns the titles of what a search finds, and how many there are in all.
func (s *site) searched(tb testing.TB, query string) (titles []string, total int) {
	tb.Helper()
	var found struct {
		Result struct {
			Total    int `json:"total_count"`
			Projects []struct {
				Title string `json:"title"`
			} `json:"projects"`
		} `json:"result"`
	}
	got := s.get(tb, "/projects/0.1/projects/active/?"+query)
	if err := json.Unmarshal([]byte(got.body), &found); err != nil || got.status != 200 {
		tb.Fatalf("%s: %d %s", query, got.status, got.body)
	}
	for _, p := range found.Result.Projects {
		titles = append(titles, p.Title)
	}
	return titles, found.Result.Total
}

func TestFreelancerSearch(t *testing.T) {
	t.Parallel()
	s := startSite(t, sandbox.FreelancerRules{})
	for _, p := range s.Projects() { // only these are to be found
		if err := s.SetProjectStatus(p.ID, "closed"); err != nil {
			t.Fatal(err)
		}
	}
	at := func(minutes int) time.Time { return time.Unix(1795330000, 0).Add(time.Duration(minutes) * time.Minute) }
	for _, p := range []sandbox.Project{
		{Title: "a", Description: "red apple", Minimum: 100, Maximum: 200, Skills: []sandbox.Skill{{ID: 1}, {ID: 2}}, UpdatedAt: at(1), SubmittedAt: at(-1), BidCount: 9, BidAverage: 150},
		{Title: "b", Description: "Red pear", Minimum: 300, Maximum: 400, Skills: []sandbox.Skill{{ID: 2}}, UpdatedAt: at(2), SubmittedAt: at(-2), BidCount: 1, BidAverage: 400, BidPeriod: 30},
		{Title: "c", Description: "green apple", Minimum: 300, Maximum: 400, Currency: "EUR", Upgrades: []string{"NDA"}, UpdatedAt: at(3), SubmittedAt: at(-3), BidCount: 5, BidAverage: 390},
		{Title: "d", Description: "green pear", Minimum: 20, Maximum: 30, Type: "hourly", Language: "de", UpdatedAt: at(4), SubmittedAt: at(-4)},
	} {
		if _, err := s.AddProject(p); err != nil {
			t.Fatal(err)
		}
	}
	moment := func(minutes int) string { return strconv.FormatInt(at(minutes).Unix(), 10) }
	for query, want := range map[string]string{
		"":                                    "d c b a",
		"reverse_sort=true":                   "a b c d",
		"sort_field=submitdate":               "a b c d",
		"sort_field=bid_count":                "a c b d",
		"sort_field=bid_enddate":              "b a c d",
		"sort_field=bid_avg_usd":              "c b a d",
		"limit=2":                             "d c",
		"limit=2&offset=1":                    "c b",
		"offset=9":                            "",
		"query=apple":                         "c a",
		"query=RED+pear":                      "b",
		"query=red+pear&or_search_query=true": "d b a",
		"project_types[]=hourly":              "d",
		"project_types[]=hourly&project_types[]=fixed": "d c b a",
		"jobs[]=1":                                "a",
		"jobs[]=1&jobs[]=2":                       "b a",
		"languages[]=de":                          "d",
		"project_upgrades[]=NDA":                  "c",
		"from_time=" + moment(3):                  "d c",
		"to_time=" + moment(2):                    "b a",
		"min_price=201":                           "d c b",
		"max_price=310":                           "d b a", // 300 euros are 327 dollars
		"min_hourly_rate=31":                      "c b a",
		"max_hourly_rate=19":                      "c b a",
		"min_avg_price=151":                       "d c b a", // without a type this says nothing
		"min_avg_price=151&project_types[]=fixed": "c b",
		"max_avg_price=360&project_types[]=fixed": "b a",
		"min_avg_hourly_rate=26":                  "c b a",
		"query=pear&jobs[]=2&limit=1":             "b",
	} {
		titles, total := s.searched(t, query)
		if got := strings.Join(titles, " "); got != want {
			t.Errorf("%s finds %q, want %q", query, got, want)
		}
		if !strings.Contains(query, "limit") && !strings.Contains(query, "offset") && total != len(titles) || strings.HasPrefix(query, "limit=2") && total != 4 {
			t.Errorf("%s: %d in all", query, total)
		}
	}
	for _, query := range []string{"sort_field=beauty", "min_price=x", "limit=-1", "offset=inf", "from_time=nan"} {
		s.get(t, "/projects/0.1/projects/active/?"+query).want(t, 400, "RestExceptionCodes.BAD_FORM")
	}
}

func TestFreelancerProjections(t *testing.T) {
	t.Parallel()
	s := startSite(t, sandbox.FreelancerRules{})
	first := func(query string) map[string]any {
		body := s.get(t, "/projects/0.1/projects/active/?query=drains&"+query).json(t)
		return body["result"].(map[string]any)["projects"].([]any)[0].(map[string]any)
	}
	for query, want := range map[string][3]any{ // description, jobs, and whether what is null is there
		"":                                {nil, nil, true},
		"full_description=true":           {"Build a small worker that drains a queue table.", nil, true},
		"job_details=true":                {nil, 2, true},
		"full_description=1&compact=true": {"Build a small worker that drains a queue table.", nil, false},
		"full_description=false&job_details=false": {nil, nil, true},
	} {
		p := first(query)
		var jobs any
		if all, ok := p["jobs"].([]any); ok {
			jobs = len(all)
		}
		_, nulls := p["location"]
		if diff := cmp.Diff(want, [3]any{p["description"], jobs, nulls}); diff != "" {
			t.Errorf("%q: %s", query, diff)
		}
	}
}

func TestFreelancerListFilters(t *testing.T) {
	t.Parallel()
	s := startSite(t, sandbox.FreelancerRules{})
	won, lost, open := s.place(t, form(project)).id(t), s.place(t, form("39812407")).id(t), s.place(t, form("39812433")).id(t)
	for id, status := range map[string]string{won: "accepted", lost: "rejected"} {
		if err := s.SetStatus(id, marketplace.Status(status)); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		query url.Values
		want  []string
	}{
		{url.Values{}, []string{won, lost, open}},
		{url.Values{"projects[]": {"39812407", "39812433"}}, []string{lost, open}},
		{url.Values{"bids[]": {open}}, []string{open}},
		{url.Values{"bidders[]": {"1"}}, []string{}},
		{url.Values{"award_statuses[]": {"awarded", "rejected"}}, []string{won, lost}},
		{url.Values{"frontend_bid_statuses[]": {"active"}}, []string{lost, open}},
		{url.Values{"limit": {"1"}, "offset": {"1"}}, []string{lost}},
		{url.Values{"offset": {"99999999999999999999"}}, []string{}},
	} {
		var found struct {
			Result struct {
				Bids []struct {
					ID int64 `json:"id"`
				} `json:"bids"`
			} `json:"result"`
		}
		if err := json.Unmarshal([]byte(s.get(t, "/projects/0.1/bids/?"+tt.query.Encode()).body), &found); err != nil {
			t.Fatal(err)
		}
		ids := []string{}
		for _, bid := range found.Result.Bids {
			ids = append(ids, strconv.FormatInt(bid.ID, 10))
		}
		if diff := cmp.Diff(tt.want, ids); diff != "" {
			t.Errorf("%v (-want +got):\n%s", tt.query, diff)
		}
	}
	if strings.Contains(s.get(t, "/projects/0.1/bids/?compact=true").body, "null") {
		t.Error("a compact answer has nulls")
	}
}
