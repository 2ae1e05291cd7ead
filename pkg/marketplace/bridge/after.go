package bridge

import (
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/arbitrageai/bidder/pkg/marketplace/internal/wire"
)

// waitTime returns how long an answer asks to wait: by Retry-After, else by RateLimit where
// nothing remains; 0 where it does not say.
func waitTime(header http.Header, now time.Time) time.Duration {
	if wait, says := wire.RetryAfter(header, now); says {
		return wait
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
		if seconds, ok := wire.ParseSeconds(reset); ok && remaining == "0" {
			longest = max(longest, wire.Clamp(seconds))
		}
	}
	return longest
}
