package config

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/arbitrageai/bidder/pkg/policy"
)

// The handlers: who delivers to a marketplace.
const (
	// HandlerBridge calls a connector of the operator's.
	HandlerBridge = "bridge"
	// HandlerManual leaves every delivery to a person.
	HandlerManual = "manual"
	// HandlerFreelancer calls Freelancer.com, or its sandbox.
	HandlerFreelancer = "freelancer"
	// HandlerSandbox calls bidder's own sandbox.
	HandlerSandbox = "sandbox"
	// HandlerNone bids on nothing.
	HandlerNone = "none"
)

// The approvals: whether a person has to agree before a bid is sent.
const (
	ApprovalNone     = "none"
	ApprovalRequired = "required"
)

// The keys of the file that other code needs to name.
const (
	defaultHandler  = "default_handler"
	minAmount       = "min_amount"
	maxAmount       = "max_amount"
	marketplacesKey = "marketplaces"
	capsKey         = "caps"
)

// A Marketplace is what applies to one marketplace, defaults included.
type Marketplace struct {
	// Handler and Approval are one of the constants above.
	Handler  string
	Approval string
	// Rate is the number of calls per second and account; 0 is unlimited.
	Rate float64
	// Settle is how long a bid that was sent may take to show up in look-ups.
	Settle time.Duration
	// Refresh is how often a live bid is looked up to see how it stands there; 0 is never.
	Refresh time.Duration
	// AskAfter is how long nobody may have said how a live bid stands before a person is
	// asked; 0 is for ever.
	AskAfter time.Duration
	// Eligible says which postings are bid on; nil is all. Amount says what is bid where the
	// posting does not; nil is the client's budget.
	Eligible *policy.Eligible
	Amount   *policy.Amount
	// Caps bound the bids there.
	Caps Caps

	// BaseURL has no slash at the end. For the handler freelancer it is that of
	// the API, and by default the sandbox's.
	BaseURL string
	// Place, Lookup and Withdraw are complete for the handler bridge.
	Place    Route
	Lookup   Route
	Withdraw Route
	Auth     Auth
	// SigningSecretsEnv names the variables of SigningSecrets.
	SigningSecretsEnv []string
	// SigningSecrets are the HMAC keys themselves, decoded: 24 to 64 bytes
	// each. Only for the handler bridge; see [Auth.Value].
	SigningSecrets []Secret
	// Timeout bounds one call. Without meaning for the handlers manual and none.
	Timeout time.Duration
	// LookupIsAuthoritative: a plain 404 of a look-up means that there is no bid.
	LookupIsAuthoritative bool
	// IdempotentPlace: a second POST with the same key makes no second bid.
	IdempotentPlace bool
	// AllowPrivateNetworks: BaseURL may lead to loopback, private and
	// link-local addresses.
	AllowPrivateNetworks bool
	// Freelancer is what only the handler freelancer uses.
	Freelancer Freelancer
}

// A Route is one operation of a connector.
type Route struct {
	// Method is GET for look-ups, else POST or PUT.
	Method string
	// Path begins with a slash and follows [Marketplace.BaseURL]. It may have
	// the placeholders {idempotency_key} and, to withdraw, {external_bid_id}.
	Path string
}

// Auth is a header that proves who calls; empty where there is none.
type Auth struct {
	Header string
	// ValueEnv names the variable of Value.
	ValueEnv string
	// Value is read for the handler bridge only, so that the secrets of a
	// marketplace that is switched off may be missing.
	Value Secret
}

// newMarketplace returns a Marketplace to read the file into.
func newMarketplace() Marketplace {
	return Marketplace{Rate: -1, Refresh: -1, AskAfter: -1} // unset: 0 has a meaning
}

// topKeys returns what the file may say at its top, bound to c.
func topKeys(c *Config) []field {
	return append([]field{
		{defaultHandler, HandlerManual, "manual, sandbox or none: for marketplaces that the file does not name", choice(&c.DefaultHandler, HandlerManual, HandlerSandbox, HandlerNone)},
		{"default_currency", "USD", "currency of postings that name none", currency(&c.DefaultCurrency)},
		{minAmount, "", "smallest amount of a bid", amount(&c.MinAmountCents)},
		{maxAmount, "", "largest amount of a bid", amount(&c.MaxAmountCents)},
	}, append(expressionKeys("", &c.Eligible, &c.Amount), capKeys(capsKey, &c.Caps)...)...)
}

// keys returns what the file may say about every marketplace, bound to m.
func (m *Marketplace) keys(at string) []field {
	return append([]field{
		{at + ".handler", "", "who delivers: bridge, manual, freelancer, sandbox or none", choice(&m.Handler, HandlerBridge, HandlerManual, HandlerFreelancer, HandlerSandbox, HandlerNone)},
		{at + ".approval", "", "whether a person approves each bid: none or required", choice(&m.Approval, ApprovalNone, ApprovalRequired)},
		{at + ".rate", "", "calls per second and account; 0 is unlimited", rate(&m.Rate)},
		{at + ".settle", "", "how long a sent bid may take to show up in look-ups", duration(&m.Settle, time.Millisecond, forever)},
		{at + ".refresh", "", "how often a live bid is looked up to see how it stands; 0 is never", duration(&m.Refresh, 0, forever)},
		{at + ".ask_after", "", "how long nobody may have said how a live bid stands before a person is asked; 0 is for ever", duration(&m.AskAfter, 0, forever)},
	}, append(expressionKeys(at+".", &m.Eligible, &m.Amount), capKeys(at+"."+capsKey, &m.Caps)...)...)
}

// setDefaults fills in what the file did not say.
func (m *Marketplace) setDefaults(c Config) {
	m.Handler = cmp.Or(m.Handler, c.DefaultHandler)
	m.Eligible, m.Amount = cmp.Or(m.Eligible, c.Eligible), cmp.Or(m.Amount, c.Amount)
	m.Caps.Zone = cmp.Or(m.Caps.Zone, c.Caps.Zone, "UTC")
	m.Settle = cmp.Or(m.Settle, 10*time.Minute)
	if m.AskAfter < 0 {
		m.AskAfter = 14 * 24 * time.Hour
	}
	if m.Refresh < 0 {
		m.Refresh = 0
		if m.calls() || m.Handler == HandlerSandbox {
			m.Refresh = time.Hour
		}
	}
	standard := 0.0
	switch m.Handler {
	case HandlerBridge:
		m.Timeout = cmp.Or(m.Timeout, 20*time.Second)
	case HandlerFreelancer:
		standard = 1
		m.Timeout = cmp.Or(m.Timeout, 30*time.Second)
		m.BaseURL = cmp.Or(m.BaseURL, freelancerSandbox)
		m.Freelancer.setDefaults(m.BaseURL)
	case HandlerSandbox:
		// It stands next door, and short leases are what it is there to try.
		m.Timeout = cmp.Or(m.Timeout, min(5*time.Second, max(100*time.Millisecond, (c.DeliveryLease-time.Second)/2)))
	default:
	}
	if m.Rate < 0 {
		m.Rate = standard
	}
	if m.Approval == "" {
		m.Approval = ApprovalNone
		if m.IsProductionFreelancer() {
			m.Approval = ApprovalRequired
		}
	}
	for route, method := range map[*Route]string{&m.Place: "POST", &m.Lookup: "GET", &m.Withdraw: "POST"} {
		if route.Path != "" {
			route.Method = cmp.Or(route.Method, method)
		}
	}
}

// calls reports whether the handler calls somebody outside.
func (m *Marketplace) calls() bool {
	return m.Handler == HandlerBridge || m.Handler == HandlerFreelancer
}

func (l *loader) checkMarketplaces() {
	c := l.cfg
	l.checkLease(c.unnamed(), defaultHandler+" "+c.DefaultHandler)
	for _, name := range slices.Sorted(maps.Keys(c.Marketplaces)) {
		l.checkMarketplace(c.Marketplaces[name], marketplacesKey+"."+name)
	}
}

// checkMarketplace finds keys of a marketplace that do not go together.
func (l *loader) checkMarketplace(m Marketplace, at string) {
	if l.cfg.Embedded && m.calls() {
		l.report(l.where(at+".handler"), fmt.Sprintf("handler %s does not work with the private Postgres of %s",
			m.Handler, l.where(embedded)), "use manual or sandbox, or a Postgres server of your own with "+databaseURL)
	}
	if l.ok(at + ".timeout") {
		l.checkLease(m, at)
	}
	l.checkReach(m, at, "base_url", m.BaseURL)
	switch m.Handler {
	case HandlerBridge:
		l.checkBridge(m, at)
	case HandlerFreelancer:
		l.checkFreelancer(m, at)
	default:
	}
}

// checkLease finds a lease that could end before two calls have timed out.
func (l *loader) checkLease(m Marketplace, of string) {
	if m.Handler == HandlerManual || m.Handler == HandlerNone {
		return
	}
	least := 2*m.Timeout + time.Second
	if l.ok(deliveryLease) && l.cfg.DeliveryLease < least {
		l.report(l.where(deliveryLease), fmt.Sprintf("%s is too short for %s, where a call may take %s",
			FormatDuration(l.cfg.DeliveryLease), of, FormatDuration(m.Timeout)),
			"use at least "+FormatDuration(least)+": twice that and a second")
		return
	}
	// A lease has to see a look-up and a POST, with the account's pause between them.
	if gap := m.Gap(); l.ok(deliveryLease) && l.cfg.DeliveryLease < least+gap {
		l.report(l.where(deliveryLease), fmt.Sprintf("%s is too short for %s, whose rate allows a call every %s",
			FormatDuration(l.cfg.DeliveryLease), of, FormatDuration(gap)), "use at least "+FormatDuration(least+gap)+", or a higher rate")
	}
}

// NeedsApproval says whether a person has to agree before a bid is sent.
func (m *Marketplace) NeedsApproval() bool { return m.Approval == ApprovalRequired }

// Gap is the shortest time between two calls of an account that Rate allows; 0 is no limit.
func (m *Marketplace) Gap() time.Duration {
	if m.Rate <= 0 {
		return 0
	}
	return time.Duration(float64(time.Second) / m.Rate)
}
