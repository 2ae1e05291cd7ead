package console

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/posting"
)

const (
	// bidsPage is how many bids a page lists.
	bidsPage = 50
	// Of so many bids one page looks for those that match: fewer where it also looks into
	// their postings.
	bidsWindow, textWindow = 50_000, 10_000
	// maxMarketplaces bounds the list of marketplaces to choose from.
	maxMarketplaces = 200
	// maxSought bounds what is searched for, in characters: the longest id must go in.
	maxSought = posting.MaxJobID
)

// statuses are all that a bid can have.
var statuses = []string{"ACTIVE", "WON", "LOST", "REJECTED", "WITHDRAWN", "DUPLICATE"} //nolint:gochecknoglobals // a constant

// filter is what bids are searched by.
type filter struct {
	Marketplace, Status, Sought string
	Since, Until                string // dates, the last one included
	Owing                       bool
	before                      uuid.UUID
}

// IsAny says whether every bid matches.
func (f filter) IsAny() bool {
	return f.Marketplace == "" && f.Status == "" && f.Sought == "" && f.Since == "" && f.Until == "" && !f.Owing
}

// address is where the search goes on before a bid.
func (f filter) address(before uuid.UUID) string {
	q := url.Values{}
	for name, value := range map[string]string{"marketplace": f.Marketplace, "status": f.Status, "q": f.Sought, "since": f.Since, "until": f.Until} {
		if value != "" {
			q.Set(name, value)
		}
	}
	if f.Owing {
		q.Set("owing", "yes")
	}
	if before != uuid.Nil {
		q.Set("before", before.String())
	}
	if len(q) == 0 {
		return "/bids"
	}
	return "/bids?" + q.Encode()
}

// parseFilter reads a search, and says what is wrong with it.
func parseFilter(q url.Values) (f filter, problem string) {
	f.Status, f.Sought = strings.ToUpper(q.Get("status")), clip(strings.TrimSpace(strings.ToValidUTF8(q.Get("q"), "")), maxSought)
	f.Sought = strings.ReplaceAll(f.Sought, "\x00", "")
	f.Since, f.Until, f.Owing = q.Get("since"), q.Get("until"), q.Get("owing") == "yes"
	if f.Status != "" && !slices.Contains(statuses, f.Status) {
		f.Status, problem = "", "There is no such status."
	}
	if name := q.Get("marketplace"); name != "" {
		key, err := posting.ParseKey(name, "-")
		if err != nil {
			problem = "There is no such marketplace."
		} else {
			f.Marketplace = key.Marketplace
		}
	}
	for _, date := range []*string{&f.Since, &f.Until} {
		if _, err := time.Parse(time.DateOnly, *date); *date != "" && err != nil {
			*date, problem = "", "A date looks like 2026-11-23."
		}
	}
	if text := q.Get("before"); text != "" {
		var err error
		if f.before, err = uuid.Parse(text); err != nil {
			problem = "That is not where a page ended."
		}
	}
	return f, problem
}

// firstID is the least id of a bid that is made at a time: ids begin with theirs.
func firstID(t time.Time) uuid.UUID {
	var id uuid.UUID
	ms := max(t.UnixMilli(), 0)
	binary.BigEndian.PutUint64(id[:8], uint64(ms)<<16) //nolint:mnd // 48 bits of time
	return id
}

// between are the ids that are searched: from the first on, and before the second.
func (f filter) between() (from, before uuid.UUID) {
	before = uuid.Max
	if t, err := time.Parse(time.DateOnly, f.Since); err == nil {
		from = firstID(t)
	}
	if t, err := time.Parse(time.DateOnly, f.Until); err == nil {
		before = firstID(t.AddDate(0, 0, 1))
	}
	if f.before != uuid.Nil && slices.Compare(f.before[:], before[:]) < 0 {
		before = f.before
	}
	return from, before
}

type bidRow struct {
	Link                      string
	Marketplace, JobID, Title string
	Status, Amount, Owes      string
	State                     string // of what it owes
	Created                   moment
}

func (p *page) bidRow(b queries.SearchBidsRow) bidRow {
	row := bidRow{
		Link: "/bids/" + b.ID.String(), Marketplace: b.Marketplace, JobID: b.JobID, Title: b.Title,
		Status: b.Status, Amount: money(b.AmountCents, b.Currency), Created: p.at(b.CreatedAt),
	}
	if b.DeliveryKind != nil && b.DeliveryState != nil {
		row.Owes, row.State = owing(*b.DeliveryKind, *b.DeliveryState), *b.DeliveryState
	}
	return row
}

// owing says what a bid owes, in words.
func owing(kind, state string) string {
	switch state {
	case "awaiting_approval":
		return "to approve"
	case "review":
		return kind + ": in review"
	case "leased":
		return kind + ": under way"
	}
	return kind + ": owed"
}

func postingLink(marketplace, jobID string) string {
	return "/postings/" + url.PathEscape(marketplace) + "/" + url.PathEscape(jobID)
}

type bidsPageBody struct {
	Filter                 filter
	Problem                string
	Marketplaces, Statuses []string
	Exact                  bool // what is listed has the text sought as its id, to the letter
	Rows                   []bidRow
	Next                   string // where older ones are
	First                  string // where the newest are, if this is not that page
	Looked                 int    // how many were looked at, if there are more
	LookedBack             *moment
}

func (s *Server) bids(w http.ResponseWriter, r *http.Request) {
	f, problem := parseFilter(r.URL.Query())
	s.view(w, r, "bids", "bids", func(ctx context.Context, v *reading) error {
		v.Title = "Bids"
		body := &bidsPageBody{Filter: f, Problem: problem, Statuses: statuses}
		v.Body = body
		if problem != "" {
			v.status = http.StatusBadRequest
		}
		var err error
		if v.elsewhere, err = bidOf(ctx, v, f.Sought); err != nil || v.elsewhere != "" {
			return err
		}
		if body.Marketplaces, err = v.q.BidMarketplaces(ctx, maxMarketplaces); err != nil {
			return fmt.Errorf("list marketplaces: %w", err)
		}
		if f.Marketplace != "" && !slices.Contains(body.Marketplaces, f.Marketplace) {
			body.Marketplaces = append(body.Marketplaces, f.Marketplace)
		}
		if f.before != uuid.Nil {
			body.First = f.address(uuid.Nil)
		}
		if found, err := find(ctx, v, f, body); err != nil || found {
			return err
		}
		return search(ctx, v, f, body)
	})
}

// bidOf is the page of the bid that has the text sought as its id, "" if none has: a job's id, or a
// marketplace's, may look the same.
func bidOf(ctx context.Context, v *reading, sought string) (string, error) {
	id, err := uuid.Parse(sought)
	if err != nil {
		return "", nil //nolint:nilerr // it is another text
	}
	switch bid, err := v.q.GetBid(ctx, id); {
	case errors.Is(err, pgx.ErrNoRows):
		return "", nil
	case err != nil:
		return "", fmt.Errorf("look for the bid %s: %w", id, err)
	default:
		return "/bids/" + bid.ID.String(), nil
	}
}

// find lists the bids that have the text sought as their job's or the marketplace's id.
func find(ctx context.Context, v *reading, f filter, body *bidsPageBody) (found bool, err error) {
	if f.Sought == "" || f.before != uuid.Nil || f.Status != "" || f.Owing || f.Since != "" || f.Until != "" {
		return false, nil
	}
	at := body.Marketplaces
	if f.Marketplace != "" {
		at = []string{f.Marketplace}
	}
	rows, err := v.q.FindBids(ctx, at, f.Sought, bidsPage)
	if err != nil {
		return false, fmt.Errorf("find bids: %w", err)
	}
	for _, row := range rows {
		body.Rows = append(body.Rows, v.bidRow(queries.SearchBidsRow(row)))
	}
	body.Exact = len(rows) > 0
	return body.Exact, nil
}

// search lists the newest bids that match, of a window.
func search(ctx context.Context, v *reading, f filter, body *bidsPageBody) error {
	from, before := f.between()
	params := queries.SearchBidsParams{BeforeID: before, FromID: from, Win: bidsWindow, Sought: f.Sought, Owing: f.Owing, Page: bidsPage + 1}
	if f.Sought != "" {
		params.Win = textWindow
	}
	if f.Status != "" {
		params.Status = &f.Status
	}
	if f.Marketplace != "" {
		params.Marketplace = &f.Marketplace
	}
	rows, err := v.q.SearchBids(ctx, params)
	if err != nil {
		return fmt.Errorf("search bids: %w", err)
	}
	if len(rows) > bidsPage { // one more was asked for, to know whether there is a next page
		rows = rows[:bidsPage]
		body.Next = f.address(rows[bidsPage-1].ID)
	}
	for _, row := range rows {
		body.Rows = append(body.Rows, v.bidRow(row))
	}
	if body.Next != "" {
		return nil
	}
	end, err := v.q.SearchEnd(ctx, before, from, params.Win-1)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find the end of the window: %w", err)
	}
	body.Next, body.Looked, body.LookedBack = f.address(end.ID), int(params.Win), v.maybe(&end.CreatedAt)
	return nil
}
