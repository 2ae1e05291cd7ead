package marketplace

import "errors"

var (
	// ErrAuthNeeded means that the account is not signed in, and that a person has to.
	ErrAuthNeeded = errors.New("the account is not signed in")
	// ErrNoAnswer means that a request left and was not answered in a way that says what came of it.
	ErrNoAnswer = errors.New("nobody knows what came of the request")
)
