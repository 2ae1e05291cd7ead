package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/config"
	"github.com/arbitrageai/bidder/pkg/marketplace"
	"github.com/arbitrageai/bidder/pkg/marketplace/freelancer"
	"github.com/arbitrageai/bidder/pkg/terminal"
	"github.com/arbitrageai/bidder/pkg/token"
)

// freelancerAccount is a client of Freelancer.com, with what it needs to sign in.
type freelancerAccount struct {
	client *freelancer.Client
	// signIn and keeper are nil with a personal token.
	signIn *freelancer.SignIn
	keeper *token.Keeper
}

// defaultAccount is the account of every bid so far.
const defaultAccount = "default"

// newFreelancer returns the client of a marketplace whose handler is freelancer.
func newFreelancer(database *pgxpool.Pool, name string, m config.Marketplace) (a freelancerAccount, err error) {
	trustRoots()
	var tokens freelancer.Tokens = freelancer.NewFixed(m.Freelancer.Token, m.Freelancer.TokenEnv)
	if m.Freelancer.UsesOAuth() {
		a.signIn = freelancer.NewSignIn(m)
		a.keeper, err = token.New(database, m.Freelancer.TokenKeys, token.Owner{
			Marketplace: name, Account: defaultAccount, Issuer: m.Freelancer.AccountsURL,
		}, a.signIn.Renew)
		if err != nil {
			return a, fmt.Errorf("set up the tokens of %s: %w", name, err)
		}
		tokens = a.keeper
	}
	recognise := func(ctx context.Context, user freelancer.User) error { return recogniseUser(ctx, database, name, user) }
	if a.client, err = freelancer.New(m, tokens, recognise); err != nil {
		return a, fmt.Errorf("set up the client of %s: %w", name, err)
	}
	return a, nil
}

// recogniseTime bounds a transaction of recogniseUser, and each of its statements.
const recogniseTime = 5 * time.Second

// recogniseUser notes who an account is, or says that its live bids are another user's.
func recogniseUser(ctx context.Context, pool db.Beginner, name string, user freelancer.User) error {
	id, known := strconv.FormatInt(user.ID, 10), ""
	limits := db.Limits{Statement: recogniseTime, Lock: recogniseTime, Idle: recogniseTime, Life: recogniseTime}
	err := db.InTx(ctx, pool, limits, func(tx *db.Tx) (err error) {
		q := queries.New(tx)
		if known, err = q.LockUser(ctx, name, defaultAccount); err != nil || known == id {
			return err
		}
		changed, err := q.ChangeUser(ctx, id, name, defaultAccount)
		if changed > 0 {
			known = id
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("look up who has bid at %s so far: %w", name, err)
	}
	if known == id {
		return nil
	}
	return fmt.Errorf("%w as user %s, whose bids at %s are live: the token is of user %s (%s), to whom the site does not show them, and "+
		"who would send again what is not shown; sign in as the former, or record how those bids ended (bidder bids mark)", marketplace.ErrAuthNeeded, known, name, id, user.Username)
}

func (a freelancerAccount) close() {
	if a.keeper != nil {
		a.keeper.Close()
		a.signIn.Close()
	}
	a.client.Close()
}

func (a *app) freelancerCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "freelancer", Short: "The account at Freelancer.com",
		Example: "  bidder freelancer login\n  bidder freelancer status",
		Args:    noArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { a.started = true; return cmd.Help() },
	}
	cmd.AddCommand(a.freelancerLoginCommand(), a.freelancerLogoutCommand(), a.freelancerStatusCommand(), a.freelancerVerifyCommand())
	return cmd
}

// freelancerStatus is what all three commands report. There are no tokens in it.
type freelancerStatus struct {
	Marketplace  string     `json:"marketplace"`
	Host         string     `json:"host"`
	SignedIn     bool       `json:"signed_in"`
	UserID       *int64     `json:"user_id"`
	Username     *string    `json:"username"`
	Token        string     `json:"token"` // personal or oauth
	ExpiresAt    *time.Time `json:"expires_at"`
	UnansweredAt *time.Time `json:"renewal_unanswered_at"`
	Problem      *string    `json:"problem"`
}

func (a *app) freelancerLoginCommand() *cobra.Command {
	return &cobra.Command{
		Use: "login [MARKETPLACE]", Annotations: calls(),
		Short: "Sign in, so that pods can bid",
		Long: `Prints an address to open in a browser. Sign in there and agree; the browser then goes to
the redirect_uri of the app, with a code. Paste that whole address here, or the code alone.

The tokens are stored in the database, encrypted with the first key of token_key_env, and
renewed by the pods. The marketplace may be left out where only one has the handler
freelancer.`,
		Example: `  bidder freelancer login
  bidder freelancer login freelancer -o json`,
		Args: cobra.MaximumNArgs(1),
		RunE: a.action(tableOrJSON, a.freelancerLogin),
	}
}

func (a *app) freelancerLogoutCommand() *cobra.Command {
	return &cobra.Command{
		Use: "logout [MARKETPLACE]", Annotations: calls(),
		Short: "Delete the stored tokens",
		Long: `Deletes the tokens from the database: from now on no pod can call until somebody signs in
again. Whoever has a copy of them can still use them until they end, or until the app is
removed in the account's settings at Freelancer.com.`,
		Example: "  bidder freelancer logout",
		Args:    cobra.MaximumNArgs(1),
		RunE:    a.action(tableOrJSON, a.freelancerLogout),
	}
}

func (a *app) freelancerStatusCommand() *cobra.Command {
	return &cobra.Command{
		Use: "status [MARKETPLACE]", Annotations: calls(),
		Short: "Show who is signed in, and until when",
		Long: `Asks Freelancer.com who the token belongs to. The exit code is 3 where nobody is signed
in. A renewal without an answer is shown: if the next one is refused, sign in again.`,
		Example: "  bidder freelancer status\n  bidder freelancer status -o json | jq .expires_at",
		Args:    cobra.MaximumNArgs(1),
		RunE:    a.action(tableOrJSON, a.freelancerStatus),
	}
}

// openFreelancer opens the database, and the account that the argument means.
func (a *app) openFreelancer(cmd *cobra.Command, args []string, needOAuth bool) (s *session, account freelancerAccount, status freelancerStatus, err error) {
	c, err := a.load(cmd, true)
	if err != nil {
		return nil, account, status, err
	}
	if needOAuth {
		if err := refuseDryRun(c, cmd.CommandPath()); err != nil {
			return nil, account, status, err
		}
	}
	name, err := freelancerName(c, args)
	if err != nil {
		return nil, account, status, err
	}
	m := c.Marketplace(name)
	status = freelancerStatus{Marketplace: name, Host: hostOf(m.BaseURL), Token: "personal"}
	if m.Freelancer.UsesOAuth() {
		status.Token = "oauth"
	} else if needOAuth {
		return nil, account, status, usageError{fmt.Errorf("%s uses the personal token of %s: there is nothing to sign in to or out of", name, m.Freelancer.TokenEnv)}
	}
	if s, err = a.open(cmd); err != nil {
		return nil, account, status, err
	}
	if account, err = newFreelancer(s.pool, name, m); err != nil {
		s.close()
		return nil, account, status, err
	}
	s.end = append(s.end, account.close)
	return s, account, status, nil
}

// freelancerName is the marketplace that an argument means, or the only one there is.
func freelancerName(c config.Config, args []string) (string, error) {
	if len(args) > 0 {
		key, err := parseKey(args[0], "-")
		if err != nil {
			return "", err
		}
		if handler := c.Handler(key.Marketplace); handler != config.HandlerFreelancer {
			return "", usageError{fmt.Errorf("the handler of %s is %s, not freelancer", key.Marketplace, handler)}
		}
		return key.Marketplace, nil
	}
	names := freelancerNames(c)
	switch len(names) {
	case 0:
		return "", usageError{errors.New("no marketplace has the handler freelancer: see examples/bidder.yaml")}
	case 1:
		return names[0], nil
	}
	return "", usageError{errors.New("say which marketplace: " + strings.Join(names, ", "))}
}

// freelancerNames are the marketplaces whose handler is freelancer.
func freelancerNames(c config.Config) []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(c.Marketplaces)), func(name string) bool {
		return c.Handler(name) != config.HandlerFreelancer
	})
}

func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Host
}

func (a *app) freelancerLogin(cmd *cobra.Command, args []string) error {
	s, account, status, err := a.openFreelancer(cmd, args, true)
	if err != nil {
		return err
	}
	defer s.close()
	state := rand.Text()
	fmt.Fprintf(a.stderr, "Open this in a browser, and sign in:\n\n  %s\n\nThen paste the address that it ends at, or the code in it: ", account.signIn.AuthorizeURL(state))
	line, err := readLine(cmd.Context(), a.stdin)
	fmt.Fprintln(a.stderr)
	if err != nil {
		return err
	}
	code, err := parseCode(line, state)
	if err != nil {
		return usageError{err}
	}
	tokens, err := account.signIn.Exchange(cmd.Context(), code)
	if err != nil {
		return personError{fmt.Sprintf("no tokens for the code, which is good for once and a short time; run it again: %v", err)}
	}
	// What has been handed out is stored, also if somebody interrupts.
	if err := account.keeper.Save(context.WithoutCancel(cmd.Context()), tokens); err != nil {
		return err
	}
	paused, err := queries.New(s.pool).AccountIsPaused(cmd.Context(), status.Marketplace, "default")
	if err != nil {
		return fmt.Errorf("read whether %s is paused: %w", status.Marketplace, err)
	}
	if paused {
		fmt.Fprintf(a.stderr, "Calls of %s are still paused: run bidder resume %[1]s, and see bidder review list.\n", status.Marketplace)
	}
	return a.reportFreelancer(cmd.Context(), account, status)
}

// maxLine bounds what is read from stdin, in bytes.
const maxLine = 16 << 10

// readLine reads a line, until ctx ends.
func readLine(ctx context.Context, r io.Reader) (string, error) {
	type read struct {
		line string
		err  error
	}
	done := make(chan read, 1)
	go func() { // goes on reading if interrupted, until the process ends
		line, err := bufio.NewReader(io.LimitReader(r, maxLine)).ReadString('\n')
		done <- read{line, err}
	}()
	select {
	case <-ctx.Done():
		return "", context.Cause(ctx) //nolint:wrapcheck // who interrupted it
	case got := <-done:
		if got.err != nil && !errors.Is(got.err, io.EOF) {
			return "", fmt.Errorf("read stdin: %w", got.err)
		}
		return strings.TrimSpace(got.line), nil
	}
}

// parseCode takes the code out of what was pasted. An address has to bring back the state: else it
// may be somebody else's, and the pods would bid for them.
func parseCode(pasted, state string) (string, error) {
	if !strings.Contains(pasted, "://") {
		if pasted == "" || strings.ContainsAny(pasted, " \t") {
			return "", errors.New("that is neither an address nor a code")
		}
		return pasted, nil
	}
	u, err := url.Parse(pasted)
	if err != nil {
		return "", errors.New("the address cannot be read")
	}
	query := u.Query()
	switch {
	case query.Get("error") != "":
		return "", fmt.Errorf("the sign-in was refused: %s", terminal.Text(query.Get("error")+" "+query.Get("error_description")))
	case query.Get("code") == "":
		return "", errors.New("the address has no code: paste the one that the browser ended at")
	case subtle.ConstantTimeCompare([]byte(query.Get("state")), []byte(state)) != 1:
		return "", errors.New("the address is not of this sign-in (its state differs): run it again, and use the address that it prints; " +
			"if the site leaves the state out, paste the code alone")
	}
	return query.Get("code"), nil
}

func (a *app) freelancerLogout(cmd *cobra.Command, args []string) error {
	s, account, status, err := a.openFreelancer(cmd, args, true)
	if err != nil {
		return err
	}
	defer s.close()
	had, err := account.keeper.Forget(cmd.Context())
	if err != nil {
		return err
	}
	if a.output == "json" {
		return printJSON(a.stdout, status)
	}
	if had {
		fmt.Fprintf(a.stdout, "Signed out of %s.\n", status.Host)
		return nil
	}
	fmt.Fprintf(a.stdout, "Nobody was signed in at %s.\n", status.Host)
	return nil
}

func (a *app) freelancerStatus(cmd *cobra.Command, args []string) error {
	s, account, status, err := a.openFreelancer(cmd, args, false)
	if err != nil {
		return err
	}
	defer s.close()
	if s.DryRun {
		return usageError{errors.New("a dry run calls nobody: run it without --dry-run (BIDDER_DRY_RUN)")}
	}
	return a.reportFreelancer(cmd.Context(), account, status)
}

// reportFreelancer asks who is signed in, and prints it.
func (a *app) reportFreelancer(ctx context.Context, account freelancerAccount, status freelancerStatus) error {
	user, problem := account.client.Self(ctx)
	if account.keeper != nil {
		switch state, err := account.keeper.State(ctx); {
		case err == nil:
			status.ExpiresAt, status.UnansweredAt = &state.ExpiresAt, state.UnansweredAt
		case !errors.Is(err, marketplace.ErrAuthNeeded):
			return err
		}
	}
	var result error
	if user.ID != 0 {
		status.SignedIn, status.UserID, status.Username = true, &user.ID, textOrNull(user.Username)
	}
	if problem != nil {
		text := problem.Error()
		status.Problem = &text
		result = personError{text}
	}
	if a.output == "json" {
		return errors.Join(printJSON(a.stdout, status), result)
	}
	a.printFreelancer(status)
	return result
}

func (a *app) printFreelancer(status freelancerStatus) {
	t := a.screen.Fields()
	t.Field("marketplace", status.Marketplace)
	t.Field("host", status.Host)
	if status.SignedIn {
		t.Field("signed in as", fmt.Sprintf("%s (%d)", orDash(status.Username, plain), *status.UserID))
	} else {
		t.Field("signed in as", terminal.Styled{Value: "nobody that the site knows", Style: terminal.Bad})
	}
	if status.SignedIn && status.Problem != nil {
		t.Field("problem", terminal.Styled{Value: *status.Problem, Style: terminal.Bad})
	}
	t.Field("token", status.Token)
	t.Field("expires", orDash(status.ExpiresAt, a.moment))
	if status.UnansweredAt != nil {
		t.Field("renewal", "without an answer since "+a.moment(*status.UnansweredAt))
	}
	t.Print()
}
