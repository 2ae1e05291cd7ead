// Package why explains to people how an attempt to bid on a posting would end now.
package why

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/bidding"
	"github.com/arbitrageai/bidder/pkg/config"
	"github.com/arbitrageai/bidder/pkg/posting"
)

// Reasons explain the outcome of an attempt in sentences, and whether the posting is queued.
func Reasons(ctx context.Context, q *queries.Queries, c config.Config, attempt bidding.Attempt) ([]string, error) {
	reasons := []string{Reason(c, attempt)}
	if attempt.Outcome == bidding.Closed && attempt.Detail == bidding.DetailWithdrawn {
		reasons = append(reasons, "`bidder bid` bids on it again by hand.")
	}
	candidate, err := q.GetCandidate(ctx, attempt.Key.Marketplace, attempt.Key.JobID)
	switch {
	case errors.Is(err, pgx.ErrNoRows) && attempt.Outcome == bidding.Unknown:
		reasons = append(reasons, "It is not queued: a run that reads it from a file, or a scan that finds it, queues it.")
	case errors.Is(err, pgx.ErrNoRows):
		reasons = append(reasons, "It is not queued: newer content, or `bidder run --reconsider`, queues it.")
	case err != nil:
		return nil, fmt.Errorf("read the queue: %w", err)
	case candidate.Parked:
		last := "-"
		if candidate.LastError != nil {
			last = *candidate.LastError
		}
		reasons = append(reasons, fmt.Sprintf("It is parked after %d failed attempts; newer content frees it. The last error: %s", candidate.Tries, last))
	case candidate.NotBefore.After(time.Now()):
		reasons = append(reasons, "It is queued, and runs leave it alone until "+exactTime(candidate.NotBefore)+
			"; newer content, or `bidder run --reconsider`, has it decided before that.")
	default:
		reasons = append(reasons, "It is queued: the next run decides on it.")
	}
	return reasons, nil
}

// Reason explains the outcome of an attempt in a sentence.
func Reason(c config.Config, attempt bidding.Attempt) string {
	switch attempt.Outcome {
	case bidding.Unknown:
		return "The posting is not in the cache: `bidder ingest` puts it there."
	case bidding.Duplicate:
		return "The live bid " + attempt.ExistingBidID.String() + " is on it."
	case bidding.Closed:
		return "Its newest bid ended: " + attempt.Detail + "."
	case bidding.Recent:
		return "A bid on it was made, sent or withdrawn less than " + c.RebidWindow.String() + " ago."
	case bidding.Stale:
		return fmt.Sprintf("It was last seen %s ago (%s), longer than %s.", time.Since(attempt.CachedAt).Round(time.Second), exactTime(attempt.CachedAt), c.PostingTTL)
	case bidding.Ineligible:
		return refusal(c, attempt)
	default:
		text := "Nothing stands against a bid of " + money(attempt.AmountCents, attempt.Currency)
		if attempt.Rule != "" {
			text += ", by " + rule(c, attempt) + " and the bounds"
		}
		return text + "."
	}
}

// NeverFits says whether a bid is larger than all the money of a day: no day has room for it.
func NeverFits(c config.Config, attempt bidding.Attempt) bool {
	most := c.Marketplace(attempt.Key.Marketplace).Caps.MoneyPerDayCents
	return attempt.Detail == bidding.DetailCapMoneyPerDay && most != nil && attempt.AmountCents > *most
}

// refusal explains why a posting is ineligible.
func refusal(c config.Config, attempt bidding.Attempt) string {
	if NeverFits(c, attempt) {
		return fmt.Sprintf("A bid of %s is more than the whole money_per_day of its marketplace, %s: it never fits.",
			money(attempt.AmountCents, attempt.Currency), money(*c.Marketplace(attempt.Key.Marketplace).Caps.MoneyPerDayCents, attempt.Currency))
	}
	switch attempt.Detail {
	case bidding.ReasonPolicy:
		return "The policy says no: " + rule(c, attempt) + " is false."
	case bidding.ReasonPolicyError:
		return fmt.Sprintf("The policy has no answer: %s: %v.", rule(c, attempt), attempt.Err)
	case bidding.ReasonNoAmount:
		if attempt.Rule == bidding.RuleAmount {
			return "The policy's amount is nothing: " + rule(c, attempt) + " says " + money(attempt.AmountCents, attempt.Currency) + "."
		}
		return "Neither the posting nor its budget says what to bid."
	}
	return map[string]string{
		bidding.ReasonHandlerNone:        "Its marketplace is switched off (handler: none).",
		bidding.ReasonAmountBelowMinimum: "The amount it asks for is below min_amount.",
		bidding.ReasonAmountAboveMaximum: "The amount it asks for is above max_amount.",
		bidding.DetailCapBidsPerDay:      "bids_per_day of its marketplace is reached; the next day begins at " + exactTime(attempt.Until) + ".",
		bidding.DetailCapMoneyPerDay: "A bid of " + money(attempt.AmountCents, attempt.Currency) +
			" does not fit into what money_per_day leaves today; the next day begins at " + exactTime(attempt.Until) + ".",
		bidding.DetailCapLiveBids: "As many bids as live_bids of its marketplace are live: one must end first.",
	}[attempt.Detail]
}

// rule names the expression that decided, and where it stands.
func rule(c config.Config, attempt bidding.Attempt) string {
	key, from := c.Deciding(attempt.Key.Marketplace, attempt.Rule)
	return fmt.Sprintf("%s (%s)", key, from)
}

func money(cents int64, currency string) string { return posting.FormatAmount(cents) + " " + currency }

func exactTime(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05Z") }

// Meaning is what an outcome means, for people.
func Meaning(outcome bidding.Outcome) string {
	return map[bidding.Outcome]string{
		bidding.Unknown:    "not in the cache",
		bidding.Duplicate:  "a live bid exists",
		bidding.Closed:     "the last bid on it has ended for good",
		bidding.Recent:     "a bid was made, sent or withdrawn moments ago; tried again later",
		bidding.Stale:      "the cached posting is too old",
		bidding.Ineligible: "the policy says no, there is no amount, or a cap is reached",
		bidding.Claimed:    "a new live bid; it owes its delivery",
		bidding.Locked:     "another attempt is at it; tried again later",
		bidding.Failed:     "something broke; tried again later",
	}[outcome]
}
