package sandbox

import (
	"cmp"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The types and the statuses of projects that matter.
const (
	fixed  = "fixed"
	hourly = "hourly"
	active = "active"
)

// firstOwner is the owner of projects that name none.
const firstOwner int64 = 51200331

// Project is something to bid on at the Freelancer.com API.
type Project struct {
	ID          int64     `json:"id"` // 0 is the next free one
	OwnerID     int64     `json:"owner_id"`
	Title       string    `json:"title"`
	Description string    `json:"description"`
	SEOURL      string    `json:"seo_url"`  // after /projects/ of the site
	Type        string    `json:"type"`     // fixed (the default) or hourly
	Currency    string    `json:"currency"` // USD (the default), EUR or GBP
	Minimum     float64   `json:"minimum"`  // of the budget, which is 250 to 750 by default; for hourly, of the rate
	Maximum     float64   `json:"maximum"`
	Skills      []Skill   `json:"skills"`
	Upgrades    []string  `json:"upgrades"` // featured, sealed, urgent, NDA, …
	Language    string    `json:"language"`
	BidPeriod   int       `json:"bid_period"` // days
	BidCount    int       `json:"bid_count"`  // of bids that strangers placed before the sandbox began
	BidAverage  float64   `json:"bid_average"`
	Status      string    `json:"status"` // active (the default), closed, frozen, draft, pending or rejected
	SubmittedAt time.Time `json:"submitted_at"`
	UpdatedAt   time.Time `json:"updated_at"`
}

// Skill is what a project asks for. The API calls it a job.
type Skill struct {
	ID   int64  `json:"id"`
	Name string `json:"name"`
}

// ErrProject says that a project makes no sense.
var ErrProject = errors.New("this project makes no sense")

//go:embed freelancer_seed.json
var seedJSON []byte

// seed returns the projects that the sandbox begins with: always the same, the last update of
// the first of them a minute ago, that of each other some minutes earlier.
func seed(now time.Time) []Project {
	var projects []Project
	if err := json.Unmarshal(seedJSON, &projects); err != nil {
		panic(fmt.Errorf("the projects of the sandbox: %w", err)) // it is part of the program
	}
	for i := range projects {
		projects[i].UpdatedAt = now.Add(-time.Minute - 17*time.Minute*time.Duration(i))
		projects[i].SubmittedAt = projects[i].UpdatedAt.Add(-20 * time.Minute)
	}
	return projects
}

// addProject fills in what is missing. A project with the id of another replaces it.
func (f *freelancer) addProject(p Project) *Project {
	if p.ID == 0 {
		for p.ID = 40_000_000; f.projects[p.ID] != nil; p.ID++ {
		}
	}
	now := time.Now()
	p.OwnerID, p.Type, p.Currency = cmp.Or(p.OwnerID, firstOwner), cmp.Or(p.Type, fixed), cmp.Or(p.Currency, "USD")
	if p.Minimum == 0 && p.Maximum == 0 {
		p.Minimum, p.Maximum = 250, 750
	}
	p.Maximum = max(p.Minimum, p.Maximum)
	p.Language, p.BidPeriod, p.Status = cmp.Or(p.Language, "en"), cmp.Or(p.BidPeriod, 7), cmp.Or(p.Status, active)
	if p.UpdatedAt.IsZero() {
		p.UpdatedAt = now
	}
	if p.SubmittedAt.IsZero() {
		p.SubmittedAt = p.UpdatedAt
	}
	if p.SEOURL == "" {
		folder := "projects"
		if len(p.Skills) > 0 {
			folder = slug(p.Skills[0].Name)
		}
		p.SEOURL = folder + "/" + slug(p.Title)
	}
	f.listed = slices.DeleteFunc(f.listed, func(other *Project) bool { return other.ID == p.ID })
	f.listed = append(f.listed, &p)
	f.projects[p.ID] = &p
	return &p
}

func (p *Project) objection() string {
	switch {
	case p.Title == "":
		return "title is missing"
	case currencyOf(cmp.Or(p.Currency, "USD")).ID == 0:
		return "currency is USD, EUR or GBP"
	case !accepts([]string{"", fixed, hourly}, p.Type):
		return "type is fixed or hourly"
	case !accepts(append(projectStatuses(), ""), p.Status):
		return "status is " + strings.Join(projectStatuses(), ", ")
	case p.ID < 0 || p.Minimum < 0 || p.Maximum < 0 || p.BidCount < 0:
		return "numbers are not negative"
	default:
		return ""
	}
}

func projectStatuses() []string {
	return []string{active, "closed", "frozen", "draft", "pending", "rejected"}
}

// project returns a project, or nil. If any project exists, it makes one up, which is not listed.
func (f *freelancer) project(id int64) *Project {
	project := f.projects[id]
	if project == nil && f.rules.AnyProject && id > 0 {
		listed := slices.Clone(f.listed)
		project = f.addProject(Project{ID: id, Title: "Project " + strconv.FormatInt(id, 10), Description: "Any project exists here."})
		f.listed = listed
	}
	return project
}

// size is the name that the site has for a budget.
func (p *Project) size() string {
	switch {
	case p.Type == hourly:
		return "Hourly Project"
	case p.Minimum < 250:
		return "Micro Project"
	case p.Minimum < 750:
		return "Small Project"
	case p.Minimum < 1500:
		return "Medium Project"
	default:
		return "Large Project"
	}
}

// frontend is the status that the site shows.
func (p *Project) frontend() string {
	switch p.Status {
	case active:
		return "open"
	case "closed":
		return "work_in_progress"
	case "draft":
		return "draft"
	default:
		return "pending"
	}
}

func (p *Project) upgrades() object {
	upgrades := object{"assisted": nil, "listed": true}
	for _, name := range []string{"featured", "sealed", "nonpublic", "fulltime", "urgent", "qualified", "NDA", "ip_contract", "pf_only", "recruiter"} {
		upgrades[name] = slices.Contains(p.Upgrades, name)
	}
	return upgrades
}

// preview is how a description begins.
func preview(description string) string {
	const most = 25 // bytes
	if len(description) <= most {
		return description
	}
	return description[:max(0, strings.LastIndexByte(description[:most+1], ' '))]
}

// slug is a title as a part of a URL.
func slug(title string) string {
	words := strings.FieldsFunc(strings.ToLower(title), func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') })
	return strings.Join(words, "-")
}

func (f *freelancer) readProject(c *call) reply {
	f.server.mu.Lock()
	defer f.server.mu.Unlock()
	project := f.project(number(c.entry.JobID))
	switch {
	case project == nil:
		return c.refuse(codeNotFound)
	case project.Status == active:
		return c.compact(success(f.view(project, true, true)))
	default:
		return c.compact(success(f.closedView(project)))
	}
}

func (f *freelancer) searchActive(c *call) reply { return f.search(c, true) }

func (f *freelancer) searchAll(c *call) reply { return f.search(c, false) }

// search answers with the projects that meet all filters, the first by the order asked for.
func (f *freelancer) search(c *call, onlyActive bool) reply {
	p := parameters{Values: c.request.URL.Query()}
	matches := f.filters(&p)
	limit, offset := p.page()
	order := f.order(p.oneOf("sort_field", "time_updated", "submitdate", "bid_count", "bid_enddate", "bid_avg_usd"))
	if p.broken != "" {
		return c.refuse(codeBadForm, p.broken)
	}
	f.server.mu.Lock()
	defer f.server.mu.Unlock()
	found := []*Project{}
	for _, project := range f.listed {
		if (!onlyActive || project.Status == active) && !slices.ContainsFunc(matches, func(is filter) bool { return !is(project) }) {
			found = append(found, project)
		}
	}
	slices.SortStableFunc(found, func(a, b *Project) int { return cmp.Or(cmp.Compare(order(b), order(a)), cmp.Compare(b.ID, a.ID)) })
	if truth(p.Get("reverse_sort")) {
		slices.Reverse(found)
	}
	views := []object{}
	for _, project := range found[min(offset, len(found)):] {
		if len(views) < limit {
			views = append(views, f.view(project, truth(p.Get("full_description")), truth(p.Get("job_details"))))
		}
	}
	return c.compact(success(object{"total_count": len(found), "selected_bids": nil, "users": nil, "projects": views}))
}

// order is the number by which projects are sorted, the largest first.
func (f *freelancer) order(field string) func(*Project) float64 {
	switch field {
	case "submitdate":
		return func(p *Project) float64 { return float64(p.SubmittedAt.Unix()) }
	case "bid_enddate":
		return func(p *Project) float64 { return float64(p.SubmittedAt.AddDate(0, 0, p.BidPeriod).Unix()) }
	case "bid_count":
		return func(p *Project) float64 { count, _ := f.statistics(p); return float64(count) }
	case "bid_avg_usd":
		return func(p *Project) float64 { _, average := f.statistics(p); return p.dollars(average) }
	default:
		return func(p *Project) float64 { return float64(p.UpdatedAt.Unix()) }
	}
}

func (p *Project) dollars(amount float64) float64 {
	return amount * currencyOf(p.Currency).ExchangeRate
}

// filter reports whether a project is one that was asked for.
type filter func(*Project) bool

// filters are those of a search. Filters of money are in US dollars, and look at projects of
// their own type only; a budget meets one if some amount in it does.
func (f *freelancer) filters(p *parameters) []filter {
	all := []filter{
		func(project *Project) bool { return accepts(p.Values["project_types[]"], project.Type) },
		func(project *Project) bool { return accepts(p.Values["languages[]"], project.Language) },
		func(project *Project) bool {
			skills, wanted := project.Skills, p.Values["jobs[]"]
			return len(wanted) == 0 || slices.ContainsFunc(skills, func(s Skill) bool { return slices.Contains(wanted, strconv.FormatInt(s.ID, 10)) })
		},
		func(project *Project) bool {
			upgrades, wanted := project.Upgrades, p.Values["project_upgrades[]"]
			return len(wanted) == 0 || slices.ContainsFunc(upgrades, func(u string) bool { return slices.Contains(wanted, u) })
		},
	}
	from, to := p.number("from_time", 0), p.number("to_time", math.Inf(1))
	all = append(all, func(project *Project) bool {
		updated := float64(project.UpdatedAt.Unix())
		return from <= updated && updated <= to
	})
	for kind, name := range map[string]string{fixed: "price", hourly: "hourly_rate"} {
		least, most := p.number("min_"+name, 0), p.number("max_"+name, math.Inf(1))
		all = append(all, func(project *Project) bool {
			return project.Type != kind || project.dollars(project.Maximum) >= least && project.dollars(project.Minimum) <= most
		})
	}
	for kind, name := range map[string]string{fixed: "avg_price", hourly: "avg_hourly_rate"} {
		least, most := p.number("min_"+name, 0), p.number("max_"+name, math.Inf(1))
		if kind == fixed && len(p.Values["project_types[]"]) != 1 {
			continue // the API ignores these then
		}
		all = append(all, func(project *Project) bool {
			average := project.dollars((project.Minimum + project.Maximum) / 2)
			return project.Type != kind || least <= average && average <= most
		})
	}
	if words := strings.Fields(strings.ToLower(p.Get("query"))); len(words) > 0 {
		all = append(all, func(project *Project) bool {
			text := strings.ToLower(project.Title + "\n" + project.Description)
			has := func(word string) bool { return strings.Contains(text, word) }
			if truth(p.Get("or_search_query")) {
				return slices.ContainsFunc(words, has)
			}
			return !slices.ContainsFunc(words, func(word string) bool { return !has(word) })
		})
	}
	return all
}
