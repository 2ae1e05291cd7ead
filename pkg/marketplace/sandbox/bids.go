package sandbox

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/arbitrageai/bidder/pkg/marketplace"
	"github.com/arbitrageai/bidder/pkg/marketplace/bridge/signature"
)

// maxBody bounds requests, in bytes.
const maxBody = 1 << 20

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
	Status         marketplace.Status `json:"status"`
	PlacedAt       time.Time          `json:"placed_at"`
	VisibleAt      time.Time          `json:"visible_at"` // from when look-ups find it
	UpdatedAt      time.Time          `json:"updated_at"`
	WithdrawReason string             `json:"withdraw_reason"`
}

func (b *Bid) isLive() bool {
	return b.Status == marketplace.Submitted || b.Status == marketplace.Accepted
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

// ErrNotFound says that the sandbox has no such bid.
var ErrNotFound = errors.New("the sandbox has no such bid")

// SetStatus changes a bid as its client would: awards it, rejects it, lets it expire.
func (s *Server) SetStatus(externalID string, status marketplace.Status) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := slices.IndexFunc(s.bids, func(b *Bid) bool { return b.ExternalID == externalID })
	if at < 0 {
		return fmt.Errorf("%s: %w", externalID, ErrNotFound)
	}
	s.change(s.bids[at], status)
	return nil
}

func (s *Server) change(bid *Bid, status marketplace.Status) {
	bid.Status, bid.UpdatedAt = status, time.Now()
	if job := (pair{bid.Marketplace, bid.JobID}); bid.isLive() {
		s.live[job] = bid
	} else if s.live[job] == bid {
		delete(s.live, job)
	}
}

// call is a request on its way.
type call struct {
	marketplace string
	entry       *Entry
	request     *http.Request
	body        []byte
	message     message
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

// reply is an answer. A status of 0 drops the connection instead.
type reply struct {
	status     int
	retryAfter int
	body       map[string]any
}

func problem(status int, code, detail string) reply {
	body := map[string]any{"type": "about:blank", "title": http.StatusText(status), "status": status, "detail": detail}
	if code != "" {
		body["code"] = code
	}
	return reply{status: status, body: body}
}

func (r reply) code() string {
	code, _ := r.body["code"].(string)
	return code
}

func (r reply) write(w http.ResponseWriter) {
	if r.status == 0 {
		panic(http.ErrAbortHandler) // this is how net/http closes a connection without an answer
	}
	w.Header().Set("Content-Type", "application/json")
	if r.status >= http.StatusBadRequest {
		w.Header().Set("Content-Type", "application/problem+json")
	}
	if r.retryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(r.retryAfter))
	}
	w.WriteHeader(r.status)
	_ = json.NewEncoder(w).Encode(r.body) //nolint:errchkjson // it has texts, numbers and booleans; the other side may be gone
}

// operation answers a request: checks it, lets faults happen, and writes it down.
func (s *Server) operation(op Op, handle func(*call) reply) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if err != nil {
			problem(http.StatusRequestEntityTooLarge, marketplace.CodeInvalidRequest, "the body is longer than a mebibyte, or incomplete").write(w)
			return
		}
		c := s.receive(op, r, body)
		answer := s.check(c)
		if answer.body == nil {
			answer = s.answer(c, handle)
		}
		s.note(c.entry, func(e *Entry) {
			e.State, e.EndedAt = Answered, new(time.Now())
			if e.Status, e.Code = answer.status, answer.code(); answer.status == 0 {
				e.State = Dropped
			}
		})
		answer.write(w)
	}
}

// receive writes a request into the journal.
func (s *Server) receive(op Op, r *http.Request, body []byte) *call {
	c := &call{marketplace: r.PathValue("marketplace"), request: r, body: body}
	_ = json.Unmarshal(body, &c.message) // what is missing then is refused where it matters
	key, _ := strconv.Unquote(r.Header.Get("Idempotency-Key"))
	if op == Lookup {
		key = r.PathValue("key")
	}
	_, bidID, _ := strings.Cut(key, "-")

	s.mu.Lock()
	defer s.mu.Unlock()
	c.entry = &Entry{
		Seq: int64(len(s.journal) + 1), At: time.Now(), Marketplace: c.marketplace, Op: op, Key: key, MessageID: r.Header.Get(signature.IDHeader),
		Attempt: r.Header.Get("X-Bidder-Attempt"), JobID: c.message.Data.JobID, BidID: bidID, State: Received,
	}
	bid := s.byKey[pair{c.marketplace, key}]
	if op == Withdraw {
		c.entry.ExternalID = r.PathValue("id")
		bid = s.byID[pair{c.marketplace, c.entry.ExternalID}]
	}
	if bid != nil {
		c.entry.JobID, c.entry.BidID = bid.JobID, bid.BidID
	}
	s.journal = append(s.journal, c.entry)
	return c
}

// check returns a refusal, or a reply without a body.
func (s *Server) check(c *call) reply {
	keys := make([][]byte, len(s.opts.Secrets))
	for i, secret := range s.opts.Secrets {
		keys[i] = []byte(secret.Reveal())
	}
	if len(keys) > 0 {
		if err := signature.Verify(c.request.Header, keys, time.Now(), c.body); err != nil {
			return problem(http.StatusUnauthorized, marketplace.CodeAuthFailed, err.Error())
		}
	}
	if c.entry.Key == "" {
		return problem(http.StatusBadRequest, marketplace.CodeInvalidRequest, `Idempotency-Key is missing, or not a string in quotes`)
	}
	return reply{}
}

// answer lets faults happen before and after what the marketplace does.
func (s *Server) answer(c *call, handle func(*call) reply) reply {
	if instead, ends := s.suffer(c, Before); ends {
		return instead
	}
	answer := handle(c)
	if instead, ends := s.suffer(c, After); ends {
		return instead
	}
	if answer.status == http.StatusCreated && s.take(c, isDo(NoID)) != nil {
		return reply{status: answer.status, body: map[string]any{"status": answer.body["status"]}}
	}
	return answer
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
	key, job := pair{c.marketplace, c.entry.Key}, pair{c.marketplace, data.JobID}
	rules, sum := s.rules(c.marketplace), sha256.Sum256(c.body)
	if before := s.keys[key]; rules.Idempotent && before != nil {
		if before.body != sum {
			return problem(http.StatusUnprocessableEntity, marketplace.CodeIdempotencyKeyReuse, "the key came with another body before")
		}
		c.entry.ExternalID, _ = before.answer.body["external_bid_id"].(string)
		return before.answer
	}
	if other := s.live[job]; rules.NaturalKey && other != nil {
		answer := problem(http.StatusConflict, marketplace.CodeDuplicateBid, "there is a live bid on this posting")
		answer.body["external_bid_id"] = other.ExternalID
		c.entry.ExternalID = other.ExternalID
		return answer
	}
	now := time.Now()
	bid := &Bid{
		ExternalID: s.prefix + strconv.Itoa(len(s.bids)+1), Marketplace: c.marketplace, BidID: data.BidID, Key: key.name, JobID: data.JobID,
		JobURL: data.JobURL, Amount: data.Amount, Currency: data.Currency, PeriodDays: data.PeriodDays, Proposal: data.Proposal,
		Status: marketplace.Submitted, PlacedAt: now, VisibleAt: now, UpdatedAt: now,
	}
	if lag != nil {
		bid.VisibleAt = now.Add(lag.delay())
	}
	s.bids = append(s.bids, bid)
	s.byID[pair{c.marketplace, bid.ExternalID}], s.live[job] = bid, bid
	if s.byKey[key] == nil {
		s.byKey[key] = bid
	}
	c.entry.ExternalID, c.entry.Stored = bid.ExternalID, true
	answer := reply{status: http.StatusCreated, body: map[string]any{
		"external_bid_id": bid.ExternalID, "status": bid.Status, "placed_at": now.UTC().Format(time.RFC3339Nano),
	}}
	s.keys[key] = &keyed{body: sum, answer: answer}
	return answer
}

// lookup finds a bid by its key, once it is visible. It does not know that others are not yet.
func (s *Server) lookup(c *call) reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	bid := s.byKey[pair{c.marketplace, c.entry.Key}]
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
	bid := s.byID[pair{c.marketplace, c.entry.ExternalID}]
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
	s.change(bid, marketplace.Withdrawn)
	bid.WithdrawReason, c.entry.Stored = c.message.Data.Reason, true
	return reply{status: http.StatusOK, body: map[string]any{"status": bid.Status}}
}
