// Command release builds bidder as it is released: static programs without symbol tables and
// without paths of the building machine, so that the same commit and Go version give the same
// bytes everywhere.
//
//	go run ./deploy/release -version v1.2.3 -out dist              # archives of all targets, and SHA256SUMS
//	go run ./deploy/release -version v1.2.3 -program bidder linux/arm64   # one program, as for the image
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// targets are what is released, as GOOS/GOARCH.
var targets = []string{"linux/amd64", "linux/arm64", "darwin/amd64", "darwin/arm64"} //nolint:gochecknoglobals // a constant

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	version := flag.String("version", "", "version to stamp (required)")
	out := flag.String("out", "dist", "directory of the archives; what is in it is replaced")
	program := flag.String("program", "", "build only the program of the one target that is named, as this file")
	flag.Parse()
	if !regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z.+_-]*$`).MatchString(*version) {
		return fmt.Errorf("-version %q: a version is letters, digits and . + _ -", *version)
	}
	wanted := flag.Args()
	if *program != "" {
		if len(wanted) != 1 {
			return errors.New("-program: name one target, such as linux/amd64")
		}
		return build(ctx, wanted[0], *version, *program)
	}
	if len(wanted) == 0 {
		wanted = targets
	}
	return release(ctx, *version, *out, wanted)
}

// build compiles the program of a target.
func build(ctx context.Context, target, version, file string) error {
	system, architecture, ok := strings.Cut(target, "/")
	if !ok {
		return fmt.Errorf("target %q is not GOOS/GOARCH", target)
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w -X main.version="+version, "-o", file, "./cmd/bidder") //nolint:gosec // checked above
	// What the builder has set for itself must not change what is built.
	cmd.Env = append(os.Environ(), "GOOS="+system, "GOARCH="+architecture, "CGO_ENABLED=0", "GOFLAGS=", "GOEXPERIMENT=", "GOAMD64=v1", "GOARM64=v8.0")
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("build %s: %w", target, err)
	}
	return nil
}

// release builds the archives of targets, and their checksums, in out.
func release(ctx context.Context, version, out string, targets []string) error {
	when, err := commitTime(ctx)
	if err != nil {
		return err
	}
	if err := os.RemoveAll(out); err != nil {
		return fmt.Errorf("empty %s: %w", out, err)
	}
	if err := os.MkdirAll(out, 0o755); err != nil { //nolint:gosec // not secret
		return fmt.Errorf("make %s: %w", out, err)
	}
	var archives []string
	for _, target := range targets {
		name := fmt.Sprintf("bidder_%s_%s", strings.TrimPrefix(version, "v"), strings.ReplaceAll(target, "/", "_"))
		program := filepath.Join(out, "bidder")
		if err := build(ctx, target, version, program); err != nil {
			return err
		}
		archive := filepath.Join(out, name+".tar.gz")
		if err := pack(archive, name, when, program, "LICENSE", "README.md", "CHANGELOG.md"); err != nil {
			return err
		}
		if err := os.Remove(program); err != nil {
			return fmt.Errorf("tidy up: %w", err)
		}
		archives = append(archives, archive)
	}
	return checksums(filepath.Join(out, "SHA256SUMS"), archives)
}

// commitTime is the time that files in archives have: that of the commit.
func commitTime(ctx context.Context) (time.Time, error) {
	said, err := exec.CommandContext(ctx, "git", "log", "-1", "--format=%cI").Output()
	if err != nil {
		return time.Time{}, fmt.Errorf("ask git for the time of the commit: %w", err)
	}
	when, err := time.Parse(time.RFC3339, strings.TrimSpace(string(said)))
	if err != nil {
		return time.Time{}, fmt.Errorf("the time of the commit: %w", err)
	}
	return when, nil
}
