package sandbox

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"html/template"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/arbitrageai/bidder/pkg/marketplace"
)

const (
	// maxWait bounds how long a request for held requests waits.
	maxWait = time.Minute
	// shown is how many bids, requests and projects the page has.
	shown = 200
)

//go:embed page.html
var pageHTML string

// listing is a list in JSON.
type listing[T any] struct {
	Items []T `json:"items"`
}

func (s *Server) routeAdmin(mux *http.ServeMux) {
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "ok\n")
	})
	mux.HandleFunc("GET /{$}", s.page(template.Must(template.New("page").Parse(pageHTML))))
	mux.HandleFunc("GET /bids", func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.Query()
		bids := slices.DeleteFunc(s.Bids(), func(b Bid) bool {
			return !accepts(query["marketplace"], b.Marketplace) || !accepts(query["job_id"], b.JobID) || !accepts(query["status"], string(b.Status))
		})
		writeJSON(w, http.StatusOK, listing[Bid]{bids})
	})
	mux.HandleFunc("GET /journal", func(w http.ResponseWriter, r *http.Request) {
		after, _ := strconv.ParseInt(r.URL.Query().Get("after"), 10, 64) // else all
		writeJSON(w, http.StatusOK, listing[Entry]{s.journalAfter(after)})
	})
	mux.HandleFunc("GET /admin/faults", func(w http.ResponseWriter, _ *http.Request) {
		s.mu.Lock()
		faults := make([]armed, len(s.faults))
		for i, f := range s.faults {
			faults[i] = *f
		}
		s.mu.Unlock()
		writeJSON(w, http.StatusOK, listing[armed]{faults})
	})
	mux.HandleFunc("POST /admin/faults", func(w http.ResponseWriter, r *http.Request) {
		var fault Fault
		if !readJSON(w, r, &fault) {
			return
		}
		id, err := s.AddFault(fault)
		if err != nil {
			problem(http.StatusBadRequest, "invalid_fault", err.Error()).write(w)
			return
		}
		writeJSON(w, http.StatusCreated, map[string]int64{"id": id})
	})
	mux.HandleFunc("POST /admin/reset", func(w http.ResponseWriter, _ *http.Request) {
		s.Reset()
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("POST /admin/release", func(w http.ResponseWriter, _ *http.Request) {
		s.Release(0)
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("POST /admin/faults/{id}/release", func(w http.ResponseWriter, r *http.Request) {
		id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
		if err != nil || id <= 0 {
			problem(http.StatusNotFound, "not_found", "there is no such fault").write(w)
			return
		}
		s.Release(id)
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("GET /admin/held", s.getHeld)
	mux.HandleFunc("POST /admin/bids/{id}/status", s.postStatus)
}

// getHeld lists the requests that are held, after waiting for as many as were asked for.
func (s *Server) getHeld(w http.ResponseWriter, r *http.Request) {
	count, _ := strconv.Atoi(r.URL.Query().Get("count"))
	wait, _ := time.ParseDuration(r.URL.Query().Get("wait"))
	ctx, cancel := context.WithTimeout(r.Context(), min(wait, maxWait))
	defer cancel()
	status := http.StatusOK
	if err := s.WaitHeld(ctx, count); err != nil {
		status = http.StatusRequestTimeout
	}
	held := slices.DeleteFunc(s.Journal(), func(e Entry) bool { return e.State != Held })
	writeJSON(w, status, listing[Entry]{held})
}

// postStatus changes a bid as the marketplace's client would, and says so to a hook if it
// is given one.
func (s *Server) postStatus(w http.ResponseWriter, r *http.Request) {
	var asked struct {
		Status   marketplace.Status `json:"status"`
		Callback string             `json:"callback"`
	}
	if !readJSON(w, r, &asked) {
		return
	}
	if err := s.SetStatus(r.PathValue("id"), asked.Status); err != nil || asked.Callback == "" {
		done(w, err)
		return
	}
	answered, err := s.Callback(r.Context(), asked.Callback, r.PathValue("id"))
	if err != nil {
		problem(http.StatusBadGateway, "callback_failed", err.Error()).write(w)
		return
	}
	writeJSON(w, http.StatusOK, map[string]int{"callback_status": answered})
}

// done answers with what came of a change.
func done(w http.ResponseWriter, err error) {
	switch {
	case err == nil:
		w.WriteHeader(http.StatusNoContent)
	case errors.Is(err, ErrNotFound):
		problem(http.StatusNotFound, "not_found", err.Error()).write(w)
	default:
		problem(http.StatusBadRequest, "invalid", err.Error()).write(w)
	}
}

// page shows bids as they arrive, the newest first.
func (s *Server) page(page *template.Template) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		bids, journal := s.Bids(), s.Journal()
		view := struct {
			Total, Live, Requests int
			Bids                  []Bid
			Journal               []Entry
			Projects              []Project
		}{Total: len(bids), Requests: len(journal), Projects: s.Projects()}
		for _, bid := range bids {
			if bid.Status.IsLive() {
				view.Live++
			}
		}
		slices.Reverse(bids)
		slices.Reverse(journal)
		view.Bids, view.Journal = bids[:min(shown, len(bids))], journal[:min(shown, len(journal))]
		view.Projects = view.Projects[:min(shown, len(view.Projects))]
		var out bytes.Buffer
		if err := page.Execute(&out, view); err != nil {
			problem(http.StatusInternalServerError, "", "the page cannot be shown").write(w)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
		_, _ = out.WriteTo(w) // the browser may be gone
	}
}

func accepts(wanted []string, value string) bool {
	return len(wanted) == 0 || slices.Contains(wanted, value)
}

// readJSON reports whether the body is what it should be, and answers where it is not.
func readJSON(w http.ResponseWriter, r *http.Request, into any) bool {
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		problem(http.StatusBadRequest, "invalid_json", err.Error()).write(w)
		return false
	}
	return true
}

func writeJSON(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value) //nolint:errchkjson // it has texts, numbers and times; the other side may be gone
}
