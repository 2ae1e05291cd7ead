package terminal

import (
	"encoding/json"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"pgregory.net/rapid"
)

func TestText(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, text, want string }{
		{"plain", "Go service with Postgres queue", "Go service with Postgres queue"},
		{"empty", "", ""},
		{"white space", " a\t b\r\n\nc\u00A0d\u3000e ", "a b c d e"},
		{"colours", "\x1b[31mred\x1b[0m", "<U+001B>[31mred<U+001B>[0m"},
		{"C1 control sequence", "\u009b2J", "<U+009B>2J"},
		{"link", "\x1b]8;;http://evil\x07here\x1b]8;;\x07", "<U+001B>]8;;http://evil<U+0007>here<U+001B>]8;;<U+0007>"},
		{"title of the window", "\x1b]0;root\x1b\\", "<U+001B>]0;root<U+001B>\\"},
		{"NUL and DEL", "a\x00b\x7f", "a<U+0000>b<U+007F>"},
		{"overwriting", "good\b\b\b\bevil", "good<U+0008><U+0008><U+0008><U+0008>evil"},
		{"order", "\u202Egpj.exe\u202C \u2066x\u2069 \u200Fy", "<U+202E>gpj.exe<U+202C> <U+2066>x<U+2069> <U+200F>y"},
		{"lines", "a\u2028b\u2029c\u0085d", "a b c d"},
		{"zero width", "pay\u200Bpal \u200Ca\u200Db\u2060c\uFEFFd", "pay<U+200B>pal <U+200C>a<U+200D>b<U+2060>c<U+FEFF>d"},
		{"soft hyphen and grapheme joiner", "a\u00ADb\u034Fc", "a<U+00AD>b<U+034F>c"},
		{"tags", "x\U000E0041\U000E007F", "x<U+E0041><U+E007F>"},
		{"variation selectors", "a\uFE0Fb\U000E0100", "a<U+FE0F>b<U+E0100>"},
		{"fillers", "a\u3164b\u115Fc\uFFA0d\u2800e", "a<U+3164>b<U+115F>c<U+FFA0>d<U+2800>e"},
		{"private and unassigned", "\uE000\U0010FFFF", "<U+E000><U+10FFFF>"},
		{"broken UTF-8", "a\xffb\xc3", "a\uFFFDb\uFFFD"},
		{"what it writes itself", "a<U+200B>b <u+1> <U", "a<U+003C>U+200B>b <u+1> <U"},
		{"marks", "Zoe\u0308 e\u0301\u0323", "Zoe\u0308 e\u0301\u0323"},
		{"a storm of marks", "h" + strings.Repeat("\u0301", 500) + "i\u0301", "h" + strings.Repeat("\u0301", 4) + "\uFFFDi\u0301"},
		{"marks on nothing", "\u0301a \u0301b", "<U+0301>a <U+0301>b"},
		{"scripts", "Привет 你好 שלום नमस्ते ไทย", "Привет 你好 שלום नमस्ते ไทย"},
		{"emoji", "👩‍💻 👨‍👩‍👧‍👦 ❤️ 👍🏽 1️⃣ 🇩🇪 🏳️‍🌈", "👩‍💻 👨‍👩‍👧‍👦 ❤️ 👍🏽 1️⃣ 🇩🇪 🏳️‍🌈"},
		{"a joiner beside an emoji", "👩\u200D x\u200D👩 👩\uFE0F\uFE0F", "👩<U+200D> x<U+200D>👩 👩\uFE0F<U+FE0F>"},
	} {
		if got := Text(tt.text); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestIDsThatDifferLookDifferent(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	for _, id := range []string{
		"abc", "ab\u200Bc", "a\u200Bbc", "ab<U+200B>c", "ab<U+003C>U+200B>c", "abc\uFE0F", "abc\u00AD", "a\u202Ebc", "abc\U000E0041", "abc\u0301", "abc ", " abc",
		"ab c", "ab\u00A0c", "ab\u2003c", "ab  c", "ab\tc", "\u00e9", "e\u0301", "❤", "❤\uFE0F", "👩‍💻", "👩💻", "", "<U+", "<U+0041>", "A",
	} {
		shown := ID(id).String()
		if other, ok := seen[shown]; ok {
			t.Errorf("%q and %q both look like %q", id, other, shown)
		}
		seen[shown] = id
	}
	if got := ID("~01abc é 39812345").String(); got != "~01abc é 39812345" {
		t.Errorf("an ordinary id is changed: %q", got)
	}
}

// FuzzID: an id can be read back from what is shown, so no two look the same.
func FuzzID(f *testing.F) {
	escaped := regexp.MustCompile(`<U\+([0-9A-F]{4,6})>`)
	f.Add("a<U+200B>\u200b <U+")
	f.Fuzz(func(t *testing.T, id string) {
		id = strings.ToValidUTF8(id, "")
		shown := ID(id).String()
		back := escaped.ReplaceAllStringFunc(shown, func(s string) string {
			n, err := strconv.ParseInt(s[3:len(s)-1], 16, 32)
			if err != nil {
				t.Fatal(err)
			}
			return string(rune(n))
		})
		if back != id {
			t.Errorf("%q is shown as %q, which means %q", id, shown, back)
		}
		for _, r := range shown {
			if isHidden(r) || isMark(r) {
				t.Errorf("%q is shown as %q", id, shown)
			}
		}
	})
}

// FuzzText: nothing that a terminal obeys is left, and nothing invisible but inside emoji.
func FuzzText(f *testing.F) {
	f.Add("\x1b[31m <U+ 👩‍💻\u202e")
	f.Fuzz(func(t *testing.T, s string) {
		got := Text(s)
		for _, r := range got {
			if r != zeroWidthJoiner && r != textStyle && r != emojiStyle && isHidden(r) || unicode.IsControl(r) {
				t.Errorf("%q: %q is left in %q", s, r, got)
			}
		}
		if strings.ContainsAny(got, "\n\r\t") || strings.Contains(got, "  ") || got != strings.TrimSpace(got) {
			t.Errorf("%q: white space in %q", s, got)
		}
	})
}

func TestEscapeJSON(t *testing.T) {
	t.Parallel()
	hostile := "\x1b[31m \u009b2J \u202Ex\u200By \U000E0041 \x7f é 你 👩‍💻 \u2028"
	encoded, err := json.Marshal(hostile)
	if err != nil {
		t.Fatal(err)
	}
	escaped := EscapeJSON(encoded)
	for _, r := range string(escaped) {
		if isHidden(r) {
			t.Errorf("%q is left in %s", r, escaped)
		}
	}
	if !strings.Contains(string(escaped), "é 你 👩") {
		t.Errorf("what can be seen is escaped too: %s", escaped)
	}
	var back string
	if err := json.Unmarshal(escaped, &back); err != nil || back != hostile {
		t.Errorf("got back %q, %v, want %q", back, err, hostile)
	}
}

func TestCutAndWrap(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		text    string
		columns int
		cut     string
		wrapped []string
	}{
		{"short", 5, "short", []string{"short"}},
		{"a longer text", 8, "a longe…", []string{"a longer", "text"}},
		{"日本語の文", 5, "日本…", []string{"日本", "語の", "文"}},
		{"日本語", 6, "日本語", []string{"日本語"}},
		{"👨‍👩‍👧‍👦👨‍👩‍👧‍👦👨‍👩‍👧‍👦", 5, "👨‍👩‍👧‍👦👨‍👩‍👧‍👦…", []string{"👨‍👩‍👧‍👦👨‍👩‍👧‍👦", "👨‍👩‍👧‍👦"}},
		{"e\u0301e\u0301e\u0301", 2, "e\u0301…", []string{"e\u0301e\u0301", "e\u0301"}},
		{"0123456789abcdef", 6, "01234…", []string{"012345", "6789ab", "cdef"}},
		{"x 0123456789", 6, "x 012…", []string{"x", "012345", "6789"}},
		{"日", 1, "…", []string{"日"}},
		{"", 3, "", []string{""}},
		{"abcdef<U+202E>x", 10, "abcdef…", []string{"abcdef", "<U+202E>x"}},
	} {
		if got := Cut(tt.text, tt.columns); got != tt.cut {
			t.Errorf("cut %q to %d: got %q, want %q", tt.text, tt.columns, got, tt.cut)
		}
		if got := wrap(tt.text, tt.columns); strings.Join(got, "|") != strings.Join(tt.wrapped, "|") {
			t.Errorf("wrap %q to %d: got %q, want %q", tt.text, tt.columns, got, tt.wrapped)
		}
	}
}

// TestWrapLosesNothing but the spaces at which it breaks, and keeps to the width.
func TestWrapLosesNothing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := Text(rapid.StringOf(rapid.RuneFrom([]rune("ab -/日本e\u0301👩\u200D💻🇩🇪가ש"))).Draw(t, "text"))
		columns := rapid.IntRange(2, 20).Draw(t, "columns")
		lines := wrap(text, columns)
		if got := strings.ReplaceAll(strings.Join(lines, ""), " ", ""); got != strings.ReplaceAll(text, " ", "") {
			t.Errorf("%q became %q", text, lines)
		}
		for _, line := range lines {
			if width(line) > columns {
				t.Errorf("%q is wider than %d", line, columns)
			}
		}
	})
}
