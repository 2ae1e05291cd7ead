package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/sethvargo/go-retry"

	"github.com/arbitrageai/bidder/pkg/localpg"
)

// container is the name of the server's container.
func (h home) container() string { return "bidder-" + h.id() }

// passwd is the list of users inside a container: initdb insists that the user it runs as has a name.
func (h home) passwd() string { return filepath.Join(h.dir, "passwd") }

// dockerCommand makes processes of the docker client that run the programs in a container, as the owner of the files,
// which are mounted at the same paths as outside. The client hands signals on, so it can be treated as the program.
func dockerCommand(h home, image, container string) localpg.Command {
	return func(program string, args ...string) *exec.Cmd {
		run := []string{
			"run", "--rm", "--network=none", "--log-driver=none", "--stop-signal=SIGINT", "--shm-size=128m",
			"--security-opt=label=disable", // SELinux would keep the container away from the mounts
			"--label=bidder.state=" + h.dir,
			fmt.Sprintf("--user=%d:%d", h.owner.UID, h.owner.GID),
			"--env=LC_ALL=C", "--env=TZ=UTC",
			"--mount=" + mount(h.dir, h.dir),
			"--mount=" + mount(h.sockets, h.sockets),
			"--mount=" + mount(h.passwd(), "/etc/passwd") + ",readonly",
			"--entrypoint=" + program,
		}
		if container != "" {
			run = append(run, "--name="+container)
		}

		return exec.Command("docker", slices.Concat(run, []string{image}, args)...) //nolint:gosec,noctx // the server outlives any request
	}
}

// mount is the value of --mount, a line of CSV.
func mount(from, to string) string {
	quote := func(field string) string { return `"` + strings.ReplaceAll(field, `"`, `""`) + `"` }

	return "type=bind," + quote("source="+from) + "," + quote("target="+to)
}

// prepareDocker checks that Docker works, gets the image if it is not there, and writes what the containers need.
func prepareDocker(ctx context.Context, h home, image string, log *slog.Logger) error {
	if runtime.GOOS != "linux" {
		return errors.New("docker cannot be used here: a Unix socket in a container is out of reach on " + runtime.GOOS)
	}
	if _, err := exec.LookPath("docker"); err != nil {
		return errors.New("docker is not installed either")
	}
	if _, err := docker(ctx, "version", "--format={{.Server.Version}}"); err != nil {
		return fmt.Errorf("docker cannot be used: %w", err)
	}
	if _, err := docker(ctx, "image", "inspect", "--format={{.Id}}", image); err != nil {
		log.InfoContext(ctx, "pulling the PostgreSQL image", "image", image)
		if _, err := docker(ctx, "pull", "--quiet", image); err != nil {
			return fmt.Errorf("docker image %s is neither here nor to be had: %w", image, err)
		}
	}

	return h.writePasswd()
}

func (h home) writePasswd() error {
	users := fmt.Appendf(nil, "root:x:0:0::/root:/bin/false\nbidder:x:%d:%d::/:/bin/false\n", h.owner.UID, h.owner.GID)
	if err := h.replace(h.passwd(), users); err != nil {
		return fmt.Errorf("write list of users for Docker: %w", err)
	}

	return nil
}

// removeContainer removes a container that a killed docker client left behind, so that its name is free and it cannot
// come back to the data.
func removeContainer(ctx context.Context, name string) error {
	const (
		pause    = 100 * time.Millisecond
		attempts = 100
	)

	return retry.Do(ctx, retry.WithMaxRetries(attempts, retry.NewConstant(pause)), func(ctx context.Context) error { //nolint:wrapcheck // wrapped inside
		left, err := docker(ctx, "ps", "--all", "--quiet", "--filter=name=^/"+name+"$")
		if err != nil || left == "" {
			return err
		}
		_, err = docker(ctx, "rm", "--force", "--volumes", name) // fails while Docker itself is at it

		return retry.RetryableError(fmt.Errorf("container %s is in the way: %w", name, err))
	})
}

// docker runs the docker client and returns what it says.
func docker(ctx context.Context, args ...string) (string, error) {
	output, err := exec.CommandContext(ctx, "docker", args...).Output()
	said := strings.TrimSpace(string(output))
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return said, fmt.Errorf("docker %s: %w: %s", args[0], err, strings.TrimSpace(string(exit.Stderr)))
	}
	if err != nil {
		return said, fmt.Errorf("docker %s: %w", args[0], err)
	}

	return said, nil
}
