// Package embedded runs the private PostgreSQL server of a state directory: on a Unix socket only, fully durable, from
// the server programs installed on this machine, else from a Docker image. All processes that name the same state
// directory share the one server; it is started for the first of them and stopped after the last.
//
// # How it is shared
//
// Three files in the state directory are only ever locked (flock), never written. The kernel drops a lock with the
// process that holds it, however that ends, so nothing here can go stale.
//
//   - start.lock, exclusive: held while a process makes the data directory, starts the server and migrates, and while it
//     leaves. One process does any of this at a time.
//   - users.lock, shared: held by every process for as long as it uses the server.
//   - server.lock, exclusive: held by the supervisor for as long as the server may be running.
//
// The supervisor is this program once more, started in a session of its own, so that a Ctrl-C in the terminal of a user
// reaches neither it nor the server, and called with [SupervisorCommand]; main must hand that call to [Supervise]. It
// has the server as its child and waits for an exclusive lock on users.lock: it gets it at the moment nobody uses the
// server any more, whether the last user left or was killed. Then it stops the server and ends, and only that gives
// both of its locks back. So a process that has its shared lock either finds server.lock held, by a supervisor that is
// going to wait for it, or free, and starts a supervisor, which inherits the lock taken for it.
//
// A supervisor ignores the signals that ask it to end: its users get them too and may still need the server. If it is
// killed outright, Linux tells the server to shut down; what is left running in spite of that (macOS; or the docker
// client was killed as well) is shut down by the next process
// that finds no supervisor, before it starts one.
package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/arbitrageai/bidder/pkg/localpg"
)

// Database is the name of the database that the server is for.
const Database = "bidder"

// Image is the Docker image that is used when no PostgreSQL is installed and [Options] name no other.
const Image = "postgres:17-alpine"

// Options say which server to start.
type Options struct {
	// StateDir is where everything of the server is kept. It is created with mode 0700 if need be.
	StateDir string
	// Migrate, if set, is called with the URL of the database in every Start, while no other process can be in a Start
	// of its own. Its error makes Start fail.
	Migrate func(ctx context.Context, dsn string) error
	// Image is the Docker image to use when no PostgreSQL is installed. Defaults to the constant of that name.
	Image string
	// Log gets a line for each thing that takes a while. Defaults to none.
	Log *slog.Logger
}

// Server is this process's share in the running server.
type Server struct {
	home  home
	users *lock
}

// Start returns once the server of the state directory runs, the database exists and Migrate has succeeded. The server
// runs until every process that started it has called Stop or has ended.
//
// It fails with an error that says what to do when there is no way to run PostgreSQL here ([ErrNoServer]) and when the
// data directory needs another version ([VersionError]).
func Start(ctx context.Context, opts Options) (_ *Server, err error) {
	if opts.Image == "" {
		opts.Image = Image
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	home, err := openHome(opts.StateDir)
	if err != nil {
		return nil, fmt.Errorf("embedded PostgreSQL: %w", err)
	}
	starting, err := home.lock(ctx, startLock, exclusive)
	if err != nil {
		return nil, fmt.Errorf("embedded PostgreSQL: %w", err)
	}
	defer starting.release()
	users, err := home.lock(ctx, usersLock, shared)
	if err != nil {
		return nil, fmt.Errorf("embedded PostgreSQL: %w", err)
	}
	server := &Server{home: home, users: users}
	if err := server.start(ctx, opts); err != nil {
		return nil, fmt.Errorf("embedded PostgreSQL in %s: %w", home.dir, errors.Join(err, server.leave(context.WithoutCancel(ctx))))
	}

	return server, nil
}

func (s *Server) start(ctx context.Context, opts Options) error {
	if err := s.home.run(ctx, opts.Image, opts.Log); err != nil {
		return err
	}
	if err := createDatabase(ctx, serverAt(s.home.sockets)); err != nil {
		return err
	}
	if opts.Migrate == nil {
		return nil
	}
	if err := opts.Migrate(ctx, s.DSN()); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}

	return nil
}

// createDatabase makes the database if the server does not have it yet.
func createDatabase(ctx context.Context, server localpg.Cluster) error {
	const invalidCatalogName = "3D000"

	conn, err := pgx.Connect(ctx, server.DSN(Database))
	if err == nil {
		return conn.Close(ctx) //nolint:wrapcheck // it connected, that is all
	}
	if refusal, ok := errors.AsType[*pgconn.PgError](err); !ok || refusal.Code != invalidCatalogName {
		return fmt.Errorf("connect: %w", err)
	}
	if conn, err = pgx.Connect(ctx, server.DSN("postgres")); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	_, err = conn.Exec(ctx, "CREATE DATABASE "+Database)
	if err := errors.Join(err, conn.Close(ctx)); err != nil {
		return fmt.Errorf("create database %s: %w", Database, err)
	}

	return nil
}

// DSN is the URL of the database.
func (s *Server) DSN() string { return serverAt(s.home.sockets).DSN(Database) }

// Stop gives up this process's share. Connections must be closed before. When no other process uses the server, Stop
// returns after it has shut down, or with an error when ctx is done before that: the shutdown goes on then. Stopping
// again does nothing.
func (s *Server) Stop(ctx context.Context) error {
	if s.users == nil {
		return nil
	}
	starting, err := s.home.lock(ctx, startLock, exclusive)
	if err != nil {
		s.users.release() // the supervisor does the rest
		s.users = nil

		return fmt.Errorf("stop embedded PostgreSQL: %w", err)
	}
	defer starting.release()
	if err := s.leave(ctx); err != nil {
		return fmt.Errorf("stop embedded PostgreSQL: %w", err)
	}

	return nil
}

// leave gives the shared lock back and waits for the end of the server if this was the last share. The caller holds
// start.lock, so nobody comes in meanwhile.
func (s *Server) leave(ctx context.Context) error {
	last, err := s.users.last()
	s.users.release()
	s.users = nil
	if err != nil || !last {
		return err
	}

	ctx, cancel := context.WithTimeout(ctx, stopWithin+10*time.Second)
	defer cancel()
	ended, err := s.home.lock(ctx, serverLock, exclusive)
	if err != nil {
		return fmt.Errorf("wait until the server has shut down: %w", err)
	}
	ended.release()

	return nil
}
