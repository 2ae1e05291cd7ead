package posting

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

func readLines(t *testing.T, l *lineReader) []string {
	t.Helper()
	var lines []string
	for {
		line, err := l.next()
		if errors.Is(err, io.EOF) {
			return lines
		}
		if err != nil {
			t.Fatalf("line %d: %v", len(lines)+1, err)
		}
		lines = append(lines, string(line))
		if l.number != int64(len(lines)) {
			t.Fatalf("line %d is numbered %d", len(lines), l.number)
		}
	}
}

func TestLineReader(t *testing.T) {
	t.Parallel()
	longest := strings.Repeat("x", MaxLine)
	tests := []struct {
		name, in string
		want     []string
	}{
		{"empty", "", nil},
		{"one line", "a\n", []string{"a"}},
		{"no last newline", "a\nb", []string{"a", "b"}},
		{"blank lines", "\n\na\n\n", []string{"", "", "a", ""}},
		{"CRLF", "a\r\n\r\nb\r\n", []string{"a", "", "b"}},
		{"CR at the end", "a\r", []string{"a"}},
		{"CR inside", "a\rb\r\r\n", []string{"a\rb\r"}},
		{"byte order mark", byteOrderMark + "a\n" + byteOrderMark + "b", []string{"a", byteOrderMark + "b"}},
		{"only a byte order mark", byteOrderMark, []string{""}},
		{"longest line", "a\n" + longest + "\nb", []string{"a", longest, "b"}},
		{"longest line with everything", byteOrderMark + longest + "\r\nb", []string{longest, "b"}},
		{"longest line at the end", longest, []string{longest}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := newLineReader(strings.NewReader(tt.in))
			if got := readLines(t, &l); !cmp.Equal(tt.want, got) {
				t.Errorf("lines %.200q, want %.200q", got, tt.want)
			}
		})
	}
}

// TestLineReaderBounded has lines of 1 GiB and more pass through little memory.
func TestLineReaderBounded(t *testing.T) {
	t.Parallel()
	endless := &repeatReader{data: bytes.Repeat([]byte("x"), 1<<16)}
	input := io.MultiReader(io.LimitReader(endless, 1<<30), strings.NewReader("\nshort\n"), io.LimitReader(endless, MaxLine+1))
	l := newLineReader(input)
	for i, want := range []func(n int) bool{
		func(n int) bool { return n > MaxLine },
		func(n int) bool { return n == len("short") },
		func(n int) bool { return n > MaxLine },
	} {
		line, err := l.next()
		if err != nil || !want(len(line)) {
			t.Fatalf("line %d: %d bytes, %v", i+1, len(line), err)
		}
	}
	if cap(l.long) > 3*MaxLine {
		t.Errorf("%d bytes are kept for lines of at most %d", cap(l.long), MaxLine)
	}
}

func TestLineReaderFails(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 1<<17)
	for _, before := range []string{"", "a", long} {
		// A wrapped io.EOF is not the end: what came before it may be half a line.
		for _, fault := range []error{io.ErrUnexpectedEOF, errors.Join(io.EOF)} {
			l := newLineReader(io.MultiReader(strings.NewReader(before), iotest.ErrReader(fault)))
			line, err := l.next()
			if line != nil || !errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
				t.Errorf("%v after %d bytes: %d bytes, %v, want %v", fault, len(before), len(line), err, io.ErrUnexpectedEOF)
			}
		}
	}
}

// FuzzLineReader compares the reader, with a tiny limit and a tiny buffer, to
// the obvious way to split lines that are all in memory.
func FuzzLineReader(f *testing.F) {
	f.Add([]byte(byteOrderMark+"a\r\n\n"+strings.Repeat("x", 21)+"\n"+strings.Repeat("y", 40)+"\r\nz"), false)
	f.Add([]byte(strings.Repeat("x", 20)+"\r\n"), true)
	f.Fuzz(func(t *testing.T, data []byte, slowly bool) {
		const limit = 20
		var input io.Reader = bytes.NewReader(data)
		if slowly {
			input = iotest.OneByteReader(input)
		}
		got := readLines(t, &lineReader{src: bufio.NewReaderSize(input, 16), max: limit})

		var want []string
		for line := range strings.Lines(string(data)) {
			if len(want) == 0 {
				line = strings.TrimPrefix(line, byteOrderMark)
			}
			want = append(want, strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r"))
		}
		if len(got) != len(want) {
			t.Fatalf("%d lines, want %d", len(got), len(want))
		}
		for i := range want {
			if len(want[i]) > limit {
				if len(got[i]) <= limit || len(got[i]) > limit+10 || !strings.HasPrefix(want[i], got[i]) {
					t.Errorf("line %d: %q does not show that %q is too long", i+1, got[i], want[i])
				}
			} else if got[i] != want[i] {
				t.Errorf("line %d: %q, want %q", i+1, got[i], want[i])
			}
		}
	})
}
