package e2e

import (
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/arbitrageai/bidder/pkg/marketplace/sandbox"
)

const (
	chaosPostings = 1000
	chaosWorkers  = 4
	chaosKills    = 100
)

// chaosNumber is a number from the environment.
func chaosNumber(t *testing.T, variable string, otherwise uint64) uint64 {
	t.Helper()
	text, set := os.LookupEnv(variable)
	if !set {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", variable, err)
	}
	return n
}

// mischief is a fault that proves nothing, or a refusal that is true, for the next few calls.
func mischief(random *rand.Rand) sandbox.Fault {
	faults := []sandbox.Fault{
		{Do: sandbox.Answer, When: sandbox.After, Status: 500},
		{Do: sandbox.Answer, Status: 503},
		{Do: sandbox.Answer, Status: 429},
		{Do: sandbox.Drop},
		{Do: sandbox.Drop, When: sandbox.After},
		{Do: sandbox.Slow, MS: 1 + random.IntN(800)},
		{Do: sandbox.Slow, When: sandbox.After, MS: 1 + random.IntN(800)},
		{Do: sandbox.NoID, Op: sandbox.Place},
		{Do: sandbox.Lag, Op: sandbox.Place, MS: 1 + random.IntN(500)},
	}
	fault := faults[random.IntN(len(faults))]
	if fault.Op == "" {
		fault.Op = []sandbox.Op{"", sandbox.Place, sandbox.Lookup, sandbox.Withdraw}[random.IntN(4)]
	}
	fault.Count = 1 + random.IntN(10)
	return fault
}

// TestChaos has pods killed at random while they bid at a marketplace that fails at random, and
// people take bids back. When all that is over, everything must come to rest, and be right.
// BIDDER_TEST_KILLS is how many are killed, BIDDER_TEST_SEED repeats a run.
func TestChaos(t *testing.T) {
	t.Parallel()
	kills := int(chaosNumber(t, "BIDDER_TEST_KILLS", chaosKills))
	seed := chaosNumber(t, "BIDDER_TEST_SEED", rand.Uint64())
	t.Logf("BIDDER_TEST_SEED=%d", seed)
	random := rand.New(rand.NewPCG(seed, 0))

	m := setupMarket(t, pace{timeout: 500 * time.Millisecond, settle: time.Second, lease: 2 * time.Second, retry: 50 * time.Millisecond})
	postings, _ := lines(chaosPostings)
	worker := func() *process { return m.start("run", "--every", "100ms") }
	workers := make([]*process, chaosWorkers)
	for i := range workers {
		workers[i] = worker()
	}
	var withdrawals []*process
	const batch = 10
	for kill := range kills {
		if kill%batch == 0 {
			m.ingest(postings[kill*chaosPostings/kills : min(kill+batch, kills)*chaosPostings/kills]...)
		}
		m.fault(mischief(random))
		<-time.After(time.Duration(50+random.IntN(200)) * time.Millisecond) // when a pod dies is up to chance
		if random.IntN(4) == 0 && m.count("bids WHERE status = 'ACTIVE'") > 0 {
			id := read[string](m.fixture, "SELECT id::text FROM bids WHERE status = 'ACTIVE' ORDER BY md5($1 || id::text) LIMIT 1", strconv.Itoa(kill))
			withdrawals = append(withdrawals, m.start("withdraw", id, "--reason", "chaos"))
		}
		victim := random.IntN(len(workers) + len(withdrawals))
		if victim < len(workers) {
			workers[victim].kill()
			workers[victim] = worker()
		} else {
			withdrawals[victim-len(workers)].kill()
		}
	}
	m.server.Reset()
	for _, p := range slices.Concat(workers, withdrawals) {
		p.kill()
	}
	eventually(t, "no request is under way", func() bool {
		return count(m.server.Journal(), func(e sandbox.Entry) bool { return e.EndedAt == nil }) == 0
	})
	m.converge()

	m.wantCount(chaosPostings, "(SELECT DISTINCT job_id FROM bids WHERE status IN ('ACTIVE', 'WITHDRAWN')) AS bid")
	m.wantCount(chaosPostings, "bids")
	stored := map[string]int{}
	for _, e := range m.server.Journal() {
		if e.Op == sandbox.Place && e.Stored {
			stored[e.BidID]++
		}
	}
	for id, n := range stored {
		if n != 1 {
			t.Errorf("bid %s was stored %d times", id, n)
		}
	}
	m.wantNoDeadlocks()
	reviews := read[string](m.fixture, "SELECT coalesce(string_agg(DISTINCT review_reason, ' '), '') FROM bids WHERE delivery_state = 'review'")
	t.Logf("%d kills, %d calls, %d live, %d withdrawn, %d POSTs repeated, %d in review (%s)", kills, len(m.server.Journal()), len(m.live()),
		m.count("bids WHERE status = 'WITHDRAWN'"), m.count("bids WHERE place_posts = 2"), m.count("bids WHERE delivery_state = 'review'"), reviews)
}
