package config

import (
	"encoding/base64"
	"errors"
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The placeholders of paths.
const (
	idempotencyKey = "{idempotency_key}"
	externalBidID  = "{external_bid_id}"
)

// bridgeKeys returns what the file may say about the connector of a
// marketplace, bound to m. They may stand there with any handler, so that
// switching a marketplace to manual for a while is a change of one line.
func (m *Marketplace) bridgeKeys(at string) []field {
	return []field{
		{at + ".base_url", "", "where the connector is; with the handler freelancer, the API of the site or its sandbox", address(&m.BaseURL, "base_url", "https://connector.example.com/upwork")},
		{at + ".place.method", "", "POST or PUT", choice(&m.Place.Method, "POST", "PUT")},
		{at + ".place.path", "", "path that places a bid", path(&m.Place.Path, idempotencyKey)},
		{at + ".lookup.method", "", "GET", choice(&m.Lookup.Method, "GET")},
		{at + ".lookup.path", "", "path that looks a bid up", path(&m.Lookup.Path, idempotencyKey)},
		{at + ".withdraw.method", "", "POST or PUT", choice(&m.Withdraw.Method, "POST", "PUT")},
		{at + ".withdraw.path", "", "path that withdraws a bid", path(&m.Withdraw.Path, externalBidID, idempotencyKey)},
		{at + ".auth.header", "", "header that proves who calls", header(&m.Auth.Header)},
		{at + ".auth.value_env", "", "variable with the value of that header", variable(&m.Auth.ValueEnv)},
		{at + ".signing_secrets_env", "", "variables with the secrets that sign calls", variableList(&m.SigningSecretsEnv)},
		{at + ".timeout", "", "longest time of one call", duration(&m.Timeout, time.Millisecond, time.Hour)},
		{at + ".lookup_is_authoritative", "", "whether a look-up that finds nothing proves that there is no bid", boolean(&m.LookupIsAuthoritative)},
		{at + ".idempotent_place", "", "whether a bid sent again with the same key makes no second one", boolean(&m.IdempotentPlace)},
		{at + ".allow_private_networks", "", "whether the connector may be on a private network or this machine", boolean(&m.AllowPrivateNetworks)},
	}
}

// address never repeats what was written: it may hold a password.
func address(p *string, key, example string) value {
	v := text(p)
	v.set = func(s string) error {
		u, err := url.Parse(s)
		hint := "write it like " + example
		switch {
		case err != nil || u.Hostname() == "" || !isPort(u.Port()):
			return Problem{Message: key + " is not a URL with a host", Hint: hint}
		case u.Scheme != "https" && u.Scheme != "http":
			return Problem{Message: key + " is not an https URL", Hint: hint}
		case u.User != nil:
			return Problem{Message: key + " has a user name or password", Hint: "put it into a variable, and name that in the file"}
		case strings.ContainsAny(s, "?#"):
			return Problem{Message: key + " has a query or a fragment", Hint: hint}
		}
		*p = strings.TrimRight(u.String(), "/")
		return nil
	}
	return v
}

func isPort(port string) bool {
	n, err := strconv.ParseUint(port, 10, 16)
	return port == "" || err == nil && n > 0
}

// path is where a route leads to. Placeholders are those that are known by the
// time of the call; a look-up has no body, and so needs its key in the path.
func path(p *string, placeholders ...string) value {
	v := text(p)
	v.set = func(s string) error {
		hint := "it may have the placeholders " + strings.Join(placeholders, " and ")
		rest := s
		for _, placeholder := range placeholders {
			rest = strings.ReplaceAll(rest, placeholder, "")
		}
		segments := strings.Split(rest, "/")
		switch {
		case !strings.HasPrefix(s, "/"):
			return Problem{Message: "path " + quote(s) + " does not begin with /"}
		case strings.ContainsAny(rest, "{}"):
			return Problem{Message: "path " + quote(s) + " has an unknown placeholder", Hint: hint}
		case strings.ContainsAny(s, "?#"):
			return Problem{Message: "path " + quote(s) + " has a query or a fragment", Hint: "write the path alone"}
		case !isEncoded(s):
			return Problem{Message: "path " + quote(s) + " has characters that need percent-encoding", Hint: "a space is %20"}
		case slices.Contains(segments, ".") || slices.Contains(segments, ".."):
			return Problem{Message: "path " + quote(s) + " has a segment . or ..", Hint: "write where it leads to"}
		}
		*p = s
		return nil
	}
	return v
}

// isEncoded reports whether a path has nothing left to percent-encode.
func isEncoded(path string) bool {
	_, err := url.PathUnescape(path)
	return err == nil && !strings.ContainsFunc(path, func(r rune) bool {
		return r <= ' ' || r > '~' || strings.ContainsRune("\"\\<>^`|", r)
	})
}

// header is a header's name. What was written is not repeated: it may be the
// whole header, secret and all.
func header(p *string) value {
	v := text(p)
	v.set = func(s string) error {
		const letters = "abcdefghijklmnopqrstuvwxyz"
		name := strings.ToLower(s)
		switch {
		case name == "" || strings.Trim(name, letters+"0123456789!#$%&'*+-.^_`|~") != "":
			return Problem{Message: "header is not the name of an HTTP header", Hint: "write the name alone, such as Authorization"}
		case slices.Contains([]string{
			"accept", "connection", "content-length", "content-type", "host", "idempotency-key", "transfer-encoding",
			"webhook-id", "webhook-signature", "webhook-timestamp", "x-bidder-attempt",
		}, name):
			return Problem{Message: "header " + s + " is one that bidder sets itself", Hint: "use another one, such as Authorization"}
		}
		*p = s
		return nil
	}
	return v
}

// variable is the name of a variable that holds a secret. Only the usual form,
// in capitals, is taken, and nothing else is repeated: it may be the secret.
func variable(p *string) value {
	v := text(p)
	v.set = func(s string) error {
		const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ_"
		if s == "" || strings.Trim(s, letters+"0123456789") != "" || !strings.ContainsRune(letters, rune(s[0])) {
			return Problem{
				Message: "this is not the name of an environment variable",
				Hint:    "write a name in capitals, such as UPWORK_BRIDGE_SECRET, never the secret itself",
			}
		}
		*p = s
		return nil
	}
	return v
}

// variableList is several of what [variable] is one of.
func variableList(p *[]string) value {
	return value{
		set: func(s string) error {
			var name string
			if err := variable(&name).set(s); err != nil {
				return err
			}
			*p = append(*p, name)
			return nil
		},
		show: func() string { return strings.Join(*p, ", ") },
		list: true,
	}
}

// readSecrets reads the variables that the file names. Those of handlers that
// call nobody may be missing.
func (l *loader) readSecrets() {
	for _, name := range slices.Sorted(maps.Keys(l.cfg.Marketplaces)) {
		m := l.cfg.Marketplaces[name]
		l.secrets = append(append(l.secrets, m.Auth.ValueEnv), m.SigningSecretsEnv...)
		l.secrets = append(l.secrets, m.Freelancer.variables()...)
		at := marketplacesKey + "." + name
		switch {
		case l.src.CallsNobody:
		case m.Handler == HandlerBridge:
			l.readBridgeSecrets(&m, at)
		case m.Handler == HandlerFreelancer:
			l.readFreelancerSecrets(&m.Freelancer, at)
		}
		l.cfg.Marketplaces[name] = m
	}
}

func (l *loader) readBridgeSecrets(m *Marketplace, at string) {
	if variable := m.Auth.ValueEnv; variable != "" {
		m.Auth.Value = l.readSecret(variable, at+".auth.value_env")
		l.checkHeaderValue(variable, m.Auth.Value)
	}
	for i, variable := range m.SigningSecretsEnv {
		secret := l.readSecret(variable, l.item(at+".signing_secrets_env", i))
		key, ok := signingKey(secret)
		if secret.IsSet() && !ok {
			l.report(variable, "is not a signing secret",
				"write whsec_ and the base64 of 24 to 64 random bytes, for example from: echo whsec_$(openssl rand -base64 32)")
		}
		m.SigningSecrets = append(m.SigningSecrets, key)
	}
}

func (l *loader) checkHeaderValue(variable string, value Secret) {
	if strings.ContainsFunc(value.Reveal(), func(r rune) bool { return r < ' ' || r > '~' }) {
		l.report(variable, "has characters that an HTTP header cannot have", "use visible ASCII characters")
	}
}

func (l *loader) readSecret(variable, key string) Secret {
	secret := NewSecret(l.env[variable])
	if !secret.IsSet() {
		l.report(l.where(key), variable+" is not set in the environment", "set it to the secret, or switch the handler to manual")
	}
	return secret
}

// ErrSigningSecret means that a text is not a signing secret; it does not hold the text.
var ErrSigningSecret = errors.New("it is not a signing secret: write whsec_ and the base64 of 24 to 64 random bytes")

// ParseSigningSecret returns the key that a signing secret (whsec_…) stands for.
func ParseSigningSecret(text string) (Secret, error) {
	key, ok := signingKey(NewSecret(text))
	if !ok {
		return Secret{}, ErrSigningSecret
	}
	return key, nil
}

// signingKey returns the bytes that a signing secret stands for.
func signingKey(secret Secret) (Secret, bool) {
	encoded, marked := strings.CutPrefix(secret.Reveal(), "whsec_")
	key, err := base64.StdEncoding.DecodeString(encoded)
	if !marked || err != nil || len(key) < 24 || len(key) > 64 {
		return Secret{}, false
	}
	text := string(key) // as it is: white space in it is no accident
	return Secret{text: &text}, true
}

// checkReach finds a URL that the handler would refuse to call.
func (l *loader) checkReach(m Marketplace, at, key, address string) {
	u, err := url.Parse(address)
	if err != nil || address == "" || !l.ok(at+".allow_private_networks") {
		return
	}
	switch host := u.Hostname(); {
	case u.Scheme == "http" && !isLoopback(host):
		l.report(l.where(at+"."+key), "http is for this machine only", "use https")
	case isPrivate(host) && !m.AllowPrivateNetworks:
		l.report(l.where(at+"."+key), host+" is on a private network or this machine",
			"write allow_private_networks: true if that is meant")
	}
}

// isLoopback reports whether a host is this machine, as far as its name tells.
func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && addr.IsLoopback()
}

// isPrivate reports whether a host is not on the internet, as far as its name
// tells.
func isPrivate(host string) bool {
	addr, err := netip.ParseAddr(host)
	return isLoopback(host) || err == nil && (addr.IsPrivate() || addr.IsLinkLocalUnicast() || addr.IsUnspecified())
}

// checkBridge finds what a bridge cannot work without.
func (l *loader) checkBridge(m Marketplace, at string) {
	needs := []struct{ key, value string }{
		{"base_url", m.BaseURL},
		{"place.path", m.Place.Path},
		{"lookup.path", m.Lookup.Path},
		{"withdraw.path", m.Withdraw.Path},
	}
	for _, need := range needs {
		if need.value == "" && l.ok(at+"."+need.key) {
			l.report(l.where(at+".handler"), "handler bridge needs "+need.key, "add it to "+at)
		}
	}
	if m.Lookup.Path != "" && !strings.Contains(m.Lookup.Path, idempotencyKey) {
		// Every look-up would get the same answer, and adopt the same bid.
		l.report(l.where(at+".lookup.path"), "path has no "+idempotencyKey, "without it the connector cannot tell which bid is asked for")
	}
	if !l.ok(at+".auth.header", at+".auth.value_env", at+".signing_secrets_env") {
		return
	}
	switch auth := m.Auth; {
	case (auth.Header == "") != (auth.ValueEnv == ""):
		l.report(l.where(at+".handler"), "auth needs both header and value_env", "add the other one to "+at+".auth")
	case auth.Header == "" && len(m.SigningSecretsEnv) == 0:
		l.report(l.where(at+".handler"), "handler bridge needs signing_secrets_env or auth",
			"without one of them the connector would have to obey everybody")
	}
}
