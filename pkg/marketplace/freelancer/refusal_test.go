package freelancer

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/arbitrageai/bidder/pkg/marketplace"
)

// Each row is an error that is documented or was seen, and what it proves of a bid and of a
// retraction.
func TestRefusals(t *testing.T) {
	t.Parallel()
	const (
		again = marketplace.NotExecuted
		maybe = marketplace.Ambiguous
		never = marketplace.Permanent
		pause = marketplace.PauseAccount
		auth  = marketplace.AuthNeeded
		human = marketplace.NeedsHuman
	)
	of := func(status int, code, message string) reply {
		return reply{status: status, body: `{"status":"error","message":"` + message + `","error_code":"` + code + `","request_id":"0a7c1b93"}`}
	}
	from := func(status, number int) reply { return reply{status: status, body: payload(t, number)} }
	tests := []struct {
		name           string
		reply          reply
		place, retract marketplace.Kind
		code           string
	}{
		{"not signed in", from(401, 5), auth, auth, "auth_failed"},
		{"not signed in, with 200", from(200, 5), auth, auth, "auth_failed"},
		{"401 without a word", reply{status: 401}, auth, auth, "auth_failed"},
		{"scope", of(403, "RestExceptionCodes.INVALID_SCOPE", "x"), pause, pause, "forbidden"},
		{"permission", of(403, "AuthExceptionCodes.Permission_Denied", "x"), pause, pause, "forbidden"},
		{"scope in the text", of(403, "X.Y", "The scope fln:project_manage is missing"), pause, pause, "forbidden"},
		{"duplicate", from(409, 14), maybe, human, "duplicate_bid"},
		{"duplicate, with 200", from(200, 22), maybe, human, "duplicate_bid"},
		{"duplicate, new style", from(409, 23), maybe, human, "duplicate_bid"},
		{"duplicate, alias", of(400, "ALREADY_BID_ON_PROJECT", "x"), maybe, human, "duplicate_bid"},
		{"duplicate, another alias", of(409, "ProjectExceptionCodes.Bid_Already_Placed", "x"), maybe, human, "duplicate_bid"},
		{"allowance", from(400, 15), pause, human, "limit_exhausted"},
		{"allowance by its text", of(400, "ProjectExceptionCodes.WHATEVER", "You have used all of your bids."), pause, human, "limit_exhausted"},
		{"premium", from(403, 16), never, human, "not_eligible"},
		{"restricted skill", of(403, "ProjectExceptionCodes.RESTRICTED_FROM_BIDDING_PREMIUM_VERIFIED_JOB", "x"), never, human, "not_eligible"},
		{"restricted skill, as reported", of(403, "PREMIUM_VERIFIED_JOB", "x"), never, human, "not_eligible"},
		{"featured", of(403, "ProjectExceptionCodes.RESTRICTED_FROM_BIDDING_ON_FEATURED", "x"), never, human, "not_eligible"},
		{"minimum", from(403, 17), never, human, "not_eligible"},
		{"preferred only", of(403, "X.Y", "You must be a Preferred Freelancer"), never, human, "not_eligible"},
		{"escrow", of(403, "", "You need a linked Escrow.com account"), never, human, "not_eligible"},
		{"NDA", of(400, "X.Y", "You must sign the NDA before bidding"), never, human, "not_eligible"},
		{"amount", of(400, "BID_AMOUNT_INVALID", "x"), never, human, "invalid_request"},
		{"e-mail address", of(400, "BID_DESCRIPTION_CONTAINS_EMAIL", "x"), never, human, "invalid_request"},
		{"closed", from(400, 18), never, maybe, "job_closed"},
		{"closed, in lower case", of(403, "projectexceptioncodes.project_not_active", "x"), never, maybe, "job_closed"},
		{"not found", from(404, 10), never, human, "not_found"},
		{"bad form", from(400, 19), never, human, "invalid_request"},
		{"not for bids", of(400, "USER_NOT_IN_PFP", "x"), human, maybe, "unexpected_status"},
		{"405", from(405, 39), human, human, "unexpected_status"},
		{"405 without a word", reply{status: 405}, human, human, "unexpected_status"},
		{"rate", from(429, 24), again, again, "rate_limited"},
		{"rate, other name", of(429, "TOO_MANY_REQUESTS", "x"), again, again, "rate_limited"},
		{"rate, HTML", reply{status: 429, body: "<html>"}, again, again, "rate_limited"},
		{"rate, with 200", from(200, 24), again, again, "rate_limited"},
		{"unknown error", from(500, 20), maybe, maybe, "server_error"},
		{"unknown error, with 200", from(200, 20), maybe, maybe, "server_error"},
		{"GAF", from(500, 21), maybe, maybe, "server_error"},
		{"GAF, user family", of(500, "UserExceptionCodes.GAF_EXCEPTION", "x"), maybe, maybe, "server_error"},
		{"GAF, with 400", of(400, "GAF_EXCEPTION", "x"), maybe, maybe, "server_error"},
		{"500 without a word", reply{status: 500}, maybe, maybe, "unavailable"},
		{"500 with a code that is final elsewhere", of(500, "ProjectExceptionCodes.PROJECT_NOT_ACTIVE", "x"), maybe, maybe, "server_error"},
		{"502", from(502, 25), maybe, maybe, "unavailable"},
		{"503", reply{status: 503}, maybe, maybe, "unavailable"},
		{"504", reply{status: 504, body: "upstream"}, maybe, maybe, "unavailable"},
		{"403 without a word", reply{status: 403}, pause, pause, "forbidden"},
		{"403 HTML", reply{status: 403, body: "<html>"}, pause, pause, "forbidden"},
		{"404 HTML", reply{status: 404, body: "<html>"}, maybe, maybe, "unavailable"},
		{"unknown 400", from(400, 40), human, maybe, "unexpected_status"},
		{"unknown 403", of(403, "ProjectExceptionCodes.NEW", "x"), human, human, "forbidden"},
		{"unknown 409", of(409, "ProjectExceptionCodes.NEW", "x"), maybe, maybe, "conflict"},
		{"unknown 422", of(422, "ProjectExceptionCodes.NEW", "x"), human, human, "unexpected_status"},
		{"unknown, with 200", of(200, "ProjectExceptionCodes.NEW", "x"), maybe, maybe, "unexpected_status"},
		{"no status", reply{status: 400, body: `{"error_code":"ProjectExceptionCodes.PROJECT_NOT_ACTIVE"}`}, never, maybe, "job_closed"},
		{"no status, with 200", reply{status: 200, body: `{"error_code":"ProjectExceptionCodes.PROJECT_NOT_ACTIVE"}`}, never, maybe, "job_closed"},
		{"no status, new style, with 200", reply{status: 200, body: `{"error":{"code":"ProjectExceptionCodes.PROJECT_NOT_ACTIVE"}}`}, never, maybe, "job_closed"},
		{"error without code", reply{status: 200, body: `{"status":"error"}`}, maybe, maybe, "unexpected_status"},
		{"error is no object", reply{status: 400, body: `{"status":"error","error":"bad"}`}, human, maybe, "unexpected_status"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.answer(postBid, tt.reply)
			s.answer(putBid, tt.reply)
			client := s.client(t, nil)
			want := marketplace.Result{Kind: tt.place, Code: tt.code, Status: tt.reply.status}
			if tt.code == "rate_limited" {
				want.After = time.Minute
			}
			placed := client.Place(t.Context(), testBid())
			wantResult(t, placed, want)
			want.Kind = tt.retract
			wantResult(t, client.Withdraw(t.Context(), placedBid()), want)
			if posts := s.requests("POST"); len(posts) != 1 {
				t.Errorf("%d POSTs, want one", len(posts))
			}
			if id := "0a7c1b93"; strings.Contains(tt.reply.body, id) && tt.place != auth && !strings.HasPrefix(placed.Message, "request "+id) {
				t.Errorf("message %q does not name the request", placed.Message)
			}
		})
	}
}

func TestMessagesTellNoSecrets(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.answer(postBid, reply{status: 400, body: `{"status":"error","message":"bad\n` + testToken + ` ` + strings.Repeat("x", 1000) + `","request_id":"` + strings.Repeat("r", 100) + `"}`})
	got := s.client(t, nil).Place(t.Context(), testBid())
	want := "request " + strings.Repeat("r", 64) + ": bad [redacted] xxx"
	if !strings.HasPrefix(got.Message, want) || len(got.Message) > 510 {
		t.Errorf("message %q of %d bytes, want it short, and to begin with %q", got.Message, len(got.Message), want)
	}
}

func TestRateWait(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)
	const windows = "50, 50;window=120, 1000;window=30"
	for name, tt := range map[string]struct {
		header http.Header
		want   time.Duration
	}{
		"nothing":              {http.Header{}, time.Minute},
		"Retry-After":          {http.Header{"Retry-After": {"7"}, "Ratelimit-Reset": {"9"}}, 7 * time.Second},
		"reset":                {http.Header{"Ratelimit-Reset": {"9"}, "Ratelimit-Limit": {windows}, "Ratelimit-Remaining": {"0"}}, 9 * time.Second},
		"reset of zero":        {http.Header{"Ratelimit-Reset": {"0"}}, time.Second},
		"smallest window":      {http.Header{"Ratelimit-Limit": {windows}, "Ratelimit-Remaining": {"0"}}, 30 * time.Second},
		"window of an hour":    {http.Header{"Ratelimit-Limit": {"9, 9;window=3600"}, "Ratelimit-Remaining": {"0"}}, 15 * time.Minute},
		"something remains":    {http.Header{"Ratelimit-Limit": {windows}, "Ratelimit-Remaining": {"45"}}, time.Minute},
		"no remainder":         {http.Header{"Ratelimit-Limit": {windows}}, time.Minute},
		"windows of no number": {http.Header{"Ratelimit-Limit": {"50;window=x"}, "Ratelimit-Remaining": {"0"}}, time.Minute},
	} {
		a := answer{}
		a.Header = tt.header
		if got := a.rateWait(now); got != tt.want {
			t.Errorf("%s: %s, want %s", name, got, tt.want)
		}
	}
}
