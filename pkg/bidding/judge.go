package bidding

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/posting"
)

// look reads what stands against a bid on each posting that the statement before it has taken or,
// where the attempts of b were known before, on those that match. refreshed holds postings that are
// newer than the cache, for dry runs.
func (c *Claimer) look(
	ctx context.Context, q *queries.Queries, b *batch, match func(*Attempt) bool, refreshed map[posting.Key]posting.Posting,
) ([]queries.JudgeRow, error) {
	params := queries.JudgeParams{
		WithdrawnIsClosed: b.automatic, RebidWindow: c.rules.RebidWindow, PostingTTL: c.rules.PostingTTL, Now: c.now, Taken: b.taken != nil,
	}
	if b.taken == nil {
		params.Marketplaces, params.JobIDs = keyArrays(b.attempts, match)
		for i := range b.attempts {
			if match(&b.attempts[i]) {
				params.Numbers = append(params.Numbers, int32(i))
			}
		}
	}
	if refreshed != nil {
		params.Refreshed = make([]time.Time, len(b.attempts)) // the zero time stands for none
		for i := range b.attempts {
			params.Refreshed[i] = refreshed[b.attempts[i].Key].CachedAt
		}
	}
	rows, err := q.Judge(ctx, params)
	if err != nil {
		return nil, fmt.Errorf("judge %d postings: %w", len(b.attempts), err)
	}
	return rows, nil
}

// judge gives every open attempt the outcome that stands against its bid, by what look has found;
// Claimed stands for none.
func (c *Claimer) judge(
	ctx context.Context, q *queries.Queries, b *batch, found []queries.JudgeRow, refreshed map[posting.Key]posting.Posting,
) (judgedAt time.Time, err error) {
	for i := range found {
		row := &found[i]
		judgedAt = row.JudgedAt
		a := b.attempt(row)
		if a == nil || !open(a) {
			continue
		}
		a.Outcome, a.CachedAt, a.Currency, a.judged = Outcome(row.Outcome), row.CachedAt, row.Currency, version{row.InTable, row.Place, row.WrittenBy}
		if newer := refreshed[a.Key]; newer.CachedAt.After(row.CachedAt) {
			a.CachedAt, a.Currency = newer.CachedAt, newer.Currency
		}
		switch a.Outcome {
		case Duplicate:
			a.ExistingBidID = row.LiveBidID
		case Closed:
			a.Detail = strings.ToLower(row.EndedStatus)
		}
	}
	var contents map[posting.Key]queries.PostingContentsRow
	if c.rules.Reads.Content && len(found) > 0 {
		if contents, err = c.readContents(ctx, q, b); err != nil {
			return time.Time{}, err
		}
	}
	began := time.Now()
	wanted := make([]posting.Bid, len(found))
	for i := range found {
		row := &found[i]
		a := b.attempt(row)
		if a == nil || !open(a) {
			continue
		}
		wanted[i].AmountCents = row.BidAmountCents
		p := posting.Posting{
			Key: a.Key, CachedAt: row.CachedAt, Currency: row.Currency,
			BudgetMinCents: row.BudgetMinCents, BudgetMaxCents: row.BudgetMaxCents, Bid: &wanted[i],
		}
		if content, read := contents[a.Key]; read {
			p.Title, p.Description, p.URL, p.Pricing, p.Skills = content.Title, content.Description, content.URL, content.Pricing, content.Skills
			p.PostedAt, p.Deadline, p.Bid.PeriodDays = content.PostedAt, content.Deadline, content.BidPeriodDays
		}
		if newer := refreshed[a.Key]; newer.CachedAt.After(row.CachedAt) {
			p = newer
		}
		c.apply(ctx, a, p, b.amountCents, judgedAt)
	}
	b.evaluated = time.Since(began)
	return judgedAt, nil
}

// readContents reads what only the operator's own policy looks at, of the postings that nothing
// else stands against.
func (c *Claimer) readContents(ctx context.Context, q *queries.Queries, b *batch) (map[posting.Key]queries.PostingContentsRow, error) {
	marketplaces, jobIDs := keyArrays(b.attempts, open)
	rows, err := q.PostingContents(ctx, c.rules.Reads.Description, marketplaces, jobIDs)
	if err != nil {
		return nil, fmt.Errorf("read %d postings: %w", len(jobIDs), err)
	}
	contents := make(map[posting.Key]queries.PostingContentsRow, len(rows))
	for _, row := range rows {
		contents[posting.Key{Marketplace: row.Marketplace, JobID: row.JobID}] = row
	}
	return contents, nil
}

func (c *Claimer) apply(ctx context.Context, a *Attempt, p posting.Posting, amountCents *int64, now time.Time) {
	if amountCents != nil {
		var bid posting.Bid
		if p.Bid != nil {
			bid = *p.Bid
		}
		bid.AmountCents = amountCents
		p.Bid = &bid
	}
	decision := c.rules.Policy(ctx, p, now)
	a.AmountCents, a.needsApproval = decision.AmountCents, decision.NeedsApproval
	a.Rule, a.Err = decision.Rule, decision.Err
	a.Outcome = Claimed
	if decision.Refused != "" {
		a.Outcome, a.Detail = Ineligible, decision.Refused
	}
}
