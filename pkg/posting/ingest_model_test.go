package posting_test

import (
	"bytes"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/pkg/posting"
	"github.com/arbitrageai/bidder/test/testdb"
)

// seen is what a posting's cache row and candidate must say.
type seen struct {
	version int
	title   string
	queued  bool
}

// Any files, one after the other: the rehearsal changes nothing and says what the ingestion
// then does, and that is what reading line by line by hand would do.
func TestIngestModel(t *testing.T) {
	t.Parallel()
	pool := open(t, testdb.New(t).URL)
	round := 0
	rapid.Check(t, func(t *rapid.T) {
		round++
		model := map[string]seen{}
		for range rapid.IntRange(1, 3).Draw(t, "files") {
			var lines bytes.Buffer
			var want posting.Counts
			fresh := map[string]string{}
			for n := range rapid.IntRange(0, 12).Draw(t, "lines") {
				want.Read++
				switch kind := rapid.IntRange(0, 9).Draw(t, "kind"); kind {
				case 0:
					lines.WriteString(" \n")
					want.Blank++
					continue
				case 1:
					lines.WriteString("{}\n")
					want.Rejected++
					continue
				}
				job := fmt.Sprintf("%d-%d", round, rapid.IntRange(0, 4).Draw(t, "job"))
				version := rapid.IntRange(0, 3).Draw(t, "version")
				title := fmt.Sprintf("version %d of line %d", version, n)
				lines.WriteString(strings.Replace(item(job, version), fmt.Sprintf("version %d", version), title, 1))
				before, known := model[job]
				switch {
				case !known:
					want.Accepted++
				case version > before.version:
					want.Updated++
				default:
					want.Unchanged++
					continue
				}
				model[job] = seen{version, title, true}
				fresh[job] = title
			}
			file := lines.String()

			before := cached(t, pool, round)
			rehearsed := map[posting.Key]posting.Posting{}
			if err := db.ReadOnly(t.Context(), pool, func(tx pgx.Tx) error {
				// In two parts, as two files are rehearsed.
				cut := strings.Index(file, "\n") + 1
				var sum posting.Counts
				for _, part := range []string{file[:cut], file[cut:]} {
					counts, err := posting.Rehearse(t.Context(), tx, decoder(strings.NewReader(part)), rehearsed, false, posting.Observer{})
					if err != nil {
						return err
					}
					sum = sum.Add(counts)
				}
				if diff := cmp.Diff(want, sum); diff != "" {
					t.Errorf("rehearsal's counts (-want +got):\n%s", diff)
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			titles := map[string]string{}
			for key, p := range rehearsed {
				titles[key.JobID] = p.Title
			}
			if diff := cmp.Diff(fresh, titles); diff != "" {
				t.Errorf("rehearsal's postings (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(before, cached(t, pool, round), cmp.AllowUnexported(seen{})); diff != "" {
				t.Errorf("the rehearsal changed the cache:\n%s", diff)
			}

			got, err := posting.Ingest(t.Context(), pool, limits, decoder(strings.NewReader(file)), posting.Observer{})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("counts (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(model, cached(t, pool, round), cmp.AllowUnexported(seen{})); diff != "" {
				t.Errorf("cache and queue (-want +got):\n%s", diff)
			}
			if rapid.Bool().Draw(t, "pass") { // which decides on everything
				if _, err := pool.Exec(t.Context(), "DELETE FROM candidates"); err != nil {
					t.Fatal(err)
				}
				for job, s := range model {
					s.queued = false
					model[job] = s
				}
			}
		}
	})
}

// cached reads cache and queue of one round.
func cached(t *rapid.T, pool db.Beginner, round int) map[string]seen {
	t.Helper()
	found := map[string]seen{}
	err := db.ReadOnly(t.Context(), pool, func(tx pgx.Tx) error {
		rows, err := tx.Query(t.Context(), `
			SELECT job_id, extract(epoch FROM p.cached_at - $1)::int / 60, title, c.cached_at IS NOT NULL AND c.cached_at = p.cached_at
			FROM postings AS p LEFT JOIN candidates AS c USING (marketplace, job_id)
			WHERE job_id LIKE $2::int || '-%'`, start, round)
		if err != nil {
			return err
		}
		var job string
		var s seen
		_, err = pgx.ForEachRow(rows, []any{&job, &s.version, &s.title, &s.queued}, func() error {
			found[job] = s
			return nil
		})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// lines makes up n lines of about size bytes, each of a posting of its own.
type lines struct {
	first, n, size int
	version        int
	buffer         bytes.Buffer
	filler         string
}

func (l *lines) Read(p []byte) (int, error) {
	for l.buffer.Len() < len(p) && l.n > 0 {
		if l.filler == "" {
			l.filler = `"description":"` + strings.Repeat("x", l.size) + `"`
		}
		l.buffer.WriteString(item(fmt.Sprintf("%09d", l.first), l.version, l.filler))
		l.first++
		l.n--
	}
	if l.buffer.Len() == 0 {
		return 0, io.EOF
	}
	return l.buffer.Read(p)
}

// What is held does not grow with the input: 200,000 lines are 100 MB.
func TestIngestMemory(t *testing.T) { //nolint:paralleltest // other tests would be measured too
	if testing.Short() {
		t.Skip("reads 200,000 lines")
	}
	pool := open(t, testdb.New(t).URL)
	const n, most = 200_000, 32 << 20
	var highest uint64
	batches := 0
	counts, err := posting.Ingest(t.Context(), pool, limits, decoder(&lines{n: n, size: 400}), posting.Observer{
		Progress: func(posting.Counts) {
			if batches++; batches%20 == 0 {
				var memory runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&memory)
				highest = max(highest, memory.HeapAlloc)
			}
		},
	})
	if want := (posting.Counts{Read: n, Accepted: n}); err != nil || counts != want {
		t.Errorf("%+v, %v; want %+v", counts, err, want)
	}
	if highest == 0 || highest > most {
		t.Errorf("%d bytes were held, at most %d may be", highest, most)
	}
	t.Logf("%d kB were held", highest>>10)
}

func BenchmarkIngest(b *testing.B) {
	const n = 5000
	bench := func(name string, next func(round int) *lines) {
		b.Run(name, func(b *testing.B) {
			pool := open(b, testdb.New(b).URL)
			if _, err := posting.Ingest(b.Context(), pool, limits, decoder(next(0)), posting.Observer{}); err != nil {
				b.Fatal(err)
			}
			round := 0
			for b.Loop() {
				round++
				if _, err := posting.Ingest(b.Context(), pool, limits, decoder(next(round)), posting.Observer{}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
	bench("new", func(round int) *lines { return &lines{first: round * n, n: n, size: 400} })
	bench("refreshed", func(round int) *lines { return &lines{n: n, size: 400, version: round} })
	bench("unchanged", func(int) *lines { return &lines{n: n, size: 400} })
}
