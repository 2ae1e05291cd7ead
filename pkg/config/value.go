package config

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/arbitrageai/bidder/pkg/posting"
)

// A field is one thing that can be set: a variable, or a key of the file.
type field struct {
	// name is the variable, or the path of the key: marketplaces.upwork.rate.
	name string
	// standard is the text of the default, where that needs nothing else.
	standard string
	meaning  string
	value    value
}

// A value reads and shows one part of a [Config].
type value struct {
	// set reads text; an error is a [Problem] without Where, or of an expression a
	// [*policy.Error].
	set func(text string) error
	// show returns what is set, with secrets masked.
	show func() string
	// list says that the file may give several values; set is called for each.
	list bool
}

func text(p *string) value {
	return value{
		set:  func(s string) error { *p = s; return nil },
		show: func() string { return *p },
	}
}

func secret(p *Secret) value {
	return value{
		set:  func(s string) error { *p = NewSecret(s); return nil },
		show: p.String,
	}
}

// bearer is a secret that goes into an HTTP header.
func bearer(p *Secret) value {
	v := secret(p)
	v.set = func(s string) error {
		*p = NewSecret(s)
		if strings.ContainsFunc(p.Reveal(), func(r rune) bool { return r <= ' ' || r > '~' }) {
			return Problem{
				Message: "has characters that a bearer token cannot have",
				Hint:    "use visible ASCII characters without spaces, for example from openssl rand -hex 32",
			}
		}
		return nil
	}
	return v
}

func directory(p *string) value {
	v := text(p)
	v.set = func(s string) error {
		if s != "" && !filepath.IsAbs(s) {
			// With a relative one, what is found depends on where bidder was
			// started: two private databases instead of one.
			return Problem{Message: quote(s) + " is not an absolute path", Hint: "begin it with /"}
		}
		*p = s
		return nil
	}
	return v
}

func duration(p *time.Duration, least, most time.Duration) value {
	return value{
		set: func(s string) error {
			d, err := ParseDuration(s)
			if err != nil {
				return err
			}
			if d < least || d > most {
				return outOfRange(s, FormatDuration(least), FormatDuration(most))
			}
			*p = d
			return nil
		},
		show: func() string { return FormatDuration(*p) },
	}
}

// count is a whole number from 1 to 1000.
func count(p *int) value { return number(p, 1, 1000) }

func number(p *int, least, most int) value {
	return value{
		set: func(s string) error {
			n, err := strconv.Atoi(s)
			if err != nil {
				return Problem{Message: quote(s) + " is not a whole number", Hint: fmt.Sprintf("use %d to %d", least, most)}
			}
			if n < least || n > most {
				return outOfRange(s, strconv.Itoa(least), strconv.Itoa(most))
			}
			*p = n
			return nil
		},
		show: func() string { return strconv.Itoa(*p) },
	}
}

// rate is a number of calls per second. The lower end keeps the gap between two
// calls well inside what the database can add to a time.
func rate(p *float64) value {
	const least, most = 0.001, 1000
	return value{
		set: func(s string) error {
			n, err := strconv.ParseFloat(s, 64)
			if err != nil {
				return Problem{Message: quote(s) + " is not a number", Hint: "write calls per second, such as 1 or 0.5; 0 is unlimited"}
			}
			if n != 0 && !(least <= n && n <= most) { // also false for NaN
				return outOfRange(s, "0 (unlimited), or 0.001", "1000")
			}
			*p = n
			return nil
		},
		show: func() string { return strconv.FormatFloat(*p, 'g', -1, 64) },
	}
}

func outOfRange(text, least, most string) error {
	return Problem{Message: quote(text) + " is out of range", Hint: fmt.Sprintf("use %s to %s", least, most)}
}

func boolean(p *bool) value {
	return value{
		set: func(s string) error {
			switch s {
			case "true", "1":
				*p = true
			case "false", "0":
				*p = false
			default:
				// Anything else is never guessed: a typo in the dry-run switch
				// must not mean live bidding.
				return Problem{Message: quote(s) + " is not a switch", Hint: "use true, false, 1 or 0"}
			}
			return nil
		},
		show: func() string { return strconv.FormatBool(*p) },
	}
}

// choice is one of the options, in any case.
func choice(p *string, options ...string) value {
	v := text(p)
	v.set = func(s string) error {
		for _, option := range options {
			if strings.EqualFold(s, option) {
				*p = option
				return nil
			}
		}
		return Problem{Message: quote(s) + " is not known", Hint: "use one of: " + strings.Join(options, ", ")}
	}
	return v
}

func level(p *slog.Level) value {
	var name string
	v := choice(&name, "debug", "info", "warn", "error")
	levels := map[string]slog.Level{
		"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError,
	}
	return value{
		set: func(s string) error {
			err := v.set(s)
			*p = levels[name]
			return err
		},
		show: func() string { return strings.ToLower(p.String()) },
	}
}

func currency(p *string) value {
	v := text(p)
	v.set = func(s string) error {
		code, err := posting.ParseCurrency(s)
		if err != nil {
			return Problem{Message: err.Error()}
		}
		*p = code
		return nil
	}
	return v
}

// amount is decimal text, in the file, and whole cents from then on.
func amount(p **int64) value {
	return value{
		set: func(s string) error {
			cents, err := posting.ParseAmount(s)
			if err != nil {
				return Problem{Message: err.Error()}
			}
			*p = &cents
			return nil
		},
		show: func() string {
			if *p == nil {
				return ""
			}
			return posting.FormatAmount(**p)
		},
	}
}
