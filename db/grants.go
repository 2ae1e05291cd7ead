package db

import (
	_ "embed" // for the statements
	"strings"

	"github.com/jackc/pgx/v5"
)

//go:embed grants.sql
var grants string

// Roles are the roles beside the owner of the schema.
type Roles struct {
	Schema string
	Worker string // bids
	Reader string // looks
}

// Grants are the statements that give the roles what they need and no more. The owner of
// the schema runs them.
func (r Roles) Grants() string {
	quote := func(name string) string { return pgx.Identifier{name}.Sanitize() }
	return strings.NewReplacer(
		":schema", quote(r.Schema), ":worker", quote(r.Worker), ":reader", quote(r.Reader),
	).Replace(grants)
}
