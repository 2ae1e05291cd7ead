package sandbox

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/arbitrageai/bidder/pkg/marketplace"
)

// record is a line of the state file: a bid or a request as it is from then on.
type record struct {
	Bid *Bid `json:"bid,omitempty"`
	// Sum is of the body of the POST that placed the bid, and only of that.
	Sum   []byte `json:"sum,omitempty"`
	Entry *Entry `json:"entry,omitempty"`
}

// Open returns a sandbox that goes on where the one that used the file before ended, however
// that ended, and writes down in it all that happens. The Freelancer.com API begins anew.
// [Server.Close] it after use.
func Open(opts Options, path string) (*Server, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the sandbox's state: %w", err)
	}
	s := New(opts)
	if err := s.load(file); err != nil {
		return nil, errors.Join(fmt.Errorf("read the sandbox's state %s: %w", path, err), file.Close())
	}
	s.state = file
	return s, nil
}

// load reads the file and leaves it at its end. A last line that a crash cut off is taken away:
// what it says was never answered.
func (s *Server) load(file *os.File) error {
	content, err := io.ReadAll(file)
	if err != nil {
		return err //nolint:wrapcheck // Open says what failed
	}
	whole := bytes.LastIndexByte(content, '\n') + 1
	decoder := json.NewDecoder(bytes.NewReader(content[:whole]))
	for {
		var r record
		switch err := decoder.Decode(&r); {
		case errors.Is(err, io.EOF):
			for _, entry := range s.journal {
				if entry.EndedAt == nil { // it was under way when the sandbox ended
					entry.State, entry.EndedAt = Dropped, new(time.Now())
				}
			}
			if err := file.Truncate(int64(whole)); err != nil {
				return err //nolint:wrapcheck // as above
			}
			_, err := file.Seek(int64(whole), io.SeekStart)
			return err //nolint:wrapcheck // as above
		case err != nil:
			return fmt.Errorf("after byte %d: %w", decoder.InputOffset(), err)
		case r.Bid != nil:
			s.remember(r)
		case r.Entry != nil && int(r.Entry.Seq) <= len(s.journal) && r.Entry.Seq > 0:
			*s.journal[r.Entry.Seq-1] = *r.Entry
		case r.Entry != nil:
			s.journal = append(s.journal, r.Entry)
		}
	}
}

// remember takes a bid from the state.
func (s *Server) remember(r record) {
	bid := r.Bid
	if known := s.byID[pair{bid.Marketplace, bid.ExternalID}]; known != nil {
		known.WithdrawReason = bid.WithdrawReason
		s.show(known, bid.Status, bid.UpdatedAt)
		return
	}
	var sum [sha256.Size]byte
	copy(sum[:], r.Sum)
	s.store(bid, sum)
}

// store adds a new bid, and returns the answer to whoever placed it.
func (s *Server) store(bid *Bid, sum [sha256.Size]byte) reply {
	key := pair{bid.Marketplace, bid.Key}
	s.bids = append(s.bids, bid)
	s.byID[pair{bid.Marketplace, bid.ExternalID}], s.live[pair{bid.Marketplace, bid.JobID}] = bid, bid
	if s.byKey[key] == nil {
		s.byKey[key] = bid
	}
	answer := reply{status: http.StatusCreated, body: map[string]any{
		"external_bid_id": bid.ExternalID, "status": marketplace.Submitted, "placed_at": bid.PlacedAt.UTC().Format(time.RFC3339Nano),
	}, noID: map[string]any{"status": marketplace.Submitted}}
	s.keys[key] = &keyed{sum: sum, answer: answer, bid: bid.ExternalID}
	return answer
}

// show changes the status of a bid.
func (s *Server) show(bid *Bid, status marketplace.Status, at time.Time) {
	bid.Status, bid.UpdatedAt = status, at
	if job := (pair{bid.Marketplace, bid.JobID}); bid.Status.IsLive() {
		s.live[job] = bid
	} else if s.live[job] == bid {
		delete(s.live, job)
	}
}

// save writes a line of the state. It holds the lock. After a failure nothing is answered any
// more: what is not written down must not have been promised.
func (s *Server) save(r record) {
	if s.state == nil || s.unsaved != nil {
		return
	}
	if err := json.NewEncoder(s.state).Encode(r); err != nil {
		s.unsaved = fmt.Errorf("write the sandbox's state: %w", err)
	}
}

// closeState returns what went wrong with the state, if there is one.
func (s *Server) closeState() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == nil {
		return nil
	}
	err := errors.Join(s.unsaved, s.state.Close())
	s.state = nil
	return err
}
