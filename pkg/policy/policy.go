// Package policy holds the rules that operators write themselves: expressions in CEL, the
// Common Expression Language (https://cel.dev), that say whether a posting is bid on and for
// how much. See docs/policy.md for the language as its users see it.
//
// An expression is typed, without loops other than those over a list, and bounded in what one
// evaluation may cost: it runs while the lock of its posting is held.
package policy

import (
	"context"
	"errors"
	"fmt"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/arbitrageai/bidder/pkg/posting"
)

// Eligible is a compiled expression that says whether a posting is bid on. It is safe for
// concurrent use.
type Eligible struct{ expression }

// Amount is a compiled expression that says what is bid. It is safe for concurrent use.
type Amount struct{ expression }

// CompileEligible compiles a condition. The error is an [*Error] with everything that is
// wrong with it.
func CompileEligible(text string) (*Eligible, error) {
	e, err := compile(text, "eligible", cel.BoolType)
	if err != nil {
		return nil, err
	}
	return &Eligible{e}, nil
}

// CompileAmount is CompileEligible for an amount of money.
func CompileAmount(text string) (*Amount, error) {
	e, err := compile(text, "amount", moneyType)
	if err != nil {
		return nil, err
	}
	return &Amount{e}, nil
}

// Evaluate says whether p is bid on, at the time now. The error, an [*EvaluationError], means
// that the expression has no answer for p.
func (e *Eligible) Evaluate(ctx context.Context, p posting.Posting, now time.Time) (bool, error) {
	value, err := e.evaluate(ctx, p, now)
	if err != nil {
		return false, err
	}
	return value == types.True, nil
}

// Evaluate is what to bid on p, in hundredths of its currency: at most [posting.MaxCents], and
// possibly 0 or less. The error, an [*EvaluationError], means that the expression has no answer
// for p.
func (e *Amount) Evaluate(ctx context.Context, p posting.Posting, now time.Time) (int64, error) {
	value, err := e.evaluate(ctx, p, now)
	if err != nil {
		return 0, err
	}
	amount, ok := value.(money)
	if !ok || int64(amount) > posting.MaxCents {
		return 0, &EvaluationError{Message: "the amount is more than " + posting.FormatAmount(posting.MaxCents)}
	}
	return int64(amount), nil
}

// Reads says which parts of a posting an expression looks at, beside those that every claim
// reads: the key, the budget, the wanted amount and cached_at.
type Reads struct {
	// Content is any of title, description, url, currency, pricing, skills, posted_at,
	// deadline and bid_period_days.
	Content bool
	// Description is the description, which may be long.
	Description bool
}

// Union is what a and b read together.
func (a Reads) Union(b Reads) Reads {
	return Reads{Content: a.Content || b.Content, Description: a.Description || b.Description}
}

// expression is what both kinds have in common.
type expression struct {
	text    string
	program cel.Program
	source  *ast.SourceInfo
	reads   Reads
}

// String is the expression as it was written.
func (e expression) String() string { return e.text }

// Reads says what the expression looks at.
func (e expression) Reads() Reads { return e.reads }

// EvaluationError is why an expression has no answer for a posting: a field that the posting
// does not have, a division by zero, an overflow, or too much work.
type EvaluationError struct {
	// Line and Column say where in the expression, from 1, as far as that is known; else 0.
	Line, Column int
	Message      string
}

// Error implements error.
func (e *EvaluationError) Error() string {
	if e.Line == 0 {
		return e.Message
	}
	return fmt.Sprintf("%s (at %d:%d of the expression)", e.Message, e.Line, e.Column)
}

// variables are the values of one evaluation.
type variables struct{ subject }

// ResolveName implements cel.Activation.
func (v *variables) ResolveName(name string) (any, bool) {
	switch name {
	case postingVariable:
		return &v.subject, true
	case nowVariable:
		return types.Timestamp{Time: v.now}, true
	}
	return nil, false
}

// Parent implements cel.Activation.
func (v *variables) Parent() cel.Activation { return nil }

func (e expression) evaluate(ctx context.Context, p posting.Posting, now time.Time) (ref.Val, error) {
	value, _, err := e.program.ContextEval(ctx, &variables{subject{p, now}})
	if err == nil {
		return value, nil
	}
	failure := &EvaluationError{Message: shorten(err.Error())}
	if broken, ok := errors.AsType[*types.Err](err); ok {
		if at := e.source.GetStartLocation(broken.NodeID()); at.Line() > 0 {
			failure.Line, failure.Column = at.Line(), at.Column()+1
		}
	}
	return nil, failure
}
