package bridge

import (
	"errors"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/arbitrageai/bidder/pkg/marketplace"
	"github.com/arbitrageai/bidder/pkg/marketplace/internal/wire"
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
	message := wire.ParseObject(body)
	kind := message.Text("type")
	if kind == "" {
		return Callback{}, ErrCallback
	}
	status, ofBid := strings.CutPrefix(kind, callbackType)
	if !ofBid || !slices.Contains(statuses, marketplace.Status(status)) {
		return Callback{}, nil
	}
	callback := Callback{Status: marketplace.Status(status)}
	data := wire.ParseObject(message["data"])
	if data == nil {
		return Callback{}, ErrCallback
	}
	if text := data.Text("bid_id"); text != "" {
		id, err := uuid.Parse(text)
		if err != nil || id == uuid.Nil {
			return Callback{}, ErrCallback
		}
		callback.BidID = id
	}
	if id, is := externalID(data); is {
		callback.ExternalID = id
	}
	if callback.BidID == uuid.Nil && callback.ExternalID == "" {
		return Callback{}, ErrCallback
	}
	return callback, nil
}
