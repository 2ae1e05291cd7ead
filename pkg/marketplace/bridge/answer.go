package bridge

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/arbitrageai/bidder/pkg/config"
	"github.com/arbitrageai/bidder/pkg/marketplace"
	"github.com/arbitrageai/bidder/pkg/marketplace/bridge/internal/wire"
)

// maxID bounds external ids, in bytes.
const maxID = 512

// reader says what an answer means.
type reader struct {
	op     wire.Operation
	market config.Marketplace
	answer wire.Answer
	body   object
	after  time.Duration
	redact redactor
}

func (r reader) isSuccess() bool { return r.answer.Status >= 200 && r.answer.Status < 300 }

// placed reads the answer to a placement.
func (r reader) placed() marketplace.Result {
	id, hasID := r.body.externalID()
	switch {
	case r.answer.Status == http.StatusAccepted:
		return r.result(marketplace.Ambiguous, CodePending, "the connector is still at it")
	case r.isSuccess() && hasID:
		return marketplace.Result{Kind: marketplace.Done, ExternalID: id, Status: r.answer.Status}
	case r.isSuccess():
		return r.result(marketplace.Ambiguous, CodeUnreadable, "the answer has no external_bid_id that can be used")
	}
	result := r.refused()
	if result.Code == CodeDuplicateBid && hasID {
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
	id, hasID := r.body.externalID()
	found, says := r.body.boolean("found")
	status := marketplace.Status(r.body.text("status"))
	switch {
	case says && !found:
		definitive, saysSo := r.body.boolean("definitive")
		return marketplace.Finding{Known: true, Definitive: r.market.LookupIsAuthoritative && (definitive || !saysSo)}
	case !says || !hasID:
		return marketplace.Finding{Result: r.result(marketplace.Ambiguous, CodeUnreadable,
			"the answer needs found and, where that is true, an external_bid_id that can be used")}
	}
	if slices.Contains(statuses, status) {
		return marketplace.Finding{Known: true, Found: true, ExternalID: id, Status: status}
	}
	result := r.result(marketplace.NeedsHuman, CodeUnknownStatus, "the bid is there, in a status that bidder does not know: "+string(status))
	result.ExternalID = id
	return marketplace.Finding{Result: result}
}

// statuses are those that a connector may name.
var statuses = []marketplace.Status{ //nolint:gochecknoglobals // a constant
	marketplace.Submitted, marketplace.Accepted, marketplace.Rejected, marketplace.Withdrawn, marketplace.Expired, marketplace.Lost,
}

// withdrawn reads the answer to a withdrawal.
func (r reader) withdrawn() marketplace.Result {
	status := r.body.text("status")
	switch {
	case r.answer.Status == http.StatusAccepted:
		return r.result(marketplace.Ambiguous, CodePending, "the connector is still at it")
	case r.isSuccess() && (status == string(marketplace.Withdrawn) || status == CodeAlreadyWithdrawn):
		return marketplace.Result{Kind: marketplace.Done, Status: r.answer.Status}
	case r.isSuccess():
		return r.result(marketplace.Ambiguous, CodeUnreadable, "the answer does not say that the bid is withdrawn")
	default:
		return r.refused()
	}
}

// refused reads any other answer than 2xx: its code decides, else retryable, else the status.
func (r reader) refused() marketplace.Result {
	said := r.body.code()
	if verdict, known := verdictOfCode(said); known {
		return r.result(verdict.of(r.op), said, r.explanation(""))
	}
	verdict, code := verdictOfStatus(r.answer.Status)
	kind := verdict.of(r.op)
	isPlace := r.op == wire.Place
	switch retryable, says := r.body.boolean("retryable"); {
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
	result := marketplace.Result{Kind: kind, Code: code, Message: r.redact.message(message), Status: r.answer.Status}
	switch {
	case kind == marketplace.Ambiguous, kind == marketplace.NotExecuted, code == CodeLimitExhausted:
		result.After = r.after
	}
	return result
}

// explanation is what a problem says for people, after the code where that is unknown.
func (r reader) explanation(unknownCode string) string {
	parts := []string{}
	for _, part := range []string{unknownCode, r.body.text("title"), r.body.text("detail")} {
		if part = r.redact.message(part); part != "" { // it may be nothing but what is not shown
			parts = append(parts, part)
		}
	}
	if len(parts) == 0 {
		return strings.TrimSpace(fmt.Sprintf("the connector answered %d %s", r.answer.Status, http.StatusText(r.answer.Status)))
	}
	return strings.Join(parts, ": ")
}

// object is a JSON object. A member of another type than expected counts as missing, as
// RFC 9457 wants it.
type object map[string]jsontext.Value

// parseObject returns nil for anything but one JSON object in which no name stands twice.
func parseObject(body []byte) object {
	var o object
	if err := json.Unmarshal(body, &o); err != nil {
		return nil
	}
	return o
}

func (o object) text(name string) string {
	var text string
	if value := o[name]; value.Kind() != jsontext.KindString || json.Unmarshal(value, &text) != nil {
		return ""
	}
	return text
}

func (o object) boolean(name string) (value, says bool) {
	kind := o[name].Kind()
	return kind == jsontext.KindTrue, kind == jsontext.KindTrue || kind == jsontext.KindFalse
}

// code returns the problem's code. Where bidder knows none, the problem types that are
// registered for limits of rate stand for one.
func (o object) code() string {
	code := o.text("code")
	if _, known := verdictOfCode(code); known {
		return code
	}
	name := o.text("type")
	switch name[strings.LastIndexAny(name, "#/:")+1:] {
	case "quota-exceeded":
		return CodeLimitExhausted
	case "temporary-reduced-capacity":
		return CodeUnavailable
	case "abnormal-usage-detected":
		return CodeNeedsHuman
	default:
		return code
	}
}

// externalID returns an id that can be kept, and can stand in a path. An integer counts as
// its digits; the texts that programs make of a missing value do not count.
func (o object) externalID() (string, bool) {
	id := o.text("external_bid_id")
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
