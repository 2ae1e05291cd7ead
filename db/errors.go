package db

import (
	"context"
	"errors"
	"io"
	"net"

	"github.com/jackc/pgx/v5/pgconn"
)

// SQLSTATEs that the program tells apart (Appendix A of the PostgreSQL manual).
const (
	CodeProtocolViolation  = "08P01" // also: a pooler refuses a setting of the connection
	CodeUniqueViolation    = "23505"
	CodeCheckViolation     = "23514"
	CodeIdleInTransaction  = "25P03"
	CodeTransactionTimeout = "25P04"
	CodeReadOnly           = "25006"
	CodeNoPrepared         = "26000"
	CodeSerialization      = "40001"
	CodeDeadlock           = "40P01"
	CodeUndefinedTable     = "42P01"
	CodeUndefinedObject    = "42704"
	CodeNoPrivilege        = "42501"
	CodeDuplicateSchema    = "42P06"
	CodeDuplicatePrepared  = "42P05"
	CodeDiskFull           = "53100"
	CodeOutOfMemory        = "53200" // also: the shared lock table is full
	CodeTooManyConnections = "53300"
	CodeLockNotAvailable   = "55P03"
	CodeQueryCanceled      = "57014" // statement_timeout
)

// Code is the SQLSTATE of err, or "" where no server said anything.
func Code(err error) string {
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pgErr.Code
	}
	return ""
}

// Constraint is the name of the constraint that err reports, or "".
func Constraint(err error) string {
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pgErr.ConstraintName
	}
	return ""
}

// IsLost says whether err means that the connection is gone, or never came about, so that
// nothing that was under way on it will be answered. What the caller itself ended is not lost.
func IsLost(err error) bool {
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch pgErr.SeverityUnlocalized {
		case "FATAL", "PANIC":
			return true
		}
		switch pgErr.Code {
		case CodeIdleInTransaction, CodeTransactionTimeout:
			return true
		case CodeQueryCanceled:
			return false
		}
		switch class(pgErr.Code) {
		case "08", "57": // connection exceptions, operator intervention
			return true
		}
		return false
	}
	if errors.Is(err, context.Canceled) {
		return false
	}
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return true
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	// Not net.Error, which every error of a file is, too.
	if _, ok := errors.AsType[*net.OpError](err); ok {
		return true
	}
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) || pgconn.SafeToRetry(err)
}

// class is the part of a SQLSTATE that says what kind of error it is.
func class(code string) string { return code[:min(len(code), 2)] }

// IsUnavailable says whether err is an outage or a state of the database, not a fault of
// the program or its input: unreachable, shutting down, out of resources, a replica, not
// migrated, or too slow for its limits. Running again later is safe and may help.
func IsUnavailable(err error) bool {
	for _, state := range []error{
		ErrNotMigrated, ErrDirty, ErrNewerSchema, ErrMigrationBusy, ErrCommitUnknown, context.DeadlineExceeded,
	} {
		if errors.Is(err, state) {
			return true
		}
	}
	if IsLost(err) || IsRefusal(err) {
		return true
	}
	code := Code(err)
	switch code {
	case CodeLockNotAvailable, CodeSerialization, CodeDeadlock, CodeQueryCanceled:
		return true
	}
	switch class(code) {
	case "28", "3D", "53", "58", "XX": // sign-in, no such database, resources, system, corruption
		return true
	}
	return false
}

// IsRefusal says whether err is that of a server which is there and would refuse any such statement: a
// replica, without the tables or the rights to them, without room on its disk or for another session. A full
// lock table is no refusal, as smaller transactions go on, nor is a block that cannot be read, which is one
// row's.
func IsRefusal(err error) bool {
	switch Code(err) {
	case CodeReadOnly, CodeUndefinedTable, CodeNoPrivilege, CodeDiskFull, CodeTooManyConnections:
		return true
	}
	return errors.Is(err, ErrReplica)
}
