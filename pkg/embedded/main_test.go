package embedded

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sethvargo/go-retry"
)

// The test binary is also the supervisor, as any program with an embedded server, and the processes that use it.
func TestMain(m *testing.M) {
	var err error
	switch {
	case len(os.Args) > 1 && os.Args[1] == SupervisorCommand:
		err = Supervise(os.Args[2:])
	case len(os.Args) > 1 && os.Args[1] == userCommand:
		err = beUser(os.Args[2], os.Args[3])
	default:
		// With -race every process sleeps for a second before it ends, for reports yet to come.
		if err = os.Setenv("GORACE", os.Getenv("GORACE")+" atexit_sleep_ms=0"); err == nil {
			os.Exit(m.Run())
		}
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

const userCommand = "use"

// beUser is a process that uses the server until its standard input ends.
func beUser(state, image string) error {
	signal.Ignore(syscall.SIGINT) // a program that takes its time to end well
	ctx := context.Background()
	server, err := Start(ctx, Options{StateDir: state, Image: image, Migrate: func(context.Context, string) error {
		return countUp(filepath.Join(state, "migrated"))
	}})
	if err != nil {
		return err
	}
	fmt.Println(server.DSN())
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}

	return server.Stop(ctx)
}

// countUp adds one to the number in the file, in a way that loses numbers if two do it at once.
func countUp(path string) error {
	content, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	n, _ := strconv.Atoi(string(content))

	return os.WriteFile(path, []byte(strconv.Itoa(n+1)), 0o600)
}

// user is a process of its own that uses the server.
type user struct {
	t     *testing.T
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines *bufio.Reader
	dsn   string
}

// begin starts a user without waiting for it.
func begin(t *testing.T, state string, configure ...func(*exec.Cmd)) *user {
	t.Helper()

	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	u := &user{t: t, cmd: exec.Command(program, userCommand, state, "")}
	u.cmd.Stderr = os.Stderr
	u.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	for _, f := range configure {
		f(u.cmd)
	}
	if u.stdin, err = u.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := u.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	u.lines = bufio.NewReader(stdout)
	if err := u.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = u.cmd.Process.Kill() })

	return u
}

// wait waits until the user has its server.
func (u *user) wait() *user {
	u.t.Helper()

	line, err := u.lines.ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "postgres://") {
		rest, _ := io.ReadAll(u.lines)
		u.t.Fatalf("user did not start: %s%s", line, rest)
	}
	u.dsn = strings.TrimSpace(line)

	return u
}

// leave has the user stop in the orderly way.
func (u *user) leave() {
	u.t.Helper()

	if err := u.stdin.Close(); err != nil {
		u.t.Fatal(err)
	}
	said, err := io.ReadAll(u.lines)
	if err := errors.Join(err, u.cmd.Wait()); err != nil {
		u.t.Fatalf("user did not stop: %v: %s", err, said)
	}
}

// kill ends the user as kill -9 does.
func (u *user) kill() {
	u.t.Helper()

	if err := u.cmd.Process.Kill(); err != nil {
		u.t.Fatal(err)
	}
	_ = u.cmd.Wait()
}

// newState returns the path of a state directory that does not exist yet, in a place that every user can enter.
func newState(t *testing.T) string {
	t.Helper()

	base := "/dev/shm" // the server syncs to disk all the time
	if _, err := os.Stat(base); err != nil {
		base = ""
	}
	dir, err := os.MkdirTemp(base, "embedded-") //nolint:usetesting // t.TempDir is closed to the server of root
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	state := filepath.Join(dir, "state")
	t.Cleanup(func() {
		eventually(t, "nothing runs in "+state, func() bool { return len(processes(t, state)) == 0 })
		if t.Failed() {
			said, _ := os.ReadFile(filepath.Join(state, "server.log"))
			t.Logf("server.log: %s", said)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})

	return state
}

// processes lists the supervisor and the server of the state directory by their command lines.
func processes(t *testing.T, state string) map[string]int {
	t.Helper()

	output, err := exec.CommandContext(context.Background(), "ps", "-eo", "pid=,stat=,args=").Output()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]int{}
	for line := range strings.Lines(string(output)) {
		fields := strings.Fields(line)
		if !strings.Contains(line, state) || strings.HasPrefix(fields[1], "Z") {
			continue
		}
		pid, err := strconv.Atoi(fields[0])
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case strings.Contains(line, SupervisorCommand):
			found["supervisor"] = pid
		case strings.Contains(line, "docker run "):
			found["client"] = pid
		case strings.Contains(line, "postgres -D "):
			found["server"] = pid
		}
	}

	return found
}

// kill9 ends a process as kill -9 does and waits until it has ended.
func kill9(t *testing.T, pid int) {
	t.Helper()

	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the killed process has ended", func() bool {
		// Nothing of a zombie is left but its number; it stays until its parent asks how it ended.
		state, _ := exec.CommandContext(context.Background(), "ps", "-o", "stat=", "-p", strconv.Itoa(pid)).Output()

		return len(state) == 0 || state[0] == 'Z'
	})
}

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()

	const (
		pause  = 20 * time.Millisecond
		within = 20 * time.Second
	)
	wait := retry.WithMaxDuration(within, retry.NewConstant(pause))
	err := retry.Do(context.Background(), wait, func(context.Context) error {
		if condition() {
			return nil
		}

		return retry.RetryableError(errors.New("not in time"))
	})
	if err != nil {
		t.Errorf("%s: %v", what, err)
	}
}
