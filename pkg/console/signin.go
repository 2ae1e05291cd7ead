package console

import (
	"net/http"
	"strings"
)

// signInPage is what the page to sign in at shows.
type signInPage struct {
	Next, Name, Problem string
	Plain               bool // what is typed goes over the network as it is
}

// askToSignIn answers a request of somebody unknown: people sign in and go on from there.
func (s *Server) askToSignIn(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/metrics" {
		w.Header().Set("WWW-Authenticate", `Bearer realm="bidder"`)
		answer(w, http.StatusUnauthorized, "show a token: Authorization: Bearer …")
		return
	}
	p := signInPage{}
	if r.Method == http.MethodGet {
		p.Next = r.URL.RequestURI()
	}
	s.showSignIn(w, r, http.StatusUnauthorized, p)
}

func (s *Server) showSignIn(w http.ResponseWriter, r *http.Request, status int, p signInPage) {
	p.Plain = !isSecure(r) && !overLoopback(r)
	s.render(w, r, status, "signin", page{Title: "Sign in", Body: p})
}

func (s *Server) signInForm(w http.ResponseWriter, r *http.Request) {
	if s.isOpen() || visitorOf(r.Context()).role != nobody {
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return
	}
	s.showSignIn(w, r, http.StatusOK, signInPage{Next: r.FormValue("next")})
}

func (s *Server) signIn(w http.ResponseWriter, r *http.Request) {
	if s.isOpen() {
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return
	}
	if err := r.ParseForm(); err != nil {
		s.message(w, r, http.StatusBadRequest, "The form cannot be read", "It is too long, or incomplete.")
		return
	}
	p := signInPage{Next: r.PostForm.Get("next"), Name: clip(r.PostForm.Get("name"), maxName)}
	name, why := personName(r.PostForm.Get("name"))
	if why != "" {
		p.Problem = why
		s.showSignIn(w, r, http.StatusUnprocessableEntity, p)
		return
	}
	allowed, wait := s.tryToken(r, strings.TrimSpace(r.PostForm.Get("token")))
	switch {
	case wait > 0:
		w.Header().Set("Retry-After", seconds(wait))
		p.Problem = "Too many wrong tokens came from your address. Wait a minute, then try again."
		s.showSignIn(w, r, http.StatusTooManyRequests, p)
		return
	case allowed == nobody:
		p.Problem = "That is not the token. It is the value of BIDDER_CONSOLE_TOKEN, or to look only, of BIDDER_CONSOLE_READONLY_TOKEN."
		s.showSignIn(w, r, http.StatusUnauthorized, p)
		return
	}
	s.sessions.end(r) // never a second session under an old cookie
	http.SetCookie(w, sessionCookie(r, s.sessions.begin(name, allowed)))
	s.options.Log.Info("signed in", "name", name, "decides", allowed == operator, "remote", r.RemoteAddr)
	http.Redirect(w, r, ownPath(p.Next), http.StatusSeeOther)
}

func (s *Server) signOut(w http.ResponseWriter, r *http.Request) {
	if v := visitorOf(r.Context()); v.session == nil || r.ParseForm() != nil || !v.isOwn(r) {
		s.message(w, r, http.StatusForbidden, "This form is not of your session", "Load the page again, and sign out then.")
		return
	}
	s.sessions.end(r)
	http.SetCookie(w, sessionCookie(r, ""))
	http.Redirect(w, r, "/sign-in", http.StatusSeeOther)
}

// ownPath is a path on this server, or the first page where text is something else.
func ownPath(text string) string {
	if !strings.HasPrefix(text, "/") || strings.HasPrefix(text, "//") || strings.ContainsAny(text, "\\\r\n\t") || len(text) > maxNext {
		return "/"
	}
	return text
}

// maxNext bounds the path that is gone on to, in bytes.
const maxNext = 2000
