package freelancer

import (
	"net/http"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/arbitrageai/bidder/pkg/marketplace"
	"github.com/arbitrageai/bidder/pkg/marketplace/internal/wire"
)

// Whatever the site answers, a bid is only done with the id of the bid that was sent, and
// every result explains itself.
func FuzzAnswer(f *testing.F) {
	for number := 2; number <= 40; number++ {
		f.Add(200, payload(f, number))
		f.Add(400, payload(f, number))
	}
	f.Fuzz(func(t *testing.T, status int, body string) {
		if status < 100 || status > 599 || len(body) > 4096 {
			t.Skip("not an answer, or a slow one")
		}
		a := answer{
			Answer: wire.Answer{Status: status, Header: http.Header{}, Body: []byte(body)}, body: wire.ParseObject([]byte(body)), redact: wire.NewRedactor(testToken),
		}
		if a.isSuccess() {
			if placed := a.placed(39812345, 84120077); (placed.Kind == marketplace.Done) == (placed.ExternalID == "") {
				t.Errorf("placed %+v", placed)
			}
			bids, _ := parseBids(a.body["result"])
			if found := choose(bids, bidID); found != nil {
				if _, ok := parseID(found.id); !ok {
					t.Errorf("found %+v", found)
				}
			}
			if project, ok := parseProject(a.body["result"]); ok && project.ID <= 0 {
				t.Errorf("project %+v", project)
			}
			return
		}
		r := a.refusal()
		for _, kind := range []marketplace.Kind{r.place, r.retract} {
			result := a.result(kind, r.code)
			if kind == "" || kind == marketplace.Done || result.Code == "" || result.Message == "" || !utf8.ValidString(result.Message) ||
				len(result.Message) > wire.MaxMessage+len("…") || result.After < 0 || result.After > 15*time.Minute {
				t.Errorf("%d %q: %+v", status, body, result)
			}
		}
	})
}

// Whatever a search finds, what is made of it can be written as a posting, and is not bid on
// unless the site says that it is open.
func FuzzProject(f *testing.F) {
	for _, number := range []int{6, 8, 9} {
		result := wire.ParseObject([]byte(payload(f, number)))["result"]
		f.Add("[" + string(result) + "]")
		f.Add(string(wire.ParseObject(result)["projects"]))
	}
	f.Add(`[{"id":1e3,"status":"active","bidperiod":99999999999,"time_submitted":-1,"upgrades":[],"jobs":{},"budget":{"minimum":"1e400"}}]`)
	f.Fuzz(func(t *testing.T, list string) {
		var values []jsontext.Value
		if len(list) > 4096 || json.Unmarshal([]byte(list), &values) != nil {
			return
		}
		seen := time.Unix(1_795_400_000, 0).UTC()
		for _, value := range values {
			project, ok := parseProject(value)
			if !ok {
				continue
			}
			if project.ID <= 0 || project.Status == "" {
				t.Errorf("project %+v", project)
			}
			if project.Obstacle() == "" && project.Status != "active" {
				t.Errorf("%+v would be bid on", project)
			}
			record := project.Record("freelancer", seen)
			if _, err := json.Marshal(record); err != nil {
				t.Errorf("%+v: %v", record, err)
			}
			if deadline, err := time.Parse(time.RFC3339, record.Deadline); record.Deadline != "" && (err != nil || !deadline.After(seen)) {
				t.Errorf("deadline %q (%v)", record.Deadline, err)
			}
		}
	})
}
