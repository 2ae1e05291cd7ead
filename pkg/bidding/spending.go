package bidding

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/db/queries"
)

var (
	// errOverspent: no free share of a cap had enough for the batch. It decides again, exactly.
	errOverspent = errors.New("no share of a cap has room for the batch")
	// errCapsBusy: others decided exactly on the same caps for the whole lock time-out.
	errCapsBusy = errors.New("the caps are locked by other claims")
)

// spending is what a claim transaction has to do with caps.
type spending struct {
	exact  map[meter]usage // locked as a whole: nobody else takes from them until the end
	needs  map[meter]need  // of those, when they were locked
	shares []meter         // what is inserted is taken from a share of each of these
	cuts   map[meter]int32 // what was locked, and into how many shares it was cut
	// deciding: no other worker of this claimer decides exactly until the end.
	deciding bool
}

// spend decides which claims of b the caps leave room for. Where a cap is known to be far
// from reached the insert takes from a share of it, and nothing is asked here. Otherwise
// first what is committed is read: what that refuses is refused for certain, because
// spending only grows (live bids may end, and are tried again soon). Only for the rest the
// caps are locked.
func (c *Claimer) spend(ctx context.Context, q *queries.Queries, b *batch) error {
	needs := c.needs(b)
	if len(needs) == 0 {
		return nil
	}
	known, tight := c.tight(needs, b.exact)
	if len(known) > 0 {
		used, err := readSpending(ctx, q, known, b.judgedAt, remembered)
		if err != nil {
			return err
		}
		c.refuse(b, used, b.judgedAt)
		needs = c.needs(b)
		_, tight = c.tight(needs, b.exact)
	}
	if len(tight) > 0 {
		var err error
		if tight, err = c.decideExactly(ctx, q, b, needs); err != nil {
			return err
		}
	}
	for _, m := range sortedMeters(c.needs(b)) {
		if _, exact := tight[m]; !exact {
			b.spending.shares = append(b.spending.shares, m)
		}
	}
	return nil
}

// tight are the needed caps that no shares are known of: those that this claimer has
// counted before, and all of them, by whether they must be counted.
func (c *Claimer) tight(needs map[meter]need, exact bool) (counted []meter, all map[meter]bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	all = make(map[meter]bool)
	for _, m := range sortedMeters(needs) {
		shares, known := c.cuts[m]
		if shares > 0 && !exact {
			continue
		}
		all[m] = !known
		if known {
			counted = append(counted, m)
		}
	}
	return counted, all
}

// decideExactly waits until no other worker of this claimer decides exactly: one of them is
// enough to wait for other pods, and the shares that it cuts may spare the others that. It
// returns the caps that it has locked after all; they stay so until the transaction ends.
func (c *Claimer) decideExactly(ctx context.Context, q *queries.Queries, b *batch, needs map[meter]need) (map[meter]bool, error) {
	c.after("tight")
	select {
	case c.deciding <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for another worker: %w", ctx.Err())
	}
	_, tight := c.tight(needs, b.exact)
	if len(tight) == 0 {
		<-c.deciding
		return tight, nil
	}
	b.spending.deciding = true
	if err := c.lockSpending(ctx, q, b, tight, needs); err != nil {
		return nil, err
	}
	c.after("spending locked")
	return tight, nil
}

// letDecide lets the other workers decide exactly, where b kept them from it.
func (c *Claimer) letDecide(b *batch) {
	if b.spending.deciding {
		b.spending.deciding = false
		<-c.deciding
	}
}

// lockSpending takes caps as a whole and refuses what they leave no room for. The first
// time that a claimer meets a cap it counts the bids: the cap may be new, or have been
// lifted for a while.
func (c *Claimer) lockSpending(
	ctx context.Context, q *queries.Queries, b *batch, tight map[meter]bool, needs map[meter]need,
) error {
	meters := sortedMeters(tight)
	p := capArrays(meters)
	err := q.LockSpending(ctx, queries.LockSpendingParams{
		Now: b.judgedAt, Marketplaces: p.marketplaces, Accounts: p.accounts, Caps: p.caps, Currencies: p.currencies, Zones: p.zones,
	})
	if err == nil {
		_, err = q.LockShares(ctx, queries.LockSharesParams{
			Now: b.judgedAt, Marketplaces: p.marketplaces, Accounts: p.accounts, Caps: p.caps, Currencies: p.currencies, Zones: p.zones,
		})
	}
	if err != nil {
		// All that these do is wait: for one lock too long, or for several in a row.
		if code := db.Code(err); code == db.CodeLockNotAvailable || code == db.CodeQueryCanceled {
			err = fmt.Errorf("%w: %w", errCapsBusy, err)
		}
		return fmt.Errorf("lock %d caps: %w", len(meters), err)
	}
	used, err := readSpending(ctx, q, meters, b.judgedAt, func(m meter) bool { return tight[m] })
	if err != nil {
		return err
	}
	b.spending.exact, b.spending.needs = used, needs
	c.refuse(b, used, b.judgedAt)
	return nil
}

// What is used of a cap is what the last cut says and what was taken since, or counted anew.
func remembered(meter) bool { return false }
func recounted(meter) bool  { return true }

// readSpending reads what is used of caps at a time, or counts it from the bids where recount says so.
func readSpending(ctx context.Context, q *queries.Queries, meters []meter, at time.Time, recount func(meter) bool) (map[meter]usage, error) {
	used := make(map[meter]usage, len(meters))
	if len(meters) == 0 {
		return used, nil
	}
	p := capArrays(meters)
	recounts := make([]bool, len(meters))
	for i, m := range meters {
		recounts[i] = recount(m)
	}
	rows, err := q.ReadSpending(ctx, queries.ReadSpendingParams{
		Now: at, Marketplaces: p.marketplaces, Accounts: p.accounts, Caps: p.caps, Currencies: p.currencies, Zones: p.zones,
		Recounts: recounts,
	})
	if err != nil {
		return nil, fmt.Errorf("read what is used of %d caps: %w", len(meters), err)
	}
	for _, row := range rows {
		i := slices.IndexFunc(meters, func(m meter) bool {
			return m.marketplace == row.Marketplace && m.account == row.Account && m.cap == row.Cap && m.currency == row.Currency
		})
		used[meters[i]] = usage{row.Used, row.DayEnds}
	}
	return used, nil
}

// takeShares takes what was inserted from a free share of each cap that was not locked.
func (c *Claimer) takeShares(ctx context.Context, q *queries.Queries, b *batch) error {
	inserted := c.needs(b)
	meters := slices.DeleteFunc(slices.Clone(b.spending.shares), func(m meter) bool { return inserted[m].bids == 0 })
	if len(meters) == 0 {
		return nil
	}
	p := capArrays(meters)
	params := queries.TakeSharesParams{
		Now: b.judgedAt, Marketplaces: p.marketplaces, Accounts: p.accounts, Caps: p.caps, Currencies: p.currencies, Zones: p.zones,
		OfCaps: p.limits, FirstShares: c.firstShares(meters),
	}
	for _, m := range meters {
		params.Amounts = append(params.Amounts, inserted[m].amount)
	}
	taken, err := q.TakeShares(ctx, params)
	if err != nil {
		return fmt.Errorf("take shares of %d caps: %w", len(meters), err)
	}
	if taken < int64(len(meters)) {
		c.forgetShares(meters)
		return errOverspent
	}
	return nil
}

// cutSpending writes what is used of the locked caps after the insert, and cuts the rest.
func (c *Claimer) cutSpending(ctx context.Context, q *queries.Queries, b *batch) error {
	meters := sortedMeters(b.spending.exact)
	if len(meters) == 0 {
		return nil
	}
	inserted := c.needs(b)
	p := capArrays(meters)
	params := queries.CutSpendingParams{
		Now: b.judgedAt, Marketplaces: p.marketplaces, Accounts: p.accounts, Caps: p.caps, Currencies: p.currencies, Zones: p.zones, OfCaps: p.limits,
	}
	b.spending.cuts = make(map[meter]int32, len(meters))
	for _, m := range meters {
		used := b.spending.exact[m].used + inserted[m].amount
		shares, size := m.cut(used, b.spending.needs[m])
		params.Used = append(params.Used, used)
		params.Shares = append(params.Shares, shares)
		params.Sizes = append(params.Sizes, size)
		b.spending.cuts[m] = shares
	}
	if err := q.CutSpending(ctx, params); err != nil {
		return fmt.Errorf("record what is used of %d caps: %w", len(meters), err)
	}
	return nil
}

// remember keeps what a committed claim found out about caps. It only decides how the next
// claim goes about them, never what comes of it.
func (c *Claimer) remember(cuts map[meter]int32) {
	if len(cuts) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cuts == nil {
		c.cuts = make(map[meter]int32)
	}
	maps.Copy(c.cuts, cuts)
}

// forgetShares has the caps decided exactly next time.
func (c *Claimer) forgetShares(meters []meter) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range meters {
		c.cuts[m] = 0
	}
}

// firstShares are where a claim begins to look for a free share of each cap: somewhere in
// the first half, so that claims seldom want the same and each finds many.
func (c *Claimer) firstShares(meters []meter) []int32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	first := make([]int32, len(meters))
	for i, m := range meters {
		first[i] = 1 + rand.Int32N(max(c.cuts[m]/2, 1)) //nolint:gosec // no secret
	}
	return first
}

type capColumns struct {
	marketplaces, accounts, caps, currencies, zones []string
	limits                                          []int64
}

// capArrays are caps as the arrays that statements take.
func capArrays(meters []meter) capColumns {
	var p capColumns
	for _, m := range meters {
		p.marketplaces = append(p.marketplaces, m.marketplace)
		p.accounts = append(p.accounts, m.account)
		p.caps = append(p.caps, m.cap)
		p.currencies = append(p.currencies, m.currency)
		p.zones = append(p.zones, m.zone)
		p.limits = append(p.limits, m.limit)
	}
	return p
}

// CapUsage is what is used of one cap.
type CapUsage struct {
	Marketplace string `json:"marketplace"`
	Account     string `json:"account"`
	// Cap is bids_per_day, money_per_day or live_bids.
	Cap string `json:"cap"`
	// Currency is that of Used and Limit, in hundredths; empty where they are bids.
	Currency string `json:"currency"`
	Used     int64  `json:"used"`
	Limit    int64  `json:"limit"`
	// ResetsAt is when the day ends; nil for live bids.
	ResetsAt *time.Time `json:"resets_at"`
}

// ReadCaps reads what is used of the caps of a marketplace now, of money in each of the
// currencies: counted anew from the bids, or as claims have counted it, which costs less.
func ReadCaps(ctx context.Context, pool queries.DBTX, marketplace string, currencies []string, caps Caps, anew bool) ([]CapUsage, error) {
	used := make(map[meter]usage)
	for _, currency := range currencies {
		for _, m := range caps.meters(marketplace, currency) {
			used[m] = usage{}
		}
	}
	q := queries.New(pool)
	now, err := q.Now(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the database's clock: %w", err)
	}
	meters := sortedMeters(used)
	counting := remembered
	if anew {
		counting = recounted
	}
	if used, err = readSpending(ctx, q, meters, now, counting); err != nil {
		return nil, err
	}
	result := make([]CapUsage, len(meters))
	for i, m := range meters {
		result[i] = CapUsage{Marketplace: m.marketplace, Account: m.account, Cap: m.cap, Currency: m.currency, Used: used[m].used, Limit: m.limit}
		if m.cap != liveBids {
			result[i].ResetsAt = new(used[m].dayEnds)
		}
	}
	return result, nil
}
