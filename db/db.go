// Package db talks to Postgres: the pool, the transaction helper, what errors mean,
// and the schema's migrations. Runtime SQL lives in db/queries and nowhere else.
package db

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/arbitrageai/bidder/db/queries"
)

// connectTimeout bounds one attempt to connect where the URL does not say.
const connectTimeout = 5 * time.Second

// Options say how a process uses the database.
type Options struct {
	// URL is a Postgres URL or libpq keywords.
	URL string
	// MaxConns is the most connections the process holds at once.
	MaxConns int32
	// Application is shown in pg_stat_activity, unless the URL names one.
	Application string
}

// Open returns a pool on a server that may coordinate: reachable, writable, and with the
// schema that this program was built for. It fails with [ErrReplica],
// [ErrNotMigrated], [ErrDirty] or [ErrNewerSchema] where the server is not that.
func Open(ctx context.Context, options Options) (*pgxpool.Pool, error) {
	pool, err := Connect(ctx, options)
	if err != nil {
		return nil, err
	}
	if err := CheckSchema(ctx, pool); err != nil {
		pool.Close()
		return nil, err
	}
	return pool, nil
}

// Connect returns a pool without looking at what the server is.
func Connect(ctx context.Context, options Options) (*pgxpool.Pool, error) {
	config, err := parseAddress(options.URL)
	if err != nil {
		return nil, err
	}
	if options.MaxConns > 0 {
		config.MaxConns = options.MaxConns
	}
	connect := config.ConnConfig
	if _, named := connect.RuntimeParams["application_name"]; !named && options.Application != "" {
		connect.RuntimeParams["application_name"] = options.Application
	}
	config.AfterConnect = registerTypes
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("open pool: %w", err)
	}
	return pool, nil
}

// ErrAddress means that a database address cannot be read. It does not quote the address,
// since what is wrong with it is often part of a password.
var ErrAddress = errors.New("the database address cannot be read: write a URL like postgres://user:password@host:5432/database, " +
	"with special characters percent-encoded, or libpq keywords like host=… password='…', with blanks quoted, " +
	"and look for settings with values that do not exist, as of sslmode")

// parseAddress reads a URL or libpq keywords.
func parseAddress(url string) (*pgxpool.Config, error) {
	config, err := pgxpool.ParseConfig(url)
	if file, ok := errors.AsType[*fs.PathError](err); ok { // of a certificate
		return nil, fmt.Errorf("%w: %w", ErrAddress, file)
	}
	if err != nil {
		return nil, ErrAddress
	}
	connect := config.ConnConfig
	if connect.ConnectTimeout == 0 {
		connect.ConnectTimeout = connectTimeout
	}
	// With one host, too, there are fallbacks: from TLS to none.
	severalHosts := slices.ContainsFunc(connect.Fallbacks, func(other *pgconn.FallbackConfig) bool {
		return other.Host != connect.Host || other.Port != connect.Port
	})
	if severalHosts && connect.ValidateConnect == nil {
		// Of several hosts only the primary will do: a standby grants advisory locks of its own.
		connect.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	return config, nil
}

// registerTypes makes uuids usable in every query mode and times come back in UTC.
func registerTypes(_ context.Context, conn *pgx.Conn) error {
	types := conn.TypeMap()
	id := &pgtype.Type{Name: "uuid", OID: pgtype.UUIDOID, Codec: uuidCodec{}}
	types.RegisterType(id)
	types.RegisterType(&pgtype.Type{Name: "_uuid", OID: pgtype.UUIDArrayOID, Codec: &pgtype.ArrayCodec{ElementType: id}})
	types.TryWrapEncodePlanFuncs = append([]pgtype.TryWrapEncodePlanFunc{wrapUUIDs}, types.TryWrapEncodePlanFuncs...)
	types.RegisterDefaultPgType(uuid.UUID{}, "uuid")
	types.RegisterDefaultPgType([]uuid.UUID{}, "_uuid")
	timestamptz := &pgtype.Type{Name: "timestamptz", OID: pgtype.TimestamptzOID, Codec: &pgtype.TimestamptzCodec{ScanLocation: time.UTC}}
	types.RegisterType(timestamptz)
	types.RegisterType(&pgtype.Type{
		Name: "_timestamptz", OID: pgtype.TimestamptzArrayOID, Codec: &pgtype.ArrayCodec{ElementType: timestamptz},
	})
	return nil
}

// Schema states that a server can be in; all mean that nothing was touched.
var (
	// ErrReplica means that the server is a standby or read-only. Advisory locks are not
	// replicated, so a standby coordinates nothing.
	ErrReplica = errors.New("the database is a replica or read-only: connect to the primary (target_session_attrs=read-write)")
	// ErrNotMigrated means that the schema is missing or older than the program.
	ErrNotMigrated = errors.New("the database is not migrated: run `bidder migrate up`")
	// ErrDirty means that a migration is under way, or was cut off before it was answered.
	ErrDirty = errors.New("a migration is running or was cut off: run `bidder migrate version`, it says what to do")
	// ErrNewerSchema means that a newer program has migrated the schema.
	ErrNewerSchema = errors.New("the database is newer than this program: upgrade bidder")
)

// CheckSchema says whether the server can be worked with; see [Open] for the errors.
func CheckSchema(ctx context.Context, pool queries.DBTX) error {
	state, err := ReadSchemaState(ctx, pool)
	if err != nil {
		return err
	}
	switch {
	case state.Replica:
		return ErrReplica
	case state.Dirty:
		return fmt.Errorf("%w (version %d)", ErrDirty, state.Version)
	case state.Version < state.Latest:
		return fmt.Errorf("%w (it is at version %d, this program needs %d)", ErrNotMigrated, state.Version, state.Latest)
	case state.Version > state.Latest:
		return newerSchema(state.Version, state.Latest)
	}
	return nil
}

func newerSchema(version, latest uint) error {
	return fmt.Errorf("%w (it is at version %d, this program knows %d)", ErrNewerSchema, version, latest)
}

// SchemaState is what a server says about itself and its schema.
type SchemaState struct {
	Version uint // 0: never migrated
	Latest  uint // what this program was built for
	Dirty   bool // a migration to Version is under way, or was cut off
	Replica bool // a standby, or read-only
	Schema  string
}

// ReadSchemaState reads the state of the schema and changes nothing.
func ReadSchemaState(ctx context.Context, conn queries.DBTX) (SchemaState, error) {
	q := queries.New(Once(conn))
	server, err := q.ServerState(ctx)
	if err != nil {
		return SchemaState{}, fmt.Errorf("read the server's state: %w", err)
	}
	state := SchemaState{Latest: LatestVersion(), Replica: server.InRecovery || server.ReadOnly, Schema: server.Schema}
	if !server.Migrated {
		return state, nil
	}
	row, err := q.SchemaVersion(ctx)
	if errors.Is(err, pgx.ErrNoRows) {
		return state, nil
	}
	if err != nil {
		return SchemaState{}, fmt.Errorf("read the schema's version: %w", err)
	}
	state.Version, state.Dirty = uint(max(row.Version, 0)), row.Dirty
	return state, nil
}

// Once is conn for statements that a process runs once, or seldom: they are not prepared before they
// run, which is a round trip less.
func Once(conn queries.DBTX) queries.DBTX { return once{conn} }

type once struct{ conn queries.DBTX }

func unprepared(args []any) []any { return append([]any{pgx.QueryExecModeExec}, args...) }

func (o once) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	return o.conn.Exec(ctx, sql, unprepared(args)...)
}

func (o once) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	return o.conn.Query(ctx, sql, unprepared(args)...)
}

func (o once) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	return o.conn.QueryRow(ctx, sql, unprepared(args)...)
}
