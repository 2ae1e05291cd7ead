package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"

	"github.com/arbitrageai/bidder/pkg/policy"
	"github.com/arbitrageai/bidder/pkg/posting"
)

// mapping reads the keys of a mapping into fields, whose names begin with at.
func (f file) mapping(node ast.Node, at string, fields []field) {
	seen := map[string]string{}
	f.eachKey(node, func(key string, keyToken *token.Token, value ast.Node) {
		where := f.at(keyToken)
		if first, twice := seen[key]; twice {
			f.report(where, fmt.Sprintf("key %s stands here a second time", quote(key)), "the first is at "+first)
			return
		}
		seen[key] = where

		name := strings.TrimPrefix(at+"."+key, ".")
		isHere := func(other field) bool { return other.name == name }
		isBelow := func(other field) bool { return strings.HasPrefix(other.name, name+".") }
		switch i := slices.IndexFunc(fields, isHere); {
		case name == marketplacesKey:
			f.marketplaces(value)
		case strings.Contains(key, "."):
			f.unknownKey(key, where, at, fields)
		case i >= 0:
			f.field(fields[i], value)
		case slices.ContainsFunc(fields, isBelow):
			f.mapping(value, name, fields)
		default:
			f.unknownKey(key, where, at, fields)
		}
	})
}

// eachKey calls do for every key of a mapping; null is an empty one.
func (f file) eachKey(node ast.Node, do func(key string, keyToken *token.Token, value ast.Node)) {
	switch mapping := node.(type) {
	case *ast.NullNode:
	case *ast.MappingNode:
		for _, entry := range mapping.Values {
			key := entry.Key.GetToken()
			if explicit, ok := entry.Key.(*ast.MappingKeyNode); ok { // "? key"
				key = explicit.Value.GetToken()
			}
			do(swapPlaceholders(key.Value, shelf, braces), key, entry.Value)
		}
	default:
		f.report(f.at(node.GetToken()), "keys are expected here", "write lines like handler: manual")
	}
}

// marketplaces reads the marketplaces, and puts their names in normal form.
func (f file) marketplaces(node ast.Node) {
	f.cfg.Marketplaces = map[string]Marketplace{}
	seen := map[string]string{}
	f.eachKey(node, func(key string, keyToken *token.Token, value ast.Node) {
		where := f.at(keyToken)
		posted, err := posting.ParseKey(key, "1")
		if err != nil {
			f.report(where, err.Error(), "")
			return
		}
		name := posted.Marketplace
		if first, twice := seen[name]; twice {
			f.report(where, fmt.Sprintf("marketplace %s stands here a second time", name), "the first is at "+first)
			return
		}
		seen[name] = where
		m, at := newMarketplace(), marketplacesKey+"."+name
		f.mapping(value, at, slices.Concat(m.keys(at), m.bridgeKeys(at), m.freelancerKeys(at)))
		f.cfg.Marketplaces[name] = m
	})
}

// field reads one value, or each of several.
func (f file) field(target field, node ast.Node) {
	sequence, several := node.(*ast.SequenceNode)
	if !several || !target.value.list {
		f.scalar(target, node)
		return
	}
	f.cfg.origins[target.name] = Origin(f.at(sequence.GetToken()))
	for i, element := range sequence.Values {
		one := target
		one.name = item(target.name, i)
		f.scalar(one, element)
		f.bad[target.name] = f.bad[target.name] || f.bad[one.name]
	}
}

// item names one value of a list.
func item(list string, i int) string { return fmt.Sprintf("%s[%d]", list, i) }

// scalar reads a single value: its text as it stands, whatever YAML takes it for.
func (f file) scalar(target field, node ast.Node) {
	where := f.at(node.GetToken())
	var text string
	switch scalar := node.(type) {
	case *ast.NullNode:
		f.bad[target.name] = true
		f.report(where, "a value is missing here", "write one, or remove the key")
		return
	case *ast.LiteralNode:
		text = scalar.Value.Value
	case ast.ScalarNode:
		text = scalar.GetToken().Value
	default:
		f.bad[target.name] = true
		f.report(where, "a single value is expected here", "")
		return
	}
	text = swapPlaceholders(text, shelf, braces)
	err := f.read(target, text, Origin(where))
	if wrong, ok := errors.AsType[*policy.Error](err); ok {
		f.reportExpression(node, text, wrong)
		return
	}
	f.reportError(where, err)
}

func (f file) unknownKey(key, where, at string, fields []field) {
	var known []string
	if at == "" {
		known = append(known, marketplacesKey)
	}
	for _, other := range fields {
		if below, ok := strings.CutPrefix("."+other.name, strings.TrimSuffix("."+at, ".")+"."); ok {
			next, _, _ := strings.Cut(below, ".")
			known = append(known, next)
		}
	}
	known = slices.Compact(known)
	hint := "known here: " + strings.Join(known, ", ")
	if near := nearest(key, known); near != "" {
		hint = "did you mean " + near + "?"
	}
	for _, variable := range variables(&f.cfg) {
		if name := strings.ToUpper(key); name == variable.name || prefix+name == variable.name {
			hint = "set the variable " + variable.name + " instead"
		}
	}
	f.report(where, "key "+quote(key)+" is not known", hint)
}
