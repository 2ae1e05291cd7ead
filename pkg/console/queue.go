package console

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/review"
)

const (
	// reviewPage is how many bids that wait for a person a page lists.
	reviewPage = 20
	// reviewWindow is of how many a page looks for those that match.
	reviewWindow = 10_000
)

type waitingBid struct {
	Link, PostingLink         string
	Marketplace, JobID, Title string
	URL, Host, BadURL         string
	Description, Amount, Owes string
	Proposal, LastError       string
	Attempts                  int32
	State                     string
	Waiting                   *waitingFor
	Decisions                 decisions
}

type reviewBody struct {
	Marketplace, State string
	Marketplaces       []string
	Bids               []waitingBid
	Next, First        string
	Looked             int
}

// waiting shows what waits for a person, oldest bid first.
func (s *Server) waiting(w http.ResponseWriter, r *http.Request) {
	s.view(w, r, "review", "review", func(ctx context.Context, v *reading) error {
		q := r.URL.Query()
		body := &reviewBody{State: q.Get("state")}
		v.Title, v.Body = "Review", body
		f, problem := parseFilter(url.Values{"marketplace": q["marketplace"], "before": q["after"]})
		if problem != "" || body.State != "" && body.State != review.InReview && body.State != review.AwaitingApproval {
			return errNotThere
		}
		body.Marketplace = f.Marketplace
		var err error
		if body.Marketplaces, err = v.q.BidMarketplaces(ctx, maxMarketplaces); err != nil {
			return fmt.Errorf("list marketplaces: %w", err)
		}
		if f.Marketplace != "" && !slices.Contains(body.Marketplaces, f.Marketplace) {
			body.Marketplaces = append(body.Marketplaces, f.Marketplace)
		}
		params := queries.WaitingBidsParams{AfterID: f.before, Win: reviewWindow, Page: reviewPage + 1}
		if f.Marketplace != "" {
			params.Marketplace = &f.Marketplace
		}
		if body.State != "" {
			params.State = &body.State
		}
		if f.before != uuid.Nil {
			body.First = body.address(uuid.Nil)
		}
		rows, err := v.waitingRows(ctx, params, body)
		if err != nil {
			return err
		}
		back := body.address(f.before)
		for _, row := range rows {
			body.Bids = append(body.Bids, v.waitingBid(r, row, back))
		}
		return nil
	})
}

// waitingRows reads a page of what waits, and where the next one begins.
func (v *reading) waitingRows(ctx context.Context, params queries.WaitingBidsParams, body *reviewBody) ([]queries.WaitingBidsRow, error) {
	rows, err := v.q.WaitingBids(ctx, params)
	if err != nil {
		return nil, fmt.Errorf("list what waits for a person: %w", err)
	}
	if len(rows) > reviewPage { // one more was asked for, to know whether there is a next page
		body.Next = body.address(rows[reviewPage-1].Bid.ID)
		return rows[:reviewPage], nil
	}
	end, err := v.q.WaitingEnd(ctx, params.AfterID, params.Win-1)
	switch {
	case err == nil:
		body.Next, body.Looked = body.address(end), reviewWindow
	case !errors.Is(err, pgx.ErrNoRows):
		return nil, fmt.Errorf("find the end of the window: %w", err)
	}
	return rows, nil
}

func (b *reviewBody) address(after uuid.UUID) string {
	q := url.Values{}
	if b.Marketplace != "" {
		q.Set("marketplace", b.Marketplace)
	}
	if b.State != "" {
		q.Set("state", b.State)
	}
	if after != uuid.Nil {
		q.Set("after", after.String())
	}
	if len(q) == 0 {
		return "/review"
	}
	return "/review?" + q.Encode()
}

func (v *reading) waitingBid(r *http.Request, row queries.WaitingBidsRow, back string) waitingBid {
	b := row.Bid
	item := waitingBid{
		Link: "/bids/" + b.ID.String(), PostingLink: postingLink(b.Marketplace, b.JobID), Marketplace: b.Marketplace, JobID: b.JobID,
		Title: row.Title, URL: external(&row.URL), Description: row.Description, Amount: money(b.AmountCents, b.Currency),
		Proposal: clip(orEmpty(b.Proposal), maxProposal), LastError: clip(orEmpty(b.LastError), maxDetail), Attempts: b.DeliveryAttempts,
		Waiting: v.waitingFor(b), Decisions: v.decisionsOn(r, b, back),
	}
	item.Host = hostOf(item.URL)
	if item.URL == "" {
		item.BadURL = row.URL
	}
	if b.DeliveryKind != nil && b.DeliveryState != nil {
		item.Owes, item.State = owing(*b.DeliveryKind, *b.DeliveryState), *b.DeliveryState
	}
	return item
}
