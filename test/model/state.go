package model

import "bytes"

// Bounds of the model.
const (
	maxRows    = 3 // a bid and, once it is withdrawn, a second one, and a third
	maxWorkers = 2
	maxBids    = 5 // at the marketplace; the protocol never gets there
	maxPosts   = 3 // of a row; only without PostCap
)

type status uint8

const (
	absent status = iota
	active
	withdrawn
	rejected
)

type kind uint8

const (
	nothing kind = iota
	place
	withdraw
)

type phase uint8

const (
	none phase = iota
	pending
	leased
	review
)

// row is a row of bids.
type row struct {
	status  status
	kind    kind
	phase   phase
	expired bool  // the lease has run out
	posts   uint8 // place_posts
	settled bool  // the settle time has passed since last_post_at
	id      uint8 // external_bid_id: 1 + the index of the bid, 0 for unknown
	guessed bool  // the id was found by posting: it may be somebody else's bid
	asked   bool  // withdraw_requested_at
	flying  uint8 // POSTs under way that nobody waits for
}

type there uint8

const (
	unseen there = iota
	live
	takenBack
	refused
)

// bid is a bid at the marketplace.
type bid struct {
	state      there
	shown      there // what look-ups show
	key        uint8 // 1 + the row whose POST made it, 0 for a person
	retracting bool  // a retraction of it is under way that nobody waits for
}

type step uint8

const (
	idle         step = iota
	judgedClaim       // about to insert; only without ClaimLock
	leasedPlace       // about to look up
	heldFinding       // a look-up's answer in hand; only without SettleThenLook
	aboutToArm        //
	armed             // about to send
	sent              // waits for the answer
	leasedRemove      // a withdrawal: about to look up or read
	tookCheck         // a live bid that owes nothing: about to read
	aboutToTake       // about to retract
	taking            // waits for the answer to the retraction
	tookBack          // told that it is done: about to read again
	deciding          // about to record
)

type verdict uint8

const (
	again verdict = iota
	unsent
	submitted
	toReview
	toRejected
	toWithdrawn
)

// worker is a pod at work.
type worker struct {
	step    step
	row     uint8
	mine    bool  // its token is the row's
	posts   uint8 // place_posts as it knows them
	settled bool  // as measured
	removal bool  // it leased a withdrawal
	check   bool  // it took a live bid that owes nothing
	id      uint8 // external_bid_id as it knows it
	bid     uint8 // a bid that it found, or was answered with: 1 + index
	guessed bool
	late    bool // the deadline of its POST is over
	verdict verdict
	found   there // of a finding in hand
}

// state is a state of the world. Equal states are equal values.
type state struct {
	rows      [maxRows]row
	bids      [maxBids]bid
	workers   [maxWorkers]worker
	removals  uint8 // retractions of whatever is live, under way; only without RetractByID
	handsUsed bool  // the person has placed its bid
}

// canonical returns the one state that stands for all that cannot be told apart from s.
func (m machine) canonical(s state) state {
	for i := range s.workers {
		m.forget(&s, i)
	}
	for j := range s.bids {
		if s.bids[j].state != live {
			s.bids[j].retracting = false
		}
	}
	first, second := s.workers[0].key(), s.workers[1].key()
	if bytes.Compare(first[:], second[:]) > 0 {
		s.workers[0], s.workers[1] = s.workers[1], s.workers[0]
	}
	return s
}

// forget drops what a worker knows and cannot use any more. One whose token is old can
// neither arm nor record: what it has not sent it never sends, and what it has sent is
// under way without it.
func (m machine) forget(s *state, i int) {
	w := &s.workers[i]
	if w.step == deciding {
		w.posts, w.settled, w.id, w.removal = 0, false, 0, false
	}
	if w.mine || !m.rules.RecordNeedsToken || !m.rules.ArmNeedsToken || w.check && !m.rules.RefreshNeedsToken {
		return
	}
	switch w.step {
	case idle, judgedClaim:
	case armed:
		if w.late && m.rules.PostDeadline {
			*w = worker{}
			return
		}
		*w = worker{step: armed, row: w.row, late: w.late}
	case sent:
		s.rows[w.row].flying++
		*w = worker{}
	case taking:
		m.abandonRetraction(s, *w)
		*w = worker{}
	case leasedRemove, heldFinding, aboutToTake:
		if !w.removal || w.id == 0 {
			*w = worker{}
		}
	case leasedPlace, aboutToArm, tookBack, tookCheck, deciding:
		*w = worker{}
	}
}

func (w worker) key() [13]byte {
	return [13]byte{
		byte(w.step), w.row, bit(w.mine), w.posts, bit(w.settled), bit(w.removal), w.id, w.bid, bit(w.guessed), bit(w.late), byte(w.verdict), byte(w.found),
		bit(w.check),
	}
}

func bit(b bool) byte {
	if b {
		return 1
	}
	return 0
}

// overtake makes every worker's token of a row an old one.
func (s *state) overtake(r uint8) {
	for i := range s.workers {
		if s.workers[i].row == r {
			s.workers[i].mine = false
		}
	}
}

// knownElsewhere says whether a row other than r has the id.
func (s *state) knownElsewhere(id, r uint8) bool {
	for i := range s.rows {
		if uint8(i) != r && s.rows[i].id == id {
			return true
		}
	}
	return false
}

// liveBid returns 1 + the index of a live bid, or 0.
func (s *state) liveBid() uint8 {
	for i := range s.bids {
		if s.bids[i].state == live {
			return uint8(i + 1)
		}
	}
	return 0
}

// bidOf returns 1 + the index of a bid made under a row's key, or 0.
func (s *state) bidOf(r uint8) uint8 {
	for i := range s.bids {
		if s.bids[i].state != unseen && s.bids[i].key == r+1 {
			return uint8(i + 1)
		}
	}
	return 0
}
