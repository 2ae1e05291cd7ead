package posting

import (
	"bytes"
	"io"
	"testing"
)

func BenchmarkDecoder(b *testing.B) {
	for _, file := range []string{"../../examples/postings.ndjson", "testdata/origin-shaped.ndjson"} {
		b.Run(file, func(b *testing.B) {
			data := readFile(b, file)
			lines := bytes.Count(data, []byte("\n"))
			b.SetBytes(int64(len(data) / lines))
			b.ReportAllocs()
			endless := &repeatReader{data: data}
			decoder := NewDecoder(endless, Options{Now: testNow(), CachedAt: testNow(), DefaultCurrency: "USD"})
			for b.Loop() {
				item, err := decoder.Next()
				if err != nil || item.Reject != nil {
					b.Fatal(item.Reject, err)
				}
			}
		})
	}
}

// A repeatReader is data over and over again.
type repeatReader struct {
	data []byte
	at   int
}

func (r *repeatReader) Read(p []byte) (int, error) {
	n := copy(p, r.data[r.at:])
	r.at = (r.at + n) % len(r.data)
	return n, nil
}

var _ io.Reader = (*repeatReader)(nil)
