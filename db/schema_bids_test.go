package db_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/test/testdb"
)

// statuses are all that there are.
var statuses = []string{"ACTIVE", "WITHDRAWN", "DUPLICATE", "REJECTED", "WON", "LOST"}

// begin begins a transaction that the test's end rolls back.
func begin(t *testing.T, pool *pgxpool.Pool) pgx.Tx {
	t.Helper()
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Rollback(t.Context(), tx) })
	return tx
}

func TestStatusTransitions(t *testing.T) { //nolint:tparallel // subtests would wait for each other's keys
	t.Parallel()
	pool := testdb.New(t).Pool(t)
	allowed := map[string][]string{
		"ACTIVE":    {"ACTIVE", "WITHDRAWN", "REJECTED", "WON", "LOST"},
		"WITHDRAWN": {"WITHDRAWN", "REJECTED"},
		"REJECTED":  {"REJECTED"},
		"WON":       {"WON"},
		"LOST":      {"LOST"},
	}
	for _, from := range statuses { //nolint:paralleltest // as above
		for _, to := range append(slices.Clone(statuses), "PENDING", "active", "") {
			t.Run(from+" to "+to, func(t *testing.T) {
				tx := begin(t, pool)
				id := value[string](t, tx, `INSERT INTO bids (marketplace, job_id, status, amount_cents)
					VALUES ('upwork', '1', $1, 100) RETURNING id::text`, from)
				_, err := tx.Exec(t.Context(), "UPDATE bids SET status = $1 WHERE id = $2", to, id)
				switch {
				case from == "DUPLICATE":
					wantRefusal(t, err, "bids_duplicates_final")
				case !slices.Contains(allowed[from], to):
					wantRefusal(t, err, "bids_status_transition")
				case err != nil:
					t.Error(err)
				}
			})
		}
	}
}

// refusals are statements that each constraint refuses: after first, which is allowed.
func refusals() []struct{ name, first, then, constraint string } {
	const (
		id       = "'00000000-0000-0000-0000-000000000001'"
		live     = "INSERT INTO bids (id, marketplace, job_id, amount_cents) VALUES (" + id + ", 'upwork', '1', 100)"
		sent     = "INSERT INTO bids (id, marketplace, job_id, amount_cents, place_posts, first_post_at, last_post_at) VALUES (" + id + ", 'upwork', '1', 100, 1, now(), now())"
		audit    = "INSERT INTO bids (id, marketplace, job_id, status) VALUES (" + id + ", 'upwork', '1', 'DUPLICATE')"
		checked  = "; SET CONSTRAINTS ALL IMMEDIATE" // with checks left to do, no table can be truncated
		event    = live + "; INSERT INTO bid_events (bid_id, actor) VALUES (" + id + ", 'engine')"
		insert   = "INSERT INTO bids (marketplace, job_id, amount_cents, "
		ended    = "INSERT INTO bids (marketplace, job_id, amount_cents, status, "
		update   = "UPDATE bids SET "
		post     = "INSERT INTO postings (marketplace, job_id, cached_at, title) VALUES ('upwork', '1', now(), 't')"
		posting  = "INSERT INTO postings (marketplace, job_id, cached_at, title, "
		callback = "INSERT INTO callbacks VALUES ('upwork', 'msg-1')"
		account  = "INSERT INTO accounts (marketplace) VALUES ('upwork')"
		tokens   = "INSERT INTO tokens (marketplace, issuer, key_id, sealed, expires_at) VALUES "
		spent    = "INSERT INTO spending (marketplace, cap, currency, day, share, used, allotted) VALUES ('upwork', "
		queue    = "INSERT INTO candidates (marketplace, job_id, cached_at) VALUES ('upwork', '1', now())"
		totals   = "INSERT INTO run_totals (kind, runs, counters) VALUES ('run', 1, '{}')"
		run      = "INSERT INTO runs (id, kind) VALUES (" + id + ", 'run')"
	)
	return []struct{ name, first, then, constraint string }{
		{"same posting", post, post, "postings_pkey"},
		{"posting's marketplace", "", "INSERT INTO postings VALUES ('Upwork', '1', now(), 't')", "postings_marketplace_spelling"},
		{"posting's id", "", "INSERT INTO postings VALUES ('upwork', 'None', now(), 't')", "postings_job_id_spelling"},
		{"no title", "", "INSERT INTO postings VALUES ('upwork', '1', now(), '')", "postings_title_present"},
		{"negative budget_min", "", posting + "budget_min_cents) VALUES ('upwork', '1', now(), 't', -1)", "postings_money_not_negative"},
		{"negative budget_max", "", posting + "budget_max_cents) VALUES ('upwork', '1', now(), 't', -1)", "postings_money_not_negative"},
		{"negative amount wanted", "", posting + "bid_amount_cents) VALUES ('upwork', '1', now(), 't', -1)", "postings_money_not_negative"},
		{"one negative of three", "", posting + "budget_min_cents, budget_max_cents, bid_amount_cents) VALUES ('upwork', '1', now(), 't', 1, -1, 1)", "postings_money_not_negative"},
		{"posting's currency", "", posting + "currency) VALUES ('upwork', '1', now(), 't', 'usd')", "postings_currency_code"},
		{"pricing", "", posting + "pricing) VALUES ('upwork', '1', now(), 't', 'Fixed')", "postings_pricing_known"},
		{"no days wanted", "", posting + "bid_period_days) VALUES ('upwork', '1', now(), 't', 0)", "postings_period_positive"},

		{"same callback", callback, callback, "callbacks_pkey"},
		{"callback's marketplace", "", "INSERT INTO callbacks VALUES ('Upwork', '1')", "callbacks_marketplace_spelling"},
		{"callback without id", "", "INSERT INTO callbacks VALUES ('upwork', '')", "callbacks_webhook_id_bounded"},
		{"callback with a long id", "", "INSERT INTO callbacks VALUES ('upwork', repeat('x', 257))", "callbacks_webhook_id_bounded"},
		{"same account", account, account, "accounts_pkey"},
		{"same tokens", tokens + "('m', 'i', 'k', '', now())", tokens + "('m', 'i', 'k', '', now())", "tokens_pkey"},
		{"tokens' marketplace", "", tokens + "('Freelancer', 'i', 'k', '', now())", "tokens_marketplace_spelling"},
		{"account's marketplace", "", "INSERT INTO accounts (marketplace) VALUES ('Upwork')", "accounts_marketplace_spelling"},
		{"paused for no reason", account, "UPDATE accounts SET paused_at = now(), paused_by = 'ann'", "accounts_pause_whole"},
		{"paused by nobody", account, "UPDATE accounts SET paused_at = now(), paused_reason = 'storm'", "accounts_pause_whole"},
		{"never paused, until", account, "UPDATE accounts SET paused_until = now()", "accounts_pause_whole"},
		{"resumed by nobody", account, "UPDATE accounts SET resumed_at = now()", "accounts_resumed_whole"},

		{"same share", spent + "'live_bids', '', '-infinity', 1, 0, 0)", spent + "'live_bids', '', '-infinity', 1, 0, 0)", "spending_pkey"},
		{"spending's marketplace", "", "INSERT INTO spending (marketplace, cap, day) VALUES ('Upwork', 'bids_per_day', now())", "spending_marketplace_spelling"},
		{"spending's account", "", "INSERT INTO spending (marketplace, account, cap, day) VALUES ('upwork', '', 'bids_per_day', now())", "spending_account_present"},
		{"unknown cap", "", spent + "'bids_per_week', '', now(), 0, 0, 0)", "spending_cap_known"},
		{"money without a currency", "", spent + "'money_per_day', '', now(), 0, 0, 0)", "spending_currency_of_money"},
		{"bids in a currency", "", spent + "'bids_per_day', 'EUR', now(), 0, 0, 0)", "spending_currency_of_money"},
		{"live bids of a day", "", spent + "'live_bids', '', now(), 0, 0, 0)", "spending_day_of_days"},
		{"bids of no day", "", spent + "'bids_per_day', '', '-infinity', 0, 0, 0)", "spending_day_of_days"},
		{"share below the whole", "", spent + "'bids_per_day', '', now(), -1, 0, 0)", "spending_share_counted"},
		{"share that is not counted", "", spent + "'bids_per_day', '', now(), 1, NULL, 0)", "spending_share_counted"},
		{"negative spending", "", spent + "'bids_per_day', '', now(), 0, -1, 0)", "spending_not_negative"},
		{"more than allotted", spent + "'bids_per_day', '', now(), 1, 4, 5)", "UPDATE spending SET used = used + 2", "spending_within_share"},

		{"same candidate", queue, queue, "candidates_pkey"},

		{"same run", run, run, "runs_pkey"},
		{"kind of run", "", "INSERT INTO runs (kind) VALUES ('bench')", "runs_kind_known"},
		{"counters", "", "INSERT INTO runs (kind, counters) VALUES ('run', '[]')", "runs_counters_object"},
		{"totals twice", totals, totals, "run_totals_pkey"},
		{"totals of no runs", "", "INSERT INTO run_totals (kind, runs, counters) VALUES ('run', 0, '{}')", "run_totals_runs_positive"},
		{"totals that are no object", "", "INSERT INTO run_totals (kind, runs, counters) VALUES ('run', 1, '[]')", "run_totals_counters_object"},
		{"finished without code", "", "INSERT INTO runs (kind, finished_at) VALUES ('run', now())", "runs_exit_code_when_finished"},
		{"code without end", "", "INSERT INTO runs (kind, exit_code) VALUES ('run', 0)", "runs_exit_code_when_finished"},

		{"same bid", live, "INSERT INTO bids (id, marketplace, job_id, amount_cents) VALUES (" + id + ", 'guru', '1', 100)", "bids_pkey"},
		{"second live bid", live, insert + "account) VALUES ('upwork', '1', 100, 'other')", "bids_one_active_per_posting"},
		{"external id of a live bid", insert + "external_bid_id) VALUES ('upwork', '1', 100, 'x')", insert + "external_bid_id) VALUES ('upwork', '2', 100, 'x')", "bids_one_active_per_external_id"},
		{"adopting the id of a live bid", live + "; " + insert + "external_bid_id) VALUES ('upwork', '2', 100, 'x')", update + "external_bid_id = 'x' WHERE job_id = '1'", "bids_one_active_per_external_id"},
		{"bid's marketplace", "", insert + "account) VALUES ('Upwork', '1', 100, 'a')", "bids_marketplace_spelling"},
		{"bid's job", "", insert + "account) VALUES ('upwork', 'null', 100, 'a')", "bids_job_id_spelling"},
		{"no account", "", insert + "account) VALUES ('upwork', '1', 100, '')", "bids_account_present"},
		{"unknown status", "", insert + "status) VALUES ('upwork', '1', 100, 'PENDING')", "bids_status_known"},
		{"status of another case", "", insert + "status) VALUES ('upwork', '1', 100, 'active')", "bids_status_known"},
		{"live without an amount", "", "INSERT INTO bids (marketplace, job_id) VALUES ('upwork', '1')", "bids_amount_present"},
		{"ended without an amount", "", "INSERT INTO bids (marketplace, job_id, status) VALUES ('upwork', '1', 'LOST')", "bids_amount_present"},
		{"negative amount", "", "INSERT INTO bids (marketplace, job_id, amount_cents) VALUES ('upwork', '1', -1)", "bids_amount_not_negative"},
		{"bid's currency", "", insert + "currency) VALUES ('upwork', '1', 100, 'US$')", "bids_currency_code"},
		{"no days", "", insert + "period_days) VALUES ('upwork', '1', 100, 0)", "bids_period_positive"},
		{"empty external id", "", insert + "external_bid_id) VALUES ('upwork', '1', 100, '')", "bids_external_id_present"},
		{"live duplicate", "", insert + "duplicate_of) VALUES ('upwork', '1', 100, " + id + ")", "bids_duplicate_of_duplicates"},
		{"withdrawal undone", ended + "withdrawal_timestamp) VALUES ('upwork', '1', 100, 'WITHDRAWN', now())", update + "withdrawal_timestamp = NULL", "bids_withdrawal_recorded"},
		{"live and withdrawn at", "", insert + "withdrawal_timestamp) VALUES ('upwork', '1', 100, now())", "bids_withdrawal_ended"},
		{"live and withdrawn because", live, update + "withdrawn_reason = 'x'", "bids_withdrawal_ended"},
		{"won and withdrawn", live, update + "status = 'WON', withdrawal_timestamp = now()", "bids_withdrawal_ended"},
		{"lost and withdrawn because", live, update + "status = 'LOST', withdrawn_reason = 'x'", "bids_withdrawal_ended"},
		{"owes when ended", "", ended + "delivery_kind, delivery_state) VALUES ('upwork', '1', 100, 'LOST', 'place', 'pending')", "bids_owes_while_active"},
		{"owes when withdrawn", insert + "delivery_kind, delivery_state) VALUES ('upwork', '1', 100, 'withdraw', 'pending')", update + "status = 'WITHDRAWN'", "bids_owes_while_active"},
		{"unknown delivery", "", insert + "delivery_kind, delivery_state) VALUES ('upwork', '1', 100, 'edit', 'pending')", "bids_delivery_kind_known"},
		{"unknown state", "", insert + "delivery_kind, delivery_state) VALUES ('upwork', '1', 100, 'place', 'done')", "bids_delivery_state_known"},
		{"kind without state", "", insert + "delivery_kind) VALUES ('upwork', '1', 100, 'place')", "bids_delivery_whole"},
		{"state without kind", "", insert + "delivery_state) VALUES ('upwork', '1', 100, 'review')", "bids_delivery_whole"},
		{"leased for ever", "", insert + "delivery_kind, delivery_state) VALUES ('upwork', '1', 100, 'place', 'leased')", "bids_lease_whole"},
		{"lease of a pending one", "", insert + "delivery_kind, delivery_state, lease_expires_at) VALUES ('upwork', '1', 100, 'place', 'pending', now())", "bids_lease_whole"},
		{"lease of nothing", live, update + "lease_expires_at = now()", "bids_lease_whole"},
		{"review of a pending one", insert + "delivery_kind, delivery_state) VALUES ('upwork', '1', 100, 'place', 'pending')", update + "review_reason = 'x'", "bids_review_current"},
		{"review of nothing", live, update + "review_since = now()", "bids_review_current"},
		{"negative attempts", live, update + "delivery_attempts = -1", "bids_delivery_attempts_not_negative"},
		{"negative posts", live, update + "place_posts = -1", "bids_posts_counted"},
		{"posts never armed", live, update + "place_posts = 1", "bids_posts_counted"},
		{"posts without a last", live, update + "place_posts = 1, first_post_at = now()", "bids_posts_counted"},
		{"posts without a first", live, update + "place_posts = 1, last_post_at = now()", "bids_posts_counted"},
		{"last post before the first", live, update + "first_post_at = now(), last_post_at = now() - interval '1 second'", "bids_posts_in_order"},
		{"approved by nobody", live, update + "approved_at = now()", "bids_approval_whole"},
		{"approved never", live, update + "approved_by = 'ann'", "bids_approval_whole"},
		{"withdrawal asked for without reason", live, update + "withdraw_requested_at = now()", "bids_withdraw_request_whole"},
		{"withdrawal never asked for", live, update + "withdraw_requested_reason = 'x'", "bids_withdraw_request_whole"},

		{"another id", live, update + "id = gen_random_uuid()", "bids_keys_immutable"},
		{"another marketplace", live, update + "marketplace = 'guru'", "bids_keys_immutable"},
		{"another account", live, update + "account = 'other'", "bids_keys_immutable"},
		{"another job", live, update + "job_id = '2'", "bids_keys_immutable"},
		{"another amount after sending", sent, update + "amount_cents = 101", "bids_sent_immutable"},
		{"another currency after sending", sent, update + "currency = 'EUR'", "bids_sent_immutable"},
		{"another period after sending", sent, update + "period_days = 1", "bids_sent_immutable"},
		{"another proposal after sending", sent, update + "proposal = 'x'", "bids_sent_immutable"},
		{"another amount with the slot given back", sent, update + "amount_cents = 101, place_posts = 0", "bids_sent_immutable"},
		{"older token", live + "; " + update + "lease_token = 2", update + "lease_token = 1", "bids_lease_token_grows"},
		{"duplicate's amount", audit, update + "amount_cents = 1", "bids_duplicates_final"},
		{"duplicate unchanged", audit, update + "status = status", "bids_duplicates_final"},
		{"back to life", ended + "withdrawn_reason) VALUES ('upwork', '1', 100, 'WITHDRAWN', 'x')", update + "status = 'ACTIVE', withdrawn_reason = NULL, withdrawal_timestamp = NULL", "bids_status_transition"},
		{"delete a live bid", live, "DELETE FROM bids", "bids_live_undeletable"},
		{"delete one live bid of many", live + "; " + ended + "account) VALUES ('upwork', '1', 100, 'LOST', 'a')", "DELETE FROM bids", "bids_live_undeletable"},
		{"truncate with a live bid", live + checked, "TRUNCATE bids CASCADE", "bids_live_undeletable"},
		{"truncate both with a live bid", live + checked, "TRUNCATE bids, bid_events", "bids_live_undeletable"},
		{"truncate without a live bid", audit + checked, "TRUNCATE bids CASCADE", "bids_live_undeletable"},
		{"late commit", "SET LOCAL bidder.lock_ttl = 0; " + live, "SET CONSTRAINTS ALL IMMEDIATE", "bids_commit_within_lock_ttl"},

		{"same event", event, "INSERT INTO bid_events (id, bid_id, actor) OVERRIDING SYSTEM VALUE SELECT id, bid_id, actor FROM bid_events", "bid_events_pkey"},
		{"event of no bid", "", "INSERT INTO bid_events (bid_id, actor) VALUES (" + id + ", 'engine')", "bid_events_bid_fkey"},
		{"event by nobody", live, "INSERT INTO bid_events (bid_id, actor) VALUES (" + id + ", '')", "bid_events_actor_present"},
		{"event's detail", live, "INSERT INTO bid_events (bid_id, actor, detail) VALUES (" + id + ", 'engine', '1')", "bid_events_detail_object"},
		{"event changed", event, "UPDATE bid_events SET actor = 'nobody'", "bid_events_append_only"},
		{"event deleted", event, "DELETE FROM bid_events", "bid_events_append_only"},
		{"events truncated", event, "TRUNCATE bid_events", "bid_events_append_only"},
	}
}

func TestRefusals(t *testing.T) { //nolint:tparallel // subtests would wait for each other's keys
	t.Parallel()
	pool := testdb.New(t).Pool(t)
	for _, tt := range refusals() { //nolint:paralleltest // as above
		t.Run(tt.name, func(t *testing.T) {
			tx := begin(t, pool)
			exec(t, tx, tt.first)
			_, err := tx.Exec(t.Context(), tt.then)
			wantRefusal(t, err, tt.constraint)
		})
	}
}

// Every constraint, unique index and refusal of a trigger is in the table of refusals.
func TestRefusalsAreComplete(t *testing.T) {
	t.Parallel()
	pool := testdb.New(t).Pool(t)
	names := column[string](t, pool, `
		SELECT conname::text FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND contype IN ('c', 'f', 'p', 'u', 'x', 't')
		UNION
		SELECT c.relname::text FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
		WHERE c.relnamespace = 'public'::regnamespace AND i.indisunique
		UNION
		SELECT m[1] FROM pg_proc AS p CROSS JOIN LATERAL regexp_matches(p.prosrc, 'CONSTRAINT = ''(\w+)''', 'g') AS m
		WHERE p.pronamespace = 'public'::regnamespace
		ORDER BY 1`)
	names = slices.DeleteFunc(names, func(name string) bool { return name == "schema_migrations_pkey" })
	cases := refusals()
	tested := make([]string, 0, len(cases))
	for _, tt := range cases {
		tested = append(tested, tt.constraint)
	}
	slices.Sort(tested)
	if diff := cmp.Diff(names, slices.Compact(tested)); diff != "" {
		t.Errorf("constraints (-in the database +tested):\n%s", diff)
	}
}

func TestAllowed(t *testing.T) { //nolint:tparallel // subtests would wait for each other's keys
	t.Parallel()
	pool := testdb.New(t).Pool(t)
	const (
		insert = "INSERT INTO bids (marketplace, job_id, amount_cents, status) VALUES ('upwork', '1', 100, "
		named  = "INSERT INTO bids (marketplace, account, job_id, amount_cents, status, external_bid_id) VALUES "
	)
	tests := []struct{ name, statements string }{
		{"withdrawn twice", insert + "'WITHDRAWN'); " + insert + "'WITHDRAWN')"},
		{"live after all endings", insert + "'WITHDRAWN'); " + insert + "'REJECTED'); " + insert + "'LOST'); " + insert + "'WON'); " + insert + "'DUPLICATE'); " + insert + "'ACTIVE')"},
		{"live again after a withdrawal", insert + "'ACTIVE'); UPDATE bids SET status = 'WITHDRAWN'; " + insert + "'ACTIVE'); UPDATE bids SET status = 'WITHDRAWN' WHERE status = 'ACTIVE'"},
		{"same job elsewhere", insert + "'ACTIVE'); INSERT INTO bids (marketplace, job_id, amount_cents) VALUES ('guru', '1', 100)"},
		{"free bid", "INSERT INTO bids (marketplace, job_id, amount_cents) VALUES ('upwork', '1', 0)"},
		{"duplicate without amount", "INSERT INTO bids (marketplace, job_id, status, duplicate_of) VALUES ('upwork', '1', 'DUPLICATE', gen_random_uuid())"},
		{"external id of an ended bid", named + "('upwork', 'a', '1', 100, 'LOST', 'x'), ('upwork', 'a', '2', 100, 'ACTIVE', 'x')"},
		{"external id of another account", named + "('upwork', 'a', '1', 100, 'ACTIVE', 'x'), ('upwork', 'b', '2', 100, 'ACTIVE', 'x')"},
		{"external id of another marketplace", named + "('upwork', 'a', '1', 100, 'ACTIVE', 'x'), ('guru', 'a', '1', 100, 'ACTIVE', 'x')"},
		{"no external ids", named + "('upwork', 'a', '1', 100, 'ACTIVE', NULL), ('upwork', 'a', '2', 100, 'ACTIVE', NULL)"},
		{"other amount before sending", insert + "'ACTIVE'); UPDATE bids SET amount_cents = 1, currency = 'EUR', period_days = 3, proposal = 'x'"},
		{"slot given back", insert + "'ACTIVE'); UPDATE bids SET place_posts = 1, first_post_at = now(), last_post_at = now(); UPDATE bids SET place_posts = 0"},
		{"sent, then known", insert + "'ACTIVE'); UPDATE bids SET place_posts = 1, first_post_at = now(), last_post_at = now(); UPDATE bids SET external_bid_id = 'x', submitted_at = now()"},
		{"delete ended bids", insert + "'LOST'); " + insert + "'DUPLICATE'); " + insert + "'WITHDRAWN'); DELETE FROM bids"},
		{"events go with their bid", insert + "'LOST'); INSERT INTO bid_events (bid_id, actor) SELECT id, 'engine' FROM bids; DELETE FROM bids"},
		{"withdrawal asked for by nobody known", insert + "'ACTIVE'); UPDATE bids SET withdraw_requested_at = now(), withdraw_requested_reason = 'x'"},
	}
	for _, tt := range tests { //nolint:paralleltest // as above
		t.Run(tt.name, func(t *testing.T) {
			exec(t, begin(t, pool), tt.statements+"; SET CONSTRAINTS ALL IMMEDIATE")
		})
	}
}

// The transition itself writes when a bid was withdrawn, and a rejection keeps it.
func TestWithdrawalFields(t *testing.T) {
	t.Parallel()
	pool := testdb.New(t).Pool(t)
	tx := begin(t, pool)
	id := value[string](t, tx, "INSERT INTO bids (marketplace, job_id, amount_cents) VALUES ('upwork', '1', 100) RETURNING id::text")
	const fields = "SELECT withdrawal_timestamp FROM bids WHERE id = $1 AND withdrawn_reason IS NOT DISTINCT FROM $2"
	if at := value[*time.Time](t, tx, fields, id, nil); at != nil {
		t.Errorf("a live bid was withdrawn at %v", at)
	}
	before := value[time.Time](t, tx, "SELECT clock_timestamp()")
	exec(t, tx, "UPDATE bids SET status = 'WITHDRAWN', withdrawn_reason = 'mistake' WHERE id = $1", id)
	at := value[*time.Time](t, tx, fields, id, "mistake")
	if at == nil || at.Before(before) {
		t.Fatalf("withdrawn at %v, want after %v", at, before)
	}
	exec(t, tx, "UPDATE bids SET status = 'REJECTED' WHERE id = $1", id)
	if rejected := value[*time.Time](t, tx, fields, id, "mistake"); rejected == nil || !rejected.Equal(*at) {
		t.Errorf("after the rejection it was withdrawn at %v, want %v", rejected, at)
	}

	if !value[bool](t, tx, `INSERT INTO bids (marketplace, job_id, amount_cents, status) VALUES ('upwork', '1', 100, 'WITHDRAWN')
		RETURNING withdrawal_timestamp IS NOT NULL`) {
		t.Error("a bid born withdrawn has no time of it")
	}
	given := before.Add(-time.Hour)
	if got := value[time.Time](t, tx, `INSERT INTO bids (marketplace, job_id, amount_cents, status, withdrawal_timestamp)
		VALUES ('upwork', '1', 100, 'WITHDRAWN', $1) RETURNING withdrawal_timestamp`, given); !got.Equal(given) {
		t.Errorf("a bid withdrawn at %v says %v", given, got)
	}
}

func TestUpdatedAt(t *testing.T) {
	t.Parallel()
	pool := testdb.New(t).Pool(t)
	tx := begin(t, pool)
	exec(t, tx, "INSERT INTO bids (marketplace, job_id, amount_cents) VALUES ('upwork', '1', 100)")
	if !value[bool](t, tx, "UPDATE bids SET updated_at = 'epoch' RETURNING updated_at >= transaction_timestamp()") {
		t.Error("an update does not show in updated_at")
	}
}

// A transaction's snapshot may be older than the bid that its TRUNCATE would remove.
func TestTruncateFromAnOldSnapshot(t *testing.T) {
	t.Parallel()
	pool := testdb.New(t).Pool(t)
	tx := begin(t, pool)
	exec(t, tx, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
	exec(t, tx, "SELECT count(*) FROM postings")
	exec(t, pool, "INSERT INTO bids (marketplace, job_id, amount_cents) VALUES ('upwork', '1', 100)")
	_, err := tx.Exec(t.Context(), "TRUNCATE bids CASCADE")
	wantRefusal(t, err, "bids_live_undeletable")
}

// Two writers that forgot to lock: one live bid, whoever commits first.
func TestSecondLiveBidWaitsAndFails(t *testing.T) {
	t.Parallel()
	pool := testdb.New(t).Pool(t)
	const insert = "INSERT INTO bids (marketplace, job_id, amount_cents) VALUES ('upwork', '1', 100)"
	first, second := begin(t, pool), begin(t, pool)
	exec(t, first, insert)
	pid := value[int](t, second, "SELECT pg_backend_pid()")
	done := make(chan error, 1)
	go func() {
		_, err := second.Exec(t.Context(), insert)
		done <- err
	}()
	awaitBlocked(t, pool, pid)
	if err := first.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantRefusal(t, <-done, "bids_one_active_per_posting")
}

// awaitBlocked waits until a session waits for a lock.
func awaitBlocked(t *testing.T, conn querier, pid int) {
	t.Helper()
	await(t, "the other session waits for a lock", func() bool {
		return value[bool](t, conn, "SELECT cardinality(pg_blocking_pids($1)) > 0", pid)
	})
}

// A commit is refused when its transaction is older than the lock may live: as the session
// says, and five minutes at most.
func TestLateCommit(t *testing.T) {
	t.Parallel()
	database := testdb.New(t)
	admin := database.Pool(t)
	// In the sessions that look here first, a transaction is older than it is.
	exec(t, admin, `CREATE SCHEMA aged;
		CREATE FUNCTION aged.transaction_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS
			$$ SELECT pg_catalog.transaction_timestamp() - current_setting('aged.by')::interval $$`)
	tests := []struct {
		name, setting, age string
		refused            bool
	}{
		{"not set, young", "", "295 s", false},
		{"not set, old", "", "301 s", true},
		{"wider than allowed, young", "86400000", "295 s", false},
		{"wider than allowed, old", "86400000", "301 s", true},
		{"narrow, young", "60000", "50 s", false},
		{"narrow, old", "60000", "61 s", true},
		{"nothing", "0", "0 s", true},
		{"less than nothing", "-1", "0 s", true},
	}
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tx := begin(t, admin)
			exec(t, tx, "SET LOCAL search_path = aged, pg_catalog, public")
			exec(t, tx, "SELECT set_config('aged.by', $1, true), set_config('bidder.lock_ttl', $2, true)", tt.age, tt.setting)
			exec(t, tx, "INSERT INTO bids (marketplace, job_id, amount_cents) VALUES ('upwork', $1::int::text, 100)", i)
			err := tx.Commit(t.Context())
			if tt.refused {
				wantRefusal(t, err, "bids_commit_within_lock_ttl")
			} else if err != nil {
				t.Error(err)
			}
			if there := value[bool](t, admin, "SELECT EXISTS (SELECT FROM bids WHERE job_id = $1::int::text)", i); there == tt.refused {
				t.Errorf("the bid is there: %t", there)
			}
		})
	}
}

// The check of a transaction's age runs once for all its bids, and for those that come after a check
// or a rollback took the first with it.
func TestLateCommitOnce(t *testing.T) {
	t.Parallel()
	const bid = "INSERT INTO bids (marketplace, job_id, amount_cents) SELECT 'upwork', gen_random_uuid()::text, 100 FROM generate_series(1, 3); "
	for _, tt := range []struct {
		name, before string
		checks       int
	}{
		{"several bids", bid + bid, 1},
		{"rolled back to a savepoint", "SAVEPOINT s; " + bid + "ROLLBACK TO SAVEPOINT s; " + bid, 1},
		{"rolled back altogether", "SAVEPOINT s; " + bid + "ROLLBACK TO SAVEPOINT s", 0},
		{"before and after a savepoint", bid + "SAVEPOINT s; " + bid + "ROLLBACK TO SAVEPOINT s; " + bid, 1},
		{"checked before", bid + "SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED; " + bid, 2},
		{"of another transaction", "SELECT set_config('bidder.checked_transaction', '3', false); " + bid, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			database := testdb.New(t)
			admin := database.Pool(t)
			exec(t, admin, `CREATE SCHEMA counted;
				CREATE SEQUENCE counted.checks;
				CREATE FUNCTION counted.transaction_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS
					$$ SELECT pg_catalog.transaction_timestamp() - nextval('counted.checks') * interval '0' $$`)
			for _, last := range []string{"SELECT", "SET LOCAL bidder.lock_ttl = 0"} {
				before := value[int64](t, admin, "SELECT last_value - 1 + is_called::integer FROM counted.checks")
				tx := begin(t, admin)
				exec(t, tx, "SET LOCAL search_path = counted, pg_catalog, public")
				exec(t, tx, tt.before)
				exec(t, tx, last)
				err := tx.Commit(t.Context())
				if late := last != "SELECT"; late && tt.checks > 0 {
					wantRefusal(t, err, "bids_commit_within_lock_ttl")
				} else if err != nil {
					t.Error(err)
				}
				if got := value[int64](t, admin, "SELECT last_value - 1 + is_called::integer FROM counted.checks") - before; got != int64(tt.checks) {
					t.Errorf("%s: checked %d times, want %d", last, got, tt.checks)
				}
			}
		})
	}
}
