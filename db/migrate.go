package db

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	neturl "net/url"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/golang-migrate/migrate/v4"
	"github.com/golang-migrate/migrate/v4/database"
	migratepgx "github.com/golang-migrate/migrate/v4/database/pgx/v5"
	"github.com/golang-migrate/migrate/v4/source/iofs"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
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

// LatestVersion is the schema version that this program was built for: the highest number
// of a migration.
func LatestVersion() uint {
	names, _ := fs.Glob(Migrations, "migrations/*.up.sql") // only a malformed pattern fails; sorted
	return numberOf(names[len(names)-1])
}

// numberOf is the version that a file of the schema leads to, or back from.
func numberOf(name string) uint {
	number, _, _ := strings.Cut(path.Base(name), "_")
	version, _ := strconv.ParseUint(number, 10, 32) // a test looks at the names
	return uint(version)
}

// MigrateUp brings the schema at url to the latest version. It needs a direct connection:
// the lock of the migration belongs to a session, which PgBouncer's transaction mode has not.
// When ctx ends, the migration under way is finished and no other begun.
func MigrateUp(ctx context.Context, url string) error {
	return migrateWith(ctx, url, func(m *migrate.Migrate) error {
		for {
			if more, err := step(ctx, m, 1); err != nil || !more {
				return err
			}
		}
	})
}

// WithSchema is the address url with another search_path: the one schema. It needs a direct
// connection, as [MigrateUp] does: PgBouncer refuses the setting.
func WithSchema(url, schema string) string {
	parsed, err := neturl.Parse(url)
	if err != nil || parsed.Scheme != "postgres" && parsed.Scheme != "postgresql" {
		return url + " search_path=" + schema // libpq keywords: the last one counts
	}
	query := parsed.Query()
	query.Set("search_path", schema)
	parsed.RawQuery = strings.ReplaceAll(query.Encode(), "+", "%20")
	return parsed.String()
}

// MigrateDown takes back the given number of migrations, or as many as there are, and the
// data of their tables.
func MigrateDown(ctx context.Context, url string, steps int) error {
	return migrateWith(ctx, url, func(m *migrate.Migrate) error {
		for range steps {
			if more, err := step(ctx, m, -1); err != nil || !more {
				return err
			}
		}
		return nil
	})
}

// step runs the next migration up (1) or down (-1), and says whether there was one. The
// library could run all at once, but its way of stopping in between is a data race.
func step(ctx context.Context, m *migrate.Migrate, direction int) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err //nolint:wrapcheck // migrationError does
	}
	err := m.Steps(direction)
	if !errors.Is(err, os.ErrNotExist) {
		return err == nil, mend(m, err)
	}
	version, _, err := m.Version()
	switch latest := LatestVersion(); {
	case errors.Is(err, migrate.ErrNilVersion):
		return false, nil
	case version > latest:
		return false, newerSchema(version, latest)
	}
	return false, err //nolint:wrapcheck // migrationError does
}

// mend corrects what the library has noted of a migration that the server has refused: it calls the schema
// dirty, and then everybody refuses it. The file is one transaction, so nothing of it is there, and the version
// before it still stands; while it is dirty nobody else migrates. Of what was never answered, or could not be
// noted, only a person can tell. It returns failed, and what else went wrong.
func mend(m *migrate.Migrate, failed error) error {
	query, cause := opened(failed)
	refusal, ok := errors.AsType[*pgconn.PgError](cause)
	if !ok || refusal.SeverityUnlocalized != "ERROR" {
		return failed
	}
	before, ok := versionBefore(query)
	if !ok {
		return failed
	}
	if err := m.Force(numbered(before)); err != nil {
		_, why := opened(err)
		return fmt.Errorf("%w: it was refused (%w), and that the schema still is at version %d could not be noted: %w", ErrDirty, cause, before, why)
	}
	return failed
}

// versionBefore is the version at which a query is run that is a file of the schema, and none of the library's
// own statements: 0 for none.
func versionBefore(query string) (version uint, ok bool) {
	names, _ := fs.Glob(Migrations, "migrations/*.sql") // only a malformed pattern fails; sorted, the way back first
	for _, name := range names {
		file, _ := Migrations.ReadFile(name) // it is compiled in
		isQuery, isUp := string(file) == query, strings.HasSuffix(name, ".up.sql")
		switch {
		case isQuery && isUp:
			return version, true
		case isQuery:
			return numberOf(name), true
		case isUp:
			version = numberOf(name)
		}
	}
	return 0, false
}

// numbered is a version as the library counts: none is -1.
func numbered(version uint) int {
	if version == 0 {
		return -1
	}
	return int(version)
}

// MigrateForce records version, 0 for none, as clean without running anything: after a migration that was
// cut off, the one that the schema is at.
func MigrateForce(ctx context.Context, url string, version uint) error {
	return migrateWith(ctx, url, func(m *migrate.Migrate) error { return m.Force(numbered(version)) })
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
	if err := change(m); err != nil {
		return migrationError(err)
	}
	return nil
}

// migrationError opens the library's errors, which do not unwrap.
func migrationError(err error) error {
	if errors.Is(err, ErrDirty) {
		return err // mend's
	}
	_, cause := opened(err)
	if dirty, ok := errors.AsType[migrate.ErrDirty](err); ok {
		return fmt.Errorf("%w (version %d)", ErrDirty, dirty.Version)
	}
	if Code(cause) == CodeLockNotAvailable || errors.Is(err, migrate.ErrLockTimeout) {
		return fmt.Errorf("%w: %w", ErrMigrationBusy, cause)
	}
	return fmt.Errorf("migrate: %w", cause)
}

// opened is what the server said, and of which statement, if err is the library's of that.
func opened(err error) (query string, cause error) {
	var byValue database.Error
	var byPointer *database.Error
	switch {
	case errors.As(err, &byPointer):
		return string(byPointer.Query), byPointer.OrigErr
	case errors.As(err, &byValue):
		return string(byValue.Query), byValue.OrigErr
	}
	return "", err
}
