package config

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// The limits of the file. The parser's time grows with the square of the
// number of tokens: 20,000 take less than half a second, and are thousands of
// marketplaces.
const (
	maxFileSize = 1 << 20
	maxTokens   = 20_000
)

// readFile reads the file that the variables name, if any.
func (l *loader) readFile() {
	setDefaults(topKeys(&l.cfg))
	if l.cfg.File == "" {
		return
	}
	data, err := l.slurp(l.cfg.File)
	if err != nil {
		l.report(l.where(configFile), err.Error(), "")
		return
	}
	f := file{loader: l, name: l.cfg.File, source: strings.TrimPrefix(string(data), "\uFEFF")}
	if len(f.source) <= maxFileSize { // the lexer counts lines wrong that end as Windows ends them
		f.source = strings.ReplaceAll(f.source, "\r\n", "\n")
	}
	if top := f.parse(); top != nil {
		f.mapping(top, "", topKeys(&l.cfg))
	}
	for name, m := range l.cfg.Marketplaces {
		if own := m.Caps.Zone; !l.setsCaps(name) {
			m.Caps = l.cfg.Caps
			m.Caps.Zone = cmp.Or(own, m.Caps.Zone)
		}
		m.setDefaults(l.cfg)
		l.cfg.Marketplaces[name] = m
	}
}

// slurp returns the content of a file, as far as it may be long and one byte more.
func (l *loader) slurp(name string) ([]byte, error) {
	r, err := l.src.Open(name)
	if err != nil {
		return nil, fmt.Errorf("open the configuration file: %w", err)
	}
	data, err := io.ReadAll(io.LimitReader(r, maxFileSize+1))
	if err = errors.Join(err, r.Close()); err != nil {
		return nil, fmt.Errorf("read the configuration file %s: %w", name, err)
	}
	return data, nil
}

// A file is the configuration file while it is read. It is read from the
// syntax tree, and not into structs, because only so all problems are found at
// once, each with its place, and amounts stay decimal text.
type file struct {
	*loader

	name   string
	source string
}

// at returns the place of a token.
func (f file) at(t *token.Token) string {
	if t == nil || t.Position == nil {
		return f.name
	}
	return fmt.Sprintf("%s:%d:%d", f.name, t.Position.Line, t.Position.Column)
}

// YAML lets a plain text inside { } have no braces of its own, so that
// {method: GET, path: /bids/{idempotency_key}} is an error to the parser,
// although everybody sees what is meant. Placeholders therefore wear other
// brackets, of equal width, while the parser has them.
const (
	braces = "{}"
	shelf  = "\uE000\uE001" // for private use: no text has them
)

// parse returns the top of the only document, or nil where it is empty or
// cannot be read.
func (f file) parse() ast.Node {
	tokens := lexer.Tokenize(swapPlaceholders(f.source, braces, shelf))
	const hint = "is it the right file?"
	switch {
	case len(f.source) > maxFileSize:
		f.report(f.name, fmt.Sprintf("is longer than %d bytes", maxFileSize), hint)
	case !utf8.ValidString(f.source) || strings.ContainsRune(f.source, 0):
		f.report(f.name, "is not UTF-8 text", hint)
	case len(tokens) > maxTokens:
		f.report(f.name, fmt.Sprintf("has more than %d words and signs", maxTokens), hint)
	case f.isPlain(tokens):
		return f.tree(tokens)
	}
	return nil
}

// isPlain reports whether the file makes do with keys, values and lists. What
// YAML has beyond that lets a text mean something else than it says.
func (f file) isPlain(tokens token.Tokens) bool {
	refused := []token.Type{token.AnchorType, token.AliasType, token.MergeKeyType, token.TagType}
	plain := true
	for _, t := range tokens {
		if slices.Contains(refused, t.Type) {
			f.report(f.at(t), "anchors, aliases and tags are not supported",
				"write the value itself; a text that begins with &, * or ! needs quotes")
			plain = false
		}
	}
	return plain
}

// tree returns the top of the only document that the tokens make.
func (f file) tree(tokens token.Tokens) ast.Node {
	tree, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		// Only the parser's own sentence: its full text quotes lines of the file.
		where, message := f.name, "cannot be parsed"
		if syntax, ok := errors.AsType[*yaml.SyntaxError](err); ok {
			where, message = f.at(syntax.Token), syntax.Message
		}
		f.report(where, "is not YAML: "+message, "check indentation, colons, quotes and brackets up to here")
		return nil
	}
	var top ast.Node
	for _, document := range tree.Docs {
		if _, directive := document.Body.(*ast.DirectiveNode); directive || document.Body == nil {
			continue
		}
		if top != nil {
			f.report(f.at(document.Start), "a second document begins", "put everything into one")
			return nil
		}
		top = document.Body
	}
	return top
}

// swapPlaceholders puts the two brackets of to around placeholders that have
// the two of from.
func swapPlaceholders(text, from, to string) string {
	for _, placeholder := range []string{idempotencyKey, externalBidID} {
		name := strings.Trim(placeholder, braces)
		swap := func(brackets string) string {
			pair := []rune(brackets)
			return string(pair[0]) + name + string(pair[1])
		}
		text = strings.ReplaceAll(text, swap(from), swap(to))
	}
	return text
}
