package embedded

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/arbitrageai/bidder/pkg/localpg"
)

// home is a state directory that is ready to be used.
type home struct {
	dir     string // absolute, without symbolic links
	sockets string // directory of the server's socket
	owner   localpg.Owner
}

func (h home) data() string { return filepath.Join(h.dir, "data") }
func (h home) log() string  { return filepath.Join(h.dir, "server.log") }

// id stands for the directory in names that must be short.
func (h home) id() string {
	sum := sha256.Sum256([]byte(h.dir))

	return hex.EncodeToString(sum[:8])
}

// serverAt is the cluster as clients see it.
func serverAt(sockets string) localpg.Cluster {
	return localpg.Cluster{Sockets: sockets, Port: port}
}

// port only names the socket: there is no TCP.
const port = 5432

// openHome creates what is missing of the state directory.
func openHome(dir string) (home, error) {
	if dir == "" { // not the working directory
		return home{}, errors.New("no state directory is given")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return home{}, fmt.Errorf("state directory: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil { //nolint:gosec // as root, the server must get through
		return home{}, fmt.Errorf("state directory: %w", err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return home{}, fmt.Errorf("state directory: %w", err)
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return home{}, fmt.Errorf("state directory: %w", err)
	}
	h := home{dir: dir}
	if h.owner, err = ownerOf(h.data(), dir); err != nil {
		return home{}, err
	}
	// An empty one may be another process's that was just made, so it does not matter who made it.
	if entries, err := os.ReadDir(dir); err == nil && len(entries) == 0 {
		if err := h.owner.Chown(dir); err != nil {
			return home{}, err
		}
	}
	h.sockets, err = h.makeSockets(filepath.Join(dir, "run"))

	return h, err
}

// ownerOf is who a server with these files must run as: whoever they belong to already, the first that exists and is
// not root's, else the default.
func ownerOf(paths ...string) (localpg.Owner, error) {
	for _, path := range paths {
		info, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return localpg.Owner{}, fmt.Errorf("state directory: %w", err)
		}
		stat, ok := info.Sys().(*syscall.Stat_t)
		if !ok || stat.Uid == 0 {
			continue
		}
		owner := localpg.Owner{UID: stat.Uid, GID: stat.Gid}
		if uid := os.Geteuid(); uid != 0 && uid != int(owner.UID) {
			return localpg.Owner{}, fmt.Errorf("%s belongs to user %s: run as that user, or name a state directory of your own in BIDDER_STATE_DIR", path, owner)
		}

		return owner, nil
	}

	return localpg.DefaultOwner()
}

// makeSockets makes the directory of the socket. That is dir, except where its path is too long for a socket's address
// (107 bytes, 103 on macOS) or holds what the lists of directories and hosts in PostgreSQL's settings and URLs cannot, or
// what programs spell in different ways in a URL, the space. The directory in its place is not under $TMPDIR, which may be long too and differs from process to process.
func (h home) makeSockets(dir string) (string, error) {
	const longest = 103 - len("/.s.PGSQL.5432")
	if len(dir) > longest || strings.ContainsAny(dir, `,"'\ `) {
		dir = fmt.Sprintf("/tmp/bidder-%s-%d", h.id(), h.owner.UID)
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("directory of the socket: %w", err)
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return "", fmt.Errorf("directory of the socket: %w", err)
	}
	// In /tmp anyone may have been here first; whoever owns the directory could pose as the server.
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.IsDir() || info.Mode().Perm() != 0o700 || (stat.Uid != h.owner.UID && int(stat.Uid) != os.Geteuid()) {
		return "", fmt.Errorf("%s must be a directory of user %s with mode 0700, for the socket: remove what is there", dir, h.owner)
	}

	return dir, h.owner.Chown(dir)
}

// replace makes a file of the owner's in a directory of the owner's, who may have put a link there: root would write to
// whatever that leads to. What is there is removed, and O_EXCL opens nothing that came in between.
func (h home) replace(path string, content []byte) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err //nolint:wrapcheck // names operation and path
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err //nolint:wrapcheck // names operation and path
	}
	_, err = file.Write(content)
	if err := errors.Join(err, file.Close()); err != nil {
		return err
	}

	return h.owner.Chown(path)
}

// closed returns the outermost directory on the way to dir that the owner cannot enter, empty when there is none.
func (h home) closed() string {
	var way []string
	for dir := h.dir; ; dir = filepath.Dir(dir) {
		way = append(way, dir)
		if dir == filepath.Dir(dir) {
			break
		}
	}
	for _, dir := range slices.Backward(way) {
		info, err := os.Stat(dir)
		if err != nil {
			continue
		}
		stat, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			continue
		}
		enter := os.FileMode(0o001)
		switch {
		case stat.Uid == h.owner.UID:
			enter = 0o100
		case stat.Gid == h.owner.GID:
			enter = 0o010
		}
		if info.Mode()&enter == 0 {
			return dir
		}
	}

	return ""
}
