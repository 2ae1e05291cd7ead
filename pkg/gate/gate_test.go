package gate

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/test/testdb"
)

func TestMain(m *testing.M) { testdb.Main(m) }

type fixture struct {
	*testing.T

	pool *pgxpool.Pool
	gate Gate
}

func setup(t *testing.T, gap time.Duration) *fixture {
	t.Helper()
	pool, err := db.Open(t.Context(), db.Options{URL: testdb.New(t).URL, MaxConns: 8})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return &fixture{t, pool, Gate{Queries: queries.New(pool), Marketplace: "upwork", Account: "default", Gap: gap}}
}

func (f *fixture) exec(sql string) {
	f.Helper()
	if _, err := f.pool.Exec(f.Context(), sql); err != nil {
		f.Fatal(err)
	}
}

// ahead is how far the account's next slot is away.
func (f *fixture) ahead() (d time.Duration) {
	f.Helper()
	if err := f.pool.QueryRow(f.Context(), "SELECT next_slot - clock_timestamp() FROM accounts WHERE marketplace = 'upwork'").Scan(&d); err != nil {
		f.Fatal(err)
	}
	return d
}

func (f *fixture) pass(stop context.Context, patience time.Duration) (Answer, time.Duration) {
	f.Helper()
	answer, wait, err := f.gate.Pass(f.Context(), stop, patience)
	if err != nil {
		f.Error(err)
	}
	return answer, wait
}

func (f *fixture) wantPass(stop context.Context, what string, patience time.Duration, wanted Answer) {
	f.Helper()
	if answer, _ := f.pass(stop, patience); answer != wanted {
		f.Errorf("%s: answer %d, want %d", what, answer, wanted)
	}
}

const pauseAll = `INSERT INTO accounts (marketplace, account, paused_at, paused_reason, paused_by) VALUES ('*', '*', now(), 'a test', 'a test')`

// TestWithoutRate: nothing is waited for and nothing written.
func TestWithoutRate(t *testing.T) {
	t.Parallel()
	f := setup(t, 0)
	for range 3 {
		f.wantPass(t.Context(), "no rate", 0, Open)
	}
	var rows int
	if err := f.pool.QueryRow(t.Context(), "SELECT count(*) FROM accounts").Scan(&rows); err != nil || rows != 0 {
		t.Errorf("%d rows were written (%v)", rows, err)
	}
	f.exec(pauseAll)
	f.wantPass(t.Context(), "paused", 0, Paused)
}

// TestRate: the first call goes at once, the next has to wait, and a slot that is further away
// than patience is left to others.
func TestRate(t *testing.T) {
	t.Parallel()
	f := setup(t, time.Hour)
	f.wantPass(t.Context(), "the first", 0, Open)
	answer, wait := f.pass(t.Context(), time.Minute)
	if answer != Crowded || wait <= 59*time.Minute || wait > time.Hour {
		t.Errorf("the second: answer %d, %v away, want Crowded and an hour", answer, wait)
	}
	if ahead := f.ahead(); ahead > time.Hour {
		t.Errorf("a slot that nobody waited for was taken: the next is %v away", ahead)
	}
}

// TestStopped: before it asks, and while it waits for its slot.
func TestStopped(t *testing.T) {
	t.Parallel()
	f := setup(t, time.Hour)
	stopped, stop := context.WithCancel(t.Context())
	stop()
	f.wantPass(stopped, "stopped before", 0, Stopped)
	f.wantPass(t.Context(), "the first", 0, Open)
	waiting, stop := context.WithCancel(t.Context())
	answers := make(chan Answer)
	go func() {
		answer, _ := f.pass(waiting, 2*time.Hour)
		answers <- answer
	}()
	for f.ahead() < time.Hour { // until it has taken its slot
		if t.Context().Err() != nil {
			return
		}
	}
	stop()
	if answer := <-answers; answer != Stopped {
		t.Errorf("answer %d, want Stopped", answer)
	}
	again, stop := context.WithCancel(t.Context())
	answer, err := f.gate.Await(t.Context(), again, func(time.Duration) { stop() })
	if answer != Stopped || err != nil {
		t.Errorf("while others use up the rate: answer %d (%v), want Stopped", answer, err)
	}
}

// TestPausedWhileWaiting: a pause also holds up the calls that already have their slot.
func TestPausedWhileWaiting(t *testing.T) {
	t.Parallel()
	const gap = 5 * time.Second
	f := setup(t, gap)
	f.wantPass(t.Context(), "the first", 0, Open)
	answers := make(chan Answer)
	go func() {
		answer, _ := f.pass(t.Context(), time.Minute)
		answers <- answer
	}()
	for f.ahead() < gap {
		if t.Context().Err() != nil {
			return
		}
	}
	f.exec(pauseAll)
	if answer := <-answers; answer != Paused {
		t.Errorf("answer %d, want Paused", answer)
	}
}

// TestSharedRate: however many wait at once, no two calls are closer than the gap.
func TestSharedRate(t *testing.T) {
	t.Parallel()
	const callers, gap = 8, 20 * time.Millisecond
	f := setup(t, gap)
	var (
		mu     sync.Mutex
		passed []time.Time
		group  sync.WaitGroup
	)
	started := time.Now()
	for range callers {
		group.Go(func() {
			answer, err := f.gate.Await(t.Context(), t.Context(), func(time.Duration) {})
			mu.Lock()
			defer mu.Unlock()
			passed = append(passed, time.Now())
			if answer != Open || err != nil {
				t.Errorf("answer %d (%v), want Open", answer, err)
			}
		})
	}
	group.Wait()
	slices.SortFunc(passed, time.Time.Compare)
	for i, at := range passed { // nobody is let through before their slot, however late they wake
		if earliest := started.Add(time.Duration(i) * gap); at.Before(earliest) {
			t.Errorf("call %d was let through %v too early", i, earliest.Sub(at))
		}
	}
}

// TestOutage: without the database there is no call, and it is said what could not be done.
func TestOutage(t *testing.T) {
	t.Parallel()
	f := setup(t, time.Hour)
	f.pool.Close()
	ended, end := context.WithCancel(t.Context())
	end()
	if answer, _, err := f.gate.Pass(t.Context(), t.Context(), 0); err == nil || answer == Open {
		t.Errorf("answer %d, no error", answer)
	}
	if answer, err := f.gate.Await(ended, t.Context(), func(time.Duration) {}); err == nil || answer == Open || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("answer %d (%v), want an error", answer, err)
	}
}
