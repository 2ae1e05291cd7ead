package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/arbitrageai/bidder/pkg/marketplace"
)

// Remote controls a sandbox in another process. Its methods do what those of [Server] do.
type Remote struct {
	BaseURL string
	Client  *http.Client // nil is the default one
}

// Bids returns all bids.
func (r Remote) Bids(ctx context.Context) ([]Bid, error) {
	var bids listing[Bid]
	err := r.call(ctx, http.MethodGet, "/bids", nil, &bids)
	return bids.Items, err
}

// Journal returns all requests.
func (r Remote) Journal(ctx context.Context) ([]Entry, error) { return r.JournalAfter(ctx, 0) }

// JournalAfter returns the requests since the one of that number.
func (r Remote) JournalAfter(ctx context.Context, seq int64) ([]Entry, error) {
	var entries listing[Entry]
	err := r.call(ctx, http.MethodGet, "/journal?after="+strconv.FormatInt(seq, 10), nil, &entries)
	return entries.Items, err
}

// AddFault returns the id of a new fault.
func (r Remote) AddFault(ctx context.Context, fault Fault) (int64, error) {
	var added Fault
	err := r.call(ctx, http.MethodPost, "/admin/faults", fault, &added)
	return added.ID, err
}

// Reset removes all faults and lets go what they hold.
func (r Remote) Reset(ctx context.Context) error {
	return r.call(ctx, http.MethodPost, "/admin/reset", nil, nil)
}

// Release lets go the requests that a fault holds, or all with 0.
func (r Remote) Release(ctx context.Context, fault int64) error {
	path := "/admin/release"
	if fault != 0 {
		path = "/admin/faults/" + strconv.FormatInt(fault, 10) + "/release"
	}
	return r.call(ctx, http.MethodPost, path, nil, nil)
}

// WaitHeld waits until at least that many requests are held at once, and returns them. It
// waits no longer than a minute, nor than the context.
func (r Remote) WaitHeld(ctx context.Context, count int) ([]Entry, error) {
	wait := maxWait
	if deadline, ok := ctx.Deadline(); ok {
		wait = min(wait, time.Until(deadline))
	}
	var held listing[Entry]
	err := r.call(ctx, http.MethodGet, fmt.Sprintf("/admin/held?count=%d&wait=%s", count, wait), nil, &held)
	return held.Items, err
}

// SetStatus changes a bid as its client would.
func (r Remote) SetStatus(ctx context.Context, externalID string, status marketplace.Status) error {
	return r.call(ctx, http.MethodPost, "/admin/bids/"+url.PathEscape(externalID)+"/status", map[string]any{"status": status}, nil)
}

// FreelancerRules returns what the Freelancer.com API does now.
func (r Remote) FreelancerRules(ctx context.Context) (rules FreelancerRules, err error) {
	err = r.call(ctx, http.MethodGet, "/admin/freelancer/rules", nil, &rules)
	return rules, err
}

// SetFreelancerRules changes what the API does with the requests that come from now on.
func (r Remote) SetFreelancerRules(ctx context.Context, rules FreelancerRules) error {
	return r.call(ctx, http.MethodPost, "/admin/freelancer/rules", rules, nil)
}

// Projects returns the projects that a search looks through.
func (r Remote) Projects(ctx context.Context) ([]Project, error) {
	var projects listing[Project]
	err := r.call(ctx, http.MethodGet, "/admin/freelancer/projects", nil, &projects)
	return projects.Items, err
}

// AddProject adds a project, or replaces the one with its id.
func (r Remote) AddProject(ctx context.Context, p Project) (added Project, err error) {
	err = r.call(ctx, http.MethodPost, "/admin/freelancer/projects", p, &added)
	return added, err
}

// SetProjectStatus closes a project, or opens it again.
func (r Remote) SetProjectStatus(ctx context.Context, id int64, status string) error {
	return r.call(ctx, http.MethodPost, fmt.Sprintf("/admin/freelancer/projects/%d/status", id), map[string]any{"status": status}, nil)
}

// PlaceByHand places a bid without the API, and returns its id.
func (r Remote) PlaceByHand(ctx context.Context, placed HandPlacedBid) (externalID string, err error) {
	var bid struct {
		ExternalID string `json:"external_bid_id"`
	}
	err = r.call(ctx, http.MethodPost, "/admin/freelancer/bids", placed, &bid)
	return bid.ExternalID, err
}

// AddFreelancerUser adds somebody who may call the API.
func (r Remote) AddFreelancerUser(ctx context.Context, u FreelancerUser) error {
	return r.call(ctx, http.MethodPost, "/admin/freelancer/users", u, nil)
}

// ExpireTokens ends the access tokens that the accounts host has given out.
func (r Remote) ExpireTokens(ctx context.Context) error {
	return r.call(ctx, http.MethodPost, "/admin/freelancer/tokens/expire", nil, nil)
}

func (r Remote) call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader = http.NoBody
	if in != nil {
		encoded, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("encode: %w", err)
		}
		body = bytes.NewReader(encoded)
	}
	request, err := http.NewRequestWithContext(ctx, method, r.BaseURL+path, body)
	if err != nil {
		return fmt.Errorf("build request: %w", err)
	}
	client := r.Client
	if client == nil {
		client = http.DefaultClient
	}
	response, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("call sandbox: %w", err)
	}
	defer func() { _ = response.Body.Close() }() // what was read is what counts
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return fmt.Errorf("read answer of sandbox: %w", err)
	}
	if response.StatusCode >= http.StatusMultipleChoices {
		return fmt.Errorf("%s %s: the sandbox answered %d: %s", method, path, response.StatusCode, answer)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("decode answer of sandbox: %w", err)
	}
	return nil
}
