package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/db/queries"
)

// schemaFix says what to do where the schema cannot be worked with.
func schemaFix(err error, facts queries.ServerFactsRow) string {
	grants := "run what `bidder grants --worker " + facts.Role + "` prints, as the owner"
	switch {
	case errors.Is(err, db.ErrReplica):
		return "connect to the primary: add target_session_attrs=read-write to DATABASE_URL"
	case db.Code(err) == db.CodeNoPrivilege:
		return grants
	case facts.Schema == "":
		return "no schema of the search_path can be used: " + grants + ", or create the schema and run bidder migrate up"
	case errors.Is(err, db.ErrDirty):
		return "bidder migrate version: it says how to find out what a migration that was cut off has left, and how to go on"
	case errors.Is(err, db.ErrNewerSchema):
		return "run the bidder that migrated the database, or a newer one; bidder migrate down of that one takes the schema back"
	}
	return "bidder migrate up"
}

// rights looks at what the role may do, and returns what it lacks.
func (e *examination) rights(ctx context.Context, q *queries.Queries, facts queries.ServerFactsRow) ([]queries.MissingRightsRow, error) {
	valid, err := q.LiveIndexIsValid(ctx)
	if err != nil {
		return nil, fmt.Errorf("look at the unique index: %w", err)
	}
	e.expect("unique index", valid, levelError, fmt.Sprintf("bids_one_active_per_posting is valid: %t", valid),
		"it is what makes a second live bid impossible: stop all pods and create it again")
	missing, err := q.MissingRights(ctx)
	if err != nil {
		return nil, fmt.Errorf("look at the rights: %w", err)
	}
	rights := make([]string, len(missing))
	for i, m := range missing {
		rights[i] = m.Privilege + " on " + m.Object
	}
	message := "all that a worker needs"
	if len(rights) > 0 {
		message = facts.Role + " lacks " + strings.Join(rights, ", ")
	}
	e.expect("rights", len(rights) == 0, levelError, message, "where it is to run passes, run what `bidder grants --worker "+facts.Role+"` prints, as the owner; who only looks needs none of that")
	return missing, e.excess(ctx, q, facts)
}

// excess reports what the role may do and a worker must not. The private server of an embedded
// installation has only one role.
func (e *examination) excess(ctx context.Context, q *queries.Queries, facts queries.ServerFactsRow) error {
	excess, err := q.ExcessRights(ctx)
	if err != nil {
		return fmt.Errorf("look for rights that are too much: %w", err)
	}
	message := facts.Role + " has no more than a worker needs"
	var rights []string
	owner := false
	for _, x := range excess {
		owner = owner || x.Privilege == "OWNER"
		rights = append(rights, x.Privilege+" on "+x.Object)
	}
	switch {
	case e.s.Embedded:
		message, excess = "the owner of the private server", nil
	case facts.Superuser:
		message = facts.Role + " is a superuser"
	case owner:
		message = facts.Role + " owns the tables: it can switch the rules of a bid's life off"
	case len(rights) > 0:
		message = facts.Role + " has " + strings.Join(rights, ", ")
	}
	e.expect("role", len(excess) == 0 && (!facts.Superuser || e.s.Embedded), levelWarning, message,
		"let pods use a role of its own, with the rights that `bidder grants` prints and no others")
	return nil
}

// The dead rows from which on a table is bloated: many, and more than half of the live ones.
const bloated = 10_000

// upkeep looks at what vacuum has left.
func (e *examination) upkeep(ctx context.Context, q *queries.Queries) error {
	tables, err := q.TableUpkeep(ctx)
	if err != nil {
		return fmt.Errorf("look at dead rows: %w", err)
	}
	var dead, off, names []string
	for _, t := range tables {
		if t.Dead >= bloated && t.Dead > t.Live/2 {
			dead = append(dead, fmt.Sprintf("%s has %d dead rows beside %d live ones", t.Relation, t.Dead, t.Live))
			names = append(names, t.Relation)
		}
		if t.SwitchedOff {
			off = append(off, t.Relation)
		}
	}
	message := "no table has many dead rows"
	if len(dead) > 0 {
		message = strings.Join(dead, "; ")
	}
	e.expect("bloat", len(dead) == 0, levelWarning, message,
		"VACUUM (ANALYZE) "+strings.Join(names, ", ")+"; if that removes none, end the old transaction that still sees them: SELECT pid, xact_start, query FROM pg_stat_activity ORDER BY xact_start LIMIT 3")
	if len(off) > 0 {
		e.report("vacuum of tables", levelWarning, "autovacuum is switched off for "+strings.Join(off, ", "),
			"ALTER TABLE "+off[0]+" RESET (autovacuum_enabled)")
	}
	return nil
}
