package bidding

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/pkg/localpg"
	"github.com/arbitrageai/bidder/pkg/posting"
	"github.com/arbitrageai/bidder/test/testdb"
)

// BenchmarkCaps compares claims at one marketplace with high caps and without any: 32
// workers, 64 postings a transaction, on a server with full durability on the disk of
// TMPDIR. Each round runs both, in changing order; with caps includes the first, exact
// decision of the day.
//
//	go test ./pkg/bidding -run '^$' -bench BenchmarkCaps -benchtime 21x
func BenchmarkCaps(b *testing.B) {
	server, err := localpg.StartTemporary(b.Context(), "fsync=on", "synchronous_commit=on", "full_page_writes=on",
		"shared_buffers=256MB", "max_wal_size=4GB", "max_connections=60")
	if errors.Is(err, localpg.ErrNoBinaries) {
		b.Skip("no PostgreSQL is installed here")
	}
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := server.Stop(); err != nil {
			b.Error(err)
		}
	})
	url := server.TCP("postgres")
	if err := db.MigrateUp(b.Context(), url); err != nil {
		b.Fatal(err)
	}
	const workers, batch, postings = 32, 64, 32 * 64 * 6
	f := setupOn(b, &testdb.DB{URL: url, DirectURL: url}, url)
	f.pool = openPool(b, url, workers+2)
	high := Caps{BidsPerDay: number(1e9), MoneyPerDayCents: number(1e12), LiveBids: number(1e9)}

	rates := map[bool][]float64{}
	claimed := 0
	run := func(with bool) float64 {
		keys := make([]posting.Key, postings)
		for i := range keys {
			keys[i] = job(fmt.Sprintf("%09d", claimed+i))
		}
		claimed += postings
		f.cacheNow(b, keys...)
		rules := f.rules
		if with {
			rules.Caps = everywhere(high)
		}
		started := time.Now()
		c := NewClaimer(f.pool, f.limits, rules, &f.counters, uuid.Nil)
		if err := c.Pass(b.Context(), PassOptions{Workers: workers, Batch: batch}); err != nil {
			b.Fatal(err)
		}
		return postings / time.Since(started).Seconds()
	}
	run(false) // what the server has not read or prepared yet is nobody's fault
	run(true)
	for i := 0; b.Loop(); i++ {
		for _, with := range []bool{i%2 == 0, i%2 != 0} {
			rates[with] = append(rates[with], run(with))
		}
	}
	median := func(values []float64) float64 { slices.Sort(values); return values[len(values)/2] }
	b.ReportMetric(median(rates[true]), "capped/s")
	b.ReportMetric(median(rates[false]), "uncapped/s")
	b.ReportMetric(median(rates[true])/median(rates[false]), "ratio")
	want(b, "claimed", f.live(b), claimed)
	want(b, "decided on shares", f.count(b, "spending WHERE share > 0 AND used > 0") > 0, true)
}
