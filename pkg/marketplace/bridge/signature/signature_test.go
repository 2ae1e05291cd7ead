package signature_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/arbitrageai/bidder/pkg/marketplace/bridge/signature"
)

const (
	id   = "msg_place_0192f3a4-7c1e-7b32-9d55-1f0e6a2b8c41"
	body = `{"type":"bid.place","timestamp":"2026-11-23T08:00:00Z","data":{"bid_id":"0192f3a4-7c1e-7b32-9d55-1f0e6a2b8c41"}}`
)

func at() time.Time { return time.Unix(1795420800, 0) }

// key is the secret of the published example, without whsec_.
func key(tb testing.TB) []byte {
	tb.Helper()
	key, err := base64.StdEncoding.DecodeString("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

func signed(tb testing.TB, keys ...[]byte) http.Header {
	tb.Helper()
	header := http.Header{}
	signature.Sign(header, keys, id, at(), []byte(body))
	return header
}

func TestSignMatchesTheVector(t *testing.T) {
	t.Parallel()
	if len(body) != 112 {
		t.Fatalf("the body has %d bytes, want 112", len(body))
	}
	header := signed(t, key(t), []byte("another key of the rotation"))
	first, second, both := strings.Cut(header.Get(signature.SignatureHeader), " ")
	if want := "v1,xXcY7XuNDQTO7X/ZsGMK4VjnnoJFbGjub5qXbkS+uSw="; first != want {
		t.Errorf("signature %q, want %q", first, want)
	}
	if !both || !strings.HasPrefix(second, "v1,") || second == first {
		t.Errorf("second signature %q, want one by the second key", second)
	}
	if header.Get(signature.IDHeader) != id || header.Get(signature.TimestampHeader) != "1795420800" {
		t.Errorf("headers %v", header)
	}
}

func TestSignWithoutKeys(t *testing.T) {
	t.Parallel()
	header := signed(t)
	if _, set := header["Webhook-Signature"]; set || header.Get(signature.IDHeader) != id {
		t.Errorf("headers %v, want an id and no signature", header)
	}
}

func TestVerify(t *testing.T) {
	t.Parallel()
	other := bytes.Repeat([]byte{7}, 32)
	tests := []struct {
		name   string
		keys   [][]byte
		now    time.Duration // after the signing
		body   string
		change func(http.Header)
		want   error
	}{
		{name: "right", keys: [][]byte{key(t)}},
		{name: "the second key of the receiver", keys: [][]byte{other, key(t)}},
		{name: "on the edge of old", keys: [][]byte{key(t)}, now: 5 * time.Minute},
		{name: "old", keys: [][]byte{key(t)}, now: 5*time.Minute + time.Second, want: signature.ErrTimestamp},
		{name: "future", keys: [][]byte{key(t)}, now: -5*time.Minute - time.Second, want: signature.ErrTimestamp},
		{name: "time is no number", keys: [][]byte{key(t)}, change: set(signature.TimestampHeader, "soon"), want: signature.ErrTimestamp},
		{name: "wrong key", keys: [][]byte{other}, want: signature.ErrMismatch},
		{name: "no key", want: signature.ErrMismatch},
		{name: "other body", keys: [][]byte{key(t)}, body: body + " ", want: signature.ErrMismatch},
		{name: "other id", keys: [][]byte{key(t)}, change: set(signature.IDHeader, "msg_withdraw_1"), want: signature.ErrMismatch},
		{name: "other time", keys: [][]byte{key(t)}, change: set(signature.TimestampHeader, "1795420801"), want: signature.ErrMismatch},
		{name: "no id", keys: [][]byte{key(t)}, change: set(signature.IDHeader, ""), want: signature.ErrMissing},
		{name: "no time", keys: [][]byte{key(t)}, change: set(signature.TimestampHeader, ""), want: signature.ErrMissing},
		{name: "no signature", keys: [][]byte{key(t)}, change: set(signature.SignatureHeader, " "), want: signature.ErrMissing},
		{name: "an unknown version before it", keys: [][]byte{key(t)}, change: func(h http.Header) {
			h.Set(signature.SignatureHeader, "v1a,AAAA v1,%% "+h.Get(signature.SignatureHeader))
		}},
		{name: "without its version", keys: [][]byte{key(t)}, change: func(h http.Header) {
			h.Set(signature.SignatureHeader, strings.TrimPrefix(h.Get(signature.SignatureHeader), "v1,"))
		}, want: signature.ErrMismatch},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			header, text := signed(t, key(t)), body
			if tt.change != nil {
				tt.change(header)
			}
			if tt.body != "" {
				text = tt.body
			}
			if err := signature.Verify(header, tt.keys, at().Add(tt.now), []byte(text)); !errors.Is(err, tt.want) {
				t.Errorf("Verify = %v, want %v", err, tt.want)
			}
		})
	}
}

func set(name, value string) func(http.Header) {
	return func(h http.Header) { h.Set(name, value) }
}
