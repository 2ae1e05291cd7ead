package console

import (
	"context"
	"crypto/subtle"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// Wrong tokens from one address are answered so many at once, and then one each so often;
	// until then right ones are refused there, too.
	signInBurst = 5
	signInPause = 10 * time.Second
	// maxAddresses bounds how many addresses are told apart.
	maxAddresses = 4096
	// maxForm bounds the body of a form, in bytes.
	maxForm = 64 << 10
)

// visitor is whoever sent a request.
type visitor struct {
	role    role
	session *session // nil for those who showed a token with the request, and where the console is open
}

type visitorKey struct{}

func visitorOf(ctx context.Context) visitor {
	v, _ := ctx.Value(visitorKey{}).(visitor)
	return v
}

// protect sets what browsers are told with every answer: nothing but our own style sheet and
// images is loaded, nothing runs, and nobody frames the page.
func protect(h http.Header) {
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy",
		"default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "same-origin") // without any, browsers would not say where a form comes from
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()")
}

// guard lets through who may see pages: a browser that meant this server, a form that came
// from this server, and somebody who has signed in, shows a token, or needs none.
func (s *Server) guard(w http.ResponseWriter, r *http.Request) {
	if !s.isMeant(r) {
		s.message(w, r, http.StatusMisdirectedRequest, "This is not the address of the console",
			"It answers under the name of this machine itself, and those that were given with --host.")
		return
	}
	if s.isOpen() && isForwarded(r) {
		s.message(w, r, http.StatusForbidden, "This console is for its machine only",
			"It has no token, and a proxy has passed this on from elsewhere: set BIDDER_CONSOLE_TOKEN, and give --host.")
		return
	}
	if err := s.crossOrigin.Check(r); err != nil {
		s.options.Log.Warn("a form of another site was refused", "path", r.URL.Path, "remote", r.RemoteAddr)
		s.message(w, r, http.StatusForbidden, "This did not come from the console", "A page of another site sent it. Nothing was done.")
		return
	}
	v, ok := s.identify(w, r)
	if !ok {
		return
	}
	r = r.WithContext(context.WithValue(r.Context(), visitorKey{}, v))
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if v.role == nobody && !isPublic(r) {
		s.askToSignIn(w, r)
		return
	}
	s.pages.ServeHTTP(w, r)
}

// isPublic says whether a page is for those who have not signed in: the one to sign in at,
// and what that looks like.
func isPublic(r *http.Request) bool {
	return r.URL.Path == "/sign-in" || strings.HasPrefix(r.URL.Path, "/assets/")
}

// isMeant says whether a request was meant for this server. Over the loopback interface a
// page elsewhere can reach it by a name of its own that it has made point here; the browser
// then still says that name.
func (s *Server) isMeant(r *http.Request) bool {
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.Trim(host, "[]"))
	if slices.Contains(s.options.Hosts, host) {
		return !s.isOpen() // a proxy's name is known elsewhere
	}
	if !overLoopback(r) {
		return len(s.options.Hosts) == 0 && !s.isOpen()
	}
	address, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && address.IsLoopback()
}

// overLoopback says whether a request came from this machine itself.
func overLoopback(r *http.Request) bool {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	return ok && local.IP.IsLoopback()
}

// isForwarded says whether a proxy says that it has passed a request on. One on this machine comes
// over the loopback interface, whoever asked it.
func isForwarded(r *http.Request) bool {
	for name := range r.Header { // whatever its first value is: the proxy's own may be the second
		if name == "Forwarded" || name == "Via" || name == "X-Real-Ip" || strings.HasPrefix(name, "X-Forwarded-") {
			return true
		}
	}
	return false
}

// identify says who sent a request. A wrong token is answered here.
func (s *Server) identify(w http.ResponseWriter, r *http.Request) (visitor, bool) {
	if scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " "); strings.EqualFold(scheme, "Bearer") && !s.isOpen() {
		allowed, wait := s.tryToken(r, strings.TrimSpace(token))
		switch {
		case wait > 0:
			w.Header().Set("Retry-After", seconds(wait))
			answer(w, http.StatusTooManyRequests, "too many wrong tokens came from this address")
		case allowed == nobody:
			w.Header().Set("WWW-Authenticate", `Bearer realm="bidder"`)
			answer(w, http.StatusUnauthorized, "the token is not right")
		}
		return visitor{role: allowed}, allowed != nobody
	}
	if s.isOpen() {
		return visitor{role: reader}, true
	}
	if found := s.sessions.find(r); found != nil {
		return visitor{role: found.role, session: found}, true
	}
	return visitor{}, true
}

// tryToken says what a token allows, or how long its address has to wait for the next try.
func (s *Server) tryToken(r *http.Request, token string) (role, time.Duration) {
	attempts := s.attempts.of(r)
	if attempts.Tokens() < 1 {
		return nobody, signInPause
	}
	allowed := s.roleOf(token)
	if allowed == nobody {
		attempts.Allow()
		s.options.Log.Warn("a wrong token was refused", "remote", r.RemoteAddr, "path", r.URL.Path)
	}
	return allowed, 0
}

func seconds(d time.Duration) string { return strconv.Itoa(int(d.Seconds())) }

// attempts count wrong tokens, by the network that they came from.
type attempts struct {
	mu        sync.Mutex
	byAddress map[netip.Prefix]*rate.Limiter
}

func (a *attempts) of(r *http.Request) *rate.Limiter {
	remote, _ := netip.ParseAddrPort(r.RemoteAddr)
	address := remote.Addr().Unmap().WithZone("")
	bits := 32
	if address.Is6() {
		bits = 64 // whoever has one address there has all of them
	}
	network, _ := address.Prefix(bits)
	a.mu.Lock()
	defer a.mu.Unlock()
	if limiter := a.byAddress[network]; limiter != nil {
		return limiter
	}
	for known, limiter := range a.byAddress {
		if len(a.byAddress) < maxAddresses {
			break
		}
		if limiter.Tokens() >= signInBurst { // nothing to remember
			delete(a.byAddress, known)
		}
	}
	if len(a.byAddress) >= maxAddresses {
		network = netip.Prefix{} // all others together
		if limiter := a.byAddress[network]; limiter != nil {
			return limiter
		}
	}
	limiter := rate.NewLimiter(rate.Every(signInPause), signInBurst)
	a.byAddress[network] = limiter
	return limiter
}

// isOwn says whether a form carries the mark of its session.
func (v visitor) isOwn(r *http.Request) bool {
	return subtle.ConstantTimeCompare([]byte(r.PostForm.Get("csrf")), []byte(v.session.csrf)) == 1
}

// form reads the form of somebody who may decide, and says who that is: the session's name,
// or the field "by" of a request that shows a token. A wrong one is answered here.
func (s *Server) form(w http.ResponseWriter, r *http.Request) (by string, ok bool) {
	v := visitorOf(r.Context())
	if v.role != operator {
		s.message(w, r, http.StatusForbidden, "You may look, and not decide",
			"That needs the operator's token (BIDDER_CONSOLE_TOKEN). Nothing was done.")
		return "", false
	}
	if err := r.ParseForm(); err != nil {
		s.message(w, r, http.StatusBadRequest, "The form cannot be read", "It is too long, or incomplete. Nothing was done.")
		return "", false
	}
	if v.session == nil {
		name, why := personName(r.PostForm.Get("by"))
		if why != "" {
			s.message(w, r, http.StatusBadRequest, "Who decides?", why)
			return "", false
		}
		return name, true
	}
	if !v.isOwn(r) {
		s.options.Log.Warn("a form without the mark of its session was refused", "path", r.URL.Path, "remote", r.RemoteAddr)
		s.message(w, r, http.StatusForbidden, "This form is not of your session",
			"You may have signed in again since it was loaded. Nothing was done: go back, load the page again, and decide then.")
		return "", false
	}
	return v.session.name, true
}
