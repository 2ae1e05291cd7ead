package config

import (
	"slices"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // zones are known on every machine

	"github.com/arbitrageai/bidder/pkg/posting"
)

// Caps bound what each marketplace may be bid; nil is no bound.
type Caps struct {
	// BidsPerDay bounds the bids of a day.
	BidsPerDay *int64
	// MoneyPerDayCents bounds a day's bids in hundredths, each currency by itself.
	MoneyPerDayCents *int64
	// LiveBids bounds the bids that are live at once.
	LiveBids *int64
	// Zone is the IANA name of the time zone in which a day begins.
	Zone string
}

// noCap lifts a cap that the top of the file sets.
const noCap = "none"

const zoneKey = ".zone"

// mostCapped is the largest cap, which no sum of bids comes near to.
const mostCapped = 1_000_000_000

// capKeys returns the keys of a caps block, bound to c.
func capKeys(at string, c *Caps) []field {
	return []field{
		{at + ".bids_per_day", "", "most bids of a day; none is no cap", capped(&c.BidsPerDay, parseCount)},
		{at + ".money_per_day", "", "most money that a day's bids come to, each currency by itself; none is no cap", money(&c.MoneyPerDayCents)},
		{at + ".live_bids", "", "most bids that are live at once; none is no cap", capped(&c.LiveBids, parseCount)},
		{at + zoneKey, "", "time zone whose midnight begins a day", zone(&c.Zone)},
	}
}

// setsCaps reports whether the file sets or lifts caps at a marketplace. Then those at the
// top are not meant for it.
func (l *loader) setsCaps(name string) bool {
	var ignored Caps
	return slices.ContainsFunc(capKeys(marketplacesKey+"."+name+"."+capsKey, &ignored), func(f field) bool {
		_, stands := l.cfg.origins[f.name]
		return stands && !strings.HasSuffix(f.name, zoneKey)
	})
}

// capped is a cap, or none.
func capped(p **int64, parse func(string) (int64, error)) value {
	return value{
		set: func(s string) error {
			if strings.EqualFold(s, noCap) {
				*p = nil
				return nil
			}
			n, err := parse(s)
			if err != nil {
				return err
			}
			if n < 1 {
				return Problem{Message: quote(s) + " leaves no room for any bid", Hint: "write handler: none to bid nowhere there, or none for no cap"}
			}
			*p = &n
			return nil
		},
		show: func() string {
			if *p == nil {
				return ""
			}
			return strconv.FormatInt(**p, 10)
		},
	}
}

func parseCount(s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0, Problem{Message: quote(s) + " is not a whole number", Hint: "use 1 to " + strconv.Itoa(mostCapped) + ", or none"}
	}
	if n < 0 || n > mostCapped {
		return 0, outOfRange(s, "1", strconv.Itoa(mostCapped))
	}
	return n, nil
}

// money is a cap in decimal text, in the file, and whole cents from then on.
func money(p **int64) value {
	v := capped(p, func(s string) (int64, error) {
		cents, err := posting.ParseAmount(s)
		if err != nil {
			return 0, Problem{Message: err.Error()}
		}
		return cents, nil
	})
	v.show = amount(p).show
	return v
}

func zone(p *string) value {
	v := text(p)
	v.set = func(s string) error {
		// Local is another zone on every machine.
		if _, err := time.LoadLocation(s); err != nil || s == "" || s == "Local" {
			return Problem{Message: quote(s) + " is not a time zone", Hint: "write its IANA name, such as Europe/Berlin, or UTC"}
		}
		*p = s
		return nil
	}
	return v
}
