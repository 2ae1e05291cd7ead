package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/terminal"
)

// printHistory prints what happened to a bid after its insert, one event below the other.
func (a *app) printHistory(history []queries.BidEvent) {
	if len(history) == 0 {
		return
	}
	fmt.Fprintln(a.stdout)
	t := a.screen.Table(terminal.Column{Name: "at"}, terminal.Column{Name: "who", Min: 8, Wrap: true}, terminal.Column{Name: "what", Min: 30, Wrap: true})
	for _, e := range history {
		t.Row(exactTime(e.At), e.Actor, story(e))
	}
	t.Print()
}

// results say what the results of events mean.
var results = map[string]string{ //nolint:gochecknoglobals // a constant
	"armed": "about to be sent", "placed": "it is at the marketplace", "found": "found at the marketplace", "again": "to be tried again",
	"review": "waits for a person", "ended": "it has ended", "approved": "approved", "retry_asked": "a person has it tried again",
	"resolved": "resolved", "requested": "asked for", "unseen": "not seen at the marketplace", "callback": "the marketplace has called",
}

// story is an event in words. What it does not know how to say it lists by name.
func story(e queries.BidEvent) string {
	detail := map[string]any{}
	decoder := json.NewDecoder(bytes.NewReader(e.Detail))
	decoder.UseNumber()
	if err := decoder.Decode(&detail); err != nil {
		return string(e.Detail)
	}
	take := func(key string) string {
		value, ok := detail[key]
		delete(detail, key)
		if !ok || value == nil {
			return ""
		}
		return fmt.Sprint(value)
	}
	kind, result := take("kind"), take("result")
	said := []string{cmp.Or(results[result], result)}
	if result == "armed" { // what it says of the posting is in the posting
		clear(detail)
	}
	add := func(before, text, after string) {
		if text != "" {
			said = append(said, before+text+after)
		}
	}
	add(" as ", take("as"), "")
	add(" in ", milliseconds(take("delay_ms")), "")
	add(", as ", take("external_bid_id"), "")
	add(" (", facts("attempt ", take("attempt"), "", take("code"), "HTTP ", take("http_status")), ")")
	for _, key := range []string{"message", "reason", "note"} {
		add(": ", take(key), "")
	}
	for _, key := range slices.Sorted(maps.Keys(detail)) {
		add(", "+key+" ", take(key), "")
	}
	text := strings.TrimLeft(strings.Join(said, ""), ":, ")
	if kind != "" {
		text = kind + ": " + text
	}
	if e.ToStatus != nil {
		text = strings.TrimSuffix(orDash(e.FromStatus, plain)+" to "+*e.ToStatus+"; "+text, "; ")
	}
	return text
}

// facts lists those that are known, each after its name.
func facts(namesAndTexts ...string) string {
	var known []string
	for pair := range slices.Chunk(namesAndTexts, 2) {
		if pair[1] != "" {
			known = append(known, pair[0]+pair[1])
		}
	}
	return strings.Join(known, ", ")
}

// milliseconds is a number of them as a duration, or "" for none.
func milliseconds(text string) string {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n == 0 {
		return ""
	}
	return (time.Duration(n) * time.Millisecond).String()
}
