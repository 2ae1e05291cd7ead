package posting

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// trickle is a pipe that is read while the test writes to it.
type trickle struct {
	t     *testing.T
	lines *io.PipeWriter

	mu      sync.Mutex
	failing error    // what becomes of batches
	written []string // the jobs of each

	// What it came to, at the end.
	ended  bool
	counts Counts
	err    error
}

// readTrickle has a pipe read. It is called in a bubble of synctest.
func readTrickle(t *testing.T) *trickle {
	t.Helper()
	input, lines := io.Pipe()
	c := &trickle{t: t, lines: lines}
	go func() {
		c.counts, c.err = collect(t.Context(), NewDecoder(input, testOptions()), Observer{}, 1, c.write)
		c.ended = true
	}()
	return c
}

func (c *trickle) write(_ context.Context, b *batch) (Counts, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failing != nil {
		return Counts{}, c.failing
	}
	var jobs []string
	for _, p := range b.postings {
		jobs = append(jobs, p.JobID)
	}
	c.written = append(c.written, strings.Join(jobs, " "))
	return Counts{Read: int64(len(b.lines)), Accepted: int64(len(b.postings))}, nil
}

// fail has batches fail, or not with nil.
func (c *trickle) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failing = err
}

// give writes lines of these jobs.
func (c *trickle) give(jobs ...string) {
	c.t.Helper()
	for _, job := range jobs {
		c.giveLine(job, "")
	}
}

func (c *trickle) giveLine(job, ignored string) {
	c.t.Helper()
	if _, err := io.WriteString(c.lines, lineWith("job_id", `"`+job+`"`, "ignored", `"`+ignored+`"`)+"\n"); err != nil {
		c.t.Fatal(err)
	}
}

// wantWritten checks what is written when so much more time has passed.
func (c *trickle) wantWritten(later time.Duration, want ...string) {
	c.t.Helper()
	time.Sleep(later)
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	if diff := cmp.Diff(want, c.written); diff != "" {
		c.t.Errorf("batches (-want +got):\n%s", diff)
	}
}

func (c *trickle) end() {
	c.t.Helper()
	if err := c.lines.Close(); err != nil {
		c.t.Fatal(err)
	}
	synctest.Wait()
	if !c.ended {
		c.t.Fatal("it reads on")
	}
}

// A line is written a while after it was read, whether or not another comes.
func TestCollectTrickle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := readTrickle(t)
		c.wantWritten(time.Hour)
		c.give("a")
		c.wantWritten(batchWait / 2)
		c.give("b")
		c.wantWritten(batchWait/2 - 1)
		c.wantWritten(1, "a b")
		c.wantWritten(time.Hour, "a b")
		c.give("c")
		c.wantWritten(batchWait-1, "a b")
		c.wantWritten(1, "a b", "c")
		c.give("d")
		c.end()
		c.wantWritten(time.Hour, "a b", "c", "d")
		if want := (Counts{Read: 4, Accepted: 4}); c.counts != want || c.err != nil {
			t.Errorf("%+v, %v; want %+v", c.counts, c.err, want)
		}
	})
}

// A batch that is full is not waited for, and not written again; the next one has its own time.
func TestCollectFull(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := readTrickle(t)
		jobs := make([]string, batchPostings)
		for i := range jobs {
			jobs[i] = fmt.Sprintf("%04d", i)
		}
		full := strings.Join(jobs, " ")
		c.give(jobs[0])
		c.wantWritten(batchWait - 1)
		c.give(jobs[1:]...)
		c.give("next")
		c.wantWritten(0, full)
		c.wantWritten(batchWait-1, full)
		c.wantWritten(1, full, "next")
		c.end()
		if want := (Counts{Read: batchPostings + 1, Accepted: batchPostings + 1}); c.counts != want || c.err != nil {
			t.Errorf("%+v, %v; want %+v", c.counts, c.err, want)
		}
	})
}

// Lines so long that a batch is full before it has its number of them.
func TestCollectLongLines(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := readTrickle(t)
		for job := range 7 {
			c.giveLine(strconv.Itoa(job), strings.Repeat("x", 3<<20))
		}
		c.wantWritten(0, "0 1 2", "3 4 5")
		c.end()
		c.wantWritten(0, "0 1 2", "3 4 5", "6")
	})
}

// That a batch could not be written while a line was waited for, is said when that comes, or the end
// does. Nothing is written after it.
func TestCollectTrickleFails(t *testing.T) {
	t.Parallel()
	for name, next := range map[string]func(*trickle){
		"line": func(c *trickle) { c.give("c") },
		"end":  func(c *trickle) { c.end() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := readTrickle(t)
				c.give("a")
				c.wantWritten(batchWait, "a")
				failed := errors.New("out of reach")
				c.fail(failed)
				c.give("b")
				c.wantWritten(batchWait, "a")
				c.fail(nil)
				next(c)
				c.wantWritten(0, "a")
				if want := (Counts{Read: 1, Accepted: 1}); !c.ended || c.counts != want || !errors.Is(c.err, failed) {
					t.Errorf("ended: %t, %+v, %v; want %+v, %v", c.ended, c.counts, c.err, want, failed)
				}
			})
		})
	}
}
