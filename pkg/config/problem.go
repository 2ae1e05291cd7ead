package config

import (
	"strconv"
	"strings"
)

// A Problem is one thing that is wrong with the configuration. It never holds
// the value of a secret.
type Problem struct { //nolint:errname // part of a report first, and only then an error
	// Where is the variable, the flag, or file:line:column.
	Where string
	// Message says what is wrong.
	Message string
	// Hint says what to do about it, and may be empty.
	Hint string
}

// Error implements error: the problem in one line.
func (p Problem) Error() string {
	text := p.Message
	if p.Where != "" {
		text = p.Where + ": " + text
	}
	if p.Hint != "" {
		text += " (" + p.Hint + ")"
	}
	return text
}

// Error holds everything that is wrong with the configuration.
type Error struct {
	// Problems is never empty.
	Problems []Problem
}

// Error implements error: one problem per line.
func (e *Error) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// quote returns text, cut where it is long, so that it stays in one line.
func quote(text string) string {
	const longest = 60
	if runes := []rune(text); len(runes) > longest {
		text = string(runes[:longest]) + "…"
	}
	return strconv.Quote(text)
}

// nearest returns the candidate that word is probably a typo of, or nothing.
func nearest(word string, candidates []string) string {
	best, found := max(1, len(word)/3)+1, ""
	for _, candidate := range candidates {
		if d := distance(word, candidate); d < best {
			best, found = d, candidate
		}
	}
	return found
}

// distance is the number of single-byte edits between two names (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			substitution := diagonal
			if a[i] != b[j] {
				substitution++
			}
			diagonal = row[j+1]
			row[j+1] = min(substitution, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
