package bridge

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/arbitrageai/bidder/pkg/marketplace"
)

func TestParseCallback(t *testing.T) {
	t.Parallel()
	const id = "0192f3a4-7c1e-7b32-9d55-1f0e6a2b8c41"
	known := uuid.MustParse(id)
	for body, want := range map[string]Callback{
		`{"type":"bid.submitted","data":{"bid_id":"` + id + `"}}`:                          {Status: marketplace.Submitted, BidID: known},
		`{"type":"bid.accepted","data":{"bid_id":"` + id + `","external_bid_id":"p-778"}}`: {Status: marketplace.Accepted, BidID: known, ExternalID: "p-778"},
		`{"type":"bid.rejected","timestamp":1,"more":{},"data":{"external_bid_id":778}}`:   {Status: marketplace.Rejected, ExternalID: "778"},
		`{"type":"bid.withdrawn","data":{"bid_id":null,"external_bid_id":"p"}}`:            {Status: marketplace.Withdrawn, ExternalID: "p"},
		`{"type":"bid.lost","data":{"bid_id":"` + id + `","external_bid_id":"null"}}`:      {Status: marketplace.Lost, BidID: known},
		`{"type":"bid.expired","data":{"bid_id":"` + id + `"}}`:                            {Status: marketplace.Expired, BidID: known},
		`{"type":"bid.place","data":{"bid_id":"` + id + `"}}`:                              {},
		`{"type":"job.closed"}`:    {},
		`{"type":"bid.","data":1}`: {},
	} {
		if got, err := ParseCallback([]byte(body)); err != nil || got != want {
			t.Errorf("%s: %+v, %v; want %+v", body, got, err, want)
		}
	}
	for _, body := range []string{
		``, `null`, `[]`, `{`, `{}`, `{"type":1}`, `{"type":"bid.accepted"}`, `{"type":"bid.accepted","data":"` + id + `"}`,
		`{"type":"bid.accepted","data":{}}`, `{"type":"bid.accepted","data":{"bid_id":"p-778"}}`,
		`{"type":"bid.accepted","data":{"bid_id":"00000000-0000-0000-0000-000000000000"}}`,
		`{"type":"bid.accepted","data":{"external_bid_id":"` + strings.Repeat("x", 513) + `"}}`,
		`{"type":"bid.accepted","type":"bid.lost","data":{"bid_id":"` + id + `"}}`,
		`{"type":"bid.accepted","data":{"bid_id":"` + id + `"}} {}`,
	} {
		if got, err := ParseCallback([]byte(body)); !errors.Is(err, ErrCallback) || got != (Callback{}) {
			t.Errorf("%s: %+v, %v; want ErrCallback", body, got, err)
		}
	}
}
