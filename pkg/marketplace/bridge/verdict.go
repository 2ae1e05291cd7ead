package bridge

import (
	"github.com/arbitrageai/bidder/pkg/marketplace"
	"github.com/arbitrageai/bidder/pkg/marketplace/bridge/internal/route"
)

// verdict is what a code or a status proves, by operation.
type verdict struct{ place, lookup, withdraw marketplace.Kind }

func (v verdict) of(op route.Operation) marketplace.Kind {
	switch op {
	case route.Place:
		return v.place
	case route.Lookup:
		return v.lookup
	default:
		return v.withdraw
	}
}

func all(kind marketplace.Kind) verdict { return verdict{kind, kind, kind} }

// verdictOfCode says what a code proves, where it is known. A code that makes no sense for an
// operation is for a person.
func verdictOfCode(code string) (verdict, bool) {
	const human = marketplace.NeedsHuman
	switch code {
	case marketplace.CodeDuplicateBid:
		return verdict{marketplace.Ambiguous, human, human}, true
	case marketplace.CodeInProgress, marketplace.CodeUnavailable:
		return all(marketplace.Ambiguous), true
	case marketplace.CodeJobClosed, marketplace.CodeNotEligible:
		return verdict{marketplace.Permanent, human, human}, true
	case marketplace.CodeNotFound:
		return verdict{marketplace.Permanent, marketplace.Done, human}, true
	case marketplace.CodeInvalidRequest:
		return all(marketplace.Permanent), true
	case marketplace.CodeLimitExhausted:
		return all(marketplace.PauseAccount), true
	case marketplace.CodeAuthFailed:
		return verdict{marketplace.PauseAccount, marketplace.AuthNeeded, marketplace.PauseAccount}, true
	case marketplace.CodeRateLimited:
		return all(marketplace.NotExecuted), true
	case marketplace.CodeAlreadyWithdrawn:
		return verdict{human, human, marketplace.Done}, true
	case marketplace.CodeAlreadyAccepted, marketplace.CodeIdempotencyKeyReuse, marketplace.CodeNeedsHuman:
		return all(human), true
	default:
		return verdict{}, false
	}
}

// verdictOfStatus says what a status other than 2xx proves by itself, and a code for it.
func verdictOfStatus(status int) (verdict, string) {
	const human = marketplace.NeedsHuman
	switch status {
	case 400, 422:
		return all(marketplace.Permanent), marketplace.CodeInvalidRequest
	case 401:
		return verdict{marketplace.PauseAccount, marketplace.AuthNeeded, marketplace.PauseAccount}, marketplace.CodeAuthFailed
	case 403:
		return verdict{marketplace.Permanent, marketplace.PauseAccount, human}, marketplace.CodeForbidden
	case 404:
		return verdict{marketplace.Permanent, marketplace.Done, human}, marketplace.CodeNotFound
	case 409:
		return verdict{marketplace.Ambiguous, marketplace.Permanent, human}, marketplace.CodeConflict
	case 410:
		return all(marketplace.PauseAccount), marketplace.CodeEndpointOff
	case 429:
		return all(marketplace.NotExecuted), marketplace.CodeRateLimited
	case 408, 425, 502, 503, 504:
		return all(marketplace.Ambiguous), marketplace.CodeUnavailable
	}
	switch status / 100 {
	case 3: // even this may follow a bid: some services redirect to what they have made
		return all(marketplace.Ambiguous), marketplace.CodeRedirected
	case 4:
		return all(human), marketplace.CodeUnexpected
	case 5:
		return all(marketplace.Ambiguous), marketplace.CodeServerError
	default:
		return all(marketplace.Ambiguous), marketplace.CodeUnexpected
	}
}
