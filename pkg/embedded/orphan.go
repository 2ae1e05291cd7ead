package embedded

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/sethvargo/go-retry"
	"golang.org/x/sys/unix"
)

var errOrphan = errors.New("a server that was left running does not shut down")

// endOrphan shuts down a server that its supervisor left behind, and waits for one that is shutting down already.
func (h home) endOrphan(ctx context.Context) error {
	const (
		pause = 20 * time.Millisecond
		// A process with the number in the pid file that does not listen is on its way out, or something else altogether.
		doubtful = 2 * time.Second
	)

	within := doubtful
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(h.sockets, ".s.PGSQL."+strconv.Itoa(port)))
	listens := err == nil
	if listens {
		within = stopWithin
		pid, err := peer(conn)
		if err := errors.Join(err, conn.Close()); err != nil {
			return fmt.Errorf("find out whose socket is in %s: %w", h.sockets, err)
		}
		if err := unix.Kill(pid, unix.SIGINT); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("shut down the server that was left running, process %d: %w", pid, err)
		}
	}
	wait := retry.WithMaxDuration(within, retry.NewConstant(pause))
	err = retry.Do(ctx, wait, func(context.Context) error {
		pid, _, err := h.readPidFile()
		if err != nil || (pid > 0 && !errors.Is(unix.Kill(pid, 0), unix.ESRCH)) {
			return retry.RetryableError(errors.Join(errOrphan, err))
		}

		return nil
	})
	if errors.Is(err, errOrphan) && !listens {
		return nil
	}
	if err != nil {
		return fmt.Errorf("before the start: %w", err)
	}

	return nil
}

// disownPidFile keeps a pid file that a crash or a power loss left from barring the start. PostgreSQL refuses to start if
// the number in it has become that of any other process of the user, or if the file is empty. With the number of its
// parent it takes the file for stale, and goes by the shared memory that the file names too: it still refuses if that is
// in use. So the caller, about to be the parent, puts its own number in, rather than to delete the file.
func (h home) disownPidFile() error {
	pid, rest, err := h.readPidFile()
	if err != nil {
		return err
	}
	path := h.pidFile()
	if pid == 0 {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("delete empty pid file: %w", err)
		}

		return nil
	}
	if err := h.replace(path+".new", fmt.Appendf(nil, "%d\n%s", os.Getpid(), rest)); err != nil {
		return fmt.Errorf("write pid file: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("write pid file: %w", err)
	}

	return nil
}

func (h home) pidFile() string { return filepath.Join(h.data(), "postmaster.pid") }

// readPidFile returns the number in the server's pid file, 0 when there is none, and the lines after it. It follows no
// link: the owner, to whom a copy of the lines goes, may not be allowed to read what root can.
func (h home) readPidFile() (pid int, rest []byte, err error) {
	file, err := os.OpenFile(h.pidFile(), os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil, nil
	}
	if err != nil {
		return 0, nil, fmt.Errorf("read pid file: %w", err)
	}
	content, err := io.ReadAll(file)
	if err := errors.Join(err, file.Close()); err != nil {
		return 0, nil, fmt.Errorf("read pid file: %w", err)
	}
	first, rest, _ := bytes.Cut(content, []byte("\n"))
	pid, err = strconv.Atoi(string(first))
	if err != nil || pid < 0 {
		return 0, nil, nil //nolint:nilerr // PostgreSQL was cut short in writing it
	}

	return pid, rest, nil
}
