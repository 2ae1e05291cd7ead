package main

import (
	"cmp"
	"context"
	"io"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/delivery"
	"github.com/arbitrageai/bidder/pkg/terminal"
)

// progress shows how far long work is, how fast it goes and how long it will take. Without
// a terminal it shows nothing.
type progress struct {
	bar  *progressbar.ProgressBar
	line *statusLine
}

func (p progress) Write(b []byte) (int, error) {
	p.add(len(b))
	return len(b), nil
}

func (p progress) add(n int) {
	if p.bar != nil {
		_ = p.bar.Add(n)
	}
}

func (p progress) finish() {
	if p.bar != nil {
		_ = p.bar.Exit()
		p.line.end()
	}
}

// follow shows a number that somebody else counts, until stop is called.
func (p progress) follow(ctx context.Context, count func() int64) (stop func()) {
	if p.bar == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		ticks := time.NewTicker(progressEvery)
		defer ticks.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticks.C:
				_ = p.bar.Set64(count())
			}
		}
	}()
	return func() { cancel(); <-done; p.finish() }
}

// dueCandidates is how many candidates a pass will take, about, if there is anybody to be told.
func (a *app) dueCandidates(ctx context.Context, s *session) int64 {
	if a.line == nil {
		return unknownTotal
	}
	facts, err := queries.New(s.pool).QueueFacts(ctx)
	if err != nil || facts.Due == 0 {
		return unknownTotal // what is wrong the pass itself will say
	}
	return facts.Due
}

// dueDeliveries is how many deliveries a pass will make, about, if there is anybody to be told.
func (a *app) dueDeliveries(ctx context.Context, s *session) int64 {
	if a.line == nil {
		return unknownTotal
	}
	rows, err := queries.New(s.pool).PreviewDeliveries(ctx, s.PostingTTL)
	if err != nil {
		return unknownTotal
	}
	total := int64(0)
	for _, row := range rows {
		if !row.Paused {
			total += row.Bids
		}
	}
	return cmp.Or(total, unknownTotal)
}

// dueChecks is how many live bids a pass will look up, about, if there is anybody to be told.
func (a *app) dueChecks(ctx context.Context, engine *delivery.Engine) int64 {
	if a.line == nil {
		return unknownTotal
	}
	due, err := engine.DueChecks(ctx)
	if err != nil {
		return unknownTotal
	}
	return cmp.Or(due, unknownTotal)
}

// delivered is how many deliveries were attempted.
func delivered(totals delivery.Totals) (n int64) {
	for _, c := range []delivery.Counts{totals.Place, totals.Withdraw} {
		n += c.Done + c.Retry + c.Review + c.Rejected
	}
	return n
}

// lookedUp is how many live bids were looked up.
func lookedUp(r delivery.Refreshed) int64 {
	return r.Live + r.Won + r.Lost + r.Rejected + r.Withdrawn + r.Unseen + r.Review
}

// unknownTotal shows work without an end.
const unknownTotal = -1

// longestWork is how much of its name is shown, in columns: all has to fit 80.
const longestWork = 28

// progressEvery is how often it is drawn.
const progressEvery = 100 * time.Millisecond

// byteProgress is for work of size bytes, or of unknownTotal.
func (a *app) byteProgress(what string, size int64) progress {
	return a.progress(size, what, progressbar.OptionShowBytes(true))
}

// countProgress is for total things of a kind, or for unknownTotal.
func (a *app) countProgress(what, unit string, total int64) progress {
	return a.progress(total, what, progressbar.OptionShowCount(), progressbar.OptionShowIts(), progressbar.OptionSetItsString(unit))
}

func (a *app) progress(total int64, what string, options ...progressbar.Option) progress {
	if a.line == nil {
		return progress{}
	}
	options = append(options, progressbar.OptionSetDescription(terminal.Cut(terminal.Text(what), longestWork)), progressbar.OptionSetWriter(barWriter{a.line}), progressbar.OptionSetWidth(10),
		progressbar.OptionThrottle(progressEvery), progressbar.OptionSetPredictTime(true), progressbar.OptionSetElapsedTime(false),
		progressbar.OptionShowTotalBytes(total != unknownTotal),
		progressbar.OptionUseANSICodes(true), progressbar.OptionSetRenderBlankState(true), progressbar.OptionSetSpinnerChangeInterval(0))
	return progress{bar: progressbar.NewOptions64(total, options...), line: a.line}
}

// statusLine is a terminal whose last line may show progress. What else is written takes the
// place of that line, which is drawn again below it.
type statusLine struct {
	mu    sync.Mutex
	w     io.Writer
	shown bool
}

func (l *statusLine) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clear()
	return l.w.Write(p) //nolint:wrapcheck // as the terminal says it
}

func (l *statusLine) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clear()
}

func (l *statusLine) clear() {
	if l.shown {
		_, _ = io.WriteString(l.w, "\r\x1b[K")
		l.shown = false
	}
}

// barWriter draws on the status line.
type barWriter struct{ line *statusLine }

func (b barWriter) Write(p []byte) (int, error) {
	b.line.mu.Lock()
	defer b.line.mu.Unlock()
	b.line.shown = true
	return b.line.w.Write(p) //nolint:wrapcheck // as the terminal says it
}
