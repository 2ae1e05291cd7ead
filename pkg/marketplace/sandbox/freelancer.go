package sandbox

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// What a client of the Freelancer.com API needs to know of the sandbox.
const (
	// Freelancer is the marketplace of bids and requests of the Freelancer.com API.
	Freelancer = "freelancer"
	// FreelancerAPI is the path of the API, and FreelancerAccounts that of the accounts host.
	FreelancerAPI      = "/freelancer/api"
	FreelancerAccounts = "/freelancer/accounts"
	// FreelancerUserID is the user that the sandbox begins with.
	FreelancerUserID int64 = 84120077
	// FreelancerToken is an access token of that user which does not end, and
	// FreelancerRefreshToken a first refresh token. They are no secrets.
	FreelancerToken        = "bidder-sandbox-token"
	FreelancerRefreshToken = "bidder-sandbox-refresh-token"
)

// tokenHeader is the API's own header for access tokens: Freelancer-OAuth-V1, as Go spells it.
const tokenHeader = "Freelancer-Oauth-V1" //nolint:gosec // the name of a header

// The values of [FreelancerRules].
const (
	RetractForm  = "form"
	RetractJSON  = "json"
	RetractQuery = "query"
	RetractAny   = "any"

	RetractTwiceError = "error"
	RetractTwiceOK    = "ok"

	RebidNewID  = "new_id"
	RebidSameID = "same_id"
)

// FreelancerRules are what the Freelancer.com API does where it is not known what it does, or
// where it does what clients must be able to bear. The zero value is the API as documented.
type FreelancerRules struct {
	// Duplicates: a second bid of a bidder on a project is taken.
	Duplicates bool `json:"duplicates"`
	// AnyProject: every project id exists, and is open.
	AnyProject bool `json:"any_project"`
	// ErrorIn200: errors come with HTTP 200.
	ErrorIn200 bool `json:"error_in_200"`
	// NestedErrors: errors are of the new style, with a code and a detail inside.
	NestedErrors bool `json:"nested_errors"`
	// MinimalPlace: the answer to a new bid has no status, no request id and few fields, as
	// clients of old recorded it.
	MinimalPlace bool `json:"minimal_place"`
	// IgnoreBidderFilter: lists have the bids of all bidders, whoever was asked for.
	IgnoreBidderFilter bool `json:"ignore_bidder_filter"`
	// AwardBeforeRetract: a bid is awarded in the moment before it is retracted.
	AwardBeforeRetract bool `json:"award_before_retract"`
	// RetractEncoding is how a retraction must be encoded: form (the default), json, query or any.
	RetractEncoding string `json:"retract_encoding"`
	// RetractTwice is what comes of retracting a retracted bid: error (the default) or ok.
	RetractTwice string `json:"retract_twice"`
	// Rebid is the id of a bid after a retraction: new_id (the default), or same_id, the
	// retracted bid alive again.
	Rebid string `json:"rebid"`
	// TokenSeconds is how long access tokens of the accounts host live; 0 is the default, 30 days.
	TokenSeconds int `json:"token_seconds"`
}

// ErrRules says that rules make no sense.
var ErrRules = errors.New("these rules make no sense")

// complete fills in the defaults.
func (r FreelancerRules) complete() (FreelancerRules, error) {
	r.RetractEncoding = cmp.Or(r.RetractEncoding, RetractForm)
	r.RetractTwice = cmp.Or(r.RetractTwice, RetractTwiceError)
	r.Rebid = cmp.Or(r.Rebid, RebidNewID)
	r.TokenSeconds = cmp.Or(r.TokenSeconds, 30*24*60*60)
	switch {
	case !accepts([]string{RetractForm, RetractJSON, RetractQuery, RetractAny}, r.RetractEncoding):
		return r, fmt.Errorf("%w: retract_encoding is form, json, query or any", ErrRules)
	case !accepts([]string{RetractTwiceError, RetractTwiceOK}, r.RetractTwice):
		return r, fmt.Errorf("%w: retract_twice is error or ok", ErrRules)
	case !accepts([]string{RebidNewID, RebidSameID}, r.Rebid):
		return r, fmt.Errorf("%w: rebid is new_id or same_id", ErrRules)
	case r.TokenSeconds < 0:
		return r, fmt.Errorf("%w: token_seconds is not negative", ErrRules)
	}
	return r, nil
}

// FreelancerUser is somebody who may bid.
type FreelancerUser struct {
	ID       int64  `json:"id"`
	Username string `json:"username"`
	Token    string `json:"token"` // an access token that does not end
}

// freelancer is what the Freelancer.com API knows. The lock of the server guards it.
type freelancer struct {
	server *Server
	rules  FreelancerRules

	names    map[int64]string // of users
	access   map[string]access
	refresh  map[string]grant
	codes    map[string]grant
	projects map[int64]*Project
	listed   []*Project // the ones that a search looks through
	bids     map[string]*freelancerBid
	placed   map[int64][]*freelancerBid // by project
	nextBid  int64
}

func newFreelancer(s *Server, rules FreelancerRules) *freelancer {
	rules, err := rules.complete()
	if err != nil {
		panic(err) // a mistake of who wrote the call
	}
	f := &freelancer{
		server: s, rules: rules, names: map[int64]string{}, codes: map[string]grant{},
		access: map[string]access{}, refresh: map[string]grant{FreelancerRefreshToken: {user: FreelancerUserID}},
		projects: map[int64]*Project{}, bids: map[string]*freelancerBid{}, placed: map[int64][]*freelancerBid{},
		nextBid: firstBidID(),
	}
	f.addUser(FreelancerUser{ID: FreelancerUserID, Username: "quietforge", Token: FreelancerToken})
	for _, project := range seed(time.Now()) {
		f.addProject(project)
	}
	return f
}

func (f *freelancer) addUser(u FreelancerUser) {
	f.names[u.ID] = u.Username
	f.access[u.Token] = access{user: u.ID}
}

func (f *freelancer) route(mux *http.ServeMux) {
	api := protocol{read: f.read, check: f.check, told: f.told}
	handle := func(method, path string, op Op, handle func(*call) reply) {
		// Without the slash at its end a path is refused, but it is in the journal.
		mux.HandleFunc(method+" "+FreelancerAPI+path+"/{$}", f.server.operation(api, op, handle))
		mux.HandleFunc(method+" "+FreelancerAPI+path, f.server.operation(api, op, handle))
	}
	handle("GET", "/users/0.1/self", Self, f.self)
	handle("GET", "/projects/0.1/projects/active", Search, f.searchActive)
	handle("GET", "/projects/0.1/projects/all", Search, f.searchAll)
	handle("GET", "/projects/0.1/projects/{project}", ReadProject, f.readProject)
	handle("GET", "/projects/0.1/projects/{project}/bids", Lookup, f.list)
	handle("GET", "/projects/0.1/bids", Lookup, f.list)
	handle("GET", "/projects/0.1/bids/{bid}", Lookup, f.readBid)
	handle("POST", "/projects/0.1/bids", Place, f.place)
	handle("PUT", "/projects/0.1/bids/{bid}", Withdraw, f.retract)
	mux.HandleFunc(FreelancerAPI+"/", func(w http.ResponseWriter, _ *http.Request) {
		refusal(FreelancerRules{}, http.StatusNotFound, codeNotFound).write(w)
	})

	accounts := protocol{read: f.readAccounts, check: func(*call) (reply, bool) { return reply{}, false }, told: toldAccounts}
	for _, spelling := range []string{"/oauth/authorize", "/oauth/authorise"} {
		mux.HandleFunc("GET "+FreelancerAccounts+spelling, f.server.operation(accounts, Authorize, f.authorize))
	}
	mux.HandleFunc("POST "+FreelancerAccounts+"/oauth/token", f.server.operation(accounts, Token, f.token))
}

// read takes from a request who sends it, and which project and bid it is about.
func (f *freelancer) read(c *call) {
	r, e := c.request, c.entry
	c.rules, c.user = f.rules, f.userOf(r)
	e.Marketplace, e.BidderID, e.JobID, e.ExternalID = Freelancer, c.user, r.PathValue("project"), r.PathValue("bid")
	switch {
	case e.Op == Place:
		c.form.read(c.body)
		e.JobID, e.BidderID = text(c.form.ProjectID), cmp.Or(value(c.form.BidderID), c.user)
	case e.ExternalID != "":
		if bid := f.bids[e.ExternalID]; bid != nil {
			e.JobID = bid.JobID
		}
	case e.JobID == "":
		e.JobID = r.URL.Query().Get("projects[]")
	}
}

// userOf is the user of a request's token, or 0.
func (f *freelancer) userOf(r *http.Request) int64 {
	token := r.Header.Get(tokenHeader)
	if scheme, bearer, _ := strings.Cut(r.Header.Get("Authorization"), " "); token == "" && strings.EqualFold(scheme, "Bearer") {
		token = bearer
	}
	access := f.access[token]
	if !access.expires.IsZero() && time.Now().After(access.expires) {
		return 0
	}
	return access.user
}

func (f *freelancer) check(c *call) (reply, bool) {
	r := c.request
	switch {
	case !strings.HasSuffix(r.URL.Path, "/"):
		return c.refuse(codeNotFound), true
	case c.user != 0:
		return reply{}, false
	case c.entry.Op == Search && r.Header.Get(tokenHeader) == "" && r.Header.Get("Authorization") == "":
		return reply{}, false // everybody may search
	default:
		return c.refuse(codeNotAuthenticated), true
	}
}

// told answers as the API does, or what stands before it.
func (f *freelancer) told(c *call, fault Fault) reply {
	if fault.Code == "" {
		switch fault.Status {
		case http.StatusForbidden: // the wall against robots says nothing
			return reply{status: fault.Status, header: map[string]string{"Content-Type": "text/html"}, body: ""}
		case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
			page := fmt.Sprintf("<html><body>%d %s</body></html>", fault.Status, http.StatusText(fault.Status))
			return reply{status: fault.Status, header: map[string]string{"Content-Type": "text/html"}, body: page}.with("Retry-After", fault.wait())
		}
		if fault.Status < http.StatusMultipleChoices {
			return reply{status: fault.Status, body: object{"status": "success", "request_id": requestID()}}
		}
	}
	rules := c.rules
	rules.ErrorIn200 = false // a fault says itself with which status it comes
	answer := refusal(rules, fault.Status, cmp.Or(fault.Code, usualCode(fault.Status)))
	if fault.Status == http.StatusTooManyRequests {
		answer = answer.with("RateLimit-Limit", "50, 50;window=60, 1000;window=3600").with("RateLimit-Remaining", "0")
	}
	return answer.with("Retry-After", fault.wait())
}

func (f *freelancer) self(c *call) reply {
	f.server.mu.Lock()
	defer f.server.mu.Unlock()
	return success(object{
		"id": c.user, "username": f.names[c.user], "display_name": f.names[c.user], "role": "freelancer", "limited_account": false,
		"status":             object{"payment_verified": true, "email_verified": true, "phone_verified": true, "identity_verified": false},
		"primary_currency":   currencyOf("USD").object(),
		"membership_package": nil, "account_balances": nil,
	})
}

// number is a positive id, or 0.
func number(text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return 0
	}
	return n
}
