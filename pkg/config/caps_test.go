package config_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/arbitrageai/bidder/pkg/config"
)

func TestCaps(t *testing.T) {
	t.Parallel()
	const file = `
caps: {bids_per_day: 20, money_per_day: "5000.00", live_bids: 30, zone: Europe/Berlin}
marketplaces:
  says_nothing: {handler: manual}
  guru:
    caps:
      bids_per_day: 5
  upwork: {caps: {bids_per_day: None, zone: America/New_York}}
  toptal: {caps: {zone: UTC}}
  empty: {caps: {}}
`
	number := func(n int64) *int64 { return &n }
	cfg := load(t, source(file))
	top := config.Caps{BidsPerDay: number(20), MoneyPerDayCents: number(500_000), LiveBids: number(30), Zone: "Europe/Berlin"}
	elsewhere := top
	elsewhere.Zone = "UTC"
	for name, want := range map[string]config.Caps{
		"says_nothing": top,
		"unnamed":      top,
		"empty":        top,
		"guru":         {BidsPerDay: number(5), Zone: "Europe/Berlin"},
		"upwork":       {Zone: "America/New_York"},
		"toptal":       elsewhere,
	} {
		if diff := cmp.Diff(want, cfg.Marketplace(name).Caps); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestCaps_problems(t *testing.T) {
	t.Parallel()
	wantProblems(t, source(`caps: {bids_per_day: many, money_per_day: "1.005", live_bids: 0, zone: Local, bids: 3}
marketplaces:
  guru: {caps: {bids_per_day: -1, live_bids: 1000000001, zone: Europe/Nowhere}}
  upwork: {caps: 20}
`),
		`bidder.yaml:1:22: "many" is not a whole number (use 1 to 1000000000, or none)`,
		`bidder.yaml:1:43: `,
		`bidder.yaml:1:63: "0" leaves no room for any bid (write handler: none to bid nowhere there, or none for no cap)`,
		`bidder.yaml:1:72: "Local" is not a time zone (write its IANA name, such as Europe/Berlin, or UTC)`,
		`bidder.yaml:1:79: key "bids" is not known`,
		`bidder.yaml:3:31: "-1" is out of range (use 1 to 1000000000)`,
		`bidder.yaml:3:46: "1000000001" is out of range (use 1 to 1000000000)`,
		`bidder.yaml:3:64: "Europe/Nowhere" is not a time zone`,
		`bidder.yaml:4:18: keys are expected here`)
}
