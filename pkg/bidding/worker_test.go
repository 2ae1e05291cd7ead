package bidding

import (
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/test/messages"
)

// TestMessages: one more batch costs one more message where all is plain, and two where it is judged.
func TestMessages(t *testing.T) {
	t.Parallel()
	for name, terms := range map[string]func(string) (Terms, bool){"plain": Budget{}.Terms, "judged": nil} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			f.rules.Terms = terms
			sent := &messages.Counter{}
			pool, err := sent.Pool(t.Context(), f.pool, 1)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(pool.Close)
			f.pool = pool
			all, costs := jobs(30), map[int]int64{}
			for _, batches := range []int{3, 5, 6} {
				keys := all[:2*batches]
				all = all[2*batches:]
				f.cacheNow(t, keys...)
				before := sent.Sent()
				want(t, "outcomes", outcomes(pass(t, f.claimer(), PassOptions{Batch: 2})), map[Outcome]int{Claimed: len(keys)})
				costs[batches] = sent.Sent() - before
			}
			more := int64(1)
			if terms == nil {
				more = 2
			}
			want(t, "for one more", costs[6]-costs[5], more)
			want(t, "for two more", costs[5]-costs[3], 2*more)
		})
	}
}

// TestReports: a worker reports after so many batches, when it holds nothing that a slow listener would
// keep from others.
func TestReports(t *testing.T) {
	t.Parallel()
	f := setup(t)
	keys := jobs(2*chained + 3)
	f.cacheNow(t, keys...)
	reported, late := 0, 0
	made := pass(t, f.claimer(), PassOptions{Batch: 1, Observe: func(attempts []Attempt) {
		want(t, "whether it says how long that took", attempts[0].Took > 0, true)
		decided := len(keys) - f.count(t, "candidates")
		late = max(late, decided-reported)
		reported += len(attempts)
		want(t, "open transactions", f.count(t, `pg_stat_activity WHERE datname = current_database()
			AND pid <> pg_backend_pid() AND state LIKE 'idle in transaction%'`), 0)
	}})
	want(t, "outcomes", outcomes(made), map[Outcome]int{Claimed: len(keys)})
	want(t, "the most that was not reported yet", late, chained)
	f.tally(t, made...)
}

// TestReportFails: what became of a batch that is committed by itself may stay unknown.
func TestReportFails(t *testing.T) {
	t.Parallel()
	f, proxy := setupProxy(t)
	f.limits.Wait = 100 * time.Millisecond
	keys := jobs(chained + 1)
	f.cacheNow(t, keys...)
	release, written := func() {}, 0
	c := f.claimer(func(c *Claimer) {
		c.after = func(step string) {
			if step == "written" {
				if written++; written == chained {
					release = f.queueFor(t, keys[chained-1])
					proxy.CutBefore(commit)
				}
			}
		}
	})
	made, err := tryPass(t.Context(), c, PassOptions{Batch: 1})
	release()
	want(t, "the pass says so", errors.Is(err, db.ErrCommitUnknown), true)
	want(t, "outcomes", verdicts(made), append(slices.Repeat([]string{"claimed"}, chained-1), "failed commit_unknown"))
	want(t, "still queued", f.count(t, "candidates"), 2)
	f.tally(t, made...)
}

// TestNextBatch: what happens to a batch does not happen to the one that is taken in the message of its COMMIT, nor
// the other way round.
func TestNextBatch(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		spoil func(t *testing.T, f *fixture)
		fault string // of the network: "answer lost" or "cut", at the first COMMIT
		want  []string
	}{
		{name: "answer lost", fault: "answer lost", want: slices.Repeat([]string{"claimed"}, 6)},
		{name: "cut", fault: "cut", want: slices.Concat(slices.Repeat([]string{"failed connection_lost"}, 2), slices.Repeat([]string{"claimed"}, 4))},
		{name: "refused", spoil: func(t *testing.T, f *fixture) {
			t.Helper()
			f.exec(t, `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
				$$ BEGIN IF NEW.job_id = '`+jobs(1)[0].JobID+`' THEN RAISE EXCEPTION 'refused'; END IF; RETURN NULL; END $$`)
			f.exec(t, "CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON bids DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()")
		}, want: slices.Concat([]string{"failed database_error"}, slices.Repeat([]string{"claimed"}, 5))},
		{name: "cannot be dropped", spoil: func(_ *testing.T, f *fixture) {
			f.rewrite = breaking(queries.DropTaken, 1)
		}, want: slices.Repeat([]string{"claimed"}, 6)},
		{name: "cannot be taken", spoil: func(_ *testing.T, f *fixture) {
			f.rewrite = breaking(queries.TakeCandidates, 2)
		}, want: slices.Repeat([]string{"claimed"}, 2)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			eachWay(t, func(t *testing.T, terms func(string) (Terms, bool)) {
				t.Helper()
				f, proxy := setupProxy(t)
				f.rules.Terms = terms
				f.cacheNow(t, jobs(6)...)
				happened := make(<-chan struct{})
				switch tt.fault {
				case "answer lost":
					happened = proxy.DropAnswerTo(commit)
				case "cut":
					happened = proxy.CutBefore(commit)
				default:
					tt.spoil(t, f)
				}
				waited := false
				c := f.claimer(func(c *Claimer) {
					c.after = func(step string) {
						if step != "beginning" || waited {
							return
						}
						select {
						case <-happened: // the server, too, must find out, or it still holds what it took
							waited = true
							eventually(t, "the old session ends", func() bool {
								return f.count(t, `pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
									AND backend_type = 'client backend' AND state <> 'idle'`) == 0
							})
						default:
						}
					}
				})
				made, err := tryPass(t.Context(), c, PassOptions{Batch: 2})
				if tt.fault != "" {
					<-happened
				}
				want(t, "outcomes", verdicts(made), tt.want)
				want(t, "whether the pass ended early", err != nil, len(made) < 6)
				claimed := outcomes(made)[Claimed]
				want(t, "live bids", f.live(t), claimed)
				want(t, "still queued", f.count(t, "candidates"), 6-claimed)
				f.tally(t, made...)
			})
		})
	}
}

// breaking has a statement fail when the server runs it for the nth time.
func breaking(statement string, nth int32) func(sql string) string {
	var times atomic.Int32
	return func(sql string) string {
		if sql == statement && times.Add(1) == nth {
			return strings.ReplaceAll(sql, "WHERE ", "WHERE 1 / (SELECT 0) = 1 AND ")
		}
		return sql
	}
}

// TestEach: what a worker reads row by row is what the queries answer.
func TestEach(t *testing.T) {
	t.Parallel()
	f := setup(t)
	keys := jobs(3)
	f.cacheNow(t, keys...)
	f.exec(t, "UPDATE candidates SET not_before = not_before - interval '1 minute' * right(job_id, 1)::integer")
	f.hold(t, keys[1])
	tx, err := f.direct.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Rollback(t.Context(), tx)
	q := queries.New(tx)

	take := queries.TakeCandidatesParams{DueBy: time.Now().Add(time.Hour), Batch: 9, Plain: true}
	taken, err := q.TakeCandidates(t.Context(), take)
	want(t, "error", err, nil)
	var (
		candidate     queries.TakeCandidatesRow
		eachCandidate []queries.TakeCandidatesRow
	)
	want(t, "error", queries.TakeCandidatesEach(t.Context(), q, take, &candidate, func() error {
		eachCandidate = append(eachCandidate, candidate)
		return nil
	}), nil)
	want(t, "locked", lockedNumbers(taken), []int{0, -1, 1})
	want(t, "candidates", eachCandidate, taken)

	insert := queries.InsertPlainParams{
		IDs: []uuid.UUID{uuid.New(), uuid.New()}, Marketplaces: []string{keys[0].Marketplace}, PostingTTL: postingTTL,
		MinAmounts: []int64{1}, MaxAmounts: []int64{1 << 40}, NeedApproval: []bool{false},
	}
	inner, err := tx.Begin(t.Context())
	want(t, "error", err, nil)
	inserted, err := queries.New(inner).InsertPlain(t.Context(), insert)
	want(t, "error", errors.Join(err, inner.Rollback(t.Context())), nil)
	var (
		bid     queries.InsertPlainRow
		eachBid []queries.InsertPlainRow
	)
	want(t, "error", queries.InsertPlainEach(t.Context(), q, &insert, &bid, func() error {
		eachBid = append(eachBid, bid)
		return nil
	}), nil)
	want(t, "inserted", len(inserted), 2)
	want(t, "bids", eachBid, inserted)
}
