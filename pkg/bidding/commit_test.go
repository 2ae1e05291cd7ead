package bidding

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/posting"
	"github.com/arbitrageai/bidder/test/testdb"
)

// commit is how COMMIT goes over the wire.
var commit = testdb.Running("commit")

// TestCommitAnswerLost: it was committed, and that is found out.
func TestCommitAnswerLost(t *testing.T) {
	t.Parallel()
	eachWay(t, testCommitAnswerLost)
}

func testCommitAnswerLost(t *testing.T, terms func(string) (Terms, bool)) {
	t.Helper()
	f, proxy := setupProxy(t)
	f.rules.Terms = terms
	keys := jobs(5)
	f.cacheNow(t, append(keys, job("1"))...)
	f.exec(t, "DELETE FROM candidates WHERE job_id = '1'")

	dropped := proxy.DropAnswerTo(commit)
	byHand := attempt(t, f.claimer(), job("1"), AttemptOptions{})
	<-dropped
	want(t, "by hand", verdict(byHand), "claimed")
	want(t, "no error", byHand.Err, nil)
	want(t, "the bid", read[string](t, f, "SELECT id::text FROM bids WHERE status = 'ACTIVE'"), byHand.BidID.String())

	dropped = proxy.DropAnswerTo(commit)
	made := pass(t, f.claimer(), PassOptions{})
	<-dropped
	want(t, "outcomes", outcomes(made), map[Outcome]int{Claimed: 5})
	for _, a := range made {
		want(t, "the bid", f.count(t, "bids WHERE status = 'ACTIVE' AND id = $1::text::uuid AND job_id = $2", a.BidID.String(), a.Key.JobID), 1)
	}
	want(t, "candidates left", f.count(t, "candidates"), 0)
	f.tally(t, append(made, byHand)...)

	// An audit row is no claim, and its attempt ended as it did.
	dropped = proxy.DropAnswerTo(commit)
	want(t, "duplicate", verdict(attempt(t, f.claimer(), job("1"), AttemptOptions{})), "duplicate")
	<-dropped
	want(t, "live bids", f.live(t), 6)
}

// TestCommitCut: it was not committed, and that is found out. Also what was decided without
// a bid is still in the queue, and still attempted once.
func TestCommitCut(t *testing.T) {
	t.Parallel()
	eachWay(t, testCommitCut)
}

func testCommitCut(t *testing.T, terms func(string) (Terms, bool)) {
	t.Helper()
	f, proxy := setupProxy(t)
	f.rules.Terms = terms
	keys := jobs(5)
	f.cacheNow(t, append(keys, job("1"))...)
	f.exec(t, "DELETE FROM candidates WHERE job_id = '1'")
	f.insert(t, keys[1], bid{status: "ACTIVE"})
	f.insert(t, keys[2], bid{status: "LOST"})
	release := f.hold(t, keys[3])

	cut := proxy.CutBefore(commit)
	byHand := attempt(t, f.claimer(), job("1"), AttemptOptions{})
	<-cut
	want(t, "by hand", verdict(byHand), "failed connection_lost")
	want(t, "bid", byHand.BidID, uuid.Nil)
	want(t, "cause", errors.Is(byHand.Err, db.ErrCommitUnknown), true)

	cut = proxy.CutBefore(commit)
	made := pass(t, f.claimer(), PassOptions{})
	<-cut
	for _, a := range made {
		want(t, "bid", a.BidID, uuid.Nil)
	}
	want(t, "outcomes", verdicts(made), []string{"failed connection_lost", "duplicate", "closed lost", "locked", "failed connection_lost"})
	want(t, "live bids", f.live(t), 1)
	want(t, "candidates put back", f.count(t, "candidates WHERE tries = 1 AND last_error LIKE 'connection_lost: %'"), 5)
	f.tally(t, append(made, byHand)...)

	release()
	f.exec(t, "UPDATE candidates SET not_before = clock_timestamp()")
	want(t, "next pass", outcomes(pass(t, f.claimer(), PassOptions{})), map[Outcome]int{Claimed: 3, Duplicate: 1, Closed: 1})
}

// slowCommit makes COMMIT of a bid wait until the returned function is called, and then
// fail where that is asked for. The server process holds the posting's lock all the time,
// whether its client is there or not.
func (f *fixture) slowCommit(t *testing.T, fails bool) (finish func()) {
	t.Helper()
	raise := ""
	if fails {
		raise = "RAISE EXCEPTION 'refused';"
	}
	f.exec(t, `CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		PERFORM set_config('lock_timeout', '0', true);
		LOOP -- the client asks to cancel when its connection breaks; a network would swallow that
			BEGIN
				PERFORM pg_advisory_xact_lock(42);
				EXIT;
			EXCEPTION WHEN query_canceled THEN
			END;
		END LOOP;
		`+raise+`
		RETURN NULL;
	END $$`)
	f.exec(t, "CREATE CONSTRAINT TRIGGER wait AFTER INSERT ON bids DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION wait()")
	return f.rogue(t, "SELECT pg_advisory_xact_lock(42)").rollback
}

// cancelRequest begins the message by which a client asks to cancel what its broken connection does.
const cancelRequest = "\x00\x00\x00\x10\x04\xd2\x16\x2e"

// waiting waits until a session waits for a lock.
func (f *fixture) waiting(t *testing.T) {
	t.Helper()
	eventually(t, "a session waits for a lock", func() bool {
		return f.count(t, "pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'") > 0
	})
}

// TestCommitUnderWay: the connection is lost while the server is still committing.
func TestCommitUnderWay(t *testing.T) {
	t.Parallel()

	tests := []struct {
		name    string
		fails   bool // the COMMIT, in the end
		inTime  bool // it ends within the wait
		verdict string
		live    int
	}{
		{name: "committed in time", inTime: true, verdict: "claimed", live: 1},
		{name: "refused in time", fails: true, inTime: true, verdict: "failed connection_lost", live: 0},
		{name: "committed too late", verdict: "failed commit_unknown", live: 1},
		{name: "refused too late", fails: true, verdict: "failed commit_unknown", live: 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f, proxy := setupProxy(t)
			if !tt.inTime {
				f.limits.Wait = 100 * time.Millisecond
			}
			f.cacheNow(t, job("1"))
			finish := f.slowCommit(t, tt.fails)
			conflicts := make(chan struct{}, 1000)
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				f.waiting(t)
				proxy.CutBefore(cancelRequest) // late, it would stop a COMMIT that is no longer waiting
				proxy.Cut()
				if tt.inTime {
					<-conflicts // somebody has asked for the lock before it is free
					finish()
				}
			}()
			f.rewrite = func(sql string) string {
				if sql == queries.FindBidsByID {
					conflicts <- struct{}{}
				}
				return sql
			}
			a := attempt(t, f.claimer(), job("1"), AttemptOptions{})
			<-ended
			want(t, "outcome", verdict(a), tt.verdict)
			want(t, "whether it says that it is unknown", errors.Is(a.Err, db.ErrCommitUnknown), a.Outcome == Failed)
			want(t, "whether a bid is reported", a.BidID != uuid.Nil, a.Outcome == Claimed || a.Detail == DetailCommitUnknown)
			if !tt.inTime {
				finish()
			}
			eventually(t, "the old session ends", func() bool {
				return f.count(t, "pg_stat_activity WHERE datname = current_database() AND query = 'commit' AND state <> 'idle'") == 0
			})
			want(t, "live bids", f.live(t), tt.live)
			if tt.live > 0 {
				want(t, "the bid", read[string](t, f, "SELECT id::text FROM bids"), a.BidID.String())
			}
			f.tally(t, a)
		})
	}
}

// queueFor waits for a posting's lock like a third party, who gets it as soon as it is free.
func (f *fixture) queueFor(t *testing.T, key posting.Key) (release func()) {
	t.Helper()
	got := make(chan func(), 1)
	go func() { got <- f.hold(t, key) }()
	f.waiting(t)
	return func() { (<-got)() }
}

// TestCommitUnknownInPass: what is not known of one posting is not said of the others.
func TestCommitUnknownInPass(t *testing.T) {
	t.Parallel()
	f, proxy := setupProxy(t)
	f.limits.Wait = 100 * time.Millisecond
	keys := jobs(4)
	f.cacheNow(t, keys...)
	// The batch fails for the sake of one, so they are claimed one by one.
	f.exec(t, "ALTER TABLE bids ADD CONSTRAINT broken CHECK (job_id <> '"+keys[3].JobID+"')")
	release := func() {}
	written := 0
	c := f.claimer(func(c *Claimer) {
		c.after = func(step string) {
			if step == "written" {
				if written++; written == 2 {
					release = f.queueFor(t, keys[1])
					proxy.CutBefore(commit)
				}
			}
		}
	})
	made, err := tryPass(t.Context(), c, PassOptions{})
	want(t, "the pass says so", errors.Is(err, db.ErrCommitUnknown), true)
	for _, a := range made {
		want(t, "bid of "+verdict(a), a.BidID != uuid.Nil, a.Outcome == Claimed || a.Detail == DetailCommitUnknown)
	}
	want(t, "outcomes", verdicts(made), []string{"claimed", "failed commit_unknown", "failed connection_lost", "failed connection_lost"})
	f.tally(t, made...)
	release()
	want(t, "still queued", f.count(t, "candidates"), 3)
	want(t, "live bids", f.live(t), 1)
}

// TestCommitAskedAgain: the first who is asked what became of it does not answer either.
func TestCommitAskedAgain(t *testing.T) {
	t.Parallel()
	f, proxy := setupProxy(t)
	f.cacheNow(t, job("1"))
	var faults []<-chan struct{}
	a := attempt(t, f.claimer(once("written", func() {
		faults = append(faults, proxy.DropAnswerTo(commit), proxy.DropAnswerTo("pg_try_advisory_xact_lock"), proxy.CutBefore("pg_try_advisory_xact_lock"))
	})), job("1"), AttemptOptions{})
	for _, fault := range faults {
		<-fault
	}
	want(t, "outcome", verdict(a), "claimed")
	want(t, "the bid", read[string](t, f, "SELECT id::text FROM bids"), a.BidID.String())
	f.tally(t, a)
}

// TestCommitAskedOfStandby: the name of the server leads to a standby after the COMMIT, which may not have the bid yet:
// what it has not proves nothing.
func TestCommitAskedOfStandby(t *testing.T) {
	t.Parallel()
	f, proxy := setupProxy(t)
	f.limits.Wait = 100 * time.Millisecond
	f.cacheNow(t, job("1"))
	var isStandby atomic.Bool
	f.rewrite = func(sql string) string {
		if isStandby.Load() {
			sql = strings.Replace(sql, "pg_is_in_recovery()", "true", 1)
			sql = strings.Replace(sql, "FROM bids", "FROM (SELECT id FROM bids LIMIT 0) AS bids", 1) // not replayed yet
		}
		return sql
	}
	a := attempt(t, f.claimer(once("written", func() {
		proxy.DropAnswerTo(commit)
		isStandby.Store(true)
	})), job("1"), AttemptOptions{})
	want(t, "outcome", verdict(a), "failed commit_unknown")
	want(t, "cause", errors.Is(a.Err, db.ErrCommitUnknown), true)
	want(t, "the bid", read[string](t, f, "SELECT id::text FROM bids"), a.BidID.String())
	f.tally(t, a)
}

// TestFrozenClaim: a claimer that stands still for longer than its lock may live has written
// nothing when it goes on, and everybody else went on before.
func TestFrozenClaim(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"locked", "judged", "written"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			patient := f.claimer()
			f.limits.TTL = 300 * time.Millisecond
			f.cacheNow(t, jobs(3)...)

			frozen := f.claimer(once(step, func() {
				f.untilCut(t)
				want(t, "the next one", verdict(attempt(t, patient, jobs(1)[0], AttemptOptions{Wait: patience})), "claimed")
			}))
			made := pass(t, frozen, PassOptions{})
			want(t, "attempts", len(made), 3)
			for _, a := range made {
				switch {
				case a.Outcome == Failed: // it was too late to try again
					want(t, "detail", a.Detail, DetailLockExpired)
					want(t, "cause", errors.Is(a.Err, ErrLockExpired), true)
				case a.Key == jobs(1)[0]:
					want(t, "overtaken", verdict(a), "duplicate")
				default:
					want(t, "tried again", verdict(a), "claimed")
				}
			}
			want(t, "live bids on what was overtaken", f.live(t, jobs(1)[0]), 1)
		})
	}
}

// TestCommittedWithOthers: where the bids of a batch are found, what was decided beside them has happened as well.
func TestCommittedWithOthers(t *testing.T) {
	t.Parallel()
	eachWay(t, func(t *testing.T, terms func(string) (Terms, bool)) {
		t.Helper()
		f, proxy := setupProxy(t)
		f.rules.Terms = terms
		keys := jobs(3)
		f.cacheNow(t, keys...)
		f.insert(t, keys[1], bid{status: "LOST"})
		release := f.hold(t, keys[2])
		defer release()
		dropped := proxy.DropAnswerTo(commit)
		made := pass(t, f.claimer(), PassOptions{})
		<-dropped
		want(t, "outcomes", verdicts(made), []string{"claimed", "closed lost", "locked"})
		want(t, "candidates left", f.count(t, "candidates"), 1)
		want(t, "left as they were put", f.count(t, "candidates WHERE job_id = $1 AND tries = 0 AND last_error IS NULL", keys[2].JobID), 1)
	})
}

// TestClaimIsProved: a bid that is found after a COMMIT without an answer is a claim only once another COMMIT, which
// waits for the same standbys, is answered.
func TestClaimIsProved(t *testing.T) {
	t.Parallel()
	f, proxy := setupProxy(t)
	f.limits.Wait = time.Second
	f.cacheNow(t, job("1"), job("2"))
	count := f.statements()
	dropped := proxy.DropAnswerTo(commit)
	want(t, "proved", verdict(attempt(t, f.claimer(), job("1"), AttemptOptions{})), "claimed")
	<-dropped
	want(t, "marks in the log", count("MarkLog"), 1)

	f.rewrite = func(sql string) string {
		if sql == queries.MarkLog {
			return "SELECT 1 / 0"
		}
		return sql
	}
	dropped = proxy.DropAnswerTo(commit)
	a := attempt(t, f.claimer(), job("2"), AttemptOptions{})
	<-dropped
	want(t, "not proved", verdict(a), "failed commit_unknown")
	want(t, "the bid", f.count(t, "bids WHERE id = $1::text::uuid", a.BidID.String()), 1)
}
