package e2e

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/arbitrageai/bidder/pkg/marketplace"
	"github.com/arbitrageai/bidder/pkg/marketplace/sandbox"
)

// refreshed are the counts of look-ups of live bids.
type refreshed struct{ Live, Won, Lost, Rejected, Withdrawn, Unseen, Review int }

// checkedAgo makes the last look-ups of all live bids so old.
func (m *market) checkedAgo(age string) {
	m.t.Helper()
	m.exec("UPDATE bids SET checked_at = now() - $1::interval WHERE status = 'ACTIVE'", age)
}

// becomes has the marketplace change the bid on a posting.
func (m *market) becomes(jobID string, status marketplace.Status) {
	m.t.Helper()
	id := read[string](m.fixture, "SELECT external_bid_id FROM bids WHERE job_id = $1 AND external_bid_id IS NOT NULL", jobID)
	if err := m.server.SetStatus(id, status); err != nil {
		m.t.Fatal(err)
	}
}

func (m *market) wantRefreshed(want refreshed) {
	m.t.Helper()
	stats := decode[struct{ Refreshed refreshed }](m.t, m.bidder("stats", "-o", "json").want(m.t, 0))
	if diff := cmp.Diff(want, stats.Refreshed); diff != "" {
		m.t.Errorf("refreshed (-want +got):\n%s", diff)
	}
}

// TestStatusRefresh: how bids stand at the marketplace is known here within the hour.
func TestStatusRefresh(t *testing.T) {
	t.Parallel()
	m := setupMarket(t, patient())
	ids := m.placed("1", "2", "3", "4", "5", "6")
	for i, status := range []marketplace.Status{
		marketplace.Submitted, marketplace.Accepted, marketplace.Rejected, marketplace.Withdrawn, marketplace.Expired, marketplace.Lost,
	} {
		m.becomes(fmt.Sprint(i+1), status)
	}
	before := m.calls(sandbox.Lookup)
	m.pass(0)
	m.wantCalls(sandbox.Lookup, before) // they were placed a moment ago
	m.checkedAgo("61 minutes")
	m.pass(0, "--no-delivery")
	m.untouched(func() {
		if r := m.bidder("run", "--dry-run").want(t, 0); !strings.Contains(r.stderr, "6 live bids would be looked up") {
			t.Errorf("the dry run says %s", r.stderr)
		}
	})
	m.wantCalls(sandbox.Lookup, before)

	r := m.bidder("run").want(t, 0)
	if !strings.Contains(r.stdout, "LOOKED UP") || !strings.Contains(r.stderr, `"ended at the marketplace"`) {
		t.Errorf("the run says %s\n%s", r.stdout, r.stderr)
	}
	m.wantCalls(sandbox.Lookup, before+6)
	for i, status := range []string{"ACTIVE", "WON", "REJECTED", "WITHDRAWN", "LOST", "LOST"} {
		m.wantState(ids[i], status, "")
	}
	want := refreshed{Live: 1, Won: 1, Rejected: 1, Withdrawn: 1, Lost: 2}
	m.wantRefreshed(want)
	if r := m.bidder("stats", "-o", "prometheus").want(t, 0); !strings.Contains(r.stdout, `bidder_refreshed_total{result="lost"} 2`) {
		t.Errorf("the statistics are %s", r.stdout)
	}
	m.pass(0)
	m.wantCalls(sandbox.Lookup, before+6)

	// What somebody took back there is not bid on again by a run.
	m.exec("UPDATE bids SET created_at = now() - interval '1 hour', submitted_at = now() - interval '1 hour', last_post_at = now() - interval '1 hour', first_post_at = now() - interval '1 hour'")
	m.exec("UPDATE bids SET withdrawal_timestamp = now() - interval '1 hour' WHERE status = 'WITHDRAWN' AND withdrawn_reason = 'withdrawn_elsewhere'")
	m.ingest(line("4", `,"description":"new"`))
	if got := m.pass(0).Outcomes; got["closed"] != 1 || got["claimed"] != 0 {
		t.Errorf("the pass ended in %v", got)
	}
	m.wantCalls(sandbox.Place, 6)
}

// TestRefreshPassesAtOnce: ten passes at once make one look-up of each bid.
func TestRefreshPassesAtOnce(t *testing.T) {
	t.Parallel()
	m := setupMarket(t, patient())
	m.placed("1", "2", "3")
	m.becomes("2", marketplace.Accepted)
	m.checkedAgo("2 hours")
	before := m.calls(sandbox.Lookup)
	calls := make([]call, 10)
	for i := range calls {
		calls[i] = m.call("run")
	}
	for _, r := range atOnce(t, calls...) {
		r.want(t, 0)
	}
	m.wantCalls(sandbox.Lookup, before+3)
	m.wantRefreshed(refreshed{Live: 2, Won: 1})
	m.wantNoDeadlocks()
}

// TestRefreshAndPeople: what people do during a look-up is not overwritten by what it showed.
func TestRefreshAndPeople(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		act   func(m *market, id string) result
		state string
	}{
		"mark":     {func(m *market, id string) result { return m.bidder("bids", "mark", id, "lost", "--note", "seen") }, "LOST"},
		"withdraw": {func(m *market, id string) result { return m.bidder("withdraw", id, "--reason", "no") }, "WITHDRAWN"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := setupMarket(t, patient())
			id := m.placed("1")[0]
			m.checkedAgo("2 hours")
			m.fault(sandbox.Fault{Do: sandbox.Hold, When: sandbox.After, Op: sandbox.Lookup, Count: 1})
			run := m.start("run")
			m.awaitHeld(1)
			m.wantCount(0, `pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%'`)
			tt.act(m, id).want(t, 0)
			m.server.Release(0)
			run.wait().want(t, 0)
			m.wantState(id, tt.state, "")
			m.wantRefreshed(refreshed{})
		})
	}
}

// TestRefreshInterrupted: a pod that is killed or stopped during a look-up leaves nothing
// behind that a later pass does not make good.
func TestRefreshInterrupted(t *testing.T) {
	t.Parallel()
	for _, signal := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM} {
		t.Run(signal.String(), func(t *testing.T) {
			t.Parallel()
			m := setupMarket(t, patient())
			id := m.placed("1")[0]
			m.becomes("1", marketplace.Rejected)
			m.checkedAgo("2 hours")
			m.fault(sandbox.Fault{Do: sandbox.Hold, When: sandbox.After, Op: sandbox.Lookup, Count: 1})
			run := m.start("run")
			m.awaitHeld(1)
			began := time.Now()
			run.signal(signal)
			code := run.wait().code
			if signal == syscall.SIGTERM {
				if took := time.Since(began); code != 143 || took > 5*time.Second { // the call may take ten
					t.Errorf("ended with %d after %v", code, took)
				}
			} else {
				m.pass(0) // the lease of a minute is not over
				m.wantState(id, "ACTIVE", "")
				m.exec("UPDATE bids SET checked_at = checked_at - interval '1 minute'")
			}
			m.server.Release(0)
			m.pass(0)
			m.wantState(id, "REJECTED", "")
		})
	}
}

// TestUnseen: a bid that is not seen for too long waits for a person, who can have it looked
// up again, keep it, or end it; it is never sent again.
func TestUnseen(t *testing.T) {
	t.Parallel()
	m := setupMarket(t, patient(), "ask_after: 1d")
	id := m.placed("1")[0]
	external := m.live()[0]
	unseen := func() {
		m.checkedAgo("2 hours")
		m.exec("UPDATE bids SET seen_at = now() - interval '25 hours', first_post_at = now() - interval '25 hours', last_post_at = now() - interval '25 hours'")
		m.fault(sandbox.Fault{Do: sandbox.Answer, Op: sandbox.Lookup, Status: 404, Code: "not_found", Count: 1})
	}
	m.checkedAgo("2 hours")
	m.fault(sandbox.Fault{Do: sandbox.Answer, Op: sandbox.Lookup, Status: 404, Code: "not_found", Count: 1})
	m.pass(0)
	m.wantState(id, "ACTIVE", "") // a day has not passed
	unseen()
	m.pass(3)
	items := m.reviews()
	if len(items) != 1 || items[0].Reason != "status_unknown" || items[0].Kind != "place" || !strings.Contains(orNone(items[0].LastError), "does not show it") {
		t.Fatalf("in review are %+v", items)
	}
	if r := m.bidder("review", "show", id).want(t, 0); !strings.Contains(r.stdout, "never sent again") {
		t.Errorf("the advice is %s", r.stdout)
	}
	m.pass(0)
	m.wantState(id, "ACTIVE", " place review")

	// Tried again it is looked up: not there, then there.
	m.bidder("review", "retry", id).want(t, 0)
	m.fault(sandbox.Fault{Do: sandbox.Answer, Op: sandbox.Lookup, Status: 404, Code: "not_found", Count: 1})
	m.pass(3)
	m.wantState(id, "ACTIVE", " place review")
	m.bidder("review", "retry", id).want(t, 0)
	m.pass(0)
	m.wantState(id, "ACTIVE", "")

	// A person has seen it: the time begins anew.
	unseen()
	m.pass(3)
	m.bidder("review", "resolve", id, "--as", "placed:"+external).want(t, 0)
	m.wantState(id, "ACTIVE", "")
	m.wantCount(1, "bids WHERE seen_at > now() - interval '1 hour' AND checked_at > now() - interval '1 hour'")
	m.pass(0)

	// A withdrawal is asked for: that goes on by itself.
	unseen()
	m.pass(3)
	m.bidder("withdraw", id, "--reason", "no").want(t, 0)
	m.wantState(id, "WITHDRAWN", "")
	m.wantCalls(sandbox.Place, 1)
	m.wantLive(0)
}

// TestUnseenByHand: what only people can see they are asked about.
func TestUnseenByHand(t *testing.T) {
	t.Parallel()
	f := setup(t)
	id := f.claim("1")[0]
	f.bidder("run").want(t, 0)
	f.bidder("review", "resolve", id, "--as", "placed:p-1").want(t, 0)
	f.bidder("run").want(t, 0)
	f.wantCount(0, "bids WHERE delivery_kind IS NOT NULL")
	f.exec("UPDATE bids SET checked_at = now() - interval '15 days', seen_at = now() - interval '15 days'")
	f.bidder("run").want(t, 0) // a hand-over is no fault
	f.wantCount(1, "bids WHERE delivery_state = 'review' AND review_reason = 'status_unknown'")
	f.bidder("review", "resolve", id, "--as", "won").want(t, 0)
	f.wantCount(1, "bids WHERE status = 'WON'")
}
