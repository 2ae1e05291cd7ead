package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/arbitrageai/bidder/pkg/localpg"
)

// instructions: what the server executes for a bid, one connection, counted by valgrind. Unlike a time
// that is the same in every run, on a busy machine too: it shows what a change of one percent does.
func instructions() row {
	const fewer, more = 50 * batchSize, 150 * batchSize // what a connection costs once is in both
	counted := func(work func(ctx context.Context, d *database, n int) error) func(ctx context.Context, b *bench) (sample, error) {
		return func(ctx context.Context, b *bench) (sample, error) {
			if b.valgrind == nil {
				return sample{elapsed: time.Second}, nil
			}
			first, err := b.valgrind.count(ctx, fewer, work)
			if err != nil {
				return sample{}, err
			}
			second, err := b.valgrind.count(ctx, more, work)
			return sample{elapsed: time.Second, extra: map[string]float64{
				"thousands a bid": float64(second-first) / (more - fewer) / 1e3,
			}}, err
		}
	}
	river := func(withBids bool) func(ctx context.Context, d *database, n int) error {
		return func(ctx context.Context, d *database, n int) error {
			_, err := d.river(ctx, 1, n, withBids)
			return err
		}
	}
	return row{
		name: "instructions", work: "instructions of the server for a bid, by valgrind",
		once: true,
		prepare: func(ctx context.Context, b *bench) (func(), error) {
			var err error
			b.valgrind, err = startCounted(ctx)
			return func() {
				if b.valgrind != nil {
					b.valgrind.stop()
				}
			}, err
		},
		note: func(r result) string {
			if r.median("bidder", "thousands a bid") == 0 {
				return "valgrind is not installed: nothing was counted."
			}
			return "Of one connection, batches of 64, beyond what the connection costs once. Instructions are not time: some wait for memory, and the kernel's own are not among them."
		},
		ways: []way{
			{"raw insert of 64 rows", counted(func(ctx context.Context, d *database, n int) error {
				_, err := insertBatches(ctx, d.pool, 1, n)
				return errors.Join(err, d.claimed(ctx, n))
			})},
			{"bidder", counted(func(ctx context.Context, d *database, n int) error {
				if err := errors.Join(d.seed(ctx, 0, n, true), d.settle(ctx)); err != nil {
					return err
				}
				_, err := drain(ctx, d.pool, 1, batchSize)
				return errors.Join(err, d.claimed(ctx, n))
			})},
			{"River InsertMany, unique, 64", counted(river(false))},
			{"River InsertManyTx, unique, 64, + insert", counted(river(true))},
		},
	}
}

// countedServer is a server whose instructions are counted.
type countedServer struct{ bench }

// startCounted starts a server under valgrind; nil where that is not installed.
func startCounted(ctx context.Context) (_ *countedServer, err error) {
	valgrind, err := exec.LookPath("valgrind")
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench: valgrind is not installed: instructions are not counted")
		return nil, nil //nolint:nilnil // none is a value
	}
	s := &countedServer{}
	defer func() {
		if err != nil {
			s.stop()
		}
	}()
	bin, err := localpg.FindBinaries()
	if err != nil {
		return nil, err
	}
	owner, err := localpg.DefaultOwner()
	if err != nil {
		return nil, err
	}
	if s.dir, err = os.MkdirTemp("", "bidder-bench-"); err != nil {
		return nil, err
	}
	if err = owner.Chown(s.dir); err != nil {
		return nil, err
	}
	plain := localpg.Local(bin, s.dir, owner)
	cluster := localpg.Cluster{Data: filepath.Join(s.dir, "data"), Sockets: s.dir, Port: 5432, Command: func(program string, args ...string) *exec.Cmd {
		cmd := plain(program, args...)
		if program == "postgres" {
			cmd.Args = append([]string{valgrind, "--tool=callgrind", "--callgrind-out-file=" + s.counts("%p"), cmd.Path}, cmd.Args[1:]...)
			cmd.Path = valgrind
		}
		return cmd
	}}
	if err = cluster.Init(ctx); err != nil {
		return nil, err
	}
	process, err := cluster.Start(nil, "autovacuum=off", "jit=off", "shared_buffers=256MB", "max_wal_size=4GB")
	if err != nil {
		return nil, err
	}
	s.server = &localpg.Server{Cluster: cluster, Process: process}
	if err = cluster.Ready(ctx, process.Done()); err != nil {
		return nil, err
	}
	return s, s.connect(ctx)
}

// counts is the file with what a process has executed, which valgrind writes as it ends.
func (s *countedServer) counts(pid string) string { return filepath.Join(s.dir, "instructions."+pid) }

// count is what the one connection of a new database's pool executes for work on n postings.
func (s *countedServer) count(ctx context.Context, n int, work func(ctx context.Context, d *database, n int) error) (int64, error) {
	d, err := s.database(ctx, 1)
	if err != nil {
		return 0, err
	}
	defer d.drop(ctx)
	var pid int
	if err := d.pool.QueryRow(ctx, "SELECT pg_backend_pid()").Scan(&pid); err != nil {
		return 0, fmt.Errorf("ask for the process: %w", err)
	}
	if err := work(ctx, d, n); err != nil {
		return 0, err
	}
	d.pool.Close()
	for range 600 {
		said, _ := os.ReadFile(s.counts(strconv.Itoa(pid))) // none until the process has ended
		if _, total, found := strings.Cut(string(said), "\ntotals: "); found {
			return strconv.ParseInt(strings.TrimSpace(total), 10, 64)
		}
		time.Sleep(50 * time.Millisecond) // nothing tells when valgrind has written it
	}
	return 0, fmt.Errorf("valgrind has not said what process %d executed", pid)
}
