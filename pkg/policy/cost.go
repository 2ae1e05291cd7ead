package policy

import (
	"slices"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/cost"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"

	"github.com/arbitrageai/bidder/pkg/posting"
)

// sizes tells the estimate of the cost how long values can get.
type sizes struct{}

// EstimateSize implements cost.Estimator.
func (sizes) EstimateSize(element cost.AstNode) *cost.SizeEstimate {
	most := uint64(maxText)
	switch path := element.Path(); {
	case slices.Equal(path, []string{postingVariable, "description"}):
		most = posting.MaxDescription
	case slices.Equal(path, []string{postingVariable, "skills"}):
		most = maxSkills
	case len(path) > 2 && path[1] == "skills":
		most = maxSkill
	case len(path) == 0 && element.Type().Kind() == types.ListKind:
		most = maxSkills
	case len(path) == 0 && element.Type().Kind() != types.StringKind:
		return nil
	}
	return &cost.SizeEstimate{Max: most}
}

const functionMatches = "matches"

// EstimateCallCost implements cost.Estimator. CEL takes a pattern's text for its size, which
// (a?){200} is not, and knows no size of money; every other call costs what it says.
func (s sizes) EstimateCallCost(function, _ string, target *cost.AstNode, args []cost.AstNode) *cost.CallEstimate {
	switch {
	case (function == operators.Equals || function == operators.NotEquals) && len(args) > 0 && args[0].Type().IsExactType(moneyType):
		return cost.NewCallEstimate(cost.FixedCostEstimate(1), nil)
	case function != functionMatches || len(args) == 0:
		return nil
	}
	pattern, text := args[len(args)-1], args[0]
	if target != nil {
		text = *target
	}
	literal, isText := types.String(""), false
	if pattern.Expr().Kind() == ast.LiteralKind {
		literal, isText = pattern.Expr().AsLiteral().(types.String)
	}
	if !isText {
		return nil // is refused elsewhere
	}
	length := s.EstimateSize(text).Max
	if size := text.ComputedSize(); size != nil {
		length = size.Max
	}
	if readsDescription(text.Expr()) { // also where its size got lost on the way
		length = max(length, posting.MaxDescription)
	}
	return cost.NewCallEstimate(cost.RangedCostEstimate(1, matchCost(length, string(literal))), nil)
}

// readsDescription says whether an expression is made of the description.
func readsDescription(e ast.Expr) bool {
	reads := false
	ast.PostOrderVisit(e, ast.NewExprVisitor(func(e ast.Expr) {
		reads = reads || e.Kind() == ast.SelectKind && e.AsSelect().FieldName() == "description"
	}))
	return reads
}

// stepsPerCost is how many instructions of a pattern, each tried at one byte, cost one: some
// 10 ns each, where a cost of one stands for some 200 ns.
const stepsPerCost = 20

// matchCost is the cost of a match at its worst: every instruction of the pattern's program is
// tried at every byte.
func matchCost(length uint64, pattern string) uint64 {
	size, err := types.RegexProgramSize(pattern)
	if err != nil {
		return 1 // is refused elsewhere
	}
	return 1 + length*uint64(size)/stepsPerCost //nolint:gosec // a length
}
