// Package localpg runs PostgreSQL servers of its own from the programs installed on this machine: throw-away ones for
// tests ([StartTemporary]), and the parts that a lasting one is made of ([Cluster]).
//
// It works as a normal user, and as root, where the server runs as the user postgres or nobody. On Linux a server ends
// with the process that started it, however that ends; elsewhere a parent that is killed leaves it running.
package localpg

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/sethvargo/go-retry"
)

// Superuser is the database role that every cluster is made with.
const Superuser = "bidder"

// Command makes the process that runs one of a server's programs, initdb or postgres, without starting it.
type Command func(program string, args ...string) *exec.Cmd

// Local makes commands that run the programs in bin, with a clean environment, as the owner. The owner must be able to
// enter dir, the directory they start in.
func Local(bin, dir string, owner Owner) Command {
	return func(program string, args ...string) *exec.Cmd {
		cmd := exec.Command(filepath.Join(bin, program), args...) //nolint:gosec,noctx // a server's life is not a request's
		cmd.Dir = dir
		// Not the caller's environment: its PG* variables and locale would change what the programs do.
		cmd.Env = []string{"LC_ALL=C", "TZ=UTC", "PATH=" + bin + ":/usr/bin:/bin"}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: owner.credential()}

		return cmd
	}
}

// Cluster says where a PostgreSQL cluster lives and how its programs are run. It holds no process.
type Cluster struct {
	Data    string // data directory
	Sockets string // directory of the Unix socket
	Port    int    // names the socket; also the TCP port, when the settings make the server listen on one
	Command Command
}

// Init makes the data directory: superuser [Superuser], UTF-8, locale C, every connection over the socket trusted: the
// directory of the socket must be closed to others. More flags of initdb may follow.
func (c Cluster) Init(ctx context.Context, flags ...string) error {
	args := append([]string{
		"-D", c.Data, "-U", Superuser,
		"--auth-local=trust", "--auth-host=reject", "--encoding=UTF8", "--locale=C", "--no-instructions",
	}, flags...)
	cmd := c.Command("initdb", args...)
	var output strings.Builder
	cmd.Stdout, cmd.Stderr = &output, &output
	endWithParent(cmd)
	runtime.LockOSThread() // to Linux this thread is the parent
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start initdb: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Signal(syscall.SIGTERM) })
	defer stop()
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("initdb: %w: %s", errors.Join(err, ctx.Err()), strings.TrimSpace(output.String()))
	}

	return nil
}

// Start runs the server, with settings in the form name=value, and writes what it says to log, if that is not nil. It
// does not wait until the server answers: [Cluster.Ready] does.
func (c Cluster) Start(log *os.File, settings ...string) (*Process, error) {
	settings = slices.Concat([]string{"listen_addresses="}, settings)
	args := slices.Grow([]string{"-D", c.Data, "-k", c.Sockets, "-p", strconv.Itoa(c.Port)}, 2*len(settings))
	for _, setting := range settings {
		args = append(args, "-c", setting)
	}
	cmd := c.Command("postgres", args...)
	if log != nil { // a nil *os.File in the interface would not be nil
		cmd.Stdout, cmd.Stderr = log, log
	}

	endWithParent(cmd)

	p := &Process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // to Linux this thread is the parent: it waits here as long as the server runs
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
			close(p.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start postgres: %w", err)
	}

	return p, nil
}

// Ready waits until the server accepts connections; an error is final. It gives up when ended is closed, when ctx is
// done, or when nothing has answered for half a minute. A server that answers that it is still starting up, as it does
// while it recovers from a crash, gets the time it needs.
func (c Cluster) Ready(ctx context.Context, ended <-chan struct{}) error {
	const (
		pause  = 10 * time.Millisecond
		silent = 30 * time.Second

		cannotConnectNow = "57P03"
	)

	heard := time.Now()
	err := retry.Constant(ctx, pause, func(ctx context.Context) error {
		err := c.try(ctx)
		if err == nil {
			return nil
		}
		if refusal, ok := errors.AsType[*pgconn.PgError](err); ok {
			if refusal.Code != cannotConnectNow {
				return err
			}
			heard = time.Now()
		}
		select {
		case <-ended:
			return ErrEnded
		default:
		}
		if time.Since(heard) > silent {
			return err
		}

		return retry.RetryableError(err)
	})
	if err != nil {
		return fmt.Errorf("wait for PostgreSQL: %w", err)
	}

	return nil
}

// try connects and leaves.
func (c Cluster) try(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, c.DSN("postgres"))
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	_ = conn.Close(ctx) // it could connect, that is all

	return nil
}

// ErrEnded says that a server ended while it was waited for: its log says why.
var ErrEnded = errors.New("the server ended before it answered")

// DSN is the URL of a database of the cluster, over the Unix socket, as the superuser.
func (c Cluster) DSN(database string) string {
	query := url.Values{"host": {c.Sockets}, "port": {strconv.Itoa(c.Port)}}.Encode()

	return (&url.URL{
		Scheme:   "postgres",
		User:     url.User(Superuser),
		Path:     "/" + database,
		RawQuery: strings.ReplaceAll(query, "+", "%20"), // a space; libpq and pgx take + for itself
	}).String()
}

// Process is a running server.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error // of Wait; read only after done is closed
}

// Mode is how a server is stopped.
type Mode syscall.Signal

const (
	// Fast ends the sessions, writes a checkpoint and leaves a clean data directory.
	Fast = Mode(syscall.SIGINT)
	// Immediate drops everything at once: the next start recovers from the write-ahead log.
	Immediate = Mode(syscall.SIGQUIT)
)

// Done is closed when the server has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Stop ends the server and waits until it has ended or ctx is done. Stopping one that has ended does nothing. A server
// that did not end cleanly in [Fast] mode is an error.
func (p *Process) Stop(ctx context.Context, mode Mode) error {
	if err := p.cmd.Process.Signal(syscall.Signal(mode)); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop postgres: %w", err)
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		return fmt.Errorf("stop postgres: %w", ctx.Err())
	}
	if p.err != nil && mode == Fast {
		return fmt.Errorf("postgres did not end cleanly: %w", p.err)
	}

	return nil
}
