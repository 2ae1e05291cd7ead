package model

import "testing"

func TestX(t *testing.T) {
	for _, w := range []World{
		{Dedup: NaturalKey, ByPosting: true}, {Dedup: IdempotencyKey}, {Dedup: IdempotencyKey, ByPosting: true}, {Dedup: NoDedup}, {Dedup: NoDedup, ByPosting: true},
	} {
		r := Check(AllRules(), w)
		t.Logf("%+v: %d states, violation %q", w, r.States, r.Violation)
		for i, l := range r.Trace {
			t.Logf("%3d %s", i+1, l)
		}
	}
}
