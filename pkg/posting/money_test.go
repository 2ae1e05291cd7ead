package posting

import (
	"math"
	"strings"
	"testing"
)

func TestParseAmount(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, in string
		want     int64
		wantErr  bool
	}{
		{name: "two decimals", in: "480.00", want: 48000},
		{name: "one decimal", in: "37.5", want: 3750},
		{name: "whole", in: "250", want: 25000},
		{name: "cents", in: "0.07", want: 7},
		{name: "a float would miss it", in: "1.15", want: 115},
		{name: "zero", in: "0", want: 0},
		{name: "space around", in: " 480.00\n", want: 48000},
		{name: "leading zeros", in: "000480.00", want: 48000},
		{name: "a million leading zeros", in: strings.Repeat("0", 1_000_000) + "1", want: 100},
		{name: "largest", in: "1000000000.00", want: MaxCents},
		{name: "a cent more than the largest", in: "1000000000.01", wantErr: true},
		{name: "largest int64 and more", in: "92233720368547758079", wantErr: true},
		{name: "a million digits", in: strings.Repeat("9", 1_000_000), wantErr: true},
		{name: "three decimals", in: "480.000", wantErr: true},
		{name: "a million decimals", in: "0." + strings.Repeat("0", 1_000_000), wantErr: true},
		{name: "exponent", in: "4.8e2", want: 48000},
		{name: "upper-case exponent with sign", in: "4.8E+2", want: 48000},
		{name: "negative exponent", in: "5e-2", want: 5},
		{name: "exponent takes up decimals", in: "4.80125e3", want: 480125},
		{name: "exponent takes up many decimals", in: "0." + strings.Repeat("0", 200) + "5e202", want: 5000},
		{name: "negative exponent beyond cents", in: "500e-3", wantErr: true},
		{name: "largest by exponent", in: "1e9", want: MaxCents},
		{name: "too large by exponent", in: "1e10", wantErr: true},
		{name: "huge exponent", in: "1e99999999999999999999", wantErr: true},
		{name: "huge negative exponent", in: "1e-99999999999999999999", wantErr: true},
		{name: "zero with a huge exponent", in: "0e99999999999999999999", want: 0},
		{name: "negative", in: "-5", wantErr: true},
		{name: "negative zero", in: "-0", wantErr: true},
		{name: "plus", in: "+5", wantErr: true},
		{name: "NaN", in: "NaN", wantErr: true},
		{name: "infinity", in: "Infinity", wantErr: true},
		{name: "empty", in: "", wantErr: true},
		{name: "thousands", in: "1,000", wantErr: true},
		{name: "currency sign", in: "$480", wantErr: true},
		{name: "hexadecimal", in: "0x10", wantErr: true},
		{name: "underscore", in: "1_000", wantErr: true},
		{name: "no whole part", in: ".5", wantErr: true},
		{name: "no fraction", in: "5.", wantErr: true},
		{name: "two points", in: "1.2.3", wantErr: true},
		{name: "no exponent digits", in: "5e", wantErr: true},
		{name: "fraction in the exponent", in: "5e1.5", wantErr: true},
		{name: "other digits", in: "٤٨٠", wantErr: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := ParseAmount(tt.in)
			if (err != nil) != tt.wantErr || got != tt.want {
				t.Fatalf("ParseAmount = %d, %v, want %d, error: %v", got, err, tt.want, tt.wantErr)
			}
			if err != nil {
				checkMessage(t, err.Error())
				if code := rejectCode(t, err); code != CodeInvalidAmount {
					t.Errorf("code %q, want %q", code, CodeInvalidAmount)
				}
			}
		})
	}
}

// TestParseAmountIsQuick would take half an hour if exponents were counted off.
func TestParseAmountIsQuick(t *testing.T) {
	t.Parallel()
	for range 2000 {
		for _, in := range []string{"0e2147483647", "1e2147483647", "1e-2147483647"} {
			if cents, _ := ParseAmount(in); cents != 0 {
				t.Fatalf("ParseAmount(%q) = %d", in, cents)
			}
		}
	}
}

func TestFormatAmount(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		in   int64
		want string
	}{
		{"zero", 0, "0.00"},
		{"cents", 7, "0.07"},
		{"whole", 48000, "480.00"},
		{"largest", MaxCents, "1000000000.00"},
		{"negative cents", -7, "-0.07"},
		{"smallest int64", math.MinInt64, "-92233720368547758.08"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := FormatAmount(tt.in); got != tt.want {
				t.Errorf("FormatAmount(%d) = %q, want %q", tt.in, got, tt.want)
			}
		})
	}
}

func TestParseCurrency(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, in, want string
	}{
		{"normal", "USD", "USD"},
		{"case and space", " eur\n", "EUR"},
		{"short", "US", ""},
		{"long", "USDT", ""},
		{"digit", "US1", ""},
		{"sign", "€", ""}, // three bytes
		{"empty", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := ParseCurrency(tt.in)
			if got != tt.want || (err != nil) != (tt.want == "") {
				t.Fatalf("ParseCurrency(%q) = %q, %v, want %q", tt.in, got, err, tt.want)
			}
			if err != nil && rejectCode(t, err) != CodeInvalidCurrency {
				t.Errorf("error %v has another code than %q", err, CodeInvalidCurrency)
			}
		})
	}
}
