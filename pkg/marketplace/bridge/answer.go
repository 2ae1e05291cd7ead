package bridge

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/arbitrageai/bidder/pkg/config"
	"github.com/arbitrageai/bidder/pkg/marketplace"
	"github.com/arbitrageai/bidder/pkg/marketplace/bridge/internal/route"
	"github.com/arbitrageai/bidder/pkg/marketplace/internal/wire"
)

// maxID bounds external ids, in bytes.
const maxID = 512

// reader says what an answer means.
type reader struct {
	op     route.Operation
	market config.Marketplace
	answer wire.Answer
	body   wire.Object
	after  time.Duration
	redact wire.Redactor
}

func (r reader) isSuccess() bool { return r.answer.Status >= 200 && r.answer.Status < 300 }

// placed reads the answer to a placement.
func (r reader) placed() marketplace.Result {
	id, hasID := externalID(r.body)
	switch {
	case r.answer.Status == http.StatusAccepted:
		return r.result(marketplace.Ambiguous, marketplace.CodePending, "the connector is still at it")
	case r.isSuccess() && hasID:
		return marketplace.Result{Kind: marketplace.Done, ExternalID: id, Status: r.answer.Status}
	case r.isSuccess():
		return r.result(marketplace.Ambiguous, marketplace.CodeUnreadable, "the answer has no external_bid_id that can be used")
	}
	result := r.refused()
	if result.Code == marketplace.CodeDuplicateBid && hasID {
		result.Kind, result.ExternalID, result.After = marketplace.Done, id, 0
	}
	return result
}

// found reads the answer to a look-up.
func (r reader) found() marketplace.Finding {
	if !r.isSuccess() {
		result := r.refused()
		if result.Kind != marketplace.Done { // of look-ups, only what is not there is done
			return marketplace.Finding{Result: result}
		}
		return marketplace.Finding{Known: true, Definitive: r.market.LookupIsAuthoritative}
	}
	id, hasID := externalID(r.body)
	found, says := r.body.Bool("found")
	status := marketplace.Status(r.body.Text("status"))
	switch {
	case says && !found:
		definitive, saysSo := r.body.Bool("definitive")
		return marketplace.Finding{Known: true, Definitive: r.market.LookupIsAuthoritative && (definitive || !saysSo)}
	case !says || !hasID:
		return marketplace.Finding{Result: r.result(marketplace.Ambiguous, marketplace.CodeUnreadable,
			"the answer needs found and, where that is true, an external_bid_id that can be used")}
	}
	if slices.Contains(statuses, status) {
		return marketplace.Finding{Known: true, Found: true, ExternalID: id, Status: status}
	}
	result := r.result(marketplace.NeedsHuman, marketplace.CodeUnknownStatus, "the bid is there, in a status that bidder does not know: "+string(status))
	result.ExternalID = id
	return marketplace.Finding{Result: result}
}

// statuses are those that a connector may name.
var statuses = []marketplace.Status{ //nolint:gochecknoglobals // a constant
	marketplace.Submitted, marketplace.Accepted, marketplace.Rejected, marketplace.Withdrawn, marketplace.Expired, marketplace.Lost,
}

// withdrawn reads the answer to a withdrawal.
func (r reader) withdrawn() marketplace.Result {
	status := r.body.Text("status")
	switch {
	case r.answer.Status == http.StatusAccepted:
		return r.result(marketplace.Ambiguous, marketplace.CodePending, "the connector is still at it")
	case r.isSuccess() && (status == string(marketplace.Withdrawn) || status == marketplace.CodeAlreadyWithdrawn):
		return marketplace.Result{Kind: marketplace.Done, Status: r.answer.Status}
	case r.isSuccess():
		return r.result(marketplace.Ambiguous, marketplace.CodeUnreadable, "the answer does not say that the bid is withdrawn")
	default:
		return r.refused()
	}
}

// refused reads any other answer than 2xx: its code decides, else retryable, else the status.
func (r reader) refused() marketplace.Result {
	said := problemCode(r.body)
	if verdict, known := verdictOfCode(said); known {
		return r.result(verdict.of(r.op), said, r.explanation(""))
	}
	verdict, code := verdictOfStatus(r.answer.Status)
	kind := verdict.of(r.op)
	isPlace := r.op == route.Place
	switch retryable, says := r.body.Bool("retryable"); {
	case !says || kind == marketplace.NotExecuted && retryable:
	case retryable && (!isPlace || r.market.IdempotentPlace):
		kind = marketplace.Ambiguous
	case retryable:
	case kind == marketplace.NotExecuted, kind == marketplace.Ambiguous && !isPlace:
		// That a bid is not to be sent again does not say that there is none.
		kind = marketplace.NeedsHuman
	}
	return r.result(kind, code, r.explanation(said))
}

// result keeps the waiting time where it says something.
func (r reader) result(kind marketplace.Kind, code, message string) marketplace.Result {
	result := marketplace.Result{Kind: kind, Code: code, Message: r.redact.Message(message), Status: r.answer.Status}
	switch {
	case kind == marketplace.Ambiguous, kind == marketplace.NotExecuted, code == marketplace.CodeLimitExhausted:
		result.After = r.after
	}
	return result
}

// explanation is what a problem says for people, after the code where that is unknown.
func (r reader) explanation(unknownCode string) string {
	parts := []string{}
	for _, part := range []string{unknownCode, r.body.Text("title"), r.body.Text("detail")} {
		if part = r.redact.Message(part); part != "" { // it may be nothing but what is not shown
			parts = append(parts, part)
		}
	}
	if len(parts) == 0 {
		return strings.TrimSpace(fmt.Sprintf("the connector answered %d %s", r.answer.Status, http.StatusText(r.answer.Status)))
	}
	return strings.Join(parts, ": ")
}

// problemCode returns the problem's code. Where bidder knows none, the problem types that are
// registered for limits of rate stand for one.
func problemCode(o wire.Object) string {
	code := o.Text("code")
	if _, known := verdictOfCode(code); known {
		return code
	}
	name := o.Text("type")
	switch name[strings.LastIndexAny(name, "#/:")+1:] {
	case "quota-exceeded":
		return marketplace.CodeLimitExhausted
	case "temporary-reduced-capacity":
		return marketplace.CodeUnavailable
	case "abnormal-usage-detected":
		return marketplace.CodeNeedsHuman
	default:
		return code
	}
}

// externalID returns an id that can be kept, and can stand in a path. An integer counts as
// its digits; the texts that programs make of a missing value do not count.
func externalID(o wire.Object) (string, bool) {
	id := o.Text("external_bid_id")
	if value := o["external_bid_id"]; value.Kind() == jsontext.KindNumber && strings.Trim(string(value), "0123456789") == "" {
		id = string(value)
	}
	switch strings.ToLower(id) {
	case "", ".", "..", "none", "null", "undefined", "<nil>":
		return "", false
	}
	isBad := len(id) > maxID || strings.TrimSpace(id) != id || !utf8.ValidString(id) || strings.ContainsFunc(id, unicode.IsControl)
	return id, !isBad
}
