// Package server finds or starts the one PostgreSQL server that a test run uses.
package server

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/sethvargo/go-retry"
)

// The environment variables that say which server tests use.
const (
	// EnvURL is the postgres:// URL of a running server, as a role that may create databases.
	EnvURL = "BIDDER_TEST_DATABASE_URL"
	// EnvWay forces one of the ways to a server. Without it they are tried in the order in which they stand here.
	EnvWay = "BIDDER_TEST_POSTGRES"
	// EnvImage is the Docker image; default postgres:17-alpine.
	EnvImage = "BIDDER_TEST_IMAGE"
)

// The ways to a server, values of [EnvWay].
const (
	WayDSN    = "dsn"
	WayDocker = "docker"
	WayLocal  = "local"
)

const (
	readyWait = time.Minute
	readyPoll = 25 * time.Millisecond
)

// Server is a running PostgreSQL server.
type Server struct {
	// URL leads to the database postgres as a role that may create databases.
	URL string
	// About says which server this is, for people.
	About string
	// Borrowed says that someone else started the server, and stops it.
	Borrowed bool

	stop func() error
}

// Stop ends a server that Start started, with all its data, and leaves a borrowed one alone.
func (s *Server) Stop() error { return s.stop() }

// Start finds or starts a server, in the way that [EnvWay] names, else by the first that works.
func Start(ctx context.Context) (*Server, error) {
	way := os.Getenv(EnvWay)
	if way == "" && os.Getenv(EnvURL) != "" {
		way = WayDSN
	}

	var (
		server *Server
		err    error
	)
	switch way {
	case WayDSN:
		server, err = fromURL(os.Getenv(EnvURL))
	case WayDocker:
		server, err = startDocker(ctx)
	case WayLocal:
		server, err = startLocal(ctx)
	case "":
		server, err = startAny(ctx)
	default:
		err = fmt.Errorf("%s=%s: want %s, %s or %s", EnvWay, way, WayDSN, WayDocker, WayLocal)
	}
	if err != nil {
		return nil, err
	}

	version, err := waitReady(ctx, server.URL)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", server.About, err), server.Stop())
	}
	server.About += ", PostgreSQL " + version

	return server, nil
}

func startAny(ctx context.Context) (*Server, error) {
	server, dockerErr := startDocker(ctx)
	if dockerErr == nil {
		return server, nil
	}
	server, localErr := startLocal(ctx)
	if localErr == nil {
		server.About += fmt.Sprintf(" (not Docker: %v)", dockerErr)

		return server, nil
	}

	return nil, fmt.Errorf("no PostgreSQL for tests: start Docker, install PostgreSQL, or set %s: %w",
		EnvURL, errors.Join(dockerErr, localErr))
}

func fromURL(dsn string) (*Server, error) {
	parsed, err := url.Parse(dsn)
	if err != nil || parsed.Scheme != "postgres" && parsed.Scheme != "postgresql" {
		return nil, fmt.Errorf("%s: want a URL like postgres://user:password@host:5432/postgres", EnvURL)
	}

	return &Server{
		URL:      dsn,
		About:    fmt.Sprintf("%s: %s", EnvURL, parsed.Redacted()),
		Borrowed: true,
		stop:     func() error { return nil },
	}, nil
}

// waitReady waits until the server accepts connections and returns its version.
func waitReady(ctx context.Context, dsn string) (string, error) {
	var version string
	connect := func(ctx context.Context) error {
		conn, err := pgx.Connect(ctx, dsn)
		if err != nil {
			return retry.RetryableError(err)
		}
		defer conn.Close(context.WithoutCancel(ctx))

		return conn.QueryRow(ctx, "SHOW server_version").Scan(&version)
	}
	if err := retry.Do(ctx, retry.WithMaxDuration(readyWait, retry.NewConstant(readyPoll)), connect); err != nil {
		return "", fmt.Errorf("not ready after %v: %w", readyWait, err)
	}

	return version, nil
}

// settings of a server for tests. Durability is off: a test run's data dies with it. The log says who deadlocked and
// who waited long for a lock.
func settings() []string {
	return []string{
		"fsync=off", "synchronous_commit=off", "full_page_writes=off",
		"max_connections=400", "jit=off", "log_lock_waits=on",
	}
}
