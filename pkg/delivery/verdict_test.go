package delivery //nolint:testpackage // of unexported steps

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/arbitrageai/bidder/pkg/marketplace"
)

func TestBackoff(t *testing.T) {
	t.Parallel()
	options := Options{RetryBase: 10 * time.Second, RetryCap: time.Minute}
	for failures, seconds := range []int{10, 20, 40, 60, 60, 60} {
		gap := time.Duration(seconds) * time.Second
		shortest, longest := 2*gap, time.Duration(0)
		for range 2000 {
			got := options.Backoff(failures)
			shortest, longest = min(shortest, got), max(longest, got)
		}
		if shortest < gap/2 || longest > gap || shortest > gap*11/20 || longest < gap*19/20 {
			t.Errorf("after %d failures from %v to %v, want all from %v to %v", failures, shortest, longest, gap/2, gap)
		}
	}
	if got := (Options{RetryBase: time.Second, RetryCap: time.Minute}).Backoff(1 << 20); got > time.Minute {
		t.Errorf("after very many %v", got)
	}
}

func TestLookUpTimes(t *testing.T) {
	t.Parallel()
	for settle, want := range map[time.Duration][]time.Duration{
		10 * time.Minute:       {2 * time.Second, 7 * time.Second, 22 * time.Second, 82 * time.Second, 10 * time.Minute},
		20 * time.Second:       {2 * time.Second, 7 * time.Second, 20 * time.Second},
		7 * time.Second:        {2 * time.Second, 7 * time.Second},
		300 * time.Millisecond: {300 * time.Millisecond},
	} {
		var got []time.Duration
		for since := time.Duration(0); since < settle; {
			since += untilLookUp(since, settle)
			got = append(got, since)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("settle %v (-want +got):\n%s", settle, diff)
		}
		if got := untilLookUp(settle+time.Hour, settle); got != 0 {
			t.Errorf("settle %v: %v after it was over", settle, got)
		}
	}
}

func TestLastError(t *testing.T) {
	t.Parallel()
	for want, result := range map[string]marketplace.Result{
		"job_closed: HTTP 409: too late": {Code: "job_closed", Status: 409, Message: "too late"},
		"ambiguous: HTTP 500":            {Status: 500},
		"ambiguous: reset":               {Message: "reset"},
		"ambiguous":                      {},
	} {
		if got := (Verdict{code: "ambiguous"}).Because(result).lastError(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestTotalsSet(t *testing.T) {
	t.Parallel()
	var got Totals
	for i, kind := range []string{Place, Withdraw, "another"} {
		for j, result := range []string{"done", "retry", "review", "rejected", "another"} {
			got.Set(kind, result, int64(10*i+j+1))
		}
	}
	if want := (Totals{Place: Counts{1, 2, 3, 4}, Withdraw: Counts{11, 12, 13, 14}}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// TestSlowLease: a lease that came late makes no POST seem older than it is, and no lease longer.
func TestSlowLease(t *testing.T) {
	t.Parallel()
	now := time.Now()
	l := &Lease{asked: now.Add(-time.Hour), leased: now, engine: &Engine{options: Options{Lease: time.Minute}}, posts: 1}
	l.Account = Account{Client: settling{}, Settle: time.Minute}
	posted := now.Add(-30 * time.Second)
	l.Bid.LeasedAt, l.Bid.LastPostAt, l.Bid.FirstPostAt = now, &posted, &posted
	if l.Accounted() {
		t.Error("settled after half a minute")
	}
	if l.patience() >= 0 {
		t.Errorf("%v left of a lease that may have run out", l.patience())
	}
	if l.mayRepeat(marketplace.Capabilities{Dedup: marketplace.IdempotencyKey, KeyLife: 30 * time.Minute}) {
		t.Error("a key that may be forgotten is repeated")
	}
}

type settling struct{ marketplace.Client }

func (settling) Capabilities() marketplace.Capabilities { return marketplace.Capabilities{} }
