package bidding

import (
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/arbitrageai/bidder/pkg/posting"
)

// boundary is about times, to the microsecond, and about which of several bids counts.
type boundary struct {
	name     string
	age      time.Duration // of the posting
	bids     []bid
	inPass   string
	byHand   string
	uncached bool
}

func ago(d time.Duration) time.Time { return noon().Add(-d) }

func boundaries() []boundary {
	const tick = time.Microsecond
	long := ago(30 * 24 * time.Hour)
	// withdrawn long ago, so that nothing but the one time under test can be recent
	past := func(change func(*bid)) []bid {
		b := bid{status: "WITHDRAWN", created: long, submitted: long, lastPost: long, withdrawn: long}
		change(&b)
		return []bid{b}
	}
	low, high := uuid.MustParse("00000000-0000-7000-8000-000000000001"), uuid.MustParse("00000000-0000-7000-8000-000000000002")

	return []boundary{
		{name: "not cached", uncached: true, inPass: "unknown", byHand: "unknown"},
		{name: "fresh to the last microsecond", age: postingTTL, inPass: "claimed", byHand: "claimed"},
		{name: "stale a microsecond later", age: postingTTL + tick, inPass: "stale", byHand: "stale"},
		{name: "stale after 25 h", age: 25 * time.Hour, inPass: "stale", byHand: "stale"},
		{name: "seen in the future", age: -time.Minute, inPass: "claimed", byHand: "claimed"},

		{name: "created a window ago", bids: past(func(b *bid) { b.created = ago(rebidWindow) }), inPass: "closed withdrawn", byHand: "claimed"},
		{name: "created just within", bids: past(func(b *bid) { b.created = ago(rebidWindow - tick) }), inPass: "closed withdrawn", byHand: "recent"},
		{name: "submitted a window ago", bids: past(func(b *bid) { b.submitted = ago(rebidWindow) }), inPass: "closed withdrawn", byHand: "claimed"},
		{name: "submitted just within", bids: past(func(b *bid) { b.submitted = ago(rebidWindow - tick) }), inPass: "closed withdrawn", byHand: "recent"},
		{name: "posted a window ago", bids: past(func(b *bid) { b.lastPost = ago(rebidWindow) }), inPass: "closed withdrawn", byHand: "claimed"},
		{name: "posted just within", bids: past(func(b *bid) { b.lastPost = ago(rebidWindow - tick) }), inPass: "closed withdrawn", byHand: "recent"},
		{name: "withdrawn a window ago", bids: past(func(b *bid) { b.withdrawn = ago(rebidWindow) }), inPass: "closed withdrawn", byHand: "claimed"},
		{name: "withdrawn just within", bids: past(func(b *bid) { b.withdrawn = ago(rebidWindow - tick) }), inPass: "closed withdrawn", byHand: "recent"},
		{name: "never sent", bids: []bid{{status: "WITHDRAWN", created: long, withdrawn: long}}, inPass: "closed withdrawn", byHand: "claimed"},
		{
			name: "recent by an older bid",
			bids: []bid{
				{status: "LOST", created: ago(2 * time.Hour), submitted: ago(time.Minute)},
				{status: "WITHDRAWN", created: ago(time.Hour), withdrawn: ago(time.Hour)},
			},
			inPass: "closed withdrawn", byHand: "recent",
		},

		{name: "live", bids: []bid{{status: "ACTIVE", created: long}}, inPass: "duplicate", byHand: "duplicate"},
		{name: "won", bids: []bid{{status: "WON", created: long}}, inPass: "closed won", byHand: "closed won"},
		{name: "lost", bids: []bid{{status: "LOST", created: long}}, inPass: "closed lost", byHand: "closed lost"},
		{name: "rejected", bids: []bid{{status: "REJECTED", created: long}}, inPass: "closed rejected", byHand: "closed rejected"},
		{
			name:   "lost, then withdrawn",
			bids:   []bid{{status: "LOST", created: ago(2 * time.Hour)}, {status: "WITHDRAWN", created: ago(time.Hour), withdrawn: ago(time.Hour)}},
			inPass: "closed withdrawn", byHand: "claimed",
		},
		{
			name:   "withdrawn, then lost",
			bids:   []bid{{status: "WITHDRAWN", created: ago(2 * time.Hour), withdrawn: ago(2 * time.Hour)}, {status: "LOST", created: ago(time.Hour)}},
			inPass: "closed lost", byHand: "closed lost",
		},
		{
			name:   "of the same time, the greater id is newer",
			bids:   []bid{{status: "LOST", created: long, id: low}, {status: "WITHDRAWN", created: long, withdrawn: long, id: high}},
			inPass: "closed withdrawn", byHand: "claimed",
		},
		{
			name:   "a duplicate does not hide how the bid ended",
			bids:   []bid{{status: "LOST", created: ago(2 * time.Hour)}, {status: "DUPLICATE", created: ago(time.Hour)}},
			inPass: "closed lost", byHand: "closed lost",
		},
		{
			name: "a duplicate closes nothing and is not recent", bids: []bid{{status: "DUPLICATE", created: ago(time.Minute)}},
			inPass: "claimed", byHand: "claimed",
		},
	}
}

func TestBoundaries(t *testing.T) {
	t.Parallel()
	if err := scenarioBoundaries(t, setup(t)); err != nil {
		t.Error(err)
	}
}

// scenarioBoundaries has all of them in one database, for passes, by hand and previewed.
func scenarioBoundaries(t *testing.T, f *fixture) error {
	t.Helper()
	byHand := func(name string) posting.Key { return posting.Key{Marketplace: "freelancer", JobID: name} }
	inPass := func(name string) posting.Key { return posting.Key{Marketplace: "guru", JobID: name} }
	wanted := map[posting.Key]string{}
	for _, b := range boundaries() {
		f.cache(t, noon().Add(-b.age), byHand(b.name), inPass(b.name))
		if b.uncached {
			f.exec(t, "DELETE FROM postings WHERE job_id = $1", b.name)
		}
		for _, row := range b.bids {
			f.insert(t, byHand(b.name), row)
			if row.id != uuid.Nil {
				row.id[0]++ // the order stays
			}
			f.insert(t, inPass(b.name), row)
		}
		wanted[byHand(b.name)], wanted[inPass(b.name)] = b.byHand, b.inPass
	}
	f.exec(t, "DELETE FROM candidates WHERE marketplace = 'freelancer'")

	c := f.claimer(at(noon()))
	var errs []error
	check := func(how string, a Attempt) {
		errs = append(errs, differ(how+" "+a.Key.String(), verdict(a), wanted[a.Key]))
	}
	for _, b := range boundaries() {
		errs = append(errs, c.previewBoundary(t, byHand(b.name), false, check), c.previewBoundary(t, inPass(b.name), true, check))
		a, err := c.Attempt(t.Context(), byHand(b.name), AttemptOptions{})
		errs = append(errs, err)
		check("by hand", a)
		if !b.uncached {
			errs = append(errs, differ("content of "+b.name, a.CachedAt, noon().Add(-b.age)))
		}
	}
	attempts, err := tryPass(t.Context(), c, PassOptions{Batch: 1000})
	for _, a := range attempts {
		check("pass", a)
	}
	return errors.Join(append(errs, err, differ("attempts of the pass", len(attempts), len(boundaries())))...)
}

func (c *Claimer) previewBoundary(t *testing.T, key posting.Key, pass bool, check func(string, Attempt)) error {
	t.Helper()
	previews, err := c.tryPreview(t.Context(), []posting.Key{key}, PreviewOptions{Pass: pass})
	for _, a := range previews {
		check("preview", a)
	}
	return err
}
