package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/arbitrageai/bidder/pkg/config"
	"github.com/arbitrageai/bidder/pkg/marketplace/bridge/conformance"
	"github.com/arbitrageai/bidder/pkg/marketplace/sandbox"
	"github.com/arbitrageai/bidder/pkg/terminal"
)

func (a *app) sandboxCommand() *cobra.Command {
	var listen, state string
	var forgetful, duplicates, anyProject bool
	cmd := &cobra.Command{
		Use:   "sandbox",
		Short: "Run a local marketplace to try everything on",
		Long: `Runs a marketplace that exists only here: it takes bids, shows them on a page, and fails
as it is told. Marketplaces with the handler sandbox bid on it. What it holds is gone
when it ends, unless --state names a file to keep it in.

It also speaks the Freelancer.com API, with some projects to find and to bid on. To
have the handler freelancer call it instead of Freelancer.com:

  marketplaces:
    freelancer:
      handler: freelancer
      base_url: http://127.0.0.1:8095/freelancer/api
      accounts_url: http://127.0.0.1:8095/freelancer/accounts
      allow_private_networks: true
      token_env: FREELANCER_TOKEN       # export FREELANCER_TOKEN=` + sandbox.FreelancerToken + `

Its page is at /, its bids are at /bids, every request it saw is at /journal,
POST /admin/faults makes it fail, and POST /admin/freelancer/rules changes what it does
where nobody knows what Freelancer.com does; see docs/sandbox.md.`,
		Example: `  bidder sandbox &
  BIDDER_EMBEDDED=true bidder --config examples/sandbox.yaml run --postings examples/postings.ndjson --cached-at now
  curl -s localhost:8095/bids
  curl -s localhost:8095/admin/faults -d '{"do":"answer","when":"after","status":500,"count":3}'
  curl -s 'localhost:8095/freelancer/api/projects/0.1/projects/active/?query=golang'
  curl -s localhost:8095/admin/freelancer/rules -d '{"retract_encoding":"any"}'`,
		Args: noArgs,
		RunE: a.action([]string{"table"}, func(cmd *cobra.Command, _ []string) error {
			if _, err := a.load(cmd, false); err != nil {
				return err
			}
			listener, err := new(net.ListenConfig).Listen(cmd.Context(), "tcp", listen)
			if err != nil {
				return usageError{fmt.Errorf("--listen %s: %w", listen, err)}
			}
			server, err := openSandbox(sandbox.Options{
				Rules: sandbox.Rules{Idempotent: !forgetful, NaturalKey: !duplicates}, Secrets: []config.Secret{sandbox.Secret()},
				Freelancer: sandbox.FreelancerRules{Duplicates: duplicates, AnyProject: anyProject},
				Observe:    a.showRequest,
			}, state)
			if err != nil {
				return usageError{errors.Join(fmt.Errorf("--state: %w", err), listener.Close())}
			}
			fmt.Fprintf(a.stdout, "open at http://%s\n", listener.Addr())
			err = server.Serve(cmd.Context(), listener)
			return errors.Join(err, context.Cause(cmd.Context())) // the signal, if it served until then
		}),
	}
	cmd.Flags().StringVar(&listen, "listen", sandboxAddress, "address to listen on")
	cmd.Flags().StringVar(&state, "state", "", "file that keeps the bids of connectors and the journal for the next start (default none)")
	cmd.Flags().BoolVar(&forgetful, "forgetful", false, "ignore idempotency keys")
	cmd.Flags().BoolVar(&duplicates, "duplicates", false, "take a second live bid on a posting")
	cmd.Flags().BoolVar(&anyProject, "any-project", false, "let every project id exist at the Freelancer.com API, and be open")
	return cmd
}

// openSandbox returns a sandbox that keeps its state in a file, if there is one.
func openSandbox(opts sandbox.Options, state string) (*sandbox.Server, error) {
	if state == "" {
		return sandbox.New(opts), nil
	}
	return sandbox.Open(opts, state)
}

// showRequest prints a request that the sandbox has answered, or not.
func (a *app) showRequest(e sandbox.Entry) {
	answer := strconv.Itoa(e.Status)
	if e.State == sandbox.Dropped {
		answer = "no answer"
	}
	fmt.Fprintf(a.stdout, "%-9s %-9s %s %s %s\n", e.Op, answer, e.Marketplace, terminal.ID(e.JobID), terminal.ID(e.ExternalID))
}

type bridgeReport struct {
	OK     bool                 `json:"ok"`
	Checks []conformance.Result `json:"checks"`
}

func (a *app) bridgeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "bridge", Short: "Connectors to marketplaces",
		Example: "  bidder bridge check http://127.0.0.1:8080/upwork",
		Args:    noArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { a.started = true; return cmd.Help() },
	}
	cmd.AddCommand(a.bridgeCheckCommand())
	return cmd
}

func (a *app) bridgeCheckCommand() *cobra.Command {
	var secret string
	cmd := &cobra.Command{
		Use: "check URL|MARKETPLACE", Annotations: calls(),
		Short: "Check that a connector keeps to the protocol",
		Long: `Calls a connector as bidder would, and checks its answers. It really places bids and
withdraws them again: the connector must be in a mode in which that does no harm.

With a URL the standard routes are used (docs/bridge.md), and the secret that the
variable of --secret-env holds; with a MARKETPLACE what the configuration says of it.`,
		Example: `  bidder bridge check http://127.0.0.1:8080/upwork
  UPWORK_SECRET=whsec_… bidder bridge check https://connector.example.com/upwork --secret-env UPWORK_SECRET
  bidder --config bidder.yaml bridge check upwork`,
		Args: exactArgs(1),
		RunE: a.action(tableOrJSON, func(cmd *cobra.Command, args []string) error {
			return a.checkBridge(cmd, args[0], secret)
		}),
	}
	cmd.Flags().StringVar(&secret, "secret-env", "", "variable that holds the signing secret")
	return cmd
}

func (a *app) checkBridge(cmd *cobra.Command, target, secretEnv string) error {
	c, err := a.load(cmd, false)
	if err != nil {
		return err
	}
	if err := refuseDryRun(c, "bridge check"); err != nil {
		return err
	}
	name, m, err := a.connector(c, target, secretEnv)
	if err != nil {
		return err
	}
	trustRoots()
	report := bridgeReport{Checks: []conformance.Result{}}
	t := a.screen.Table(terminal.Column{Name: "check"}, terminal.Column{Name: "result"}, terminal.Column{Name: "detail", Min: 24, Wrap: true})
	report.OK, err = conformance.Check(cmd.Context(), m, name, func(r conformance.Result) {
		report.Checks = append(report.Checks, r)
		t.Row(r.Name, r.Verdict, r.Detail)
	})
	if err != nil {
		return usageError{err}
	}
	var failed error
	if !report.OK {
		failed = personError{"the connector does not keep to the protocol: docs/bridge.md says what it should do"}
	}
	if a.output == "json" {
		return errors.Join(printJSON(a.stdout, report), failed)
	}
	t.Print()
	return failed
}

// connector is the connector that an argument means: one at a URL, or one of the configuration.
func (a *app) connector(c config.Config, target, secretEnv string) (name string, m config.Marketplace, err error) {
	if !strings.Contains(target, "://") {
		key, err := parseKey(target, "-")
		if err != nil {
			return "", m, err
		}
		if m = c.Marketplace(key.Marketplace); m.Handler != config.HandlerBridge {
			return "", m, usageError{fmt.Errorf("the handler of %s is %s, not bridge", key.Marketplace, m.Handler)}
		}
		return key.Marketplace, m, nil
	}
	m = sandbox.Config("", "", sandbox.Secret())
	m.BaseURL = strings.TrimSuffix(target, "/")
	if secretEnv != "" {
		m.SigningSecrets, err = a.signingSecret(secretEnv)
	}
	return "conformance", m, err
}

// signingSecret reads the secret of --secret-env.
func (a *app) signingSecret(variable string) ([]config.Secret, error) {
	for _, entry := range a.environ {
		if name, value, _ := strings.Cut(entry, "="); name == variable && value != "" {
			secret, err := config.ParseSigningSecret(value)
			if err != nil {
				return nil, usageError{fmt.Errorf("%s: %w", variable, err)}
			}
			return []config.Secret{secret}, nil
		}
	}
	return nil, usageError{fmt.Errorf("--secret-env: %s is not set", variable)}
}
