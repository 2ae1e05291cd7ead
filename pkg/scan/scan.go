// Package scan fills the cache from the search of a marketplace.
package scan

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/gate"
	"github.com/arbitrageai/bidder/pkg/marketplace"
	"github.com/arbitrageai/bidder/pkg/marketplace/freelancer"
	"github.com/arbitrageai/bidder/pkg/posting"
)

const (
	// MaxLimit bounds how many postings one scan takes.
	MaxLimit = 5000
	// maxCalls bounds a scan whose search does not end, or finds little that can be bid on.
	maxCalls = 200
	// maxRateWait bounds how long one scan waits because its calls were refused for the rate.
	maxRateWait = 15 * time.Minute
	// overlap is how many projects before its own a page begins with: those that closed since
	// the last page have moved up the ones after them.
	overlap = 5
)

// Unreadable is why a project was skipped that made no sense. The other reasons are those of
// [freelancer.Project.Obstacle].
const Unreadable = "unreadable"

// ErrRateLimited means that the marketplace would have to be waited for too long.
var ErrRateLimited = errors.New("the marketplace refuses calls for their rate")

// Options say what to look for, and what to do with it.
type Options struct {
	Marketplace string
	// Query is what is searched for. Its page is the scan's own.
	Query freelancer.Query
	// Limit is how many postings are taken at most, from 1 to MaxLimit.
	Limit int
	// PostingTTL is how long a posting counts as fresh.
	PostingTTL time.Duration
	// Limits are those of the transactions that write.
	Limits db.Limits
	// Print, unless nil, gets the postings as NDJSON in place of the cache.
	Print io.Writer
	// Waiting is told when the next call has to wait, and for how long.
	Waiting func(time.Duration, string)
	// Progress is told after each page how many postings were taken so far.
	Progress func(int)
}

// Report says what came of a scan.
type Report struct {
	// Counts are of the postings that were taken, as when they are read from a file.
	posting.Counts

	Rejects []Reject       `json:"rejects"`
	Notes   map[string]int `json:"notes"`
	// Skipped counts projects that no bid can be placed on, by the reason.
	Skipped map[string]int64 `json:"skipped"`
	// Found is how many the marketplace says there are.
	Found int `json:"found"`
	Pages int `json:"pages"`
	Calls int `json:"calls"`
	// Paused says that the scan ended because the account is paused.
	Paused bool `json:"paused"`
}

// Reject says why a project makes no posting.
type Reject struct {
	JobID   string `json:"job_id"`
	Code    string `json:"code"`
	Message string `json:"message"`
}

// Run searches, page after page, each call through the gate, and puts every page in the cache
// before it asks for the next. What the report counts is kept, whatever the error; an error of
// the search is a [*freelancer.ReadError], or wraps [ErrRateLimited]. When ctx ends, the page
// under way is still kept.
func Run(ctx context.Context, pool *pgxpool.Pool, client *freelancer.Client, account gate.Gate, o Options) (Report, error) {
	s := &scan{
		pool: pool, q: queries.New(pool), client: client, options: o,
		seen: map[int64]bool{}, size: freelancer.MaxPageSize,
		report: Report{Rejects: []Reject{}, Notes: map[string]int{}, Skipped: map[string]int64{}},
	}
	working := context.WithoutCancel(ctx)
	for !s.done && s.report.Calls < maxCalls {
		answer, err := account.Await(working, ctx, func(d time.Duration) { o.Waiting(d, "the account's rate is used up") })
		switch {
		case err != nil:
			return s.report, err
		case answer == gate.Stopped:
			return s.report, context.Cause(ctx) //nolint:wrapcheck // who interrupted it
		case answer == gate.Paused:
			s.report.Paused = true
			return s.report, nil
		}
		if err := s.page(ctx, working); err != nil {
			return s.report, err
		}
	}
	return s.report, nil
}

// scan is a scan under way.
type scan struct {
	pool    *pgxpool.Pool
	q       *queries.Queries
	client  *freelancer.Client
	options Options

	seen   map[int64]bool // projects, whatever became of them
	taken  int
	offset int
	size   int // of the next page
	waited time.Duration
	blind  int // projects in a row that were skipped unread: after two nothing there makes sense
	done   bool
	report Report
}

// page reads one page and keeps it.
func (s *scan) page(ctx, working context.Context) error {
	q := s.options.Query
	q.Limit, q.Offset = s.size, s.offset
	page, err := s.client.Search(working, q)
	s.report.Calls++
	if err != nil {
		return s.recover(ctx, err)
	}
	s.blind = 0
	s.report.Pages++
	s.report.Found = max(s.report.Found, page.Total)
	s.report.count(Unreadable, int64(page.Unreadable))
	now, err := s.q.Now(working)
	if err != nil {
		return fmt.Errorf("read the database's clock: %w", err)
	}
	fresh, records := s.choose(page.Projects, now)
	if err := s.keep(working, records, now); err != nil {
		return err
	}
	s.options.Progress(s.taken)
	read := len(page.Projects) + page.Unreadable
	s.done = s.done || fresh == 0 && page.Unreadable == 0 || 0 < page.Total && page.Total <= s.offset+read
	s.offset += max(1, read-min(overlap, s.size/10))
	return nil
}

// recover makes the best of a search that failed: it waits, or asks for less at once, as an
// answer may be too long; what even alone cannot be read is skipped.
func (s *scan) recover(ctx context.Context, err error) error {
	failed, ok := errors.AsType[*freelancer.ReadError](err)
	switch {
	case !ok:
		return err
	case failed.Code == marketplace.CodeRateLimited:
		wait := cmp.Or(failed.After, time.Second)
		if s.waited += wait; s.waited > maxRateWait {
			return fmt.Errorf("%w: it wants another %s of waiting: %w", ErrRateLimited, wait, err)
		}
		s.options.Waiting(wait, failed.Message)
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done(): // found out by who called
		}
		return nil
	case failed.Code == marketplace.CodeUnreadable && s.size > 1:
		s.size /= 2
		return nil
	case failed.Code == marketplace.CodeUnreadable && s.blind == 0:
		s.blind++
		s.offset++
		s.size = freelancer.MaxPageSize
		s.report.count(Unreadable, 1)
		return nil
	}
	return err
}

func (r *Report) count(reason string, n int64) {
	if n > 0 {
		r.Skipped[reason] += n
	}
}

// choose returns the projects that can be bid on and were not seen before, as many as are
// still wanted, and how many were not seen before.
func (s *scan) choose(projects []freelancer.Project, now time.Time) (fresh int, records []posting.Record) {
	for _, project := range projects {
		if s.seen[project.ID] {
			continue
		}
		if s.taken == s.options.Limit {
			s.done = true
			return fresh, records
		}
		s.seen[project.ID] = true
		fresh++
		if reason := project.Obstacle(); reason != "" {
			s.report.count(reason, 1)
			continue
		}
		records = append(records, project.Record(s.options.Marketplace, now))
		s.taken++
	}
	s.done = s.taken == s.options.Limit
	return fresh, records
}
