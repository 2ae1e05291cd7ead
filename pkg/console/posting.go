package console

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/posting"
)

const (
	// bidsOfPosting is how many bids on a posting are listed.
	bidsOfPosting = 50
	// maxDescription bounds what is shown of a description, in characters.
	maxDescription = 8000
)

type postingPage struct {
	Marketplace, JobID string
	Known              bool
	Title, Description string
	URL, Host, BadURL  string
	Outcome            string
	Detail             string
	Reasons            []string
	Facts              []fact
	Skills             []string
	Bids               []bidRow
	More               bool
}

// posting shows what a run would do with a posting now, and what happened before.
func (s *Server) posting(w http.ResponseWriter, r *http.Request) {
	s.view(w, r, "posting", "", func(ctx context.Context, v *reading) error {
		key, err := posting.ParseKey(r.PathValue("marketplace"), r.PathValue("job_id"))
		if err != nil {
			return errNotThere
		}
		body := &postingPage{Marketplace: key.Marketplace, JobID: key.JobID}
		v.Title, v.Body = "Posting on "+key.Marketplace, body
		if s.options.Explain != nil {
			attempt, reasons, err := s.options.Explain(ctx, v.tx, key)
			if err != nil {
				return fmt.Errorf("explain %s: %w", key, err)
			}
			body.Outcome, body.Detail, body.Reasons = string(attempt.Outcome), attempt.Detail, reasons
		}
		p, err := v.q.GetPosting(ctx, key.Marketplace, key.JobID)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
		case err != nil:
			return fmt.Errorf("read %s: %w", key, err)
		default:
			v.describe(p, body)
		}
		page := int32(bidsOfPosting + 1)
		bids, err := v.q.BidsOfPosting(ctx, key.Marketplace, key.JobID, &page)
		if err != nil {
			return fmt.Errorf("read the bids on %s: %w", key, err)
		}
		if len(bids) > bidsOfPosting {
			bids, body.More = bids[:bidsOfPosting], true
		}
		for _, b := range bids {
			body.Bids = append(body.Bids, v.bidRow(queries.SearchBidsRow{
				ID: b.ID, Marketplace: b.Marketplace, JobID: b.JobID, Status: b.Status, AmountCents: b.AmountCents, Currency: b.Currency,
				DeliveryKind: b.DeliveryKind, DeliveryState: b.DeliveryState, CreatedAt: b.CreatedAt, Title: p.Title,
			}))
		}
		if !body.Known && len(bids) == 0 {
			v.status = http.StatusNotFound
		}
		return nil
	})
}

// describe shows what the cache has of a posting.
func (v *reading) describe(p queries.Posting, body *postingPage) {
	body.Known, body.Title, body.Description, body.URL = true, p.Title, clip(p.Description, maxDescription), external(p.URL)
	body.Host = hostOf(body.URL)
	if body.URL == "" {
		body.BadURL = orEmpty(p.URL)
	}
	for _, skill := range p.Skills[:min(len(p.Skills), 40)] {
		body.Skills = append(body.Skills, clip(skill, 60))
	}
	switch {
	case p.BudgetMinCents != nil && p.BudgetMaxCents != nil:
		body.Facts = append(body.Facts, fact{Name: "Budget", Text: strings.TrimSuffix(money(p.BudgetMinCents, p.Currency), " "+p.Currency) + " to " + money(p.BudgetMaxCents, p.Currency)})
	case p.BudgetMaxCents != nil:
		body.Facts = append(body.Facts, fact{Name: "Budget", Text: "up to " + money(p.BudgetMaxCents, p.Currency)})
	case p.BudgetMinCents != nil:
		body.Facts = append(body.Facts, fact{Name: "Budget", Text: "from " + money(p.BudgetMinCents, p.Currency)})
	}
	if p.Pricing != nil {
		body.Facts = append(body.Facts, fact{Name: "Pricing", Text: *p.Pricing})
	}
	if p.BidAmountCents != nil {
		body.Facts = append(body.Facts, fact{Name: "Amount asked for", Text: money(p.BidAmountCents, p.Currency)})
	}
	body.Facts = append(body.Facts, fact{Name: "Last seen", When: v.maybe(&p.CachedAt)})
	if p.PostedAt != nil {
		body.Facts = append(body.Facts, fact{Name: "Posted", When: v.maybe(p.PostedAt)})
	}
	if p.Deadline != nil {
		body.Facts = append(body.Facts, fact{Name: "Deadline", When: v.maybe(p.Deadline)})
	}
}
