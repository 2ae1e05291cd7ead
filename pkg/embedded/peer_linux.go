package embedded

import (
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// peer is the number of the process that listens at the other end, as this process sees it: for a server in a container
// not the number in its pid file.
func peer(conn net.Conn) (int, error) {
	return control(conn, func(fd int) (int, error) {
		credentials, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err != nil {
			return 0, fmt.Errorf("SO_PEERCRED: %w", err)
		}

		return int(credentials.Pid), nil
	})
}
