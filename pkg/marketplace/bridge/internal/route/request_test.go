package route_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/arbitrageai/bidder/pkg/config"
	"github.com/arbitrageai/bidder/pkg/marketplace"
	"github.com/arbitrageai/bidder/pkg/marketplace/bridge/internal/route"
	"github.com/arbitrageai/bidder/pkg/marketplace/bridge/signature"
)

const bidID = "0192f3a4-7c1e-7b32-9d55-1f0e6a2b8c41"

func testMarket() config.Marketplace {
	return config.Marketplace{
		BaseURL:        "https://connector.example.test/upwork",
		Place:          config.Route{Method: "POST", Path: "/bids"},
		Lookup:         config.Route{Method: "GET", Path: "/bids/by-key/{idempotency_key}"},
		Withdraw:       config.Route{Method: "PUT", Path: "/bids/{external_bid_id}/withdraw/{idempotency_key}"},
		Auth:           config.Auth{Header: "Authorization", Value: config.NewSecret("Bearer of-news")},
		SigningSecrets: []config.Secret{config.NewSecret("first key of the two"), config.NewSecret("second key of the two")},
	}
}

func testBid() marketplace.Bid {
	return marketplace.Bid{
		ID: uuid.MustParse(bidID), Marketplace: "upwork", Account: "default", JobID: "~021890000000000000",
		JobURL: "https://example.test/jobs/021890000000000000", Title: "not sent", AmountCents: 48005, Currency: "USD", Pricing: "fixed",
		PeriodDays: 10, Proposal: "Größe <b>\n", ArmedAt: time.Date(2026, 11, 23, 9, 0, 0, 999_999_999, time.FixedZone("CET", 3600)),
		ApprovedBy: "ops@example.test", ApprovedAt: time.Date(2026, 11, 23, 7, 58, 0, 0, time.UTC), Attempt: 1,
	}
}

func build(tb testing.TB, op route.Operation, bid marketplace.Bid) route.Request {
	tb.Helper()
	request, err := route.Build(testMarket(), op, bid)
	if err != nil {
		tb.Fatal(err)
	}
	return request
}

// What is under one idempotency key must be the same bytes in all versions of bidder.
func TestPlacement(t *testing.T) {
	t.Parallel()
	want := route.Request{
		Method: "POST", URL: "https://connector.example.test/upwork/bids", Key: "place-" + bidID, MessageID: "msg_place_" + bidID, Attempt: 1,
		Body: []byte(`{"type":"bid.place","timestamp":"2026-11-23T08:00:00Z","data":{"bid_id":"` + bidID + `","marketplace":"upwork",` +
			`"job_id":"~021890000000000000","job_url":"https://example.test/jobs/021890000000000000","amount":"480.05","currency":"USD",` +
			`"pricing":"fixed","period_days":10,"proposal":"Größe \u003cb\u003e\n","approved_by":"ops@example.test","approved_at":"2026-11-23T07:58:00Z"}}`),
	}
	if diff := cmp.Diff(want, build(t, route.Place, testBid())); diff != "" {
		t.Errorf("placement (-want +got):\n%s", diff)
	}

	again := testBid()
	again.Attempt, again.ExternalID, again.ArmedAt = 2, "p-1", again.ArmedAt.UTC().Truncate(time.Microsecond)
	if diff := cmp.Diff(string(want.Body), string(build(t, route.Place, again).Body)); diff != "" {
		t.Errorf("the repetition has another body:\n%s", diff)
	}
}

func TestPlacementLeavesOutWhatIsNotSaid(t *testing.T) {
	t.Parallel()
	bid := marketplace.Bid{ID: uuid.MustParse(bidID), Marketplace: "upwork", JobID: "1", AmountCents: 7, Currency: "EUR", ArmedAt: time.Unix(0, 0)}
	want := `{"type":"bid.place","timestamp":"1970-01-01T00:00:00Z","data":{"bid_id":"` + bidID +
		`","marketplace":"upwork","job_id":"1","amount":"0.07","currency":"EUR","proposal":""}}`
	if diff := cmp.Diff(want, string(build(t, route.Place, bid).Body)); diff != "" {
		t.Errorf("body (-want +got):\n%s", diff)
	}
}

func TestLookup(t *testing.T) {
	t.Parallel()
	want := route.Request{
		Method: "GET", URL: "https://connector.example.test/upwork/bids/by-key/place-" + bidID, MessageID: "msg_lookup_" + bidID, Attempt: 1,
	}
	if diff := cmp.Diff(want, build(t, route.Lookup, testBid())); diff != "" {
		t.Errorf("look-up (-want +got):\n%s", diff)
	}
}

func TestWithdrawal(t *testing.T) {
	t.Parallel()
	bid := testBid()
	bid.ExternalID, bid.WithdrawReason, bid.WithdrawAskedAt = "a/b?c#d e%2f;ü", "mistake", time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)
	want := route.Request{
		Method: "PUT", URL: "https://connector.example.test/upwork/bids/a%2Fb%3Fc%23d%20e%252f%3B%C3%BC/withdraw/place-" + bidID,
		Key: "withdraw-" + bidID, MessageID: "msg_withdraw_" + bidID, Attempt: 1,
		Body: []byte(`{"type":"bid.withdraw","timestamp":"2026-11-24T00:00:00Z","data":{"bid_id":"` + bidID +
			`","external_bid_id":"a/b?c#d e%2f;ü","reason":"mistake"}}`),
	}
	request := build(t, route.Withdraw, bid)
	if diff := cmp.Diff(want, request); diff != "" {
		t.Errorf("withdrawal (-want +got):\n%s", diff)
	}
	sent, err := request.HTTP(t.Context(), testMarket(), time.Now())
	if err != nil || "https://connector.example.test"+sent.URL.RequestURI() != want.URL {
		t.Errorf("on the wire %v, %v: want the escapes of %s", sent.URL.RequestURI(), err, want.URL)
	}
	for _, id := range []string{"", ".", ".."} {
		bid.ExternalID = id
		if _, err := route.Build(testMarket(), route.Withdraw, bid); !errors.Is(err, route.ErrExternalID) {
			t.Errorf("Build with the id %q = %v, want ErrExternalID", id, err)
		}
	}
}

// A placeholder in a value is not filled in again.
func TestValuesAreNotTemplates(t *testing.T) {
	t.Parallel()
	bid := testBid()
	bid.ExternalID = "{idempotency_key}"
	if url := build(t, route.Withdraw, bid).URL; !strings.Contains(url, "/%7Bidempotency_key%7D/") {
		t.Errorf("URL %s", url)
	}
}

func TestHTTP(t *testing.T) {
	t.Parallel()
	at := time.Unix(1795420800, 5)
	request := build(t, route.Place, testBid())
	for _, method := range []string{"POST", "PUT"} {
		request.Method = method
		sent, err := request.HTTP(t.Context(), testMarket(), at)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(sent.Body)
		if string(body) != string(request.Body) || sent.ContentLength != int64(len(body)) {
			t.Errorf("body %q with length %d", body, sent.ContentLength)
		}
		signatures := sent.Header.Get("Webhook-Signature")
		sent.Header.Del("Webhook-Signature")
		want := http.Header{
			"Accept": {"application/json, application/problem+json"}, "Authorization": {"Bearer of-news"}, "Content-Type": {"application/json"},
			"Idempotency-Key": {`"place-` + bidID + `"`}, "User-Agent": {"bidder"}, "Webhook-Id": {"msg_place_" + bidID},
			"Webhook-Timestamp": {"1795420800"}, "X-Bidder-Attempt": {"1"},
		}
		if diff := cmp.Diff(want, sent.Header); diff != "" {
			t.Errorf("headers (-want +got):\n%s", diff)
		}
		for _, secret := range testMarket().SigningSecrets {
			sent.Header.Set("Webhook-Signature", signatures)
			if err := signature.Verify(sent.Header, [][]byte{[]byte(secret.Reveal())}, at, body); err != nil {
				t.Errorf("not signed with each secret: %v", err)
			}
		}
	}
}

func TestHTTPOfLookup(t *testing.T) {
	t.Parallel()
	bid, market := testBid(), testMarket()
	bid.Attempt, market.Auth = 0, config.Auth{}
	sent, err := build(t, route.Lookup, bid).HTTP(t.Context(), market, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"Idempotency-Key", "Content-Type", "X-Bidder-Attempt", "Authorization"} {
		if sent.Header.Get(name) != "" {
			t.Errorf("a look-up has the header %s", name)
		}
	}
	if err := signature.Verify(sent.Header, [][]byte{[]byte("first key of the two")}, time.Now(), nil); err != nil {
		t.Errorf("not signed over the empty body: %v", err)
	}
	if _, err := (route.Request{Method: "G E T"}).HTTP(t.Context(), market, time.Now()); err == nil {
		t.Error("a request without sense was built")
	}
}
