package sandbox

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
)

// FreelancerRules returns what the Freelancer.com API does now.
func (s *Server) FreelancerRules() FreelancerRules {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.freelancer.rules
}

// SetFreelancerRules changes what the API does with the requests that come from now on.
func (s *Server) SetFreelancerRules(rules FreelancerRules) error {
	rules, err := rules.complete()
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.freelancer.rules = rules
	return nil
}

// Projects returns the projects that a search looks through, whatever their status.
func (s *Server) Projects() []Project {
	s.mu.Lock()
	defer s.mu.Unlock()
	projects := make([]Project, len(s.freelancer.listed))
	for i, project := range s.freelancer.listed {
		projects[i] = *project
	}
	return projects
}

// AddProject adds a project, or replaces the one with its id, and returns it with all that was
// filled in.
func (s *Server) AddProject(p Project) (Project, error) {
	if why := p.objection(); why != "" {
		return p, fmt.Errorf("%w: %s", ErrProject, why)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return *s.freelancer.addProject(p), nil
}

// SetProjectStatus closes a project, or opens it again.
func (s *Server) SetProjectStatus(id int64, status string) error {
	if !slices.Contains(projectStatuses(), status) {
		return fmt.Errorf("%w: %q", ErrStatus, status)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	project := s.freelancer.project(id)
	if project == nil {
		return fmt.Errorf("project %d: %w", id, ErrNotFound)
	}
	project.Status = status
	return nil
}

// ErrDuplicate says that there is a live bid of this bidder on this project.
var ErrDuplicate = errors.New("the bidder has a bid on this project")

// PlaceByHand places a bid without the API, and returns its id. It is in no journal.
func (s *Server) PlaceByHand(placed HandPlacedBid) (externalID string, err error) {
	if placed.Amount <= 0 || placed.Period < 1 {
		return "", errors.New("a bid needs an amount and a period")
	}
	placed.BidderID = cmp.Or(placed.BidderID, FreelancerUserID)
	placed.Milestone = cmp.Or(placed.Milestone, 50)
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.freelancer
	project := f.project(placed.ProjectID)
	if project == nil {
		return "", fmt.Errorf("project %d: %w", placed.ProjectID, ErrNotFound)
	}
	if bid := f.live(placed.ProjectID, placed.BidderID); bid != nil && !f.rules.Duplicates {
		return "", fmt.Errorf("project %d: %w", placed.ProjectID, ErrDuplicate)
	}
	bid := f.store(project, placed, f.rules)
	bid.ByHand = true
	return bid.ExternalID, nil
}

// AddFreelancerUser adds somebody who may call the API.
func (s *Server) AddFreelancerUser(u FreelancerUser) error {
	if u.ID <= 0 || u.Token == "" {
		return errors.New("a user needs an id and a token")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.freelancer.addUser(u)
	return nil
}

// ExpireTokens ends the access tokens that the accounts host has given out. Refresh tokens live on.
func (s *Server) ExpireTokens() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for token, access := range s.freelancer.access {
		if !access.expires.IsZero() {
			delete(s.freelancer.access, token)
		}
	}
}

func (f *freelancer) routeAdmin(mux *http.ServeMux) {
	const at = "/admin/freelancer/"
	s := f.server
	mux.HandleFunc("GET "+at+"rules", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, s.FreelancerRules())
	})
	mux.HandleFunc("POST "+at+"rules", func(w http.ResponseWriter, r *http.Request) {
		rules := s.FreelancerRules() // what is not mentioned stays
		if readJSON(w, r, &rules) {
			done(w, s.SetFreelancerRules(rules))
		}
	})
	mux.HandleFunc("GET "+at+"projects", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, listing[Project]{s.Projects()})
	})
	mux.HandleFunc("POST "+at+"projects", func(w http.ResponseWriter, r *http.Request) {
		var project Project
		if readJSON(w, r, &project) {
			project, err := s.AddProject(project)
			created(w, project, err)
		}
	})
	mux.HandleFunc("POST "+at+"projects/{id}/status", func(w http.ResponseWriter, r *http.Request) {
		var asked struct {
			Status string `json:"status"`
		}
		if readJSON(w, r, &asked) {
			done(w, s.SetProjectStatus(number(r.PathValue("id")), asked.Status))
		}
	})
	mux.HandleFunc("POST "+at+"bids", func(w http.ResponseWriter, r *http.Request) {
		var bid HandPlacedBid
		if readJSON(w, r, &bid) {
			id, err := s.PlaceByHand(bid)
			created(w, map[string]string{"external_bid_id": id}, err)
		}
	})
	mux.HandleFunc("POST "+at+"users", func(w http.ResponseWriter, r *http.Request) {
		var user FreelancerUser
		if readJSON(w, r, &user) {
			done(w, s.AddFreelancerUser(user))
		}
	})
	mux.HandleFunc("POST "+at+"tokens/expire", func(w http.ResponseWriter, _ *http.Request) {
		s.ExpireTokens()
		w.WriteHeader(http.StatusNoContent)
	})
}

// created answers with something new, or says why there is none.
func created(w http.ResponseWriter, value any, err error) {
	if err != nil {
		done(w, err)
		return
	}
	writeJSON(w, http.StatusCreated, value)
}
