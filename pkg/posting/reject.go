package posting

import (
	"fmt"
	"strconv"
	"unicode/utf8"
)

// A Reject says why a line, or a single value given by hand, cannot be used.
type Reject struct { //nolint:errname // part of a report first, and only then an error
	// File is where the line stands, for who reads several files; a Decoder knows of none.
	File string `json:"file,omitempty"`
	// Line counts from 1, or is 0 for a value that came from no file.
	Line int64 `json:"line"`
	// Code is one of the Code constants; codes never change their meaning.
	Code string `json:"code"`
	// Message is for people: it names the field, what is wrong and what to do.
	Message string `json:"message"`
}

// Error implements error.
func (r *Reject) Error() string {
	if r.Line == 0 {
		return r.Message
	}
	return fmt.Sprintf("line %d: %s", r.Line, r.Message)
}

// The codes of rejects. A line with several faults is rejected for one: faults
// of the text come before faults of the JSON, the first of these before faults
// of the fields, and those go by the field, whatever the order of the keys.
const (
	// CodeLineTooLong: the line is longer than [MaxLine].
	CodeLineTooLong = "line_too_long"
	// CodeInvalidUTF8: bytes that are not UTF-8, or half of an escaped
	// surrogate pair.
	CodeInvalidUTF8 = "invalid_utf8"
	// CodeNULByte: NUL, raw or as \u0000, which Postgres cannot store.
	CodeNULByte = "nul_byte"
	// CodeInvalidJSON: not JSON, or cut short.
	CodeInvalidJSON = "invalid_json"
	// CodeNotAnObject: JSON, but not an object.
	CodeNotAnObject = "not_an_object"
	// CodeDuplicateKey: a key twice in one object, or two names of one key.
	CodeDuplicateKey = "duplicate_key"
	// CodeTooDeep: objects and arrays nested deeper than [MaxDepth].
	CodeTooDeep = "too_deep"
	// CodeTrailingData: something after the object.
	CodeTrailingData = "trailing_data"
	// CodeMissingField: a required key is missing, null, or a blank title.
	CodeMissingField = "missing_field"
	// CodeWrongType: a value of a kind that its key cannot have, where no code
	// below says it better.
	CodeWrongType = "wrong_type"
	// CodeInvalidMarketplace: see [ParseKey].
	CodeInvalidMarketplace = "invalid_marketplace"
	// CodeInvalidJobID: see [ParseKey].
	CodeInvalidJobID = "invalid_job_id"
	// CodeInvalidTime: see [ParseTime].
	CodeInvalidTime = "invalid_time"
	// CodeTimeWithoutZone: see [ParseTime].
	CodeTimeWithoutZone = "time_without_zone"
	// CodeCachedAtInFuture: cached_at is later than the database's clock by
	// more than [MaxClockSkew].
	CodeCachedAtInFuture = "cached_at_in_future"
	// CodeInvalidAmount: see [ParseAmount].
	CodeInvalidAmount = "invalid_amount"
	// CodeInvalidCurrency: see [ParseCurrency].
	CodeInvalidCurrency = "invalid_currency"
	// CodeInvalidPricing: neither fixed nor hourly.
	CodeInvalidPricing = "invalid_pricing"
	// CodeInvalidSkills: not an array of strings.
	CodeInvalidSkills = "invalid_skills"
	// CodeInvalidBid: bid is not an object.
	CodeInvalidBid = "invalid_bid"
	// CodeInvalidPeriod: period_days is not a positive number of days.
	CodeInvalidPeriod = "invalid_period"
)

// The codes of notes: what was found, or changed, in lines that were kept.
const (
	// NoteUnknownKey counts keys that mean nothing and were ignored.
	NoteUnknownKey = "unknown_key"
	// NoteURLDropped counts addresses that are not http or https.
	NoteURLDropped = "url_dropped"
	// NoteDescriptionTruncated counts descriptions cut at [MaxDescription].
	NoteDescriptionTruncated = "description_truncated"
	// NoteBudgetReversed counts postings whose budget_min exceeds budget_max.
	NoteBudgetReversed = "budget_reversed"
)

func rejectf(code, format string, args ...any) *Reject {
	return &Reject{Code: code, Message: fmt.Sprintf(format, args...)}
}

// quote returns the beginning of s for a message, on one line and printable
// whatever it holds.
func quote(s string) string {
	const limit = 60
	if len(s) <= limit {
		return strconv.Quote(s)
	}
	return strconv.Quote(truncate(s, limit)) + "…"
}

// truncate cuts s, which is longer than limit bytes, at the last boundary of a
// character within it.
func truncate(s string, limit int) string {
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit]
}
