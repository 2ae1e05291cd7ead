package freelancer

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/arbitrageai/bidder/pkg/marketplace"
	"github.com/arbitrageai/bidder/pkg/marketplace/internal/wire"
)

// maxRequestID bounds what is repeated of a request's id, in bytes.
const maxRequestID = 64

// answer is an answer of the API.
type answer struct {
	wire.Answer

	body   wire.Object // nil where it is no JSON object
	redact wire.Redactor
}

// isError reports whether the answer says that something went wrong. The HTTP status does not
// decide alone: an error may come with 200.
func (a answer) isError() bool {
	return a.Status/100 != 2 || a.body.Text("error_code") != "" || a.body["error"].Kind() == jsontext.KindBeginObject ||
		a.body.Text("status") != "success" && a.body.Text("status") != ""
}

// isSuccess reports whether the answer says that all went well, in JSON.
func (a answer) isSuccess() bool { return a.body != nil && !a.isError() }

// isAuth reports whether the token was not accepted.
func (a answer) isAuth() bool {
	return a.Status == http.StatusUnauthorized || a.Status < 500 && a.code() == "NOT_AUTHENTICATED"
}

// code is the error's code without the family before the dot, which differs between reports.
func (a answer) code() string {
	code := a.body.Text("error_code")
	if code == "" {
		code = wire.ParseObject(a.body["error"]).Text("code")
	}
	return strings.ToUpper(strings.TrimSpace(code[strings.LastIndexByte(code, '.')+1:]))
}

// text is what an error says for people.
func (a answer) text() string {
	if text := a.body.Text("message"); text != "" {
		return text
	}
	return wire.ParseObject(a.body["error"]).Text("detail")
}

// explain makes a message, led by the request's id, for which support asks.
func (a answer) explain(text string) string {
	parts := []string{}
	if id := a.body.Text("request_id"); id != "" {
		parts = append(parts, "request "+id[:min(len(id), maxRequestID)])
	}
	if code := a.code(); code != "" {
		parts = append(parts, code)
	}
	if text == "" {
		text = strings.TrimSpace(fmt.Sprintf("Freelancer.com answered %d %s", a.Status, http.StatusText(a.Status)))
	}
	return a.redact.Message(strings.Join(append(parts, text), ": "))
}

// result says what the answer proves, with the waiting time where it means something.
func (a answer) result(kind marketplace.Kind, code string) marketplace.Result {
	result := marketplace.Result{Kind: kind, Code: code, Message: a.explain(a.text()), Status: a.Status}
	switch {
	case code == marketplace.CodeRateLimited:
		result.After = a.rateWait(time.Now())
	case kind == marketplace.Ambiguous, kind == marketplace.NotExecuted:
		result.After, _ = wire.RetryAfter(a.Header, time.Now())
	}
	return result
}

// unreadable explains an answer that claims success and does not make sense.
func (a answer) unreadable(why string) *ReadError {
	return &ReadError{marketplace.Result{
		Kind: marketplace.Ambiguous, Code: marketplace.CodeUnreadable, Message: a.explain(why), Status: a.Status,
	}}
}

// readFailure is nil where a read has an answer.
func (a answer) readFailure() error {
	if a.isSuccess() {
		return nil
	}
	if a.Status/100 == 2 && a.body == nil {
		return a.unreadable("the answer is not JSON, or too long")
	}
	r := a.refusal()
	switch {
	case a.Status == http.StatusForbidden && r.code != marketplace.CodeRateLimited:
		r.place, r.code = marketplace.PauseAccount, marketplace.CodeForbidden
	case a.Status == http.StatusNotFound && a.body != nil:
		r.place, r.code = marketplace.Permanent, marketplace.CodeNotFound
	case r.place == marketplace.NeedsHuman:
		r.place = marketplace.Permanent
	}
	return &ReadError{a.result(r.place, r.code)}
}

// standardWait is how long to wait where a refusal for the rate does not say.
const standardWait = time.Minute

// rateWait is how long to wait after a refusal for the rate: Retry-After, else
// RateLimit-Reset, else the smallest window of RateLimit-Limit ("50, 50;window=60,
// 1000;window=3600") if nothing remains of it.
func (a answer) rateWait(now time.Time) time.Duration {
	if wait, says := wire.RetryAfter(a.Header, now); says {
		return wait
	}
	if reset, says := wire.ParseSeconds(strings.TrimSpace(a.Header.Get("Ratelimit-Reset"))); says {
		return wire.Clamp(reset)
	}
	if strings.TrimSpace(a.Header.Get("Ratelimit-Remaining")) != "0" {
		return standardWait
	}
	var smallest time.Duration
	for policy := range strings.SplitSeq(strings.Join(a.Header.Values("Ratelimit-Limit"), ","), ",") {
		for parameter := range strings.SplitSeq(policy, ";") {
			name, value, _ := strings.Cut(strings.TrimSpace(parameter), "=")
			if window, ok := wire.ParseSeconds(value); ok && name == "window" && (smallest == 0 || window < smallest) {
				smallest = window
			}
		}
	}
	if smallest == 0 {
		return standardWait
	}
	return wire.Clamp(smallest)
}

// wholeNumber reads a JSON number that is a whole one, not negative.
func wholeNumber(value jsontext.Value) (int64, bool) {
	if value.Kind() != jsontext.KindNumber {
		return 0, false
	}
	n, err := strconv.ParseInt(string(value), 10, 64)
	return n, err == nil && n >= 0
}

// decimal is the text of a JSON number without sign and exponent, or nothing.
func decimal(value jsontext.Value) string {
	if value.Kind() != jsontext.KindNumber || strings.Trim(string(value), "0123456789.") != "" {
		return ""
	}
	return string(value)
}
