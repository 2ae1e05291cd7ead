package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/arbitrageai/bidder/pkg/config"
)

// TestLogsAreHarmless: what is logged of postings and answers moves and hides nothing, in
// either format, and durations are milliseconds.
func TestLogsAreHarmless(t *testing.T) {
	t.Parallel()
	for format, want := range map[string]string{
		"text": `level=INFO msg="again later" job_id=~01<U+200B>abc delay_ms=1500 last_error="<U+202E>gpj a<U+034F>b" reason="x y" posts=2`,
		"json": `"level":"INFO","msg":"again later","job_id":"~01\u200babc","delay_ms":1500,"last_error":"\u202egpj a\u034fb","reason":"x\ny","posts":2}`,
	} {
		var stderr bytes.Buffer
		a := &app{stderr: &stderr}
		a.logger(config.Config{LogFormat: format}).Info("again later", "job_id", "~01\u200babc", "delay", 1500*time.Millisecond,
			"last_error", errors.New("\u202egpj a\u034fb"), "reason", "x\ny", "posts", 2)
		_, got, _ := strings.Cut(strings.TrimSuffix(stderr.String(), "\n"), "level")
		_, expected, _ := strings.Cut(want, "level")
		if diff := cmp.Diff(expected, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", format, diff)
		}
	}
}

// TestErrorsAreHarmless: so are errors, which may repeat what was typed or answered.
func TestErrorsAreHarmless(t *testing.T) {
	t.Parallel()
	c := call(t, nil, "ingest", "nowhere\x1b[31m\u202e.ndjson")
	if c.code != codeUsage || strings.ContainsAny(c.stderr, "\x1b\u202e") || !strings.HasPrefix(c.stderr, "bidder: ") {
		t.Errorf("exit code %d: %q", c.code, c.stderr)
	}
}
