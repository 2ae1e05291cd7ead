package token

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"strings"
	"testing"

	"github.com/arbitrageai/bidder/pkg/config"
)

// FuzzOpen: whatever stands in a row, only what was sealed for it opens, and an error tells
// nothing of it.
func FuzzOpen(f *testing.F) {
	k, err := newKey(config.NewSecret(strings.Repeat("k", 32)))
	if err != nil {
		f.Fatal(err)
	}
	owner := Owner{Marketplace: "freelancer", Account: "default", Issuer: "https://accounts.example.test"}
	sealed := sealAlike(f, k.bound(owner))
	f.Add("freelancer", "default", sealed)
	f.Add("freelancer", "another", sealed)
	f.Add("freelancer", "default", sealed[:len(sealed)-1])
	f.Add("freelancer", "default", []byte(`{"access_token":"a"}`))
	f.Add("", "", []byte(nil))
	f.Fuzz(func(t *testing.T, marketplace, account string, row []byte) {
		of := Owner{Marketplace: marketplace, Account: account, Issuer: owner.Issuer}
		got, err := k.open(of, row)
		if ours := of == owner && bytes.Equal(row, sealed); ours != (err == nil) {
			t.Errorf("%+v opens to %v", of, err)
		}
		if err != nil && (got != pair{} || len(row) > 8 && strings.Contains(err.Error(), string(row))) {
			t.Errorf("%+v with %v", got, err)
		}
	})
}

// sealAlike is what seal returns, with a nonce that is the same in every process of the fuzzer.
func sealAlike(f *testing.F, bound []byte) []byte {
	f.Helper()
	block, err := aes.NewCipher([]byte(strings.Repeat("k", 32)))
	if err != nil {
		f.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		f.Fatal(err)
	}
	nonce := make([]byte, gcm.NonceSize())
	return gcm.Seal(nonce, nonce, []byte(`{"access_token":"access","refresh_token":"refresh"}`), bound)
}
