package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// capsFile is a configuration with these caps at upwork, as a flow mapping.
func capsFile(t *testing.T, caps string) string {
	t.Helper()
	return file(t, "bidder.yaml", "marketplaces:", "  upwork: {handler: manual, caps: {"+caps+"}}")
}

// TestCaps has eight pods race for the last bids of the day, and of its money.
func TestCaps(t *testing.T) { //nolint:tparallel // eight processes at once are enough
	t.Parallel()
	const pods, postings = 8, 200
	tests := []struct {
		name, caps string
		fits       int
	}{
		{"bids", "bids_per_day: 20", 20},
		{"money", `money_per_day: "1350.00", zone: Europe/Berlin`, 13},
		{"live", "live_bids: 7", 7},
		{"last one", "bids_per_day: 1", 1},
	}
	for _, tt := range tests { //nolint:paralleltest // the same
		t.Run(tt.name, func(t *testing.T) {
			f := setup(t)
			config := "BIDDER_CONFIG=" + capsFile(t, tt.caps)
			all, _ := lines(postings)
			f.ingest(all...)
			dry := decode[runReport](t, f.call("run", "--dry-run").json().with(config).run(t).want(t, 0))
			if dry.Outcomes["claimed"] != tt.fits || dry.Outcomes["ineligible"] != postings-tt.fits {
				t.Errorf("a dry run says %v, want %d claimed", dry.Outcomes, tt.fits)
			}
			run := f.call("run", "--no-delivery").json().with(config, "BIDDER_BATCH=7", "BIDDER_WORKERS=2")
			var runs []*process
			f.together(pods, func() {
				for range pods {
					runs = append(runs, run.start(t))
				}
			})
			claimed := 0
			for _, p := range runs {
				claimed += decode[runReport](t, p.wait().want(t, 0)).Outcomes["claimed"]
			}
			// What was locked for a moment is soon due again, and meets the cap.
			const soon = "SELECT count(*) FROM candidates WHERE not_before < clock_timestamp() + interval '5 seconds'"
			for read[int](f, soon) > 0 && t.Context().Err() == nil {
				claimed += decode[runReport](t, run.run(t).want(t, 0)).Outcomes["claimed"]
			}
			f.wantCount(tt.fits, "bids")
			f.wantCount(postings-tt.fits, "candidates")
			if claimed != tt.fits {
				t.Errorf("the runs say that they claimed %d", claimed)
			}
			f.wantNoDeadlocks()
		})
	}
}

// TestCapsShow: every command that looks says which cap stands against a bid, and until when.
func TestCapsShow(t *testing.T) {
	t.Parallel()
	f := setup(t)
	config := "BIDDER_CONFIG=" + capsFile(t, "bids_per_day: 2, money_per_day: 250, zone: Asia/Tokyo")
	f.ingest(line("1"), line("2"), line("3"))
	f.call("run", "--no-delivery", "--workers", "1").with(config).run(t).want(t, 0)

	why := decode[struct {
		Outcome  string     `json:"outcome"`
		Detail   string     `json:"detail"`
		ResetsAt *time.Time `json:"resets_at"`
		Reasons  []string   `json:"reasons"`
	}](t, f.call("why", "upwork", "3").json().with(config).run(t).want(t, 0))
	midnight := read[time.Time](f, "SELECT ((clock_timestamp() AT TIME ZONE 'Asia/Tokyo')::date + 1)::timestamp AT TIME ZONE 'Asia/Tokyo'")
	if why.Outcome != "ineligible" || why.Detail != "cap_bids_per_day" || why.ResetsAt == nil || !why.ResetsAt.Equal(midnight) || len(why.Reasons) != 2 {
		t.Errorf("why: %+v, want that the cap resets at %v", why, midnight)
	}
	bid := decode[bidReport](t, f.call("bid", "upwork", "3").json().with(config).run(t).want(t, 3))
	if bid.Outcome != "ineligible" || orNone(bid.Detail) != "cap_bids_per_day" {
		t.Errorf("bid: %+v", bid)
	}
	for _, tt := range []struct {
		args []string
		want []string
	}{
		{[]string{"stats"}, []string{"bids_per_day", "money_per_day", "200.00 USD", "250.00 USD", midnight.UTC().Format("2006-01-02 15:04:05Z")}},
		{[]string{"stats", "-o", "json"}, []string{`"cap": "bids_per_day"`, `"used": 20000`, `"limit": 25000`, `"currency": "USD"`}},
		{[]string{"stats", "-o", "prometheus"}, []string{
			`bidder_cap_used{marketplace="upwork",account="default",cap="bids_per_day",currency=""} 2`,
			`bidder_cap_limit{marketplace="upwork",account="default",cap="money_per_day",currency="USD"} 25000`,
		}},
		{[]string{"config", "check"}, []string{"marketplaces.upwork.caps.bids_per_day", "Asia/Tokyo"}},
		{[]string{"doctor", "-o", "json"}, []string{"upwork bids_per_day: 2 of 2", "upwork money_per_day: 200.00 USD of 250.00 USD"}},
	} {
		out := f.call(tt.args...).with(config).run(t).stdout
		for _, text := range tt.want {
			if !strings.Contains(out, text) {
				t.Errorf("bidder %s does not say %q:\n%s", strings.Join(tt.args, " "), text, out)
			}
		}
	}
}

// TestCapsNeverFit: what is larger than the cap itself is not told to wait for another day.
func TestCapsNeverFit(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.ingest(line("1")) // 100.00
	config := "BIDDER_CONFIG=" + capsFile(t, `money_per_day: "99.99"`)
	for _, args := range [][]string{{"why", "upwork", "1"}, {"bid", "upwork", "1"}} {
		said := f.call(args...).with(config).run(t).stdout
		if !strings.Contains(said, "100.00 USD") || !strings.Contains(said, "99.99 USD") || !strings.Contains(said, "never fits") || strings.Contains(said, "room again") {
			t.Errorf("%s says:\n%s", args[0], said)
		}
	}
}

// TestCapsRaised: what waits for tomorrow is bid on at once when it is asked for.
func TestCapsRaised(t *testing.T) {
	t.Parallel()
	f := setup(t)
	all, _ := lines(6)
	f.ingest(all...)
	for i, step := range []struct {
		caps string
		args []string
		bids int
	}{
		{"bids_per_day: 2", nil, 2},
		{"bids_per_day: 4", nil, 2},
		{"bids_per_day: 4", []string{"--reconsider"}, 4},
		{"bids_per_day: 1", []string{"--reconsider"}, 4},
		{"bids_per_day: none", []string{"--reconsider"}, 6},
	} {
		f.call(append([]string{"run", "--no-delivery"}, step.args...)...).with("BIDDER_CONFIG="+capsFile(t, step.caps)).run(t).want(t, 0)
		if i == 1 {
			waiting := read[string](f, "SELECT job_id FROM candidates LIMIT 1")
			why := f.call("why", "upwork", waiting).with("BIDDER_CONFIG="+capsFile(t, step.caps)).run(t).want(t, 0).stdout
			if !strings.Contains(why, `"claimed"`) || !strings.Contains(why, "bidder run --reconsider") {
				t.Errorf("why does not say how it is bid on at once:\n%s", why)
			}
		}
		if n := read[int](f, "SELECT count(*) FROM bids"); n != step.bids {
			t.Errorf("step %s: %d bids, want %d", fmt.Sprint(i, step), n, step.bids)
		}
	}
}
