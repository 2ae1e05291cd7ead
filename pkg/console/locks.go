package console

import (
	"context"
	"fmt"
	"net/http"
	"strconv"

	"github.com/arbitrageai/bidder/db/queries"
)

const (
	// maxLocks is how many locks a page lists.
	maxLocks = 500
	// lockWindow is among how many postings of the queue, and of the newest bids, the
	// postings of locks are looked for.
	lockWindow = 20_000
)

type heldLock struct {
	Marketplace, JobID, Link string // of the posting; empty where it was not found
	Key                      string
	PID                      int32
	Application              string
	Since                    moment
	Long                     bool // longer than a claim takes
}

type locksPage struct {
	Locks       []heldLock
	More        int
	Unknown     int    // locks whose posting was not found
	Everywhere  bool   // all postings were looked through
	SearchThere string // where they are
}

// held shows who holds the lock of which posting. A lock is a hash of its posting: the
// posting is looked for where claims take theirs from, and everywhere only on request.
func (s *Server) held(w http.ResponseWriter, r *http.Request) {
	s.view(w, r, "locks", "locks", func(ctx context.Context, v *reading) error {
		body := &locksPage{Everywhere: r.URL.Query().Get("search") == "everywhere"}
		v.Title, v.Body = "Locks", body
		held, err := v.q.HeldAdvisoryLocks(ctx)
		if err != nil {
			return fmt.Errorf("list locks: %w", err)
		}
		if len(held) > maxLocks {
			body.More = len(held) - maxLocks
			held = held[:maxLocks]
		}
		if len(held) == 0 {
			return nil
		}
		keys := make([]int64, len(held))
		for i, lock := range held {
			keys[i] = lock.Key
		}
		found, err := v.q.QueuedOfLockKeys(ctx, lockWindow, keys)
		if err != nil {
			return fmt.Errorf("find the postings of %d locks: %w", len(keys), err)
		}
		postings := make(map[int64]queries.QueuedOfLockKeysRow, len(found))
		for _, row := range found {
			postings[row.Key] = row
		}
		if body.Everywhere {
			all, err := v.q.PostingsOfLockKeys(ctx, keys)
			if err != nil {
				return fmt.Errorf("find the postings of %d locks: %w", len(keys), err)
			}
			for _, row := range all {
				postings[row.Key] = queries.QueuedOfLockKeysRow(row)
			}
		}
		for _, lock := range held {
			row := heldLock{
				Key: strconv.FormatInt(lock.Key, 10), PID: lock.Pid, Application: lock.ApplicationName, Since: v.at(lock.Since), Long: v.Now.Sub(lock.Since) > longLock,
			}
			if p, known := postings[lock.Key]; known {
				row.Marketplace, row.JobID, row.Link = p.Marketplace, p.JobID, postingLink(p.Marketplace, p.JobID)
			} else {
				body.Unknown++
			}
			body.Locks = append(body.Locks, row)
		}
		if body.Unknown > 0 && !body.Everywhere {
			body.SearchThere = "/locks?search=everywhere"
		}
		return nil
	})
}
