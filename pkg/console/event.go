package console

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/delivery"
)

// maxDetail bounds a value in the history, in characters.
const maxDetail = 2000

// event is something that happened to a bid.
type event struct {
	When     moment
	Actor    string
	Person   bool
	Headline string
	Gloss    string // what it means
	Text     string // what was said
	Tone     string // good, bad, person, or "" for the usual
	From, To string
	Facts    []fact
}

// event makes an event of its row.
func (v *reading) event(row queries.BidEvent) event {
	e := event{When: v.at(row.At), Actor: row.Actor, Person: !slices.Contains(ofTheProgram, row.Actor), From: orEmpty(row.FromStatus), To: orEmpty(row.ToStatus)}
	detail := map[string]any{}
	if err := json.Unmarshal(row.Detail, &detail); err != nil {
		e.Headline = "Something that this program cannot read"
		return e
	}
	text := func(key string) string {
		if detail[key] == nil {
			return ""
		}
		return clip(fmt.Sprint(detail[key]), maxDetail)
	}
	kind, result := text("kind"), text("result")
	e.Headline, e.Tone = headline(kind, result, text("as"), e.To)
	for _, told := range []string{"kind", "result", "as"} {
		delete(detail, told)
	}
	for _, reason := range []string{"reason", "message", "note"} {
		if said := text(reason); said != "" && e.Text == "" {
			e.Text = said
			delete(detail, reason)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(detail)) {
		value := text(key)
		switch {
		case value == "":
			continue
		case key == "delay_ms":
			if ms, isNumber := detail[key].(float64); isNumber {
				key, value = "again in", span(time.Duration(ms)*time.Millisecond)
			}
		}
		e.Facts = append(e.Facts, fact{Name: words(key), Text: value, Code: strings.HasSuffix(key, "_id") || key == "code" || key == "http_status"})
	}
	return e
}

// headline says what happened, and how that is to be taken.
func headline(kind, result, as, to string) (text, tone string) {
	what := map[string]string{delivery.Place: "Placing", delivery.Withdraw: "Withdrawing", "refresh": "Look-up"}[kind]
	if what == "" {
		what = "It"
	}
	switch {
	case kind == "callback":
		return "The marketplace called: " + words(result), ""
	case result == "armed":
		return "Sent: a POST left for the marketplace", ""
	case result == "placed":
		return "Placed: the marketplace has it", "good"
	case result == "found":
		return "Found at the marketplace", ""
	case result == "again":
		return what + " did not end, and goes on later", "bad"
	case result == "review":
		return what + " waits for a person", "person"
	case result == "requested":
		return "Withdrawal asked for", "person"
	case result == "approved":
		return "Approved", "person"
	case result == "retry_asked":
		return "To be tried again", "person"
	case result == "resolved":
		return "Resolved as " + as, "person"
	case to != "":
		return "Ended as " + to, map[bool]string{true: "good", false: "bad"}[to == "WON"]
	case result == "":
		return "Something happened", ""
	}
	return words(strings.TrimSpace(kind + " " + result)), ""
}

// explain says why a bid waits for a person, and what that person can do.
func explain(reason string, b queries.Bid) (text, advice string) {
	text = map[string]string{
		delivery.ReasonApproval:           "It is sent only when somebody has approved it.",
		delivery.ReasonNoAPI:              "This marketplace has no way for programs: a person does it.",
		delivery.ReasonStale:              "When it was to be sent, the posting was no longer fresh, or past its deadline.",
		delivery.ReasonUnresolved:         "It was sent, the answer proved nothing, and no look-up has found it.",
		delivery.ReasonRetriesExhausted:   "Too many attempts in a row failed.",
		delivery.ReasonAuth:               "The account is not signed in at the marketplace.",
		delivery.ReasonExternalIDClash:    "The marketplace answers with an id that belongs to another bid.",
		delivery.ReasonAwarded:            "It was awarded, and cannot be taken back by a program.",
		delivery.ReasonRejectedElsewhere:  "The marketplace says that it has rejected a bid that was never sent from here.",
		delivery.ReasonWithdrawnElsewhere: "The marketplace says that somebody took the bid back.",
		delivery.ReasonExpiredElsewhere:   "The marketplace says that the bid has expired.",
		delivery.ReasonLostElsewhere:      "The marketplace says that another bid was chosen.",
		delivery.ReasonAwardPending:       "The client has chosen it, and somebody has to agree at the marketplace.",
		delivery.ReasonStatusUnknown:      "It was placed, and for long nobody has said how it stands there.",
		delivery.ReasonNoHandler:          "The configuration names no client for the marketplace.",
	}[reason]
	if text == "" {
		text = "The program cannot go on by itself: " + words(reason) + "."
	}
	withdrawing := b.DeliveryKind != nil && *b.DeliveryKind == delivery.Withdraw
	switch {
	case reason == delivery.ReasonApproval:
		advice = "Approve it, or withdraw it."
	case withdrawing:
		advice = "Take it back at the marketplace by hand, then resolve it as withdrawn, or as what became of it."
	case b.ExternalBidID != nil:
		advice = "Look at the marketplace, then resolve it: as placed if it is still live there, or as how it ended. Retry looks it up again; it is never sent again."
	case reason == delivery.ReasonNoAPI:
		advice = "Send it by hand, then resolve it as placed, with the id that it has there; or as not placed."
	default:
		advice = "Look at the marketplace, then resolve it as placed or not placed; or retry."
	}
	return text, advice
}
