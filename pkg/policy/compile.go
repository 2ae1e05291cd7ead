package policy

import (
	"fmt"
	"sync"
	_ "time/tzdata" // getHours("Europe/Berlin") is to mean the same on every host
	"unicode/utf8"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/env"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/ext"
)

// The limits of an expression. Costs are CEL's: about one for a step or a comparison, and one
// for ten bytes of text that are looked at. The most that one evaluation may cost takes some
// 100 ms (BenchmarkWorst), so that a batch of 64 of the longest postings stays well below the
// silence after which the server ends a claim.
const (
	maxLength  = 4096 // characters
	maxDepth   = 60   // of what stands inside each other
	maxNodes   = 2000
	maxNesting = 2 // loops inside each other
	maxCost    = 500_000
	// maxRegex bounds the program of one regular expression, in instructions: the cost of a
	// step is known only after it.
	maxRegex = 250
	// checkEvery is after how many steps of a loop the context is looked at.
	checkEvery = 100
)

// environment is the language. Making it takes milliseconds, so only who has expressions does.
var environment = sync.OnceValues(func() (*cel.Env, error) { //nolint:gochecknoglobals // made once
	registry, err := types.NewRegistry()
	if err != nil {
		return nil, fmt.Errorf("set up the expression language: %w", err)
	}
	options := []cel.EnvOption{
		cel.CustomTypeProvider(provider{registry}),
		cel.CustomTypeAdapter(registry),
		cel.Variable(postingVariable, postingType),
		cel.Variable(nowVariable, cel.TimestampType),
		// Types are known: nothing takes them away.
		cel.StdLib(cel.StdLibSubset(&env.LibrarySubset{
			ExcludeFunctions: []*env.Function{env.NewFunction("dyn"), env.NewFunction("type"), env.NewFunction("bytes")},
		})),
		ext.Strings(ext.StringsVersion(0)),
		cel.DefaultUTCTimeZone(true),
		cel.ParserExpressionSizeLimit(maxLength),
		cel.ParserRecursionLimit(maxDepth),
		cel.ExpressionNodeLimit(maxNodes),
		cel.ASTValidators(
			cel.ValidateDurationLiterals(), cel.ValidateTimestampLiterals(), cel.ValidateRegexLiterals(),
			cel.ValidateRegexProgramSizeLimit(maxRegex),
			cel.ValidateHomogeneousAggregateLiterals(), cel.ValidateComprehensionNestingLimit(maxNesting),
			limits{},
		),
	}
	e, err := cel.NewCustomEnv(append(options, moneyLibrary()...)...)
	if err != nil {
		return nil, fmt.Errorf("set up the expression language: %w", err)
	}
	return e, nil
})

// checking is held while an expression is checked: for its first error cel-go 0.33 lists the names
// that it knows, and notes them in the environment while others read it.
var checking sync.Mutex //nolint:gochecknoglobals // as the environment

// check parses text, and checks its types. What is not well-formed is nil.
func check(e *cel.Env, text string) (parsed, checked *cel.Ast, issues *cel.Issues) {
	checking.Lock()
	defer checking.Unlock()
	if parsed, issues = e.Parse(text); issues.Err() != nil {
		return nil, nil, issues
	}
	checked, issues = e.Check(parsed)
	return parsed, checked, issues
}

// compile compiles text, whose values are of the type result.
func compile(text, name string, result *cel.Type) (expression, error) {
	switch {
	case !utf8.ValidString(text):
		return expression{}, oneProblem("is not UTF-8 text", "")
	case utf8.RuneCountInString(text) > maxLength:
		return expression{}, oneProblem(fmt.Sprintf("is longer than %d characters", maxLength), "")
	}
	e, err := environment()
	if err != nil {
		return expression{}, err
	}
	parsed, checked, issues := check(e, text)
	if issues.Err() != nil {
		return expression{}, problems(parsed, issues)
	}
	if !checked.OutputType().IsExactType(result) {
		return expression{}, wrongResult(name, checked.OutputType())
	}
	estimate, err := e.EstimateCost(checked, sizes{})
	if err != nil {
		return expression{}, fmt.Errorf("estimate the cost of an expression: %w", err)
	}
	if estimate.Max > maxCost {
		return expression{}, oneProblem("may take too long on a long posting",
			"loop less often over skills, look less often through the description, and put cheap conditions first")
	}
	program, err := e.Program(checked, cel.EvalOptions(cel.OptOptimize, cel.OptTrackCost),
		cel.CostLimit(maxCost), cel.InterruptCheckFrequency(checkEvery))
	if err != nil {
		return expression{}, oneProblem(err.Error(), "")
	}
	native := checked.NativeRep()
	return expression{text: text, program: program, source: native.SourceInfo(), reads: readsOf(native)}, nil
}

// readsOf finds the fields that are selected of the posting; where it is used otherwise, that
// may be any.
func readsOf(checked *ast.AST) Reads {
	var reads Reads
	uses, selects := 0, 0
	ast.PostOrderVisit(checked.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		switch {
		case e.Kind() == ast.IdentKind && e.AsIdent() == postingVariable:
			uses++
		case e.Kind() == ast.SelectKind && e.AsSelect().Operand().Kind() == ast.IdentKind && e.AsSelect().Operand().AsIdent() == postingVariable:
			if f := fieldOf(e.AsSelect().FieldName()); f != nil {
				selects++
				reads = reads.Union(Reads{Content: f.content, Description: f.description})
			}
		}
	}))
	if uses > selects {
		return Reads{Content: true, Description: true}
	}
	return reads
}
