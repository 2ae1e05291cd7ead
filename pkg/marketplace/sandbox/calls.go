package sandbox

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"strconv"
	"time"

	"github.com/arbitrageai/bidder/pkg/marketplace"
)

// maxBody bounds requests, in bytes.
const maxBody = 1 << 20

// protocol is one of the languages in which marketplaces are spoken to.
type protocol struct {
	// read takes from a request what the journal shows, and what follows needs. It holds the lock.
	read func(*call)
	// check returns a refusal, and whether there is one.
	check func(*call) (reply, bool)
	// told is what a fault answers.
	told func(*call, Fault) reply
}

// call is a request on its way.
type call struct {
	protocol protocol
	entry    *Entry
	request  *http.Request
	body     []byte

	message message         // of connectors
	rules   FreelancerRules // of the Freelancer.com API, as they were when the request came
	form    bidForm
	user    int64 // 0: nobody
}

// reply is an answer. A status of 0 drops the connection instead.
type reply struct {
	status int
	header map[string]string
	body   any    // JSON, but a text is sent as it is
	noID   any    // the body without the id of a new bid, where there is one
	code   string // for the journal, of a refusal
}

func problem(status int, code, detail string, more ...map[string]any) reply {
	body := map[string]any{"type": "about:blank", "title": http.StatusText(status), "status": status, "detail": detail}
	if code != "" {
		body["code"] = code
	}
	for _, members := range more {
		maps.Copy(body, members)
	}
	return reply{status: status, header: map[string]string{"Content-Type": "application/problem+json"}, body: body, code: code}
}

func (r reply) write(w http.ResponseWriter) {
	if r.status == 0 {
		panic(http.ErrAbortHandler) // this is how net/http closes a connection without an answer
	}
	w.Header().Set("Content-Type", "application/json")
	for name, value := range r.header {
		w.Header().Set(name, value)
	}
	w.WriteHeader(r.status)
	if text, ok := r.body.(string); ok {
		_, _ = io.WriteString(w, text) // the other side may be gone
		return
	}
	_ = json.NewEncoder(w).Encode(r.body) //nolint:errchkjson // it has texts, numbers and booleans; and as above
}

// with adds a header, unless its value is empty.
func (r reply) with(name, value string) reply {
	if value != "" {
		r.header = maps.Clone(r.header)
		if r.header == nil {
			r.header = map[string]string{}
		}
		r.header[name] = value
	}
	return r
}

// wait is the value of Retry-After, empty for 0.
func (f Fault) wait() string {
	if f.RetryAfter == 0 {
		return ""
	}
	return strconv.Itoa(f.RetryAfter)
}

// operation answers a request: checks it, lets faults happen, and writes it down.
func (s *Server) operation(p protocol, op Op, handle func(*call) reply) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if err != nil {
			problem(http.StatusRequestEntityTooLarge, marketplace.CodeInvalidRequest, "the body is longer than a mebibyte, or incomplete").write(w)
			return
		}
		c := s.receive(p, op, r, body)
		answer, refused := p.check(c)
		if !refused {
			answer = s.answer(c, handle)
		}
		s.note(c.entry, func(e *Entry) {
			e.State, e.EndedAt = Answered, new(time.Now())
			if e.Status, e.Code = answer.status, answer.code; answer.status == 0 {
				e.State = Dropped
			}
		})
		if c.entry.State == Dropped { // also where it could not be written down
			answer = reply{}
		}
		answer.write(w)
	}
}

// receive writes a request into the journal.
func (s *Server) receive(p protocol, op Op, r *http.Request, body []byte) *call {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &call{protocol: p, request: r, body: body, entry: &Entry{
		Seq: int64(len(s.journal) + 1), At: time.Now(), Op: op, Attempt: r.Header.Get("X-Bidder-Attempt"), State: Received,
	}}
	p.read(c)
	s.journal = append(s.journal, c.entry)
	s.save(record{Entry: c.entry})
	return c
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
	if answer.noID != nil && s.take(c, isDo(NoID)) != nil {
		answer.body = answer.noID
	}
	return answer
}
