// Package testdb gives each test a PostgreSQL database of its own.
//
//	func TestMain(m *testing.M) { testdb.Main(m) }
//
//	func TestClaim(t *testing.T) {
//		t.Parallel()
//		database := testdb.New(t)
//		pool, err := db.Open(t.Context(), db.Options{URL: database.URL})
//		...
//	}
//
// The first [New] finds or starts the server that all tests of the process share: the one that BIDDER_TEST_DATABASE_URL
// names, else one in Docker, else one from local programs. BIDDER_TEST_POSTGRES=dsn, docker or local forces one way;
// BIDDER_TEST_IMAGE names another Docker image. The program test/testdb/serve starts one server for many packages.
//
// BIDDER_TEST_EXEC_MODE sets the query mode of pgx, and BIDDER_TEST_PGBOUNCER=1 puts PgBouncer in between, for
// everything that uses [DB.URL].
//
// A test that leaves a session, an open transaction or an advisory lock behind fails.
package testdb

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	envExecMode  = "BIDDER_TEST_EXEC_MODE"
	envPgBouncer = "BIDDER_TEST_PGBOUNCER"
)

// cleanupTime bounds what is done for a test after it has ended.
const cleanupTime = 30 * time.Second

// DB is a database of one test. It is dropped when the test has passed, and kept as long as the server when it failed.
type DB struct {
	// Name of the database.
	Name string
	// URL is for the code under test. It honours BIDDER_TEST_EXEC_MODE and BIDDER_TEST_PGBOUNCER.
	URL string
	// DirectURL leads straight to the server, whatever the environment says: for migrations and assertions.
	DirectURL string

	instance *instance
	bounced  bool          // URL goes through PgBouncer, which keeps its sessions
	leakWait time.Duration // how long what a test left may take to go

	mu    sync.Mutex
	pools []*pgxpool.Pool // that Pool made
}

// Pooled says whether [DB.URL] leads through PgBouncer.
func (d *DB) Pooled() bool { return d.bounced }

type options struct {
	empty     bool
	pgBouncer bool
}

// Option changes what [New] makes.
type Option func(*options)

// WithoutMigrations makes an empty database.
func WithoutMigrations() Option { return func(o *options) { o.empty = true } }

// WithPgBouncer puts PgBouncer in transaction mode behind [DB.URL], whatever the environment says.
func WithPgBouncer() Option { return func(o *options) { o.pgBouncer = true } }

// Running is a part of the message by which a client of [DB.URL] runs a statement, and of none by which it prepares
// one: a marker for netfault. pgx names prepared statements after their text.
func Running(sql string) string {
	if os.Getenv(envExecMode) != "" {
		return sql + "\x00"
	}
	digest := sha256.Sum256([]byte(sql))

	return "\x00stmtcache_" + hex.EncodeToString(digest[:24]) + "\x00"
}

// New makes a database with the project's schema. It needs [Main] or [Run] in TestMain. When the test ends, after all
// that it registered with Cleanup later than New, the database is searched for what the test left behind.
func New(tb testing.TB, opts ...Option) *DB {
	tb.Helper()
	wanted := options{pgBouncer: os.Getenv(envPgBouncer) == "1"}
	for _, opt := range opts {
		opt(&wanted)
	}

	instance, err := shared.get()
	if err != nil {
		tb.Fatalf("testdb: %v", err)
	}
	database, err := instance.newDB(tb.Context(), databaseName(tb.Name()), wanted)
	if err != nil {
		tb.Fatalf("testdb: %v", err)
	}
	tb.Cleanup(func() { database.close(tb) })

	return database
}

func (i *instance) newDB(ctx context.Context, name string, wanted options) (*DB, error) {
	template := "template0"
	if !wanted.empty {
		var err error
		if template, err = i.template(ctx); err != nil {
			return nil, err
		}
	}
	database := &DB{
		Name:      name,
		DirectURL: withDatabase(i.server.URL, name),
		instance:  i,
		bounced:   wanted.pgBouncer,
		leakWait:  leakWait,
	}
	database.URL = database.DirectURL
	if wanted.pgBouncer {
		bouncer, err := i.pgBouncer(ctx)
		if err != nil {
			return nil, err
		}
		database.URL = withDatabase(bouncer.URL, name)
	}
	if mode := os.Getenv(envExecMode); mode != "" {
		database.URL = withParameter(database.URL, "default_query_exec_mode", mode)
	}

	// FILE_COPY does not log every block: four times as fast for a small template.
	create := fmt.Sprintf("CREATE DATABASE %s TEMPLATE %s STRATEGY = FILE_COPY", quote(name), quote(template))
	if _, err := i.admin.Exec(ctx, create); err != nil {
		return nil, fmt.Errorf("create database %s: %w", name, err)
	}

	return database, nil
}

// Pool is for assertions: it leads straight to the server and is closed when the test ends.
func (d *DB) Pool(tb testing.TB) *pgxpool.Pool {
	tb.Helper()
	pool, err := pgxpool.New(tb.Context(), d.DirectURL)
	if err != nil {
		tb.Fatalf("testdb: open pool: %v", err)
	}
	tb.Cleanup(pool.Close)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pools = append(d.pools, pool)

	return pool
}

func (d *DB) close(tb testing.TB) {
	tb.Helper()
	ctx, cancel := cleanupContext(tb)
	defer cancel()

	if !tb.Failed() {
		if err := d.checkLeaks(ctx); err != nil {
			tb.Errorf("testdb: %v", err)
		}
	}
	if tb.Failed() {
		tb.Logf("testdb: database %s is kept until the server stops (%s)", d.Name, d.instance.server.About)

		return
	}
	if _, err := d.instance.admin.Exec(ctx, "DROP DATABASE "+quote(d.Name)+" WITH (FORCE)"); err != nil {
		tb.Errorf("testdb: drop database %s: %v", d.Name, err)
	}
}

// cleanupContext is not cancelled when the test ends.
func cleanupContext(tb testing.TB) (context.Context, context.CancelFunc) {
	tb.Helper()

	return context.WithTimeout(context.WithoutCancel(tb.Context()), cleanupTime)
}

// databaseName tells a reader which test a database belongs to, within the 63 bytes of a name.
func databaseName(test string) string {
	const longest = 40
	readable := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		}

		return '_'
	}, test)

	return readable[:min(len(readable), longest)] + "_" + strings.ToLower(rand.Text()[:12])
}

func quote(name string) string { return pgx.Identifier{name}.Sanitize() }

// withDatabase is the URL of another database of the same server.
func withDatabase(dsn, name string) string {
	u := mustParse(dsn)
	u.Path = "/" + name

	return u.String()
}

func withParameter(dsn, name, value string) string {
	u := mustParse(dsn)
	query := u.Query()
	query.Set(name, value)
	u.RawQuery = query.Encode()

	return u.String()
}

// mustParse parses a URL that this package made or has parsed before.
func mustParse(dsn string) *url.URL {
	u, err := url.Parse(dsn)
	if err != nil {
		panic(fmt.Sprintf("testdb: %v", err))
	}

	return u
}
