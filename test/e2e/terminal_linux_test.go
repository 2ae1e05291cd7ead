package e2e

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// terminal is a new terminal with so many columns: what programs are given, and what shows on it.
func terminal(t *testing.T, columns int) (slave *os.File, shown func() string) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	var name int
	control, err := master.SyscallConn()
	if err == nil {
		var ioctlErr error
		err = control.Control(func(fd uintptr) {
			if ioctlErr = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); ioctlErr == nil {
				name, ioctlErr = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
			}
			if ioctlErr == nil {
				ioctlErr = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: 40, Col: uint16(columns)})
			}
		})
		if err == nil {
			err = ioctlErr
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	if slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", name), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	text := make(chan string, 1)
	go func() {
		read, _ := io.ReadAll(master) // an error is the end of all who had it open
		text <- string(read)
	}()
	t.Cleanup(func() { _, _ = slave.Close(), master.Close() })
	return slave, func() string {
		_ = slave.Close()
		return strings.ReplaceAll(<-text, "\r\n", "\n")
	}
}

// onTerminal has a call print on a terminal.
func (c call) onTerminal(t *testing.T, columns int) string {
	t.Helper()
	screen, shown := terminal(t, columns)
	c.output = screen
	c.run(t).want(t, 0)
	return shown()
}

// TestOnATerminal: reports fit it, and are in colour unless that is not wanted. JSON does not change.
func TestOnATerminal(t *testing.T) {
	t.Parallel()
	f := setup(t)
	id := f.claim("~01\u200babc")[0]
	show := f.call("bids").with("TERM=xterm")
	for _, columns := range []int{80, 160} {
		shown := show.onTerminal(t, columns)
		if !strings.Contains(shown, id) || !strings.Contains(shown, "~01<U+200B>abc") || !strings.Contains(shown, "\x1b[32mACTIVE\x1b[0m") {
			t.Errorf("on %d columns:\n%q", columns, shown)
		}
		if lines := strings.Count(shown, "\n"); lines != map[int]int{80: 4, 160: 2}[columns] { // a bid takes two lines where it has to
			t.Errorf("%d lines on %d columns:\n%s", lines, columns, shown)
		}
	}
	for _, unwanted := range []string{"NO_COLOR=1", "TERM=dumb", "TERM="} {
		if shown := show.with(unwanted).onTerminal(t, 80); strings.Contains(shown, "\x1b") {
			t.Errorf("with %s: %q", unwanted, shown)
		}
	}
	piped := show.json().run(t).want(t, 0).stdout
	if shown := show.json().onTerminal(t, 80); shown != piped || !strings.Contains(piped, `~01\u200babc`) {
		t.Errorf("JSON on a terminal:\n%q\nand in a pipe:\n%q", shown, piped)
	}
}

// TestProgress: long work shows how far it is on a terminal, where logs do not run into it, and
// nowhere else; the report is the same.
func TestProgress(t *testing.T) {
	t.Parallel()
	f := setup(t)
	all, _ := lines(1000)
	postings := file(t, "postings.ndjson", all...)
	program, err := built.path()
	if err != nil {
		t.Fatal(err)
	}
	screen, shown := terminal(t, 100)
	cmd := exec.Command(program, "run", "--postings", postings, "--cached-at", "now", "-o", "json")
	cmd.Env = []string{"GORACE=atexit_sleep_ms=0", "TERM=xterm", "DATABASE_URL=" + f.URL}
	cmd.Stderr = screen
	stdout, err := cmd.Output()
	text := shown()
	if err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	if report := decode[runReport](t, result{stdout: string(stdout)}); report.Outcomes["claimed"] != len(all) {
		t.Errorf("%d postings: %s", len(all), stdout)
	}
	for _, want := range []string{"reading ", "claiming ", "(1000/1000, ", "attempts/s", "delivering "} {
		if !strings.Contains(text, want) {
			t.Errorf("progress does not show %q:\n%q", want, text)
		}
	}
	for line := range strings.Lines(text) {
		if before, _, logged := strings.Cut(line, "time="); logged && before != "" && !strings.HasSuffix(before, "\r\x1b[K") {
			t.Errorf("a log runs into the progress: %q", line)
		}
	}
	quiet := f.call("ingest", "--cached-at", "now", postings).with("TERM=xterm", "BIDDER_LOG_LEVEL=error").run(t).want(t, 0)
	if quiet.stderr != "" {
		t.Errorf("progress without a terminal: %q", quiet.stderr)
	}
}
