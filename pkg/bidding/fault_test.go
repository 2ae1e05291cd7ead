package bidding

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/arbitrageai/bidder/db"
)

// TestTerminated ends the claim's session at each of its steps: nothing is written, nothing
// stays locked, and a later attempt finds everything as it was.
func TestTerminated(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"locked", "judged", "written"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			keys := jobs(10)
			f.cacheNow(t, keys...)

			byHand, err := f.claimer(once(step, func() { f.terminate(t) })).Attempt(t.Context(), keys[0], AttemptOptions{})
			want(t, "error", err, nil)
			want(t, "by hand", verdict(byHand), "failed connection_lost")
			want(t, "cause", db.IsLost(byHand.Err), true)

			made, err := tryPass(t.Context(), f.claimer(once(step, func() { f.terminate(t) })), PassOptions{})
			switch step {
			case "written": // it was found out afterwards that the COMMIT did not arrive
				want(t, "the pass", err, nil)
				want(t, "tries", f.count(t, "candidates WHERE tries = 1 AND last_error LIKE 'connection_lost: %'"), 10)
			default:
				want(t, "the pass says so", db.IsUnavailable(err), true)
				want(t, "tries", f.count(t, "candidates WHERE tries = 0"), 10)
			}
			want(t, "attempts", len(made), 10)
			for _, a := range made {
				want(t, "in a pass", verdict(a), "failed connection_lost")
				want(t, "bid", a.BidID.String(), "00000000-0000-0000-0000-000000000000")
			}
			f.tally(t, append(made, byHand)...)
			want(t, "bids", f.count(t, "bids"), 0)
			want(t, "candidates", f.count(t, "candidates"), 10)
			want(t, "locks", f.count(t, "pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database WHERE locktype = 'advisory' AND datname = current_database()"), 0)

			f.exec(t, "UPDATE candidates SET not_before = clock_timestamp()")
			want(t, "next pass", outcomes(pass(t, f.claimer(), PassOptions{})), map[Outcome]int{Claimed: 10})
		})
	}
}

// TestStatementTimeout is told apart from a lock that someone else holds.
func TestStatementTimeout(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.limits.Statement = 200 * time.Millisecond
	f.exec(t, `CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(60); RETURN NEW; END $$`)
	f.exec(t, `CREATE TRIGGER slow BEFORE INSERT ON bids FOR EACH ROW EXECUTE FUNCTION slow()`)
	f.cacheNow(t, jobs(3)...)
	c := f.claimer()
	byHand := attempt(t, c, jobs(1)[0], AttemptOptions{Wait: patience})
	want(t, "by hand", verdict(byHand), "failed statement_timeout")
	made := pass(t, c, PassOptions{})
	want(t, "outcomes", outcomes(made), map[Outcome]int{Failed: 3})
	for _, a := range made {
		want(t, "in a pass", a.Detail, DetailStatementTimeout)
	}
	f.tally(t, append(made, byHand)...)
	want(t, "failures", f.count(t, "candidates WHERE tries = 1 AND last_error LIKE 'statement_timeout: %'"), 3)
	want(t, "connections in use", f.pool.Stat().AcquiredConns(), 0)
}

// raising makes a try-lock that raises an error so many times, over all sessions, and then
// asks the server.
func (f *fixture) raising(t *testing.T, code string, times int) {
	t.Helper()
	f.fake(t, fmt.Sprintf(`
		CREATE SEQUENCE fake.calls;
		CREATE FUNCTION fake.pg_try_advisory_xact_lock(key bigint) RETURNS boolean LANGUAGE plpgsql AS $$
		BEGIN
			IF nextval('fake.calls') <= %d THEN
				RAISE EXCEPTION 'as arranged' USING ERRCODE = '%s';
			END IF;
			RETURN pg_catalog.pg_try_advisory_xact_lock(key);
		END $$`, times, code))
}

// TestPassingTrouble: what the server asks to try again is tried again, but not for ever.
func TestPassingTrouble(t *testing.T) {
	t.Parallel()

	tests := []struct {
		code   string
		times  int
		byHand string // of the attempt, with the error raised first as often
		inPass string // the same for the pass, or the code of its error
	}{
		{code: db.CodeDeadlock, times: 4, byHand: "claimed", inPass: "claimed"},
		{code: db.CodeDeadlock, times: 1000, byHand: "failed database_error", inPass: "40P01"},
		{code: db.CodeSerialization, times: 4, byHand: "claimed", inPass: "claimed"},
		{code: db.CodeLockNotAvailable, times: 4, byHand: "locked", inPass: "claimed"},
		{code: db.CodeLockNotAvailable, times: 1000, byHand: "locked", inPass: "55P03"},
		{code: db.CodeOutOfMemory, times: 1, byHand: "failed database_error", inPass: "claimed"},
		{code: db.CodeOutOfMemory, times: 1000, byHand: "failed database_error", inPass: "53200"},
		{code: "XX000", times: 1, byHand: "failed database_error", inPass: "XX000"},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%s %d times", tt.code, tt.times), func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			f.raising(t, tt.code, tt.times)
			f.cacheNow(t, job("1"))
			a := attempt(t, f.claimer(), job("1"), AttemptOptions{})
			want(t, "by hand", verdict(a), tt.byHand)
			if a.Outcome == Failed {
				want(t, "cause", db.Code(a.Err), tt.code)
			}
			f.tally(t, a)

			f.exec(t, "SELECT setval('fake.calls', 1, false)")
			f.cacheNow(t, job("2"))
			f.exec(t, "DELETE FROM candidates WHERE job_id = '1'")
			made, err := tryPass(t.Context(), f.claimer(), PassOptions{})
			if len(made) == 0 {
				want(t, "error of the pass", db.Code(err), tt.inPass)
				want(t, "candidate, untouched", f.count(t, "candidates WHERE tries = 0 AND not_before <= clock_timestamp()"), 1)
			} else {
				want(t, "in a pass", verdict(made[0]), tt.inPass)
			}
			f.tally(t, append(made, a)...)
		})
	}
}

// TestLockedTable: somebody holds a whole table. The claim gives up, also where its connection has
// to prepare the statements first, which no limit of the server bounds.
func TestLockedTable(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.cacheNow(t, job("1"))
	patient := f.claimer()
	f.limits = Limits{TTL: 300 * time.Millisecond, Statement: 100 * time.Millisecond}
	other := f.rogue(t, "LOCK TABLE postings")
	a := attempt(t, f.claimer(), job("1"), AttemptOptions{})
	want(t, "decided", a.Decided(), false)
	other.rollback()
	want(t, "bids", f.count(t, "bids"), 0)
	want(t, "later", verdict(attempt(t, patient, job("1"), AttemptOptions{})), "claimed")
}

// TestFullLockTable has a server that gives a transaction no more than 8 locks.
func TestFullLockTable(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.fake(t, `CREATE FUNCTION fake.pg_try_advisory_xact_lock(key bigint) RETURNS boolean LANGUAGE plpgsql AS $$
		DECLARE
			n int := coalesce(nullif(current_setting('fake.locks', true), ''), '0')::int + 1;
		BEGIN
			PERFORM set_config('fake.locks', n::text, true);
			IF n > 8 THEN
				RAISE EXCEPTION 'out of shared memory' USING ERRCODE = '53200';
			END IF;
			RETURN pg_catalog.pg_try_advisory_xact_lock(key);
		END $$`)
	f.cacheNow(t, jobs(70)...)
	f.exec(t, "UPDATE candidates SET not_before = cached_at") // all at once, so that no gap tells of another pod
	var batches []int
	made := pass(t, f.claimer(), PassOptions{Batch: 60, Observe: func(attempts []Attempt) { batches = append(batches, len(attempts)) }})
	want(t, "outcomes", outcomes(made), map[Outcome]int{Claimed: 70})
	want(t, "batches", batches, []int{8, 8, 8, 8, 8, 8, 8, 8, 6})
	f.tally(t, made...)
}

// TestFullLockTableLater: the table may be full for the insert, too; then the batch is halved.
func TestFullLockTableLater(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.exec(t, `CREATE FUNCTION full_table() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		IF (SELECT count(*) FROM new_rows) > 3 THEN
			RAISE EXCEPTION 'out of shared memory' USING ERRCODE = '53200';
		END IF;
		RETURN NULL;
	END $$`)
	f.exec(t, `CREATE TRIGGER full_table AFTER INSERT ON bids REFERENCING NEW TABLE AS new_rows
		FOR EACH STATEMENT EXECUTE FUNCTION full_table()`)
	f.cacheNow(t, jobs(11)...)
	steps := 0
	made := pass(t, f.claimer(func(c *Claimer) {
		c.after = func(step string) {
			if step == "written" {
				steps++
			}
		}
	}), PassOptions{})
	want(t, "outcomes", outcomes(made), map[Outcome]int{Claimed: 11})
	want(t, "transactions", steps, 4) // 11 = 6 + 5 = 3 + 3 + 3 + 2
	f.tally(t, made...)
}

// TestBadPosting: one that the database refuses does not keep the others of its batch.
func TestBadPosting(t *testing.T) {
	t.Parallel()
	f := setup(t)
	keys := jobs(20)
	f.cacheNow(t, keys...)
	f.exec(t, `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'refused'; END $$`)
	f.exec(t, `CREATE TRIGGER refuse BEFORE INSERT ON bids FOR EACH ROW WHEN (NEW.job_id IN ('00004', '00011')) EXECUTE FUNCTION refuse()`)
	made := pass(t, f.claimer(), PassOptions{})
	want(t, "outcomes", outcomes(made), map[Outcome]int{Claimed: 18, Failed: 2})
	want(t, "refused", []string{verdict(made[4]), verdict(made[11])}, []string{"failed database_error", "failed database_error"})
	want(t, "candidates left", f.count(t, "candidates WHERE tries = 1 AND last_error LIKE 'database_error: %refused%'"), 2)
	f.tally(t, made...)
}

// TestRefusedByServer: what the server refuses whatever the posting counts against none of them, and the pass ends
// with it: as soon as the server serves again everything is claimed.
func TestRefusedByServer(t *testing.T) {
	t.Parallel()
	for name, code := range map[string]string{
		"no rights": "42501", "no table": "42P01", "no room on the disk": "53100", "too many": "53300", "read-only": "25006",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			f.cacheNow(t, jobs(3)...)
			f.exec(t, fmt.Sprintf(`CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'refused' USING ERRCODE = '%s'; END $$`, code))
			f.exec(t, `CREATE TRIGGER refuse BEFORE INSERT ON bids FOR EACH STATEMENT EXECUTE FUNCTION refuse()`)
			c := f.claimer()
			made, err := tryPass(t.Context(), c, PassOptions{})
			want(t, "the pass says so", db.Code(err), code)
			want(t, "it can be run again", db.IsUnavailable(err), true)
			want(t, "outcomes", verdicts(made), []string{"failed database_error", "failed database_error", "failed database_error"})
			want(t, "counted against a posting", f.count(t, "candidates WHERE tries > 0 OR not_before > now()"), 0)
			f.exec(t, "DROP TRIGGER refuse ON bids")
			made = append(made, pass(t, c, PassOptions{})...)
			want(t, "live bids", f.live(t), 3)
			f.tally(t, made...)
		})
	}
}

// TestIsolation: under a level at which the second statement would not see the winner
// nothing is attempted.
func TestIsolation(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.cacheNow(t, job("1"))
	f.rewrite = func(sql string) string { // it does not listen to what it is asked for
		return strings.Replace(sql, "begin isolation level read committed", "begin isolation level repeatable read", 1)
	}
	c := f.claimer()
	a := attempt(t, c, job("1"), AttemptOptions{})
	want(t, "by hand", verdict(a), "failed database_error")
	want(t, "cause", errors.Is(a.Err, db.ErrIsolation), true)
	made, err := tryPass(t.Context(), c, PassOptions{})
	want(t, "attempts of a pass", len(made), 0)
	want(t, "its error", errors.Is(err, db.ErrIsolation), true)
	want(t, "bids", f.count(t, "bids"), 0)

	// The level is asked for, whatever the database's default is.
	f.exec(t, fmt.Sprintf("ALTER DATABASE %s SET default_transaction_isolation = 'repeatable read'", pgx.Identifier{f.Name}.Sanitize()))
	f.pool.Reset()
	f.rewrite = nil
	want(t, "with another default", verdict(attempt(t, f.claimer(), job("1"), AttemptOptions{})), "claimed")
}

// TestDatabaseGone: from one moment to the next nobody can connect.
func TestDatabaseGone(t *testing.T) {
	t.Parallel()
	f := setupDirect(t)
	f.cacheNow(t, jobs(3)...)
	admin := f.admin(t)
	gone := func() {
		if _, err := admin.Exec(t.Context(), fmt.Sprintf("ALTER DATABASE %s ALLOW_CONNECTIONS false", pgx.Identifier{f.Name}.Sanitize())); err != nil {
			t.Error(err)
		}
		if _, err := admin.Exec(t.Context(), "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = $1", f.Name); err != nil {
			t.Error(err)
		}
	}
	c := f.claimer(once("locked", gone))
	made, err := tryPass(t.Context(), c, PassOptions{})
	want(t, "outcomes", outcomes(made), map[Outcome]int{Failed: 3})
	want(t, "the pass says so", db.IsUnavailable(err), true)
	f.tally(t, made...)

	none, err := tryPass(t.Context(), c, PassOptions{})
	want(t, "attempts of the next", len(none), 0)
	want(t, "it says so", db.IsUnavailable(err), true)
	a := attempt(t, c, job("1"), AttemptOptions{})
	want(t, "by hand", a.Outcome, Failed)
	want(t, "cause", db.IsUnavailable(a.Err), true)
	f.tally(t, append(made, a)...)
}

// TestQueueUnwritable: when the failure cannot even be recorded, the pass ends and says so.
func TestQueueUnwritable(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.cacheNow(t, jobs(5)...)
	f.exec(t, "ALTER TABLE bids ADD CONSTRAINT broken CHECK (job_id <> '00002')")
	f.exec(t, `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'refused'; END $$`)
	f.exec(t, `CREATE TRIGGER refuse BEFORE UPDATE ON candidates FOR EACH ROW EXECUTE FUNCTION refuse()`)
	made, err := tryPass(t.Context(), f.claimer(), PassOptions{})
	want(t, "error", db.Code(err), "P0001")
	want(t, "outcomes", outcomes(made), map[Outcome]int{Claimed: 2, Failed: 3})
	want(t, "live bids", f.live(t), 2)
	f.tally(t, made...)
}

// TestBlackhole: the network swallows everything. No transaction waits for ever.
func TestBlackhole(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"judged", "written"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			f, proxy := setupProxy(t)
			f.limits.Statement, f.limits.TTL, f.limits.Wait = 200*time.Millisecond, 500*time.Millisecond, 100*time.Millisecond
			f.cacheNow(t, job("1"))
			idle, err := f.pool.Acquire(t.Context()) // another connection, which looks as if it could be used
			if err != nil {
				t.Fatal(err)
			}
			release := sync.OnceFunc(idle.Release)
			defer release()
			c := f.claimer(once(step, func() {
				release()
				proxy.Blackhole(true)
			}))
			rescue := time.AfterFunc(patience, func() {
				t.Error("it waits for ever")
				proxy.Blackhole(false)
			})
			a := attempt(t, c, job("1"), AttemptOptions{})
			rescue.Stop()
			want(t, "outcome", a.Outcome, Failed)
			if step == "written" {
				want(t, "detail", a.Detail, DetailCommitUnknown)
			}
			f.untilCut(t) // by the server, which was told the limits
			want(t, "bids", f.live(t), 0)
			proxy.Blackhole(false)
			f.pool.Reset() // of connections that only look alive
			f.limits.Statement, f.limits.TTL = patience, time.Minute
			want(t, "afterwards", verdict(attempt(t, f.claimer(), job("1"), AttemptOptions{})), "claimed")
		})
	}
}
