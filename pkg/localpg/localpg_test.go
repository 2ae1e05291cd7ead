package localpg_test

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/arbitrageai/bidder/pkg/localpg"
)

func TestStartTemporary(t *testing.T) {
	t.Parallel()

	server, err := localpg.StartTemporary(t.Context(), "max_connections=17", "fsync=on")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})

	for name, dsn := range map[string]string{"socket": server.DSN("postgres"), "TCP": server.TCP("postgres")} {
		conn, err := pgx.Connect(t.Context(), dsn)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var got string
		const query = `SELECT concat_ws(' ', current_user, current_setting('max_connections'), current_setting('fsync'),
			current_setting('synchronous_commit'), current_setting('server_encoding'), current_setting('TimeZone'))`
		if err := conn.QueryRow(t.Context(), query).Scan(&got); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if want := "bidder 17 on off UTF8 UTC"; got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
		if err := conn.Close(t.Context()); err != nil {
			t.Errorf("%s: close: %v", name, err)
		}
	}
}
