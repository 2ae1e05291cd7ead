package model

func (m machine) isUnsent(b row) bool {
	return b.posts == 0 && (b.id == 0 || !m.rules.UnsentHasNoID)
}

func (m machine) judgeRemoval(w *worker) {
	known := w.id != 0
	unsure := w.guessed && w.posts > 0 && !w.settled && m.rules.RetractAfterSettle
	w.step = deciding
	switch {
	case w.found == takenBack && (known || !m.rules.EndedNeedsID), w.found == refused && (known || w.settled):
		w.verdict = toWithdrawn
		if w.found == refused {
			w.verdict = toRejected
		}
		if unsure {
			w.verdict = again
		}
	case (w.found == live || known) && unsure:
		w.verdict = again
	case w.found == live, known:
		w.step = aboutToTake
	case w.found == unseen && !m.rules.MissIsNotWithdrawn:
		w.verdict = toWithdrawn
	case !w.settled:
		w.verdict = again
	default:
		w.verdict = toReview
	}
}

// retract sends the retraction, if the lease still covers it.
func (m machine) retract(s state, i int, say func(string, state)) {
	w := s.workers[i]
	if w.id == 0 { // adopt it first
		if !s.holds(w) && m.rules.RecordNeedsToken || s.rows[w.row].status != active {
			s.workers[i] = worker{}
			say("may not record the id", s)
			return
		}
		b := &s.rows[w.row]
		b.id, b.guessed = w.bid, w.guessed
		w.id = w.bid
		s.workers[i] = w
		say("records the id", s)
		return
	}
	w.bid, w.step = 0, taking
	s.workers[i] = w
	say("sends the retraction", s)
}

// abandonRetraction leaves a retraction under way that its sender no longer waits for.
func (m machine) abandonRetraction(s *state, w worker) {
	switch {
	case w.step != taking:
	case m.rules.RetractByID:
		s.bids[w.id-1].retracting = true
	default:
		s.removals = 1
	}
}

// retracted emits what may come of waiting for the answer to a retraction.
func (m machine) retracted(s state, i int, say func(string, state)) {
	w := s.workers[i]
	lost := s
	m.abandonRetraction(&lost, w)
	lost.workers[i].step, lost.workers[i].verdict = deciding, again
	if !m.rules.LostRetraction {
		lost.workers[i].verdict = toWithdrawn
	}
	say("gives up on the retraction, which is still under way", lost)

	target := w.id
	if !m.rules.RetractByID {
		target = s.liveBid()
	}
	told := s
	told.workers[i].step = tookBack
	if !m.rules.ReadAgain {
		told.workers[i].step, told.workers[i].verdict = deciding, toWithdrawn
	}
	if m.world.HastyRetraction && m.rules.RetractByID {
		hasty := told
		hasty.bids[w.id-1].retracting = true
		say("is told that the bid is withdrawn, which is not so yet", hasty)
	}
	if target == 0 || s.bids[target-1].state != live {
		failed := s
		failed.workers[i].step, failed.workers[i].verdict = deciding, again
		say("is told that there is nothing to withdraw", failed)
		failed.workers[i].verdict = toReview
		say("is told for the last time that there is nothing to withdraw", failed)
		return
	}
	told.bids[target-1].state = takenBack
	say("is told that the bid is withdrawn", told)
}

// readAgain ends the bid when the marketplace shows it ended.
func (m machine) readAgain(s state, i int, say func(string, state)) {
	w := &s.workers[i]
	shown := s.bids[w.id-1].shown
	w.step, w.verdict = deciding, again
	switch {
	case shown == takenBack, shown == unseen && !m.world.HastyRetraction:
		w.verdict = toWithdrawn
	case shown == refused:
		w.verdict = toRejected
	}
	say("reads the bid again", s)
}
