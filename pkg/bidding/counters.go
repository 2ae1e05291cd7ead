package bidding

import "sync"

// Locks count attempts to get the lock of a posting: attempts, not tries.
// Attempts = Successes + Timeouts + those that broke before they knew.
type Locks struct {
	Attempts  int64 `json:"attempts"`
	Successes int64 `json:"successes"`
	Conflicts int64 `json:"conflicts"` // attempts whose first try failed
	Timeouts  int64 `json:"timeouts"`  // attempts that gave up
}

// Counts are a consistent reading of [Counters].
type Counts struct {
	Attempts int64
	Outcomes map[Outcome]int64 // all nine, zeros included; they add up to Attempts
	Locks    Locks
}

// Counters add up attempts. They are safe for concurrent use; the zero value counts from 0.
type Counters struct {
	mu       sync.Mutex
	outcomes map[Outcome]int64
	locks    Locks
}

// Counts reads the counters.
func (c *Counters) Counts() Counts {
	c.mu.Lock()
	defer c.mu.Unlock()
	counts := Counts{Outcomes: make(map[Outcome]int64, len(Outcomes())), Locks: c.locks}
	for _, outcome := range Outcomes() {
		counts.Outcomes[outcome] = c.outcomes[outcome]
		counts.Attempts += c.outcomes[outcome]
	}
	return counts
}

// add counts finished attempts, each once, whatever was tried for them in between.
func (c *Counters) add(attempts []Attempt) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.outcomes == nil {
		c.outcomes = make(map[Outcome]int64, len(Outcomes()))
	}
	for i := range attempts {
		a := &attempts[i]
		c.outcomes[a.Outcome]++
		c.locks.add(a.acquired, a.conflicted, a.Outcome == Locked)
	}
}

func (c *Counters) addLock(acquired, conflicted, gaveUp bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.locks.add(acquired, conflicted, gaveUp)
}

func (l *Locks) add(acquired, conflicted, gaveUp bool) {
	l.Attempts++
	if conflicted {
		l.Conflicts++
	}
	switch {
	case acquired:
		l.Successes++
	case gaveUp:
		l.Timeouts++
	}
}
