// Package config reads the whole configuration of bidder: command-line flags
// beat the environment, the environment beats the file, and the file beats the
// defaults. It reads nothing by itself and keeps nothing: all that it looks at
// is in a [Source], except for the files and PG… variables that a Postgres
// connection string may refer to, which the driver reads.
package config

import (
	"io"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/arbitrageai/bidder/pkg/policy"
)

// A Source is where [Load] looks.
type Source struct {
	// Environ is the environment, in the form of [os.Environ].
	Environ []string
	// Flags holds the flags that stand on the command line, by the name of the
	// variable that they beat: BIDDER_LOCK_WAIT for --lock-wait. See [FlagName].
	Flags map[string]string
	// Open opens the file that BIDDER_CONFIG or --config names.
	Open func(name string) (io.ReadCloser, error)
	// UID and Home, the user's id and home directory, are for the default of
	// the state directory.
	UID  int
	Home string
	// NeedDatabase makes it a problem that there is no database to use.
	NeedDatabase bool
	// CallsNobody says that no marketplace will be called, so that the secrets for
	// that may be missing.
	CallsNobody bool
}

// A Config is a configuration that was found to be right. Times are never
// negative, and counts are in their ranges.
type Config struct {
	// DatabaseURL is a Postgres URL or libpq keywords. It is empty with
	// Embedded, and possibly without [Source.NeedDatabase].
	DatabaseURL Secret
	// Embedded asks for a private Postgres in StateDir, and allows no
	// marketplaces but those of the handlers manual, sandbox and none.
	Embedded bool
	// StateDir is absolute, or empty where Embedded is false and there is no
	// home directory.
	StateDir string
	// File is the name of the configuration file, or empty.
	File string

	// LockWait is how long to wait for a lock; 0 is a single try.
	LockWait time.Duration
	// LockTTL is the longest life of a transaction that holds a lock, and
	// StatementTimeout that of any statement. The server counts both in
	// milliseconds.
	LockTTL          time.Duration
	StatementTimeout time.Duration
	// PostingTTL is the age from which a posting is stale, and RebidWindow the
	// time after a bid in which its posting is recent.
	PostingTTL  time.Duration
	RebidWindow time.Duration

	// DeliveryLease is how long one process owns a delivery.
	DeliveryLease time.Duration
	// RetryBase and RetryCap are the first and the longest gap between the
	// attempts of a delivery, and RetryMax is the number of failed attempts
	// before it goes to review.
	RetryBase time.Duration
	RetryCap  time.Duration
	RetryMax  int

	// Batch is the number of attempts per transaction, Workers that of
	// claimers, and of deliverers, at work at once, and MaxConns that of the
	// process's database connections. Workers may exceed MaxConns: a deliverer
	// holds no connection while it waits for a marketplace.
	Batch    int
	Workers  int
	MaxConns int

	// DryRun forbids every write and every call.
	DryRun bool

	// ConsoleToken and ConsoleReadonlyToken are the bearer tokens of the
	// console. They are never equal unless both are empty.
	ConsoleToken         Secret
	ConsoleReadonlyToken Secret

	// LogFormat is text, json, or empty: text on a terminal, else json.
	LogFormat string
	LogLevel  slog.Level

	// DefaultHandler is the handler of marketplaces that Marketplaces does not
	// name: manual, sandbox or none.
	DefaultHandler string
	// DefaultCurrency is the currency of postings that name none.
	DefaultCurrency string
	// MinAmountCents and MaxAmountCents bound the amounts of bids; nil is no
	// bound.
	MinAmountCents *int64
	MaxAmountCents *int64
	// Eligible and Amount are the expressions at the top of the file, or nil; they apply
	// where [Marketplace] has none of its own.
	Eligible *policy.Eligible
	Amount   *policy.Amount
	// Caps are those of marketplaces that set none of their own; each counts by itself.
	Caps Caps
	// Marketplaces has the marketplaces that the file names, by their names in
	// normal form. See [Config.Marketplace] for all others.
	Marketplaces map[string]Marketplace

	// origins has the fields, by name, that are not at their defaults.
	origins map[string]Origin
}

// Handler returns the handler of a marketplace, whose name must be in normal
// form: one of the Handler constants.
func (c Config) Handler(marketplace string) string { return c.Marketplace(marketplace).Handler }

// Marketplace returns what applies to a marketplace, whose name must be in
// normal form, whether the file names it or not.
func (c Config) Marketplace(name string) Marketplace {
	if m, named := c.Marketplaces[name]; named {
		return m
	}
	return c.unnamed()
}

// unnamed returns what applies to marketplaces that the file does not name.
func (c Config) unnamed() Marketplace {
	m := newMarketplace()
	m.Caps = c.Caps
	m.setDefaults(c)
	return m
}

// An Origin says where a value comes from: one of the constants, the name of
// another variable, or the file:line:column where it stands.
type Origin string

// The origins that are not a place in a file.
const (
	OriginDefault     Origin = "default"
	OriginEnvironment Origin = "environment"
	OriginFlag        Origin = "flag"
)

// A Setting is one line of the effective configuration.
type Setting struct {
	// Name is the variable, or the path of the key in the file.
	Name string
	// Value is what applies, masked where it is a secret, and empty where
	// nothing is set.
	Value   string
	From    Origin
	Meaning string
}

// Settings returns the effective configuration: the variables, then the keys of
// the file, with secrets masked. Of a marketplace, the keys of one handler
// appear where they stand in the file or the handler is that one.
func (c Config) Settings() []Setting {
	fields := append(variables(&c), topKeys(&c)...)
	for _, name := range slices.Sorted(maps.Keys(c.Marketplaces)) {
		m := c.Marketplaces[name]
		at := marketplacesKey + "." + name
		fields = append(fields, m.keys(at)...)
		own := func(handler string, keys []field) {
			for _, f := range keys {
				if _, stands := c.origins[f.name]; stands || m.Handler == handler {
					fields = append(fields, f)
				}
			}
		}
		own(HandlerBridge, m.bridgeKeys(at))
		own(HandlerFreelancer, m.freelancerKeys(at))
	}

	settings := make([]Setting, len(fields))
	for i, f := range fields {
		from, known := c.origins[f.name]
		if !known {
			from = OriginDefault
		}
		settings[i] = Setting{Name: f.name, Value: f.value.show(), From: from, Meaning: f.meaning}
	}
	return settings
}
