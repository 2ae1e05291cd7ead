package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/arbitrageai/bidder/pkg/localpg"
)

// SupervisorCommand is the first argument of the process that watches over the server. A program that calls [Start]
// must begin by calling [Supervise] with the arguments after it, and then exit.
const SupervisorCommand = "__embedded-supervisor"

// marker is in the environment of a supervisor. If main forgets to call Supervise, the second Start fails, where without
// it each would start another process that calls Start.
const marker = "__EMBEDDED_SUPERVISOR"

// stopWithin is how long a server may take to shut down cleanly before it is told to drop everything.
const stopWithin = time.Minute

// inherited is the descriptor at which the supervisor finds server.lock.
const inherited = 3

// run makes sure that a server answers. The caller holds start.lock, and users.lock, so that the server stays.
func (h home) run(ctx context.Context, image string, log *slog.Logger) error {
	for {
		free, err := h.tryLock(serverLock, exclusive)
		if err == nil {
			defer free.release()

			return h.launch(ctx, free, image, log)
		}
		if !errors.Is(err, errHeld) {
			return err
		}
		if err := h.ready(ctx); !errors.Is(err, localpg.ErrEnded) {
			return err
		}
	}
}

// launch starts a supervisor, which takes the lock over, and waits until its server answers.
func (h home) launch(ctx context.Context, serverLock *lock, image string, log *slog.Logger) error {
	if os.Getenv(marker) != "" { //nolint:forbidigo // not a setting
		return errors.New("this program does not call embedded.Supervise first thing, as it must")
	}
	if err := h.endOrphan(ctx); err != nil {
		return err
	}
	e, err := findEngine(ctx, h, image, log)
	if err != nil {
		return err
	}
	if e.bin == "" {
		if err := removeContainer(ctx, h.container()); err != nil {
			return err
		}
	}
	log.InfoContext(ctx, "starting PostgreSQL", "from", e.String(), "state", h.dir)
	if err := e.initialize(ctx, h); err != nil {
		return err
	}
	if err := h.spawn(e, serverLock); err != nil {
		return err
	}
	serverLock.release()

	err = h.ready(ctx)
	if errors.Is(err, localpg.ErrEnded) {
		return fmt.Errorf("%w; %s says:\n%s", err, h.log(), h.logTail())
	}

	return err
}

// spawn starts the supervisor with a log of its own: holding on to the caller's output would keep a pipe open.
func (h home) spawn(e engine, serverLock *lock) error {
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find own program: %w", err)
	}
	log, err := os.OpenFile(h.log(), os.O_WRONLY|os.O_CREATE|os.O_TRUNC|os.O_APPEND|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	defer func() { _ = log.Close() }()
	if err := h.owner.Chown(h.log()); err != nil {
		return err
	}
	cmd := exec.Command(program, SupervisorCommand, h.dir, e.bin, e.image) //nolint:noctx // it outlives this process
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), marker+"=1")
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{serverLock.file}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start supervisor: %w", err)
	}
	go func() { _ = cmd.Wait() }() // server.lock tells when it ends; this only takes the zombie away

	return nil
}

// ready waits until the server answers; [localpg.ErrEnded] when its supervisor is gone.
func (h home) ready(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan struct{})
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		if l, err := h.lock(ctx, serverLock, shared); err == nil {
			l.release()
			close(ended)
		}
	}()
	err := serverAt(h.sockets).Ready(ctx, ended)
	cancel()
	<-watched

	return err
}

// logTail is the end of the server's log.
func (h home) logTail() string {
	const most = 2000
	said, err := os.ReadFile(h.log())
	if err != nil {
		return err.Error()
	}

	return strings.TrimSpace(string(said[max(0, len(said)-most):]))
}

// Supervise is the supervisor: it runs the server until nobody uses it any more. The arguments are those after
// [SupervisorCommand].
func Supervise(args []string) error {
	const arguments = 3
	if len(args) != arguments {
		return fmt.Errorf("%s is for internal use", SupervisorCommand)
	}
	dir, e := args[0], engine{bin: args[1], image: args[2]}
	unix.CloseOnExec(inherited) // the lock is this process's alone
	// Ignored, but not by signal.Ignore, which the server would inherit.
	signal.Notify(make(chan os.Signal, 1), unix.SIGINT, unix.SIGTERM, unix.SIGHUP)

	h, err := openHome(dir)
	if err != nil {
		return err
	}
	users, err := h.open(usersLock)
	if err != nil {
		return err
	}
	unused := make(chan error, 1)
	go func() { unused <- users.flock(exclusive) }()

	if err := h.disownPidFile(); err != nil {
		return err
	}
	cluster := e.cluster(h)
	cluster.Command = e.command(h, h.container())
	server, err := cluster.Start(os.Stderr, "unix_socket_permissions=0700", "log_checkpoints=off")
	if err != nil {
		return fmt.Errorf("start server: %w", err)
	}

	select {
	case <-server.Done():
		return errors.New("the server ended by itself")
	case err = <-unused:
	}
	ctx := context.Background()
	stopping, cancel := context.WithTimeout(ctx, stopWithin)
	defer cancel()
	stopErr := server.Stop(stopping, localpg.Fast)
	if errors.Is(stopErr, context.DeadlineExceeded) {
		stopErr = errors.Join(stopErr, server.Stop(ctx, localpg.Immediate))
	}

	runtime.KeepAlive(users) // collected as garbage, the file would be closed and the lock lost

	return errors.Join(err, stopErr)
}
