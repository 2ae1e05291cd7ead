package policy

import (
	"fmt"
	"reflect"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/arbitrageai/bidder/pkg/posting"
)

// What an expression sees of a posting is bounded, whatever scanners write: reading a longer
// field is an error of the evaluation. The estimate of its cost rests on the same numbers.
const (
	maxText   = 10_000 // bytes of job_id, title and url
	maxSkills = 250
	maxSkill  = 250 // bytes of one
)

// The names of the variables.
const (
	postingVariable = "posting"
	nowVariable     = "now"
)

var postingType = cel.ObjectType("Posting") //nolint:gochecknoglobals // a constant

// subject is the value of the variable posting.
type subject struct {
	posting.Posting

	now time.Time
}

// field is one field of the variable posting.
type field struct {
	name string
	kind *cel.Type
	set  func(*subject) bool
	get  func(*subject) ref.Val
	// content and description say which columns of the cache it needs beside those that
	// every claim reads.
	content, description bool
	// empty: reading it where it is not set is no error, and gives "" or [].
	empty bool
}

// fields are all of them, in the order of docs/policy.md.
var fields = []field{ //nolint:gochecknoglobals // a constant
	always("marketplace", cel.StringType, func(s *subject) ref.Val { return types.String(s.Marketplace) }),
	text("job_id", false, func(s *subject) string { return s.JobID }),
	text("title", true, func(s *subject) string { return s.Title }),
	{
		name: "description", kind: cel.StringType, content: true, description: true, empty: true,
		set: func(s *subject) bool { return s.Description != "" },
		get: func(s *subject) ref.Val { return bounded("description", s.Description, posting.MaxDescription) },
	},
	text("url", true, func(s *subject) string { return s.URL }),
	amount("budget_min", func(s *subject) *int64 { return s.BudgetMinCents }),
	amount("budget_max", func(s *subject) *int64 { return s.BudgetMaxCents }),
	text("currency", true, func(s *subject) string { return s.Currency }),
	text("pricing", true, func(s *subject) string { return s.Pricing }),
	{
		name: "skills", kind: cel.ListType(cel.StringType), content: true, empty: true,
		set: func(s *subject) bool { return len(s.Skills) > 0 },
		get: skills,
	},
	always("cached_at", cel.TimestampType, func(s *subject) ref.Val { return types.Timestamp{Time: s.CachedAt} }),
	always("age", cel.DurationType, func(s *subject) ref.Val { return types.Duration{Duration: s.now.Sub(s.CachedAt)} }),
	moment("posted_at", func(s *subject) *time.Time { return s.PostedAt }),
	moment("deadline", func(s *subject) *time.Time { return s.Deadline }),
	amount("bid_amount", func(s *subject) *int64 {
		if s.Bid == nil {
			return nil
		}
		return s.Bid.AmountCents
	}),
	{
		name: "bid_period_days", kind: cel.IntType, content: true,
		set: func(s *subject) bool { return s.Bid != nil && s.Bid.PeriodDays != nil },
		get: func(s *subject) ref.Val { return types.Int(*s.Bid.PeriodDays) },
	},
}

func always(name string, kind *cel.Type, get func(*subject) ref.Val) field {
	return field{name: name, kind: kind, set: func(*subject) bool { return true }, get: get}
}

func text(name string, content bool, get func(*subject) string) field {
	return field{
		name: name, kind: cel.StringType, content: content, empty: true,
		set: func(s *subject) bool { return get(s) != "" },
		get: func(s *subject) ref.Val { return bounded(name, get(s), maxText) },
	}
}

func amount(name string, get func(*subject) *int64) field {
	return field{
		name: name, kind: moneyType,
		set: func(s *subject) bool { return get(s) != nil },
		get: func(s *subject) ref.Val { return money(*get(s)) },
	}
}

func moment(name string, get func(*subject) *time.Time) field {
	return field{
		name: name, kind: cel.TimestampType, content: true,
		set: func(s *subject) bool { return get(s) != nil },
		get: func(s *subject) ref.Val { return types.Timestamp{Time: *get(s)} },
	}
}

func bounded(name, text string, most int) ref.Val {
	if len(text) > most {
		return types.NewErr("posting.%s is longer than %d bytes", name, most)
	}
	return types.String(text)
}

func skills(s *subject) ref.Val {
	if len(s.Skills) > maxSkills {
		return types.NewErr("posting.skills has more than %d skills", maxSkills)
	}
	for _, skill := range s.Skills {
		if len(skill) > maxSkill {
			return types.NewErr("posting.skills has one longer than %d bytes", maxSkill)
		}
	}
	return types.NewStringList(types.DefaultTypeAdapter, s.Skills)
}

// provider adds the types posting and money to those of CEL.
type provider struct{ *types.Registry }

// FindStructType implements types.Provider.
func (p provider) FindStructType(name string) (*types.Type, bool) {
	switch name {
	case postingType.TypeName():
		return types.NewTypeTypeWithParam(postingType), true
	case moneyType.TypeName():
		return types.NewTypeTypeWithParam(moneyType), true
	}
	return nil, false
}

// FindStructFieldNames implements types.Provider.
func (p provider) FindStructFieldNames(name string) ([]string, bool) {
	if name != postingType.TypeName() {
		return nil, false
	}
	return fieldNames(), true
}

func fieldNames() []string {
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.name
	}
	return names
}

// FindStructFieldType implements types.Provider.
func (p provider) FindStructFieldType(name, fieldName string) (*types.FieldType, bool) {
	f := fieldOf(fieldName)
	if name != postingType.TypeName() || f == nil {
		return nil, false
	}
	return &types.FieldType{
		Type:  f.kind,
		IsSet: func(target any) bool { s, ok := target.(*subject); return ok && f.set(s) },
		GetFrom: func(target any) (any, error) {
			s, ok := target.(*subject)
			if !ok {
				return nil, fmt.Errorf("%T is no posting", target)
			}
			if !f.empty && !f.set(s) {
				return nil, fmt.Errorf("posting.%s is absent: ask has(posting.%s) first", f.name, f.name)
			}
			return f.get(s), nil
		},
	}, true
}

func fieldOf(name string) *field {
	for i := range fields {
		if fields[i].name == name {
			return &fields[i]
		}
	}
	return nil
}

// NewValue implements types.Provider: expressions make no postings.
func (p provider) NewValue(name string, _ map[string]ref.Val) ref.Val {
	return types.NewErr("no %s can be made here", name)
}

// ConvertToNative implements ref.Val.
func (s *subject) ConvertToNative(to reflect.Type) (any, error) {
	return nil, fmt.Errorf("a posting is not a %s", to)
}

// ConvertToType implements ref.Val.
func (s *subject) ConvertToType(to ref.Type) ref.Val {
	return types.NewErr("a posting is not a %s", to.TypeName())
}

// Equal implements ref.Val: there is only one posting.
func (s *subject) Equal(other ref.Val) ref.Val { return types.Bool(s == other) }

// Type implements ref.Val.
func (s *subject) Type() ref.Type { return postingType }

// Value implements ref.Val.
func (s *subject) Value() any { return s }
