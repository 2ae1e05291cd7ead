package model

// execution is what the marketplace does with a POST, and answers.
type execution struct {
	what    string
	verdict verdict
	bid     uint8
	guessed bool
	dup     bool
}

// execute emits everything that a POST of a row can do at the marketplace.
func (m machine) execute(s state, r uint8, each func(execution, state)) {
	if there := s.liveBid(); m.world.Dedup == NaturalKey && there != 0 {
		if !m.rules.OthersIDs || !s.knownElsewhere(there, r) {
			each(execution{what: "refused: you have bid already, with this id", verdict: submitted, bid: there, guessed: true}, s)
		}
		each(execution{what: "refused: you have bid already", dup: true}, s)
		return
	}
	if earlier := s.bidOf(r); m.world.Dedup == IdempotencyKey && earlier != 0 {
		each(execution{what: "answered as before", verdict: submitted, bid: earlier}, s)
		return
	}
	to, id := landed(s, r+1)
	what := "executed"
	if id == 0 {
		what = breach + "m: the model has no room for it"
	}
	each(execution{what: what, verdict: submitted, bid: id}, to)
	each(execution{what: "refused for good", verdict: toRejected}, s)
	each(execution{what: "not executed", verdict: unsent}, s)
	each(execution{what: "refused, for a person to look at", verdict: toReview}, s)
}

// landed returns the state with one more live bid, and its number.
func landed(s state, key uint8) (state, uint8) {
	for j := range s.bids {
		if s.bids[j].state == unseen {
			s.bids[j] = bid{state: live, key: key}
			return s, uint8(j + 1)
		}
	}
	return s, 0
}

// people emits what persons can do.
func (m machine) people(s state, out emit) {
	for r := range s.rows {
		b := s.rows[r]
		if b.status != active {
			continue
		}
		to := s
		t := &to.rows[r]
		if b.phase == review {
			t.phase = pending
			to.overtake(uint8(r))
			out(act{what: "a person has the delivery tried again", row: uint8(r)}, to)
			to, t = s, &to.rows[r]
		}
		if b.asked {
			continue
		}
		to = s
		t.asked = true
		switch {
		case b.phase == leased && m.rules.RequestWaitsForLease:
		case m.isUnsent(b):
			to.overtake(uint8(r))
			t.end(withdrawn)
		default:
			to.overtake(uint8(r))
			t.kind, t.phase, t.expired = withdraw, pending, false
		}
		out(act{what: "a person asks for the withdrawal", row: uint8(r)}, to)
	}
	if m.world.ByHand && !s.handsUsed && (m.world.Dedup != NaturalKey || s.liveBid() == 0) {
		to, id := landed(s, 0)
		to.handsUsed = true
		out(act{what: "a person bids at the marketplace", bid: id}, to)
	}
}

// time emits what happens because it passes.
func (m machine) time(s state, out emit) {
	for r := range s.rows {
		b := s.rows[r]
		if b.phase == leased && !b.expired {
			to := s
			to.rows[r].expired = true
			if m.rules.ArmNeedsLease {
				to.deadlines(uint8(r), true)
			}
			out(act{what: "the lease runs out", row: uint8(r), fair: true}, to)
		}
		if b.status == active && b.posts > 0 && !b.settled && (m.world.LateArrivals || s.quietAt(uint8(r))) {
			to := s
			to.rows[r].settled = true
			to.deadlines(uint8(r), false)
			out(act{what: "the settle time passes", row: uint8(r), fair: true}, to)
		}
	}
}

// deadlines lets the deadlines of armed POSTs of a row pass.
func (s *state) deadlines(r uint8, onlyMine bool) {
	for i := range s.workers {
		if w := &s.workers[i]; w.step == armed && w.row == r && (w.mine || !onlyMine) {
			w.late = true
		}
	}
}

// quietAt says whether every POST of a row that was sent has taken effect and shows.
func (s *state) quietAt(r uint8) bool {
	for _, w := range s.workers {
		if w.step == sent && w.row == r {
			return false
		}
	}
	for _, b := range s.bids {
		if b.key == r+1 && b.shown == unseen {
			return false
		}
	}
	return s.rows[r].flying == 0
}

// marketplace emits what the marketplace does by itself.
func (m machine) marketplace(s state, out emit) {
	for r := range s.rows {
		if s.rows[r].flying == 0 {
			continue
		}
		to := s
		to.rows[r].flying--
		out(act{what: "an abandoned POST is lost", row: uint8(r), fair: true}, to)
		m.execute(to, uint8(r), func(e execution, landed state) {
			if landed != to {
				out(act{what: "an abandoned POST is " + e.what, row: uint8(r), bid: e.bid, fair: true}, landed)
			}
		})
	}
	for j, b := range s.bids {
		id := uint8(j + 1)
		if b.shown != b.state {
			to := s
			to.bids[j].shown = b.state
			out(act{what: "look-ups come to show what is there", bid: id, fair: true}, to)
		}
		if b.retracting {
			to := s
			to.bids[j].retracting = false
			out(act{what: "an abandoned retraction is lost", bid: id, fair: true}, to)
			if b.state == live {
				to.bids[j].state = takenBack
				out(act{what: "an abandoned retraction takes the bid back", bid: id, fair: true}, to)
			}
		}
		if m.world.EndsThere && b.state == live {
			to := s
			to.bids[j].state = refused
			out(act{what: "the client rejects the bid", bid: id}, to)
		}
	}
	if s.removals > 0 {
		s.removals = 0
		out(act{what: "an abandoned retraction is lost", fair: true}, s)
		if b := s.liveBid(); b != 0 {
			s.bids[b-1].state = takenBack
			out(act{what: "an abandoned retraction takes back what is live", bid: b, fair: true}, s)
		}
	}
}
