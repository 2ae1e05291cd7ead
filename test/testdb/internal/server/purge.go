package server

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
)

// envPurge names the container that a process started with it is to purge. See [PurgeIfAsked].
const envPurge = "BIDDER_TEST_PURGE"

// purgeOnExit starts this program once more, as a process whose only job is to purge the container after this process
// has ended. A panic in a test, os.Exit, a test time-out and kill -9 run no deferred function, but they all close the
// pipe that the other process reads. The returned function closes it before that.
func purgeOnExit(name string) (release func() error, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	read, write, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make pipe: %w", err)
	}
	defer read.Close() // the child has its own copy

	cmd := exec.Command(self) // no context: it must outlive them all
	cmd.Env = append(os.Environ(), envPurge+"="+name)
	cmd.Stdin = read
	// Its own group: Ctrl-C on the terminal must not end it. No output: go test waits until that is closed.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		_ = write.Close()

		return nil, fmt.Errorf("start the process that purges: %w", err)
	}

	return func() error {
		if err := write.Close(); err != nil {
			return fmt.Errorf("close pipe: %w", err)
		}
		if err := cmd.Wait(); err != nil {
			return fmt.Errorf("process that purges: %w", err)
		}

		return nil
	}, nil
}

// PurgeIfAsked does the job of the process that purgeOnExit starts, and reports whether this process is one. A program
// that calls [Start] must call it first and exit if it returns true.
func PurgeIfAsked() (bool, error) {
	name := os.Getenv(envPurge)
	if name == "" {
		return false, nil
	}
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return true, fmt.Errorf("wait for the parent's end: %w", err)
	}
	pool, err := connectDocker()
	if err != nil {
		return true, err
	}

	return true, purge(pool, name)
}
