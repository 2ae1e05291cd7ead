package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
)

// limits refuses, when an expression is compiled, what no evaluation could make sense of, and
// what could do much work in one step: the cost of a step is counted only after it.
type limits struct{}

// heavy are the functions of the library that make long texts, or whose work is a product of
// two lengths.
var heavy = []string{"charAt", "indexOf", "lastIndexOf", "replace", "split", "substring"} //nolint:gochecknoglobals // a constant

// Name implements cel.ASTValidator.
func (limits) Name() string { return "bidder.limits" }

// Validate implements cel.ASTValidator.
func (limits) Validate(_ *cel.Env, _ cel.ValidatorConfig, checked *ast.AST, issues *cel.Issues) {
	ast.PostOrderVisit(checked.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		switch e.Kind() {
		case ast.CallKind:
			checkCall(e, issues)
		case ast.StructKind:
			issues.ReportErrorAtID(e.ID(), "objects cannot be made here")
		}
	}))
}

func checkCall(e ast.Expr, issues *cel.Issues) {
	call := e.AsCall()
	if len(call.Args()) == 0 {
		return
	}
	last := call.Args()[len(call.Args())-1]
	literal, isText := types.String(""), false
	if last.Kind() == ast.LiteralKind {
		literal, isText = last.AsLiteral().(types.String)
	}
	switch name := call.FunctionName(); {
	case slices.Contains(heavy, name):
		issues.ReportErrorAtID(e.ID(), "the function %s is not supported: use contains, startsWith, endsWith or matches", name)
	case name == "matches" && !isText:
		issues.ReportErrorAtID(last.ID(), "the pattern must be written out: what a posting says is no pattern")
	case isText && strings.HasPrefix(name, "get"):
		if err := checkZone(string(literal)); err != nil {
			issues.ReportErrorAtID(last.ID(), "%s", err.Error())
		}
	case name == "money" && isText:
		if err, bad := parseMoney(string(literal)).(*types.Err); bad {
			issues.ReportErrorAtID(last.ID(), "%s", err.String())
		}
	case (name == "percent" || name == operators.Multiply || name == operators.Divide) && isText:
		if _, err := parseFactor(string(literal)); err != nil {
			issues.ReportErrorAtID(last.ID(), "%s", err.Error())
		}
	}
}

// checkZone refuses a time zone that no evaluation could use: CEL takes names, and offsets
// such as +02:00.
func checkZone(name string) error {
	if strings.Contains(name, ":") {
		return nil
	}
	if _, err := time.LoadLocation(name); err != nil {
		return fmt.Errorf("there is no time zone %q: write one like Europe/Berlin", name)
	}
	return nil
}
