package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/arbitrageai/bidder/pkg/localpg"
)

func TestOtherMajorVersion(t *testing.T) {
	t.Parallel()

	state := newState(t)
	stop(t, start(t, state))
	version := filepath.Join(state, "data", "PG_VERSION")
	if err := os.WriteFile(version, []byte("9\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Start(t.Context(), Options{StateDir: state, Image: "localhost:1/none"})
	wrong, ok := errors.AsType[*VersionError](err)
	if !ok {
		t.Fatalf("got %v, want a VersionError", err)
	}
	if wrong.Needed != "9" || len(wrong.Found) == 0 || wrong.Found[0] == "9" {
		t.Errorf("got %+v", wrong)
	}
}

func TestFailedInitIsForgotten(t *testing.T) {
	t.Parallel()

	state := newState(t)
	h, err := openHome(state)
	if err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(filepath.Dir(state), "bin")
	if err := os.Mkdir(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	// initdb -D DIRECTORY on a full disk, in a hurry.
	script := "#!/bin/sh\necho 15 >$2/PG_VERSION && echo no space left && exit 1\n"
	if err := os.WriteFile(filepath.Join(bin, "initdb"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	err = engine{bin: bin}.initialize(t.Context(), h)
	if err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("got %v, want what initdb says", err)
	}
	killed := filepath.Join(state, "data.new-1") // what a killed initdb leaves
	if err := os.MkdirAll(filepath.Join(killed, "base"), 0o700); err != nil {
		t.Fatal(err)
	}

	stop(t, start(t, state))
	left, err := filepath.Glob(filepath.Join(state, "data.new-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestFailedStartLeavesNothing(t *testing.T) {
	t.Parallel()

	state := newState(t)
	broken := errors.New("broken migration")
	_, err := Start(t.Context(), Options{StateDir: state, Migrate: func(ctx context.Context, dsn string) error {
		_, err := query(ctx, dsn, "SELECT ''")

		return errors.Join(broken, err)
	}})
	if !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	if found := processes(t, state); len(found) > 0 {
		t.Errorf("Start failed, but there is %v", found)
	}

	conf := filepath.Join(state, "data", "postgresql.auto.conf")
	if err := os.WriteFile(conf, []byte("shared_buffers = 'nonsense'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err = Start(t.Context(), Options{StateDir: state}); !errors.Is(err, localpg.ErrEnded) || !strings.Contains(err.Error(), "shared_buffers") {
		t.Errorf("got %v, want that the server ended, and why", err)
	}

	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err = Start(cancelled, Options{StateDir: state}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestNoServer(t *testing.T) {
	t.Parallel()

	u := begin(t, newState(t), func(cmd *exec.Cmd) {
		cmd.Env = []string{"PGBIN=/nonexistent", "PATH=/nonexistent"}
	})
	said, err := u.lines.ReadString(0)
	if u.cmd.Wait() == nil {
		t.Errorf("it started: %v", err)
	}
	for _, want := range []string{"apt-get install postgresql", "brew install", "docker is not installed either", "DATABASE_URL"} {
		if !strings.Contains(said, want) {
			t.Errorf("%q does not mention %q", said, want)
		}
	}
}

func TestForgottenSupervise(t *testing.T) {
	t.Parallel()

	u := begin(t, newState(t), func(cmd *exec.Cmd) { cmd.Env = append(os.Environ(), marker+"=1") })
	said, _ := u.lines.ReadString(0)
	if u.cmd.Wait() == nil || !strings.Contains(said, "embedded.Supervise") {
		t.Errorf("got %q", said)
	}
}

func TestAwkwardPaths(t *testing.T) {
	t.Parallel()

	tests := []struct {
		name string
		dir  string
		tmp  bool
	}{
		{name: "special characters", dir: `a+b?c=d&e%41[1]*ü`, tmp: false},
		{name: "comma, quotes and space", dir: `a,b"c'd\e f`, tmp: true},
		{name: "too long for a socket", dir: strings.Repeat("long/", 30), tmp: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()

			state := filepath.Join(newState(t), tt.dir)
			server := start(t, state)
			defer stop(t, server)
			run(t, server.DSN(), "SELECT ''")
			if inTmp := strings.HasPrefix(server.home.sockets, "/tmp/bidder-"); inTmp != tt.tmp {
				t.Errorf("the socket is in %s", server.home.sockets)
			} else if inTmp {
				t.Cleanup(func() { _ = os.RemoveAll(server.home.sockets) })
			}
			other := start(t, filepath.Join(state, "..", filepath.Base(state)))
			if server.DSN() != other.DSN() {
				t.Errorf("%s and %s", server.DSN(), other.DSN())
			}
			stop(t, other)
		})
	}
}

func TestSocketsOfSomebodyElse(t *testing.T) {
	t.Parallel()

	h, err := openHome(newState(t))
	if err != nil {
		t.Fatal(err)
	}
	base := filepath.Dir(h.dir)
	tests := []struct {
		name string
		make func(path string) error
	}{
		{name: "open", make: func(path string) error { return errors.Join(os.Mkdir(path, 0o700), os.Chmod(path, 0o777)) }},
		{name: "link", make: func(path string) error { return os.Symlink(h.sockets, path) }},
		{name: "file", make: func(path string) error { return os.WriteFile(path, nil, 0o700) }},
	}
	if os.Geteuid() == 0 {
		tests = append(tests, struct {
			name string
			make func(path string) error
		}{name: "foreign", make: func(path string) error { return errors.Join(os.Mkdir(path, 0o700), os.Chown(path, 12345, 12345)) }})
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()

			path := filepath.Join(base, tt.name)
			if err := tt.make(path); err != nil {
				t.Fatal(err)
			}
			if _, err := h.makeSockets(path); err == nil {
				t.Error("accepted")
			}
		})
	}
}

// What root writes into a directory of somebody else goes through no link, and nothing that a link leads to is given away.
func TestPlantedLinks(t *testing.T) {
	t.Parallel()

	h, err := openHome(newState(t))
	if err != nil {
		t.Fatal(err)
	}
	const secret = "1\nnot the owner's\n"
	target := filepath.Join(filepath.Dir(h.dir), "target")
	err = errors.Join(os.Mkdir(h.data(), 0o700), os.WriteFile(h.pidFile(), []byte("2\n/data\n"), 0o600), os.WriteFile(target, []byte(secret), 0o640))
	for _, path := range []string{h.pidFile() + ".new", h.passwd()} {
		err = errors.Join(err, os.Symlink(target, path))
	}
	if err != nil {
		t.Fatal(err)
	}
	before := stat(t, target)
	if err := errors.Join(h.disownPidFile(), h.writePasswd()); err != nil {
		t.Error(err)
	}
	for path, want := range map[string]string{h.pidFile(): fmt.Sprintf("%d\n/data\n", os.Getpid()), h.passwd(): "root:x:0:0::/root:/bin/false\n"} {
		if content, err := os.ReadFile(path); err != nil || !strings.HasPrefix(string(content), want) {
			t.Errorf("%s: %q, %v", path, content, err)
		}
		if info := stat(t, path); info.Mode != unix.S_IFREG|0o600 || info.Uid != h.owner.UID {
			t.Errorf("%s is of user %d with mode %o", path, info.Uid, info.Mode)
		}
	}

	if err := errors.Join(os.Remove(h.pidFile()), os.Symlink(target, h.pidFile())); err != nil {
		t.Fatal(err)
	}
	if err := h.disownPidFile(); !errors.Is(err, unix.ELOOP) {
		t.Errorf("a link for a pid file: %v", err)
	}
	if got := stat(t, h.pidFile()); got.Mode&unix.S_IFMT != unix.S_IFLNK {
		t.Errorf("the link became a file of mode %o", got.Mode)
	}
	if content, err := os.ReadFile(target); err != nil || string(content) != secret {
		t.Errorf("where the links lead there is %q, %v", content, err)
	}
	if after := stat(t, target); after.Mode != before.Mode || after.Uid != before.Uid {
		t.Errorf("what the links lead to is of user %d with mode %o, and was of %d with %o", after.Uid, after.Mode, before.Uid, before.Mode)
	}
}

// stat is what is there itself, not what a link leads to.
func stat(t *testing.T, path string) (info unix.Stat_t) {
	t.Helper()

	if err := unix.Lstat(path, &info); err != nil {
		t.Fatal(err)
	}

	return info
}

func TestRootInClosedDirectory(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root runs the server as another user")
	}

	closed := filepath.Dir(newState(t))
	if err := os.Chmod(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := Start(t.Context(), Options{StateDir: filepath.Join(closed, "state")})
	if want := fmt.Sprintf("cannot enter %s:", closed); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want it to say %q", err, want)
	}
}

// Root shares the state directory of a normal user, and leaves it usable for them.
func TestRootAndNormalUser(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can become another user; all other tests have run as a normal one")
	}

	state := newState(t)
	base := filepath.Dir(state)
	program := copyOfTestBinary(t, base)
	const uid = 65534
	if err := errors.Join(os.Mkdir(state, 0o700), os.Chown(state, uid, uid)); err != nil {
		t.Fatal(err)
	}
	stop(t, start(t, state))
	asNobody := func(cmd *exec.Cmd) {
		cmd.Path = program
		cmd.Dir = base
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uid, Gid: uid}
	}
	u := begin(t, state, asNobody).wait()
	run(t, u.dsn, "CREATE TABLE bids AS SELECT 'kept' AS bid; SELECT ''")
	shared := start(t, state)
	u.leave()
	run(t, shared.DSN(), "SELECT ''")
	stop(t, shared)
	server := start(t, state)
	if server.home.owner.UID != uid {
		t.Errorf("root runs the server as user %s", server.home.owner)
	}
	second := begin(t, state, asNobody).wait()
	stop(t, server)
	if got := run(t, second.dsn, "SELECT bid FROM bids"); got != "kept" {
		t.Errorf("got %q", got)
	}
	second.leave()
	begin(t, state, asNobody).wait().leave()
}

// copyOfTestBinary puts this program where every user can run it, and returns its path.
func copyOfTestBinary(t *testing.T, dir string) string {
	t.Helper()

	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "embedded.test")
	if err := os.WriteFile(path, content, 0o755); err != nil {
		t.Fatal(err)
	}

	return path
}
