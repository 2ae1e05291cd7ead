package config

import (
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// redacted stands wherever a secret would be printed.
const redacted = "[redacted]"

// A Secret is a text that does not print: fmt with any verb, slog, JSON and
// YAML show [redacted] for it, or nothing where it is empty. The zero Secret is
// empty.
type Secret struct {
	// fmt follows no pointer below the top level, so the text stays hidden
	// even in an unexported field, where fmt cannot call Format.
	text *string
}

// NewSecret returns text as a Secret, without surrounding white space: the last
// newline of a file that the secret came from is never meant.
func NewSecret(text string) Secret {
	text = strings.TrimSpace(text)
	if text == "" {
		return Secret{}
	}
	return Secret{text: &text}
}

// Reveal returns the text itself.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// IsSet reports whether the secret is not empty.
func (s Secret) IsSet() bool { return s.text != nil }

// Equal reports whether two secrets have the same text, in a time that does not
// tell where they differ.
func (s Secret) Equal(other Secret) bool {
	return subtle.ConstantTimeCompare([]byte(s.Reveal()), []byte(other.Reveal())) == 1
}

// String returns [redacted], or nothing for an empty secret.
func (s Secret) String() string {
	if !s.IsSet() {
		return ""
	}
	return redacted
}

// Format implements [fmt.Formatter] for every verb.
func (s Secret) Format(state fmt.State, _ rune) {
	_, _ = io.WriteString(state, s.String())
}

// MarshalText implements [encoding.TextMarshaler], which JSON and YAML use.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue implements [slog.LogValuer].
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }
