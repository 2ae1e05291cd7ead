package console_test

import (
	"strings"
	"testing"

	"github.com/arbitrageai/bidder/pkg/console"
)

// TestPieces: what nobody would see is named, and the rest is left alone.
func TestPieces(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                       "",
		"Ein Gürtel, 3 €\n\tx":   "Ein Gürtel, 3 €\n\tx",
		"a\u202eb\u2066c":        "a[U+202E]b[U+2066]c",
		"\x00\x1b[0m\r\u009b":    "[U+0000][U+001B][0m[U+000D][U+009B]",
		"pay\u200dpal\u200b":     "pay[U+200D]pal[U+200B]",
		"👩\u200d💻 می\u200cخواهم": "👩\u200d💻 می\u200cخواهم",
		"\u2028\ufeff\u00ad":     "[U+2028][U+FEFF][U+00AD]",
		"\U000e0041\ue000":       "[U+E0041][U+E000]",
		"a\xffb":                 "a[U+FFFD]b",
		"\u3164":                 "[U+3164]",
	} {
		var got strings.Builder
		for _, p := range console.Pieces(text) {
			if p.Odd {
				got.WriteString("[" + p.Text + "]")
			} else {
				got.WriteString(p.Text)
			}
		}
		if got.String() != want {
			t.Errorf("%q becomes %q, want %q", text, got.String(), want)
		}
	}
}

// TestExternal: only addresses of the web are linked to.
func TestExternal(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"https://example.com/a?b=c": true, "http://example.com": true, "javascript:alert(1)": false, "JaVaScRiPt:alert(1)": false, " javascript:alert(1)": false,
		"data:text/html,x": false, "//example.com": false, "/bids": false, "https:example.com": false, "https://": false, "https://example.com@evil.example": false,
		"ftp://example.com": false, "https://exa mple.com": false, "": false, "\x01https://example.com": false,
	} {
		if got := console.External(&text); (got != "") != want {
			t.Errorf("%q: %q", text, got)
		}
	}
	if console.External(nil) != "" {
		t.Error("nothing leads somewhere")
	}
}

// TestGrouped: thousands stand apart.
func TestGrouped(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"0": "0", "999": "999", "1000": "1_000", "1234567.50": "1_234_567.50", "-1000": "-1_000"} {
		if got := strings.ReplaceAll(console.Grouped(text), "\u202f", "_"); got != want {
			t.Errorf("%s is %s, want %s", text, got, want)
		}
	}
}
