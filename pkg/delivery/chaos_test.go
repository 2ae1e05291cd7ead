package delivery_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/config"
	"github.com/arbitrageai/bidder/pkg/delivery"
	"github.com/arbitrageai/bidder/pkg/marketplace"
	"github.com/arbitrageai/bidder/pkg/marketplace/sandbox"
	"github.com/arbitrageai/bidder/pkg/withdraw"
	"github.com/arbitrageai/bidder/test/deliverytest"
)

const (
	chaosJobs    = 8
	chaosSteps   = 150
	chaosTimeout = 250 * time.Millisecond  // of a call
	chaosSettle  = 1500 * time.Millisecond // what is slow below is well within
)

// chaos is a world in which things go wrong.
type chaos struct {
	*deliverytest.World

	t      *testing.T
	s      *deliverytest.Sandbox
	client marketplace.Client
	random *rand.Rand
}

// TestChaos: with random faults of the marketplace, pods that die in mid-call, leases that
// run out under their owners, and withdrawals at any time, there is never a second live bid,
// and in the end rows and bids correspond.
func TestChaos(t *testing.T) {
	t.Parallel()
	for name, rules := range map[string]sandbox.Rules{
		"keys and one bid a posting": reliable, "keys": {Idempotent: true}, "one bid a posting": {NaturalKey: true}, "nothing": {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			c := &chaos{World: deliverytest.New(t), t: t, s: deliverytest.NewSandbox(t, rules), random: rand.New(rand.NewPCG(seed, 0))}
			c.client = c.s.Client("upwork", func(m *config.Marketplace) {
				m.IdempotentPlace, m.Timeout = rules.Idempotent, chaosTimeout
			})
			for i := range chaosJobs {
				c.Bid("", "upwork", fmt.Sprint("job-", i))
			}
			c.rage()
			c.settle()
			c.check()
			for i := range chaosJobs { // and afterwards all is as ever
				c.claim(i)
			}
			c.settle()
			c.check()
			if left := c.bids("status = 'ACTIVE' AND submitted_at IS NULL AND review_reason IS NULL"); len(left) > 0 {
				t.Errorf("not submitted: %+v", left)
			}
		})
	}
}

// engine is a pod that passes until it is stopped; its crash loses what is under way.
func (c *chaos) engine() (crash func()) {
	pool := c.Open(c.DB.URL)
	options := deliverytest.Options(func(string) (delivery.Account, error) {
		return delivery.Account{Client: c.client, Settle: chaosSettle}, nil
	})
	options.Lease, options.RetryBase, options.RetryCap, options.RetryMax = 2*time.Second, 20*time.Millisecond, 50*time.Millisecond, 12
	engine := c.EngineOf(pool, options)
	ctx, stop := context.WithCancel(c.t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			_ = engine.Pass(ctx, 2) // a closed pool is the crash
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	})
	return func() {
		pool.Close() // first, so that nothing is recorded
		stop()
		running.Wait()
	}
}

// rage lets everything go wrong for a while.
func (c *chaos) rage() {
	crashes := []func(){c.engine(), c.engine(), c.engine()}
	tick := time.NewTicker(15 * time.Millisecond)
	defer tick.Stop()
	for range chaosSteps {
		<-tick.C
		switch n := c.random.IntN(20); {
		case n < 6:
			c.fault()
		case n < 8: // a pod was frozen
			c.Exec(`UPDATE bids SET lease_expires_at = clock_timestamp(), next_attempt_at = clock_timestamp()
				WHERE id IN (SELECT id FROM bids WHERE delivery_state = 'leased' ORDER BY random() LIMIT 1 FOR UPDATE SKIP LOCKED)`)
		case n < 9:
			i := c.random.IntN(len(crashes))
			crashes[i]()
			crashes[i] = c.engine()
		case n < 11:
			c.withdraw()
		case n < 17:
			c.claim(c.random.IntN(chaosJobs))
		default: // a person tries what is in review again
			for _, bid := range c.bids("delivery_state = 'review'") {
				if _, err := queries.New(c.SQL).RetryDelivery(c.t.Context(), bid.ID, "ops"); err != nil {
					c.t.Fatal(err)
				}
			}
		}
	}
	for _, crash := range crashes {
		crash()
	}
	c.s.Reset()
}

func (c *chaos) fault() {
	const n = chaosTimeout / time.Millisecond
	faults := []sandbox.Fault{
		{Do: sandbox.Drop},
		{Do: sandbox.Drop, When: sandbox.After},
		{Do: sandbox.Drop, When: sandbox.After, Op: sandbox.Place},
		{Do: sandbox.Slow, MS: int(n) * 3 / 2},
		{Do: sandbox.Slow, MS: int(n) * 3 / 2, Op: sandbox.Place},
		{Do: sandbox.Slow, MS: int(n), When: sandbox.After},
		{Do: sandbox.Answer, Status: 500},
		{Do: sandbox.Answer, Status: 503, When: sandbox.After},
		{Do: sandbox.Answer, Status: 429},
		{Do: sandbox.Answer, Status: 409, Code: "job_closed", Op: sandbox.Place},
		{Do: sandbox.Answer, Status: 202, Op: sandbox.Withdraw},
		{Do: sandbox.Answer, Status: 451, Code: "needs_human"},
		{Do: sandbox.NoID},
		{Do: sandbox.Lag, MS: 300},
	}
	fault := faults[c.random.IntN(len(faults))]
	fault.Count = 1
	c.s.Fault(fault)
}

// bids reads rows.
func (c *chaos) bids(where string) []queries.Bid {
	c.t.Helper()
	rows, err := c.SQL.Query(c.t.Context(), "SELECT id FROM bids WHERE "+where+" ORDER BY id")
	if err != nil {
		c.t.Fatal(err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		c.t.Fatal(err)
	}
	bids := make([]queries.Bid, len(ids))
	for i, id := range ids {
		bids[i] = c.Row(id)
	}
	return bids
}

func (c *chaos) withdraw() {
	live := c.bids("status = 'ACTIVE' AND withdraw_requested_at IS NULL")
	if len(live) == 0 {
		return
	}
	bid := live[c.random.IntN(len(live))]
	if _, _, err := withdraw.Request(c.t.Context(), c.SQL, deliverytest.Limits(), bid.ID, "chaos", "ops"); err != nil {
		c.t.Logf("withdraw: %v", err) // it was rejected meanwhile
	}
}

// claim bids again on a posting whose bid was taken back, or rejected: that is a new game.
func (c *chaos) claim(job int) {
	c.Exec(`INSERT INTO bids (id, marketplace, job_id, amount_cents, delivery_kind, delivery_state, next_attempt_at)
		VALUES ($1, 'upwork', $2, 48000, 'place', 'pending', clock_timestamp())
		ON CONFLICT (marketplace, job_id) WHERE status = 'ACTIVE' DO NOTHING`, uuid.Must(uuid.NewV7()), fmt.Sprint("job-", job))
}

// settle passes until nothing is owed but what waits for a person.
func (c *chaos) settle() {
	stop := c.engine()
	defer stop()
	deliverytest.Eventually(c.t, "everything is at rest", func() bool {
		return len(c.bids("delivery_state IN ('pending', 'leased')")) == 0
	})
}

func (c *chaos) check() {
	rows := c.bids("true")
	active := map[string]queries.Bid{} // by posting
	for _, row := range rows {
		if row.Status == "ACTIVE" {
			active[row.JobID] = row
		}
	}
	lives := map[string][]sandbox.Bid{}
	reviews, withdrawn := 0, 0
	for _, bid := range c.s.Bids() {
		for _, before := range lives[bid.JobID] {
			if isLive(before) || before.UpdatedAt.After(bid.PlacedAt) {
				c.t.Errorf("two live bids at once:\n\t%+v\n\t%+v", before, bid)
			}
		}
		lives[bid.JobID] = append(lives[bid.JobID], bid)
		at := slices.IndexFunc(rows, func(row queries.Bid) bool { return row.ID.String() == bid.BidID })
		if row := rows[at]; isLive(bid) && row.Status != "ACTIVE" {
			c.t.Errorf("live, but its row is %s:\n\t%+v", deliverytest.Describe(row), bid)
		}
		if owner := active[bid.JobID]; isLive(bid) && owner.ReviewReason == nil && (owner.ExternalBidID == nil || *owner.ExternalBidID != bid.ExternalID) {
			c.t.Errorf("live, but the posting's row is %s:\n\t%+v", deliverytest.Describe(owner), bid)
		}
		if !isLive(bid) {
			withdrawn++
		}
	}
	for job, row := range active {
		if row.ReviewReason != nil {
			reviews++
			continue
		}
		if !slices.ContainsFunc(lives[job], func(bid sandbox.Bid) bool { return isLive(bid) && bid.ExternalID == *row.ExternalBidID }) {
			c.t.Errorf("%s, but the marketplace has %+v", deliverytest.Describe(row), lives[job])
		}
	}
	c.t.Logf("%d rows, %d calls, %d bids there, %d withdrawn, %d in review", len(rows), len(c.s.Journal()), len(c.s.Bids()), withdrawn, reviews)
	if len(rows) == chaosJobs && withdrawn == 0 {
		c.t.Error("not much has happened")
	}
}

func isLive(bid sandbox.Bid) bool {
	return bid.Status == marketplace.Submitted || bid.Status == marketplace.Accepted
}
