// Command bidder claims postings of freelance marketplaces exactly once, however many
// processes try at the same time, with Postgres as the only coordinator.
package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/arbitrageai/bidder/pkg/embedded"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == embedded.SupervisorCommand {
		if err := embedded.Supervise(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, "bidder:", err)
			os.Exit(codeInternal)
		}
		return
	}
	collectSeldom()
	ctx, stop := withSignals(context.Background())
	code := run(ctx, &app{
		args: os.Args[1:], environ: os.Environ(), stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr,
	})
	stop()
	os.Exit(code)
}

// collectSeldom has garbage collected less often than Go does by itself: little of what a batch needs
// outlives it, so that the default is a collection for every few batches. The limit keeps that within
// what a small pod has. GOGC and GOMEMLIMIT go first.
func collectSeldom() {
	const usual, seldom, limit = 100, 400, 64 << 20
	if percent := debug.SetGCPercent(seldom); percent != usual {
		debug.SetGCPercent(percent)
	}
	if debug.SetMemoryLimit(-1) == math.MaxInt64 {
		debug.SetMemoryLimit(limit)
	}
}

// withSignals returns a context that SIGINT and SIGTERM cancel with the signal as its
// cause. A second signal ends the process at once, by an exit: as the first process of a
// container it cannot die of a signal, and Go would have it exit with 2, wrong usage.
func withSignals(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		select {
		case received := <-signals:
			if number, ok := received.(syscall.Signal); ok {
				cancel(interruption{number})
				fmt.Fprintln(os.Stderr, "bidder: ending what is under way; interrupt again to stop at once")
			}
		case <-ctx.Done():
			return
		}
		if number, ok := (<-signals).(syscall.Signal); ok {
			os.Exit(codeSignal + int(number))
		}
	}()
	return ctx, func() { signal.Stop(signals); cancel(nil) }
}

// interruption is the cause of a context that a signal has cancelled.
type interruption struct{ signal syscall.Signal }

func (i interruption) Error() string { return "interrupted: " + i.signal.String() }

// interrupted adds the signal that has ended ctx, if one has, to an error: whatever else
// went wrong may be only its consequence.
func interrupted(ctx context.Context, err error) error {
	cause, ok := errors.AsType[interruption](context.Cause(ctx))
	if _, said := errors.AsType[interruption](err); !ok || err == nil || said {
		return err
	}
	return errors.Join(cause, err)
}
