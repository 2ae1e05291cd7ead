package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/pkg/bidding"
)

// This test binary is also a program that guards a critical section on a posting with the lock
// manager, as users of the package write them.
const (
	holdCommand = "hold"

	holdTTL = 5 * time.Second

	// The exit codes of hold.
	holdDone    = 0
	holdBroken  = 1
	holdExpired = 7
)

// When hold writes its bid: it pauses either way until its standard input ends.
const (
	writeBeforePause = "before"
	writeAfterPause  = "after"
)

// hold bids on the posting upwork JOB_ID in one critical section: arguments are the database,
// the job id, and when to write.
func hold(args []string) int {
	err := holdLock(context.Background(), args[0], args[1], args[2])
	switch {
	case err == nil:
		return holdDone
	case errors.Is(err, bidding.ErrLockExpired):
		fmt.Println("expired:", err)
		return holdExpired
	}
	fmt.Println(err)
	return holdBroken
}

func holdLock(ctx context.Context, url, jobID, write string) error {
	pool, err := db.Open(ctx, db.Options{URL: url, MaxConns: 1, Application: "holder"})
	if err != nil {
		return err
	}
	defer pool.Close()
	limits := bidding.Limits{TTL: holdTTL, Statement: patience}
	locker := bidding.NewLocker(pool, limits, &bidding.Counters{})
	return locker.WithLock(ctx, "upwork", jobID, 0, func(ctx context.Context, tx pgx.Tx) error {
		if write == writeBeforePause {
			if err := insertBid(ctx, tx, jobID); err != nil {
				return err
			}
		}
		fmt.Println("locked")
		_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
		if write == writeAfterPause {
			return insertBid(ctx, tx, jobID)
		}
		return nil
	})
}

func insertBid(ctx context.Context, tx pgx.Tx, jobID string) error {
	_, err := tx.Exec(ctx, "INSERT INTO bids (marketplace, job_id, amount_cents, proposal) VALUES ('upwork', $1, 1, 'of the holder')", jobID)
	return err
}
