package embedded

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/arbitrageai/bidder/pkg/localpg"
)

// ErrNoServer says that there is no way to run PostgreSQL on this machine.
var ErrNoServer = errors.New(`no PostgreSQL to run here. Do one of these:
  Debian, Ubuntu:  sudo apt-get install postgresql
  Fedora, RHEL:    sudo dnf install postgresql-server
  macOS:           brew install postgresql@17
  any Linux:       install Docker, https://docs.docker.com/engine/install/
or set DATABASE_URL to a PostgreSQL server of your own`)

// VersionError says that the data directory needs another major version of PostgreSQL than the ones found.
type VersionError struct {
	Data   string   // data directory
	Needed string   // its major version
	Found  []string // the major versions that could be run
}

// Error names the versions and the ways out.
func (e *VersionError) Error() string {
	return fmt.Sprintf("the data in %s was written by PostgreSQL %s, but only PostgreSQL %s is here: install PostgreSQL %s beside it "+
		"(Debian, Ubuntu: apt-get install postgresql-%s; macOS: brew install postgresql@%s), or convert the data with pg_upgrade, "+
		"or move the directory away to begin with an empty database",
		e.Data, e.Needed, strings.Join(e.Found, " and "), e.Needed, e.Needed, e.Needed)
}

// engine is one way to run PostgreSQL: the installed programs in the directory bin or, if that is empty, a Docker image.
type engine struct {
	bin   string
	image string
}

func (e engine) String() string {
	if e.bin == "" {
		return "Docker image " + e.image
	}

	return e.bin
}

// command makes the programs' processes. Only one container of the name can be there, "" leaves it to Docker.
func (e engine) command(h home, container string) localpg.Command {
	if e.bin == "" {
		return dockerCommand(h, e.image, container)
	}

	return localpg.Local(e.bin, h.dir, h.owner)
}

// cluster is the cluster as its server and initdb see it.
func (e engine) cluster(h home) localpg.Cluster {
	return localpg.Cluster{Data: h.data(), Sockets: h.sockets, Port: port, Command: e.command(h, "")}
}

var majorVersion = regexp.MustCompile(`\(PostgreSQL\) (\d+)`)

// version is the major version of the engine's PostgreSQL.
func (e engine) version(h home) (string, error) {
	output, err := e.command(h, "")("postgres", "--version").Output()
	if errors.Is(err, fs.ErrPermission) {
		if dir := h.closed(); dir != "" {
			return "", fmt.Errorf("user %s, as whom PostgreSQL runs, cannot enter %s: name another state directory in BIDDER_STATE_DIR (for root, %s is good)",
				h.owner, dir, "/var/lib/bidder")
		}
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return "", fmt.Errorf("run postgres --version from %s: %w: %s", e, err, bytes.TrimSpace(exit.Stderr))
	}
	if err != nil {
		return "", fmt.Errorf("run postgres --version from %s: %w", e, err)
	}
	match := majorVersion.FindSubmatch(output)
	if match == nil {
		return "", fmt.Errorf("postgres from %s does not tell its version but %q", e, output)
	}

	return string(match[1]), nil
}

// findEngine picks the first engine that can run the cluster in the home, or any cluster if there is none yet.
func findEngine(ctx context.Context, h home, image string, log *slog.Logger) (engine, error) {
	needed, err := dataVersion(h.data())
	if err != nil {
		return engine{}, err
	}
	var found []string
	var broken []error // one that does not run stands in nobody's way
	fits := func(e engine) bool {
		version, err := e.version(h)
		if err != nil {
			if !slices.ContainsFunc(broken, func(other error) bool { return other.Error() == err.Error() }) {
				broken = append(broken, err)
			}
			return false
		}
		found = append(found, version)

		return needed == "" || needed == version
	}

	installed, err := localpg.AllBinaries()
	if err != nil && !errors.Is(err, localpg.ErrNoBinaries) {
		return engine{}, fmt.Errorf("find PostgreSQL: %w", err)
	}
	for _, bin := range installed {
		if e := (engine{bin: bin}); fits(e) {
			return e, nil
		}
	}

	dockerErr := prepareDocker(ctx, h, image, log)
	if dockerErr == nil {
		if e := (engine{image: image}); fits(e) {
			return e, nil
		}
	}
	switch {
	case len(found) > 0:
		return engine{}, errors.Join(append(broken, &VersionError{Data: h.data(), Needed: needed, Found: found})...)
	case len(broken) > 0:
		return engine{}, errors.Join(append(broken, dockerErr)...)
	}

	return engine{}, fmt.Errorf("%w\n(%w)", ErrNoServer, dockerErr)
}

// dataVersion is the major version that wrote the data directory, empty when there is none.
func dataVersion(data string) (string, error) {
	version, err := os.ReadFile(filepath.Join(data, "PG_VERSION"))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("version of the data directory: %w", err)
	}

	return strings.TrimSpace(string(version)), nil
}

// initialize makes the data directory if there is none. It is made under another name, so that one left half-made never
// stands in the way, and under a new one each time, because an initdb whose parent was killed may still be at work.
func (e engine) initialize(ctx context.Context, h home) (err error) {
	if _, err := os.Stat(h.data()); !errors.Is(err, fs.ErrNotExist) {
		return err //nolint:wrapcheck // names operation and path
	}
	const unfinished = "data.new-"
	leftovers, err := filepath.Glob(filepath.Join(escapeGlob(h.dir), unfinished+"*"))
	if err != nil {
		return fmt.Errorf("find half-made data directories: %w", err)
	}
	for _, dir := range leftovers {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("delete half-made data directory: %w", err)
		}
	}
	dir, err := os.MkdirTemp(h.dir, unfinished)
	if err != nil {
		return fmt.Errorf("make data directory: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	if err := h.owner.Chown(dir); err != nil {
		return err
	}
	cluster := e.cluster(h)
	cluster.Data = dir
	if err := cluster.Init(ctx); err != nil {
		return fmt.Errorf("make data directory with %s: %w", e, err)
	}
	if err := os.Rename(dir, h.data()); err != nil {
		return fmt.Errorf("make data directory: %w", err)
	}

	return syncDir(h.dir)
}

// syncDir makes a rename in the directory last through a power loss.
func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("sync state directory: %w", err)
	}
	if err := errors.Join(dir.Sync(), dir.Close()); err != nil {
		return fmt.Errorf("sync state directory: %w", err)
	}

	return nil
}

// escapeGlob makes a pattern that matches only the path itself.
func escapeGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}
