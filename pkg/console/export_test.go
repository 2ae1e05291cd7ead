package console

import "time"

// SetClock has the sessions of a server go by another clock.
func (s *Server) SetClock(now func() time.Time) { s.sessions.now = now }

// What tests look into.
var (
	Pieces   = pieces
	External = external
	OwnPath  = ownPath
	FirstID  = firstID
	Grouped  = grouped
)
