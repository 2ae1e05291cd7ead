package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/arbitrageai/bidder/pkg/marketplace"
	"github.com/arbitrageai/bidder/pkg/marketplace/sandbox"
)

// setupScan is a market whose bids on freelancer go to the sandbox by the API of
// Freelancer.com. More lines of configuration may follow, which come before the others' defaults.
func setupScan(t *testing.T, more ...string) *market {
	t.Helper()
	m := &market{fixture: setup(t), name: sandbox.Freelancer}
	m.server, m.url = serve(t, sandbox.FreelancerRules{})
	m.env = m.freelancer(m.url+sandbox.FreelancerAPI, more...)
	return m
}

// freelancer is the environment of a pod that finds the API at an address.
func (m *market) freelancer(baseURL string, more ...string) []string {
	m.t.Helper()
	lines := []string{
		"marketplaces:", "  freelancer:", "    handler: freelancer", "    allow_private_networks: true",
		"    base_url: " + baseURL, "    token_env: FREELANCER_TOKEN", "    timeout: 10s", "    settle: 1s",
	}
	if len(more) == 0 {
		more = []string{"rate: 0"}
	}
	for _, line := range more {
		lines = append(lines, "    "+line)
	}
	return []string{
		"BIDDER_CONFIG=" + file(m.t, "bidder.yaml", lines...), "FREELANCER_TOKEN=" + sandbox.FreelancerToken, "BIDDER_RETRY_BASE=50ms",
	}
}

type scanReport struct {
	Read, Accepted, Updated, Unchanged, Rejected int
	Rejects                                      []struct {
		JobID string `json:"job_id"`
		Code  string
	}
	Skipped             map[string]int
	Found, Pages, Calls int
	Paused              bool
}

func (m *market) scan(code int, args ...string) scanReport {
	m.t.Helper()
	return decode[scanReport](m.t, m.call(append([]string{"scan", "freelancer"}, args...)...).json().run(m.t).want(m.t, code))
}

// add adds projects for a search for "zzz", the last of them the newest.
func (m *market) add(projects ...sandbox.Project) (ids []string) {
	m.t.Helper()
	for i, p := range projects {
		p.Description += " zzz"
		p.UpdatedAt = time.Now().Add(-time.Hour + time.Duration(i)*time.Second)
		added, err := m.server.AddProject(p)
		if err != nil {
			m.t.Fatal(err)
		}
		ids = append(ids, fmt.Sprint(added.ID))
	}
	return ids
}

func many(n int) []sandbox.Project {
	projects := make([]sandbox.Project, n)
	for i := range projects {
		projects[i] = sandbox.Project{Title: fmt.Sprintf("Project %d", i)}
	}
	return projects
}

// TestScanAndBid: what a search finds is bid on, in the project's own currency.
func TestScanAndBid(t *testing.T) {
	t.Parallel()
	m := setupScan(t)
	submitted := time.Now().Add(-48 * time.Hour).Truncate(time.Second)
	ids := m.add(
		sandbox.Project{
			Title: "In euros", Currency: "EUR", Minimum: 100, Maximum: 333.33, Skills: []sandbox.Skill{{ID: 1092, Name: "Golang"}, {ID: 305, Name: "Postgre\x1fSQL"}},
			SubmittedAt: submitted, SEOURL: "golang/in-euros", BidPeriod: 7,
		},
		sandbox.Project{Title: "By the hour", Type: "hourly", Minimum: 25, Maximum: 50, SubmittedAt: submitted, BidPeriod: 1},
		sandbox.Project{Title: "Secret", Upgrades: []string{"NDA"}},
		sandbox.Project{Title: "For some", Upgrades: []string{"pf_only"}},
		sandbox.Project{Title: "Sealed", Upgrades: []string{"sealed", "featured"}},
		sandbox.Project{Title: "Over", Status: "closed"},
	)
	got := m.scan(0, "--query", "zzz")
	if diff := cmp.Diff(scanReport{
		Read: 3, Accepted: 3, Skipped: map[string]int{"nda": 1, "preferred_only": 1}, Found: 5, Pages: 1, Calls: 1, Rejects: got.Rejects,
	}, got); diff != "" {
		t.Error(diff)
	}
	site := strings.TrimSuffix(m.url, sandbox.FreelancerAPI)
	if got, want := read[string](m.fixture, `SELECT concat_ws('|', title, description, url, budget_min_cents, budget_max_cents, currency, pricing,
			skills::text, extract(epoch FROM posted_at)::bigint, extract(epoch FROM deadline)::bigint) FROM postings WHERE job_id = $1`, ids[0]),
		fmt.Sprintf(`In euros| zzz|%s/projects/golang/in-euros|10000|33333|EUR|fixed|{Golang,"Postgre SQL"}|%d|%d`, site, submitted.Unix(), submitted.AddDate(0, 0, 7).Unix()); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	// It is open, though the time for bids is over: it was prolonged.
	m.wantCount(1, "postings WHERE job_id = $1 AND deadline IS NULL AND pricing = 'hourly' AND cached_at BETWEEN now() - interval '2 minutes' AND now()", ids[1])
	m.wantCount(0, "runs")

	if got := m.pass(0).Deliveries.Place.Done; got != 3 {
		t.Errorf("%d bids were placed, want 3", got)
	}
	placed := map[string]string{}
	for _, b := range m.server.Bids() {
		placed[b.JobID] = b.Amount + " " + b.Currency
	}
	amounts := map[string]string{}
	for _, id := range []string{ids[0], ids[1], ids[4]} {
		amounts[id] = read[string](m.fixture, "SELECT (amount_cents / 100.0)::numeric(12, 2) || ' ' || currency FROM bids WHERE job_id = $1", id)
	}
	if diff := cmp.Diff(amounts, placed); diff != "" {
		t.Error(diff)
	}
	m.wantLive(3)
}

// TestScanAgain: what says nothing new stays as it is, until it would no longer be fresh.
func TestScanAgain(t *testing.T) {
	t.Parallel()
	m := setupScan(t)
	ids := m.add(many(3)...)
	m.scan(0, "--query", "zzz")
	m.exec("DELETE FROM candidates")
	if got := m.scan(0, "--query", "zzz"); got.Unchanged != 3 || got.Read != 3 {
		t.Errorf("got %+v", got)
	}
	m.wantCount(0, "candidates")

	// Another title is news; so is being seen after half of the time to live. What a file asked to
	// bid stays.
	m.ingest(fmt.Sprintf(`{"marketplace":"freelancer","job_id":%q,"title":"Old","bid":{"amount":"12.50","period_days":3,"proposal":"Hello"}}`, ids[0]))
	m.exec("UPDATE postings SET cached_at = now() - interval '13 hours' WHERE job_id = $1", ids[1])
	m.exec("DELETE FROM candidates")
	before := read[time.Time](m.fixture, "SELECT cached_at FROM postings WHERE job_id = $1", ids[0])
	if got := m.scan(0, "--query", "zzz"); got.Updated != 2 || got.Unchanged != 1 {
		t.Errorf("got %+v", got)
	}
	m.wantCount(2, "candidates")
	m.wantCount(1, "postings WHERE job_id = $1 AND cached_at > $2 AND title = 'Project 0' AND bid_amount_cents = 1250 AND bid_period_days = 3 AND bid_proposal = 'Hello'", ids[0], before)
	m.wantCount(3, "postings WHERE cached_at > now() - interval '5 minutes'")
}

// TestScanPages: a search of many pages is read to its end, each project once, also one of which
// new projects push the others on while it is read.
func TestScanPages(t *testing.T) {
	t.Parallel()
	m := setupScan(t)
	m.add(many(250)...)
	m.fault(sandbox.Fault{Do: sandbox.Hold, Op: sandbox.Search, When: sandbox.After, Count: 1})
	p := m.call("scan", "freelancer", "--query", "zzz", "--limit", "1000").json().start(t)
	m.awaitHeld(1)
	for range 3 { // ahead of all others, after the first page was made
		if _, err := m.server.AddProject(sandbox.Project{Title: "zzz"}); err != nil {
			t.Fatal(err)
		}
	}
	m.server.Reset()
	if got := decode[scanReport](t, p.wait().want(t, 0)); got.Read != 250 || got.Accepted != 250 || got.Pages != 3 {
		t.Errorf("got %+v", got)
	}
	m.wantCount(250, "postings")
	if got := m.scan(0, "--query", "zzz", "--limit", "120"); got.Read != 120 || got.Accepted != 3 || got.Pages != 2 {
		t.Errorf("got %+v", got)
	}
}

// TestScanFailures: what was read before a failure is kept.
func TestScanFailures(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		fault sandbox.Fault
		code  int
		says  string
	}{
		{"500", sandbox.Fault{Do: sandbox.Answer, Status: 500}, 1, "safe to run again"},
		{"a gateway's page", sandbox.Fault{Do: sandbox.Answer, Status: 502}, 1, "502"},
		{"a reset", sandbox.Fault{Do: sandbox.Drop}, 1, "no_answer"},
		{"a wall", sandbox.Fault{Do: sandbox.Answer, Status: 403}, 3, "does not let the account search"},
		{"no token", sandbox.Fault{Do: sandbox.Answer, Status: 401}, 3, "bidder freelancer status freelancer"},
		{"a bad request", sandbox.Fault{Do: sandbox.Answer, Status: 400}, 2, "check the flags"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := setupScan(t)
			m.add(many(150)...)
			tt.fault.Op = sandbox.Search
			m.fault(tt.fault)
			m.call("scan", "freelancer").json().run(t).wantError(t, tt.code, tt.says)
			if tt.code == 2 {
				return
			}
			// Now the second page fails.
			m.server.Reset()
			m.fault(sandbox.Fault{Do: sandbox.Hold, Op: sandbox.Search, When: sandbox.After, Count: 1})
			p := m.call("scan", "freelancer", "--query", "zzz", "--limit", "500").json().start(t)
			m.awaitHeld(1)
			m.fault(tt.fault)
			m.server.Release(0)
			r := p.wait().want(t, tt.code)
			if got := decode[scanReport](t, r); got.Accepted != 100 || got.Pages != 1 || !strings.Contains(r.stderr, tt.says) {
				t.Errorf("got %+v, %s", got, r.stderr)
			}
			m.wantCount(100, "postings")
		})
	}
}

// TestScanWaits: a call is made when the account's rate has a place for it, and not while it is paused.
func TestScanWaits(t *testing.T) {
	t.Parallel()
	m := setupScan(t, "rate: 10")
	m.add(many(150)...)
	m.fault(sandbox.Fault{Do: sandbox.Answer, Op: sandbox.Search, Status: 429, RetryAfter: 1, Count: 1})
	r := m.call("scan", "freelancer", "--query", "zzz", "--limit", "500").json().run(t).want(t, 0)
	if got := decode[scanReport](t, r); got.Accepted != 150 || got.Calls != 3 || got.Pages != 2 || !strings.Contains(r.stderr, "waiting for the next call") {
		t.Errorf("got %+v, %s", got, r.stderr)
	}
	m.wantCount(1, "accounts WHERE marketplace = 'freelancer' AND next_slot > now() - interval '1 minute'")

	// Others have taken the places of the next minutes.
	m.exec("UPDATE accounts SET next_slot = clock_timestamp() + interval '5 minutes'")
	p := m.call("scan", "freelancer").json().start(t)
	eventually(t, "it says that it waits", func() bool { return strings.Contains(p.stderr.String(), "rate is used up") })
	m.wantCalls(sandbox.Search, 3)
	p.signal(syscall.SIGINT)
	p.wait().wantError(t, 130)

	m.exec("UPDATE accounts SET next_slot = clock_timestamp()")
	m.bidder("pause", "freelancer").want(t, 0)
	r = m.call("scan", "freelancer").json().run(t).want(t, 0)
	if got := decode[scanReport](t, r); !got.Paused || got.Calls != 0 || !strings.Contains(r.stderr, "bidder resume") {
		t.Errorf("got %+v, %s", got, r.stderr)
	}
	m.wantCalls(sandbox.Search, 3)
}

// TestScanInterrupted: the page under way is kept.
func TestScanInterrupted(t *testing.T) {
	t.Parallel()
	m := setupScan(t)
	m.add(many(250)...)
	m.fault(sandbox.Fault{Do: sandbox.Hold, Op: sandbox.Search, Count: 1})
	p := m.call("scan", "freelancer", "--query", "zzz", "--limit", "500").json().start(t)
	m.awaitHeld(1)
	p.signal(syscall.SIGINT)
	eventually(t, "it has heard", func() bool { return strings.Contains(p.stderr.String(), "ending what is under way") })
	m.server.Reset()
	if got := decode[scanReport](t, p.wait().want(t, 130)); got.Accepted != 100 || got.Calls != 1 {
		t.Errorf("got %+v", got)
	}
	m.wantCount(100, "postings")
}

// TestScanStrangers: what strangers write is data, and what cannot be stored is left out alone.
func TestScanStrangers(t *testing.T) {
	t.Parallel()
	m := setupScan(t)
	hostile := "'); DROP TABLE postings; -- \x1b[2J\u202e <script> ${jndi:ldap://x} \n{\"marketplace\":\"upwork\"}"
	ids := m.add(
		sandbox.Project{Title: hostile, Description: strings.Repeat("é", 60_000), SEOURL: "//evil.example/../x?y=1#z\n"},
		sandbox.Project{Title: "nul \x00"},
		sandbox.Project{Title: "too exact", Minimum: 1.234, Maximum: 5},
		sandbox.Project{Title: " \n "},
	)
	got := m.scan(3, "--query", "zzz")
	rejected := map[string]string{}
	for _, r := range got.Rejects {
		rejected[r.JobID] = r.Code
	}
	if diff := cmp.Diff(map[string]string{ids[1]: "nul_byte", ids[2]: "invalid_amount", ids[3]: "missing_field"}, rejected); diff != "" || got.Accepted != 1 {
		t.Errorf("%+v %s", got, diff)
	}
	m.wantCount(1, "postings WHERE title = $1 AND octet_length(description) = 100000 AND url LIKE $2", strings.TrimSpace(hostile), m.url+"/projects/%")
	if table := m.bidder("scan", "freelancer", "--query", "zzz").want(t, 3).stdout; strings.ContainsAny(table, "\x1b\u202e") {
		t.Errorf("the terminal is at risk: %q", table)
	}
}

// TestScanOddAnswers: a page that cannot be read is asked for in parts; of a project that nobody
// can read the others do not suffer.
func TestScanOddAnswers(t *testing.T) {
	t.Parallel()
	m := setupScan(t)
	m.add(many(40)...)
	m.add(sandbox.Project{Title: "too long for an answer", Description: strings.Repeat("x", 2<<20)})
	if got := m.scan(0, "--query", "zzz"); got.Accepted != 40 || got.Skipped["unreadable"] != 1 {
		t.Errorf("got %+v", got)
	}

	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>soon</html>") }))
	t.Cleanup(page.Close)
	r := m.call("scan", "freelancer").with(m.freelancer(page.URL)...).json().run(t)
	r.wantError(t, 1, "unreadable_answer")
}

// TestScanPrints: with --print the cache stays as it is.
func TestScanPrints(t *testing.T) {
	t.Parallel()
	m := setupScan(t)
	m.add(many(120)...)
	r := m.call("scan", "freelancer", "--query", "zzz", "--limit", "110", "--print").run(t).want(t, 0)
	m.wantCount(0, "postings")
	if got := strings.Count(r.stdout, "\n"); got != 110 {
		t.Errorf("%d lines, want 110", got)
	}
	report := decode[ingestReport](t, m.call("ingest", "-").reading(strings.TrimSpace(r.stdout)).json().run(t).want(t, 0))
	if report.Accepted != 110 {
		t.Errorf("got %+v", report)
	}
}

// TestScanFilters: flags are what the marketplace is asked for.
func TestScanFilters(t *testing.T) {
	t.Parallel()
	m := setupScan(t)
	m.add(
		sandbox.Project{Title: "cheap", Minimum: 10, Maximum: 20},
		sandbox.Project{Title: "dear", Minimum: 1000, Maximum: 2000, Skills: []sandbox.Skill{{ID: 7, Name: "Seven"}}},
		sandbox.Project{Title: "hourly", Type: "hourly", Minimum: 20, Maximum: 30},
		sandbox.Project{Title: "deutsch", Type: "hourly", Minimum: 80, Maximum: 90, Language: "de"},
	)
	for args, want := range map[string]string{
		"--type fixed":                     "dear cheap",
		"--type fixed --min-price 500":     "dear",
		"--type fixed --max-price 99.50":   "cheap",
		"--type hourly --min-price 50":     "deutsch",
		"--language de --language fr":      "deutsch",
		"--skill 7,8 --skill 9":            "dear",
		"--limit 2":                        "deutsch hourly",
		"--reverse --limit 1":              "cheap",
		"--since 1m":                       "",
		"--since 2h --sort bid_count":      "deutsch hourly dear cheap",
		"--since 2020-01-01T00:00:00Z":     "deutsch hourly dear cheap",
		"--query nothing-such --limit 5":   "",
		"--any --query nothing-such,zzz":   "",
		"--any --query dear --limit 1":     "dear",
		"--type hourly --max-price 35 ":    "hourly",
		"--sort submitdate --type hourly ": "deutsch hourly",
	} {
		all := append([]string{"scan", "freelancer", "--print"}, strings.Fields(args)...)
		if !strings.Contains(args, "--query") {
			all = append(all, "--query", "zzz")
		}
		var titles []string
		for line := range strings.Lines(m.bidder(all...).want(t, 0).stdout) {
			titles = append(titles, decode[struct{ Title string }](t, result{stdout: line}).Title)
		}
		if got := strings.Join(titles, " "); got != want {
			t.Errorf("%s: got %q, want %q", args, got, want)
		}
	}
}

// TestScanUsage: what is wrong is said before anybody is called.
func TestScanUsage(t *testing.T) {
	t.Parallel()
	m := setupScan(t)
	production := m.freelancer("https://www.freelancer.com/api")
	m.untouched(func() {
		for _, tt := range []struct {
			args string
			env  []string
			says string
		}{
			{"scan upwork", nil, "can be scanned: freelancer"},
			{"scan", nil, "arg"},
			{"scan freelancer --type both", nil, "fixed nor hourly"},
			{"scan freelancer --min-price 5", nil, "--type"},
			{"scan freelancer --type fixed --min-price 5.001", nil, "--min-price"},
			{"scan freelancer --type fixed --min-price 5 --max-price 4", nil, "--max-price"},
			{"scan freelancer --sort price", nil, "bid_count"},
			{"scan freelancer --limit 0", nil, "--limit"},
			{"scan freelancer --limit 5001", nil, "5000"},
			{"scan freelancer --skill golang", nil, "--skill"},
			{"scan freelancer --skill 0", nil, "--skill"},
			{"scan freelancer --since yesterday", nil, "--since"},
			{"scan freelancer --dry-run", nil, "--print"},
			{"scan freelancer --print -o json", nil, "--print"},
			{"scan freelancer", []string{"FREELANCER_TOKEN="}, "FREELANCER_TOKEN"},
			{"scan freelancer", production, "permission"},
		} {
			m.call(strings.Fields(tt.args)...).with(tt.env...).run(t).wantError(t, 2, tt.says)
		}
		nobody := m.fixture.call("scan", "freelancer").run(t)
		nobody.wantError(t, 2, "handler freelancer")
	})
	if got := len(m.server.Journal()); got != 0 {
		t.Errorf("%d calls were made", got)
	}
	asking := m.call("__complete", "scan", "")
	asking.env = slices.DeleteFunc(slices.Clone(asking.env), func(v string) bool { return strings.HasPrefix(v, "FREELANCER_TOKEN=") }) // it calls nobody
	offered := asking.run(t).want(t, 0).stdout
	if !strings.HasPrefix(offered, "freelancer\n") {
		t.Errorf("offered: %s", offered)
	}
	const address = "http://127.0.0.1:1" // where nobody listens, and no test's server is put
	m.call("scan", "freelancer").with(m.freelancer(address)...).run(t).wantError(t, 1, "not_sent")
}

type verifyReport struct {
	Host      string
	ProjectID int64 `json:"project_id"`
	Questions []struct{ Question, Result, Saw, Configure string }
	Left      *string
}

// TestFreelancerVerify: the questions are asked by bids that are gone in the end.
func TestFreelancerVerify(t *testing.T) {
	t.Parallel()
	m := setupScan(t)
	verify := func(args ...string) call {
		return m.call(append([]string{"freelancer", "verify", "--project", "39812345"}, args...)...)
	}
	if err := m.server.SetFreelancerRules(sandbox.FreelancerRules{RetractEncoding: "json"}); err != nil {
		t.Fatal(err)
	}
	m.untouched(func() {
		verify().run(t).wantError(t, 2, "--yes")
		verify("--dry-run", "--yes").run(t).wantError(t, 2, "--dry-run")
		verify("--yes", "--patience", "soon").run(t).wantError(t, 2, "--patience")
		m.call("freelancer", "verify", "--yes").run(t).wantError(t, 2, "project")
		attested := m.freelancer("https://www.freelancer.com/api", "permission_attested: a letter", "rate: 1")
		verify("--yes").with(attested...).run(t).wantError(t, 2, "never at Freelancer.com itself")
	})
	m.wantLive(0)

	report := decode[verifyReport](t, verify("--yes").json().run(t).want(t, 0))
	advice := ""
	for _, q := range report.Questions {
		advice += q.Configure + "; "
	}
	if len(report.Questions) != 10 || report.ProjectID != 39812345 || report.Left != nil || !strings.Contains(advice, "retract_encoding: json") {
		t.Errorf("got %+v", report)
	}
	m.wantLive(0)
	if table := verify("--yes").run(t).want(t, 0).stdout; !strings.Contains(table, "DUPLICATE_BID") || !strings.Contains(table, "What follows from it") {
		t.Error(table)
	}
	m.wantLive(0)

	// The bid that was sent when it was interrupted is taken back.
	m.fault(sandbox.Fault{Do: sandbox.Hold, Op: sandbox.Place, When: sandbox.After, Count: 1})
	p := verify("--yes").json().start(t)
	m.awaitHeld(1)
	m.wantLive(1)
	p.signal(syscall.SIGINT)
	eventually(t, "it has heard", func() bool { return strings.Contains(p.stderr.String(), "ending what is under way") })
	m.server.Reset()
	p.wait().want(t, 130)
	m.wantLive(0)

	// Somebody awards it: it has to stay, and is named.
	input, end := pipe(t)
	awarding := verify("--yes", "--award").json()
	awarding.input = input
	p = awarding.start(t)
	eventually(t, "it asks for an award", func() bool { return strings.Contains(p.stderr.String(), "Award the bid") })
	id := m.live()[0]
	if err := m.server.SetStatus(id, marketplace.Accepted); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(end)
	report = decode[verifyReport](t, p.wait().want(t, 3))
	if report.Left == nil || !strings.Contains(*report.Left, id) {
		t.Errorf("got %+v", report)
	}
	verify("--yes").run(t).wantError(t, 2, id)
	m.bidder("pause", "freelancer").want(t, 0)
	verify("--yes").run(t).wantError(t, 3, "bidder resume")
}
