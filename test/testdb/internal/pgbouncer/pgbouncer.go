// Package pgbouncer runs PgBouncer in front of a PostgreSQL server for tests.
package pgbouncer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/sethvargo/go-retry"

	"github.com/arbitrageai/bidder/pkg/localpg"
)

const (
	readyWait = 10 * time.Second
	readyPoll = 10 * time.Millisecond
)

// Bouncer is a running PgBouncer.
type Bouncer struct {
	// URL leads through it to the database postgres. Every other database of the server is there too.
	URL string

	dir   string
	cmd   *exec.Cmd
	ended chan struct{}
}

// Start runs PgBouncer in transaction mode, with its own defaults in everything that a client notices: start-up
// parameters that it does not know are refused. On Linux it ends with this process.
func Start(ctx context.Context, serverURL string) (_ *Bouncer, err error) {
	program, err := find()
	if err != nil {
		return nil, err
	}
	owner, err := localpg.DefaultOwner() // it refuses to run as root, too
	if err != nil {
		return nil, fmt.Errorf("pgbouncer: %w", err)
	}
	dir, err := os.MkdirTemp("", "bidder-pgbouncer-") // closed to others: the file in it holds a password
	if err != nil {
		return nil, fmt.Errorf("pgbouncer: %w", err)
	}
	b := &Bouncer{dir: dir, ended: make(chan struct{})}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.Stop())
		}
	}()
	port, err := freePort(ctx)
	if err != nil {
		return nil, err
	}
	b.URL = fmt.Sprintf("postgres://bidder@127.0.0.1:%d/postgres?sslmode=disable", port)
	configuration, err := configure(serverURL, port)
	if err != nil {
		return nil, err
	}
	ini := filepath.Join(dir, "pgbouncer.ini")
	if err = os.WriteFile(ini, []byte(configuration), 0o600); err != nil {
		return nil, fmt.Errorf("pgbouncer: %w", err)
	}
	if err = errors.Join(owner.Chown(dir), owner.Chown(ini)); err != nil {
		return nil, fmt.Errorf("pgbouncer: %w", err)
	}
	cmd := localpg.Local(filepath.Dir(program), dir, owner)(filepath.Base(program), "-q", ini)
	if err = b.run(ctx, cmd); err != nil {
		return nil, err
	}

	return b, nil
}

// Stop ends PgBouncer at once.
func (b *Bouncer) Stop() error {
	var err error
	if b.cmd != nil {
		if err = b.cmd.Process.Kill(); errors.Is(err, os.ErrProcessDone) {
			err = nil
		}
		<-b.ended
	}

	if err = errors.Join(err, os.RemoveAll(b.dir)); err != nil {
		return fmt.Errorf("stop pgbouncer: %w", err)
	}

	return nil
}

// run starts the process and waits until a query has come through.
func (b *Bouncer) run(ctx context.Context, cmd *exec.Cmd) error {
	log, err := os.Create(filepath.Join(b.dir, "log"))
	if err != nil {
		return fmt.Errorf("pgbouncer: %w", err)
	}
	defer log.Close() // only the child writes to it
	cmd.Stdout, cmd.Stderr = log, log

	started := make(chan error)
	go func() {
		runtime.LockOSThread() // to Linux this thread is the parent, with whose end the process ends
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // its end is never an error of its own: Stop kills it, Ready reads the log
			close(b.ended)
		}
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start pgbouncer: %w", err)
	}
	b.cmd = cmd

	if err := b.ready(ctx); err != nil {
		said, _ := os.ReadFile(log.Name()) // only adds to the error at hand

		return fmt.Errorf("start pgbouncer: %w\n%s", err, said)
	}

	return nil
}

func (b *Bouncer) ready(ctx context.Context) error {
	return retry.Do(ctx, retry.WithMaxDuration(readyWait, retry.NewConstant(readyPoll)), func(ctx context.Context) error {
		select {
		case <-b.ended:
			return errors.New("it ended")
		default:
		}
		conn, err := pgx.Connect(ctx, b.URL)
		if err != nil {
			return retry.RetryableError(err)
		}

		return errors.Join(conn.Ping(ctx), conn.Close(ctx))
	})
}

func find() (string, error) {
	if program, err := exec.LookPath("pgbouncer"); err == nil {
		return program, nil
	}
	const debian = "/usr/sbin/pgbouncer" // which is on root's PATH only
	if program, err := exec.LookPath(debian); err == nil {
		return program, nil
	}

	return "", errors.New("pgbouncer is not installed (Debian, Ubuntu: apt-get install pgbouncer; macOS: brew install pgbouncer)")
}

func configure(serverURL string, port int) (string, error) {
	upstream, err := pgx.ParseConfig(serverURL)
	if err != nil {
		return "", fmt.Errorf("pgbouncer: address of the server: %w", err)
	}
	parsed, err := url.Parse(serverURL)
	if err != nil {
		return "", fmt.Errorf("pgbouncer: address of the server: %w", err)
	}

	// auth_type any: whoever connects becomes the user of the database line.
	return fmt.Sprintf(`[databases]
* = host=%s port=%d user=%s password=%s
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = any
pool_mode = transaction
max_client_conn = 1000
default_pool_size = 20
server_tls_sslmode = %s
`, quote(upstream.Host), upstream.Port, quote(upstream.User), quote(upstream.Password),
		port, cmp.Or(parsed.Query().Get("sslmode"), "prefer")), nil
}

func quote(value string) string { return "'" + strings.ReplaceAll(value, "'", "''") + "'" }

func freePort(ctx context.Context) (int, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err = errors.Join(err, listener.Close()); err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}

	number, err := strconv.Atoi(port)
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}

	return number, nil
}
