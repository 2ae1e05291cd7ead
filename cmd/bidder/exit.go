package main

import (
	"errors"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/pkg/config"
)

// The exit codes; scripts and schedulers rely on them.
const (
	codeDone     = 0
	codeInternal = 1
	codeUsage    = 2
	codePerson   = 3
	codeDatabase = 4
	codeSignal   = 128 // + the number of the signal
)

// usageError is wrong usage: nothing was touched.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

// personError means that the command has done its work and left something for a person.
// Its text may be empty where the report says it all.
type personError struct{ text string }

func (e personError) Error() string { return e.text }

// exitCode is the code for err; of several the first of: signal, usage, database,
// internal, person.
func exitCode(err error) int {
	if err == nil {
		return codeDone
	}
	if i, ok := errors.AsType[interruption](err); ok {
		return codeSignal + int(i.signal)
	}
	if _, ok := errors.AsType[usageError](err); ok {
		return codeUsage
	}
	if _, ok := errors.AsType[*config.Error](err); ok {
		return codeUsage
	}
	if _, ok := errors.AsType[databaseError](err); ok || db.IsUnavailable(err) {
		return codeDatabase
	}
	if everyPerson(err) {
		return codePerson
	}
	return codeInternal
}

// everyPerson says whether nothing but personErrors is joined in err.
func everyPerson(err error) bool {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, part := range joined.Unwrap() {
			if !everyPerson(part) {
				return false
			}
		}
		return true
	}
	_, ok := errors.AsType[personError](err)
	return ok
}

// databaseError marks an error as the database's.
type databaseError struct{ error }

func (e databaseError) Unwrap() error { return e.error }
