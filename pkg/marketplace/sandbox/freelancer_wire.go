package sandbox

import (
	"encoding/json"
	"maps"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/arbitrageai/bidder/pkg/marketplace"
)

// object is an object of JSON. Whether a member is null or missing matters here.
type object = map[string]any

// The error codes that the API gives by itself. The others come by faults.
const (
	codeNotAuthenticated = "RestExceptionCodes.NOT_AUTHENTICATED"
	codeNotFound         = "RestExceptionCodes.NOT_FOUND"
	codeBadForm          = "RestExceptionCodes.BAD_FORM"
	codeMethodNotAllowed = "RestExceptionCodes.METHOD_NOT_ALLOWED"
	codeRateLimited      = "AuthorisationExceptionCodes.RATE_LIMITED"
	codeDuplicateBid     = "ProjectExceptionCodes.DUPLICATE_BID"
	codeProjectNotActive = "ProjectExceptionCodes.PROJECT_NOT_ACTIVE"
	codeUnknownError     = "ExceptionCodes.UNKNOWN_ERROR"
	// codeInvented stands where nobody has recorded the real one: no client may know it.
	codeInvented = "ProjectExceptionCodes.UNKNOWN_FAKE_CODE"
)

// describe returns the usual HTTP status of an error code, and its message.
func describe(code string) (status int, message string) {
	switch code {
	case codeNotAuthenticated:
		return http.StatusUnauthorized, "You must be logged in to perform this request"
	case codeNotFound:
		return http.StatusNotFound, "The requested resource does not exist."
	case codeBadForm:
		return http.StatusBadRequest, "Please fill in the form."
	case codeMethodNotAllowed:
		return http.StatusMethodNotAllowed, "Method not allowed."
	case codeRateLimited:
		return http.StatusTooManyRequests, "You have made too many of these requests."
	case codeDuplicateBid:
		return http.StatusConflict, "You have already bid on that project."
	case codeProjectNotActive:
		return http.StatusBadRequest, "This project is not open for bidding."
	case codeUnknownError:
		return http.StatusInternalServerError, "An error has occurred."
	case codeInvented:
		return http.StatusBadRequest, "This bid can no longer be retracted."
	case "ProjectExceptionCodes.GAF_EXCEPTION":
		return http.StatusInternalServerError, "Something went wrong."
	case "ProjectExceptionCodes.BID_LIMIT_EXCEEDED":
		return http.StatusBadRequest, "You have used all of your bids."
	case "ProjectExceptionCodes.RESTRICTED_FROM_BIDDING_PREMIUM_VERIFIED":
		return http.StatusForbidden, "You must be verified to bid on this project."
	case "ProjectExceptionCodes.BID_MINIMUM_REQUIREMENT_NOT_MET":
		return http.StatusForbidden, "A minimum account balance is required to bid on this project."
	default:
		return http.StatusBadRequest, "The sandbox was told to answer this."
	}
}

// usualCode is the error code that goes with an HTTP status.
func usualCode(status int) string {
	for _, code := range []string{codeNotAuthenticated, codeNotFound, codeMethodNotAllowed, codeRateLimited, codeDuplicateBid, codeBadForm} {
		if usual, _ := describe(code); usual == status {
			return code
		}
	}
	return codeUnknownError
}

func requestID() string { return strings.ReplaceAll(uuid.NewString(), "-", "") }

// firstBidID is where the ids of bids begin, most likely somewhere else than in other sandboxes.
func firstBidID() int64 {
	random := uuid.New()
	return 400_000_000 + int64(random[0])<<22 + int64(random[1])<<14 + int64(random[2])<<6
}

func success(result any) reply {
	return reply{status: http.StatusOK, body: object{"status": "success", "result": result, "request_id": requestID()}}
}

func refusal(rules FreelancerRules, status int, code string, message ...string) reply {
	_, usual := describe(code)
	says := strings.Join(append(message, usual)[:1], "")
	body := object{"status": "error", "message": says, "error_code": code, "request_id": requestID()}
	if rules.NestedErrors {
		body = object{"status": "error", "request_id": requestID(), "error": object{"code": code, "detail": says}}
	}
	if rules.ErrorIn200 {
		status = http.StatusOK
	}
	return reply{status: status, body: body, code: code}
}

// refuse answers with an error, and another message than its usual one where there is one.
func (c *call) refuse(code string, message ...string) reply {
	status, _ := describe(code)
	return refusal(c.rules, status, code, message...)
}

// compact drops the members that are null, if the request asks for that.
func (c *call) compact(r reply) reply {
	if truth(c.request.URL.Query().Get("compact")) {
		r.body = withoutNulls(r.body)
	}
	return r
}

func withoutNulls(v any) any {
	switch v := v.(type) {
	case object:
		kept := object{}
		for name, member := range v {
			if member != nil {
				kept[name] = withoutNulls(member)
			}
		}
		return kept
	case []object:
		kept := make([]object, len(v))
		for i, element := range v {
			kept[i], _ = withoutNulls(element).(object)
		}
		return kept
	default:
		return v
	}
}

// currency is money as the API describes it.
type currency struct {
	ID            int64
	Code, Sign    string
	Name, Country string
	ExchangeRate  float64 // US dollars for one
}

func currencyOf(code string) currency {
	switch code {
	case "EUR":
		return currency{ID: 8, Code: code, Sign: "€", Name: "Euro", ExchangeRate: 1.09, Country: "EU"}
	case "GBP":
		return currency{ID: 4, Code: code, Sign: "£", Name: "British Pound", ExchangeRate: 1.27, Country: "UK"}
	case "USD":
		return currency{ID: 1, Code: code, Sign: "$", Name: "US Dollar", ExchangeRate: 1, Country: "US"}
	default:
		return currency{}
	}
}

func (c currency) object() object {
	return object{"id": c.ID, "code": c.Code, "sign": c.Sign, "name": c.Name, "exchange_rate": c.ExchangeRate, "country": c.Country}
}

// view is a project with the parts that a search asks for.
func (f *freelancer) view(p *Project, description, jobs bool) object {
	currency := currencyOf(p.Currency).object()
	currency["is_external"] = false
	count, average := f.statistics(p)
	view := object{
		"id": p.ID, "owner_id": p.OwnerID, "title": p.Title, "status": p.Status, "seo_url": p.SEOURL, "currency": currency,
		"description": nil, "preview_description": preview(p.Description), "jobs": nil,
		"submitdate": p.SubmittedAt.Unix(), "time_submitted": p.SubmittedAt.Unix(), "time_updated": p.UpdatedAt.Unix(),
		"type": p.Type, "bidperiod": p.BidPeriod, "hourly_project_info": nil,
		"budget": object{
			"minimum": p.Minimum, "maximum": p.Maximum, "name": p.size(), "project_type": p.Type, "currency_id": currency["id"],
		},
		"bid_stats": object{"bid_count": count, "bid_avg": average}, "upgrades": p.upgrades(),
		"language": p.Language, "hireme": false, "deleted": false, "frontend_project_status": p.frontend(), "location": nil,
	}
	if description {
		view["description"] = p.Description
	}
	if jobs {
		all := make([]object, len(p.Skills))
		for i, skill := range p.Skills {
			all[i] = object{"id": skill.ID, "name": skill.Name}
		}
		view["jobs"] = all
	}
	if p.Type == hourly {
		view["hourly_project_info"] = object{"commitment": object{"hours": 40, "interval": "week"}, "duration_enum": "unspecified"}
	}
	return view
}

// closedView is what the API has to say of a project that is not open.
func (f *freelancer) closedView(p *Project) object {
	view := object{}
	for name, member := range f.view(p, false, false) {
		switch name {
		case "id", "owner_id", "title", "status", "seo_url", "type", "bidperiod", "frontend_project_status", "deleted":
			view[name] = member
		}
	}
	count, average := f.statistics(p)
	view["currency"] = currencyOf(p.Currency).object()
	view["budget"] = object{"minimum": p.Minimum, "maximum": p.Maximum}
	view["bid_stats"] = object{"bid_count": count, "bid_avg": average}
	return view
}

// statistics are over the bids of strangers that a project begins with, and those placed here.
func (f *freelancer) statistics(p *Project) (count int, average float64) {
	count, sum := p.BidCount, p.BidAverage*float64(p.BidCount)
	for _, bid := range f.placed[p.ID] {
		if !bid.retracted() {
			count++
			sum += bid.amount
		}
	}
	if count == 0 {
		return 0, 0
	}
	return count, math.Round(sum/float64(count)*100) / 100
}

// base is what everybody may know of a bid.
func (b *freelancerBid) base() object {
	return object{
		"id": b.id, "bidder_id": b.BidderID, "project_id": b.project, "project_owner_id": b.owner, "retracted": b.retracted(),
		"amount": b.amount, "period": b.PeriodDays, "description": b.Proposal, "time_submitted": b.PlacedAt.Unix(),
	}
}

// view is a bid as a user sees it.
func (b *freelancerBid) view(user int64) object {
	view := b.base()
	if b.BidderID != user {
		return view
	}
	maps.Copy(view, object{
		"milestone_percentage": b.milestone, "award_status": nil, "paid_status": "unpaid", "complete_status": nil, "frontend_bid_status": "active",
	})
	switch b.Status {
	case marketplace.Withdrawn:
		view["frontend_bid_status"] = nil
		return view
	case marketplace.Accepted:
		maps.Copy(view, object{"award_status": "awarded", "complete_status": "incomplete", "frontend_bid_status": "in_progress"})
	case marketplace.AwardPending:
		view["award_status"] = "pending"
	default:
		maps.Copy(view, object{"submitdate": b.PlacedAt.Unix(), "highlighted": false, "sponsored": nil, "sealed": false})
		if b.Status == marketplace.Rejected {
			view["award_status"] = "rejected"
		}
	}
	view["time_awarded"], view["time_accepted"] = seconds(b.awardedAt), seconds(b.acceptedAt)
	return view
}

// created is a bid in the answer to its placement.
func (b *freelancerBid) created(rules FreelancerRules) reply {
	bid := b.base()
	bid["milestone_percentage"], bid["submitdate"] = b.milestone, b.PlacedAt.Unix()
	if !rules.MinimalPlace {
		for _, name := range []string{
			"highlighted", "sponsored", "award_status", "paid_status", "complete_status", "time_awarded", "time_accepted", "reputation",
		} {
			bid[name] = nil
		}
		bid["frontend_bid_status"] = "active"
	}
	nobody := maps.Clone(bid)
	delete(nobody, "id")
	if rules.MinimalPlace {
		return reply{status: http.StatusOK, body: object{"result": bid}, noID: object{"result": nobody}}
	}
	answer := success(bid)
	answer.noID = success(nobody).body
	return answer
}

// seconds is a time in seconds since 1970, or null.
func seconds(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.Unix()
}

// bidForm is the body of a placement.
type bidForm struct {
	ProjectID   *int64   `json:"project_id"`
	BidderID    *int64   `json:"bidder_id"`
	Amount      *float64 `json:"amount"`
	Period      *int32   `json:"period"`
	Milestone   *float64 `json:"milestone_percentage"`
	Description string   `json:"description"`
	ProfileID   *int64   `json:"profile_id"`

	valid bool // it is JSON, and its members are of the right types
}

func (b *bidForm) read(body []byte) { b.valid = json.Unmarshal(body, b) == nil }

// objection says what is wrong with a form, if anything.
func (b *bidForm) objection() string {
	switch {
	case !b.valid:
		return "The body is not a bid in JSON."
	case b.ProjectID == nil:
		return "Please fill in the project id"
	case b.BidderID == nil:
		return "Please fill in the bidder id"
	case b.Amount == nil || *b.Amount <= 0:
		return "Please fill in the amount"
	case b.Period == nil || *b.Period < 1:
		return "Please fill in the period"
	case b.Milestone == nil || *b.Milestone < 20 || *b.Milestone > 100:
		return "Please fill in the milestone percentage (20 - 100)"
	default:
		return ""
	}
}

// value is a number, or 0 where there is none.
func value(n *int64) int64 {
	if n == nil {
		return 0
	}
	return *n
}

// text is a number in digits, or empty where there is none.
func text(n *int64) string {
	if n == nil {
		return ""
	}
	return strconv.FormatInt(*n, 10)
}

func truth(text string) bool { return slices.Contains([]string{"true", "1"}, strings.ToLower(text)) }
