package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// report is what all rows came to.
type report struct {
	machine []string
	reps    int
	results []result
}

// verdict says what a bar came to, and whether that is enough.
func (r result) verdict(b bar) (value, wanted, verdict string) {
	got, unit := r.of(b), ""
	switch {
	case b.to != "":
		unit = "x"
	case b.measure == "time":
		got, unit = got*1000, " ms"
		b.atMost *= 1000
	}
	wanted = fmt.Sprintf(">= %.3g%s", b.atLeast, unit)
	if b.atLeast == 0 {
		wanted = fmt.Sprintf("<= %.3g%s", b.atMost, unit)
	}
	verdict = "met"
	if !b.met(got) {
		verdict = "**missed**"
	}
	return fmt.Sprintf("%.3g%s", got, unit), wanted, verdict
}

func (b bar) String() string {
	name := map[string]string{"rate": "rate", "p50": "p50", "p99": "p99", "time": "time"}[b.measure]
	if name == "" {
		name = b.measure
	}
	if b.to == "" {
		return name + " of " + b.of
	}
	return name + " of " + b.of + " to " + b.to
}

// print writes a row for a person who waits.
func (r *report) print(w io.Writer, res result) {
	fmt.Fprintf(w, "\n%s\n", res.row.work)
	for _, way := range res.row.ways {
		fmt.Fprintf(w, "  %-32s %10s/s  p50 %9s  p99 %9s%s\n", way.name, perSecond(res.median(way.name, "rate")),
			duration(res.median(way.name, "p50")), duration(res.median(way.name, "p99")), extras(res, way.name, ", "))
	}
	for _, b := range res.row.bars {
		value, wanted, verdict := res.verdict(b)
		fmt.Fprintf(w, "  %-60s %10s  (%s: %s)\n", b, value, wanted, verdict)
	}
}

func perSecond(rate float64) string {
	if rate == 0 {
		return "-"
	}
	return fmt.Sprintf("%.0f", rate)
}

func duration(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	switch {
	case d == 0:
		return "-"
	case d < time.Millisecond:
		return d.Round(time.Microsecond).String()
	}
	return d.Round(10 * time.Microsecond).String()
}

// extras are the other measures of a way.
func extras(res result, way, separator string) string {
	names := map[string]bool{}
	for _, s := range res.samples[way] {
		for name := range s.extra {
			names[name] = true
		}
	}
	var parts []string
	for name := range names {
		parts = append(parts, fmt.Sprintf("%s %.4g", name, res.median(way, name)))
	}
	slices.Sort(parts)
	if len(parts) == 0 {
		return ""
	}
	return "  " + strings.Join(parts, separator)
}

// write writes benchmarks.md and its plots into the documentation.
func (r *report) write(dir string) error {
	var md strings.Builder
	fmt.Fprintf(&md, `# Benchmarks

Written by `+"`make bench`"+` on %s. Each number is the median of %d runs. The ways of a row are run in turn,
each time beginning with another, each on a database of its own; what it left is checked for exactness after every run. Ratios are
what to look at: they survive another machine, and a busy one. [Performance](performance.md) has the reasons.

`, time.Now().UTC().Format("2006-01-02"), r.reps)
	for _, line := range r.machine {
		fmt.Fprintf(&md, "- %s\n", line)
	}
	md.WriteString("\n## Bars\n\n| work | what | bar | measured | |\n|---|---|---|---|---|\n")
	for _, res := range r.results {
		for _, b := range res.row.bars {
			value, wanted, verdict := res.verdict(b)
			fmt.Fprintf(&md, "| %s | %s | %s | %s | %s |\n", res.row.work, b, wanted, value, verdict)
		}
	}
	md.WriteString("\n![ratios](benchmarks/ratios.svg)\n\n## Rows\n")
	for _, res := range r.results {
		fmt.Fprintf(&md, "\n### %s\n\n| way | per second | p50 | p99 | other measures |\n|---|---:|---:|---:|---|\n", res.row.work)
		for _, way := range res.row.ways {
			fmt.Fprintf(&md, "| %s | %s | %s | %s | %s |\n", way.name, perSecond(res.median(way.name, "rate")),
				duration(res.median(way.name, "p50")), duration(res.median(way.name, "p99")), extras(res, way.name, "; "))
		}
		if res.row.note != nil {
			fmt.Fprintf(&md, "\n%s\n", res.row.note(res))
		}
		if res.row.name == "soak" {
			md.WriteString("\n![soak](benchmarks/soak.svg)\n")
		}
	}
	plots := filepath.Join(dir, "benchmarks")
	if err := os.MkdirAll(plots, 0o755); err != nil {
		return err
	}
	files := map[string]string{
		filepath.Join(dir, "benchmarks.md"): md.String(),
		filepath.Join(plots, "ratios.svg"):  plotRatios(r.results),
	}
	for _, res := range r.results {
		if res.row.name == "soak" {
			files[filepath.Join(plots, "soak.svg")] = plotSeries(res.samples["bidder"][0].series, res.samples["bidder"][0].control)
		}
	}
	for name, content := range files {
		if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
			return err
		}
	}
	return nil
}
