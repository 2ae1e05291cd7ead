package e2e

import (
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/arbitrageai/bidder/pkg/marketplace/sandbox"
)

// TestDeliver: what is claimed is sent in the same pass, once, as it was claimed.
func TestDeliver(t *testing.T) {
	t.Parallel()
	m := setupMarket(t, patient())
	all, jobIDs := lines(5)
	m.ingest(all...)
	report := m.pass(0)
	if report.Outcomes["claimed"] != 5 {
		t.Errorf("the pass ended in %v", report.Outcomes)
	}
	if diff := cmp.Diff(deliveries{Place: deliveryCounts{Done: 5}}, report.Deliveries); diff != "" {
		t.Errorf("deliveries (-want +got):\n%s", diff)
	}
	m.wantRecorded(report.runReport)
	m.wantCount(1, "runs WHERE counters #>> '{deliveries,place,done}' = '5'")
	m.wantAgreement()
	m.wantLive(5)
	m.wantCount(5, "bids WHERE submitted_at IS NOT NULL AND place_posts = 1 AND job_id = ANY($1)", jobIDs)
	for _, b := range m.server.Bids() {
		if b.Amount != "100.00" || b.Currency != "USD" || b.Key != "place-"+b.BidID {
			t.Errorf("the marketplace was sent %+v", b)
		}
	}

	again := m.pass(0)
	if again.Attempts != 0 || again.Deliveries != (deliveries{}) {
		t.Errorf("a second pass found something to do: %+v", again)
	}
	m.wantCalls(sandbox.Place, 5)
	if stats := decode[passReport](t, m.bidder("stats", "-o", "json").want(t, 0)); stats.Deliveries.Place.Done != 5 {
		t.Errorf("stats say %+v", stats.Deliveries)
	}
}

// TestDeliverNothing: --no-delivery claims, and calls nobody.
func TestDeliverNothing(t *testing.T) {
	t.Parallel()
	m := setupMarket(t, patient())
	id := m.owing("1")[0]
	m.wantState(id, "ACTIVE", " place pending")
	m.wantCalls(sandbox.Place, 0)
	if report := m.pass(0); report.Deliveries.Place.Done != 1 {
		t.Errorf("the next pass delivered %+v", report.Deliveries)
	}
	m.wantAgreement()
}

// TestDeliverExitCodes: what an answer leaves to a person decides the exit code of the pass.
func TestDeliverExitCodes(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		fault  sandbox.Fault
		counts deliveryCounts
		code   int
		state  string
	}{
		{"for a person", sandbox.Fault{Do: sandbox.Answer, Status: 418}, deliveryCounts{Review: 1}, 3, "ACTIVE place review"},
		{"refused for good", sandbox.Fault{Do: sandbox.Answer, Status: 409, Code: "job_closed"}, deliveryCounts{Rejected: 1}, 0, "REJECTED"},
		{"not taken now", sandbox.Fault{Do: sandbox.Answer, Status: 429, RetryAfter: 3600}, deliveryCounts{Retry: 1}, 0, "ACTIVE place pending"},
		{"broken after storing", sandbox.Fault{Do: sandbox.Answer, When: sandbox.After, Status: 500}, deliveryCounts{Retry: 1}, 0, "ACTIVE place pending"},
		{"no answer", sandbox.Fault{Do: sandbox.Drop}, deliveryCounts{Retry: 1}, 0, "ACTIVE place pending"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := setupMarket(t, patient())
			tt.fault.Op = sandbox.Place
			m.fault(tt.fault)
			m.ingest(line("1"))
			report := m.pass(tt.code)
			if diff := cmp.Diff(deliveries{Place: tt.counts}, report.Deliveries); diff != "" {
				t.Errorf("deliveries (-want +got):\n%s", diff)
			}
			m.wantCount(1, "bids WHERE concat_ws(' ', status, delivery_kind, delivery_state) = $1", tt.state)
			m.wantCount(1, "runs WHERE exit_code = $1", tt.code)
		})
	}
}

// TestDeliverSettles: what got lost is looked for, and sent again only when it had the time to show.
func TestDeliverSettles(t *testing.T) {
	t.Parallel()
	p := patient()
	p.settle = 4 * time.Second // beyond the first look-up, at 2 s
	m := setupMarket(t, p)
	m.fault(sandbox.Fault{Do: sandbox.Drop, Op: sandbox.Place, Count: 1})
	m.ingest(line("1"))
	if report := m.pass(0); report.Deliveries.Place != (deliveryCounts{Retry: 1}) {
		t.Errorf("the first pass delivered %+v", report.Deliveries)
	}
	m.converge()
	m.wantCalls(sandbox.Place, 2)
	m.wantCalls(sandbox.Lookup, 2)
	m.wantCount(1, "bids WHERE place_posts = 2 AND last_post_at >= first_post_at + interval '4s'")
	m.wantLive(1)
}

// TestDeliverByHand: a marketplace without an API is a person's from the start, and no alarm.
func TestDeliverByHand(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.ingest(line("1"))
	report := decode[passReport](t, f.bidder("run", "-o", "json").want(t, 0))
	if report.Deliveries.Place != (deliveryCounts{Review: 1}) {
		t.Errorf("the pass delivered %+v", report.Deliveries)
	}
	items := decode[reviewList](t, f.bidder("review", "list", "-o", "json").want(t, 0)).Items
	if len(items) != 1 || items[0].Reason != "no_api" || items[0].Kind != "place" {
		t.Fatalf("in review are %+v", items)
	}
	f.bidder("review", "resolve", items[0].Bid.ID, "--as", "placed:p-778", "--by", "alice").want(t, 0)
	f.wantCount(1, "bids WHERE status = 'ACTIVE' AND delivery_kind IS NULL AND external_bid_id = 'p-778' AND submitted_at IS NOT NULL")
	f.bidder("run").want(t, 0)
	// Only a person can take it back.
	f.bidder("withdraw", items[0].Bid.ID, "--reason", "a mistake").want(t, 3)
	f.bidder("review", "resolve", items[0].Bid.ID, "--as", "withdrawn", "--by", "alice").want(t, 0)
	f.wantCount(1, "bids WHERE status = 'WITHDRAWN'")
}

// TestPause: from the next call on nobody calls; what is owed stays owed.
func TestPause(t *testing.T) {
	t.Parallel()
	for _, what := range [][]string{{"upwork"}, nil} {
		t.Run(orAll(what), func(t *testing.T) {
			t.Parallel()
			m := setupMarket(t, patient())
			m.owing("1", "2", "3")
			m.fault(sandbox.Fault{Do: sandbox.Hold, Op: sandbox.Place, Count: 1})
			worker := m.call("run", "--workers", "1").json().start(t)
			m.awaitHeld(1)
			m.bidder(append([]string{"pause", "--reason", "red"}, what...)...).want(t, 0)
			m.server.Release(0)
			if report := decode[passReport](t, worker.wait().want(t, 0)); report.Deliveries.Place.Done != 1 {
				t.Errorf("the pass that was under way delivered %+v", report.Deliveries)
			}
			m.wantCalls(sandbox.Place, 1)
			if report := m.pass(0); report.Deliveries.Place.Done != 0 {
				t.Errorf("a paused pass delivered %+v", report.Deliveries)
			}
			m.wantCalls(sandbox.Place, 1)
			m.wantCount(2, "bids WHERE delivery_state = 'pending' AND place_posts = 0")

			told := m.bidder(append([]string{"resume", "--by", "mara"}, what...)...).want(t, 0).stderr
			m.wantCount(1, "accounts WHERE paused_at IS NULL AND resumed_by = 'mara' AND resumed_at IS NOT NULL")
			if !strings.Contains(told, "Resumed "+orAll(what)) || !strings.Contains(told, "red") {
				t.Errorf("it is not said what was resumed: %s", told)
			}
			if again := m.bidder(append([]string{"resume"}, what...)...).want(t, 0).stderr; strings.Contains(again, "Resumed") || again == "" {
				t.Errorf("resumed again: %s", again)
			}
			m.converge()
			m.wantLive(3)
		})
	}
}

// TestResumeOneByOne: after a restore the pause of everything ends while marketplaces that were paused by themselves, and are
// not done, stay so.
func TestResumeOneByOne(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.claim("1")
	paused := func(want ...string) {
		t.Helper()
		var got []string
		for _, p := range decode[list[struct{ Marketplace string }]](t, f.bidder("pause", "upwork", "--dry-run", "-o", "json").want(t, 0)).Items {
			got = append(got, p.Marketplace)
		}
		if !slices.Equal(got, want) {
			t.Errorf("paused are %v, want %v", got, want)
		}
	}
	f.bidder("pause", "--reason", "restore").want(t, 0)
	f.bidder("pause", "upwork", "--reason", "restore").want(t, 0)
	f.bidder("pause", "guru", "--reason", "restore").want(t, 0)
	paused("*", "guru", "upwork")
	f.bidder("resume", "guru").want(t, 0)
	paused("*", "upwork")
	if r := f.bidder("resume", "*").want(t, 0); !strings.Contains(r.stderr, "Resumed all") || strings.Contains(r.stderr, "upwork") {
		t.Errorf("it says %s", r.stderr)
	}
	paused("upwork")
	if r := f.bidder("resume", "*").want(t, 0); !strings.Contains(r.stderr, "no pause of everything") {
		t.Errorf("it says %s", r.stderr)
	}
	f.bidder("pause", "*").want(t, 0)
	f.bidder("resume").want(t, 0)
	paused()
}

// TestPauseMistyped: the name of a marketplace that nothing is known of is taken, but told.
func TestPauseMistyped(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.claim("1")
	config := "BIDDER_CONFIG=" + file(t, "bidder.yaml", "marketplaces: {guru: {handler: manual}}")
	for name, doubted := range map[string]bool{"upwork": false, "guru": false, "upwrok": true} {
		if told := f.call("pause", name).with(config).run(t).want(t, 0).stderr; strings.Contains(told, "is the name right?") != doubted {
			t.Errorf("pause %s says: %s", name, told)
		}
	}
	f.wantCount(3, "accounts WHERE paused_at IS NOT NULL")
}

func orAll(what []string) string {
	if len(what) == 0 {
		return "all"
	}
	return what[0]
}

// TestDeliverInterrupted: a pod that lives long ends soon after SIGTERM, and loses nothing.
func TestDeliverInterrupted(t *testing.T) {
	t.Parallel()
	for _, answers := range []bool{true, false} {
		t.Run(map[bool]string{true: "with an answer", false: "without"}[answers], func(t *testing.T) {
			t.Parallel()
			m := setupMarket(t, patient())
			_, jobIDs := lines(20)
			m.owing(jobIDs...)
			m.fault(sandbox.Fault{Do: sandbox.Hold, When: sandbox.After, Op: sandbox.Place})
			worker := m.start("run", "--every", "100ms", "--workers", "3")
			m.awaitHeld(3)
			began := time.Now()
			worker.signal(syscall.SIGTERM)
			if answers {
				eventually(t, "the signal is taken", func() bool { return !worker.pending() })
				m.server.Release(0)
			}
			worker.wait().want(t, 143)
			if took := time.Since(began); took > 25*time.Second {
				t.Errorf("it took %v to end", took)
			}
			m.wantCalls(sandbox.Place, 3)
			m.wantCount(0, "bids WHERE delivery_state = 'leased'")
			if answers {
				m.wantCount(3, "bids WHERE submitted_at IS NOT NULL")
			}
			m.wantCount(0, "runs WHERE finished_at IS NULL")

			m.server.Reset()
			m.converge()
			m.wantLive(20)
		})
	}
}

// TestPausesAreTold: an account that its marketplace does not sign in is paused, loudly, and
// each run says so until somebody resumes it.
func TestPausesAreTold(t *testing.T) {
	t.Parallel()
	m := setupMarket(t, patient())
	m.fault(sandbox.Fault{Do: sandbox.Answer, Op: sandbox.Place, Status: 401})
	m.owing("1")
	if r := m.bidder("run").want(t, 0); !strings.Contains(r.stderr, `"level":"ERROR","msg":"the account is paused","marketplace":"upwork"`) {
		t.Errorf("the run says %s", r.stderr)
	}
	const told = "calls are paused; `bidder resume` starts them again"
	if r := m.bidder("run").want(t, 0); !strings.Contains(r.stderr, told) || !strings.Contains(r.stderr, "auth_failed") {
		t.Errorf("the next run says %s", r.stderr)
	}
	m.server.Reset()
	m.bidder("resume", "upwork").want(t, 0)
	m.converge()
	if r := m.bidder("run").want(t, 0); strings.Contains(r.stderr, told) {
		t.Errorf("once resumed, a run says %s", r.stderr)
	}
	m.wantLive(1)
}
