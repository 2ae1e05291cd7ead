package main

import (
	"bytes"
	"fmt"
	"slices"
	"sync"
	"time"
)

const (
	chunkSize = 150
	// again is one in how many lines tells of an earlier posting once more: a refresh.
	again = 10
)

// feed hands postings to passes, a little at a time: what a pass that broke has read comes again.
type feed struct {
	total   int
	started time.Time
	lasts   time.Duration // over how long they come

	mu   sync.Mutex
	next int
	back []int        // to be told again
	seen map[int]bool // read by passes that ended well
}

func newFeed(total int, lasts time.Duration) *feed {
	return &feed{total: total, started: time.Now(), lasts: lasts, seen: map[int]bool{}}
}

// take returns the numbers of the postings that have appeared since.
func (f *feed) take() []int {
	f.mu.Lock()
	defer f.mu.Unlock()
	appeared := min(f.total, int(float64(f.total)*float64(time.Since(f.started))/float64(f.lasts)))
	chunk := f.back[:min(len(f.back), chunkSize)]
	f.back = slices.Clone(f.back[len(chunk):])
	chunk = slices.Clone(chunk)
	for ; f.next < appeared && len(chunk) < chunkSize; f.next++ {
		chunk = append(chunk, f.next)
	}
	return chunk
}

// done takes the outcome of a pass.
func (f *feed) done(chunk []int, read bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !read {
		f.back = append(f.back, chunk...)
		return
	}
	for _, n := range chunk {
		f.seen[n] = true
	}
}

// empty says whether all postings were read.
func (f *feed) empty() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.seen) == f.total
}

// job is the posting of a number.
func job(n int) (marketplace, jobID string) {
	return marketplaces()[n%len(marketplaces())], fmt.Sprintf("job-%06d", n)
}

// lines are the postings as a scanner writes them.
func (f *feed) lines(chunk []int) []byte {
	var out bytes.Buffer
	line := func(n int) {
		marketplace, jobID := job(n)
		fmt.Fprintf(&out, `{"marketplace":%q,"job_id":%q,"title":"Posting %d","url":"https://example.com/%d","budget_max":"100.00"}`+"\n", marketplace, jobID, n, n)
	}
	for _, n := range chunk {
		line(n)
		if n%again == 0 && n > 0 {
			line(n / 2)
		}
	}
	return out.Bytes()
}

// left is how many have not been read.
func (f *feed) left() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.total - len(f.seen)
}
