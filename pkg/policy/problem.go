package policy

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/arbitrageai/bidder/pkg/posting"
)

// A Problem is one thing that is wrong with an expression.
type Problem struct {
	// Line and Column say where it stands in the expression, in characters from 1.
	Line, Column int
	// Message says what is wrong.
	Message string
	// Hint says what to do about it, and may be empty.
	Hint string
	// Unknown is a name that means nothing, and Known are those that could have been meant.
	Unknown string
	Known   []string
}

// Error is what is wrong with an expression.
type Error struct {
	// Problems is never empty, and in the order of the text.
	Problems []Problem
}

// Error implements error: one problem per line.
func (e *Error) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = fmt.Sprintf("%d:%d: %s", p.Line, p.Column, p.Message)
		if p.Hint != "" {
			lines[i] += " (" + p.Hint + ")"
		}
	}
	return strings.Join(lines, "\n")
}

func oneProblem(message, hint string) *Error {
	return &Error{[]Problem{{Line: 1, Column: 1, Message: message, Hint: hint}}}
}

func wrongResult(name string, actual *cel.Type) *Error {
	if name == "eligible" {
		return oneProblem("must be a condition (bool), and is "+typeName(actual.String()),
			`compare it with something, as in posting.budget_max >= money("200")`)
	}
	return oneProblem("must be money, and is "+typeName(actual.String()), `write money("480.00"), or compute with posting.budget_max`)
}

// maxProblems bounds what is reported of one expression.
const maxProblems = 10

// problems are CEL's issues in the words of this program. parsed is nil where the text could
// not be parsed.
func problems(parsed *cel.Ast, issues *cel.Issues) *Error {
	result := &Error{}
	for _, issue := range issues.Errors() {
		p := explain(parsed, issue.ExprID, issue.Message)
		p.Line, p.Column = max(issue.Location.Line(), 1), max(issue.Location.Column(), 0)+1
		if !slices.ContainsFunc(result.Problems, func(o Problem) bool { return o.Line == p.Line && o.Message == p.Message }) {
			result.Problems = append(result.Problems, p)
		}
	}
	slices.SortStableFunc(result.Problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	result.Problems = result.Problems[:min(len(result.Problems), maxProblems)]
	return result
}

// CEL's checker reports in sentences only, so that these are what a hint has to go by; the
// tests hold them still.
var (
	undefinedField = regexp.MustCompile(`^undefined field '([^']*)'`)
	undeclared     = regexp.MustCompile(`^undeclared reference to '([^']*)'`)
	noOverload     = regexp.MustCompile(`^found no matching overload for '([^']*)' applied to '(.*)'$`)
	expecting      = regexp.MustCompile(`(?s),? expecting \{.*`)
)

func explain(parsed *cel.Ast, id int64, message string) Problem {
	if m := undefinedField.FindStringSubmatch(message); m != nil {
		return Problem{Message: "there is no field " + strconv.Quote(m[1]), Unknown: m[1], Known: fieldNames(), Hint: "known: " + strings.Join(fieldNames(), ", ")}
	}
	if m := undeclared.FindStringSubmatch(message); m != nil {
		return unknownName(m[1])
	}
	if m := noOverload.FindStringSubmatch(message); m != nil {
		return noMatch(parsed, id, m[1], typeName(m[2]))
	}
	return Problem{Message: shorten(expecting.ReplaceAllString(message, ""))}
}

func unknownName(name string) Problem {
	p := Problem{Message: strconv.Quote(name) + " is not known", Unknown: name, Known: []string{postingVariable, nowVariable}}
	if fieldOf(name) != nil {
		p.Hint = "write posting." + name
	} else {
		p.Hint = "the variables are posting and now; text needs quotes"
	}
	return p
}

// noMatch explains an operator or function that does not take what it is given.
func noMatch(parsed *cel.Ast, id int64, function, arguments string) Problem {
	if symbol, ok := operators.FindReverse(function); ok && symbol != "" {
		function = symbol
	}
	p := Problem{Message: fmt.Sprintf("%q does not take %s", function, arguments)}
	isNumber := slices.Contains([]string{"(money, int)", "(money, double)", "(int, money)", "(double, money)"}, arguments)
	number := literalOf(parsed, id)
	switch {
	case (function == "*" || function == "/") && arguments == "(money, double)":
		p.Hint = fmt.Sprintf("a number with a point is not exact: write it as text, %s %q, or use percent", function, cmp.Or(number, "0.9"))
	case function == "*" && strings.HasSuffix(arguments, ", money)") && arguments != "(money, money)":
		p.Hint = fmt.Sprintf("write the money first: posting.budget_max * %q", cmp.Or(number, "0.9"))
	case function == "percent" && strings.HasPrefix(arguments, "money.(double"):
		p.Hint = fmt.Sprintf("write it as text: percent(%q)", cmp.Or(number, "12.5"))
	case isNumber, arguments == "(money, string)", arguments == "(string, money)":
		p.Hint = fmt.Sprintf("write money(%q)", cmp.Or(number, "200"))
	case function == "money":
		p.Hint = fmt.Sprintf("write the amount as text: money(%q)", cmp.Or(number, "200"))
	}
	return p
}

// literalOf is a literal among the arguments of the call id as it could stand in a text.
func literalOf(parsed *cel.Ast, id int64) string {
	found := ""
	ast.PostOrderVisit(parsed.NativeRep().Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if e.ID() != id || e.Kind() != ast.CallKind {
			return
		}
		for _, arg := range e.AsCall().Args() {
			if arg.Kind() == ast.LiteralKind {
				found = decimalText(arg.AsLiteral())
			}
		}
	}))
	return found
}

func decimalText(value ref.Val) string {
	switch v := value.(type) {
	case types.Int:
		return strconv.FormatInt(int64(v), 10)
	case types.Double:
		return strconv.FormatFloat(float64(v), 'f', -1, 64)
	case types.String:
		if _, err := posting.ParseAmount(string(v)); err == nil {
			return string(v)
		}
	}
	return ""
}

// typeName is CEL's name of types as this program's users know them.
func typeName(text string) string {
	return strings.NewReplacer("google.protobuf.Timestamp", "timestamp", "google.protobuf.Duration", "duration", "Posting", "posting").Replace(text)
}

// shorten keeps what may hold a text of the posting to one readable line.
func shorten(text string) string {
	const longest = 200
	text = strings.ToValidUTF8(strings.Join(strings.Fields(text), " "), "\uFFFD")
	if runes := []rune(text); len(runes) > longest {
		return string(runes[:longest]) + "…"
	}
	return text
}
