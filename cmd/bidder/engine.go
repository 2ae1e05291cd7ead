package main

import (
	"cmp"
	"fmt"
	"sync"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/arbitrageai/bidder/pkg/config"
	"github.com/arbitrageai/bidder/pkg/delivery"
	"github.com/arbitrageai/bidder/pkg/marketplace/bridge"
	"github.com/arbitrageai/bidder/pkg/marketplace/manual"
	"github.com/arbitrageai/bidder/pkg/marketplace/sandbox"
	"github.com/arbitrageai/bidder/pkg/withdraw"
)

// sandboxAddress is where `bidder sandbox` listens and the handler sandbox looks for it.
const sandboxAddress = "127.0.0.1:8095"

// engine returns the delivery engine for the configured marketplaces.
func (s *session) engine(counters *delivery.Counters) *delivery.Engine {
	accounts := &accounts{config: s.Config, database: s.pool, made: map[string]delivery.Account{}}
	s.end = append(s.end, accounts.close)
	return delivery.New(s.pool, delivery.Options{
		Account: accounts.account, Lease: s.DeliveryLease, PostingTTL: s.PostingTTL,
		RetryBase: s.RetryBase, RetryCap: s.RetryCap, RetryMax: s.RetryMax,
	}, withdraw.Carry, counters, s.log)
}

// accounts makes the client of each marketplace when it is first needed.
type accounts struct {
	config   config.Config
	database *pgxpool.Pool

	mu      sync.Mutex
	made    map[string]delivery.Account
	closers []func()
}

func (a *accounts) account(name string) (delivery.Account, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if account, ok := a.made[name]; ok {
		return account, nil
	}
	m := a.config.Marketplace(name)
	account := delivery.Account{Settle: m.Settle, Gap: m.Gap(), Refresh: m.Refresh, AskAfter: m.AskAfter, NeedsApproval: m.NeedsApproval()}
	switch m.Handler {
	case config.HandlerManual:
		account.Client = manual.Client{}
	case config.HandlerSandbox:
		local := sandbox.Config(cmp.Or(m.BaseURL, "http://"+sandboxAddress), name, sandbox.Secret())
		local.Timeout = m.Timeout
		m = local
		fallthrough
	case config.HandlerBridge:
		trustRoots()
		client, err := bridge.New(m)
		if err != nil {
			return account, fmt.Errorf("set up the connector of %s: %w", name, err)
		}
		account.Client = client
		a.closers = append(a.closers, client.Close)
	case config.HandlerFreelancer:
		signedIn, err := newFreelancer(a.database, name, m)
		if err != nil {
			return account, err
		}
		account.Client = signedIn.client
		a.closers = append(a.closers, signedIn.close)
	default:
		return account, delivery.ErrNoHandler
	}
	a.made[name] = account
	return account, nil
}

func (a *accounts) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, closer := range a.closers {
		closer()
	}
}
