package config_test

import (
	"math"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/arbitrageai/bidder/pkg/config"
)

func TestParseDuration(t *testing.T) {
	t.Parallel()

	const day = 24 * time.Hour
	tests := []struct {
		text string
		want time.Duration
	}{
		{"0", 0},
		{"0s", 0},
		{"0d", 0},
		{"500ms", 500 * time.Millisecond},
		{"1h30m", 90 * time.Minute},
		{"1.5h", 90 * time.Minute},
		{"1d", day},
		{"1d12h", 36 * time.Hour},
		{"1.5d", 36 * time.Hour},
		{".5d", 12 * time.Hour},
		{"2d1m", 2*day + time.Minute},
		{"106751d", 106751 * day},
		{"1µs", time.Microsecond},
	}
	for _, tt := range tests {
		if got, err := config.ParseDuration(tt.text); err != nil || got != tt.want {
			t.Errorf("ParseDuration(%q) = %v, %v, want %v", tt.text, got, err, tt.want)
		}
	}
}

func TestParseDuration_refuses(t *testing.T) {
	t.Parallel()

	tests := []struct{ text, want string }{
		{"5", `"5" has no unit (write 5s for seconds)`},
		{"1.5", `"1.5" has no unit (write 1.5s for seconds)`},
		{"0.0", `"0.0" has no unit (write 0.0s for seconds)`},
		{"-5s", `"-5s" is negative (use 0 or more)`},
		{"-1d", `"-1d" is negative (use 0 or more)`},
	}
	for _, text := range []string{
		"", "d", ".d", "x", "1x", "1d5", "1d-1h", "+1s", "1h1d", "1d1d", "1d d", "1 d", "1e2d", "106752d", "213504d", "106751d24h",
		"9999999999999999999d", "2562048h", "5 s", "1w",
	} {
		tests = append(tests, struct{ text, want string }{text, strconv.Quote(text) + ` is not a duration (write it like 500ms, 10s, 5m, 24h or 1d12h)`})
	}
	for _, tt := range tests {
		got, err := config.ParseDuration(tt.text)
		if err == nil || err.Error() != tt.want {
			t.Errorf("ParseDuration(%q) = %v, %v, want error %s", tt.text, got, err, tt.want)
		}
	}
}

func TestFormatDuration(t *testing.T) {
	t.Parallel()

	for d, want := range map[time.Duration]string{
		0: "0s", 24 * time.Hour: "24h", 5 * time.Minute: "5m", 90 * time.Second: "1m30s", time.Hour + time.Second: "1h0m1s",
		10 * time.Second: "10s", 20 * time.Minute: "20m", 10 * time.Hour: "10h", 1500 * time.Millisecond: "1.5s",
	} {
		if got := config.FormatDuration(d); got != want {
			t.Errorf("FormatDuration(%d) = %q, want %q", d, got, want)
		}
	}
}

// What is formatted is read back, alone and behind days.
func TestDuration_roundTrip(t *testing.T) {
	t.Parallel()

	rapid.Check(t, func(t *rapid.T) {
		const day = 24 * time.Hour
		days := rapid.Int64Range(0, math.MaxInt64/int64(day)).Draw(t, "days")
		whole := time.Duration(days * int64(day))
		rest := time.Duration(rapid.Int64Range(0, int64(math.MaxInt64-whole)).Draw(t, "rest"))
		if got, err := config.ParseDuration(config.FormatDuration(rest)); err != nil || got != rest {
			t.Fatalf("%s came back as %s, %v", rest, got, err)
		}
		text := strconv.FormatInt(days, 10) + "d" + config.FormatDuration(rest)
		if got, err := config.ParseDuration(text); err != nil || got != whole+rest {
			t.Fatalf("%s was read as %s, %v; want %s", text, got, err, whole+rest)
		}
	})
}
