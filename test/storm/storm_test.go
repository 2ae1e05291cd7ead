package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/arbitrageai/bidder/pkg/marketplace"
	"github.com/arbitrageai/bidder/pkg/marketplace/sandbox"
)

// TestSeed: a seed always means the same, whatever happens, and another one something else.
func TestSeed(t *testing.T) {
	t.Parallel()
	plan := func(seed uint64) (lines []string) {
		s := &storm{options: options{seed: seed}}
		s.world.workers = 4
		for _, l := range s.lanes() {
			random := s.random(l.name)
			for range 20 {
				pause, e, d := l.throw(random, s.world.workers)
				lines = append(lines, fmt.Sprint(l.name, pause, e.kind, d))
			}
		}
		for n := range 4 {
			random := s.random(fmt.Sprint("worker ", n))
			for range 20 {
				f, every, step := draw(random)
				lines = append(lines, fmt.Sprint(n, f, every, step))
			}
		}
		return lines
	}
	if diff := cmp.Diff(plan(1), plan(1)); diff != "" {
		t.Errorf("two plans of one seed differ:\n%s", diff)
	}
	if cmp.Equal(plan(1), plan(2)) {
		t.Error("two seeds have one plan")
	}
}

// TestPatches: the seeded bugs, and the clock that is stepped, still fit the sources.
func TestPatches(t *testing.T) {
	t.Parallel()
	root := moduleRoot(t)
	for _, b := range bugs() {
		if _, err := overlayOf(t.Context(), root, t.TempDir(), b.name, b.patches); err != nil {
			t.Errorf("bug %s: %v", b.name, err)
		}
	}
}

// TestSteppedClock: a program built with the patch sees its wall clock jump, and time go on as ever.
func TestSteppedClock(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const source = `package main

import (
	"fmt"
	"time"
)

func main() {
	began := time.Now()
	time.Sleep(300 * time.Millisecond)
	fmt.Println(began.Unix(), time.Now().Unix(), time.Since(began) > time.Minute)
}
`
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := build(t.Context(), moduleRoot(t), dir, "clock", filepath.Join(dir, "main.go"), steppedClock); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), filepath.Join(dir, "clock"))
	cmd.Env = []string{"CLOCK_STEP=-1h0m0.9s", "CLOCK_STEP_AFTER=100ms"}
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var began, now int64
	var far bool
	if _, err := fmt.Sscan(string(out), &began, &now, &far); err != nil {
		t.Fatal(err)
	}
	if step := began - now; step < 3500 || step > 3602 || far {
		t.Errorf("the clock stepped back by %d s (durations jumped too: %t)", step, far)
	}
}

// TestOverlapping: the checker's judgement of what a marketplace has.
func TestOverlapping(t *testing.T) {
	t.Parallel()
	at := func(minute int) time.Time { return time.Date(2026, 1, 1, 0, minute, 0, 0, time.UTC) }
	bid := func(status marketplace.Status, placed, updated int) sandbox.Bid {
		return sandbox.Bid{Marketplace: keyed, JobID: "1", Status: status, PlacedAt: at(placed), UpdatedAt: at(updated)}
	}
	tests := []struct {
		name string
		bids []sandbox.Bid
		want int
	}{
		{"one", []sandbox.Bid{bid(marketplace.Submitted, 1, 1)}, 0},
		{"one after the other", []sandbox.Bid{bid(marketplace.Submitted, 3, 3), bid(marketplace.Withdrawn, 1, 2)}, 0},
		{"two live", []sandbox.Bid{bid(marketplace.Submitted, 1, 1), bid(marketplace.Submitted, 3, 3)}, 1},
		{"two were live for a while", []sandbox.Bid{bid(marketplace.Withdrawn, 1, 4), bid(marketplace.Submitted, 3, 3)}, 1},
		{"on two postings", []sandbox.Bid{bid(marketplace.Submitted, 1, 1), {Marketplace: forgetful, JobID: "1", Status: marketplace.Submitted, PlacedAt: at(1)}}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := overlapping(tt.bids); len(got) != tt.want {
				t.Errorf("got %v, want %d", got, tt.want)
			}
		})
	}
}

// TestFeed: what a pass that broke has read comes again, and what was read does not.
func TestFeed(t *testing.T) {
	t.Parallel()
	f := newFeed(chunkSize+10, time.Minute)
	f.started = f.started.Add(-time.Minute) // all have appeared
	first, second := f.take(), f.take()
	if len(first) != chunkSize || len(second) != 10 || f.empty() {
		t.Fatalf("got %d and %d postings", len(first), len(second))
	}
	f.done(first, false)
	f.done(second, true)
	if again := f.take(); !cmp.Equal(again, first) {
		t.Errorf("got %v again, want %v", again, first)
	}
	f.done(first, true)
	if !f.empty() || f.left() != 0 || len(f.take()) > 0 {
		t.Error("not all was read")
	}
	if n := strings.Count(string(f.lines(first)), "\n"); n <= len(first) {
		t.Errorf("%d lines: no posting was told of again", n)
	}
}

func moduleRoot(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	return root
}
