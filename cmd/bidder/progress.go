package main

import (
	"time"

	"github.com/schollz/progressbar/v3"
)

// progress shows how far long work is. Without a terminal it shows nothing.
type progress struct{ bar *progressbar.ProgressBar }

func (p progress) Write(b []byte) (int, error) {
	if p.bar != nil {
		_ = p.bar.Add(len(b))
	}
	return len(b), nil
}

func (p progress) add(n int) {
	if p.bar != nil {
		_ = p.bar.Add(n)
	}
}

func (p progress) finish() {
	if p.bar != nil {
		_ = p.bar.Finish()
	}
}

// byteProgress is for work of size bytes; -1 is unknown.
func (a *app) byteProgress(what string, size int64) progress {
	return a.progress(size, progressbar.OptionSetDescription(what), progressbar.OptionShowBytes(true))
}

// countProgress is for total things of a kind.
func (a *app) countProgress(what, unit string, total int64) progress {
	return a.progress(total, progressbar.OptionSetDescription(what), progressbar.OptionShowCount(),
		progressbar.OptionShowIts(), progressbar.OptionSetItsString(unit))
}

func (a *app) progress(total int64, options ...progressbar.Option) progress {
	if !isTerminal(a.stderr) {
		return progress{}
	}
	options = append(options, progressbar.OptionSetWriter(a.stderr), progressbar.OptionClearOnFinish(),
		progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionSetPredictTime(true), progressbar.OptionUseANSICodes(true))
	return progress{bar: progressbar.NewOptions64(total, options...)}
}
