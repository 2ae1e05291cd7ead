package bidding

import (
	"fmt"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/arbitrageai/bidder/db/queries"
)

// scenario says what is wrong, if anything.
type scenario func(t *testing.T, f *fixture) error

// mutant is a claim with one predicate of its SQL removed or weakened, and the scenario
// that has to notice.
type mutant struct {
	query    string
	old, new string // old is in the query once
	noticed  scenario
}

func mutants() []mutant {
	const (
		tryLock   = "pg_try_advisory_xact_lock(bid_lock_key(k.marketplace, k.job_id))"
		tryTaken  = "pg_try_advisory_xact_lock(t.lock_key)"
		touched   = "greatest(b.created_at, b.submitted_at, b.last_post_at, b.withdrawal_timestamp)"
		pastKey   = "WHERE b.marketplace = k.marketplace AND b.job_id = k.job_id\n        AND b.status <> 'ACTIVE' AND b.status <> 'DUPLICATE'"
		plainLive = "AND (\n        SELECT b.id FROM bids AS b\n        WHERE b.marketplace = p.marketplace AND b.job_id = p.job_id AND b.status = 'ACTIVE'\n        LIMIT 1\n    ) IS NULL"
		plainPast = "AND (\n        SELECT b.id FROM bids AS b\n        WHERE b.marketplace = p.marketplace AND b.job_id = p.job_id\n            AND b.status <> 'ACTIVE' AND b.status <> 'DUPLICATE'\n        LIMIT 1\n    ) IS NULL"
		liveKey   = "WHERE b.marketplace = k.marketplace AND b.job_id = k.job_id AND b.status = 'ACTIVE'"
	)
	without := func(query, text, part string, noticed scenario) mutant {
		return mutant{query, text, strings.Replace(text, part, "", 1), noticed}
	}

	return []mutant{
		{queries.LockPostings, tryLock, "true", scenarioHeldLock},
		{queries.LockPostings, tryLock, "pg_try_advisory_xact_lock(bid_lock_key(k.marketplace, ''))", scenarioHeldLock},
		{queries.LockPostings, tryLock, "pg_try_advisory_xact_lock(bid_lock_key('', k.job_id))", scenarioHeldLock},

		{queries.TakeCandidates, tryTaken, "true", scenarioHeldLock},
		{queries.TakeCandidates, "bid_lock_key(c.marketplace, c.job_id)", "bid_lock_key(c.marketplace, '')", scenarioHeldLock},
		{queries.TakeCandidates, "bid_lock_key(c.marketplace, c.job_id)", "bid_lock_key('', c.job_id)", scenarioHeldLock},
		{queries.TakeCandidates, "WHERE c.not_before <= $1::timestamptz", "WHERE $1::timestamptz IS NOT NULL", scenarioQueue},
		{queries.TakeCandidates, "c.not_before <= $1", "c.not_before < $1", scenarioQueue},
		{queries.TakeCandidates, "ORDER BY c.not_before", "ORDER BY c.not_before DESC", scenarioQueue},
		{queries.TakeCandidates, "ORDER BY c.not_before", "ORDER BY c.marketplace, c.job_id", scenarioQueue},
		{queries.TakeCandidates, "LIMIT $3::integer", "LIMIT $3::integer + 1", scenarioQueue},
		{queries.TakeCandidates, "FOR UPDATE SKIP LOCKED", "", scenarioQueue},
		{queries.TakeCandidates, "FOR UPDATE SKIP LOCKED", "FOR UPDATE", scenarioQueue},

		{queries.TakeCandidates, "WHEN $4::boolean THEN", "WHEN NOT $4::boolean THEN", scenarioOnlyPlain},
		{queries.TakeCandidates, "array_agg(t.lock_key) FILTER (WHERE t.locked)", "array_agg(t.lock_key)", scenarioPlain},

		{queries.InsertPlain, "postings.ctid = ANY(", "postings.ctid <> ALL(", scenarioOnlyPlain},
		{queries.InsertPlain, "bid_lock_key(postings.marketplace, postings.job_id)", "bid_lock_key(postings.marketplace, '')", scenarioOnlyPlain},
		{queries.InsertPlain, "bid_lock_key(postings.marketplace, postings.job_id)", "bid_lock_key('', postings.job_id)", scenarioOnlyPlain},
		{queries.InsertPlain, "p.number IS NOT NULL", "true", scenarioMoved},
		{queries.InsertPlain, "ORDER BY p.marketplace, p.job_id", "ORDER BY p.marketplace DESC, p.job_id", scenarioOnlyPlain},
		{queries.InsertPlain, "ORDER BY p.marketplace, p.job_id", "ORDER BY p.marketplace, p.job_id DESC", scenarioOnlyPlain},
		{queries.InsertPlain, "array_position($5::text[], postings.marketplace::text)", "array_position($5::text[], postings.marketplace::text) * 0 + 1", scenarioPlain},
		{queries.InsertPlain, "CASE WHEN ($3::boolean[])[p.terms] THEN", "CASE WHEN NOT ($3::boolean[])[p.terms] THEN", scenarioPlain},
		{queries.InsertPlain, "CASE WHEN NOT ($3)[p.terms] THEN", "CASE WHEN ($3)[p.terms] THEN", scenarioPlain},
		{queries.InsertPlain, "coalesce($4::timestamptz, statement_timestamp())", "coalesce(statement_timestamp(), $4::timestamptz)", scenarioPlain},
		{queries.InsertPlain, "p.cached_at >= clock.now - $6::interval", "(p.cached_at >= clock.now - $6::interval) IS NOT NULL", scenarioPlain},
		{queries.InsertPlain, "p.cached_at >= clock.now", "p.cached_at > clock.now", scenarioOnlyPlain},
		{queries.InsertPlain, "BETWEEN ($7::bigint[])[p.terms]", "BETWEEN 0 * ($7::bigint[])[p.terms]", scenarioPlain},
		{queries.InsertPlain, "BETWEEN ($7::bigint[])[p.terms]", "BETWEEN 1 + ($7::bigint[])[p.terms]", scenarioOnlyPlain},
		{queries.InsertPlain, "AND ($8::bigint[])[p.terms]", "AND 10 * ($8::bigint[])[p.terms]", scenarioPlain},
		{queries.InsertPlain, "AND ($8::bigint[])[p.terms]", "AND ($8::bigint[])[p.terms] - 1", scenarioOnlyPlain},
		{queries.InsertPlain, "postings.budget_max_cents, postings.budget_min_cents", "postings.budget_min_cents, postings.budget_max_cents", scenarioPlain},
		{queries.InsertPlain, "postings.bid_amount_cents, postings.budget_max_cents,", "postings.budget_max_cents, postings.bid_amount_cents,", scenarioPlain},
		without(queries.InsertPlain, plainLive, plainLive, scenarioPlain),
		{queries.InsertPlain, plainLive, strings.Replace(plainLive, "IS NULL", "IS NOT NULL", 1), scenarioPlain},
		without(queries.InsertPlain, plainLive, "b.marketplace = p.marketplace AND ", scenarioOnlyPlain),
		without(queries.InsertPlain, plainLive, " AND b.job_id = p.job_id", scenarioOnlyPlain),
		without(queries.InsertPlain, plainLive, " AND b.status = 'ACTIVE'", scenarioOnlyPlain),
		without(queries.InsertPlain, plainPast, plainPast, scenarioPlain),
		{queries.InsertPlain, plainPast, strings.Replace(plainPast, "IS NULL", "IS NOT NULL", 1), scenarioPlain},
		without(queries.InsertPlain, plainPast, "b.marketplace = p.marketplace AND ", scenarioOnlyPlain),
		without(queries.InsertPlain, plainPast, " AND b.job_id = p.job_id", scenarioOnlyPlain),
		without(queries.InsertPlain, plainPast, "b.status <> 'ACTIVE' AND ", scenarioPlainPlans), // only there for the index
		without(queries.InsertPlain, plainPast, " AND b.status <> 'DUPLICATE'", scenarioOnlyPlain),

		{queries.Judge, "coalesce(k.refreshed, p.cached_at) IS NULL", "false", scenarioBoundaries},
		{queries.Judge, "coalesce(k.refreshed, p.cached_at) IS NULL", "p.cached_at IS NULL", scenarioPreviewRefreshed},
		{queries.Judge, "live.id IS NOT NULL", "false", scenarioBoundaries},
		{queries.Judge, "('WON', 'LOST', 'REJECTED')", "('LOST', 'REJECTED')", scenarioBoundaries},
		{queries.Judge, "('WON', 'LOST', 'REJECTED')", "('WON', 'REJECTED')", scenarioBoundaries},
		{queries.Judge, "('WON', 'LOST', 'REJECTED')", "('WON', 'LOST')", scenarioBoundaries},
		{queries.Judge, "past.status = 'WITHDRAWN' AND $1::boolean", "$1::boolean", scenarioBoundaries},
		{queries.Judge, "past.status = 'WITHDRAWN' AND $1::boolean", "past.status = 'WITHDRAWN' AND ($1::boolean OR true)", scenarioBoundaries},
		{queries.Judge, "past.status = 'WITHDRAWN' AND $1::boolean", "false AND $1::boolean", scenarioBoundaries},
		{queries.Judge, "past.touched_at > clock.now - $2::interval", "past.touched_at >= clock.now - $2::interval", scenarioBoundaries},
		{queries.Judge, "past.touched_at > clock.now - $2::interval", "past.touched_at IS NULL AND clock.now - $2::interval IS NULL", scenarioBoundaries},
		{queries.Judge, "greatest(k.refreshed, p.cached_at) < clock.now", "greatest(k.refreshed, p.cached_at) <= clock.now", scenarioBoundaries},
		{queries.Judge, "greatest(k.refreshed, p.cached_at) < clock.now", "NULL < clock.now", scenarioBoundaries},
		{queries.Judge, "greatest(k.refreshed, p.cached_at)", "p.cached_at", scenarioPreviewRefreshed},
		{queries.Judge, "greatest(k.refreshed, p.cached_at)", "coalesce(k.refreshed, p.cached_at)", scenarioPreviewOlder},
		{queries.Judge, "coalesce($4::timestamptz, statement_timestamp())", "coalesce(statement_timestamp(), $4::timestamptz)", scenarioBoundaries},
		without(queries.Judge, "postings.marketplace = k.marketplace AND postings.job_id = k.job_id", "postings.marketplace = k.marketplace AND ", scenarioNeighbours),
		{queries.Judge, "WHERE c.ctid = ANY(", "WHERE c.ctid <> ALL(", scenarioNeighbours},
		without(queries.Judge, "postings.marketplace = k.marketplace AND postings.job_id = k.job_id", " AND postings.job_id = k.job_id", scenarioNeighbours),
		without(queries.Judge, liveKey, "b.marketplace = k.marketplace AND ", scenarioNeighbours),
		without(queries.Judge, liveKey, "AND b.job_id = k.job_id ", scenarioNeighbours),
		without(queries.Judge, liveKey, " AND b.status = 'ACTIVE'", scenarioBoundaries),
		without(queries.Judge, pastKey, "b.marketplace = k.marketplace AND ", scenarioNeighbours),
		without(queries.Judge, pastKey, " AND b.job_id = k.job_id", scenarioNeighbours),
		without(queries.Judge, pastKey, "b.status <> 'ACTIVE' AND ", scenarioPlans), // only there for the index
		without(queries.Judge, pastKey, " AND b.status <> 'DUPLICATE'", scenarioBoundaries),
		{queries.Judge, "ORDER BY b.created_at DESC, b.id DESC", "ORDER BY b.created_at, b.id DESC", scenarioBoundaries},
		{queries.Judge, "ORDER BY b.created_at DESC, b.id DESC", "ORDER BY b.created_at DESC, b.id", scenarioBoundaries},
		without(queries.Judge, touched, "b.created_at, ", scenarioBoundaries),
		without(queries.Judge, touched, "b.submitted_at, ", scenarioBoundaries),
		without(queries.Judge, touched, "b.last_post_at, ", scenarioBoundaries),
		without(queries.Judge, touched, ", b.withdrawal_timestamp", scenarioBoundaries),
		{queries.Judge, "max(greatest(", "min(greatest(", scenarioBoundaries},

		{queries.PostingContents, "CASE WHEN $1::boolean THEN", "CASE WHEN $1::boolean OR true THEN", scenarioContent},
		{queries.PostingContents, "CASE WHEN $1::boolean THEN", "CASE WHEN $1::boolean AND false THEN", scenarioContent},
		{queries.PostingContents, "left(p.title, 10001)", "left(p.title, 10000)", scenarioContent},
		{queries.PostingContents, "left(p.title, 10001)", "p.title", scenarioContent},
		{queries.PostingContents, "left(p.url, 10001)", "left(p.url, 10000)", scenarioContent},
		{queries.PostingContents, "left(p.url, 10001)", "p.url", scenarioContent},
		{queries.PostingContents, "left(p.description, 100001)", "left(p.description, 100000)", scenarioContent},
		{queries.PostingContents, "left(p.description, 100001)", "p.description", scenarioContent},
		{queries.PostingContents, "left(s.skill, 251)", "left(s.skill, 250)", scenarioContent},
		{queries.PostingContents, "left(s.skill, 251)", "s.skill", scenarioContent},
		{queries.PostingContents, "p.skills[1:251]", "p.skills[1:250]", scenarioContent},
		{queries.PostingContents, "p.skills[1:251]", "p.skills", scenarioContent},
		{queries.PostingContents, "ORDER BY s.number", "ORDER BY s.number DESC", scenarioContent},
		without(queries.PostingContents, "postings.marketplace = k.marketplace AND postings.job_id = k.job_id", "postings.marketplace = k.marketplace AND ", scenarioContent),
		without(queries.PostingContents, "postings.marketplace = k.marketplace AND postings.job_id = k.job_id", " AND postings.job_id = k.job_id", scenarioContent),

		{queries.InsertBids, "postings.ctid = a.place AND ", "", scenarioNeighbours},
		{queries.InsertBids, " AND postings.xmin = a.written_by", "", scenarioPlaceReused},
		{queries.InsertBids, " AND postings.tableoid = a.in_table", "", scenarioPartitions},
		{queries.InsertBids, "ORDER BY p.marketplace, p.job_id", "", scenarioOppositeOrders},
		{queries.InsertBids, "ON CONFLICT (marketplace, job_id) WHERE status = 'ACTIVE' DO NOTHING", "", scenarioRogueCommits},

		{queries.DropTaken, "WHERE ctid = ANY($1::tid[])", "WHERE $1::tid[] IS NOT NULL", scenarioQueue},
		{queries.DropTaken, "WHERE ctid = ANY($1::tid[])", "WHERE $1::tid[] IS NULL", scenarioQueue},
		{queries.DropCandidates, " AND q.cached_at <= d.covers", "", scenarioRefreshBetween},
		{queries.DropCandidates, "q.cached_at <= d.covers", "q.cached_at < d.covers", scenarioRefreshBetween},
		without(queries.DropCandidates, "q.marketplace = d.marketplace AND q.job_id = d.job_id", "q.marketplace = d.marketplace AND ", scenarioNeighbours),
		without(queries.DropCandidates, "q.marketplace = d.marketplace AND q.job_id = d.job_id", " AND q.job_id = d.job_id", scenarioNeighbours),
		{queries.DropCandidates, "FOR UPDATE OF q SKIP LOCKED", "", scenarioHeldCandidate},
		{queries.DropCandidates, "FOR UPDATE OF q SKIP LOCKED", "FOR UPDATE OF q", scenarioHeldCandidate},
		{queries.DropCandidates, "WHERE c.ctid = held.place", "", scenarioNeighbours},

		{queries.TakeShares, "WHEN m.cap = 'live_bids' THEN '-infinity'", "WHEN m.cap IS NULL THEN '-infinity'", scenarioCapShares},
		{queries.TakeShares, "s.marketplace = k.marketplace", "s.marketplace IS NOT NULL", scenarioCapShares},
		{queries.TakeShares, "s.account = k.account", "s.account <> k.account", scenarioCapShares},
		{queries.TakeShares, "s.currency = k.currency", "s.currency IS NOT NULL", scenarioCapShares},
		{queries.TakeShares, "AND s.day = k.day", "AND s.day IS NOT NULL", scenarioCapShares},
		{queries.TakeShares, "AND s.share >= k.first_share", "", scenarioCapShares},
		{queries.TakeShares, "AND s.of_cap = k.of_cap", "", scenarioCapShares},
		{queries.TakeShares, "s.used + k.amount <= s.allotted", "s.used + k.amount <= s.allotted - 1", scenarioCapShares},
		{queries.TakeShares, "AND s.used + k.amount <= s.allotted", "", scenarioCapShares},
		{queries.TakeShares, "FOR UPDATE OF s SKIP LOCKED", "", scenarioCapShares},
		{queries.TakeShares, "FOR UPDATE OF s SKIP LOCKED", "FOR UPDATE OF s", scenarioCapShares},
		{queries.TakeShares, "s.marketplace = held.marketplace", "s.marketplace IS NOT NULL", scenarioCapShares},
		{queries.TakeShares, "s.account = held.account", "s.account <> held.account", scenarioCapShares},
		{queries.TakeShares, "s.currency = held.currency", "s.currency IS NOT NULL", scenarioCapShares},
		{queries.TakeShares, "AND s.day = held.day", "AND s.day IS NOT NULL", scenarioCapShares},
		{queries.TakeShares, "AND s.share = held.share", "", scenarioCapShares},

		{queries.ReadSpending, "WHEN k.cap = 'live_bids' THEN (", "WHEN k.cap IS NULL THEN (", scenarioCapCounts},
		{queries.ReadSpending, "WHERE b.marketplace = k.marketplace AND b.account = k.account AND b.status = 'ACTIVE'", "WHERE b.account = k.account AND b.status = 'ACTIVE'", scenarioCapCounts},
		{queries.ReadSpending, "AND b.account = k.account AND b.status = 'ACTIVE'", "AND b.status = 'ACTIVE'", scenarioCapCounts},
		{queries.ReadSpending, "AND b.status = 'ACTIVE'", "", scenarioCapCounts},
		{queries.ReadSpending, "WHEN k.recount OR counted.used IS NULL", "WHEN counted.used IS NULL", scenarioCapCounts},
		{queries.ReadSpending, "WHEN k.recount OR counted.used IS NULL", "WHEN k.recount", scenarioCapCounts},
		{queries.ReadSpending, "WHEN k.cap = 'money_per_day' THEN b.amount_cents ELSE 1 END", "WHEN k.cap IS NULL THEN b.amount_cents ELSE 1 END", scenarioCapCounts},
		{queries.ReadSpending, "AND b.marketplace = k.marketplace AND b.account = k.account\n", "AND b.account = k.account\n", scenarioCapCounts},
		{queries.ReadSpending, "b.marketplace = k.marketplace AND b.account = k.account\n", "b.marketplace = k.marketplace\n", scenarioCapCounts},
		{queries.ReadSpending, "interval '2 days'", "interval '-2 days'", scenarioCapCounts},
		{queries.ReadSpending, "AND (k.currency = '' OR b.currency = k.currency)", "", scenarioCapCounts},
		{queries.ReadSpending, "AND b.status <> 'DUPLICATE'", "", scenarioCapCounts},
		{queries.ReadSpending, "AND (b.created_at AT TIME ZONE k.zone)::date = k.day", "", scenarioCapCounts},
		{queries.ReadSpending, "(b.created_at AT TIME ZONE k.zone)::date", "(b.created_at AT TIME ZONE 'UTC')::date", scenarioCapCounts},
		{queries.ReadSpending, "s.marketplace = k.marketplace", "s.marketplace IS NOT NULL", scenarioCapCounts},
		{queries.ReadSpending, "s.account = k.account", "s.account IS NOT NULL", scenarioCapCounts},
		{queries.ReadSpending, "s.currency = k.currency", "s.currency IS NOT NULL", scenarioCapCounts},
		{queries.ReadSpending, "AND s.day = k.day", "", scenarioCapCounts},
		{queries.ReadSpending, "HAVING every(s.used IS NOT NULL)", "HAVING true", scenarioCapCounts},

		{queries.FindLiveBids, "bids.marketplace = k.marketplace AND bids.job_id", "bids.job_id", scenarioRogueCommits},
		{queries.FindLiveBids, " AND bids.job_id = k.job_id", "", scenarioRogueCommits},
		{queries.FindLiveBids, " AND bids.status = 'ACTIVE'", "", scenarioRogueCommits},
		{queries.PostponeCandidates, "p.marketplace = k.marketplace AND p.job_id = k.job_id", "p.marketplace = k.marketplace", scenarioPutBack},
		{queries.PostponeCandidates, "p.marketplace = k.marketplace AND p.job_id = k.job_id", "p.job_id = k.job_id", scenarioPutBack},
		{queries.PostponeCandidates, "c.marketplace = held.marketplace AND c.job_id = held.job_id", "c.marketplace = held.marketplace", scenarioPutBack},
		{queries.PostponeCandidates, "c.marketplace = held.marketplace AND c.job_id = held.job_id", "c.job_id = held.job_id", scenarioPutBack},
		{queries.FailCandidates, "f.marketplace = k.marketplace AND f.job_id = k.job_id", "f.marketplace = k.marketplace", scenarioPutBack},
		{queries.FailCandidates, "f.marketplace = k.marketplace AND f.job_id = k.job_id", "f.job_id = k.job_id", scenarioPutBack},
		{queries.FailCandidates, "c.marketplace = held.marketplace AND c.job_id = held.job_id", "c.marketplace = held.marketplace", scenarioPutBack},
		{queries.FailCandidates, "c.marketplace = held.marketplace AND c.job_id = held.job_id", "c.job_id = held.job_id", scenarioPutBack},
	}
}

// TestMutants: for every predicate of the claim's SQL some scenario fails without it.
func TestMutants(t *testing.T) {
	t.Parallel()
	for i, m := range mutants() {
		what := strings.Join(strings.Fields(m.old+" -> "+m.new), " ")
		t.Run(name(i)+" "+what, func(t *testing.T) {
			t.Parallel()
			if n := strings.Count(m.query, m.old); n != 1 {
				t.Fatalf("%q is in the query %d times, want once:\n%s", m.old, n, m.query)
			}
			f := setup(t)
			var ran atomic.Bool
			f.rewrite = func(sql string) string {
				if sql != m.query {
					return sql
				}
				ran.Store(true)
				return strings.Replace(sql, m.old, m.new, 1)
			}
			err := survive(func() error { return m.noticed(t, f) })
			if err == nil {
				t.Error("nothing has noticed")
			}
			if !ran.Load() {
				t.Error("the statement did not run")
			}
			if err != nil && strings.Contains(err.Error(), "42601") {
				t.Errorf("no mutant, only wrong SQL: %v", err)
			}
		})
	}
}

// survive makes an error of a panic: a statement that answers nonsense may well cause one.
func survive(do func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return do()
}

// TestMutantsComplete: a line with a condition that no mutant touches is a line that no test
// looks at.
func TestMutantsComplete(t *testing.T) {
	t.Parallel()
	condition := regexp.MustCompile(`\b(WHERE|AND|WHEN|ON CONFLICT|FOR UPDATE|LIMIT|ORDER BY|JOIN .* ON|max|greatest|pg_try\w*)\b`)
	exempt := map[string]string{
		"LIMIT 1":             "of a look-up by a unique key, or after its ORDER BY: for the planner",
		"ORDER BY s.share":    "any order would do: this one is the index's",
		"LEFT JOIN LATERAL (": "has no condition",
		"ELSE num_nonnulls(set_config('bidder.taken', (array_agg(t.ctid) FILTER (WHERE t.locked))::text, true))": "only for speed: what is not locked would be judged in vain",
		"AND c.not_before >= $2::timestamptz": "only for speed: in the end the last worker begins at the front",
		") AS p ON true":                      "has no condition",
		"$1::uuid, 'place', CASE WHEN a.needs_approval THEN 'awaiting_approval' ELSE 'pending' END,": "TestBorn looks at the value",
		"CASE WHEN NOT a.needs_approval THEN $2::timestamptz END, $2, $2":                            "TestBorn looks at the value",
	}
	for name, query := range map[string]string{
		"LockPostings": queries.LockPostings, "TakeCandidates": queries.TakeCandidates, "InsertPlain": queries.InsertPlain,
		"Judge": queries.Judge, "PostingContents": queries.PostingContents, "InsertBids": queries.InsertBids,
		"DropTaken": queries.DropTaken, "DropCandidates": queries.DropCandidates,
		"TakeShares": queries.TakeShares, "ReadSpending": queries.ReadSpending,
	} {
		start := 0
		for line := range strings.Lines(query) {
			end := start + len(line)
			text := strings.TrimSpace(line)
			if _, ok := exempt[text]; !ok && !strings.HasPrefix(text, "--") && condition.MatchString(text) && !touchedByMutant(query, start, end) {
				t.Errorf("%s: no mutant of: %s", name, text)
			}
			start = end
		}
	}
}

func touchedByMutant(query string, start, end int) bool {
	for _, m := range mutants() {
		at := strings.Index(query, m.old)
		if m.query == query && at >= 0 && at < end && at+len(m.old) > start {
			return true
		}
	}
	return false
}
