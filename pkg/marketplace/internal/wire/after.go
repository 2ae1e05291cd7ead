package wire

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// The bounds of what a marketplace may ask to wait.
const (
	minWait = time.Second
	maxWait = 15 * time.Minute
)

// RetryAfter returns how long the header Retry-After asks to wait, as [Clamp] allows it; false
// where it does not say. Dates count from the answer's own, so that clocks need not agree.
func RetryAfter(header http.Header, now time.Time) (time.Duration, bool) {
	text := strings.TrimSpace(header.Get("Retry-After"))
	if seconds, ok := ParseSeconds(text); ok {
		return Clamp(seconds), true
	}
	at, err := http.ParseTime(text)
	if err != nil {
		return 0, false
	}
	if date, err := http.ParseTime(header.Get("Date")); err == nil {
		now = date
	}
	return Clamp(at.Sub(now)), true
}

// ParseSeconds reads digits. A number that is too large for anything means very long.
func ParseSeconds(text string) (time.Duration, bool) {
	if text == "" || strings.Trim(text, "0123456789") != "" {
		return 0, false
	}
	seconds, err := strconv.ParseInt(text, 10, 32)
	if err != nil {
		return maxWait, true
	}
	return time.Duration(seconds) * time.Second, true
}

// Clamp bounds a wait to 1 s and 15 min.
func Clamp(d time.Duration) time.Duration { return min(max(d, minWait), maxWait) }
