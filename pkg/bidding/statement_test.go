package bidding

import (
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/posting"
)

// TestStatementFails breaks each statement of a claim in turn: nothing is half done.
func TestStatementFails(t *testing.T) {
	t.Parallel()

	tests := []struct {
		name   string
		broken string
		old    string // "FROM" unless said otherwise
		wrong  string // in its place
		code   string // of the error
		byHand string // on a posting where somebody else's bid appears in between
		inPass string // on that, on a free one, and on one whose lock is held
		tries  int    // candidates that were put back
	}{
		{
			// With an error in its grammar it would not even be sent, and nothing with it.
			name: "Judge", broken: queries.Judge, old: "ELSE ''", wrong: "ELSE (1 / (k.number - k.number))::text", code: "22012",
			byHand: "failed database_error", inPass: "failed database_error, failed database_error, failed database_error", tries: 3,
		},
		{name: "InsertBids", broken: queries.InsertBids, byHand: "failed database_error", inPass: "duplicate, failed database_error, locked", tries: 1},
		{name: "DropTaken", broken: queries.DropTaken, byHand: "duplicate", inPass: "duplicate, claimed, locked"},
		{name: "DropCandidates", broken: queries.DropCandidates, byHand: "failed database_error", inPass: "duplicate, claimed, locked"},
		{name: "FindBidsByID", broken: queries.FindBidsByID, byHand: "failed database_error", inPass: "duplicate, claimed, locked"},
		{name: "FindLiveBids", broken: queries.FindLiveBids, byHand: "failed database_error", inPass: "duplicate, claimed, locked"},
		{name: "InsertDuplicates", broken: queries.InsertDuplicates, byHand: "failed database_error", inPass: "duplicate, claimed, locked"},
		{name: "PostponeCandidates", broken: queries.PostponeCandidates, byHand: "duplicate", inPass: "duplicate, claimed, failed database_error", tries: 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if tt.old == "" {
				tt.old, tt.wrong, tt.code = "FROM", "FORM", "42601"
			}
			f := setup(t)
			keys := jobs(3)
			f.cacheNow(t, append(keys, job("by hand"))...)
			f.exec(t, "DELETE FROM candidates WHERE job_id = 'by hand'")
			release := f.hold(t, keys[2])
			f.rewrite = func(sql string) string {
				if sql == tt.broken {
					return strings.Replace(sql, tt.old, tt.wrong, 1)
				}
				return sql
			}

			a := attempt(t, f.claimer(once("judged", func() { f.exec(t, insertLive, "upwork", "by hand") })), job("by hand"), AttemptOptions{})
			want(t, "by hand", verdict(a), tt.byHand)
			if a.Outcome == Failed {
				want(t, "cause", db.Code(a.Err), tt.code)
			}
			made := pass(t, f.claimer(once("judged", func() { f.exec(t, insertLive, keys[0].Marketplace, keys[0].JobID) })), PassOptions{})
			want(t, "in a pass", strings.Join(verdicts(made), ", "), tt.inPass)
			want(t, "put back", f.count(t, "candidates WHERE tries = 1"), tt.tries)
			f.tally(t, append(made, a)...)
			release()
		})
	}
}

// TestDropFails: the queue cannot be told that the posting was decided by somebody else.
func TestDropFails(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.cacheNow(t, job("1"))
	f.rewrite = func(sql string) string {
		if sql == queries.DropCandidates {
			return "broken"
		}
		return sql
	}
	a := attempt(t, f.claimer(once("judged", func() { f.exec(t, insertLive, "upwork", "1") })), job("1"), AttemptOptions{})
	want(t, "outcome", verdict(a), "failed database_error")
	want(t, "existing bid", a.ExistingBidID.String(), "00000000-0000-0000-0000-000000000000")
	want(t, "still queued", f.queued(t, job("1")), true)
}

// TestLookUpFails: as long as nobody can say what became of the COMMIT, it is not known.
func TestLookUpFails(t *testing.T) {
	t.Parallel()
	f, proxy := setupProxy(t)
	f.limits.Wait = time.Second
	f.cacheNow(t, job("1"))
	asked := 0
	f.rewrite = func(sql string) string {
		if sql == queries.FindBidsByID {
			asked++
			return "broken"
		}
		return sql
	}
	dropped := proxy.DropAnswerTo(commit)
	a := attempt(t, f.claimer(), job("1"), AttemptOptions{})
	<-dropped
	want(t, "outcome", verdict(a), "failed commit_unknown")
	want(t, "the bid", a.BidID.String(), read[string](t, f, "SELECT id::text FROM bids"))
	want(t, "asked again", asked > 1, true)
}

func TestPreviewFails(t *testing.T) {
	t.Parallel()
	f := setup(t)
	err := db.ReadOnly(t.Context(), f.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(t.Context(), "broken"); err == nil {
			t.Error("it is not")
		}
		_, err := f.claimer().Preview(t.Context(), tx, jobs(1), PreviewOptions{})
		return err
	})
	want(t, "error", db.Code(err), "25P02")
}

// TestContentsFail: the policy cannot be asked without what it looks at.
func TestContentsFail(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.cacheNow(t, job("1"))
	f.rules.Reads.Content = true
	f.rewrite = func(sql string) string { return strings.Replace(sql, "-- name: PostingContents", "broken", 1) }
	_, err := f.claimer().tryPreview(t.Context(), []posting.Key{job("1")}, PreviewOptions{})
	want(t, "preview", db.Code(err), "42601")
	made := pass(t, f.claimer(), PassOptions{})
	want(t, "outcomes", verdicts(made), []string{"failed database_error"})
	want(t, "bids", f.count(t, "bids"), 0)
	f.tally(t, made...)
}
