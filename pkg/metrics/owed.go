package metrics

import (
	"context"
	"fmt"
	"time"

	"github.com/arbitrageai/bidder/db/queries"
)

// Owed is what bids owe, and for how long. Ages are 0 where there is nothing.
type Owed struct {
	// At is when it was read, by the database's clock.
	At time.Time
	// ByState counts bids by marketplace, kind and state.
	ByState                    []queries.CountOwedDeliveriesRow
	InReview, AwaitingApproval int64
	// Oldest is the age of the oldest delivery that needs no person, and OldestReview that of
	// the oldest one in review.
	Oldest, OldestReview time.Duration
	// Overdue is how long the longest due delivery has been due.
	Overdue time.Duration
}

// ReadOwed reads what bids owe.
func ReadOwed(ctx context.Context, conn queries.DBTX) (Owed, error) {
	q := queries.New(conn)
	now, err := q.Now(ctx)
	if err != nil {
		return Owed{}, fmt.Errorf("read the database's clock: %w", err)
	}
	rows, err := q.CountOwedDeliveries(ctx)
	if err != nil {
		return Owed{}, fmt.Errorf("count what is owed: %w", err)
	}
	owed := Owed{At: now, ByState: rows}
	for _, row := range rows {
		age := now.Sub(row.Oldest)
		switch row.State {
		case "review":
			owed.InReview += row.Bids
			owed.OldestReview = max(owed.OldestReview, age)
		case "awaiting_approval":
			owed.AwaitingApproval += row.Bids
		default:
			owed.Oldest = max(owed.Oldest, age)
			owed.Overdue = max(owed.Overdue, now.Sub(row.Due))
		}
	}
	return owed, nil
}
