package e2e

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/arbitrageai/bidder/pkg/marketplace/sandbox"
)

// deliveriesDump is what the database knows of bids and their history.
func (m *market) deliveriesDump() map[string][]string {
	m.t.Helper()
	all := m.dump()
	return map[string][]string{"bids": all["bids"], "bid_events": all["bid_events"]}
}

// TestFrozenPlacing freezes a pass in the middle of a placing until others have finished it. What
// it does then must change nothing.
func TestFrozenPlacing(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		reach at
		// late: what keeps it is let go when it is thawed, not when it is frozen.
		late bool
		// posts are the POSTs that the marketplace sees in all.
		posts int
	}{
		{"before arming", atGate, false, 1},
		{"after arming", atArm, false, 1},
		{"before storing", atCall(sandbox.Place, sandbox.Before), true, 2},
		{"stored before others look", atCall(sandbox.Place, sandbox.Before), false, 1},
		{"after storing", atCall(sandbox.Place, sandbox.After), true, 1},
		{"with its answer", atCall(sandbox.Place, sandbox.After), false, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := setupMarket(t, hasty(), rated)
			id := m.owing("1")[0]
			zombie, letGo := tt.reach(m, m.call("run").json(), id)
			zombie.freeze()
			if !tt.late {
				letGo()
			}
			m.converge()
			m.wantState(id, "ACTIVE", "")

			before := m.deliveriesDump()
			if tt.late {
				letGo()
			}
			zombie.thaw()
			report := decode[passReport](t, zombie.wait().want(t, 0))
			if report.Deliveries != (deliveries{}) {
				t.Errorf("the thawed pass delivered %+v", report.Deliveries)
			}
			m.awaitHeld(0)
			if diff := cmp.Diff(before, m.deliveriesDump()); diff != "" {
				t.Errorf("the thawed pass changed (-before +after):\n%s", diff)
			}
			m.wantCalls(sandbox.Place, tt.posts)
			m.wantLive(1)
			m.wantAgreement()
		})
	}
}

// TestFrozenPlacingOvertaken thaws a pass while another pod is at the delivery that it had leased.
func TestFrozenPlacingOvertaken(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		reach at
		// other is where the other pod is.
		other sandbox.Op
	}{
		{"before arming", atGate, sandbox.Place},
		{"with its answer", atCall(sandbox.Place, sandbox.After), sandbox.Lookup},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := setupMarket(t, hasty(), rated)
			id := m.owing("1")[0]
			zombie, letGo := tt.reach(m, m.call("run").json(), id)
			zombie.freeze()
			letGo()
			m.await("the lease has run out", "EXISTS (SELECT FROM bids WHERE lease_expires_at < clock_timestamp())")
			patiently := m.fixture.call("run").with(m.configure(patient())...)
			other, letGoOther := atCall(tt.other, sandbox.Before)(m, patiently, id)

			before := m.deliveriesDump()
			zombie.thaw()
			report := decode[passReport](t, zombie.wait().want(t, 0))
			if report.Deliveries != (deliveries{}) {
				t.Errorf("the thawed pass delivered %+v", report.Deliveries)
			}
			if diff := cmp.Diff(before, m.deliveriesDump()); diff != "" {
				t.Errorf("the thawed pass changed (-before +after):\n%s", diff)
			}
			letGoOther()
			other.wait().want(t, 0)
			m.wantState(id, "ACTIVE", "")
			m.wantCalls(sandbox.Place, 1)
			m.wantAgreement()
		})
	}
}

// TestFrozenWithdrawing does so with a withdrawal; the posting is bid on again before the thaw.
func TestFrozenWithdrawing(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		reach at
		late  bool
	}{
		{"before the look-up", atGate, false},
		{"in the look-up", atCall(sandbox.Lookup, sandbox.After), true},
		{"before retracting", atCall(sandbox.Withdraw, sandbox.Before), true},
		{"after retracting", atCall(sandbox.Withdraw, sandbox.After), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := setupMarket(t, hasty(), rated)
			m.env = append(m.env, "BIDDER_REBID_WINDOW=1ms")
			id := m.placed("1")[0]
			zombie, letGo := tt.reach(m, m.call("withdraw", id, "--reason", "a mistake").json(), id)
			zombie.freeze()
			if !tt.late {
				letGo()
			}
			m.converge()
			m.wantState(id, "WITHDRAWN", "")
			m.bidder("bid", "upwork", "1").want(t, 0)
			m.converge()

			before := m.deliveriesDump()
			if tt.late {
				letGo()
			}
			zombie.thaw()
			// It reports how the bid stands, whoever has brought that about.
			if report := decode[withdrawReport](t, zombie.wait().want(t, 0)); !report.Done {
				t.Errorf("the thawed withdrawal reports %+v", report)
			}
			m.awaitHeld(0)
			if diff := cmp.Diff(before, m.deliveriesDump()); diff != "" {
				t.Errorf("the thawed withdrawal changed (-before +after):\n%s", diff)
			}
			m.wantLive(1)
			m.wantAgreement()
		})
	}
}
