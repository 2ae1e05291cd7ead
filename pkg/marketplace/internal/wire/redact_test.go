package wire

import (
	"strings"
	"testing"
)

func TestMessage(t *testing.T) {
	t.Parallel()
	r := NewRedactor("opensesame-1234", "", "of")
	for text, want := range map[string]string{
		"a\x00\nb\t c":                               "a b c",
		"bad \xff":                                   "bad \uFFFD",
		"Bearer of bad news":                         "Bearer of bad news",
		"HTTPS://u:p@h/x?y see ftp://h#z":            "HTTPS://h/x see ftp://h",
		"mail@example.com?":                          "mail@example.com?",
		strings.Repeat("é", 300):                     strings.Repeat("é", 250) + "…",
		"x" + strings.Repeat("é", 300):               "x" + strings.Repeat("é", 249) + "…",
		strings.Repeat("x", 495) + "opensesame-1234": strings.Repeat("x", 495) + "[reda…",
	} {
		if got := r.Message(text); got != want {
			t.Errorf("message(%q) = %q, want %q", text, got, want)
		}
	}
}
