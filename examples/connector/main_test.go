package main

import (
	"context"
	"errors"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/arbitrageai/bidder/pkg/config"
	"github.com/arbitrageai/bidder/pkg/marketplace"
	"github.com/arbitrageai/bidder/pkg/marketplace/bridge"
	"github.com/arbitrageai/bidder/pkg/marketplace/bridge/conformance"
)

// start runs a connector and returns the configuration for it.
func start(tb testing.TB, submit func(context.Context, placement) (string, error), retract func(context.Context, string) error) config.Marketplace {
	tb.Helper()
	key, err := parseSecret("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
	if err != nil {
		tb.Fatal(err)
	}
	server := httptest.NewServer(newConnector(key, submit, retract))
	tb.Cleanup(server.Close)
	return config.Marketplace{
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
}

func TestTheConnectorKeepsTheProtocol(t *testing.T) {
	t.Parallel()
	passed := 0
	ok, err := conformance.Check(t.Context(), start(t, submit, retract), "upwork", func(result conformance.Result) {
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

// A call to the marketplace that failed may have worked: it is not made again.
func TestWhatIsInDoubtIsNotRepeated(t *testing.T) {
	t.Parallel()
	submitted := 0
	client, err := bridge.New(start(t, func(context.Context, placement) (string, error) {
		submitted++
		return "", errors.New("timeout")
	}, retract))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	bid := marketplace.Bid{ID: uuid.New(), JobID: "1", ArmedAt: time.Now()}
	for range 2 {
		if result := client.Place(t.Context(), bid); result.Kind != marketplace.NeedsHuman || submitted != 1 {
			t.Errorf("%+v after %d calls, want a person to look after one", result, submitted)
		}
	}
	if finding := client.Lookup(t.Context(), bid); !finding.Known || finding.Found || finding.Definitive {
		t.Errorf("%+v, want a miss that proves nothing", finding)
	}
}

func TestWithdrawalsThatFail(t *testing.T) {
	t.Parallel()
	client, err := bridge.New(start(t, submit, func(context.Context, string) error { return errors.New("timeout") }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	bid := marketplace.Bid{ID: uuid.New(), JobID: "1", ArmedAt: time.Now()}
	bid.ExternalID = client.Place(t.Context(), bid).ExternalID
	if result := client.Withdraw(t.Context(), bid); result.Kind != marketplace.Ambiguous {
		t.Errorf("%+v, want it tried again", result)
	}
	if finding := client.Lookup(t.Context(), bid); finding.Status != marketplace.Submitted {
		t.Errorf("%+v, want it submitted", finding)
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
