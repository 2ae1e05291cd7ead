package main

import (
	"archive/tar"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// pack writes an archive of files, all in one directory. It depends on their contents and on
// when alone: not on who packs, or where their copies come from.
func pack(archive, directory string, when time.Time, files ...string) (err error) {
	to, err := os.Create(archive)
	if err != nil {
		return fmt.Errorf("pack: %w", err)
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	compressed := gzip.NewWriter(to)
	packed := tar.NewWriter(compressed)
	for _, file := range files {
		if err := add(packed, directory, when, file); err != nil {
			return fmt.Errorf("pack %s: %w", file, err)
		}
	}
	if err := errors.Join(packed.Close(), compressed.Close()); err != nil {
		return fmt.Errorf("pack: %w", err)
	}
	return nil
}

func add(packed *tar.Writer, directory string, when time.Time, file string) error {
	from, err := os.Open(file)
	if err != nil {
		return err //nolint:wrapcheck // the caller does
	}
	defer from.Close() //nolint:errcheck // it was only read
	info, err := from.Stat()
	if err != nil {
		return err //nolint:wrapcheck // the caller does
	}
	header := &tar.Header{
		Name: directory + "/" + filepath.Base(file), Size: info.Size(), Mode: 0o644, ModTime: when.UTC().Truncate(time.Second), Format: tar.FormatPAX,
	}
	if info.Mode()&0o111 != 0 {
		header.Mode = 0o755
	}
	if err := packed.WriteHeader(header); err != nil {
		return err //nolint:wrapcheck // the caller does
	}
	_, err = io.Copy(packed, from)
	return err //nolint:wrapcheck // the caller does
}

// checksums writes what `sha256sum --check` reads.
func checksums(file string, archives []string) error {
	var lines strings.Builder
	for _, archive := range archives {
		content, err := os.ReadFile(archive)
		if err != nil {
			return fmt.Errorf("checksum: %w", err)
		}
		fmt.Fprintf(&lines, "%x  %s\n", sha256.Sum256(content), filepath.Base(archive))
	}
	if err := os.WriteFile(file, []byte(lines.String()), 0o644); err != nil { //nolint:gosec // not secret
		return fmt.Errorf("checksum: %w", err)
	}
	return nil
}
