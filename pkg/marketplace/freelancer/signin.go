package freelancer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"golang.org/x/oauth2"

	"github.com/arbitrageai/bidder/pkg/config"
	"github.com/arbitrageai/bidder/pkg/marketplace"
	"github.com/arbitrageai/bidder/pkg/marketplace/internal/wire"
)

// projectManage is the id of the scope fln:project_manage, which bids need. The app has to be
// approved for it.
const projectManage = "2"

// SignIn gets tokens by OAuth (RFC 6749, authorization code) for an app.
type SignIn struct {
	market config.Marketplace
	config oauth2.Config
	caller *wire.Caller
}

// NewSignIn returns the sign-in of a marketplace whose keys of OAuth are complete, as they are
// in a [config.Config].
func NewSignIn(m config.Marketplace) *SignIn {
	f := m.Freelancer
	return &SignIn{market: m, caller: wire.NewCaller(m, nil), config: oauth2.Config{
		ClientID: f.ClientID.Reveal(), ClientSecret: f.ClientSecret.Reveal(), RedirectURL: f.RedirectURI, Scopes: []string{"basic"},
		Endpoint: oauth2.Endpoint{
			AuthURL: f.AccountsURL + "/oauth/authorize", TokenURL: f.AccountsURL + "/oauth/token", AuthStyle: oauth2.AuthStyleInParams,
		},
	}}
}

// Close closes idle connections.
func (s *SignIn) Close() { s.caller.Close() }

// AuthorizeURL is where a person signs in and agrees. State comes back with the code.
func (s *SignIn) AuthorizeURL(state string) string {
	return s.config.AuthCodeURL(state,
		oauth2.SetAuthURLParam("advanced_scopes", projectManage), oauth2.SetAuthURLParam("prompt", "select_account consent"))
}

// Exchange gets tokens for the code with which the person came back. The code is good for once.
func (s *SignIn) Exchange(ctx context.Context, code string) (*oauth2.Token, error) {
	ctx, cancel := s.calling(ctx)
	defer cancel()
	token, err := s.config.Exchange(ctx, code)
	return token, s.explain(err, code)
}

// Renew gets new tokens for a refresh token, which stays the same where the answer has none.
// The error wraps [marketplace.ErrAuthNeeded] if the refresh token is worth nothing, and
// [marketplace.ErrNoAnswer] if it may have been used up.
func (s *SignIn) Renew(ctx context.Context, refresh string) (*oauth2.Token, error) {
	ctx, cancel := s.calling(ctx)
	defer cancel()
	token, err := s.config.TokenSource(ctx, &oauth2.Token{RefreshToken: refresh}).Token()
	return token, s.explain(err, refresh)
}

func (s *SignIn) calling(ctx context.Context) (context.Context, context.CancelFunc) {
	client := &http.Client{
		Transport:     transport{s.caller},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return context.WithTimeout(context.WithValue(ctx, oauth2.HTTPClient, client), s.market.Timeout)
}

// explain says what an error proves, without the texts that the library quotes.
func (s *SignIn) explain(err error, secret string) error {
	if err == nil {
		return nil
	}
	redact := wire.NewRedactor(secret, s.config.ClientSecret)
	refused, ok := errors.AsType[*oauth2.RetrieveError](err)
	if !ok {
		failed, isFailure := errors.AsType[*wire.Error](err)
		if isFailure && !failed.Sent {
			return fmt.Errorf("%s: %s", s.config.Endpoint.TokenURL, redact.Message(failed.Error()))
		}
		text := "the answer makes no sense" // the library's error may quote it
		if isFailure {
			text = redact.Message(failed.Error())
		}
		return fmt.Errorf("%s: %w: %s", s.config.Endpoint.TokenURL, marketplace.ErrNoAnswer, text)
	}
	status := refused.Response.StatusCode
	said := redact.Message(fmt.Sprintf("HTTP %d %s %s", status, refused.ErrorCode, refused.ErrorDescription))
	switch {
	case refused.ErrorCode == "invalid_grant":
		return fmt.Errorf("%w: %s: %s", marketplace.ErrAuthNeeded, s.config.Endpoint.TokenURL, said)
	case status/100 == 4 && (refused.ErrorCode != "" || status == http.StatusTooManyRequests):
		return fmt.Errorf("%s refuses: %s", s.config.Endpoint.TokenURL, said)
	}
	return fmt.Errorf("%s: %w: %s", s.config.Endpoint.TokenURL, marketplace.ErrNoAnswer, said)
}

// transport sends the library's requests the way all others go.
type transport struct{ caller *wire.Caller }

func (t transport) RoundTrip(request *http.Request) (*http.Response, error) {
	answer, err := t.caller.Do(request)
	if err != nil {
		return nil, err
	}
	if wire.ParseObject(answer.Body) != nil { // however it is labelled; the library goes by the label
		answer.Header.Set("Content-Type", "application/json")
	}
	return &http.Response{
		Status: http.StatusText(answer.Status), StatusCode: answer.Status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: answer.Header, Body: io.NopCloser(bytes.NewReader(answer.Body)), ContentLength: int64(len(answer.Body)), Request: request,
	}, nil
}
