package freelancer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/arbitrageai/bidder/pkg/marketplace"
	"github.com/arbitrageai/bidder/pkg/marketplace/internal/wire"
	"github.com/arbitrageai/bidder/pkg/posting"
)

const (
	pageSize = 100
	// maxPages bounds a look-up. Of an account's bids on one project there are a few; only
	// where the filter is ignored there are more.
	maxPages = 20
)

// Lookup asks for the bid by its id, where that is known, or finds it among the account's bids
// on the project: a live one before those that have ended, of those the newest. Of one whose id is
// known, that waits to be chosen and is not to be taken back, it also asks whether its project is open.
func (c *Client) Lookup(ctx context.Context, sought marketplace.Bid) marketplace.Finding {
	project, ok := parseID(sought.JobID)
	if _, known := parseID(sought.ExternalID); !ok || sought.ExternalID != "" && !known {
		return marketplace.Finding{Result: invalid("job id " + sought.JobID + " or bid id " + sought.ExternalID + " is not one of Freelancer.com's")}
	}
	ctx, cancel := context.WithTimeout(ctx, c.market.Timeout)
	defer cancel()
	found, err := c.find(ctx, project, sought.ExternalID)
	if err != nil {
		return unread(err)
	}
	if found == nil {
		return marketplace.Finding{Known: true, Definitive: true}
	}
	status, known := found.status()
	if !known {
		return marketplace.Finding{Result: marketplace.Result{
			Kind: marketplace.NeedsHuman, Code: marketplace.CodeUnknownStatus, ExternalID: found.id,
			Message: wire.NewRedactor().Message("the bid " + found.id + " is there, in a state that bidder does not know: " + found.state()),
		}}
	}
	finding := marketplace.Finding{
		Known: true, Found: true, ExternalID: found.id, Status: status,
		Foreign: found.isLive() && found.differs(c.placement(sought, project, found.bidder)),
	}
	if sought.ExternalID == "" || status != marketplace.Submitted || !sought.WithdrawAskedAt.IsZero() {
		return finding
	}
	return c.withProject(ctx, project, finding)
}

// withProject adds what has become of the project of a bid that nobody has chosen or turned down: one
// that was passed over says so for ever. One that is to be taken back is taken back all the same.
func (c *Client) withProject(ctx context.Context, id int64, finding marketplace.Finding) marketplace.Finding {
	p, _, err := c.project(ctx, id, nil)
	failed, isRead := errors.AsType[*ReadError](err)
	switch {
	case err == nil && p.IsOpen:
	case err == nil:
		finding.Dormant = true
		if p.Status == "closed" && (p.FrontendStatus == "work_in_progress" || p.FrontendStatus == "complete") {
			finding.Status = marketplace.Lost
		}
	case !isRead || failed.Status == 0 || failed.Kind == marketplace.AuthNeeded || failed.Code == marketplace.CodeRateLimited:
		return unread(err)
	default: // it is not shown, which says nothing of the account
		finding.Dormant = true
		if failed.Kind == marketplace.Ambiguous {
			finding.Result = failed.Result
		}
	}
	return finding
}

// unread is what came of a look-up that failed.
func unread(err error) marketplace.Finding {
	result := marketplace.Result{Kind: marketplace.NotExecuted, Code: marketplace.CodeUnavailable, Message: err.Error()}
	if failed, ok := errors.AsType[*ReadError](err); ok {
		result = failed.Result
	}
	return marketplace.Finding{Result: result}
}

// find returns the bid, or nil where there is none.
func (c *Client) find(ctx context.Context, project int64, id string) (*bid, error) {
	me, err := c.bidder(ctx)
	if err != nil {
		return nil, err
	}
	if id != "" {
		found, err := c.byID(ctx, id, project, me.ID)
		if found != nil || err != nil {
			return found, err
		}
	}
	return c.list(ctx, project, me.ID, id)
}

// byID reads one bid, or nil where there is none.
func (c *Client) byID(ctx context.Context, id string, project, bidder int64) (*bid, error) {
	got, _, err := c.read(ctx, bidsPath+id+"/", nil)
	if failed, ok := errors.AsType[*ReadError](err); ok && failed.Code == marketplace.CodeNotFound {
		return nil, nil //nolint:nilnil // there is none
	}
	if err != nil {
		return nil, err
	}
	b, ok := parseBid(got.body["result"])
	if !ok || b.id != id || b.project != project || b.bidder != bidder {
		return nil, got.unreadable("it does not hold the bid that was asked for")
	}
	return &b, nil
}

// list reads the account's bids on a project, and returns the one that counts, or nil. It
// looks at every bid itself: a filter that is ignored would show those of others. A page that
// is not full does not end the list, as the server may make them smaller; one with nothing new
// does.
func (c *Client) list(ctx context.Context, project, bidder int64, id string) (*bid, error) {
	seen := map[string]bool{}
	var own []bid
	offset := 0
	for range maxPages {
		got, _, err := c.read(ctx, bidsPath, url.Values{
			"projects[]": {strconv.FormatInt(project, 10)}, "bidders[]": {strconv.FormatInt(bidder, 10)},
			"limit": {strconv.Itoa(pageSize)}, "offset": {strconv.Itoa(offset)},
		})
		if err != nil {
			return nil, err
		}
		page, ok := parseBids(got.body["result"])
		if !ok {
			return nil, got.unreadable("it does not hold a list of bids")
		}
		fresh := 0
		for _, b := range page {
			if seen[b.id] {
				continue
			}
			seen[b.id] = true
			fresh++
			if b.project == project && b.bidder == bidder {
				own = append(own, b)
			}
		}
		if fresh == 0 || slices.ContainsFunc(own, bid.isLive) {
			return choose(own, id), nil
		}
		offset += len(page)
	}
	return nil, &ReadError{marketplace.Result{
		Kind: marketplace.Ambiguous, Code: marketplace.CodeUnreadable, Message: fmt.Sprintf("the list of bids does not end after %d", offset),
	}}
}

// choose returns the bid that counts: a live one, else one in an unknown state, else one that
// has ended; of those the one with the id, else the newest.
func choose(own []bid, id string) *bid {
	if len(own) == 0 {
		return nil
	}
	rank := func(b bid) int {
		switch _, known := b.status(); {
		case b.isLive():
			return 2
		case !known:
			return 1
		}
		return 0
	}
	best := slices.MaxFunc(own, func(a, b bid) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), compareBool(a.id == id, b.id == id), cmp.Compare(a.submitted, b.submitted), cmp.Compare(a.number, b.number))
	})
	return &best
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// bid is a bid as the API shows it.
type bid struct {
	number          int64
	id              string // the number's digits
	bidder, project int64
	submitted       int64 // Unix time, 0 where it is not said
	retracted       *bool
	amount          jsontext.Value
	period          jsontext.Value
	description     *string
	award, complete string
	frontend        string
	awarded         bool // at a time that is known
	accepted        bool
}

func parseBid(value jsontext.Value) (bid, bool) {
	o := wire.ParseObject(value)
	b := bid{
		amount: o["amount"], period: o["period"], award: strings.ToLower(o.Text("award_status")),
		complete: strings.ToLower(o.Text("complete_status")), frontend: strings.ToLower(o.Text("frontend_bid_status")),
		awarded: isTime(o["time_awarded"]), accepted: isTime(o["time_accepted"]),
	}
	var isBid, hasBidder, hasProject bool
	b.number, isBid = wholeNumber(o["id"])
	b.bidder, hasBidder = wholeNumber(o["bidder_id"])
	b.project, hasProject = wholeNumber(o["project_id"])
	b.submitted, _ = wholeNumber(o["time_submitted"])
	b.id = strconv.FormatInt(b.number, 10)
	if retracted, says := o.Bool("retracted"); says {
		b.retracted = &retracted
	}
	if o["description"].Kind() == jsontext.KindString {
		text := o.Text("description")
		b.description = &text
	}
	return b, isBid && hasBidder && hasProject && b.number > 0
}

// parseBids reads a list. One that cannot be read might be the one.
func parseBids(result jsontext.Value) ([]bid, bool) {
	var values []jsontext.Value
	if err := json.Unmarshal(wire.ParseObject(result)["bids"], &values); err != nil || values == nil {
		return nil, false
	}
	bids := make([]bid, len(values))
	for i, value := range values {
		var ok bool
		if bids[i], ok = parseBid(value); !ok {
			return nil, false
		}
	}
	return bids, true
}

func isTime(value jsontext.Value) bool {
	at, ok := wholeNumber(value)
	return ok && at > 0
}

// status is the bid's state in bidder's words; false where it has none.
func (b bid) status() (marketplace.Status, bool) {
	switch {
	case b.retracted == nil:
		return "", false
	case *b.retracted:
		return marketplace.Withdrawn, true
	case b.award == "awarded", b.accepted, b.complete == "incomplete", b.complete == "complete":
		return marketplace.Accepted, true
	case b.award == "pending", b.awarded:
		return marketplace.AwardPending, true
	case b.award == "rejected", b.award == "revoked", b.award == "canceled":
		return marketplace.Rejected, true
	case b.award == "" && (b.frontend == "" || b.frontend == "active"):
		return marketplace.Submitted, true
	}
	return "", false
}

// state is what the API says of the bid's state.
func (b bid) state() string {
	return fmt.Sprintf("award_status %q, complete_status %q, frontend_bid_status %q", b.award, b.complete, b.frontend)
}

func (b bid) isLive() bool {
	status, _ := b.status()
	return status.IsLive()
}

// differs reports whether the bid is not what would have been sent: then somebody placed it
// by hand. White space does not count; what the API does not show, neither.
func (b bid) differs(sent placement) bool {
	if text := decimal(b.amount); text != "" {
		want, _ := posting.ParseAmount(sent.Amount.String())
		if got, err := posting.ParseAmount(text); err != nil || got != want {
			return true
		}
	}
	if period, says := wholeNumber(b.period); says && period != int64(sent.Period) {
		return true
	}
	words := func(text string) string { return strings.Join(strings.Fields(text), " ") }
	return b.description != nil && words(*b.description) != words(sent.Description)
}
