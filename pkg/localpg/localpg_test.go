package localpg

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/sethvargo/go-retry"
)

func startTemporary(t *testing.T, settings ...string) *Server {
	t.Helper()

	server, err := StartTemporary(t.Context(), settings...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})

	return server
}

func TestStartTemporary(t *testing.T) {
	t.Parallel()

	server := startTemporary(t, "max_connections=17", "fsync=on")
	for name, dsn := range map[string]string{"socket": server.DSN("postgres"), "TCP": server.TCP("postgres")} {
		const query = `SELECT concat_ws(' ', current_user, current_setting('max_connections'), current_setting('fsync'),
			current_setting('synchronous_commit'), current_setting('server_encoding'), current_setting('TimeZone'))`
		if got, want := ask(t, dsn, query), "bidder 17 on off UTF8 UTC"; got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}

	const invalidPassword = "28P01"
	stranger := strings.ReplaceAll(server.TCP("postgres"), server.password, "guess")
	_, err := pgx.Connect(t.Context(), stranger)
	if refusal, ok := errors.AsType[*pgconn.PgError](err); !ok || refusal.Code != invalidPassword {
		t.Errorf("over TCP without the password: %v", err)
	}
}

func TestStopLeavesNothing(t *testing.T) {
	t.Parallel()

	server, err := StartTemporary(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	pid := server.cmd.Process.Pid
	for range 2 { // again does nothing
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	}
	if alive(pid) {
		t.Error("the server still runs")
	}
	if _, err := os.Stat(server.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory is still there: %v", err)
	}
}

func TestBadSetting(t *testing.T) {
	t.Parallel()

	_, err := StartTemporary(t.Context(), "no_such_setting=1")
	if !errors.Is(err, ErrEnded) || !strings.Contains(err.Error(), "no_such_setting") {
		t.Errorf("got %v, want that the server ended, and why", err)
	}
}

// A crash loses nothing, and the same cluster can be started again.
func TestStopImmediateAndStart(t *testing.T) {
	t.Parallel()

	server := startTemporary(t, "fsync=on", "synchronous_commit=on", "full_page_writes=on")
	ask(t, server.DSN("postgres"), "CREATE TABLE kept AS SELECT 'kept' AS value; SELECT ''")
	for _, mode := range []Mode{Immediate, Fast} {
		if err := server.Process.Stop(t.Context(), mode); err != nil {
			t.Fatal(err)
		}
		process, err := server.Start(nil)
		if err != nil {
			t.Fatal(err)
		}
		server.Process = process
		if err := server.Ready(t.Context(), process.Done()); err != nil {
			t.Fatal(err)
		}
		if got := ask(t, server.DSN("postgres"), "SELECT value FROM kept"); got != "kept" {
			t.Errorf("got %q", got)
		}
	}
}

func TestServerEndsWithKilledParent(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux tells a process that its parent has ended")
	}

	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	parent := exec.CommandContext(t.Context(), program)
	parent.Env = append(os.Environ(), "LOCALPG_TEST_PARENT=1")
	stdout, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	var dir string
	_, scanErr := fmt.Fscan(stdout, &pid, &dir)
	defer os.RemoveAll(dir)
	if err := parent.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = parent.Wait()
	if scanErr != nil {
		t.Fatal(scanErr)
	}

	wait := retry.WithMaxDuration(10*time.Second, retry.NewConstant(10*time.Millisecond))
	err = retry.Do(t.Context(), wait, func(context.Context) error {
		if alive(pid) {
			return retry.RetryableError(errors.New("the server outlives its parent"))
		}

		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestInitSaysWhatIsWrong(t *testing.T) {
	t.Parallel()

	bin, err := FindBinaries()
	if err != nil {
		t.Fatal(err)
	}
	owner, err := DefaultOwner()
	if err != nil {
		t.Fatal(err)
	}
	err = Cluster{Data: "/proc/nowhere", Command: Local(bin, "/", owner)}.Init(t.Context())
	if err == nil || !strings.Contains(err.Error(), "/proc/nowhere") {
		t.Errorf("got %v, want what initdb says", err)
	}
}

func TestAllBinaries(t *testing.T) {
	t.Parallel()

	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	install := func(dir string, programs ...string) {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o700); err != nil {
			t.Fatal(err)
		}
		for _, program := range programs {
			if err := os.WriteFile(filepath.Join(root, dir, program), nil, 0o700); err != nil {
				t.Fatal(err)
			}
		}
	}
	install("lib/9.6/bin", "initdb", "postgres")
	install("lib/15/bin", "initdb", "postgres")
	install("lib/17/bin", "initdb", "postgres", "psql")
	install("lib/18/bin", "psql") // the client only
	install("pgsql-16/bin", "initdb", "postgres")
	install("wrappers", "psql")
	install("links")
	for _, program := range []string{"initdb", "postgres"} {
		if err := os.Symlink(filepath.Join(root, "lib/15/bin", program), filepath.Join(root, "links", program)); err != nil {
			t.Fatal(err)
		}
	}
	packages := []string{"lib/*/bin", "pgsql-*/bin"}

	tests := []struct {
		name   string
		pgbin  string
		path   []string
		places []string
		want   []string
	}{
		{name: "nothing", places: []string{"none/*/bin", "wrappers"}},
		{name: "newest first", places: packages, want: []string{"lib/17/bin", "pgsql-16/bin", "lib/15/bin", "lib/9.6/bin"}},
		{name: "PATH first", path: []string{"links"}, places: packages, want: []string{"lib/15/bin", "lib/17/bin", "pgsql-16/bin", "lib/9.6/bin"}},
		{name: "client on PATH", path: []string{"wrappers", "lib/18/bin"}, places: []string{"pgsql-*/bin"}, want: []string{"pgsql-16/bin"}},
		{name: "PGBIN only", pgbin: "lib/15/bin", path: []string{"lib/17/bin"}, places: packages, want: []string{"lib/15/bin"}},
		{name: "PGBIN without a server", pgbin: "lib/18/bin", places: packages},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()

			within := func(dirs []string) []string {
				full := make([]string, 0, len(dirs))
				for _, dir := range dirs {
					full = append(full, filepath.Join(root, dir))
				}

				return full
			}
			pgbin := tt.pgbin
			if pgbin != "" {
				pgbin = filepath.Join(root, pgbin)
			}
			got, err := allBinaries(pgbin, within(tt.path), within(tt.places))
			if diff := cmp.Diff(within(tt.want), got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("want -, got +\n%s", diff)
			}
			if (tt.want == nil) != errors.Is(err, ErrNoBinaries) {
				t.Errorf("error: %v", err)
			}
		})
	}
}

func alive(pid int) bool { return !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }

// ask returns the one value that the query returns.
func ask(t *testing.T, dsn, query string) (answer string) {
	t.Helper()

	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	err = conn.QueryRow(t.Context(), query, pgx.QueryExecModeSimpleProtocol).Scan(&answer)
	if errors.Is(err, pgx.ErrNoRows) {
		err = nil
	}
	if err := errors.Join(err, conn.Close(t.Context())); err != nil {
		t.Fatal(err)
	}

	return answer
}
