package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
)

// run runs SQL on a new connection and returns the one value of its answer as text.
func run(t *testing.T, dsn, sql string) string {
	t.Helper()

	value, err := query(t.Context(), dsn, sql)
	if err != nil {
		t.Fatal(err)
	}

	return value
}

func query(ctx context.Context, dsn, sql string) (value string, err error) {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	err = conn.QueryRow(ctx, sql, pgx.QueryExecModeSimpleProtocol).Scan(&value)
	if errors.Is(err, pgx.ErrNoRows) {
		err = nil
	}

	return value, err
}

func start(t *testing.T, state string) *Server {
	t.Helper()

	server, err := Start(t.Context(), Options{StateDir: state})
	if err != nil {
		t.Fatal(err)
	}

	return server
}

func stop(t *testing.T, server *Server) {
	t.Helper()

	if err := server.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestKeepsDataBetweenRuns(t *testing.T) {
	t.Parallel()

	state := newState(t)
	server := start(t, state)
	got := run(t, server.DSN(), `SELECT concat_ws(',', current_database(), current_setting('fsync'), current_setting('synchronous_commit'),
		current_setting('full_page_writes'), current_setting('listen_addresses'), inet_server_addr())`)
	if want := "bidder,on,on,on,"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	run(t, server.DSN(), "CREATE TABLE bids AS SELECT 'kept' AS bid; SELECT ''")
	stop(t, server)
	if found := processes(t, state); len(found) > 0 {
		t.Errorf("Stop returned while there still is %v", found)
	}
	if err := server.Stop(t.Context()); err != nil {
		t.Errorf("second Stop: %v", err)
	}

	server = start(t, state)
	defer stop(t, server)
	if got := run(t, server.DSN(), "SELECT bid FROM bids"); got != "kept" {
		t.Errorf("got %q", got)
	}
	for path, want := range map[string]os.FileMode{"": 0o700, "data": 0o700, "run": 0o700, "server.log": 0o600} {
		info, err := os.Stat(filepath.Join(state, path))
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("mode of %q is %o, want %o", path, got, want)
		}
	}
}

func TestTenProcessesShareOneServer(t *testing.T) {
	t.Parallel()

	state := newState(t)
	users := make([]*user, 10)
	for i := range users {
		users[i] = begin(t, state)
	}
	const which = "SELECT pg_postmaster_start_time()::text"
	first := run(t, users[0].wait().dsn, which)
	for _, u := range users[1:] {
		if got := run(t, u.wait().dsn, which); got != first {
			t.Errorf("a server started at %s and one at %s", first, got)
		}
	}
	migrated, err := os.ReadFile(filepath.Join(state, "migrated"))
	if err != nil {
		t.Fatal(err)
	}
	if string(migrated) != "10" {
		t.Errorf("of 10 migrations only %s were alone", migrated)
	}
	for _, u := range users[1:] {
		u.leave()
	}
	if got := run(t, users[0].dsn, which); got != first {
		t.Errorf("the server of %s was replaced by one of %s", first, got)
	}
	users[0].leave()
	if found := processes(t, state); len(found) > 0 {
		t.Errorf("the last one left, but there still is %v", found)
	}
}

func TestComingAndGoing(t *testing.T) {
	t.Parallel()

	state := newState(t)
	done := make(chan error)
	const processes, rounds = 4, 6
	for range processes {
		go func() {
			done <- func() error {
				for range rounds {
					server, err := Start(t.Context(), Options{StateDir: state})
					if err != nil {
						return err
					}
					if _, err := query(t.Context(), server.DSN(), "SELECT ''"); err != nil {
						return errors.Join(err, server.Stop(t.Context()))
					}
					if err := server.Stop(t.Context()); err != nil {
						return err
					}
				}

				return nil
			}()
		}()
	}
	for range processes {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestKilledUserLeavesNothingBehind(t *testing.T) {
	t.Parallel()

	state := newState(t)
	killed, other := begin(t, state).wait(), begin(t, state).wait()
	killed.kill()
	run(t, other.dsn, "CREATE TABLE bids AS SELECT 'kept' AS bid; SELECT ''")
	other.kill()
	eventually(t, "the server ends with its last user", func() bool { return len(processes(t, state)) == 0 })

	server := start(t, state)
	defer stop(t, server)
	if got := run(t, server.DSN(), "SELECT bid FROM bids"); got != "kept" {
		t.Errorf("got %q", got)
	}
}

func TestInterruptOfProcessGroup(t *testing.T) {
	t.Parallel()

	state := newState(t)
	u := begin(t, state).wait()
	supervisor := processes(t, state)["supervisor"]
	if err := syscall.Kill(-u.cmd.Process.Pid, syscall.SIGINT); err != nil { // as a terminal does at Ctrl-C
		t.Fatal(err)
	}
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} { // as pkill does
		if err := syscall.Kill(supervisor, signal); err != nil {
			t.Fatal(err)
		}
	}
	run(t, u.dsn, "SELECT pg_sleep(0.3)::text")
	run(t, u.dsn, "SELECT ''")
	u.leave()
}

func TestKilledSupervisor(t *testing.T) {
	t.Parallel()

	state := newState(t)
	u := begin(t, state).wait()
	run(t, u.dsn, "CREATE TABLE bids AS SELECT 'kept' AS bid; SELECT ''")
	running := processes(t, state)
	descriptors, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", running["server"])) // none without /proc
	for _, descriptor := range descriptors {
		if path, _ := os.Readlink(descriptor); strings.HasSuffix(path, ".lock") {
			t.Errorf("the server holds %s itself", path)
		}
	}
	kill9(t, running["supervisor"])

	server := start(t, state) // at once: the old server may still be shutting down
	if got := run(t, server.DSN(), "SELECT bid FROM bids"); got != "kept" {
		t.Errorf("got %q", got)
	}
	stop(t, server) // does not wait: the other still has its share
	run(t, u.dsn, "SELECT ''")
	u.leave()
	if found := processes(t, state); len(found) > 0 {
		t.Errorf("the last one left, but there still is %v", found)
	}
}

func TestServerLeftRunning(t *testing.T) {
	t.Parallel()

	state := newState(t)
	server := start(t, state)
	run(t, server.DSN(), "CREATE TABLE bids AS SELECT 'kept' AS bid; SELECT ''")
	stop(t, server)
	engine, err := findEngine(t.Context(), server.home, Image, nil)
	if err != nil {
		t.Fatal(err)
	}
	orphan, err := engine.cluster(server.home).Start(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := serverAt(server.home.sockets).Ready(t.Context(), orphan.Done()); err != nil {
		t.Fatal(err)
	}

	server = start(t, state)
	defer stop(t, server)
	select {
	case <-orphan.Done():
	default:
		t.Error("the server left running was not shut down")
	}
	if got := run(t, server.DSN(), "SELECT bid FROM bids"); got != "kept" {
		t.Errorf("got %q", got)
	}
}

func TestCrashedServer(t *testing.T) {
	t.Parallel()

	state := newState(t)
	u := begin(t, state).wait()
	run(t, u.dsn, "CREATE TABLE bids AS SELECT 'kept' AS bid; SELECT ''")
	kill9(t, processes(t, state)["server"])
	eventually(t, "the supervisor ends with its server", func() bool { return len(processes(t, state)) == 0 })
	u.leave()
	// After a power loss the number in the pid file may be some other process's.
	pidFile := filepath.Join(state, "data", "postmaster.pid")
	content, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(content), "\n")
	bystander := begin(t, newState(t)).wait()
	defer bystander.leave()
	number := processes(t, filepath.Dir(bystander.cmd.Args[2]))["server"]
	if err := os.WriteFile(pidFile, []byte(strconv.Itoa(number)+"\n"+rest), 0o600); err != nil {
		t.Fatal(err)
	}

	server := start(t, state)
	defer stop(t, server)
	if got := run(t, server.DSN(), "SELECT bid FROM bids"); got != "kept" {
		t.Errorf("got %q", got)
	}
	run(t, bystander.dsn, "SELECT ''")
}
