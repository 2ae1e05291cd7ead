package scan

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/posting"
)

// keep puts a page in the cache, or prints it, by way of the lines that a file would have: so
// they become exactly what the same lines of a file become.
func (s *scan) keep(ctx context.Context, records []posting.Record, now time.Time) error {
	if len(records) == 0 {
		return nil
	}
	if s.options.Print == nil {
		if err := s.reconcile(ctx, records, now); err != nil {
			return err
		}
	}
	lines, err := encode(records)
	if err != nil {
		return err
	}
	if s.options.Print != nil {
		s.report.Read += int64(len(records))
		if _, err := s.options.Print.Write(lines); err != nil {
			return fmt.Errorf("print: %w", err)
		}
		return nil
	}
	d := decoder(lines, now)
	counts, err := posting.Ingest(ctx, s.pool, s.options.Limits, d, posting.Observer{Rejected: func(r *posting.Reject) error {
		s.report.Rejects = append(s.report.Rejects, Reject{JobID: records[r.Line-1].JobID, Code: r.Code, Message: r.Message})
		return nil
	}})
	s.report.Counts = s.report.Add(counts)
	for code, n := range d.Notes() {
		s.report.Notes[code] += n
	}
	return err
}

func decoder(lines []byte, now time.Time) *posting.Decoder {
	return posting.NewDecoder(bytes.NewReader(lines), posting.Options{Now: func() time.Time { return now }})
}

func encode(records []posting.Record) ([]byte, error) {
	var lines bytes.Buffer
	encoder := json.NewEncoder(&lines)
	encoder.SetEscapeHTML(false)
	for _, record := range records {
		if err := encoder.Encode(record); err != nil {
			return nil, fmt.Errorf("encode a posting: %w", err)
		}
	}
	return lines.Bytes(), nil
}

// reconcile compares records with what the cache has. One that says nothing new keeps its
// cached_at until half of its time to live is over, so that not every scan makes a candidate of
// it again; after that it is refreshed, and stays fresh as long as scans see it. The bid that a
// file asked for stays: a search knows nothing of bids.
func (s *scan) reconcile(ctx context.Context, records []posting.Record, now time.Time) error {
	ids := make([]string, len(records))
	for i, record := range records {
		ids[i] = record.JobID
	}
	rows, err := s.q.CachedPostings(ctx, s.options.Marketplace, ids)
	if err != nil {
		return fmt.Errorf("read the cache: %w", err)
	}
	if len(rows) == 0 {
		return nil
	}
	lines, err := encode(records)
	if err != nil {
		return err
	}
	for d := decoder(lines, now); ; {
		item, err := d.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read a posting: %w", err)
		}
		at := slices.IndexFunc(rows, func(row queries.Posting) bool { return item.Reject == nil && row.JobID == item.Posting.JobID })
		if at < 0 {
			continue
		}
		row, record := rows[at], &records[item.Line-1]
		record.Bid = bidOf(row)
		if now.Sub(row.CachedAt) < s.options.PostingTTL/2 && says(row, item.Posting) {
			record.CachedAt = row.CachedAt.Format(time.RFC3339Nano)
		}
	}
}

// bidOf is the bid that the cache holds for a posting, or nil.
func bidOf(row queries.Posting) *posting.RecordBid {
	bid := posting.RecordBid{PeriodDays: orZero(row.BidPeriodDays), Proposal: orZero(row.BidProposal)}
	if row.BidAmountCents != nil {
		bid.Amount = posting.FormatAmount(*row.BidAmountCents)
	}
	if bid == (posting.RecordBid{}) {
		return nil
	}
	return &bid
}

// says reports whether the cache says the same of a posting.
func says(row queries.Posting, p posting.Posting) bool {
	return row.Title == p.Title && row.Description == p.Description && orZero(row.URL) == p.URL &&
		same(row.BudgetMinCents, p.BudgetMinCents) && same(row.BudgetMaxCents, p.BudgetMaxCents) &&
		row.Currency == p.Currency && orZero(row.Pricing) == p.Pricing && slices.Equal(row.Skills, p.Skills) &&
		orZero(row.PostedAt).Equal(orZero(p.PostedAt)) && orZero(row.Deadline).Equal(orZero(p.Deadline))
}

func same(a, b *int64) bool { return orZero(a) == orZero(b) && (a == nil) == (b == nil) }

func orZero[T any](value *T) (zero T) {
	if value == nil {
		return zero
	}
	return *value
}
