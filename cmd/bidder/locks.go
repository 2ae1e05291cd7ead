package main

import (
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/terminal"
)

func (a *app) keyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "key MARKETPLACE JOB_ID",
		Short: "Print the lock key of a posting, as text and as Postgres sees it",
		Long: `Prints the key under which a posting is locked, and the 64-bit number that Postgres
makes of it. With that number any SQL client can take or see the lock.`,
		Example: `  bidder key upwork '~01abc'
  psql -c "SELECT pg_try_advisory_lock($(bidder key upwork '~01abc' -o json | jq -r .bigint))"`,
		Args: exactArgs(2),
		RunE: a.action(tableOrJSON, func(cmd *cobra.Command, args []string) error {
			key, err := parseKey(args[0], args[1])
			if err != nil {
				return err
			}
			s, err := a.open(cmd)
			if err != nil {
				return err
			}
			defer s.close()
			number, err := queries.New(s.pool).LockKey(cmd.Context(), key.Marketplace, key.JobID)
			if err != nil {
				return fmt.Errorf("compute the key: %w", err)
			}
			if a.output == "json" {
				return printJSON(a.stdout, struct {
					Key    string `json:"key"`
					Bigint string `json:"bigint"` // a string: JSON numbers lose digits in many readers
				}{key.LockKey(), strconv.FormatInt(number, 10)})
			}
			t := a.screen.Fields()
			t.Field("key", terminal.ID(key.LockKey()))
			t.Field("bigint", number)
			t.Print()
			return nil
		}),
	}
}

type lockJSON struct {
	Marketplace     string    `json:"marketplace"`
	JobID           string    `json:"job_id"`
	PID             int32     `json:"pid"`
	ApplicationName string    `json:"application_name"`
	Since           time.Time `json:"since"`
}

func (a *app) locksCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "locks",
		Short: "Who holds the lock of which posting, since when",
		Long: `Lists the locks on postings that are held now. Claims hold them for milliseconds: a
lock that is seconds old belongs to a holder that hangs, and the server ends it when
BIDDER_LOCK_TTL is over.`,
		Example: `  bidder locks
  bidder locks -o json`,
		Args: noArgs,
		RunE: a.action(tableOrJSON, func(cmd *cobra.Command, _ []string) error { return a.locks(cmd) }),
	}
}

func (a *app) locks(cmd *cobra.Command) error {
	s, err := a.open(cmd)
	if err != nil {
		return err
	}
	defer s.close()
	var held []queries.HeldAdvisoryLocksRow
	byKey := map[int64]queries.PostingsOfLockKeysRow{}
	err = s.view(cmd.Context(), func(q *queries.Queries) (err error) {
		if held, err = q.HeldAdvisoryLocks(cmd.Context()); err != nil || len(held) == 0 {
			return err
		}
		keys := make([]int64, len(held))
		for i, lock := range held {
			keys[i] = lock.Key
		}
		rows, err := q.PostingsOfLockKeys(cmd.Context(), keys)
		if err != nil {
			return fmt.Errorf("find the postings of %d locks: %w", len(keys), err)
		}
		for _, row := range rows {
			byKey[row.Key] = row
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("list locks: %w", err)
	}
	page := list[lockJSON]{Items: []lockJSON{}}
	for _, lock := range held {
		if p, ok := byKey[lock.Key]; ok { // others are no posting's: a migration's, another program's
			page.Items = append(page.Items, lockJSON{p.Marketplace, p.JobID, lock.Pid, lock.ApplicationName, lock.Since})
		}
	}
	if a.output == "json" {
		return printJSON(a.stdout, page)
	}
	a.printLocks(page.Items)
	return nil
}

func (a *app) printLocks(locks []lockJSON) {
	if len(locks) == 0 {
		fmt.Fprintln(a.stdout, "No posting is locked.")
		return
	}
	t := a.screen.Table(
		terminal.Column{Name: "posting", Min: 24, Wrap: true}, terminal.Column{Name: "pid", Right: true},
		terminal.Column{Name: "application", Min: 14, Wrap: true}, terminal.Column{Name: "since"},
	)
	for _, lock := range locks {
		t.Row(keyID(lock.Marketplace, lock.JobID), lock.PID, lock.ApplicationName, a.ago(lock.Since))
	}
	t.Print()
}
