package db

import (
	_ "embed" // for the statements
	"strings"

	"github.com/jackc/pgx/v5"
)

var (
	//go:embed grants.sql
	grants string
	//go:embed grants_pruner.sql
	prunerGrants string
)

// Roles are the roles beside the owner of the schema.
type Roles struct {
	Schema string
	Worker string // bids
	Reader string // looks
	Pruner string // deletes old history; empty where there is none
}

// Grants are the statements that give the roles what they need and no more. The owner of
// the schema runs them.
func (r Roles) Grants() string {
	quote := func(name string) string { return pgx.Identifier{name}.Sanitize() }
	statements := grants
	if r.Pruner != "" {
		statements += prunerGrants
	}
	return strings.NewReplacer(
		":schema", quote(r.Schema), ":worker", quote(r.Worker), ":reader", quote(r.Reader), ":pruner", quote(r.Pruner),
	).Replace(statements)
}
