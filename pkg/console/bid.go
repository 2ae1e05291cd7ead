package console

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/review"
)

const (
	// eventsPage is how many events of a bid a page shows.
	eventsPage = 100
	// maxProposal bounds what is shown of a long text, in characters.
	maxProposal = 8000
)

// fact is a value with its name.
type fact struct {
	Name, Text string
	When       *moment
	Link       string
	Code       bool // an id, or something else for machines
}

// decisions are what can be decided on a bid, for its form.
type decisions struct {
	Action                            string // where the form goes, without what is decided
	Version, CSRF, Back               string
	Approve, Retry, Resolve, Withdraw bool
	IsPlaced                          bool // it has an id at the marketplace
	Marketplace                       string
}

// Any says whether there is anything to decide.
func (d decisions) Any() bool { return d.Approve || d.Retry || d.Resolve || d.Withdraw }

// decisionsOn are what can be decided on a bid now.
func (v *reading) decisionsOn(r *http.Request, b queries.Bid, back string) decisions {
	visitor := visitorOf(r.Context())
	d := decisions{Action: "/bids/" + b.ID.String() + "/", Version: review.VersionOf(b).String(), Back: back, IsPlaced: b.ExternalBidID != nil, Marketplace: b.Marketplace}
	if visitor.role != operator || visitor.session == nil {
		return d
	}
	d.CSRF = visitor.session.csrf
	if b.DeliveryState != nil {
		d.Approve = *b.DeliveryState == review.AwaitingApproval
		d.Retry = *b.DeliveryState == review.InReview
		d.Resolve = d.Retry
	}
	d.Withdraw = b.Status == "ACTIVE" && b.WithdrawRequestedAt == nil
	return d
}

type bidPage struct {
	ID, Marketplace, JobID string
	PostingLink            string
	TitleOfPosting         string
	URL, Host              string // of the posting, where it may be linked to
	BadURL                 string // and where not
	Status, Amount         string
	Owes, State            string
	Stands                 string // how it stands, in a sentence
	Waiting                *waitingFor
	Facts                  []fact
	Proposal               string
	Events                 []event
	Earlier, Latest        string // where older events are, and the newest
	Claim                  *event
	Decisions              decisions
}

// waitingFor is why a bid waits for a person.
type waitingFor struct {
	Reason, Text, Advice string
	Since                moment
}

func (s *Server) bid(w http.ResponseWriter, r *http.Request) {
	s.view(w, r, "bid", "bids", func(ctx context.Context, v *reading) error {
		id, err := uuid.Parse(r.PathValue("id"))
		if err != nil {
			return errNotThere
		}
		b, err := v.q.GetBid(ctx, id)
		if errors.Is(err, pgx.ErrNoRows) {
			return errNotThere
		}
		if err != nil {
			return fmt.Errorf("read bid %s: %w", id, err)
		}
		body := &bidPage{
			ID: id.String(), Marketplace: b.Marketplace, JobID: b.JobID, PostingLink: postingLink(b.Marketplace, b.JobID),
			Status: b.Status, Amount: money(b.AmountCents, b.Currency), Stands: stands(b), Proposal: clip(orEmpty(b.Proposal), maxProposal),
			Decisions: v.decisionsOn(r, b, "/bids/"+id.String()),
		}
		v.Title, v.Body = "Bid on "+b.Marketplace, body
		if b.DeliveryKind != nil && b.DeliveryState != nil {
			body.Owes, body.State = owing(*b.DeliveryKind, *b.DeliveryState), *b.DeliveryState
		}
		if review.Waits(b) {
			body.Waiting = v.waitingFor(b)
		}
		p, err := v.q.GetPosting(ctx, b.Marketplace, b.JobID)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
		case err != nil:
			return fmt.Errorf("read the posting of bid %s: %w", id, err)
		default:
			body.TitleOfPosting, body.URL = p.Title, external(p.URL)
			body.Host = hostOf(body.URL)
			if body.URL == "" {
				body.BadURL = orEmpty(p.URL)
			}
		}
		body.Facts = v.factsOf(b)
		return v.lifeOf(ctx, r, b, body)
	})
}

// stands says how a bid stands, in a sentence.
func stands(b queries.Bid) string {
	switch b.Status {
	case "WON":
		return "The client took it."
	case "LOST":
		return "The client took another."
	case "REJECTED":
		return "It was refused for good."
	case "WITHDRAWN":
		return "It was taken back."
	case "DUPLICATE":
		return "An attempt by hand that came second: it was never sent, and is kept for the record."
	}
	switch {
	case b.WithdrawRequestedAt != nil:
		return "It is live, and is to be taken back."
	case b.ExternalBidID != nil:
		return "It is live, and the marketplace has it."
	case b.PlacePosts > 0:
		return "It is live, and may be at the marketplace: no answer has proved it yet."
	}
	return "It is live, and was never sent."
}

func (v *reading) waitingFor(b queries.Bid) *waitingFor {
	reason, since := review.Reason(b)
	text, advice := explain(reason, b)
	return &waitingFor{Reason: reason, Text: text, Advice: advice, Since: v.at(since)}
}

// factsOf are the columns of a bid that say something.
func (v *reading) factsOf(b queries.Bid) []fact {
	facts := []fact{
		{Name: "Amount", Text: money(b.AmountCents, b.Currency)},
		{Name: "Account", Text: b.Account},
	}
	add := func(name, text string, code bool) {
		if text != "" {
			facts = append(facts, fact{Name: name, Text: text, Code: code})
		}
	}
	if b.PeriodDays != nil {
		add("Period", plural(int64(*b.PeriodDays), "day", "days"), false)
	}
	add("Id at the marketplace", orEmpty(b.ExternalBidID), true)
	if b.IsForeign {
		add("Origin", "found live there, not sent from here", false)
	}
	if b.PlacePosts > 0 {
		add("POSTs armed", count(int64(b.PlacePosts)), false)
	}
	if b.DeliveryAttempts > 0 {
		add("Failed attempts", count(int64(b.DeliveryAttempts)), false)
	}
	for _, t := range []fact{
		{Name: "Next attempt", When: v.maybe(b.NextAttemptAt)},
		{Name: "In a pod’s hands until", When: v.maybe(b.LeaseExpiresAt)},
		{Name: "Submitted", When: v.maybe(b.SubmittedAt)},
		{Name: "Seen there", When: v.maybe(b.SeenAt)},
		{Name: "Looked up", When: v.maybe(b.CheckedAt)},
		{Name: "Posting as of", When: v.maybe(b.PostingCachedAt)},
		{Name: "Withdrawn", When: v.maybe(b.WithdrawalTimestamp)},
	} {
		if t.When != nil {
			facts = append(facts, t)
		}
	}
	add("Withdrawn because", orEmpty(b.WithdrawnReason), false)
	if b.WithdrawRequestedAt != nil && b.Status == "ACTIVE" {
		add("To be withdrawn because", orEmpty(b.WithdrawRequestedReason), false)
	}
	add("Approved by", orEmpty(b.ApprovedBy), false)
	if b.DuplicateOf != nil {
		facts = append(facts, fact{Name: "The live bid", Text: b.DuplicateOf.String(), Link: "/bids/" + b.DuplicateOf.String(), Code: true})
	}
	if b.RunID != nil {
		add("Run", b.RunID.String(), true)
	}
	add("Last error", clip(orEmpty(b.LastError), maxProposal), false)
	return facts
}

// lifeOf reads the history of a bid, the newest first, a page at a time; it begins with the claim.
func (v *reading) lifeOf(ctx context.Context, r *http.Request, b queries.Bid, body *bidPage) error {
	before := int64(math.MaxInt64)
	if text := r.URL.Query().Get("before"); text != "" {
		var err error
		if before, err = strconv.ParseInt(text, 10, 64); err != nil {
			return errNotThere
		}
		body.Latest = "/bids/" + body.ID
	}
	rows, err := v.q.BidEventsBefore(ctx, b.ID, before, eventsPage+1)
	if err != nil {
		return fmt.Errorf("read the history of bid %s: %w", b.ID, err)
	}
	if len(rows) > eventsPage {
		rows = rows[:eventsPage]
		body.Earlier = fmt.Sprintf("/bids/%s?before=%d", b.ID, rows[eventsPage-1].ID)
	}
	for _, row := range rows {
		body.Events = append(body.Events, v.event(row))
	}
	if body.Earlier == "" {
		body.Claim = &event{When: v.at(b.CreatedAt), Actor: "claim", Headline: "Claimed", Tone: "good", Gloss: "The posting is ours: nobody else can bid on it."}
		if b.Status == "DUPLICATE" {
			*body.Claim = event{When: v.at(b.CreatedAt), Actor: "bid", Headline: "Came second", Gloss: "A live bid was there already."}
		}
	}
	return nil
}
