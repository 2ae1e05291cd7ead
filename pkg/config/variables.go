package config

import (
	"strings"
	"time"
)

// The variables that other code needs to name.
const (
	databaseURL   = "DATABASE_URL"
	embedded      = "BIDDER_EMBEDDED"
	stateDir      = "BIDDER_STATE_DIR"
	configFile    = "BIDDER_CONFIG"
	deliveryLease = "BIDDER_DELIVERY_LEASE"
	retryBase     = "BIDDER_RETRY_BASE"
	retryCap      = "BIDDER_RETRY_CAP"
	dryRun        = "BIDDER_DRY_RUN"
	consoleToken  = "BIDDER_CONSOLE_TOKEN"
	readonlyToken = "BIDDER_CONSOLE_READONLY_TOKEN"

	prefix = "BIDDER_"
)

// forever is longer than anybody wants to wait, and still far from what a
// time.Duration can hold.
const forever = 100 * 365 * 24 * time.Hour

// variables returns every variable that bidder knows, bound to c.
func variables(c *Config) []field {
	return []field{
		{databaseURL, "", "Postgres URL or libpq keywords", secret(&c.DatabaseURL)},
		{embedded, "false", "use a private Postgres in the state directory; for the handlers manual and sandbox only", boolean(&c.Embedded)},
		{stateDir, "", "directory of the private Postgres", directory(&c.StateDir)},
		{configFile, "", "configuration file (YAML)", text(&c.File)},
		{"BIDDER_LOCK_WAIT", "10s", "longest wait for a lock; 0 is one try", duration(&c.LockWait, 0, 10*time.Second)},
		// The server counts whole milliseconds, and takes 0 as no limit at all.
		{"BIDDER_LOCK_TTL", "5m", "longest life of a transaction that holds a lock", duration(&c.LockTTL, time.Millisecond, 5*time.Minute)},
		{"BIDDER_STATEMENT_TIMEOUT", "5s", "longest time of one statement", duration(&c.StatementTimeout, time.Millisecond, 24*time.Hour)},
		{"BIDDER_POSTING_TTL", "24h", "age from which a posting is stale", duration(&c.PostingTTL, time.Millisecond, forever)},
		{"BIDDER_REBID_WINDOW", "5m", "time after a bid in which its posting gets no other", duration(&c.RebidWindow, 0, forever)},
		{deliveryLease, "5m", "how long one process owns a delivery", duration(&c.DeliveryLease, time.Second, forever)},
		{retryBase, "15s", "first gap between attempts of a delivery", duration(&c.RetryBase, time.Millisecond, forever)},
		{retryCap, "15m", "longest gap between attempts of a delivery", duration(&c.RetryCap, time.Millisecond, forever)},
		{"BIDDER_RETRY_MAX", "8", "failed attempts of a delivery before review", count(&c.RetryMax)},
		{"BIDDER_BATCH", "64", "attempts per transaction", count(&c.Batch)},
		{"BIDDER_WORKERS", "4", "the most claimers and deliverers at once", count(&c.Workers)},
		{"BIDDER_MAX_CONNS", "6", "database connections of this process", count(&c.MaxConns)},
		{dryRun, "false", "write nothing and call nobody", boolean(&c.DryRun)},
		{consoleToken, "", "bearer token of the console", bearer(&c.ConsoleToken)},
		{readonlyToken, "", "bearer token of the console, for reading only", bearer(&c.ConsoleReadonlyToken)},
		{"BIDDER_LOG_FORMAT", "", "text or json; unset, text on a terminal, else json", choice(&c.LogFormat, "text", "json")},
		{"BIDDER_LOG_LEVEL", "info", "debug, info, warn or error", level(&c.LogLevel)},
	}
}

// FlagName returns the flag that beats a variable: --lock-wait for
// BIDDER_LOCK_WAIT.
func FlagName(variable string) string {
	return "--" + strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(variable, prefix)), "_", "-")
}

// isServiceLink reports whether Kubernetes may have made the variable, for a
// service whose name begins with bidder.
func isServiceLink(name string) bool {
	return strings.HasSuffix(name, "_SERVICE_HOST") || strings.Contains(name, "_SERVICE_PORT") ||
		strings.HasSuffix(name, "_PORT") || strings.Contains(name, "_PORT_")
}
