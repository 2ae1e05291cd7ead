package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/bidding"
	"github.com/arbitrageai/bidder/pkg/posting"
	"github.com/arbitrageai/bidder/pkg/terminal"
)

// capUsage is what is used of the caps of all marketplaces that the file names, and of
// those that have bid under the caps at its top, counted anew.
func (s *session) capUsage(ctx context.Context) (usage []bidding.CapUsage, err error) {
	limits := s.writeLimits()
	limits.ByIndex = true // bids of two days, of all there are
	err = db.View(ctx, s.pool, limits, func(tx pgx.Tx) error {
		usage, err = s.readCaps(ctx, tx, true)
		return err
	})
	return usage, err
}

// readCaps is capUsage on a connection of the caller's, counted anew or as claims have counted.
func (s *session) readCaps(ctx context.Context, conn queries.DBTX, anew bool) ([]bidding.CapUsage, error) {
	currencies := map[string][]string{}
	for name := range s.Marketplaces {
		currencies[name] = nil
	}
	rows, err := queries.New(conn).SpendingAccounts(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the accounts under caps: %w", err)
	}
	for _, row := range rows {
		known := currencies[row.Marketplace]
		if row.Currency != "" && !slices.Contains(known, row.Currency) {
			known = append(known, row.Currency)
		}
		currencies[row.Marketplace] = known
	}
	usage := []bidding.CapUsage{}
	for _, name := range slices.Sorted(maps.Keys(currencies)) {
		if len(currencies[name]) == 0 {
			currencies[name] = []string{s.DefaultCurrency}
		}
		used, err := bidding.ReadCaps(ctx, conn, name, currencies[name], bidding.Caps(s.Marketplace(name).Caps), anew)
		if err != nil {
			return nil, err
		}
		usage = append(usage, used...)
	}
	return usage, nil
}

// capText is an amount of a cap: money with its currency, else a number of bids.
func capText(u bidding.CapUsage, amount int64) string {
	if u.Currency != "" {
		return posting.FormatAmount(amount) + " " + u.Currency
	}
	return strconv.FormatInt(amount, 10)
}

// resets is when the day of a cap ends, for people.
func resets(u bidding.CapUsage) string {
	if u.ResetsAt == nil {
		return "when a bid ends"
	}
	return exactTime(*u.ResetsAt)
}

func (a *app) printCaps(usage []bidding.CapUsage) {
	if len(usage) == 0 {
		return
	}
	fmt.Fprintln(a.stdout)
	t := a.screen.Table(
		terminal.Column{Name: "marketplace"}, terminal.Column{Name: "cap"}, terminal.Column{Name: "used", Right: true},
		terminal.Column{Name: "of", Right: true}, terminal.Column{Name: "resets"},
	)
	for _, u := range usage {
		used := terminal.Styled{Value: capText(u, u.Used)}
		if u.Used >= u.Limit {
			used.Style = terminal.Warn
		}
		again := resets(u)
		if u.ResetsAt != nil {
			again = a.moment(*u.ResetsAt)
		}
		t.Row(u.Marketplace, u.Cap, used, capText(u, u.Limit), again)
	}
	t.Print()
}

// capWarning is the part of a cap, in hundredths, from which doctor warns.
const capWarning = 80

// caps reports caps that are reached or nearly, and zones that the server does not know.
func (e *examination) caps(ctx context.Context, q *queries.Queries) error {
	zones := make([]string, 0, len(e.s.Marketplaces)+1)
	zones = append(zones, e.s.Marketplace("").Caps.Zone)
	for _, m := range e.s.Marketplaces {
		zones = append(zones, m.Caps.Zone)
	}
	slices.Sort(zones)
	unknown, err := q.UnknownZones(ctx, slices.Compact(zones))
	if err != nil {
		return fmt.Errorf("look for time zones: %w", err)
	}
	if len(unknown) > 0 {
		e.report("caps", levelError, "the server does not know the time zone "+strings.Join(unknown, ", "),
			"write another zone for the caps, or update the server's time zones")
		return nil
	}
	usage, err := e.s.capUsage(ctx)
	if err != nil {
		return err
	}
	var near []string
	for _, u := range usage {
		if float64(u.Used)*100 >= float64(u.Limit)*capWarning {
			near = append(near, fmt.Sprintf("%s %s: %s of %s (resets %s)", u.Marketplace, u.Cap, capText(u, u.Used), capText(u, u.Limit), resets(u)))
		}
	}
	message := fmt.Sprintf("%d caps, all below %d %%", len(usage), capWarning)
	if len(near) > 0 {
		message = strings.Join(near, "; ")
	}
	e.expect("caps", len(near) == 0, levelWarning, message, "postings that meet a cap wait in the queue; after raising it, `bidder run --reconsider` takes them at once")
	return nil
}
