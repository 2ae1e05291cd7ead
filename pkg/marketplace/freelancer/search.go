package freelancer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/arbitrageai/bidder/pkg/marketplace/internal/wire"
	"github.com/arbitrageai/bidder/pkg/posting"
)

// ErrQuery means that a search asks for what there is not.
var ErrQuery = errors.New("the search cannot be made")

// MaxPageSize is the largest Limit of a [Query].
const MaxPageSize = pageSize

// Query says which active projects to find. Several values of one field are alternatives;
// different fields all have to apply. The zero Query finds all.
type Query struct {
	// Text has words of the title or the description.
	Text string
	// Any: one of the words is enough.
	Any bool
	// Types are fixed or hourly.
	Types []string
	// Skills are ids of jobs, as Freelancer.com calls them.
	Skills []int64
	// Countries and Languages are codes.
	Countries, Languages []string
	// Upgrades are featured, sealed, nonpublic, fulltime, urgent, qualified, NDA, assisted,
	// pf_only or ip_contract.
	Upgrades []string
	// The bounds of budgets, and of rates by the hour, in cents of US dollars; 0 is none.
	MinPriceCents, MaxPriceCents           int64
	MinHourlyRateCents, MaxHourlyRateCents int64
	// From and To bound the time; zero is none.
	From, To time.Time
	// Sort is time_updated (the default), submitdate, bid_count, bid_enddate or bid_avg_usd.
	Sort string
	// Reverse turns the order round.
	Reverse bool
	// Limit is the size of the page, from 1 to MaxPageSize, which is the default; Offset is
	// how many projects come before it.
	Limit, Offset int
}

// Page is a part of what a search found.
type Page struct {
	// Total counts all that was found, as far as the API says.
	Total    int
	Projects []Project
	// Unreadable counts projects that made no sense and were left out.
	Unreadable int
}

// Project is a project as far as it makes a posting.
type Project struct {
	ID          int64
	Title       string
	Description string
	URL         string
	// BudgetMin and BudgetMax are decimal text in Currency, of projects by the hour the rate;
	// empty where there is none.
	BudgetMin, BudgetMax string
	Currency             string // code
	Type                 string // fixed or hourly
	Skills               []string
	SubmittedAt          time.Time // zero where it is not said
	BidPeriodDays        int       // how long it takes bids, 0 where it is not said
	Status               string    // active, closed, frozen, draft, pending or rejected
	FrontendStatus       string    // open, work_in_progress, complete, pending or draft
	// Upgrades are the names of those that it has, such as NDA and pf_only.
	Upgrades []string
	// IsOpen: it takes bids.
	IsOpen bool
	// IsPrivate: it is offered to one freelancer.
	IsPrivate bool

	path string // of its page
}

// Search finds active projects. An error is a [*ReadError], or wraps [ErrQuery].
func (c *Client) Search(ctx context.Context, q Query) (Page, error) {
	values, err := q.values()
	if err != nil {
		return Page{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.market.Timeout)
	defer cancel()
	got, _, err := c.read(ctx, "/projects/0.1/projects/active/", values)
	if err != nil {
		return Page{}, err
	}
	result := wire.ParseObject(got.body["result"])
	var found []jsontext.Value
	if err := json.Unmarshal(result["projects"], &found); err != nil || found == nil {
		return Page{}, got.unreadable("it does not hold a list of projects")
	}
	page := Page{Projects: []Project{}}
	if total, ok := wholeNumber(result["total_count"]); ok {
		page.Total = int(total)
	}
	for _, value := range found {
		project, ok := parseProject(value)
		if !ok {
			page.Unreadable++
			continue
		}
		page.Projects = append(page.Projects, c.withURL(project))
	}
	return page, nil
}

// Project reads one project. An error is a [*ReadError], with Code not_found where there is none.
func (c *Client) Project(ctx context.Context, id int64) (Project, error) {
	ctx, cancel := context.WithTimeout(ctx, c.market.Timeout)
	defer cancel()
	project, _, err := c.project(ctx, id, url.Values{"full_description": {"true"}, "job_details": {"true"}})
	if err != nil {
		return Project{}, err
	}
	return c.withURL(project), nil
}

func (c *Client) project(ctx context.Context, id int64, details url.Values) (Project, answer, error) {
	got, _, err := c.read(ctx, fmt.Sprintf("/projects/0.1/projects/%d/", id), details)
	if err != nil {
		return Project{}, got, err
	}
	project, ok := parseProject(got.body["result"])
	if !ok || project.ID != id {
		return Project{}, got, got.unreadable("it does not hold the project that was asked for")
	}
	return project, got, nil
}

// withURL adds the address of the project's page, which is on the site that the API belongs to.
func (c *Client) withURL(p Project) Project {
	u, err := url.Parse(c.market.BaseURL)
	if err != nil {
		return p
	}
	page := url.URL{Scheme: u.Scheme, Host: u.Host, Path: "/projects/" + p.path}
	p.URL = page.String()
	return p
}

func (q Query) values() (url.Values, error) {
	switch {
	case q.Limit < 0 || q.Limit > MaxPageSize || q.Offset < 0:
		return nil, fmt.Errorf("%w: a page has 1 to %d projects, and begins at 0 or later", ErrQuery, MaxPageSize)
	case min(q.MinPriceCents, q.MaxPriceCents, q.MinHourlyRateCents, q.MaxHourlyRateCents) < 0:
		return nil, fmt.Errorf("%w: an amount is negative", ErrQuery)
	case len(q.Text) > 1000 || len(q.Types)+len(q.Skills)+len(q.Countries)+len(q.Languages)+len(q.Upgrades) > 200:
		return nil, fmt.Errorf("%w: it is too long", ErrQuery)
	}
	values := url.Values{
		"full_description": {"true"}, "job_details": {"true"}, "upgrade_details": {"true"}, "limit": {strconv.Itoa(MaxPageSize)}, "offset": {strconv.Itoa(q.Offset)},
		"sort_field": {"time_updated"},
	}
	set := func(name, value string, given bool) {
		if given {
			values.Set(name, value)
		}
	}
	set("limit", strconv.Itoa(q.Limit), q.Limit > 0)
	set("query", q.Text, q.Text != "")
	set("or_search_query", "true", q.Any)
	set("sort_field", q.Sort, q.Sort != "")
	set("reverse_sort", "true", q.Reverse)
	for name, cents := range map[string]int64{
		"min_price": q.MinPriceCents, "max_price": q.MaxPriceCents, "min_hourly_rate": q.MinHourlyRateCents, "max_hourly_rate": q.MaxHourlyRateCents,
	} {
		set(name, strings.TrimSuffix(posting.FormatAmount(cents), ".00"), cents > 0)
	}
	for name, at := range map[string]time.Time{"from_time": q.From, "to_time": q.To} {
		set(name, strconv.FormatInt(at.Unix(), 10), !at.IsZero())
	}
	for _, skill := range q.Skills {
		values.Add("jobs[]", strconv.FormatInt(skill, 10))
	}
	for name, several := range map[string][]string{
		"project_types[]": q.Types, "countries[]": q.Countries, "languages[]": q.Languages, "project_upgrades[]": q.Upgrades,
	} {
		for _, value := range several {
			values.Add(name, value)
		}
	}
	return values, nil
}

func parseProject(value jsontext.Value) (Project, bool) {
	o := wire.ParseObject(value)
	id, ok := wholeNumber(o["id"])
	p := Project{
		ID: id, Title: o.Text("title"), Description: o.Text("description"), Type: o.Text("type"),
		Status: o.Text("status"), FrontendStatus: o.Text("frontend_project_status"),
		Currency: wire.ParseObject(o["currency"]).Text("code"), path: o.Text("seo_url"),
	}
	if p.Description == "" {
		p.Description = o.Text("preview_description")
	}
	if p.path == "" {
		p.path = strconv.FormatInt(id, 10)
	}
	budget := wire.ParseObject(o["budget"])
	p.BudgetMin, p.BudgetMax = decimal(budget["minimum"]), decimal(budget["maximum"])
	at, said := wholeNumber(o["time_submitted"])
	if !said || at == 0 {
		at, _ = wholeNumber(o["submitdate"])
	}
	if at > 0 {
		p.SubmittedAt = time.Unix(at, 0).UTC()
	}
	if days, ok := wholeNumber(o["bidperiod"]); ok {
		p.BidPeriodDays = int(days)
	}
	var jobs []jsontext.Value
	if err := json.Unmarshal(o["jobs"], &jobs); err == nil {
		for _, job := range jobs {
			if name := wire.ParseObject(job).Text("name"); name != "" {
				p.Skills = append(p.Skills, name)
			}
		}
	}
	upgrades := wire.ParseObject(o["upgrades"])
	for _, name := range slices.Sorted(maps.Keys(upgrades)) {
		if has, _ := upgrades.Bool(name); has {
			p.Upgrades = append(p.Upgrades, name)
		}
	}
	p.IsPrivate, _ = o.Bool("hireme")
	deleted, _ := o.Bool("deleted")
	p.IsOpen = p.Status == "active" && (p.FrontendStatus == "" || p.FrontendStatus == "open") && !deleted
	return p, ok && id > 0 && p.Status != ""
}
