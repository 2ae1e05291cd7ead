package e2e

import (
	"crypto/rand"
	"strings"
	"syscall"
	"testing"

	"github.com/arbitrageai/bidder/test/testdb"
)

const benchSchemas = "pg_namespace WHERE nspname = 'bidder_bench'"

// TestBench: it measures, advises, and leaves everything as it was.
func TestBench(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.ingest(line("1"))
	f.untouched(func() {
		report := decode[struct {
			Runs []struct {
				Batch, Workers     int
				Rate               float64
				RoundTripsPerBatch float64 `json:"round_trips_per_batch"`
				WALBytesPerBid     float64 `json:"wal_bytes_per_bid"`
			} `json:"runs"`
			Advice struct {
				Batch, Workers int
				MaxConns       int `json:"max_conns"`
				Pods           int `json:"pods"`
			} `json:"advice"`
		}](t, direct(f, "bench", "--postings", "50").json().run(t).want(t, 0))
		if len(report.Runs) < 5 || report.Advice.Batch < 1 || report.Advice.Workers < 1 || report.Advice.MaxConns <= report.Advice.Workers {
			t.Errorf("%+v", report)
		}
		for _, r := range report.Runs {
			if r.Rate <= 0 || r.RoundTripsPerBatch < 1 || r.WALBytesPerBid < 100 {
				t.Errorf("%+v", r)
			}
		}
	})
	if n := f.count(benchSchemas); n != 0 {
		t.Error("the schema is still there")
	}
}

// TestBenchInterrupted: the schema goes also then.
func TestBenchInterrupted(t *testing.T) {
	t.Parallel()
	f := setup(t)
	p := direct(f, "bench", "--postings", "2000").start(t)
	eventually(t, "it claims", func() bool {
		return f.count(benchSchemas) == 1 && f.count("pg_stat_activity WHERE datname = current_database() AND application_name = 'bidder bench'") > 1
	})
	p.signal(syscall.SIGINT)
	p.wait().want(t, 130)
	if n := f.count(benchSchemas); n != 0 {
		t.Error("the schema is still there")
	}
}

// direct is a call that knows no pooler.
func direct(f *fixture, args ...string) call {
	return f.call(args...).with("DATABASE_URL=" + f.DirectURL)
}

// TestBenchPooled: no schema of its own can be had through a pooler.
func TestBenchPooled(t *testing.T) {
	t.Parallel()
	f := setup(t, testdb.WithPgBouncer())
	f.bidder("bench").wantError(t, 2, "search_path", "the server's own address")
	if n := f.count(benchSchemas); n != 0 {
		t.Error("the schema is still there")
	}
}

// TestBenchRefuses: two at once, and roles that may not make a schema.
func TestBenchRefuses(t *testing.T) {
	t.Parallel()
	f := setup(t)
	c := f.call("bench")
	c.env = []string{"DATABASE_URL=" + f.role("e2e-bench-"+strings.ToLower(rand.Text()[:10]))}
	c.run(t).wantError(t, 2, "may not create", "GRANT CREATE ON DATABASE")
	f.exec("CREATE SCHEMA bidder_bench")
	f.bidder("bench").wantError(t, 2, "DROP SCHEMA bidder_bench CASCADE")
	f.exec("DROP SCHEMA bidder_bench")
	f.bidder("bench", "--postings", "0").wantError(t, 2, "--postings")
}
