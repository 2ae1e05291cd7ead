package console

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/db/queries"
)

//go:embed web
var web embed.FS

// names of the pages, each a file in web that fills the frame of layout.html.
var pageNames = []string{"bid", "bids", "faster", "locks", "message", "now", "posting", "review", "signin"} //nolint:gochecknoglobals // a constant

// parsePages reads the templates, which are part of the program.
func parsePages() map[string]*template.Template {
	shared := template.Must(template.New("").Funcs(template.FuncMap{
		"count": count, "words": words, "pieces": pieces, "clip": clip, "money": money, "lower": strings.ToLower, "quoted": quoted, "visible": visible,
	}).ParseFS(web, "web/layout.html", "web/parts.html"))
	parsed := make(map[string]*template.Template, len(pageNames))
	for _, name := range pageNames {
		parsed[name] = template.Must(template.Must(shared.Clone()).ParseFS(web, "web/"+name+".html"))
	}
	return parsed
}

// page is what every page has; Body is what the page itself shows.
type page struct {
	Title   string
	Section string // of the navigation
	Now     time.Time
	Waiting string // how many bids wait for a person; "" for none
	Name    string // who is signed in
	CSRF    string
	Decides bool
	Open    bool // nobody has to sign in
	Note    string
	Body    any
}

// at is a moment on the page.
func (p *page) at(t time.Time) moment { return moment{t, p.Now} }

// maybe is a moment on the page, or nil.
func (p *page) maybe(t *time.Time) *moment {
	if t == nil {
		return nil
	}
	return &moment{*t, p.Now}
}

// render writes a page as a whole, or not at all.
func (s *Server) render(w http.ResponseWriter, r *http.Request, status int, name string, p page) {
	v := visitorOf(r.Context())
	p.Decides, p.Open = v.role == operator, s.isOpen()
	if v.session != nil {
		p.Name, p.CSRF = v.session.name, v.session.csrf
		if r.Method == http.MethodGet {
			p.Note = v.session.said()
		}
	}
	var body bytes.Buffer
	if err := s.templates[name].ExecuteTemplate(&body, "layout", p); err != nil {
		s.options.Log.Error("a page could not be made", "page", name, "error", err)
		answer(w, http.StatusInternalServerError, "the page could not be made: the log says why")
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(body.Len()))
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = body.WriteTo(w) // the other side may be gone
	}
}

// message shows a page that says one thing.
func (s *Server) message(w http.ResponseWriter, r *http.Request, status int, title, text string) {
	s.render(w, r, status, "message", page{Title: title, Body: text})
}

// errNotThere means that there is nothing to show under an address.
var errNotThere = errors.New("there is nothing here")

// view reads what a page shows, in one READ ONLY transaction with one snapshot and the
// limits of every statement, and shows it.
func (s *Server) view(w http.ResponseWriter, r *http.Request, name, section string, read func(context.Context, *reading) error) {
	v := &reading{page: page{Section: section}, status: http.StatusOK}
	err := s.read(r.Context(), v, read)
	switch {
	case errors.Is(err, errNotThere):
		s.message(w, r, http.StatusNotFound, "There is nothing here", "The address is wrong, or what was here is gone.")
	case err != nil:
		s.broken(w, r, err)
	case v.elsewhere != "":
		http.Redirect(w, r, v.elsewhere, http.StatusSeeOther)
	default:
		s.render(w, r, v.status, name, v.page)
	}
}

// reading is a page while it is read.
type reading struct {
	page

	status    int
	elsewhere string // the page that is shown instead, unless empty
	tx        pgx.Tx
	q         *queries.Queries
}

// maxBadge is up to where the navigation counts what waits for a person.
const maxBadge = 100

func (s *Server) read(ctx context.Context, v *reading, read func(context.Context, *reading) error) error {
	ctx, cancel := context.WithTimeout(ctx, pageTime)
	defer cancel()
	return db.View(ctx, s.options.Pool, s.options.Limits, func(tx pgx.Tx) error {
		v.tx, v.q = tx, queries.New(tx)
		var err error
		if v.Now, err = v.q.Now(ctx); err != nil {
			return fmt.Errorf("read the database's clock: %w", err)
		}
		waiting, err := v.q.PersonFacts(ctx, maxBadge)
		if err != nil {
			return fmt.Errorf("count what waits for a person: %w", err)
		}
		if n := waiting.LookedAt; n >= maxBadge {
			v.Waiting = fmt.Sprintf("%d+", maxBadge-1)
		} else if n > 0 {
			v.Waiting = strconv.FormatInt(n, 10)
		}
		return read(ctx, v)
	})
}

// broken answers where something went wrong. What it was stands in the log.
func (s *Server) broken(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil {
		return // nobody waits for the answer
	}
	s.options.Log.Error("a request of the console failed", "method", r.Method, "path", r.URL.Path, "error", err)
	switch {
	case errors.Is(err, db.ErrCommitUnknown):
		s.message(w, r, http.StatusServiceUnavailable, "It is unknown whether that was recorded",
			"The database was lost at the last moment. Look at the bid again before you decide anew.")
	case db.IsUnavailable(err):
		w.Header().Set("Retry-After", "10")
		s.message(w, r, http.StatusServiceUnavailable, "The database cannot be used now",
			"It is not reachable, too slow, or its schema is not that of this program. The log says more, and so does bidder doctor.")
	default:
		s.message(w, r, http.StatusInternalServerError, "That did not work", "The log says why.")
	}
}

// assets serves the style sheet and the icon; their addresses change with the program.
func (s *Server) assets(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("file")
	kind := map[string]string{"style.css": "text/css; charset=utf-8", "icon.svg": "image/svg+xml"}[name]
	content, err := web.ReadFile("web/" + name)
	if kind == "" || err != nil {
		s.message(w, r, http.StatusNotFound, "There is nothing here", "The address is wrong.")
		return
	}
	w.Header().Set("Cache-Control", "max-age=300")
	w.Header().Set("Content-Type", kind)
	_, _ = w.Write(content) //nolint:gosec // a part of the program; the other side may be gone
}
