package bridge

import (
	"github.com/arbitrageai/bidder/pkg/marketplace"
	"github.com/arbitrageai/bidder/pkg/marketplace/bridge/internal/wire"
)

// The codes that a connector may put into a problem, and that stand in
// [marketplace.Result.Code].
const (
	CodeDuplicateBid        = "duplicate_bid"
	CodeInProgress          = "in_progress"
	CodeIdempotencyKeyReuse = "idempotency_key_reuse"
	CodeJobClosed           = "job_closed"
	CodeNotEligible         = "not_eligible"
	CodeLimitExhausted      = "limit_exhausted"
	CodeAuthFailed          = "auth_failed"
	CodeRateLimited         = "rate_limited"
	CodeAlreadyAccepted     = "already_accepted"
	CodeAlreadyWithdrawn    = "already_withdrawn"
	CodeNotFound            = "not_found"
	CodeInvalidRequest      = "invalid_request"
	CodeUnavailable         = "unavailable"
	CodeNeedsHuman          = "needs_human"
)

// The codes that the client gives where the connector gave none.
const (
	CodeNotSent        = "not_sent"
	CodeNoAnswer       = "no_answer"
	CodeAddressRefused = "address_refused"
	CodePending        = "pending"
	CodeUnreadable     = "unreadable_answer"
	CodeUnknownStatus  = "unknown_status"
	CodeForbidden      = "forbidden"
	CodeConflict       = "conflict"
	CodeEndpointOff    = "endpoint_off"
	CodeRedirected     = "redirected"
	CodeServerError    = "server_error"
	CodeUnexpected     = "unexpected_status"
)

// verdict is what a code or a status proves, by operation.
type verdict struct{ place, lookup, withdraw marketplace.Kind }

func (v verdict) of(op wire.Operation) marketplace.Kind {
	switch op {
	case wire.Place:
		return v.place
	case wire.Lookup:
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
	case CodeDuplicateBid:
		return verdict{marketplace.Ambiguous, human, human}, true
	case CodeInProgress, CodeUnavailable:
		return all(marketplace.Ambiguous), true
	case CodeJobClosed, CodeNotEligible:
		return verdict{marketplace.Permanent, human, human}, true
	case CodeNotFound:
		return verdict{marketplace.Permanent, marketplace.Done, human}, true
	case CodeInvalidRequest:
		return all(marketplace.Permanent), true
	case CodeLimitExhausted:
		return all(marketplace.PauseAccount), true
	case CodeAuthFailed:
		return verdict{marketplace.PauseAccount, marketplace.AuthNeeded, marketplace.PauseAccount}, true
	case CodeRateLimited:
		return all(marketplace.NotExecuted), true
	case CodeAlreadyWithdrawn:
		return verdict{human, human, marketplace.Done}, true
	case CodeAlreadyAccepted, CodeIdempotencyKeyReuse, CodeNeedsHuman:
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
		return all(marketplace.Permanent), CodeInvalidRequest
	case 401:
		return verdict{marketplace.PauseAccount, marketplace.AuthNeeded, marketplace.PauseAccount}, CodeAuthFailed
	case 403:
		return verdict{marketplace.Permanent, marketplace.PauseAccount, human}, CodeForbidden
	case 404:
		return verdict{marketplace.Permanent, marketplace.Done, human}, CodeNotFound
	case 409:
		return verdict{marketplace.Ambiguous, marketplace.Permanent, human}, CodeConflict
	case 410:
		return all(marketplace.PauseAccount), CodeEndpointOff
	case 429:
		return all(marketplace.NotExecuted), CodeRateLimited
	case 408, 425, 502, 503, 504:
		return all(marketplace.Ambiguous), CodeUnavailable
	}
	switch status / 100 {
	case 3: // even this may follow a bid: some services redirect to what they have made
		return all(marketplace.Ambiguous), CodeRedirected
	case 4:
		return all(human), CodeUnexpected
	case 5:
		return all(marketplace.Ambiguous), CodeServerError
	default:
		return all(marketplace.Ambiguous), CodeUnexpected
	}
}
