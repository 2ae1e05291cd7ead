package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/arbitrageai/bidder/pkg/bidding"
	"github.com/arbitrageai/bidder/pkg/config"
	"github.com/arbitrageai/bidder/pkg/console"
	"github.com/arbitrageai/bidder/pkg/marketplace/sandbox"
)

func (a *app) consoleCommand() *cobra.Command {
	var listen string
	var hosts []string
	cmd := &cobra.Command{
		Use: "console", Annotations: calls(),
		Short: "Serve the operator's page, health checks and callbacks of marketplaces",
		Long: `Serves over HTTP until it is stopped (docs/console.md):
  /                          what is live, owed, paused and spent, and what runs did
  /bids                      all bids, and the life of each
  /review                    what needs a person: approve, retry, resolve, withdraw
  /locks                     who holds the lock of which posting
  /healthz                   whether the process is up
  /readyz                    whether the database is reachable, migrated and writable
  POST /hooks/MARKETPLACE    signed callbacks of a connector (docs/bridge.md): the bid is
                             looked up with the next run, instead of within "refresh"

People sign in with BIDDER_CONSOLE_TOKEN, or with BIDDER_CONSOLE_READONLY_TOKEN to look
only. Without either it listens on this machine only, and nobody decides anything.`,
		Example: `  bidder console
  bidder console --listen 127.0.0.1:9000
  BIDDER_CONSOLE_TOKEN=$(openssl rand -hex 32) bidder console --listen :8080
  BIDDER_CONSOLE_TOKEN=… bidder console --host bidder.example.com    # behind a proxy on this machine`,
		Args: noArgs,
		RunE: a.action([]string{"table"}, func(cmd *cobra.Command, _ []string) error { return a.console(cmd, listen, hosts) }),
	}
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:8080", "address to listen on")
	cmd.Flags().StringSliceVar(&hosts, "host", nil, "name under which browsers reach it through a proxy; needs a token; may be given several times")
	settings(cmd, "max-conns", "statement-timeout")
	return cmd
}

func (a *app) console(cmd *cobra.Command, listen string, hosts []string) error {
	c, err := a.load(cmd, true)
	if err != nil {
		return err
	}
	if err := refuseDryRun(c, "console"); err != nil {
		return err
	}
	exposed := c.ConsoleToken.IsSet() || c.ConsoleReadonlyToken.IsSet()
	for i, host := range hosts {
		if hosts[i], err = hostName(host); err != nil {
			return usageError{fmt.Errorf("--host %s: %w", host, err)}
		}
		if !exposed {
			return usageError{fmt.Errorf("--host %s: others reach it through the proxy: set BIDDER_CONSOLE_TOKEN, or BIDDER_CONSOLE_READONLY_TOKEN", host)}
		}
	}
	listener, err := console.Listen(cmd.Context(), listen, exposed)
	if err != nil {
		return usageError{fmt.Errorf("--listen %s: %w", listen, err)}
	}
	s, err := a.connect(cmd)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	defer s.close()
	if weak := weakTokens(s.Config); len(weak) > 0 {
		s.log.Warn(strings.Join(weak, " and ") + " could be guessed: make one with openssl rand -hex 32")
	}
	server := console.New(console.Options{
		Pool: s.pool, Keys: s.callbackKeys, Log: s.log,
		Token: s.ConsoleToken, ReadonlyToken: s.ConsoleReadonlyToken, Hosts: hosts,
		Limits: s.writeLimits(), Settle: s.desk().Settle, Explain: s.explain,
		Caps:    func(ctx context.Context, tx pgx.Tx) ([]bidding.CapUsage, error) { return s.readCaps(ctx, tx, false) },
		Metrics: s.exporter().Handler(s.log),
	})
	fmt.Fprintf(a.stdout, "open at http://%s\n", listener.Addr())
	err = server.Serve(cmd.Context(), listener)
	return errors.Join(err, context.Cause(cmd.Context())) // the signal, if it served until then
}

// hostName is a name as browsers say it, without the port.
func hostName(text string) (string, error) {
	if address, err := netip.ParseAddr(strings.Trim(text, "[]")); err == nil {
		return address.String(), nil
	}
	if strings.ContainsAny(text, ":/@ ") {
		return "", errors.New("give the name alone, such as bidder.example.com, without scheme, port or path")
	}
	return strings.ToLower(text), nil
}

// callbackKeys are the keys with which the connector of a marketplace signs its callbacks:
// those with which it is called. The sandbox's is no secret: who knows it can have bids of a
// trial looked up, and nothing else.
func (s *session) callbackKeys(name string) [][]byte {
	if key, err := parseKey(name, "-"); err != nil || key.Marketplace != name {
		return nil
	}
	m := s.Marketplace(name)
	secrets := m.SigningSecrets
	switch m.Handler {
	case config.HandlerBridge:
	case config.HandlerSandbox:
		secrets = []config.Secret{sandbox.Secret()}
	default:
		return nil
	}
	keys := make([][]byte, len(secrets))
	for i, secret := range secrets {
		keys[i] = []byte(secret.Reveal())
	}
	return keys
}
