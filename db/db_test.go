package db_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/test/testdb"
)

// The states that a server can be in, and what Open says about them.
func TestOpen(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		change string // of the schema; %s is the database
		want   error
	}{
		{"current", "SELECT", nil},
		{"not migrated", "DROP TABLE schema_migrations", db.ErrNotMigrated},
		{"migrations taken back", "DELETE FROM schema_migrations", db.ErrNotMigrated},
		{"older", "UPDATE schema_migrations SET version = version - 1", db.ErrNotMigrated},
		{"newer", "UPDATE schema_migrations SET version = version + 1", db.ErrNewerSchema},
		{"dirty", "UPDATE schema_migrations SET dirty = true", db.ErrDirty},
		{"read-only", "ALTER DATABASE %s SET default_transaction_read_only = on", db.ErrReplica},
		{"read-only and dirty", "UPDATE schema_migrations SET dirty = true; ALTER DATABASE %s SET default_transaction_read_only = on", db.ErrReplica},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			database := testdb.New(t)
			exec(t, database.Pool(t), strings.ReplaceAll(tt.change, "%s", database.Name))
			// Without TLS being ruled out, the driver has a second way to the same host.
			for _, address := range []string{database.URL, with(t, database.URL, "sslmode", "prefer")} {
				pool, err := db.Open(t.Context(), db.Options{URL: address})
				if err == nil {
					pool.Close()
				}
				wantIs(t, err, tt.want)
				if tt.want != nil && !db.IsUnavailable(err) {
					t.Errorf("%v should mean that the database is unavailable", err)
				}
			}
		})
	}
}

func TestSchemaStateUnreadable(t *testing.T) {
	t.Parallel()
	database := testdb.New(t)
	exec(t, database.Pool(t), "ALTER TABLE schema_migrations DROP COLUMN dirty")
	pool, err := db.Connect(t.Context(), db.Options{URL: database.URL})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	if _, err := db.ReadSchemaState(t.Context(), pool); db.Code(err) != "42703" {
		t.Errorf("a strange version table: %v", err)
	}
	if err := db.CheckSchema(canceled(t), pool); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}

func TestConnectOptions(t *testing.T) {
	t.Parallel()
	database := testdb.New(t)
	tests := []struct {
		name        string
		options     db.Options
		application string
		conns       int32
		timeout     time.Duration
	}{
		{"as asked", db.Options{URL: database.DirectURL, MaxConns: 3, Application: "bidder run"}, "bidder run", 3, 5 * time.Second},
		{"as the address says", db.Options{
			URL:         with(t, with(t, with(t, database.DirectURL, "application_name", "mine"), "connect_timeout", "7"), "pool_max_conns", "9"),
			Application: "bidder run",
		}, "mine", 9, 7 * time.Second},
		{"nothing asked", db.Options{URL: with(t, database.DirectURL, "pool_max_conns", "2")}, "", 2, 5 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			pool, err := db.Connect(t.Context(), tt.options)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(pool.Close)
			if got := value[string](t, pool, "SHOW application_name"); got != tt.application {
				t.Errorf("application name %q, want %q", got, tt.application)
			}
			if got := pool.Config().MaxConns; got != tt.conns {
				t.Errorf("%d connections, want %d", got, tt.conns)
			}
			if got := pool.Config().ConnConfig.ConnectTimeout; got != tt.timeout {
				t.Errorf("connects for %v, want %v", got, tt.timeout)
			}
		})
	}
}

// Settings of the pool in the one address that a user has do not disturb migrations.
func TestMigrateWithPoolSettings(t *testing.T) {
	t.Parallel()
	database := testdb.New(t, testdb.WithoutMigrations())
	if err := db.MigrateUp(t.Context(), with(t, database.DirectURL, "pool_max_conns", "4")); err != nil {
		t.Error(err)
	}
}

// Of several hosts the first that is writable is used, also when a standby comes first.
func TestSeveralHosts(t *testing.T) {
	t.Parallel()
	readOnly, writable := testdb.New(t), testdb.New(t)
	exec(t, readOnly.Pool(t), fmt.Sprintf("ALTER DATABASE %s SET default_transaction_read_only = on", readOnly.Name))

	// A server stands in for two: its second name is one that is only reached after the first.
	config, err := pgx.ParseConfig(readOnly.DirectURL)
	if err != nil {
		t.Fatal(err)
	}
	closed, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(closed.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	address := func(database *testdb.DB) string {
		return keywords(map[string]string{
			"host": "127.0.0.1," + config.Host, "port": fmt.Sprintf("%s,%d", port, config.Port),
			"user": config.User, "password": config.Password, "dbname": database.Name, "sslmode": "disable",
		})
	}
	open(t, address(writable), 1)
	if err := db.MigrateUp(t.Context(), address(writable)); err != nil {
		t.Errorf("migrate the writable one: %v", err)
	}
	for name, err := range map[string]error{
		"open":    openError(t, address(readOnly)),
		"migrate": db.MigrateUp(t.Context(), address(readOnly)),
	} {
		if err == nil || !db.IsUnavailable(err) || !strings.Contains(err.Error(), "read only connection") {
			t.Errorf("%s a read-only one of several hosts: %v", name, err)
		}
	}
}

func openError(t *testing.T, address string) error {
	t.Helper()
	pool, err := db.Open(t.Context(), db.Options{URL: address})
	if err == nil {
		pool.Close()
	}
	return err
}

// keywords writes an address in libpq's other form.
func keywords(settings map[string]string) string {
	words := make([]string, 0, len(settings))
	for name, setting := range settings {
		words = append(words, name+"='"+strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(setting)+"'")
	}
	return strings.Join(words, " ")
}

// A user and a password of any characters work in both forms of an address.
func TestAddressForms(t *testing.T) {
	t.Parallel()
	database := testdb.New(t, testdb.WithoutMigrations())
	admin := database.Pool(t)
	user, password := `o'neil @/:?#%\ `+database.Name[len(database.Name)-12:], `p@ss w/:?#%&='"\rd é`
	name := pgx.Identifier{user}.Sanitize()
	exec(t, admin, "CREATE ROLE "+name+" LOGIN PASSWORD '"+strings.ReplaceAll(password, "'", "''")+"'")
	exec(t, admin, "CREATE SCHEMA mine AUTHORIZATION "+name)
	t.Cleanup(func() {
		if _, err := admin.Exec(context.WithoutCancel(t.Context()), "DROP OWNED BY "+name+"; DROP ROLE "+name); err != nil {
			t.Error(err)
		}
	})
	u, err := url.Parse(with(t, database.DirectURL, "search_path", "mine"))
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(user, password)
	config, err := pgx.ParseConfig(database.DirectURL)
	if err != nil {
		t.Fatal(err)
	}
	words := keywords(map[string]string{
		"host": config.Host, "port": fmt.Sprint(config.Port), "user": user, "password": password,
		"dbname": database.Name, "sslmode": "disable", "search_path": "mine",
	})
	if err := db.MigrateUp(t.Context(), words); err != nil {
		t.Errorf("migrate by keywords: %v", err)
	}
	if err := db.MigrateUp(t.Context(), u.String()); err != nil {
		t.Errorf("migrate by URL: %v", err)
	}
	for _, address := range []string{words, u.String()} {
		pool := open(t, address, 1)
		if got := value[string](t, pool, "SELECT current_user"); got != user {
			t.Errorf("connected as %q, want %q", got, user)
		}
		pool.Close()
	}
}

// Whatever is wrong with an address or a server, the password stays out of the error.
func TestErrorsHideThePassword(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, address string
		parts         []string // of the password
	}{
		{"nobody listens", "postgres://u:hush@127.0.0.1:1/db", []string{"hush"}},
		{"nobody listens, keywords", "host=127.0.0.1 port=1 user=u password='hush %&/ quiet'", []string{"hush", "quiet"}},
		{"blank not quoted", "host=127.0.0.1 port=1 password=hush quiet user=u", []string{"hush", "quiet"}},
		{"blanks around the sign", "password = 'hush quiet' host=127.0.0.1 port=x", []string{"hush", "quiet"}},
		{"quote in quotes", `password='it\'s hush quiet' host=127.0.0.1 sslmode=bogus`, []string{"hush", "quiet"}},
		{"quote missing", `host=127.0.0.1 password='hush quiet`, []string{"hush", "quiet"}},
		{"slash not encoded", "postgres://u:hush/quiet@127.0.0.1:1/db", []string{"hush", "quiet"}},
		{"question mark not encoded", "postgres://u:hush?quiet@127.0.0.1:1/db", []string{"hush", "quiet"}},
		{"percent not encoded", "postgres://u:hush%quiet@127.0.0.1:1/db", []string{"hush", "quiet"}},
		{"at not encoded", "postgres://u:hush@quiet:x@127.0.0.1:1/db?sslmode=bogus", []string{"hush"}},
		{"in the query", "postgres://127.0.0.1:1/db?password=hush%20quiet&sslmode=bogus", []string{"hush", "quiet"}},
		{"no address at all", "hush", []string{"hush"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for name, err := range map[string]error{
				"open":    openError(t, tt.address),
				"migrate": db.MigrateUp(t.Context(), tt.address),
			} {
				if err == nil {
					t.Fatalf("%s worked", name)
				}
				for _, part := range tt.parts {
					if strings.Contains(fmt.Sprintf("%v %+v %q", err, err, err), part) {
						t.Errorf("%s says %q: %v", name, part, err)
					}
				}
			}
		})
	}
}

func TestAddressUnreadable(t *testing.T) {
	t.Parallel()
	for _, address := range []string{
		"postgres://127.0.0.1:port/db", "postgres://127.0.0.1/db?sslmode=maybe", "host", "postgres://127.0.0.1/db?pool_max_conns=0",
	} {
		wantIs(t, openError(t, address), db.ErrAddress)
		wantIs(t, db.MigrateUp(t.Context(), address), db.ErrAddress)
	}
	missing := filepath.Join(t.TempDir(), "root.crt")
	err := openError(t, "postgres://127.0.0.1/db?sslmode=verify-full&sslrootcert="+url.QueryEscape(missing))
	wantIs(t, err, db.ErrAddress)
	wantIs(t, err, os.ErrNotExist)
	if !strings.Contains(err.Error(), missing) {
		t.Errorf("%v does not name the file", err)
	}
}

// Types that the queries use come back as they went, whatever the query mode, and times in UTC.
func TestTypes(t *testing.T) {
	t.Parallel()
	pool := open(t, testdb.New(t).URL, 1)
	id, at := uuid.New(), time.Date(2026, 11, 23, 12, 0, 0, 123456000, time.FixedZone("", 7200))
	var (
		gotID   uuid.UUID
		gotIDs  []uuid.UUID
		gotAt   time.Time
		gotAts  []time.Time
		nothing *uuid.UUID
		present *uuid.UUID
		never   *time.Time
		absent  *uuid.UUID
	)
	err := pool.QueryRow(t.Context(), "SELECT $1::uuid, $2::uuid[], $3::timestamptz, $4::timestamptz[], $5::uuid, $6::uuid, NULL::timestamptz",
		id, []uuid.UUID{id, uuid.Nil}, at, []time.Time{at}, absent, &id).Scan(&gotID, &gotIDs, &gotAt, &gotAts, &nothing, &present, &never)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]uuid.UUID{id, id, id, uuid.Nil}, append([]uuid.UUID{*present, gotID}, gotIDs...)); diff != "" || nothing != nil || never != nil {
		t.Errorf("ids (-want +got):\n%s%v %v", diff, nothing, never)
	}
	if err := pool.QueryRow(t.Context(), "SELECT NULL::uuid").Scan(&gotID); err == nil {
		t.Errorf("no uuid is %v", gotID)
	}
	if diff := cmp.Diff([]time.Time{at.UTC(), at.UTC()}, append([]time.Time{gotAt}, gotAts...)); diff != "" {
		t.Errorf("times (-want +got):\n%s", diff)
	}
	for _, got := range append(gotAts, gotAt) {
		if got.Location() != time.UTC {
			t.Errorf("the time is in %v", got.Location())
		}
	}
}
