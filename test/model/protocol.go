package model

import "fmt"

// machine makes the steps of the protocol, under some rules, in some world.
type machine struct {
	rules Rules
	world World
}

// act is something that happens. Its zero values do not matter to it.
type act struct {
	what     string
	worker   int // 1 or 2
	row, bid uint8
	fair     bool // happens sooner or later, if it can
}

type emit func(act, state)

// initial returns the states that the world may begin in.
func (m machine) initial() state {
	var s state
	if m.world.Unknown {
		s.bids[0] = bid{state: live, shown: live}
		if m.world.UnknownUnlisted {
			s.bids[0].shown = unseen
		}
	}
	return s
}

// next emits everything that can happen in s.
func (m machine) next(s state, out emit) {
	for i := range s.workers {
		if i > 0 && s.workers[i] == s.workers[i-1] {
			continue // the same again
		}
		m.work(s, i, out)
	}
	m.people(s, out)
	m.time(s, out)
	m.marketplace(s, out)
}

// work emits what one worker can do.
func (m machine) work(s state, i int, out emit) {
	w := s.workers[i]
	say := func(what string, to state) {
		out(act{what: what, worker: i + 1, row: w.row, bid: w.bid, fair: true}, to)
	}
	if w.step != idle {
		to := s
		if w.step == sent {
			to.rows[w.row].flying++
		}
		m.abandonRetraction(&to, w)
		to.workers[i] = worker{}
		out(act{what: "dies", worker: i + 1}, to)
	}
	switch w.step {
	case idle:
		m.claim(s, i, out)
		m.lease(s, i, out)
		m.takeCheck(s, i, out)
	case judgedClaim:
		m.insert(s, i, out)
	case leasedPlace, leasedRemove, tookCheck:
		m.lookUp(s, i, say)
	case heldFinding:
		m.judge(s, i, say)
	case aboutToArm:
		m.arm(s, i, out)
	case armed:
		m.stop(s, i, out)
		m.send(s, i, say)
	case sent:
		m.answer(s, i, say)
	case aboutToTake:
		m.retract(s, i, say)
	case taking:
		m.retracted(s, i, say)
	case tookBack:
		m.readAgain(s, i, say)
	case deciding:
		m.record(s, i, say)
	}
}

// claim inserts the bid of the posting, or of its second life.
func (m machine) claim(s state, i int, out emit) {
	for r := range s.rows {
		if s.rows[r].status == active || s.rows[r].status == rejected {
			return
		}
	}
	if s.rows[m.rowsAllowed()-1].status != absent {
		return
	}
	if m.rules.ClaimLock {
		m.insert(s, i, out)
		return
	}
	s.workers[i] = worker{step: judgedClaim}
	out(act{what: "judges that the posting is free", worker: i + 1}, s)
}

func (m machine) rowsAllowed() int {
	if m.world.Rows == 0 {
		return maxRows
	}
	return m.world.Rows
}

func (m machine) insert(s state, i int, out emit) {
	s.workers[i] = worker{}
	for r := range s.rows {
		if m.rules.UniqueIndex && s.rows[r].status == active {
			out(act{what: "is refused by the unique index", worker: i + 1}, s)
			return
		}
		if s.rows[r].status != absent || r >= m.rowsAllowed() {
			continue
		}
		closed := r > 0 && s.rows[r-1].status == rejected
		s.rows[r] = row{status: active, kind: place, phase: pending}
		what := "claims the posting"
		if closed {
			what = breach + "f: claims a posting whose bid was rejected"
		}
		out(act{what: what, worker: i + 1, row: uint8(r)}, s)
		return
	}
}

// lease takes what is owed: pending, or left by a lease that has run out.
func (m machine) lease(s state, i int, out emit) {
	for r := range s.rows {
		b := s.rows[r]
		if b.phase != pending && (b.phase != leased || !b.expired) {
			continue
		}
		to := s
		to.overtake(uint8(r))
		if b.asked {
			b.kind = withdraw
		}
		b.phase, b.expired = leased, false
		to.rows[r] = b
		w := worker{row: uint8(r), mine: true, posts: b.posts, id: b.id, guessed: b.guessed, removal: b.kind == withdraw}
		what := "leases the placing"
		switch {
		case b.kind == withdraw && m.isUnsent(b):
			what = "leases the withdrawal of what was never sent"
			w.step, w.verdict = deciding, toWithdrawn
		case b.kind == withdraw:
			what = "leases the withdrawal"
			w.step = leasedRemove
		case m.isKnown(w):
			what = "leases the placing of what is known to be there"
			w.step = leasedPlace
		case b.posts == 0 && (!m.world.ByPosting || !m.rules.LookFirst):
			w.step = aboutToArm
		default:
			w.step = leasedPlace
		}
		to.workers[i] = w
		out(act{what: what, worker: i + 1, row: uint8(r), fair: true}, to)
		if w.step == aboutToArm && m.armable(b, w) {
			m.arm(to, i, func(a act, armed state) {
				a.what = what + " and in the same statement " + a.what
				out(a, armed)
			})
		}
	}
}

// lookUp emits every answer that a look-up can give.
func (m machine) lookUp(s state, i int, say func(string, state)) {
	w := s.workers[i]
	w.settled = s.rows[w.row].settled
	hold := func(what string, w worker) {
		to := s
		w.step = heldFinding
		to.workers[i] = w
		if m.rules.SettleThenLook {
			m.judge(to, i, func(_ string, to state) { say(what, to) })
			return
		}
		say(what, to)
	}
	failing := s
	failing.workers[i].step, failing.workers[i].verdict = deciding, again
	say("looks up, and the look-up fails", failing)
	failing.workers[i].verdict = toReview
	say("looks up, and the look-up fails for the last time", failing)

	if w.id != 0 {
		w.found = s.bids[w.id-1].shown
		hold("reads the bid by its id", w)
		if m.world.Hides {
			w.found = unseen
			hold("reads the bid by its id, and finds nothing", w)
		}
		return
	}
	found := m.listed(s, w.row, live)
	if len(found) == 0 {
		found = append(m.listed(s, w.row, takenBack), m.listed(s, w.row, refused)...)
	}
	for _, f := range found {
		w := w
		w.found, w.bid, w.guessed = f.as, f.id, f.guessed
		hold(fmt.Sprintf("looks up, and finds #%d %s", f.id, f.as), w)
	}
	if len(found) == 0 {
		w.found, w.bid = unseen, 0
		hold("looks up, and finds nothing", w)
	}
}

// finding is a bid that a look-up shows.
type finding struct {
	id      uint8
	as      there
	guessed bool // found by posting: it may be somebody else's
}

// listed returns the bids that a look-up for a row shows in a state: what is surely the
// row's own, or else what else is on the posting.
func (m machine) listed(s state, r uint8, as there) []finding {
	var own, others []finding
	for j, b := range s.bids {
		f := finding{id: uint8(j + 1), as: as, guessed: m.world.Dedup == NaturalKey || b.key != r+1}
		stale := m.world.StaleLists && as == live && f.guessed && b.state == takenBack
		switch {
		case b.shown != as && !stale, m.rules.OthersIDs && s.knownElsewhere(f.id, r):
		case !f.guessed:
			own = append(own, f)
		case m.world.ByPosting && (as == live || m.world.Dedup == NaturalKey):
			others = append(others, f)
		}
	}
	if len(own) > 0 {
		return own
	}
	return others
}

// judge says what a finding proves.
func (m machine) judge(s state, i int, say func(string, state)) {
	w := s.workers[i]
	if !m.rules.SettleThenLook {
		w.settled = s.rows[w.row].settled
	}
	switch {
	case w.removal:
		m.judgeRemoval(&w)
	case w.check || m.isKnown(w):
		m.judgeKnown(&w)
	default:
		m.judgePlacing(&w)
	}
	if w.step == deciding && w.verdict != submitted {
		w.bid, w.guessed = 0, false
	}
	w.found = unseen
	s.workers[i] = w
	say("judges what it found", s)
}

func (m machine) judgePlacing(w *worker) {
	w.step = deciding
	switch {
	case w.found == live:
		w.verdict = submitted
	case w.found != unseen && w.posts == 0:
		w.verdict = toReview
	case w.found != unseen && !w.settled:
		w.verdict = again
	case w.found == refused && (w.posts == 1 || !m.rules.RefusalNeedsAccounts):
		w.verdict = toRejected
	case w.found != unseen:
		w.verdict = toReview
	case w.posts == 0:
		w.step = aboutToArm
	case !w.settled && m.rules.SettleBeforeSecond:
		w.verdict = again
	case w.posts < m.postCap():
		w.step = aboutToArm
	case !m.rules.MissKeepsPosts:
		w.verdict = unsent
	case !w.settled:
		w.verdict = again
	default:
		w.verdict = toReview
	}
}

func (m machine) postCap() uint8 {
	switch {
	case !m.rules.PostCap:
		return maxPosts
	case m.world.Dedup == NoDedup:
		return 1
	default:
		return 2
	}
}

// holds says whether a statement that asks for the token does anything.
func (s *state) holds(w worker) bool {
	return w.mine && s.rows[w.row].phase == leased
}

// armable says whether a worker may arm a POST of a row.
func (m machine) armable(b row, w worker) bool {
	return b.status == active && b.kind == place && b.phase == leased && b.posts < m.postCap() &&
		(w.mine || !m.rules.ArmNeedsToken) &&
		(!b.asked || !m.rules.ArmNeedsNoRequest) &&
		(b.id == 0 || !m.rules.KnownIsNotSent) &&
		(!b.expired || !m.rules.ArmNeedsLease)
}

// arm counts a POST before it is sent.
func (m machine) arm(s state, i int, out emit) {
	w, b := s.workers[i], &s.rows[s.workers[i].row]
	if !m.armable(*b, w) {
		w.step, w.verdict = deciding, again
		s.workers[i] = w
		out(act{what: "may not arm", worker: i + 1, row: w.row, fair: true}, s)
		return
	}
	what := "arms a POST"
	if b.asked {
		what = breach + "g: arms a POST after a withdrawal was requested"
	}
	b.posts++
	b.settled = false
	lost := s
	lost.workers[i] = worker{}
	out(act{what: what + ", but does not learn of it", worker: i + 1, row: w.row}, lost)
	w.step, w.posts, w.settled = armed, b.posts, false
	s.workers[i] = w
	out(act{what: what, worker: i + 1, row: w.row, fair: true}, s)
}

// stop emits that a pod is told to stop before its POST.
func (m machine) stop(s state, i int, out emit) {
	w := &s.workers[i]
	w.step, w.verdict, w.late = deciding, unsent, false
	out(act{what: "is told to stop, and sends nothing", worker: i + 1, row: w.row}, s)
}

// send begins the POST, unless its deadline is over.
func (m machine) send(s state, i int, say func(string, state)) {
	w := &s.workers[i]
	if w.late && m.rules.PostDeadline {
		w.step, w.verdict, w.late = deciding, unsent, false
		say("finds the deadline over, and sends nothing", s)
		return
	}
	w.step, w.late = sent, false
	say("sends the POST", s)
}

// answer emits what may come of waiting for the answer to a POST.
func (m machine) answer(s state, i int, say func(string, state)) {
	w := s.workers[i]
	lost := s
	lost.rows[w.row].flying++
	lost.workers[i].step, lost.workers[i].verdict = deciding, again
	say("gives up on the POST, which is still under way", lost)
	m.execute(s, w.row, func(e execution, to state) {
		w := w
		w.step, w.verdict, w.bid, w.guessed = deciding, e.verdict, e.bid, e.guessed
		alone := w.posts == 1 || !m.rules.RefusalNeedsAccounts
		switch {
		case e.dup && m.rules.DuplicateIsNoRefusal:
			w.verdict = again
		case e.dup:
			w.verdict = toRejected
		}
		if (w.verdict == toRejected || w.verdict == toReview) && !alone {
			w.verdict = again
		}
		to.workers[i] = w
		say("is answered: "+e.what, to)
	})
}

// record writes what was proved, and gives the lease back.
func (m machine) record(s state, i int, say func(string, state)) {
	w, b := s.workers[i], &s.rows[s.workers[i].row]
	s.workers[i] = worker{}
	if w.check {
		m.recordCheck(s, w, say)
		return
	}
	if m.rules.RecordNeedsToken && !s.holds(w) || b.status != active {
		say("was overtaken, and records nothing", s)
		return
	}
	asked := b.asked && b.kind == place
	switch w.verdict {
	case again, unsent:
		b.phase, b.expired = pending, false
		if w.verdict == unsent {
			if b.posts--; b.posts == 0 {
				b.settled = false
			}
		}
		say([]string{again: "records: again later", unsent: "records: that POST was not executed"}[w.verdict], s)
	case submitted:
		b.id, b.guessed = w.bid, w.guessed
		b.kind, b.phase, b.expired = nothing, none, false
		if b.asked {
			b.kind, b.phase = withdraw, pending
		}
		say("records: submitted", s)
	case toReview:
		b.phase, b.expired = review, false
		if asked {
			b.kind, b.phase = withdraw, pending
		}
		say("records: a person must look", s)
	case toRejected, toWithdrawn:
		status, what := rejected, "records: REJECTED"
		if w.verdict == toWithdrawn {
			status, what = withdrawn, "records: WITHDRAWN"
		}
		b.end(status)
		say(what, s)
	}
}

// end leaves of a row what still matters.
func (b *row) end(as status) {
	*b = row{status: as, id: b.id, flying: b.flying}
}
