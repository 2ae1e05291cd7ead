package main

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// A patch replaces a text in a source file of one build, without touching the file: go build
// -overlay. It has to match so many times.
type patch struct {
	file    string // below the module's root, or that of the standard library with the prefix std/
	pattern string
	with    string
	times   int
}

// steppedClock is a worker whose wall clock jumps while it runs: time.Now of its standard library adds
// what CLOCK_STEP says, from so long on after its start as CLOCK_STEP_AFTER says, both as Go writes durations. Nothing
// but that can step the clock of a static program in a container: the kernel's is everybody's,
// and there is no C library to be replaced.
var steppedClock = []patch{
	{"std/time/time.go", `(?m)^func Now\(\) Time \{\n\tsec, nsec, mono := runtimeNow\(\)\n`, `var clockStep, clockStepAfter = func() (step, after int64) {
	text, _ := syscall.Getenv("CLOCK_STEP")
	d, _ := ParseDuration(text)
	text, _ = syscall.Getenv("CLOCK_STEP_AFTER")
	a, _ := ParseDuration(text)
	return int64(d), int64(a)
}()

func Now() Time {
	sec, nsec, mono := runtimeNow()
	if mono-startNano >= clockStepAfter {
		at := int64(nsec) + clockStep
		sec, nsec = sec+at/1e9, int32(at%1e9)
		if nsec < 0 {
			sec, nsec = sec-1, nsec+1e9
		}
	}
`, 1},
	{"std/time/time.go", `(?m)^import \(\n`, "import (\n\t\"syscall\"\n", 1},
}

// build makes a static program of a package of this module.
func build(ctx context.Context, root, dir, name, pkg string, patches []patch) error {
	overlay, err := overlayOf(ctx, root, dir, name, patches)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-overlay", overlay, "-o", filepath.Join(dir, name), pkg)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w: %s", name, err, out)
	}
	return nil
}

// overlayOf writes the patched files of a build, and the file that names them.
func overlayOf(ctx context.Context, root, dir, name string, patches []patch) (string, error) {
	goroot, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return "", fmt.Errorf("find the standard library: %w", err)
	}
	replaced := map[string]string{}
	for i, p := range patches {
		path := filepath.Join(root, p.file)
		if file, ok := strings.CutPrefix(p.file, "std/"); ok {
			path = filepath.Join(strings.TrimSpace(string(goroot)), "src", file)
		}
		from := path
		if earlier := replaced[path]; earlier != "" {
			from = earlier
		}
		source, err := os.ReadFile(from)
		if err != nil {
			return "", fmt.Errorf("patch: %w", err)
		}
		pattern := regexp.MustCompile(p.pattern)
		if n := len(pattern.FindAll(source, -1)); n != p.times {
			return "", fmt.Errorf("patch %s: %q is there %d times, not %d: the storm has to learn what has changed", p.file, p.pattern, n, p.times)
		}
		replaced[path] = filepath.Join(dir, fmt.Sprintf("%s-%d.go", name, i))
		if err := os.WriteFile(replaced[path], pattern.ReplaceAll(source, []byte(p.with)), 0o600); err != nil {
			return "", fmt.Errorf("patch: %w", err)
		}
	}
	content, err := json.Marshal(map[string]any{"Replace": replaced})
	if err != nil {
		return "", fmt.Errorf("overlay: %w", err)
	}
	overlay := filepath.Join(dir, name+".json")
	return overlay, os.WriteFile(overlay, content, 0o600)
}

// content is a file of an image.
type content struct {
	path string
	data []byte
}

// program reads a file of this machine into an image.
func program(from, to string) (content, error) {
	data, err := os.ReadFile(from)
	if err != nil {
		return content{}, fmt.Errorf("image: %w", err)
	}
	return content{to, data}, nil
}

// image makes an image of nothing but these files. docker import needs no builder and no registry.
func (e engine) image(ctx context.Context, name string, files ...content) error {
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	for _, f := range files {
		w.WriteHeader(&tar.Header{Name: strings.TrimPrefix(f.path, "/"), Mode: 0o755, Size: int64(len(f.data)), Typeflag: tar.TypeReg})
		w.Write(f.data)
	}
	if err := w.Close(); err != nil { // also what failed before
		return fmt.Errorf("image %s: %w", name, err)
	}
	cmd := exec.CommandContext(ctx, "docker", "import", "--change", "LABEL "+e.label(), "-", e.of(name))
	cmd.Stdin = &archive
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("import image %s: %w: %s", name, err, out)
	}
	return nil
}

// errNoPgBouncer says that this machine has no PgBouncer to pack.
var errNoPgBouncer = errors.New("pgbouncer is not installed here (apt-get install pgbouncer)")

// pgbouncer packs this machine's PgBouncer, with what it needs to run.
func (e engine) pgbouncer(ctx context.Context, configuration string) error {
	path, err := exec.LookPath("pgbouncer")
	if err != nil {
		path, err = exec.LookPath("/usr/sbin/pgbouncer") // which is on root's PATH only
	}
	if err != nil {
		return errNoPgBouncer
	}
	listed, err := exec.CommandContext(ctx, "ldd", path).Output()
	if err != nil {
		return fmt.Errorf("what pgbouncer needs: %w", err)
	}
	files := []content{{"/etc/pgbouncer.ini", []byte(configuration)}, {"/etc/passwd", []byte("nobody:x:65534:65534::/:/none\n")}}
	libraries := regexp.MustCompile(`/[^ ]+\.so[^ ]*`).FindAllString(string(listed), -1)
	for _, from := range slices.Compact(append(libraries, path)) {
		to := from
		if from == path {
			to = "/pgbouncer"
		}
		file, err := program(from, to)
		if err != nil {
			return err
		}
		files = append(files, file)
	}
	return e.image(ctx, "pgbouncer", files...)
}

// postgresImage is the name of an image of PostgreSQL 17 that is present.
func postgresImage(ctx context.Context, root string, log io.Writer) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(root, "test", "images.sh"), "postgres:17")
	cmd.Stderr = log
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("get an image of PostgreSQL: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}
