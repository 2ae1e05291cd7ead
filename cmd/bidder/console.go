package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/arbitrageai/bidder/pkg/config"
	"github.com/arbitrageai/bidder/pkg/console"
	"github.com/arbitrageai/bidder/pkg/marketplace/sandbox"
)

func (a *app) consoleCommand() *cobra.Command {
	var listen string
	cmd := &cobra.Command{
		Use: "console", Annotations: calls(),
		Short: "Serve health checks, and hear callbacks of marketplaces",
		Long: `Serves over HTTP until it is stopped:
  GET  /healthz              whether the process is up
  GET  /readyz               whether the database is reachable, migrated and writable
  POST /hooks/MARKETPLACE    signed callbacks of a connector (docs/bridge.md): the bid is
                             looked up with the next run, instead of within "refresh"

Without BIDDER_CONSOLE_TOKEN it listens on this machine only.`,
		Example: `  bidder console
  bidder console --listen 127.0.0.1:9000
  BIDDER_CONSOLE_TOKEN=$(openssl rand -hex 32) bidder console --listen :8080`,
		Args: cobra.NoArgs,
		RunE: a.action([]string{"table"}, func(cmd *cobra.Command, _ []string) error { return a.console(cmd, listen) }),
	}
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:8080", "address to listen on")
	settings(cmd, "max-conns")
	return cmd
}

func (a *app) console(cmd *cobra.Command, listen string) error {
	c, err := a.load(cmd, true)
	if err != nil {
		return err
	}
	if err := refuseDryRun(c, "console"); err != nil {
		return err
	}
	listener, err := console.Listen(cmd.Context(), listen, c.ConsoleToken.Reveal() != "")
	if err != nil {
		return usageError{fmt.Errorf("--listen %s: %w", listen, err)}
	}
	s, err := a.connect(cmd)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	defer s.close()
	server := console.New(console.Options{Pool: s.pool, Keys: s.callbackKeys, Log: s.log})
	fmt.Fprintf(a.stdout, "open at http://%s\n", listener.Addr())
	err = server.Serve(cmd.Context(), listener)
	return errors.Join(err, context.Cause(cmd.Context())) // the signal, if it served until then
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
