// Package manual is the client of marketplaces that only people can reach: it makes no
// calls and hands everything over.
package manual

import (
	"context"

	"github.com/arbitrageai/bidder/pkg/marketplace"
)

// NoAPI is the [marketplace.Result.Code] of everything that is handed over.
const NoAPI = "no_api"

// Client implements [marketplace.Client]. Its zero value is ready for use.
type Client struct{}

var _ marketplace.Client = Client{}

// Capabilities says that there is nothing to call.
func (Client) Capabilities() marketplace.Capabilities {
	return marketplace.Capabilities{ByHand: true, Dedup: marketplace.NoDedup}
}

// Place asks a person to place the bid.
func (Client) Place(context.Context, marketplace.Bid) marketplace.Result {
	return marketplace.Result{Kind: marketplace.NeedsHuman, Code: NoAPI, Message: "place the bid by hand and record what came of it"}
}

// Lookup knows nothing: in particular not that there is no bid.
func (Client) Lookup(context.Context, marketplace.Bid) marketplace.Finding {
	return marketplace.Finding{Result: marketplace.Result{Kind: marketplace.NeedsHuman, Code: NoAPI, Message: "look for the bid by hand"}}
}

// Withdraw asks a person to take the bid back.
func (Client) Withdraw(context.Context, marketplace.Bid) marketplace.Result {
	return marketplace.Result{Kind: marketplace.NeedsHuman, Code: NoAPI, Message: "take the bid back by hand and record what came of it"}
}
