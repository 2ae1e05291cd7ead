package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/arbitrageai/bidder/pkg/marketplace"
	"github.com/arbitrageai/bidder/pkg/marketplace/sandbox"
)

// TestFreelancer: a bid gets to Freelancer.com once and as it was claimed, and back, whatever
// the API makes of a retraction and of its errors.
func TestFreelancer(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		rules sandbox.FreelancerRules
		more  []string
	}{
		{name: "as documented"},
		{name: "retracted by JSON", rules: sandbox.FreelancerRules{RetractEncoding: sandbox.RetractJSON}},
		{name: "retracted by query", rules: sandbox.FreelancerRules{RetractEncoding: sandbox.RetractQuery}},
		{name: "another encoding first", rules: sandbox.FreelancerRules{RetractEncoding: sandbox.RetractForm}, more: []string{"retract_encoding: json"}},
		{name: "old answers", rules: sandbox.FreelancerRules{MinimalPlace: true, RetractTwice: sandbox.RetractTwiceOK}},
		{name: "errors in 200", rules: sandbox.FreelancerRules{ErrorIn200: true, RetractEncoding: sandbox.RetractJSON}},
		{name: "new errors, ignored filters", rules: sandbox.FreelancerRules{NestedErrors: true, IgnoreBidderFilter: true}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := setupFreelancer(t, patient(), tt.rules, tt.more...)
			if _, err := m.server.PlaceByHand(sandbox.HandPlacedBid{ProjectID: 7, BidderID: 73000001, Amount: 90, Period: 3}); err != nil {
				t.Fatal(err)
			}
			m.ingest(m.line("7", `,"bid":{"amount":"64.05","period_days":9,"proposal":"I can."}`))
			if report := m.pass(0); report.Deliveries.Place.Done != 1 {
				t.Errorf("the pass delivered %+v", report.Deliveries)
			}
			m.wantAgreement()
			m.wantLive(1)
			m.wantCalls(sandbox.Place, 1)
			m.wantCount(1, "bids WHERE NOT is_foreign AND place_posts = 1 AND submitted_at IS NOT NULL")
			for _, b := range m.server.Bids() {
				if !isStrangers(b) && (b.Amount != "64.05" || b.PeriodDays != 9 || b.Proposal != "I can." || b.JobID != "7") {
					t.Errorf("the marketplace has %+v", b)
				}
			}
			id := m.ids("7")[0]
			m.withdraw(id, "a mistake", 0)
			m.withdraw(id, "again", 0)
			m.wantState(id, "WITHDRAWN", "")
			m.wantLive(0)
		})
	}
}

// TestFreelancerLost: what came of a POST without an answer is found out by its posting.
func TestFreelancerLost(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		faults []sandbox.Fault
		posts  int
		want   string
	}{
		{"stored, answered 500", []sandbox.Fault{{Do: sandbox.Answer, When: sandbox.After, Status: 500}}, 1, ""},
		{"stored, gateway page", []sandbox.Fault{{Do: sandbox.Answer, When: sandbox.After, Status: 502}}, 1, ""},
		{"stored, answer lost", []sandbox.Fault{{Do: sandbox.Drop, When: sandbox.After}}, 1, ""},
		{"stored, no id", []sandbox.Fault{{Do: sandbox.NoID}}, 1, ""},
		{"not stored", []sandbox.Fault{{Do: sandbox.Drop}}, 2, ""},
		// The second POST is refused, which proves that there is a bid, but not that it is ours.
		{"stored, not listed by settle", []sandbox.Fault{{Do: sandbox.Lag, MS: 600_000}, {Do: sandbox.Drop, When: sandbox.After}}, 2, " place review"},
		{"not now", []sandbox.Fault{{Do: sandbox.Answer, Status: 429}}, 1, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := setupFreelancer(t, patient(), sandbox.FreelancerRules{})
			for _, f := range tt.faults {
				f.Op, f.Count = sandbox.Place, 1
				m.fault(f)
			}
			id := m.owing("1")[0]
			m.converge()
			m.wantState(id, "ACTIVE", tt.want)
			m.wantLive(1)
			m.wantCount(1, "bids WHERE place_posts = $1 AND NOT is_foreign", tt.posts)
		})
	}
}

// TestFreelancerByHand: a bid of ours that is there already is adopted and flagged, never bid
// over; one of somebody else is none of ours.
func TestFreelancerByHand(t *testing.T) {
	t.Parallel()
	m := setupFreelancer(t, patient(), sandbox.FreelancerRules{IgnoreBidderFilter: true})
	ours, err := m.server.PlaceByHand(sandbox.HandPlacedBid{ProjectID: 1, Amount: 77, Period: 3})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.server.PlaceByHand(sandbox.HandPlacedBid{ProjectID: 2, BidderID: 73000001, Amount: 77, Period: 3}); err != nil {
		t.Fatal(err)
	}
	ids := m.owing("1", "2")
	m.pass(0)
	m.wantAgreement()
	m.wantCount(1, "bids WHERE id = $1::text::uuid AND is_foreign AND place_posts = 0 AND external_bid_id = $2", ids[0], ours)
	m.wantCount(1, "bids WHERE id = $1::text::uuid AND NOT is_foreign AND place_posts = 1", ids[1])
	m.wantCalls(sandbox.Place, 1)
	m.wantLive(2)
	// It can be taken back like any other.
	m.withdraw(ids[0], "not that one", 0)
	m.wantLive(1)
}

// TestFreelancerAnotherUser: to another user the site does not show what may have been sent, and so nothing is looked up
// or sent as that one while bids of the first are live; and anything afterwards.
func TestFreelancerAnotherUser(t *testing.T) {
	t.Parallel()
	m := setupFreelancer(t, patient(), sandbox.FreelancerRules{})
	if err := m.server.AddFreelancerUser(sandbox.FreelancerUser{ID: 73000001, Username: "other", Token: "another token"}); err != nil {
		t.Fatal(err)
	}
	as := func(token string) { m.env = append(m.env, "FREELANCER_TOKEN="+token) }
	m.fault(sandbox.Fault{Do: sandbox.Drop, When: sandbox.After, Op: sandbox.Place, Count: 1})
	id := m.owing("1")[0]
	m.pass(0) // nobody knows what came of it
	m.sentAgo(id, time.Hour)
	m.exec("UPDATE bids SET next_attempt_at = now()")

	as("another token")
	m.pass(3)
	m.wantState(id, "ACTIVE", " place review")
	m.wantCount(1, "bids WHERE review_reason = 'auth_needed' AND last_error LIKE '%user 84120077%user 73000001 (other)%'")
	m.wantCount(1, "accounts WHERE paused_at IS NOT NULL AND user_id = '84120077'")
	m.bidder("freelancer", "status").want(t, 3)
	m.wantCalls(sandbox.Place, 1)

	as(sandbox.FreelancerToken)
	m.bidder("freelancer", "status").want(t, 0)
	m.bidder("resume", m.name).want(t, 0)
	m.bidder("review", "retry", id).want(t, 0)
	m.pass(0)
	m.wantState(id, "ACTIVE", "")
	m.withdraw(id, "a mistake", 0)

	as("another token")
	m.placed("2")
	m.wantCount(1, "accounts WHERE user_id = '73000001'")
	m.wantCalls(sandbox.Place, 2)
}

// TestFreelancerRebid: a posting whose bid was taken back may be bid on again, by hand. Where
// the marketplace revives the old bid, two rows would share it: a person looks.
func TestFreelancerRebid(t *testing.T) {
	t.Parallel()
	for rebid, want := range map[string]string{sandbox.RebidNewID: "ACTIVE", sandbox.RebidSameID: "ACTIVE place review"} {
		t.Run(rebid, func(t *testing.T) {
			t.Parallel()
			m := setupFreelancer(t, patient(), sandbox.FreelancerRules{Rebid: rebid})
			m.withdraw(m.placed("1")[0], "too dear", 0)
			m.env = append(m.env, "BIDDER_REBID_WINDOW=1ms")
			m.bidder("bid", m.name, "1").want(t, 0)
			m.converge()
			m.wantCount(1, "bids WHERE status = 'WITHDRAWN'")
			m.wantCount(1, "bids WHERE concat_ws(' ', status, delivery_kind, delivery_state) = $1 AND coalesce(review_reason, 'external_id_clash') = 'external_id_clash'", want)
			m.wantLive(1)
			if rebid == sandbox.RebidSameID { // and says which one it is
				id := m.ids("1")[0]
				m.bidder("review", "resolve", id, "--as", "placed:"+m.live()[0], "--by", "ops").want(t, 0)
				m.wantState(id, "ACTIVE", "")
				m.wantAgreement()
			}
		})
	}
}

// TestFreelancerAwarded: what the client has awarded, be it in the last moment, is not taken back.
func TestFreelancerAwarded(t *testing.T) {
	t.Parallel()
	for name, award := range map[string]func(m *market, externalID string) error{
		"before": func(m *market, externalID string) error { return m.server.SetStatus(externalID, marketplace.Accepted) },
		"waiting": func(m *market, externalID string) error {
			return m.server.SetStatus(externalID, marketplace.AwardPending)
		},
		"meanwhile": func(m *market, _ string) error {
			return m.server.SetFreelancerRules(sandbox.FreelancerRules{AnyProject: true, AwardBeforeRetract: true})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := setupFreelancer(t, patient(), sandbox.FreelancerRules{})
			id := m.placed("1")[0]
			if err := award(m, m.live()[0]); err != nil {
				t.Fatal(err)
			}
			m.bidder("withdraw", id, "--reason", "a mistake").want(t, 3)
			m.converge()
			m.wantState(id, "ACTIVE", " withdraw review")
			m.wantCount(1, "bids WHERE review_reason = 'awarded'")
			for _, b := range m.server.Bids() {
				if b.Status == marketplace.Withdrawn {
					t.Errorf("it was taken back: %+v", b)
				}
			}
		})
	}
}

// TestFreelancerClosed: of a bid that nobody has chosen or turned down, on a project that is over, its end is not known at
// once: it is lost when another has had the project for long, and where nobody says so a person is asked.
func TestFreelancerClosed(t *testing.T) {
	t.Parallel()
	m := setupFreelancer(t, patient(), sandbox.FreelancerRules{}, "ask_after: 1d")
	passedOver, frozen, open := m.placed("1")[0], m.placed("2")[0], m.placed("3")[0]
	chosen, unwanted := m.placed("4")[0], m.placed("5")[0]
	for project, status := range map[int64]string{1: "closed", 2: "frozen", 4: "closed", 5: "closed"} {
		if err := m.server.SetProjectStatus(project, status); err != nil {
			t.Fatal(err)
		}
	}
	m.checkedAgo("2 hours")
	m.pass(0)
	m.wantCount(5, "bids WHERE status = 'ACTIVE' AND delivery_kind IS NULL")
	m.wantCount(1, "bids WHERE seen_at > checked_at - interval '1 hour' AND job_id = '3'")

	// It is taken back as any other is, and clients choose several.
	m.bidder("withdraw", unwanted, "--reason", "a mistake").want(t, 0)
	if err := m.server.SetStatus(read[string](m.fixture, "SELECT external_bid_id FROM bids WHERE job_id = '4'"), marketplace.Accepted); err != nil {
		t.Fatal(err)
	}
	m.checkedAgo("2 hours")
	m.pass(0)
	m.wantState(unwanted, "WITHDRAWN", "")
	m.wantState(chosen, "WON", "")

	m.checkedAgo("2 hours")
	m.exec("UPDATE bids SET seen_at = now() - interval '25 hours', first_post_at = now() - interval '25 hours', last_post_at = now() - interval '25 hours' WHERE status = 'ACTIVE'")
	m.pass(3)
	m.wantState(passedOver, "LOST", "")
	m.wantState(frozen, "ACTIVE", " place review")
	m.wantState(open, "ACTIVE", "")
}

// TestFreelancerRefusals: what the marketplace refuses for good ends the bid; what it refuses
// the account stops that.
func TestFreelancerRefusals(t *testing.T) {
	t.Parallel()
	tests := []struct {
		code   string
		status int
		want   string
		exit   int
		paused bool
	}{
		{"ProjectExceptionCodes.PROJECT_NOT_ACTIVE", 400, "REJECTED", 0, false},
		{"ProjectExceptionCodes.RESTRICTED_FROM_BIDDING_ON_FEATURED", 403, "REJECTED", 0, false},
		{"ProjectExceptionCodes.BID_LIMIT_EXCEEDED", 400, "ACTIVE place pending", 0, true},
		{"ProjectExceptionCodes.NEVER_SEEN_BEFORE", 400, "ACTIVE place review", 3, false},
		{"RestExceptionCodes.NOT_AUTHENTICATED", 401, "ACTIVE place review", 3, true},
	}
	for _, tt := range tests {
		t.Run(tt.code, func(t *testing.T) {
			t.Parallel()
			m := setupFreelancer(t, patient(), sandbox.FreelancerRules{})
			m.fault(sandbox.Fault{Do: sandbox.Answer, Op: sandbox.Place, Status: tt.status, Code: tt.code})
			id := m.owing("1")[0]
			m.pass(tt.exit)
			m.wantState(id, strings.Split(tt.want, " ")[0], strings.TrimPrefix(tt.want, strings.Split(tt.want, " ")[0]))
			m.wantCount(btoi(tt.paused), "accounts WHERE marketplace = 'freelancer' AND paused_at IS NOT NULL")
			m.wantLive(0)
		})
	}
}

// TestFreelancerProduction: the real site is refused until somebody says where the permission
// is, and then a person still approves each bid.
func TestFreelancerProduction(t *testing.T) {
	t.Parallel()
	f := setup(t)
	configured := func(lines ...string) call {
		lines = append([]string{"marketplaces:", "  freelancer:", "    handler: freelancer", "    token_env: TOKEN", "    base_url: https://www.freelancer.com/api"}, lines...)
		return f.call("run", "--no-delivery").with("TOKEN=t", "BIDDER_CONFIG="+file(t, fmt.Sprintf("%d.yaml", len(lines)), lines...))
	}
	f.ingest(lineOn("freelancer", "1"))
	configured().run(t).wantError(t, 2, "permission_attested")
	configured("    permission_attested: the contract of 2026-10-01", "    approval: none").run(t).wantError(t, 2, "approv")
	f.wantCount(0, "bids")
	configured("    permission_attested: the contract of 2026-10-01").run(t).want(t, 0)
	f.wantCount(1, "bids WHERE delivery_state = 'awaiting_approval'")
}

// TestFreelancerWholeLife: a project is found, bid on, awarded or not, and what is not decided
// is taken back; the statuses here are those there.
func TestFreelancerWholeLife(t *testing.T) {
	t.Parallel()
	m := setupFreelancer(t, patient(), sandbox.FreelancerRules{}, "refresh: 1s")
	found := m.scan(0, "--query", "golang postgres", "--any", "--limit", "5")
	if found.Accepted < 3 {
		t.Fatalf("the scan found %+v", found)
	}
	if report := m.pass(0); report.Outcomes["claimed"] != found.Accepted || report.Deliveries.Place.Done != found.Accepted {
		t.Fatalf("of %d postings the pass made %+v", found.Accepted, report)
	}
	m.wantAgreement()
	there := m.live()
	for i, status := range []marketplace.Status{marketplace.Accepted, marketplace.Rejected} {
		if err := m.server.SetStatus(there[i], status); err != nil {
			t.Fatal(err)
		}
	}
	m.exec("UPDATE bids SET checked_at = now() - interval '1 hour'")
	m.pass(0)
	m.wantCount(1, "bids WHERE external_bid_id = $1 AND status = 'WON'", there[0])
	m.wantCount(1, "bids WHERE external_bid_id = $1 AND status = 'REJECTED'", there[1])
	for _, externalID := range there[2:] {
		m.withdraw(read[string](m.fixture, "SELECT id::text FROM bids WHERE external_bid_id = $1", externalID), "another project", 0)
	}
	m.wantCount(found.Accepted-2, "bids WHERE status = 'WITHDRAWN'")
	m.wantCount(0, "bids WHERE status = 'ACTIVE'")
	m.wantCalls(sandbox.Place, found.Accepted)
}
