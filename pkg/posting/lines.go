package posting

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
)

// MaxLine is the length of the longest line that is read, in bytes, without
// what ends it: 4 MiB.
const MaxLine = 4 << 20

const byteOrderMark = "\ufeff"

// A lineReader splits a stream into lines, in memory that is bounded whatever
// the stream holds.
type lineReader struct {
	src    *bufio.Reader
	max    int    // bytes in a line
	long   []byte // the line, where it did not fit into src's buffer
	number int64  // of the line last read, from 1
}

func newLineReader(r io.Reader) lineReader {
	return lineReader{src: bufio.NewReaderSize(r, 64<<10), max: MaxLine}
}

// next returns the next line without its end and without a byte order mark at
// the start of the stream. The line is valid until the next call. Of a line
// longer than max it returns a beginning that is longer than max too.
// At the end it returns io.EOF as it is.
func (l *lineReader) next() ([]byte, error) {
	line, err := l.src.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		line, err = l.rest(line)
	}
	switch {
	case err == nil:
	case err != io.EOF: //nolint:errorlint // only io.EOF itself is the end
		if errors.Is(err, io.EOF) { // cut short, which no caller may take for the end
			err = fmt.Errorf("%w: %s", io.ErrUnexpectedEOF, err.Error())
		}
		return nil, fmt.Errorf("read line %d: %w", l.number+1, err)
	case len(line) == 0:
		return nil, io.EOF
	}
	l.number++
	if l.number == 1 {
		line = bytes.TrimPrefix(line, []byte(byteOrderMark))
	}
	line = bytes.TrimSuffix(line, []byte("\n"))
	return bytes.TrimSuffix(line, []byte("\r")), nil
}

// rest reads on to the end of the line that begins with head, and keeps no
// more of it than shows whether it is too long.
func (l *lineReader) rest(head []byte) ([]byte, error) {
	limit := len(byteOrderMark) + l.max + len("\r\n")
	l.long = append(l.long[:0], head...)
	for {
		chunk, err := l.src.ReadSlice('\n')
		l.long = append(l.long, chunk[:min(len(chunk), limit-len(l.long))]...)
		if !errors.Is(err, bufio.ErrBufferFull) {
			return l.long, err //nolint:wrapcheck // by next
		}
	}
}
