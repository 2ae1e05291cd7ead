package localpg

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
)

// Server is a throw-away server for tests.
type Server struct {
	Cluster
	*Process

	dir      string
	password string
}

// StartTemporary makes a new cluster in a temporary directory and starts its server, without durability, with the
// settings in the form name=value on top (they win). It listens on a Unix socket and on a free port of 127.0.0.1. The
// error is [ErrNoBinaries] where no PostgreSQL is installed. The caller must call Stop.
func StartTemporary(ctx context.Context, settings ...string) (_ *Server, err error) {
	bin, err := FindBinaries()
	if err != nil {
		return nil, err
	}
	owner, err := DefaultOwner()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "localpg-") // closed to others; t.TempDir would be closed to the owner as well
	if err != nil {
		return nil, fmt.Errorf("make directory for PostgreSQL: %w", err)
	}
	s := &Server{dir: dir, password: rand.Text()}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Stop())
		}
	}()
	if err = owner.Chown(dir); err != nil {
		return nil, err
	}
	s.Cluster = Cluster{Data: filepath.Join(dir, "data"), Sockets: dir, Command: Local(bin, dir, owner)}

	// Anyone on the machine can reach the port: a password keeps other users out.
	passwordFile := filepath.Join(dir, "password")
	if err = os.WriteFile(passwordFile, []byte(s.password), 0o600); err != nil {
		return nil, fmt.Errorf("write password: %w", err)
	}
	if err = owner.Chown(passwordFile); err != nil {
		return nil, err
	}
	if err = s.Init(ctx, "--no-sync", "--auth-host=scram-sha-256", "--pwfile="+passwordFile); err != nil {
		return nil, err
	}

	fast := []string{"listen_addresses=127.0.0.1", "fsync=off", "synchronous_commit=off", "full_page_writes=off"}
	if err = s.start(ctx, slices.Concat(fast, settings)); err != nil {
		return nil, err
	}

	return s, nil
}

// start runs the server on a free port, on another one if somebody took that in between.
func (s *Server) start(ctx context.Context, settings []string) error {
	log, err := os.Create(filepath.Join(s.dir, "log"))
	if err != nil {
		return fmt.Errorf("open log of PostgreSQL: %w", err)
	}
	defer func() { _ = log.Close() }()

	for range 3 {
		if s.Port, err = freePort(ctx); err != nil {
			return err
		}
		if s.Process, err = s.Start(log, settings...); err != nil {
			return err
		}
		if err = s.Ready(ctx, s.Done()); !errors.Is(err, ErrEnded) {
			return err
		}
	}
	said, _ := os.ReadFile(log.Name()) // only adds to the error at hand

	return fmt.Errorf("%w\n%s", err, said)
}

// freePort is a TCP port of 127.0.0.1 that nobody listened on a moment ago.
func freePort(ctx context.Context) (int, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	defer func() { _ = listener.Close() }()
	addr, ok := listener.Addr().(*net.TCPAddr)
	if !ok {
		return 0, fmt.Errorf("find a free port: %v is no TCP address", listener.Addr())
	}

	return addr.Port, nil
}

// Address is where the server listens for TCP, host:port.
func (s *Server) Address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port)) }

// TCP is the URL of a database over TCP, for tests that put something in between.
func (s *Server) TCP(database string) string {
	return (&url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword(Superuser, s.password),
		Host:     s.Address(),
		Path:     "/" + database,
		RawQuery: "sslmode=disable",
	}).String()
}

// Stop ends the server at once and deletes its directory.
func (s *Server) Stop() error {
	var err error
	if s.Process != nil {
		err = s.Process.Stop(context.Background(), Immediate)
	}
	if removeErr := os.RemoveAll(s.dir); removeErr != nil {
		err = errors.Join(err, fmt.Errorf("delete temporary PostgreSQL: %w", removeErr))
	}

	return err
}
