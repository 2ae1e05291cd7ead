package main

import (
	"testing"
	"testing/synctest"
	"time"
)

// The clock of a pipe goes on from what the database said, while --cached-at now is one time for all lines.
func TestInputClock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC) // this machine's is another
		options := (&input{cachedAt: "now"}).options(now, "USD")
		time.Sleep(time.Hour)
		if got, want := options.Now(), now.Add(time.Hour); !got.Equal(want) {
			t.Errorf("an hour later it is %v, want %v", got, want)
		}
		if !options.CachedAt.Equal(now) {
			t.Errorf("lines without a time are of %v, want %v", options.CachedAt, now)
		}
	})
}
