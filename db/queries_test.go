package db_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/test/testdb"
)

// argument makes up an argument of a query, for parameters that take any: of the round-th call.
func argument(t *testing.T, kind reflect.Type, round int) reflect.Value {
	t.Helper()
	if kind.Kind() == reflect.Pointer { // null every other time
		pointer := reflect.Zero(kind)
		if round%2 == 1 {
			pointer = reflect.New(kind.Elem())
			pointer.Elem().Set(argument(t, kind.Elem(), round))
		}
		return pointer
	}
	made := reflect.New(kind).Elem()
	switch value := made.Addr().Interface().(type) {
	case *time.Time:
		*value = time.Now()
		return made
	case *uuid.UUID:
		*value = uuid.New()
		return made
	case *json.RawMessage:
		*value = json.RawMessage(`{}`)
		return made
	case *[]byte:
		*value = []byte(`{}`)
		return made
	case *pgtype.TID: // null every other time
		*value = pgtype.TID{BlockNumber: 1, OffsetNumber: 1, Valid: round%2 == 1}
		return made
	}
	switch kind.Kind() {
	case reflect.String:
		made.SetString("a")
	case reflect.Int16, reflect.Int32, reflect.Int64: // durations too
		made.SetInt(1)
	case reflect.Uint32:
		made.SetUint(1)
	case reflect.Bool:
		made.SetBool(round%2 == 1)
	case reflect.Slice:
		for i := range 2 {
			element := argument(t, kind.Elem(), round)
			if element.Kind() == reflect.String {
				element.SetString(fmt.Sprint("key", i)) // keys are sorted, and none is there twice
			}
			made.Set(reflect.Append(made, element))
		}
	case reflect.Struct:
		for i := range kind.NumField() {
			made.Field(i).Set(argument(t, kind.Field(i).Type, round))
		}
	default:
		t.Fatalf("the test makes no %v", kind)
	}
	return made
}

// particular sets what a query does not take any value for.
func particular(argument any) {
	switch p := argument.(type) {
	case *queries.SetLimitsParams:
		*p = queries.SetLimitsParams{StatementTimeout: "60000", LockTimeout: "60000", IdleTimeout: "60000", LockTTL: "60000", Scans: "on"}
	case *queries.StartRunParams:
		p.Kind = "run"
	case *queries.UpsertPostingsParams:
		p.Currencies, p.Pricings = []string{"USD", "EUR"}, []string{"", "fixed"}
	case *queries.InsertPostingsParams:
		p.Currencies, p.Pricings = []string{"USD", "EUR"}, []string{"", "fixed"}
	case *queries.HearCallbackParams:
		p.Marketplace, p.WebhookID = "upwork", "msg-2"
	case *queries.LockSpendingParams:
		p.Caps, p.Currencies = []string{"bids_per_day", "live_bids"}, []string{"", ""}
	case *queries.CutSpendingParams:
		p.Caps, p.Currencies = []string{"bids_per_day", "live_bids"}, []string{"", ""}
	}
}

// What Postgres knows of a row beside its columns is shown to nobody.
func TestSystemColumnsStayInside(t *testing.T) {
	t.Parallel()
	shown, err := json.Marshal(queries.Posting{})
	if err != nil {
		t.Fatal(err)
	}
	var columns map[string]any
	if err := json.Unmarshal(shown, &columns); err != nil {
		t.Fatal(err)
	}
	for _, column := range []string{"ctid", "xmin", "tableoid"} {
		if _, found := columns[column]; found {
			t.Errorf("%s is shown", column)
		}
	}
}

// ofSchemas says whether a query makes or drops the schema of `bidder bench`, which works once
// and for who may create schemas.
func ofSchemas(query string) bool { return strings.HasSuffix(query, "BenchSchema") }

// Every query of the package is called over and over on one connection, as in a long-lived
// pool, with plans of both kinds. New queries are found by themselves.
func TestQueriesRepeat(t *testing.T) {
	t.Parallel()
	database := testdb.New(t)
	fill(t, database.Pool(t))
	pool := open(t, database.URL, 1)
	for method := range reflect.TypeFor[*queries.Queries]().Methods() { //nolint:paralleltest // on one connection
		if method.Name == "WithTx" || ofSchemas(method.Name) {
			continue
		}
		t.Run(method.Name, func(t *testing.T) {
			for _, plan := range []string{"auto", "force_custom_plan", "force_generic_plan"} {
				for round := range 8 {
					if err := call(t, pool, method, round, "SELECT set_config('plan_cache_mode', $1, true)", plan); err != nil {
						t.Fatalf("%s, call %d: %v", plan, round, err)
					}
				}
			}
		})
	}
}

// A worker's role may run every query.
func TestQueriesAsWorker(t *testing.T) {
	t.Parallel()
	database := testdb.New(t)
	pool := database.Pool(t)
	fill(t, pool)
	suffix := database.Name[len(database.Name)-12:]
	worker, reader, pruner := "worker "+suffix, "reader "+suffix, "pruner "+suffix
	for _, role := range []string{worker, reader, pruner} {
		name := pgx.Identifier{role}.Sanitize()
		exec(t, pool, "CREATE ROLE "+name)
		t.Cleanup(func() {
			if _, err := pool.Exec(context.WithoutCancel(t.Context()), "DROP OWNED BY "+name+"; DROP ROLE "+name); err != nil {
				t.Error(err)
			}
		})
	}
	exec(t, pool, db.Roles{Schema: "public", Worker: worker, Reader: reader, Pruner: pruner}.Grants())
	for method := range reflect.TypeFor[*queries.Queries]().Methods() {
		if method.Name == "WithTx" || ofSchemas(method.Name) {
			continue
		}
		err := call(t, pool, method, 0, "SELECT set_config('role', $1, true)", worker)
		if isPrune := strings.HasPrefix(method.Name, "Prune"); isPrune {
			if err := call(t, pool, method, 0, "SELECT set_config('role', $1, true)", pruner); err != nil {
				t.Errorf("as pruner: %s: %v", method.Name, err)
			}
			if db.Code(err) == db.CodeNoPrivilege { // which a worker need not be able to
				continue
			}
		}
		if err != nil {
			t.Errorf("%s: %v", method.Name, err)
		}
	}
	tx := begin(t, pool)
	exec(t, tx, "SELECT set_config('role', $1, true)", worker)
	if missing, err := queries.New(tx).MissingRights(t.Context()); err != nil || len(missing) != 0 {
		t.Errorf("the worker misses %v, %v", missing, err)
	}
	for _, tt := range []struct{ role, statement string }{
		{worker, "DELETE FROM bids"},
		{worker, "DELETE FROM bid_events"},
		{worker, "UPDATE bid_events SET actor = 'x'"},
		{worker, "DELETE FROM postings"},
		{worker, "DELETE FROM runs"},
		{worker, "DELETE FROM spending"},
		{worker, "DELETE FROM run_totals"},
		{pruner, "DELETE FROM run_totals"},
		{pruner, "DELETE FROM candidates"},
		{pruner, "DELETE FROM bid_events"},
		{pruner, "UPDATE bids SET status = 'LOST'"},
		{pruner, "INSERT INTO bids (marketplace, job_id) VALUES ('upwork', '1')"},
		{pruner, "SELECT sealed FROM tokens"},
		{worker, "TRUNCATE candidates"},
		{worker, "UPDATE callbacks SET webhook_id = 'x'"},
		{worker, "UPDATE schema_migrations SET dirty = true"},
		{worker, "CREATE TABLE mine ()"},
		{reader, "INSERT INTO runs (kind) VALUES ('run')"},
		{reader, "UPDATE bids SET proposal = 'x'"},
		{reader, "DELETE FROM candidates"},
		{reader, "SELECT sealed FROM tokens"},
	} {
		tx := begin(t, pool)
		exec(t, tx, "SELECT set_config('role', $1, true)", tt.role)
		exec(t, tx, "SELECT FROM postings, candidates, runs, run_totals, bids, callbacks, spending, schema_migrations")
		if _, err := tx.Exec(t.Context(), tt.statement); db.Code(err) != db.CodeNoPrivilege {
			t.Errorf("%s: %s: %v", tt.role, tt.statement, err)
		}
		db.Rollback(t.Context(), tx)
	}
}

// call calls a query once, after a setting, and leaves everything as it was.
func call(t *testing.T, pool db.Beginner, method reflect.Method, round int, set string, setting string) error {
	t.Helper()
	tx := db.Begin(pool, limits)
	defer tx.Rollback(t.Context())
	exec(t, tx, set, setting)
	in := []reflect.Value{reflect.ValueOf(queries.New(tx)), reflect.ValueOf(t.Context())}
	for i := len(in); i < method.Type.NumIn(); i++ {
		made := reflect.New(method.Type.In(i))
		made.Elem().Set(argument(t, method.Type.In(i), round))
		particular(made.Interface())
		in = append(in, made.Elem())
	}
	out := method.Func.Call(in)
	err, _ := reflect.TypeAssert[error](out[len(out)-1])
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	return err
}

// someBids makes bids of all kinds, two of them at one time.
func someBids(t *testing.T, conn execer) {
	t.Helper()
	exec(t, conn, `INSERT INTO bids (marketplace, job_id, amount_cents, status, created_at)
		SELECT m, j, 100, s, timestamptz '2026-11-23Z' + n * interval '1 hour'
		FROM (VALUES ('upwork', '1', 'LOST', 1), ('upwork', '1', 'ACTIVE', 2), ('guru', '1', 'ACTIVE', 2), ('upwork', '2', 'WITHDRAWN', 3)) AS v (m, j, s, n)`)
}

func TestListBids(t *testing.T) {
	t.Parallel()
	pool := open(t, testdb.New(t).URL, 1)
	someBids(t, pool)
	q := queries.New(pool)
	active, upwork := "ACTIVE", "upwork"
	for _, tt := range []struct {
		name   string
		params queries.ListBidsParams
		want   int
	}{
		{"all", queries.ListBidsParams{Page: 10}, 4},
		{"status", queries.ListBidsParams{Status: &active, Page: 10}, 2},
		{"marketplace", queries.ListBidsParams{Marketplace: &upwork, Page: 10}, 3},
		{"both", queries.ListBidsParams{Status: &active, Marketplace: &upwork, Page: 10}, 1},
	} {
		if bids, err := q.ListBids(t.Context(), tt.params); err != nil || len(bids) != tt.want {
			t.Errorf("list by %s: %d bids, %v; want %d", tt.name, len(bids), err, tt.want)
		}
	}

	// Page by page: each bid once, in falling order of the ids.
	var last *queries.Bid
	seen := map[uuid.UUID]bool{}
	for params := (queries.ListBidsParams{Page: 1}); len(seen) < 5; {
		page, err := q.ListBids(t.Context(), params)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		if bid := page[0]; seen[bid.ID] || last != nil && bytes.Compare(bid.ID[:], last.ID[:]) > 0 {
			t.Errorf("%v comes after %v", bid.ID, last.ID)
		}
		last = &page[0]
		seen[last.ID] = true
		params.BeforeID = &last.ID
	}
	if len(seen) != 4 {
		t.Errorf("paging listed %d bids, want 4", len(seen))
	}
}

func TestEndBid(t *testing.T) {
	t.Parallel()
	pool := open(t, testdb.New(t).URL, 1)
	someBids(t, pool)
	q, ctx := queries.New(pool), t.Context()
	of, err := q.BidsOfPosting(ctx, "upwork", "1", nil)
	if err != nil || len(of) != 2 || of[0].Status != "ACTIVE" || of[1].Status != "LOST" {
		t.Fatalf("bids of the posting: %+v, %v", of, err)
	}
	bid := of[0]
	if got, err := q.GetBid(ctx, bid.ID); err != nil || got.ID != bid.ID || got.AmountCents == nil || *got.AmountCents != 100 {
		t.Errorf("bid: %+v, %v", got, err)
	}

	exec(t, pool, "UPDATE bids SET delivery_kind = 'place', delivery_state = 'leased', lease_expires_at = now(), lease_token = 4 WHERE id = $1", bid.ID)
	end := queries.EndBidParams{ToStatus: "WON", FromStatus: "LOST", Actor: "ann", Detail: json.RawMessage(`{"note":"signed"}`), ID: bid.ID}
	if n, err := q.EndBid(ctx, end); err != nil || n != 0 {
		t.Errorf("ending from another status: %d, %v", n, err)
	}
	end.FromStatus = "ACTIVE"
	if n, err := q.EndBid(ctx, end); err != nil || n != 1 {
		t.Errorf("ending: %d, %v", n, err)
	}
	locked, err := q.LockBid(ctx, bid.ID)
	if since := time.Since(locked.Now).Abs(); err != nil || locked.Status != "WON" || since > time.Minute { // on the same host
		t.Errorf("after ending: %+v, %v", locked, err)
	}
	if row, err := q.GetBid(ctx, bid.ID); err != nil || row.DeliveryKind != nil || row.DeliveryState != nil || row.LeaseToken != 5 {
		t.Errorf("after ending: %+v, %v", row, err)
	}
	history, err := q.BidHistory(ctx, bid.ID)
	if err != nil || len(history) != 1 || history[0].Actor != "ann" || *history[0].FromStatus != "ACTIVE" || *history[0].ToStatus != "WON" {
		t.Errorf("history: %+v, %v", history, err)
	}
}

func TestCandidateQueries(t *testing.T) {
	t.Parallel()
	pool := open(t, testdb.New(t).URL, 1)
	fill(t, pool)
	q := queries.New(pool)
	if c, err := q.GetCandidate(t.Context(), "freelancer", "full"); err != nil || !c.Parked || c.Tries != 8 || c.NotBefore.IsZero() {
		t.Errorf("parked: %+v, %v", c, err)
	}
	if c, err := q.GetCandidate(t.Context(), "upwork", "plain"); err != nil || c.Parked || c.LastError != nil {
		t.Errorf("due: %+v, %v", c, err)
	}
	if p, err := q.GetPosting(t.Context(), "freelancer", "full"); err != nil || len(p.Skills) != 2 || *p.BidAmountCents != 3 {
		t.Errorf("posting: %+v, %v", p, err)
	}
	parked, err := q.ParkedCandidates(t.Context(), 10)
	if err != nil || len(parked) != 1 || parked[0].JobID != "full" || parked[0].LastError != "broken" {
		t.Errorf("parked: %+v, %v", parked, err)
	}
	facts, err := q.QueueFacts(t.Context())
	if err != nil || facts.Due != 1 || facts.Parked != 1 || facts.Owed != 1 {
		t.Errorf("queue: %+v, %v", facts, err)
	}
}

// Totals of all runs, also beside runs that have counted nothing, or nothing yet.
func TestRunQueries(t *testing.T) {
	t.Parallel()
	pool := open(t, testdb.New(t).URL, 1)
	q := queries.New(pool)
	ctx := t.Context()
	fill(t, pool)
	exec(t, pool, `INSERT INTO runs (kind, counters) VALUES ('run', '{"outcomes": null, "deliveries": null}'), ('run', '{"deliveries": {"place": null}}')`)
	id := uuid.New()
	if _, err := q.StartRun(ctx, queries.StartRunParams{ID: id, Kind: "run", Host: "pod", Version: "v1"}); err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{5, 7, 7} { // totals, so writing them again changes nothing
		if err := q.RecordRun(ctx, json.RawMessage(fmt.Sprintf(`{"lock_attempts":%d,"outcomes":{"claimed":%d}}`, n, n)), id); err != nil {
			t.Fatal(err)
		}
	}
	counts, err := q.CountRuns(ctx, nil)
	if want := (queries.CountRunsRow{Runs: 7, Unfinished: 6, LockAttempts: 10, LockSuccesses: 2, LockConflicts: 1, LockTimeouts: 1}); err != nil || counts != want {
		t.Errorf("counts %+v, %v; want %+v", counts, err, want)
	}
	outcomes, err := q.SumOutcomes(ctx, nil)
	if err != nil || fmt.Sprint(outcomes) != "[{claimed 9} {locked 1}]" {
		t.Errorf("outcomes %v, %v", outcomes, err)
	}
	deliveries, err := q.SumDeliveries(ctx, nil)
	if err != nil || fmt.Sprint(deliveries) != "[{place done 2} {withdraw retry 1}]" {
		t.Errorf("deliveries %v, %v", deliveries, err)
	}
	if _, err := q.FinishRun(ctx, json.RawMessage(`{}`), 0, id); err != nil {
		t.Error(err)
	}
	if err := q.RecordRun(ctx, json.RawMessage(`{"lock_attempts":99}`), id); err != nil {
		t.Error(err)
	}
	if err := q.KeepRun(ctx, -time.Hour, id); err != nil {
		t.Error(err)
	}
	var kept bool
	if err := pool.QueryRow(ctx, "SELECT updated_at > clock_timestamp() FROM runs WHERE id = $1", id).Scan(&kept); err != nil || kept {
		t.Errorf("a run that has ended says that it lives: %t, %v", kept, err)
	}
	if _, err := q.FinishRun(ctx, json.RawMessage(`{"lock_attempts":99}`), 1, id); !errors.Is(err, pgx.ErrNoRows) {
		t.Errorf("finished twice: %v", err)
	}
	exec(t, pool, "UPDATE runs SET started_at = started_at - interval '2 hours' WHERE id <> $1", id)
	hour := time.Hour
	if counts, err := q.CountRuns(ctx, &hour); err != nil || counts != (queries.CountRunsRow{Runs: 1}) {
		t.Errorf("counts of the last hour: %+v, %v", counts, err)
	}
	if outcomes, err := q.SumOutcomes(ctx, &hour); err != nil || len(outcomes) != 0 {
		t.Errorf("outcomes of the last hour: %v, %v", outcomes, err)
	}
}

// Who holds the lock of which posting, for keys of both signs.
func TestLockQueries(t *testing.T) {
	t.Parallel()
	database := testdb.New(t)
	pool := open(t, database.URL, 2)
	q := queries.New(pool)
	jobs := map[int64]string{}
	exec(t, pool, "INSERT INTO postings (marketplace, job_id, cached_at, title) SELECT 'upwork', n, now(), 't' FROM generate_series(1, 8) AS n")
	tx := begin(t, pool)
	exec(t, tx, "SET LOCAL application_name = 'holder'")
	for job := range 8 {
		key, err := q.LockKey(t.Context(), "upwork", fmt.Sprint(job+1))
		if err != nil {
			t.Fatal(err)
		}
		jobs[key] = fmt.Sprint(job + 1)
		exec(t, tx, "SELECT pg_advisory_xact_lock($1)", key)
	}
	exec(t, tx, "SELECT pg_advisory_xact_lock(1, 2)") // of two numbers: none of ours
	held, err := q.HeldAdvisoryLocks(t.Context())
	if err != nil || len(held) != 8 {
		t.Fatalf("%d locks, %v; want 8", len(held), err)
	}
	keys, negative := make([]int64, 0, len(held)), 0
	for _, lock := range held {
		if jobs[lock.Key] == "" || lock.Since.IsZero() || time.Since(lock.Since) > time.Hour {
			t.Errorf("lock %+v", lock)
		}
		if lock.Key < 0 {
			negative++
		}
		keys = append(keys, lock.Key)
	}
	if negative == 0 || negative == len(keys) {
		t.Errorf("%d of %d keys are negative: the test needs both", negative, len(keys))
	}
	postings, err := q.PostingsOfLockKeys(t.Context(), keys)
	if err != nil || len(postings) != 8 {
		t.Fatalf("%d postings, %v; want 8", len(postings), err)
	}
	for _, p := range postings {
		if jobs[p.Key] != p.JobID {
			t.Errorf("key %d belongs to %s, not %s", p.Key, jobs[p.Key], p.JobID)
		}
	}
}

// What doctor reads, as a role that is nobody special.
func TestServerQueries(t *testing.T) {
	t.Parallel()
	database := testdb.New(t)
	admin := database.Pool(t)
	role := "plain_" + database.Name[len(database.Name)-12:]
	exec(t, admin, "CREATE ROLE "+role)
	t.Cleanup(func() {
		if _, err := admin.Exec(context.WithoutCancel(t.Context()), "DROP OWNED BY "+role+"; DROP ROLE "+role); err != nil {
			t.Error(err)
		}
	})
	connect(t, database.DirectURL) // an idle session that the role may not look into
	tx := begin(t, admin)
	q := queries.New(tx)
	exec(t, tx, "SET LOCAL ROLE "+role)
	facts, err := q.ServerFacts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if facts.Role != role || facts.Superuser || facts.Connections < 2 || facts.Encoding != "UTF8" || facts.Now.IsZero() ||
		facts.VersionNum < 150000 || facts.MaxConnections < 10 || facts.MaxLocksPerTransaction < 1 || facts.Schema != "public" {
		t.Errorf("facts %+v", facts)
	}
	missing, err := q.MissingRights(t.Context())
	if err != nil || len(missing) == 0 {
		t.Errorf("a role without rights misses %v, %v", missing, err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, right := range missing {
		exec(t, admin, "GRANT "+right.Privilege+" ON "+right.Object+" TO "+role)
	}
	tx = begin(t, admin)
	exec(t, tx, "SET LOCAL ROLE "+role)
	if missing, err := queries.New(tx).MissingRights(t.Context()); err != nil || len(missing) != 0 {
		t.Errorf("a role with all rights misses %v, %v", missing, err)
	}

	all := queries.New(admin)
	if valid, err := all.LiveIndexIsValid(t.Context()); err != nil || !valid {
		t.Errorf("the index is valid: %t, %v", valid, err)
	}
	for _, spoil := range []string{
		"DROP INDEX bids_one_active_per_posting",
		"DROP INDEX bids_one_active_per_posting; CREATE INDEX bids_one_active_per_posting ON bids (marketplace, job_id) WHERE status = 'ACTIVE'",
		"UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'bids_one_active_per_posting'::regclass",
	} {
		tx := begin(t, admin)
		exec(t, tx, spoil)
		if valid, err := queries.New(tx).LiveIndexIsValid(t.Context()); err != nil || valid {
			t.Errorf("after %s the index is valid: %t, %v", spoil, valid, err)
		}
		db.Rollback(t.Context(), tx)
	}
}
