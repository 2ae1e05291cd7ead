package config_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/arbitrageai/bidder/pkg/config"
)

func TestSecret_neverPrints(t *testing.T) {
	t.Parallel()

	const text = "hunter2"
	type hidden struct{ inner config.Secret }
	secret := config.NewSecret(text)
	cfg := config.Config{DatabaseURL: secret, Marketplaces: map[string]config.Marketplace{
		"upwork": {Auth: config.Auth{Value: secret}, SigningSecrets: []config.Secret{secret}},
	}}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T", "%p", "%10s"} {
		for _, value := range []any{secret, &secret, cfg, &cfg, hidden{secret}, []config.Secret{secret}} {
			fmt.Fprintf(&out, verb+"\n", value)
		}
	}
	for _, handler := range []slog.Handler{slog.NewJSONHandler(&out, nil), slog.NewTextHandler(&out, nil)} {
		slog.New(handler).Info("x", "secret", secret, "config", cfg, "hidden", hidden{secret})
	}
	for _, marshal := range []func(any) ([]byte, error){json.Marshal, yaml.Marshal} {
		for _, value := range []any{secret, cfg} {
			data, err := marshal(value)
			if err != nil {
				t.Fatalf("marshal: %v", err)
			}
			if !bytes.Contains(data, []byte("[redacted]")) {
				t.Errorf("marshalled to %s, want [redacted] in it", data)
			}
			out.Write(data)
		}
	}
	if printed := out.String(); strings.Contains(printed, text) || strings.Contains(printed, fmt.Sprintf("%x", text)) {
		t.Errorf("the secret was printed:\n%s", printed)
	}
	if got := fmt.Sprintf("%s %v", secret, config.Secret{}); got != "[redacted] " {
		t.Errorf("printed as %q, want [redacted], and nothing for an empty one", got)
	}
}

func TestSecret(t *testing.T) {
	t.Parallel()

	if got := config.NewSecret(" a b\n").Reveal(); got != "a b" {
		t.Errorf("Reveal() = %q, want it without surrounding white space", got)
	}
	empty := config.NewSecret(" \n")
	if empty.IsSet() || empty.Reveal() != "" || !empty.Equal(config.Secret{}) {
		t.Errorf("white space is %q, set %t; want an empty secret", empty.Reveal(), empty.IsSet())
	}
	if a := config.NewSecret("a"); !a.Equal(config.NewSecret("a")) || a.Equal(config.NewSecret("b")) || a.Equal(empty) {
		t.Error("secrets are not compared by their texts")
	}
}
