package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	password = "storm" // nobody else reaches these networks
	dataDir  = "/var/lib/postgresql/data"
	// patience bounds everything that has to come about, on a machine that is slow and busy.
	patience = 4 * time.Minute
)

// cluster is a primary and a synchronous standby, the containers a and b, in whichever roles.
type cluster struct {
	engine engine
	links  links
	image  string
	pool   *pgxpool.Pool // to the primary, past all links

	mu      sync.Mutex // one change at a time
	primary string
	standby string
}

// settings are those of both servers, beside the defaults: durability is as it comes.
func settings(name string) []string {
	var args []string
	for _, setting := range []string{
		"cluster_name=" + name, "primary_slot_name=standby", "max_slot_wal_keep_size=2GB", "wal_keep_size=512MB",
		"wal_receiver_timeout=5s", "wal_sender_timeout=5s", "wal_retrieve_retry_interval=500ms", "shared_buffers=64MB",
	} {
		args = append(args, "-c", setting)
	}
	return args
}

func (c *cluster) server(name string) []string {
	return append([]string{
		"--volume", c.engine.of(name) + ":" + dataDir, "--env", "PGDATA=" + dataDir, "--env", "POSTGRES_PASSWORD=" + password,
		"--env", "POSTGRES_INITDB_ARGS=--data-checksums", // pg_rewind needs them
		"--shm-size", "128m", c.image, "postgres",
	}, settings(name)...)
}

// start makes the primary a, and from it the standby b.
func (c *cluster) start(ctx context.Context) error {
	c.primary, c.standby = "a", "b"
	for _, name := range []string{c.primary, c.standby} {
		if err := c.engine.volume(ctx, name); err != nil {
			return err
		}
	}
	if err := c.engine.run(ctx, c.primary, "data", c.server(c.primary)...); err != nil {
		return err
	}
	if err := c.ready(ctx); err != nil {
		return err
	}
	// The official image lets nobody replicate.
	if _, err := docker(ctx, "exec", c.engine.of(c.primary), "bash", "-c", `echo 'host replication postgres all scram-sha-256' >>"$PGDATA/pg_hba.conf"`); err != nil {
		return err
	}
	if err := c.exec(ctx, "SELECT pg_reload_conf()"); err != nil {
		return err
	}
	// Before the copy, so that both have it; heard of only when there is a standby.
	if err := c.exec(ctx, "ALTER SYSTEM SET synchronous_standby_names = '*'"); err != nil {
		return err
	}
	if err := c.copyPrimary(ctx); err != nil {
		return err
	}
	if err := c.engine.run(ctx, c.standby, "data", c.server(c.standby)...); err != nil {
		return err
	}
	if err := c.streams(ctx, "state = 'streaming'"); err != nil {
		return err
	}
	if err := c.exec(ctx, "SELECT pg_reload_conf()"); err != nil {
		return err
	}
	return c.streams(ctx, "sync_state = 'sync'")
}

// copyPrimary fills the volume of the standby with a fresh copy.
func (c *cluster) copyPrimary(ctx context.Context) error {
	if err := c.slot(ctx); err != nil {
		return err
	}
	return c.tool(ctx, fmt.Sprintf(`rm -rf "$PGDATA"/* && pg_basebackup -D "$PGDATA" -c fast -X stream -R -d '%s'`, c.source()))
}

// rewind takes back what an earlier primary has that the primary has not.
func (c *cluster) rewind(ctx context.Context) error {
	if err := c.exec(ctx, "CHECKPOINT"); err != nil { // else the primary may not tell yet that it was promoted
		return err
	}
	return c.tool(ctx, fmt.Sprintf(`rm -f "$PGDATA"/postmaster.pid && pg_rewind -D "$PGDATA" -R --source-server='%s'`, c.source()))
}

// tool runs a command on the volume of the standby, which is down.
func (c *cluster) tool(ctx context.Context, command string) error {
	_, _ = docker(ctx, "rm", "--force", c.engine.of("tool")) // of a try that was given up
	_, err := docker(ctx, "run", "--rm", "--name", c.engine.of("tool"), "--label", c.engine.label(), "--network", c.engine.of("data"),
		"--volume", c.engine.of(c.standby)+":"+dataDir, "--env", "PGDATA="+dataDir, c.image, "bash", "-c",
		`chown -R postgres "$PGDATA"; chmod 700 "$PGDATA"; exec setpriv --reuid=postgres --regid=postgres --init-groups bash -c "$0"`, command)
	return err
}

// source is where a standby replicates from: its link to the primary.
func (c *cluster) source() string {
	return fmt.Sprintf("host=link port=%d user=postgres password=%s dbname=postgres sslmode=disable application_name=%s connect_timeout=5",
		replicationPort(c.primary), password, c.standby)
}

func (c *cluster) slot(ctx context.Context) error {
	return c.exec(ctx, `DO $$ BEGIN
		PERFORM pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = 'standby' AND NOT active;
		PERFORM pg_create_physical_replication_slot('standby', true) WHERE NOT EXISTS (SELECT FROM pg_replication_slots);
	END $$`)
}

// exec runs a statement at the primary that does no harm when it is repeated.
func (c *cluster) exec(ctx context.Context, sql string) error {
	return await(ctx, sql, func(ctx context.Context) (bool, error) {
		_, err := c.pool.Exec(ctx, sql)
		return err == nil, err
	})
}

// ready waits until the primary takes writes.
func (c *cluster) ready(ctx context.Context) error {
	return await(ctx, "the primary takes writes", func(ctx context.Context) (up bool, err error) {
		err = c.pool.QueryRow(ctx, "SELECT NOT pg_is_in_recovery()").Scan(&up)
		return up, err
	})
}

// streams waits until the standby does.
func (c *cluster) streams(ctx context.Context, how string) error {
	return await(ctx, "the standby: "+how, func(ctx context.Context) (streams bool, err error) {
		err = c.pool.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_stat_replication WHERE application_name = $1 AND "+how+")", c.standby).Scan(&streams)
		return streams, err
	})
}

// restart ends a server by a signal (INT: fast, QUIT: immediate, KILL: a crash) and starts it again.
func (c *cluster) restart(ctx context.Context, standby bool, signal string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	name := c.primary
	if standby {
		name = c.standby
	}
	if err := c.engine.kill(ctx, name, signal, 30*time.Second); err != nil {
		return err
	}
	if err := c.engine.start(ctx, name); err != nil {
		return err
	}
	return c.whole(ctx)
}

// whole waits until there is a primary and a synchronous standby: only then may the standby be
// promoted without a loss.
func (c *cluster) whole(ctx context.Context) error {
	if err := c.ready(ctx); err != nil {
		return err
	}
	return c.streams(ctx, "state = 'streaming' AND sync_state = 'sync'")
}

// failOver promotes the standby after the primary was fenced by a signal (INT: in good order,
// KILL: it crashes), and has the old primary follow the new one: rewound, or copied anew.
func (c *cluster) failOver(ctx context.Context, signal string, rewind bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.engine.kill(ctx, c.primary, signal, 30*time.Second); err != nil {
		return err
	}
	c.primary, c.standby = c.standby, c.primary
	err := await(ctx, "promote", func(ctx context.Context) (bool, error) {
		_, err := docker(ctx, "exec", "--user", "postgres", c.engine.of(c.primary), "pg_ctl", "promote", "-D", dataDir)
		return err == nil, err
	})
	if err != nil {
		return err
	}
	if err := c.links.tell("redirect", c.primary+":5432", "primary"); err != nil {
		return err
	}
	if err := c.ready(ctx); err != nil {
		return err
	}
	if err := c.follow(ctx, rewind); err != nil {
		return err
	}
	return c.whole(ctx)
}

// follow starts the standby, whose volume is that of an earlier primary.
func (c *cluster) follow(ctx context.Context, rewind bool) error {
	if err := c.slot(ctx); err != nil {
		return err
	}
	err := await(ctx, "rejoin", func(ctx context.Context) (bool, error) {
		var err error
		if rewind {
			err = c.rewind(ctx)
		} else {
			err = c.copyPrimary(ctx)
		}
		rewind = false // it may be too old for that, or a link was cut: then a copy does
		return err == nil, err
	})
	if err != nil {
		return err
	}
	return c.engine.start(ctx, c.standby)
}

// open returns a pool to whichever server is the primary, past all links.
func open(ctx context.Context, database string, hosts ...string) (*pgxpool.Pool, error) {
	dsn := "postgres://postgres:" + password + "@" + strings.Join(hosts, ",") + "/" + database + "?sslmode=disable&target_session_attrs=read-write&connect_timeout=5&pool_max_conns=8&pool_max_conn_idle_time=10s&default_query_exec_mode=exec"
	pool, err := pgxpool.New(ctx, dsn)
	if err != nil {
		return nil, fmt.Errorf("open a pool: %w", err)
	}
	return pool, nil
}

// await waits until something is true, however often it fails meanwhile.
func await(ctx context.Context, what string, is func(context.Context) (bool, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("not within %s: %s", patience, what))
	defer cancel()
	for {
		trying, stop := context.WithTimeout(ctx, time.Minute)
		done, err := is(trying)
		stop()
		if done && err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w (last: %w)", context.Cause(ctx), orNotYet(err))
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func orNotYet(err error) error {
	if err == nil {
		return errNotYet
	}
	return err
}

var errNotYet = errors.New("not yet")

// read reads one value from the primary.
func read[T any](ctx context.Context, pool *pgxpool.Pool, sql string, args ...any) (T, error) {
	rows, err := pool.Query(ctx, sql, args...)
	if err != nil {
		var none T
		return none, err
	}
	return pgx.CollectExactlyOneRow(rows, pgx.RowTo[T])
}

// execAll runs several statements in one go.
func execAll(ctx context.Context, config *pgx.ConnConfig, sql string) error {
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer conn.Close(ctx)
	_, err = conn.PgConn().Exec(ctx, sql).ReadAll()
	return err
}
