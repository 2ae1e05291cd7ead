package server

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/ory/dockertest/v3"
	"github.com/ory/dockertest/v3/docker"
	"github.com/sethvargo/go-retry"
	"go.uber.org/goleak"
)

// envVictim makes this program start a server, say so, and die in the way that it names.
const envVictim = "BIDDER_TEST_VICTIM"

const (
	envDocker = "DOCKER_HOST"
	noDocker  = "tcp://127.0.0.1:1" // where nothing listens
)

func TestMain(m *testing.M) {
	if asked, err := PurgeIfAsked(); asked {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}

		return
	}
	if way := os.Getenv(envVictim); way != "" {
		dieBy(way)
	}
	goleak.VerifyTestMain(m)
}

func dieBy(way string) {
	server, err := Start(context.Background())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if _, err := fmt.Fprintln(os.Stdout, server.URL); err != nil {
		panic(err)
	}
	switch way {
	case "exit":
		os.Exit(0)
	case "panic":
		panic("as a test would")
	default:
		select {} // until it is killed
	}
}

// clearEnvironment makes the tests of this package start servers of their own, whatever server the test run has.
func clearEnvironment(t *testing.T) {
	t.Helper()
	t.Setenv(EnvURL, "")
	t.Setenv(EnvWay, "")
}

func reachable(t *testing.T, url string) bool {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		return false
	}
	if err := conn.Close(t.Context()); err != nil {
		t.Error(err)
	}

	return true
}

func eventually(t *testing.T, what string, check func() bool) {
	t.Helper()
	backoff := retry.WithMaxDuration(20*time.Second, retry.NewConstant(readyPoll))
	err := retry.Do(t.Context(), backoff, func(context.Context) error {
		if !check() {
			return retry.RetryableError(errors.New("not within the time"))
		}

		return nil
	})
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

func dockerPool(t *testing.T) *dockertest.Pool {
	t.Helper()
	pool, err := connectDocker()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Client.HTTPClient.CloseIdleConnections)

	return pool
}

func TestStart(t *testing.T) {
	tests := []struct {
		name  string
		env   map[string]string
		about string // part of what the server says of itself
	}{
		{name: "Docker is the default", about: "Docker image "},
		{name: "local forced", env: map[string]string{EnvWay: WayLocal}, about: "local programs at 127.0.0.1:"},
		{
			name:  "local without Docker",
			env:   map[string]string{envDocker: noDocker},
			about: "(not Docker: reach Docker: ",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			clearEnvironment(t)
			for name, value := range tt.env {
				t.Setenv(name, value)
			}
			server, err := Start(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(server.About, tt.about) || !strings.Contains(server.About, "PostgreSQL 1") {
				t.Errorf("got %q, want %q and a version in it", server.About, tt.about)
			}
			if !reachable(t, server.URL) {
				t.Errorf("cannot connect to %s", server.URL)
			}
			borrow(t, server.URL)
			if err := server.Stop(); err != nil {
				t.Error(err)
			}
			if reachable(t, server.URL) {
				t.Error("it did not stop")
			}
		})
	}
}

// borrow starts on the URL of a server that runs, and stops: that must not end the server.
func borrow(t *testing.T, url string) {
	t.Helper()
	clearEnvironment(t)
	t.Setenv(EnvURL, url)
	server, err := Start(t.Context())
	if err != nil {
		t.Error(err)

		return
	}
	if err := server.Stop(); err != nil {
		t.Error(err)
	}
	if !server.Borrowed || !reachable(t, url) {
		t.Errorf("borrowed: %v, reachable: %v", server.Borrowed, reachable(t, url))
	}
	config, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	if config.Password == "" || strings.Contains(server.About, config.Password) {
		t.Errorf("the password is in %q", server.About)
	}
}

func TestStartFails(t *testing.T) {
	tests := []struct {
		name string
		env  map[string]string
		want string
	}{
		{name: "unknown way", env: map[string]string{EnvWay: "podman"}, want: "want dsn, docker or local"},
		{name: "dsn without one", env: map[string]string{EnvWay: "dsn"}, want: "want a URL"},
		{name: "keywords", env: map[string]string{EnvURL: "host=/tmp user=me"}, want: "want a URL"},
		{name: "no such image", env: map[string]string{EnvWay: WayDocker, EnvImage: "localhost:1/bidder-none"}, want: "get image localhost:1/bidder-none"},
		{
			name: "Docker forced without it",
			env:  map[string]string{EnvWay: WayDocker, envDocker: noDocker},
			want: "reach Docker",
		},
		{
			name: "nothing at all",
			env:  map[string]string{envDocker: noDocker, "PGBIN": t.TempDir()},
			want: "start Docker, install PostgreSQL, or set " + EnvURL,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			clearEnvironment(t)
			for name, value := range tt.env {
				t.Setenv(name, value)
			}
			server, err := Start(t.Context())
			if err == nil {
				t.Fatalf("got %q, %v", server.About, server.Stop())
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %q, want %q in it", err, tt.want)
			}
		})
	}
}

// TestDeath shows that a container goes with the process that started it, however that ends.
func TestDeath(t *testing.T) {
	for _, way := range []string{"exit", "panic", "kill"} {
		t.Run(way, func(t *testing.T) {
			clearEnvironment(t)
			t.Setenv(EnvWay, WayDocker)
			t.Setenv(envVictim, way)
			victim := exec.CommandContext(t.Context(), os.Args[0])
			out, err := victim.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := victim.Start(); err != nil {
				t.Fatal(err)
			}
			url, err := bufio.NewReader(out).ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			if way == "kill" {
				if !reachable(t, strings.TrimSpace(url)) {
					t.Error("it did not start")
				}
				if err := victim.Process.Kill(); err != nil {
					t.Error(err)
				}
			}
			_ = victim.Wait() // it fails in two of the ways
			eventually(t, "the container ends", func() bool { return !reachable(t, strings.TrimSpace(url)) })
		})
	}
}

// TestContainerEnds shows that a server that cannot start says why, and at once.
func TestContainerEnds(t *testing.T) {
	t.Parallel()
	pool := dockerPool(t)
	image, err := ensureImage(t.Context(), pool, defaultImage)
	if err != nil {
		t.Fatal(err)
	}
	name := "bidder-test-ends-" + strconv.Itoa(os.Getpid())
	options := runOptions(name, image, "secret")
	options.Cmd = append(options.Cmd, "-c", "no_such_setting=1")
	if _, err := pool.RunWithOptions(options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := purge(pool, name); err != nil {
			t.Error(err)
		}
	})
	start := time.Now()
	err = waitContainer(t.Context(), pool, name, "postgres://postgres@127.0.0.1:1/postgres")
	if err == nil || !strings.Contains(err.Error(), "no_such_setting") {
		t.Errorf("got %v, want what the server said", err)
	}
	if took := time.Since(start); took > readyWait/2 {
		t.Errorf("it took %v", took)
	}
}

func TestRemoveLeftovers(t *testing.T) {
	t.Parallel()
	pool := dockerPool(t)
	image, err := ensureImage(t.Context(), pool, defaultImage)
	if err != nil {
		t.Fatal(err)
	}
	ownLabel := fmt.Sprintf("bidder-test-leftover-%d", os.Getpid()) // nobody else's containers
	container, err := pool.Client.CreateContainer(docker.CreateContainerOptions{
		Config: &docker.Config{Image: image, Labels: map[string]string{ownLabel: "1"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		age  time.Duration
		want bool
	}{{age: time.Hour, want: true}, {age: -time.Hour, want: false}} {
		if err := removeLeftovers(pool, ownLabel, tt.age); err != nil {
			t.Fatal(err)
		}
		_, err := pool.Client.InspectContainer(container.ID)
		if (err == nil) != tt.want {
			t.Errorf("older than %v removed: inspect says %v", tt.age, err)
		}
	}
}

func TestPorts(t *testing.T) {
	t.Parallel()
	bindings := runOptions("name", "image", "password").PortBindings[port]
	if len(bindings) != 1 || bindings[0].HostIP != "127.0.0.1" {
		t.Errorf("the port is bound to %v", bindings)
	}
}

func TestSplitImage(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, repository, tag string }{
		{name: "postgres:17-alpine", repository: "postgres", tag: "17-alpine"},
		{name: "postgres", repository: "postgres", tag: "latest"},
		{name: "localhost:5000/postgres", repository: "localhost:5000/postgres", tag: "latest"},
		{name: "localhost:5000/postgres:15", repository: "localhost:5000/postgres", tag: "15"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if repository, tag := splitImage(tt.name); repository != tt.repository || tag != tt.tag {
				t.Errorf("got %s and %s", repository, tag)
			}
		})
	}
}
