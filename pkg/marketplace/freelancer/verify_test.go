package freelancer_test

import (
	"cmp"
	"context"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/arbitrageai/bidder/pkg/config"
	"github.com/arbitrageai/bidder/pkg/marketplace"
	"github.com/arbitrageai/bidder/pkg/marketplace/freelancer"
	"github.com/arbitrageai/bidder/pkg/marketplace/sandbox"
)

const verifiedProject = 39812345

// verification is a sandbox, a client of it, and what was seen there.
type verification struct {
	freelancer.Verification

	t      *testing.T
	server *sandbox.Server
	client *freelancer.Client
	seen   map[string]freelancer.Observation
}

func newVerification(t *testing.T, rules sandbox.FreelancerRules, encoding string) *verification {
	t.Helper()
	server := sandbox.New(sandbox.Options{Freelancer: rules})
	web := httptest.NewServer(server)
	t.Cleanup(func() { server.Close(); web.Close() })
	client, err := freelancer.New(config.Marketplace{
		Handler: config.HandlerFreelancer, BaseURL: web.URL + sandbox.FreelancerAPI, AllowPrivateNetworks: true, Timeout: 10 * time.Second,
		Freelancer: config.Freelancer{RetractEncoding: cmp.Or(encoding, config.RetractByForm), MilestonePercentage: 50, PeriodDays: 7},
	}, freelancer.NewFixed(config.NewSecret(sandbox.FreelancerToken), "TOKEN"), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	v := &verification{t: t, server: server, client: client, seen: map[string]freelancer.Observation{}}
	v.Verification = freelancer.Verification{
		Project: verifiedProject, Patience: time.Minute,
		Pass:   context.Cause,
		Report: func(o freelancer.Observation) { v.seen[o.Question] = o },
	}
	return v
}

func (v *verification) run(ctx context.Context) error { return v.client.Verify(ctx, v.Verification) }

func (v *verification) wantNothingLeft() {
	v.t.Helper()
	for _, b := range v.server.Bids() {
		if b.Status != marketplace.Withdrawn {
			v.t.Errorf("a bid is left: %+v", b)
		}
	}
}

// wantSeen checks what is said of questions that begin with some words.
func (v *verification) wantSeen(wants map[string][2]string) {
	v.t.Helper()
	if len(v.seen) != 10 {
		v.t.Errorf("%d questions were answered, want 10: %+v", len(v.seen), v.seen)
	}
	for begin, want := range wants {
		found := false
		for question, o := range v.seen {
			if !strings.Contains(question, begin) {
				continue
			}
			found = true
			if string(o.Result) != want[0] || !strings.Contains(o.Saw+" "+o.Configure, want[1]) {
				v.t.Errorf("got %+v, want %s with %q", o, want[0], want[1])
			}
		}
		if !found {
			v.t.Errorf("no question with %q", begin)
		}
	}
}

func TestVerify(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		rules    sandbox.FreelancerRules
		encoding string
		faults   []sandbox.Fault
		want     map[string][2]string
	}{
		"as documented": {want: map[string][2]string{
			"encodings": {"settled", "retract_encoding: form"}, "second retraction": {"settled", "HTTP 400"}, "new id": {"settled", "a new one"},
			"second bid": {"settled", "HTTP 409, DUPLICATE_BID"}, "listed": {"settled", "at most"}, "stable order": {"settled", "yes"},
			"after an award": {"not_seen", ""}, "pending": {"not_seen", ""}, "month": {"not_seen", ""}, "429": {"not_seen", ""},
		}},
		"JSON, twice, same id": {
			rules: sandbox.FreelancerRules{RetractEncoding: "json", RetractTwice: "ok", Rebid: "same_id"},
			want: map[string][2]string{
				"encodings": {"settled", "retract_encoding: json"}, "second retraction": {"settled", "HTTP 200, success"},
				"new id": {"settled", "lives again"}, "stable order": {"not_seen", "too few"},
			},
		},
		"query first, with success": {rules: sandbox.FreelancerRules{RetractEncoding: "query"}, encoding: "query", want: map[string][2]string{"encodings": {"settled", "retract_encoding: query"}}},
		"query last":                {rules: sandbox.FreelancerRules{RetractEncoding: "query", RetractTwice: "ok"}, want: map[string][2]string{"encodings": {"settled", "form: HTTP 405"}}},
		"any":                       {rules: sandbox.FreelancerRules{RetractEncoding: "any"}, want: map[string][2]string{"encodings": {"settled", "(understood)"}}},
		"errors with 200":           {rules: sandbox.FreelancerRules{ErrorIn200: true, NestedErrors: true}, want: map[string][2]string{"second bid": {"settled", "HTTP 200, DUPLICATE_BID"}}},
		"old answers, bids of all":  {rules: sandbox.FreelancerRules{MinimalPlace: true, IgnoreBidderFilter: true}},
		"two bids on one project":   {rules: sandbox.FreelancerRules{Duplicates: true}, want: map[string][2]string{"second bid": {"settled", "do not bid here"}}},
		"late lists": {
			faults: []sandbox.Fault{{Do: sandbox.Lag, MS: 1500, Count: 1}}, want: map[string][2]string{"listed": {"settled", "at most"}},
		},
		"refused for the rate": {
			faults: []sandbox.Fault{{Do: sandbox.Answer, Op: sandbox.Place, Status: 429, RetryAfter: 1, Count: 1}},
			want:   map[string][2]string{"429": {"settled", "yes: 1s"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := newVerification(t, tt.rules, tt.encoding)
			for _, fault := range tt.faults {
				if _, err := v.server.AddFault(fault); err != nil {
					t.Fatal(err)
				}
			}
			if err := v.run(t.Context()); err != nil {
				t.Error(err)
			}
			v.wantSeen(tt.want)
			v.wantNothingLeft()
		})
	}
}

// TestVerifyAward: a person awards the bid when asked, and is told that it stays.
func TestVerifyAward(t *testing.T) {
	t.Parallel()
	for status, pending := range map[marketplace.Status]string{marketplace.Accepted: "not_seen", marketplace.AwardPending: "settled"} {
		v := newVerification(t, sandbox.FreelancerRules{}, "")
		awarded := ""
		v.Award = func(_ context.Context, bid string) (bool, error) {
			awarded = bid
			return true, v.server.SetStatus(bid, status)
		}
		err := v.run(t.Context())
		if !errors.Is(err, freelancer.ErrLeft) || !strings.Contains(err.Error(), awarded) || !strings.Contains(err.Error(), "awarded") {
			t.Errorf("got %v", err)
		}
		v.wantSeen(map[string][2]string{"after an award": {"settled", "HTTP 400"}, "pending": {pending, "award_status"}})
	}
	meanwhile := newVerification(t, sandbox.FreelancerRules{AwardBeforeRetract: true}, "")
	if err := meanwhile.run(t.Context()); !errors.Is(err, freelancer.ErrLeft) {
		t.Errorf("got %v", err)
	}
	if o := meanwhile.seen["Which encodings does a retraction take?"]; o.Result != freelancer.NotSeen || !strings.Contains(o.Saw, "awarded") {
		t.Errorf("got %+v", o)
	}

	v := newVerification(t, sandbox.FreelancerRules{}, "")
	v.Award = func(context.Context, string) (bool, error) { return false, nil }
	if err := v.run(t.Context()); err != nil {
		t.Error(err)
	}
	v.wantSeen(map[string][2]string{"after an award": {"not_seen", "not awarded"}})
	v.wantNothingLeft()
}

// TestVerifyRefuses: where nothing can be verified, nothing is placed.
func TestVerifyRefuses(t *testing.T) {
	t.Parallel()
	for name, arrange := range map[string]func(v *verification) error{
		"an unknown project": func(v *verification) error { v.Project = 1; return nil },
		"a closed project":   func(v *verification) error { return v.server.SetProjectStatus(verifiedProject, "closed") },
		"a bid of ours": func(v *verification) error {
			_, err := v.server.PlaceByHand(sandbox.HandPlacedBid{ProjectID: verifiedProject, Amount: 300, Period: 5})
			return err
		},
	} {
		v := newVerification(t, sandbox.FreelancerRules{}, "")
		if err := arrange(v); err != nil {
			t.Fatal(err)
		}
		before := len(v.server.Bids())
		if err := v.run(t.Context()); !errors.Is(err, freelancer.ErrUnfit) {
			t.Errorf("%s: got %v", name, err)
		}
		if got := len(v.server.Bids()); got != before {
			t.Errorf("%s: a bid was placed", name)
		}
	}
	client, err := freelancer.New(config.Marketplace{Handler: config.HandlerFreelancer, BaseURL: "https://www.freelancer.com/api"}, freelancer.NewFixed(config.NewSecret("token"), "TOKEN"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Verify(t.Context(), freelancer.Verification{Pass: func(context.Context) error { panic("a call") }}); !errors.Is(err, freelancer.ErrProduction) {
		t.Errorf("got %v", err)
	}
}

// TestVerifyCleansUp: whenever it ends, and whatever was answered, no bid is left, or it is named.
func TestVerifyCleansUp(t *testing.T) {
	t.Parallel()
	t.Run("interrupted", func(t *testing.T) {
		t.Parallel()
		calls := 0
		count := newVerification(t, sandbox.FreelancerRules{}, "")
		count.Pass = func(context.Context) error { calls++; return nil }
		if err := count.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		interruption, interrupted := errors.New("interrupted"), 0
		for last := range calls {
			ctx, interrupt := context.WithCancelCause(t.Context())
			passed := 0
			v := newVerification(t, sandbox.FreelancerRules{}, "")
			v.Pass = func(ctx context.Context) error {
				if passed++; passed == last {
					interrupt(interruption)
				}
				return context.Cause(ctx)
			}
			err := v.run(ctx)
			if errors.Is(err, freelancer.ErrLeft) {
				t.Errorf("after %d calls: %v", last, err)
			}
			if errors.Is(err, interruption) {
				interrupted++
			}
			v.wantNothingLeft()
		}
		if interrupted < calls/2 { // the last calls clean up, which goes on
			t.Errorf("%d of %d were interrupted", interrupted, calls)
		}
	})
	t.Run("a lost answer", func(t *testing.T) {
		t.Parallel()
		for _, fault := range []sandbox.Fault{
			{Do: sandbox.Drop, When: sandbox.After}, {Do: sandbox.NoID}, {Do: sandbox.Answer, When: sandbox.After, Status: 500},
		} {
			fault.Op, fault.Count = sandbox.Place, 1
			v := newVerification(t, sandbox.FreelancerRules{}, "")
			if _, err := v.server.AddFault(fault); err != nil {
				t.Fatal(err)
			}
			if err := v.run(t.Context()); err == nil || errors.Is(err, freelancer.ErrLeft) {
				t.Errorf("%s: got %v", fault.Do, err)
			}
			if got := len(v.server.Bids()); got != 1 {
				t.Errorf("%d bids were placed", got)
			}
			v.wantNothingLeft()
		}
	})
	t.Run("no retraction works", func(t *testing.T) {
		t.Parallel()
		v := newVerification(t, sandbox.FreelancerRules{}, "")
		if _, err := v.server.AddFault(sandbox.Fault{Do: sandbox.Answer, Op: sandbox.Withdraw, Status: 200}); err != nil {
			t.Fatal(err)
		}
		err := v.run(t.Context())
		if bids := v.server.Bids(); !errors.Is(err, freelancer.ErrLeft) || len(bids) != 1 || !strings.Contains(err.Error(), bids[0].ExternalID) {
			t.Errorf("got %v, %+v", err, bids)
		}
	})
	t.Run("sent, and not found", func(t *testing.T) {
		t.Parallel()
		v := newVerification(t, sandbox.FreelancerRules{}, "")
		v.Patience = 50 * time.Millisecond
		if _, err := v.server.AddFault(sandbox.Fault{Do: sandbox.Drop, Op: sandbox.Place}); err != nil {
			t.Fatal(err)
		}
		if err := v.run(t.Context()); !errors.Is(err, freelancer.ErrLeft) || !strings.Contains(err.Error(), "39812345") {
			t.Errorf("got %v", err)
		}
	})
}
