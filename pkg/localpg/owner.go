package localpg

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// Owner is the operating-system user that a server runs as and that owns its files.
type Owner struct {
	UID, GID uint32
}

// DefaultOwner is the user this process runs as. PostgreSQL refuses to run as root, so for root it is the user
// postgres or, without one, nobody.
func DefaultOwner() (Owner, error) {
	if os.Geteuid() != 0 {
		return Owner{UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())}, nil //nolint:gosec // ids are 32 bits wide
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			return Owner{}, fmt.Errorf("uid of user %s: %w", name, err)
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			return Owner{}, fmt.Errorf("gid of user %s: %w", name, err)
		}

		return Owner{UID: uint32(uid), GID: uint32(gid)}, nil
	}

	return Owner{}, errors.New("PostgreSQL does not run as root, and there is neither a user postgres nor a user nobody to run it as")
}

// String is the user's name, or the number when it has none.
func (o Owner) String() string {
	id := strconv.FormatUint(uint64(o.UID), 10)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}

	return id
}

// Chown gives the file or directory to the owner. It does nothing when this process runs as the owner.
func (o Owner) Chown(path string) error {
	if o.current() {
		return nil
	}
	if err := os.Lchown(path, int(o.UID), int(o.GID)); err != nil {
		return fmt.Errorf("give to user %s: %w", o, err)
	}

	return nil
}

func (o Owner) current() bool { return int(o.UID) == os.Geteuid() }

// credential makes a process run as the owner; nil leaves it as it is.
func (o Owner) credential() *syscall.Credential {
	if o.current() {
		return nil
	}

	return &syscall.Credential{Uid: o.UID, Gid: o.GID}
}
