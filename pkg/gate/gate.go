// Package gate stands before every call to a marketplace. The database decides there, for all
// pods: no call while the account is paused, and no more of them than its rate allows.
package gate

import (
	"context"
	"fmt"
	"time"

	"github.com/arbitrageai/bidder/db/queries"
)

// statementTime bounds one statement, from outside.
const statementTime = 10 * time.Second

// Gate is that of one account.
type Gate struct {
	Queries              *queries.Queries
	Marketplace, Account string
	// Gap is the shortest time between two calls, over all pods; 0 is none.
	Gap time.Duration
}

// Answer is whether a call may be made now.
type Answer int

// The answers.
const (
	// Open: make the call.
	Open Answer = iota
	// Paused: the account is paused.
	Paused
	// Crowded: others use up the account's rate.
	Crowded
	// Stopped: whoever asked has been told to stop.
	Stopped
)

// Pass waits for a slot of the account's rate, if that is not further away than patience, until
// stop ends. With Crowded it says how far away the slot is. Statements run under ctx.
func (g Gate) Pass(ctx, stop context.Context, patience time.Duration) (Answer, time.Duration, error) {
	select {
	case <-stop.Done():
		return Stopped, 0, nil
	default:
	}
	slot, err := within(ctx, func(ctx context.Context) (queries.TakeSlotRow, error) {
		return g.Queries.TakeSlot(ctx, queries.TakeSlotParams{
			Marketplace: g.Marketplace, Account: g.Account, Gap: g.Gap, Patience: patience,
		})
	})
	switch {
	case err != nil:
		return Crowded, 0, fmt.Errorf("take a slot of the account's rate: %w", err)
	case slot.Paused:
		return Paused, 0, nil
	case !slot.Taken:
		return Crowded, slot.Wait, nil
	case slot.Wait == 0:
		return Open, 0, nil
	case !sleep(stop, slot.Wait):
		return Stopped, 0, nil
	}
	paused, err := within(ctx, func(ctx context.Context) (bool, error) {
		return g.Queries.AccountIsPaused(ctx, g.Marketplace, g.Account)
	})
	if err != nil {
		return Crowded, 0, fmt.Errorf("read whether the account is paused: %w", err)
	}
	if paused {
		return Paused, 0, nil
	}
	return Open, 0, nil
}

// defaultPatience is how far ahead Await takes a slot, where the gap is not longer.
const defaultPatience = 2 * time.Second

// Await passes as soon as there is a slot, until stop ends; it is never Crowded. Each time it
// has to wait for others, it tells waiting for how long.
func (g Gate) Await(ctx, stop context.Context, waiting func(time.Duration)) (Answer, error) {
	for {
		answer, wait, err := g.Pass(ctx, stop, max(defaultPatience, g.Gap))
		if err != nil || answer != Crowded {
			return answer, err
		}
		waiting(wait)
		if !sleep(stop, wait) {
			return Stopped, nil
		}
	}
}

// sleep reports whether nobody stopped it.
func sleep(stop context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-stop.Done():
		return false
	}
}

func within[T any](ctx context.Context, statement func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, statementTime)
	defer cancel()
	return statement(ctx)
}
