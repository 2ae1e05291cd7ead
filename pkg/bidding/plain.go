package bidding

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/google/uuid"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/db/queries"
)

// Terms are all that a policy says where it is simple: the amount that the posting wants, else its
// client's budget, is bid as it stands if it lies within them.
type Terms struct {
	// MinCents and MaxCents bound the amount, both included; MinCents is above 0.
	MinCents, MaxCents int64
	// NeedsApproval means that a person must approve the bid before it is sent.
	NeedsApproval bool
}

// Terms are those of a marketplace, or false where postings of it are not decided so simply. Within
// them [Budget.Decide] comes to the same.
func (b Budget) Terms(marketplace string) (Terms, bool) {
	if b.SwitchedOff != nil && b.SwitchedOff(marketplace) {
		return Terms{}, false
	}
	if b.Expressions != nil {
		if eligible, amount := b.Expressions(marketplace); eligible != nil || amount != nil {
			return Terms{}, false
		}
	}
	terms := Terms{MinCents: 1, MaxCents: math.MaxInt64, NeedsApproval: b.NeedsApproval != nil && b.NeedsApproval(marketplace)}
	if b.MinCents != nil {
		terms.MinCents = max(terms.MinCents, *b.MinCents)
	}
	if b.MaxCents != nil {
		terms.MaxCents = *b.MaxCents
	}
	return terms, true
}

const (
	// maxTerms is how many marketplaces' terms are sent with a batch.
	maxTerms = 64
	// judgedBatches is how many batches a worker judges, after one of which less than half was plain,
	// before it tries again whether they are.
	judgedBatches = 16
)

// errNotPlain means that a batch must be judged after all: a bid was inserted on a candidate that is left
// to another worker, or a writer that takes no locks was faster at one.
var errNotPlain = errors.New("not as plain as it looked")

// knownTerms are the terms of the marketplaces that a claimer has met, as the arrays that InsertPlain takes.
type knownTerms struct {
	met          map[string]bool
	marketplaces []string
	minCents     []int64
	maxCents     []int64
	needApproval []bool
}

// meet learns the terms of marketplaces, for the batches to come.
func (c *Claimer) meet(marketplaces []string) {
	if c.rules.Terms == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, marketplace := range marketplaces {
		if c.terms.met[marketplace] || len(c.terms.marketplaces) == maxTerms {
			continue
		}
		if c.terms.met == nil {
			c.terms.met = make(map[string]bool)
		}
		c.terms.met[marketplace] = true
		if c.rules.Caps != nil && len(c.rules.Caps(marketplace).meters(marketplace, "")) > 0 {
			continue
		}
		if terms, simple := c.rules.Terms(marketplace); simple {
			c.terms.marketplaces = append(c.terms.marketplaces, marketplace)
			c.terms.minCents = append(c.terms.minCents, terms.MinCents)
			c.terms.maxCents = append(c.terms.maxCents, terms.MaxCents)
			c.terms.needApproval = append(c.terms.needApproval, terms.NeedsApproval)
		}
	}
}

// marketplaces are those of the attempts, which are in key order.
func (b *batch) marketplaces() (met []string) {
	for i := range b.attempts {
		if marketplace := b.attempts[i].Key.Marketplace; len(met) == 0 || met[len(met)-1] != marketplace {
			met = append(met, marketplace)
		}
	}
	return met
}

// plain is the claim of what is plain of n candidates, or nil where nothing can be.
func (c *Claimer) plain(n int) *queries.InsertPlainParams {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.terms.marketplaces) == 0 {
		return nil
	}
	params := &queries.InsertPlainParams{
		RunID: c.runID, Now: c.now, PostingTTL: c.rules.PostingTTL, IDs: make([]uuid.UUID, n),
		Marketplaces: c.terms.marketplaces, MinAmounts: c.terms.minCents, MaxAmounts: c.terms.maxCents, NeedApproval: c.terms.needApproval,
	}
	for i := range params.IDs {
		params.IDs[i] = uuid.Must(uuid.NewV7()) // ordered by time: random ids cost a page image each
	}
	return params
}

// insertPlain claims what is plain of the candidates that the statement before it has taken.
func (b *batch) insertPlain(ctx context.Context, q *queries.Queries) error {
	next := 0
	var row queries.InsertPlainRow
	err := queries.InsertPlainEach(ctx, q, b.plain, &row, func() error {
		for next < len(b.attempts) && !b.isFor(row.ID, next) { // both are in key order
			next++
		}
		if next == len(b.attempts) {
			return errNotPlain
		}
		b.inserted++
		a := &b.attempts[next]
		a.Outcome, a.BidID, a.AmountCents, a.Currency, a.CachedAt = Claimed, row.ID, row.AmountCents, row.Currency, row.CachedAt
		return nil
	})
	switch {
	case db.Code(err) == db.CodeUniqueViolation:
		return fmt.Errorf("%w: %w", errNotPlain, err)
	case err != nil && !errors.Is(err, errNotPlain):
		return fmt.Errorf("insert plain bids: %w", err)
	}
	return err
}

// isFor says whether a bid with that id would be that attempt's.
func (b *batch) isFor(id uuid.UUID, attempt int) bool {
	number := b.numbers[attempt]
	return number >= 0 && b.plain.IDs[number] == id
}
