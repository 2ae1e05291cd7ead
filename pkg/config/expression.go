package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"

	"github.com/arbitrageai/bidder/pkg/policy"
)

// The keys of expressions, at the top and of a marketplace.
const (
	eligibleKey = "eligible"
	amountKey   = "amount"
)

// Deciding names the key that applies to a marketplace of the two that may stand in the file,
// its own or the one at the top, and says where that stands.
func (c Config) Deciding(marketplace, key string) (string, Origin) {
	own := marketplacesKey + "." + marketplace + "." + key
	if from, stands := c.origins[own]; stands {
		return own, from
	}
	return key, c.origins[key]
}

// Reads are the parts of a posting that any of the expressions looks at.
func (c Config) Reads() policy.Reads {
	var reads policy.Reads
	all := append(slices.Collect(maps.Values(c.Marketplaces)), c.unnamed())
	for _, m := range all {
		if m.Eligible != nil {
			reads = reads.Union(m.Eligible.Reads())
		}
		if m.Amount != nil {
			reads = reads.Union(m.Amount.Reads())
		}
	}
	return reads
}

// expressionKeys returns the keys of expressions below at, which ends in a point or is empty.
func expressionKeys(at string, eligible **policy.Eligible, amount **policy.Amount) []field {
	return []field{
		{at + eligibleKey, "", "condition in CEL: which postings are bid on", expression(eligible, policy.CompileEligible)},
		{at + amountKey, "", "amount in CEL: what is bid where the posting does not say", expression(amount, policy.CompileAmount)},
	}
}

// expression is an expression in CEL; its errors are a [*policy.Error].
func expression[T interface {
	comparable
	fmt.Stringer
}](p *T, compile func(string) (T, error),
) value {
	return value{
		set: func(s string) error {
			compiled, err := compile(s)
			if err == nil {
				*p = compiled
			}
			return err
		},
		show: func() string {
			var none T
			if *p == none {
				return ""
			}
			return (*p).String()
		},
	}
}

// reportExpression reports what is wrong with an expression, each where it stands.
func (f file) reportExpression(node ast.Node, text string, wrong *policy.Error) {
	for _, p := range wrong.Problems {
		hint := p.Hint
		if near := nearest(p.Unknown, p.Known); near != "" {
			hint = "did you mean " + near + "?"
		}
		f.report(f.within(node, text, p.Line, p.Column), p.Message, hint)
	}
}

// within is the place of a character in the text of a scalar, both counted from 1. Quotes,
// escapes, indentation and folded lines make that another place than in the text; where they
// cannot be followed, it is the place of the scalar.
func (f file) within(node ast.Node, text string, line, column int) string {
	start := node.GetToken()
	row, skip := start.Position.Line-1, start.Position.Column-1
	if _, block := node.(*ast.LiteralNode); block { // its text begins in the line after | or >
		row, skip = row+1, 0
	}
	lines := strings.Split(f.source, "\n")
	source := []rune(strings.Join(lines[min(row, len(lines)):], "\n"))
	w := scalarWalk{source: source, at: min(skip, len(source)), quote: start.Type}
	if w.quote == token.SingleQuoteType || w.quote == token.DoubleQuoteType {
		w.at++
	}
	for y, textLine := range strings.Split(text, "\n") {
		for x, r := range []rune(textLine + "\n") {
			if !w.seek(r) {
				return f.at(start)
			}
			if y == line-1 && x == column-1 {
				before := source[:w.at]
				return fmt.Sprintf("%s:%d:%d", f.name, row+1+countRune(before, '\n'), w.at-lastIndexRune(before, '\n'))
			}
			w.step(r)
		}
	}
	return f.at(start)
}

func countRune(text []rune, r rune) int {
	n := 0
	for _, c := range text {
		if c == r {
			n++
		}
	}
	return n
}

func lastIndexRune(text []rune, r rune) int {
	for i, c := range slices.Backward(text) {
		if c == r {
			return i
		}
	}
	return -1
}

// scalarWalk follows the text of a scalar through its source.
type scalarWalk struct {
	source []rune
	at     int
	quote  token.Type
}

// seek goes to where r of the text stands, and reports whether it does.
func (w *scalarWalk) seek(r rune) bool {
	for w.at < len(w.source) {
		switch c := w.source[w.at]; {
		case w.escaped() && w.at+1 < len(w.source) && w.source[w.at+1] == '\n': // goes on in the next line
			w.at += 2
		case unicode.IsSpace(r), w.escaped(), c == r:
			return true // white space may have been folded: any will do, or none
		case unicode.IsSpace(c):
			w.at++
		default:
			return false
		}
	}
	return unicode.IsSpace(r)
}

// step goes past r.
func (w *scalarWalk) step(r rune) {
	if w.at >= len(w.source) {
		return
	}
	switch c := w.source[w.at]; {
	case w.escaped() && w.at+1 < len(w.source):
		w.at = min(w.at+2+map[rune]int{'x': 2, 'u': 4, 'U': 8}[w.source[w.at+1]], len(w.source))
	case w.quote == token.SingleQuoteType && c == '\'' && r == '\'':
		w.at += 2
	case c == r, unicode.IsSpace(c):
		w.at++
	}
}

func (w *scalarWalk) escaped() bool {
	return w.quote == token.DoubleQuoteType && w.source[w.at] == '\\'
}
