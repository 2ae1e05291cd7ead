package e2e

import (
	"testing"

	"github.com/arbitrageai/bidder/pkg/marketplace/sandbox"
)

// awaitWaiting waits until a statement of the program, by the name of its query, waits for a lock.
func (m *market) awaitWaiting(query string) {
	m.t.Helper()
	m.await(query+" waits", `EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()
		AND wait_event_type = 'Lock' AND query LIKE '%-- name: ' || $1 || ' %')`, query)
}

// terminate ends the sessions whose statement waits for a lock, as a broken network would.
func (m *market) terminate() {
	m.t.Helper()
	m.exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")
	m.await("nobody waits", "NOT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')")
}

// at brings a call to a point, and returns it together with what lets go whatever keeps it there.
type at func(m *market, c call, id string) (p *process, letGo func())

// atTable is the point where a statement needs a table.
func atTable(table, query string) at {
	return func(m *market, c call, _ string) (*process, func()) {
		m.t.Helper()
		tx := m.begin()
		m.execIn(tx, "LOCK TABLE "+table+" IN ACCESS EXCLUSIVE MODE")
		p := c.start(m.t)
		m.awaitWaiting(query)
		return p, func() { m.commit(tx) }
	}
}

// atGate is the point where the bid is leased and nothing was called yet: at the account's rate,
// which the market must have for that.
func atGate(m *market, c call, _ string) (*process, func()) {
	m.t.Helper()
	m.exec("INSERT INTO accounts (marketplace) VALUES ($1) ON CONFLICT DO NOTHING", m.name)
	tx := m.begin()
	m.execIn(tx, "SELECT FROM accounts WHERE marketplace = $1 FOR UPDATE", m.name)
	p := c.start(m.t)
	m.awaitWaiting("TakeSlot")
	return p, func() { m.commit(tx) }
}

// atArm is the point where the statement that arms a POST is at the server.
func atArm(m *market, c call, id string) (*process, func()) {
	m.t.Helper()
	p, letGo := atGate(m, c, id)
	tx := m.begin()
	m.execIn(tx, "SELECT FROM bids WHERE id = $1::text::uuid FOR UPDATE", id)
	letGo()
	m.awaitWaiting("ArmPost")
	return p, func() { m.commit(tx) }
}

// atLease is the point where the statement that leases and arms is at the server, about to keep
// what will be sent.
func atLease(m *market, c call, _ string) (*process, func()) {
	m.t.Helper()
	m.exec("CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock_shared(7, 7); RETURN NEW; END $$")
	m.exec("CREATE TRIGGER hold BEFORE INSERT ON bid_events FOR EACH ROW EXECUTE FUNCTION hold()")
	tx := m.begin()
	m.execIn(tx, "SELECT pg_advisory_xact_lock(7, 7)")
	p := c.start(m.t)
	m.awaitWaiting("LeaseDelivery")
	return p, func() { m.commit(tx) }
}

// atCall is the point where the marketplace has a request, before or after it has done it.
func atCall(op sandbox.Op, when sandbox.When) at {
	return func(m *market, c call, _ string) (*process, func()) {
		m.t.Helper()
		m.fault(sandbox.Fault{Do: sandbox.Hold, When: when, Op: op, Count: 1})
		p := c.start(m.t)
		m.awaitHeld(1)
		return p, func() { m.server.Release(0) }
	}
}

// atRecord is the point where the answer is there and the statement that records it is at the server.
func atRecord(op sandbox.Op, query string) at {
	return func(m *market, c call, id string) (*process, func()) {
		m.t.Helper()
		p, letGo := atCall(op, sandbox.After)(m, c, id)
		tx := m.begin()
		m.execIn(tx, "SELECT FROM bids WHERE id = $1::text::uuid FOR UPDATE", id)
		letGo()
		m.awaitWaiting(query)
		return p, func() { m.commit(tx) }
	}
}

// lost is a point whose statement at the server never gets done.
func lost(reach at) at {
	return func(m *market, c call, id string) (*process, func()) {
		m.t.Helper()
		p, letGo := reach(m, c, id)
		return p, func() { m.terminate(); letGo() }
	}
}

// rated gives a market a rate that is never reached.
const rated = "rate: 1000"

// markets are where pods are killed: one that is told the bid's own key, and one that only
// refuses a second bid on a posting.
var markets = map[string]func(*testing.T) *market{
	"sandbox": func(t *testing.T) *market { t.Helper(); return setupMarket(t, hasty(), rated) },
	"freelancer": func(t *testing.T) *market {
		t.Helper()
		// Lists show everybody's bids, and new ones late.
		m := setupFreelancer(t, hasty(), sandbox.FreelancerRules{IgnoreBidderFilter: true}, rated)
		if _, err := m.server.PlaceByHand(sandbox.HandPlacedBid{ProjectID: 1, BidderID: 73000001, Amount: 90, Period: 3}); err != nil {
			t.Fatal(err)
		}
		m.fault(sandbox.Fault{Do: sandbox.Lag, Op: sandbox.Place, MS: 300})
		return m
	},
}

// TestKillPlacing kills a pass at every step of a placing. What is kept at the marketplace or the
// server goes on at once, or when others have finished.
func TestKillPlacing(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		reach at
		late  bool // can be let go later
	}{
		{"before the lease", atTable("accounts", "DueAccounts"), false},
		{"after the lease", atGate, false},
		{"before arming", lost(atArm), false},
		{"after arming", atArm, false},
		{"before storing", atCall(sandbox.Place, sandbox.Before), true},
		{"after storing", atCall(sandbox.Place, sandbox.After), true},
		{"before the record", lost(atRecord(sandbox.Place, "RecordPlaced")), false},
		{"after the record", atRecord(sandbox.Place, "RecordPlaced"), false},
	}
	for name, setup := range markets {
		for _, tt := range tests {
			for _, late := range []bool{false, true}[:1+btoi(tt.late)] {
				t.Run(name+", "+tt.name+map[bool]string{true: ", late"}[late], func(t *testing.T) {
					t.Parallel()
					setup(t).killPlacing(tt.reach, late, func(*market) {})
				})
			}
		}
	}
}

// killPlacing kills a run where reach says, on its way to place a bid, lets what is held go, before
// others finish or, late, after them, and checks that there is one bid. In between it calls then.
func (m *market) killPlacing(reach at, late bool, then func(m *market)) {
	m.t.Helper()
	id := m.owing("1")[0]
	victim, letGo := reach(m, m.call("run"), id)
	victim.kill()
	if !late {
		letGo()
	}
	then(m)
	m.converge()
	if late {
		letGo()
		m.awaitHeld(0)
		m.wantAgreement()
	}
	m.wantState(id, "ACTIVE", "")
	m.wantLive(1)
}

// TestKillPlacingAtOnce does so where the POST is armed with its lease: at a market without a rate.
func TestKillPlacingAtOnce(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		reach at
		late  bool
	}{
		{"before the lease", lost(atLease), false},
		{"after the lease", atLease, false},
		{"before storing", atCall(sandbox.Place, sandbox.Before), true},
		{"after storing", atCall(sandbox.Place, sandbox.After), true},
		{"before the record", lost(atRecord(sandbox.Place, "RecordPlaced")), false},
		{"after the record", atRecord(sandbox.Place, "RecordPlaced"), false},
	}
	for _, tt := range tests {
		for _, late := range []bool{false, true}[:1+btoi(tt.late)] {
			t.Run(tt.name+map[bool]string{true: ", late"}[late], func(t *testing.T) {
				t.Parallel()
				setupMarket(t, hasty()).killPlacing(tt.reach, late, func(m *market) {
					if tt.name == "after the lease" {
						m.await("the server has leased and armed for who is dead", "EXISTS (SELECT FROM bids WHERE lease_token = 1 AND place_posts = 1)")
					}
				})
			})
		}
	}
}

// TestKillWithdrawing does so with a withdrawal.
func TestKillWithdrawing(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		reach at
		late  bool
	}{
		{"before the lease", lost(atTable("accounts", "LeaseDelivery")), false},
		{"at the lease", atTable("accounts", "LeaseDelivery"), false},
		{"after the lease", atGate, false},
		{"before the look-up", atCall(sandbox.Lookup, sandbox.Before), true},
		{"before retracting", atCall(sandbox.Withdraw, sandbox.Before), true},
		{"after retracting", atCall(sandbox.Withdraw, sandbox.After), true},
		{"before the record", lost(atRecord(sandbox.Withdraw, "RecordEnded")), false},
		{"after the record", atRecord(sandbox.Withdraw, "RecordEnded"), false},
	}
	for name, setup := range markets {
		for _, tt := range tests {
			for _, late := range []bool{false, true}[:1+btoi(tt.late)] {
				t.Run(name+", "+tt.name+map[bool]string{true: ", late"}[late], func(t *testing.T) {
					t.Parallel()
					m := setup(t)
					id := m.placed("1")[0]
					victim, letGo := tt.reach(m, m.call("withdraw", id, "--reason", "a mistake"), id)
					victim.kill()
					if !late {
						letGo()
					}
					m.converge()
					m.wantState(id, "WITHDRAWN", "")
					if late {
						// The posting is bid on again before the late request arrives: it must not take that bid.
						m.env = append(m.env, "BIDDER_REBID_WINDOW=1ms")
						m.bidder("bid", m.name, "1").want(t, 0)
						m.converge()
						letGo()
						m.awaitHeld(0)
						m.wantAgreement()
						m.wantLive(1)
					} else {
						m.wantLive(0)
					}
				})
			}
		}
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}
