package localpg

import (
	"context"
	"fmt"
	"os"
	"testing"
)

// The test binary is also a process that starts a server and is killed.
func TestMain(m *testing.M) {
	if os.Getenv("LOCALPG_TEST_PARENT") == "" {
		os.Exit(m.Run())
	}
	server, err := StartTemporary(context.Background())
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(server.cmd.Process.Pid, server.dir)
	select {}
}
