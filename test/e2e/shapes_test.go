package e2e

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// shape is a JSON value with the kind of everything in place of its value. A list is
// represented by its first element; text that is a time with a zone is a time.
func shape(value any) any {
	switch value := value.(type) {
	case map[string]any:
		shapes := map[string]any{}
		for key, member := range value {
			shapes[key] = shape(member)
		}
		return shapes
	case []any:
		if len(value) == 0 {
			return []any{}
		}
		return []any{shape(value[0])}
	case string:
		if _, err := time.Parse(time.RFC3339Nano, value); err == nil {
			return "time"
		}
		return "text"
	case json.Number, float64:
		return "number"
	case bool:
		return "bool"
	}
	return "null"
}

// object is the shape of an object whose members are all of a kind.
func object(kind any, members ...string) map[string]any {
	shapes := map[string]any{}
	for _, member := range members {
		shapes[member] = kind
	}
	return shapes
}

// with changes some members.
func with(shapes map[string]any, kind any, members ...string) map[string]any {
	for _, member := range members {
		shapes[member] = kind
	}
	return shapes
}

// TestShapes compares the JSON of every command with the contract: every key is there, also
// where its value is null, and nothing else.
func TestShapes(t *testing.T) {
	t.Parallel()
	f := setup(t)
	wantShape := func(want any, code int, c call) {
		t.Helper()
		r := c.run(t).want(t, code)
		if diff := cmp.Diff(want, shape(decode[any](t, r))); diff != "" {
			t.Errorf("%q (-want +got):\n%s", c.args, diff)
		}
	}
	ingested := func() map[string]any {
		return object("number", "read", "accepted", "updated", "unchanged", "rejected", "blank")
	}
	delivered := object(object("number", "done", "retry", "review", "rejected"), "place", "withdraw")
	run := func() map[string]any {
		return map[string]any{
			"run_id": "text", "started_at": "time", "finished_at": "time", "dry_run": "bool",
			"ingest": ingested(), "attempts": "number", "outcomes": object("number", outcomes...),
			"locks":      object("number", "attempts", "successes", "conflicts", "timeouts"),
			"deliveries": delivered, "recovered": "number",
		}
	}
	wantShape(with(with(ingested(), []any{}, "rejects"), map[string]any{}, "notes"), 0,
		f.call("ingest", "--cached-at", "now", "-", "-o", "json").reading(line("1")))
	wantShape(with(with(ingested(), []any{map[string]any{"line": "number", "code": "text", "message": "text"}}, "rejects"),
		object("number", "unknown_key"), "notes"), 3,
		f.call("ingest", "--cached-at", "now", "-", "-o", "json").reading("bad", line("2", `,"odd":1`)))
	wantShape(with(with(ingested(), []any{map[string]any{"file": "text", "line": "number", "code": "text", "message": "text"}}, "rejects"),
		map[string]any{}, "notes"), 3,
		f.call("ingest", file(t, "empty.ndjson"), "-", "-o", "json").reading("bad"))
	wantShape(with(run(), "null", "run_id"), 0, f.call("run", "--dry-run", "-o", "json"))
	wantShape(run(), 0, f.call("run", "-o", "json"))

	attempt := func() map[string]any {
		return with(object("text", "outcome", "marketplace", "job_id", "lock_key"), "null", "bid_id", "existing_bid_id", "detail")
	}
	wantShape(with(with(attempt(), "number", "waited_ms"), "text", "existing_bid_id"), 3, f.call("bid", "upwork", "1", "-o", "json"))
	f.ingest(line("3"), line("4"))
	wantShape(with(attempt(), "number", "waited_ms"), 0, f.call("bid", "upwork", "3", "--dry-run", "-o", "json"))
	wantShape(with(with(attempt(), "number", "waited_ms"), "text", "bid_id"), 0, f.call("bid", "upwork", "3", "-o", "json"))
	f.exec("UPDATE postings SET budget_max_cents = NULL WHERE job_id = '4'")
	wantShape(with(with(attempt(), "number", "waited_ms"), "text", "detail"), 3, f.call("bid", "upwork", "4", "-o", "json"))

	// A bid has the database's columns, and the amount as people write it.
	bid := func() map[string]any {
		columns := map[string]any{}
		rows, err := f.pool.Query(t.Context(), "SELECT column_name FROM information_schema.columns WHERE table_schema = 'public' AND table_name = 'bids'")
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			var column string
			if err := rows.Scan(&column); err != nil {
				t.Fatal(err)
			}
			columns[column] = "null"
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
		with(columns, "text", "id", "marketplace", "account", "job_id", "status", "currency", "amount", "run_id", "version")
		with(columns, "number", "amount_cents", "delivery_attempts", "lease_token", "place_posts")
		with(columns, "time", "created_at", "updated_at", "posting_cached_at")
		return with(columns, "bool", "is_foreign", "is_guessed")
	}
	owing := func() map[string]any {
		return with(with(bid(), "text", "delivery_kind", "delivery_state"), "time", "next_attempt_at")
	}
	id := read[string](f, "SELECT id::text FROM bids WHERE job_id = '3'")
	wantShape(map[string]any{"items": []any{owing()}, "next": "text"}, 0, f.call("bids", "--limit", "1", "--status", "ACTIVE", "-o", "json"))
	wantShape(map[string]any{"items": []any{}, "next": "null"}, 0, f.call("bids", "--status", "WON", "-o", "json"))
	duplicate := with(with(with(bid(), "null", "amount", "amount_cents"), "text", "duplicate_of"), "time", "posting_cached_at")
	wantShape(map[string]any{"items": []any{duplicate}, "next": "null"}, 0, f.call("bids", "--status", "duplicate", "-o", "json"))
	wantShape(with(owing(), []any{}, "history"), 0, f.call("bids", "show", id, "-o", "json"))
	event := with(with(object("text", "bid_id", "actor", "from_status", "to_status"), "time", "at"), "number", "id")
	event["detail"] = map[string]any{"note": "text"}
	wantShape(with(bid(), []any{event}, "history"), 0, f.call("bids", "mark", id, "won", "--note", "x", "-o", "json"))

	wantShape(map[string]any{"marketplace": "text", "job_id": "text", "outcome": "text", "detail": "text", "resets_at": "null", "reasons": []any{"text"}, "bids": []any{bid()}}, 0,
		f.call("why", "upwork", "3", "-o", "json"))
	wantShape(map[string]any{"marketplace": "text", "job_id": "text", "outcome": "text", "detail": "null", "resets_at": "null", "reasons": []any{"text"}, "bids": []any{}}, 0,
		f.call("why", "upwork", "nowhere", "-o", "json"))
	wantShape(map[string]any{
		"runs":     "number",
		"counters": object("number", "lock_attempts", "lock_successes", "lock_conflicts", "lock_timeouts"),
		"outcomes": object("number", outcomes...), "deliveries": delivered, "caps": []any{},
		"refreshed": object("number", "live", "won", "lost", "rejected", "withdrawn", "unseen", "review"),
	}, 0, f.call("stats", "-o", "json"))
	wantShape(object("text", "key", "bigint"), 0, f.call("key", "upwork", "1", "-o", "json"))
	wantShape(map[string]any{"items": []any{}, "next": "null"}, 0, f.call("locks", "-o", "json"))
	f.lock("1")
	wantShape(map[string]any{"items": []any{map[string]any{
		"marketplace": "text", "job_id": "text", "pid": "number", "application_name": "text", "since": "time",
	}}, "next": "null"}, 0, f.call("locks", "-o", "json"))
	wantShape(map[string]any{"items": []any{object("text", "name", "value", "from", "meaning")}, "next": "null"}, 0,
		f.call("config", "check", "-o", "json"))
}
