package testdb

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/arbitrageai/bidder/db"
)

// templateLock is the key of the advisory lock, in the database postgres, under which templates are made.
const templateLock = 0x7465737464620001

// template returns the name of the database to clone: one with all migrations applied. The first process on a server
// makes it, the others wait.
func (i *instance) template(ctx context.Context) (string, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.templateName != "" {
		return i.templateName, nil
	}

	hash, err := hashMigrations(db.Migrations)
	if err != nil {
		return "", err
	}
	name := "bidder_template_" + hash
	if err := i.makeTemplate(ctx, name); err != nil {
		return "", fmt.Errorf("make template database %s: %w", name, err)
	}
	i.templateName = name

	return name, nil
}

// makeTemplate makes the template unless it exists. Nobody can connect to a database of that name, ever: it is made
// under another one, closed to connections, and renamed last. A clone of a database that is in use fails.
func (i *instance) makeTemplate(ctx context.Context, name string) (err error) {
	conn, err := pgx.Connect(ctx, i.server.URL)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer func() { // ends the lock with the session
		if closeErr := conn.Close(context.WithoutCancel(ctx)); closeErr != nil && err == nil {
			err = fmt.Errorf("close: %w", closeErr)
		}
	}()
	if _, err := conn.Exec(ctx, "SELECT pg_advisory_lock($1)", int64(templateLock)); err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	var exists bool
	if err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", name).Scan(&exists); err != nil {
		return fmt.Errorf("look for it: %w", err)
	}
	if exists {
		return nil
	}

	unfinished := name + "_unfinished"
	if err := execAll(ctx, conn,
		"DROP DATABASE IF EXISTS "+quote(unfinished)+" WITH (FORCE)", // of a process that died
		"CREATE DATABASE "+quote(unfinished)+" STRATEGY = FILE_COPY",
	); err != nil {
		return err
	}
	if err := db.MigrateUp(ctx, withDatabase(i.server.URL, unfinished)); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}

	return execAll(ctx, conn,
		"ALTER DATABASE "+quote(unfinished)+" ALLOW_CONNECTIONS false",
		"ALTER DATABASE "+quote(unfinished)+" RENAME TO "+quote(name),
	)
}

// execAll runs statements each in a transaction of its own, as CREATE DATABASE demands.
func execAll(ctx context.Context, conn *pgx.Conn, statements ...string) error {
	for _, statement := range statements {
		if _, err := conn.Exec(ctx, statement); err != nil {
			if refusal, ok := errors.AsType[*pgconn.PgError](err); ok && refusal.Detail != "" {
				err = fmt.Errorf("%w (%s)", err, refusal.Detail)
			}

			return fmt.Errorf("%s: %w", statement, err)
		}
	}

	return nil
}

// hashMigrations changes when a migration's name or content does.
func hashMigrations(migrations fs.FS) (string, error) {
	const digits = 16
	sum := sha256.New()
	err := fs.WalkDir(migrations, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := fs.ReadFile(migrations, path)
		if err != nil {
			return fmt.Errorf("read %s: %w", path, err)
		}
		_, err = fmt.Fprintf(sum, "%s\x00%d\x00%s", path, len(content), content)

		return err
	})
	if err != nil {
		return "", fmt.Errorf("hash migrations: %w", err)
	}

	return hex.EncodeToString(sum.Sum(nil))[:digits], nil
}
