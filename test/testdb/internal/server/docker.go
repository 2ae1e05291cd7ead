package server

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/ory/dockertest/v3"
	"github.com/ory/dockertest/v3/docker"
)

const (
	defaultImage = "postgres:17-alpine"

	label       = "bidder-test" // on every container, so that leftovers can be found
	leftoverAge = 2 * time.Hour

	port = "5432/tcp"
)

// startDocker runs a server in a container that ends with this process, however that ends.
func startDocker(ctx context.Context) (_ *Server, err error) {
	pool, err := connectDocker()
	if err != nil {
		return nil, err
	}
	if err = removeLeftovers(pool, label, leftoverAge); err != nil {
		return nil, err
	}
	image, err := ensureImage(ctx, pool, cmp.Or(os.Getenv(EnvImage), defaultImage))
	if err != nil {
		return nil, err
	}

	name := "bidder-test-" + strings.ToLower(rand.Text())
	release, err := purgeOnExit(name) // before there is a container: so it never outlives this process
	if err != nil {
		return nil, err
	}
	stop := func() error {
		err := purge(pool, name)
		pool.Client.HTTPClient.CloseIdleConnections()

		return errors.Join(err, release())
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, stop())
		}
	}()

	password := rand.Text()
	resource, err := pool.RunWithOptions(runOptions(name, image, password), func(host *docker.HostConfig) {
		host.AutoRemove = true
		host.RestartPolicy = docker.NeverRestart()
		host.Tmpfs = map[string]string{dataDir: "rw"}
	})
	if err != nil {
		return nil, fmt.Errorf("run %s: %w", image, err)
	}

	server := &Server{
		URL: (&url.URL{
			Scheme:   "postgres",
			User:     url.UserPassword("postgres", password),
			Host:     resource.GetHostPort(port),
			Path:     "/postgres",
			RawQuery: "sslmode=disable",
		}).String(),
		About: fmt.Sprintf("Docker image %s at %s", image, resource.GetHostPort(port)),
		stop:  stop,
	}
	if err = waitContainer(ctx, pool, name, server.URL); err != nil {
		return nil, fmt.Errorf("start %s: %w", image, err)
	}

	return server, nil
}

// waitContainer waits until the server is ready. A container that ends instead is removed with its log, so the log is
// read along.
func waitContainer(ctx context.Context, pool *dockertest.Pool, name, dsn string) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var said bytes.Buffer
	followed := make(chan struct{})
	go func() {
		defer close(followed)
		err := pool.Client.Logs(docker.LogsOptions{
			Context: ctx, Container: name, Follow: true,
			Stdout: true, Stderr: true, OutputStream: &said, ErrorStream: &said,
		})
		if ctx.Err() == nil {
			cancel(fmt.Errorf("the container ended: %w", errors.Join(err, errors.New(said.String()))))
		}
	}()
	_, err := waitReady(ctx, dsn)
	cancel(nil)
	<-followed

	return err
}

// dataDir is of our own, because the images' differ from version to version.
const dataDir = "/bidder-test-data"

func runOptions(name, image, password string) *dockertest.RunOptions {
	repository, tag := splitImage(image)
	command := make([]string, 0, 2*len(settings()))
	for _, setting := range settings() {
		command = append(command, "-c", setting)
	}

	return &dockertest.RunOptions{
		Name:       name,
		Repository: repository,
		Tag:        tag,
		Env:        []string{"POSTGRES_PASSWORD=" + password, "PGDATA=" + dataDir, "POSTGRES_INITDB_ARGS=--no-sync"},
		Cmd:        command,
		Labels:     map[string]string{label: "1"},
		// The default would be all interfaces: a server for tests is nobody else's business.
		PortBindings: map[docker.Port][]docker.PortBinding{port: {{HostIP: "127.0.0.1"}}},
	}
}

func connectDocker() (*dockertest.Pool, error) {
	pool, err := dockertest.NewPool("")
	if err == nil {
		err = pool.Client.Ping() // NewPool does not connect
	}
	if err != nil {
		return nil, fmt.Errorf("reach Docker: %w", err)
	}

	return pool, nil
}

// purge kills the container and deletes it with its volumes. It is no error if there is none.
func purge(pool *dockertest.Pool, name string) error {
	err := pool.Client.RemoveContainer(docker.RemoveContainerOptions{ID: name, Force: true, RemoveVolumes: true})

	var gone *docker.NoSuchContainer
	if err == nil || errors.As(err, &gone) || removalInProgress(err) {
		return nil
	}

	return fmt.Errorf("remove container %s: %w", name, err)
}

// removalInProgress says that the engine is removing the container already, because of AutoRemove.
func removalInProgress(err error) bool {
	answer, ok := errors.AsType[*docker.Error](err)

	return ok && answer.Status == 409
}

// removeLeftovers deletes containers of test runs that died together with the process that cleans up after them.
func removeLeftovers(pool *dockertest.Pool, label string, age time.Duration) error {
	containers, err := pool.Client.ListContainers(docker.ListContainersOptions{
		All:     true,
		Filters: map[string][]string{"label": {label}},
	})
	if err != nil {
		return fmt.Errorf("list containers: %w", err)
	}
	for _, container := range containers {
		if time.Since(time.Unix(container.Created, 0)) > age {
			if err := purge(pool, container.ID); err != nil {
				return err
			}
		}
	}

	return nil
}

// ensureImage returns the image itself if it is present, else what test/images.sh pulls or builds.
func ensureImage(ctx context.Context, pool *dockertest.Pool, image string) (string, error) {
	if _, err := pool.Client.InspectImage(image); err == nil {
		return image, nil
	}
	script, err := imagesScript()
	if err != nil {
		return "", err
	}
	var complaints bytes.Buffer
	cmd := exec.CommandContext(ctx, script, image)
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("get image %s: %w: %s", image, err, bytes.TrimSpace(complaints.Bytes()))
	}

	return strings.TrimSpace(string(out)), nil
}

// imagesScript is the path of test/images.sh: tests run below the directory that has it, in
// this module or in one of their own.
func imagesScript() (string, error) {
	start, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find test/images.sh: %w", err)
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		script := filepath.Join(dir, "test", "images.sh")
		if _, err := os.Stat(script); err == nil {
			return script, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("find test/images.sh: it is in no directory above %s", start)
		}
	}
}

// splitImage splits at the colon of the tag, not at that of a registry's port.
func splitImage(image string) (repository, tag string) {
	if i := strings.LastIndexByte(image, ':'); i > strings.LastIndexByte(image, '/') {
		return image[:i], image[i+1:]
	}

	return image, "latest"
}
