package delivery_test

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/test/deliverytest"
	"github.com/arbitrageai/bidder/test/testdb"
)

// TestArmedOnDisk: a lease and the arming of a POST are committed to the disk where the server's settings would let a
// crash take them back; another setting stays as it is.
func TestArmedOnDisk(t *testing.T) {
	t.Parallel()
	w := deliverytest.New(t)
	for before, after := range map[string]string{"off": "on", "local": "local", "remote_apply": "remote_apply"} {
		for _, atOnce := range []bool{false, true} {
			bid := w.Bid("")
			check := func(what string, run func(q *queries.Queries) error) {
				t.Helper()
				got, err := testdb.CommitLevel(t.Context(), w.Pool, before, func(tx pgx.Tx) error { return run(queries.New(tx)) })
				if err != nil || got != after {
					t.Errorf("%s, %s: at COMMIT it is %q, want %s: %v", before, what, got, after, err)
				}
			}
			var leased queries.LeaseDeliveryRow
			check("lease", func(q *queries.Queries) (err error) {
				leased, err = q.LeaseDelivery(t.Context(), queries.LeaseDeliveryParams{
					Marketplace: bid.Marketplace, Account: bid.Account, DueBy: time.Now().Add(time.Minute),
					AtOnce: atOnce, PostingTTL: time.Hour, Lease: time.Minute, Actor: "test",
				})
				return err
			})
			if !atOnce {
				check("arm", func(q *queries.Queries) error {
					_, err := q.ArmPost(t.Context(), queries.ArmPostParams{
						ID: bid.ID, Token: leased.LeaseToken, Most: 1, Needed: time.Second, PostingTTL: time.Hour, Actor: "test", Detail: []byte("{}"),
					})
					return err
				})
			}
			if got := w.Row(bid.ID).PlacePosts; got != 1 {
				t.Errorf("%d POSTs are armed", got)
			}
		}
	}
}
