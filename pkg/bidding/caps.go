package bidding

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// Caps bound what an account may do at a marketplace; nil is no bound. Every claim counts,
// whatever became of its bid: withdrawn and rejected bids stay with the day of their claim.
type Caps struct {
	// BidsPerDay bounds the bids of a day.
	BidsPerDay *int64
	// MoneyPerDayCents bounds the sum of a day's bids in hundredths, each currency by itself.
	MoneyPerDayCents *int64
	// LiveBids bounds the bids that are live at once.
	LiveBids *int64
	// Zone is the time zone whose midnight begins a day, by its IANA name; "" is UTC. The
	// database's clock and its knowledge of zones decide.
	Zone string
}

// Details of Ineligible where a cap leaves no room for the bid. A pass leaves the candidate
// in the queue until there may be room again, unless it will be stale by then.
const (
	// DetailCapBidsPerDay: as many bids as bids_per_day were made today.
	DetailCapBidsPerDay = "cap_bids_per_day"
	// DetailCapMoneyPerDay: with this bid, today's would come to more than money_per_day.
	DetailCapMoneyPerDay = "cap_money_per_day"
	// DetailCapLiveBids: as many bids as live_bids are live.
	DetailCapLiveBids = "cap_live_bids"
)

// The caps, as the table spending names them.
const (
	bidsPerDay  = "bids_per_day"
	moneyPerDay = "money_per_day"
	liveBids    = "live_bids"
)

// DefaultAccount is the account that bids at every marketplace.
const DefaultAccount = "default"

// livePause is how long a candidate is left alone that met as many live bids as allowed:
// nobody knows when one of them ends.
const livePause = time.Minute

const (
	// maxShares is how many claims can take from a cap at once without waiting.
	maxShares = 64
	// shareBids is how many bids of the usual amount a share must hold: two full batches.
	// Where less is left than for two shares, each claim takes from the whole.
	shareBids = 128
)

// meter is one cap of an account: what the table spending counts.
type meter struct {
	marketplace, account, cap, currency string
	zone                                string
	limit                               int64
}

// meters are the caps that a bid takes from, in the order in which they are told.
func (c Caps) meters(marketplace, currency string) []meter {
	var meters []meter
	add := func(name, currency string, limit *int64) {
		if limit != nil {
			meters = append(meters, meter{marketplace, DefaultAccount, name, currency, cmp.Or(c.Zone, "UTC"), *limit})
		}
	}
	add(bidsPerDay, "", c.BidsPerDay)
	add(moneyPerDay, currency, c.MoneyPerDayCents)
	add(liveBids, "", c.LiveBids)
	return meters
}

// metersOf are the caps that the attempt's bid takes from.
func (c *Claimer) metersOf(a *Attempt) []meter {
	if c.rules.Caps == nil || a.Outcome != Claimed {
		return nil
	}
	return c.rules.Caps(a.Key.Marketplace).meters(a.Key.Marketplace, a.Currency)
}

// takes is how much of the cap the attempt's bid takes.
func (m meter) takes(a *Attempt) int64 {
	if m.cap == moneyPerDay {
		return a.AmountCents
	}
	return 1
}

// need is what the bids of a batch take of one cap.
type need struct {
	bids   int64
	amount int64
}

// needs are the caps that the claims of b take from.
func (c *Claimer) needs(b *batch) map[meter]need {
	if c.rules.Caps == nil {
		return nil
	}
	// Most claims of a batch share their caps, so that they are added up before these are asked for.
	type kind struct{ marketplace, currency string }
	claims := make(map[kind]need)
	for i := range b.attempts {
		if a := &b.attempts[i]; a.Outcome == Claimed {
			k := kind{a.Key.Marketplace, a.Currency}
			n := claims[k]
			claims[k] = need{n.bids + 1, n.amount + a.AmountCents}
		}
	}
	needs := make(map[meter]need)
	for k, claimed := range claims {
		for _, m := range c.rules.Caps(k.marketplace).meters(k.marketplace, k.currency) {
			n, amount := needs[m], claimed.bids
			if m.cap == moneyPerDay {
				amount = claimed.amount
			}
			needs[m] = need{n.bids + claimed.bids, n.amount + amount}
		}
	}
	return needs
}

// usage is what is used of a cap, and when its day ends.
type usage struct {
	used    int64
	dayEnds time.Time
}

// refuse makes the claims ineligible for which the caps leave no room, in the order of the
// batch. Caps that used does not name are left to others.
func (c *Claimer) refuse(b *batch, used map[meter]usage, judgedAt time.Time) {
	left := make(map[meter]int64, len(used))
	for m, u := range used {
		left[m] = m.limit - u.used
	}
	for i := range b.attempts {
		a := &b.attempts[i]
		meters := slices.DeleteFunc(c.metersOf(a), func(m meter) bool { _, known := used[m]; return !known })
		if full := slices.IndexFunc(meters, func(m meter) bool { return left[m] < m.takes(a) }); full >= 0 {
			a.hitCap(meters[full], used[meters[full]], judgedAt, c.rules.PostingTTL)
			continue
		}
		for _, m := range meters {
			left[m] -= m.takes(a)
		}
	}
}

// hitCap makes the attempt ineligible for now.
func (a *Attempt) hitCap(m meter, u usage, judgedAt time.Time, ttl time.Duration) {
	a.Outcome, a.Detail, a.Until = Ineligible, "cap_"+m.cap, u.dayEnds
	if m.cap == liveBids {
		a.Until = judgedAt.Add(livePause)
	}
	a.waits = !a.CachedAt.Before(a.Until.Add(-ttl)) // else it would only be found stale then
}

// cut is how what is left of a cap is cut into shares: none where that is too little.
func (m meter) cut(used int64, n need) (shares int32, size int64) {
	left := m.limit - used
	count := min(left/shareBids/max(n.amount/max(n.bids, 1), 1), maxShares)
	if count < 2 {
		return 0, 0
	}
	return int32(count), left / count
}

// sortedMeters are the caps in an order that does not change.
func sortedMeters[V any](of map[meter]V) []meter {
	return slices.SortedFunc(maps.Keys(of), func(x, y meter) int {
		return cmp.Or(cmp.Compare(x.marketplace, y.marketplace), cmp.Compare(x.account, y.account),
			cmp.Compare(x.cap, y.cap), cmp.Compare(x.currency, y.currency))
	})
}
