package signature_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/arbitrageai/bidder/pkg/marketplace/bridge/signature"
)

// FuzzVerify: whatever the headers say, a body counts as signed only if a key has signed it,
// under this id and at about this time.
func FuzzVerify(f *testing.F) {
	now := time.Unix(1_790_000_000, 0)
	key, other := []byte("a key of twenty-four bytes"), []byte("a key that is not ours....")
	signed := func(key []byte, id string, at time.Time, body string) string {
		h := http.Header{}
		signature.Sign(h, [][]byte{key}, id, at, []byte(body))
		return h.Get(signature.SignatureHeader)
	}
	at := strconv.FormatInt(now.Unix(), 10)
	f.Add("msg_1", at, signed(key, "msg_1", now, "{}"), []byte("{}"))
	f.Add("msg_1", at, "v1,AAAA v2,x "+signed(key, "msg_1", now, "{}"), []byte("{}"))
	f.Add("msg_1", at, signed(other, "msg_1", now, "{}"), []byte("{}"))
	f.Add("msg_1.1", at, signed(key, "msg_1", now, "{}"), []byte("{}"))
	f.Add("msg_1", "-9223372036854775808", "v1,", []byte("{}"))
	f.Add("", "1e9", " ", []byte(nil))
	f.Fuzz(func(t *testing.T, id, timestamp, signatures string, body []byte) {
		header := http.Header{signature.IDHeader: {id}, signature.TimestampHeader: {timestamp}, signature.SignatureHeader: {signatures}}
		if signature.Verify(header, nil, now, body) == nil {
			t.Fatal("signed without a key")
		}
		if signature.Verify(header, [][]byte{key}, now, body) != nil {
			return
		}
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(id + "." + timestamp + "." + string(body)))
		if !strings.Contains(signatures, base64.StdEncoding.EncodeToString(mac.Sum(nil))) {
			t.Errorf("%q at %q counts as signed by %q", id, timestamp, signatures)
		}
		if seconds, err := strconv.ParseInt(timestamp, 10, 64); err != nil || now.Sub(time.Unix(seconds, 0)).Abs() > signature.Tolerance || id == "" {
			t.Errorf("%q at %q is not of now", id, timestamp)
		}
	})
}
