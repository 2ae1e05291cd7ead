package server

import (
	"context"
	"fmt"

	"github.com/arbitrageai/bidder/pkg/localpg"
)

// startLocal runs a server from the PostgreSQL programs of this machine.
func startLocal(ctx context.Context) (*Server, error) {
	server, err := localpg.StartTemporary(ctx, settings()...)
	if err != nil {
		return nil, fmt.Errorf("local PostgreSQL: %w", err)
	}

	return &Server{
		URL:   server.TCP("postgres"),
		About: "local programs at " + server.Address(),
		stop:  server.Stop,
	}, nil
}
