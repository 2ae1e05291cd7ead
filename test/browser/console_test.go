package browser

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/google/uuid"

	"github.com/arbitrageai/bidder/test/deliverytest"
)

// States of bids that wait for a person.
const (
	toApprove = "delivery_state = 'awaiting_approval', next_attempt_at = NULL"
	inReview  = deliverytest.Settled + ", delivery_state = 'review', next_attempt_at = NULL, review_reason = 'unresolved', review_since = now()"
)

// wantState says how a bid must stand in the database.
func (w *world) wantState(id uuid.UUID, want string) {
	w.t.Helper()
	if got := w.State(id); got != want {
		w.t.Errorf("bid %s is %s, want %s", id, got, want)
	}
}

// TestSignIn: in with the right token, on to where one wanted to go, and out again.
func TestSignIn(t *testing.T) {
	t.Parallel()
	w := setup(t)
	p := w.visitor()
	if status := p.open("/bids?status=WON"); status != http.StatusUnauthorized {
		t.Errorf("answered %d", status)
	}
	p.seesNot("Review")
	name, secret := chromedp.CSS("input[name=name]"), chromedp.CSS("input[name=token]")
	p.do(chromedp.SendKeys(name, "Mara"), chromedp.SendKeys(secret, "wrong"))
	p.click(".signin button", http.StatusUnauthorized)
	p.sees("That is not the token")
	if got := get(p, chromedp.Value(name)); got != "Mara" {
		t.Errorf("the name has to be typed again: %q", got)
	}
	p.do(chromedp.SendKeys(secret, token+"\r"), chromedp.WaitVisible(chromedp.CSS(".filters")))
	if got := get(p, chromedp.Location()); got != w.url+"/bids?status=WON" {
		t.Errorf("led to %s", got)
	}
	p.sees("Mara", "Sign out")
	if got := js[string](p, "document.cookie"); got != "" {
		t.Errorf("scripts see the cookie %q", got)
	}
	p.click(".who button", http.StatusOK)
	p.sees("Sign in")
	if status := p.open("/bids"); status != http.StatusUnauthorized {
		t.Errorf("after signing out: answered %d", status)
	}
	reader := w.signedIn("Rita", readonlyToken)
	reader.sees("Rita", "may look")
}

// TestSearch: filters and pages, with the keyboard alone where that is how people do it.
func TestSearch(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.everyday()
	p := w.signedIn("Mara", token)
	p.open("/bids")
	rows := "document.querySelectorAll('tbody tr').length"
	if n := js[int](p, rows); n != 50 {
		t.Errorf("%d bids are listed", n)
	}
	p.click("a[rel=next]", http.StatusOK)
	if n := js[int](p, rows); n != 19 {
		t.Errorf("%d more are listed", n)
	}
	p.click("a[rel=first]", http.StatusOK)
	p.do(chromedp.SetValue(chromedp.CSS("select[name=status]"), "WON"), chromedp.SetValue(chromedp.CSS("select[name=marketplace]"), "guru"))
	p.click(".filters button", http.StatusOK)
	if n, other := js[int](p, rows), js[int](p, "document.querySelectorAll('tbody .status:not(.s-won)').length"); n == 0 || other > 0 {
		t.Errorf("%d bids, %d of them of another status", n, other)
	}
	if got := get(p, chromedp.Value(chromedp.CSS("select[name=marketplace]"))); got != "guru" {
		t.Errorf("the filter has become %q", got)
	}
	p.click(".filters a.button", http.StatusOK) // clear
	response, err := chromedp.RunResponse(p.ctx, chromedp.SendKeys(chromedp.CSS("input[name=q]"), "exactly once\r"))
	if err != nil || response.Status != http.StatusOK {
		t.Fatalf("%v, %v", response, err)
	}
	p.sees("Rewrite our job queue in Go")
	if n := js[int](p, rows); n != 1 {
		t.Errorf("%d bids are found", n)
	}
	p.click(".lead a", http.StatusOK)
	p.sees("Its life", "Placing waits for a person", "To be tried again", "ops@example.com", "The marketplace called", "Claimed")
	if first := js[string](p, "document.querySelector('.timeline h3').textContent"); first != "Placing waits for a person" {
		t.Errorf("the life begins with %q", first)
	}
}

// TestKeyboard: the first key leads past the navigation, and what is focused can be seen.
func TestKeyboard(t *testing.T) {
	t.Parallel()
	w := setup(t)
	p := w.signedIn("Mara", token)
	p.open("/bids")
	p.do(chromedp.KeyEvent("\t"))
	if got := js[string](p, "document.activeElement.textContent + document.activeElement.getBoundingClientRect().top"); got != "Skip to the content0" {
		t.Errorf("the first stop is %q", got)
	}
	p.do(chromedp.KeyEvent("\r"), chromedp.KeyEvent("\t"))
	if got := js[string](p, "document.activeElement.name"); got != "q" {
		t.Errorf("after the navigation comes %q", got)
	}
	if got := js[string](p, "getComputedStyle(document.activeElement).outlineStyle + getComputedStyle(document.activeElement).outlineWidth"); got != "solid3px" {
		t.Errorf("focus looks like %q", got)
	}
}

// TestDecide: what is clicked happens in the database, by the name of who clicked.
func TestDecide(t *testing.T) {
	t.Parallel()
	w := setup(t)
	approval, retry, resolve, withdraw := w.Bid(toApprove).ID, w.Bid(inReview).ID, w.Bid(inReview).ID, w.Bid(inReview).ID
	p := w.signedIn("Mara", token)
	form := func(id uuid.UUID, action string) string {
		return fmt.Sprintf("form[action='/bids/%s/%s'] ", id, action)
	}
	openForm := func(id uuid.UUID, action string) {
		p.do(chromedp.Click(chromedp.CSS(fmt.Sprintf("details:has(%s) > summary", form(id, action)))))
	}
	p.open("/review")
	p.sees("Review 4")
	p.click(form(approval, "approve")+"button", http.StatusOK)
	p.sees("Approved. The next run sends it.")
	w.wantState(approval, "ACTIVE place pending")

	p.click(form(retry, "retry")+"button", http.StatusOK)
	w.wantState(retry, "ACTIVE place pending posts=1")

	openForm(resolve, "resolve")
	p.do(chromedp.Click(chromedp.CSS(form(resolve, "resolve")+"input[value=placed]")),
		chromedp.SendKeys(chromedp.CSS(form(resolve, "resolve")+"input[name=external_id]"), "p-778"),
		chromedp.SendKeys(chromedp.CSS(form(resolve, "resolve")+"input[name=note]"), "seen there"))
	p.click(form(resolve, "resolve")+"button", http.StatusOK)
	p.sees("Resolved as placed:p-778")
	w.wantState(resolve, "ACTIVE submitted p-778 posts=1")

	openForm(withdraw, "withdraw")
	p.do(chromedp.Click(chromedp.CSS(form(withdraw, "withdraw") + "button"))) // the browser asks for a reason
	w.wantState(withdraw, "ACTIVE place review unresolved posts=1")
	p.do(chromedp.SendKeys(chromedp.CSS(form(withdraw, "withdraw")+"input[name=reason]"), "client changed the scope"))
	p.click(form(withdraw, "withdraw")+"button", http.StatusOK)
	w.wantState(withdraw, "ACTIVE withdraw pending posts=1")
	p.sees("Nothing waits for a person")

	if got := deliverytest.Value[int64](w.World, "SELECT count(*) FROM bid_events WHERE actor = 'Mara'"); got != 4 {
		t.Errorf("%d events are Mara's", got)
	}
	p.open("/bids/" + withdraw.String())
	p.sees("Withdrawal asked for", "client changed the scope", "by Mara")
}

// TestPause: a marketplace is paused and resumed.
func TestPause(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.Bid("", "upwork")
	p := w.signedIn("Mara", token)
	p.do(chromedp.Click(chromedp.CSS("details:has(form[action='/pause']) > summary")),
		chromedp.SetValue(chromedp.CSS("form[action='/pause'] select"), "upwork"), chromedp.SendKeys(chromedp.CSS("form[action='/pause'] input[name=reason]"), "red"))
	p.click("form[action='/pause'] button", http.StatusOK)
	p.sees("1 pause stops calls", "upwork is paused", "by Mara")
	if got := deliverytest.Value[bool](w.World, "SELECT account_is_paused('upwork', 'default')"); !got {
		t.Error("it is not")
	}
	p.click("form[action='/resume'] button", http.StatusOK)
	p.sees("upwork is called again", "Nothing is paused")
	if got := deliverytest.Value[bool](w.World, "SELECT account_is_paused('upwork', 'default')"); got {
		t.Error("it is still paused")
	}
}

// TestTwoOperators: the second one is told that somebody was faster, and how the bid stands.
func TestTwoOperators(t *testing.T) {
	t.Parallel()
	w := setup(t)
	bid := w.Bid(toApprove).ID
	mara, milo := w.signedIn("Mara", token), w.signedIn("Milo", token)
	mara.open("/review")
	milo.open("/bids/" + bid.String())
	mara.click("form[action$=approve] button", http.StatusOK)
	milo.do(chromedp.Click(chromedp.CSS("details:has(form[action$=withdraw]) > summary")), chromedp.SendKeys(chromedp.CSS("input[name=reason]"), "too dear"))
	milo.click("form[action$=withdraw] button", http.StatusConflict)
	milo.sees("Somebody else was faster", "Approved", "by Mara", "place: owed")
	w.wantState(bid, "ACTIVE place pending")
	if got := w.Events(bid); got != "place approved" {
		t.Errorf("the history says %q", got)
	}
	milo.picture("faster")
	milo.click(".button.primary", http.StatusOK)
	milo.sees("Its life", "by Mara")
}

// hostile is text that wants to run, to look like something else, or to break the page.
const hostile = `<script>window.hit=1</script><img src=x onerror="window.hit=1"><svg/onload=window.hit=1>'"><a href="javascript:window.hit=1">x</a>` +
	"{{7*7}}${7*7}\u202egnp.exe\u2066\x1b[2J</title></textarea></style></bdi><!--"

// TestHostilePostings: whatever a posting says, nothing of it runs, and all of it is shown.
func TestHostilePostings(t *testing.T) {
	t.Parallel()
	w := setup(t)
	job := strings.ReplaceAll(hostile, "\x1b", "")
	bid := w.Bid("delivery_state = 'review', next_attempt_at = NULL, review_reason = 'unresolved', review_since = now()", "upwork", job).ID
	w.Exec("UPDATE postings SET title = $1, description = $1, url = 'javascript:window.hit=1', skills = ARRAY[$1, $1] WHERE job_id = $2", hostile, job)
	w.Exec("UPDATE bids SET proposal = $1, last_error = $1, external_bid_id = $1 WHERE id = $2", hostile, bid)
	w.Exec(`INSERT INTO bid_events (bid_id, actor, detail) VALUES ($2, $1,
		jsonb_build_object('kind', 'place', 'result', 'armed', 'title', $1::text, 'job_url', 'javascript:window.hit=1', 'pricing', $1::text, 'message', $1::text, $1::text, $1::text))`, hostile, bid)
	w.Exec("INSERT INTO candidates (marketplace, job_id, cached_at, not_before, last_error) VALUES ('upwork', $1, now(), 'infinity', $2)", job, hostile)
	w.Exec("INSERT INTO runs (id, kind, host, version) VALUES (gen_random_uuid(), 'run', $1, $1)", hostile)
	w.Exec("INSERT INTO accounts (marketplace, account, paused_at, paused_reason, paused_by) VALUES ('upwork', '*', now(), $1, $1)", hostile)
	p := w.signedIn("Mara", token)
	p.open("/bids/" + bid.String())
	posting := js[string](p, "document.querySelector('.line a').getAttribute('href')")
	for _, path := range []string{"/", "/bids", "/bids?q=%3Cscript%3Ewindow.hit=1%3C/script%3E", "/bids/" + bid.String(), "/review", posting} {
		if status := p.open(path); status != http.StatusOK {
			t.Errorf("%s answered %d", path, status)
		}
		if js[bool](p, "'hit' in window") {
			t.Errorf("something ran on %s", path)
		}
		if n := js[int](p, "document.querySelectorAll('main script, main img, main svg[onload], a[href^=\"javascript:\" i], main iframe').length"); n > 0 {
			t.Errorf("%s has %d elements that came from outside", path, n)
		}
		if js[bool](p, `/[\u202a-\u202e\u2066-\u2069\u001b]/.test(document.body.innerText)`) {
			t.Errorf("%s has characters that reorder or control", path)
		}
		if strings.Contains(p.text(), "49") && strings.Contains(p.text(), "{{49") {
			t.Errorf("%s evaluates what it shows", path)
		}
	}
	p.open("/review")
	p.picture("hostile")
	p.sees("<script>window.hit=1</script>", "U+202E", "not one of the web", "javascript:window.hit=1")
	// And if something got in after all, the browser would not run it.
	js[any](p, `(() => { const s = document.createElement('script'); s.textContent = 'window.hit=1'; document.body.append(s);
		const i = document.createElement('img'); i.setAttribute('onerror', 'window.hit=1'); i.src = '/nothing'; document.body.append(i); return null })()`)
	if js[bool](p, "'hit' in window") {
		t.Error("the policy lets scripts run")
	}
}

// TestForgedForm: a page of another site can send forms in a signed-in browser, and none is heard.
func TestForgedForm(t *testing.T) {
	t.Parallel()
	w := setup(t)
	bid := w.Bid(toApprove).ID
	p := w.signedIn("Mara", token)
	p.open("/review")
	csrf, version := js[string](p, "document.querySelector('[name=csrf]').value"), js[string](p, "document.querySelector('[name=version]').value")
	evil := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(rw, `<form method="post" action="%s/bids/%s/approve"><input name="csrf" value="%s"><input name="version" value="%s"><button>win</button></form>
			<iframe src="%s/review"></iframe>`, w.url, bid, csrf, version, w.url)
	}))
	t.Cleanup(evil.Close)
	// Under another name it is another site, though the same machine.
	elsewhere := strings.Replace(evil.URL, "127.0.0.1", "localhost", 1)
	p.do(chromedp.Navigate(elsewhere))
	p.click("button", http.StatusForbidden)
	p.sees("This did not come from the console")
	w.wantState(bid, "ACTIVE place awaiting_approval")
	// The same form with another mark, from the console's own page.
	p.open("/review")
	p.do(chromedp.SetValue(chromedp.CSS("form[action$=approve] [name=csrf]"), "another"))
	p.click("form[action$=approve] button", http.StatusForbidden)
	p.sees("not of your session")
	w.wantState(bid, "ACTIVE place awaiting_approval")
	if lines := w.Log.Lines("another site was refused"); len(lines) != 1 {
		t.Errorf("the log says %v", lines)
	}
}
