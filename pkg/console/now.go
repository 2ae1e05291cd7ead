package console

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/bidding"
	"github.com/arbitrageai/bidder/pkg/delivery"
	"github.com/arbitrageai/bidder/pkg/posting"
	"github.com/arbitrageai/bidder/pkg/why"
)

const (
	// maxCount is up to where things are counted; beyond it a page says "more than".
	maxCount = 2_000
	// maxRuns is how many runs a chart adds up: the newest ones.
	maxRuns = 10_000
	// recentRuns is how many runs are listed.
	recentRuns = 10
)

// charted is a range of time that charts can show.
type charted struct {
	Name, Text  string
	length      time.Duration
	step        time.Duration
	axis, label string // formats of times, below the chart and in words
	Chosen      bool
}

func ranges() []charted {
	return []charted{
		{Name: "24h", Text: "24 hours", length: 24 * time.Hour, step: time.Hour, axis: "15:04", label: "Mon 15:04"},
		{Name: "7d", Text: "7 days", length: 7 * 24 * time.Hour, step: 6 * time.Hour, axis: "Mon 2", label: "Mon 2 Jan 15:04"},
		{Name: "30d", Text: "30 days", length: 30 * 24 * time.Hour, step: 24 * time.Hour, axis: "2 Jan", label: "Mon 2 Jan"},
	}
}

// figure is one large number of the first page.
type figure struct {
	Label, Value   string
	Notes          []string
	Link, LinkText string
}

type capBar struct {
	Marketplace, Cap, Used, Limit string
	Percent                       int
	Width                         string // of 100
	Full                          bool
	Resets                        *moment
}

type pausedAccount struct {
	Marketplace, Account, Reason, By string
	Everything                       bool
	Since                            moment
	Until                            *moment
	Version                          string
}

type runRow struct {
	Kind, Host, Version, Lasted, Ended string
	State                              string // ok, person, bad, open
	Began                              moment
	Attempts, Claimed, Delivered       int64
}

// concern is something that needs attention, and where that can be given.
type concern struct{ Text, Link string }

type nowPage struct {
	Concerns       []concern
	Figures        []figure
	Ranges         []charted
	Outcomes       []chart // for wide windows, and for narrow ones
	Each           []chart
	Locks          []chart
	History        []historyRow
	Cut            *moment // from when on runs are added up, where there are too many
	Runs           []runRow
	Caps           []capBar
	Paused         []pausedAccount
	Marketplaces   []string
	OutcomeColumns []string
}

type historyRow struct {
	Time   string
	Values []int64
}

func (s *Server) now(w http.ResponseWriter, r *http.Request) {
	s.view(w, r, "now", "now", func(ctx context.Context, v *reading) error {
		v.Title = "Now"
		body := &nowPage{}
		v.Body = body
		for _, step := range []func(context.Context, *reading, *nowPage) error{s.figures, s.paused, s.spending, s.recent} {
			if err := step(ctx, v, body); err != nil {
				return err
			}
		}
		return s.history(ctx, v, body, r.URL.Query().Get("range"))
	})
}

// late is how long a delivery may be owed before somebody should know.
const late = time.Hour

func (p *nowPage) concern(link, text string) { p.Concerns = append(p.Concerns, concern{text, link}) }

// upTo is a count that stops at maxCount.
func upTo(n, looked int64) string {
	if looked >= maxCount {
		return "≥ " + count(n)
	}
	return count(n)
}

func (s *Server) figures(ctx context.Context, v *reading, body *nowPage) error {
	live, err := v.q.LiveFacts(ctx, maxCount)
	if err != nil {
		return fmt.Errorf("count live bids: %w", err)
	}
	owed, err := v.q.OwedFacts(ctx, maxCount)
	if err != nil {
		return fmt.Errorf("count what is owed: %w", err)
	}
	person, err := v.q.PersonFacts(ctx, maxCount)
	if err != nil {
		return fmt.Errorf("count what waits for a person: %w", err)
	}
	queue, err := v.q.CandidateFacts(ctx, maxCount)
	if err != nil {
		return fmt.Errorf("count candidates: %w", err)
	}

	f := figure{Label: "Live bids", Value: count(live.Live), Link: "/bids?status=ACTIVE", LinkText: "See live bids", Notes: []string{"one per posting, at most"}}
	if live.Live >= maxCount {
		f.Value, f.Notes = "≈ "+count(max(live.Estimated, live.Live)), []string{"as the database last estimated"}
	}
	body.Figures = append(body.Figures, f)

	f = figure{Label: "Owed deliveries", Value: upTo(owed.Place+owed.Withdraw, owed.LookedAt), Link: "/bids?owing=yes", LinkText: "See what is owed"}
	if owed.Place+owed.Withdraw == 0 {
		f.Notes = []string{"nothing is owed"}
	} else {
		f.Notes = []string{
			fmt.Sprintf("%s to place, %s to withdraw", count(owed.Place), count(owed.Withdraw)),
			fmt.Sprintf("%s due now, %s in a pod’s hands", count(owed.Due), count(owed.Leased)),
			"oldest: " + v.at(owed.Oldest).Age(),
		}
		if v.Now.Sub(owed.Oldest) > late {
			body.concern("/bids?owing=yes", "A delivery has been owed for "+v.at(owed.Oldest).Age())
		}
	}
	body.Figures = append(body.Figures, f)

	f = figure{Label: "For a person", Value: upTo(person.Review+person.Approval, person.LookedAt), Link: "/review", LinkText: "Decide", Notes: []string{"nobody is waited for"}}
	if person.LookedAt > 0 {
		f.Notes = []string{
			fmt.Sprintf("%s in review, %s to approve", count(person.Review), count(person.Approval)),
			"oldest: " + v.at(person.Oldest).Age(),
		}
		body.concern("/review", plural(person.LookedAt, "bid waits", "bids wait")+" for a person")
	}
	body.Figures = append(body.Figures, f)

	f = figure{Label: "Candidates", Value: upTo(queue.Due, queue.Due), Notes: []string{"postings to be decided on"}}
	if queue.Parked > 0 {
		f.Notes = append(f.Notes, upTo(queue.Parked, queue.Parked)+" parked")
		body.concern("", plural(queue.Parked, "posting is", "postings are")+" parked after too many failures: newer content frees them")
	}
	body.Figures = append(body.Figures, f)
	return nil
}

func plural(n int64, one, many string) string {
	switch {
	case n == 1:
		return "1 " + one
	case n >= maxCount:
		return "more than " + count(maxCount-1) + " " + many
	}
	return count(n) + " " + many
}

func (s *Server) paused(ctx context.Context, v *reading, body *nowPage) error {
	rows, err := v.q.PausedAccounts(ctx)
	if err != nil {
		return fmt.Errorf("list what is paused: %w", err)
	}
	for _, p := range rows {
		body.Paused = append(body.Paused, pausedAccount{
			Marketplace: p.Marketplace, Account: p.Account, Reason: p.Reason, By: p.PausedBy, Everything: p.Marketplace == everything,
			Since: v.at(p.PausedAt), Until: v.maybe(p.PausedUntil), Version: pauseVersion(p.PausedAt),
		})
	}
	if len(rows) > 0 {
		body.concern("#calls", plural(int64(len(rows)), "pause stops", "pauses stop")+" calls to marketplaces")
	}
	body.Marketplaces, err = v.q.BidMarketplaces(ctx, maxMarketplaces)
	if err != nil {
		return fmt.Errorf("list marketplaces: %w", err)
	}
	return nil
}

func (s *Server) spending(ctx context.Context, v *reading, body *nowPage) error {
	if s.options.Caps == nil {
		return nil
	}
	usage, err := s.options.Caps(ctx, v.tx)
	if err != nil {
		return fmt.Errorf("read caps: %w", err)
	}
	for _, u := range usage {
		b := capBar{Marketplace: u.Marketplace, Cap: words(u.Cap), Used: capAmount(u, u.Used), Limit: capAmount(u, u.Limit), Full: u.Used >= u.Limit, Resets: v.maybe(u.ResetsAt)}
		part := 1.0
		if u.Limit > 0 {
			part = min(float64(u.Used)/float64(u.Limit), 1)
		}
		b.Percent, b.Width = int(part*100), number(part*100)
		body.Caps = append(body.Caps, b)
		if b.Full {
			body.concern("#caps", u.Marketplace+" has reached its cap of "+b.Cap)
		}
	}
	return nil
}

// capAmount is an amount of a cap: money with its currency, else a number of bids.
func capAmount(u bidding.CapUsage, amount int64) string {
	if u.Currency != "" {
		return grouped(posting.FormatAmount(amount)) + " " + u.Currency
	}
	return count(amount)
}

// runCounters are those that are listed of a run.
type runCounters struct {
	Outcomes   map[bidding.Outcome]int64  `json:"outcomes"`
	Deliveries map[string]delivery.Counts `json:"deliveries"`
}

func (s *Server) recent(ctx context.Context, v *reading, body *nowPage) error {
	rows, err := v.q.RecentRuns(ctx, recentRuns)
	if err != nil {
		return fmt.Errorf("list runs: %w", err)
	}
	for _, run := range rows {
		var c runCounters
		if err := json.Unmarshal(run.Counters, &c); err != nil {
			s.options.Log.Warn("the counters of a run cannot be read", "run_id", run.ID, "error", err)
		}
		row := runRow{Kind: run.Kind, Host: run.Host, Version: run.Version, Began: v.at(run.StartedAt)}
		row.State, row.Ended = ending(run, v.Now)
		until := run.UpdatedAt
		if run.FinishedAt != nil {
			until = *run.FinishedAt
		}
		row.Lasted = lasted(until.Sub(run.StartedAt))
		for _, n := range c.Outcomes {
			row.Attempts += n
		}
		row.Claimed = c.Outcomes[bidding.Claimed]
		for _, d := range c.Deliveries {
			row.Delivered += d.Done
		}
		body.Runs = append(body.Runs, row)
	}
	return nil
}

// silence is how long a run may write nothing before it counts as gone.
const silence = time.Minute

// ending says how a run ended: a kind, and words.
func ending(run queries.RecentRunsRow, now time.Time) (state, text string) {
	switch {
	case run.ExitCode == nil && now.Sub(run.UpdatedAt) < silence:
		return "open", "under way"
	case run.ExitCode == nil:
		return "bad", "never ended: killed, or its host is gone"
	}
	switch code := *run.ExitCode; code {
	case 0:
		return "ok", "done"
	case 3: //nolint:mnd // the exit codes
		return "person", "done, with something for a person"
	case 4: //nolint:mnd // the exit codes
		return "bad", "the database was not usable (exit 4)"
	case 130, 143: //nolint:mnd // the exit codes
		return "ok", "interrupted"
	default:
		return "bad", fmt.Sprintf("exit code %d", code)
	}
}

func lasted(d time.Duration) string {
	if d < time.Minute {
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return span(d)
}

// history are the charts: what runs counted, by when they began.
func (s *Server) history(ctx context.Context, v *reading, body *nowPage, chosen string) error {
	body.Ranges = ranges()
	shown := &body.Ranges[0]
	for i := range body.Ranges {
		if body.Ranges[i].Name == chosen {
			shown = &body.Ranges[i]
		}
	}
	shown.Chosen = true
	since := v.Now.UTC().Truncate(shown.step).Add(shown.step - shown.length)
	rows, err := v.q.RunHistory(ctx, shown.step, since, maxRuns)
	if err != nil {
		return fmt.Errorf("add up runs: %w", err)
	}
	spans := int(shown.length / shown.step)
	began, times := make([]time.Time, spans), make([]string, spans)
	for i := range spans {
		began[i] = since.Add(time.Duration(i) * shown.step)
		times[i] = began[i].Format(shown.label)
	}
	outcomes := make(map[bidding.Outcome][]int64, len(bidding.Outcomes()))
	for _, o := range bidding.Outcomes() {
		outcomes[o] = make([]int64, spans)
	}
	locks := [4][]int64{make([]int64, spans), make([]int64, spans), make([]int64, spans), make([]int64, spans)}
	var runs int64
	for _, row := range rows {
		runs += row.Runs
		i := int(row.Began.Sub(since) / shown.step)
		if i < 0 || i >= spans {
			continue // by a clock that ran ahead
		}
		for o, n := range map[bidding.Outcome]int64{
			bidding.Unknown: row.Unknown, bidding.Duplicate: row.Duplicate, bidding.Closed: row.Closed, bidding.Recent: row.Recent, bidding.Stale: row.Stale,
			bidding.Ineligible: row.Ineligible, bidding.Claimed: row.Claimed, bidding.Locked: row.Locked, bidding.Failed: row.Failed,
		} {
			outcomes[o][i] += n
		}
		for k, n := range []int64{row.LockAttempts, row.LockSuccesses, row.LockConflicts, row.LockTimeouts} {
			locks[k][i] += n
		}
	}
	if runs >= maxRuns {
		body.Cut = v.maybe(&rows[0].First)
	}
	s.charts(body, outcomes, locks, times, began, shown.axis)
	return nil
}

func (s *Server) charts(body *nowPage, outcomes map[bidding.Outcome][]int64, locks [4][]int64, times []string, began []time.Time, axis string) {
	sum := func(name string, of ...bidding.Outcome) series {
		values := make([]int64, len(times))
		for _, o := range of {
			for i, n := range outcomes[o] {
				values[i] += n
			}
		}
		return series{Name: name, Values: values}
	}
	all := []series{
		sum("claimed", bidding.Claimed),
		sum("turned down", bidding.Unknown, bidding.Duplicate, bidding.Closed, bidding.Recent, bidding.Stale, bidding.Ineligible),
		sum("undecided", bidding.Locked, bidding.Failed),
	}
	for i := range all {
		all[i].Class = []string{"claimed", "turned", "undecided"}[i]
	}
	body.Outcomes = []chart{stack("wide", all, times, began, axis), stack("narrow", all, times, began, axis)}
	order := []bidding.Outcome{
		bidding.Claimed, bidding.Duplicate, bidding.Closed, bidding.Recent, bidding.Stale, bidding.Ineligible, bidding.Unknown, bidding.Locked, bidding.Failed,
	}
	for _, o := range order {
		body.OutcomeColumns = append(body.OutcomeColumns, string(o))
		class := "turned"
		switch o {
		case bidding.Claimed:
			class = "claimed"
		case bidding.Locked, bidding.Failed:
			class = "undecided"
		}
		body.Each = append(body.Each, spark(series{string(o), why.Meaning(o), class, outcomes[o]}, times))
	}
	for k, name := range []string{"attempts", "successes", "conflicts", "time-outs"} {
		meaning := []string{"tries to get the lock of a posting", "got it", "somebody else had it at first", "gave up waiting"}[k]
		body.Locks = append(body.Locks, spark(series{name, meaning, "lock", locks[k]}, times))
		body.OutcomeColumns = append(body.OutcomeColumns, "lock "+name)
	}
	for i := range times {
		row := historyRow{Time: times[i] + " UTC"}
		for _, o := range order {
			row.Values = append(row.Values, outcomes[o][i])
		}
		for k := range locks {
			row.Values = append(row.Values, locks[k][i])
		}
		body.History = append(body.History, row)
	}
}
