package sandbox

import "time"

// Op is one of the operations of a marketplace.
type Op string

// The operations. Those from Self on are of the Freelancer.com API alone.
const (
	Place       Op = "place"
	Lookup      Op = "lookup"
	Withdraw    Op = "withdraw"
	Self        Op = "self"
	Search      Op = "search"
	ReadProject Op = "project"
	Authorize   Op = "authorize"
	Token       Op = "token"
)

// State is how far a request has come.
type State string

// The states of requests.
const (
	Received State = "received"
	Held     State = "held"
	Answered State = "answered"
	Dropped  State = "dropped"
)

// Entry is a request in the journal, in the order of arrival.
type Entry struct {
	Seq         int64      `json:"seq"` // from 1
	At          time.Time  `json:"at"`
	Marketplace string     `json:"marketplace"`
	Op          Op         `json:"op"`
	Key         string     `json:"key"` // the idempotency key, of look-ups that of the path
	MessageID   string     `json:"message_id"`
	Attempt     string     `json:"attempt"`
	JobID       string     `json:"job_id"`
	BidID       string     `json:"bid_id"`
	BidderID    int64      `json:"bidder_id,omitempty"` // of the Freelancer.com API: who bids, else who calls
	ExternalID  string     `json:"external_bid_id"`     // of the bid that it asked about, stored or found
	Stored      bool       `json:"stored"`              // it placed or withdrew this bid
	State       State      `json:"state"`
	Status      int        `json:"status"` // 0 without an answer
	Code        string     `json:"code"`   // of a problem
	Faults      []string   `json:"faults"`
	EndedAt     *time.Time `json:"ended_at"`
}

// Journal returns all requests of marketplaces' callers so far, not those of administration.
func (s *Server) Journal() []Entry { return s.journalAfter(0) }

// journalAfter returns the requests since the one of that number.
func (s *Server) journalAfter(seq int64) []Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	rest := s.journal[min(max(seq, 0), int64(len(s.journal))):]
	entries := make([]Entry, len(rest))
	for i, entry := range rest {
		entries[i] = *entry
		entries[i].Faults = append([]string{}, entry.Faults...)
	}
	return entries
}

// note changes an entry.
func (s *Server) note(entry *Entry, change func(*Entry)) {
	s.mu.Lock()
	running := entry.EndedAt == nil
	change(entry)
	if s.save(record{Entry: entry}); s.unsaved != nil {
		entry.State, entry.Status = Dropped, 0
	}
	ended := *entry
	ended.Faults = append([]string{}, entry.Faults...)
	s.mu.Unlock()
	if running && ended.EndedAt != nil && s.opts.Observe != nil {
		s.opts.Observe(ended)
	}
}
