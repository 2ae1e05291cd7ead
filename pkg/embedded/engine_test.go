package embedded

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/arbitrageai/bidder/pkg/localpg"
)

// TestBrokenInstallation: programs that do not run say why, and stand in nobody's way.
func TestBrokenInstallation(t *testing.T) {
	h, err := openHome(newState(t))
	if err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(filepath.Dir(h.dir), "bin")
	if err := os.Mkdir(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"initdb", "postgres"} {
		script := "#!/bin/sh\necho error while loading shared libraries: libpq.so.5 >&2; exit 127\n"
		if err := os.WriteFile(filepath.Join(bin, name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	_, err = localpg.AllBinaries()
	isInstalled := !errors.Is(err, localpg.ErrNoBinaries)
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	switch e, err := findEngine(t.Context(), h, "localhost:1/none", slog.New(slog.DiscardHandler)); {
	case isInstalled && (err != nil || e.bin == bin):
		t.Errorf("beside another: %v, %v", e, err)
	case !isInstalled && err == nil:
		t.Errorf("without another: %v", e)
	}
	t.Setenv("PGBIN", bin)
	if _, err := findEngine(t.Context(), h, "localhost:1/none", slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "libpq.so.5") || !strings.Contains(err.Error(), bin) {
		t.Errorf("alone: %v", err)
	}
}
