package model

// isKnown says whether a worker has leased the placing of a bid that is known to be at the
// marketplace: a person has had it tried again.
func (m machine) isKnown(w worker) bool {
	return !w.removal && w.id != 0 && m.rules.KnownIsNotSent
}

// takeCheck takes a live bid that owes nothing, to look it up.
func (m machine) takeCheck(s state, i int, out emit) {
	for r := range s.rows {
		b := s.rows[r]
		if b.status != active || b.kind != nothing || b.id == 0 {
			continue
		}
		to := s
		to.overtake(uint8(r))
		to.workers[i] = worker{step: tookCheck, row: uint8(r), mine: true, posts: b.posts, id: b.id, guessed: b.guessed, check: true}
		out(act{what: "takes the live bid, to look it up", worker: i + 1, row: uint8(r), fair: true}, to)
	}
}

// judgeKnown says what it proves how a bid of a known id is shown.
func (m machine) judgeKnown(w *worker) {
	unsure := w.guessed && w.posts > 0 && !w.settled && m.rules.RefreshNeedsAccounts
	w.step, w.verdict = deciding, again
	switch {
	case w.found == live:
		w.verdict, w.bid = submitted, w.id
	case w.found == unseen && !m.rules.RefreshMissEndsNothing:
		w.verdict = toWithdrawn
	case w.found == unseen && !w.check && w.settled:
		w.verdict = toReview
	case w.found == unseen || unsure:
	case w.found == takenBack:
		w.verdict = toWithdrawn
	case w.found == refused:
		w.verdict = toRejected
	}
}

// recordCheck writes how a live bid stands, if it is as it was taken.
func (m machine) recordCheck(s state, w worker, say func(string, state)) {
	b := &s.rows[w.row]
	if m.rules.RefreshNeedsToken && (!w.mine || b.kind != nothing) || b.status != active {
		say("was overtaken, and records nothing", s)
		return
	}
	switch w.verdict {
	case toReview:
		b.kind, b.phase, b.expired = place, review, false
		s.overtake(w.row)
		say("records: a person must look how it stands", s)
	case toRejected:
		b.end(rejected)
		say("records: REJECTED", s)
	case toWithdrawn:
		b.end(withdrawn)
		say("records: WITHDRAWN", s)
	case again, unsent, submitted:
		say("records: looked up", s)
	}
}
