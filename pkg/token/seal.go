package token

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/arbitrageai/bidder/pkg/config"
)

// pair is what is encrypted.
type pair struct {
	Access  string `json:"access_token"`
	Refresh string `json:"refresh_token"`
}

// key encrypts with AES-256-GCM, with a random nonce for each text, which comes first.
type key struct {
	id   string
	aead cipher.AEAD
}

var errKey = errors.New("a key of stored tokens has to be 32 bytes long")

func newKey(secret config.Secret) (key, error) {
	bytes := []byte(secret.Reveal())
	if len(bytes) != 32 {
		return key{}, errKey
	}
	block, err := aes.NewCipher(bytes)
	if err != nil {
		return key{}, errKey
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return key{}, errKey
	}
	hash := sha256.Sum256(append([]byte("bidder token key "), bytes...))
	return key{id: hex.EncodeToString(hash[:6]), aead: aead}, nil
}

func (k key) seal(o Owner, p pair) ([]byte, error) {
	text, err := json.Marshal(p) //nolint:gosec // to be encrypted
	if err != nil {
		return nil, fmt.Errorf("encode tokens: %w", err)
	}
	return k.aead.Seal(nil, nil, text, k.bound(o)), nil //nolint:gosec // this AEAD makes a random nonce for each text
}

func (k key) open(o Owner, sealed []byte) (p pair, err error) {
	text, err := k.aead.Open(nil, nil, sealed, k.bound(o))
	if err != nil {
		return pair{}, errors.New("the stored tokens were changed, or belong to another account: sign in again")
	}
	if err := json.Unmarshal(text, &p); err != nil {
		return pair{}, errors.New("the stored tokens make no sense: sign in again") // without the text, which is secret
	}
	return p, nil
}

// bound is what a row's text is good for. In another row it does not open.
func (k key) bound(o Owner) []byte {
	return fmt.Appendf(nil, "bidder tokens 1 %q %q %q %q", o.Marketplace, o.Account, o.Issuer, k.id)
}
