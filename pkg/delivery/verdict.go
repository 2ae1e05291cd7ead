package delivery

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/arbitrageai/bidder/pkg/marketplace"
)

// Verdict is what is to be recorded of one leased delivery. The zero Verdict gives it back, due at once.
type Verdict struct {
	placed  *placed       // the marketplace has the bid
	ended   string        // the status with which its life ends
	review  string        // the reason why a person must look
	delay   time.Duration // else: due again after this
	failed  bool          // and it counts as a failed attempt
	unsent  bool          // the armed POST was certainly not executed
	pause   *pause        // the account calls nobody for a while
	rest    time.Duration // nor for this long, without a pause that anybody would have to know of
	silent  bool          // the call had no answer
	dormant bool          // it stands there, as Finding.Dormant says
	code    string
	message string
	status  int
}

type placed struct {
	externalID string
	foreign    bool
	guessed    bool
}

// externalID is the marketplace's id of a bid that is there, or empty.
func (v Verdict) externalID() string {
	if v.placed == nil {
		return ""
	}
	return v.placed.externalID
}

// expected says of a delivery for a person that it was to be one from the start.
func (v Verdict) expected() bool { return v.review == ReasonNoAPI || v.review == ReasonApproval }

// pause is a pause of an account; without length it lasts until a person ends it.
type pause struct{ length time.Duration }

// EndAs ends the bid's life with a status.
func EndAs(status, code string) Verdict { return Verdict{ended: status, code: code} }

// Review hands the delivery to a person.
func Review(reason string) Verdict { return Verdict{review: reason, code: reason} }

// Again gives the delivery back, due after the delay. Nothing has failed.
func Again(delay time.Duration) Verdict { return Verdict{delay: delay} }

// Failed gives the delivery back after a failed attempt, due after the next gap.
func Failed(code string) Verdict { return Verdict{failed: true, code: code} }

// Because adds what the marketplace said.
func (v Verdict) Because(r marketplace.Result) Verdict {
	v.message, v.status = r.Message, r.Status
	v.silent = r.Status == 0 && (r.Kind == marketplace.Ambiguous || r.Kind == marketplace.NotExecuted)
	if r.Code != "" {
		v.code = r.Code
	}
	return v
}

// lastError is the text for people that stays with the bid.
func (v Verdict) lastError() string {
	switch {
	case v.status != 0 && v.message != "":
		return fmt.Sprintf("%s: HTTP %d: %s", v.code, v.status, v.message)
	case v.status != 0:
		return fmt.Sprintf("%s: HTTP %d", v.code, v.status)
	case v.message != "":
		return v.code + ": " + v.message
	}
	return v.code
}

// Backoff is the gap before the next attempt after failures failed ones: exponential, with
// full jitter over its upper half, so that it never comes close to zero.
func (o Options) Backoff(failures int) time.Duration {
	gap := o.RetryBase
	for range failures {
		if gap *= 2; gap >= o.RetryCap {
			gap = o.RetryCap
			break
		}
	}
	return gap/2 + rand.N(gap/2+1) //nolint:gosec // jitter
}

// lookUpTimes are when an unanswered POST is looked for, after it was armed; the last is
// the marketplace's settle time.
var lookUpTimes = []time.Duration{2 * time.Second, 7 * time.Second, 22 * time.Second, 82 * time.Second} //nolint:gochecknoglobals // a constant

// untilLookUp is the time from since, counted from the last POST, to the next look-up.
func untilLookUp(since, settle time.Duration) time.Duration {
	for _, at := range lookUpTimes {
		if at > since && at < settle {
			return at - since
		}
	}
	return max(settle-since, 0)
}
