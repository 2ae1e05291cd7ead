package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/metrics"
)

const (
	// parkedShown is how many parked candidates are named.
	parkedShown = 5
	// overdueLong is how long something may be due before it looks as if no pod came for it.
	overdueLong = 15 * time.Minute
	// reviewLong is how long something may wait for a person.
	reviewLong = 24 * time.Hour
)

// runs looks at the pods of the last day.
func (e *examination) runs(ctx context.Context, q *queries.Queries, facts queries.ServerFactsRow) error {
	peak, err := q.PeakRuns(ctx)
	if err != nil {
		return fmt.Errorf("look at the runs of a day: %w", err)
	}
	e.capacity(facts, peak)
	e.expect("killed runs", peak.Killed == 0, levelNote, fmt.Sprintf("%d runs of a day were killed or hang", peak.Killed),
		"a later run finishes what they left; if there are many, look at the memory limits of the pods and at the time that their scheduler gives them")
	return nil
}

func (e *examination) queue(ctx context.Context, q *queries.Queries) error {
	facts, err := q.QueueFacts(ctx)
	if err != nil {
		return fmt.Errorf("look at the queue: %w", err)
	}
	e.report("queue", levelOK, fmt.Sprintf("%d candidates are due", facts.Due), "")
	parked, err := q.ParkedCandidates(ctx, parkedShown)
	if err != nil {
		return fmt.Errorf("list parked candidates: %w", err)
	}
	names := make([]string, len(parked))
	for i, p := range parked {
		names[i] = p.Marketplace + " " + p.JobID
	}
	e.expect("parked candidates", facts.Parked == 0, levelWarning,
		strings.TrimSpace(fmt.Sprintf("%d are parked after failing too often %s", facts.Parked, strings.Join(names, ", "))),
		"`bidder why MARKETPLACE JOB_ID` shows the error; newer content or `bidder run --reconsider` tries them again")
	return nil
}

// owed looks at what bids owe and who waits for whom.
func (e *examination) owed(ctx context.Context, _ *queries.Queries) error {
	owed, err := metrics.ReadOwed(ctx, e.s.pool)
	if err != nil {
		return err
	}
	total := -owed.InReview - owed.AwaitingApproval // they are told next
	for _, row := range owed.ByState {
		total += row.Bids
	}
	message := "nothing is owed"
	if total > 0 {
		message = fmt.Sprintf("%d bids owe a delivery that needs no person; the oldest for %s, the most overdue for %s",
			total, owed.Oldest.Round(time.Second), owed.Overdue.Round(time.Second))
	}
	e.expect("owed deliveries", owed.Overdue < overdueLong, levelWarning, message,
		"nobody works on what is due: see that `bidder run` is started, that it ends without an error, and that nothing is paused")
	level := levelOK
	switch {
	case owed.OldestReview >= reviewLong:
		level = levelWarning
	case owed.InReview+owed.AwaitingApproval > 0:
		level = levelNote
	}
	message = "nothing waits for a person"
	if level != levelOK {
		message = fmt.Sprintf("%d bids are in review, the oldest for %s; %d await approval",
			owed.InReview, owed.OldestReview.Round(time.Second), owed.AwaitingApproval)
	}
	e.report("for a person", level, message, "`bidder review list`: their postings are not bid on meanwhile")
	return nil
}

func (e *examination) paused(ctx context.Context, q *queries.Queries) error {
	paused, err := q.PausedAccounts(ctx)
	if err != nil {
		return fmt.Errorf("list what is paused: %w", err)
	}
	var pauses []string
	for _, p := range paused {
		pauses = append(pauses, fmt.Sprintf("%s by %s since %s (%s)", p.Marketplace, p.PausedBy, exactTime(p.PausedAt), p.Reason))
	}
	e.expect("paused", len(paused) == 0, levelWarning, strings.TrimSpace(fmt.Sprintf("%d accounts are paused %s", len(paused), strings.Join(pauses, ", "))),
		"`bidder resume MARKETPLACE` when the reason is gone")
	return nil
}
