package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/bidding"
	"github.com/arbitrageai/bidder/pkg/posting"
)

// capUsage is what is used of the caps of all marketplaces that the file names, and of
// those that have bid under the caps at its top, counted anew.
func (s *session) capUsage(ctx context.Context) ([]bidding.CapUsage, error) {
	return s.readCaps(ctx, s.pool, true)
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

func printCaps(w io.Writer, usage []bidding.CapUsage) {
	if len(usage) == 0 {
		return
	}
	fmt.Fprintln(w)
	t := newTable(w, "marketplace", "cap", "used", "of", "resets")
	for _, u := range usage {
		t.AppendRow([]any{u.Marketplace, u.Cap, capText(u, u.Used), capText(u, u.Limit), resets(u)})
	}
	t.Render()
}

// prometheusCaps writes gauges: bids, or hundredths of the currency.
func prometheusCaps(text *strings.Builder, usage []bidding.CapUsage) {
	for _, gauge := range []struct {
		name, help string
		value      func(bidding.CapUsage) int64
	}{
		{"bidder_cap_used", "What is used of a cap: bids, or hundredths of the currency.", func(u bidding.CapUsage) int64 { return u.Used }},
		{"bidder_cap_limit", "The cap: bids, or hundredths of the currency.", func(u bidding.CapUsage) int64 { return u.Limit }},
	} {
		if len(usage) > 0 {
			fmt.Fprintf(text, "# HELP %s %s\n# TYPE %s gauge\n", gauge.name, gauge.help, gauge.name)
		}
		for _, u := range usage {
			fmt.Fprintf(text, "%s{marketplace=%q,account=%q,cap=%q,currency=%q} %d\n", gauge.name, u.Marketplace, u.Account, u.Cap, u.Currency, gauge.value(u))
		}
	}
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
