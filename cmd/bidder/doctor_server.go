package main

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/db/queries"
)

// oldestServer is the oldest major version that the program is tested on.
const oldestServer = 150000

// connectionFix says what to do where not even the first question was answered.
func connectionFix(err error) string {
	switch db.Code(err) {
	case db.CodeDuplicatePrepared, db.CodeNoPrepared:
		return "a pooler in transaction mode mixes up prepared statements: add default_query_exec_mode=exec to DATABASE_URL"
	}
	return "check DATABASE_URL, the network and the server's log"
}

func (e *examination) server(facts queries.ServerFactsRow) {
	e.expect("version", facts.VersionNum >= oldestServer, levelError, "server "+facts.Version, "use PostgreSQL 15 or newer")
	e.expect("primary", !facts.InRecovery && !facts.ReadOnly, levelError,
		fmt.Sprintf("in recovery: %t, read-only: %t", facts.InRecovery, facts.ReadOnly),
		"connect to the primary: add target_session_attrs=read-write to DATABASE_URL")
	e.expect("standbys", facts.Standbys == 0 || facts.SynchronousStandbys != "", levelNote,
		fmt.Sprintf("%d standbys, synchronous: %q", facts.Standbys, facts.SynchronousStandbys),
		"a failover can lose the last claims, which are then made again: set synchronous_standby_names, or reconcile after a failover (docs/operations.md#failover)")
	e.expect("encoding", facts.Encoding == "UTF8", levelError, facts.Encoding, "create the database with ENCODING 'UTF8'")
	e.expect("fsync", facts.Fsync, levelError, fmt.Sprintf("fsync: %t", facts.Fsync), "set fsync = on: a crash can lose claimed bids")
	e.expect("full_page_writes", facts.FullPageWrites, levelWarning, fmt.Sprintf("full_page_writes: %t", facts.FullPageWrites),
		"set full_page_writes = on unless the storage writes pages atomically")
	e.expect("synchronous_commit", facts.SynchronousCommit != "off", levelWarning, "synchronous_commit: "+facts.SynchronousCommit,
		"claims, leases and calls turn it on for themselves; set it to on for everything else")
	e.expect("isolation", facts.Isolation == "read committed", levelWarning, "default: "+facts.Isolation,
		"claims say READ COMMITTED themselves; set default_transaction_isolation back for everything else")
	e.expect("autovacuum", facts.Autovacuum, levelWarning, fmt.Sprintf("autovacuum: %t", facts.Autovacuum),
		"set autovacuum = on and track_counts = on: without them the queue becomes slower with every posting")
}

// encryption finds out whether somebody on the way to the server could read along, or be the
// server.
func (e *examination) encryption(address *pgx.ConnConfig) {
	const name = "encryption"
	host, encrypted := address.Host, address.TLSConfig
	if ip := net.ParseIP(host); strings.HasPrefix(host, "/") || host == "localhost" || ip.IsLoopback() {
		e.report(name, levelOK, "the server is on this machine", "")
		return
	}
	plain := encrypted == nil
	for _, other := range address.Fallbacks { // what is tried when the first way fails
		plain = plain || other.TLSConfig == nil
	}
	e.expect(name, !plain && !encrypted.InsecureSkipVerify, levelWarning,
		fmt.Sprintf("encrypted always: %t, the server proves its name: %t", !plain, encrypted != nil && !encrypted.InsecureSkipVerify),
		"add sslmode=verify-full to DATABASE_URL, and sslrootcert where a certificate authority of your own has signed the server's certificate")
}

// The differences of clocks from which on something goes wrong.
const (
	skewNoticed = 5 * time.Second
	skewFatal   = 5 * time.Minute // from here on postings that were cached now are rejected
)

func (e *examination) clock(facts queries.ServerFactsRow, skew time.Duration) {
	level := levelOK
	switch {
	case skew.Abs() >= skewFatal:
		level = levelError
	case skew.Abs() >= skewNoticed:
		level = levelWarning
	}
	e.report("clock", level, fmt.Sprintf("this machine and the server differ by %s", skew.Abs().Round(time.Second)),
		"synchronise the clocks (NTP): the server's decides, but scanners stamp cached_at with their own, and tokens and signatures go by this machine's")
	zone, _ := time.Now().Zone()
	e.report("time zone", levelOK, fmt.Sprintf("server: %s, this machine: %s; times are compared and shown in UTC, days of caps are those of their own zone", facts.TimeZone, zone), "")
}

// pooler finds out whether a pooler is in between, and in which mode. A pooler makes up the
// process id that a client is told; in transaction mode two clients get the same server
// process, one after the other.
func (e *examination) pooler(ctx context.Context) {
	const name = "pooler"
	between, mode, err := e.poolerMode(ctx)
	switch {
	case err != nil:
		e.report(name, levelWarning, "it cannot be found out whether a pooler is in between: "+err.Error(), "look at DATABASE_URL")
	case !between:
		e.report(name, levelOK, "none", "")
	case mode == poolerStatement:
		e.report(name, levelError, "in statement mode", "set pool_mode = transaction: claims are transactions")
	case mode == poolerTransaction && e.s.pool.Config().ConnConfig.DefaultQueryExecMode == pgx.QueryExecModeCacheStatement:
		e.report(name, levelNote, "in transaction mode, and statements are prepared",
			"PgBouncer before 1.21, or with max_prepared_statements = 0, needs default_query_exec_mode=exec in DATABASE_URL; `bidder migrate` always needs an address that leads straight to the server")
	case mode == poolerTransaction:
		e.report(name, levelNote, "in transaction mode", "pods are fine with it; `bidder migrate` needs an address that leads straight to the server")
	default:
		e.report(name, levelNote, "in session mode", "pods are fine with it, but each of their connections occupies one of the server's: transaction mode saves them")
	}
}

// The modes of a pooler.
const (
	poolerSession     = "session"
	poolerTransaction = "transaction"
	poolerStatement   = "statement"
)

func (e *examination) poolerMode(ctx context.Context) (between bool, mode string, err error) {
	connect := func() (*pgx.Conn, error) { return pgx.ConnectConfig(ctx, e.s.pool.Config().ConnConfig.Copy()) }
	first, err := connect()
	if err != nil {
		return false, "", fmt.Errorf("connect: %w", err)
	}
	defer func() { _ = first.Close(context.WithoutCancel(ctx)) }()
	pid, err := queries.New(first).BackendPID(ctx)
	if err != nil {
		return false, "", fmt.Errorf("ask for the process: %w", err)
	}
	if uint32(pid) == first.PgConn().PID() { //nolint:gosec // process ids are positive
		return false, "", nil
	}
	second, err := connect()
	if err != nil {
		return true, "", fmt.Errorf("connect: %w", err)
	}
	defer func() { _ = second.Close(context.WithoutCancel(ctx)) }()
	for range 5 { // other clients may come in between
		tx, err := second.Begin(ctx)
		if err != nil {
			return true, poolerStatement, nil // that is what statement mode is
		}
		other, err := queries.New(tx).BackendPID(ctx)
		db.Rollback(ctx, tx)
		if err != nil {
			return true, "", fmt.Errorf("ask for the process: %w", err)
		}
		again, err := queries.New(first).BackendPID(ctx)
		if err != nil {
			return true, "", fmt.Errorf("ask for the process: %w", err)
		}
		if other == pid || again != pid {
			return true, poolerTransaction, nil
		}
	}
	return true, poolerSession, nil
}

// capacity compares what the server has with what pods use, as many as there were at once.
func (e *examination) capacity(facts queries.ServerFactsRow, peak queries.PeakRunsRow) {
	pods := max(int(peak.AtOnce), 1)
	seen := fmt.Sprintf("%d runs at once within a day", peak.AtOnce)
	// The shared lock table has this many slots; each posting of a batch takes one.
	slots := int(facts.MaxLocksPerTransaction) * int(facts.MaxConnections+facts.MaxPreparedTransactions)
	perPod := e.s.Batch * e.s.Workers
	room := slots / 2 / perPod // half of the table is left to everything else
	e.expect("lock slots", room >= pods, levelWarning,
		fmt.Sprintf("%d slots; %d postings at once per pod (batch %d x workers %d): room for %d pods; %s", slots, perPod, e.s.Batch, e.s.Workers, room, seen),
		fmt.Sprintf("lower BIDDER_BATCH to %d, or raise max_locks_per_transaction to %d", max(slots/2/e.s.Workers/pods, 1),
			(2*perPod*pods+int(facts.MaxConnections)-1)/int(facts.MaxConnections)))
	budget := int(facts.MaxConnections - facts.ReservedConnections)
	bounds := []string{fmt.Sprintf("max_connections %d less %d reserved", facts.MaxConnections, facts.ReservedConnections)}
	for _, limit := range []struct {
		of string
		n  int32
	}{{"the role's limit", facts.RoleConnections}, {"the database's limit", facts.DatabaseConnections}} {
		if limit.n >= 0 && int(limit.n) < budget {
			budget = int(limit.n)
			bounds = append(bounds, fmt.Sprintf("%s %d", limit.of, limit.n))
		}
	}
	free := int(facts.MaxConnections - facts.ReservedConnections - facts.Connections)
	e.expect("connections", free >= e.s.MaxConns && budget >= e.s.MaxConns*pods, levelWarning,
		fmt.Sprintf("%d may be used (%s), %d of the server's are free now; a pod uses up to %d; %s", budget, strings.Join(bounds, ", "), free, e.s.MaxConns, seen),
		"lower BIDDER_MAX_CONNS or the number of pods, raise max_connections, or put PgBouncer in between")
}
