package bidding

import (
	"maps"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// row is what a bid looks like in the database.
func (f *fixture) row(t *testing.T, id uuid.UUID) map[string]any {
	t.Helper()
	rows, err := f.direct.Query(t.Context(), `SELECT id::text AS id, marketplace, account, job_id, status, amount_cents, currency, period_days, proposal,
			posting_cached_at, external_bid_id, is_foreign, submitted_at, withdrawn_reason, withdrawal_timestamp, duplicate_of::text AS duplicate_of,
			run_id::text AS run_id, created_at, updated_at, delivery_kind, delivery_state, delivery_attempts, next_attempt_at, lease_expires_at,
			lease_token, last_error, place_posts, first_post_at, last_post_at, approved_at, approved_by,
			withdraw_requested_at, withdraw_requested_reason, withdraw_requested_by
		FROM bids WHERE id = $1::text::uuid`, id.String())
	if err != nil {
		t.Fatal(err)
	}
	row, err := pgx.CollectExactlyOneRow(rows, pgx.RowToMap)
	if err != nil {
		t.Fatal(err)
	}
	for column, value := range row {
		if at, ok := value.(time.Time); ok {
			row[column] = at.UTC()
		}
		if value == nil {
			delete(row, column)
		}
	}
	return row
}

// TestBorn looks at every column of a bid that was just claimed.
func TestBorn(t *testing.T) {
	t.Parallel()

	tests := []struct {
		name      string
		approval  bool
		runID     uuid.UUID
		posting   string // what its content says of the bid
		byHand    *int64 // with this amount
		wantState string
		want      map[string]any
	}{
		{
			name: "from the budget", posting: "budget_max_cents = 75000",
			wantState: "pending",
			want:      map[string]any{"amount_cents": int64(75000), "currency": "USD", "next_attempt_at": noon()},
		},
		{
			name: "as the scanner wants it", runID: uuid.MustParse("01234567-89ab-7cde-8f01-23456789abcd"),
			posting:   "budget_max_cents = 1, bid_amount_cents = 48000, currency = 'EUR', bid_period_days = 10, bid_proposal = 'Dear client'",
			wantState: "pending",
			want: map[string]any{
				"amount_cents": int64(48000), "currency": "EUR", "period_days": int32(10), "proposal": "Dear client",
				"run_id": "01234567-89ab-7cde-8f01-23456789abcd", "next_attempt_at": noon(),
			},
		},
		{
			name: "with approval, by hand", approval: true, posting: "bid_amount_cents = 48000", byHand: cents(12345),
			wantState: "awaiting_approval", want: map[string]any{"amount_cents": int64(12345), "currency": "USD"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			f.rules.Policy = Budget{NeedsApproval: func(string) bool { return tt.approval }}.Decide
			cachedAt := noon().Add(-time.Hour)
			f.cache(t, cachedAt, job("1"))
			f.exec(t, "UPDATE postings SET "+tt.posting)
			c := NewClaimer(f.pool, f.limits, f.rules, &f.counters, tt.runID)
			at(noon())(c)

			var a Attempt
			if tt.byHand != nil {
				a = attempt(t, c, job("1"), AttemptOptions{AmountCents: tt.byHand})
			} else {
				a = pass(t, c, PassOptions{})[0]
			}
			want(t, "outcome", verdict(a), "claimed")
			want(t, "content", a.CachedAt, cachedAt)
			want(t, "amount", any(a.AmountCents), tt.want["amount_cents"])
			wanted := map[string]any{
				"id": a.BidID.String(), "marketplace": "upwork", "account": "default", "job_id": "1", "status": "ACTIVE",
				"is_foreign": false, "posting_cached_at": cachedAt, "created_at": noon(), "updated_at": noon(),
				"delivery_kind": "place", "delivery_state": tt.wantState,
				"delivery_attempts": int32(0), "lease_token": int64(0), "place_posts": int32(0),
			}
			maps.Copy(wanted, tt.want)
			want(t, "row", f.row(t, a.BidID), wanted)
		})
	}
}

// TestAudit looks at every column of the trace that a refused attempt by hand leaves.
func TestAudit(t *testing.T) {
	t.Parallel()
	f := setup(t)
	runID := uuid.MustParse("01234567-89ab-7cde-8f01-23456789abcd")
	f.cache(t, noon().Add(-time.Hour), job("1"))
	live := f.insert(t, job("1"), bid{status: "ACTIVE"})
	f.exec(t, "UPDATE bids SET currency = 'EUR'")
	c := NewClaimer(f.pool, f.limits, f.rules, &f.counters, runID)
	at(noon())(c)

	a := attempt(t, c, job("1"), AttemptOptions{})
	want(t, "outcome", verdict(a), "duplicate")
	id := uuid.MustParse(read[string](t, f, "SELECT id::text FROM bids WHERE status = 'DUPLICATE'"))
	want(t, "row", f.row(t, id), map[string]any{
		"id": id.String(), "marketplace": "upwork", "account": "default", "job_id": "1", "status": "DUPLICATE",
		"duplicate_of": live.String(), "currency": "EUR", "is_foreign": false, "posting_cached_at": noon().Add(-time.Hour),
		"run_id": runID.String(), "created_at": noon(), "updated_at": noon(),
		"delivery_attempts": int32(0), "lease_token": int64(0), "place_posts": int32(0),
	})
}
