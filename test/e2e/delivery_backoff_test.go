package e2e

import (
	"syscall"
	"testing"
	"time"

	"github.com/arbitrageai/bidder/pkg/marketplace/sandbox"
)

// TestRetryGaps: the marketplace sees gaps that double within their jitter up to the longest
// one, and none that is shorter than it asked for.
func TestRetryGaps(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	p := patient()
	p.retry = 200 * ms // and the longest gap is ten times that
	tests := []struct {
		name  string
		fault sandbox.Fault
		// nominal are the gaps; the jitter takes up to half of each, unless they are asked for.
		nominal []time.Duration
		asked   bool
	}{
		{
			"doubling",
			sandbox.Fault{Status: 503, Count: 5},
			[]time.Duration{200 * ms, 400 * ms, 800 * ms, 1600 * ms, 2000 * ms},
			false,
		},
		{"asked for", sandbox.Fault{Status: 503, RetryAfter: 2, Count: 2}, []time.Duration{2000 * ms, 2000 * ms}, true},
		{"429", sandbox.Fault{Status: 429, RetryAfter: 1, Count: 2}, []time.Duration{1000 * ms, 1000 * ms}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := setupMarket(t, p)
			id := m.placed("1")[0]
			tt.fault.Do, tt.fault.Op = sandbox.Answer, sandbox.Withdraw
			m.fault(tt.fault)
			m.bidder("withdraw", id, "--reason", "a mistake").want(t, 3)
			worker := m.start("run", "--every", "20ms")
			m.await("the bid is withdrawn", "EXISTS (SELECT FROM bids WHERE status = 'WITHDRAWN')")
			worker.signal(syscall.SIGTERM)
			worker.wait().want(t, 143)

			var seen []time.Time
			for _, e := range m.server.Journal() {
				if e.Op == sandbox.Withdraw {
					seen = append(seen, e.At.Round(0)) // by the clock that the database has too
				}
			}
			if len(seen) != len(tt.nominal)+1 {
				t.Fatalf("the marketplace saw %d retractions, want %d", len(seen), len(tt.nominal)+1)
			}
			for i, nominal := range tt.nominal {
				least := nominal / 2
				if tt.asked {
					least = nominal
				}
				if gap := seen[i+1].Sub(seen[i]); gap < least {
					t.Errorf("gap %d was %v at the marketplace, want at least %v", i+1, gap, least)
				}
				m.wantCount(1, `bid_events WHERE detail ->> 'kind' = 'withdraw' AND detail ->> 'result' = 'again'
					AND (SELECT count(*) FROM bid_events AS e WHERE e.detail ->> 'kind' = 'withdraw' AND e.detail ->> 'result' = 'again' AND e.id < bid_events.id) = $1
					AND (detail ->> 'delay_ms')::int BETWEEN $2 AND $3`, i, least.Milliseconds(), nominal.Milliseconds())
			}
		})
	}
}
