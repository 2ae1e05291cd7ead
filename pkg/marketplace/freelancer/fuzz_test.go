package freelancer

import (
	"net/http"
	"testing"
	"time"
	"unicode/utf8"

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
