package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// crashPostings are bid on 10 at a time, in key order, by a pass that stalls in its 6th batch.
const (
	crashPostings = 100
	crashBatch    = "10"
	crashStall    = "00055"
	crashDone     = 50 // postings before that batch
	crashCounted  = 40 // of those: the answer to the last COMMIT comes with that of the batch that it was sent with
)

// stalled is a pass in the middle of its claims.
func stalled(t *testing.T) (*fixture, *process) {
	t.Helper()
	f := setup(t)
	all, _ := lines(crashPostings)
	f.ingest(all...)
	f.stallAt(crashStall)
	p := f.start("run", "--workers", "1", "--batch", crashBatch, "--statement-timeout", "1m", "-o", "json")
	f.awaitStalled(1)
	return f, p
}

// TestKill ends a pass as a crash or the OOM killer does.
func TestKill(t *testing.T) {
	t.Parallel()
	f, p := stalled(t)
	f.await("the counters are written", "EXISTS (SELECT FROM runs WHERE counters #>> '{outcomes,claimed}' = $1::int::text)", crashCounted)
	p.kill()
	f.openGate()
	f.awaitUnlocked()
	f.wantCount(crashDone, "bids WHERE status = 'ACTIVE'")
	f.wantCount(1, `runs WHERE kind = 'run' AND finished_at IS NULL AND exit_code IS NULL
		AND counters ->> 'lock_attempts' = $1::int::text AND counters ->> 'lock_successes' = $1::int::text`, crashCounted)

	next := decode[runReport](t, f.bidder("run", "-o", "json").want(t, 0))
	if got := next.Outcomes["claimed"]; got != crashPostings-crashDone || next.Attempts != got {
		t.Errorf("the next pass ended in %v", next.Outcomes)
	}
	f.wantRecorded(next)
	f.wantCount(crashPostings, "bids WHERE status = 'ACTIVE'")
	f.wantCount(0, "candidates")
	if stats := f.bidder("stats").want(t, 0).stdout; !strings.Contains(stats, "1 runs are under way or were killed") {
		t.Errorf("stats do not tell of the killed run:\n%s", stats)
	}
}

// TestInterrupt ends a pass as Kubernetes, or a person at the keyboard, does.
func TestInterrupt(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		signal syscall.Signal
		code   int
	}{
		{name: "SIGTERM", signal: syscall.SIGTERM, code: 143},
		{name: "SIGINT", signal: syscall.SIGINT, code: 130},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f, p := stalled(t)
			p.signal(tt.signal)
			eventually(t, "the signal is taken", func() bool { return !p.pending() })
			f.openGate()
			report := decode[runReport](t, p.wait().want(t, tt.code))

			// The batch that was under way ended well, and no other was begun.
			if report.Outcomes["claimed"] != crashDone+10 || report.Attempts != crashDone+10 {
				t.Errorf("the interrupted pass ended in %v", report.Outcomes)
			}
			f.wantRecorded(report)
			f.wantCount(1, "runs WHERE exit_code = $1", tt.code)
			next := decode[runReport](t, f.bidder("run", "-o", "json").want(t, 0))
			if next.Outcomes["claimed"] != crashPostings-crashDone-10 {
				t.Errorf("the next pass ended in %v", next.Outcomes)
			}
			f.wantCount(crashPostings, "bids WHERE status = 'ACTIVE'")
		})
	}
}

// TestSecondSignal: who cannot wait for the end of the batch asks again.
func TestSecondSignal(t *testing.T) {
	t.Parallel()
	f, p := stalled(t)
	eventually(t, "the process ends at once", func() bool {
		select {
		case <-p.ended:
			return true
		default:
			_ = p.cmd.Process.Signal(syscall.SIGTERM) // which may have ended
			return false
		}
	})
	// It exits: in a container, where it is the first process, it could not die of the signal.
	if r := p.wait().want(t, 143); r.stdout != "" {
		t.Errorf("it printed %s", r.stdout)
	}
	f.openGate()
	f.awaitUnlocked()
	f.bidder("run").want(t, 0)
	f.wantCount(crashPostings, "bids WHERE status = 'ACTIVE'")
}

// pending says whether a signal has yet to reach the program, which says when it has.
func (p *process) pending() bool {
	return !strings.Contains(p.stderr.String(), "ending what is under way")
}

// TestInterruptWhileOpening: a named pipe that nobody writes to is waited for until a signal comes.
func TestInterruptWhileOpening(t *testing.T) {
	t.Parallel()
	f := setup(t)
	written, silent := fifo(t), fifo(t)
	f.untouched(func() {
		p := f.start("ingest", written, silent)
		writer := writeTo(t, written) // from then on signals are taken
		p.signal(syscall.SIGTERM)
		p.wait().wantError(t, 143, "interrupted")
		_ = writer.Close()
	})

	// Somebody who comes later is waited for.
	p := f.start("ingest", "--cached-at", "now", written, silent)
	for i, name := range []string{written, silent} {
		writer := writeTo(t, name)
		if _, err := fmt.Fprintln(writer, line(strconv.Itoa(i))); err != nil {
			t.Error(err)
		}
		if err := writer.Close(); err != nil {
			t.Error(err)
		}
	}
	p.wait().want(t, 0)
	f.wantCount(2, "postings")
}

// fifo makes a named pipe.
func fifo(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(name, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// writeTo opens a named pipe once somebody reads from it.
func writeTo(t *testing.T, name string) (writer *os.File) {
	t.Helper()
	eventually(t, "somebody reads from "+name, func() (opened bool) {
		var err error
		writer, err = os.OpenFile(name, os.O_WRONLY|syscall.O_NONBLOCK, 0)
		return err == nil
	})
	return writer
}

// TestInterruptBeforeClaims interrupts commands where they wait for something else than a claim.
func TestInterruptBeforeClaims(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		args []string
		// stall is a table whose lock stops the command; without one its input has no end.
		stall string
		// report tells that there is one: the pass had begun.
		report bool
	}{
		{name: "run that reads", args: []string{"run", "--postings", "-", "--cached-at", "now", "-o", "json"}, report: true},
		{name: "ingest that reads", args: []string{"ingest", "--cached-at", "now", "-", "-o", "json"}},
		{name: "ingest that writes", args: []string{"ingest", "--cached-at", "now", "-", "-o", "json"}, stall: "postings"},
		{name: "run that begins", args: []string{"run", "-o", "json"}, stall: "runs"},
		{name: "bid that begins", args: []string{"bid", "upwork", "1", "-o", "json"}, stall: "runs"},
		{name: "bids", args: []string{"bids", "-o", "json"}, stall: "bids"},
		{name: "stats", args: []string{"stats", "-o", "json"}, stall: "runs"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			c := f.call(tt.args...).reading(line("1"))
			if tt.stall != "" {
				f.execIn(f.begin(), "LOCK TABLE "+tt.stall+" IN ACCESS EXCLUSIVE MODE")
			} else {
				c.input, _ = pipe(t)
			}
			p := c.with("BIDDER_STATEMENT_TIMEOUT=1m").start(t)
			f.await("the command waits", `EXISTS (SELECT FROM pg_stat_activity
				WHERE datname = current_database() AND application_name LIKE 'bidder %'
					AND CASE WHEN $1 THEN state = 'idle' AND query LIKE '%-- name: Now%' ELSE wait_event_type = 'Lock' END)`, tt.stall == "")
			began := time.Now()
			p.signal(syscall.SIGTERM)
			r := p.wait().want(t, 143)
			if took := time.Since(began); took > patience/2 {
				t.Errorf("it took %v to end", took)
			}
			if tt.report {
				f.wantRecorded(decode[runReport](t, r))
				f.wantCount(1, "runs WHERE exit_code = 143")
			} else if r.stdout != "" {
				t.Errorf("stdout is not empty: %s", r.stdout)
			}
		})
	}
}
