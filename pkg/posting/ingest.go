package posting

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/db/queries"
)

// The bounds of a batch: how much is written in one transaction, and so how much of the
// input is in memory at a time.
const (
	batchPostings = 1000
	batchBytes    = 8 << 20
)

// batchWait is how long a line waits for others at most: a scanner may give few of them for hours, and
// what is not written is lost with the process.
const batchWait = time.Second

// batchesAtOnce is how many batches are written at once: while one waits for its COMMIT, or the
// server for the next, another is at work.
const batchesAtOnce = 2

// Counts say what became of the lines. Read is the sum of the others.
type Counts struct {
	Read      int64 `json:"read"`
	Accepted  int64 `json:"accepted"`  // postings that were new to the cache
	Updated   int64 `json:"updated"`   // postings with newer content than the cache had
	Unchanged int64 `json:"unchanged"` // postings that the cache had as new or newer
	Rejected  int64 `json:"rejected"`
	Blank     int64 `json:"blank"`
}

// Add returns the sum of two counts.
func (c Counts) Add(other Counts) Counts {
	return Counts{
		Read: c.Read + other.Read, Accepted: c.Accepted + other.Accepted, Updated: c.Updated + other.Updated,
		Unchanged: c.Unchanged + other.Unchanged, Rejected: c.Rejected + other.Rejected, Blank: c.Blank + other.Blank,
	}
}

// Observer is told what happens to the lines while they are read.
type Observer struct {
	// Rejected is called for each rejected line; an error from it ends the reading.
	Rejected func(*Reject) error
	// Progress is called after each batch with the counts so far, perhaps while Rejected is.
	Progress func(Counts)
}

// Ingest puts the postings that d reads in the cache and queues each that is new or newer
// than what the cache had. It writes in batches, each a transaction of its own, and none waits for
// longer than a second to be full: after an error or an interruption everything before is kept, and
// reading the same input again is harmless. Memory does not grow with the input. It writes two
// batches at once, so pool is not a single connection; a pool of one does.
func Ingest(ctx context.Context, pool db.Beginner, limits db.Limits, d *Decoder, observer Observer) (Counts, error) {
	var newOnly atomic.Bool // the batch before held nothing that the cache knew, so the next may
	return collect(ctx, d, observer, batchesAtOnce, func(ctx context.Context, b *batch) (Counts, error) {
		var counts Counts
		err := db.Repeat(ctx, func(ctx context.Context) (err error) {
			counts, err = b.put(ctx, pool, limits, newOnly.Load())
			return err
		})
		if err != nil {
			return Counts{}, fmt.Errorf("write %d postings to the cache: %w", len(b.postings), err)
		}
		newOnly.Store(counts.Accepted == int64(len(b.postings)))
		return counts, nil
	})
}

// Rehearse says what [Ingest] would do, and changes nothing. It adds to fresh the postings
// that the cache would then hold newer, and unlike Ingest keeps those in memory: with their
// descriptions only if these are wanted. fresh may hold what an earlier Rehearse has found.
func Rehearse(
	ctx context.Context, tx queries.DBTX, d *Decoder, fresh map[Key]Posting, descriptions bool, observer Observer,
) (Counts, error) {
	return collect(ctx, d, observer, 1, func(ctx context.Context, b *batch) (Counts, error) {
		cached, err := b.cachedAts(ctx, queries.New(tx))
		if err != nil {
			return Counts{}, err
		}
		for _, p := range b.postings {
			if earlier, ok := fresh[p.Key]; ok {
				cached[p.Key] = earlier.CachedAt
			}
			if at, ok := cached[p.Key]; !ok || p.CachedAt.After(at) {
				if !descriptions {
					p.Description = ""
				}
				fresh[p.Key] = p
			}
		}
		return b.count(cached), nil
	})
}

// collect reads all lines and hands the postings on in batches, of which at most atOnce are written
// at the same time. Meanwhile the next is read already.
func collect(
	ctx context.Context, d *Decoder, observer Observer, atOnce int, write func(context.Context, *batch) (Counts, error),
) (Counts, error) {
	late, cancel := withGrace(ctx)
	defer cancel()
	c := &collector{writer: writer{
		write: func(b *batch) (Counts, error) { return write(late, b) }, atOnce: atOnce, progress: observer.Progress,
	}}
	err := c.read(ctx, d, observer.Rejected)
	c.finish() // after an interruption as well: nobody gives a pipe's lines again
	return c.counts, errors.Join(err, c.failed)
}

// collector makes the batches. One that is not full is written all the same when it has waited for
// long enough, also while the next line is waited for.
type collector struct {
	writer

	mu    sync.Mutex
	batch *batch      // nil until its first line
	timer *time.Timer // from then on
}

// read takes lines until the input ends, or ctx does, or a batch could not be written.
func (c *collector) read(ctx context.Context, d *Decoder, rejected func(*Reject) error) error {
	for {
		if err := context.Cause(ctx); err != nil {
			return err //nolint:wrapcheck // the signal
		}
		item, err := d.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case !c.take(item):
			return nil // what has failed is known
		case item.Reject != nil && rejected != nil:
			if err := rejected(item.Reject); err != nil {
				return err
			}
		}
	}
}

// take counts a line or puts it in the batch, and says whether to read on.
func (c *collector) take(item Item) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.failed != nil:
	case item.Blank:
		c.counts.Read++
		c.counts.Blank++
	case item.Reject != nil:
		c.counts.Read++
		c.counts.Rejected++
	default:
		if c.batch == nil {
			b := newBatch()
			c.batch, c.timer = b, time.AfterFunc(batchWait, func() { c.hasWaited(b) })
		}
		c.batch.add(item)
		if len(c.batch.lines) >= batchPostings || c.batch.bytes >= batchBytes {
			c.begin()
		}
	}
	return c.failed == nil
}

// hasWaited writes a batch that is not full, to its end: the next line, which may be long in coming, is
// not taken if that failed.
func (c *collector) hasWaited(b *batch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.batch == b {
		c.begin()
		c.settle()
	}
}

// finish writes what is left.
func (c *collector) finish() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.batch != nil {
		c.begin()
	}
	c.settle()
}

// begin has the batch written; the next line begins another.
func (c *collector) begin() {
	c.timer.Stop()
	c.start(c.batch)
	c.batch = nil
}

// writer writes batches, several at once, while the next is collected.
type writer struct {
	write    func(*batch) (Counts, error)
	atOnce   int
	pending  []writing // the oldest first
	failed   error     // of batches; no other is begun then
	counts   Counts
	progress func(Counts)
}

// writing is a batch that is being written.
type writing struct {
	batch *batch
	done  chan outcome
}

// outcome is what became of a batch.
type outcome struct {
	counts Counts
	err    error
}

// start begins to write b once there is room for it, and once no posting in it is being written in
// another batch: what comes of a posting's versions depends on their order. After an error of a
// batch before it does not.
func (w *writer) start(b *batch) {
	for len(w.pending) == w.atOnce || slices.ContainsFunc(w.pending, func(other writing) bool { return other.batch.shares(b) }) {
		w.settleOldest()
	}
	if w.failed != nil {
		return
	}
	done := make(chan outcome, 1)
	w.pending = append(w.pending, writing{b, done})
	go func() {
		counts, err := w.write(b)
		done <- outcome{counts, err}
	}()
}

// settle waits until nothing is being written any more.
func (w *writer) settle() {
	for len(w.pending) > 0 {
		w.settleOldest()
	}
}

// settleOldest waits until the batch that was begun first is written, and says how far all got.
func (w *writer) settleOldest() {
	written := <-w.pending[0].done
	w.pending = slices.Delete(w.pending, 0, 1)
	if written.err != nil {
		w.failed = errors.Join(w.failed, written.err)
		return
	}
	w.counts = w.counts.Add(written.counts)
	if w.progress != nil {
		w.progress(w.counts)
	}
}

// interruptGrace is how long the last batch may take to be written after an interruption.
const interruptGrace = 3 * time.Second

// withGrace returns a context that ends a while after ctx was cancelled.
func withGrace(ctx context.Context) (context.Context, func()) {
	late, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		timer := time.AfterFunc(interruptGrace, func() { cancel(context.Cause(ctx)) })
		context.AfterFunc(late, func() { timer.Stop() })
	})
	return late, func() { stop(); cancel(nil) }
}

// batch is a stretch of input: each posting once, in its newest version, and the lines
// that it came from.
type batch struct {
	postings []Posting
	index    map[Key]int // of postings
	lines    []line
	bytes    int
}

// shares tells whether a posting is in both batches.
func (b *batch) shares(other *batch) bool {
	for key := range other.index {
		if _, ok := b.index[key]; ok {
			return true
		}
	}
	return false
}

type line struct {
	key      Key
	cachedAt time.Time
}

func newBatch() *batch {
	return &batch{
		postings: make([]Posting, 0, batchPostings),
		index:    make(map[Key]int, batchPostings),
		lines:    make([]line, 0, batchPostings),
	}
}

func (b *batch) add(item Item) {
	p := item.Posting
	b.lines = append(b.lines, line{p.Key, p.CachedAt})
	b.bytes += item.Size
	i, again := b.index[p.Key]
	switch {
	case !again:
		b.index[p.Key] = len(b.postings)
		b.postings = append(b.postings, p)
	case p.CachedAt.After(b.postings[i].CachedAt):
		b.postings[i] = p
	}
}

// put writes the batch in a transaction of its own: as one of new postings if it may be, and as what it
// is if it is not.
func (b *batch) put(ctx context.Context, pool db.Beginner, limits db.Limits, newOnly bool) (counts Counts, err error) {
	write := b.upsert
	if newOnly {
		write = b.insert
	}
	err = db.InTx(ctx, pool, limits, func(tx *db.Tx) (err error) {
		counts, err = write(ctx, queries.New(tx))
		return err
	})
	if newOnly && db.Code(err) == db.CodeUniqueViolation {
		return b.put(ctx, pool, limits, false)
	}
	return counts, err
}

// insert puts a batch in a cache that knows nothing of it, and counts what became of its lines.
func (b *batch) insert(ctx context.Context, q *queries.Queries) (Counts, error) {
	if err := q.InsertPostings(ctx, queries.InsertPostingsParams(b.params())); err != nil {
		return Counts{}, fmt.Errorf("insert: %w", err)
	}
	return b.count(make(map[Key]time.Time, len(b.postings))), nil
}

// upsert puts any batch in the cache, and counts what became of its lines.
func (b *batch) upsert(ctx context.Context, q *queries.Queries) (Counts, error) {
	var cached map[Key]time.Time
	if len(b.lines) > len(b.postings) {
		// Some postings stand on several lines; telling what became of each of those needs
		// the cache as it was before.
		var err error
		if cached, err = b.cachedAts(ctx, q); err != nil {
			return Counts{}, err
		}
	}
	written, err := q.UpsertPostings(ctx, b.params())
	if err != nil {
		return Counts{}, fmt.Errorf("upsert: %w", err)
	}
	if cached != nil {
		return b.count(cached), nil
	}
	read := int64(len(b.lines))
	return Counts{
		Read: read, Accepted: written.Accepted, Updated: written.Updated,
		Unchanged: read - written.Accepted - written.Updated,
	}, nil
}

// cachedAts reads when the cache last saw the batch's postings.
func (b *batch) cachedAts(ctx context.Context, q *queries.Queries) (map[Key]time.Time, error) {
	marketplaces, jobIDs := make([]string, len(b.postings)), make([]string, len(b.postings))
	for i, p := range b.postings {
		marketplaces[i], jobIDs[i] = p.Marketplace, p.JobID
	}
	rows, err := q.CachedAts(ctx, marketplaces, jobIDs)
	if err != nil {
		return nil, fmt.Errorf("read the cache: %w", err)
	}
	cached := make(map[Key]time.Time, len(rows))
	for _, row := range rows {
		cached[Key{Marketplace: row.Marketplace, JobID: row.JobID}] = row.CachedAt
	}
	return cached, nil
}

// count says what becomes of the lines, one after the other, where the cache stands at cached.
func (b *batch) count(cached map[Key]time.Time) Counts {
	var counts Counts
	for _, l := range b.lines {
		counts.Read++
		at, ok := cached[l.key]
		switch {
		case !ok:
			counts.Accepted++
		case l.cachedAt.After(at):
			counts.Updated++
		default:
			counts.Unchanged++
			continue
		}
		cached[l.key] = l.cachedAt
	}
	return counts
}

// params turns the batch into arrays, in the order of its keys; what stands for null is said at the
// query. Sorted, so that two batches with the same postings cannot wait for each other in turn.
func (b *batch) params() queries.UpsertPostingsParams {
	order := make([]int, len(b.postings)) // postings are large to swap
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(i, j int) int { return b.postings[i].Compare(b.postings[j].Key) })
	params := queries.UpsertPostingsParams{
		Marketplaces: make([]string, len(order)),
		JobIDs:       make([]string, len(order)),
		CachedAts:    make([]time.Time, len(order)),
		Titles:       make([]string, len(order)),
		Descriptions: make([]string, len(order)),
		URLs:         make([]string, len(order)),
		BudgetMins:   make([]int64, len(order)),
		BudgetMaxs:   make([]int64, len(order)),
		Currencies:   make([]string, len(order)),
		Pricings:     make([]string, len(order)),
		Skills:       make([]string, len(order)),
		PostedAts:    make([]time.Time, len(order)),
		Deadlines:    make([]time.Time, len(order)),
		BidAmounts:   make([]int64, len(order)),
		BidPeriods:   make([]int32, len(order)),
		BidProposals: make([]string, len(order)),
	}
	for n, i := range order {
		p, bid := &b.postings[i], &Bid{}
		if p.Bid != nil {
			bid = p.Bid
		}
		params.Marketplaces[n] = p.Marketplace
		params.JobIDs[n] = p.JobID
		params.CachedAts[n] = p.CachedAt
		params.Titles[n] = p.Title
		params.Descriptions[n] = p.Description
		params.URLs[n] = p.URL
		params.BudgetMins[n] = orElse(p.BudgetMinCents, -1)
		params.BudgetMaxs[n] = orElse(p.BudgetMaxCents, -1)
		params.Currencies[n] = p.Currency
		params.Pricings[n] = p.Pricing
		params.Skills[n] = strings.Join(p.Skills, "\x1f")
		params.PostedAts[n] = orElse(p.PostedAt, time.Time{})
		params.Deadlines[n] = orElse(p.Deadline, time.Time{})
		params.BidAmounts[n] = orElse(bid.AmountCents, -1)
		params.BidPeriods[n] = orElse(bid.PeriodDays, -1)
		params.BidProposals[n] = bid.Proposal
	}
	return params
}

func orElse[T any](value *T, absent T) T {
	if value == nil {
		return absent
	}
	return *value
}
