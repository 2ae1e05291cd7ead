package embedded

import (
	"errors"
	"fmt"
	"net"
)

// control asks the socket for the number of the process at its other end.
func control(conn net.Conn, ask func(fd int) (int, error)) (int, error) {
	socket, ok := conn.(*net.UnixConn)
	if !ok {
		return 0, fmt.Errorf("%T is no Unix socket", conn)
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("socket: %w", err)
	}
	var pid int
	var askErr error
	if err := raw.Control(func(fd uintptr) { pid, askErr = ask(int(fd)) }); err != nil {
		return 0, fmt.Errorf("socket: %w", err)
	}
	if askErr == nil && pid <= 1 { // 0: the process is out of sight; and 0 or 1 must never get a signal
		return 0, errors.New("the process that listens cannot be seen from here")
	}

	return pid, askErr
}
