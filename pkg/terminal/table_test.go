package terminal

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// printed is what a table of bids looks like on a screen.
func printed(s Screen) string {
	var out strings.Builder
	s.Writer = &out
	t := s.Table(Column{Name: "id"}, Column{Name: "amount", Right: true}, Column{Name: "job", Min: 6, Wrap: true}, Column{Name: "title", Min: 8})
	t.Row("0192f3a4-7c1e", "100.00 USD", ID("a\u200Bb"), Styled{"日本語の題名です", Warn})
	t.Row("0192f3a4-7c1f", "9.00 USD", ID("0123456789abcdef"), "short")
	t.Print()
	return out.String()
}

func TestTable(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		screen Screen
		want   string
	}{
		{"without bound", Screen{}, `
ID                 AMOUNT  JOB               TITLE
0192f3a4-7c1e  100.00 USD  a<U+200B>b        日本語の題名です
0192f3a4-7c1f    9.00 USD  0123456789abcdef  short
`},
		{"narrower than the text", Screen{Width: 50}, `
ID                 AMOUNT  JOB         TITLE
0192f3a4-7c1e  100.00 USD  a<U+200B>b  日本語の題…
0192f3a4-7c1f    9.00 USD  0123456789  short
                           abcdef
`},
		{"narrower than the columns", Screen{Width: 30}, `
ID                 AMOUNT
  JOB           TITLE
0192f3a4-7c1e  100.00 USD
  a<U+200B>b    日本語の題名…
0192f3a4-7c1f    9.00 USD
  0123456789ab  short
  cdef
`},
		{"in colour", Screen{Color: true}, "\n" +
			"\x1b[1mID\x1b[0m                 \x1b[1mAMOUNT\x1b[0m  \x1b[1mJOB\x1b[0m               \x1b[1mTITLE\x1b[0m\n" +
			"0192f3a4-7c1e  100.00 USD  a<U+200B>b        \x1b[33m日本語の題名です\x1b[0m\n" +
			"0192f3a4-7c1f    9.00 USD  0123456789abcdef  short\n"},
	} {
		if diff := cmp.Diff(tt.want, "\n"+printed(tt.screen)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

func TestFields(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	s := Screen{Writer: &out, Width: 40}
	f := s.Fields()
	f.Field("status", "ACTIVE")
	f.Field("proposal", "I have done\nthis before, and would like to do it again.")
	f.Print()
	s.Say("- ", "A sentence that is longer than the screen is wide.")
	want := `status    ACTIVE
proposal  I have done this before, and
          would like to do it again.
- A sentence that is longer than the
  screen is wide.
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestTablesFit: whatever is in a table, no line is wider than the screen, and what may not
// be cut is all there.
func TestTablesFit(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var out strings.Builder
		s := Screen{Writer: &out, Width: rapid.IntRange(4, 120).Draw(t, "width")}
		columns := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Column {
			return Column{
				Name: rapid.SampledFrom([]string{"id", "marketplace", "title"}).Draw(t, "name"), Min: rapid.IntRange(0, 40).Draw(t, "min"),
				Wrap: rapid.Bool().Draw(t, "wrap"), Right: rapid.Bool().Draw(t, "right"),
			}
		}), 1, 6).Draw(t, "columns")
		table := s.Table(columns...)
		kept := 0
		for range rapid.IntRange(0, 4).Draw(t, "rows") {
			row := make([]any, len(columns))
			for i, c := range columns {
				text := rapid.StringOf(rapid.RuneFrom([]rune("xx日👩 \u202e"))).Draw(t, "text")
				row[i] = text
				if c.Min == 0 || c.Wrap {
					kept += strings.Count(Text(text), "日")
				}
			}
			table.Row(row...)
		}
		table.Print()
		for line := range strings.Lines(out.String()) {
			line = strings.TrimSuffix(line, "\n")
			if width(line) > s.Width || line != strings.TrimRight(line, " ") {
				t.Errorf("%d columns for %q", s.Width, line)
			}
		}
		if got := strings.Count(out.String(), "日"); got < kept {
			t.Errorf("%d of %d characters that may not be cut are left", got, kept)
		}
	})
}
