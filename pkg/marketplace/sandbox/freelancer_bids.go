package sandbox

import (
	"encoding/json"
	"fmt"
	"math"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/arbitrageai/bidder/pkg/marketplace"
)

// freelancerBid is a [Bid] with what only the Freelancer.com API knows of it.
type freelancerBid struct {
	*Bid

	id, project, owner    int64
	amount, milestone     float64
	awardedAt, acceptedAt time.Time
}

func (b *freelancerBid) retracted() bool { return b.Status == marketplace.Withdrawn }

// decide does to a bid what its client, or its bidder, does on the site.
func (b *freelancerBid) decide(status marketplace.Status) error {
	now := time.Now()
	switch status {
	case marketplace.Submitted, marketplace.Rejected, marketplace.Withdrawn:
		b.awardedAt, b.acceptedAt = time.Time{}, time.Time{}
	case marketplace.AwardPending:
		b.awardedAt, b.acceptedAt = now, time.Time{}
	case marketplace.Accepted:
		if b.awardedAt.IsZero() {
			b.awardedAt = now
		}
		b.acceptedAt = now
	default:
		return fmt.Errorf("%w: %q, bids of the Freelancer.com API are submitted, award_pending, accepted, rejected or withdrawn", ErrStatus, status)
	}
	b.Status, b.UpdatedAt = status, now
	return nil
}

// HandPlacedBid is a bid that somebody places on the site itself, without the API.
type HandPlacedBid struct {
	ProjectID   int64   `json:"project_id"`
	BidderID    int64   `json:"bidder_id"` // 0 is the user that the sandbox begins with
	Amount      float64 `json:"amount"`
	Period      int32   `json:"period"`               // days
	Milestone   float64 `json:"milestone_percentage"` // 0 is 50
	Description string  `json:"description"`
}

// live is the bid of a bidder on a project that is not retracted.
func (f *freelancer) live(project, bidder int64) *freelancerBid {
	for _, bid := range f.placed[project] {
		if bid.BidderID == bidder && !bid.retracted() {
			return bid
		}
	}
	return nil
}

// place stores a bid, unless the form, the project or another bid stands against it.
func (f *freelancer) place(c *call) reply {
	if kind, _, _ := mime.ParseMediaType(c.request.Header.Get("Content-Type")); kind != "application/json" {
		return c.refuse(codeBadForm, "The content type is not application/json.")
	}
	form := c.form
	if objection := form.objection(); objection != "" {
		return c.refuse(codeBadForm, objection)
	}
	lag := f.server.take(c, isDo(Lag))

	f.server.mu.Lock()
	defer f.server.mu.Unlock()
	if *form.BidderID != c.user {
		return refusal(c.rules, http.StatusForbidden, codeInvented, "You may bid as yourself only.")
	}
	if *form.ProjectID <= 0 {
		return c.refuse(codeUnknownError) // as the real one was seen to do
	}
	project := f.project(*form.ProjectID)
	if project == nil {
		return c.refuse(codeNotFound)
	}
	if project.Status != active {
		return c.refuse(codeProjectNotActive)
	}
	if bid := f.live(project.ID, c.user); bid != nil && !c.rules.Duplicates {
		c.entry.ExternalID = bid.ExternalID
		return c.refuse(codeDuplicateBid)
	}
	bid := f.store(project, HandPlacedBid{
		BidderID: c.user, Amount: *form.Amount, Period: *form.Period, Milestone: *form.Milestone, Description: form.Description,
	}, c.rules)
	if lag != nil {
		bid.VisibleAt = bid.PlacedAt.Add(lag.delay())
	}
	c.entry.ExternalID, c.entry.Stored = bid.ExternalID, true
	return bid.created(c.rules)
}

// store makes a bid, or gives a retracted one a new life.
func (f *freelancer) store(project *Project, placed HandPlacedBid, rules FreelancerRules) *freelancerBid {
	var bid *freelancerBid
	if rules.Rebid == RebidSameID {
		for _, before := range f.placed[project.ID] {
			if before.BidderID == placed.BidderID && before.retracted() {
				bid = before
			}
		}
	}
	if bid == nil {
		f.nextBid++
		bid = &freelancerBid{Bid: new(Bid), id: f.nextBid, project: project.ID, owner: project.OwnerID}
		bid.ExternalID, bid.Marketplace, bid.JobID = strconv.FormatInt(bid.id, 10), Freelancer, strconv.FormatInt(project.ID, 10)
		bid.BidderID, bid.Currency = placed.BidderID, project.Currency
		f.server.bids = append(f.server.bids, bid.Bid)
		f.bids[bid.ExternalID] = bid
		f.placed[project.ID] = append(f.placed[project.ID], bid)
	}
	now := time.Now()
	bid.amount, bid.milestone, bid.Amount = placed.Amount, placed.Milestone, strconv.FormatFloat(placed.Amount, 'f', 2, 64)
	bid.PeriodDays, bid.Proposal, bid.ByHand = placed.Period, placed.Description, false
	bid.Status, bid.PlacedAt, bid.VisibleAt, bid.UpdatedAt = marketplace.Submitted, now, now, now
	return bid
}

// list answers with bids, also with retracted ones, the oldest first.
func (f *freelancer) list(c *call) reply {
	query := c.request.URL.Query()
	p := parameters{Values: query}
	limit, offset := p.page()
	if p.broken != "" {
		return c.refuse(codeBadForm, p.broken)
	}
	if project := c.request.PathValue("project"); project != "" {
		query = url.Values{"projects[]": {project}}
	}
	bidders := query["bidders[]"]
	if c.rules.IgnoreBidderFilter {
		bidders = nil
	}
	f.server.mu.Lock()
	defer f.server.mu.Unlock()
	if project := c.request.PathValue("project"); project != "" && f.project(number(project)) == nil {
		return c.refuse(codeNotFound)
	}
	bids, now := []object{}, time.Now()
	for _, stored := range f.server.bids {
		bid := f.bids[stored.ExternalID]
		if bid == nil || now.Before(bid.VisibleAt) || !accepts(query["projects[]"], bid.JobID) ||
			!accepts(bidders, strconv.FormatInt(bid.BidderID, 10)) || !accepts(query["bids[]"], bid.ExternalID) {
			continue
		}
		view := bid.view(c.user)
		if !fits(query["award_statuses[]"], view["award_status"]) || !fits(query["frontend_bid_statuses[]"], view["frontend_bid_status"]) {
			continue
		}
		if bid.BidderID == c.user && (c.entry.ExternalID == "" || !bid.retracted()) {
			c.entry.ExternalID = bid.ExternalID
		}
		bids = append(bids, view)
	}
	bids = bids[min(offset, len(bids)):]
	return c.compact(success(object{"bids": bids[:min(limit, len(bids))], "users": nil, "projects": nil}))
}

// fits reports whether a member, which may be null, is one of those wanted, if any are.
func fits(wanted []string, member any) bool {
	text, _ := member.(string)
	return accepts(wanted, text)
}

func (f *freelancer) readBid(c *call) reply {
	f.server.mu.Lock()
	defer f.server.mu.Unlock()
	bid := f.bids[c.entry.ExternalID]
	if bid == nil {
		return c.refuse(codeNotFound)
	}
	return c.compact(success(bid.view(c.user)))
}

// retract takes a bid back that nobody has decided on.
func (f *freelancer) retract(c *call) reply {
	action, encoding := c.action()
	f.server.mu.Lock()
	defer f.server.mu.Unlock()
	bid, rules := f.bids[c.entry.ExternalID], c.rules
	switch {
	case bid == nil:
		return c.refuse(codeNotFound)
	case bid.BidderID != c.user:
		return refusal(rules, http.StatusForbidden, codeInvented, "This is not your bid.")
	case action == "":
		return c.refuse(codeBadForm, "Please fill in the action")
	case rules.RetractEncoding != RetractAny && rules.RetractEncoding != encoding:
		return c.refuse(codeMethodNotAllowed)
	case action != "retract":
		return c.refuse(codeBadForm, "The sandbox knows no other action than retract.")
	}
	if rules.AwardBeforeRetract && bid.Status == marketplace.Submitted {
		_ = bid.decide(marketplace.Accepted) // this is a status that it knows
	}
	switch {
	case bid.retracted() && rules.RetractTwice == RetractTwiceOK:
	case bid.Status != marketplace.Submitted:
		return c.refuse(codeInvented)
	default:
		_ = bid.decide(marketplace.Withdrawn) // as above
		c.entry.Stored = true
	}
	return reply{status: http.StatusOK, body: object{"status": "success", "request_id": requestID()}}
}

// action is what a PUT on a bid asks for, and how that is encoded.
func (c *call) action() (action, encoding string) {
	kind, _, _ := mime.ParseMediaType(c.request.Header.Get("Content-Type"))
	if kind == "application/json" {
		var body struct {
			Action string `json:"action"`
		}
		_ = json.Unmarshal(c.body, &body) // no action then
		action, encoding = body.Action, RetractJSON
	} else if form, err := url.ParseQuery(string(c.body)); err == nil && kind == "application/x-www-form-urlencoded" {
		action, encoding = form.Get("action"), RetractForm
	}
	if inQuery := c.request.URL.Query().Get("action"); action == "" && inQuery != "" {
		return inQuery, RetractQuery
	}
	return action, encoding
}

// parameters are those of a query. What cannot be read is remembered.
type parameters struct {
	url.Values

	broken string
}

// number is the value of a parameter, or the one that stands in where it is missing.
func (p *parameters) number(name string, missing float64) float64 {
	text := p.Get(name)
	if text == "" {
		return missing
	}
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(n) || math.IsInf(n, 0) || n < 0 {
		p.broken = name + " is not a number that is possible here."
		return missing
	}
	return n
}

// oneOf is the value of a parameter that has to be one of several, or the first where it is missing.
func (p *parameters) oneOf(name string, values ...string) string {
	switch text := p.Get(name); {
	case text == "":
		return values[0]
	case slices.Contains(values, text):
		return text
	default:
		p.broken = name + " is not a value that is possible here."
		return values[0]
	}
}

// page is how many entries are wanted, at most 100, and how many of them to skip.
func (p *parameters) page() (limit, offset int) {
	return int(min(p.number("limit", 100), 100)), int(min(p.number("offset", 0), math.MaxInt32))
}
