package bridge

import (
	"errors"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"

	"github.com/arbitrageai/bidder/pkg/marketplace"
)

// Callback is what a connector says by itself about a bid. It proves nothing: it is a reason
// to look the bid up. The zero Callback is one of a type that means nothing here.
type Callback struct {
	// Status is empty for types that bidder does not know.
	Status marketplace.Status
	// BidID is bidder's id of the bid, and ExternalID that of the marketplace. At least one
	// of them is there.
	BidID      uuid.UUID
	ExternalID string
}

// ErrCallback says what is wrong with a callback.
var ErrCallback = errors.New(`a callback is {"type":"bid.accepted","data":{"bid_id":"…","external_bid_id":"…"}}, with one of the ids at least`)

// callbackType begins the type of every callback about a bid, before its status.
const callbackType = "bid."

// ParseCallback reads the body of a callback whose signature was found to be right. A type
// that is not known is no error, so that connectors may send more than bidder wants to hear.
func ParseCallback(body []byte) (Callback, error) {
	message := parseObject(body)
	kind := message.text("type")
	if kind == "" {
		return Callback{}, ErrCallback
	}
	status, ofBid := strings.CutPrefix(kind, callbackType)
	if !ofBid || !slices.Contains(statuses, marketplace.Status(status)) {
		return Callback{}, nil
	}
	callback := Callback{Status: marketplace.Status(status)}
	var data object
	if json.Unmarshal(message["data"], &data) != nil {
		return Callback{}, ErrCallback
	}
	if text := data.text("bid_id"); text != "" {
		id, err := uuid.Parse(text)
		if err != nil || id == uuid.Nil {
			return Callback{}, ErrCallback
		}
		callback.BidID = id
	}
	if id, is := data.externalID(); is {
		callback.ExternalID = id
	}
	if callback.BidID == uuid.Nil && callback.ExternalID == "" {
		return Callback{}, ErrCallback
	}
	return callback, nil
}
