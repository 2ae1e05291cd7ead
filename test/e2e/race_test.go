package e2e

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"
)

// together holds everybody back at the start of their run until n processes are there, so
// that they really meet, and then lets them go at once.
func (f *fixture) together(n int, start func()) {
	f.t.Helper()
	barrier := f.begin()
	f.execIn(barrier, "LOCK TABLE runs IN ACCESS EXCLUSIVE MODE")
	start()
	f.await("all wait for the start", `count(*) = $1 FROM pg_stat_activity
		WHERE datname = current_database() AND wait_event_type = 'Lock' AND application_name LIKE 'bidder %'`, n)
	f.commit(barrier)
}

// TestOnePosting has many processes bid on the same posting at the same time.
func TestOnePosting(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name               string
		processes, repeats int
		lockWait           string
	}{
		{name: "2 that wait", processes: 2, repeats: 1, lockWait: "10s"},
		{name: "2 that do not wait", processes: 2, repeats: 1, lockWait: "0"},
		{name: "20 that wait", processes: 20, repeats: 1, lockWait: "10s"},
		{name: "20 that do not wait", processes: 20, repeats: 1, lockWait: "0"},
		{name: "120 attempts", processes: 20, repeats: 6, lockWait: "0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			f.ingest(line("hot"))

			attempt := f.call("bid", "upwork", "hot", "--lock-wait", tt.lockWait, "-o", "json")
			results := make([][]result, tt.processes)
			var all sync.WaitGroup
			f.together(tt.processes, func() {
				for i := range results {
					all.Go(func() {
						for range tt.repeats {
							results[i] = append(results[i], attempt.run(t))
						}
					})
				}
			})
			all.Wait()
			f.wantOneBid("hot", slices.Concat(results...), tt.lockWait)
		})
	}
}

// wantOneBid checks that exactly one of the attempts has claimed the posting, and that every
// record of all of them agrees.
func (f *fixture) wantOneBid(jobID string, results []result, lockWait string) {
	f.t.Helper()
	wait, err := time.ParseDuration(lockWait)
	if err != nil {
		f.t.Fatal(err)
	}
	live := read[string](f, "SELECT string_agg(id::text, ' ') FROM bids WHERE status = 'ACTIVE' AND job_id = $1", jobID)
	got := map[string]int{}
	for _, r := range results {
		report := decode[bidReport](f.t, r)
		got[report.Outcome]++
		wantCode := 3
		switch report.Outcome {
		case "claimed":
			wantCode = 0
			if orNone(report.BidID) != live {
				f.t.Errorf("claimed %s, but the live bids are: %s", orNone(report.BidID), live)
			}
		case "duplicate":
			if orNone(report.ExistingBidID) != live {
				f.t.Errorf("duplicate of %s, but the live bids are: %s", orNone(report.ExistingBidID), live)
			}
		case "locked":
			// On a busy machine this may come even to those who wait, but not before their time.
			if waited := time.Duration(report.WaitedMS) * time.Millisecond; waited < wait*9/10 {
				f.t.Errorf("gave up after %v", waited)
			}
		default:
			f.t.Errorf("outcome %s (%s)", report.Outcome, orNone(report.Detail))
		}
		if r.code != wantCode {
			f.t.Errorf("outcome %s, exit code %d: %s", report.Outcome, r.code, r.stderr)
		}
	}
	n := len(results)
	if got["claimed"] != 1 || got["claimed"]+got["duplicate"]+got["locked"] != n {
		f.t.Errorf("got outcomes %v of %d attempts", got, n)
	}
	f.wantCount(1, "bids WHERE status = 'ACTIVE'")
	f.wantCount(got["duplicate"], "bids WHERE status = 'DUPLICATE' AND duplicate_of = $1::text::uuid AND amount_cents IS NULL", live)
	f.wantCount(1+got["duplicate"], "bids")
	f.wantCount(0, "candidates")
	f.wantCount(1, "runs WHERE kind = 'bid' AND exit_code = 0")
	f.wantCount(n-1, "runs WHERE kind = 'bid' AND exit_code = 3")
	f.wantCount(n, "runs WHERE (counters ->> 'lock_attempts')::int = 1")
	f.wantCount(got["locked"], "runs WHERE counters ->> 'lock_timeouts' = '1' AND counters ->> 'lock_conflicts' = '1'")
	f.wantCount(n-got["locked"], "runs WHERE counters ->> 'lock_successes' = '1'")
	for _, outcome := range outcomes {
		f.wantCount(got[outcome], "runs WHERE counters #>> ARRAY['outcomes', $1] = '1'", outcome)
	}
	f.wantNoDeadlocks()
}

// TestThousandPostings has three pods read the same 1,000 postings, each in an order of its own,
// and bid on them.
func TestThousandPostings(t *testing.T) {
	t.Parallel()
	const pods, postings = 3, 1000
	f := setup(t)
	all, _ := lines(postings)
	seen := time.Now().UTC().Format(time.RFC3339)
	var runs []*process
	f.together(pods, func() {
		for range pods {
			rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
			runs = append(runs, f.start("run", "--postings", file(t, "postings.ndjson", all...), "--cached-at", seen, "-o", "json"))
		}
	})
	var total runReport
	total.Outcomes = map[string]int{}
	for _, run := range runs {
		report := decode[runReport](t, run.wait().want(t, 0))
		f.wantRecorded(report)
		if report.Ingest.Read != postings {
			t.Errorf("read %d lines", report.Ingest.Read)
		}
		total.Ingest.Accepted += report.Ingest.Accepted
		total.Ingest.Unchanged += report.Ingest.Unchanged
		total.Attempts += report.Attempts
		for outcome, n := range report.Outcomes {
			total.Outcomes[outcome] += n
		}
	}
	if total.Ingest.Accepted != postings || total.Ingest.Unchanged != (pods-1)*postings {
		t.Errorf("got %d accepted and %d unchanged lines", total.Ingest.Accepted, total.Ingest.Unchanged)
	}
	if total.Outcomes["claimed"] != postings || total.Outcomes["claimed"]+total.Outcomes["duplicate"]+total.Outcomes["locked"] != total.Attempts {
		t.Errorf("got outcomes %v of %d attempts", total.Outcomes, total.Attempts)
	}
	f.wantCount(postings, "bids WHERE status = 'ACTIVE'")
	f.wantCount(postings, "bids")
	f.wantCount(postings, "(SELECT DISTINCT marketplace, job_id FROM bids) AS keys")
	f.wantCount(0, "bids AS b WHERE NOT EXISTS (SELECT FROM runs WHERE runs.id = b.run_id)")
	f.wantNoDeadlocks()
}

// wantRecorded checks that a report adds up, and that the database has kept the same counters.
func (f *fixture) wantRecorded(report runReport) {
	f.t.Helper()
	sum := 0
	for _, outcome := range outcomes {
		n, ok := report.Outcomes[outcome]
		if !ok {
			f.t.Errorf("the report lacks outcome %s", outcome)
		}
		sum += n
		f.wantCount(1, "runs WHERE id = $1::text::uuid AND counters #>> ARRAY['outcomes', $2] = $3", report.RunID, outcome, strconv.Itoa(n))
	}
	if sum != report.Attempts || report.Locks.Attempts != report.Attempts || len(report.Outcomes) != len(outcomes) {
		f.t.Errorf("%d attempts: outcomes %v, locks %+v", report.Attempts, report.Outcomes, report.Locks)
	}
	if got, want := report.Locks.Successes+report.Locks.Timeouts, report.Attempts-report.Outcomes["failed"]; got < want {
		f.t.Errorf("%d of %d locks are accounted for: %+v", got, want, report.Locks)
	}
	f.wantCount(report.Outcomes["claimed"], "bids WHERE run_id = $1::text::uuid AND status <> 'DUPLICATE'", report.RunID)
	f.wantCount(1, `runs WHERE id = $1::text::uuid AND finished_at IS NOT NULL
		AND counters ->> 'lock_attempts' = $2 AND counters ->> 'lock_successes' = $3
		AND counters ->> 'lock_conflicts' = $4 AND counters ->> 'lock_timeouts' = $5`, report.RunID,
		strconv.Itoa(report.Locks.Attempts), strconv.Itoa(report.Locks.Successes),
		strconv.Itoa(report.Locks.Conflicts), strconv.Itoa(report.Locks.Timeouts))
}

// TestRunBesideBids has passes and attempts by hand work on the same postings.
func TestRunBesideBids(t *testing.T) {
	t.Parallel()
	const people, passes, postings = 3, 4, 40
	f := setup(t)
	all, jobIDs := lines(postings)
	f.ingest(all...)

	var mu sync.Mutex
	claimed := map[string]int{}
	count := func(by string, n int) {
		mu.Lock()
		defer mu.Unlock()
		claimed[by] += n
	}
	var working sync.WaitGroup
	f.together(people+1, func() {
		for person := range people {
			order := slices.Clone(jobIDs[:postings/2])
			rand.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
			working.Go(func() {
				for _, jobID := range order[:12] {
					report := decode[bidReport](t, f.bidder("bid", "upwork", jobID, "-o", "json"))
					switch report.Outcome {
					case "claimed":
						count(fmt.Sprint("person ", person), 1)
					case "duplicate":
					default:
						t.Errorf("bid on %s: %s (%s)", jobID, report.Outcome, orNone(report.Detail))
					}
				}
			})
		}
		working.Go(func() {
			for range passes {
				report := decode[runReport](t, f.bidder("run", "--batch", "5", "--reconsider", "-o", "json"))
				if report.Outcomes["failed"] > 0 {
					t.Errorf("a pass failed: %v", report.Outcomes)
				}
				count("passes", report.Outcomes["claimed"])
			}
		})
	})
	working.Wait()
	sum := 0
	for _, n := range claimed {
		sum += n
	}
	live := f.count("bids WHERE status = 'ACTIVE'")
	if live != sum || live < postings/2 {
		t.Errorf("%d live bids, claimed were %v", live, claimed)
	}
	f.wantNoDeadlocks()
	f.bidder("run").want(t, 0) // a posting that was locked is left for a second
	f.await("what was locked is due again", "NOT EXISTS (SELECT FROM candidates WHERE not_before > clock_timestamp())")
	f.bidder("run").want(t, 0)
	f.wantCount(postings, "bids WHERE status = 'ACTIVE'")
}
