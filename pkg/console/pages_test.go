package console_test

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/console"
)

var bidLink = regexp.MustCompile(`<td role="cell" class="lead"><a href="/bids/([0-9a-f-]{36})"`)

// listed are the bids that a page lists.
func listed(page string) (ids []string) {
	for _, found := range bidLink.FindAllStringSubmatch(page, -1) {
		ids = append(ids, found[1])
	}
	return ids
}

var nextLink = regexp.MustCompile(`href="([^"]+)" rel="next"`)

// follow reads a list to its end.
func (b *browser) follow(path string) (ids []string, pages int) {
	b.w.t.Helper()
	for {
		page := b.page(path)
		ids, pages = append(ids, listed(page)...), pages+1
		found := nextLink.FindStringSubmatch(page)
		if found == nil {
			return ids, pages
		}
		path = strings.ReplaceAll(found[1], "&amp;", "&")
	}
}

// old is a bid that was made so long ago.
func (w *pages) old(age time.Duration, status, marketplace, job string) string {
	w.t.Helper()
	id := uuid.Must(uuid.NewV7())
	first := console.FirstID(time.Now().Add(-age))
	copy(id[:6], first[:6])
	w.Exec(`INSERT INTO bids (id, marketplace, job_id, status, amount_cents, created_at, withdrawal_timestamp)
		VALUES ($1, $2, $3, $4, 100, now() - $5::interval, CASE WHEN $4 = 'WITHDRAWN' THEN now() END)`, id, marketplace, job, status, age)
	return id.String()
}

// TestPaging: every bid once, newest first, also when others are made meanwhile.
func TestPaging(t *testing.T) {
	t.Parallel()
	w := setupPages(t)
	b := w.as("rita", readonlyToken)
	var all []string
	for i := range 120 {
		all = append(all, w.old(time.Duration(120-i)*time.Minute, "ACTIVE", "upwork", fmt.Sprint(i)))
	}
	slices.Reverse(all)
	first := b.page("/bids")
	w.old(0, "ACTIVE", "upwork", "newer")
	next := strings.ReplaceAll(nextLink.FindStringSubmatch(first)[1], "&amp;", "&")
	rest, pages := b.follow(next)
	if got := append(listed(first), rest...); !slices.Equal(got, all) || pages != 2 {
		t.Errorf("%d bids on %d pages: %v, want %v", len(got), pages, got, all)
	}
	if page := b.page(next); !strings.Contains(page, `rel="first"`) {
		t.Error("there is no way back")
	}
}

// TestFilters: each filter, and all at once.
func TestFilters(t *testing.T) {
	t.Parallel()
	w := setupPages(t)
	b := w.as("rita", readonlyToken)
	day := 24 * time.Hour
	won := w.old(3*day, "WON", "upwork", "job-1")
	lost := w.old(2*day, "LOST", "upwork", "job-2")
	live := w.old(day, "ACTIVE", "guru", "job-1")
	taken := w.old(0, "WITHDRAWN", "guru", "JOB-100%_x")
	w.Exec("INSERT INTO postings (marketplace, job_id, cached_at, title) VALUES ('upwork', 'job-2', now(), 'Größe: a Go service')")
	w.Exec("UPDATE bids SET external_bid_id = 'P-77' WHERE id = $1", lost)
	w.Exec("UPDATE bids SET delivery_kind = 'place', delivery_state = 'pending', next_attempt_at = now() WHERE id = $1", live)
	date := func(ago time.Duration) string { return time.Now().UTC().Add(-ago).Format(time.DateOnly) }
	for path, want := range map[string][]string{
		"/bids":                                {taken, live, lost, won},
		"/bids?status=won":                     {won},
		"/bids?status=ACTIVE":                  {live},
		"/bids?marketplace=Upwork":             {lost, won},
		"/bids?marketplace=upwork&status=LOST": {lost},
		"/bids?marketplace=none":               nil,
		"/bids?owing=yes":                      {live},
		"/bids?q=gr%C3%B6%C3%9Fe":              {lost},
		"/bids?q=go+serv":                      {lost},
		"/bids?q=JOB-":                         {taken, live, lost, won},
		"/bids?q=100%25_":                      {taken},
		"/bids?q=job-1":                        {live, won}, // to the letter
		"/bids?q=job-1&status=WON":             {won},
		"/bids?q=job-1&marketplace=guru":       {live},
		"/bids?q=P-77":                         {lost},
		"/bids?q=p-7":                          {lost},
		"/bids?since=" + date(day):             {taken, live},
		"/bids?until=" + date(2*day):           {lost, won},
		"/bids?since=" + date(2*day) + "&until=" + date(day) + "&q=job": {live, lost},
	} {
		if got := listed(b.page(path)); !slices.Equal(got, want) {
			t.Errorf("%s lists %v, want %v", path, got, want)
		}
	}
	// What another posting or bid is called there may look like the id of a bid.
	alike, unknown := uuid.NewString(), uuid.NewString()
	w.Exec("UPDATE bids SET external_bid_id = $1 WHERE id = $2", alike, lost)
	long := strings.Repeat("j", 512)
	named := w.old(0, "ACTIVE", "upwork", long)
	for sought, want := range map[string][]string{alike: {lost}, strings.ReplaceAll(alike, "-", ""): nil, unknown: nil, long: {named}} {
		if got := listed(b.page("/bids?q=" + sought)); !slices.Equal(got, want) {
			t.Errorf("%s lists %v, want %v", sought, got, want)
		}
	}
	if a := b.get("/bids?q=" + won); a.status != http.StatusSeeOther || a.header.Get("Location") != "/bids/"+won {
		t.Errorf("an id leads to %d %q", a.status, a.header.Get("Location"))
	}
}

// TestFirstID: ids of a time come after its first one, and before that of the next millisecond.
func TestFirstID(t *testing.T) {
	t.Parallel()
	made := uuid.Must(uuid.NewV7())
	seconds, nanoseconds := made.Time().UnixTime()
	at := time.Unix(seconds, nanoseconds)
	from, to := console.FirstID(at), console.FirstID(at.Add(time.Millisecond))
	if from.String() > made.String() || to.String() <= made.String() || from == to {
		t.Errorf("%s is not from %s on and before %s", made, from, to)
	}
}

// TestWindow: a search that finds nothing near says how far it looked, and goes on from there.
func TestWindow(t *testing.T) {
	t.Parallel()
	w := setupPages(t)
	b := w.as("rita", readonlyToken)
	won := w.old(30*24*time.Hour, "WON", "upwork", "rare")
	w.Exec(`INSERT INTO bids (id, marketplace, job_id, status, amount_cents, created_at)
		SELECT (lpad(to_hex((extract(epoch FROM now() - n * interval '1 second') * 1000)::bigint), 12, '0') || '7' || substr(md5(n::text), 1, 19))::uuid,
			'upwork', n::text, 'LOST', 100, now() - n * interval '1 second' FROM generate_series(1, 10000) AS n`)
	want(t, b.get("/bids?q=RAR"), http.StatusOK, "Looked at 10000 bids, back to", "Look further back")
	ids, pages := b.follow("/bids?q=RAR")
	if !slices.Equal(ids, []string{won}) || pages != 2 {
		t.Errorf("found %v on %d pages", ids, pages)
	}
}

// TestLife: the whole history of a bid, a page at a time.
func TestLife(t *testing.T) {
	t.Parallel()
	w := setupPages(t)
	b := w.as("rita", readonlyToken)
	bid := w.Bid(inReview)
	w.Exec(`INSERT INTO bid_events (bid_id, actor, detail)
		SELECT $1, 'delivery', jsonb_build_object('kind', 'place', 'result', 'again', 'message', 'event-' || n, 'delay_ms', 15000, 'unheard_of', n) FROM generate_series(1, 130) AS n`, bid.ID)
	page := b.page("/bids/" + bid.ID.String())
	for _, text := range []string{"event-130", "event-31", "15 seconds", "unheard of", "no look-up has found it"} {
		if !strings.Contains(page, text) {
			t.Errorf("%q is not on the page", text)
		}
	}
	if strings.Contains(page, "event-30<") || strings.Contains(page, "Claimed") {
		t.Error("the page has more than its part")
	}
	earlier := regexp.MustCompile(`href="(/bids/[^"]+before=\d+)"`).FindStringSubmatch(page)[1]
	page = b.page(earlier)
	for _, text := range []string{"event-30<", "event-1<", "Claimed"} {
		if !strings.Contains(page, text) {
			t.Errorf("%q is not on the earlier page", text)
		}
	}
}

// TestReviewList: what waits, oldest first, a page at a time, and narrowed.
func TestReviewList(t *testing.T) {
	t.Parallel()
	w := setupPages(t)
	b := w.as("mara", token)
	pattern := regexp.MustCompile(`<h2><a href="/bids/([0-9a-f-]{36})"`)
	ids := func(page string) (ids []string) {
		for _, found := range pattern.FindAllStringSubmatch(page, -1) {
			ids = append(ids, found[1])
		}
		return ids
	}
	var all []string
	for range 24 {
		all = append(all, w.Bid(toApprove).ID.String())
	}
	reviewed := w.Bid(inReview, "upwork").ID.String()
	all = append(all, reviewed)
	page := b.page("/review")
	got := ids(page)
	got = append(got, ids(b.page(nextLink.FindStringSubmatch(page)[1]))...)
	if !slices.Equal(got, all) {
		t.Errorf("listed are %v, want %v", got, all)
	}
	for _, path := range []string{"/review?state=review", "/review?marketplace=upwork"} {
		if got := ids(b.page(path)); !slices.Equal(got, []string{reviewed}) {
			t.Errorf("%s lists %v", path, got)
		}
	}
	if got := ids(b.page("/review?state=awaiting_approval&marketplace=upwork")); len(got) != 0 {
		t.Errorf("listed are %v", got)
	}
}

// TestLongTexts: a list reads no more of a text than it may show, but looks at all of it.
func TestLongTexts(t *testing.T) {
	t.Parallel()
	w := setupPages(t)
	bid := w.Bid(inReview, "upwork", "1")
	q := queries.New(w.Pool)
	for _, tt := range []struct{ address, link string }{
		{"https://example.com/" + strings.Repeat("x", 9980), "https://example.com/" + strings.Repeat("x", 9980)},
		{"https://example.com/" + strings.Repeat("x", 9981), ""},
	} {
		w.Exec("UPDATE postings SET title = repeat('x', 20000) || ' needle', url = $1, description = repeat('x', 20000)", tt.address)
		searched, err := q.SearchBids(t.Context(), queries.SearchBidsParams{BeforeID: uuid.Max, Win: 10, Page: 10, Sought: "needle"})
		if err != nil || len(searched) != 1 || len(searched[0].Title) != 600 {
			t.Errorf("searched: %+v, %v", searched, err)
		}
		found, err := q.FindBids(t.Context(), []string{"upwork"}, "1", 10)
		if err != nil || len(found) != 1 || len(found[0].Title) != 600 {
			t.Errorf("found: %+v, %v", found, err)
		}
		waiting, err := q.WaitingBids(t.Context(), queries.WaitingBidsParams{Win: 10, Page: 10})
		if err != nil || len(waiting) != 1 || waiting[0].Bid.ID != bid.ID || len(waiting[0].Title) != 600 || len(waiting[0].Description) != 600 || waiting[0].URL != tt.link {
			t.Errorf("waiting: %+v, %v", waiting, err)
		}
	}
}

// TestNow: the first page says what there is.
func TestNow(t *testing.T) {
	t.Parallel()
	w := setupPages(t)
	b := w.as("mara", token)
	want(t, b.get("/"), http.StatusOK, "All is well", "No run yet")
	w.Bid(toApprove)
	w.Bid(inReview)
	w.Bid("created_at = now() - interval '2 hours'")
	w.Exec("INSERT INTO candidates (marketplace, job_id, cached_at, not_before) VALUES ('upwork', '1', now(), 'infinity')")
	w.Exec(`INSERT INTO runs (id, kind, started_at, finished_at, exit_code, host, counters) VALUES
		(gen_random_uuid(), 'run', now() - interval '2 hours', now(), 0, 'pod-1', '{"lock_attempts": 7, "lock_conflicts": 3, "outcomes": {"claimed": 4321, "failed": 2}, "deliveries": {"place": {"done": 1234}}}'),
		(gen_random_uuid(), 'run', now() - interval '3 days', NULL, NULL::integer, 'pod-2', '{"outcomes": null}'),
		(gen_random_uuid(), 'bid', now() - interval '40 days', now(), 4, 'pod-3', '{}')`)
	w.Exec("UPDATE runs SET updated_at = started_at WHERE finished_at IS NULL")
	page := b.page("/")
	for _, text := range []string{
		"3 things need your attention", "2 bids wait for a person", "1 in review, 1 to approve", "A delivery has been owed for 2 hours", "1 posting is parked",
		"4\u202f321", "1\u202f234", "never ended", "the database was not usable", "claimed: 4\u202f321 in all",
	} {
		if !strings.Contains(page, text) {
			t.Errorf("%q is not on the page", text)
		}
	}
	for name, attempts := range map[string]string{"24h": "Attempts: 4\u202f323 in all", "7d": "Attempts: 4\u202f323 in all", "30d": "Attempts: 4\u202f323 in all", "x": "Attempts: 4\u202f323 in all"} {
		want(t, b.get("/?range="+name), http.StatusOK, attempts)
	}
}

// TestLocks: who holds the lock of which posting.
func TestLocks(t *testing.T) {
	t.Parallel()
	w := setupPages(t)
	b := w.as("rita", readonlyToken)
	want(t, b.get("/locks"), http.StatusOK, "No posting is locked")
	w.Exec("INSERT INTO postings (marketplace, job_id, cached_at, title) VALUES ('upwork', 'cached', now(), 'x')")
	w.Exec("DELETE FROM candidates")
	w.Exec("INSERT INTO candidates (marketplace, job_id, cached_at) VALUES ('upwork', 'queued', now())")
	bid := w.Bid("")
	tx, err := w.SQL.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(t.Context()) }()
	_, err = tx.Exec(t.Context(), `SELECT pg_advisory_xact_lock(bid_lock_key('upwork', 'queued')), pg_advisory_xact_lock(bid_lock_key('upwork', 'cached')),
		pg_advisory_xact_lock(bid_lock_key($1, $2)), pg_advisory_xact_lock(4711), set_config('application_name', 'a pod', false)`, bid.Marketplace, bid.JobID)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = tx.Exec(t.Context(), "RESET application_name") }()
	want(t, b.get("/locks"), http.StatusOK, "queued", bid.JobID, "2 of these are of no posting", "a pod")
	want(t, b.get("/locks?search=everywhere"), http.StatusOK, "queued", "cached", bid.JobID, "One of these is of no posting")
}

// TestPosting: what a run would do, and what there was.
func TestPosting(t *testing.T) {
	t.Parallel()
	w := setupPages(t)
	b := w.as("rita", readonlyToken)
	bid := w.Bid("", "upwork", "a/b ~1?&%")
	page := b.page("/postings/upwork/a%2Fb%20~1%3F&%25")
	for _, text := range []string{"duplicate", bid.ID.String(), "It is not queued", "<code>bidder run --reconsider</code>", "https://example.test/1", "A title"} {
		if !strings.Contains(page, text) {
			t.Errorf("%q is not on the page: %s", text, page)
		}
	}
	if !strings.Contains(b.page("/bids/"+bid.ID.String()), `href="/postings/upwork/a%2Fb%20~1%3F&amp;%25"`) {
		t.Error("the bid does not lead to its posting")
	}
	want(t, b.get("/postings/upwork/none"), http.StatusNotFound, "unknown", "not in the cache")
}

// hostile is text that wants to be more than text.
const hostile = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>\u202egpj.exe\x1b[2J\u0007{{.}}"

// TestHostile: nothing that comes from outside becomes anything but text, on any page.
func TestHostile(t *testing.T) {
	t.Parallel()
	w := setupPages(t)
	b := w.as("mara", token)
	job := "<b>'\"&\u202e</b>"
	bid := w.Bid("delivery_state = 'review', next_attempt_at = NULL, review_reason = 'x', review_since = now()", "upwork", job)
	w.Exec("UPDATE postings SET title = $1, description = $1, url = 'javascript:alert(1)', skills = ARRAY[$1] WHERE job_id = $2", hostile, job)
	w.Exec("UPDATE bids SET proposal = $1, last_error = $1, external_bid_id = $1, review_reason = $1, account = account WHERE id = $2", hostile, bid.ID)
	w.Exec("INSERT INTO bid_events (bid_id, actor, detail) VALUES ($2, $1, jsonb_build_object('kind', $1::text, 'result', $1::text, 'message', $1::text, 'x', $1::text, $1::text, $1::text))", hostile, bid.ID)
	w.Exec("INSERT INTO accounts (marketplace, account, paused_at, paused_reason, paused_by) VALUES ('upwork', '*', now(), $1, $1)", hostile)
	w.Exec("INSERT INTO runs (id, kind, host, version) VALUES (gen_random_uuid(), 'run', $1, $1)", hostile)
	w.Exec("INSERT INTO candidates (marketplace, job_id, cached_at, not_before, last_error) VALUES ('upwork', $2, now(), 'infinity', $1)", hostile, job)
	link := regexp.MustCompile(`href="(/postings/[^"]+)"`).FindStringSubmatch(b.page("/bids/" + bid.ID.String()))[1]
	for _, path := range []string{"/", "/bids", "/bids?q=%3Cscript%3E", "/bids/" + bid.ID.String(), "/review", strings.ReplaceAll(link, "&amp;", "&")} {
		page := b.page(path)
		for _, danger := range []string{"<script", "<img src=x", "<b>", "href=\"javascript", "\x1b", "\u0007", "\u202e"} {
			if strings.Contains(page, danger) {
				t.Errorf("%s has %q", path, danger)
			}
		}
	}
	if page := b.page("/review"); !strings.Contains(page, `>U&#43;202E</span>`) || !strings.Contains(page, "not one of the web") {
		t.Error("what was made harmless is not named")
	}
}

// TestPageLimits: a page that the database cannot answer ends, and says nothing of why.
func TestPageLimits(t *testing.T) {
	t.Parallel()
	w := setupPages(t, func(o *console.Options) {
		o.Limits.Statement, o.Limits.Lock = 200*time.Millisecond, 200*time.Millisecond
	})
	bid := w.Bid(toApprove)
	ops := w.as("mara", token)
	form := ops.form(bid.ID)
	tx, err := w.SQL.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(t.Context()) }()
	if _, err := tx.Exec(t.Context(), "LOCK TABLE bids IN ACCESS EXCLUSIVE MODE"); err != nil {
		t.Fatal(err)
	}
	for _, a := range []answered{ops.get("/"), ops.get("/bids"), ops.get("/bids/" + bid.ID.String()), ops.get("/review"), ops.decide(bid.ID, "approve", form)} {
		want(t, a, http.StatusServiceUnavailable, "The database cannot be used now")
		if strings.Contains(a.text, "timeout") || strings.Contains(a.text, "SQLSTATE") || a.header.Get("Retry-After") == "" {
			t.Errorf("answered %v: %s", a.header, a.text)
		}
	}
	if lines := w.Log.Lines("canceling statement"); len(lines) != 5 { // by the server, before the page's own time is over
		t.Errorf("the log says %v", lines)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	want(t, ops.decide(bid.ID, "approve", form), http.StatusSeeOther)
}
