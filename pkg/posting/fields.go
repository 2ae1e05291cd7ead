package posting

import (
	"errors"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/go-json-experiment/json/jsontext"
)

// posting reads the members that split found, in the order of the fields.
func (p *parser) posting() Posting {
	posting := Posting{
		Key:            p.key(),
		Title:          p.title(),
		CachedAt:       p.cachedAt(),
		Description:    p.description(),
		URL:            p.url(),
		BudgetMinCents: p.amount(fieldBudgetMin),
		BudgetMaxCents: p.amount(fieldBudgetMax),
		Currency:       p.currency(),
		Pricing:        p.pricing(),
		Skills:         p.skills(),
		PostedAt:       p.time(fieldPostedAt),
		Deadline:       p.time(fieldDeadline),
		Bid:            p.bid(),
	}
	if low, high := posting.BudgetMinCents, posting.BudgetMaxCents; low != nil && high != nil && *low > *high {
		p.notes[NoteBudgetReversed]++
	}
	return posting
}

// failErr rejects the line for err, if it is a *Reject. An error that does not say where gets the
// name of its member; no text is made where there is no error.
func (p *parser) failErr(name []byte, err error) {
	if rej, ok := errors.AsType[*Reject](err); ok {
		where := ""
		if name != nil {
			where = string(name) + ": "
		}
		p.failf(rej.Code, "%s%s", where, rej.Message)
	}
}

// text returns the string of a field, or an empty one if it is not given. Any
// other kind of value rejects the line with the code.
func (p *parser) text(f field, code string) string {
	m := p.members[f]
	switch {
	case !m.given():
		return ""
	case !m.isString():
		p.failf(code, "%s must be a string", m.name)
		return ""
	default:
		return string(p.unquote(m.value))
	}
}

func (p *parser) key() Key {
	id := p.members[fieldJobID]
	switch {
	case !p.members[fieldMarketplace].given():
		p.failf(CodeMissingField, `"marketplace" is missing: name the marketplace of the posting`)
	case !id.given():
		p.failf(CodeMissingField, `"job_id" is missing: give the marketplace's own id of the posting`)
	}
	marketplace := p.text(fieldMarketplace, CodeInvalidMarketplace)
	jobID := string(id.value)
	if !isDigits(jobID) {
		jobID = p.text(fieldJobID, CodeInvalidJobID)
	}
	key, err := ParseKey(marketplace, jobID)
	p.failErr(nil, err)
	return key
}

func (p *parser) title() string {
	title := strings.TrimSpace(p.text(fieldTitle, CodeWrongType))
	if title == "" {
		p.failf(CodeMissingField, `"title" is missing or blank: give the title of the posting`)
	}
	return title
}

func (p *parser) cachedAt() time.Time {
	at := p.opts.CachedAt
	switch given := p.time(fieldCachedAt); {
	case given != nil:
		at = *given
	case at.IsZero():
		p.failf(CodeMissingField, `"cached_at" is missing: add the time at which the posting was seen, or use --cached-at`)
	}
	if now := p.opts.Now(); at.Sub(now) > MaxClockSkew {
		p.failf(CodeCachedAtInFuture, `"cached_at" %s is in the future: the database's clock says %s`,
			at.Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	return at
}

// time returns the time of a field, or nil if it is not given.
func (p *parser) time(f field) *time.Time {
	m := p.members[f]
	if !m.given() {
		return nil
	}
	at, err := ParseTime(p.text(f, CodeInvalidTime))
	p.failErr(m.name, err)
	return &at
}

// ParseTime returns a time that is written as RFC 3339 with a zone, in UTC and
// cut to the microseconds that the database keeps. An error is a [*Reject]
// with [CodeTimeWithoutZone] or [CodeInvalidTime].
func ParseTime(s string) (time.Time, error) {
	text := strings.ToUpper(strings.TrimSpace(s)) // RFC 3339 allows t and z
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		if _, err = time.Parse(time.RFC3339, strings.Replace(text, " ", "T", 1)+"Z"); err == nil {
			return time.Time{}, rejectf(CodeTimeWithoutZone,
				"time %s has no zone: write it like 2006-01-02T15:04:05Z or 2006-01-02T15:04:05+02:00", quote(s))
		}
		return time.Time{}, rejectf(CodeInvalidTime,
			"time %s is not a time in RFC 3339: write it like 2006-01-02T15:04:05Z", quote(s))
	}
	at = at.UTC().Truncate(time.Microsecond)
	if at.Year() < 1 || at.Year() > 9999 {
		return time.Time{}, rejectf(CodeInvalidTime, "time %s is outside the years 1 to 9999 in UTC", quote(s))
	}
	return at, nil
}

func (p *parser) description() string {
	description := p.text(fieldDescription, CodeWrongType)
	if len(description) <= MaxDescription {
		return description
	}
	p.notes[NoteDescriptionTruncated]++
	return strings.Clone(truncate(description, MaxDescription))
}

// url returns the address of the posting; people will click on it, so only the
// web's schemes are kept.
func (p *parser) url() string {
	m := p.members[fieldURL]
	if !m.given() {
		return ""
	}
	if m.isString() {
		address := strings.TrimSpace(string(p.unquote(m.value)))
		if address == "" {
			return ""
		}
		u, err := url.Parse(address)
		if err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" {
			return address
		}
	}
	p.notes[NoteURLDropped]++
	return ""
}

// amount returns the cents of a field, or nil if it is not given.
func (p *parser) amount(f field) *int64 {
	m := p.members[f]
	if !m.given() {
		return nil
	}
	decimal := m.value
	if m.isString() {
		decimal = p.unquote(m.value)
	}
	cents, err := ParseAmount(string(decimal))
	p.failErr(m.name, err)
	return &cents
}

func (p *parser) currency() string {
	code := p.text(fieldCurrency, CodeInvalidCurrency)
	if strings.TrimSpace(code) == "" {
		return p.opts.DefaultCurrency
	}
	currency, err := ParseCurrency(code)
	p.failErr(nil, err)
	return currency
}

func (p *parser) pricing() string {
	text := p.text(fieldPricing, CodeInvalidPricing)
	pricing := strings.ToLower(strings.TrimSpace(text))
	switch pricing {
	case "", PricingFixed, PricingHourly:
	default:
		p.failf(CodeInvalidPricing, `%s %s is not known: write "fixed" or "hourly", or leave it out`,
			p.members[fieldPricing].name, quote(text))
	}
	return pricing
}

// skills replaces control characters, because the database gets the skills of
// a posting as one text with a control character between them.
func (p *parser) skills() []string {
	m := p.members[fieldSkills]
	if !m.given() {
		return nil
	}
	var skills []string
	p.reset(m.value)
	for token, err := p.dec.ReadToken(); err == nil; token, err = p.dec.ReadToken() {
		switch kind := token.Kind(); {
		case kind == jsontext.KindString && p.dec.StackDepth() == 1:
			skill := strings.TrimSpace(strings.Map(blankControl, token.String()))
			if skill != "" {
				skills = append(skills, skill)
			}
		case kind == jsontext.KindBeginArray && p.dec.StackDepth() == 1:
		case kind == jsontext.KindEndArray:
		default:
			p.failf(CodeInvalidSkills, "%s must be an array of strings", m.name)
			return nil
		}
	}
	return skills
}

func blankControl(r rune) rune {
	if unicode.IsControl(r) {
		return ' '
	}
	return r
}

func (p *parser) bid() *Bid {
	m := p.members[fieldBid]
	switch {
	case !m.given():
		return nil
	case m.value[0] != '{':
		p.failf(CodeInvalidBid, "%s must be an object, or left out", m.name)
		return nil
	}
	p.object(m.value, bidField)
	return &Bid{
		AmountCents: p.amount(fieldAmount),
		PeriodDays:  p.periodDays(),
		Proposal:    p.text(fieldProposal, CodeWrongType),
	}
}

func (p *parser) periodDays() *int32 {
	m := p.members[fieldPeriodDays]
	if !m.given() {
		return nil
	}
	parsed, err := strconv.ParseInt(string(m.value), 10, 32)
	days := int32(parsed)
	if err != nil || days < 1 {
		p.failf(CodeInvalidPeriod, "%s must be a whole number of days, at least 1", m.name)
	}
	return &days
}
