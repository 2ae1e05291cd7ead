package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestDryRun: a rehearsal writes nothing, takes no locks, and says what the real thing then does.
func TestDryRun(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.claim("live")
	f.bidder("bids", "mark", f.claim("lost")[0], "lost", "--note", "x").want(t, 0)
	f.exec("UPDATE bids SET status = 'WITHDRAWN', delivery_kind = NULL, delivery_state = NULL WHERE id = $1::text::uuid", f.claim("withdrawn")[0])
	f.ingest(line("due"), line("old and due"), line("deleted"), line("later"))
	f.exec("UPDATE postings SET cached_at = cached_at - interval '2 days' WHERE job_id = 'old and due'")
	f.exec("UPDATE candidates SET cached_at = cached_at - interval '2 days' WHERE job_id = 'old and due'")
	f.exec("DELETE FROM postings WHERE job_id = 'deleted'")
	f.exec("UPDATE candidates SET not_before = now() + interval '1 hour' WHERE job_id = 'later'")
	f.lock("due") // a rehearsal takes no locks, so this is nothing to it

	postings := file(t, "postings.ndjson",
		line("live", seen(-time.Second)), line("lost", seen(-time.Second)), line("withdrawn", seen(-time.Second)),
		line("new", seen(0)), line("new and old", seen(25*time.Hour)), line("new", seen(-time.Second)), "", "bad",
		`{"marketplace":"upwork","job_id":"no amount","title":"x"`+seen(0)+`}`,
		line("later", seen(-time.Second), `,"bid":{"amount":1}`), line("old and due", seen(30*time.Hour)),
	)
	options := []string{"--postings", postings, "-o", "json"}
	var rehearsed runReport
	f.untouched(func() {
		for _, dry := range []call{
			f.call(append([]string{"run", "--dry-run"}, options...)...),
			f.call(append([]string{"run"}, options...)...).with("BIDDER_DRY_RUN=true"),
		} {
			rehearsed = decode[runReport](t, dry.run(t).want(t, 3))
			if !rehearsed.DryRun || rehearsed.RunID != nil || rehearsed.Locks != (locks{}) {
				t.Errorf("got %+v", rehearsed)
			}
		}
		ingest := decode[ingestReport](t, f.bidder("ingest", postings, "--dry-run", "-o", "json").want(t, 3))
		if ingest.counts != rehearsed.Ingest {
			t.Errorf("ingest would count %+v, run %+v", ingest.counts, rehearsed.Ingest)
		}
	})
	f.exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'")

	done := decode[runReport](t, f.bidder(append([]string{"run"}, options...)...).want(t, 3))
	if diff := cmp.Diff(rehearsed.Outcomes, done.Outcomes); diff != "" || rehearsed.Attempts != done.Attempts {
		t.Errorf("outcomes (-rehearsed +done):\n%s", diff)
	}
	if in := done.Ingest; rehearsed.Ingest != in || in.Read != in.Accepted+in.Updated+in.Unchanged+in.Rejected+in.Blank {
		t.Errorf("rehearsed %+v, done %+v", rehearsed.Ingest, in)
	}
	for outcome, want := range map[string]int{"unknown": 1, "duplicate": 1, "closed": 2, "stale": 2, "ineligible": 1, "claimed": 3} {
		if done.Outcomes[outcome] != want {
			t.Errorf("%d attempts ended %s, want %d", done.Outcomes[outcome], outcome, want)
		}
	}
}

// TestDryRunOfIngest compares the whole reports.
func TestDryRunOfIngest(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.ingest(line("1"), line("2", seen(time.Hour)))
	first := file(t, "first.ndjson", line("1", seen(time.Hour)), line("2", seen(time.Minute)), line("3", seen(time.Hour)), "bad", "",
		line("3", seen(time.Minute), `,"odd":1`), line("3", seen(time.Hour)))
	second := file(t, "second.ndjson", line("3", seen(30*time.Minute)), line("3", seen(0)), line("4", seen(0)))
	var rehearsed ingestReport
	f.untouched(func() {
		rehearsed = decode[ingestReport](t, f.bidder("ingest", "--dry-run", first, second, "-o", "json").want(t, 3))
	})
	done := decode[ingestReport](t, f.bidder("ingest", first, second, "-o", "json").want(t, 3))
	if diff := cmp.Diff(rehearsed, done, cmp.AllowUnexported(ingestReport{})); diff != "" {
		t.Errorf("reports (-rehearsed +done):\n%s", diff)
	}
	if want := (counts{Read: 10, Accepted: 2, Updated: 3, Unchanged: 3, Rejected: 1, Blank: 1}); done.counts != want {
		t.Errorf("got %+v, want %+v", done.counts, want)
	}
}

// TestDryRunEverywhere: the variable holds for every command that writes, and a typo in it is no licence.
func TestDryRunEverywhere(t *testing.T) {
	t.Parallel()
	f := setup(t)
	id := f.claim("live")[0]
	f.ingest(line("due"))
	commands := []struct {
		args string
		code int
	}{
		{"ingest --cached-at now -", 0},
		{"run --postings - --cached-at now", 0},
		{"run --reconsider", 0},
		{"bid upwork due", 0},
		{"bid upwork live", 3},
		{"bids mark " + id + " won --note x", 0},
		{"prune --older-than 90d", 0},
		{"migrate up", 0},
		{"migrate down --yes", 0},
		{"migrate force 1 --yes", 2},
		{"bench", 2},
	}
	f.untouched(func() {
		for _, tt := range commands {
			for _, value := range []string{"true", "1"} {
				r := f.call(strings.Fields(tt.args)...).reading(line("new")).with("BIDDER_DRY_RUN=" + value).run(t)
				if r.code != tt.code {
					t.Errorf("%s: got exit code %d, want %d: %s", tt.args, r.code, tt.code, r.stderr)
				}
			}
			for _, value := range []string{"ture", "yes", "", "TRUE "} {
				r := f.call(strings.Fields(tt.args)...).reading(line("new")).with("BIDDER_DRY_RUN=" + value).run(t)
				if r.code != 2 || r.stdout != "" || !strings.Contains(r.stderr, "BIDDER_DRY_RUN") {
					t.Errorf("%s with %q: got exit code %d, want 2: %s%s", tt.args, value, r.code, r.stdout, r.stderr)
				}
			}
		}
		for _, args := range []string{"stats", "bids", "config check", "run --dry-run"} {
			if r := f.call(strings.Fields(args)...).with("BIDDER_DRY_RUN=ture").run(t); r.code != 2 {
				t.Errorf("%s: got exit code %d, want 2: %s", args, r.code, r.stderr)
			}
		}
	})
	// The flag beats the variable.
	f.call("run", "--dry-run=false").with("BIDDER_DRY_RUN=true").run(t).want(t, 0)
	f.wantCount(2, "bids WHERE status = 'ACTIVE'")
}

// TestDryRunOfDeliveries: what a run would begin is said of each kind of delivery, and nobody is called.
func TestDryRunOfDeliveries(t *testing.T) {
	t.Parallel()
	m := setupMarket(t, patient())
	placed := m.placed("back")[0]
	ids := m.owing("fresh", "stale", "lost", "unsent")
	m.exec("UPDATE bids SET withdraw_requested_at = now(), withdraw_requested_reason = 'x' WHERE id = $1::text::uuid", ids[3])
	m.exec("UPDATE bids SET withdraw_requested_at = now(), withdraw_requested_reason = 'x', delivery_kind = 'withdraw', delivery_state = 'pending', next_attempt_at = now() WHERE id = $1::text::uuid", placed)
	m.exec("UPDATE bids SET place_posts = 1, first_post_at = now(), last_post_at = now() WHERE id = $1::text::uuid", ids[2])
	m.exec("UPDATE postings SET deadline = now() WHERE job_id = 'stale'")
	calls := len(m.server.Journal())
	m.untouched(func() {
		r := m.bidder("run", "--dry-run").want(t, 0)
		for _, want := range []string{
			"upwork: 1 of what is due would be sent.", "upwork: 1 of what is due would be handed to a person: the posting is no longer open.",
			"upwork: 1 of what is due would be looked up: an earlier answer proved nothing.", "upwork: 1 of what is due would be looked up and withdrawn.",
			"upwork: 1 of what is due would be withdrawn without a call: it was never sent.",
		} {
			if !strings.Contains(r.stderr, want) {
				t.Errorf("it does not say %q:\n%s", want, r.stderr)
			}
		}
	})
	m.exec("UPDATE bids SET approved_at = now(), approved_by = 'x' WHERE id = $1::text::uuid", m.owing("approved")[0])
	for sent, config := range map[string][]string{"2 of what is due would be sent.": nil, "1 of what is due would be sent.": {"approval: required"}} {
		m.env = m.configure(patient(), config...)
		r := m.bidder("run", "--dry-run").want(t, 0)
		kept := strings.Contains(r.stderr, "upwork: 1 of what is due would be kept until a person approves it.")
		if !strings.Contains(r.stderr, sent) || kept != (config != nil) {
			t.Errorf("with %q it does not say %q, or whom it waits for:\n%s", config, sent, r.stderr)
		}
	}
	m.bidder("pause", "upwork").want(t, 0)
	if r := m.bidder("run", "--dry-run").want(t, 0); !strings.Contains(r.stderr, "upwork: 6 of what is due would be left alone: the account is paused.") {
		t.Errorf("of a paused account it says:\n%s", r.stderr)
	}
	if got := len(m.server.Journal()); got != calls {
		t.Errorf("the marketplace was called %d times", got-calls)
	}
}
