package model

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
	case judgedClaim:
		m.insert(s, i, out)
	case leasedPlace, leasedRemove:
		m.lookUp(s, i, say)
	case heldFinding:
		m.judge(s, i, say)
	case aboutToArm:
		m.arm(s, i, out)
	case armed:
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
	if s.rows[maxRows-1].status != absent {
		return
	}
	if m.rules.ClaimLock {
		m.insert(s, i, out)
		return
	}
	s.workers[i] = worker{step: judgedClaim}
	out(act{what: "judges that the posting is free", worker: i + 1}, s)
}

func (m machine) insert(s state, i int, out emit) {
	s.workers[i] = worker{}
	for r := range s.rows {
		if m.rules.UniqueIndex && s.rows[r].status == active {
			out(act{what: "is refused by the unique index", worker: i + 1}, s)
			return
		}
		if s.rows[r].status != absent {
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
		case b.posts == 0 && (!m.world.ByPosting || !m.rules.LookFirst):
			w.step = aboutToArm
		default:
			w.step = leasedPlace
		}
		to.workers[i] = w
		out(act{what: what, worker: i + 1, row: uint8(r), fair: true}, to)
	}
}

func (m machine) isUnsent(b row) bool {
	return b.posts == 0 && (b.id == 0 || !m.rules.UnsentHasNoID)
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

	if w.id != 0 && !w.guessed {
		w.found = s.bids[w.id-1].shown
		hold("reads the bid by its id", w)
		return
	}
	var shownLive, shownEnded bool
	for own := range 2 { // what is surely ours before what is on the posting
		for j, b := range s.bids {
			id := uint8(j + 1)
			surely := m.world.Dedup != NaturalKey && b.key == w.row+1
			if surely != (own == 0) || (!surely && !m.world.ByPosting) {
				continue
			}
			if b.shown != live || shownLive && own == 1 || m.rules.OthersIDs && s.knownElsewhere(id, w.row) {
				continue
			}
			shownLive = true
			w := w
			w.found, w.bid, w.guessed = live, id, !surely
			if w.id != id {
				w.id = 0 // another one than was adopted
			}
			hold("looks up, and finds a live bid", w)
		}
	}
	if w.id != 0 && !shownLive {
		w.found = s.bids[w.id-1].shown
		hold("looks up by posting, finds nothing live, and reads the bid by its id", w)
		return
	}
	for j, b := range s.bids {
		id := uint8(j + 1)
		ours := m.world.Dedup == NaturalKey || b.key == w.row+1
		if shownLive || !ours || b.shown == live || b.shown == unseen || m.rules.OthersIDs && s.knownElsewhere(id, w.row) {
			continue
		}
		shownEnded = true
		w.found, w.bid, w.guessed = b.shown, id, m.world.Dedup == NaturalKey
		hold("looks up, and finds a bid that has ended", w)
	}
	if !shownLive && !shownEnded {
		w.found, w.bid = unseen, 0
		hold("looks up, and finds nothing", w)
	}
}

// judge says what a finding proves.
func (m machine) judge(s state, i int, say func(string, state)) {
	w := s.workers[i]
	if !m.rules.SettleThenLook {
		w.settled = s.rows[w.row].settled
	}
	if w.removal {
		m.judgeRemoval(&w)
	} else {
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

func (m machine) judgeRemoval(w *worker) {
	known := w.id != 0
	unsure := w.guessed && w.posts > 0 && !w.settled && m.rules.RetractAfterSettle
	w.step = deciding
	switch {
	case w.found == takenBack && known, w.found == refused && (known || w.settled):
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

// arm counts a POST before it is sent.
func (m machine) arm(s state, i int, out emit) {
	w, b := s.workers[i], &s.rows[s.workers[i].row]
	armable := b.status == active && b.kind == place && b.phase == leased && b.posts < m.postCap() &&
		(w.mine || !m.rules.ArmNeedsToken) &&
		(!b.asked || !m.rules.ArmNeedsNoRequest) &&
		(!b.expired || !m.rules.ArmNeedsLease)
	if !armable {
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
	landed, id := s.landed(r + 1)
	what := "executed"
	if id == 0 {
		what = breach + "m: the model has no room for it"
	}
	each(execution{what: what, verdict: submitted, bid: id}, landed)
	each(execution{what: "refused for good", verdict: toRejected}, s)
	each(execution{what: "not executed", verdict: unsent}, s)
	each(execution{what: "refused, for a person to look at", verdict: toReview}, s)
}

// landed returns the state with one more live bid, and its number.
func (s state) landed(key uint8) (state, uint8) {
	for j := range s.bids {
		if s.bids[j].state == unseen {
			s.bids[j] = bid{state: live, key: key}
			return s, uint8(j + 1)
		}
	}
	return s, 0
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

// record writes what was proved, and gives the lease back.
func (m machine) record(s state, i int, say func(string, state)) {
	w, b := s.workers[i], &s.rows[s.workers[i].row]
	s.workers[i] = worker{}
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
		landed, id := s.landed(0)
		landed.handsUsed = true
		out(act{what: "a person bids at the marketplace", bid: id}, landed)
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
