package testdb

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/goleak"

	"github.com/arbitrageai/bidder/test/testdb/internal/pgbouncer"
	"github.com/arbitrageai/bidder/test/testdb/internal/server"
)

// startTime bounds getting a server, including building its image.
const startTime = 10 * time.Minute

// shared is the server of this test process. Package testing offers no other place for what all tests share.
var shared lazy

// lazy starts the server when the first test asks for it: packages and -run filters without such a test need none.
type lazy struct {
	mu       sync.Mutex
	running  bool // inside Run: somebody will stop what is started
	instance *instance
	err      error
}

// Main is the whole body of a TestMain: it runs the tests, stops the server, and exits. Tests that pass but leave
// goroutines behind fail, unless the options say which to ignore.
func Main(m *testing.M, ignore ...goleak.Option) {
	os.Exit(Run(m, ignore...))
}

// Run is [Main] for a TestMain that has something to do afterwards: it returns the exit code. It should be the first
// thing in TestMain, since it is also what makes the same program run as the one that cleans up after a crash.
func Run(m *testing.M, ignore ...goleak.Option) int {
	if asked, err := server.PurgeIfAsked(); asked {
		return report(0, err)
	}
	shared.start()
	code := m.Run()
	code = report(code, shared.stop())
	if code == 0 {
		code = report(code, goleak.Find(ignore...))
	}

	return code
}

func report(code int, err error) int {
	if err == nil {
		return code
	}
	fmt.Fprintf(os.Stderr, "testdb: %v\n", err)

	return max(code, 1)
}

func (l *lazy) start() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.running = true
}

func (l *lazy) stop() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.running = false
	if l.instance == nil {
		return nil
	}

	return l.instance.stop()
}

func (l *lazy) get() (*instance, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.running {
		return nil, errors.New("the package needs func TestMain(m *testing.M) { testdb.Main(m) }")
	}
	if l.instance == nil && l.err == nil {
		l.instance, l.err = startInstance()
	}

	return l.instance, l.err
}

// instance is a server with what the tests of a process share on it.
type instance struct {
	server *server.Server
	admin  *pgxpool.Pool // on the database postgres

	mu           sync.Mutex
	templateName string             // once it was made
	bouncer      *pgbouncer.Bouncer // once a test has asked for it
}

func startInstance() (*instance, error) {
	// Not a test's context: the server outlives the test that happens to be first.
	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	defer cancel()

	server, err := server.Start(ctx)
	if err != nil {
		return nil, err
	}
	fmt.Fprintln(os.Stderr, "testdb:", server.About)

	admin, err := pgxpool.New(ctx, server.URL)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open pool: %w", err), server.Stop())
	}

	return &instance{server: server, admin: admin}, nil
}

func (i *instance) stop() error {
	var err error
	if i.bouncer != nil {
		err = i.bouncer.Stop()
	}
	i.admin.Close()

	return errors.Join(err, i.server.Stop())
}

// pgBouncer starts PgBouncer in front of the server when the first test asks for it.
func (i *instance) pgBouncer(ctx context.Context) (*pgbouncer.Bouncer, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.bouncer == nil {
		bouncer, err := pgbouncer.Start(ctx, i.server.URL)
		if err != nil {
			return nil, err
		}
		i.bouncer = bouncer
	}

	return i.bouncer, nil
}
