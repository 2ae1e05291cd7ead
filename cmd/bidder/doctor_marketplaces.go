package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/config"
	"github.com/arbitrageai/bidder/pkg/delivery"
	"github.com/arbitrageai/bidder/pkg/marketplace"
	"github.com/arbitrageai/bidder/pkg/marketplace/freelancer"
)

const (
	// askTime bounds what doctor waits for all marketplaces, which it asks at once.
	askTime = 15 * time.Second
	// shortToken and fewCharacters are what makes a token weak: it could be guessed.
	shortToken    = 20
	fewCharacters = 8
)

// weakTokens names the console's tokens that could be guessed.
func weakTokens(c config.Config) (names []string) {
	if token := c.ConsoleToken.Reveal(); token != "" && isWeak(token) {
		names = append(names, "BIDDER_CONSOLE_TOKEN")
	}
	if token := c.ConsoleReadonlyToken.Reveal(); token != "" && isWeak(token) {
		names = append(names, "BIDDER_CONSOLE_READONLY_TOKEN")
	}
	return names
}

// installation looks at how this process is set up.
func (e *examination) installation() {
	inPod := slices.ContainsFunc(e.environ, func(v string) bool { return strings.HasPrefix(v, "KUBERNETES_SERVICE_HOST=") })
	e.expect("embedded", !e.s.Embedded || !inPod, levelError, fmt.Sprintf("embedded: %t, in a pod: %t", e.s.Embedded, inPod),
		"give all pods one DATABASE_URL: private servers do not coordinate with each other")
	weak := weakTokens(e.s.Config)
	const name = "console token"
	switch {
	case len(weak) > 0:
		e.report(name, levelWarning, strings.Join(weak, " and ")+" could be guessed", "make one with: openssl rand -hex 32")
	case e.s.ConsoleToken.Reveal() == "":
		e.report(name, levelNote, "BIDDER_CONSOLE_TOKEN is not set here: a console started like this listens on this machine only",
			"where a console is to be reached from elsewhere, set it to what openssl rand -hex 32 prints")
	default:
		e.report(name, levelOK, "set", "")
	}
}

func isWeak(token string) bool {
	distinct := map[rune]bool{}
	for _, r := range token {
		distinct[r] = true
	}
	return len(token) < shortToken || len(distinct) < fewCharacters
}

// marketplaces asks each marketplace for something that changes nothing, all at once.
func (e *examination) marketplaces(ctx context.Context, secrets error) {
	if secrets != nil {
		e.report("secrets", levelError, strings.Join(strings.Fields(secrets.Error()), " "), "runs here end with exit code 2 until they are set; marketplaces were not asked")
		return
	}
	names := slices.Collect(maps.Keys(e.s.Marketplaces))
	if e.s.DefaultHandler == config.HandlerSandbox {
		names = append(names, "sandbox")
	}
	slices.Sort(names)
	names = slices.Compact(names)
	clients := &accounts{config: e.s.Config, database: e.s.pool, made: map[string]delivery.Account{}}
	defer clients.close()
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	found := make([]check, len(names))
	var asking sync.WaitGroup
	for i, name := range names {
		asking.Go(func() { found[i] = e.s.ask(ctx, clients, name) })
	}
	asking.Wait()
	for _, c := range found {
		e.report("marketplace "+c.Name, c.Level, c.Message, *c.Fix)
	}
}

// ask finds out whether a marketplace answers, and knows who asks.
func (s *session) ask(ctx context.Context, clients *accounts, name string) check {
	answer := func(level, message, fix string) check {
		return check{Name: name, Level: level, Message: message, Fix: &fix}
	}
	handler := s.Handler(name)
	switch handler {
	case config.HandlerNone:
		return answer(levelOK, "switched off (handler: none)", "")
	case config.HandlerManual:
		return answer(levelOK, "by hand: `bidder review list`", "")
	}
	if s.DryRun {
		return answer(levelNote, "not asked: a dry run calls nobody", "run it without --dry-run (BIDDER_DRY_RUN)")
	}
	paused, err := queries.New(s.pool).AccountIsPaused(ctx, name, defaultAccount)
	if err != nil {
		return answer(levelWarning, "it cannot be read whether it is paused: "+err.Error(), "see the other findings")
	}
	if paused {
		return answer(levelNote, "not asked: its calls are paused", "`bidder resume "+name+"` when the reason is gone")
	}
	account, err := clients.account(name)
	if err != nil {
		return answer(levelError, err.Error(), "mend what the configuration says of it: `bidder config check`")
	}
	if client, is := account.Client.(*freelancer.Client); is {
		user, err := client.Self(ctx)
		switch {
		case errors.Is(err, marketplace.ErrAuthNeeded):
			return answer(levelError, err.Error(), "`bidder freelancer login "+name+"`, or renew the personal token")
		case err != nil:
			return answer(levelError, err.Error(), "see whether "+hostOf(s.Marketplace(name).BaseURL)+" can be reached from here")
		}
		return answer(levelOK, fmt.Sprintf("%s: signed in as %s (%d)", handler, user.Username, user.ID), "")
	}
	finding := account.Client.Lookup(ctx, marketplace.Bid{ID: uuid.New(), Marketplace: name, Account: defaultAccount, JobID: "bidder-doctor"})
	result := finding.Result
	said := strings.TrimSpace(result.Code + " " + result.Message)
	switch {
	case finding.Known:
		return answer(levelOK, handler+": answers look-ups", "")
	case result.Kind == marketplace.AuthNeeded || result.Code == marketplace.CodeAuthFailed:
		return answer(levelError, "it does not know who asks: "+said, "see that the secrets here and there are the same (signing_secrets_env, auth)")
	case result.Kind == marketplace.NotExecuted && result.After > 0, result.Kind == marketplace.PauseAccount:
		return answer(levelWarning, "it asks to wait: "+said, "lower rate of "+name)
	case handler == config.HandlerSandbox:
		return answer(levelError, said, "start it: bidder sandbox")
	}
	return answer(levelError, said, "see whether base_url leads to the connector, and what its log says; `bidder bridge check "+name+"` tries all it must do (it places bids)")
}
