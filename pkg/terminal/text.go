// Package terminal prints for people: text from outside made harmless, tables that fit the
// width of the screen, colours where they may be, and how long ago something was.
package terminal

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/rivo/uniseg"
)

// maxMarks is how many marks may stand on one character; real scripts need fewer.
const maxMarks = 4

// Text makes text from outside fit to be shown, on one line: white space becomes single
// spaces, and what cannot be seen, or would move, hide or colour what stands around it, is
// shown by its number, as <U+202E>. Emoji that are joined from several stay as they are.
func Text(s string) string {
	s = strings.ToValidUTF8(s, string(unicode.ReplacementChar))
	var out strings.Builder
	prev, marks, space := rune(0), 0, false
	for i, r := range s {
		next, _ := utf8.DecodeRuneInString(s[i+utf8.RuneLen(r):])
		if unicode.IsSpace(r) {
			space, prev, marks = true, ' ', 0
			continue
		}
		if space && out.Len() > 0 {
			out.WriteByte(' ')
		}
		space = false
		switch {
		case isEmojiPart(prev, r, next):
			out.WriteRune(r)
		case isEscape(s[i:]) || isHidden(r) || isMark(r) && (out.Len() == 0 || prev == ' '):
			marks = 0
			escape(&out, r)
		case !isMark(r):
			marks = 0
			out.WriteRune(r)
		default:
			if marks++; marks <= maxMarks {
				out.WriteRune(r)
			} else if marks == maxMarks+1 {
				out.WriteRune(unicode.ReplacementChar)
			}
		}
		prev = r
	}
	return out.String()
}

// ID is an identifier from outside, such as the id of a job. Printed, two of them look the
// same only if they are: all white space but the plain space, all marks and everything that
// cannot be seen are shown by their numbers, and what looks like such a number is not left
// as it is.
type ID string

func (id ID) String() string {
	s := strings.ToValidUTF8(string(id), string(unicode.ReplacementChar))
	var out strings.Builder
	for i, r := range s {
		if r == ' ' && i > 0 && i < len(s)-1 || !isEscape(s[i:]) && !isHidden(r) && !isMark(r) && !unicode.IsSpace(r) {
			out.WriteRune(r)
		} else {
			escape(&out, r)
		}
	}
	return out.String()
}

func escape(out *strings.Builder, r rune) { fmt.Fprintf(out, "<U+%04X>", r) }

// isEscape says whether s begins as what escape writes.
func isEscape(s string) bool { return strings.HasPrefix(s, "<U+") }

func isMark(r rune) bool { return unicode.Is(unicode.M, r) }

// isHidden says whether r shows nothing by itself: control and format characters, those
// that no version of Unicode that is known here has, and fillers.
func isHidden(r rune) bool {
	return !unicode.IsGraphic(r) || unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector) ||
		r == '\u2800' || r == '\uFFFC' || r == '\U0001D159' // blank braille, an object that is not there, an empty note
}

const (
	zeroWidthJoiner = '\u200D'
	textStyle       = '\uFE0E'
	emojiStyle      = '\uFE0F'
	keycap          = '\u20E3'
)

// isEmojiPart says whether r is an invisible part of an emoji, between prev and next.
func isEmojiPart(prev, r, next rune) bool {
	switch r {
	case zeroWidthJoiner:
		return (isPictograph(prev) || prev == emojiStyle) && isPictograph(next)
	case textStyle, emojiStyle:
		return isPictograph(prev) || next == keycap && (prev == '#' || prev == '*' || '0' <= prev && prev <= '9')
	case keycap:
		return prev == emojiStyle
	}
	return false
}

func isPictograph(r rune) bool {
	return r > unicode.MaxLatin1 && unicode.In(r, unicode.So, unicode.Sm, unicode.Sk) || r == '©' || r == '®'
}

// EscapeJSON writes what [Text] would show by its number, but for marks, as JSON escapes.
// JSON means the same with them; encoding/json leaves most of these characters as they are.
func EscapeJSON(encoded []byte) []byte {
	if isASCII(encoded) {
		return encoded // control characters stand in JSON only as escapes, or between values
	}
	out := make([]byte, 0, len(encoded))
	for _, r := range string(encoded) {
		if r <= '~' || r != 0x7F && !isHidden(r) {
			out = utf8.AppendRune(out, r)
			continue
		}
		if high, low := utf16.EncodeRune(r); high != unicode.ReplacementChar {
			out = fmt.Appendf(out, `\u%04x\u%04x`, high, low)
		} else {
			out = fmt.Appendf(out, `\u%04x`, r)
		}
	}
	return out
}

func isASCII(b []byte) bool {
	for _, c := range b {
		if c >= 0x7F {
			return false
		}
	}
	return true
}

// width is how many columns s takes.
func width(s string) int { return uniseg.StringWidth(s) }

// Cut shortens s to at most so many columns, at the end of a character.
func Cut(s string, columns int) string {
	if width(s) <= columns {
		return s
	}
	var out strings.Builder
	used, state := 1, -1 // one is for the …
	for s != "" {
		var cluster string
		var w int
		cluster, s, w, _, state = next(s, columns, state)
		if used += w; used > columns {
			break
		}
		out.WriteString(cluster)
	}
	return strings.TrimRight(out.String(), " ") + "…"
}

// escapeWidth is how wide the escape of a character is at most.
const escapeWidth = len("<U+10FFFF>")

// next takes the first character off s, and says how wide it is and whether a line may end
// after it. An escape is one character, where there is room for it.
func next(s string, columns, state int) (cluster, rest string, w int, breaks bool, newState int) {
	if end := strings.IndexByte(s, '>') + 1; isEscape(s) && end > 0 && end <= escapeWidth && columns >= escapeWidth {
		return s[:end], s[end:], end, false, -1
	}
	cluster, rest, boundaries, newState := uniseg.StepString(s, state)
	return cluster, rest, boundaries >> uniseg.ShiftWidth, boundaries&uniseg.MaskLine != uniseg.LineDontBreak, newState
}

// wrap breaks s into lines of at most so many columns, between words where it can.
func wrap(s string, columns int) []string {
	var lines []string
	line, used := "", 0   // of the line so far
	word, length := "", 0 // since the last place where it may break
	state := -1
	end := func() {
		lines = append(lines, strings.TrimRight(line, " "))
		line, used = "", 0
	}
	for s != "" {
		var cluster string
		var w int
		var breaks bool
		cluster, s, w, breaks, state = next(s, columns, state)
		if cluster != " " && used+length+w > columns { // a space may hang over
			if used > 0 {
				end()
			}
			if length > 0 && length+w > columns {
				line, used, word, length = word, length, "", 0
				end()
			}
		}
		word, length = word+cluster, length+w
		if breaks {
			line, used, word, length = line+word, used+length, "", 0
		}
	}
	line, used = line+word, used+length
	if used > 0 || len(lines) == 0 {
		end()
	}
	return lines
}
