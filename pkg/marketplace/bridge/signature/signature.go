// Package signature signs and verifies HTTP requests in the way of Standard Webhooks: an
// HMAC-SHA256 over the message's id, the time of the attempt and the raw body.
package signature

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// The headers of a signed request.
const (
	// IDHeader names the message. It stays the same when the message is sent again.
	IDHeader = "Webhook-Id"
	// TimestampHeader is when this attempt was made, in seconds since 1970.
	TimestampHeader = "Webhook-Timestamp"
	// SignatureHeader holds one signature for each key, separated by spaces.
	SignatureHeader = "Webhook-Signature"
)

// Tolerance is how far the time of an attempt may be from the receiver's clock.
const Tolerance = 5 * time.Minute

// The errors of [Verify].
var (
	// ErrMissing says that the request is not signed, or not completely.
	ErrMissing = errors.New("the request is not signed: it needs webhook-id, webhook-timestamp and webhook-signature")
	// ErrTimestamp says that the attempt was made too long ago, or in the future.
	ErrTimestamp = errors.New("webhook-timestamp is more than five minutes away: check the clocks")
	// ErrMismatch says that no signature is by a known key.
	ErrMismatch = errors.New("no signature matches: check the secret, and that the raw body is what is verified")
)

const version = "v1,"

// Sign sets the headers that sign a body, once for each key.
func Sign(header http.Header, keys [][]byte, id string, at time.Time, body []byte) {
	timestamp := strconv.FormatInt(at.Unix(), 10)
	header.Set(IDHeader, id)
	header.Set(TimestampHeader, timestamp)
	signatures := make([]string, len(keys))
	for i, key := range keys {
		signatures[i] = version + base64.StdEncoding.EncodeToString(sum(key, id, timestamp, body))
	}
	if len(keys) > 0 {
		header.Set(SignatureHeader, strings.Join(signatures, " "))
	}
}

// Verify returns nil if one of the keys signed the body no more than [Tolerance] from now.
func Verify(header http.Header, keys [][]byte, now time.Time, body []byte) error {
	id, timestamp := header.Get(IDHeader), header.Get(TimestampHeader)
	signatures := strings.Fields(header.Get(SignatureHeader))
	if id == "" || timestamp == "" || len(signatures) == 0 {
		return ErrMissing
	}
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil || now.Sub(time.Unix(seconds, 0)).Abs() > Tolerance {
		return ErrTimestamp
	}
	for _, key := range keys {
		want := sum(key, id, timestamp, body)
		for _, signature := range signatures {
			encoded, known := strings.CutPrefix(signature, version)
			got, err := base64.StdEncoding.DecodeString(encoded)
			if known && err == nil && hmac.Equal(got, want) {
				return nil
			}
		}
	}
	return ErrMismatch
}

func sum(key []byte, id, timestamp string, body []byte) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(id + "." + timestamp + "."))
	mac.Write(body)
	return mac.Sum(nil)
}
