package sandbox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Do is what a fault does.
type Do string

// What faults do. All that match a request happen, in the order in which they were added,
// until one of them ends it.
const (
	// Answer answers with Status, Code and RetryAfter instead.
	Answer Do = "answer"
	// Drop closes the connection instead of answering.
	Drop Do = "drop"
	// Slow goes on after MS milliseconds.
	Slow Do = "slow"
	// Hold goes on when it is released, even if the caller is gone by then.
	Hold Do = "hold"
	// NoID leaves the id out of the answer to a bid that was placed.
	NoID Do = "no_id"
	// Lag hides a new bid from look-ups for MS milliseconds.
	Lag Do = "lag"
)

// When is whether a fault comes before the marketplace does what it is asked, or after.
type When string

// The times of faults. Before is the default; NoID and Lag have their own.
const (
	Before When = "before"
	After  When = "after"
)

// Fault is something that goes wrong with the next requests that match it.
type Fault struct {
	ID   int64 `json:"id"` // given by the sandbox
	Do   Do    `json:"do"`
	When When  `json:"when"`

	// Op, Marketplace, JobID and BidID choose requests; what is empty matches all.
	Op          Op     `json:"op"`
	Marketplace string `json:"marketplace"`
	JobID       string `json:"job_id"`
	BidID       string `json:"bid_id"`
	// Count is how many requests it is for; 0 is all, until it is removed.
	Count int `json:"count"`

	MS         int    `json:"ms"`
	Status     int    `json:"status"`
	Code       string `json:"code"`
	RetryAfter int    `json:"retry_after"` // seconds
}

// armed is a fault in use.
type armed struct {
	Fault

	Hits     int `json:"hits"`
	released chan struct{}
}

func (f *armed) delay() time.Duration { return time.Duration(f.MS) * time.Millisecond }

func (f *armed) matches(e *Entry) bool {
	return (f.Op == "" || f.Op == e.Op) && (f.Marketplace == "" || f.Marketplace == e.Marketplace) &&
		(f.JobID == "" || f.JobID == e.JobID) && (f.BidID == "" || f.BidID == e.BidID) && (f.Count == 0 || f.Hits < f.Count)
}

// ErrFault says that a fault makes no sense.
var ErrFault = errors.New("this fault makes no sense")

// AddFault returns the id of a new fault.
func (s *Server) AddFault(f Fault) (int64, error) {
	switch f.Do {
	case NoID, Lag:
		f.Op, f.When = cmp.Or(f.Op, Place), ""
	default:
		f.When = cmp.Or(f.When, Before)
	}
	if why := f.objection(); why != "" {
		return 0, fmt.Errorf("%w: %s", ErrFault, why)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faultID++
	f.ID = s.faultID
	s.faults = append(s.faults, &armed{Fault: f, released: make(chan struct{})})
	return f.ID, nil
}

// objection says what is wrong with a fault, if anything.
func (f Fault) objection() string {
	switch {
	case !slices.Contains([]Do{Answer, Drop, Slow, Hold, NoID, Lag}, f.Do):
		return "do is one of answer, drop, slow, hold, no_id and lag"
	case !slices.Contains([]Op{"", Place, Lookup, Withdraw, Self, Search, ReadProject, Authorize, Token}, f.Op):
		return "op is one of place, lookup, withdraw, self, search, project, authorize and token"
	case !slices.Contains([]When{"", Before, After}, f.When):
		return "when is before or after"
	case (f.Do == NoID || f.Do == Lag) && f.Op != Place:
		return string(f.Do) + " is for place"
	case f.Do == Answer && (f.Status < 200 || f.Status > 599):
		return "answer needs a status from 200 to 599"
	case (f.Do == Slow || f.Do == Lag) && f.MS <= 0:
		return string(f.Do) + " needs ms"
	case min(f.Count, f.MS, f.RetryAfter) < 0:
		return "count, ms and retry_after are not negative"
	default:
		return ""
	}
}

// Reset removes all faults and lets go what they hold.
func (s *Server) Reset() {
	s.Release(0)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

// Release lets go the requests that a fault holds, or all with 0. The fault holds the next
// ones again, if it is not used up.
func (s *Server) Release(fault int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.faults {
		if fault == 0 || fault == f.ID {
			close(f.released)
			f.released = make(chan struct{})
		}
	}
}

// WaitHeld waits until at least that many requests are held at once.
func (s *Server) WaitHeld(ctx context.Context, count int) error {
	for {
		s.mu.Lock()
		held, changed := s.held, s.changed
		s.mu.Unlock()
		if held >= count {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("wait for %d held requests, there are %d: %w", count, held, context.Cause(ctx))
		}
	}
}

func isDo(do Do) func(*armed) bool {
	return func(f *armed) bool { return f.Do == do }
}

// take uses a fault up once, the first that matches the call, and returns it as it is now: what
// is released from here on is released.
func (s *Server) take(c *call, wanted func(*armed) bool) *armed {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.faults {
		if wanted(f) && f.matches(c.entry) {
			s.use(f, c.entry)
			return new(*f)
		}
	}
	return nil
}

func (s *Server) use(f *armed, e *Entry) {
	f.Hits++
	name := string(f.Do)
	if f.When != "" {
		name += " " + string(f.When)
	}
	e.Faults = append(e.Faults, name)
}

// suffer lets the faults of a time happen, and returns what to answer where one ended the call.
func (s *Server) suffer(c *call, when When) (reply, bool) {
	var last int64
	for {
		f := s.take(c, func(f *armed) bool { return f.When == when && f.ID > last })
		if f == nil {
			return reply{}, false
		}
		last = f.ID
		switch f.Do {
		case Answer:
			return c.protocol.told(c, f.Fault), true
		case Slow:
			if !s.sleep(f.delay()) {
				return reply{}, true
			}
		case Hold:
			if !s.hold(c.entry, f.released) {
				return reply{}, true
			}
		default:
			return reply{}, true
		}
	}
}

// sleep reports whether the sandbox is still open afterwards.
func (s *Server) sleep(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-s.closed:
		return false
	}
}

// hold reports whether the call was released, as opposed to the sandbox being closed. That the
// caller has gone does not matter: what is on its way to a marketplace may still arrive.
func (s *Server) hold(e *Entry, released <-chan struct{}) bool {
	s.setHeld(e, +1, Held)
	defer s.setHeld(e, -1, Received)
	select {
	case <-released:
		return true
	case <-s.closed:
		return false
	}
}

func (s *Server) setHeld(e *Entry, by int, state State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e.State = state
	s.held += by
	close(s.changed)
	s.changed = make(chan struct{})
}
