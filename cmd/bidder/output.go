package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"

	"github.com/google/uuid"
	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/posting"
)

// printJSON writes one JSON value, alone.
func printJSON(w io.Writer, value any) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(value); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

// list is the JSON of every listing. Next continues it, or is null at the end.
type list[T any] struct {
	Items []T     `json:"items"`
	Next  *string `json:"next"`
}

// newTable returns a table that writes to w, without borders, for people and for grep.
func newTable(w io.Writer, columns ...any) table.Writer {
	t := table.NewWriter()
	t.SetOutputMirror(w)
	t.SetStyle(table.StyleDefault)
	t.Style().Options = table.Options{}
	t.Style().Box.PaddingLeft, t.Style().Box.PaddingRight = "", "  "
	t.Style().Format.Header = text.FormatUpper
	if len(columns) > 0 {
		t.AppendHeader(columns)
	}
	return t
}

// printable makes text from outside harmless on a terminal: no control characters, no
// characters that reorder what stands around them, one line, at most width characters.
func printable(s string, width int) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case unicode.In(r, unicode.Cc, unicode.Cf, unicode.Co, unicode.Cs, unicode.Zl, unicode.Zp):
			return '\uFFFD'
		}
		return r
	}, s)
	if text.StringWidthWithoutEscSequences(s) > width {
		return text.Trim(s, width-1) + "…"
	}
	return s
}

// orDash is the text that a value has in a table.
func orDash[T any](value *T, format func(T) string) string {
	if value == nil {
		return "-"
	}
	return format(*value)
}

func exactTime(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05Z") }

// money is an amount with its currency, for people.
func money(cents *int64, currency string) string {
	return orDash(cents, func(c int64) string { return posting.FormatAmount(c) + " " + currency })
}

// bidJSON is a bid as every command prints it: the database's columns, and the amount as
// a decimal string.
type bidJSON struct {
	queries.Bid
	Amount *string `json:"amount"`
}

func newBidJSON(b queries.Bid) bidJSON {
	printed := bidJSON{Bid: b}
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
