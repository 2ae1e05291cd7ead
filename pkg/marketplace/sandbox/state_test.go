package sandbox_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/arbitrageai/bidder/pkg/marketplace"
	"github.com/arbitrageai/bidder/pkg/marketplace/sandbox"
)

// TestState: whoever opens the file of a sandbox that has gone, without a goodbye, finds its bids,
// its journal and the keys that it remembers.
func TestState(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state")
	first := open(t, path)
	kept, taken, lost := newBid("job-1"), newBid("job-2"), newBid("job-3")
	placed := first.client.Place(t.Context(), kept)
	wantKind(t, placed, marketplace.Done, "")
	taken.ExternalID = first.client.Place(t.Context(), taken).ExternalID
	wantKind(t, first.client.Withdraw(t.Context(), taken), marketplace.Done, "")
	first.fault(t, sandbox.Fault{Do: sandbox.Drop, When: sandbox.After, Op: sandbox.Place})
	first.client.Place(t.Context(), lost)
	write(t, path, `{"bid":{"external_bid_id":"half a li`) // a crash cut it off

	second := open(t, path)
	if diff := cmp.Diff(first.Bids(), second.Bids(), cmpopts.EquateApproxTime(0)); diff != "" {
		t.Errorf("bids (-before +after):\n%s", diff)
	}
	if diff := cmp.Diff(first.Journal(), second.Journal(), cmpopts.EquateApproxTime(0)); diff != "" {
		t.Errorf("journal (-before +after):\n%s", diff)
	}
	if again := second.client.Place(t.Context(), kept); again.ExternalID != placed.ExternalID {
		t.Errorf("the key was forgotten: %+v", again)
	}
	if other := second.client.Place(t.Context(), newBid("job-1")); other.Code != marketplace.CodeDuplicateBid {
		t.Errorf("the posting's bid was forgotten: %+v", other)
	}
	free := second.client.Place(t.Context(), newBid("job-2"))
	wantKind(t, free, marketplace.Done, "") // the bid there was taken back
	ids := map[string]bool{}
	for _, bid := range second.Bids() {
		ids[bid.ExternalID] = true
	}
	if len(ids) != 4 {
		t.Errorf("ids are given twice: %v", ids)
	}
	third := open(t, path)
	if diff := cmp.Diff(second.Journal(), third.Journal(), cmpopts.EquateApproxTime(0)); diff != "" {
		t.Errorf("journal of the third (-before +after):\n%s", diff)
	}
	entries, err := third.remote.JournalAfter(t.Context(), 2)
	if err != nil || len(entries) != len(third.Journal())-2 || entries[0].Seq != 3 {
		t.Errorf("the journal after 2: %v, %v", entries, err)
	}
}

// TestStateUnderWay: a request that was under way when the sandbox ended has got no answer.
func TestStateUnderWay(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state")
	write(t, path, `{"entry":{"seq":1,"op":"place","job_id":"job-1","state":"received","faults":[]}}`+"\n")
	entries := open(t, path).Journal()
	if len(entries) != 1 || entries[0].State != sandbox.Dropped || entries[0].EndedAt == nil {
		t.Errorf("%+v", entries)
	}
}

func TestStateErrors(t *testing.T) {
	t.Parallel()
	if _, err := sandbox.Open(reliable(), t.TempDir()); err == nil {
		t.Error("a directory is no file")
	}
	path := filepath.Join(t.TempDir(), "state")
	write(t, path, "not a state\n")
	if _, err := sandbox.Open(reliable(), path); err == nil {
		t.Error("anything is a state")
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	file.WriteString(text)
	file.Close()
}
