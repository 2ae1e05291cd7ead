package embedded

import (
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// peer is the number of the process that listens at the other end.
func peer(conn net.Conn) (int, error) {
	return control(conn, func(fd int) (int, error) {
		pid, err := unix.GetsockoptInt(fd, unix.SOL_LOCAL, unix.LOCAL_PEERPID)
		if err != nil {
			return 0, fmt.Errorf("LOCAL_PEERPID: %w", err)
		}

		return pid, nil
	})
}
