package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestPack: an archive depends on the contents and the commit alone.
func TestPack(t *testing.T) {
	t.Parallel()
	commit := time.Date(2026, 11, 25, 8, 0, 0, 0, time.FixedZone("", 3600))
	packIn := func(touched time.Time, umask os.FileMode) []byte {
		dir := t.TempDir()
		program, text := filepath.Join(dir, "bidder"), filepath.Join(dir, "LICENSE")
		for file, mode := range map[string]os.FileMode{program: 0o755 &^ umask, text: 0o644 &^ umask} {
			if err := os.WriteFile(file, []byte(filepath.Base(file)), mode); err != nil {
				t.Fatal(err)
			}
			if err := os.Chtimes(file, touched, touched); err != nil {
				t.Fatal(err)
			}
		}
		archive := filepath.Join(dir, "a.tar.gz")
		if err := pack(archive, "bidder_1", commit, program, text); err != nil {
			t.Fatal(err)
		}
		if err := checksums(filepath.Join(dir, "SHA256SUMS"), []string{archive}); err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(archive)
		if err != nil {
			t.Fatal(err)
		}
		sums, err := os.ReadFile(filepath.Join(dir, "SHA256SUMS"))
		if want := fmt.Sprintf("%x  a.tar.gz\n", sha256.Sum256(content)); err != nil || string(sums) != want {
			t.Errorf("checksums are %q, want %q (%v)", sums, want, err)
		}
		return content
	}
	first := packIn(time.Now(), 0)
	if !bytes.Equal(first, packIn(commit, 0o077)) {
		t.Error("two archives of the same contents differ")
	}

	unpacked, err := gzip.NewReader(bytes.NewReader(first))
	if err != nil {
		t.Fatal(err)
	}
	type entry struct {
		Name, Content string
		Mode          int64
	}
	var got []entry
	for files := tar.NewReader(unpacked); ; {
		header, err := files.Next()
		if err == io.EOF {
			break
		}
		content, readErr := io.ReadAll(files)
		if err != nil || readErr != nil {
			t.Fatal(err, readErr)
		}
		if !header.ModTime.Equal(commit) || header.Uid != 0 || header.Uname != "" {
			t.Errorf("%s is of %s and user %d %s", header.Name, header.ModTime, header.Uid, header.Uname)
		}
		got = append(got, entry{header.Name, string(content), header.Mode})
	}
	want := []entry{{"bidder_1/bidder", "bidder", 0o755}, {"bidder_1/LICENSE", "LICENSE", 0o644}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the archive (-want +got):\n%s", diff)
	}
}
