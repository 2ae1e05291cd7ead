package console

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/arbitrageai/bidder/pkg/posting"
)

// piece is a part of a text: as it is, or a character that nobody would see, by its name.
type piece struct {
	Text string
	Odd  bool
}

// pieces makes text from outside harmless and honest: characters that are invisible, reorder
// what stands around them or control a terminal are named instead. Lines stay lines.
func pieces(text string) []piece {
	var all []piece
	plain := strings.Builder{}
	before := ' '
	for _, c := range text {
		if isOdd(c, before) {
			if plain.Len() > 0 {
				all = append(all, piece{Text: plain.String()})
				plain.Reset()
			}
			all = append(all, piece{fmt.Sprintf("U+%04X", c), true})
		} else {
			plain.WriteRune(c)
		}
		before = c
	}
	if plain.Len() > 0 {
		all = append(all, piece{Text: plain.String()})
	}
	return all
}

// visible is a text as pieces show it, where there can be no marks: in an attribute.
func visible(text string) string {
	var b strings.Builder
	for _, p := range pieces(text) {
		if p.Odd {
			p.Text = "‹" + p.Text + "›"
		}
		b.WriteString(p.Text)
	}
	return b.String()
}

// isOdd says whether a character is named instead of shown. Joiners stay within scripts and
// pictures that are written with them.
func isOdd(c, before rune) bool {
	switch {
	case c == '\n' || c == '\t':
		return false
	case c == '\u200c' || c == '\u200d':
		return before < unicode.MaxLatin1
	case strings.ContainsRune("\ufffd\u115f\u1160\u3164\uffa0\u2800\u034f", c): // what was no text, and blanks that count as letters
		return true
	}
	return unicode.In(c, unicode.Cc, unicode.Cf, unicode.Co, unicode.Cs, unicode.Zl, unicode.Zp)
}

// quoted are the parts of a sentence of the program: every other one stands between
// backticks, and is a command.
func quoted(text string) []string { return strings.Split(text, "`") }

// clip is the beginning of a text, so many characters at most.
func clip(text string, most int) string {
	if utf8.RuneCountInString(text) <= most {
		return text
	}
	return string([]rune(text)[:most-1]) + "…"
}

// external is an address outside that may be linked to, or "": of the web, and without a
// name and password, which mislead about where it leads.
func external(text *string) string {
	if text == nil {
		return ""
	}
	u, err := url.Parse(*text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil {
		return ""
	}
	return u.String()
}

// hostOf is where an address leads.
func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Hostname()
}

// money is an amount with its currency.
func money(cents *int64, currency string) string {
	if cents == nil {
		return "–"
	}
	return grouped(posting.FormatAmount(*cents)) + " " + currency
}

// count is a number with its thousands apart.
func count(n int64) string { return grouped(strconv.FormatInt(n, 10)) }

// grouped puts the thousands of a decimal number apart, with a blank that does not break.
func grouped(number string) string {
	whole, fraction, _ := strings.Cut(number, ".")
	sign := ""
	if strings.HasPrefix(whole, "-") {
		sign, whole = "-", whole[1:]
	}
	var b strings.Builder
	for i, digit := range whole {
		if i > 0 && (len(whole)-i)%3 == 0 {
			b.WriteRune('\u202f')
		}
		b.WriteRune(digit)
	}
	if fraction != "" {
		return sign + b.String() + "." + fraction
	}
	return sign + b.String()
}

// words is a name of the database in words: awaiting_approval is "awaiting approval".
func words(name string) string { return strings.ReplaceAll(name, "_", " ") }

// orEmpty is the text, or "" for none.
func orEmpty(text *string) string {
	if text == nil {
		return ""
	}
	return *text
}

// moment is a time as people read it, by the database's clock.
type moment struct{ At, Now time.Time }

// Machine is the time for programs.
func (m moment) Machine() string { return m.At.UTC().Format(time.RFC3339) }

// Exact is the time to the second.
func (m moment) Exact() string { return m.At.UTC().Format("2006-01-02 15:04:05 UTC") }

// Relative is how long ago it was, or how long it will be.
func (m moment) Relative() string {
	d := m.Now.Sub(m.At)
	switch {
	case d > -time.Second && d < 5*time.Second:
		return "just now"
	case d < 0:
		return "in " + span(-d)
	}
	return span(d) + " ago"
}

// Age is how long ago it was, alone.
func (m moment) Age() string { return span(max(m.Now.Sub(m.At), 0)) }

// span is a length of time in its largest unit.
func span(d time.Duration) string {
	const day = 24 * time.Hour
	for _, unit := range []struct {
		length time.Duration
		name   string
	}{{365 * day, "year"}, {30 * day, "month"}, {day, "day"}, {time.Hour, "hour"}, {time.Minute, "minute"}, {time.Second, "second"}} {
		if n := int64(d / unit.length); n == 1 {
			return "1 " + unit.name
		} else if n > 1 {
			return fmt.Sprintf("%d %ss", n, unit.name)
		}
	}
	return "0 seconds"
}
