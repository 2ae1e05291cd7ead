package bridge

import (
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// The bounds of what a marketplace may ask to wait.
const (
	minWait = time.Second
	maxWait = 15 * time.Minute
)

// waitTime returns how long an answer asks to wait: by Retry-After, else by RateLimit where
// nothing remains; 0 where it does not say. Dates count from the answer's own, so that clocks
// need not agree.
func waitTime(header http.Header, now time.Time) time.Duration {
	text := strings.TrimSpace(header.Get("Retry-After"))
	if seconds, ok := parseSeconds(text); ok {
		return clamp(seconds)
	}
	if at, err := http.ParseTime(text); err == nil {
		if date, err := http.ParseTime(header.Get("Date")); err == nil {
			now = date
		}
		return clamp(at.Sub(now))
	}
	var longest time.Duration
	quoted := regexp.MustCompile(`"(\\.|[^"\\])*"`)
	for policy := range strings.SplitSeq(quoted.ReplaceAllString(strings.Join(header.Values("Ratelimit"), ","), ""), ",") {
		var remaining, reset string
		for parameter := range strings.SplitSeq(policy, ";") {
			switch name, value, _ := strings.Cut(strings.TrimSpace(parameter), "="); name {
			case "r":
				remaining = value
			case "t":
				reset = value
			}
		}
		if seconds, ok := parseSeconds(reset); ok && remaining == "0" {
			longest = max(longest, clamp(seconds))
		}
	}
	return longest
}

// parseSeconds reads digits. A number that is too large for anything means very long.
func parseSeconds(text string) (time.Duration, bool) {
	if text == "" || strings.Trim(text, "0123456789") != "" {
		return 0, false
	}
	seconds, err := strconv.ParseInt(text, 10, 32)
	if err != nil {
		return maxWait, true
	}
	return time.Duration(seconds) * time.Second, true
}

func clamp(d time.Duration) time.Duration { return min(max(d, minWait), maxWait) }
