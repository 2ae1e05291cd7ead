package console

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/arbitrageai/bidder/pkg/config"
)

// role is what somebody may do.
type role int

const (
	nobody   role = iota
	reader        // looks
	operator      // decides
)

const (
	// sessionLife is how long somebody stays signed in.
	sessionLife = 12 * time.Hour
	// maxSessions bounds how many are signed in at once; then the one that ends first goes.
	maxSessions = 1000
	// maxName bounds the name of a person, in characters.
	maxName = 60

	// The name of the session's cookie; over TLS one that no other host and no plain
	// connection can set.
	cookieName       = "bidder-session"
	secureCookieName = "__Host-bidder-session"
)

// session is somebody who has signed in.
type session struct {
	name string
	role role
	csrf string // what the forms of the session carry
	ends time.Time

	mu   sync.Mutex
	note string // what the next page says first
}

// say has the next page say something.
func (s *session) say(note string) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.note = note
}

// said is what the page is to say, once.
func (s *session) said() (note string) {
	if s == nil {
		return ""
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	note, s.note = s.note, ""
	return note
}

// sessions are those who are signed in, by the hash of what their cookie says: what is found
// in memory signs nobody in. A restart signs everybody out.
type sessions struct {
	mu   sync.Mutex
	byID map[[sha256.Size]byte]*session
	now  func() time.Time
}

// secret is a text that nobody guesses.
func secret() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// begin signs somebody in, and returns what the cookie says.
func (s *sessions) begin(name string, r role) (id string) {
	id = secret()
	now := s.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, other := range s.byID {
		if !other.ends.After(now) {
			delete(s.byID, key)
		}
	}
	for len(s.byID) >= maxSessions {
		var first [sha256.Size]byte
		var ends time.Time
		for key, other := range s.byID {
			if ends.IsZero() || other.ends.Before(ends) {
				first, ends = key, other.ends
			}
		}
		delete(s.byID, first)
	}
	s.byID[sha256.Sum256([]byte(id))] = &session{name: name, role: r, csrf: secret(), ends: now.Add(sessionLife)}
	return id
}

// find returns the session of a request, or nil.
func (s *sessions) find(r *http.Request) *session {
	cookie, err := r.Cookie(nameOfCookie(r))
	if err != nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	found := s.byID[sha256.Sum256([]byte(cookie.Value))]
	if found == nil || !found.ends.After(s.now()) {
		return nil
	}
	return found
}

// end signs out whoever sent the request.
func (s *sessions) end(r *http.Request) {
	if cookie, err := r.Cookie(nameOfCookie(r)); err == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.byID, sha256.Sum256([]byte(cookie.Value)))
	}
}

// isSecure says whether the browser speaks TLS, with us or with a proxy before us. Who lies
// about it gets a cookie that their own browser does not keep.
func isSecure(r *http.Request) bool {
	return r.TLS != nil || strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https")
}

func nameOfCookie(r *http.Request) string {
	if isSecure(r) {
		return secureCookieName
	}
	return cookieName
}

// sessionCookie is the cookie of a session; without an id it removes the one that is there.
//
// SameSite is Lax so that a link in an alert opens its page: nothing changes by a link, and
// requests that change something need more than the cookie.
func sessionCookie(r *http.Request, id string) *http.Cookie {
	cookie := &http.Cookie{ //nolint:gosec // Secure wherever the browser speaks TLS
		Name: nameOfCookie(r), Value: id, Path: "/", HttpOnly: true, Secure: isSecure(r), SameSite: http.SameSiteLaxMode,
		MaxAge: int(sessionLife.Seconds()),
	}
	if id == "" {
		cookie.MaxAge = -1
	}
	return cookie
}

// roleOf is what a token allows. The time that it takes tells nothing of the tokens.
func (s *Server) roleOf(token string) role {
	given := sha256.Sum256([]byte(token))
	is := func(token config.Secret) bool {
		own := sha256.Sum256([]byte(token.Reveal()))
		return subtle.ConstantTimeCompare(given[:], own[:]) == 1 && token.IsSet()
	}
	isOperator, isReader := is(s.options.Token), is(s.options.ReadonlyToken)
	switch {
	case isOperator:
		return operator
	case isReader:
		return reader
	}
	return nobody
}

// isOpen says whether the console has no tokens: then whoever reaches it may look.
func (s *Server) isOpen() bool { return !s.options.Token.IsSet() && !s.options.ReadonlyToken.IsSet() }

// ofTheProgram are the names under which the program itself writes history.
var ofTheProgram = []string{"callback", "delivery", "refresh"} //nolint:gochecknoglobals // a constant

// personName reads the name of a person; why is empty where it can be used.
func personName(text string) (name, why string) {
	name = strings.Join(strings.Fields(text), " ")
	switch {
	case name == "":
		return "", "Say who you are: your name is recorded with what you decide."
	case utf8.RuneCountInString(name) > maxName:
		return "", "A name has 60 characters at most."
	case !utf8.ValidString(name) || strings.ContainsFunc(name, func(c rune) bool { return !unicode.IsPrint(c) }):
		return "", "The name has characters that cannot be seen."
	case slices.Contains(ofTheProgram, strings.ToLower(name)):
		return "", "That is what the program calls itself: say who you are."
	}
	return name, ""
}
