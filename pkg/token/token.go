// Package token keeps the tokens that accounts are signed in with: encrypted in the database,
// and renewed in time by one process for all.
//
// No transaction and no lock is held while the issuer is asked. A process takes the right to
// renew for a while, which is recorded together with the fact that the answer may get lost.
// While the old token lives, all go on with it. An answer that did get lost is followed by
// another attempt with the same refresh token: many issuers allow that. If it is refused,
// because this one does not, the error says so, and a person has to sign in.
package token

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/sethvargo/go-retry"
	"golang.org/x/oauth2"

	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/config"
	"github.com/arbitrageai/bidder/pkg/marketplace"
)

const (
	// margin is how long before its end a token is renewed.
	margin = 300 * time.Second
	// fresh is how long a renewed token counts as new: if that is refused, renewing it again
	// would not help.
	fresh = 10 * time.Minute
	// renewTime bounds one renewal, lease how long others leave it alone, and patience how
	// long one is waited for while the old token lives.
	renewTime = 30 * time.Second
	lease     = 60 * time.Second
	patience  = 5 * time.Second
	// storeTime bounds how long a new token is tried to be stored.
	storeTime = 20 * time.Second
	// shortLife is the life of a token of which the issuer does not say it, and longLife bounds it.
	shortLife = time.Hour
	longLife  = 366 * 24 * time.Hour
)

// ErrBusy means that another process is renewing the token, or has just tried in vain.
var ErrBusy = errors.New("the token is being renewed, or that has just failed; it is tried again within a minute")

// Owner is what tokens are of.
type Owner struct {
	Marketplace, Account string
	// Issuer is the address that people sign in at.
	Issuer string
}

// Renew gets new tokens for a refresh token. An error wraps [marketplace.ErrAuthNeeded] where
// the refresh token is worth nothing, and [marketplace.ErrNoAnswer] where it may have been used up.
type Renew func(ctx context.Context, refresh string) (*oauth2.Token, error)

// Keeper keeps the tokens of one account. It is safe for concurrent use.
type Keeper struct {
	q       *queries.Queries
	keys    []key
	owner   Owner
	renew   Renew
	pending sync.WaitGroup
}

// New returns a Keeper. The first key encrypts, all decrypt.
func New(database queries.DBTX, keys []config.Secret, owner Owner, renew Renew) (*Keeper, error) {
	k := &Keeper{q: queries.New(database), owner: owner, renew: renew}
	for _, secret := range keys {
		made, err := newKey(secret)
		if err != nil {
			return nil, err
		}
		k.keys = append(k.keys, made)
	}
	if len(k.keys) == 0 {
		return nil, errKey
	}
	return k, nil
}

// Close waits for a renewal that is under way.
func (k *Keeper) Close() { k.pending.Wait() }

// State says how an account is signed in, without its tokens.
type State struct {
	SignedInAt time.Time
	ExpiresAt  time.Time
	RenewedAt  *time.Time
	// UnansweredAt is since when a renewal is under way, or lost.
	UnansweredAt *time.Time
	// RefusedAt is when a renewal was refused: the access token is the last.
	RefusedAt *time.Time
	// IsOver: the access token has ended.
	IsOver bool
}

// State returns the account's state. An error wraps [marketplace.ErrAuthNeeded] where nobody
// has signed in.
func (k *Keeper) State(ctx context.Context) (State, error) {
	row, _, err := k.load(ctx)
	return State{row.SignedInAt, row.ExpiresAt, row.RenewedAt, row.UnansweredAt, row.RefusedAt, row.Life <= 0}, err
}

// Token returns the access token, renewed if it ends within 300 seconds. While the old one
// lives, no failure to renew it matters.
func (k *Keeper) Token(ctx context.Context) (config.Secret, error) {
	row, tokens, err := k.load(ctx)
	if err != nil {
		return config.Secret{}, err
	}
	access := config.NewSecret(tokens.Access)
	if row.Life > margin {
		return access, nil
	}
	wait := ctx
	if row.Life > 0 {
		short, stop := context.WithTimeout(ctx, patience)
		defer stop()
		wait = short
	}
	err = k.renewed(wait, row, tokens)
	switch {
	case err == nil:
		_, tokens, err = k.load(ctx)
		return config.NewSecret(tokens.Access), err
	case row.Life > 0:
		return access, nil
	}
	return config.Secret{}, err
}

// Refused says that an access token was not accepted, whatever its time. Without an error
// there is another one. One that was renewed a moment ago is not renewed again.
func (k *Keeper) Refused(ctx context.Context, token config.Secret) error {
	row, tokens, err := k.load(ctx)
	switch {
	case err != nil:
		return err
	case !config.NewSecret(tokens.Access).Equal(token):
		return nil
	case row.IsFresh:
		return fmt.Errorf("%w: a new token is not accepted either; %s", marketplace.ErrAuthNeeded, k.hint())
	}
	return k.renewed(ctx, row, tokens)
}

// Save keeps the tokens with which a person has signed in.
func (k *Keeper) Save(ctx context.Context, t *oauth2.Token) error {
	sealed, err := k.keys[0].seal(k.owner, pair{t.AccessToken, t.RefreshToken})
	if err != nil {
		return err
	}
	err = k.q.SaveToken(ctx, queries.SaveTokenParams{
		Marketplace: k.owner.Marketplace, Account: k.owner.Account, Issuer: k.owner.Issuer, KeyID: k.keys[0].id, Sealed: sealed, Life: life(t),
	})
	if err != nil {
		return fmt.Errorf("store the tokens of %s: %w", k.owner.Marketplace, err)
	}
	return nil
}

// Forget deletes the tokens, and reports whether there were any.
func (k *Keeper) Forget(ctx context.Context) (bool, error) {
	n, err := k.q.DeleteToken(ctx, k.owner.Marketplace, k.owner.Account, k.owner.Issuer)
	if err != nil {
		return false, fmt.Errorf("delete the tokens of %s: %w", k.owner.Marketplace, err)
	}
	return n > 0, nil
}

func (k *Keeper) hint() string { return "run: bidder freelancer login " + k.owner.Marketplace }

func (k *Keeper) load(ctx context.Context) (queries.GetTokenRow, pair, error) {
	row, err := k.q.GetToken(ctx, queries.GetTokenParams{
		Fresh: fresh, Marketplace: k.owner.Marketplace, Account: k.owner.Account, Issuer: k.owner.Issuer,
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return row, pair{}, fmt.Errorf("%w: nobody has signed in at %s; %s", marketplace.ErrAuthNeeded, k.owner.Issuer, k.hint())
	}
	if err != nil {
		return row, pair{}, fmt.Errorf("read the tokens of %s: %w", k.owner.Marketplace, err)
	}
	for _, key := range k.keys {
		if key.id == row.KeyID {
			tokens, err := key.open(k.owner, row.Sealed)
			return row, tokens, err
		}
	}
	return row, pair{}, fmt.Errorf("the tokens of %s are encrypted with the key %s, which token_key_env does not name; %s", k.owner.Marketplace, row.KeyID, k.hint())
}

// renewed gets a new token, or finds that somebody else has. It returns when ctx ends at the
// latest; what has begun goes on, because an answer that nobody takes would be lost.
func (k *Keeper) renewed(ctx context.Context, row queries.GetTokenRow, tokens pair) error {
	if row.RefusedAt != nil || tokens.Refresh == "" {
		return k.over(row)
	}
	done := make(chan error, 1)
	k.pending.Go(func() { done <- k.renewNow(context.WithoutCancel(ctx), row, tokens) })
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("renew the token of %s: %w", k.owner.Marketplace, ctx.Err())
	}
}

// over explains that the refresh token is worth nothing.
func (k *Keeper) over(row queries.GetTokenRow) error {
	lost := ""
	if row.UnansweredAt != nil {
		lost = ", maybe because an earlier renewal got no answer and has used it up"
	}
	return fmt.Errorf("%w: the refresh token is not accepted%s; %s", marketplace.ErrAuthNeeded, lost, k.hint())
}

func (k *Keeper) renewNow(ctx context.Context, row queries.GetTokenRow, tokens pair) error {
	ctx, cancel := context.WithTimeout(ctx, renewTime)
	defer cancel()
	o := k.owner
	n, err := k.q.BeginRenewal(ctx, queries.BeginRenewalParams{
		Lease: lease, Marketplace: o.Marketplace, Account: o.Account, Issuer: o.Issuer, Version: row.Version,
	})
	if err != nil {
		return fmt.Errorf("begin to renew the token of %s: %w", o.Marketplace, err)
	}
	if n == 0 {
		return k.byAnother(ctx, row)
	}
	renewed, err := k.renew(ctx, tokens.Refresh)
	if err == nil {
		return k.store(ctx, row, renewed, tokens.Refresh)
	}
	// From here on the row has to learn it, whatever time is left.
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), storeTime)
	defer stop()
	var unrecorded error
	switch {
	case errors.Is(err, marketplace.ErrAuthNeeded):
		err = k.over(row)
		unrecorded = k.q.RefuseRenewal(ctx, queries.RefuseRenewalParams{
			UnansweredAt: row.UnansweredAt, Marketplace: o.Marketplace, Account: o.Account, Issuer: o.Issuer, Version: row.Version,
		})
	case !errors.Is(err, marketplace.ErrNoAnswer):
		unrecorded = k.q.AbandonRenewal(ctx, queries.AbandonRenewalParams{
			UnansweredAt: row.UnansweredAt, Marketplace: o.Marketplace, Account: o.Account, Issuer: o.Issuer, Version: row.Version,
		})
	}
	return errors.Join(err, unrecorded)
}

// byAnother says what it means that this process may not renew the token.
func (k *Keeper) byAnother(ctx context.Context, old queries.GetTokenRow) error {
	row, _, err := k.load(ctx)
	switch {
	case err != nil:
		return err
	case row.Version != old.Version:
		return nil
	case row.RefusedAt != nil:
		return k.over(row)
	}
	return ErrBusy
}

// store stores a new token, with patience: there may be no second one.
func (k *Keeper) store(ctx context.Context, row queries.GetTokenRow, t *oauth2.Token, oldRefresh string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTime)
	defer cancel()
	if t.RefreshToken == "" {
		t.RefreshToken = oldRefresh
	}
	sealed, err := k.keys[0].seal(k.owner, pair{t.AccessToken, t.RefreshToken})
	if err != nil {
		return err
	}
	err = retry.Do(ctx, retry.WithCappedDuration(2*time.Second, retry.NewExponential(50*time.Millisecond)), func(ctx context.Context) error {
		_, err := k.q.StoreRenewed(ctx, queries.StoreRenewedParams{
			KeyID: k.keys[0].id, Sealed: sealed, Life: life(t),
			Marketplace: k.owner.Marketplace, Account: k.owner.Account, Issuer: k.owner.Issuer, Version: row.Version,
		})
		return retry.RetryableError(err)
	})
	if err != nil {
		return fmt.Errorf("store the new token of %s: %w", k.owner.Marketplace, err)
	}
	return nil
}

func life(t *oauth2.Token) time.Duration {
	if t.ExpiresIn <= 0 {
		return shortLife
	}
	return min(time.Duration(min(t.ExpiresIn, int64(longLife/time.Second)))*time.Second, longLife)
}
