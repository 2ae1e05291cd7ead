package posting

import (
	"bytes"
	"errors"
	"io"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

const (
	// MaxDescription is the length of the longest description, in bytes: 100 kB.
	MaxDescription = 100_000
	// MaxDepth is how deep a line may nest objects and arrays.
	MaxDepth = 64
	// MaxClockSkew is how far in the future cached_at may be.
	MaxClockSkew = 5 * time.Minute
)

// A parser turns lines into postings. It first finds the members of the line's
// object and then reads them in a fixed order, so that the reject of a line
// does not depend on the order of its keys.
type parser struct {
	opts  Options
	notes map[string]int // of the line

	line    []byte
	members [fieldCount]member
	reject  *Reject // the first; what is read after it does not matter

	dec     jsontext.Decoder
	buf     bytes.Buffer
	scratch []byte
}

// A member is a member of an object as raw JSON, part of the line.
type member struct{ name, value []byte }

// given reports whether the member is there; null counts as left out.
func (m member) given() bool { return m.value != nil && m.value[0] != 'n' }

func (m member) isString() bool { return m.value[0] == '"' }

// A field is a key that means something.
type field int

const (
	fieldUnknown field = iota
	fieldMarketplace
	fieldJobID
	fieldTitle
	fieldCachedAt
	fieldDescription
	fieldURL
	fieldBudgetMin
	fieldBudgetMax
	fieldCurrency
	fieldPricing
	fieldSkills
	fieldPostedAt
	fieldDeadline
	fieldBid
	fieldAmount
	fieldPeriodDays
	fieldProposal
	fieldCount
)

func postingField(name []byte) field {
	switch string(name) {
	case "marketplace", "marketplace_name":
		return fieldMarketplace
	case "job_id":
		return fieldJobID
	case "title":
		return fieldTitle
	case "cached_at":
		return fieldCachedAt
	case "description":
		return fieldDescription
	case "url":
		return fieldURL
	case "budget_min":
		return fieldBudgetMin
	case "budget_max", "budget":
		return fieldBudgetMax
	case "currency":
		return fieldCurrency
	case "pricing", "pricing_model":
		return fieldPricing
	case "skills", "skills_required":
		return fieldSkills
	case "posted_at", "created_at":
		return fieldPostedAt
	case "deadline":
		return fieldDeadline
	case "bid":
		return fieldBid
	default:
		return fieldUnknown
	}
}

func bidField(name []byte) field {
	switch string(name) {
	case "amount":
		return fieldAmount
	case "period_days":
		return fieldPeriodDays
	case "proposal":
		return fieldProposal
	default:
		return fieldUnknown
	}
}

// parse returns the posting of a line, or why there is none. It adds the
// notes of the line to p.notes.
func (p *parser) parse(line []byte) (Posting, *Reject) {
	p.line, p.reject, p.members = line, nil, [fieldCount]member{}
	p.split()
	posting := p.posting()
	if p.reject != nil {
		return Posting{}, p.reject
	}
	return posting, nil
}

// failf rejects the line, unless it is already rejected.
func (p *parser) failf(code, format string, args ...any) {
	if p.reject == nil {
		p.reject = rejectf(code, format, args...)
	}
}

// split checks the line as text and as JSON, and finds its members.
func (p *parser) split() {
	switch {
	case !utf8.Valid(p.line):
		p.failf(CodeInvalidUTF8, "the line is not valid UTF-8: save the file as UTF-8")
		return
	case hasNUL(p.line):
		p.failf(CodeNULByte, `the line holds a NUL character, raw or as \u0000: remove it`)
		return
	}
	p.object(p.line, postingField)
	if rest := bytes.TrimSpace(p.line[p.dec.InputOffset():]); len(rest) > 0 {
		p.failf(CodeTrailingData, "there is more after the object, from %s on: write one object a line", quote(string(rest)))
	}
}

// hasNUL reports whether the line holds NUL, raw or escaped.
func hasNUL(line []byte) bool {
	if bytes.IndexByte(line, 0) >= 0 {
		return true
	}
	const escape = `\u0000`
	for at := 0; ; at += len(escape) {
		i := bytes.Index(line[at:], []byte(escape))
		if i < 0 {
			return false
		}
		at += i
		// An odd number of backslashes before it makes its own a literal one.
		if before := line[:at]; (at-len(bytes.TrimRight(before, `\`)))%2 == 0 {
			return true
		}
	}
}

// object finds the members of the object data, which is part of the line. It
// reads all of data, but stops at the first fault.
func (p *parser) object(data []byte, fieldOf func(name []byte) field) {
	p.reset(data)
	switch open, err := p.dec.ReadToken(); {
	case err != nil:
		p.failSyntax(err)
		return
	case open.Kind() != jsontext.KindBeginObject:
		p.failf(CodeNotAnObject, "the line is JSON, but not an object: write one object a line, in braces")
		return
	}
	for p.dec.PeekKind() != jsontext.KindEndObject {
		name, err := p.value(data)
		if err != nil {
			p.failSyntax(err)
			return
		}
		f := fieldOf(p.unquote(name))
		value, err := p.value(data)
		if err != nil {
			p.failSyntax(err)
			return
		}
		switch {
		case f == fieldUnknown:
			p.notes[NoteUnknownKey]++
		case p.members[f].name != nil:
			p.failf(CodeDuplicateKey, "%s and %s mean the same: remove one", p.members[f].name, name)
		default:
			p.members[f] = member{name, value}
		}
	}
	_, err := p.dec.ReadToken()
	p.failSyntax(err)
}

// reset makes data, which is not copied, the input of p.dec.
func (p *parser) reset(data []byte) {
	p.buf = *bytes.NewBuffer(data)
	p.dec.Reset(&p.buf)
}

// value reads a value from data, and returns its text there. The caller's
// token loop stands in for ReadValue because that nests ten thousand deep.
func (p *parser) value(data []byte) ([]byte, error) {
	depth, start := p.dec.StackDepth(), int64(-1)
	if kind := p.dec.PeekKind(); kind != jsontext.KindBeginObject && kind != jsontext.KindBeginArray {
		value, err := p.dec.ReadValue()
		end := p.dec.InputOffset()
		return data[end-int64(len(value)) : end], err //nolint:wrapcheck // for failSyntax
	}
	for {
		if _, err := p.dec.ReadToken(); err != nil {
			return nil, err //nolint:wrapcheck // for failSyntax
		}
		end := p.dec.InputOffset()
		if start < 0 {
			start = end - 1
		}
		switch p.dec.StackDepth() {
		case depth:
			return data[start:end], nil
		case MaxDepth + 1:
			return nil, errTooDeep
		}
	}
}

var errTooDeep = errors.New("nested too deep")

// failSyntax rejects the line for an error of p.dec or of value, if there is one.
func (p *parser) failSyntax(err error) {
	syntax, _ := errors.AsType[*jsontext.SyntacticError](err)
	switch {
	case err == nil:
	case errors.Is(err, errTooDeep):
		p.failf(CodeTooDeep, "objects and arrays are nested deeper than %d", MaxDepth)
	case errors.Is(err, jsontext.ErrDuplicateName):
		p.failf(CodeDuplicateKey, "the key %s stands twice in one object: remove one", quote(syntax.JSONPointer.LastToken()))
	case errors.Is(err, io.ErrUnexpectedEOF), syntax == nil:
		p.failf(CodeInvalidJSON, "the line ends in the middle of the object: write the whole object on one line")
	case jsontext.Value(p.line).IsValid(jsontext.AllowInvalidUTF8(true), jsontext.AllowDuplicateNames(true)):
		// The bytes are valid UTF-8, so it can only be an escape.
		p.failf(CodeInvalidUTF8, `half of a surrogate pair is escaped at byte %d: escape both halves, or write the character as it is`,
			syntax.ByteOffset+1)
	default:
		p.failf(CodeInvalidJSON, "not valid JSON at byte %d: %v", syntax.ByteOffset+1, syntax.Err)
	}
}

// unquote returns the text of a JSON string that p.dec has accepted. It is
// valid until the next call.
func (p *parser) unquote(raw []byte) []byte {
	p.scratch, _ = jsontext.AppendUnquote(p.scratch[:0], raw)
	return p.scratch
}
