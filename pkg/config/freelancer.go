package config

import (
	"cmp"
	"encoding/base64"
	"net/url"
	"strings"
)

// freelancerSandbox is where the handler freelancer bids unless it is told to
// go to production, where its terms of use have to be met first.
const freelancerSandbox = "https://www.freelancer-sandbox.com/api"

// The forms in which a retraction may be sent to Freelancer.com, whose sources contradict
// each other.
const (
	RetractByForm  = "form"
	RetractByJSON  = "json"
	RetractByQuery = "query"
)

// Freelancer is what only the handler freelancer uses.
type Freelancer struct {
	// AccountsURL is where people sign in, without a slash at the end. Only with OAuth.
	AccountsURL string
	// TokenEnv names the variable of Token, a personal token. With it there is no OAuth.
	TokenEnv string
	// Token and the other secrets are read for the handler freelancer only.
	Token Secret
	// ClientIDEnv and ClientSecretEnv name the variables of the app that signs in by OAuth.
	ClientIDEnv     string
	ClientID        Secret
	ClientSecretEnv string
	ClientSecret    Secret
	// RedirectURI is where the site sends people after they have signed in, as the app states it.
	RedirectURI string
	// TokenKeyEnv names the variables of TokenKeys.
	TokenKeyEnv []string
	// TokenKeys encrypt stored tokens: 32 bytes each. The first encrypts, all decrypt.
	TokenKeys []Secret
	// PermissionAttested says where the written permission to bid by program is.
	PermissionAttested string
	// RetractEncoding is one of the constants above.
	RetractEncoding string
	// MilestonePercentage is the first milestone's share of each bid, from 20 to 100.
	MilestonePercentage int
	// PeriodDays is the period of bids that name none.
	PeriodDays int
}

// UsesOAuth reports whether tokens come from signing in, and not from the environment.
func (f *Freelancer) UsesOAuth() bool { return f.TokenEnv == "" }

// freelancerKeys returns what the file may say for the handler freelancer, beside what it has
// in common with the bridge. As those, they may stand there with any handler.
func (m *Marketplace) freelancerKeys(at string) []field {
	f := &m.Freelancer
	return []field{
		{at + ".token_env", "", "variable with a personal token", variable(&f.TokenEnv)},
		{at + ".client_id_env", "", "variable with the id of the app that signs in", variable(&f.ClientIDEnv)},
		{at + ".client_secret_env", "", "variable with the app's secret", variable(&f.ClientSecretEnv)},
		{at + ".redirect_uri", "", "where the app sends people who have signed in", redirectURI(&f.RedirectURI)},
		{at + ".token_key_env", "", "variables with the keys that encrypt stored tokens; the first encrypts", variableList(&f.TokenKeyEnv)},
		{at + ".accounts_url", "", "where people sign in", address(&f.AccountsURL, "accounts_url", "https://accounts.freelancer-sandbox.com")},
		{at + ".permission_attested", "", "where the site's written permission to bid by program is", text(&f.PermissionAttested)},
		{at + ".retract_encoding", "", "how a retraction is sent first: form, json or query", choice(&f.RetractEncoding, RetractByForm, RetractByJSON, RetractByQuery)},
		{at + ".milestone_percentage", "", "the first milestone's share of a bid", number(&f.MilestonePercentage, 20, 100)},
		{at + ".period_days", "", "period of bids that name none", number(&f.PeriodDays, 1, 3650)},
	}
}

func (f *Freelancer) setDefaults(baseURL string) {
	f.RetractEncoding = cmp.Or(f.RetractEncoding, RetractByForm)
	f.MilestonePercentage = cmp.Or(f.MilestonePercentage, 50)
	f.PeriodDays = cmp.Or(f.PeriodDays, 7)
	f.AccountsURL = cmp.Or(f.AccountsURL, accountsURL(baseURL))
}

// accountsURL is where people sign in to the site of an API: accounts.freelancer.com for
// www.freelancer.com, the same place on this machine, and nothing where it would be a guess.
func accountsURL(baseURL string) string {
	u, err := url.Parse(baseURL)
	if err != nil {
		return ""
	}
	switch site, isSite := strings.CutPrefix(strings.ToLower(u.Host), "www."); {
	case isLoopback(u.Hostname()):
		return u.Scheme + "://" + u.Host
	case isSite && (site == "freelancer.com" || site == "freelancer-sandbox.com"):
		return u.Scheme + "://accounts." + site
	default:
		return ""
	}
}

// redirectURI is an address that may have a query, but is not called by bidder.
func redirectURI(p *string) value {
	v := text(p)
	v.set = func(s string) error {
		u, err := url.Parse(s)
		if err != nil || u.Scheme == "" || u.Host == "" || u.Fragment != "" || u.User != nil {
			return Problem{Message: "redirect_uri is not a whole URL", Hint: "write what stands in the app's settings, such as https://example.com/callback"}
		}
		*p = s
		return nil
	}
	return v
}

// IsProductionFreelancer reports whether bids would reach real clients: any
// place that is neither the sandbox nor this machine.
func (m *Marketplace) IsProductionFreelancer() bool {
	u, err := url.Parse(m.BaseURL)
	if m.Handler != HandlerFreelancer || err != nil {
		return false
	}
	const sandbox = "freelancer-sandbox.com"
	host := strings.ToLower(u.Hostname())
	return host != sandbox && !strings.HasSuffix(host, "."+sandbox) && !isLoopback(host)
}

// variables returns the names of the variables that hold secrets.
func (f *Freelancer) variables() []string {
	return append([]string{f.TokenEnv, f.ClientIDEnv, f.ClientSecretEnv}, f.TokenKeyEnv...)
}

func (l *loader) readFreelancerSecrets(f *Freelancer, at string) {
	for _, secret := range []struct {
		key, variable string
		value         *Secret
	}{
		{"token_env", f.TokenEnv, &f.Token},
		{"client_id_env", f.ClientIDEnv, &f.ClientID},
		{"client_secret_env", f.ClientSecretEnv, &f.ClientSecret},
	} {
		if secret.variable != "" {
			*secret.value = l.readSecret(secret.variable, at+"."+secret.key)
			l.checkHeaderValue(secret.variable, *secret.value)
		}
	}
	for i, variable := range f.TokenKeyEnv {
		secret := l.readSecret(variable, l.item(at+".token_key_env", i))
		key, err := base64.StdEncoding.DecodeString(secret.Reveal())
		if secret.IsSet() && (err != nil || len(key) != 32) {
			l.report(variable, "is not a key", "write the base64 of 32 random bytes, for example from: openssl rand -base64 32")
		}
		text := string(key)
		f.TokenKeys = append(f.TokenKeys, Secret{text: &text})
	}
}

// checkFreelancer finds what the handler freelancer must not or cannot do.
func (l *loader) checkFreelancer(m Marketplace, at string) {
	f := m.Freelancer
	if m.IsProductionFreelancer() {
		if m.Approval == ApprovalNone {
			l.report(l.where(at+".approval"), "on Freelancer.com itself a person has to approve each bid",
				"write approval: required, or leave base_url out to use the sandbox")
		}
		if strings.TrimSpace(f.PermissionAttested) == "" {
			l.report(l.where(at+".base_url"), "Freelancer.com allows bids by program only with its written permission",
				"say in permission_attested where yours is, or leave base_url out to use the sandbox")
		}
	}
	oauth := []struct{ key, value string }{
		{"client_id_env", f.ClientIDEnv},
		{"client_secret_env", f.ClientSecretEnv},
		{"redirect_uri", f.RedirectURI},
		{"token_key_env", strings.Join(f.TokenKeyEnv, " ")},
	}
	missing := []string{}
	for _, o := range oauth {
		if o.value == "" {
			missing = append(missing, o.key)
		}
		if !l.ok(at + "." + o.key) {
			return
		}
	}
	switch {
	case !l.ok(at+".token_env", at+".accounts_url"):
	case f.TokenEnv != "" && len(missing) < len(oauth):
		l.report(l.where(at+".token_env"), "token_env and the keys of OAuth exclude each other", "keep one of the two")
	case f.TokenEnv != "":
	case len(missing) == len(oauth):
		l.report(l.where(at+".handler"), "handler freelancer needs token_env, or the keys of OAuth",
			"add token_env, or client_id_env, client_secret_env, redirect_uri and token_key_env to "+at)
	case len(missing) > 0:
		l.report(l.where(at+".handler"), "OAuth needs "+strings.Join(missing, " and "), "add it to "+at)
	case f.AccountsURL == "":
		l.report(l.where(at+".handler"), "OAuth needs accounts_url for this base_url", "add it to "+at)
	default:
		l.checkReach(m, at, "accounts_url", f.AccountsURL)
	}
}
