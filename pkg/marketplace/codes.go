package marketplace

// Codes that stand in [Result.Code], whichever marketplace it was. They are stable: people
// search for them. The first of them are also what a connector may put into a problem.
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

// The codes that clients give where the marketplace gave none.
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
