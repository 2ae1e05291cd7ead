// Package freelancer is the client of Freelancer.com and of its sandbox, by the REST API that
// https://developers.freelancer.com describes (projects 0.1, users 0.1). The program decides
// nothing here about sending again; see [marketplace.Client].
//
// Where the documentation is silent or contradicts what was seen, the cautious reading is
// taken: an answer that could hide a bid counts as ambiguous.
package freelancer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/arbitrageai/bidder/pkg/config"
	"github.com/arbitrageai/bidder/pkg/marketplace"
	"github.com/arbitrageai/bidder/pkg/marketplace/internal/wire"
)

const defaultTimeout = 30 * time.Second

// Client calls the API for one account. It implements [marketplace.Client].
type Client struct {
	market    config.Marketplace
	caller    *wire.Caller
	tokens    Tokens
	recognise Recognise

	mu sync.Mutex
	me self
}

// self is who a token belongs to.
type self struct {
	token config.Secret
	user  User
}

var _ marketplace.Client = (*Client)(nil)

// Recognise says whether bids may be looked up and made as a user. An error that is [marketplace.ErrAuthNeeded] means that
// they are somebody else's; it is asked before each call that depends on it, and never answers for longer.
type Recognise func(ctx context.Context, user User) error

// New returns the client of a marketplace as it is in a [config.Config]. Connections are made
// when they are needed; see [Client.Close]. Without recognise every user will do.
func New(m config.Marketplace, tokens Tokens, recognise Recognise) (*Client, error) {
	if u, err := url.Parse(m.BaseURL); err != nil || u.Host == "" {
		return nil, errors.New("Freelancer.com needs a base_url") //nolint:staticcheck // a name
	}
	if tokens == nil {
		return nil, errors.New("Freelancer.com needs a token") //nolint:staticcheck // a name
	}
	m.Timeout = cmp.Or(m.Timeout, defaultTimeout)
	return &Client{market: m, caller: wire.NewCaller(m, nil), tokens: tokens, recognise: recognise}, nil
}

// Close closes idle connections.
func (c *Client) Close() { c.caller.Close() }

// Capabilities says what Freelancer.com does: it refuses a second live bid of an account on a
// project, has no idempotency keys, and lists all bids of an account on a project.
func (c *Client) Capabilities() marketplace.Capabilities {
	return marketplace.Capabilities{
		Dedup: marketplace.NaturalKey, LooksUpByPosting: true, LookupIsAuthoritative: true, Timeout: c.market.Timeout,
	}
}

// User is the account that a token belongs to.
type User struct {
	ID       int64
	Username string
}

// Self says who the account is, also where its bids are somebody else's, which is an error. An error is a [*ReadError].
func (c *Client) Self(ctx context.Context) (User, error) {
	ctx, cancel := context.WithTimeout(ctx, c.market.Timeout)
	defer cancel()
	return c.bidder(ctx)
}

// self asks once for each token: after another account has signed in, bids must not go out
// under the id of the one before.
func (c *Client) self(ctx context.Context) (User, error) {
	token, err := c.tokens.Token(ctx)
	if err != nil {
		return User{}, c.noToken(err)
	}
	c.mu.Lock()
	known := c.me
	c.mu.Unlock()
	if known.user.ID != 0 && known.token.Equal(token) {
		return known.user, nil
	}
	answer, token, err := c.read(ctx, "/users/0.1/self/", nil)
	if err != nil {
		return User{}, err
	}
	result := wire.ParseObject(answer.body["result"])
	id, ok := wholeNumber(result["id"])
	if !ok || id == 0 {
		return User{}, answer.unreadable("it does not say who the account is")
	}
	user := User{ID: id, Username: result.Text("username")}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.me = self{token, user}
	return user, nil
}

// bidder is the user that the token belongs to, with an error if the bids are somebody else's.
func (c *Client) bidder(ctx context.Context) (User, error) {
	user, err := c.self(ctx)
	if err != nil || c.recognise == nil {
		return user, err
	}
	if err := c.recognise(ctx, user); err != nil {
		return user, c.noToken(err)
	}
	return user, nil
}

// ReadError says why a read showed nothing. Kind is AuthNeeded where a person has to sign in
// (it then wraps [marketplace.ErrAuthNeeded]), PauseAccount where the account may not do this,
// and NotExecuted with Code rate_limited and After where the rate was used up; all others are
// outages or answers that make no sense.
type ReadError struct{ marketplace.Result }

func (e *ReadError) Error() string { return e.Code + ": " + e.Message }

func (e *ReadError) Unwrap() error {
	if e.Kind == marketplace.AuthNeeded {
		return marketplace.ErrAuthNeeded
	}
	return nil
}

// noToken explains that there is no token to call with. Nothing was sent.
func (c *Client) noToken(err error) *ReadError {
	result := marketplace.Result{Kind: marketplace.NotExecuted, Code: marketplace.CodeUnavailable}
	if errors.Is(err, marketplace.ErrAuthNeeded) {
		result.Kind, result.Code = marketplace.AuthNeeded, marketplace.CodeAuthFailed
	}
	result.Message = wire.NewRedactor().Message(err.Error())
	return &ReadError{result}
}

// read gets something, with another token where the first is not accepted, and returns the
// token that was. An error is a [*ReadError].
func (c *Client) read(ctx context.Context, path string, query url.Values) (answer, config.Secret, error) {
	for again := range 2 {
		token, err := c.tokens.Token(ctx)
		if err != nil {
			return answer{}, token, c.noToken(err)
		}
		got, err := c.send(ctx, token, request{method: http.MethodGet, path: path, query: query})
		if err != nil {
			return answer{}, token, &ReadError{failure(err, token)}
		}
		switch {
		case !got.isAuth():
			return got, token, got.readFailure()
		case again > 0:
			return answer{}, token, &ReadError{got.result(marketplace.AuthNeeded, marketplace.CodeAuthFailed)}
		}
		if err := c.tokens.Refused(ctx, token); err != nil {
			return answer{}, token, c.noToken(err)
		}
	}
	panic("unreachable")
}

// request is what one call sends.
type request struct {
	method, path string
	query        url.Values
	contentType  string
	body         string
}

// send sends one request, once.
func (c *Client) send(ctx context.Context, token config.Secret, r request) (answer, error) {
	address := c.market.BaseURL + r.path
	if len(r.query) > 0 {
		address += "?" + r.query.Encode()
	}
	built, err := http.NewRequestWithContext(ctx, r.method, address, strings.NewReader(r.body))
	if err != nil {
		return answer{}, fmt.Errorf("build request: %w", err)
	}
	built.Header.Set("Accept", "application/json")
	built.Header.Set("User-Agent", "bidder")
	built.Header.Set("Freelancer-Oauth-V1", token.Reveal())
	if r.contentType != "" {
		built.Header.Set("Content-Type", r.contentType)
	}
	got, err := c.caller.Do(built)
	if err != nil {
		return answer{}, fmt.Errorf("%s: %w", strings.ToLower(r.method), err)
	}
	return answer{Answer: got, body: wire.ParseObject(got.Body), redact: wire.NewRedactor(token.Reveal())}, nil
}

// failure says what the lack of an answer proves.
func failure(err error, token config.Secret) marketplace.Result {
	result := marketplace.Result{
		Kind: marketplace.NotExecuted, Code: marketplace.CodeNotSent, Message: wire.NewRedactor(token.Reveal()).Message(err.Error()),
	}
	if failed, ok := errors.AsType[*wire.Error](err); ok && failed.Sent {
		result.Kind, result.Code = marketplace.Ambiguous, marketplace.CodeNoAnswer
	}
	if _, refused := errors.AsType[*wire.AddressError](err); refused {
		result.Code = marketplace.CodeAddressRefused
	}
	return result
}

// parseID reads an id as Freelancer.com writes it. Other spellings of the same number are
// refused: they would be other postings of the same project.
func parseID(text string) (int64, bool) {
	id, err := strconv.ParseInt(text, 10, 64)
	return id, err == nil && id > 0 && strconv.FormatInt(id, 10) == text
}
