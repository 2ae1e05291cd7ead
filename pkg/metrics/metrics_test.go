package metrics_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"golang.org/x/sync/errgroup"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/bidding"
	"github.com/arbitrageai/bidder/pkg/metrics"
	"github.com/arbitrageai/bidder/test/testdb"
)

func TestMain(m *testing.M) { testdb.Main(m) }

type fixture struct {
	t    *testing.T
	pool *pgxpool.Pool // as the program opens it
	q    *queries.Queries
	exporter
}

type exporter = *metrics.Exporter

func setup(t *testing.T) *fixture {
	t.Helper()
	pool, err := db.Open(t.Context(), db.Options{URL: testdb.New(t).URL, MaxConns: 6})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	caps := func(context.Context, queries.DBTX) ([]bidding.CapUsage, error) {
		return []bidding.CapUsage{{Marketplace: `odd"\name`, Account: "default", Cap: "money_per_day", Currency: "USD", Used: 250, Limit: 1000}}, nil
	}
	return &fixture{t, pool, queries.New(pool), &metrics.Exporter{Pool: pool, Caps: caps, Version: "v1.2.3"}}
}

func (f *fixture) exec(sql string, args ...any) {
	f.t.Helper()
	if _, err := f.pool.Exec(f.t.Context(), sql, args...); err != nil {
		f.t.Fatalf("%s: %v", sql, err)
	}
}

// read returns the samples by name and labels, as a reader of Prometheus understands them.
func (f *fixture) read() map[string]float64 {
	f.t.Helper()
	var text strings.Builder
	if err := f.Write(f.t.Context(), &text); err != nil {
		f.t.Fatal(err)
	}
	return samples(f.t, text.String())
}

func samples(t *testing.T, text string) map[string]float64 {
	t.Helper()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	found := map[string]float64{}
	for name, family := range families {
		for _, m := range family.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			slices.Sort(labels)
			key := name
			if len(labels) > 0 {
				key += "{" + strings.Join(labels, ",") + "}"
			}
			if family.GetType() == dto.MetricType_COUNTER {
				found[key] = m.GetCounter().GetValue()
			} else {
				found[key] = m.GetGauge().GetValue()
			}
		}
	}
	return found
}

func (f *fixture) want(want map[string]float64) {
	f.t.Helper()
	got := f.read()
	for name, value := range want {
		if is, there := got[name]; !there || is != value {
			f.t.Errorf("%s is %v (there: %t), want %v", name, is, there, value)
		}
	}
}

// everything makes one of all that is counted.
func (f *fixture) everything() {
	f.t.Helper()
	//nolint:dupword // it is SQL
	f.exec(`INSERT INTO bids (marketplace, job_id, amount_cents, status, delivery_kind, delivery_state, created_at, last_post_at, first_post_at, place_posts,
			next_attempt_at, lease_expires_at, review_since, review_reason, withdraw_requested_at, withdraw_requested_reason)
		SELECT m, j, 100, status, kind, state, now() - age, sent, sent, CASE WHEN sent IS NULL THEN 0 ELSE 1 END, next, CASE WHEN state = 'leased' THEN next END,
			CASE WHEN state = 'review' THEN now() - age END, CASE WHEN state = 'review' THEN 'no_api' END,
			CASE WHEN kind = 'withdraw' THEN now() - age END, CASE WHEN kind = 'withdraw' THEN 'x' END
		FROM (VALUES
			('upwork', '1', 'ACTIVE', NULL, NULL, interval '9 days', NULL::timestamptz, NULL::timestamptz),
			('upwork', '2', 'LOST', NULL, NULL, '9 days', NULL, NULL),
			('upwork', '3', 'ACTIVE', 'place', 'pending', '3 hours', NULL, now() - interval '600 s'),
			('upwork', '4', 'ACTIVE', 'place', 'pending', '9 days', now() - interval '60 s', now() + interval '1 hour'),
			('upwork', '5', 'ACTIVE', 'withdraw', 'leased', '2 hours', NULL, now() + interval '1 minute'),
			('guru', '1', 'ACTIVE', 'place', 'review', '2 days', NULL, NULL),
			('guru', '2', 'ACTIVE', 'place', 'awaiting_approval', '9 days', NULL, NULL)
		) AS b (m, j, status, kind, state, age, sent, next)`)
	f.exec(`INSERT INTO candidates (marketplace, job_id, cached_at, not_before) VALUES
		('upwork', '10', now(), now() - interval '900 s'), ('upwork', '11', now(), now()), ('upwork', '12', now(), now() + interval '1 day'), ('upwork', '13', now(), 'infinity')`)
	//nolint:dupword // it is SQL
	f.exec(`INSERT INTO accounts (marketplace, account, paused_at, paused_reason, paused_by, paused_until) VALUES
		('upwork', '*', now(), 'storm', 'ann', NULL), ('guru', '*', now(), 'over', 'ann', now()), ('guru', 'default', NULL, NULL, NULL, NULL)`)
}

func TestGauges(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.want(map[string]float64{`bidder_last_run_timestamp_seconds{kind="run"}`: 0, "bidder_oldest_owed_delivery_age_seconds": 0, "bidder_oldest_overdue_delivery_age_seconds": 0, "bidder_oldest_due_candidate_age_seconds": 0})
	f.everything()
	f.want(map[string]float64{
		`bidder_live_bids{marketplace="upwork"}`:                                            4,
		`bidder_live_bids{marketplace="guru"}`:                                              2,
		`bidder_owed_deliveries{kind="place",marketplace="upwork",state="pending"}`:         2,
		`bidder_owed_deliveries{kind="withdraw",marketplace="upwork",state="leased"}`:       1,
		`bidder_owed_deliveries{kind="place",marketplace="guru",state="review"}`:            1,
		`bidder_owed_deliveries{kind="place",marketplace="guru",state="awaiting_approval"}`: 1,
		`bidder_review_waiting`:             1,
		`bidder_approval_waiting`:           1,
		`bidder_candidates{state="due"}`:    2,
		`bidder_candidates{state="later"}`:  1,
		`bidder_candidates{state="parked"}`: 1,
		`bidder_paused_accounts`:            1,
		`bidder_schema_version`:             float64(db.LatestVersion()),
		`bidder_cap_used{account="default",cap="money_per_day",currency="USD",marketplace="odd\"\\name"}`:  250,
		`bidder_cap_limit{account="default",cap="money_per_day",currency="USD",marketplace="odd\"\\name"}`: 1000,
	})
	got := f.read()
	for name, least := range map[string]time.Duration{
		"bidder_oldest_owed_delivery_age_seconds":    3 * time.Hour, // not what waits for a person, nor what was sent a minute ago
		"bidder_oldest_overdue_delivery_age_seconds": 10 * time.Minute,
		"bidder_oldest_review_age_seconds":           48 * time.Hour,
		"bidder_oldest_due_candidate_age_seconds":    15 * time.Minute,
	} {
		if age := got[name]; age < least.Seconds() || age > (least+30*time.Minute).Seconds() {
			t.Errorf("%s is %v, want about %v", name, age, least.Seconds())
		}
	}
	// The reading says when it was: the database's clock before it and after it are about that.
	before := f.now()
	read := f.read()["bidder_read_timestamp_seconds"]
	if after := f.now(); read < before || read > after {
		t.Errorf("it was read at %v, which is not from %v to %v", read, before, after)
	}
}

// now is the database's clock as Prometheus has it, in whole milliseconds.
func (f *fixture) now() float64 {
	f.t.Helper()
	now, err := f.q.Now(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}
	return float64(now.UnixMilli()) / 1000
}

// TestFormat: a reader understands it, the conventions are kept, each metric that is described
// is there, and no other.
func TestFormat(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.everything()
	f.run(5)
	var text strings.Builder
	if err := f.Write(t.Context(), &text); err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.New(strings.NewReader(text.String())).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
	families, err := f.Gather(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var names, described []string
	for _, family := range families {
		names = append(names, family.GetName())
		if family.GetHelp() == "" {
			t.Errorf("%s has no help", family.GetName())
		}
	}
	for _, d := range metrics.Descriptions() {
		described = append(described, d.Name)
		if d.Counter != strings.HasSuffix(d.Name, "_total") {
			t.Errorf("%s is a counter: %t", d.Name, d.Counter)
		}
	}
	if !slices.Equal(names, described) {
		t.Errorf("written:   %v\ndescribed: %v", names, described)
	}
	samples(t, text.String())
}

// run makes a run that claims n postings and ends, and returns its id.
func (f *fixture) run(n int) uuid.UUID {
	f.t.Helper()
	id := f.begin(n, n)
	if _, err := f.q.FinishRun(f.t.Context(), counters(n), 0, id); err != nil {
		f.t.Fatal(err)
	}
	if age := time.Since(time.UnixMilli(int64(1000 * f.read()[`bidder_last_run_timestamp_seconds{kind="run"}`]))); age.Abs() > time.Hour {
		f.t.Errorf("the last run is %s ago", age)
	}
	return id
}

// begin makes a run that has claimed so many postings, and has come to count so many of them.
func (f *fixture) begin(claimed, counted int) uuid.UUID {
	f.t.Helper()
	id := uuid.Must(uuid.NewV7())
	if _, err := f.q.StartRun(f.t.Context(), queries.StartRunParams{ID: id, Kind: "run"}); err != nil {
		f.t.Fatal(err)
	}
	for range claimed {
		bid := uuid.Must(uuid.NewV7())
		f.exec("INSERT INTO bids (id, marketplace, job_id, amount_cents, run_id) VALUES ($1, 'upwork', $2, 1, $3)", bid, bid.String(), id)
	}
	if err := f.q.RecordRun(f.t.Context(), counters(counted), id); err != nil {
		f.t.Fatal(err)
	}
	return id
}

func counters(n int) []byte {
	return fmt.Appendf(nil, `{"lock_attempts":%d,"lock_successes":%[1]d,"lock_conflicts":1,"lock_timeouts":0,"outcomes":{"claimed":%[1]d,"stale":1},
		"deliveries":{"place":{"done":%[1]d,"retry":1,"review":0,"rejected":0},"withdraw":null},"refreshed":{"won":2}}`, n)
}

// onlyCounters are the samples that may never go back.
func onlyCounters(all map[string]float64) map[string]float64 {
	found := map[string]float64{}
	for name, value := range all {
		if base, _, _ := strings.Cut(name, "{"); strings.HasSuffix(base, "_total") {
			found[name] = value
		}
	}
	return found
}

// TestIdleRuns: runs that count nothing are counted, by how they ended, and change nothing else.
func TestIdleRuns(t *testing.T) {
	t.Parallel()
	f := setup(t)
	end := func(counters string, code int32) {
		t.Helper()
		if _, err := f.q.FinishRun(t.Context(), []byte(counters), code, f.begin(0, 0)); err != nil {
			t.Fatal(err)
		}
	}
	f.exec(`INSERT INTO run_totals (kind, runs, counters) VALUES ('run', 1, '{"outcomes": {"claimed": 7}}')`) // of no exit
	const nothing = `{"lock_attempts": 0, "outcomes": {"claimed": 0, "stale": 0}, "deliveries": {"place": {"done": 0}, "withdraw": null}}`
	end(nothing, 0)
	end(nothing, 0)
	end(nothing, 3)
	end(`{"outcomes": {"stale": 1}}`, 0)
	end(`{}`, 4)
	all := f.read()
	for name, want := range map[string]float64{
		`bidder_runs_total{kind="run"}`: 6, `bidder_attempts_total{outcome="claimed"}`: 7, `bidder_attempts_total{outcome="stale"}`: 1,
		`bidder_run_exits_total{exit_code="0",kind="run"}`: 3, `bidder_run_exits_total{exit_code="3",kind="run"}`: 1,
		`bidder_run_exits_total{exit_code="4",kind="run"}`: 1,
	} {
		if all[name] != want {
			t.Errorf("%s is %v, want %v", name, all[name], want)
		}
	}
	if age := time.Since(time.UnixMilli(int64(1000 * all[`bidder_last_run_timestamp_seconds{kind="run"}`]))); age.Abs() > time.Hour {
		t.Errorf("the last run is %s ago", age)
	}
}

// TestCounters: they are exact and never go back, whatever becomes of the runs they come from.
func TestCounters(t *testing.T) {
	t.Parallel()
	f := setup(t)
	before := map[string]float64{}
	step := func(what string, want float64) {
		t.Helper()
		now := onlyCounters(f.read())
		for name, value := range before {
			if now[name] < value {
				t.Errorf("%s: %s went back from %v to %v", what, name, value, now[name])
			}
		}
		before = now
		if got := now[`bidder_attempts_total{outcome="claimed"}`]; got != want {
			t.Errorf("%s: %v claims, want %v", what, got, want)
		}
		if got := now["bidder_lock_successes_total"]; got != want {
			t.Errorf("%s: %v locks, want %v", what, got, want)
		}
	}
	step("at first", 0)
	f.run(3)
	step("after a run", 3)
	killed := f.begin(5, 2)
	step("a run was killed before it counted", 8)
	f.run(1)
	step("after another run", 9)
	silence := func() int64 {
		t.Helper()
		n, err := f.q.CountSilentRuns(t.Context(), metrics.Silence, 100)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := silence(); n != 0 {
		t.Errorf("%d runs of a moment ago are taken for killed", n)
	}
	f.exec("UPDATE runs SET updated_at = updated_at - interval '25 hours' WHERE id = $1", killed)
	if n := silence(); n != 1 || silence() != 0 {
		t.Errorf("%d killed runs were added, want 1, once", n)
	}
	step("the killed run was added to the totals", 9)
	if got := before[`bidder_run_exits_total{exit_code="killed",kind="run"}`]; got != 1 {
		t.Errorf("%v runs were killed, want 1", got)
	}
	if _, err := f.q.FinishRun(t.Context(), counters(5), 0, killed); err == nil {
		t.Error("a run that was counted as killed can end")
	}
	if err := f.q.RecordRun(t.Context(), counters(50), killed); err != nil {
		t.Error(err)
	}
	step("the killed run came back", 9)
	// A run that an older program finished.
	f.exec("UPDATE runs SET finished_at = now(), exit_code = 3, updated_at = now() - interval '25 hours' WHERE id = $1", f.begin(0, 4))
	step("an older program finished a run", 13)
	if n := silence(); n != 1 {
		t.Errorf("%d runs were added, want 1", n)
	}
	step("which was added to the totals", 13)
	f.exec("DELETE FROM runs")
	step("all runs are gone", 13)
	for name, want := range map[string]float64{
		`bidder_runs_total{kind="run"}`: 4, `bidder_attempts_total{outcome="stale"}`: 4, "bidder_lock_conflicts_total": 4,
		`bidder_deliveries_total{kind="place",result="retry"}`: 4, `bidder_refreshed_total{result="won"}`: 8,
		`bidder_run_exits_total{exit_code="0",kind="run"}`: 2, `bidder_run_exits_total{exit_code="3",kind="run"}`: 1,
	} {
		if before[name] != want {
			t.Errorf("%s is %v, want %v", name, before[name], want)
		}
	}
	totals, err := metrics.ReadTotals(t.Context(), f.pool)
	if err != nil || totals.Unfinished != 1 || totals.Runs != 4 || totals.Kinds["run"].LastFinishedAt.IsZero() {
		t.Errorf("totals %+v, %v", totals, err)
	}
}

// TestTogether: many runs that end at once, beside others who count the killed ones, are each
// counted once, and no reading in between goes back.
func TestTogether(t *testing.T) {
	t.Parallel()
	f := setup(t)
	const pods, each = 6, 8
	killed := make([]uuid.UUID, pods)
	for i := range killed {
		killed[i] = f.begin(2, 1)
	}
	f.exec("UPDATE runs SET updated_at = updated_at - interval '2 days'")
	group, ctx := errgroup.WithContext(t.Context())
	for range pods {
		group.Go(func() error {
			for range each {
				id := uuid.Must(uuid.NewV7())
				if _, err := f.q.StartRun(ctx, queries.StartRunParams{ID: id, Kind: "run"}); err != nil {
					return err
				}
				if _, err := f.q.CountSilentRuns(ctx, metrics.Silence, 2); err != nil {
					return err
				}
				if _, err := f.q.FinishRun(ctx, counters(1), 0, id); err != nil {
					return err
				}
			}
			return nil
		})
	}
	group.Go(func() error {
		before := metrics.Totals{}
		for before.Runs < pods*(each+1) {
			now, err := metrics.ReadTotals(ctx, f.pool)
			if err != nil {
				return err
			}
			if now.Runs < before.Runs || now.Locks.Successes < before.Locks.Successes || now.Outcomes[bidding.Claimed] < before.Outcomes[bidding.Claimed] {
				return fmt.Errorf("from %+v back to %+v", before, now)
			}
			before = now
		}
		return nil
	})
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	f.want(map[string]float64{
		`bidder_runs_total{kind="run"}`: pods * (each + 1), `bidder_run_exits_total{exit_code="0",kind="run"}`: pods * each,
		`bidder_run_exits_total{exit_code="killed",kind="run"}`: pods, `bidder_attempts_total{outcome="claimed"}`: pods*each + 2*pods,
	})
}

func TestHandler(t *testing.T) {
	t.Parallel()
	f := setup(t)
	var log strings.Builder
	handler := f.Handler(slog.New(slog.NewTextHandler(&log, nil)))
	serve := func(method string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, "/metrics", nil))
		return w
	}
	if w := serve(http.MethodGet); w.Code != http.StatusOK || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/plain; version=0.0.4") {
		t.Errorf("answer %d, %v", w.Code, w.Header())
	} else if got := samples(t, w.Body.String()); got["bidder_schema_version"] == 0 {
		t.Errorf("got %v", got)
	}
	if w := serve(http.MethodPost); w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST is answered %d", w.Code)
	}
	f.Caps = func(context.Context, queries.DBTX) ([]bidding.CapUsage, error) {
		return nil, errors.New("secret cause")
	}
	if w := serve(http.MethodGet); w.Code != http.StatusServiceUnavailable || strings.Contains(w.Body.String(), "secret") || !strings.Contains(log.String(), "secret cause") {
		t.Errorf("answer %d: %s; log: %s", w.Code, w.Body, log.String())
	}
}

// TestCost: with a long history the statements read indexes of what is live or owed, not the history.
func TestCost(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.exec(`INSERT INTO bids (marketplace, job_id, amount_cents, status) SELECT 'upwork', n, 1, 'LOST' FROM generate_series(1, 20000) AS n`)
	f.exec(`INSERT INTO bids (marketplace, job_id, amount_cents, delivery_kind, delivery_state, next_attempt_at) SELECT 'guru', n, 1, 'place', 'pending', now() FROM generate_series(1, 50) AS n`)
	f.run(1)
	f.exec("VACUUM ANALYZE bids")
	for name, statement := range map[string]string{"live": queries.CountLiveBids, "owed": queries.CountOwedDeliveries, "counters": queries.ReadCounters} {
		limits := db.Limits{Statement: time.Minute, Lock: time.Minute, Idle: time.Minute, Life: time.Minute, ByIndex: true}
		plan, err := testdb.Plan(t.Context(), f.pool, limits, statement)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(plan, "Seq Scan on bids") {
			t.Errorf("%s reads all bids:\n%s", name, plan)
		}
	}
}
