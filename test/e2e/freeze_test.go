package e2e

import (
	"os"
	"strings"
	"syscall"
	"testing"
)

// freeze stops a process as a frozen machine would: its connections stay open, and silent.
func (p *process) freeze() {
	p.t.Helper()
	p.signal(syscall.SIGSTOP)
	eventually(p.t, "the process is stopped", func() bool {
		status, err := os.ReadFile("/proc/" + p.pid() + "/stat")
		return err == nil && strings.Contains(string(status), ") T ")
	})
}

func (p *process) thaw() {
	p.t.Helper()
	p.signal(syscall.SIGCONT)
}

// TestFrozenHolder freezes a process that holds the lock of a posting: the server must cut it, the
// next one must get the posting, and the frozen one must have written nothing and know it.
func TestFrozenHolder(t *testing.T) {
	t.Parallel()
	for _, write := range []string{writeBeforePause, writeAfterPause} {
		t.Run("writes "+write, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			f.ingest(line("hot"))
			self, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			stdin, goOn := pipe(t)
			holder := call{program: self, args: []string{holdCommand, f.URL, "hot", write}, input: stdin}.start(t)
			eventually(t, "the holder has the lock", func() bool { return holder.stdout.String() == "locked\n" })
			holder.freeze()
			if report := decode[bidReport](t, f.bidder("bid", "upwork", "hot", "--lock-wait", "0", "-o", "json").want(t, 3)); report.Outcome != "locked" {
				t.Errorf("while the lock is held: %s", report.Outcome)
			}

			// The wait is longer than the lock may live, so the next worker needs no other help.
			next := decode[bidReport](t, f.bidder("bid", "upwork", "hot", "--lock-wait", "10s", "-o", "json").want(t, 0))

			holder.thaw()
			if err := goOn.Close(); err != nil {
				t.Fatal(err)
			}
			if r := holder.wait(); r.code != holdExpired {
				t.Errorf("the thawed holder ended with %d: %s%s", r.code, r.stdout, r.stderr)
			}
			f.wantCount(1, "bids WHERE status = 'ACTIVE' AND id = $1::text::uuid", next.BidID)
			f.wantCount(0, "bids WHERE proposal = 'of the holder'")
		})
	}
}

// TestHolder shows that the holder of the test above writes when nobody freezes it.
func TestHolder(t *testing.T) {
	t.Parallel()
	f := setup(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if r := (call{program: self, args: []string{holdCommand, f.URL, "hot", writeAfterPause}}).run(t); r.code != holdDone {
		t.Errorf("the holder ended with %d: %s%s", r.code, r.stdout, r.stderr)
	}
	f.wantCount(1, "bids WHERE proposal = 'of the holder'")
}

// TestFrozenRun freezes a pass in the middle of its claim, after it has written its bids.
func TestFrozenRun(t *testing.T) {
	t.Parallel()
	f := setup(t)
	all, _ := lines(10)
	f.ingest(all...)
	f.stallAt("00005")
	frozen := f.start("run", "--workers", "1", "--lock-ttl", "2s", "--statement-timeout", "1m", "-o", "json")
	f.awaitStalled(1)
	frozen.freeze()
	f.openGate()
	f.awaitUnlocked()
	f.wantCount(0, "bids")

	next := decode[runReport](t, f.bidder("run", "-o", "json").want(t, 0))
	if next.Outcomes["claimed"] != 10 {
		t.Errorf("the next pass ended in %v", next.Outcomes)
	}

	frozen.thaw()
	// Its locks are lost and nothing of it is written, so it tries again, and finds the others' bids.
	thawed := decode[runReport](t, frozen.wait().want(t, 0))
	if thawed.Outcomes["duplicate"] != 10 {
		t.Errorf("the thawed pass ended in %v", thawed.Outcomes)
	}
	f.wantRecorded(thawed)
	f.wantCount(10, "bids WHERE status = 'ACTIVE' AND run_id = $1::text::uuid", next.RunID)
	f.wantCount(10, "bids")
}

// TestFrozenBid does so with an attempt by hand.
func TestFrozenBid(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.ingest(line("hot"))
	f.stallAt("hot")
	frozen := f.start("bid", "upwork", "hot", "--lock-ttl", "2s", "--statement-timeout", "1m", "-o", "json")
	f.awaitStalled(1)
	frozen.freeze()
	f.openGate()
	next := decode[bidReport](t, f.bidder("bid", "upwork", "hot", "--lock-wait", "10s", "-o", "json").want(t, 0))
	frozen.thaw()
	thawed := decode[bidReport](t, frozen.wait().want(t, 4))
	// It learns of its end from the server's last words, or by asking what became of its COMMIT.
	if detail := orNone(thawed.Detail); thawed.Outcome != "failed" || thawed.BidID != nil ||
		detail != "lock_expired" && detail != "connection_lost" {
		t.Errorf("the thawed attempt ended in %s (%s), bid %s", thawed.Outcome, orNone(thawed.Detail), orNone(thawed.BidID))
	}
	f.wantCount(1, "bids WHERE status = 'ACTIVE' AND id = $1::text::uuid", next.BidID)
	f.wantCount(1, "bids")
}
