package bidding

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/pkg/localpg"
)

// BenchmarkCaps compares claims at one marketplace with high caps and without any: 32
// workers, 64 postings a transaction, on a server with full durability on the disk of
// TMPDIR. Each round runs both, in changing order, on a new database each; with caps that
// includes what is decided exactly at its beginning.
//
//	go test ./pkg/bidding -run '^$' -bench BenchmarkCaps -benchtime 15x
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
	var capped, uncapped []float64
	round := 0
	run := func(caps func(string) Caps) float64 {
		round++
		return benchmarkPass(b, server, fmt.Sprintf("round_%d", round), caps)
	}
	high := everywhere(Caps{BidsPerDay: number(1e9), MoneyPerDayCents: number(1e12), LiveBids: number(1e9)})
	run(high) // what the server has not read yet is nobody's fault
	for i := 0; b.Loop(); i++ {
		if i%2 == 0 {
			capped = append(capped, run(high))
		}
		uncapped = append(uncapped, run(nil))
		if i%2 != 0 {
			capped = append(capped, run(high))
		}
	}
	median := func(values []float64) float64 { slices.Sort(values); return values[len(values)/2] }
	b.ReportMetric(median(capped), "capped/s")
	b.ReportMetric(median(uncapped), "uncapped/s")
	b.ReportMetric(median(capped)/median(uncapped), "ratio")
}

// benchmarkPass claims postings in a database of its own, and says how many in a second.
func benchmarkPass(b *testing.B, server *localpg.Server, database string, caps func(string) Caps) float64 {
	b.Helper()
	const workers, batch, postings = 32, 64, 32 * 64 * 36
	admin, err := pgx.Connect(b.Context(), server.TCP("postgres"))
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = admin.Close(b.Context()) }()
	if _, err := admin.Exec(b.Context(), "CREATE DATABASE "+database); err != nil {
		b.Fatal(err)
	}
	url := server.TCP(database)
	if err := db.MigrateUp(b.Context(), url); err != nil {
		b.Fatal(err)
	}
	pool, err := db.Open(b.Context(), db.Options{URL: url, MaxConns: workers + 1})
	if err != nil {
		b.Fatal(err)
	}
	f := &fixture{
		pool: pool, direct: pool, limits: Limits{TTL: 5 * time.Minute, Statement: 5 * time.Second},
		rules: Rules{PostingTTL: postingTTL, RebidWindow: rebidWindow, Policy: Budget{}.Decide, Caps: caps},
	}
	f.cacheNow(b, jobs(postings)...)
	conns := make([]*pgxpool.Conn, workers) // connecting is not what is measured
	for i := range conns {
		if conns[i], err = pool.Acquire(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	for _, conn := range conns {
		conn.Release()
	}
	started := time.Now()
	if err := f.claimer().Pass(b.Context(), PassOptions{Workers: workers, Batch: batch}); err != nil {
		b.Fatal(err)
	}
	took := time.Since(started)
	want(b, "claimed", f.live(b), postings)
	want(b, "from shares", f.count(b, "spending WHERE share > 0 AND used > 0") > 0, caps != nil)
	pool.Close()
	if _, err := admin.Exec(b.Context(), "DROP DATABASE "+database); err != nil {
		b.Fatal(err)
	}
	return postings / took.Seconds()
}
