package policy

import (
	"cmp"
	"errors"
	"fmt"
	"math/big"
	"reflect"
	"regexp"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"

	"github.com/arbitrageai/bidder/pkg/posting"
)

// money is an amount in hundredths, of whatever currency its posting has. Nothing about it
// is ever a float, which is why it has no product with a double: 0.1 is none exactly.
type money int64

// moneyType has no fields; as an object type it may have the traits that operators ask for.
var moneyType = types.NewObjectType("money", //nolint:gochecknoglobals // a constant
	traits.AdderType, traits.SubtractorType, traits.MultiplierType, traits.DividerType, traits.ComparerType)

var errOverflow = errors.New("the amount is too large to compute with")

// moneyLibrary are the literals, operators and functions of money.
func moneyLibrary() []cel.EnvOption {
	binary := func(id string, left, right, result *cel.Type) cel.FunctionOpt {
		return cel.Overload(id, []*cel.Type{left, right}, result)
	}
	choose := func(best func(money, money) money) cel.OverloadOpt {
		return cel.BinaryBinding(func(a, b ref.Val) ref.Val {
			x, isMoney := a.(money)
			y, isMoneyToo := b.(money)
			if !isMoney || !isMoneyToo {
				return types.NewErr("no such overload")
			}
			return best(x, y)
		})
	}
	percent := cel.BinaryBinding(func(amount, by ref.Val) ref.Val {
		return amount.(money).times(by, big.NewRat(1, 100)) //nolint:forcetypeassert // the overload's
	})
	compare := func(symbol string) cel.EnvOption {
		return cel.Function(symbol, binary(symbol+"money", moneyType, moneyType, cel.BoolType))
	}
	return []cel.EnvOption{
		compare("_<_"), compare("_<=_"), compare("_>_"), compare("_>=_"),
		cel.Function("money", cel.Overload("string_to_money", []*cel.Type{cel.StringType}, moneyType,
			cel.UnaryBinding(func(text ref.Val) ref.Val {
				return parseMoney(string(text.(types.String))) //nolint:forcetypeassert // the overload's
			}))),
		cel.Function("_+_", binary("add_money", moneyType, moneyType, moneyType)),
		cel.Function("_-_", binary("subtract_money", moneyType, moneyType, moneyType)),
		cel.Function("_*_", binary("multiply_money_int", moneyType, cel.IntType, moneyType),
			binary("multiply_money_string", moneyType, cel.StringType, moneyType)),
		cel.Function("_/_", binary("divide_money_int", moneyType, cel.IntType, moneyType),
			binary("divide_money_string", moneyType, cel.StringType, moneyType)),
		cel.Function("min", cel.Overload("min_money", []*cel.Type{moneyType, moneyType}, moneyType,
			choose(func(a, b money) money { return min(a, b) }))),
		cel.Function("max", cel.Overload("max_money", []*cel.Type{moneyType, moneyType}, moneyType,
			choose(func(a, b money) money { return max(a, b) }))),
		cel.Function("percent",
			cel.MemberOverload("money_percent_int", []*cel.Type{moneyType, cel.IntType}, moneyType, percent),
			cel.MemberOverload("money_percent_string", []*cel.Type{moneyType, cel.StringType}, moneyType, percent)),
	}
}

// parseMoney is an amount as postings write them, such as 480 or 480.00.
func parseMoney(text string) ref.Val {
	cents, err := posting.ParseAmount(text)
	if err != nil {
		return types.WrapErr(err)
	}
	return money(cents)
}

// decimal is how factors are written: without an exponent, so that none is huge.
var decimal = regexp.MustCompile(`^[0-9]{1,12}(\.[0-9]{1,12})?$`)

// factor is what money is multiplied with or divided by, exactly.
func factor(value ref.Val) (*big.Rat, error) {
	switch v := value.(type) {
	case types.Int:
		return new(big.Rat).SetInt64(int64(v)), nil
	case types.String:
		return parseFactor(string(v))
	}
	return nil, errors.New("no such overload")
}

func parseFactor(text string) (*big.Rat, error) {
	if decimal.MatchString(text) {
		if r, ok := new(big.Rat).SetString(text); ok {
			return r, nil
		}
	}
	return nil, fmt.Errorf(`%s is not a decimal number such as "0.9", of at most 12 digits before and after the point`, shorten(text))
}

// times is m * by * scale, rounded.
func (m money) times(by ref.Val, scale *big.Rat) ref.Val {
	f, err := factor(by)
	if err != nil {
		return types.WrapErr(err)
	}
	return round(f.Mul(f, scale).Mul(f, new(big.Rat).SetInt64(int64(m))))
}

// round is the nearest whole number of hundredths, and of two the even one.
func round(cents *big.Rat) ref.Val {
	whole, rest := new(big.Int).DivMod(cents.Num(), cents.Denom(), new(big.Int))
	half := rest.Lsh(rest, 1).Cmp(cents.Denom())
	if half > 0 || half == 0 && whole.Bit(0) == 1 {
		whole.Add(whole, big.NewInt(1))
	}
	if !whole.IsInt64() {
		return types.WrapErr(errOverflow)
	}
	return money(whole.Int64())
}

// Add implements traits.Adder.
func (m money) Add(other ref.Val) ref.Val {
	o, ok := other.(money)
	if !ok {
		return types.MaybeNoSuchOverloadErr(other)
	}
	sum := m + o
	if (sum > m) != (o > 0) {
		return types.WrapErr(errOverflow)
	}
	return sum
}

// Subtract implements traits.Subtractor.
func (m money) Subtract(other ref.Val) ref.Val {
	o, ok := other.(money)
	if !ok {
		return types.MaybeNoSuchOverloadErr(other)
	}
	difference := m - o
	if (difference < m) != (o > 0) {
		return types.WrapErr(errOverflow)
	}
	return difference
}

// Multiply implements traits.Multiplier.
func (m money) Multiply(by ref.Val) ref.Val { return m.times(by, big.NewRat(1, 1)) }

// Divide implements traits.Divider.
func (m money) Divide(by ref.Val) ref.Val {
	f, err := factor(by)
	switch {
	case err != nil:
		return types.WrapErr(err)
	case f.Sign() == 0:
		return types.NewErr("division by zero")
	}
	return round(f.Mul(f.Inv(f), new(big.Rat).SetInt64(int64(m))))
}

// Compare implements traits.Comparer.
func (m money) Compare(other ref.Val) ref.Val {
	o, ok := other.(money)
	if !ok {
		return types.MaybeNoSuchOverloadErr(other)
	}
	return types.Int(cmp.Compare(m, o))
}

// Equal implements ref.Val.
func (m money) Equal(other ref.Val) ref.Val { return types.Bool(m == other) }

// Type implements ref.Val.
func (money) Type() ref.Type { return moneyType }

// Value implements ref.Val.
func (m money) Value() any { return int64(m) }

// ConvertToNative implements ref.Val: expressions convert money to nothing.
func (money) ConvertToNative(to reflect.Type) (any, error) {
	return nil, fmt.Errorf("money is not a %s", to)
}

// ConvertToType implements ref.Val: expressions convert money to nothing.
func (money) ConvertToType(to ref.Type) ref.Val {
	return types.NewErr("money is not a %s", to.TypeName())
}
