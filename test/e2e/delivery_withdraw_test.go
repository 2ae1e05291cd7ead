package e2e

import (
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/arbitrageai/bidder/pkg/marketplace"
	"github.com/arbitrageai/bidder/pkg/marketplace/sandbox"
)

// withdraw asks for a bid to be taken back.
func (m *market) withdraw(id, reason string, code int) withdrawReport {
	m.t.Helper()
	return decode[withdrawReport](m.t, m.bidder("withdraw", id, "--reason", reason, "-o", "json").want(m.t, code))
}

// TestWithdraw: a bid that is there is taken back once, whoever asks how often.
func TestWithdraw(t *testing.T) {
	t.Parallel()
	m := setupMarket(t, patient())
	id := m.placed("1")[0]
	m.untouched(func() { m.bidder("withdraw", id, "--reason", "a mistake", "--dry-run").want(t, 0) })
	m.untouched(func() { m.bidder("withdraw", id, "--reason", " ").wantError(t, 2) })
	m.wantCalls(sandbox.Withdraw, 0)

	for _, reason := range []string{"a mistake", "another reason"} {
		if diff := cmp.Diff(withdrawReport{BidID: id, Status: "WITHDRAWN", Done: true}, m.withdraw(id, reason, 0)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", reason, diff)
		}
	}
	m.wantCalls(sandbox.Withdraw, 1)
	m.wantLive(0)
	m.wantCount(1, "bids WHERE withdrawn_reason = 'a mistake' AND withdrawal_timestamp IS NOT NULL AND withdraw_requested_reason = 'a mistake'")
	m.wantCount(2, "runs WHERE kind = 'withdraw' AND exit_code = 0")
	if got := m.server.Bids()[0].WithdrawReason; got != "a mistake" {
		t.Errorf("the marketplace was told %q", got)
	}
}

// TestWithdrawAgain: what is still owed is not tried by asking again, also when it is due; a pass does that.
func TestWithdrawAgain(t *testing.T) {
	t.Parallel()
	m := setupMarket(t, patient())
	id := m.placed("1")[0]
	m.fault(sandbox.Fault{Do: sandbox.Answer, Op: sandbox.Withdraw, Status: 503, Count: 1})
	first := m.withdraw(id, "a mistake", 3)
	m.exec("UPDATE bids SET next_attempt_at = now()")
	calls := len(m.server.Journal())
	if diff := cmp.Diff(first, m.withdraw(id, "another reason", 3)); diff != "" || first.Done || len(m.server.Journal()) != calls {
		t.Errorf("%d calls before, %d after (-first +second):\n%s", calls, len(m.server.Journal()), diff)
	}
	m.pass(0)
	m.wantState(id, "WITHDRAWN", "")
	m.wantCount(1, "bids WHERE withdrawn_reason = 'a mistake'")
	m.wantCalls(sandbox.Withdraw, 2)
}

// TestWithdrawUnsent: what was never sent is taken back without a call, and never sent.
func TestWithdrawUnsent(t *testing.T) {
	t.Parallel()
	m := setupMarket(t, patient())
	id := m.owing("1")[0]
	if report := m.withdraw(id, "a mistake", 0); !report.Done || report.Status != "WITHDRAWN" {
		t.Errorf("the report is %+v", report)
	}
	m.pass(0)
	if got := m.server.Journal(); len(got) != 0 {
		t.Errorf("the marketplace saw %+v", got)
	}
}

// TestWithdrawHandedOver: nobody but a person knows whether it was placed by hand.
func TestWithdrawHandedOver(t *testing.T) {
	t.Parallel()
	f := setup(t)
	id := f.claim("1")[0]
	f.bidder("run").want(t, 0) // to a person
	f.wantCount(1, "bids WHERE delivery_state = 'review'")
	if told := f.bidder("withdraw", id, "--reason", "a mistake").want(t, 0).stderr; !strings.Contains(told, "by hand") {
		t.Errorf("it says: %s", told)
	}
	f.wantCount(1, "bids WHERE status = 'WITHDRAWN'")
}

// TestWithdrawOwed: what does not succeed at once is finished by a later pass.
func TestWithdrawOwed(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		fault sandbox.Fault
		// calls to withdraw, with those of the pass that finishes it
		calls int
	}{
		{"refused before", sandbox.Fault{Do: sandbox.Answer, Status: 500}, 2},
		{"broken after", sandbox.Fault{Do: sandbox.Answer, When: sandbox.After, Status: 500}, 1},
		{"no answer after", sandbox.Fault{Do: sandbox.Drop, When: sandbox.After}, 1},
		{"not taken now", sandbox.Fault{Do: sandbox.Answer, Status: 429}, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := setupMarket(t, patient())
			id := m.placed("1")[0]
			tt.fault.Op, tt.fault.Count = sandbox.Withdraw, 1
			m.fault(tt.fault)
			report := m.withdraw(id, "a mistake", 3)
			if report.Done || report.Status != "ACTIVE" || orNone(report.DeliveryState) != "pending" {
				t.Errorf("the report is %+v", report)
			}
			m.converge()
			m.wantState(id, "WITHDRAWN", "")
			m.wantCalls(sandbox.Withdraw, tt.calls)
			m.wantCount(1, "bids WHERE withdrawn_reason = 'a mistake'")
		})
	}
}

// TestWithdrawInterrupted: a signal ends the call under way well, begins no other, and the report says
// how far it came.
func TestWithdrawInterrupted(t *testing.T) {
	t.Parallel()
	owed := withdrawReport{Status: "ACTIVE", DeliveryState: new("pending")}
	tests := []struct {
		name string
		call int // under way
		want withdrawReport
		code int
	}{
		{"looking before", 1, owed, 143},
		{"withdrawing", 2, owed, 143},
		{"looking after", 3, withdrawReport{Status: "WITHDRAWN", Done: true}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := setupMarket(t, patient())
			id := m.placed("1")[0]
			before := len(m.server.Journal())
			m.fault(sandbox.Fault{Do: sandbox.Hold})
			p := m.call("withdraw", id, "--reason", "a mistake").json().start(t)
			for call := 1; call <= tt.call; call++ {
				m.server.Release(0) // the one before
				eventually(t, "the call is under way", func() bool {
					journal := m.server.Journal()[before:]
					return len(journal) == call && journal[call-1].State == sandbox.Held
				})
			}
			p.signal(syscall.SIGTERM)
			eventually(t, "the signal is taken", func() bool { return !p.pending() })
			m.server.Reset()
			tt.want.BidID = id
			if diff := cmp.Diff(tt.want, decode[withdrawReport](t, p.wait().want(t, tt.code))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			m.wantCount(1, "runs WHERE kind = 'withdraw' AND exit_code = $1", tt.code)
			m.converge()
			m.wantState(id, "WITHDRAWN", "")
			m.wantCalls(sandbox.Withdraw, 1)
		})
	}
}

// TestWithdrawWhatIsNot: there is nothing to take back.
func TestWithdrawWhatIsNot(t *testing.T) {
	t.Parallel()
	m := setupMarket(t, patient())
	id := m.placed("1")[0]
	m.bidder("bids", "mark", id, "lost", "--note", "they told us").want(t, 0)
	for _, more := range [][]string{{}, {"--dry-run"}} {
		refused := m.bidder(append([]string{"withdraw", id, "--reason", "a mistake", "-o", "json"}, more...)...).want(t, 3)
		if diff := cmp.Diff(withdrawReport{BidID: id, Status: "LOST"}, decode[withdrawReport](t, refused)); diff != "" || !strings.Contains(refused.stderr, "only a live bid") {
			t.Errorf("%v says %s(-want +got):\n%s", more, refused.stderr, diff)
		}
	}
	const unknown = "0192f3a4-7c1e-7b32-9d55-1f0e6a2b8c41"
	m.bidder("withdraw", unknown, "--reason", "a mistake").wantError(t, 3, unknown)
	m.bidder("withdraw", "1", "--reason", "a mistake").wantError(t, 2)
	m.bidder("withdraw", id).wantError(t, 2, "reason")
	m.wantCalls(sandbox.Withdraw, 0)
}

// TestWithdrawEndedThere: the marketplace has decided before us.
func TestWithdrawEndedThere(t *testing.T) {
	t.Parallel()
	tests := []struct {
		there marketplace.Status
		state string
		code  int
	}{
		{marketplace.Withdrawn, "WITHDRAWN", 0},
		{marketplace.Rejected, "REJECTED", 3},
		{marketplace.Accepted, "ACTIVE withdraw review", 3},
	}
	for _, tt := range tests {
		t.Run(string(tt.there), func(t *testing.T) {
			t.Parallel()
			m := setupMarket(t, patient())
			id := m.placed("1")[0]
			if err := m.server.SetStatus(m.live()[0], tt.there); err != nil {
				t.Fatal(err)
			}
			m.withdraw(id, "a mistake", tt.code)
			m.wantCount(1, "bids WHERE concat_ws(' ', status, delivery_kind, delivery_state) = $1", tt.state)
			m.wantCalls(sandbox.Withdraw, 0)
		})
	}
}

// TestWithdrawRace: ten at once on one bid retract it once.
func TestWithdrawRace(t *testing.T) {
	t.Parallel()
	m := setupMarket(t, patient())
	id := m.placed("1")[0]
	m.fault(sandbox.Fault{Do: sandbox.Hold, Op: sandbox.Withdraw})
	running := make([]*process, 10)
	for i := range running {
		running[i] = m.call("withdraw", id, "--reason", "a mistake").json().start(t)
	}
	m.awaitHeld(1)
	// The others must not wait for the one that is at it.
	eventually(t, "the others have ended", func() bool {
		return count(running, func(p *process) bool {
			select {
			case <-p.ended:
				return true
			default:
				return false
			}
		}) == len(running)-1
	})
	m.server.Reset()
	results := make([]result, len(running))
	for i, p := range running {
		results[i] = p.wait()
		if report := decode[withdrawReport](t, results[i]); report.Done != (results[i].code == 0) {
			t.Errorf("exit code %d with %+v", results[i].code, report)
		}
	}
	if diff := cmp.Diff([]int{0, 3, 3, 3, 3, 3, 3, 3, 3, 3}, codes(results)); diff != "" {
		t.Errorf("exit codes (-want +got):\n%s", diff)
	}
	m.wantCalls(sandbox.Withdraw, 1)
	m.wantState(id, "WITHDRAWN", "")
	m.wantCount(1, "bid_events WHERE detail ->> 'result' = 'requested'")
	m.wantAgreement()
	m.wantNoDeadlocks()
}

// TestWithdrawRaceUnheld: the same without anything that makes them meet.
func TestWithdrawRaceUnheld(t *testing.T) {
	t.Parallel()
	m := setupMarket(t, patient())
	id := m.placed("1")[0]
	calls := make([]call, 10)
	for i := range calls {
		calls[i] = m.call("withdraw", id, "--reason", "a mistake")
	}
	for _, r := range atOnce(t, calls...) {
		if r.code != 0 && r.code != 3 {
			t.Errorf("exit code %d: %s", r.code, r.stderr)
		}
	}
	m.wantCalls(sandbox.Withdraw, 1)
	m.converge()
	m.wantState(id, "WITHDRAWN", "")
	m.wantCalls(sandbox.Withdraw, 1)
}

// TestWithdrawWhileSending: a withdrawal that meets the sending ends with nothing at the marketplace.
func TestWithdrawWhileSending(t *testing.T) {
	t.Parallel()
	for _, when := range []sandbox.When{sandbox.Before, sandbox.After} {
		t.Run(string(when), func(t *testing.T) {
			t.Parallel()
			m := setupMarket(t, patient())
			id := m.owing("1")[0]
			m.fault(sandbox.Fault{Do: sandbox.Hold, When: when, Op: sandbox.Place})
			sender := m.start("run")
			m.awaitHeld(1)
			if report := m.withdraw(id, "a mistake", 3); orNone(report.DeliveryState) != "leased" {
				t.Errorf("the report is %+v", report)
			}
			m.server.Reset()
			sender.wait().want(t, 0)
			m.converge()
			m.wantState(id, "WITHDRAWN", "")
			m.wantLive(0)
			m.wantCalls(sandbox.Place, 1)
		})
	}
}
