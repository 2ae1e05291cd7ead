package freelancer

import (
	"context"
	"fmt"

	"github.com/arbitrageai/bidder/pkg/config"
	"github.com/arbitrageai/bidder/pkg/marketplace"
)

// Tokens are where the client gets its access token from. Errors wrap
// [marketplace.ErrAuthNeeded] where a person has to sign in; all others may pass by themselves.
type Tokens interface {
	// Token returns the token to call with.
	Token(ctx context.Context) (config.Secret, error)
	// Refused says that the API did not take a token. Without an error there is another one now.
	Refused(ctx context.Context, token config.Secret) error
}

// Fixed is a personal token, which nothing can renew.
type Fixed struct {
	token    config.Secret
	variable string
}

// NewFixed returns the token that was read from a variable.
func NewFixed(token config.Secret, variable string) Fixed { return Fixed{token, variable} }

// Token returns it.
func (f Fixed) Token(context.Context) (config.Secret, error) { return f.token, nil }

// Refused always fails.
func (f Fixed) Refused(context.Context, config.Secret) error {
	return fmt.Errorf("%w: the token of %s is not accepted, put a new one there", marketplace.ErrAuthNeeded, f.variable)
}
