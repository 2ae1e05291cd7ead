package manual_test

import (
	"testing"

	"github.com/arbitrageai/bidder/pkg/marketplace"
	"github.com/arbitrageai/bidder/pkg/marketplace/manual"
)

func TestEverythingIsHandedOver(t *testing.T) {
	t.Parallel()
	var client marketplace.Client = manual.Client{}
	for name, result := range map[string]marketplace.Result{
		"place":    client.Place(t.Context(), marketplace.Bid{}),
		"withdraw": client.Withdraw(t.Context(), marketplace.Bid{ExternalID: "known"}),
		"lookup":   client.Lookup(t.Context(), marketplace.Bid{}).Result,
	} {
		if result.Kind != marketplace.NeedsHuman || result.Code != "no_api" || result.Message == "" {
			t.Errorf("%s = %+v, want a hand-over with no_api", name, result)
		}
	}
	if finding := client.Lookup(t.Context(), marketplace.Bid{}); finding.Known || finding.Found || finding.Definitive {
		t.Errorf("Lookup = %+v, want nothing known", finding)
	}
	if got := client.Capabilities(); !got.ByHand || got.Dedup != marketplace.NoDedup || got.LookupIsAuthoritative || got.LooksUpByPosting {
		t.Errorf("Capabilities = %+v, want nothing but hands", got)
	}
}
