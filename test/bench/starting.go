package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/arbitrageai/bidder/pkg/localpg"
)

// starting: what a pod costs that finds nothing to do.
func starting() row {
	var d *database
	timed := func(cmd *exec.Cmd) (sample, error) {
		cmd.Stderr = os.Stderr
		started := time.Now()
		err := cmd.Run()
		return sample{ops: 1, elapsed: time.Since(started)}, err
	}
	several := func(ctx context.Context, n int, command func() *exec.Cmd) (sample, error) {
		var all sample
		for range n {
			s, err := timed(command())
			if err != nil {
				return all, fmt.Errorf("%v: %w", command().Args, err)
			}
			all.ops++
			all.elapsed += s.elapsed
			all.latencies = append(all.latencies, s.elapsed)
		}
		return all, ctx.Err()
	}
	return row{
		name: "starting", work: "starting `bidder run` with nothing to do",
		bars: []bar{{measure: "p50", of: "bidder run", to: "psql -c 'select 1'", atMost: 3}},
		prepare: func(ctx context.Context, b *bench) (_ func(), err error) {
			d, err = b.database(ctx, 1)
			return func() { d.drop(ctx) }, err
		},
		ways: []way{
			{"psql -c 'select 1'", func(ctx context.Context, b *bench) (sample, error) {
				bin, err := localpg.FindBinaries() // not Debian's wrapper, which is slower
				if err != nil {
					return sample{}, err
				}
				return several(ctx, b.sizes.starts, func() *exec.Cmd {
					cmd := exec.CommandContext(ctx, filepath.Join(bin, "psql"), "-X", "-c", "select 1", d.url)
					cmd.Env = []string{"HOME=" + b.dir}
					return cmd
				})
			}},
			{"bidder run", func(ctx context.Context, b *bench) (sample, error) {
				return several(ctx, b.sizes.starts, func() *exec.Cmd {
					cmd := exec.CommandContext(ctx, b.program, "run")
					cmd.Env = []string{"DATABASE_URL=" + d.url, "HOME=" + b.dir, "BIDDER_LOG_LEVEL=error"}
					return cmd
				})
			}},
		},
	}
}
