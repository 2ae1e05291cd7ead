package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
)

// tally counts what happens.
type tally struct {
	mu     sync.Mutex
	events map[string]int
	exits  map[int]int // of passes
	byHand int
	runs   map[uuid.UUID]map[string]int64 // the outcomes that passes have printed
	bids   map[string]bool                // ids that `bidder bid` said it had claimed
}

func newTally() *tally {
	return &tally{events: map[string]int{}, exits: map[int]int{}, runs: map[uuid.UUID]map[string]int64{}, bids: map[string]bool{}}
}

func (t *tally) event(kind string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.events[kind]++
}

func (t *tally) pass(code int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.exits[code]++
}

func (t *tally) claims(run uuid.UUID, outcomes map[string]int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.runs[run] = outcomes
}

// hand takes what a command of a person came to.
func (t *tally) hand(out []byte, _ bool, _ int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.byHand++
	var report struct {
		Outcome string `json:"outcome"`
		BidID   string `json:"bid_id"`
	}
	if json.Unmarshal(out, &report) == nil && report.Outcome == "claimed" {
		t.bids[report.BidID] = true
	}
}

func (t *tally) total() (n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, count := range t.events {
		n += count
	}
	return n
}

// print writes the table.
func (t *tally) print(w io.Writer, more [][2]string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	row := func(name string, value any) { fmt.Fprintf(w, "  %-38s %10v\n", name, value) }
	fmt.Fprintln(w, "EVENTS")
	total := 0
	for _, kind := range slices.Sorted(maps.Keys(t.events)) {
		row(kind, t.events[kind])
		total += t.events[kind]
	}
	row("all", total)
	fmt.Fprintln(w, "PASSES, BY EXIT CODE")
	total = 0
	for _, code := range slices.Sorted(maps.Keys(t.exits)) {
		row(exitName(code), t.exits[code])
		total += t.exits[code]
	}
	row("all", total)
	row("commands of people", t.byHand)
	fmt.Fprintln(w, "WORK")
	for _, line := range more {
		row(line[0], line[1])
	}
}

func exitName(code int) string {
	switch code {
	case 0:
		return "0 done"
	case 2:
		return "2 interrupted before it began"
	case 3:
		return "3 done, something for a person"
	case 4:
		return "4 the database was not usable"
	case 130, 143:
		return fmt.Sprintf("%d interrupted", code)
	case 137, -1:
		return fmt.Sprintf("%d killed", code)
	default:
		return fmt.Sprint(code)
	}
}

// violations are promises that were broken, each once.
type violations struct {
	mu    sync.Mutex
	begun time.Time
	found map[string]bool
	first func()
}

func (v *violations) addf(promise, format string, args ...any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	text := promise + ": " + fmt.Sprintf(format, args...)
	if v.found[text] {
		return
	}
	v.found[text] = true
	if len(v.found) <= 50 {
		fmt.Fprintf(os.Stderr, "storm: VIOLATION after %s: %s\n", time.Since(v.begun).Round(time.Second), text)
	}
	if v.first != nil {
		v.first()
	}
}

func (v *violations) count() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.found)
}

func (v *violations) String() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return strings.Join(slices.Sorted(maps.Keys(v.found)), "\n")
}
