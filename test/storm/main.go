// Command storm lets everything go wrong that can, and checks that nothing breaks:
//
//	make storm                 # two minutes; SEED=, DURATION=, POSTINGS= and WORKERS= change it
//
// On Docker networks of its own it runs a Postgres primary with a synchronous standby, PgBouncer, two
// marketplaces, and workers that are started again and again as cron would. Meanwhile it kills, freezes
// and disconnects them, steps their clocks, cuts and delays the network, restarts and fails over the database,
// and restarts the marketplaces. A checker reads the marketplaces' journals and the database all along, and
// at the end, when everything has come to rest. docs/guarantees.md says what it promises and what it found.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Exit codes.
const (
	codeViolation = 1 // or, with -bug, none
	codeUsage     = 2
	codeBroken    = 3 // the storm itself could not go on
	codeSignal    = 130
)

type options struct {
	seed     uint64
	duration time.Duration
	postings int
	workers  int
	bug      bug
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	if len(os.Args) > 1 && os.Args[1] == "link" {
		if err := serveLinks(ctx, os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, "storm link:", err)
			os.Exit(codeBroken)
		}
		return
	}
	code := run(ctx)
	stop()
	os.Exit(code)
}

func run(ctx context.Context) int {
	o, err := parse()
	if err != nil {
		fmt.Fprintln(os.Stderr, "storm:", err)
		return codeUsage
	}
	fmt.Printf("storm: SEED=%d DURATION=%s POSTINGS=%d WORKERS=%d\n", o.seed, o.duration, o.postings, o.workers)
	s, err := newStorm(ctx, o)
	if err == nil {
		err = s.rage()
		s.tearDown(err)
	}
	found := 0
	if s != nil {
		found = s.violations.count()
	}
	switch {
	case ctx.Err() != nil:
		fmt.Fprintln(os.Stderr, "storm: interrupted, and cleaned up")
		return codeSignal
	case o.bug.name != "" && found > 0:
		fmt.Printf("storm: the seeded bug was found: %s\n", o.bug.about)
		return 0
	case found > 0:
		fmt.Printf("storm: %d VIOLATIONS; repeat with SEED=%d; what the workers said is in %s\n", found, o.seed, s.dir)
		return codeViolation
	case err != nil:
		fmt.Fprintln(os.Stderr, "storm:", err)
		return codeBroken
	case o.bug.name != "":
		fmt.Printf("storm: the seeded bug was NOT found: %s\n", o.bug.about)
		return codeViolation
	default:
		fmt.Println("storm: no violation")
		return 0
	}
}

func parse() (options, error) {
	var o options
	var name string
	flag.Uint64Var(&o.seed, "seed", rand.Uint64()>>32, "repeats what a storm does")
	flag.DurationVar(&o.duration, "duration", 2*time.Minute, "how long things go wrong")
	flag.IntVar(&o.postings, "postings", 2000, "how many postings appear meanwhile")
	flag.IntVar(&o.workers, "workers", 4, "how many workers there are at once; at most 50")
	flag.StringVar(&name, "bug", "", "a bug to seed, which the storm has to find: index, arm or token")
	flag.Parse()
	if o.workers < 2 || o.workers > 50 || o.postings < 1 || o.duration <= 0 || flag.NArg() > 0 {
		return o, errors.New("wrong usage, see -help")
	}
	if name == "" {
		return o, nil
	}
	for _, o.bug = range bugs() {
		if o.bug.name == name {
			return o, nil
		}
	}
	return o, fmt.Errorf("no bug %s is known", name)
}

// storm is one run.
type storm struct {
	options

	ctx        context.Context //nolint:containedctx // ends when the storm is called off
	callOff    context.CancelCauseFunc
	dir        string // logs and programs
	world      world
	feed       *feed
	tally      *tally
	violations violations
	calm       atomic.Bool // nothing goes wrong any more
	done       atomic.Bool // nothing is left to be done
	logs       sync.Mutex
	ambushed   sync.RWMutex // held for writing while an ambush is laid
}

func newStorm(ctx context.Context, o options) (*storm, error) {
	if _, err := docker(ctx, "version"); err != nil {
		return nil, fmt.Errorf("a storm needs Docker: %w", err)
	}
	if err := removeLeftovers(ctx); err != nil {
		return nil, err
	}
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return nil, fmt.Errorf("find the module: %w", err)
	}
	dir, err := os.MkdirTemp("", "bidder-storm-")
	if err != nil {
		return nil, err
	}
	s := &storm{options: o, dir: dir, tally: newTally()}
	s.ctx, s.callOff = context.WithCancelCause(ctx)
	s.violations.found, s.violations.begun = map[string]bool{}, time.Now()
	if o.bug.name != "" {
		s.violations.first = func() { s.callOff(errFound) }
	}
	s.world = world{engine: engine{fmt.Sprintf("%s-%d", label, os.Getpid())}, workers: o.workers}
	if err := s.world.raise(s.ctx, strings.TrimSpace(string(root)), dir, o); err != nil {
		s.tearDown(err)
		return nil, err
	}
	if o.bug.schema != "" {
		if err := s.world.cluster.exec(s.ctx, o.bug.schema); err != nil {
			s.tearDown(err)
			return nil, err
		}
	}
	return s, nil
}

var errFound = errors.New("a violation was found")

// random is a source of numbers for one part of the storm: what the others do does not disturb it.
func (s *storm) random(name string) *rand.Rand {
	hash := fnv.New64a()
	hash.Write([]byte(name))
	return rand.New(rand.NewPCG(s.seed, hash.Sum64()))
}

func (s *storm) raging() bool { return !s.calm.Load() }

// fail calls the storm off because it cannot go on.
func (s *storm) fail(err error) { s.callOff(err) }

// rage lets the storm rage, has everything come to rest, and checks it.
func (s *storm) rage() error {
	began := time.Now()
	s.violations.begun = began
	fmt.Printf("storm: raging for %s\n", s.duration)
	s.feed = newFeed(s.postings, s.duration*9/10)
	checker := newChecker(s)
	watching, stopWatching := context.WithCancel(s.ctx)
	defer stopWatching()
	var watch, workers, weather sync.WaitGroup
	watch.Go(func() { checker.watch(watching) })
	for n := range s.world.workers {
		workers.Go(func() { s.worker(s.ctx, n) })
	}
	blowing, stopBlowing := context.WithTimeout(s.ctx, s.duration)
	defer stopBlowing()
	for _, l := range s.lanes() {
		weather.Go(func() { s.blow(blowing, l) })
	}
	s.report(blowing, checker)
	weather.Wait()
	s.calm.Store(true)
	raged := time.Since(began)
	var err error
	if s.ctx.Err() == nil {
		fmt.Println("storm: over; waiting for everything to come to rest")
		err = s.settle(checker)
	}
	s.done.Store(true)
	workers.Wait()
	stopWatching()
	watch.Wait()
	if s.ctx.Err() == nil && err == nil {
		err = errors.Join(checker.left(s.ctx), checker.final(s.ctx))
	}
	s.tally.print(os.Stdout, s.figures(checker, raged, time.Since(began)-raged))
	if cause := context.Cause(s.ctx); cause != nil && !errors.Is(cause, errFound) {
		err = errors.Join(err, cause)
	}
	return err
}

// report says now and then how it goes.
func (s *storm) report(ctx context.Context, c *checker) {
	for sleep(ctx, 30*time.Second) {
		bids, err := read[string](ctx, s.world.cluster.pool, "SELECT count(*) || ' bids' FROM bids")
		if err != nil {
			bids = "no database"
		}
		fmt.Printf("storm: %d events, %s, %d looks, %d violations\n", s.tally.total(), bids, c.looks, s.violations.count())
	}
}

// settle heals what is broken, and waits until nothing is owed any more.
func (s *storm) settle(c *checker) error {
	links := breakable(s.world.workers)
	errs := []error{s.world.links.latency(0, links...), s.world.links.blackhole(false, links...)}
	for _, market := range s.world.markets {
		errs = append(errs, repeat(func() error { return market.Reset(s.ctx) }))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	// As long as there is less to do than before, it is not stuck.
	left, since := int64(-1), time.Now()
	for s.ctx.Err() == nil {
		if rest, err := c.atRest(s.ctx); err == nil && rest && s.feed.empty() {
			return nil
		}
		n, err := read[int64](s.ctx, s.world.cluster.pool, `SELECT (SELECT count(*) FROM bids WHERE delivery_state IN ('pending', 'leased'))
			+ (SELECT count(*) FROM candidates WHERE not_before < 'infinity')`)
		n += int64(s.feed.left())
		if err == nil && n != left {
			left, since = n, time.Now()
		}
		if time.Since(since) > patience {
			for _, name := range append([]string{"a", "b", "link"}, marketplaces()...) {
				if !s.world.engine.runs(s.ctx, name) {
					return fmt.Errorf("the container %s was ended by somebody else", name)
				}
			}
			s.violations.addf("stuck", "%d things are still to be done, and nothing changes", left)
			return nil
		}
		sleep(s.ctx, time.Second)
	}
	return nil
}

// figures are the last lines of the table.
func (s *storm) figures(c *checker, raged, settled time.Duration) [][2]string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), time.Minute)
	defer cancel()
	value := func(sql string) string {
		n, err := read[int64](ctx, s.world.cluster.pool, sql)
		if err != nil {
			return "unknown"
		}
		return fmt.Sprint(n)
	}
	posts := int64(0)
	for _, n := range c.posts {
		posts += n
	}
	return [][2]string{
		{"raged", raged.Round(time.Second).String()},
		{"came to rest, and was checked, in", settled.Round(time.Second).String()},
		{"postings", fmt.Sprint(s.postings)},
		{"attempts", value(`SELECT coalesce(sum((SELECT sum(value::bigint) FROM jsonb_each_text(counters -> 'outcomes'))), 0)::bigint FROM runs`)},
		{"bids", value(`SELECT count(*) FROM bids WHERE status <> 'DUPLICATE'`)},
		{"  live", value(`SELECT count(*) FROM bids WHERE status = 'ACTIVE' AND delivery_state IS NULL`)},
		{"  withdrawn", value(`SELECT count(*) FROM bids WHERE status = 'WITHDRAWN'`)},
		{"  rejected", value(`SELECT count(*) FROM bids WHERE status = 'REJECTED'`)},
		{"  in review", value(`SELECT count(*) FROM bids WHERE delivery_state = 'review'`)},
		{"attempts that met a live bid", value(`SELECT coalesce(sum((counters -> 'outcomes' ->> 'duplicate')::bigint), 0)::bigint FROM runs`)},
		{"POSTs", fmt.Sprint(posts)},
		{"bids sent twice", value(`SELECT count(*) FROM bids WHERE place_posts > 1`)},
		{"bids leased more than once", value(`SELECT count(*) FROM bids WHERE lease_token > 1`)},
		{"looks of the checker", fmt.Sprint(c.looks)},
		{"looks that found no database", fmt.Sprint(c.failed)},
		{"VIOLATIONS", fmt.Sprint(s.violations.count())},
	}
}

// tearDown removes all that the storm has made. The logs stay if something was wrong.
func (s *storm) tearDown(err error) {
	s.callOff(nil)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), 3*time.Minute)
	defer cancel()
	if err != nil || s.violations.count() > 0 && s.bug.name == "" {
		for _, name := range []string{"a", "b", "bouncer", keyed, forgetful, "link"} {
			said, _ := exec.CommandContext(ctx, "docker", "logs", s.world.engine.of(name)).CombinedOutput()
			os.WriteFile(filepath.Join(s.dir, name+".log"), said, 0o600)
		}
		fmt.Fprintf(os.Stderr, "storm: logs are in %s\n", s.dir)
	} else {
		os.RemoveAll(s.dir)
	}
	if s.world.cluster.pool != nil {
		s.world.cluster.pool.Close()
	}
	if err := s.world.engine.remove(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "storm: clean up:", err)
	}
}
