package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

type bidJSON struct {
	ID          string
	Marketplace string
	JobID       string `json:"job_id"`
	Status      string
	Amount      *string
	History     []struct {
		Actor  string
		From   *string           `json:"from_status"`
		To     *string           `json:"to_status"`
		Detail map[string]string `json:"detail"`
	}
}

type list[T any] struct {
	Items []T
	Next  *string
}

// TestListing pages through bids while new ones come in.
func TestListing(t *testing.T) {
	t.Parallel()
	f := setup(t)
	const total, page = 25, 10
	all, _ := lines(total)
	f.ingest(all...)
	f.bidder("run", "--batch", "7", "--workers", "1").want(t, 0) // bids of a batch have the same time
	f.ingest(`{"marketplace":"guru","job_id":"1","title":"x","budget_max":"7.50"}`)

	var seen []string
	args := []string{"bids", "--limit", fmt.Sprint(page), "--marketplace", " UpWork ", "-o", "json"}
	for pages := 1; ; pages++ {
		got := decode[list[bidJSON]](t, f.bidder(args...).want(t, 0))
		for _, b := range got.Items {
			seen = append(seen, b.ID)
			if b.Marketplace != "upwork" || b.Status != "ACTIVE" || orNone(b.Amount) != "100.00" {
				t.Errorf("got %+v", b)
			}
		}
		if got.Next == nil {
			if pages != 3 {
				t.Errorf("%d bids are on %d pages", total, pages)
			}
			break
		}
		if len(got.Items) != page {
			t.Errorf("a page with a next has %d bids", len(got.Items))
		}
		if pages == 1 {
			f.bidder("run").want(t, 0)
			f.claim("newer")
		}
		args = append(args[:7:7], "--after", *got.Next)
	}
	newestFirst := read[[]string](f, "SELECT array_agg(id::text ORDER BY created_at DESC, id DESC) FROM bids WHERE marketplace = 'upwork' AND job_id <> 'newer'")
	if !slices.Equal(seen, newestFirst) {
		t.Errorf("listed %d bids:\n%v\nwant\n%v", len(seen), seen, newestFirst)
	}
	if got := decode[list[bidJSON]](t, f.bidder("bids", "--marketplace", "guru", "-o", "json").want(t, 0)); len(got.Items) != 1 || orNone(got.Items[0].Amount) != "7.50" {
		t.Errorf("on guru: %+v", got)
	}
	for _, wrong := range []string{"--limit=0", "--limit=1001", "--limit=x", "--status=open", "--after=x", "--after=2026-01-01T00:00:00Z_x", "--marketplace=up work"} {
		f.bidder("bids", wrong).wantError(t, 2, strings.Split(wrong, "=")[0])
	}
	if table := f.bidder("bids", "--limit", "1").want(t, 0).stdout; !strings.Contains(table, "--after") || !strings.Contains(table, "100.00 USD") {
		t.Errorf("the table:\n%s", table)
	}
}

func TestMark(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for _, ending := range []string{"won", "lost", "rejected"} {
		id := f.claim(ending)[0]
		mark := func(ending string, code int) bidJSON {
			t.Helper()
			r := f.bidder("bids", "mark", id, ending, "--note", "said so", "--by", "ann", "-o", "json").want(t, code)
			if code != 0 {
				if r.stdout != "" || !strings.Contains(r.stderr, "cannot become") {
					t.Errorf("refused with %s%s", r.stdout, r.stderr)
				}
				return bidJSON{}
			}
			return decode[bidJSON](t, r)
		}
		for range 2 { // the second time changes nothing
			got := mark(ending, 0)
			if got.Status != strings.ToUpper(ending) || len(got.History) != 1 {
				t.Fatalf("got %+v", got)
			}
			event := got.History[0]
			if event.Actor != "ann" || orNone(event.From) != "ACTIVE" || orNone(event.To) != got.Status || event.Detail["note"] != "said so" {
				t.Errorf("got %+v", event)
			}
		}
		f.wantCount(1, "bids WHERE id = $1::text::uuid AND delivery_kind IS NULL AND delivery_state IS NULL AND next_attempt_at IS NULL", id)
		f.untouched(func() {
			for _, other := range []string{"won", "lost", "rejected"} {
				if other != ending {
					mark(other, 3)
				}
			}
		})
		if got := decode[bidReport](t, f.bidder("bid", "upwork", ending, "-o", "json").want(t, 3)); got.Outcome != "closed" || orNone(got.Detail) != ending {
			t.Errorf("a bid on it: %+v", got)
		}
	}

	id := f.claim("withdrawn")[0]
	f.exec("UPDATE bids SET status = 'WITHDRAWN', withdrawn_reason = 'too busy', delivery_kind = NULL, delivery_state = NULL WHERE id = $1::text::uuid", id)
	f.bidder("bids", "mark", id, "won", "--note", "x").wantError(t, 3, "WITHDRAWN")
	f.bidder("bids", "mark", id, "REJECTED", "--note", "x").want(t, 0)
	f.wantCount(1, "bids WHERE id = $1::text::uuid AND status = 'REJECTED' AND withdrawn_reason = 'too busy' AND withdrawal_timestamp IS NOT NULL", id)

	// What is under way may still get there: that it was rejected nobody can have seen.
	id = f.claim("sent")[0]
	f.exec("UPDATE bids SET place_posts = 1, first_post_at = now(), last_post_at = now() WHERE id = $1::text::uuid", id)
	f.untouched(func() {
		f.bidder("bids", "mark", id, "rejected", "--note", "x").wantError(t, 3, "may still show up until")
		f.bidder("bids", "mark", id, "rejected", "--note", "x", "--dry-run").wantError(t, 3, "may still show up until")
	})
	f.exec("UPDATE bids SET first_post_at = now() - interval '1 day', last_post_at = now() - interval '1 day' WHERE id = $1::text::uuid", id)
	f.bidder("bids", "mark", id, "rejected", "--note", "x").want(t, 0)

	f.claim("live")
	f.bidder("bid", "upwork", "live").want(t, 3)
	duplicate := read[string](f, "SELECT id::text FROM bids WHERE status = 'DUPLICATE' AND job_id = 'live'")
	const unknown = "0192f3a4-7c1e-7b32-9d55-1f0e6a2b8c41"
	f.untouched(func() {
		f.bidder("bids", "mark", duplicate, "lost", "--note", "x").wantError(t, 3, "DUPLICATE")
		f.bidder("bids", "mark", unknown, "lost", "--note", "x", "-o", "json").wantError(t, 3, unknown)
		f.bidder("bids", "mark", unknown, "lost", "--note", "x", "--dry-run").wantError(t, 3, unknown)
		f.bidder("bids", "show", unknown, "-o", "json").wantError(t, 3, unknown)
		f.bidder("bids", "mark", "17", "lost", "--note", "x").wantError(t, 2, "17")
		f.bidder("bids", "show", "17").wantError(t, 2, "17")
		f.bidder("bids", "mark", duplicate, "lost").wantError(t, 2, "note")
		f.bidder("bids", "mark", duplicate, "lost", "--note", " ").wantError(t, 2, "--note")
		f.bidder("bids", "mark", duplicate, "active", "--note", "x").wantError(t, 2, "active")
		f.bidder("bids", "mark", duplicate).wantError(t, 2)
	})
}
