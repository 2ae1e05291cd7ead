package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
)

// fate is what happens to a pass.
type fate struct {
	kind  string
	after time.Duration // its start
	lasts time.Duration
}

// longestPass is after how long a pass counts as hanging. One that has all of a long storm to deliver takes a while.
const longestPass = 20 * time.Minute

const (
	fateNone       = ""
	fateKill       = "kill a worker"
	fateTerminate  = "interrupt a worker"
	fatePause      = "freeze a worker"
	fateDisconnect = "take a worker off the network"
	fateClock      = "step a worker's clock"
)

// draw decides about a pass. How often it asks for a number never depends on what happens, so that a seed always
// means the same.
func draw(random *rand.Rand) (f fate, every bool, step time.Duration) {
	n := random.IntN(100)
	f.after = time.Duration(random.IntN(3000)) * time.Millisecond
	f.lasts = time.Duration(1000+random.IntN(int(2*lease/time.Millisecond))) * time.Millisecond
	step = time.Duration(random.IntN(480)-240) * time.Second // signatures of a clock that is further off are refused
	every = random.IntN(5) == 0
	for _, choice := range []struct {
		below int
		kind  string
	}{{25, fateKill}, {32, fateTerminate}, {45, fatePause}, {55, fateDisconnect}, {65, fateClock}} {
		if n < choice.below {
			f.kind = choice.kind
			return f, every, step
		}
	}
	return f, every, step
}

// worker starts passes again and again, as cron does.
func (s *storm) worker(ctx context.Context, n int) {
	random := s.random(fmt.Sprintf("worker %d", n))
	for pass := 0; ctx.Err() == nil && !s.done.Load(); pass++ {
		f, every, step := draw(random)
		if !s.raging() {
			f, every = fate{}, false
		}
		s.pass(ctx, n, fmt.Sprintf("w%d-%d", n, pass), f, every, step)
	}
}

// pass is one docker run.
func (s *storm) pass(ctx context.Context, n int, name string, f fate, every bool, step time.Duration) {
	program, more := "/bidder", []string(nil)
	if f.kind == fateClock {
		program, more = "/bidder-stepped", []string{"--env", "CLOCK_STEP=" + step.String(), "--env", "CLOCK_STEP_AFTER=" + f.after.String()}
	}
	args := []string{"run", "-o", "json"}
	var lines []byte
	var chunk []int
	if every {
		args = append(args, "--every", "500ms")
	} else if chunk = s.feed.take(); len(chunk) > 0 {
		lines = s.feed.lines(chunk)
		args = append(args, "--postings", "-", "--cached-at", "now")
	}
	ctx, cancel := context.WithCancel(ctx)
	var happening sync.WaitGroup
	happening.Go(func() { s.befall(ctx, name, f, every) })
	out, said, code := s.launch(ctx, n, name, lines, more, append([]string{program}, args...)...)
	cancel()
	happening.Wait()

	if len(chunk) > 0 {
		s.feed.done(chunk, code == 0 || code == 3)
	}
	if f.kind == fateClock {
		s.tally.event(f.kind)
	}
	s.tally.pass(code)
	// Nothing that a storm does is an internal error, or wrong usage. What is interrupted before it has begun ends with
	// 2, too, as the first process of a container, and says nothing.
	if s.bug.name == "" && (code == 1 || code == 2 && said) {
		s.violations.addf("a pass failed", "exit code %d, see worker-%d.log", code, n)
	}
	s.claimed(out)
}

// befall lets a fate happen.
func (s *storm) befall(ctx context.Context, name string, f fate, every bool) {
	container := s.world.engine.of(name)
	if !sleep(ctx, f.after) {
		return
	}
	always := context.WithoutCancel(ctx) // what was begun is ended
	var err error
	switch f.kind {
	case fateKill:
		_, err = docker(always, "kill", container)
	case fateTerminate:
		_, err = docker(always, "kill", "--signal", "TERM", container)
	case fatePause:
		if _, err = docker(always, "pause", container); err == nil {
			sleep(ctx, f.lasts)
			_ = repeat(func() error { _, err := docker(always, "unpause", container); return err }) // it may have been removed
		}
	case fateDisconnect:
		network := s.world.engine.of("work")
		if _, err = docker(always, "network", "disconnect", network, container); err == nil {
			if sleep(ctx, f.lasts) {
				_, _ = docker(always, "network", "connect", network, container)
			}
		}
	}
	if err == nil && f.kind != fateNone && f.kind != fateClock {
		s.tally.event(f.kind)
	}
	if every && sleep(ctx, f.lasts) { // it would go on for ever
		_, _ = docker(always, "kill", "--signal", "TERM", container)
	}
}

// launch runs a program of the image in a worker's place, to its end, and returns what it printed, whether it complained,
// and its exit code.
func (s *storm) launch(ctx context.Context, n int, name string, input []byte, more []string, command ...string) (out []byte, said bool, code int) {
	args := append([]string{
		"run", "--rm", "--interactive", "--log-driver", "none", "--name", s.world.engine.of(name), "--hostname", name,
		"--label", s.world.engine.label(), "--network", s.world.engine.of("work"), "--read-only", "--user", "65534:65534", "--cap-drop", "ALL",
	}, more...)
	args = append(append(args, s.world.environment(n)...), s.world.engine.of("bidder"))
	// A pass that hangs would hold the storm up for ever.
	ctx, cancel := context.WithTimeoutCause(ctx, longestPass, errHangs)
	defer cancel()
	cmd := exec.CommandContext(ctx, "docker", append(args, command...)...)
	cmd.Cancel = func() error {
		_, err := docker(context.WithoutCancel(ctx), "rm", "--force", s.world.engine.of(name))
		return errors.Join(err, cmd.Process.Kill())
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(input), &stdout, &stderr
	err := cmd.Run()
	code = cmd.ProcessState.ExitCode()
	if errors.Is(context.Cause(ctx), errHangs) {
		s.violations.addf("stuck", "%s was still running after %s", strings.Join(command, " "), longestPass)
	}
	s.log(n, name, command, code, err, stderr.Bytes())
	return stdout.Bytes(), stderr.Len() > 0, code
}

var errHangs = errors.New("it hangs")

// log keeps what containers say until the storm has ended well.
func (s *storm) log(n int, name string, command []string, code int, err error, said []byte) {
	s.logs.Lock()
	defer s.logs.Unlock()
	file, openErr := os.OpenFile(filepath.Join(s.dir, fmt.Sprintf("worker-%d.log", n)), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if openErr != nil {
		return // it is only for people
	}
	defer file.Close()
	fmt.Fprintf(file, "%s == %s %s: exit code %d, %v\n%s", time.Now().Format(time.TimeOnly), name, strings.Join(command, " "), code, err, said)
}

// claimed remembers what passes said that they have claimed: once said, it must never be lost.
func (s *storm) claimed(out []byte) {
	decoder := json.NewDecoder(bytes.NewReader(out))
	for {
		var report struct {
			RunID    *uuid.UUID       `json:"run_id"`
			Attempts int64            `json:"attempts"`
			Outcomes map[string]int64 `json:"outcomes"`
		}
		if err := decoder.Decode(&report); err != nil {
			return // the end, or cut off
		}
		if report.RunID != nil {
			s.tally.claims(*report.RunID, report.Outcomes)
		}
	}
}

// sleep reports whether it was not woken.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
