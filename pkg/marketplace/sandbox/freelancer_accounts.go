package sandbox

import (
	"cmp"
	"crypto/rand"
	"mime"
	"net/http"
	"net/url"
	"time"
)

// access is what an access token stands for.
type access struct {
	user    int64
	expires time.Time // zero: never
}

// grant is what a code or a refresh token stands for.
type grant struct {
	user             int64
	client, redirect string // empty: any
}

func (f *freelancer) readAccounts(c *call) {
	c.entry.Marketplace, c.rules = Freelancer, f.rules
}

// toldAccounts answers with an error of RFC 6749.
func toldAccounts(_ *call, fault Fault) reply {
	return oauthError(fault.Status, cmp.Or(fault.Code, "server_error"), "The sandbox was told to answer this.").with("Retry-After", fault.wait())
}

func oauthError(status int, code, description string) reply {
	return reply{status: status, body: object{"error": code, "error_description": description}, code: code}
}

// authorize sends the browser back with a code: here, everybody agrees at once.
func (f *freelancer) authorize(c *call) reply {
	query := c.request.URL.Query()
	target, err := url.Parse(query.Get("redirect_uri"))
	if err != nil || target.Host == "" || !accepts([]string{"http", "https"}, target.Scheme) {
		return oauthError(http.StatusBadRequest, "invalid_request", "redirect_uri is not an address of the web.")
	}
	if query.Get("client_id") == "" || query.Get("response_type") != "code" {
		return oauthError(http.StatusBadRequest, "invalid_request", "client_id is missing, or response_type is not code.")
	}
	code := rand.Text()
	f.server.mu.Lock()
	f.codes[code] = grant{user: FreelancerUserID, client: query.Get("client_id"), redirect: query.Get("redirect_uri")}
	f.server.mu.Unlock()
	answer := target.Query()
	answer.Set("code", code)
	if state := query.Get("state"); state != "" {
		answer.Set("state", state)
	}
	target.RawQuery = answer.Encode()
	return reply{status: http.StatusFound, header: map[string]string{"Location": target.String(), "Content-Type": "text/plain"}, body: ""}
}

// token gives tokens for a code or a refresh token, each of which works once.
func (f *freelancer) token(c *call) reply {
	kind, _, _ := mime.ParseMediaType(c.request.Header.Get("Content-Type"))
	form, err := url.ParseQuery(string(c.body))
	switch {
	case err != nil || kind != "application/x-www-form-urlencoded":
		return oauthError(http.StatusBadRequest, "invalid_request", "The body is not a form.")
	case form.Get("client_id") == "" || form.Get("client_secret") == "":
		return oauthError(http.StatusUnauthorized, "invalid_client", "client_id or client_secret is missing.")
	}
	f.server.mu.Lock()
	defer f.server.mu.Unlock()
	var given grant
	switch form.Get("grant_type") {
	case "authorization_code":
		if given = spend(f.codes, form.Get("code")); given.user == 0 || given.redirect != form.Get("redirect_uri") || given.client != form.Get("client_id") {
			return oauthError(http.StatusBadRequest, "invalid_grant", "The code is invalid or expired.")
		}
	case "refresh_token":
		if given = spend(f.refresh, form.Get("refresh_token")); given.user == 0 || given.client != "" && given.client != form.Get("client_id") {
			return oauthError(http.StatusBadRequest, "invalid_grant", "The refresh token is invalid or expired.")
		}
	default:
		return oauthError(http.StatusBadRequest, "unsupported_grant_type", "grant_type is authorization_code or refresh_token.")
	}
	life := time.Duration(c.rules.TokenSeconds) * time.Second
	token, next := rand.Text(), rand.Text()
	f.access[token] = access{user: given.user, expires: time.Now().Add(life)}
	f.refresh[next] = grant{user: given.user, client: form.Get("client_id")}
	c.entry.BidderID, c.entry.Stored = given.user, true
	return reply{status: http.StatusOK, body: object{
		"access_token": token, "refresh_token": next, "expires_in": c.rules.TokenSeconds, "token_type": "Bearer", "scope": "basic",
	}}
}

// spend uses up a code or a refresh token.
func spend(grants map[string]grant, name string) grant {
	given := grants[name]
	delete(grants, name)
	return given
}
