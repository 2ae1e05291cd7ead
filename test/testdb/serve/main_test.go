package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/arbitrageai/bidder/test/testdb/internal/server"
)

func TestMain(m *testing.M) {
	if asked, err := server.PurgeIfAsked(); asked {
		os.Exit(report(0, err))
	}
	os.Exit(m.Run())
}

func TestRun(t *testing.T) {
	t.Setenv(server.EnvURL, "")
	t.Setenv(server.EnvWay, server.WayDocker)
	out := filepath.Join(t.TempDir(), "out")
	script := `printf %s "$BIDDER_TEST_DATABASE_URL" >"$0"; [ "$BIDDER_TEST_POSTGRES" = dsn ] && exit 7`
	if got := run([]string{"--", "sh", "-c", script, out}); got != 7 {
		t.Errorf("got code %d, want the command's, 7", got)
	}
	url, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pgx.ParseConfig(string(url)); err != nil || len(url) == 0 {
		t.Errorf("the command got %q: %v", url, err)
	}
	if _, err := pgx.Connect(t.Context(), string(url)); err == nil {
		t.Error("the server is still there")
	}
}

func TestRunFails(t *testing.T) {
	tests := []struct {
		name string
		way  string
		args []string
		want int
	}{
		{name: "no command", args: []string{"--"}, want: 1},
		{name: "no server", way: "nonsense", args: []string{"true"}, want: 1},
		{name: "no such command", way: server.WayLocal, args: []string{"/does/not/exist"}, want: 1},
		{name: "killed", way: server.WayLocal, args: []string{"sh", "-c", "kill -9 $$"}, want: 1},
		{name: "success", way: server.WayLocal, args: []string{"true"}, want: 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv(server.EnvWay, tt.way)
			if got := run(tt.args); got != tt.want {
				t.Errorf("got %d, want %d", got, tt.want)
			}
		})
	}
}
