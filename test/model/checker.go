package model

import (
	"fmt"
	"strings"
)

// breach marks a step that breaks a promise by being taken.
const breach = "BREACH: "

// Report is what a check found.
type Report struct {
	// States is how many were visited.
	States int
	// Violation says which promise is broken, "" for none.
	Violation string
	// Trace is a shortest way there, a line for each step.
	Trace []string
}

// Check visits every state breadth first and stops at the first that breaks a promise.
func Check(rules Rules, world World) Report {
	c := checker{machine: machine{rules: rules, world: world}, number: map[state]int32{}}
	return c.run()
}

type checker struct {
	machine

	number  map[state]int32
	states  []state
	parents []int32
	// fair edges, backwards: the states from which each may be reached.
	from, to []int32
}

func (c *checker) add(s state, parent int32) int32 {
	s = c.canonical(s)
	n, ok := c.number[s]
	if !ok {
		n = int32(len(c.states))
		c.number[s] = n
		c.states = append(c.states, s)
		c.parents = append(c.parents, parent)
	}
	return n
}

func (c *checker) run() Report {
	c.add(c.initial(), -1)
	for n := int32(0); int(n) < len(c.states); n++ {
		s := c.states[n]
		for _, violation := range c.broken(s) {
			if c.promised(violation) {
				return c.report(violation, n)
			}
		}
		var breached string
		var breachedIn state
		c.next(s, func(a act, to state) {
			if _, what, ok := strings.Cut(a.what, breach); ok && breached == "" && c.promised(what) {
				breached, breachedIn = what, to
			}
			m := c.add(to, n)
			if a.fair && m != n {
				c.from = append(c.from, n)
				c.to = append(c.to, m)
			}
		})
		if breached != "" {
			r := c.report(breached, n)
			r.Trace = append(r.Trace, c.describe(s, breachedIn))
			return r
		}
	}
	if n := c.stuck(); n >= 0 && c.promised("d") {
		return c.report("d: stuck: no continuation ends in done or review", n)
	}
	return Report{States: len(c.states)}
}

// promised says whether a violation, which begins with the letter of its promise, matters.
func (c *checker) promised(violation string) bool {
	return c.world.Promises == "" || strings.Contains(c.world.Promises, violation[:1])
}

// broken says which promises do not hold in s.
func (c *checker) broken(s state) (violations []string) {
	var living, acting int
	for _, b := range s.bids {
		if b.state == live {
			living++
		}
	}
	for _, b := range s.rows {
		if b.status == active {
			acting++
		}
	}
	if acting > 1 {
		violations = append(violations, "i: two ACTIVE bids on the posting")
	}
	if living > 1 {
		violations = append(violations, "a: two live bids at the marketplace")
	}
	for r, b := range s.rows {
		if b.status != withdrawn && b.status != rejected {
			continue
		}
		for j, there := range s.bids {
			own := int(there.key) == r+1 || int(b.id) == j+1 ||
				b.status == rejected && c.world.Unknown && c.world.Dedup == NaturalKey // which refuses for this one
			if there.state == live && own && !s.adopted(j, r) {
				violations = append(violations, fmt.Sprintf("c: bid %d has ended and is live at the marketplace", r+1))
			}
		}
		if b.status == rejected && s.underWay(uint8(r), c.rules) {
			violations = append(violations, fmt.Sprintf("e: bid %d is REJECTED and a POST of it may still take effect", r+1))
		}
	}
	if s.atRest() {
		violations = append(violations, c.unmatched(s)...)
	}
	return violations
}

// adopted says whether a bid at the marketplace belongs to a live row other than r.
func (s *state) adopted(j, r int) bool {
	for i, b := range s.rows {
		if i != r && b.status == active && int(b.id) == j+1 {
			return true
		}
	}
	return false
}

func (s *state) underWay(r uint8, rules Rules) bool {
	for _, w := range s.workers {
		if w.row == r && (w.step == sent || w.step == armed && (!w.late || !rules.PostDeadline)) {
			return true
		}
	}
	return s.rows[r].flying > 0
}

// atRest says whether nothing can happen any more without a person.
func (s *state) atRest() bool {
	for _, w := range s.workers {
		if w.step != idle {
			return false
		}
	}
	for _, b := range s.rows {
		if b.flying > 0 || b.phase == pending || b.phase == leased {
			return false
		}
	}
	for _, b := range s.bids {
		if b.shown != b.state || b.retracting {
			return false
		}
	}
	return s.removals == 0
}

// unmatched says where rows and marketplace differ in a world at rest.
func (c *checker) unmatched(s state) (violations []string) {
	for r, b := range s.rows {
		if b.status == active && b.phase == none && (b.id == 0 || s.bids[b.id-1].state == takenBack) {
			violations = append(violations, fmt.Sprintf("b: bid %d counts as submitted and is not at the marketplace", r+1))
		}
	}
	for j, b := range s.bids {
		if b.state != live || b.key == 0 {
			continue
		}
		known := false
		for _, r := range s.rows {
			known = known || r.status == active && (int(r.id) == j+1 || r.phase == review)
		}
		if !known {
			violations = append(violations, fmt.Sprintf("b: nobody knows of bid %d at the marketplace", j+1))
		}
	}
	return violations
}

// stuck returns a state from which fair steps never lead to a settled one, or -1.
func (c *checker) stuck() int32 {
	first := make([]int32, len(c.states)+1) // edges sorted by where they lead
	for _, m := range c.to {
		first[m+1]++
	}
	for i := range c.states {
		first[i+1] += first[i]
	}
	sources := make([]int32, len(c.from))
	next := append([]int32(nil), first...)
	for i, m := range c.to {
		sources[next[m]] = c.from[i]
		next[m]++
	}
	reached := make([]bool, len(c.states))
	var queue []int32
	for n, s := range c.states {
		good := true
		for _, b := range s.rows {
			good = good && b.phase != pending && b.phase != leased
		}
		if good {
			reached[n] = true
			queue = append(queue, int32(n))
		}
	}
	for len(queue) > 0 {
		n := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		for _, from := range sources[first[n]:first[n+1]] {
			if !reached[from] {
				reached[from] = true
				queue = append(queue, from)
			}
		}
	}
	for n, ok := range reached {
		if !ok {
			return int32(n)
		}
	}
	return -1
}

func (c *checker) report(violation string, n int32) Report {
	var path []int32
	for at := n; at >= 0; at = c.parents[at] {
		path = append([]int32{at}, path...)
	}
	r := Report{States: len(c.states), Violation: violation}
	for i := 1; i < len(path); i++ {
		r.Trace = append(r.Trace, c.describe(c.states[path[i-1]], c.states[path[i]]))
	}
	return r
}

// describe names the step from one state to another.
func (c *checker) describe(from, to state) string {
	line := "?"
	to = c.canonical(to)
	c.next(from, func(a act, s state) {
		if line == "?" && c.canonical(s) == to {
			line = a.String()
		}
	})
	return line + "\n        " + to.String()
}
