package main

import (
	"net/http/httptest"
	"testing"
	"time"

	"github.com/arbitrageai/bidder/pkg/config"
	"github.com/arbitrageai/bidder/pkg/marketplace/bridge/conformance"
)

func TestTheConnectorKeepsTheProtocol(t *testing.T) {
	t.Parallel()
	key, err := parseSecret("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(newConnector(key))
	t.Cleanup(server.Close)
	market := config.Marketplace{
		BaseURL:               server.URL,
		Place:                 config.Route{Method: "POST", Path: "/bids"},
		Lookup:                config.Route{Method: "GET", Path: "/bids/by-key/{idempotency_key}"},
		Withdraw:              config.Route{Method: "POST", Path: "/bids/{external_bid_id}/withdraw"},
		SigningSecrets:        []config.Secret{config.NewSecret(string(key))},
		Timeout:               10 * time.Second,
		LookupIsAuthoritative: true,
		IdempotentPlace:       true,
		AllowPrivateNetworks:  true,
	}
	passed := 0
	ok, err := conformance.Check(t.Context(), market, "upwork", func(result conformance.Result) {
		switch result.Verdict {
		case conformance.Failed:
			t.Errorf("%s: %s", result.Name, result.Detail)
		case conformance.Passed:
			passed++
		case conformance.Skipped:
		}
	})
	if err != nil || !ok || passed < 16 {
		t.Errorf("ok: %v, %v, %d checks passed", ok, err, passed)
	}
}

func TestParseSecret(t *testing.T) {
	t.Parallel()
	for _, secret := range []string{"", "whsec_", "whsec_AAAA", "whsec_%%%", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="} {
		if _, err := parseSecret(secret); err == nil {
			t.Errorf("%q is accepted", secret)
		}
	}
}
