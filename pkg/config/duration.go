package config

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// ParseDuration reads a duration in Go's syntax, which may begin with days:
// 90s, 1h30m, 1d, 1d12h. A number without a unit is refused unless it is 0,
// because nobody can tell whether seconds or milliseconds were meant; so is a
// negative duration. An error is a [Problem] without Where.
func ParseDuration(text string) (time.Duration, error) {
	switch {
	case strings.HasPrefix(text, "-"):
		return 0, Problem{Message: quote(text) + " is negative", Hint: "use 0 or more"}
	case isNumber(text) && text != "0":
		return 0, Problem{Message: quote(text) + " has no unit", Hint: fmt.Sprintf("write %ss for seconds", text)}
	}

	days, clock, found := strings.Cut(text, "d")
	switch {
	case !found:
		days, clock = "0", text
	case !isNumber(days):
		days = "" // not even a time
	case clock == "":
		clock = "0"
	}
	// A day is always 24 hours here: nothing is computed with calendars.
	whole, err := time.ParseDuration(days + "h")
	rest, restErr := time.ParseDuration(clock)
	if err != nil || restErr != nil || strings.ContainsAny(clock, "+-") ||
		whole > math.MaxInt64/24 || rest > math.MaxInt64-24*whole {
		return 0, Problem{Message: quote(text) + " is not a duration", Hint: "write it like 500ms, 10s, 5m, 24h or 1d12h"}
	}
	return 24*whole + rest, nil
}

// isNumber reports whether text is made of digits and at most one point.
func isNumber(text string) bool {
	return strings.Trim(text, "0123456789.") == "" && strings.Trim(text, ".") != "" && strings.Count(text, ".") <= 1
}

// FormatDuration returns a duration as people write it, without units that are
// zero: 5m and 24h, not 5m0s and 24h0m0s. [ParseDuration] reads it back.
func FormatDuration(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
