// Package conformance finds out whether a connector keeps the protocol of package bridge, by
// placing and withdrawing bids on postings that do not exist.
package conformance

import (
	"context"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"
	"github.com/sethvargo/go-retry"

	"github.com/arbitrageai/bidder/pkg/config"
	"github.com/arbitrageai/bidder/pkg/marketplace"
	"github.com/arbitrageai/bidder/pkg/marketplace/bridge"
	"github.com/arbitrageai/bidder/pkg/marketplace/bridge/internal/route"
	"github.com/arbitrageai/bidder/pkg/marketplace/bridge/signature"
	"github.com/arbitrageai/bidder/pkg/marketplace/internal/wire"
)

const (
	// atOnce is how many requests with the same key are sent at the same time.
	atOnce = 4
	// patience is how long a change may take to show up in look-ups.
	patience = 10 * time.Second
	// forgery looks like a signature.
	forgery = "v1,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
)

// Verdict is what came of a check.
type Verdict string

// The verdicts.
const (
	Passed  Verdict = "passed"
	Failed  Verdict = "failed"
	Skipped Verdict = "skipped" // the configuration does not promise it, or an earlier check failed
)

// Result is the result of one check.
type Result struct {
	Name    string  `json:"name"`
	Verdict Verdict `json:"verdict"`
	Detail  string  `json:"detail"` // why it failed or was skipped
}

// Check calls the connector that a marketplace is configured to use, reports each check as it
// ends, and returns whether none failed. It really places bids, and withdraws them again: the
// connector has to be in a mode in which that does no harm. An error is one of the configuration.
func Check(ctx context.Context, m config.Marketplace, name string, report func(Result)) (bool, error) {
	return run(ctx, m, name, patience, report)
}

func run(ctx context.Context, m config.Marketplace, name string, patience time.Duration, report func(Result)) (bool, error) {
	client, err := bridge.New(m)
	if err != nil {
		return false, fmt.Errorf("check connector: %w", err)
	}
	defer client.Close()
	capabilities := client.Capabilities()
	m.Timeout = capabilities.Timeout
	caller := wire.NewCaller(m, nil)
	defer caller.Close()

	s := &session{market: m, name: name, patience: patience, client: client, caller: caller}
	s.bid = s.newBid()
	ok := true
	for _, check := range s.checks() {
		result := Result{Name: check.name, Verdict: Passed}
		var skipped skip
		switch err := check.run(ctx); {
		case errors.As(err, &skipped):
			result.Verdict, result.Detail = Skipped, string(skipped)
		case err != nil:
			result.Verdict, result.Detail, ok = Failed, err.Error(), false
		}
		report(result)
	}
	for _, bid := range s.left {
		client.Withdraw(ctx, bid)
	}
	return ok, nil
}

// skip says why a check was not made.
type skip string

func (s skip) Error() string { return string(s) }

type check struct {
	name string
	run  func(context.Context) error
}

// session is one run of all checks.
type session struct {
	market   config.Marketplace
	name     string
	client   *bridge.Client
	caller   *wire.Caller
	patience time.Duration
	bid      marketplace.Bid   // with an external id once it is placed
	left     []marketplace.Bid // to withdraw in the end
}

func (s *session) checks() []check {
	return []check{
		{"place returns an id", s.place},
		{"the same key returns the same id", s.repeat},
		{"the same key at the same time makes one bid", s.race},
		{"the same key with another body is refused", s.reuse},
		{"a bid without a key is refused", s.keyless},
		{"a look-up finds the bid", s.find},
		{"a look-up of an unknown key finds nothing", s.miss},
		{"a wrong signature is refused", s.forged},
		{"a missing signature is refused", s.unsigned},
		{"an old timestamp is refused", s.old},
		{"one right signature of several is enough", s.rotated},
		{"a wrong auth header is refused", s.unauthorized},
		{"a withdrawal by id succeeds", s.withdraw},
		{"a look-up shows the withdrawal", s.findWithdrawn},
		{"withdrawing again succeeds", s.withdraw},
		{"withdrawing an unknown bid is not_found", s.withdrawUnknown},
		{"refusals are problem+json", s.shape},
	}
}

// newBid returns a bid on a posting that nobody else bids on.
func (s *session) newBid() marketplace.Bid {
	id, now := uuid.New(), time.Now()
	return marketplace.Bid{
		ID: id, Marketplace: s.name, JobID: "bidder-check-" + id.String(), JobURL: "https://example.com/bidder-check", AmountCents: 48000,
		Currency: "USD", Pricing: "fixed", PeriodDays: 10, Proposal: "bidder checks this connector. Please ignore.", ArmedAt: now, Attempt: 1,
		WithdrawReason: "bidder checks this connector", WithdrawAskedAt: now,
	}
}

func unexpected(result marketplace.Result, want string) error {
	return fmt.Errorf("want %s, got status %d, which is %s %s: %s", want, result.Status, result.Kind, result.Code, result.Message)
}

func (s *session) place(ctx context.Context) error {
	result := s.client.Place(ctx, s.bid)
	if result.Kind != marketplace.Done {
		return unexpected(result, "200 or 201 with an external_bid_id")
	}
	s.bid.ExternalID = result.ExternalID
	return nil
}

// needBid is for checks that are about the bid.
func (s *session) needBid() error {
	if s.bid.ExternalID == "" {
		return skip("no bid was placed")
	}
	return nil
}

// needIdempotency is for checks of what idempotent_place promises.
func (s *session) needIdempotency() error {
	if !s.market.IdempotentPlace {
		return skip("idempotent_place is false")
	}
	return s.needBid()
}

func (s *session) repeat(ctx context.Context) error {
	if err := s.needIdempotency(); err != nil {
		return err
	}
	again := s.bid
	again.Attempt = 2
	if result := s.client.Place(ctx, again); result.ExternalID != s.bid.ExternalID {
		return unexpected(result, "the answer to the first one, with the id "+s.bid.ExternalID)
	}
	return nil
}

func (s *session) race(ctx context.Context) error {
	if err := s.needIdempotency(); err != nil {
		return err
	}
	bid, results := s.newBid(), make([]marketplace.Result, atOnce)
	var racers sync.WaitGroup
	for i := range results {
		racers.Go(func() { results[i] = s.client.Place(ctx, bid) })
	}
	racers.Wait()
	for _, result := range results {
		switch {
		case result.Kind != marketplace.Done && result.Code != marketplace.CodeInProgress:
			return unexpected(result, "an id, or in_progress")
		case result.Kind == marketplace.Done && bid.ExternalID == "":
			bid.ExternalID = result.ExternalID
			s.left = append(s.left, bid)
		case result.Kind == marketplace.Done && bid.ExternalID != result.ExternalID:
			return fmt.Errorf("%d requests with one key made two bids: %s and %s", atOnce, bid.ExternalID, result.ExternalID)
		}
	}
	if bid.ExternalID == "" {
		return fmt.Errorf("of %d requests with one key, all are in_progress", atOnce)
	}
	return nil
}

func (s *session) reuse(ctx context.Context) error {
	if err := s.needIdempotency(); err != nil {
		return err
	}
	changed := s.bid
	changed.AmountCents++
	if result := s.client.Place(ctx, changed); result.Code != marketplace.CodeIdempotencyKeyReuse || result.Status != http.StatusUnprocessableEntity {
		return unexpected(result, "422 with the code idempotency_key_reuse")
	}
	return nil
}

func (s *session) keyless(ctx context.Context) error {
	if err := s.needIdempotency(); err != nil {
		return err
	}
	answer, err := s.send(ctx, route.Place, s.newBid(), time.Now(), func(h http.Header) { h.Del(route.KeyHeader) })
	if err == nil && answer.Status != http.StatusBadRequest {
		err = fmt.Errorf("want 400, got %d", answer.Status)
	}
	return err
}

// findIn looks until the bid is there in a status.
func (s *session) findIn(ctx context.Context, status marketplace.Status) error {
	ctx, cancel := context.WithTimeout(ctx, s.patience)
	defer cancel()
	var last error
	_ = retry.Exponential(ctx, 50*time.Millisecond, func(ctx context.Context) error {
		finding := s.client.Lookup(ctx, s.bid)
		switch {
		case !finding.Known:
			last = unexpected(finding.Result, "200 with found, external_bid_id and status")
		case !finding.Found:
			last = errors.New("the bid is not found by its key")
		case finding.ExternalID != s.bid.ExternalID || finding.Status != status:
			last = fmt.Errorf("want %s as %s, got %s as %s", s.bid.ExternalID, status, finding.ExternalID, finding.Status)
		default:
			last = nil
		}
		return retry.RetryableError(last)
	})
	return last
}

func (s *session) find(ctx context.Context) error {
	if err := s.needBid(); err != nil {
		return err
	}
	return s.findIn(ctx, marketplace.Submitted)
}

func (s *session) miss(ctx context.Context) error { return s.wantAbsent(ctx, s.newBid()) }

func (s *session) wantAbsent(ctx context.Context, bid marketplace.Bid) error {
	switch finding := s.client.Lookup(ctx, bid); {
	case !finding.Known:
		return unexpected(finding.Result, "200 with found false, or 404")
	case finding.Found:
		return fmt.Errorf("a bid that was never placed is found as %s", finding.ExternalID)
	case s.market.LookupIsAuthoritative && !finding.Definitive:
		return errors.New("with lookup_is_authoritative, want definitive true, or 404")
	default:
		return nil
	}
}

// needSecrets is for checks of signatures.
func (s *session) needSecrets() error {
	if len(s.market.SigningSecrets) == 0 {
		return skip("there are no signing_secrets_env")
	}
	return nil
}

func (s *session) forged(ctx context.Context) error {
	if err := s.needSecrets(); err != nil {
		return err
	}
	return s.wantRefused(ctx, time.Now(), func(h http.Header) { h.Set(signature.SignatureHeader, forgery) })
}

func (s *session) unsigned(ctx context.Context) error {
	if err := s.needSecrets(); err != nil {
		return err
	}
	return s.wantRefused(ctx, time.Now(), func(h http.Header) { h.Del(signature.SignatureHeader) })
}

func (s *session) old(ctx context.Context) error {
	if err := s.needSecrets(); err != nil {
		return err
	}
	return s.wantRefused(ctx, time.Now().Add(-2*signature.Tolerance), func(http.Header) {})
}

func (s *session) unauthorized(ctx context.Context) error {
	if s.market.Auth.Header == "" {
		return skip("there is no auth")
	}
	return s.wantRefused(ctx, time.Now(), func(h http.Header) { h.Set(s.market.Auth.Header, "wrong") })
}

// wantRefused sends each operation with changed headers and wants 401, and nothing placed.
func (s *session) wantRefused(ctx context.Context, at time.Time, change func(http.Header)) error {
	bid := s.newBid()
	bid.ExternalID = "unknown"
	for _, op := range []route.Operation{route.Place, route.Lookup, route.Withdraw} {
		answer, err := s.send(ctx, op, bid, at, change)
		if err != nil {
			return err
		}
		if answer.Status != http.StatusUnauthorized {
			return fmt.Errorf("%s: want 401, got %d", op, answer.Status)
		}
	}
	return s.wantAbsent(ctx, bid)
}

func (s *session) rotated(ctx context.Context) error {
	if err := s.needSecrets(); err != nil {
		return err
	}
	answer, err := s.send(ctx, route.Lookup, s.bid, time.Now(), func(h http.Header) {
		h.Set(signature.SignatureHeader, forgery+" "+h.Get(signature.SignatureHeader))
	})
	if err == nil && answer.Status != http.StatusOK && answer.Status != http.StatusNotFound {
		err = fmt.Errorf("want the answer to the right one, got %d", answer.Status)
	}
	return err
}

func (s *session) withdraw(ctx context.Context) error {
	if err := s.needBid(); err != nil {
		return err
	}
	if result := s.client.Withdraw(ctx, s.bid); result.Kind != marketplace.Done {
		return unexpected(result, "200 with the status withdrawn or already_withdrawn")
	}
	return nil
}

func (s *session) findWithdrawn(ctx context.Context) error {
	if err := s.needBid(); err != nil {
		return err
	}
	return s.findIn(ctx, marketplace.Withdrawn)
}

// unknown returns a bid whose external id no connector has given.
func (s *session) unknown() marketplace.Bid {
	bid := s.newBid()
	bid.ExternalID = "bidder-check-unknown"
	return bid
}

func (s *session) withdrawUnknown(ctx context.Context) error {
	if result := s.client.Withdraw(ctx, s.unknown()); result.Code != marketplace.CodeNotFound || result.Status < 400 || result.Status > 499 {
		return unexpected(result, "404 with the code not_found")
	}
	return nil
}

func (s *session) shape(ctx context.Context) error {
	answer, err := s.send(ctx, route.Withdraw, s.unknown(), time.Now(), func(http.Header) {})
	if err != nil {
		return err
	}
	if kind, _, err := mime.ParseMediaType(answer.Header.Get("Content-Type")); err != nil || kind != "application/problem+json" {
		return fmt.Errorf("want the content type application/problem+json, got %q", answer.Header.Get("Content-Type"))
	}
	var problem struct {
		Title  string `json:"title"`
		Status int    `json:"status"`
		Code   string `json:"code"`
	}
	if err := json.Unmarshal(answer.Body, &problem); err != nil {
		return fmt.Errorf("want an object with title, status and code: %w", err)
	}
	if problem.Title == "" || problem.Code == "" || problem.Status != answer.Status {
		return fmt.Errorf("want title, code and status %d, got %+v", answer.Status, problem)
	}
	return nil
}

// send sends a request whose headers were changed after signing.
func (s *session) send(ctx context.Context, op route.Operation, bid marketplace.Bid, at time.Time, change func(http.Header)) (wire.Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, s.market.Timeout)
	defer cancel()
	built, err := route.Build(s.market, op, bid)
	if err != nil {
		return wire.Answer{}, err
	}
	request, err := built.HTTP(ctx, s.market, at)
	if err != nil {
		return wire.Answer{}, err
	}
	change(request.Header)
	answer, err := s.caller.Do(request)
	if err != nil {
		return wire.Answer{}, fmt.Errorf("%s: %w", op, err)
	}
	return answer, nil
}
