package console

import (
	"fmt"
	"strconv"
	"time"
)

// series are numbers over spans of time of the same length.
type series struct {
	Name, Meaning string
	Class         string // its colour and pattern
	Values        []int64
}

func (s series) total() (sum int64) {
	for _, v := range s.Values {
		sum += v
	}
	return sum
}

func (s series) most() (most int64, at int) {
	for i, v := range s.Values {
		if v > most {
			most, at = v, i
		}
	}
	return most, at
}

// bar is a rectangle of a chart, in its units.
type bar struct {
	X, Y, W, H string
	Class      string
}

// column is what a chart shows of one span of time.
type column struct {
	Title string // what it says when pointed at
	Hit   bar    // where it is pointed at
	Bars  []bar
}

// tick is a line of a chart and what is written beside it.
type tick struct{ X, Y, Text string }

// chart is a picture of bars, and what it says in words.
type chart struct {
	Name, Meaning, Summary string
	Class                  string
	Total                  int64
	Width, Height          int
	PlotLeft, PlotRight    string
	Baseline               string
	Columns                []column
	Rows, Times            []tick
}

// number is a length as it stands in SVG.
func number(x float64) string { return strconv.FormatFloat(x, 'f', 1, 64) }

// spark is a small chart of one series.
func spark(s series, times []string) chart {
	const width, height, gap = 240, 44, 2
	most, at := s.most()
	c := chart{Name: s.Name, Meaning: s.Meaning, Class: s.Class, Total: s.total(), Width: width, Height: height, Baseline: number(height - 0.5), PlotLeft: "0", PlotRight: number(width)}
	c.Summary = s.Name + ": none"
	if most > 0 {
		c.Summary = fmt.Sprintf("%s: %s in all, most %s, at %s", s.Name, count(c.Total), count(most), times[at])
	}
	step := float64(width) / float64(len(s.Values))
	for i, v := range s.Values {
		h := 0.0
		if v > 0 {
			h = max(float64(height-2)*float64(v)/float64(most), 1.5) // seen, however small
		}
		x := float64(i) * step
		c.Columns = append(c.Columns, column{
			Title: times[i] + ": " + count(v),
			Hit:   bar{X: number(x), Y: "0", W: number(step), H: number(height)},
			Bars:  []bar{{X: number(x + gap/2), Y: number(height - 1 - h), W: number(max(step-gap, 1)), H: number(h)}},
		})
	}
	return c
}

// stack is a large chart of attempts, several series one on the other, for wide windows or
// for narrow ones.
func stack(shape string, all []series, times []string, began []time.Time, format string) chart {
	const top, bottom, gap = 10, 26, 3
	width, height, left, labels := 960, 240, 56, 6
	if shape == "narrow" {
		width, height, left, labels = 380, 220, 40, 3
	}
	spans := len(times)
	var total, most int64
	for i := range spans {
		var sum int64
		for _, s := range all {
			sum += s.Values[i]
		}
		total, most = total+sum, max(most, sum)
	}
	scale := niceCeiling(most)
	plot := float64(height - top - bottom)
	y := func(v int64) float64 { return top + plot*(1-float64(v)/float64(scale)) }
	c := chart{
		Class: shape, Total: total, Width: width, Height: height, PlotLeft: number(float64(left)), PlotRight: number(float64(width)), Baseline: number(y(0)),
		Summary: "Attempts: " + count(total) + " in all",
	}
	for i := range 5 {
		v := scale * int64(i) / 4
		if scale < 4 && v == scale*int64(i-1)/4 && i > 0 {
			continue // the same number again
		}
		c.Rows = append(c.Rows, tick{X: number(float64(left - 8)), Y: number(y(v)), Text: count(v)})
	}
	step := float64(width-left) / float64(spans)
	for i := range spans {
		x := float64(left) + float64(i)*step
		col := column{Title: times[i], Hit: bar{X: number(x), Y: number(top), W: number(step), H: number(plot)}}
		var below int64
		for _, s := range all {
			v := s.Values[i]
			col.Title += ", " + s.Name + " " + count(v)
			if v > 0 {
				from, to := y(below), y(below+v)
				h := max(from-to, 1)
				col.Bars = append(col.Bars, bar{X: number(x + gap/2), Y: number(from - h), W: number(max(step-gap, 1)), H: number(h), Class: s.Class})
			}
			below += v
		}
		c.Columns = append(c.Columns, col)
		if every := max(spans/labels, 1); i%every == 0 {
			c.Times = append(c.Times, tick{X: number(x), Y: number(float64(height - 6)), Text: began[i].Format(format)})
		}
	}
	return c
}

// niceCeiling is a round number that is not less, and can be cut into four.
func niceCeiling(n int64) int64 {
	if n <= 4 {
		return 4
	}
	for unit := int64(1); ; unit *= 10 {
		for _, nice := range []int64{4, 8, 10, 20, 40} {
			if nice*unit >= n && nice*unit%4 == 0 {
				return nice * unit
			}
		}
	}
}
