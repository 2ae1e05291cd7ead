package e2e

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/arbitrageai/bidder/pkg/localpg"
)

// private is a state directory for a private Postgres, and who uses it.
type private struct {
	t     *testing.T
	dir   string // the one that holds it
	state string
	user  *syscall.Credential
}

// newPrivate returns a state directory that does not exist yet. Whatever still runs in it after
// the test is an error.
func newPrivate(t *testing.T, user *syscall.Credential) *private {
	t.Helper()
	if _, err := localpg.FindBinaries(); err != nil {
		t.Skip(err)
	}
	base := "/dev/shm" // the server syncs to disk all the time
	if _, err := os.Stat(base); err != nil {
		base = ""
	}
	dir, err := os.MkdirTemp(base, "e2e-") //nolint:usetesting // which is closed to others
	if err != nil {
		t.Fatal(err)
	}
	p := &private{t: t, dir: dir, state: filepath.Join(dir, "state"), user: user}
	t.Cleanup(func() {
		p.awaitEnd()
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if user != nil {
		if err := os.Chown(dir, int(user.Uid), int(user.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// call is a call on the private server.
func (p *private) call(args ...string) call {
	return call{args: append([]string{"--embedded"}, args...), env: []string{"BIDDER_STATE_DIR=" + p.state}, user: p.user}
}

// servers are the processes of PostgreSQL servers on the state directory, without their own children.
func (p *private) servers() []int { return p.processes("postgres\x00-D\x00") }

// processes are those whose command line names the directory and has the text.
func (p *private) processes(text string) []int {
	p.t.Helper()
	paths, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		p.t.Fatal(err)
	}
	var pids []int
	for _, path := range paths {
		line, _ := os.ReadFile(path) // it may have ended
		if bytes.Contains(line, []byte(p.dir)) && bytes.Contains(line, []byte(text)) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			pids = append(pids, pid)
		}
	}
	return pids
}

// awaitEnd waits until nothing runs in the directory.
func (p *private) awaitEnd() {
	p.t.Helper()
	eventually(p.t, "nothing runs in "+p.dir, func() bool { return len(p.processes("")) == 0 })
}

// use starts a pass that has claimed what it found, and does not end before its input does.
func (p *private) use(postings ...string) (process *process, end *os.File) {
	p.t.Helper()
	c := p.call("run", "--postings", "-", "--cached-at", "now", "-o", "json")
	c.input, end = pipe(p.t)
	if _, err := end.WriteString(strings.Join(postings, "\n") + "\n"); err != nil {
		p.t.Fatal(err)
	}
	return c.start(p.t), end
}

func TestEmbedded(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		user *syscall.Credential
	}{
		{name: "as this user"},
		{name: "as nobody", user: &syscall.Credential{Uid: 65534, Gid: 65534}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if tt.user != nil && os.Geteuid() != 0 {
				t.Skip("only root can be somebody else")
			}
			p := newPrivate(t, tt.user)
			first := decode[runReport](t, p.call("run", "--postings", "-", "--cached-at", "now", "-o", "json").reading(line("1"), line("2")).run(t).want(t, 0))
			if first.Outcomes["claimed"] != 2 {
				t.Errorf("got %v", first.Outcomes)
			}
			p.awaitEnd() // the server goes with the program
			second := decode[runReport](t, p.call("run", "--postings", "-", "--cached-at", "now", "-o", "json").reading(line("1"), line("3")).run(t).want(t, 0))
			if second.Outcomes["claimed"] != 1 || second.Outcomes["duplicate"] != 1 {
				t.Errorf("got %v: the first run's bids are not there", second.Outcomes)
			}
			if bids := decode[list[bidJSON]](t, p.call("bids", "-o", "json").run(t).want(t, 0)); len(bids.Items) != 3 {
				t.Errorf("got bids %+v", bids)
			}
			report := decode[doctorReport](t, p.call("doctor", "-o", "json").run(t).want(t, 0))
			for _, c := range report.Checks {
				if c.Level != "ok" && c.Level != "note" {
					t.Errorf("%s: %s: %s", c.Name, c.Level, c.Message)
				}
			}
		})
	}
}

// TestEmbeddedShared has two processes at once on one private server.
func TestEmbeddedShared(t *testing.T) {
	t.Parallel()
	p := newPrivate(t, nil)
	first, endFirst := p.use(line("1"), line("2"))
	second, endSecond := p.use(line("1"), line("2"))
	// Both have a server when a third one sees both of their runs.
	eventually(t, "both are at work", func() bool {
		return decode[statsReport](t, p.call("stats", "-o", "json").run(t).want(t, 0)).Runs == 2
	})
	if servers := p.servers(); len(servers) != 1 {
		t.Errorf("servers: %v", servers)
	}
	_ = endFirst.Close()
	claimed := decode[runReport](t, first.wait().want(t, 0)).Outcomes["claimed"]
	if servers := p.servers(); len(servers) != 1 {
		t.Errorf("servers when one of two has left: %v", servers)
	}
	_ = endSecond.Close()
	claimed += decode[runReport](t, second.wait().want(t, 0)).Outcomes["claimed"]
	if claimed != 2 {
		t.Errorf("%d bids were claimed", claimed)
	}
	p.awaitEnd()
}

// TestEmbeddedKill: a program that is killed leaves neither a server nor a broken directory.
func TestEmbeddedKill(t *testing.T) {
	t.Parallel()
	p := newPrivate(t, nil)
	p.call("run", "--postings", "-", "--cached-at", "now").reading(line("1")).run(t).want(t, 0)
	process, _ := p.use(line("2"))
	eventually(t, "the server runs", func() bool { return len(p.servers()) == 1 })
	server := p.servers()
	process.kill()
	p.awaitEnd()

	report := decode[runReport](t, p.call("run", "--reconsider", "-o", "json").run(t).want(t, 0))
	if report.Outcomes["failed"] != 0 {
		t.Errorf("got %v", report.Outcomes)
	}
	if bids := decode[list[bidJSON]](t, p.call("bids", "-o", "json").run(t).want(t, 0)); len(bids.Items) == 0 {
		t.Error("the first run's bid is lost")
	}
	if again := p.servers(); slices.Equal(again, server) {
		t.Errorf("the old server runs: %v", again)
	}

	// A signal ends it in the orderly way.
	process, _ = p.use(line("3"))
	eventually(t, "the server runs", func() bool { return len(p.servers()) == 1 })
	process.signal(syscall.SIGTERM)
	process.wait().want(t, 143)
}

// TestEmbeddedPlaces: where the private server lives when nobody says so, and when it is not used at all.
func TestEmbeddedPlaces(t *testing.T) {
	t.Parallel()
	p := newPrivate(t, nil)
	home := p.dir
	for _, env := range [][]string{
		{"XDG_STATE_HOME=" + home + "/xdg", "HOME=" + home},
		{"BIDDER_STATE_DIR=" + home + "/own", "XDG_STATE_HOME=" + home + "/xdg", "HOME=" + home},
	} {
		call{args: []string{"stats"}, env: append(env, "BIDDER_EMBEDDED=true")}.run(t).want(t, 0)
	}
	for _, dir := range []string{"xdg/bidder", "own"} {
		if info, err := os.Stat(filepath.Join(home, dir)); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, %v", dir, info, err)
		}
	}
	const address = "DATABASE_URL=postgres://x@127.0.0.1:1/x"
	p.call("stats").with(address).run(t).want(t, 0) // the flag says which of the two is meant
	both := call{args: []string{"stats"}, env: []string{address, "BIDDER_EMBEDDED=true", "BIDDER_STATE_DIR=" + p.state}}
	both.run(t).wantError(t, 2, "BIDDER_EMBEDDED", "DATABASE_URL")
}
