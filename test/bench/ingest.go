package main

import (
	"bufio"
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// ingest: reading postings against the fastest way that Postgres has.
func ingest() row {
	var lines, copied string // files
	return row{
		name: "ingest", work: "ingest of 1,000,000 postings",
		bars: []bar{
			{measure: "rate", of: "bidder ingest", to: "COPY", atLeast: 0.35},
			{measure: "MB", of: "bidder ingest", atMost: 100},
		},
		note: func(result) string {
			return "COPY writes the postings alone, from a file in its own format; ingest reads JSON, checks every field, and queues each posting as well."
		},
		prepare: func(_ context.Context, b *bench) (func(), error) {
			lines, copied = filepath.Join(b.dir, "postings.ndjson"), filepath.Join(b.dir, "postings.copy")
			return func() { _, _ = os.Remove(lines), os.Remove(copied) }, writePostings(lines, copied, b.sizes.ingest)
		},
		ways: []way{
			{"COPY", func(ctx context.Context, b *bench) (sample, error) {
				return b.load(ctx, func(d *database) (sample, error) {
					file, err := os.Open(copied)
					if err != nil {
						return sample{}, err
					}
					defer file.Close()
					var s sample
					err = d.unqueued(ctx, func() error {
						started := time.Now()
						_, err := d.sql.PgConn().CopyFrom(ctx, bufio.NewReaderSize(file, 1<<20),
							"COPY postings (marketplace, job_id, cached_at, title, description, url, budget_min_cents, budget_max_cents, currency, pricing, skills) FROM STDIN")
						s.elapsed = time.Since(started)
						return err
					})
					return s, err
				})
			}},
			{"bidder ingest", func(ctx context.Context, b *bench) (sample, error) {
				return b.load(ctx, func(d *database) (sample, error) {
					started := time.Now()
					cmd := exec.CommandContext(ctx, b.program, "ingest", lines, "-o", "json")
					cmd.Env = []string{"DATABASE_URL=" + d.url, "HOME=" + b.dir}
					cmd.Stderr = os.Stderr
					peak, err := runWatched(cmd)
					s := sample{elapsed: time.Since(started), extra: map[string]float64{"MB": peak}}
					return s, errors.Join(err, d.expect(ctx, b.sizes.ingest, "candidates", "SELECT count(*) FROM candidates"))
				})
			}},
		},
	}
}

// runWatched runs a program and says how many MB it held at most. What the system reports at its
// end (ru_maxrss) is no less than what this process held when it started the program.
func runWatched(cmd *exec.Cmd) (peak float64, err error) {
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	status := fmt.Sprintf("/proc/%d/status", cmd.Process.Pid)
	for {
		select {
		case err := <-ended:
			return peak, err
		case <-time.After(20 * time.Millisecond):
			text, _ := os.ReadFile(status)
			if _, after, ok := strings.Cut(string(text), "VmHWM:"); ok {
				kB, _ := strconv.ParseFloat(strings.Fields(after)[0], 64)
				peak = max(peak, kB/1024)
			}
		}
	}
}

// load fills the cache of a new database and counts what is there.
func (b *bench) load(ctx context.Context, fill func(d *database) (sample, error)) (sample, error) {
	d, err := b.database(ctx, 1)
	if err != nil {
		return sample{}, err
	}
	defer d.drop(ctx)
	if err := d.settle(ctx); err != nil {
		return sample{}, err
	}
	s, err := fill(d)
	s.ops = b.sizes.ingest
	return s, errors.Join(err, d.expect(ctx, s.ops, "postings", "SELECT count(*) FROM postings"))
}

// writePostings writes the same postings as NDJSON and in the text format of COPY.
func writePostings(lines, copied string, n int) error {
	a, err := os.Create(lines)
	if err != nil {
		return err
	}
	c, err := os.Create(copied)
	if err != nil {
		return err
	}
	jsonOut, copyOut := bufio.NewWriterSize(a, 1<<20), bufio.NewWriterSize(c, 1<<20)
	now := time.Now().UTC().Format(time.RFC3339)
	for i := range n {
		k := key(i)
		sum := md5.Sum([]byte(k.JobID))
		description := strings.Repeat(hex.EncodeToString(sum[:])+" ", 15)
		fmt.Fprintf(jsonOut, `{"marketplace":%q,"job_id":%q,"title":"Go service with Postgres queue number %d","description":%q,"url":"https://example.com/jobs/%d","budget_min":250,"budget_max":750,"currency":"USD","pricing":"fixed","skills":["Go","PostgreSQL"],"cached_at":%q}`+"\n",
			k.Marketplace, k.JobID, i, description, i, now)
		fmt.Fprintf(copyOut, "%s\t%s\t%s\tGo service with Postgres queue number %d\t%s\thttps://example.com/jobs/%d\t25000\t75000\tUSD\tfixed\t{Go,PostgreSQL}\n",
			k.Marketplace, k.JobID, now, i, description, i)
	}
	return errors.Join(jsonOut.Flush(), copyOut.Flush(), a.Close(), c.Close())
}
