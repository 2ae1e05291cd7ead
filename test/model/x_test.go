package model

import (
	"fmt"
	"os"
	"reflect"
	"testing"
	"time"
)

var worlds = map[string]World{
	"natural":           {Dedup: NaturalKey, ByPosting: true},
	"idem":              {Dedup: IdempotencyKey},
	"idemP":             {Dedup: IdempotencyKey, ByPosting: true},
	"none":              {Dedup: NoDedup},
	"noneP":             {Dedup: NoDedup, ByPosting: true},
	"natural+unk":       {Dedup: NaturalKey, ByPosting: true, Unknown: true},
	"natural+unkU":      {Dedup: NaturalKey, ByPosting: true, Unknown: true, UnknownUnlisted: true},
	"idemP+unk":         {Dedup: IdempotencyKey, ByPosting: true, Unknown: true},
	"noneP+unk":         {Dedup: NoDedup, ByPosting: true, Unknown: true},
	"natural+hand":      {Dedup: NaturalKey, ByPosting: true, ByHand: true},
	"natural+hand+ends": {Dedup: NaturalKey, ByPosting: true, ByHand: true, EndsThere: true},
	"natural+ends":      {Dedup: NaturalKey, ByPosting: true, EndsThere: true},
	"idem+ends":         {Dedup: IdempotencyKey, EndsThere: true},
	"none+ends":         {Dedup: NoDedup, EndsThere: true},
	"natural+hasty":     {Dedup: NaturalKey, ByPosting: true, HastyRetraction: true},
	"idem+hasty":        {Dedup: IdempotencyKey, HastyRetraction: true},
	"none+hasty":        {Dedup: NoDedup, HastyRetraction: true},
	"natural+late-a":    {Dedup: NaturalKey, ByPosting: true, LateArrivals: true, Promises: "aefgim"},
	"natural+late-ad":   {Dedup: NaturalKey, ByPosting: true, LateArrivals: true, Promises: "adefgim"},
	"natural+late-ab":   {Dedup: NaturalKey, ByPosting: true, LateArrivals: true, Promises: "abdefgim"},
	"natural+late":      {Dedup: NaturalKey, ByPosting: true, LateArrivals: true},
	"idem+late":         {Dedup: IdempotencyKey, LateArrivals: true},
	"none+late":         {Dedup: NoDedup, LateArrivals: true},
}
var order = []string{"natural", "idem", "idemP", "none", "noneP", "natural+unk", "natural+unkU", "idemP+unk", "noneP+unk", "natural+hand", "natural+hand+ends", "natural+ends", "idem+ends", "none+ends", "natural+hasty", "idem+hasty", "none+hasty", "natural+late", "natural+late-a", "natural+late-ad", "natural+late-ab", "idem+late", "none+late"}

func TestMatrix(t *testing.T) {
	only := os.Getenv("ONLY")
	if only == "" || only == "All" {
		for _, n := range order {
			at := time.Now()
			r := Check(AllRules(), worlds[n])
			fmt.Printf("ALL %-14s %8d %5.1fs %s\n", n, r.States, time.Since(at).Seconds(), r.Violation)
			if os.Getenv("TRACE") == n {
				for i, l := range r.Trace {
					fmt.Printf("%3d %s\n", i+1, l)
				}
			}
		}
	}
	typ := reflect.TypeOf(Rules{})
	for i := range typ.NumField() {
		if only != "" && only != typ.Field(i).Name {
			continue
		}
		for _, n := range order {
			rules := AllRules()
			reflect.ValueOf(&rules).Elem().Field(i).SetBool(false)
			r := Check(rules, worlds[n])
			fmt.Printf("no %-22s %-14s %8d %3d %s\n", typ.Field(i).Name, n, r.States, len(r.Trace), r.Violation)
			if os.Getenv("TRACE") == n {
				for i, l := range r.Trace {
					fmt.Printf("%3d %s\n", i+1, l)
				}
			}
		}
	}
}
