package main

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/google/uuid"

	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/bidding"
	"github.com/arbitrageai/bidder/pkg/posting"
	"github.com/arbitrageai/bidder/pkg/review"
	"github.com/arbitrageai/bidder/pkg/terminal"
)

// printJSON writes one JSON value, alone. What a terminal would obey or hide is escaped.
func printJSON(w io.Writer, value any) error {
	encoder := json.NewEncoder(jsonWriter{w})
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(value); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

// jsonWriter escapes what is written to it, whole JSON values or lines at a time.
type jsonWriter struct{ io.Writer }

func (w jsonWriter) Write(p []byte) (int, error) {
	if _, err := w.Writer.Write(terminal.EscapeJSON(p)); err != nil {
		return 0, err //nolint:wrapcheck // as the writer says it
	}
	return len(p), nil
}

// list is the JSON of every listing. Next continues it, or is null at the end.
type list[T any] struct {
	Items []T     `json:"items"`
	Next  *string `json:"next"`
}

// orDash is the text that a value has in a table.
func orDash[T any](value *T, format func(T) string) string {
	if value == nil {
		return "-"
	}
	return format(*value)
}

func plain(s string) string { return s }

func exactTime(t time.Time) string { return terminal.Exact(t) }

// now is the time by which the program says how long ago something was.
func (a *app) now() time.Time {
	if a.clock != nil {
		return a.clock()
	}
	return time.Now()
}

// ago is a time in a table: how long ago it was.
func (a *app) ago(t time.Time) string { return terminal.Ago(t, a.now()) }

// moment is a time for those who want to know it exactly.
func (a *app) moment(t time.Time) string { return exactTime(t) + " (" + a.ago(t) + ")" }

// money is an amount with its currency, for people.
func money(cents *int64, currency string) string {
	return orDash(cents, func(c int64) string { return posting.FormatAmount(c) + " " + currency })
}

// bidJSON is a bid as every command prints it: the database's columns, the amount as a decimal
// string, and the state that it is in, which a decision at the console names.
type bidJSON struct {
	queries.Bid
	Amount  *string `json:"amount"`
	Version string  `json:"version"`
}

func newBidJSON(b queries.Bid) bidJSON {
	printed := bidJSON{Bid: b, Version: review.VersionOf(b).String()}
	if b.AmountCents != nil {
		amount := posting.FormatAmount(*b.AmountCents)
		printed.Amount = &amount
	}
	return printed
}

// orNull is the text of an id, or nil for none, which is null in JSON.
func orNull(id uuid.UUID) *string {
	if id == uuid.Nil {
		return nil
	}
	s := id.String()
	return &s
}

// textOrNull is nil for "", which is null in JSON.
func textOrNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// keyID is a posting's key in a table.
func keyID(marketplace, jobID string) terminal.ID { return terminal.ID(marketplace + " " + jobID) }

// styles of what bids and checks are, so that what needs somebody is found at a glance.
var styles = map[string]terminal.Style{ //nolint:gochecknoglobals // a constant
	"ACTIVE": terminal.Good, "WON": terminal.Good, "REJECTED": terminal.Warn, "DUPLICATE": terminal.Faint, "WITHDRAWN": terminal.Faint, "LOST": terminal.Faint,
	"review": terminal.Bad, "awaiting_approval": terminal.Warn,
	levelOK: terminal.Good, levelNote: terminal.Faint, levelWarning: terminal.Warn, levelError: terminal.Bad,
	string(bidding.Claimed): terminal.Good, string(bidding.Failed): terminal.Bad,
}

// styled is a word in its style.
func styled[T ~string](word T) terminal.Styled {
	return terminal.Styled{Value: string(word), Style: styles[string(word)]}
}
