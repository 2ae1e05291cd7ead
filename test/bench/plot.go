package main

import (
	"fmt"
	"html"
	"slices"
	"strings"
)

// svg begins a plot. White, so that it can be read on a dark page too.
func svg(width, height int) *strings.Builder {
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n",
		width, height, width, height)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="#fff"/>`+"\n", width, height)
	return &b
}

// plotRatios shows each bar as a share of what it demands: what reaches the line is met.
func plotRatios(results []result) string {
	const labels, unit, line, height = 430, 160, 22, 16
	type entry struct {
		label, value string
		share        float64
	}
	var entries []entry
	for _, res := range results {
		for _, b := range res.row.bars {
			value, wanted, _ := res.verdict(b)
			share := res.of(b) / b.atLeast
			if b.atLeast == 0 {
				share = b.atMost / max(res.of(b), 1e-9)
			}
			entries = append(entries, entry{res.row.name + ": " + b.String(), value + " (" + wanted + ")", share})
		}
	}
	b := svg(labels+2*unit+170, line*len(entries)+50)
	fmt.Fprintf(b, `<text x="10" y="18" font-weight="bold">How far each bar is cleared (cut off at twice its height)</text>`+"\n")
	for i, e := range entries {
		y, color := 30+i*line, "#2a7f4f"
		if e.share < 1 {
			color = "#b3372f"
		}
		width := min(e.share, 2) * unit
		fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="end">%s</text>`+"\n", labels-8, y+12, html.EscapeString(e.label))
		fmt.Fprintf(b, `<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/>`+"\n", labels, y, width, height, color)
		fmt.Fprintf(b, `<text x="%.1f" y="%d">%s</text>`+"\n", labels+max(width, unit)+6, y+12, html.EscapeString(e.value)) // beyond the line of what is demanded
	}
	fmt.Fprintf(b, `<line x1="%d" y1="26" x2="%d" y2="%d" stroke="#333" stroke-dasharray="4 3"/>`+"\n", labels+unit, labels+unit, 34+line*len(entries))
	b.WriteString("</svg>\n")
	return b.String()
}

// plotSeries shows a rate over time, and that of a control beside it.
func plotSeries(series, control []float64) string {
	const width, height, left, bottom = 800, 240, 70, 30
	b := svg(width, height)
	top := slices.Max(slices.Concat(series, control)) * 1.1
	y := func(v float64) float64 { return height - bottom - v/top*(height-bottom-20) }
	for _, share := range []float64{0, 0.5, 1} {
		v := share * top
		fmt.Fprintf(b, `<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="#ddd"/><text x="%d" y="%.1f" text-anchor="end">%.0f</text>`+"\n",
			left, y(v), width-10, y(v), left-6, y(v)+4, v)
	}
	line := func(series []float64, color string) {
		var points []string
		for i, v := range series {
			x := left + float64(i)*(width-left-10)/float64(max(len(series)-1, 1))
			points = append(points, fmt.Sprintf("%.1f,%.1f", x, y(v)))
		}
		fmt.Fprintf(b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="1.5"/>`+"\n", strings.Join(points, " "), color)
	}
	line(series, "#2a7f4f")
	line(control, "#b0793a")
	fmt.Fprintf(b, `<text x="%d" y="%d">claims per second, each 20,000 claims, from the first to the last; brown: the young database beside it</text></svg>`+"\n", left, height-8)
	return b.String()
}
