package policy

import (
	"slices"

	"cel.dev/cel-go/common/cost"
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

// EstimateCallCost implements cost.Estimator: every call costs what CEL says.
func (sizes) EstimateCallCost(string, string, *cost.AstNode, []cost.AstNode) *cost.CallEstimate {
	return nil
}
