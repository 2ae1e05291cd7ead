package terminal

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/term"
)

// A Screen is where a command prints its report.
type Screen struct {
	io.Writer

	// Width is how many columns a line has; 0 is without bound.
	Width int
	// Color says whether colours are wanted.
	Color bool
}

// NewScreen finds out what w is: a terminal, or a file or pipe, whose lines are as long as
// they are. Of the environment COLUMNS sets the width of either, NO_COLOR and a TERM that
// is dumb or not set forbid colours, and CLICOLOR_FORCE wants them in files and pipes too.
func NewScreen(w io.Writer, environ []string) Screen {
	variables := map[string]string{}
	for _, variable := range environ {
		name, value, _ := strings.Cut(variable, "=")
		variables[name] = value
	}
	s := Screen{Writer: w}
	isTerminal := IsTerminal(w)
	if isTerminal {
		if f, ok := w.(*os.File); ok {
			s.Width, _, _ = term.GetSize(int(f.Fd())) // 0 where it is not known
		}
	}
	if columns, err := strconv.Atoi(variables["COLUMNS"]); err == nil && columns > 0 {
		s.Width = columns
	}
	forced := variables["CLICOLOR_FORCE"] != "" && variables["CLICOLOR_FORCE"] != "0"
	s.Color = variables["NO_COLOR"] == "" && (forced || isTerminal && variables["TERM"] != "dumb" && variables["TERM"] != "")
	return s
}

// IsTerminal says whether w is a terminal.
func IsTerminal(w any) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// Style is how text stands out. It never says anything that the text does not say.
type Style string

// The styles, as terminals number them.
const (
	Plain Style = ""
	Bold  Style = "1"
	Faint Style = "2"
	Bad   Style = "1;31"
	Good  Style = "32"
	Warn  Style = "33"
)

// Paint returns the text in a style, if the screen has colours.
func (s Screen) Paint(style Style, text string) string {
	if !s.Color || style == Plain || text == "" {
		return text
	}
	return "\x1b[" + string(style) + "m" + text + "\x1b[0m"
}

// Say prints a paragraph, wrapped to the width, with its further lines below the text of
// the first: what stands before the text is bullet.
func (s Screen) Say(bullet, text string) {
	columns := s.Width - width(bullet)
	if s.Width <= 0 || columns < 1 {
		columns = width(text)
	}
	for i, line := range wrap(text, max(columns, 1)) {
		if i == 1 {
			bullet = strings.Repeat(" ", width(bullet))
		}
		fmt.Fprintln(s, bullet+line)
	}
}

// Exact is a time to the second, in UTC.
func Exact(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05Z") }

// Ago says how far t is from now, roughly: "3 min ago", "in 2 h".
func Ago(t, now time.Time) string {
	d := now.Sub(t)
	form := "%d %s ago"
	if d < 0 {
		d, form = -d, "in %d %s"
	}
	const day = 24 * time.Hour
	switch {
	case d < time.Second:
		return "now"
	case d < time.Minute:
		return fmt.Sprintf(form, d/time.Second, "s")
	case d < time.Hour:
		return fmt.Sprintf(form, d/time.Minute, "min")
	case d < 2*day:
		return fmt.Sprintf(form, d/time.Hour, "h")
	default:
		return fmt.Sprintf(form, d/day, "days")
	}
}
