package policy

import (
	"slices"

	"cel.dev/cel-go/checker"
	"cel.dev/cel-go/common/types"

	"github.com/arbitrageai/bidder/pkg/posting"
)

// sizes tells the estimate of the cost how long values can get.
type sizes struct{}

// EstimateSize implements checker.CostEstimator.
func (sizes) EstimateSize(element checker.AstNode) *checker.SizeEstimate {
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
	return &checker.SizeEstimate{Max: most}
}

// EstimateCallCost implements checker.CostEstimator: every call costs what CEL says.
func (sizes) EstimateCallCost(string, string, *checker.AstNode, []checker.AstNode) *checker.CallEstimate {
	return nil
}
