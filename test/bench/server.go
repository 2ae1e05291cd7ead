package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/arbitrageai/bidder/db"
	"github.com/arbitrageai/bidder/pkg/localpg"
)

// bench is a server with default durability, on a disk, and what is measured on it.
type bench struct {
	sizes sizes

	server    *localpg.Server
	admin     *pgxpool.Pool
	redis     *redisServer   // nil where none is installed
	valgrind  *countedServer // nil where that is not installed
	dir       string
	program   string      // bidder
	made      int         // databases
	histories []*database // with a past, for two rows
}

// settings beside the defaults. Durability stays as it is: localpg turns it off for tests.
func settings() []string {
	return []string{
		"fsync=on", "synchronous_commit=on", "full_page_writes=on",
		"shared_buffers=1GB", "max_wal_size=4GB", "max_connections=300", "jit=off",
		"shared_preload_libraries=pg_stat_statements", "pg_stat_statements.track=none",
	}
}

const template = "bench_template"

func start(ctx context.Context, size sizes) (_ *bench, err error) {
	b := &bench{sizes: size}
	defer func() {
		if err != nil {
			b.stop()
		}
	}()
	if b.dir, err = os.MkdirTemp("", "bidder-bench-"); err != nil {
		return nil, err
	}
	if err = onDisk(b.dir); err != nil {
		return nil, err
	}
	b.program = filepath.Join(b.dir, "bidder")
	project, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/arbitrageai/bidder").Output()
	if err != nil {
		return nil, fmt.Errorf("look for the project: %w", err)
	}
	// With the project's own dependencies, and as a release is built.
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", b.program, "./cmd/bidder")
	build.Dir, build.Env = strings.TrimSpace(string(project)), append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build bidder: %w: %s", err, output)
	}
	if b.server, err = localpg.StartTemporary(ctx, settings()...); err != nil {
		return nil, err
	}
	if err = b.connect(ctx); err != nil {
		return nil, err
	}
	b.redis, err = startRedis(ctx, b.dir)
	return b, err
}

// connect makes the database on the server that all others are copies of.
func (b *bench) connect(ctx context.Context) (err error) {
	if b.admin, err = pgxpool.New(ctx, b.server.DSN("postgres")); err != nil {
		return err
	}
	if err = b.exec(ctx, "CREATE DATABASE "+template); err != nil {
		return err
	}
	return db.MigrateUp(ctx, b.server.DSN(template))
}

// onDisk refuses file systems in memory, where a COMMIT costs nothing.
func onDisk(dir string) error {
	const tmpfs = 0x01021994
	var stat syscall.Statfs_t
	if err := syscall.Statfs(dir, &stat); err != nil {
		return fmt.Errorf("look at %s: %w", dir, err)
	}
	if stat.Type == tmpfs {
		return fmt.Errorf("%s is in memory, where a COMMIT costs nothing: set TMPDIR to a directory on a disk", dir)
	}
	return nil
}

func (b *bench) stop() {
	if b.admin != nil {
		b.admin.Close()
	}
	if b.redis != nil {
		b.redis.stop()
	}
	var err error
	if b.server != nil {
		err = b.server.Stop()
	}
	if err = errors.Join(err, os.RemoveAll(b.dir)); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
	}
}

func (b *bench) exec(ctx context.Context, statements ...string) error {
	for _, sql := range statements {
		if _, err := b.admin.Exec(ctx, sql); err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
	}
	return nil
}

// database is the database of one run.
type database struct {
	b    *bench
	name string
	url  string
	pool *pgxpool.Pool // for bidder, or whatever is measured
	sql  *pgx.Conn     // to arrange and to look
}

// database makes a database with the schema and a warm pool of so many connections.
func (b *bench) database(ctx context.Context, conns int) (*database, error) {
	b.made++
	name := fmt.Sprintf("bench_%d", b.made)
	if err := b.exec(ctx, "CREATE DATABASE "+name+" TEMPLATE "+template); err != nil {
		return nil, err
	}
	d := &database{b: b, name: name, url: b.server.DSN(name)}
	var err error
	if d.sql, err = pgx.Connect(ctx, d.url); err != nil {
		return nil, err
	}
	if d.pool, err = warmPool(ctx, d.url, conns); err != nil {
		return nil, err
	}
	return d, nil
}

// warmPool returns a pool, opened as the program opens it, whose connections are there.
func warmPool(ctx context.Context, url string, conns int) (*pgxpool.Pool, error) {
	pool, err := db.Open(ctx, db.Options{URL: url, MaxConns: int32(conns)})
	if err != nil {
		return nil, err
	}
	held := make([]*pgxpool.Conn, conns)
	for i := range held {
		if held[i], err = pool.Acquire(ctx); err != nil {
			return nil, err
		}
	}
	for _, conn := range held {
		conn.Release()
	}
	return pool, nil
}

// drop ends the database.
func (d *database) drop(ctx context.Context) {
	d.pool.Close()
	_ = d.sql.Close(ctx)
	if err := d.b.exec(context.WithoutCancel(ctx), "DROP DATABASE "+d.name+" WITH (FORCE)"); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
	}
}

func (d *database) exec(ctx context.Context, sql string, args ...any) error {
	if _, err := d.sql.Exec(ctx, sql, args...); err != nil {
		return fmt.Errorf("%s: %w", sql, err)
	}
	return nil
}

// count answers a query of one number.
func (d *database) count(ctx context.Context, sql string, args ...any) (n int64, err error) {
	if err := d.sql.QueryRow(ctx, sql, args...).Scan(&n); err != nil {
		return 0, fmt.Errorf("%s: %w", sql, err)
	}
	return n, nil
}

// expect is an exactness check: the query must answer n.
func (d *database) expect(ctx context.Context, n int, what, sql string) error {
	got, err := d.count(ctx, sql)
	if err == nil && got != int64(n) {
		err = fmt.Errorf("NOT EXACT: %s: %d, want %d", what, got, n)
	}
	return err
}

// claimed checks that exactly n postings have a live bid each, and that nothing is queued.
func (d *database) claimed(ctx context.Context, n int) error {
	return errors.Join(
		d.expect(ctx, n, "live bids", "SELECT count(*) FROM bids WHERE status = 'ACTIVE'"),
		d.expect(ctx, n, "postings with a live bid", "SELECT count(DISTINCT (marketplace, job_id)) FROM bids WHERE status = 'ACTIVE'"),
		d.expect(ctx, 0, "candidates left", "SELECT count(*) FROM candidates"),
		d.expect(ctx, 0, "deadlocks", "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"))
}

// seed puts postings number from to from+n-1 in the cache and, as ingest does, in the queue.
func (d *database) seed(ctx context.Context, from, n int, queued bool) error {
	err := d.unqueued(ctx, func() error {
		return d.exec(ctx, `INSERT INTO postings (marketplace, job_id, cached_at, title, description, url, budget_max_cents, skills)
			SELECT 'market' || i % 5, 'job-' || lpad(i::text, 9, '0'), clock_timestamp(), 'Go service with Postgres queue number ' || i,
				repeat(md5(i::text), 15), 'https://example.com/jobs/' || i, 50000, ARRAY['Go', 'PostgreSQL']
			FROM generate_series($1::integer, $1::integer + $2::integer - 1) AS i`, from, n)
	})
	if err == nil && queued {
		err = d.exec(ctx, `INSERT INTO candidates (marketplace, job_id, cached_at, posting)
			SELECT p.marketplace, p.job_id, p.cached_at, p.ctid
			FROM generate_series($1::integer, $1::integer + $2::integer - 1) AS i
			JOIN postings AS p ON p.marketplace = 'market' || i % 5 AND p.job_id = 'job-' || lpad(i::text, 9, '0')`, from, n)
	}
	return err
}

// unqueued has postings written that the database does not queue by itself, as bidder does.
func (d *database) unqueued(ctx context.Context, write func() error) error {
	if err := d.exec(ctx, "SET bidder.queues = 'on'"); err != nil {
		return err
	}
	return errors.Join(write(), d.exec(ctx, "RESET bidder.queues"))
}

// settle leaves the server as it is some time after a load: with statistics, and with
// nothing left to write.
func (d *database) settle(ctx context.Context) error {
	return errors.Join(d.exec(ctx, "VACUUM ANALYZE postings"), d.exec(ctx, "VACUUM ANALYZE candidates"),
		d.exec(ctx, "VACUUM ANALYZE bids"), d.exec(ctx, "CHECKPOINT"))
}

// machine describes what was measured on.
func (b *bench) machine(ctx context.Context) []string {
	var version string
	_ = b.admin.QueryRow(ctx, "SELECT version()").Scan(&version)
	said := func(name string, args ...string) string {
		output, _ := exec.CommandContext(ctx, name, args...).Output()
		return strings.TrimSpace(string(output))
	}
	disk := strings.Fields(said("df", "--output=source,fstype", b.dir))
	lines := []string{
		version,
		"settings beside the defaults: " + strings.Join(settings(), ", "),
		said("sh", "-c", "grep -m1 'model name' /proc/cpuinfo | cut -d: -f2") + ", " + said("nproc") + " CPUs, " +
			said("sh", "-c", "awk '/MemTotal/ {printf \"%.0f GiB\", $2/1048576}' /proc/meminfo") + ", " + said("uname", "-sr"),
		"disk: " + strings.Join(disk[max(len(disk)-2, 0):], " ") + "; pg_test_fsync fdatasync: " + b.fsync(ctx),
		said("go", "version"),
		"client and server share the machine, over a Unix socket",
	}
	if b.redis != nil {
		lines = append(lines, b.redis.version)
	}
	return lines
}

// fsync is how fast the disk confirms a write.
func (b *bench) fsync(ctx context.Context) string {
	bin, err := localpg.FindBinaries()
	if err != nil {
		return "unknown"
	}
	file := filepath.Join(b.dir, "fsync")
	output, _ := exec.CommandContext(ctx, filepath.Join(bin, "pg_test_fsync"), "-s", "1", "-f", file).Output()
	for line := range strings.Lines(string(output)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "fdatasync" {
			return strings.Join(fields[1:], " ")
		}
	}
	return "unknown"
}
