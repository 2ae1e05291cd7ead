package db_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/test/netfault"
	"github.com/arbitrageai/bidder/test/testdb"
)

// raise is a statement that fails with a SQLSTATE.
func raise(code string) string {
	return fmt.Sprintf("DO $$ BEGIN RAISE EXCEPTION 'raised' USING ERRCODE = '%s'; END $$", code)
}

// connectError returns what connecting to an address that does not work says.
func connectError(t *testing.T, address string) error {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), address)
	if err == nil {
		_ = conn.Close(t.Context())
		t.Fatal("connected")
	}
	return err
}

// What real servers and connections say when something is wrong.
func TestErrors(t *testing.T) {
	t.Parallel()
	database := testdb.New(t)
	watch := database.Pool(t)
	statement := func(sql string) func(t *testing.T) error {
		return func(t *testing.T) error {
			t.Helper()
			_, err := connect(t, database.DirectURL).Exec(t.Context(), sql)
			return err
		}
	}
	changed := func(change func(u *url.URL)) func(t *testing.T) error {
		return func(t *testing.T) error {
			t.Helper()
			u, err := url.Parse(database.DirectURL)
			if err != nil {
				t.Fatal(err)
			}
			change(u)
			return connectError(t, u.String())
		}
	}
	tests := []struct {
		name              string
		fail              func(t *testing.T) error
		code              string
		lost, unavailable bool
	}{
		{"nobody listens", func(t *testing.T) error {
			t.Helper()
			listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			address := listener.Addr().String()
			if err := listener.Close(); err != nil {
				t.Fatal(err)
			}
			return connectError(t, "postgres://u@"+address+"/db?sslmode=disable")
		}, "", true, true},
		{"no such socket", func(t *testing.T) error {
			t.Helper()
			return connectError(t, "host="+t.TempDir()+" user=u")
		}, "", true, true},
		{"nobody answers", func(t *testing.T) error {
			t.Helper()
			proxy := netfault.New(t, database.DirectURL)
			proxy.Blackhole(true)
			defer proxy.Cut()
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			defer cancel()
			_, err := pgx.Connect(ctx, proxy.URL)
			return err
		}, "", true, true},
		{"connecting is interrupted", func(t *testing.T) error {
			t.Helper()
			_, err := pgx.Connect(canceled(t), database.DirectURL)
			return err
		}, "", false, false},
		{"no such database", changed(func(u *url.URL) { u.Path = "/missing" }), "3D000", true, true},
		{"too many connections", func(t *testing.T) error {
			t.Helper()
			role := "crowded_" + database.Name[len(database.Name)-12:]
			exec(t, watch, "CREATE ROLE "+role+" LOGIN PASSWORD 'x' CONNECTION LIMIT 0")
			defer exec(t, watch, "DROP ROLE "+role)
			return changed(func(u *url.URL) { u.User = url.UserPassword(role, "x") })(t)
		}, "53300", true, true},
		{"backend ended", func(t *testing.T) error {
			t.Helper()
			conn := connect(t, database.DirectURL)
			exec(t, watch, "SELECT pg_terminate_backend($1)", conn.PgConn().PID())
			_, err := conn.Exec(t.Context(), "SELECT pg_sleep(60)")
			return err
		}, "57P01", true, true},
		{"line cut", func(t *testing.T) error {
			t.Helper()
			proxy := netfault.New(t, database.DirectURL)
			conn := connect(t, proxy.URL)
			proxy.CutBefore("pg_sleep")
			_, err := conn.Exec(t.Context(), "SELECT pg_sleep(60)")
			return err
		}, "", true, true},
		{"closed before", func(t *testing.T) error {
			t.Helper()
			conn := connect(t, database.DirectURL)
			if err := conn.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			_, err := conn.Exec(t.Context(), "SELECT")
			return err
		}, "", true, true},
		{"deadline", func(t *testing.T) error {
			t.Helper()
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			defer cancel()
			_, err := connect(t, database.DirectURL).Exec(ctx, "SELECT pg_sleep(60)")
			return err
		}, "", false, true},
		{"deadline before", func(t *testing.T) error {
			t.Helper()
			ctx, cancel := context.WithTimeout(t.Context(), -time.Second)
			defer cancel()
			_, err := connect(t, database.DirectURL).Exec(ctx, "SELECT")
			return err
		}, "", false, true},
		{"interrupted before", func(t *testing.T) error {
			t.Helper()
			_, err := connect(t, database.DirectURL).Exec(canceled(t), "SELECT")
			return err
		}, "", false, false},
		{"statement time-out", statement("SET statement_timeout = 1; SELECT pg_sleep(60)"), db.CodeQueryCanceled, false, true},
		{"read-only", statement("BEGIN READ ONLY; DELETE FROM runs"), db.CodeReadOnly, false, true},
		{"not migrated", statement("SELECT FROM missing"), db.CodeUndefinedTable, false, true},
		{"disk full", statement(raise("53100")), "53100", false, true},
		{"lock table full", statement(raise("53200")), db.CodeOutOfMemory, false, true},
		{"deadlock", statement(raise("40P01")), db.CodeDeadlock, false, true},
		{"serialization", statement(raise("40001")), db.CodeSerialization, false, true},
		{"lock time-out", statement(raise("55P03")), db.CodeLockNotAvailable, false, true},
		{"no privilege", statement(raise("42501")), db.CodeNoPrivilege, false, true},
		{"i/o error", statement(raise("58030")), "58030", false, true},
		{"corruption", statement(raise("XX001")), "XX001", false, true},
		{"connection failure behind the server", statement(raise("08006")), "08006", true, true},
		{"shutdown", statement(raise("57P03")), "57P03", true, true},
		{"idle too long", statement(raise("25P03")), db.CodeIdleInTransaction, true, true},
		{"lived too long", statement(raise("25P04")), db.CodeTransactionTimeout, true, true},
		{"syntax", statement("SELEKT"), "42601", false, false},
		{"division", statement("SELECT 1 / 0"), "22012", false, false},
		{"null", statement("INSERT INTO runs (kind) VALUES (NULL)"), "23502", false, false},
		{"unique", statement("INSERT INTO postings SELECT 'upwork', '1', now(), 't' FROM generate_series(1, 2)"), db.CodeUniqueViolation, false, false},
		{"check", statement("INSERT INTO runs (kind) VALUES ('x')"), db.CodeCheckViolation, false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := fmt.Errorf("what was done: %w", tt.fail(t))
			if got := db.Code(err); got != tt.code {
				t.Errorf("code %q, want %q (%v)", got, tt.code, err)
			}
			if got := db.IsLost(err); got != tt.lost {
				t.Errorf("lost: %t, want %t (%v)", got, tt.lost, err)
			}
			if got := db.IsUnavailable(err); got != tt.unavailable {
				t.Errorf("unavailable: %t, want %t (%v)", got, tt.unavailable, err)
			}
		})
	}
}

func TestWrongPassword(t *testing.T) {
	t.Parallel()
	u, err := url.Parse(testdb.New(t).DirectURL)
	if err != nil {
		t.Fatal(err)
	}
	const secret = "not the $ecret"
	u.User = url.UserPassword(u.User.Username(), secret)
	pool, err := db.Open(t.Context(), db.Options{URL: u.String()})
	if err == nil {
		pool.Close()
		t.Skip("the server asks nobody for a password")
	}
	if db.Code(err) != "28P01" || !db.IsUnavailable(err) || !db.IsLost(err) {
		t.Errorf("got %v", err)
	}
	if strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), url.QueryEscape(secret)) {
		t.Errorf("the password is in the error: %v", err)
	}
}

func TestConstraint(t *testing.T) {
	t.Parallel()
	pool := testdb.New(t).Pool(t)
	_, err := pool.Exec(t.Context(), "INSERT INTO runs (kind) VALUES ('x')")
	if got := db.Constraint(fmt.Errorf("insert: %w", err)); got != "runs_kind_known" {
		t.Errorf("constraint %q of %v", got, err)
	}
	_, err = pool.Exec(t.Context(), "SELECT 1 / 0")
	if got := db.Constraint(err); got != "" {
		t.Errorf("constraint %q of %v", got, err)
	}
	if got := db.Constraint(errors.New("other")) + db.Constraint(nil) + db.Code(nil); got != "" {
		t.Errorf("%q of no server", got)
	}
}

// Errors that no test can make a server say.
func TestErrorsElsewhere(t *testing.T) {
	t.Parallel()
	_, missing := os.Open(filepath.Join(t.TempDir(), "missing"))
	broken := &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", syscall.ECONNRESET)}
	dead := &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", syscall.ETIMEDOUT)}
	tests := []struct {
		name              string
		err               error
		lost, unavailable bool
	}{
		{"none", nil, false, false},
		{"other", errors.New("other"), false, false},
		{"interrupted", context.Canceled, false, false},
		{"deadline", context.DeadlineExceeded, false, true},
		{"no such file", missing, false, false},
		{"output closed", &os.PathError{Op: "write", Path: "/dev/stdout", Err: syscall.EPIPE}, false, false},
		{"reset", broken, true, true},
		{"no sign of life", dead, true, true},
		{"closed by the server", io.ErrUnexpectedEOF, true, true},
		{"end of stream", io.EOF, true, true},
		{"closed here", net.ErrClosed, true, true},
		{"server without a code", &pgconn.PgError{}, false, false},
		{"server with half a code", &pgconn.PgError{Code: "5"}, false, false},
		{"unknown fatal error", &pgconn.PgError{Code: "99999", SeverityUnlocalized: "FATAL"}, true, true},
		{"panic of the server", &pgconn.PgError{Code: "99999", SeverityUnlocalized: "PANIC"}, true, true},
		{"replica", db.ErrReplica, false, true},
		{"not migrated", db.ErrNotMigrated, false, true},
		{"dirty", db.ErrDirty, false, true},
		{"newer", db.ErrNewerSchema, false, true},
		{"commit unknown", db.ErrCommitUnknown, false, true},
		{"migration busy", db.ErrMigrationBusy, false, true},
		{"address", db.ErrAddress, false, false},
		{"isolation", db.ErrIsolation, false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, err := range []error{tt.err, errors.Join(errors.New("also"), tt.err)} {
				if got := db.IsLost(err); got != tt.lost {
					t.Errorf("lost: %t, want %t (%v)", got, tt.lost, err)
				}
				if got := db.IsUnavailable(err); got != tt.unavailable {
					t.Errorf("unavailable: %t, want %t (%v)", got, tt.unavailable, err)
				}
			}
		})
	}
}
