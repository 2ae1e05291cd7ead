package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/sethvargo/go-retry"
	"golang.org/x/sys/unix"
)

// The files that are locked; the package comment says what for.
const (
	startLock  = "start.lock"
	usersLock  = "users.lock"
	serverLock = "server.lock"
)

const (
	shared    = unix.LOCK_SH
	exclusive = unix.LOCK_EX
)

var errHeld = errors.New("held by another process")

// lock is an open file with a lock on it.
type lock struct {
	file *os.File
}

// lock opens the file, waits for the lock and returns it.
func (h home) lock(ctx context.Context, name string, how int) (*lock, error) {
	const pause = 20 * time.Millisecond

	l, err := h.open(name)
	if err != nil {
		return nil, err
	}
	err = retry.Constant(ctx, pause, func(context.Context) error {
		err := l.try(how)
		if errors.Is(err, errHeld) {
			return retry.RetryableError(err)
		}

		return err
	})
	if err != nil {
		l.release()

		return nil, fmt.Errorf("wait for lock: %w", err)
	}

	return l, nil
}

// tryLock is lock without waiting: [errHeld] if another process holds it.
func (h home) tryLock(name string, how int) (*lock, error) {
	l, err := h.open(name)
	if err != nil {
		return nil, err
	}
	if err := l.try(how); err != nil {
		l.release()

		return nil, err
	}

	return l, nil
}

// open opens the file without a lock on it.
func (h home) open(name string) (*lock, error) {
	path := filepath.Join(h.dir, name)
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	if err := h.owner.Chown(path); err != nil {
		return nil, errors.Join(err, file.Close())
	}

	return &lock{file: file}, nil
}

func (l *lock) try(how int) error {
	err := l.flock(how | unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return fmt.Errorf("lock %s: %w", l.file.Name(), errHeld)
	}

	return err
}

// flock asks for the lock in place of the one held.
func (l *lock) flock(how int) error {
	for {
		err := unix.Flock(int(l.file.Fd()), how)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("lock %s: %w", l.file.Name(), err)
		}

		return nil
	}
}

// last tells whether nobody but the supervisor and the holder of this shared lock wants it. The lock is lost by asking.
func (l *lock) last() (bool, error) {
	err := l.try(exclusive)
	if !errors.Is(err, errHeld) {
		return err == nil, err
	}
	// To upgrade, the kernel drops the shared lock first, and the supervisor may have been quicker: then this fails too.
	err = l.try(shared)
	if errors.Is(err, errHeld) {
		return true, nil
	}

	return false, err
}

// release gives the lock back, unless another process has inherited the open file.
func (l *lock) release() {
	_ = l.file.Close() // nothing was written, and the lock is gone in any case
}
