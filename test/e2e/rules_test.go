package e2e

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
)

// TestWindow bids again on a posting whose only bid was withdrawn, so that nothing but the times of
// that bid stands against it.
func TestWindow(t *testing.T) {
	t.Parallel()
	const inside, outside = "4 minutes", "5 minutes" // ago when it is set, so a little more later
	tests := []struct {
		name                                    string
		created, submitted, lastPost, withdrawn string
		want                                    string
	}{
		{name: "made", created: inside, submitted: outside, lastPost: outside, withdrawn: outside, want: "recent"},
		{name: "submitted", created: outside, submitted: inside, lastPost: outside, withdrawn: outside, want: "recent"},
		{name: "sent", created: outside, submitted: outside, lastPost: inside, withdrawn: outside, want: "recent"},
		{name: "withdrawn", created: outside, submitted: outside, lastPost: outside, withdrawn: inside, want: "recent"},
		{name: "nothing", created: outside, submitted: outside, lastPost: outside, withdrawn: outside, want: "claimed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			f.claim(tt.name)
			f.exec("UPDATE bids SET status = 'WITHDRAWN', delivery_kind = NULL, delivery_state = NULL, next_attempt_at = NULL WHERE job_id = $1", tt.name)
			f.exec(`UPDATE bids SET created_at = now() - $2::text::interval, submitted_at = now() - $3::text::interval,
					first_post_at = now() - interval '1 hour', last_post_at = now() - $4::text::interval,
					withdrawal_timestamp = now() - $5::text::interval
				WHERE job_id = $1`, tt.name, tt.created, tt.submitted, tt.lastPost, tt.withdrawn)
			got := decode[bidReport](t, f.bidder("bid", "upwork", tt.name, "--dry-run", "-o", "json"))
			if got.Outcome != tt.want {
				t.Errorf("a bid would end in %s (%s), want %s", got.Outcome, orNone(got.Detail), tt.want)
			}
			if got = decode[bidReport](t, f.bidder("bid", "upwork", tt.name, "-o", "json")); got.Outcome != tt.want {
				t.Errorf("the bid ended in %s (%s), want %s", got.Outcome, orNone(got.Detail), tt.want)
			}
			if tt.want == "recent" {
				longer := decode[bidReport](t, f.bidder("bid", "upwork", tt.name, "--rebid-window", "1m", "-o", "json").want(t, 0))
				if longer.Outcome != "claimed" {
					t.Errorf("with a window of a minute: %s", longer.Outcome)
				}
			}
		})
	}
}

// TestWithdrawnIsClosedForRuns: what a person took back is bid on again only by hand.
func TestWithdrawnIsClosedForRuns(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.claim("1")
	f.exec("UPDATE bids SET status = 'WITHDRAWN', delivery_kind = NULL, delivery_state = NULL, created_at = now() - interval '1 day'")
	f.exec("UPDATE bids SET withdrawal_timestamp = now() - interval '1 hour'")
	report := decode[runReport](t, f.bidder("run", "--reconsider", "-o", "json").want(t, 0))
	if report.Attempts != 1 || report.Outcomes["closed"] != 1 {
		t.Errorf("a pass ended in %v", report.Outcomes)
	}
	if why := f.bidder("why", "upwork", "1").want(t, 0).stdout; !strings.Contains(why, "withdrawn") {
		t.Errorf("why does not say that it was withdrawn:\n%s", why)
	}
	if got := decode[bidReport](t, f.bidder("bid", "upwork", "1", "-o", "json").want(t, 0)); got.Outcome != "claimed" {
		t.Errorf("the bid by hand ended in %s", got.Outcome)
	}
}

// age moves everything in the cache back in time.
func (f *fixture) age(by string) {
	f.t.Helper()
	f.exec(`WITH aged AS (UPDATE postings SET cached_at = cached_at - $1::text::interval)
		UPDATE candidates SET cached_at = cached_at - $1::text::interval`, by)
}

func TestFreshness(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, age string
		env       string
		want      string
	}{
		{name: "just fresh", age: "23 hours 58 minutes", want: "claimed"},
		{name: "just stale", age: "24 hours", want: "stale"},
		{name: "25 hours", age: "25 hours", want: "stale"},
		{name: "longer life", age: "25 hours", env: "BIDDER_POSTING_TTL=2d", want: "claimed"},
		{name: "shorter life", age: "61 minutes", env: "BIDDER_POSTING_TTL=1h", want: "stale"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			f.ingest(line("hand"), line("pass"))
			f.age(tt.age)
			variable := "BIDDER_BATCH=64"
			if tt.env != "" {
				variable = tt.env
			}
			got := decode[bidReport](t, f.call("bid", "upwork", "hand", "-o", "json").with(variable).run(t))
			if got.Outcome != tt.want {
				t.Errorf("the bid ended in %s, want %s", got.Outcome, tt.want)
			}
			report := decode[runReport](t, f.call("run", "-o", "json").with(variable).run(t).want(t, 0))
			if report.Outcomes[tt.want] != 1 || report.Attempts != 1 {
				t.Errorf("the pass ended in %v, want one %s", report.Outcomes, tt.want)
			}
			f.wantCount(0, "candidates")
			if tt.want == "stale" {
				f.ingest(line("hand"), line("pass"))
				report := decode[runReport](t, f.call("run", "-o", "json").with(variable).run(t).want(t, 0))
				if report.Outcomes["claimed"] != 2 {
					t.Errorf("after a refresh: %v", report.Outcomes)
				}
			}
			f.wantCount(2, "bids JOIN postings USING (marketplace, job_id) WHERE status = 'ACTIVE' AND posting_cached_at = cached_at")
		})
	}
}

// TestLockedFromOutside: the lock of a posting works between any programs that take it.
func TestLockedFromOutside(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.ingest(line("held"), line("free"))
	holder := f.lock("held")

	for _, wait := range []string{"0", "3s"} {
		r := f.bidder("bid", "upwork", "held", "--lock-wait", wait, "-o", "json").want(t, 3)
		got := decode[bidReport](t, r)
		if got.Outcome != "locked" || got.BidID != nil || got.ExistingBidID != nil || (got.WaitedMS > 0) != (wait != "0") {
			t.Errorf("with a wait of %s: %+v", wait, got)
		}
	}
	f.wantCount(2, `runs WHERE exit_code = 3 AND counters @> '{"lock_attempts": 1, "lock_successes": 0, "lock_conflicts": 1, "lock_timeouts": 1}'`)

	pass := decode[runReport](t, f.bidder("run", "-o", "json").want(t, 0))
	if pass.Outcomes["locked"] != 1 || pass.Outcomes["claimed"] != 1 || pass.Locks != (locks{Attempts: 2, Successes: 1, Conflicts: 1, Timeouts: 1}) {
		t.Errorf("a pass ended in %v, %+v", pass.Outcomes, pass.Locks)
	}
	f.wantCount(1, "candidates WHERE job_id = 'held' AND tries = 0 AND last_error IS NULL")

	waiting := f.start("bid", "upwork", "held", "--lock-wait", "10s", "-o", "json")
	f.awaitTried()
	f.commit(holder)
	got := decode[bidReport](t, waiting.wait().want(t, 0))
	if got.Outcome != "claimed" || got.WaitedMS == 0 {
		t.Errorf("after the lock was free: %+v", got)
	}
	f.wantCount(1, `runs WHERE exit_code = 0 AND kind = 'bid' AND counters @> '{"lock_attempts": 1, "lock_successes": 1, "lock_conflicts": 1, "lock_timeouts": 0}'`)
}

// awaitTried waits until an attempt by hand has tried the lock. Until it tries again it holds no transaction.
func (f *fixture) awaitTried() {
	f.t.Helper()
	f.await("an attempt waits for the lock", `EXISTS (SELECT FROM pg_stat_activity
		WHERE datname = current_database() AND application_name = 'bidder bid' AND state = 'idle' AND query IN ('commit', 'rollback'))`)
}

func TestInterruptWaitForLock(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.ingest(line("held"))
	f.lock("held")
	p := f.start("bid", "upwork", "held", "--lock-wait", "10s", "-o", "json")
	f.awaitTried()
	p.signal(syscall.SIGTERM)
	p.wait().want(t, 143)
	f.wantCount(0, "bids")
	f.wantCount(1, "runs WHERE exit_code = 143")
}

// TestLostBackend has the server end the session in the middle of a claim, as in a failover.
func TestLostBackend(t *testing.T) {
	t.Parallel()
	for _, command := range []string{"bid upwork 1", "run --workers 1"} {
		t.Run(command, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			f.ingest(line("1"))
			f.stallAt("1")
			p := f.start(append(strings.Fields(command), "-o", "json", "--statement-timeout", "1m")...)
			f.awaitStalled(1)
			f.exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity
				WHERE datname = current_database() AND application_name LIKE 'bidder %' AND state = 'active'`)
			f.openGate()
			r := p.wait().want(t, 4)
			if strings.HasPrefix(command, "run") {
				report := decode[runReport](t, r)
				if report.Outcomes["failed"] != 1 || report.Attempts != 1 {
					t.Errorf("ended in %v", report.Outcomes)
				}
				f.wantRecorded(report)
			} else if got := decode[bidReport](t, r); got.Outcome != "failed" || orNone(got.Detail) != "connection_lost" || got.BidID != nil {
				t.Errorf("ended in %+v", got)
			}
			f.wantCount(0, "bids")
			f.wantCount(1, "runs WHERE exit_code = 4")
			report := decode[runReport](t, f.bidder("run", "-o", "json").want(t, 0))
			if report.Outcomes["claimed"] != 1 {
				t.Errorf("the next pass ended in %v", report.Outcomes)
			}
		})
	}
}

// TestStatementTimeout: a server that is too slow is an outage, never "someone else is bidding".
func TestStatementTimeout(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.ingest(line("1"))
	f.stallAt("1")
	got := decode[bidReport](t, f.bidder("bid", "upwork", "1", "--statement-timeout", "300ms", "-o", "json").want(t, 4))
	if got.Outcome != "failed" || orNone(got.Detail) != "statement_timeout" || got.BidID != nil {
		t.Errorf("ended in %+v", got)
	}
	report := decode[runReport](t, f.bidder("run", "--workers", "1", "--statement-timeout", "300ms", "-o", "json").want(t, 4))
	if report.Outcomes["failed"] != 1 || report.Locks != (locks{Attempts: 1, Successes: 1}) {
		t.Errorf("ended in %v, %+v", report.Outcomes, report.Locks)
	}
	f.wantCount(0, "bids")
	f.wantCount(1, "candidates WHERE tries = 1 AND last_error LIKE 'statement_timeout%' AND not_before > now() AND not_before < now() + interval '1 minute'")
	f.openGate()
	f.await("it is due again", "not_before <= clock_timestamp() FROM candidates")
	if report := decode[runReport](t, f.bidder("run", "-o", "json").want(t, 0)); report.Outcomes["claimed"] != 1 {
		t.Errorf("the next pass ended in %v", report.Outcomes)
	}
}

// TestPrecedence: of everything that stands against a bid the first counts.
func TestPrecedence(t *testing.T) {
	t.Parallel()
	f := setup(t)
	configuration := file(t, "bidder.yaml", "marketplaces:", "  guru:", "    handler: none")
	f.ingest(
		line("closed"), line("stale"), line("stale and ineligible"), line("fresh"),
		`{"marketplace":"upwork","job_id":"no amount","title":"A title"}`,
		`{"marketplace":"guru","job_id":"off","title":"A title","budget_max":5}`,
	)
	f.claim("duplicate and stale", "recent and stale")
	f.exec("UPDATE postings SET cached_at = now() - interval '2 days' WHERE job_id LIKE '%stale%'")
	f.exec("UPDATE candidates SET cached_at = now() - interval '2 days' WHERE job_id LIKE '%stale%'")
	f.exec("UPDATE postings SET budget_max_cents = NULL WHERE job_id = 'stale and ineligible'")
	f.exec("UPDATE bids SET status = 'WITHDRAWN', delivery_kind = NULL, delivery_state = NULL WHERE job_id = 'recent and stale'")
	for i, ending := range []string{"won", "lost", "rejected"} {
		jobID := fmt.Sprint("closed", i)
		id := f.claim(jobID)[0]
		f.bidder("bids", "mark", id, ending, "--note", "x").want(t, 0)
	}
	tests := []struct{ marketplace, jobID, want, detail string }{
		{"upwork", "nowhere", "unknown", "<null>"},
		{"upwork", "duplicate and stale", "duplicate", "<null>"},
		{"upwork", "closed0", "closed", "won"},
		{"upwork", "closed1", "closed", "lost"},
		{"upwork", "closed2", "closed", "rejected"},
		{"upwork", "recent and stale", "recent", "<null>"},
		{"upwork", "stale", "stale", "<null>"},
		{"upwork", "stale and ineligible", "stale", "<null>"},
		{"upwork", "no amount", "ineligible", "no_amount"},
		{"guru", "off", "ineligible", "handler_none"},
		{" UpWork ", " fresh ", "claimed", "<null>"},
	}
	for _, tt := range tests {
		code := 3
		if tt.want == "claimed" {
			code = 0
		}
		c := f.call("bid", tt.marketplace, tt.jobID, "-o", "json", "--config", configuration)
		rehearsed := decode[bidReport](t, c.with("BIDDER_DRY_RUN=1").run(t).want(t, code))
		got := decode[bidReport](t, c.run(t).want(t, code))
		for _, report := range []bidReport{rehearsed, got} {
			if report.Outcome != tt.want || orNone(report.Detail) != tt.detail {
				t.Errorf("%s %s: %s (%s), want %s (%s)", tt.marketplace, tt.jobID, report.Outcome, orNone(report.Detail), tt.want, tt.detail)
			}
		}
		if got.LockKey != "bid:lock:"+strings.ToLower(strings.TrimSpace(tt.marketplace))+":"+strings.TrimSpace(tt.jobID) {
			t.Errorf("lock key %q", got.LockKey)
		}
		if rehearsed.BidID != nil || (got.BidID != nil) != (tt.want == "claimed") || (got.ExistingBidID != nil) != (tt.want == "duplicate") {
			t.Errorf("%s: %+v and %+v", tt.jobID, rehearsed, got)
		}
	}
}

// TestVanishedPosting: what is not in the cache any more is decided all the same.
func TestVanishedPosting(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.ingest(line("1"), line("2"))
	f.exec("DELETE FROM postings WHERE job_id = '1'")
	report := decode[runReport](t, f.bidder("run", "-o", "json").want(t, 0))
	if report.Outcomes["unknown"] != 1 || report.Outcomes["claimed"] != 1 || report.Attempts != 2 {
		t.Errorf("ended in %v", report.Outcomes)
	}
	f.wantCount(0, "candidates")
}

// TestAmount: an amount that somebody asks for is never changed, a budget is moved into the bounds.
func TestAmount(t *testing.T) {
	t.Parallel()
	f := setup(t)
	configuration := file(t, "bidder.yaml", `min_amount: "10.00"`, `max_amount: "500.00"`)
	f.ingest(
		line("budget"),
		line("wanted", `,"bid":{"amount":"480.25","period_days":10,"proposal":"Hello"}`),
		line("too much", `,"bid":{"amount":"500.01"}`),
		line("rich", `,"budget_min":600`),
	)
	f.exec("UPDATE postings SET budget_max_cents = 70000 WHERE job_id = 'rich'")
	report := decode[runReport](t, f.bidder("run", "--config", configuration, "-o", "json").want(t, 0))
	if report.Outcomes["claimed"] != 3 || report.Outcomes["ineligible"] != 1 {
		t.Errorf("ended in %v", report.Outcomes)
	}
	f.wantCount(1, "bids WHERE job_id = 'budget' AND amount_cents = 10000 AND currency = 'USD'")
	f.wantCount(1, "bids WHERE job_id = 'wanted' AND amount_cents = 48025 AND period_days = 10 AND proposal = 'Hello'")
	f.wantCount(1, "bids WHERE job_id = 'rich' AND amount_cents = 50000")
	got := decode[bidReport](t, f.bidder("bid", "upwork", "too much", "--config", configuration, "-o", "json").want(t, 3))
	if orNone(got.Detail) != "amount_above_maximum" {
		t.Errorf("too much: %+v", got)
	}
	for _, amount := range []string{"9.99", "500.01", "0", "-1", "1.234", "abc"} {
		f.bidder("bid", "upwork", "too much", "--config", configuration, "--amount="+amount).wantError(t, 2, "--amount")
	}
	f.bidder("bid", "upwork", "too much", "--config", configuration, "--amount", "33.5").want(t, 0)
	f.wantCount(1, "bids WHERE job_id = 'too much' AND amount_cents = 3350")
}
