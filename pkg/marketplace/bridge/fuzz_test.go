package bridge

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/arbitrageai/bidder/pkg/marketplace"
	"github.com/arbitrageai/bidder/pkg/marketplace/bridge/internal/route"
	"github.com/arbitrageai/bidder/pkg/marketplace/internal/wire"
)

// Whatever a connector answers, what is made of it must be something that the engine may
// rely on.
func FuzzAnswer(f *testing.F) {
	f.Add(201, "", "", []byte(`{"external_bid_id":"p-778","status":"submitted"}`))
	f.Add(200, "", "", []byte(`{"found":true,"external_bid_id":778,"status":"accepted"}`))
	f.Add(200, "", "", []byte(`{"found":false,"definitive":true}`))
	f.Add(409, "30", "", []byte(`{"code":"duplicate_bid","external_bid_id":"p-778","retryable":true}`))
	f.Add(429, "Mon, 23 Nov 2026 08:02:00 GMT", `"a";r=0;t=9`, []byte(`{"type":"x#quota-exceeded","title":"https://u:p@h?q","retryable":false}`))
	f.Add(503, "", `"a";r=0;t=99999999999`, []byte("<html>"))
	f.Fuzz(func(t *testing.T, status int, after, limit string, body []byte) {
		if len(body) > 4096 || status < 100 || status > 999 {
			t.Skip("not an answer, or a slow one")
		}
		for _, promises := range []bool{false, true} {
			market := testMarket("https://connector.example.com")
			market.IdempotentPlace, market.LookupIsAuthoritative = promises, promises
			client := Client{market: market, redact: hiding(market)}
			answer := wire.Answer{Status: status, Header: http.Header{"Retry-After": {after}, "Ratelimit": {limit}}, Body: body}

			placed := client.reader(route.Place, answer).placed()
			checkResult(t, placed)
			if done := placed.Kind == marketplace.Done; done != isID(placed.ExternalID) {
				t.Errorf("placed %+v: want an id exactly when it is done", placed)
			} else if done && placed.Code != marketplace.CodeDuplicateBid && (status < 200 || status > 299) {
				t.Errorf("placed %+v by an error", placed)
			}
			checkFinding(t, client.reader(route.Lookup, answer).found(), promises)
			withdrawn := client.reader(route.Withdraw, answer).withdrawn()
			checkResult(t, withdrawn)
			if withdrawn.Kind == marketplace.Done && !strings.Contains(string(body), "withdrawn") && !strings.Contains(string(body), `\u`) {
				t.Errorf("withdrawn by %q", body)
			}
		}
	})
}

func checkFinding(t *testing.T, finding marketplace.Finding, authoritative bool) {
	t.Helper()
	switch {
	case !finding.Known:
		checkResult(t, finding.Result)
		if finding.Result.Kind == marketplace.Done {
			t.Errorf("finding %+v: a look-up that failed is not done", finding)
		}
	case finding.Result != marketplace.Result{}:
		t.Errorf("finding %+v explains a failure that was none", finding)
	}
	if finding.Found && (!finding.Known || !isID(finding.ExternalID) || !slices.Contains(statuses, finding.Status)) {
		t.Errorf("finding %+v: want an id and a status", finding)
	}
	if finding.Definitive && (!finding.Known || finding.Found || !authoritative) {
		t.Errorf("finding %+v is definitive", finding)
	}
}

func checkResult(t *testing.T, result marketplace.Result) {
	t.Helper()
	switch result.Kind {
	case marketplace.NotExecuted:
		if result.Status != http.StatusTooManyRequests && result.Code != marketplace.CodeRateLimited {
			t.Errorf("%+v proves nothing", result)
		}
	case marketplace.Permanent:
		if _, known := verdictOfCode(result.Code); !known && result.Status >= 500 {
			t.Errorf("%+v ends the bid, which may be there", result)
		}
	case marketplace.Done, marketplace.Ambiguous, marketplace.AuthNeeded, marketplace.PauseAccount, marketplace.NeedsHuman:
	default:
		t.Errorf("%+v is of no kind", result)
	}
	if result.Kind != marketplace.Done && (result.Code == "" || result.Message == "") {
		t.Errorf("%+v does not explain itself", result)
	}
	if len(result.Message) > wire.MaxMessage+len("…") || !utf8.ValidString(result.Message) || strings.ContainsFunc(result.Message, unicode.IsControl) {
		t.Errorf("message %q", result.Message)
	}
	if result.After != 0 && (result.After < time.Second || result.After > 15*time.Minute) {
		t.Errorf("%+v waits %v", result, result.After)
	}
}

func isID(id string) bool {
	return id != "" && len(id) <= maxID && utf8.ValidString(id) && !strings.ContainsFunc(id, unicode.IsControl)
}

// Whatever comes in as a callback is refused, or names a bid by ids that can be kept.
func FuzzCallback(f *testing.F) {
	f.Add([]byte(`{"type":"bid.accepted","timestamp":"2026-11-23T08:00:00Z","data":{"bid_id":"0192f3a4-7c1e-7b32-9d55-1f0e6a2b8c41"}}`))
	f.Add([]byte(`{"type":"bid.submitted","data":{"external_bid_id":778}}`))
	f.Add([]byte(`{"type":"bid.viewed","data":{"external_bid_id":"p-778","bid_id":"x"}}`))
	f.Add([]byte(`{"type":"bid.lost","data":[]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		callback, err := ParseCallback(body)
		if err != nil {
			if callback != (Callback{}) {
				t.Errorf("%+v with %v", callback, err)
			}
			return
		}
		if callback.Status == "" {
			if callback != (Callback{}) {
				t.Errorf("%+v means nothing and says something", callback)
			}
			return
		}
		if !slices.Contains(statuses, callback.Status) {
			t.Errorf("%+v has an unknown status", callback)
		}
		if callback.BidID == uuid.Nil && callback.ExternalID == "" {
			t.Errorf("%+v names no bid", callback)
		}
		if callback.ExternalID != "" && !isID(callback.ExternalID) {
			t.Errorf("%+v has an id that cannot be kept", callback)
		}
	})
}
