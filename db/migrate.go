package db

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"github.com/golang-migrate/migrate/v4"
	"github.com/golang-migrate/migrate/v4/database"
	migratepgx "github.com/golang-migrate/migrate/v4/database/pgx/v5"
	"github.com/golang-migrate/migrate/v4/source/iofs"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

// Migrations are the files of the schema, each with its way back.
//
//go:embed migrations/*.sql
var Migrations embed.FS

// migrationLockTimeout bounds the wait for another migration, and for the locks that a
// migration needs on tables in use, unless the address says (lock_timeout).
const migrationLockTimeout = 10 * time.Second

// ErrMigrationBusy means that another migration holds the lock, or that sessions hold
// tables that the migration must change.
var ErrMigrationBusy = errors.New("another migration is running or the tables are in use: try again")

// MigrationVersions are the numbers of all migrations, ascending.
func MigrationVersions() ([]uint, error) {
	names, err := fs.Glob(Migrations, "migrations/*.up.sql")
	if err != nil {
		return nil, fmt.Errorf("list migrations: %w", err)
	}
	versions := make([]uint, 0, len(names))
	for _, name := range names { // Glob sorts
		number, _, _ := strings.Cut(strings.TrimPrefix(name, "migrations/"), "_")
		version, err := strconv.ParseUint(number, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("number of migration %s: %w", name, err)
		}
		versions = append(versions, uint(version))
	}
	return versions, nil
}

// LatestVersion is the schema version that this program was built for.
func LatestVersion() (uint, error) {
	versions, err := MigrationVersions()
	if err != nil {
		return 0, err
	}
	return versions[len(versions)-1], nil
}

// MigrateUp brings the schema at url to the latest version. It needs a direct connection:
// the lock of the migration belongs to a session, which PgBouncer's transaction mode has not.
func MigrateUp(ctx context.Context, url string) error {
	return migrateWith(ctx, url, (*migrate.Migrate).Up)
}

// MigrateDown takes back the given number of migrations, and the data of their tables.
func MigrateDown(ctx context.Context, url string, steps int) error {
	return migrateWith(ctx, url, func(m *migrate.Migrate) error { return m.Steps(-steps) })
}

// MigrateForce records version as clean without running anything: after a failed
// migration, which Postgres itself has rolled back, the one before it.
func MigrateForce(ctx context.Context, url string, version int) error {
	return migrateWith(ctx, url, func(m *migrate.Migrate) error { return m.Force(version) })
}

func migrateWith(ctx context.Context, url string, change func(*migrate.Migrate) error) (err error) {
	config, err := parseAddress(url)
	if err != nil {
		return err
	}
	connect := config.ConnConfig
	connect.RuntimeParams["application_name"] = "bidder migrate"
	if _, named := connect.RuntimeParams["lock_timeout"]; !named {
		// The library waits for its lock with a background context: only the server can end that.
		connect.RuntimeParams["lock_timeout"] = milliseconds(migrationLockTimeout)
	}
	connect.DefaultQueryExecMode = pgx.QueryExecModeCacheStatement
	var conn *pgx.Conn // which the library forgets when it fails to prepare itself
	pool := stdlib.OpenDB(*connect, stdlib.OptionAfterConnect(func(_ context.Context, connected *pgx.Conn) error {
		conn = connected
		return nil
	}))
	pool.SetMaxOpenConns(1)
	if err := pool.PingContext(ctx); err != nil {
		return errors.Join(fmt.Errorf("connect: %w", err), pool.Close())
	}
	source, err := iofs.New(Migrations, "migrations")
	if err != nil {
		return errors.Join(fmt.Errorf("read migrations: %w", err), pool.Close())
	}
	driver, err := migratepgx.WithInstance(pool, &migratepgx.Config{})
	if err != nil {
		return errors.Join(migrationError(err), conn.Close(context.WithoutCancel(ctx)), pool.Close())
	}
	m, err := migrate.NewWithInstance("embedded", source, "pgx5", driver)
	if err != nil {
		return errors.Join(fmt.Errorf("prepare migrations: %w", err), pool.Close())
	}
	defer func() {
		sourceErr, databaseErr := m.Close()
		err = errors.Join(err, sourceErr, databaseErr)
	}()
	// After the migration under way, never in its middle.
	stop := context.AfterFunc(ctx, func() { m.GracefulStop <- true })
	defer stop()
	if err := change(m); err != nil && !errors.Is(err, migrate.ErrNoChange) {
		return migrationError(err)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}

// migrationError opens the library's errors, which do not unwrap.
func migrationError(err error) error {
	var byValue database.Error
	var byPointer *database.Error
	cause := err
	switch {
	case errors.As(err, &byPointer):
		cause = byPointer.OrigErr
	case errors.As(err, &byValue):
		cause = byValue.OrigErr
	}
	if dirty, ok := errors.AsType[migrate.ErrDirty](err); ok {
		return fmt.Errorf("%w (version %d)", ErrDirty, dirty.Version)
	}
	if Code(cause) == CodeLockNotAvailable || errors.Is(err, migrate.ErrLockTimeout) {
		return fmt.Errorf("%w: %w", ErrMigrationBusy, cause)
	}
	return fmt.Errorf("migrate: %w", cause)
}
