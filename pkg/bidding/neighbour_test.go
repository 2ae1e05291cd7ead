package bidding

import (
	"errors"
	"strings"
	"testing"

	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/posting"
	"github.com/arbitrageai/bidder/test/testdb"
)

// TestNeighbours makes sure that no look-up forgets a part of the key.
func TestNeighbours(t *testing.T) {
	t.Parallel()
	if err := scenarioNeighbours(t, setup(t)); err != nil {
		t.Error(err)
	}
}

// scenarioNeighbours has something happen to one posting, and looks at those that share a
// part of its key.
func scenarioNeighbours(t *testing.T, f *fixture) error {
	t.Helper()
	own := func(id string) posting.Key { return posting.Key{Marketplace: "guru", JobID: id} }
	neighbours := func(id string) []posting.Key {
		return []posting.Key{{Marketplace: "guru", JobID: id + " too"}, {Marketplace: "upwork", JobID: id}}
	}
	c := f.claimer(at(noon()))
	var errs []error
	byHand := func(wanted string, keys ...posting.Key) {
		for _, key := range keys {
			a, err := c.Attempt(t.Context(), key, AttemptOptions{})
			errs = append(errs, err, differ("attempt "+key.String(), verdict(a), wanted))
		}
	}

	f.cache(t, noon(), own("cached"))
	byHand("unknown", neighbours("cached")...)

	f.cache(t, noon(), append(neighbours("live"), own("live"))...)
	f.insert(t, own("live"), bid{status: "ACTIVE"})
	byHand("claimed", neighbours("live")...)

	f.cache(t, noon(), append(neighbours("lost"), own("lost"))...)
	f.insert(t, own("lost"), bid{status: "LOST"})
	byHand("claimed", neighbours("lost")...)

	f.cache(t, noon(), append(neighbours("recent"), own("recent"))...)
	f.insert(t, own("recent"), bid{status: "WITHDRAWN", created: noon(), withdrawn: noon()})
	byHand("recent", own("recent"))
	byHand("claimed", neighbours("recent")...)

	// A decision takes its own candidate off the queue, and no other.
	f.exec(t, "DELETE FROM candidates")
	f.cache(t, noon(), append(neighbours("queued"), own("queued"))...)
	byHand("claimed", own("queued"))
	errs = append(errs, differ("candidates left", f.count(t, "candidates"), 2))

	// Each bid takes the content of its own posting, of those with the same time.
	keys := append(neighbours("content"), own("content"))
	f.cache(t, noon(), keys...)
	for i, key := range keys {
		f.exec(t, "UPDATE postings SET bid_proposal = $1, currency = $2 WHERE marketplace = $3 AND job_id = $4",
			key.String(), []string{"EUR", "GBP", "INR"}[i], key.Marketplace, key.JobID)
	}
	_, err := tryPass(t.Context(), c, PassOptions{})
	return errors.Join(append(errs, err, differ("proposals of their own postings",
		f.count(t, "bids WHERE proposal = marketplace || ' ' || job_id AND currency <> 'USD'"), len(keys)))...)
}

// TestPlans: look-ups stay on their indexes, however small the tables are.
func TestPlans(t *testing.T) {
	t.Parallel()
	if err := scenarioPlans(t, setup(t)); err != nil {
		t.Error(err)
	}
}

func scenarioPlans(t *testing.T, f *fixture) error {
	t.Helper()
	return f.planned(t, map[string]int{"postings_pkey": 1, "bids_one_active_per_posting": 1, "bids_history": 1, "Seq Scan": 0},
		queries.Judge, true, rebidWindow, postingTTL, noon(), []int32{0}, []string{"guru"}, []string{"1"}, nil, false)
}

// planned says what is wrong with the plan of a statement of a claim, by how often it has some texts.
func (f *fixture) planned(t *testing.T, wanted map[string]int, sql string, args ...any) error {
	t.Helper()
	if f.rewrite != nil {
		sql = f.rewrite(sql)
	}
	plan, err := testdb.Plan(t.Context(), f.direct, f.claimer().limited(), sql, args...)
	got := map[string]int{}
	for text := range wanted {
		got[text] = strings.Count(plan, text)
	}
	return errors.Join(err, differ("how often the plan has it\n"+plan, got, wanted))
}
