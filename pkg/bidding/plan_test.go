package bidding

import (
	"errors"
	"os"
	"regexp"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/posting"
)

// TestGenericPlans runs every statement of a claim often enough to get a generic plan,
// which fails where ON CONFLICT names its index by a parameter, and makes sure that it got
// no other: the plans of a claim must not depend on what was cached when tables were tiny.
func TestGenericPlans(t *testing.T) {
	t.Parallel()
	const times = 7
	f := setupDirect(t)
	f.pool = openPool(t, f.DirectURL, 1) // so that all is prepared in one session
	c := f.claimer()
	f.rules.Terms = Budget{}.Terms
	plain := f.claimer()
	locker := f.locker()
	keys := jobs(3)
	release := f.hold(t, keys[2])
	for range times {
		f.exec(t, "DELETE FROM candidates")
		f.exec(t, "UPDATE bids SET status = 'LOST', delivery_kind = NULL, delivery_state = NULL, next_attempt_at = NULL WHERE status = 'ACTIVE'")
		f.exec(t, "DELETE FROM bids")
		f.exec(t, "DELETE FROM postings")
		f.cacheNow(t, keys...)

		between := once("judged", func() { f.exec(t, insertLive, keys[0].Marketplace, keys[0].JobID) })
		want(t, "by hand", verdict(attempt(t, f.claimer(between), keys[0], AttemptOptions{})), "duplicate")
		want(t, "pass", outcomes(pass(t, c, PassOptions{})), map[Outcome]int{Claimed: 1, Locked: 1})
		f.cacheNow(t, job("plain"))
		want(t, "plain pass", outcomes(pass(t, plain, PassOptions{})), map[Outcome]int{Claimed: 1})
		// Not by a failing statement: the driver forgets those.
		if err := c.failCandidates(t.Context(), &batch{pass: &passing{}, attempts: []Attempt{{Key: keys[2]}}}, errors.New("as arranged")); err != nil {
			t.Error(err)
		}
		if err := c.lookUp(t.Context(), map[posting.Key]*Attempt{keys[1]: {Key: keys[1], BidID: uuid.New()}}); err != nil {
			t.Error(err)
		}
		lock, err := locker.Acquire(t.Context(), "upwork", "1", 0)
		if err != nil {
			t.Fatal(err)
		}
		want(t, "release", lock.Release(t.Context()), nil)

		err = db.InTx(t.Context(), f.pool, c.limited(), func(tx *db.Tx) error {
			q := queries.New(tx)
			if _, err := q.ReconsiderPostings(t.Context(), queries.ReconsiderPostingsParams{PostingTTL: postingTTL, Page: 10}); err != nil {
				return err
			}
			if _, err := q.PostingContents(t.Context(), false, []string{keys[0].Marketplace}, []string{keys[0].JobID}); err != nil {
				return err
			}
			_, err := q.DueCandidates(t.Context(), queries.DueCandidatesParams{PostingTTL: postingTTL, Reconsider: true, Page: 10})
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
	release()

	rows, err := f.pool.Query(t.Context(), "SELECT statement, generic_plans FROM pg_prepared_statements WHERE custom_plans = 0")
	if err != nil {
		t.Fatal(err)
	}
	plans := map[string]int64{}
	var (
		statement string
		generic   int64
	)
	if _, err := pgx.ForEachRow(rows, []any{&statement, &generic}, func() error {
		plans[queryName(statement)] = generic
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("../../db/queries/claim.sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, match := range regexp.MustCompile(`-- name: (\w+)`).FindAllStringSubmatch(string(source), -1) {
		if n := plans[match[1]]; n < times {
			t.Errorf("%s ran %d times with a generic plan, want %d", match[1], n, times)
		}
	}
	if n := plans["LimitRemainingLife"]; n < times {
		t.Errorf("LimitRemainingLife ran %d times with a generic plan, want %d", n, times)
	}
}

func queryName(statement string) string {
	match := regexp.MustCompile(`-- name: (\w+)`).FindStringSubmatch(statement)
	if match == nil {
		return ""
	}
	return match[1]
}
