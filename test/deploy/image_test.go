package deploy

import (
	"archive/tar"
	"bytes"
	"debug/buildinfo"
	"debug/elf"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/arbitrageai/bidder/test/testdb"
)

// maxImage is how large the image may be, in bytes.
const maxImage = 30_000_000

func TestMain(m *testing.M) { testdb.Main(m) }

// docker runs the command, and returns what it printed and its exit code.
func docker(t *testing.T, stdin string, args ...string) (stdout string, code int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "docker", args...)
	var out, said bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &said
	err := cmd.Run()
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		t.Fatal(err)
	}
	if said.Len() > 0 {
		t.Logf("docker %s: %s", args[0], said.String())
	}
	return out.String(), cmd.ProcessState.ExitCode()
}

func mustDocker(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	out, code := docker(t, stdin, args...)
	if code != 0 {
		t.Fatalf("docker %q: exit code %d\n%s", args, code, out)
	}
	return out
}

type image struct {
	ID     string `json:"Id"`
	Size   int64  `json:"Size"`
	Config struct {
		User       string   `json:"User"`
		Entrypoint []string `json:"Entrypoint"`
		Cmd        []string `json:"Cmd"`
		Env        []string `json:"Env"`
	} `json:"Config"`
	RootFS struct {
		Layers []string `json:"Layers"`
	} `json:"RootFS"`
}

// buildImage makes an image of these sources, which goes with the test.
func buildImage(t *testing.T, name string) image {
	t.Helper()
	build := exec.CommandContext(t.Context(), root+"/deploy/image.sh", name, "v0.0.0-test")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("docker", "image", "rm", "--force", name).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	var found []image
	if err := json.Unmarshal([]byte(mustDocker(t, "", "image", "inspect", name)), &found); err != nil {
		t.Fatal(err)
	}
	return found[0]
}

// TestImage: it is small, the same for the same sources, holds one static program and no shell,
// is not root, and works with a file system that cannot be written to.
func TestImage(t *testing.T) {
	t.Parallel()
	if err := exec.CommandContext(t.Context(), "docker", "version").Run(); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("no Docker: %v", err)
		}
		t.Skipf("no Docker: %v", err)
	}
	name := "bidder-test-image:" + strconv.Itoa(os.Getpid())
	built, again := buildImage(t, name), buildImage(t, name+"-again")
	if built.Size > maxImage {
		t.Errorf("it has %d bytes, more than %d", built.Size, maxImage)
	}
	t.Logf("it has %d bytes", built.Size)
	if !slices.Equal(built.RootFS.Layers, again.RootFS.Layers) || len(built.RootFS.Layers) != 1 {
		t.Errorf("two builds have the layers %v and %v", built.RootFS.Layers, again.RootFS.Layers)
	}
	if c := built.Config; c.User != "65532:65532" || !slices.Equal(c.Entrypoint, []string{"/bidder"}) || len(c.Cmd) > 0 {
		t.Errorf("configured as %+v", c)
	}
	program := onlyFile(t, name)
	t.Run("program", func(t *testing.T) { t.Parallel(); checkProgram(t, program) })

	run := []string{"run", "--rm", "--interactive", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"}
	t.Run("version", func(t *testing.T) {
		t.Parallel()
		var report struct {
			Version  string `json:"version"`
			Go       string `json:"go"`
			Platform string `json:"platform"`
		}
		out := mustDocker(t, "", slices.Concat(run, []string{"--network", "none", name, "version", "-o", "json"})...)
		if err := json.Unmarshal([]byte(out), &report); err != nil || report.Version != "v0.0.0-test" || report.Go != runtime.Version() || report.Platform != "linux/"+runtime.GOARCH {
			t.Errorf("%v: %s", err, out)
		}
	})
	t.Run("chart", func(t *testing.T) {
		t.Parallel()
		for _, args := range chartArguments(t) {
			if out, code := docker(t, "", slices.Concat(run, []string{"--network", "none", name}, args, []string{"--help"})...); code != 0 || !strings.Contains(out, "Usage:") {
				t.Errorf("the chart says %q, the program says %d: %s", args, code, out)
			}
		}
	})
	t.Run("pass", func(t *testing.T) {
		t.Parallel()
		d := testdb.New(t, testdb.WithoutMigrations())
		bidder := func(stdin string, args ...string) string {
			return mustDocker(t, stdin, slices.Concat(run, []string{"--network", "host", "--env", "DATABASE_URL=" + d.DirectURL, name}, args)...)
		}
		bidder("", "migrate", "up")
		bidder(`{"marketplace":"upwork","job_id":"1","title":"A title","budget_max":"100.00"}`, "run", "--postings", "-", "--cached-at", "now", "--no-delivery")
		var live int
		if err := d.Pool(t).QueryRow(t.Context(), "SELECT count(*) FROM bids WHERE status = 'ACTIVE'").Scan(&live); err != nil || live != 1 {
			t.Errorf("%d live bids, want 1 (%v)", live, err)
		}
	})
}

// onlyFile checks that the image holds nothing but the program, and returns a copy of that.
func onlyFile(t *testing.T, name string) string {
	t.Helper()
	container := strings.TrimSpace(mustDocker(t, "", "create", name))
	defer mustDocker(t, "", "rm", container)
	content := tar.NewReader(strings.NewReader(mustDocker(t, "", "export", container)))
	copied := filepath.Join(t.TempDir(), "bidder")
	var files []string
	for {
		header, err := content.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		// What Docker itself puts into every container is empty.
		if header.Typeflag == tar.TypeReg && header.Size > 0 {
			files = append(files, header.Name)
			data, err := io.ReadAll(content)
			if err == nil {
				err = os.WriteFile(copied, data, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			if header.Mode&0o222 != 0 {
				t.Errorf("%s can be written to: %o", header.Name, header.Mode)
			}
		}
	}
	if !slices.Equal(files, []string{"bidder"}) {
		t.Fatalf("it holds %v", files)
	}
	return copied
}

// checkProgram: it needs no libraries, says nothing of where it was built, and lists its modules.
func checkProgram(t *testing.T, file string) {
	t.Helper()
	program, err := elf.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	for _, part := range program.Progs {
		if part.Type == elf.PT_INTERP || part.Type == elf.PT_DYNAMIC {
			t.Errorf("it is not static: %v", part.Type)
		}
	}
	info, err := buildinfo.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	if settings["CGO_ENABLED"] != "0" || settings["-trimpath"] != "true" {
		t.Errorf("built with %v", settings)
	}
	modules := map[string]string{}
	for _, m := range info.Deps {
		modules[m.Path] = m.Sum
	}
	for _, path := range []string{"github.com/jackc/pgx/v5", "golang.org/x/crypto/x509roots/fallback"} {
		if modules[path] == "" {
			t.Errorf("%s is not among its modules %v", path, slices.Sorted(maps.Keys(modules)))
		}
	}
	sources, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(file)
	if err != nil || bytes.Contains(content, []byte(sources+"/")) {
		t.Errorf("it tells that it was built in %s (%v)", sources, err)
	}
}

// chartArguments are the arguments of all containers of the chart.
func chartArguments(t *testing.T) [][]string {
	t.Helper()
	var found [][]string
	for _, template := range pods(mustRender(t, installations(t)["full"])) {
		for _, c := range slices.Concat(template.Spec.InitContainers, template.Spec.Containers) {
			found = append(found, c.Args)
		}
	}
	return found
}
