// Package bridge is the client of marketplaces that are reached through a connector of the
// operator's: a small HTTP service with three routes. docs/bridge.md teaches how to write one.
package bridge

import (
	"cmp"
	"context"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/sethvargo/go-retry"

	"github.com/arbitrageai/bidder/pkg/config"
	"github.com/arbitrageai/bidder/pkg/marketplace"
	"github.com/arbitrageai/bidder/pkg/marketplace/bridge/internal/route"
	"github.com/arbitrageai/bidder/pkg/marketplace/internal/wire"
)

const (
	// keyLife is how long connectors have to remember idempotency keys.
	keyLife        = 24 * time.Hour
	defaultTimeout = 20 * time.Second

	// What was not sent is tried again at once, in case a connector was just restarting.
	unsentRetries = 2
	unsentPause   = 100 * time.Millisecond
)

// Client calls one connector. It implements [marketplace.Client].
type Client struct {
	market config.Marketplace
	caller *wire.Caller
	redact wire.Redactor
}

var _ marketplace.Client = (*Client)(nil)

// New returns the client of a marketplace whose routes and secrets are complete, as they are
// in a [config.Config]. Connections are made when they are needed; see [Client.Close].
func New(m config.Marketplace) (*Client, error) { return newClient(m, nil) }

func newClient(m config.Marketplace, roots *x509.CertPool) (*Client, error) {
	for name, route := range map[string]config.Route{"place": m.Place, "lookup": m.Lookup, "withdraw": m.Withdraw} {
		if u, err := url.Parse(m.BaseURL + route.Path); err != nil || u.Host == "" || route.Method == "" || route.Path == "" {
			return nil, fmt.Errorf("%s: the connector needs a base_url, and a method and a path to %s", name, name)
		}
	}
	m.Timeout = cmp.Or(m.Timeout, defaultTimeout)
	return &Client{market: m, caller: wire.NewCaller(m, roots), redact: hiding(m)}, nil
}

// Close closes idle connections.
func (c *Client) Close() { c.caller.Close() }

// Capabilities says what the connector promises. There is no way to ask for all bids on a
// posting.
func (c *Client) Capabilities() marketplace.Capabilities {
	capabilities := marketplace.Capabilities{
		Dedup: marketplace.NoDedup, LookupIsAuthoritative: c.market.LookupIsAuthoritative, Timeout: c.market.Timeout,
	}
	if c.market.IdempotentPlace {
		capabilities.Dedup, capabilities.KeyLife = marketplace.IdempotencyKey, keyLife
	}
	return capabilities
}

// Place sends the bid, in one request of which at least a byte leaves, or in none.
func (c *Client) Place(ctx context.Context, bid marketplace.Bid) marketplace.Result {
	answer, err := c.call(ctx, route.Place, bid)
	if err != nil {
		return c.failure(err)
	}
	return c.reader(route.Place, answer).placed()
}

// Lookup asks for the bid by its idempotency key.
func (c *Client) Lookup(ctx context.Context, bid marketplace.Bid) marketplace.Finding {
	answer, err := c.call(ctx, route.Lookup, bid)
	if err != nil {
		return marketplace.Finding{Result: c.failure(err)}
	}
	return c.reader(route.Lookup, answer).found()
}

// Withdraw takes the bid back by its external id.
func (c *Client) Withdraw(ctx context.Context, bid marketplace.Bid) marketplace.Result {
	answer, err := c.call(ctx, route.Withdraw, bid)
	if err != nil {
		return c.failure(err)
	}
	return c.reader(route.Withdraw, answer).withdrawn()
}

// call sends one request, again only while not a byte of it has left. It ends by the
// marketplace's time-out or the context's deadline, whichever comes first.
func (c *Client) call(ctx context.Context, op route.Operation, bid marketplace.Bid) (wire.Answer, error) {
	if bid.ID == uuid.Nil {
		return wire.Answer{}, errNoID
	}
	request, err := route.Build(c.market, op, bid)
	if err != nil {
		return wire.Answer{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.market.Timeout)
	defer cancel()

	var answer wire.Answer
	var failure error // go-retry hides it when the context ends
	err = retry.Do(ctx, retry.WithMaxRetries(unsentRetries, retry.NewExponential(unsentPause)), func(ctx context.Context) error {
		signed, err := request.HTTP(ctx, c.market, time.Now())
		if err != nil {
			return err
		}
		answer, failure = c.caller.Do(signed)
		if isWorthRepeating(failure) {
			return retry.RetryableError(failure)
		}
		return failure
	})
	if err != nil {
		return wire.Answer{}, fmt.Errorf("%s: %w", op, cmp.Or(failure, err))
	}
	return answer, nil
}

// errNoID guards the key: every bid without an id would be the same bid.
var errNoID = errors.New("the bid has no id")

// isWorthRepeating reports whether certainly nothing was sent, and another try could differ.
func isWorthRepeating(err error) bool {
	failure, isFailure := errors.AsType[*wire.Error](err)
	_, refused := errors.AsType[*wire.AddressError](err)
	return isFailure && !failure.Sent && !refused
}

// failure says what the lack of an answer proves.
func (c *Client) failure(err error) marketplace.Result {
	result := marketplace.Result{Kind: marketplace.NotExecuted, Code: marketplace.CodeNotSent, Message: c.redact.Message(err.Error())}
	if failure, isFailure := errors.AsType[*wire.Error](err); isFailure && failure.Sent {
		result.Kind, result.Code = marketplace.Ambiguous, marketplace.CodeNoAnswer
	}
	if _, refused := errors.AsType[*wire.AddressError](err); refused {
		result.Code = marketplace.CodeAddressRefused
	}
	if errors.Is(err, route.ErrExternalID) || errors.Is(err, errNoID) {
		result.Kind, result.Code = marketplace.NeedsHuman, marketplace.CodeInvalidRequest
	}
	return result
}

func (c *Client) reader(op route.Operation, answer wire.Answer) reader {
	return reader{
		op: op, market: c.market, answer: answer, body: wire.ParseObject(answer.Body),
		after: waitTime(answer.Header, time.Now()), redact: c.redact,
	}
}

// hiding hides the marketplace's secrets, in each form in which a connector may repeat them.
func hiding(m config.Marketplace) wire.Redactor {
	auth := m.Auth.Value.Reveal()
	secrets := []string{auth}
	if _, credentials, hasScheme := strings.Cut(auth, " "); hasScheme {
		secrets = append(secrets, strings.TrimSpace(credentials))
	}
	for _, secret := range m.SigningSecrets {
		key := []byte(secret.Reveal())
		encoded := base64.StdEncoding.EncodeToString(key)
		secrets = append(secrets, "whsec_"+encoded, encoded, string(key))
	}
	return wire.NewRedactor(secrets...)
}
