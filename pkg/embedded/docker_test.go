package embedded

import (
	"cmp"
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// withDocker is a user for whom no PostgreSQL is installed.
func withDocker(t *testing.T) func(*exec.Cmd) {
	t.Helper()

	if _, err := docker(t.Context(), "version"); err != nil {
		t.Skipf("Docker is needed: %v", err)
	}
	wanted := cmp.Or(os.Getenv("BIDDER_TEST_IMAGE"), Image)
	image, err := exec.CommandContext(t.Context(), "../../test/images.sh", wanted).Output()
	if err != nil {
		t.Fatalf("get image: %v", err)
	}

	return func(cmd *exec.Cmd) {
		cmd.Env = append(os.Environ(), "PGBIN=/nonexistent")
		cmd.Args[3] = strings.TrimSpace(string(image))
	}
}

func containers(t *testing.T, state string) string {
	t.Helper()

	names, err := docker(t.Context(), "ps", "--all", "--filter=label=bidder.state="+state, "--format={{.Names}}")
	if err != nil {
		t.Fatal(err)
	}

	return names
}

func TestDocker(t *testing.T) {
	t.Parallel()

	image := withDocker(t)
	state := newState(t)
	h, err := openHome(state)
	if err != nil {
		t.Fatal(err)
	}
	// What is left when the docker client is killed between making the container and starting it.
	cmd := &exec.Cmd{Args: make([]string, 4)}
	image(cmd)
	if _, err := docker(t.Context(), "create", "--name="+h.container(), cmd.Args[3]); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := removeContainer(context.Background(), h.container()); err != nil {
			t.Error(err)
		}
	})
	u, other := begin(t, state, image).wait(), begin(t, state, image).wait()
	run(t, u.dsn, "CREATE TABLE bids AS SELECT 'kept' AS bid; SELECT ''")
	if got := containers(t, state); !strings.HasPrefix(got, "bidder-") || strings.Contains(got, "\n") {
		t.Errorf("containers: %q", got)
	}
	u.leave()
	run(t, other.dsn, "SELECT ''")
	other.kill()
	eventually(t, "the container ends with its last user", func() bool { return containers(t, state) == "" })

	u = begin(t, state, image).wait()
	if got := run(t, u.dsn, "SELECT bid FROM bids"); got != "kept" {
		t.Errorf("got %q", got)
	}
	u.leave()
	if got := containers(t, state); got != "" {
		t.Errorf("the last one left, but there still is container %s", got)
	}
}

// A killed docker client cannot stop its container.
func TestDockerLeftRunning(t *testing.T) {
	t.Parallel()

	image := withDocker(t)
	state := newState(t)
	u := begin(t, state, image).wait()
	run(t, u.dsn, "CREATE TABLE bids AS SELECT 'kept' AS bid; SELECT ''")
	kill9(t, processes(t, state)["client"])
	u.kill()
	if got := containers(t, state); got == "" {
		t.Fatal("no container is left running")
	}

	u = begin(t, state, image).wait()
	if got := run(t, u.dsn, "SELECT bid FROM bids"); got != "kept" {
		t.Errorf("got %q", got)
	}
	u.leave()
	if got := containers(t, state); got != "" {
		t.Errorf("the last one left, but there still is container %s", got)
	}
}

// Data that needs another version than the installed one goes to Docker, if its version fits.
func TestVersionOfDocker(t *testing.T) {
	t.Parallel()

	image := withDocker(t)
	state := newState(t)
	begin(t, state, image).wait().leave()
	version, err := dataVersion(state + "/data")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(state+"/data/PG_VERSION", []byte("9\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	u := begin(t, state, image)
	said, _ := u.lines.ReadString(0)
	if err := u.cmd.Wait(); err == nil || !strings.Contains(said, "written by PostgreSQL 9, but only PostgreSQL "+version) {
		t.Errorf("got %q, %v", said, err)
	}
}
