package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/arbitrageai/bidder/pkg/config"
	"github.com/arbitrageai/bidder/pkg/delivery"
)

// callers are who calls others by TLS, each with an address where nobody is.
func callers() map[string]func() {
	command := func(environ []string, args ...string) func() {
		return func() {
			run(context.Background(), &app{args: args, environ: environ, stdout: io.Discard, stderr: io.Discard})
		}
	}
	delivering := func(m config.Marketplace) func() {
		return func() {
			c := config.Config{Marketplaces: map[string]config.Marketplace{"m": m}}
			a := &accounts{config: c, made: map[string]delivery.Account{}}
			_, _ = a.account("m")
		}
	}
	return map[string]func(){
		"connector":  delivering(config.Marketplace{Handler: config.HandlerBridge, BaseURL: "https://127.0.0.1:1"}),
		"freelancer": delivering(config.Marketplace{Handler: config.HandlerFreelancer, BaseURL: "https://127.0.0.1:1"}),
		"check":      command(nil, "bridge", "check", "https://127.0.0.1:1"),
		"database":   command([]string{"DATABASE_URL=postgres://u@127.0.0.1:1/b?sslmode=verify-full"}, "stats"),
	}
}

// Where the system has no certificate authorities, those in the program are trusted before anybody is
// called. Each caller is a process of its own: authorities are read once.
func TestTrustRoots(t *testing.T) {
	t.Parallel()
	const variable = "CALLER"
	if caller := os.Getenv(variable); caller != "" {
		callers()[caller]()
		roots, err := x509.SystemCertPool()
		if err != nil || roots.Equal(x509.NewCertPool()) {
			t.Fatalf("nobody is trusted: %v", err)
		}
		return
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	nowhere := filepath.Join(t.TempDir(), "nowhere")
	for caller := range callers() {
		t.Run(caller, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), program, "-test.run=^TestTrustRoots$", "-test.v")
			cmd.Env = append(os.Environ(), variable+"="+caller, "SSL_CERT_FILE="+nowhere, "SSL_CERT_DIR="+nowhere)
			if output, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(output, []byte("--- PASS: TestTrustRoots")) {
				t.Errorf("%v:\n%s", err, output)
			}
		})
	}
}

func TestAsksRoots(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]bool{
		"host=/var/run/postgresql":                                       false,
		"postgres://u@db.example.com/b":                                  false, // TLS with anybody
		"postgres://u@db.example.com/b?sslmode=disable":                  false,
		"postgres://u@db.example.com/b?sslmode=require":                  false,
		"postgres://u@db.example.com/b?sslmode=verify-ca":                true,
		"postgres://u@db.example.com/b?sslmode=verify-full":              true,
		"postgres://u@a.example.com,b.example.com/b?sslmode=verify-full": true,
	} {
		c, err := pgx.ParseConfig(address)
		if err != nil {
			t.Fatal(err)
		}
		if got := asksRoots(c); got != want {
			t.Errorf("%s: %v, want %v", address, got, want)
		}
	}
}
