package main

import (
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/bidding"
	"github.com/arbitrageai/bidder/pkg/posting"
	"github.com/arbitrageai/bidder/test/testdb"
)

// TestQuietRun: a run that counts nothing new says now and then that it lives, and is not taken for one
// that claims.
func TestQuietRun(t *testing.T) {
	t.Parallel()
	pool := testdb.New(t).Pool(t)
	q := queries.New(pool)
	r := &recorder{id: uuid.Must(uuid.NewV7()), kind: "run", pool: pool, said: now}
	if _, err := q.StartRun(t.Context(), queries.StartRunParams{ID: r.id, Kind: r.kind}); err != nil {
		t.Fatal(err)
	}
	updated := func() (at time.Time) {
		t.Helper()
		if err := pool.QueryRow(t.Context(), "SELECT updated_at FROM runs WHERE id = $1", r.id).Scan(&at); err != nil {
			t.Fatal(err)
		}
		return at
	}
	// record writes so long after the start of the run, as if nothing had been written for an hour, and
	// returns how old what it says is.
	record := func(after time.Duration) time.Duration {
		t.Helper()
		if _, err := pool.Exec(t.Context(), "UPDATE runs SET updated_at = clock_timestamp() - interval '1 hour' WHERE id = $1", r.id); err != nil {
			t.Fatal(err)
		}
		before, err := q.Now(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := r.record(t.Context(), now.Add(after)); err != nil {
			t.Fatal(err)
		}
		return before.Sub(updated())
	}
	const nothing, lives, counted = "nothing", "that it lives", "what it has counted"
	for _, step := range []struct {
		after time.Duration
		says  string
	}{
		{time.Second, counted}, // that this is nothing
		{2 * time.Second, nothing},
		{keepEvery, nothing},
		{keepEvery + time.Second, lives},
		{2 * keepEvery, nothing},
		{2*keepEvery + time.Second, lives},
		{2*keepEvery + 2*time.Second, counted},
		{3*keepEvery + time.Second, nothing},
		{3*keepEvery + 2*time.Second, lives},
	} {
		if step.says == counted && r.written != "" {
			r.setIngest(posting.Counts{Read: 1})
		}
		says, silent := nothing, record(step.after)
		switch {
		case silent <= 0:
			says = counted
		case silent <= bidding.AtWorkWithin:
			says = lives
		}
		if says != step.says {
			t.Errorf("%s after the start it says %s, as if %s ago; want %s", step.after, says, silent, step.says)
		}
		if work, err := q.RunsAtWork(t.Context(), uuid.New(), bidding.AtWorkWithin); err != nil || step.says == lives && work.Others > 0 {
			t.Errorf("%s after the start it is at work: %+v, %v", step.after, work, err)
		}
	}

	r.setIngest(posting.Counts{Read: 2})
	if err := r.record(t.Context(), now.Add(4*keepEvery)); err != nil {
		t.Fatal(err)
	}
	last := updated()
	if err := r.record(t.Context(), now.Add(5*keepEvery)); err != nil {
		t.Fatal(err)
	}
	if at := updated(); at.Before(last) {
		t.Errorf("what it says goes back from %s to %s", last, at)
	}
}

// TestEndIsNotRecorded: a run whose end cannot be written has ended all the same, and not before it began.
func TestEndIsNotRecorded(t *testing.T) {
	t.Parallel()
	ended := make(chan struct{})
	close(ended)
	r := &recorder{
		id: uuid.Must(uuid.NewV7()), kind: "run", pool: testdb.New(t).Pool(t), log: slog.New(slog.DiscardHandler),
		startedAt: now, began: time.Now(), stop: func() {}, stopped: ended,
	}
	at, err := r.finish(t.Context(), 0) // its row is not there
	if err == nil || at.Before(now) || at.After(now.Add(time.Minute)) {
		t.Errorf("ended at %s, started at %s: %v", at, now, err)
	}
}
