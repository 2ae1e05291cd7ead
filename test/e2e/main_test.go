// Package e2e tests the program as its users meet it: real processes on real databases.
package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync"
	"testing"

	"github.com/arbitrageai/bidder/test/testdb"
)

// parallel is how many tests run at once unless -parallel says otherwise: most of their time
// they wait for processes, servers and time-outs.
const parallel = "6"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == holdCommand {
		os.Exit(hold(os.Args[2:]))
	}
	os.Exit(testMain(m))
}

func testMain(m *testing.M) int {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		if err := flag.Set("test.parallel", parallel); err != nil {
			panic(err)
		}
	}
	code := testdb.Run(m)
	if err := built.remove(); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		code = max(code, 1)
	}
	return code
}

// built is the program under test.
var built binary

// binary is built when the first test asks for it.
type binary struct {
	once sync.Once
	dir  string
	err  error
}

func (b *binary) path() (string, error) {
	b.once.Do(func() {
		// Not below a directory of the user's own: some tests run it as somebody else.
		if b.dir, b.err = os.MkdirTemp("", "bidder-e2e-"); b.err != nil {
			return
		}
		if b.err = os.Chmod(b.dir, 0o755); b.err != nil {
			return
		}
		args := []string{"build", "-o", b.dir, "../../cmd/bidder"}
		if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
			args = slices.Insert(args, 1, "-race") // as these tests themselves
		}
		build := exec.CommandContext(context.Background(), "go", args...)
		if output, err := build.CombinedOutput(); err != nil {
			b.err = fmt.Errorf("build the program: %w: %s", err, output)
		}
	})
	return filepath.Join(b.dir, "bidder"), b.err
}

func (b *binary) remove() error {
	if b.dir == "" {
		return nil
	}
	if err := os.RemoveAll(b.dir); err != nil {
		return errors.Join(errors.New("remove the program under test"), err)
	}
	return nil
}
