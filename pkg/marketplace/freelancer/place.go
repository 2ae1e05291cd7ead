package freelancer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/arbitrageai/bidder/pkg/config"
	"github.com/arbitrageai/bidder/pkg/marketplace"
	"github.com/arbitrageai/bidder/pkg/marketplace/internal/wire"
	"github.com/arbitrageai/bidder/pkg/posting"
)

const (
	bidsPath = "/projects/0.1/bids/"
	// maxDescription is the site's limit, in characters. The API takes more, which nobody sees.
	maxDescription = 1500
)

// placement is the body of a bid. The amount is in the project's currency; of projects by the
// hour it is the rate.
type placement struct {
	ProjectID           int64       `json:"project_id"`
	BidderID            int64       `json:"bidder_id"`
	Amount              json.Number `json:"amount"`
	Period              int         `json:"period"`
	MilestonePercentage int         `json:"milestone_percentage"`
	Description         string      `json:"description,omitempty"`
}

// Place sends the bid, in one POST or in none. Before it, it asks who the account is, where it
// does not know, and whether the project is open: reads, so that whatever comes of them proves
// that nothing was sent. They may take half of the time; the POST has the rest.
func (c *Client) Place(ctx context.Context, bid marketplace.Bid) marketplace.Result {
	project, ok := parseID(bid.JobID)
	switch {
	case !ok:
		return invalid("the job id " + bid.JobID + " is not a number, as the ids of Freelancer.com's projects are")
	case bid.AmountCents <= 0 || bid.PeriodDays < 0:
		return invalid("a bid needs an amount and a period above 0")
	}
	ctx, cancel := context.WithTimeout(ctx, c.market.Timeout)
	defer cancel()
	until, _ := ctx.Deadline()
	reads, stop := context.WithTimeout(ctx, time.Until(until)/2)
	defer stop()

	me, err := c.bidder(reads)
	if err != nil {
		return unsent(err)
	}
	if refused, err := c.isOpen(reads, project, bid.Currency); err != nil {
		return unsent(err)
	} else if refused != nil {
		return *refused
	}
	token, err := c.tokens.Token(reads)
	if err != nil {
		return unsent(c.noToken(err))
	}
	post, err := c.placement(bid, project, me.ID).request()
	if err != nil {
		return invalid(err.Error())
	}
	got, err := c.send(ctx, token, post)
	if err != nil {
		return failure(err, token)
	}
	if got.isSuccess() {
		return got.placed(project, me.ID)
	}
	return c.refused(ctx, got, token, got.refusal().place)
}

func (c *Client) placement(bid marketplace.Bid, project, bidder int64) placement {
	period := int(bid.PeriodDays)
	if period == 0 {
		period = c.market.Freelancer.PeriodDays
	}
	amount := posting.FormatAmount(bid.AmountCents)
	return placement{
		ProjectID: project, BidderID: bidder, Amount: json.Number(strings.TrimSuffix(amount, ".00")), Period: period,
		MilestonePercentage: c.market.Freelancer.MilestonePercentage, Description: description(bid.Proposal),
	}
}

func (p placement) request() (request, error) {
	body, err := json.Marshal(p)
	if err != nil {
		return request{}, fmt.Errorf("encode bid: %w", err)
	}
	return request{method: http.MethodPost, path: bidsPath, contentType: "application/json", body: string(body)}, nil
}

// description is what is sent of a proposal.
func description(proposal string) string {
	characters := 0
	for i := range proposal {
		if characters == maxDescription {
			return proposal[:i]
		}
		characters++
	}
	return proposal
}

// invalid is the result of a bid that cannot be sent. Nothing was.
func invalid(message string) marketplace.Result {
	return marketplace.Result{
		Kind: marketplace.NeedsHuman, Code: marketplace.CodeInvalidRequest, Message: wire.NewRedactor().Message(message),
	}
}

// unsent is the result of a placement that did not get to its POST: whatever the reads before
// it met, it was certainly not executed. The next look-up meets the same, and says what it is.
func unsent(err error) marketplace.Result {
	result := marketplace.Result{Code: marketplace.CodeUnavailable}
	if failed, ok := errors.AsType[*ReadError](err); ok {
		result = failed.Result
	}
	result.Kind, result.Message = marketplace.NotExecuted, "before the bid was sent: "+result.Message
	return result
}

// placed reads the answer to a POST that succeeded.
func (a answer) placed(project, bidder int64) marketplace.Result {
	b, ok := parseBid(a.body["result"])
	if !ok || b.project != project || b.bidder != bidder {
		return a.unreadable("the answer does not hold the bid that was sent").Result
	}
	return marketplace.Result{Kind: marketplace.Done, ExternalID: b.id, Status: a.Status}
}

// refused says what came of a change that was refused. After a refusal of the token there is
// another one or a person is needed; the change was not executed either way.
func (c *Client) refused(ctx context.Context, a answer, token config.Secret, kind marketplace.Kind) marketplace.Result {
	result := a.result(kind, a.refusal().code)
	if kind != marketplace.AuthNeeded {
		return result
	}
	switch err := c.tokens.Refused(ctx, token); {
	case err == nil, !errors.Is(err, marketplace.ErrAuthNeeded):
		result.Kind = marketplace.NotExecuted
	default:
		result.Message = a.explain(err.Error())
	}
	return result
}

// isOpen asks whether a project still takes bids, and in the currency of the bid. It is
// asked right before the POST, because only then a closed project costs no POST.
func (c *Client) isOpen(ctx context.Context, id int64, currency string) (*marketplace.Result, error) {
	p, got, err := c.project(ctx, id, nil)
	if failed, ok := errors.AsType[*ReadError](err); ok && failed.Code == marketplace.CodeNotFound {
		return &failed.Result, nil
	}
	if err != nil {
		return nil, err
	}
	closed := marketplace.Result{Kind: marketplace.Permanent, Code: marketplace.CodeJobClosed, Status: got.Status}
	if !p.IsOpen {
		closed.Message = got.explain("the project is " + strings.TrimSpace(p.Status+" "+p.FrontendStatus))
		return &closed, nil
	}
	if p.Currency != "" && currency != "" && !strings.EqualFold(p.Currency, currency) {
		wrong := invalid("the bid is in " + currency + ", and bids on this project are in " + p.Currency)
		return &wrong, nil
	}
	return nil, nil //nolint:nilnil // nothing stands against it
}

// Withdraw retracts the bid by its external id. Sources contradict each other on how the
// action is encoded, so where one encoding is not understood, which changes nothing, the others
// are tried.
func (c *Client) Withdraw(ctx context.Context, bid marketplace.Bid) marketplace.Result {
	if _, ok := parseID(bid.ExternalID); !ok {
		return invalid("the bid has no id that is one of Freelancer.com's: " + bid.ExternalID)
	}
	ctx, cancel := context.WithTimeout(ctx, c.market.Timeout)
	defer cancel()
	token, err := c.tokens.Token(ctx)
	if err != nil {
		return c.noToken(err).Result
	}
	var got answer
	for _, encoding := range encodings(c.market.Freelancer.RetractEncoding) {
		if got, err = c.send(ctx, token, retraction(bid.ExternalID, encoding)); err != nil {
			return failure(err, token)
		}
		if !got.refusesEncoding() {
			break
		}
	}
	if got.isSuccess() {
		return marketplace.Result{Kind: marketplace.Done, Status: got.Status}
	}
	return c.refused(ctx, got, token, got.refusal().retract)
}

// encodings returns all of them, beginning with the first.
func encodings(first string) []string {
	all := []string{config.RetractByForm, config.RetractByJSON, config.RetractByQuery}
	return append([]string{first}, slices.DeleteFunc(all, func(e string) bool { return e == first })...)
}

// retraction never names another action: some of them cost money.
func retraction(id, encoding string) request {
	r := request{method: http.MethodPut, path: bidsPath + id + "/", contentType: "application/x-www-form-urlencoded"}
	switch encoding {
	case config.RetractByJSON:
		r.contentType, r.body = "application/json", `{"action":"retract"}`
	case config.RetractByQuery:
		r.query = url.Values{"action": {"retract"}}
	default:
		r.body = "action=retract"
	}
	return r
}
