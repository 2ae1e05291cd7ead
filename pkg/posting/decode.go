package posting

import (
	"bytes"
	"io"
	"maps"
	"time"
)

// Options are what a [Decoder] needs to know besides the lines.
type Options struct {
	// Now is the database's clock, against which cached_at is checked. It is asked for each line:
	// a pipe may live for days.
	Now func() time.Time
	// CachedAt is for lines without cached_at. If it is zero, such lines are
	// rejected.
	CachedAt time.Time
	// DefaultCurrency, in the form that [ParseCurrency] returns, is for lines
	// without currency.
	DefaultCurrency string
}

// A Decoder reads postings from newline-delimited JSON, one object a line. A
// bad line is rejected alone. Its memory does not grow with the input.
type Decoder struct {
	lines  lineReader
	parser parser
	notes  map[string]int
}

// An Item is what a line came to: exactly one of a posting, a reject and a
// blank line.
type Item struct {
	// Line is the number of the line, from 1.
	Line int64
	// Size is the length of the line in bytes, and about what the posting takes:
	// callers who collect postings can bound their memory by it.
	Size int
	// Posting is set where Reject is nil and Blank is false. It shares no
	// memory with the Decoder.
	Posting Posting
	// Reject says what is wrong with the line, if anything.
	Reject *Reject
	// Blank tells that the line holds white space only.
	Blank bool
}

// NewDecoder returns a Decoder that reads r.
func NewDecoder(r io.Reader, opts Options) *Decoder {
	return &Decoder{
		lines:  newLineReader(r),
		parser: parser{opts: opts, notes: map[string]int{}},
		notes:  map[string]int{},
	}
}

// Next reads one line. After the last it returns [io.EOF]; any other error is
// the input's own and ends the reading, but says nothing against the lines
// before it.
func (d *Decoder) Next() (Item, error) {
	line, err := d.lines.next()
	if err != nil {
		return Item{}, err
	}
	item := Item{Line: d.lines.number, Size: len(line)}
	switch {
	case len(line) > MaxLine:
		item.Reject = rejectf(CodeLineTooLong, "the line is longer than %d bytes: shorten it", MaxLine)
	case len(bytes.TrimSpace(line)) == 0:
		item.Blank = true
	default:
		item.Posting, item.Reject = d.parser.parse(line)
	}
	if item.Reject == nil {
		for code, n := range d.parser.notes {
			d.notes[code] += n
		}
	} else {
		item.Reject.Line = item.Line
	}
	clear(d.parser.notes)
	return item, nil
}

// Notes counts, by the Note constants, what was found in the lines that were
// read so far and not rejected. It is never nil.
func (d *Decoder) Notes() map[string]int { return maps.Clone(d.notes) }
