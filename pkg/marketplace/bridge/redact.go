package bridge

import (
	"encoding/base64"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/arbitrageai/bidder/pkg/config"
)

const (
	maxMessage = 500 // bytes
	minSecret  = 4   // hiding what is shorter would blacken ordinary words
)

// redactor makes messages that may be kept and shown: bounded, on one line, and without what
// the client must keep to itself, even where a connector repeats it.
type redactor struct{ secrets *strings.Replacer }

func newRedactor(m config.Marketplace) redactor {
	var pairs []string
	hide := func(secret string) {
		if len(secret) >= minSecret {
			pairs = append(pairs, secret, "[redacted]")
		}
	}
	auth := m.Auth.Value.Reveal()
	hide(auth)
	if _, credentials, hasScheme := strings.Cut(auth, " "); hasScheme {
		hide(strings.TrimSpace(credentials))
	}
	for _, secret := range m.SigningSecrets {
		key := []byte(secret.Reveal())
		hide("whsec_" + base64.StdEncoding.EncodeToString(key))
		hide(base64.StdEncoding.EncodeToString(key))
		hide(string(key))
	}
	return redactor{secrets: strings.NewReplacer(pairs...)}
}

func (r redactor) message(text string) string {
	text = r.secrets.Replace(text)
	text = regexp.MustCompile(`(?i)([a-z][a-z0-9+.-]*://)[^\s/?#@"']*@`).ReplaceAllString(text, "$1")
	text = regexp.MustCompile(`(?i)([a-z][a-z0-9+.-]*://[^\s?#"']*)[?#][^\s"']*`).ReplaceAllString(text, "$1")
	text = strings.ToValidUTF8(text, "\uFFFD")
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, text)
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > maxMessage {
		end := maxMessage
		for !utf8.RuneStart(text[end]) {
			end--
		}
		text = text[:end] + "…"
	}
	return text
}
