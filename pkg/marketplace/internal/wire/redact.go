package wire

import (
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxMessage bounds messages, in bytes.
const MaxMessage = 500

// minSecret: hiding what is shorter would blacken ordinary words.
const minSecret = 4

// Redactor makes messages that may be kept and shown: bounded, on one line, and without what
// the client must keep to itself, even where a marketplace repeats it.
type Redactor struct{ secrets *strings.Replacer }

// NewRedactor returns a Redactor that hides these texts.
func NewRedactor(secrets ...string) Redactor {
	var pairs []string
	for _, secret := range secrets {
		if len(secret) >= minSecret {
			pairs = append(pairs, secret, "[redacted]")
		}
	}
	return Redactor{secrets: strings.NewReplacer(pairs...)}
}

// Message returns text in a form that may be kept and shown.
func (r Redactor) Message(text string) string {
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
	if len(text) > MaxMessage {
		end := MaxMessage
		for !utf8.RuneStart(text[end]) {
			end--
		}
		text = text[:end] + "…"
	}
	return text
}
