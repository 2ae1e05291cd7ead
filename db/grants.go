package db

import (
	"context"
	_ "embed" // for the statements
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

var (
	//go:embed grants_owner.sql
	ownerGrants string
	//go:embed grants.sql
	grants string
	//go:embed grants_pruner.sql
	prunerGrants string
)

// ErrNotGranted means that rights were not granted, and none of them were: a role is missing,
// or it was not the owner of the schema who granted them.
var ErrNotGranted = errors.New("no rights were granted")

// Roles are the roles of the database.
type Roles struct {
	Schema string
	Owner  string // makes and changes the schema
	Worker string // bids
	Reader string // looks
	Pruner string // deletes old history; empty where there is none
}

// OwnerGrants are the statements that let the owner make the schema. Whoever administers the
// database runs them before the first migration.
func (r Roles) OwnerGrants() string { return r.fill(ownerGrants) }

// Grants are the statements that give the other roles what they need and no more. The owner
// of the schema runs them, after each migration.
func (r Roles) Grants() string {
	if r.Pruner == "" {
		return r.fill(grants)
	}
	return r.fill(grants + prunerGrants)
}

func (r Roles) fill(statements string) string {
	quote := func(name string) string { return pgx.Identifier{name}.Sanitize() }
	return strings.NewReplacer(
		":schema", quote(r.Schema), ":owner", quote(r.Owner), ":worker", quote(r.Worker), ":reader", quote(r.Reader), ":pruner", quote(r.Pruner),
	).Replace(statements)
}

// fewWarnings is how many are told one by one: one more for each table tells no more.
const fewWarnings = 3

// Apply runs [Roles.Grants] at url, all or none of them. It fails with [ErrNotGranted].
func (r Roles) Apply(ctx context.Context, url string) (err error) {
	config, err := parseAddress(url)
	if err != nil {
		return err
	}
	// Who may not grant a right gets a warning, and the statement succeeds.
	var warnings []error
	config.ConnConfig.OnNotice = func(_ *pgconn.PgConn, notice *pgconn.Notice) {
		if notice.SeverityUnlocalized == "WARNING" {
			warnings = append(warnings, errors.New(notice.Message))
		}
	}
	conn, err := pgx.ConnectConfig(ctx, config.ConnConfig)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }() // ends the transaction, too
	tx, err := conn.Begin(ctx)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	_, err = tx.Exec(ctx, r.Grants(), pgx.QueryExecModeSimpleProtocol)
	switch code := Code(err); {
	case code == CodeNoPrivilege || code == CodeUndefinedObject:
		return fmt.Errorf("%w: %w", ErrNotGranted, err)
	case err != nil:
		return fmt.Errorf("grant: %w", err)
	case len(warnings) > fewWarnings:
		return fmt.Errorf("%w: %w\nand %d more", ErrNotGranted, errors.Join(warnings[:fewWarnings]...), len(warnings)-fewWarnings)
	case len(warnings) > 0:
		return fmt.Errorf("%w: %w", ErrNotGranted, errors.Join(warnings...))
	}
	if err := tx.Commit(ctx); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}
