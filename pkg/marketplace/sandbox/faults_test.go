package sandbox_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/arbitrageai/bidder/pkg/marketplace"
	"github.com/arbitrageai/bidder/pkg/marketplace/sandbox"
)

func TestPlacementFaults(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		fault  sandbox.Fault
		kind   marketplace.Kind
		code   string
		after  time.Duration
		stored bool
		says   string
	}{
		{name: "store, then 500", fault: sandbox.Fault{Do: sandbox.Answer, When: sandbox.After, Status: 500}, kind: marketplace.Ambiguous, code: "server_error", stored: true, says: "answer after"},
		{name: "500 before storing", fault: sandbox.Fault{Do: sandbox.Answer, Status: 500}, kind: marketplace.Ambiguous, code: "server_error", says: "answer before"},
		{name: "store, then drop", fault: sandbox.Fault{Do: sandbox.Drop, When: sandbox.After}, kind: marketplace.Ambiguous, code: "no_answer", stored: true, says: "drop after"},
		{name: "drop before storing", fault: sandbox.Fault{Do: sandbox.Drop}, kind: marketplace.Ambiguous, code: "no_answer", says: "drop before"},
		{name: "slow", fault: sandbox.Fault{Do: sandbox.Slow, MS: 1}, kind: marketplace.Done, stored: true, says: "slow before"},
		{name: "429", fault: sandbox.Fault{Do: sandbox.Answer, Status: 429, RetryAfter: 7}, kind: marketplace.NotExecuted, code: "rate_limited", after: 7 * time.Second, says: "answer before"},
		{name: "202", fault: sandbox.Fault{Do: sandbox.Answer, When: sandbox.After, Status: 202, RetryAfter: 7}, kind: marketplace.Ambiguous, code: "pending", after: 7 * time.Second, stored: true, says: "answer after"},
		{name: "a code", fault: sandbox.Fault{Do: sandbox.Answer, Status: 409, Code: "in_progress"}, kind: marketplace.Ambiguous, code: "in_progress", says: "answer before"},
		{name: "no id", fault: sandbox.Fault{Do: sandbox.NoID}, kind: marketplace.Ambiguous, code: "unreadable_answer", stored: true, says: "no_id"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, bid := start(t, reliable()), newBid("job-1")
			tt.fault.Count = 1
			s.fault(t, tt.fault)
			result := s.client.Place(t.Context(), bid)
			wantKind(t, result, tt.kind, tt.code)
			if result.After != tt.after || (len(s.Bids()) == 1) != tt.stored {
				t.Errorf("%+v and %d bids, want to wait %v, stored: %v", result, len(s.Bids()), tt.after, tt.stored)
			}
			entry := s.Journal()[0]
			if diff := cmp.Diff([]string{tt.says}, entry.Faults); diff != "" || entry.Stored != tt.stored {
				t.Errorf("journal %+v:\n%s", entry, diff)
			}
			again := s.client.Place(t.Context(), bid) // the fault is used up
			wantID(t, again)
			if finding := s.client.Lookup(t.Context(), bid); finding.ExternalID != again.ExternalID || len(s.Bids()) != 1 {
				t.Errorf("in the end %+v and %d bids, want %s alone", finding, len(s.Bids()), again.ExternalID)
			}
		})
	}
}

func TestWithdrawalFaults(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		fault  sandbox.Fault
		kind   marketplace.Kind
		code   string
		status marketplace.Status
	}{
		{"the answer is lost", sandbox.Fault{Do: sandbox.Drop, When: sandbox.After}, marketplace.Ambiguous, "no_answer", marketplace.Withdrawn},
		{"refused", sandbox.Fault{Do: sandbox.Answer, Status: 409, Code: "already_accepted"}, marketplace.NeedsHuman, "already_accepted", marketplace.Submitted},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, bid := start(t, reliable()), newBid("job-1")
			bid.ExternalID = s.client.Place(t.Context(), bid).ExternalID
			tt.fault.Op = sandbox.Withdraw
			s.fault(t, tt.fault)
			wantKind(t, s.client.Withdraw(t.Context(), bid), tt.kind, tt.code)
			if finding := s.client.Lookup(t.Context(), bid); finding.Status != tt.status {
				t.Errorf("%+v, want %s", finding, tt.status)
			}
		})
	}
}

// Held requests go on when they are released, even if nobody waits for the answer any more.
func TestHold(t *testing.T) {
	t.Parallel()
	for _, when := range []sandbox.When{sandbox.Before, sandbox.After} {
		for _, op := range []sandbox.Op{sandbox.Place, sandbox.Lookup, sandbox.Withdraw} {
			t.Run(string(op)+" "+string(when), func(t *testing.T) {
				t.Parallel()
				s, bid := start(t, reliable()), newBid("job-1")
				if op == sandbox.Withdraw {
					bid.ExternalID = s.client.Place(t.Context(), bid).ExternalID
				}
				fault := s.fault(t, sandbox.Fault{Do: sandbox.Hold, Op: op, When: when, Count: 1})
				ctx, kill := context.WithCancel(t.Context())
				over := make(chan struct{})
				go func() {
					defer close(over)
					switch op {
					case sandbox.Place:
						s.client.Place(ctx, bid)
					case sandbox.Lookup:
						s.client.Lookup(ctx, bid)
					case sandbox.Withdraw:
						s.client.Withdraw(ctx, bid)
					}
				}()
				held, err := s.remote.WaitHeld(t.Context(), 1)
				if err != nil || len(held) != 1 || held[0].Op != op || held[0].BidID != bid.ID.String() || held[0].State != sandbox.Held {
					t.Fatalf("held %+v, %v", held, err)
				}
				if held[0].Stored != (when == sandbox.After && op != sandbox.Lookup) {
					t.Errorf("held %s with stored %v", when, held[0].Stored)
				}
				kill()
				<-over
				if err := s.remote.Release(t.Context(), fault); err != nil {
					t.Fatal(err)
				}
				seq := held[0].Seq
				wait(t, "the held request ends", func() bool { return s.Journal()[seq-1].State == sandbox.Answered })
				if s.Journal()[seq-1].Stored != (op != sandbox.Lookup) {
					t.Errorf("after the release: %+v", s.Journal()[seq-1])
				}
			})
		}
	}
}

func TestHoldHoldsAgainUntilReset(t *testing.T) {
	t.Parallel()
	s := start(t, reliable())
	s.fault(t, sandbox.Fault{Do: sandbox.Hold})
	for round := range 2 {
		result := make(chan marketplace.Result, 1)
		go func() { result <- s.client.Place(t.Context(), newBid("job-1")) }()
		if err := s.WaitHeld(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		let := []func(context.Context) error{
			func(ctx context.Context) error { return s.remote.Release(ctx, 0) },
			s.remote.Reset,
		}[round]
		if err := let(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantID(t, <-result)
	}
	wantID(t, s.client.Place(t.Context(), newBid("job-2"))) // nothing is left to hold it
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.WaitHeld(ended, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("WaitHeld = %v, want the context's end", err)
	}
}

func TestLag(t *testing.T) {
	t.Parallel()
	s, slow, usual := start(t, reliable()), newBid("job-1"), newBid("job-2")
	s.fault(t, sandbox.Fault{Do: sandbox.Lag, MS: 3_600_000, JobID: "job-1"})
	wantID(t, s.client.Place(t.Context(), slow))
	wantID(t, s.client.Place(t.Context(), usual))
	if finding := s.client.Lookup(t.Context(), slow); !finding.Known || finding.Found || !finding.Definitive {
		t.Errorf("%+v, want a miss of which the sandbox is sure", finding)
	}
	if finding := s.client.Lookup(t.Context(), usual); !finding.Found {
		t.Errorf("%+v, want the bid without lag", finding)
	}
	s.Reset()
	brief := newBid("job-3")
	s.fault(t, sandbox.Fault{Do: sandbox.Lag, MS: 1})
	wantID(t, s.client.Place(t.Context(), brief))
	wait(t, "the bid shows up", func() bool { return s.client.Lookup(t.Context(), brief).Found })
}

func TestSelectors(t *testing.T) {
	t.Parallel()
	bid := newBid("job-1")
	tests := []struct {
		name  string
		fault sandbox.Fault
		hit   bool
	}{
		{"everything", sandbox.Fault{}, true},
		{"all of it", sandbox.Fault{Op: sandbox.Withdraw, Marketplace: "upwork", JobID: "job-1", BidID: bid.ID.String()}, true},
		{"another operation", sandbox.Fault{Op: sandbox.Place}, false},
		{"another marketplace", sandbox.Fault{Marketplace: "fiverr"}, false},
		{"another job", sandbox.Fault{JobID: "job-2"}, false},
		{"another bid", sandbox.Fault{BidID: newBid("").ID.String()}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, bid := start(t, reliable()), bid
			bid.ExternalID = s.client.Place(t.Context(), bid).ExternalID
			tt.fault.Do, tt.fault.Status = sandbox.Answer, 500
			s.fault(t, tt.fault)
			if hit := s.client.Withdraw(t.Context(), bid).Status == 500; hit != tt.hit {
				t.Errorf("hit: %v, want %v", hit, tt.hit)
			}
		})
	}
}

// Several faults happen to one request, each once, in the order in which they were added.
func TestFaultsAddUp(t *testing.T) {
	t.Parallel()
	s := start(t, reliable())
	s.fault(t, sandbox.Fault{Do: sandbox.Answer, Status: 500, When: sandbox.After})
	s.fault(t, sandbox.Fault{Do: sandbox.Slow, MS: 1})
	s.fault(t, sandbox.Fault{Do: sandbox.Lag, MS: 1})
	s.fault(t, sandbox.Fault{Do: sandbox.Slow, MS: 1})
	s.fault(t, sandbox.Fault{Do: sandbox.Drop, When: sandbox.After})
	wantKind(t, s.client.Place(t.Context(), newBid("job-1")), marketplace.Ambiguous, "server_error")
	if diff := cmp.Diff([]string{"slow before", "slow before", "lag", "answer after"}, s.Journal()[0].Faults); diff != "" {
		t.Errorf("faults (-want +got):\n%s", diff)
	}
}

// A sandbox that closes does not let anybody wait for a slow answer.
func TestCloseEndsSlowness(t *testing.T) {
	t.Parallel()
	s := start(t, reliable())
	s.fault(t, sandbox.Fault{Do: sandbox.Slow, MS: 3_600_000})
	result := make(chan marketplace.Result, 1)
	go func() { result <- s.client.Place(t.Context(), newBid("job-1")) }()
	wait(t, "the request arrives", func() bool { return len(s.Journal()) == 1 })
	s.Close()
	wantKind(t, <-result, marketplace.Ambiguous, "no_answer")
}

func TestFaultsWithoutSense(t *testing.T) {
	t.Parallel()
	s := start(t, reliable())
	for name, fault := range map[string]sandbox.Fault{
		"nothing to do":        {},
		"unknown":              {Do: "explode"},
		"no status":            {Do: sandbox.Answer},
		"no id of a look-up":   {Do: sandbox.NoID, Op: sandbox.Lookup},
		"lag of a withdrawal":  {Do: sandbox.Lag, Op: sandbox.Withdraw, MS: 1},
		"lag without time":     {Do: sandbox.Lag},
		"slow without time":    {Do: sandbox.Slow},
		"at another time":      {Do: sandbox.Drop, When: "during"},
		"another operation":    {Do: sandbox.Drop, Op: "browse"},
		"a negative count":     {Do: sandbox.Drop, Count: -1},
		"negative retry_after": {Do: sandbox.Answer, Status: 429, RetryAfter: -1},
	} {
		if _, err := s.AddFault(fault); !errors.Is(err, sandbox.ErrFault) {
			t.Errorf("%s: %v, want ErrFault", name, err)
		}
	}
	if _, err := s.remote.AddFault(t.Context(), sandbox.Fault{}); err == nil || !strings.Contains(err.Error(), "400") {
		t.Errorf("over HTTP: %v, want 400", err)
	}
}

func TestAdmin(t *testing.T) {
	t.Parallel()
	s, bid := start(t, reliable()), newBid("job-1")
	id, err := s.remote.AddFault(t.Context(), sandbox.Fault{Do: sandbox.Drop, When: sandbox.After, Op: sandbox.Place, Count: 1})
	if err != nil || id == 0 {
		t.Fatal(id, err)
	}
	s.client.Place(t.Context(), bid)
	if _, list, _ := get(t, s, "/admin/faults"); !strings.Contains(list, `"do":"drop","when":"after","op":"place"`) || !strings.Contains(list, `"hits":1`) {
		t.Errorf("faults %s", list)
	}
	bids, err := s.remote.Bids(t.Context())
	if err != nil || len(bids) != 1 {
		t.Fatalf("bids %+v, %v", bids, err)
	}
	entries, err := s.remote.Journal(t.Context())
	if err != nil || len(entries) != 1 || entries[0].State != sandbox.Dropped || !entries[0].Stored {
		t.Errorf("journal %+v, %v", entries, err)
	}
	if err := s.remote.SetStatus(t.Context(), bids[0].ExternalID, marketplace.Accepted); err != nil {
		t.Error(err)
	}
	if finding := s.client.Lookup(t.Context(), bid); finding.Status != marketplace.Accepted {
		t.Errorf("%+v, want it awarded", finding)
	}
	for query, want := range map[string]bool{
		"": true, "?marketplace=upwork&job_id=job-1&status=accepted": true, "?status=submitted&status=accepted": true,
		"?marketplace=fiverr": false, "?job_id=job-2": false, "?status=submitted": false,
	} {
		if _, list, _ := get(t, s, "/bids"+query); strings.Contains(list, "job-1") != want || !strings.HasPrefix(list, `{"items":[`) {
			t.Errorf("bids%s: %s", query, list)
		}
	}
	if status, _, _ := get(t, s, "/admin/held?count=1"); status != http.StatusRequestTimeout {
		t.Errorf("held without waiting: %d, want a time-out", status)
	}
	short, cancel := context.WithTimeout(t.Context(), time.Minute/2)
	defer cancel()
	if held, err := s.remote.WaitHeld(short, 0); err != nil || len(held) != 0 {
		t.Errorf("held %+v, %v", held, err)
	}
	if status, body, _ := get(t, s, "/healthz"); status != http.StatusOK || body != "ok\n" {
		t.Errorf("healthz: %d %q", status, body)
	}
	for what, err := range map[string]error{
		"award an unknown bid":        s.remote.SetStatus(t.Context(), "unknown", marketplace.Accepted),
		"an unknown status":           s.remote.SetStatus(t.Context(), bids[0].ExternalID, "loved"),
		"release what is no fault":    s.remote.Release(t.Context(), -1),
		"a sandbox that is not there": sandbox.Remote{BaseURL: "http://127.0.0.1:1"}.Reset(t.Context()),
		"no URL":                      sandbox.Remote{BaseURL: ":"}.Reset(t.Context()),
	} {
		if err == nil {
			t.Errorf("%s: no error", what)
		}
	}
	if _, err := (sandbox.Remote{BaseURL: s.url + "/healthz?"}).Bids(t.Context()); err == nil {
		t.Error("what is not JSON was read")
	}
}

// What a page in somebody's browser sends is refused, and so is what nobody knows.
func TestAdminRefuses(t *testing.T) {
	t.Parallel()
	s := start(t, reliable())
	for _, tt := range []struct {
		name, path, body, origin string
		status                   int
	}{
		{"another origin", "/admin/reset", "", "https://evil.example.com", 403},
		{"unknown key", "/admin/faults", `{"do":"drop","wen":"after"}`, "", 400},
		{"no JSON", "/admin/bids/1/status", `accepted`, "", 400},
	} {
		request, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+tt.path, strings.NewReader(tt.body))
		if tt.origin != "" {
			request.Header.Set("Origin", tt.origin)
		}
		response, err := s.remote.Client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != tt.status {
			t.Errorf("%s: %d, want %d", tt.name, response.StatusCode, tt.status)
		}
	}
}

func TestPage(t *testing.T) {
	t.Parallel()
	s, bid := start(t, reliable()), newBid("<script>alert(1)</script>")
	bid.JobURL = "javascript:alert(1)"
	if _, page, _ := get(t, s, "/"); !strings.Contains(page, "No bids yet") {
		t.Errorf("the empty page: %s", page)
	}
	wantID(t, s.client.Place(t.Context(), bid))
	plain := newBid("job-2")
	plain.JobURL = ""
	wantID(t, s.client.Place(t.Context(), plain))
	status, page, header := get(t, s, "/")
	for _, want := range []string{"2 bids, 2 of them live; 2 requests", "480.00 USD", "submitted", "answered 201", "<td>job-2</td>"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if strings.Contains(page, "<script>") || strings.Contains(page, "javascript:") {
		t.Errorf("what marketplaces write is run: %s", page)
	}
	if status != http.StatusOK || !strings.HasPrefix(header.Get("Content-Type"), "text/html") || header.Get("Content-Security-Policy") == "" {
		t.Errorf("%d %v", status, header)
	}
}
