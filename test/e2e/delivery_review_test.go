package e2e

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/arbitrageai/bidder/pkg/marketplace/sandbox"
)

type (
	reviewItem struct {
		Bid struct {
			ID     string
			Status string
		}
		Posting   *struct{ Title string }
		Kind      string
		Reason    string
		Attempts  int
		LastError *string `json:"last_error"`
		History   []struct{ Actor string }
	}

	reviewList struct {
		Items []reviewItem
		Next  *string
	}
)

func (m *market) reviews() []reviewItem {
	m.t.Helper()
	return decode[reviewList](m.t, m.bidder("review", "list", "-o", "json").want(m.t, 0)).Items
}

// inReview is a bid that the marketplace answered with what only a person can judge, although
// it has stored it, or not.
func (m *market) inReview(jobID string, stored bool) (id string) {
	m.t.Helper()
	id = m.owing(jobID)[0]
	when := sandbox.Before
	if stored {
		when = sandbox.After
	}
	m.fault(sandbox.Fault{Do: sandbox.Answer, When: when, Op: sandbox.Place, JobID: jobID, Status: 418, Count: 1})
	if stored { // or else the look-up after it would find it
		m.fault(sandbox.Fault{Do: sandbox.Answer, Op: sandbox.Lookup, JobID: jobID, Status: 503, Count: 1})
	}
	m.pass(3)
	m.wantState(id, "ACTIVE", " place review")
	return id
}

// TestApproval: a bid that a person must approve is not sent before, and sent then.
func TestApproval(t *testing.T) {
	t.Parallel()
	m := setupMarket(t, patient(), "approval: required")
	m.ingest(line("1"), line("2"))
	if report := m.pass(0); report.Outcomes["claimed"] != 2 || report.Deliveries != (deliveries{}) {
		t.Errorf("the pass ended in %+v", report)
	}
	ids := m.ids("1", "2")
	m.wantState(ids[0], "ACTIVE", " place awaiting_approval")
	if items := m.reviews(); len(items) != 2 || items[0].Reason != "approval" || items[0].Posting == nil {
		t.Errorf("in review are %+v", items)
	}
	m.bidder("review", "retry", ids[0]).want(t, 3)
	m.bidder("review", "resolve", ids[0], "--as", "placed:x").want(t, 3)
	m.wantCalls(sandbox.Place, 0)

	m.bidder("review", "approve", ids[0], "--by", "alice").want(t, 0)
	m.bidder("review", "approve", ids[0], "--by", "bob").want(t, 3)
	if report := m.pass(0); report.Deliveries.Place.Done != 1 {
		t.Errorf("the pass after the approval delivered %+v", report.Deliveries)
	}
	m.wantCount(1, "bids WHERE approved_by = 'alice' AND submitted_at IS NOT NULL")
	m.wantState(ids[1], "ACTIVE", " place awaiting_approval")
	m.bidder("withdraw", ids[1], "--reason", "no").want(t, 0)
	m.wantCalls(sandbox.Place, 1)
	m.wantAgreement()
}

// TestReviewResolve: what a person saw is recorded, and nothing is sent any more.
func TestReviewResolve(t *testing.T) {
	t.Parallel()
	tests := []struct{ as, state string }{
		{"placed:", "ACTIVE"}, // with the id that the marketplace gave
		{"not-placed", "WITHDRAWN"},
		{"withdrawn", "WITHDRAWN"},
		{"rejected", "REJECTED"},
		{"won", "WON"},
		{"lost", "LOST"},
	}
	for _, tt := range tests {
		t.Run(tt.as, func(t *testing.T) {
			t.Parallel()
			m := setupMarket(t, patient())
			id := m.inReview("1", tt.as == "placed:")
			as := tt.as
			if as == "placed:" {
				as += m.live()[0]
			}
			hides := tt.as == "not-placed" || tt.as == "withdrawn" || tt.as == "rejected"
			m.sentAgo(id, -time.Minute)
			m.untouched(func() {
				if hides { // what was sent a moment ago may still show up
					m.bidder("review", "resolve", id, "--as", as).wantError(t, 3, "may still show up")
				}
			})
			m.sentAgo(id, time.Minute)
			m.untouched(func() {
				m.bidder("review", "resolve", id, "--as", as, "--dry-run").want(t, 0)
				m.bidder("review", "resolve", id, "--as", "placed: ").wantError(t, 2)
				m.bidder("review", "resolve", id, "--as", "gone").wantError(t, 2)
				m.bidder("review", "resolve", id, "--as", as, "--by", " ").wantError(t, 2)
				m.bidder("review", "resolve", "0192f3a4-7c1e-7b32-9d55-1f0e6a2b8c41", "--as", as).want(t, 3)
			})
			m.bidder("review", "resolve", id, "--as", as, "--by", "alice", "--note", "seen").want(t, 0)
			m.wantState(id, tt.state, "")
			m.wantCount(1, "bid_events WHERE bid_id = $1::text::uuid AND actor = 'alice'", id)
			m.untouched(func() { m.bidder("review", "resolve", id, "--as", as).want(t, 3) })
			m.pass(0)
			m.wantCalls(sandbox.Place, 1)
			if tt.state == "ACTIVE" {
				m.wantAgreement()
			}
		})
	}
}

// sentAgo makes a bid's last POST so old.
func (m *market) sentAgo(id string, age time.Duration) {
	m.exec("UPDATE bids SET first_post_at = now() - $2::interval, last_post_at = now() - $2::interval WHERE id = $1::text::uuid", id, age)
}

// TestReviewRetry: what is tried again is looked for first.
func TestReviewRetry(t *testing.T) {
	t.Parallel()
	for _, stored := range []bool{true, false} {
		t.Run(map[bool]string{true: "stored", false: "not stored"}[stored], func(t *testing.T) {
			t.Parallel()
			m := setupMarket(t, patient())
			id := m.inReview("1", stored)
			items := m.reviews()
			if len(items) != 1 || items[0].Bid.ID != id || items[0].Kind != "place" || orNone(items[0].LastError) == "<null>" {
				t.Fatalf("in review are %+v", items)
			}
			shown := decode[reviewItem](t, m.bidder("review", "show", id, "-o", "json").want(t, 0))
			if shown.Reason != items[0].Reason || len(shown.History) == 0 || shown.Posting.Title != "A title" {
				t.Errorf("shown is %+v", shown)
			}
			m.untouched(func() { m.bidder("review", "show", id).want(t, 0) })

			m.bidder("review", "retry", id, "--by", "alice").want(t, 0)
			m.bidder("review", "retry", id, "--by", "bob").want(t, 3)
			m.bidder("review", "show", id).want(t, 3)
			m.converge()
			m.wantState(id, "ACTIVE", "")
			want := 2
			if stored {
				want = 1
			}
			m.wantCalls(sandbox.Place, want)
			if m.calls(sandbox.Lookup) == 0 {
				t.Error("it was not looked for")
			}
		})
	}
}

// TestReviewRace: of people who decide at once one decides.
func TestReviewRace(t *testing.T) {
	t.Parallel()
	m := setupMarket(t, patient())
	id := m.inReview("1", true)
	m.sentAgo(id, time.Minute)
	as := []string{"placed:" + m.live()[0], "not-placed", "withdrawn", "rejected"}
	calls := make([]call, 0, len(as)+1)
	for _, as := range as {
		calls = append(calls, m.call("review", "resolve", id, "--as", as, "--by", "someone"))
	}
	calls = append(calls, m.call("review", "retry", id, "--by", "someone"))
	// They all stand before the bid when it is let go.
	tx := m.begin()
	m.execIn(tx, "SELECT FROM bids WHERE id = $1::text::uuid FOR UPDATE", id)
	running := make([]*process, len(calls))
	for i, c := range calls {
		running[i] = c.with("BIDDER_STATEMENT_TIMEOUT=1m").start(t)
	}
	m.await("all wait", `count(*) = $1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`, len(calls))
	m.commit(tx)
	results := make([]result, len(running))
	for i, p := range running {
		results[i] = p.wait()
	}
	if diff := cmp.Diff([]int{0, 3, 3, 3, 3}, codes(results)); diff != "" {
		t.Errorf("exit codes (-want +got):\n%s\n%+v", diff, results)
	}
	m.wantCount(1, "bid_events WHERE bid_id = $1::text::uuid AND actor = 'someone'", id)
}
