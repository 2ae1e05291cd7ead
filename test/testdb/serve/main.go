// Command serve runs a command with a PostgreSQL server for tests, shared by all processes that the command starts:
//
//	go run ./test/testdb/serve -- go test ./...
//
// It finds or starts the server as package testdb does, hands it down in BIDDER_TEST_DATABASE_URL, stops it when the
// command has ended, and exits with the command's code.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"github.com/arbitrageai/bidder/test/testdb/internal/server"
)

// grace is what the command gets to end by itself once it was told to.
const grace = 10 * time.Second

func main() {
	os.Exit(run(os.Args[1:]))
}

func run(args []string) (code int) {
	if asked, err := server.PurgeIfAsked(); asked {
		return report(0, err)
	}
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		return report(0, errors.New("usage: serve -- command [argument...]"))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	shared, err := server.Start(ctx)
	if err != nil {
		return report(0, err)
	}
	defer func() { code = report(code, shared.Stop()) }()
	fmt.Fprintln(os.Stderr, "testdb:", shared.About)

	return command(ctx, args, shared.URL)
}

// command runs the command and returns its exit code.
func command(ctx context.Context, args []string, url string) int {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), server.EnvURL+"="+url, server.EnvWay+"="+server.WayDSN)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = grace

	err := cmd.Run()
	if ended, ok := errors.AsType[*exec.ExitError](err); ok && ended.ExitCode() > 0 {
		return ended.ExitCode()
	}

	return report(0, err)
}

func report(code int, err error) int {
	if err == nil {
		return code
	}
	fmt.Fprintf(os.Stderr, "serve: %v\n", err)

	return max(code, 1)
}
