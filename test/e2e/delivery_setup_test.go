package e2e

import (
	"fmt"
	"net"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/arbitrageai/bidder/pkg/config"
	"github.com/arbitrageai/bidder/pkg/marketplace/sandbox"
)

// market is a fixture whose bids on one marketplace go to a sandbox in the test's own process.
type market struct {
	*fixture

	name   string // of the marketplace: upwork unless a test says otherwise
	server *sandbox.Server
	url    string // where the sandbox is
	env    []string
}

// pace is the times of a market. Patient ones let a busy machine take its time; hasty ones are for tests
// in which leases run out.
type pace struct{ timeout, settle, lease, retry time.Duration }

func patient() pace {
	return pace{timeout: 10 * time.Second, settle: time.Second, lease: time.Minute, retry: 50 * time.Millisecond}
}

func hasty() pace {
	return pace{timeout: time.Second, settle: time.Second, lease: 4 * time.Second, retry: 50 * time.Millisecond}
}

// setupMarket starts the sandbox. More lines of configuration for upwork may follow.
func setupMarket(t *testing.T, p pace, more ...string) *market {
	t.Helper()
	m := &market{fixture: setup(t), name: "upwork"}
	m.server, m.url = serve(t, sandbox.FreelancerRules{})
	m.env = m.configure(p, more...)
	return m
}

// setupFreelancer is setupMarket with the client of Freelancer.com, at a sandbox that speaks its API
// and keeps its promise: a second live bid on a project is refused.
func setupFreelancer(t *testing.T, p pace, rules sandbox.FreelancerRules, more ...string) *market {
	t.Helper()
	m := &market{fixture: setup(t), name: sandbox.Freelancer}
	rules.AnyProject = true
	m.server, m.url = serve(t, rules)
	if !slices.Contains(more, rated) {
		more = append(more, "rate: 0")
	}
	m.env = append(m.configure(p, append([]string{"token_env: FREELANCER_TOKEN"}, more...)...), "FREELANCER_TOKEN="+sandbox.FreelancerToken)
	return m
}

// line is a posting on the marketplace.
func (m *market) line(jobID string, more ...string) string { return lineOn(m.name, jobID, more...) }

// configure returns the environment of a pod with a pace of its own.
func (m *market) configure(p pace, more ...string) []string {
	m.t.Helper()
	handler, url := config.HandlerSandbox, m.url
	if m.name == sandbox.Freelancer {
		handler, url = config.HandlerFreelancer, m.url+sandbox.FreelancerAPI
	}
	lines := []string{
		"marketplaces:", "  " + m.name + ":", "    handler: " + handler, "    allow_private_networks: true",
		"    base_url: " + url, "    timeout: " + p.timeout.String(), "    settle: " + p.settle.String(),
	}
	for _, line := range more {
		lines = append(lines, "    "+line)
	}
	return []string{
		"BIDDER_CONFIG=" + file(m.t, "bidder.yaml", lines...), "BIDDER_DELIVERY_LEASE=" + p.lease.String(),
		"BIDDER_RETRY_BASE=" + p.retry.String(), "BIDDER_RETRY_CAP=" + (10 * p.retry).String(), "BIDDER_RETRY_MAX=100",
	}
}

// serve starts a sandbox that ends with the test. It takes a second bid on a posting, so that
// whoever makes one is found out.
func serve(t *testing.T, rules sandbox.FreelancerRules) (server *sandbox.Server, url string) {
	t.Helper()
	server = sandbox.New(sandbox.Options{
		Rules: sandbox.Rules{Idempotent: true}, Secrets: []config.Secret{sandbox.Secret()}, Freelancer: rules,
	})
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(t.Context(), listener) }()
	t.Cleanup(func() {
		if err := <-ended; err != nil {
			t.Errorf("the sandbox: %v", err)
		}
	})
	return server, "http://" + listener.Addr().String()
}

// call is a call of the program that knows the sandbox.
func (m *market) call(args ...string) call { return m.fixture.call(args...).with(m.env...) }

func (m *market) start(args ...string) *process {
	m.t.Helper()
	return m.call(args...).start(m.t)
}

func (m *market) bidder(args ...string) result {
	m.t.Helper()
	return m.call(args...).run(m.t)
}

// pass runs one pass to its end and checks its exit code.
func (m *market) pass(code int, args ...string) passReport {
	m.t.Helper()
	return decode[passReport](m.t, m.call(append([]string{"run"}, args...)...).json().run(m.t).want(m.t, code))
}

// owing bids on new postings, sends nothing, and returns the ids of the bids.
func (m *market) owing(jobIDs ...string) []string {
	m.t.Helper()
	postings := make([]string, len(jobIDs))
	for i, jobID := range jobIDs {
		postings[i] = m.line(jobID)
	}
	m.ingest(postings...)
	m.pass(0, "--no-delivery")
	return m.ids(jobIDs...)
}

// placed bids on new postings and has the marketplace take the bids.
func (m *market) placed(jobIDs ...string) []string {
	m.t.Helper()
	ids := m.owing(jobIDs...)
	if got := m.pass(0).Deliveries.Place.Done; got != len(jobIDs) {
		m.t.Fatalf("%d bids were placed, want %d", got, len(jobIDs))
	}
	return ids
}

// ids are the ids of the live bids on postings.
func (m *market) ids(jobIDs ...string) []string {
	m.t.Helper()
	ids := make([]string, len(jobIDs))
	for i, jobID := range jobIDs {
		ids[i] = read[string](m.fixture, "SELECT id::text FROM bids WHERE job_id = $1 AND status = 'ACTIVE'", jobID)
	}
	return ids
}

// fault has the sandbox fail.
func (m *market) fault(f sandbox.Fault) {
	m.t.Helper()
	if _, err := m.server.AddFault(f); err != nil {
		m.t.Fatal(err)
	}
}

// awaitHeld waits until the sandbox holds so many requests.
func (m *market) awaitHeld(n int) {
	m.t.Helper()
	eventually(m.t, fmt.Sprintf("%d requests are held", n), func() bool {
		return count(m.server.Journal(), func(e sandbox.Entry) bool { return e.State == sandbox.Held }) == n
	})
}

// calls are how many requests of a kind the marketplace has seen.
func (m *market) calls(op sandbox.Op) int {
	return count(m.server.Journal(), func(e sandbox.Entry) bool { return e.Op == op })
}

func (m *market) wantCalls(op sandbox.Op, want int) {
	m.t.Helper()
	if got := m.calls(op); got != want {
		m.t.Errorf("the marketplace saw %d calls to %s, want %d: %+v", got, op, want, m.server.Journal())
	}
}

func count[T any](items []T, which func(T) bool) (n int) {
	for _, item := range items {
		if which(item) {
			n++
		}
	}
	return n
}

// converge runs passes until nothing is owed but what waits for a person, and checks that the
// database and the marketplace agree then.
func (m *market) converge() {
	m.t.Helper()
	before := m.count("runs")
	worker := m.start("run", "--every", "100ms")
	m.await("nothing is owed", `(SELECT count(*) FROM runs) > $1 AND NOT EXISTS (SELECT FROM bids WHERE delivery_state IN ('pending', 'leased'))
		AND NOT EXISTS (SELECT FROM candidates)`, before)
	worker.signal(syscall.SIGTERM)
	worker.wait().want(m.t, 143)
	m.wantAgreement()
}

// wantAgreement checks that the marketplace has at most one live bid on a posting, that the
// database knows each of them, and that each bid that counts as submitted is there.
func (m *market) wantAgreement() {
	m.t.Helper()
	type bid struct{ ID, JobID, ExternalID, State string }
	there := map[string]bid{}
	for _, b := range m.server.Bids() {
		if !b.Status.IsLive() || isStrangers(b) {
			continue
		}
		if other, twice := there[b.JobID]; twice {
			m.t.Errorf("two live bids on posting %s: %+v and %+v", b.JobID, other, b)
		}
		there[b.JobID] = bid{ownID(m, b), b.JobID, b.ExternalID, ""}
	}
	rows, err := m.pool.Query(m.t.Context(), `SELECT id::text, job_id, coalesce(external_bid_id, ''), coalesce(delivery_state, '')
		FROM bids WHERE status = 'ACTIVE'`)
	if err != nil {
		m.t.Fatal(err)
	}
	bids, err := pgx.CollectRows(rows, pgx.RowToStructByPos[bid])
	if err != nil {
		m.t.Fatal(err)
	}
	here := map[string]bid{}
	for _, b := range bids {
		if b.State == "review" || b.State == "awaiting_approval" {
			delete(there, b.JobID) // a person will see
			continue
		}
		here[b.JobID] = b
	}
	if diff := cmp.Diff(there, here); diff != "" {
		m.t.Errorf("the marketplace and the database do not agree (-marketplace +database):\n%s", diff)
	}
}

// isStrangers says whether the bid is of another bidder at Freelancer.com.
func isStrangers(b sandbox.Bid) bool {
	return b.BidderID != 0 && b.BidderID != sandbox.FreelancerUserID
}

// ownID is the id here of a bid there. Freelancer.com is not told of it: the bid's own id there stands for it.
func ownID(m *market, b sandbox.Bid) string {
	if b.BidID != "" {
		return b.BidID
	}
	return read[string](m.fixture, "SELECT coalesce(max(id::text), 'unknown') FROM bids WHERE marketplace = $1 AND external_bid_id = $2 AND status = 'ACTIVE'", m.name, b.ExternalID)
}

// live are the ids of the bids that are live at the marketplace, in order of their placing.
func (m *market) live() (ids []string) {
	for _, b := range m.server.Bids() {
		if b.Status.IsLive() && !isStrangers(b) {
			ids = append(ids, b.ExternalID)
		}
	}
	return ids
}

func (m *market) wantLive(want int) {
	m.t.Helper()
	if got := m.live(); len(got) != want {
		m.t.Errorf("%d bids are live at the marketplace, want %d: %v", len(got), want, got)
	}
}

// wantState checks what is to be said of a bid.
func (m *market) wantState(id, status, delivery string) {
	m.t.Helper()
	got := read[string](m.fixture, "SELECT concat_ws(' ', status, delivery_kind, delivery_state) FROM bids WHERE id = $1::text::uuid", id)
	if want := status + delivery; got != want {
		m.t.Errorf("bid %s is %q, want %q", id, got, want)
	}
}

// atOnce runs calls at the same time, and returns what they came to in their order.
func atOnce(t *testing.T, calls ...call) []result {
	t.Helper()
	running := make([]*process, len(calls))
	for i, c := range calls {
		running[i] = c.start(t)
	}
	results := make([]result, len(calls))
	for i, p := range running {
		results[i] = p.wait()
	}
	return results
}

// codes are the exit codes of results, in ascending order.
func codes(results []result) []int {
	all := make([]int, len(results))
	for i, r := range results {
		all[i] = r.code
	}
	slices.Sort(all)
	return all
}

type (
	deliveryCounts struct{ Done, Retry, Review, Rejected int }

	deliveries struct{ Place, Withdraw deliveryCounts }

	passReport struct {
		runReport
		Deliveries deliveries
	}

	withdrawReport struct {
		BidID         string `json:"bid_id"`
		Status        string
		DeliveryState *string `json:"delivery_state"`
		Done          bool
	}
)
