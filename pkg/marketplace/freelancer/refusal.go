package freelancer

import (
	"net/http"
	"regexp"
	"strings"

	"github.com/arbitrageai/bidder/pkg/marketplace"
)

// refusal is what an error proves of a bid that was sent, and of a retraction.
type refusal struct {
	place, retract marketplace.Kind
	code           string
}

func both(kind marketplace.Kind, code string) refusal { return refusal{kind, kind, code} }

// never is a refusal of a bid for good. What it would mean for a retraction nobody knows.
func never(code string) refusal {
	return refusal{marketplace.Permanent, marketplace.NeedsHuman, code}
}

// refusal says what an answer other than success proves. The code decides, and the status
// where there is none that is known; a server error proves nothing whatever it says: one was
// seen to come after the row was written.
func (a answer) refusal() refusal {
	code := a.code()
	switch {
	case a.Status >= 500:
		if a.body == nil {
			return both(marketplace.Ambiguous, marketplace.CodeUnavailable)
		}
		return both(marketplace.Ambiguous, marketplace.CodeServerError)
	case a.isAuth():
		return both(marketplace.AuthNeeded, marketplace.CodeAuthFailed)
	case a.Status == http.StatusTooManyRequests || code == "RATE_LIMITED" || code == "TOO_MANY_REQUESTS":
		return both(marketplace.NotExecuted, marketplace.CodeRateLimited)
	case a.body == nil && a.Status == http.StatusForbidden: // a wall against robots
		return both(marketplace.PauseAccount, marketplace.CodeForbidden)
	case a.body == nil && a.Status/100 == 3:
		return both(marketplace.Ambiguous, marketplace.CodeRedirected)
	case a.body == nil && a.Status != http.StatusMethodNotAllowed: // somebody in between
		return both(marketplace.Ambiguous, marketplace.CodeUnavailable)
	}
	if r, known := refusalOfCode(code); known {
		return r
	}
	if r, known := refusalOfText(a.Status, a.text()); known {
		return r
	}
	return a.refusalOfStatus()
}

// refusalOfCode knows the codes that have been documented or seen.
func refusalOfCode(code string) (refusal, bool) {
	switch code {
	case "DUPLICATE_BID", "ALREADY_BID_ON_PROJECT", "BID_ALREADY_PLACED": // it proves that there is a bid, not whose
		return refusal{marketplace.Ambiguous, marketplace.NeedsHuman, marketplace.CodeDuplicateBid}, true
	case "BID_LIMIT_EXCEEDED":
		return refusal{marketplace.PauseAccount, marketplace.NeedsHuman, marketplace.CodeLimitExhausted}, true
	case "BID_MINIMUM_REQUIREMENT_NOT_MET":
		return never(marketplace.CodeNotEligible), true
	case "PROJECT_NOT_ACTIVE": // whether the bid is still live, a look-up says
		return refusal{marketplace.Permanent, marketplace.Ambiguous, marketplace.CodeJobClosed}, true
	case "NOT_FOUND":
		return never(marketplace.CodeNotFound), true
	case "BAD_FORM", "BID_AMOUNT_INVALID", "BID_DESCRIPTION_CONTAINS_EMAIL":
		return never(marketplace.CodeInvalidRequest), true
	case "GAF_EXCEPTION", "UNKNOWN_ERROR":
		return both(marketplace.Ambiguous, marketplace.CodeServerError), true
	}
	switch {
	case strings.HasPrefix(code, "RESTRICTED_FROM_BIDDING"), strings.HasSuffix(code, "PREMIUM_VERIFIED_JOB"):
		return never(marketplace.CodeNotEligible), true
	case strings.Contains(code, "SCOPE"), strings.Contains(code, "PERMISSION"): // what the app may do, not one bid
		return both(marketplace.PauseAccount, marketplace.CodeForbidden), true
	}
	return refusal{}, false
}

// refusalOfText knows refusals of which the text was seen, and the code was not noted down.
func refusalOfText(status int, text string) (refusal, bool) {
	if status < 400 || status > 499 {
		return refusal{}, false
	}
	is := func(pattern string) bool { return regexp.MustCompile(`(?i)` + pattern).MatchString(text) }
	switch {
	case is(`used all of your bids`):
		return refusal{marketplace.PauseAccount, marketplace.NeedsHuman, marketplace.CodeLimitExhausted}, true
	case status == http.StatusForbidden && is(`\bscopes?\b`):
		return both(marketplace.PauseAccount, marketplace.CodeForbidden), true
	case status == http.StatusForbidden && is(`preferred freelancer|escrow\.com`), is(`sign the NDA`):
		return never(marketplace.CodeNotEligible), true
	}
	return refusal{}, false
}

// refusalOfStatus is for errors of which nothing is known but the status.
func (a answer) refusalOfStatus() refusal {
	switch {
	case a.Status == http.StatusBadRequest:
		// Of retractions, too, of bids that have been awarded or retracted: a look-up says which.
		return refusal{marketplace.NeedsHuman, marketplace.Ambiguous, marketplace.CodeUnexpected}
	case a.Status == http.StatusConflict:
		return both(marketplace.Ambiguous, marketplace.CodeConflict)
	case a.Status == http.StatusForbidden:
		return both(marketplace.NeedsHuman, marketplace.CodeForbidden)
	case a.Status/100 == 4:
		return both(marketplace.NeedsHuman, marketplace.CodeUnexpected)
	default: // an error that came with 200 may be any
		return both(marketplace.Ambiguous, marketplace.CodeUnexpected)
	}
}

// refusesEncoding reports whether a retraction was not understood, and so changed nothing. The
// code decides where there is one: the API may answer an error with HTTP 200.
func (a answer) refusesEncoding() bool {
	switch {
	case a.Status >= http.StatusInternalServerError:
		return false
	case a.Status == http.StatusMethodNotAllowed:
		return true
	}
	code := a.code()
	return code == "BAD_FORM" || code == "METHOD_NOT_ALLOWED"
}
