package e2e

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
)

// TestSecretsStayHidden: whatever fails, and whatever a connector repeats of what it was sent,
// no secret gets into an output, a log, an error or a row.
func TestSecretsStayHidden(t *testing.T) {
	t.Parallel()
	f := setup(t)
	key := strings.Repeat("the signing key ", 2)
	encoded := base64.StdEncoding.EncodeToString([]byte(key))
	secrets := []string{"auth-of-the-connector", encoded, strings.TrimSpace(key), "console-token-of-ops", "password-of-postgres"}
	// A connector that says all that it knows, in every way in which it can refuse.
	statuses := []int{http.StatusTeapot, http.StatusInternalServerError, http.StatusConflict, http.StatusOK, http.StatusFound, http.StatusUnauthorized}
	var next atomic.Int64
	connector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		said := fmt.Sprint(r.Header, string(body), " whsec_", encoded, " ", key)
		w.Header().Set("Location", "https://ops:"+secrets[0]+"@example.com/?token="+secrets[0])
		w.WriteHeader(statuses[int(next.Add(1))%len(statuses)])
		_ = json.NewEncoder(w).Encode(map[string]any{"title": said, "detail": said, "code": said, "status": said, "external_bid_id": 7, "found": true})
	}))
	t.Cleanup(connector.Close)
	environment := []string{
		"AUTH=Bearer auth-of-the-connector", "SECRET=whsec_" + encoded, "BIDDER_CONSOLE_TOKEN=console-token-of-ops",
		"BIDDER_RETRY_BASE=1ms", "BIDDER_RETRY_CAP=1ms", "BIDDER_LOG_LEVEL=debug",
		"BIDDER_CONFIG=" + file(t, "bidder.yaml", "marketplaces:", "  upwork:", "    handler: bridge", "    base_url: "+connector.URL,
			"    allow_private_networks: true", "    auth: {header: Authorization, value_env: AUTH}", "    signing_secrets_env: [SECRET]", "    settle: 1ms",
			"    place: {path: /bids}", "    lookup: {path: '/bids/by-key/{idempotency_key}'}", "    withdraw: {path: '/bids/{external_bid_id}/withdraw'}"),
	}
	var said strings.Builder
	do := func(args ...string) {
		r := f.call(args...).with(environment...).run(t)
		fmt.Fprintf(&said, "\n$ bidder %s\n%s%s", strings.Join(args, " "), r.stdout, r.stderr)
	}

	all, jobIDs := lines(6)
	f.ingest(all...)
	for range statuses {
		do("run")
	}
	for _, jobID := range jobIDs {
		id := read[string](f, "SELECT id::text FROM bids WHERE job_id = $1", jobID)
		do("withdraw", id, "--reason", "a mistake")
		do("review", "show", id)
		do("bids", "show", id, "-o", "json")
	}
	do("review", "list", "-o", "json")
	for _, command := range []string{"config check", "doctor", "stats", "bridge check upwork", "config check -o json", "run --dry-run", "grants"} {
		do(strings.Fields(command)...)
	}
	f.wantCount(1, "(SELECT FROM bid_events WHERE detail ->> 'message' LIKE '%[redacted]%' LIMIT 1) AS said") // the connector did repeat them
	for table, rows := range f.dump() {
		fmt.Fprintf(&said, "\ntable %s: %s", table, rows)
	}

	// Configurations that are wrong beside a secret, and databases that cannot be reached.
	environment = append(environment, "BIDDER_LOCK_WAIT=never", "BIDDER_CONSOLE_READONLY_TOKEN=console-token-of-ops")
	do("config", "check")
	for _, url := range []string{
		"postgres://bidder:password-of-postgres@127.0.0.1:1/bidder", "postgres://bidder:password-of-postgres@127.0.0.1:port/bidder",
		"host=127.0.0.1 port=1 password=password-of-postgres user=bidder sslmode=oops", "host=127.0.0.1 port=1 user=bidder password='password-of-postgres",
	} {
		environment = []string{"DATABASE_URL=" + url}
		do("doctor")
		do("run")
	}
	for _, secret := range secrets {
		if at := strings.Index(said.String(), secret); at >= 0 {
			t.Errorf("%q is in the open: …%s…", secret, said.String()[max(0, at-300):min(said.Len(), at+60)])
		}
	}
	for _, want := range []string{"auth.value_env", "BIDDER_CONSOLE_READONLY_TOKEN", "127.0.0.1"} { // it was all said, but for the secrets
		if !strings.Contains(said.String(), want) {
			t.Errorf("nothing says %s:\n%s", want, said.String())
		}
	}
}
