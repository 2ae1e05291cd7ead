package terminal

import (
	"fmt"
	"slices"
	"strings"
)

// A Column of a table. The zero value is never narrower than what stands in it.
type Column struct {
	Name string
	// Min is how narrow it may become where the screen is; 0 is as wide as it is.
	Min int
	// Wrap has what does not fit go on in the next line; else it is cut, with a "…".
	Wrap bool
	// Right is for numbers: they stand at the right.
	Right bool
}

// Columns are columns of which none is narrowed.
func Columns(names ...string) []Column {
	columns := make([]Column, len(names))
	for i, name := range names {
		columns[i].Name = name
	}
	return columns
}

// Numbers are such columns, with numbers.
func Numbers(names ...string) []Column {
	columns := Columns(names...)
	for i := range columns {
		columns[i].Right = true
	}
	return columns
}

// Styled is the value of a cell, in a style.
type Styled struct {
	Value any
	Style Style
}

type cell struct {
	text  string
	style Style
}

// A Table is printed without borders, for people and for grep. Where the screen is too narrow
// for its columns, the last of them go to lines of their own: nothing is left out.
type Table struct {
	screen  Screen
	columns []Column
	rows    [][]cell
}

const (
	gap    = 2 // between columns
	indent = 2 // of a row's further lines
)

// Table begins a table with these columns.
func (s Screen) Table(columns ...Column) *Table {
	t := &Table{screen: s, columns: columns}
	if slices.ContainsFunc(columns, func(c Column) bool { return c.Name != "" }) {
		header := make([]cell, len(columns))
		for i, c := range columns {
			header[i] = cell{strings.ToUpper(c.Name), Bold}
		}
		t.rows = append(t.rows, header)
	}
	return t
}

// Fields begins a table of names and values, without a header. Long values are wrapped.
func (s Screen) Fields() *Table { return s.Table(Column{}, Column{Min: 16, Wrap: true}) }

// Row adds a row. Text is shown as [Text] makes it, and an [ID] as its String does; nothing
// else has to be done about where it comes from.
func (t *Table) Row(values ...any) {
	row := make([]cell, len(values))
	for i, value := range values {
		style := Plain
		if styled, ok := value.(Styled); ok {
			value, style = styled.Value, styled.Style
		}
		switch v := value.(type) {
		case ID:
			row[i] = cell{v.String(), style}
		case string:
			row[i] = cell{Text(v), style}
		default:
			row[i] = cell{Text(fmt.Sprint(v)), style}
		}
	}
	t.rows = append(t.rows, row)
}

// Field adds a name with its value.
func (t *Table) Field(name string, value any) { t.Row(Styled{name, Faint}, value) }

// Print prints the table.
func (t *Table) Print() {
	var out strings.Builder
	lines := t.layout()
	for _, row := range t.rows {
		for i, line := range lines {
			t.printLine(&out, row, line, i > 0)
		}
	}
	fmt.Fprint(t.screen, out.String())
}

// placed is a column with the width that it is given.
type placed struct{ column, width int }

// layout says which columns stand in which line of a row, and how wide they are.
func (t *Table) layout() [][]placed {
	want, least := make([]int, len(t.columns)), make([]int, len(t.columns))
	for i, c := range t.columns {
		for _, row := range t.rows {
			want[i] = max(want[i], width(row[i].text))
		}
		least[i] = want[i]
		if c.Min > 0 {
			least[i] = min(want[i], max(c.Min, width(c.Name)))
		}
	}
	var lines [][]placed
	room := 0 // in the line under way; without bound it is of no matter
	for i := range t.columns {
		if len(lines) == 0 || t.screen.Width > 0 && room < gap+least[i] {
			room = t.screen.Width + gap
			if len(lines) > 0 {
				room -= indent
			}
			lines = append(lines, nil)
		}
		last := &lines[len(lines)-1]
		*last = append(*last, placed{i, least[i]})
		room -= gap + least[i]
	}
	for n, line := range lines {
		t.widen(line, want, n > 0)
	}
	return lines
}

// widen gives the columns of a line what is left of the screen, those that want little first.
func (t *Table) widen(line []placed, want []int, indented bool) {
	room := t.screen.Width
	if indented {
		room -= indent
	}
	for i := range line {
		if i > 0 {
			room -= gap
		}
		room -= line[i].width
	}
	order := make([]int, len(line))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return want[line[a].column] - line[a].width - (want[line[b].column] - line[b].width)
	})
	for done, i := range order {
		more := want[line[i].column] - line[i].width
		if t.screen.Width > 0 {
			more = min(more, max(room, 0)/(len(order)-done))
		}
		line[i].width += more
		room -= more
	}
	if room < 0 && len(line) == 1 { // wider than the whole screen
		line[0].width = max(line[0].width+room, 1)
	}
}

// printLine prints the columns of one line of a row, in as many lines as they need when wrapped.
func (t *Table) printLine(out *strings.Builder, row []cell, line []placed, indented bool) {
	parts, height := make([][]string, len(line)), 1
	for i, p := range line {
		c, text := t.columns[p.column], row[p.column].text
		switch {
		case width(text) <= p.width:
			parts[i] = []string{text}
		case c.Wrap || c.Min == 0:
			parts[i] = wrap(text, p.width)
		default:
			parts[i] = []string{Cut(text, p.width)}
		}
		height = max(height, len(parts[i]))
	}
	for n := range height {
		column, printed := 0, 0 // where the next one begins, and where the line ends so far
		if indented {
			column = indent
		}
		for i, p := range line {
			if n < len(parts[i]) && parts[i][n] != "" {
				text, start := parts[i][n], column
				if t.columns[p.column].Right {
					start += p.width - width(text)
				}
				out.WriteString(strings.Repeat(" ", max(start-printed, 0)))
				out.WriteString(t.screen.Paint(row[p.column].style, text))
				printed = start + width(text)
			}
			column += p.width + gap
		}
		out.WriteByte('\n')
	}
}
