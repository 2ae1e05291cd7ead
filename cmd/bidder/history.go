package main

import (
	"bytes"
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
	said, known := results[result]
	if !known {
		said = result
	}
	if kind != "" && said != "" {
		said = kind + ": " + said
	}
	if result == "armed" { // what it says of the posting is in the posting
		detail = nil
	}
	var facts []string
	for _, fact := range []struct{ before, text string }{
		{"attempt ", take("attempt")}, {"", take("code")}, {"HTTP ", take("http_status")},
	} {
		if fact.text != "" {
			facts = append(facts, fact.before+fact.text)
		}
	}
	for _, part := range []struct{ before, text, after string }{
		{" as ", take("as"), ""},
		{" in ", milliseconds(take("delay_ms")), ""},
		{", as ", take("external_bid_id"), ""},
		{" (", strings.Join(facts, ", "), ")"},
		{": ", take("message"), ""},
		{": ", take("reason"), ""},
		{": ", take("note"), ""},
	} {
		if part.text != "" {
			said += part.before + part.text + part.after
		}
	}
	for _, key := range slices.Sorted(maps.Keys(detail)) {
		if text := take(key); text != "" {
			said += ", " + key + " " + text
		}
	}
	if e.ToStatus != nil {
		said = strings.TrimSuffix(fmt.Sprintf("%s to %s; %s", orDash(e.FromStatus, plain), *e.ToStatus, strings.TrimPrefix(said, ": ")), "; ")
	}
	return strings.TrimLeft(said, ":;, ")
}

// milliseconds is a number of them as a duration, or "" for none.
func milliseconds(text string) string {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n == 0 {
		return ""
	}
	return (time.Duration(n) * time.Millisecond).String()
}
