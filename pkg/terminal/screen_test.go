package terminal

import (
	"os"
	"strings"
	"testing"
	"time"
)

func TestNewScreen(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	for _, tt := range []struct {
		environ string
		width   int
		color   bool
	}{
		{"TERM=xterm", 0, false},
		{"TERM=xterm COLUMNS=100", 100, false},
		{"COLUMNS=-1", 0, false},
		{"COLUMNS=wide", 0, false},
		{"CLICOLOR_FORCE=1", 0, true},
		{"CLICOLOR_FORCE=0", 0, false},
		{"CLICOLOR_FORCE=1 NO_COLOR=1", 0, false},
		{"CLICOLOR_FORCE=1 NO_COLOR=", 0, true},
	} {
		s := NewScreen(w, strings.Fields(tt.environ))
		if s.Width != tt.width || s.Color != tt.color {
			t.Errorf("a pipe with %s: got %d columns, colour %t", tt.environ, s.Width, s.Color)
		}
	}
}

func TestAgo(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 25, 10, 0, 0, 0, time.UTC)
	for ago, want := range map[time.Duration]string{
		0: "now", 900 * time.Millisecond: "now", -500 * time.Millisecond: "now", time.Second: "1 s ago", 59 * time.Second: "59 s ago", time.Minute: "1 min ago",
		59 * time.Minute: "59 min ago", time.Hour: "1 h ago", 47 * time.Hour: "47 h ago", 48 * time.Hour: "2 days ago", 400 * 24 * time.Hour: "400 days ago",
		-3 * time.Minute: "in 3 min", -2 * time.Hour: "in 2 h", -365 * 24 * time.Hour: "in 365 days",
	} {
		if got := Ago(now.Add(-ago), now); got != want {
			t.Errorf("%s: got %q, want %q", ago, got, want)
		}
	}
}
