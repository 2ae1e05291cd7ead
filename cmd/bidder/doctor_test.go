package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/db/queries"
)

// Clocks cannot be made wrong in a test of the whole.
func TestClock(t *testing.T) {
	t.Parallel()
	for skew, want := range map[time.Duration]string{
		0: levelOK, -4 * time.Second: levelOK, 5 * time.Second: levelWarning, -time.Minute: levelWarning,
		5 * time.Minute: levelError, -time.Hour: levelError,
	} {
		e := &examination{}
		e.clock(queries.ServerFactsRow{TimeZone: "Asia/Tokyo"}, skew)
		if c := e.checks[0]; c.Name != "clock" || c.Level != want || (c.Fix == nil) != (want == levelOK) {
			t.Errorf("%s: %+v, want %s", skew, c, want)
		}
		if c := e.checks[1]; c.Level != levelOK || !strings.Contains(c.Message, "Asia/Tokyo") {
			t.Errorf("time zone: %+v", c)
		}
	}
}

// TestEncryption: what DATABASE_URL says about who may read along.
func TestEncryption(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"postgres://u@127.0.0.1/b?sslmode=disable":                       levelOK,
		"postgres://u@localhost/b":                                       levelOK,
		"postgres://u@[::1]/b":                                           levelOK,
		"host=/var/run/postgresql":                                       levelOK,
		"postgres://u@db.example.com/b":                                  levelWarning, // TLS where the server wants it
		"postgres://u@10.0.0.1/b?sslmode=disable":                        levelWarning,
		"postgres://u@db.example.com/b?sslmode=allow":                    levelWarning,
		"postgres://u@db.example.com/b?sslmode=require":                  levelWarning, // with anybody
		"postgres://u@db.example.com/b?sslmode=verify-ca":                levelWarning, // with anybody who has a certificate
		"postgres://u@db.example.com/b?sslmode=verify-full":              levelOK,
		"postgres://u@a.example.com,b.example.com/b?sslmode=verify-full": levelOK,
		"postgres://u@a.example.com,b.example.com/b?sslmode=prefer":      levelWarning,
	} {
		config, err := pgx.ParseConfig(address)
		if err != nil {
			t.Fatal(err)
		}
		e := &examination{}
		e.encryption(config)
		if c := e.checks[0]; c.Name != "encryption" || c.Level != want || (c.Fix == nil) != (want == levelOK) {
			t.Errorf("%s: %+v, want %s", address, c, want)
		}
	}
}

func TestFixes(t *testing.T) {
	t.Parallel()
	refused := func(code string) error {
		return fmt.Errorf("read: %w", &pgconn.PgError{Code: code, SeverityUnlocalized: "ERROR"})
	}
	facts := queries.ServerFactsRow{Role: "pod", Schema: "public"}
	for _, tt := range []struct{ fix, want string }{
		{connectionFix(refused(db.CodeDuplicatePrepared)), "default_query_exec_mode=exec"},
		{connectionFix(refused("28P01")), "DATABASE_URL"},
		{schemaFix(db.ErrReplica, facts), "target_session_attrs"},
		{schemaFix(refused(db.CodeNoPrivilege), facts), "bidder grants --worker pod"},
		{schemaFix(db.ErrNotMigrated, facts), "bidder migrate up"},
		{schemaFix(db.ErrNotMigrated, queries.ServerFactsRow{Role: "pod"}), "bidder grants --worker pod"},
		{schemaFix(db.ErrDirty, facts), "bidder migrate version"},
		{schemaFix(db.ErrNewerSchema, facts), "newer one"},
	} {
		if !strings.Contains(tt.fix, tt.want) {
			t.Errorf("%q does not say %q", tt.fix, tt.want)
		}
	}
}

func TestCapacity(t *testing.T) {
	t.Parallel()
	facts := queries.ServerFactsRow{MaxLocksPerTransaction: 64, MaxConnections: 100, ReservedConnections: 3, Connections: 10, RoleConnections: -1, DatabaseConnections: -1}
	for _, tt := range []struct {
		pods               int64
		locks, connections string
	}{
		{0, levelOK, levelOK},
		{12, levelOK, levelOK},           // 12 x 256 of 3200 slots, 12 x 6 of 97 connections
		{13, levelWarning, levelOK},      // 3328 slots
		{17, levelWarning, levelWarning}, // 102 connections
	} {
		s := &session{}
		s.Batch, s.Workers, s.MaxConns = 64, 4, 6
		e := &examination{s: s}
		e.capacity(facts, queries.PeakRunsRow{AtOnce: tt.pods})
		if e.checks[0].Level != tt.locks || e.checks[1].Level != tt.connections {
			t.Errorf("%d pods: %+v", tt.pods, e.checks)
		}
	}
}

// A private server in a pod coordinates nothing.
func TestEmbeddedInPod(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		embedded bool
		environ  []string
		want     string
	}{
		{true, []string{"KUBERNETES_SERVICE_HOST=10.0.0.1"}, levelError},
		{false, []string{"KUBERNETES_SERVICE_HOST=10.0.0.1"}, levelOK},
		{true, []string{"HOME=/root"}, levelOK},
	} {
		s := &session{}
		s.Embedded = tt.embedded
		e := &examination{s: s, environ: tt.environ}
		e.installation()
		if c := e.checks[0]; c.Name != "embedded" || c.Level != tt.want {
			t.Errorf("embedded %t in %v: %+v", tt.embedded, tt.environ, c)
		}
	}
}
