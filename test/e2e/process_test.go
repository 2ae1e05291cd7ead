package e2e

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait for what must happen; a busy machine needs a while.
const patience = 75 * time.Second

// call is one call of the program.
type call struct {
	args []string
	// env is the whole environment, but for what the race detector needs.
	env   []string
	stdin string
	// input, if set, takes the place of stdin. The test writes to its other end while the process runs.
	input *os.File
	// user runs it, if set.
	user *syscall.Credential
	// program, if set, is run in place of bidder.
	program string
	// output takes the place of the captured stdout.
	output *os.File
}

// process is a call under way.
type process struct {
	t              *testing.T
	cmd            *exec.Cmd
	stdout, stderr output
	ended          chan struct{}
}

// output collects what a process writes, and can be read meanwhile.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// result is what a call came to. A process that a signal has ended has the code -1.
type result struct {
	stdout, stderr string
	code           int
}

// start starts the call. The process is killed with the test. Like everything on a process it
// may be called from any goroutine of the test.
func (c call) start(t *testing.T) *process {
	t.Helper()
	program := c.program
	if program == "" {
		var err error
		if program, err = built.path(); err != nil {
			panic(err)
		}
	}
	p := &process{t: t, cmd: exec.Command(program, c.args...), ended: make(chan struct{})}
	// With -race every process would sleep for a second before it ends, for reports yet to come.
	p.cmd.Env = append([]string{"GORACE=atexit_sleep_ms=0", "PATH=/usr/local/bin:/usr/bin:/bin"}, c.env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	if c.output != nil {
		p.cmd.Stdout = c.output
	}
	p.cmd.Stdin = strings.NewReader(c.stdin)
	if c.input != nil {
		p.cmd.Stdin = c.input
	}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c.user}
	if err := p.cmd.Start(); err != nil {
		panic(err)
	}
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait() // the exit code is asserted
	}()
	t.Cleanup(p.kill)
	return p
}

// run runs the call to its end.
func (c call) run(t *testing.T) result {
	t.Helper()
	return c.start(t).wait()
}

// wait waits for the end of the process.
func (p *process) wait() result {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(patience):
		p.t.Errorf("%q does not end; stdout: %s\nstderr: %s", p.cmd.Args[1:], p.stdout.String(), p.stderr.String())
		p.kill()
	}
	r := result{stdout: p.stdout.String(), stderr: p.stderr.String(), code: p.cmd.ProcessState.ExitCode()}
	if strings.Contains(r.stderr, "DATA RACE") {
		p.t.Errorf("%q: %s", p.cmd.Args[1:], r.stderr)
	}
	return r
}

// signal sends the process a signal.
func (p *process) signal(number syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(number); err != nil {
		p.t.Errorf("send %v to %q: %v", number, p.cmd.Args[1:], err)
	}
}

// kill ends the process as kill -9 does, also one that is stopped, and waits until it is gone.
func (p *process) kill() {
	if err := p.cmd.Process.Signal(syscall.SIGKILL); err == nil || errors.Is(err, syscall.ESRCH) {
		<-p.ended
	}
}

// want checks an exit code.
func (r result) want(t *testing.T, code int) result {
	t.Helper()
	if r.code != code {
		t.Fatalf("got exit code %d, want %d\nstdout: %s\nstderr: %s", r.code, code, r.stdout, r.stderr)
	}
	return r
}

// wantError checks the exit code of a call that must not report anything, and what it says.
func (r result) wantError(t *testing.T, code int, says ...string) {
	t.Helper()
	r.want(t, code)
	if r.stdout != "" {
		t.Errorf("stdout is not empty: %s", r.stdout)
	}
	for _, text := range says {
		if !strings.Contains(r.stderr, text) {
			t.Errorf("stderr does not say %q: %s", text, r.stderr)
		}
	}
}

func (p *process) pid() string { return strconv.Itoa(p.cmd.Process.Pid) }

// pipe is an input without an end, until the test closes it.
func pipe(t *testing.T) (input, end *os.File) {
	t.Helper()
	input, end, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = input.Close(), end.Close() })
	return input, end
}
