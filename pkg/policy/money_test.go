package policy

import (
	"math/big"
	"testing"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"pgregory.net/rapid"
)

// exactly is what a rational number of cents must come to: the nearest whole number, of two
// the even one, or an error where that is no int64.
func exactly(r *big.Rat) (int64, bool) {
	floor := new(big.Int).Div(r.Num(), r.Denom())
	above := new(big.Int).Add(floor, big.NewInt(1))
	down := new(big.Rat).Sub(r, new(big.Rat).SetInt(floor))
	up := new(big.Rat).Sub(new(big.Rat).SetInt(above), r)
	nearest := floor
	if c := up.Cmp(down); c < 0 || c == 0 && floor.Bit(0) == 1 {
		nearest = above
	}
	return nearest.Int64(), nearest.IsInt64()
}

// TestMoneyIsExact compares every operation with the same on rational numbers.
func TestMoneyIsExact(t *testing.T) {
	t.Parallel()
	rat := func(m money) *big.Rat { return new(big.Rat).SetInt64(int64(m)) }
	rapid.Check(t, func(t *rapid.T) {
		cents := rapid.OneOf(rapid.Int64(), rapid.Int64Range(-1_000_000, 1_000_000))
		a, b := money(cents.Draw(t, "a")), money(cents.Draw(t, "b"))
		n := rapid.OneOf(rapid.Int64(), rapid.Int64Range(-100, 100)).Draw(t, "n")
		text := rapid.StringMatching(`[0-9]{1,12}(\.[0-9]{1,12})?|0\.[0-9]{1,3}|[0-9]{1,2}`).Draw(t, "text")
		by, _ := new(big.Rat).SetString(text)
		same := func(what string, got ref.Val, want *big.Rat) {
			cents, fits := exactly(want)
			if m, ok := got.(money); ok != fits || ok && int64(m) != cents {
				t.Errorf("%s of %d, %d, %d, %s: %v, want %s", what, a, b, n, text, got, want.FloatString(3))
			}
		}
		hundredth := big.NewRat(1, 100)
		same("sum", a.Add(b), new(big.Rat).Add(rat(a), rat(b)))
		same("difference", a.Subtract(b), new(big.Rat).Sub(rat(a), rat(b)))
		same("product with an int", a.Multiply(types.Int(n)), new(big.Rat).Mul(rat(a), rat(money(n))))
		same("product with text", a.Multiply(types.String(text)), new(big.Rat).Mul(rat(a), by))
		same("percent of an int", a.times(types.Int(n), hundredth), new(big.Rat).Mul(new(big.Rat).Mul(rat(a), rat(money(n))), hundredth))
		same("percent of text", a.times(types.String(text), hundredth), new(big.Rat).Mul(new(big.Rat).Mul(rat(a), by), hundredth))
		if n != 0 {
			same("quotient with an int", a.Divide(types.Int(n)), new(big.Rat).Quo(rat(a), rat(money(n))))
		}
		if by.Sign() != 0 {
			same("quotient with text", a.Divide(types.String(text)), new(big.Rat).Quo(rat(a), by))
		}
		if got := a.Compare(b); got != types.Int(rat(a).Cmp(rat(b))) || (a.Equal(b) == types.True) != (a == b) {
			t.Errorf("comparison of %d and %d: %v", a, b, got)
		}
	})
}

// TestMoneyWithOthers: what the checker never lets through is an error all the same.
func TestMoneyWithOthers(t *testing.T) {
	t.Parallel()
	for _, other := range []ref.Val{types.Double(0.5), types.Bool(true), types.NullValue} {
		for what, got := range map[string]ref.Val{
			"sum": money(1).Add(other), "difference": money(1).Subtract(other), "product": money(1).Multiply(other),
			"quotient": money(1).Divide(other), "order": money(1).Compare(other),
		} {
			if !types.IsError(got) {
				t.Errorf("%s with a %T: %v", what, other, got)
			}
		}
	}
}
