package e2e

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

func TestKey(t *testing.T) {
	t.Parallel()
	f := setup(t)
	tests := []struct{ marketplace, jobID, want, normalMarketplace, normalJobID string }{
		{"upwork", "~01", "bid:lock:upwork:~01", "upwork", "~01"},
		{" UpWork", " ~01 ", "bid:lock:upwork:~01", "upwork", "~01"},
		{"PeopleHour", "PPH-1", "bid:lock:peopleperhour:PPH-1", "peopleperhour", "PPH-1"},
		{"guru", "a:b 'c' \"d\" über", "bid:lock:guru:a:b 'c' \"d\" über", "guru", "a:b 'c' \"d\" über"},
	}
	for _, tt := range tests {
		got := decode[struct{ Key, Bigint string }](t, f.bidder("key", tt.marketplace, tt.jobID, "-o", "json").want(t, 0))
		number := read[int64](f, "SELECT bid_lock_key($1, $2)", tt.normalMarketplace, tt.normalJobID)
		if got.Key != tt.want || got.Bigint != strconv.FormatInt(number, 10) {
			t.Errorf("%s %s: got %+v, want %s and %d", tt.marketplace, tt.jobID, got, tt.want, number)
		}
	}
	for _, wrong := range [][]string{{"up work", "1"}, {"upwork", ""}, {"upwork", "None"}, {"upwork"}, {"upwork", "1", "2"}} {
		f.bidder(append([]string{"key"}, wrong...)...).wantError(t, 2)
	}
}

func TestLocks(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.ingest(line("1"), line("2"))
	type lock struct {
		Marketplace     string
		JobID           string `json:"job_id"`
		PID             int
		ApplicationName string `json:"application_name"`
	}
	listed := func() []lock {
		t.Helper()
		return decode[list[lock]](t, f.bidder("locks", "-o", "json").want(t, 0)).Items
	}
	if got := listed(); len(got) != 0 {
		t.Errorf("got %+v, want none", got)
	}
	holder := f.lock("2")
	f.execIn(holder, "SET LOCAL application_name = 'psql of ann'")
	f.execIn(holder, "SELECT pg_advisory_xact_lock(42), pg_advisory_xact_lock(1, 2)") // of no posting
	var pid int
	if err := holder.QueryRow(t.Context(), "SELECT pg_backend_pid()").Scan(&pid); err != nil {
		t.Fatal(err)
	}
	got := listed()
	if want := (lock{"upwork", "2", pid, "psql of ann"}); len(got) != 1 || got[0] != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if table := f.bidder("locks").want(t, 0).stdout; !strings.Contains(table, "psql of ann") {
		t.Errorf("the table:\n%s", table)
	}
	f.commit(holder)

	// The program's own.
	f.stallAt("1")
	p := f.start("bid", "upwork", "1", "--statement-timeout", "1m")
	f.awaitStalled(1)
	if got := listed(); len(got) != 1 || got[0].JobID != "1" || got[0].ApplicationName != "bidder bid" {
		t.Errorf("got %+v, want that of bidder bid", got)
	}
	f.openGate()
	p.wait().want(t, 0)
}

// TestWhy asks for every outcome that a look can find, and for what queues a posting.
func TestWhy(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.claim("live")
	f.bidder("bids", "mark", f.claim("lost")[0], "lost", "--note", "x").want(t, 0)
	f.claim("withdrawn")
	f.claim("won", "taken back")
	f.exec("UPDATE bids SET status = 'WITHDRAWN', delivery_kind = NULL, delivery_state = NULL WHERE job_id IN ('withdrawn', 'taken back')")
	f.ingest(line("fresh"), line("old"), line("later"), line("parked"), `{"marketplace":"upwork","job_id":"no amount","title":"x"}`,
		`{"marketplace":"guru","job_id":"off","title":"x","budget_max":1}`)
	f.exec("UPDATE postings SET cached_at = cached_at - interval '25 hours' WHERE job_id = 'old'")
	f.exec("UPDATE candidates SET not_before = now() + interval '1 hour' WHERE job_id = 'later'")
	f.exec("UPDATE candidates SET not_before = 'infinity', tries = 8, last_error = 'the disk is full' WHERE job_id = 'parked'")
	f.exec("DELETE FROM candidates WHERE job_id = 'no amount'")
	configuration := file(t, "bidder.yaml", "marketplaces:", "  guru:", "    handler: none")

	tests := []struct {
		marketplace, jobID, want string
		bids                     int
		says                     []string
	}{
		{"upwork", "nowhere", "unknown", 0, []string{"bidder ingest", "not queued"}},
		{"upwork", "live", "duplicate", 1, []string{read[string](f, "SELECT id::text FROM bids WHERE job_id = 'live'")}},
		{"upwork", "lost", "closed", 1, []string{"lost"}},
		{"upwork", "withdrawn", "closed", 1, []string{"withdrawn", "bidder bid"}},
		{"upwork", "old", "stale", 0, []string{"25h", "24h"}},
		{"upwork", "no amount", "ineligible", 0, []string{"what to bid", "--reconsider"}},
		{"guru", "off", "ineligible", 0, []string{"handler: none"}},
		{"UpWork", " fresh ", "claimed", 0, []string{"100.00", "next run"}},
		{"upwork", "later", "claimed", 0, []string{"until"}},
		{"upwork", "parked", "claimed", 0, []string{"parked", "8", "the disk is full"}},
	}
	f.untouched(func() {
		for _, tt := range tests {
			why := f.call("why", tt.marketplace, tt.jobID, "--config", configuration)
			got := decode[struct {
				Outcome string
				Reasons []string
				Bids    []bidJSON
			}](t, why.json().run(t).want(t, 0))
			if got.Outcome != tt.want || len(got.Bids) != tt.bids {
				t.Errorf("%s: %+v, want %s with %d bids", tt.jobID, got, tt.want, tt.bids)
			}
			table := why.run(t).want(t, 0).stdout
			for _, text := range append(tt.says, tt.want) {
				if reasons := strings.Join(got.Reasons, " "); !strings.Contains(reasons, text) && text != tt.want || !strings.Contains(table, text) {
					t.Errorf("%s: it is not said that %q: %s\n%s", tt.jobID, text, reasons, table)
				}
			}
		}
	})

	// What a pass then does.
	f.exec("UPDATE candidates SET not_before = now()")
	report := decode[runReport](t, f.bidder("run", "--reconsider", "--config", configuration, "-o", "json").want(t, 0))
	for outcome, want := range map[string]int{"closed": 3, "stale": 1, "ineligible": 2, "claimed": 3} {
		if report.Outcomes[outcome] != want {
			t.Errorf("%d attempts ended %s, want %d: %v", report.Outcomes[outcome], outcome, want, report.Outcomes)
		}
	}
}

type statsReport struct {
	Runs     int
	Counters map[string]int
	Outcomes map[string]int
}

// TestStats adds up what the commands have reported, and compares.
func TestStats(t *testing.T) {
	t.Parallel()
	f := setup(t)
	read := func(args ...string) statsReport {
		t.Helper()
		return decode[statsReport](t, f.bidder(append([]string{"stats", "-o", "json"}, args...)...).want(t, 0))
	}
	if got := read(); got.Runs != 0 || got.Counters["lock_attempts"] != 0 || len(got.Outcomes) != len(outcomes) {
		t.Errorf("without runs: %+v", got)
	}

	f.ingest(line("1"), line("2"), line("3"))
	f.lock("2")
	want := statsReport{Counters: map[string]int{}, Outcomes: map[string]int{}}
	reviewed := 0
	for _, args := range []string{"run", "run --reconsider", "run", "run --dry-run"} {
		report := decode[runReport](t, f.bidder(append(strings.Fields(args), "-o", "json")...).want(t, 0))
		if report.DryRun {
			continue
		}
		want.Runs++
		want.Counters["lock_attempts"] += report.Locks.Attempts
		want.Counters["lock_successes"] += report.Locks.Successes
		want.Counters["lock_conflicts"] += report.Locks.Conflicts
		want.Counters["lock_timeouts"] += report.Locks.Timeouts
		for outcome, n := range report.Outcomes {
			want.Outcomes[outcome] += n
		}
		reviewed += report.Outcomes["claimed"] // the default handler hands all to a person
	}
	for jobID, waits := range map[string]string{"1": "0", "2": "0", "nowhere": "1s"} {
		report := decode[bidReport](t, f.bidder("bid", "upwork", jobID, "--lock-wait", waits, "-o", "json").want(t, 3))
		want.Runs++
		want.Outcomes[report.Outcome]++
		want.Counters["lock_attempts"]++
		if report.Outcome == "locked" {
			want.Counters["lock_conflicts"]++
			want.Counters["lock_timeouts"]++
		} else {
			want.Counters["lock_successes"]++
		}
	}
	got := read()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	f.exec("UPDATE runs SET started_at = started_at - interval '2 hours' WHERE kind = 'run'")
	if got := read("--since", "1h"); got.Runs != 3 || got.Counters["lock_attempts"] != 3 {
		t.Errorf("of the last hour: %+v", got)
	}

	metrics := readPrometheus(t, f.bidder("stats", "-o", "prometheus").want(t, 0).stdout)
	for _, kind := range []string{"place", "withdraw"} {
		for result, n := range handedOver(kind, reviewed) {
			if name := fmt.Sprintf("bidder_deliveries_total{kind=%q,result=%q}", kind, result); metrics[name] != n {
				t.Errorf("metric %s is %d, want %d", name, metrics[name], n)
			}
		}
	}
	if n := metrics[`bidder_runs_total{kind="run"}`] + metrics[`bidder_runs_total{kind="bid"}`]; n != want.Runs {
		t.Errorf("metrics tell of %d runs, want %d", n, want.Runs)
	}
	for name, n := range want.Counters {
		if metrics["bidder_"+name+"_total"] != n {
			t.Errorf("metric %s is %d, want %d", name, metrics["bidder_"+name+"_total"], n)
		}
	}
	for _, outcome := range outcomes {
		if name := fmt.Sprintf("bidder_attempts_total{outcome=%q}", outcome); metrics[name] != want.Outcomes[outcome] {
			t.Errorf("metric %s is %d, want %d", name, metrics[name], want.Outcomes[outcome])
		}
	}
	f.bidder("stats", "-o", "prometheus", "--since", "1h").wantError(t, 2, "--since")
	f.bidder("run", "-o", "prometheus").wantError(t, 2, "--output")
}

// handedOver are the counts of a kind of deliveries, of which so many placings went to a person.
func handedOver(kind string, reviewed int) map[string]int {
	if kind != "place" {
		reviewed = 0
	}
	return map[string]int{"done": 0, "retry": 0, "rejected": 0, "review": reviewed}
}

// readPrometheus reads the text as Prometheus does.
func readPrometheus(t *testing.T, text string) map[string]int {
	t.Helper()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	found := map[string]int{}
	for name, family := range families {
		for _, m := range family.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			key := name
			if len(labels) > 0 {
				key += "{" + strings.Join(labels, ",") + "}"
			}
			found[key] = int(m.GetCounter().GetValue() + m.GetGauge().GetValue())
		}
	}
	return found
}
