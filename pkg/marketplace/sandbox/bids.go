package sandbox

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/arbitrageai/bidder/pkg/marketplace"
	"github.com/arbitrageai/bidder/pkg/marketplace/bridge/signature"
)

// Bid is a bid that the sandbox has.
type Bid struct {
	ExternalID     string             `json:"external_bid_id"`
	Marketplace    string             `json:"marketplace"`
	BidID          string             `json:"bid_id"`
	Key            string             `json:"key"`
	JobID          string             `json:"job_id"`
	JobURL         string             `json:"job_url"`
	Amount         string             `json:"amount"`
	Currency       string             `json:"currency"`
	PeriodDays     int32              `json:"period_days"`
	Proposal       string             `json:"proposal"`
	BidderID       int64              `json:"bidder_id,omitempty"` // at the Freelancer.com API
	ByHand         bool               `json:"by_hand,omitempty"`   // as above: it came through the administration
	Status         marketplace.Status `json:"status"`
	PlacedAt       time.Time          `json:"placed_at"`
	VisibleAt      time.Time          `json:"visible_at"` // from when look-ups find it
	UpdatedAt      time.Time          `json:"updated_at"`
	WithdrawReason string             `json:"withdraw_reason"`
}

// Bids returns all bids in the order in which they were placed.
func (s *Server) Bids() []Bid {
	s.mu.Lock()
	defer s.mu.Unlock()
	bids := make([]Bid, len(s.bids))
	for i, bid := range s.bids {
		bids[i] = *bid
	}
	return bids
}

var (
	// ErrNotFound says that the sandbox has no such bid, or project.
	ErrNotFound = errors.New("the sandbox has no such thing")
	// ErrStatus says that a bid or a project cannot be in this status.
	ErrStatus = errors.New("there is no such status here")
)

// SetStatus changes a bid as its client would: awards it, rejects it, lets it expire.
func (s *Server) SetStatus(externalID string, status marketplace.Status) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := slices.IndexFunc(s.bids, func(b *Bid) bool { return b.ExternalID == externalID })
	if at < 0 {
		return fmt.Errorf("bid %s: %w", externalID, ErrNotFound)
	}
	if bid := s.freelancer.bids[externalID]; bid != nil {
		return bid.decide(status)
	}
	switch status {
	case marketplace.Submitted, marketplace.Accepted, marketplace.Rejected, marketplace.Withdrawn, marketplace.Expired, marketplace.Lost:
		s.change(s.bids[at], status)
		return nil
	default:
		return fmt.Errorf("%w: %q, bids of connectors are submitted, accepted, rejected, withdrawn, expired or lost", ErrStatus, status)
	}
}

func (s *Server) change(bid *Bid, status marketplace.Status) {
	s.show(bid, status, time.Now())
	s.save(record{Bid: bid})
}

// message is the body of placements and withdrawals.
type message struct {
	Type      string    `json:"type"`
	Timestamp time.Time `json:"timestamp"`
	Data      struct {
		BidID      string `json:"bid_id"`
		JobID      string `json:"job_id"`
		JobURL     string `json:"job_url"`
		Amount     string `json:"amount"`
		Currency   string `json:"currency"`
		PeriodDays int32  `json:"period_days"`
		Proposal   string `json:"proposal"`
		ExternalID string `json:"external_bid_id"`
		Reason     string `json:"reason"`
	} `json:"data"`
}

// connector is the protocol of connectors.
func (s *Server) connector() protocol {
	return protocol{read: s.read, check: s.check, told: func(_ *call, f Fault) reply {
		answer := problem(f.Status, f.Code, "the sandbox was told to answer this")
		if f.Status < http.StatusMultipleChoices {
			answer = reply{status: f.Status, body: map[string]any{"status": "pending"}}
		}
		return answer.with("Retry-After", f.wait())
	}}
}

func (s *Server) read(c *call) {
	r := c.request
	_ = json.Unmarshal(c.body, &c.message) // what is missing then is refused where it matters
	e := c.entry
	e.Marketplace, e.MessageID, e.JobID = r.PathValue("marketplace"), r.Header.Get(signature.IDHeader), c.message.Data.JobID
	e.Key, _ = strconv.Unquote(r.Header.Get("Idempotency-Key"))
	if e.Op == Lookup {
		e.Key = r.PathValue("key")
	}
	_, e.BidID, _ = strings.Cut(e.Key, "-")
	bid := s.byKey[pair{e.Marketplace, e.Key}]
	if e.Op == Withdraw {
		e.ExternalID = r.PathValue("id")
		bid = s.byID[pair{e.Marketplace, e.ExternalID}]
	}
	if bid != nil {
		e.JobID, e.BidID = bid.JobID, bid.BidID
	}
}

// check sees to signatures and keys.
func (s *Server) check(c *call) (reply, bool) {
	keys := make([][]byte, len(s.opts.Secrets))
	for i, secret := range s.opts.Secrets {
		keys[i] = []byte(secret.Reveal())
	}
	if len(keys) > 0 {
		if err := signature.Verify(c.request.Header, keys, time.Now(), c.body); err != nil {
			return problem(http.StatusUnauthorized, marketplace.CodeAuthFailed, err.Error()), true
		}
	}
	if c.entry.Key == "" {
		return problem(http.StatusBadRequest, marketplace.CodeInvalidRequest, `Idempotency-Key is missing, or not a string in quotes`), true
	}
	if c.entry.Op == Place {
		return s.keep(c)
	}
	return reply{}, false
}

// keep remembers what came with a key before anything else happens to it, and refuses the key with another body.
func (s *Server) keep(c *call) (reply, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key, sum := pair{c.entry.Marketplace, c.entry.Key}, sha256.Sum256(c.body)
	before := s.keys[key]
	if before == nil {
		s.keys[key] = &keyed{sum: sum}
		return reply{}, false
	}
	if before.sum == sum || !s.rules(c.entry.Marketplace).Idempotent {
		return reply{}, false
	}
	c.entry.ExternalID = before.bid
	return problem(http.StatusUnprocessableEntity, marketplace.CodeIdempotencyKeyReuse, "the key came with another body before"), true
}

// place stores a bid, unless the key or the posting stands against it.
func (s *Server) place(c *call) reply {
	data := c.message.Data
	isAmount := regexp.MustCompile(`^[0-9]+\.[0-9]{2}$`).MatchString(data.Amount)
	if c.message.Type != "bid.place" || data.JobID == "" || data.BidID == "" || !isAmount || c.message.Timestamp.IsZero() {
		return problem(http.StatusUnprocessableEntity, marketplace.CodeInvalidRequest, "a bid needs type, timestamp, bid_id, job_id and an amount such as 480.00")
	}
	lag := s.take(c, isDo(Lag))

	s.mu.Lock()
	defer s.mu.Unlock()
	key, job := pair{c.entry.Marketplace, c.entry.Key}, pair{c.entry.Marketplace, data.JobID}
	rules, sum := s.rules(c.entry.Marketplace), sha256.Sum256(c.body)
	if before := s.keys[key]; rules.Idempotent && before.bid != "" {
		c.entry.ExternalID = before.bid
		return before.answer
	}
	if other := s.live[job]; rules.NaturalKey && other != nil {
		c.entry.ExternalID = other.ExternalID
		return problem(http.StatusConflict, marketplace.CodeDuplicateBid, "there is a live bid on this posting",
			map[string]any{"external_bid_id": other.ExternalID})
	}
	now := time.Now()
	bid := &Bid{
		ExternalID: s.prefix + strconv.Itoa(len(s.bids)+1), Marketplace: c.entry.Marketplace, BidID: data.BidID, Key: key.name, JobID: data.JobID,
		JobURL: data.JobURL, Amount: data.Amount, Currency: data.Currency, PeriodDays: data.PeriodDays, Proposal: data.Proposal,
		Status: marketplace.Submitted, PlacedAt: now, VisibleAt: now, UpdatedAt: now,
	}
	if lag != nil {
		bid.VisibleAt = now.Add(lag.delay())
	}
	answer := s.store(bid, sum)
	c.entry.ExternalID, c.entry.Stored = bid.ExternalID, true
	s.save(record{Bid: bid, Sum: sum[:]})
	return answer
}

// lookup finds a bid by its key, once it is visible. It does not know that others are not yet.
func (s *Server) lookup(c *call) reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	bid := s.byKey[pair{c.entry.Marketplace, c.entry.Key}]
	if bid == nil || time.Now().Before(bid.VisibleAt) {
		return reply{status: http.StatusOK, body: map[string]any{"found": false, "definitive": true}}
	}
	c.entry.ExternalID = bid.ExternalID
	return reply{status: http.StatusOK, body: map[string]any{"found": true, "external_bid_id": bid.ExternalID, "status": bid.Status}}
}

// withdraw takes a bid back that nobody has decided on.
func (s *Server) withdraw(c *call) reply {
	if c.message.Type != "bid.withdraw" || c.message.Data.ExternalID != c.entry.ExternalID {
		return problem(http.StatusUnprocessableEntity, marketplace.CodeInvalidRequest, "the body is not a withdrawal of the bid in the path")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	bid := s.byID[pair{c.entry.Marketplace, c.entry.ExternalID}]
	switch {
	case bid == nil:
		return problem(http.StatusNotFound, marketplace.CodeNotFound, "there is no such bid")
	case bid.Status == marketplace.Withdrawn:
		return reply{status: http.StatusOK, body: map[string]any{"status": marketplace.CodeAlreadyWithdrawn}}
	case bid.Status == marketplace.Accepted:
		return problem(http.StatusConflict, marketplace.CodeAlreadyAccepted, "the bid has been accepted")
	case bid.Status != marketplace.Submitted:
		return problem(http.StatusConflict, marketplace.CodeJobClosed, "the bid is "+string(bid.Status))
	}
	bid.WithdrawReason, c.entry.Stored = c.message.Data.Reason, true
	s.change(bid, marketplace.Withdrawn)
	return reply{status: http.StatusOK, body: map[string]any{"status": bid.Status}}
}
