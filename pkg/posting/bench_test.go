package posting

import (
	"bytes"
	"io"
	"strconv"
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
			decoder := NewDecoder(endless, Options{Now: testNow, CachedAt: testNow(), DefaultCurrency: "USD"})
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

// BenchmarkBatch makes a batch of 1,000 read postings, and its arrays for the database.
func BenchmarkBatch(b *testing.B) {
	data := readFile(b, "../../examples/postings.ndjson")
	decoder := NewDecoder(&repeatReader{data: data}, Options{Now: testNow, CachedAt: testNow(), DefaultCurrency: "USD"})
	var items []Item
	for i := range batchPostings {
		item, err := decoder.Next()
		if err != nil || item.Reject != nil {
			b.Fatal(item.Reject, err)
		}
		item.Posting.JobID += strconv.Itoa(i) // the same lines come again
		items = append(items, item)
	}
	b.ReportAllocs()
	for b.Loop() {
		batch := newBatch()
		for _, item := range items {
			batch.add(item)
		}
		if params := batch.params(); len(params.JobIDs) != batchPostings {
			b.Fatal(len(params.JobIDs))
		}
	}
}
