package e2e

import (
	"context"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"github.com/arbitrageai/bidder/pkg/marketplace"
	"github.com/arbitrageai/bidder/pkg/marketplace/sandbox"
)

// console starts the console, and returns where it is.
func (m *market) console() (*process, string) {
	m.t.Helper()
	p := m.start("console", "--listen", "127.0.0.1:0")
	var url string
	eventually(m.t, "the console listens", func() bool {
		_, text, listens := strings.Cut(p.stdout.String(), "open at ")
		url = strings.TrimSpace(text)
		return listens && strings.Contains(text, "\n")
	})
	return p, url
}

func (m *market) get(url string) (status int, text string) {
	m.t.Helper()
	request, err := http.NewRequestWithContext(m.t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		m.t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		m.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		m.t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

// TestConsole: a callback has the bid looked up with the next pass, without waiting for the hour.
func TestConsole(t *testing.T) {
	t.Parallel()
	m := setupMarket(t, patient())
	ids := m.placed("1", "2")
	p, url := m.console()
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 200, "/hooks/unknown": 405, "/": 200, "/bids": 200, "/review": 200, "/locks": 200, "/postings/upwork/1": 200, "/bids/" + ids[0]: 200, "/none": 404} {
		if status, text := m.get(url + path); status != want {
			t.Errorf("%s: %d %q, want %d", path, status, text, want)
		}
	}
	status, text := m.get(url + "/metrics")
	if found := readPrometheus(t, text); status != 200 || found[`bidder_attempts_total{outcome="claimed"}`] != 2 {
		t.Errorf("/metrics: %d %s", status, text)
	}
	external := read[string](m.fixture, "SELECT external_bid_id FROM bids WHERE job_id = '1'")
	m.becomes("1", marketplace.Accepted)
	m.becomes("2", marketplace.Accepted)
	hook := func(name string, want int) {
		t.Helper()
		status, err := m.server.Callback(t.Context(), url+"/hooks/"+name, external)
		if err != nil || status != want {
			t.Errorf("%s answered %d, %v; want %d", name, status, err, want)
		}
	}
	hook("upwork", http.StatusNoContent)
	hook("guru", http.StatusNotFound)   // its handler is manual
	hook("Upwork", http.StatusNotFound) // no marketplace is called that
	before := m.calls(sandbox.Lookup)
	m.pass(0)
	m.wantCalls(sandbox.Lookup, before+1)
	m.wantState(ids[0], "WON", "")
	m.wantState(ids[1], "ACTIVE", "")
	if status, _ := m.get(url + "/readyz"); status != 200 {
		t.Errorf("ready: %d", status)
	}
	m.exec("ALTER TABLE schema_migrations RENAME TO away")
	if status, _ := m.get(url + "/readyz"); status != 503 {
		t.Errorf("ready without a schema: %d", status)
	}
	m.exec("ALTER TABLE away RENAME TO schema_migrations")
	p.signal(syscall.SIGTERM)
	p.wait().want(t, 143)
}

// TestAmbiguousIsCalledBack: a placing whose answer was lost is looked up when the marketplace calls.
func TestAmbiguousIsCalledBack(t *testing.T) {
	t.Parallel()
	m := setupMarket(t, patient())
	id := m.owing("1")[0]
	m.fault(sandbox.Fault{Do: sandbox.Drop, When: sandbox.After, Op: sandbox.Place, Count: 1})
	m.pass(0)
	m.exec("UPDATE bids SET next_attempt_at = now() + interval '1 hour' WHERE id = $1::text::uuid", id)
	_, url := m.console()
	status, err := m.server.Callback(context.WithoutCancel(t.Context()), url+"/hooks/upwork", m.live()[0])
	if err != nil || status != http.StatusNoContent {
		t.Fatalf("answered %d, %v", status, err)
	}
	m.pass(0)
	m.wantState(id, "ACTIVE", "")
	m.wantCount(1, "bids WHERE submitted_at IS NOT NULL")
	m.wantCalls(sandbox.Place, 1)
	m.wantAgreement()
}

// TestConsoleUsage: it lets nobody else in by accident.
func TestConsoleUsage(t *testing.T) {
	t.Parallel()
	m := setupMarket(t, patient())
	m.bidder("console", "--listen", "0.0.0.0:0").wantError(t, 2, "BIDDER_CONSOLE_TOKEN")
	m.bidder("console", "--host", "bidder.example.com").wantError(t, 2, "--host bidder.example.com", "BIDDER_CONSOLE_TOKEN")
	for _, host := range []string{"https://bidder.example.com", "bidder.example.com:8443", "bidder.example.com/x"} {
		m.call("console", "--host", host).with("BIDDER_CONSOLE_TOKEN=0123456789abcdef").run(t).wantError(t, 2, "--host "+host, "give the name alone")
	}
	m.bidder("console", "--listen", "nowhere").wantError(t, 2, "--listen nowhere")
	m.bidder("console", "--dry-run").wantError(t, 2, "cannot be simulated")
	for _, variable := range []string{"BIDDER_CONSOLE_TOKEN", "BIDDER_CONSOLE_READONLY_TOKEN"} {
		p := m.call("console", "--listen", "0.0.0.0:0").with(variable + "=0123456789abcdef").start(t)
		eventually(t, "it listens", func() bool { return strings.Contains(p.stdout.String(), "open at ") })
		p.signal(syscall.SIGINT)
		p.wait().want(t, 130)
	}
}

// TestConsolePages: with a token nothing is open, and the pages know the configuration.
func TestConsolePages(t *testing.T) {
	t.Parallel()
	m := setupMarket(t, patient(), "caps: {bids_per_day: 5, money_per_day: \"900.00\"}")
	m.placed("1")
	p := m.call("console", "--listen", "127.0.0.1:0").with("BIDDER_CONSOLE_TOKEN=0123456789abcdef").start(t)
	var url string
	eventually(t, "it listens", func() bool {
		_, text, listens := strings.Cut(p.stdout.String(), "open at ")
		url = strings.TrimSpace(text)
		return listens && strings.Contains(text, "\n")
	})
	read := func(path, token string) (int, string) {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+token)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = response.Body.Close() }()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return response.StatusCode, string(body)
	}
	for path, texts := range map[string][]string{
		"/":                  {"bids per day", "1 of 5", "of 900.00 USD", "claimed: 1 in all"},
		"/postings/upwork/1": {"duplicate", "The live bid"},
	} {
		if status, text := m.get(url + path); status != 401 || strings.Contains(text, texts[0]) {
			t.Errorf("%s without a token: %d %s", path, status, text)
		}
		status, page := read(path, "0123456789abcdef")
		for _, text := range texts {
			if status != 200 || !strings.Contains(page, text) {
				t.Errorf("%s: %d, %q is not on the page %s", path, status, text, page)
			}
		}
	}
	p.signal(syscall.SIGTERM)
	ended := p.wait().want(t, 143)
	if strings.Contains(p.stdout.String()+p.stderr.String(), "0123456789abcdef") {
		t.Errorf("the token is printed: %v", ended)
	}
}

// TestConsoleWithoutDatabase: it waits for the database to come, and says so.
func TestConsoleWithoutDatabase(t *testing.T) {
	t.Parallel()
	m := setupMarket(t, patient())
	m.placed("1")
	m.env = append(m.env, "DATABASE_URL=postgres://127.0.0.1:1/none")
	p, url := m.console()
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 503, "/": 503} {
		if status, text := m.get(url + path); status != want || strings.Contains(text, "/none") {
			t.Errorf("%s: %d %q, want %d", path, status, text, want)
		}
	}
	if status, err := m.server.Callback(t.Context(), url+"/hooks/upwork", m.live()[0]); err != nil || status != 503 {
		t.Errorf("the hook answered %d, %v", status, err)
	}
	p.signal(syscall.SIGTERM)
	p.wait().want(t, 143)
}
