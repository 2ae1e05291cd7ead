package posting

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func testNow() time.Time { return time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC) }

func testOptions() Options { return Options{Now: testNow, DefaultCurrency: "USD"} }

// readFile returns the content of a file.
func readFile(tb testing.TB, path string) []byte {
	tb.Helper()
	data, err := os.ReadFile(filepath.Clean(path))
	if err != nil {
		tb.Fatal(err)
	}
	return data
}

// lineWith returns a good line with members added, replaced, or, where the
// value is empty, left out. Names and values alternate; values are JSON.
func lineWith(namesAndValues ...string) string {
	members := map[string]string{
		"marketplace": `"freelancer"`, "job_id": `"39812345"`,
		"title": `"Go service"`, "cached_at": `"2026-11-23T08:00:00Z"`,
	}
	for pair := range slices.Chunk(namesAndValues, 2) {
		members[pair[0]] = pair[1]
	}
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(members)) {
		if members[name] != "" {
			parts = append(parts, `"`+name+`":`+members[name])
		}
	}
	return "{" + strings.Join(parts, ",") + "}"
}

// plain is what lineWith comes to without arguments.
func plain() Posting {
	return Posting{
		Key:      Key{"freelancer", "39812345"},
		CachedAt: time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC),
		Title:    "Go service",
		Currency: "USD",
	}
}

// readAll reads everything, and fails the test if the input itself fails.
func readAll(t *testing.T, d *Decoder) []Item {
	t.Helper()
	var items []Item
	for {
		item, err := d.Next()
		if errors.Is(err, io.EOF) {
			return items
		}
		if err != nil {
			t.Fatalf("Next: %v", err)
		}
		items = append(items, item)
	}
}

func readOne(t *testing.T, line string, opts Options) (Item, map[string]int) {
	t.Helper()
	d := NewDecoder(strings.NewReader(line), opts)
	items := readAll(t, d)
	if len(items) != 1 {
		t.Fatalf("%d items from one line", len(items))
	}
	return items[0], d.Notes()
}

func TestDecoderAccepts(t *testing.T) {
	t.Parallel()
	day := func(d, h int) *time.Time { return new(time.Date(2026, 11, d, h, 0, 0, 0, time.UTC)) }
	tests := []struct {
		name  string
		line  string
		want  func(p *Posting)
		notes map[string]int
	}{
		{name: "the required fields", line: lineWith(), want: func(*Posting) {}},
		{
			name: "everything",
			line: `{"marketplace":"freelancer","job_id":"39812345","title":"Go service","description":"…",
				"url":"https://example.com/1","budget_min":250,"budget_max":750,"currency":"EUR","pricing":"fixed","skills":["Go"],
				"posted_at":"2026-11-22T10:00:00Z","deadline":null,"cached_at":"2026-11-23T08:00:00Z",
				"bid":{"amount":"480.00","period_days":10,"proposal":"I can."}}`,
			want: func(p *Posting) {
				p.Description, p.URL, p.Currency, p.Pricing, p.Skills = "…", "https://example.com/1", "EUR", "fixed", []string{"Go"}
				p.BudgetMinCents, p.BudgetMaxCents = new(int64(25000)), new(int64(75000))
				p.PostedAt = day(22, 10)
				p.Bid = &Bid{AmountCents: new(int64(48000)), PeriodDays: new(int32(10)), Proposal: "I can."}
			},
		},
		{
			name: "other names",
			line: `{"marketplace_name":"freelancer","job_id":"39812345","title":"Go service","budget":75.0,"pricing_model":"HOURLY",
				"created_at":"2026-11-22T10:00:00Z","skills_required":["R"],"cached_at":"2026-11-23T08:00:00Z"}`,
			want: func(p *Posting) {
				p.BudgetMaxCents, p.Pricing, p.PostedAt, p.Skills = new(int64(7500)), "hourly", day(22, 10), []string{"R"}
			},
		},
		{
			name: "null is absent",
			line: lineWith("description", "null", "url", "null", "budget_min", "null", "budget_max", "null", "currency", "null",
				"pricing", "null", "skills", "null", "posted_at", "null", "deadline", "null", "bid", "null"),
			want: func(*Posting) {},
		},
		{
			name: "null is absent in a bid",
			line: lineWith("bid", `{"amount":null,"period_days":null,"proposal":null}`),
			want: func(p *Posting) { p.Bid = &Bid{} },
		},
		{
			name: "blank text is absent",
			line: lineWith("description", `""`, "url", `" "`, "currency", `" "`, "pricing", `""`, "skills", `[]`, "bid", `{}`),
			want: func(p *Posting) { p.Bid = &Bid{} },
		},
		{
			name:  "unknown keys",
			line:  lineWith("client", `{"a":[1,{"b":null}]}`, "Title", `"x"`, "x", "-1.5e300", "bid", `{"amount":5,"title":"x","bid":{}}`),
			want:  func(p *Posting) { p.Bid = &Bid{AmountCents: new(int64(500))} },
			notes: map[string]int{NoteUnknownKey: 5},
		},
		{name: "numeric job id", line: lineWith("job_id", "123456789012345678901234567890"), want: func(p *Posting) {
			p.JobID = "123456789012345678901234567890"
		}},
		{name: "job id zero", line: lineWith("job_id", "0"), want: func(p *Posting) { p.JobID = "0" }},
		{name: "odd job id", line: lineWith("job_id", `"  a'\":\ud83d\ude00../\u00e9 "`), want: func(p *Posting) {
			p.JobID = `a'":😀../é`
		}},
		{name: "marketplace normalised", line: lineWith("marketplace", `" PeopleHour "`), want: func(p *Posting) {
			p.Marketplace = "peopleperhour"
		}},
		{name: "escaped key", line: lineWith("title", "", `\u0074itle`, `"x"`), want: func(p *Posting) { p.Title = "x" }},
		{name: "space around everything", line: " \t{ \"marketplace\" : \"freelancer\" , \"job_id\" : 39812345 ,\t\"title\" : \" Go service\\n\", \"cached_at\" : \" 2026-11-23T08:00:00Z\" }\t ", want: func(*Posting) {}},
		{name: "U+2028 and friends", line: lineWith("title", "\"a\u2028b\u0085c\ufeffd\""), want: func(p *Posting) {
			p.Title = "a\u2028b\u0085c\ufeffd"
		}},
		{name: "a backslash before u0000", line: lineWith("title", `"a\\u0000b\\\\u0000c"`), want: func(p *Posting) {
			p.Title = `a\u0000b\\u0000c`
		}},
		{name: "surrogate pair", line: lineWith("title", `"\uD83D\uDE00"`), want: func(p *Posting) { p.Title = "😀" }},
		{name: "depth 64", line: lineWith("x", strings.Repeat("[", 63)+strings.Repeat("]", 63)), want: func(*Posting) {}, notes: map[string]int{NoteUnknownKey: 1}},
		{name: "amounts as text and with exponent", line: lineWith("budget_min", `"1.5"`, "budget_max", "1e2"), want: func(p *Posting) {
			p.BudgetMinCents, p.BudgetMaxCents = new(int64(150)), new(int64(10000))
		}},
		{name: "budgets equal", line: lineWith("budget_min", "1", "budget_max", "1"), want: func(p *Posting) {
			p.BudgetMinCents, p.BudgetMaxCents = new(int64(100)), new(int64(100))
		}},
		{
			name:  "budgets reversed",
			line:  lineWith("budget_min", "2", "budget_max", "1"),
			want:  func(p *Posting) { p.BudgetMinCents, p.BudgetMaxCents = new(int64(200)), new(int64(100)) },
			notes: map[string]int{NoteBudgetReversed: 1},
		},
		{name: "currency in lower case", line: lineWith("currency", `" eur"`), want: func(p *Posting) { p.Currency = "EUR" }},
		{name: "pricing in mixed case", line: lineWith("pricing", `"Fixed "`), want: func(p *Posting) { p.Pricing = "fixed" }},
		{name: "skills cleaned", line: lineWith("skills", `[" Go ","","\u001f","C\u001fD\u0085","é"]`), want: func(p *Posting) {
			p.Skills = []string{"Go", "C D", "é"}
		}},
		{name: "zone", line: lineWith("deadline", `"2026-11-24T01:30:00.1234567+02:30"`), want: func(p *Posting) {
			p.Deadline = new(time.Date(2026, 11, 23, 23, 0, 0, 123456000, time.UTC))
		}},
		{name: "the far ends of time", line: lineWith("posted_at", `"0001-01-01T00:00:00Z"`, "cached_at", `"0001-01-01T00:00:00Z"`, "deadline", `"9999-12-31T23:59:59z"`), want: func(p *Posting) {
			p.PostedAt, p.CachedAt, p.Deadline = new(time.Time{}), time.Time{}, new(time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC))
		}},
		{name: "five minutes ahead", line: lineWith("cached_at", `"2026-11-23T12:05:00Z"`), want: func(p *Posting) {
			p.CachedAt = testNow().Add(5 * time.Minute)
		}},
		{name: "upper-case scheme", line: lineWith("url", `" HTTP://example.com "`), want: func(p *Posting) { p.URL = "HTTP://example.com" }},
		{name: "url of another scheme", line: lineWith("url", `"javascript:alert(1)"`), want: func(*Posting) {}, notes: map[string]int{NoteURLDropped: 1}},
		{name: "url without scheme", line: lineWith("url", `"//example.com/1"`), want: func(*Posting) {}, notes: map[string]int{NoteURLDropped: 1}},
		{name: "url without host", line: lineWith("url", `"https:///1"`), want: func(*Posting) {}, notes: map[string]int{NoteURLDropped: 1}},
		{name: "url with a control character", line: lineWith("url", `"https://example.com/\n"`), want: func(p *Posting) { p.URL = "https://example.com/" }},
		{name: "url with a control character inside", line: lineWith("url", `"https://exa\nmple.com/"`), want: func(*Posting) {}, notes: map[string]int{NoteURLDropped: 1}},
		{name: "url of another kind", line: lineWith("url", `{"href":"https://example.com"}`), want: func(*Posting) {}, notes: map[string]int{NoteURLDropped: 1}},
		{
			name: "longest description", line: lineWith("description", `"`+strings.Repeat("x", 100_000)+`"`),
			want: func(p *Posting) { p.Description = strings.Repeat("x", 100_000) },
		},
		{
			name: "description cut between characters", line: lineWith("description", `"xy`+strings.Repeat("€", 40_000)+`"`),
			want:  func(p *Posting) { p.Description = "xy" + strings.Repeat("€", 33_332) },
			notes: map[string]int{NoteDescriptionTruncated: 1},
		},
		{name: "longest period", line: lineWith("bid", `{"period_days":2147483647}`), want: func(p *Posting) {
			p.Bid = &Bid{PeriodDays: new(int32(2147483647))}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			want := plain()
			tt.want(&want)
			wantNotes := map[string]int{}
			maps.Copy(wantNotes, tt.notes)
			line := strings.ReplaceAll(tt.line, "\n", "")

			item, notes := readOne(t, line, testOptions())
			if diff := cmp.Diff(Item{Line: 1, Size: len(line), Posting: want}, item); diff != "" {
				t.Errorf("item (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(wantNotes, notes); diff != "" {
				t.Errorf("notes (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDecoderRejects(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, line, code, says string }{
		{"not UTF-8", lineWith("title", "\"a\xffb\""), CodeInvalidUTF8, "UTF-8"},
		{"surrogate in UTF-8", lineWith("x", "\"\xed\xa0\x80\""), CodeInvalidUTF8, "UTF-8"},
		{"UTF-16", "{\x00\"\x00}\x00", CodeNULByte, "NUL"},
		{"lone high surrogate", lineWith("title", `"a\ud83d"`), CodeInvalidUTF8, "surrogate"},
		{"lone low surrogate", lineWith("x", `[{"\udc00":1}]`), CodeInvalidUTF8, "surrogate"},
		{"lone surrogate before another fault", lineWith("x", `{"a":"\ud83d","b":1,"b":2}`), CodeInvalidUTF8, "surrogate"},
		{"raw NUL", lineWith("title", "\"a\x00b\""), CodeNULByte, "NUL"},
		{"raw NUL outside the text", lineWith() + "\x00", CodeNULByte, "NUL"},
		{"escaped NUL", lineWith("title", `"\\\u0000"`), CodeNULByte, "NUL"},
		{"escaped NUL in an unknown key", lineWith(`x\u0000`, `1`), CodeNULByte, "NUL"},
		{"escaped NUL after a harmless one", lineWith("x", `"\\u0000\u0000"`), CodeNULByte, "NUL"},

		{"not JSON", "hello", CodeInvalidJSON, "byte 1"},
		{"byte order mark inside", " \ufeff{}", CodeInvalidJSON, "byte 2"},
		{"NaN", lineWith("budget_min", "NaN"), CodeInvalidJSON, "byte"},
		{"raw tab in text", lineWith("title", "\"a\tb\""), CodeInvalidJSON, "byte"},
		{"bad escape", lineWith("title", `"a\xb"`), CodeInvalidJSON, "byte"},
		{"single quotes", `{'title':1}`, CodeInvalidJSON, "byte 2"},
		{"trailing comma", `{"title":"x",}`, CodeInvalidJSON, "byte"},
		{"missing colon", `{"title" "x"}`, CodeInvalidJSON, "byte"},
		{"missing colon before an object", `{"title" {"x":1}}`, CodeInvalidJSON, "byte"},
		{"key is a number", `{1:2}`, CodeInvalidJSON, "byte"},
		{"key is an array", `{["title"]:2}`, CodeInvalidJSON, "byte"},
		{"wrong brackets", `{"x":[}]}`, CodeInvalidJSON, "byte"},
		{"cut in a value", lineWith()[:50], CodeInvalidJSON, "middle"},
		{"cut after the key", `{"title":`, CodeInvalidJSON, "middle"},
		{"cut before the brace", `{"title":"x"`, CodeInvalidJSON, "middle"},
		{"cut in an array", `{"x":[1,`, CodeInvalidJSON, "middle"},
		{"cut in an escape", `{"x":"\ud8`, CodeInvalidJSON, "middle"},

		{"null", "null", CodeNotAnObject, "object"},
		{"number", "5", CodeNotAnObject, "object"},
		{"text", `"x"`, CodeNotAnObject, "object"},
		{"array", "[" + lineWith() + "]", CodeNotAnObject, "object"},
		{"deep array", strings.Repeat("[", 100_000), CodeNotAnObject, "object"},

		{"duplicate key", `{"title":"a","title":"a"}`, CodeDuplicateKey, `"title"`},
		{"duplicate key, once escaped", `{"title":"a","\u0074itle":"a"}`, CodeDuplicateKey, `"title"`},
		{"duplicate unknown key", lineWith("x", `[{"a":1,"a":2}]`), CodeDuplicateKey, `"a"`},
		{"duplicate key in the bid", lineWith("bid", `{"amount":1,"amount":1}`), CodeDuplicateKey, `"amount"`},
		{"both names", lineWith("budget_max", "1", "budget", "1"), CodeDuplicateKey, `"budget" and "budget_max"`},
		{"both names, one null", lineWith("marketplace_name", "null"), CodeDuplicateKey, `"marketplace" and "marketplace_name"`},
		{"both names of pricing", lineWith("pricing", `"fixed"`, "pricing_model", `"fixed"`), CodeDuplicateKey, "pricing_model"},
		{"both names of skills", lineWith("skills", `[]`, "skills_required", `[]`), CodeDuplicateKey, "skills_required"},
		{"both names of posted_at", lineWith("posted_at", `null`, "created_at", `null`), CodeDuplicateKey, "created_at"},

		{"depth 65", lineWith("x", strings.Repeat("[", 64)+strings.Repeat("]", 64)), CodeTooDeep, "64"},
		{"very deep", lineWith("x", strings.Repeat(`{"a":[`, 500_000)), CodeTooDeep, "64"},
		{"two objects", lineWith() + lineWith(), CodeTrailingData, "one object a line"},
		{"comma at the end", lineWith() + ",", CodeTrailingData, `","`},
		{"junk at the end", lineWith() + " }", CodeTrailingData, `"}"`},

		{"no marketplace", lineWith("marketplace", ""), CodeMissingField, `"marketplace"`},
		{"null marketplace", lineWith("marketplace", "null"), CodeMissingField, `"marketplace"`},
		{"no job id", lineWith("job_id", ""), CodeMissingField, `"job_id"`},
		{"null job id", lineWith("job_id", "null"), CodeMissingField, `"job_id"`},
		{"no title", lineWith("title", ""), CodeMissingField, `"title"`},
		{"null title", lineWith("title", "null"), CodeMissingField, `"title"`},
		{"blank title", lineWith("title", `" \u3000\n"`), CodeMissingField, `"title"`},
		{"title in another case", lineWith("title", "", "Title", `"x"`), CodeMissingField, `"title"`},
		{"no cached_at", lineWith("cached_at", ""), CodeMissingField, "--cached-at"},
		{"null cached_at", lineWith("cached_at", "null"), CodeMissingField, "--cached-at"},
		{"empty object", "{}", CodeMissingField, `"marketplace"`},

		{"title is a number", lineWith("title", "5"), CodeWrongType, `"title"`},
		{"description is an array", lineWith("description", "[]"), CodeWrongType, `"description"`},
		{"proposal is true", lineWith("bid", `{"proposal":true}`), CodeWrongType, `"proposal"`},

		{"marketplace is a number", lineWith("marketplace", "5"), CodeInvalidMarketplace, "string"},
		{"marketplace is not a name", lineWith("marketplace", `"up work"`), CodeInvalidMarketplace, `"up work"`},
		{"job id is a fraction", lineWith("job_id", "5.0"), CodeInvalidJobID, "string"},
		{"job id has an exponent", lineWith("job_id", "5e3"), CodeInvalidJobID, "string"},
		{"job id is negative", lineWith("job_id", "-5"), CodeInvalidJobID, "string"},
		{"job id is true", lineWith("job_id", "true"), CodeInvalidJobID, "string"},
		{"job id is an object", lineWith("job_id", "{}"), CodeInvalidJobID, "string"},
		{"job id is None", lineWith("job_id", `"None"`), CodeInvalidJobID, `"None"`},
		{"job id is empty", lineWith("job_id", `""`), CodeInvalidJobID, "empty"},
		{"job id is long", lineWith("job_id", `"`+strings.Repeat("😀", 3_000)+`"`), CodeInvalidJobID, "12000 bytes"},
		{"job id has too many digits", lineWith("job_id", strings.Repeat("1", 513)), CodeInvalidJobID, "513 bytes"},

		{"time without zone", lineWith("cached_at", `"2026-11-23T08:00:00"`), CodeTimeWithoutZone, `"cached_at"`},
		{"time without zone or T", lineWith("deadline", `"2026-11-23 08:00:00.5"`), CodeTimeWithoutZone, `"deadline"`},
		{"date", lineWith("posted_at", `"2026-11-23"`), CodeInvalidTime, `"posted_at"`},
		{"other name in the message", lineWith("created_at", `"x"`), CodeInvalidTime, `"created_at"`},
		{"blank time", lineWith("deadline", `""`), CodeInvalidTime, `"deadline"`},
		{"number as time", lineWith("deadline", "1700000000"), CodeInvalidTime, `"deadline" must be a string`},
		{"space for T", lineWith("deadline", `"2026-11-23 08:00:00Z"`), CodeInvalidTime, `"deadline"`},
		{"zone without colon", lineWith("deadline", `"2026-11-23T08:00:00+0200"`), CodeInvalidTime, `"deadline"`},
		{"hour 24", lineWith("deadline", `"2026-11-23T24:00:00Z"`), CodeInvalidTime, `"deadline"`},
		{"31 November", lineWith("deadline", `"2026-11-31T08:00:00Z"`), CodeInvalidTime, `"deadline"`},
		{"year 0", lineWith("deadline", `"0001-01-01T00:00:00+01:00"`), CodeInvalidTime, "years"},
		{"year 10000", lineWith("deadline", `"9999-12-31T23:59:59-01:00"`), CodeInvalidTime, "years"},
		{"cached in the future", lineWith("cached_at", `"2026-11-23T12:05:00.000001Z"`), CodeCachedAtInFuture, `"cached_at"`},

		{"negative budget", lineWith("budget_min", "-1"), CodeInvalidAmount, `"budget_min": amount "-1" must not be negative`},
		{"three decimals", lineWith("budget_max", "1.000"), CodeInvalidAmount, `"budget_max"`},
		{"other name in the message", lineWith("budget", `"NaN"`), CodeInvalidAmount, `"budget":`},
		{"blank amount", lineWith("bid", `{"amount":""}`), CodeInvalidAmount, `"amount"`},
		{"huge amount", lineWith("bid", `{"amount":1e400}`), CodeInvalidAmount, `"amount"`},
		{"amount is true", lineWith("bid", `{"amount":true}`), CodeInvalidAmount, `"amount"`},
		{"amount is an array", lineWith("budget_min", `[5]`), CodeInvalidAmount, `"budget_min"`},
		{"currency", lineWith("currency", `"dollars"`), CodeInvalidCurrency, `"dollars"`},
		{"currency is an object", lineWith("currency", `{}`), CodeInvalidCurrency, "string"},
		{"pricing", lineWith("pricing", `"weekly"`), CodeInvalidPricing, `"weekly"`},
		{"pricing is a number", lineWith("pricing_model", `1`), CodeInvalidPricing, `"pricing_model" must`},
		{"skills as text", lineWith("skills", `"Go"`), CodeInvalidSkills, `"skills"`},
		{"skills as an object", lineWith("skills", `{"Go":1}`), CodeInvalidSkills, `"skills"`},
		{"skills with a number", lineWith("skills_required", `["Go",1]`), CodeInvalidSkills, `"skills_required"`},
		{"skills nested", lineWith("skills", `[["Go"]]`), CodeInvalidSkills, `"skills"`},
		{"skills of an empty array", lineWith("skills", `[[]]`), CodeInvalidSkills, `"skills"`},
		{"bid as an array", lineWith("bid", `[]`), CodeInvalidBid, `"bid"`},
		{"bid as a number", lineWith("bid", `480`), CodeInvalidBid, `"bid"`},
		{"period of none", lineWith("bid", `{"period_days":0}`), CodeInvalidPeriod, `"period_days"`},
		{"negative period", lineWith("bid", `{"period_days":-1}`), CodeInvalidPeriod, `"period_days"`},
		{"period too long", lineWith("bid", `{"period_days":2147483648}`), CodeInvalidPeriod, `"period_days"`},
		{"period with a fraction", lineWith("bid", `{"period_days":10.0}`), CodeInvalidPeriod, `"period_days"`},
		{"period as text", lineWith("bid", `{"period_days":"10"}`), CodeInvalidPeriod, `"period_days"`},

		{"text comes before fields", lineWith("title", "", "x", "\"\xff\""), CodeInvalidUTF8, "UTF-8"},
		{"JSON comes before fields", lineWith("title", "", "x", "[}"), CodeInvalidJSON, "byte"},
		{"fields in their own order", `{"bid":0,"title":0,"marketplace":0,"job_id":{},"cached_at":0}`, CodeInvalidMarketplace, "marketplace"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			item, notes := readOne(t, tt.line, testOptions())
			if item.Reject == nil {
				t.Fatalf("accepted as %+v, want %s", item.Posting, tt.code)
			}
			if item.Reject.Code != tt.code || !strings.Contains(item.Reject.Message, tt.says) {
				t.Errorf("rejected as %s: %s, want %s: … %s …", item.Reject.Code, item.Reject.Message, tt.code, tt.says)
			}
			checkMessage(t, item.Reject.Message)
			if diff := cmp.Diff(Item{Line: 1, Size: len(tt.line), Reject: item.Reject}, item); diff != "" {
				t.Errorf("item (-want +got):\n%s", diff)
			}
			if item.Reject.Line != 1 || len(notes) != 0 {
				t.Errorf("line %d, notes %v, want line 1 and no notes of a rejected line", item.Reject.Line, notes)
			}
		})
	}
}

func TestDecoderCachedAt(t *testing.T) {
	t.Parallel()
	opts := testOptions()
	opts.CachedAt = testNow().Add(-time.Hour)
	for _, value := range []string{"", "null"} {
		if item, _ := readOne(t, lineWith("cached_at", value), opts); !item.Posting.CachedAt.Equal(opts.CachedAt) {
			t.Errorf("cached_at %q comes to %v, reject %v, want %v", value, item.Posting.CachedAt, item.Reject, opts.CachedAt)
		}
	}
	if item, _ := readOne(t, lineWith(), opts); !item.Posting.CachedAt.Equal(plain().CachedAt) {
		t.Errorf("the line's own cached_at comes to %v, reject %v", item.Posting.CachedAt, item.Reject)
	}
	opts.CachedAt = testNow().Add(time.Hour)
	if item, _ := readOne(t, lineWith("cached_at", ""), opts); item.Reject == nil || item.Reject.Code != CodeCachedAtInFuture {
		t.Errorf("cached_at from the options in the future: %v", item.Reject)
	}
}

// A pipe is read for longer than the clocks may differ.
func TestDecoderClock(t *testing.T) {
	t.Parallel()
	now := testNow()
	soon := lineWith("cached_at", `"2026-11-23T12:05:01Z"`) + "\n"
	d := NewDecoder(strings.NewReader(soon+soon), Options{Now: func() time.Time { return now }, DefaultCurrency: "USD"})
	if item, err := d.Next(); err != nil || item.Reject == nil || item.Reject.Code != CodeCachedAtInFuture {
		t.Errorf("seen in more than five minutes: %v, %v", item.Reject, err)
	}
	now = now.Add(time.Second)
	if item, err := d.Next(); err != nil || item.Reject != nil {
		t.Errorf("a second later: %v, %v", item.Reject, err)
	}
}

// TestDecoderFile reads good and bad lines from one stream: nothing of one
// line may show up in the next.
func TestDecoderFile(t *testing.T) {
	t.Parallel()
	full := lineWith("description", `"d"`, "budget_min", "5", "skills", `["a"]`, "bid", `{"amount":1}`, "note", "1")
	long := lineWith("description", `"`+strings.Repeat("x", MaxLine)+`"`)
	input := byteOrderMark + full + "\r\n" + // 1
		"\n \t\r\n" + // 2, 3
		"[1]\n" + // 4
		lineWith("x", "1", "title", "") + "\n" + // 5
		long + "\n" + // 6
		lineWith() + "\n" + // 7
		byteOrderMark + lineWith() + "\n" + // 8
		`{"marketplace":` // 9
	d := NewDecoder(iotest.HalfReader(strings.NewReader(input)), testOptions())
	items := readAll(t, d)

	first := plain()
	first.Description, first.BudgetMinCents, first.Skills = "d", new(int64(500)), []string{"a"}
	first.Bid = &Bid{AmountCents: new(int64(100))}
	want := []Item{
		{Line: 1, Size: len(full), Posting: first},
		{Line: 2, Blank: true},
		{Line: 3, Size: 2, Blank: true},
		{Line: 4, Size: 3, Reject: &Reject{Line: 4, Code: CodeNotAnObject}},
		{Line: 5, Size: len(lineWith("x", "1", "title", "")), Reject: &Reject{Line: 5, Code: CodeMissingField}},
		{Line: 6, Reject: &Reject{Line: 6, Code: CodeLineTooLong}},
		{Line: 7, Size: len(lineWith()), Posting: plain()},
		{Line: 8, Size: len(byteOrderMark) + len(lineWith()), Reject: &Reject{Line: 8, Code: CodeInvalidJSON}},
		{Line: 9, Size: 15, Reject: &Reject{Line: 9, Code: CodeInvalidJSON}},
	}
	want[5].Size = items[5].Size
	ignoreMessage := cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".Message" }, cmp.Ignore())
	if diff := cmp.Diff(want, items, ignoreMessage); diff != "" {
		t.Errorf("items (-want +got):\n%s", diff)
	}
	if size := items[5].Size; size <= MaxLine || size > MaxLine+10 {
		t.Errorf("%d bytes of the long line were kept", size)
	}
	if diff := cmp.Diff(map[string]int{NoteUnknownKey: 1}, d.Notes()); diff != "" {
		t.Errorf("notes (-want +got):\n%s", diff)
	}
	if _, err := d.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("Next after the end: %v, want io.EOF", err)
	}
}

func TestDecoderInputFails(t *testing.T) {
	t.Parallel()
	broken := iotest.ErrTimeout
	d := NewDecoder(io.MultiReader(strings.NewReader(lineWith()+"\n"+lineWith()), iotest.ErrReader(broken)), testOptions())
	if item, err := d.Next(); err != nil || item.Reject != nil {
		t.Fatalf("the line before the fault: %v, %v", item.Reject, err)
	}
	if _, err := d.Next(); !errors.Is(err, broken) || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("the line with the fault: %v, want %v in line 2", err, broken)
	}
}

func TestDecoderFiles(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, path   string
		cachedAt     time.Time
		marketplaces int
		notes        map[string]int
	}{
		{"the example", "../../examples/postings.ndjson", testNow(), 4, map[string]int{}},
		{"other names", "testdata/origin-shaped.ndjson", time.Time{}, 4, map[string]int{NoteUnknownKey: 200}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := NewDecoder(bytes.NewReader(readFile(t, tt.path)), Options{Now: testNow, CachedAt: tt.cachedAt, DefaultCurrency: "USD"})
			keys, marketplaces := map[Key]bool{}, map[string]bool{}
			for _, item := range readAll(t, d) {
				p := item.Posting
				if item.Reject != nil || item.Blank {
					t.Fatalf("line %d: blank %v, reject %v", item.Line, item.Blank, item.Reject)
				}
				if p.BudgetMaxCents == nil || p.Pricing == "" || p.URL == "" || p.Description == "" || len(p.Skills) == 0 || p.CachedAt.IsZero() {
					t.Errorf("line %d lost something: %+v", item.Line, p)
				}
				keys[p.Key], marketplaces[p.Marketplace] = true, true
			}
			if len(keys) != 50 || len(marketplaces) != tt.marketplaces {
				t.Errorf("%d postings of %d marketplaces, want 50 of %d", len(keys), len(marketplaces), tt.marketplaces)
			}
			if diff := cmp.Diff(tt.notes, d.Notes()); diff != "" {
				t.Errorf("notes (-want +got):\n%s", diff)
			}
		})
	}
}
