package posting

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// MaxCents is the largest amount: a thousand million of any currency.
const MaxCents int64 = 100_000_000_000

// ParseAmount returns a decimal amount, such as 480, 480.5 or 4.8e2, in
// hundredths. The amount must not be negative, have more than two decimals, or
// exceed [MaxCents]; nothing is ever rounded. An error is a [*Reject] with
// [CodeInvalidAmount].
func ParseAmount(s string) (int64, error) {
	text := strings.TrimSpace(s)
	digits, decimals, ok := splitDecimal(text)
	switch {
	case strings.HasPrefix(text, "-"):
		return 0, rejectf(CodeInvalidAmount, "amount %s must not be negative", quote(s))
	case !ok:
		return 0, rejectf(CodeInvalidAmount, "amount %s is not a decimal number: write it like 480.00", quote(s))
	case decimals > 2:
		return 0, rejectf(CodeInvalidAmount, "amount %s has more than two decimals: write it like 480.00", quote(s))
	}
	var cents int64
	for i := 0; i < len(digits) && cents <= MaxCents; i++ {
		cents = cents*10 + int64(digits[i]-'0')
	}
	for ; decimals < 2 && 0 < cents && cents <= MaxCents; decimals++ {
		cents *= 10
	}
	if cents > MaxCents {
		return 0, rejectf(CodeInvalidAmount, "amount %s is too large: at most %s is allowed",
			quote(s), FormatAmount(MaxCents))
	}
	return cents, nil
}

// splitDecimal splits a number without a sign into its digits and how many of
// them are decimals, which is negative where an exponent adds zeros. It reports
// whether s is such a number.
func splitDecimal(s string) (string, int64, bool) {
	mantissa, exponent := s, int64(0)
	if i := strings.IndexAny(s, "eE"); i >= 0 {
		var err error
		// Out of range, exponent is the nearest int32: further from zero than
		// any line has digits.
		if exponent, err = strconv.ParseInt(s[i+1:], 10, 32); errors.Is(err, strconv.ErrSyntax) {
			return "", 0, false
		}
		mantissa = s[:i]
	}
	whole, fraction, point := strings.Cut(mantissa, ".")
	if !isDigits(whole) || point && !isDigits(fraction) {
		return "", 0, false
	}
	return whole + fraction, int64(len(fraction)) - exponent, true
}

// isDigits reports whether s is one or more of the digits 0 to 9.
func isDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || '9' < s[i] {
			return false
		}
	}
	return len(s) > 0
}

// FormatAmount returns an amount in hundredths as a decimal with exactly two
// decimals: 480.00.
func FormatAmount(cents int64) string {
	sign, size := "", uint64(cents) //nolint:gosec // negated below where negative, also for the smallest int64
	if cents < 0 {
		sign, size = "-", -size
	}
	return fmt.Sprintf("%s%d.%02d", sign, size/100, size%100)
}

// ParseCurrency returns the normal form of a currency code: three upper-case
// letters. An error is a [*Reject] with [CodeInvalidCurrency].
func ParseCurrency(s string) (string, error) {
	code := strings.ToUpper(strings.TrimSpace(s))
	if len(code) != 3 || strings.ContainsFunc(code, func(r rune) bool { return r < 'A' || 'Z' < r }) {
		return "", rejectf(CodeInvalidCurrency, "currency %s is not a code of three letters, such as USD", quote(s))
	}
	return code, nil
}
