package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/config"
	"github.com/arbitrageai/bidder/pkg/gate"
	"github.com/arbitrageai/bidder/pkg/marketplace"
	"github.com/arbitrageai/bidder/pkg/marketplace/freelancer"
	"github.com/arbitrageai/bidder/pkg/posting"
	"github.com/arbitrageai/bidder/pkg/scan"
	"github.com/arbitrageai/bidder/pkg/terminal"
)

// scanFlags are what to search for, as it was typed.
type scanFlags struct {
	query, kind        string
	any                bool
	skills             []int64
	countries          []string
	languages          []string
	minPrice, maxPrice string
	since, sort        string
	reverse            bool
	limit              int
	print              bool
}

func (a *app) scanCommand() *cobra.Command {
	var flags scanFlags
	cmd := &cobra.Command{
		Use: "scan MARKETPLACE", Annotations: calls(),
		Short: "Put what a marketplace's search finds in the cache",
		Long: `Searches a marketplace and puts the projects that it finds in the cache, as ` + "`bidder ingest`" + `
does with those of a file: new and newer ones become candidates, which the next run decides
on. Marketplaces with the handler freelancer can be scanned.

Projects that no bid can be placed on are skipped and counted: those that are not open, are
offered to one freelancer, or need a signed NDA or the Preferred Freelancer Program. One that
says nothing new stays as it is until half of its time to live is over, and is then refreshed;
the bid that a file has asked for on it stays.

Each page is kept before the next is asked for. All calls are within the account's rate, which
deliveries share; while the account is paused nothing is called. There is no dry run: to see
what would change, print the postings and have ingest try them.`,
		Example: `  bidder scan freelancer --query 'golang postgres' --type fixed --min-price 250
  bidder scan freelancer --type hourly --min-price 30 --skill 1092 --language en --since 2h --limit 500
  bidder scan freelancer --query golang --print | bidder ingest --dry-run -`,
		Args:              exactArgs(1),
		ValidArgsFunction: a.completeScannable,
		RunE: a.action(tableOrJSON, func(cmd *cobra.Command, args []string) error {
			return a.scan(cmd, args[0], flags)
		}),
	}
	f := cmd.Flags()
	f.StringVar(&flags.query, "query", "", "words that the title or description has")
	f.BoolVar(&flags.any, "any", false, "one of the words is enough")
	f.StringVar(&flags.kind, "type", "", "fixed or hourly (default both)")
	f.Int64SliceVar(&flags.skills, "skill", nil, "id of a skill; again, or with commas, for several, of which one is enough")
	f.StringSliceVar(&flags.countries, "country", nil, "code of the client's country; may be repeated")
	f.StringSliceVar(&flags.languages, "language", nil, "code of the project's language, such as en; may be repeated")
	f.StringVar(&flags.minPrice, "min-price", "", "least budget in US dollars, or with --type hourly the least rate; needs --type")
	f.StringVar(&flags.maxPrice, "max-price", "", "largest budget in US dollars, or with --type hourly the largest rate; needs --type")
	f.StringVar(&flags.since, "since", "", "only from this time on: an age such as 2h or 1d, or an RFC 3339 time")
	f.StringVar(&flags.sort, "sort", "time_updated", "what comes first, the largest: "+strings.Join(sortFields(), ", "))
	f.BoolVar(&flags.reverse, "reverse", false, "the smallest comes first")
	f.IntVar(&flags.limit, "limit", 100, fmt.Sprintf("how many postings to take at most, up to %d", scan.MaxLimit))
	f.BoolVar(&flags.print, "print", false, "print the postings as NDJSON, and leave the cache as it is")
	settings(cmd, "posting-ttl", "statement-timeout")
	for name, values := range map[string][]string{"type": {posting.PricingFixed, posting.PricingHourly}, "sort": sortFields()} {
		_ = cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
	}
	for _, name := range []string{"query", "skill", "country", "language", "min-price", "max-price", "since", "limit"} {
		_ = cmd.RegisterFlagCompletionFunc(name, cobra.NoFileCompletions)
	}
	return cmd
}

func sortFields() []string {
	return []string{"time_updated", "submitdate", "bid_count", "bid_enddate", "bid_avg_usd"}
}

// completeScannable offers the marketplaces that can be scanned.
func (a *app) completeScannable(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	asking := *cmd
	asking.Annotations = nil // completion calls nobody, and needs no secrets
	c, err := a.load(&asking, false)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return freelancerNames(c), cobra.ShellCompDirectiveNoFileComp
}

func (a *app) scan(cmd *cobra.Command, argument string, flags scanFlags) error {
	c, err := a.load(cmd, true)
	if err != nil {
		return err
	}
	name, err := scannable(c, argument)
	if err != nil {
		return err
	}
	options, err := flags.options()
	switch {
	case err != nil:
		return usageError{err}
	case c.DryRun:
		return usageError{errors.New("a dry run calls nobody: `bidder scan … --print | bidder ingest --dry-run -` shows what would change")}
	case flags.print && a.output == "json":
		return usageError{errors.New("--print prints postings in place of the report: leave out -o json")}
	}
	s, err := a.open(cmd)
	if err != nil {
		return err
	}
	defer s.close()
	if options.Query.From, err = s.since(cmd.Context(), flags.since); err != nil {
		return err
	}
	m := s.Marketplace(name)
	account, err := newFreelancer(s.pool, name, m)
	if err != nil {
		return err
	}
	defer account.close()

	bar := a.countProgress("scanning "+name, "postings", int64(flags.limit))
	shown := 0
	options.Marketplace, options.PostingTTL, options.Limits = name, s.PostingTTL, s.writeLimits()
	options.Progress = func(taken int) { bar.add(taken - shown); shown = taken }
	options.Waiting = func(d time.Duration, why string) {
		s.log.Info("waiting for the next call", "marketplace", name, "wait", d, "reason", why)
	}
	if flags.print {
		options.Print = jsonWriter{a.stdout}
	}
	report, err := scan.Run(cmd.Context(), s.pool, account.client, gate.Gate{
		Queries: queries.New(s.pool), Marketplace: name, Account: defaultAccount, Gap: m.Gap(),
	}, options)
	bar.finish()
	return a.reportScan(s, report, scanError(name, report, err), flags.print)
}

// scannable is the marketplace that an argument means.
func scannable(c config.Config, argument string) (string, error) {
	key, err := parseKey(argument, "-")
	if err != nil {
		return "", err
	}
	names := freelancerNames(c)
	if slices.Contains(names, key.Marketplace) {
		return key.Marketplace, nil
	}
	can := "no marketplace that has a search is configured: give one the handler freelancer (docs/marketplaces.md)"
	if len(names) > 0 {
		can = "can be scanned: " + strings.Join(names, ", ")
	}
	return "", usageError{fmt.Errorf("%s has no search, its handler is %s; %s", key.Marketplace, c.Handler(key.Marketplace), can)}
}

// options checks what was typed.
func (f scanFlags) options() (scan.Options, error) {
	q := freelancer.Query{
		Text: f.query, Any: f.any, Skills: f.skills, Countries: f.countries, Languages: f.languages, Sort: f.sort, Reverse: f.reverse,
	}
	least, err := cents("--min-price", f.minPrice)
	if err != nil {
		return scan.Options{}, err
	}
	most, err := cents("--max-price", f.maxPrice)
	if err != nil {
		return scan.Options{}, err
	}
	switch f.kind {
	case posting.PricingFixed:
		q.Types, q.MinPriceCents, q.MaxPriceCents = []string{f.kind}, least, most
	case posting.PricingHourly:
		q.Types, q.MinHourlyRateCents, q.MaxHourlyRateCents = []string{f.kind}, least, most
	case "":
		if least > 0 || most > 0 {
			return scan.Options{}, errors.New("--min-price and --max-price need --type: a budget is no rate by the hour")
		}
	default:
		return scan.Options{}, fmt.Errorf("--type %q is neither fixed nor hourly", f.kind)
	}
	switch {
	case most > 0 && least > most:
		return scan.Options{}, errors.New("--min-price is more than --max-price")
	case !slices.Contains(sortFields(), f.sort):
		return scan.Options{}, fmt.Errorf("--sort %q is not one of %s", f.sort, strings.Join(sortFields(), ", "))
	case f.limit < 1 || f.limit > scan.MaxLimit:
		return scan.Options{}, fmt.Errorf("--limit is from 1 to %d", scan.MaxLimit)
	case slices.ContainsFunc(f.skills, func(id int64) bool { return id < 1 }):
		return scan.Options{}, errors.New("--skill is the id of a skill, a number above 0")
	}
	return scan.Options{Query: q, Limit: f.limit}, nil
}

// cents is the amount of a flag, or 0 where it was not given.
func cents(flag, text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	amount, err := posting.ParseAmount(text)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", flag, err)
	}
	return amount, nil
}

// since is the time that --since means, by the database's clock.
func (s *session) since(ctx context.Context, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if at, err := posting.ParseTime(text); err == nil {
		return at, nil
	}
	age, err := config.ParseDuration(text)
	if err != nil {
		return time.Time{}, usageError{fmt.Errorf("--since is neither an RFC 3339 time nor an age: %w", err)}
	}
	now, err := s.now(ctx)
	if err != nil {
		return time.Time{}, err
	}
	return now.Add(-age), nil
}

// scanError says what to do about an error of the search.
func scanError(name string, report scan.Report, err error) error {
	failed, ok := errors.AsType[*freelancer.ReadError](err)
	switch {
	case err == nil && report.Rejected > 0:
		return personError{}
	case errors.Is(err, freelancer.ErrQuery):
		return usageError{err}
	case !ok:
		return err
	case failed.Kind == marketplace.AuthNeeded:
		return personError{fmt.Sprintf("%s does not know the account: %v; see `bidder freelancer status %s`", name, err, name)}
	case failed.Kind == marketplace.PauseAccount:
		return personError{fmt.Sprintf("%s does not let the account search: %v", name, err)}
	case failed.Kind == marketplace.Permanent && report.Pages == 0:
		return usageError{fmt.Errorf("%s does not take the search; check the flags and base_url: %w", name, err)}
	}
	return fmt.Errorf("the search at %s failed; what was found before is kept, and it is safe to run again: %w", name, err)
}

func (a *app) reportScan(s *session, report scan.Report, problem error, printed bool) error {
	for code, n := range report.Notes {
		s.log.Info("note on the postings", "code", code, "times", n)
	}
	for _, reject := range report.Rejects[:min(len(report.Rejects), maxLoggedRejects)] {
		s.log.Warn("project rejected", "job_id", reject.JobID, "code", reject.Code, "reason", reject.Message)
	}
	if report.Paused {
		s.log.Warn("the account is paused, so the search was not continued; `bidder resume` ends the pause", "pages", report.Pages)
	}
	skipped := int64(0)
	for _, n := range report.Skipped {
		skipped += n
	}
	switch {
	case printed:
		s.log.Info("scan finished", "printed", report.Read, "skipped", skipped, "found", report.Found, "pages", report.Pages, "calls", report.Calls)
		return problem
	case problem != nil && report.Pages == 0:
		return problem // nothing was read
	case a.output == "json":
		return errors.Join(printJSON(a.stdout, report), problem)
	}
	t := a.screen.Table(terminal.Numbers("read", "accepted", "updated", "unchanged", "rejected", "skipped", "found", "pages", "calls")...)
	t.Row(report.Read, report.Accepted, report.Updated, report.Unchanged, report.Rejected, skipped, report.Found, report.Pages, report.Calls)
	t.Print()
	if skipped > 0 {
		fmt.Fprintln(a.stdout)
		reasons := a.screen.Table(append(terminal.Columns("skipped"), terminal.Numbers("projects")...)...)
		for _, reason := range slices.Sorted(maps.Keys(report.Skipped)) {
			reasons.Row(reason, report.Skipped[reason])
		}
		reasons.Print()
	}
	return problem
}
