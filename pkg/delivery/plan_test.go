package delivery_test

import (
	"strings"
	"testing"
	"time"

	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/test/deliverytest"
	"github.com/arbitrageai/bidder/test/testdb"
)

// TestPlans: what is due is found in its index by the account and the time, also among many that are not yet due and
// those of other accounts.
func TestPlans(t *testing.T) {
	t.Parallel()
	w := deliverytest.New(t)
	w.Exec(`INSERT INTO bids (marketplace, account, job_id, amount_cents, delivery_kind, delivery_state, next_attempt_at)
		SELECT 'guru', 'account' || n % 3, n, 1, 'place', 'pending', now() + n * interval '1 minute' FROM generate_series(-100, 1000) AS n`)
	const byKey = "Index Cond: ((hashtextextended(account, hashtextextended(marketplace"
	for name, tt := range map[string]struct {
		sql  string
		args []any
		want map[string]int
	}{
		"owing":    {queries.Owing, nil, map[string]int{"Index Scan using bids_due": 1}},
		"accounts": {queries.DueAccounts, []any{time.Now()}, map[string]int{"Index Scan using bids_due": 3, byKey: 1, "AND (next_attempt_at <=": 1}},
		"lease": {
			queries.LeaseDelivery,
			[]any{"guru", "account1", nil, time.Now(), true, time.Hour, time.Minute, "test"},
			map[string]int{"Index Scan using bids_due": 1, byKey: 1, "AND (next_attempt_at <=": 1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			plan, err := testdb.Plan(t.Context(), w.Pool, deliverytest.Limits(), tt.sql, tt.args...)
			if err != nil {
				t.Fatal(err)
			}
			for part, times := range tt.want {
				if n := strings.Count(plan, part); n != times {
					t.Errorf("%q is in the plan %d times, want %d:\n%s", part, n, times, plan)
				}
			}
			if strings.Contains(plan, "Seq Scan on bids") {
				t.Errorf("reads all bids:\n%s", plan)
			}
		})
	}
}
