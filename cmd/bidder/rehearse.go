package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/bidding"
	"github.com/arbitrageai/bidder/pkg/config"
	"github.com/arbitrageai/bidder/pkg/delivery"
	"github.com/arbitrageai/bidder/pkg/posting"
)

// rehearse is a dry run: it decides in one READ ONLY transaction.
func (a *app) rehearse(ctx context.Context, s *session, options *runOptions) error {
	report := runReport{DryRun: true, Outcomes: map[bidding.Outcome]int64{}, StartedAt: time.Now().UTC()}
	for _, outcome := range bidding.Outcomes() {
		report.Outcomes[outcome] = 0
	}
	read, fresh, problem := a.read(ctx, s, &options.input)
	report.Ingest = read.Counts
	if problem != nil && exitCode(problem) != codePerson {
		return problem
	}
	claimer := bidding.NewClaimer(s.pool, s.lockLimits(), s.rules(), &bidding.Counters{}, uuid.Nil)
	var due []queries.PreviewDeliveriesRow
	err := db.ReadOnly(ctx, s.pool, func(tx pgx.Tx) (err error) {
		if !options.noDelivery {
			if due, err = queries.New(tx).PreviewDeliveries(ctx, s.PostingTTL); err != nil {
				return fmt.Errorf("look at what is owed: %w", err)
			}
		}
		return s.previewCandidates(ctx, tx, claimer, fresh, options.reconsider, func(attempts []bidding.Attempt) {
			for _, attempt := range attempts {
				report.Attempts++
				report.Outcomes[attempt.Outcome]++
			}
		})
	})
	if err != nil {
		return err
	}
	for i, row := range due {
		does := s.wouldDo(row)
		if next := i + 1; next < len(due) && due[next].Marketplace == row.Marketplace && s.wouldDo(due[next]) == does {
			due[next].Bids += row.Bids // said once
			continue
		}
		fmt.Fprintf(a.stderr, "Dry run: %s: %d of what is due would be %s.\n", row.Marketplace, row.Bids, does)
	}
	if !options.noDelivery {
		checks, err := s.engine(&delivery.Counters{}).DueChecks(ctx)
		if err != nil {
			return err
		}
		fmt.Fprintf(a.stderr, "Dry run: %d live bids would be looked up.\n", checks)
	}
	report.FinishedAt = time.Now().UTC()
	return errors.Join(problem, a.printRun(report))
}

// wouldDo says what a run would do with due deliveries. What a marketplace would answer
// nobody knows.
func (s *session) wouldDo(row queries.PreviewDeliveriesRow) string {
	marketplace := s.Marketplace(row.Marketplace)
	handler := marketplace.Handler
	switch {
	case row.Paused:
		return "left alone: the account is paused"
	case row.Doing == "withdraw_unsent":
		return "withdrawn without a call: it was never sent"
	case handler == config.HandlerManual:
		return "handed to a person"
	case handler == config.HandlerNone:
		return "handed to a person: no handler is configured"
	case row.Doing == "stale":
		return "handed to a person: the posting is no longer open"
	case row.Doing == "place" && !row.Approved && marketplace.NeedsApproval():
		return "kept until a person approves it"
	case row.Doing == "place":
		return "sent"
	case row.Doing == "withdraw":
		return "looked up and withdrawn"
	default:
		return "looked up: an earlier answer proved nothing"
	}
}

// previewCandidates previews what a pass would attempt, in pages: the candidates that are
// due, and the postings that the files would make candidates.
func (s *session) previewCandidates(
	ctx context.Context, tx pgx.Tx, claimer *bidding.Claimer, fresh map[posting.Key]posting.Posting, reconsider bool,
	observe func([]bidding.Attempt),
) error {
	const pageSize = 1000
	rehearsal := &bidding.Rehearsal{}
	preview := func(keys []posting.Key) error {
		attempts, err := claimer.Preview(ctx, tx, keys, bidding.PreviewOptions{Pass: true, Refreshed: fresh, Rehearsal: rehearsal})
		if err != nil {
			return err
		}
		observe(attempts)
		return nil
	}
	keys := make([]posting.Key, 0, pageSize)
	// In the order in which they would be queued: which of them a cap lets through depends on it.
	for _, key := range slices.SortedFunc(maps.Keys(fresh), posting.Key.Compare) {
		if keys = append(keys, key); len(keys) == pageSize {
			if err := preview(keys); err != nil {
				return err
			}
			keys = keys[:0]
		}
	}
	if err := preview(keys); err != nil {
		return err
	}
	after := posting.Key{}
	for {
		page, err := queries.New(tx).DueCandidates(ctx, queries.DueCandidatesParams{
			Reconsider: reconsider, PostingTTL: s.PostingTTL,
			AfterMarketplace: after.Marketplace, AfterJobID: after.JobID, Page: pageSize,
		})
		if err != nil {
			return fmt.Errorf("list due candidates: %w", err)
		}
		keys = keys[:0]
		for _, row := range page {
			after = posting.Key{Marketplace: row.Marketplace, JobID: row.JobID}
			if _, seen := fresh[after]; !seen {
				keys = append(keys, after)
			}
		}
		if err := preview(keys); err != nil {
			return err
		}
		if len(page) < pageSize {
			return nil
		}
	}
}
