package posting

import (
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// rejectCode returns the code of an error of this package, or "" for nil.
func rejectCode(t *testing.T, err error) string {
	t.Helper()
	if err == nil {
		return ""
	}
	rej, ok := errors.AsType[*Reject](err)
	if !ok {
		t.Fatalf("error %v is a %T, want a *Reject", err, err)
	}
	return rej.Code
}

func TestParseKey(t *testing.T) {
	t.Parallel()
	longName, longID := "a"+strings.Repeat("b", 63), strings.Repeat("é", 256)
	tests := []struct {
		name, marketplace, jobID string
		want                     Key
		code                     string
	}{
		{name: "normal", marketplace: "upwork", jobID: "~01ab", want: Key{"upwork", "~01ab"}},
		{name: "case and space", marketplace: " UpWork\t", jobID: "a", want: Key{"upwork", "a"}},
		{name: "unicode space", marketplace: "\u00a0upwork\u2003", jobID: "\u2003a\u00a0", want: Key{"upwork", "a"}},
		{name: "alias", marketplace: "PeopleHour", jobID: "a", want: Key{"peopleperhour", "a"}},
		{name: "NFC", marketplace: "\u212aaggle", jobID: "a", want: Key{"kaggle", "a"}}, // KELVIN SIGN
		{name: "punctuation", marketplace: "0.a_b-c", jobID: "a", want: Key{"0.a_b-c", "a"}},
		{name: "longest marketplace", marketplace: longName, jobID: "a", want: Key{longName, "a"}},
		{name: "marketplace too long", marketplace: longName + "c", jobID: "a", code: CodeInvalidMarketplace},
		{name: "marketplace empty", marketplace: " ", jobID: "a", code: CodeInvalidMarketplace},
		{name: "marketplace starts with a dash", marketplace: "-a", jobID: "a", code: CodeInvalidMarketplace},
		{name: "marketplace with a space", marketplace: "up work", jobID: "a", code: CodeInvalidMarketplace},
		{name: "marketplace with a colon", marketplace: "up:work", jobID: "a", code: CodeInvalidMarketplace},
		{name: "marketplace not ASCII", marketplace: "üpwork", jobID: "a", code: CodeInvalidMarketplace},
		{name: "marketplace not UTF-8", marketplace: "a\xff", jobID: "a", code: CodeInvalidMarketplace},

		{name: "job id kept", marketplace: "m", jobID: " A'\"b: 😀 ../c e\u0301 ", want: Key{"m", "A'\"b: 😀 ../c e\u0301"}},
		{name: "control characters at the ends are space", marketplace: "m", jobID: "\r\n\u0085a\n", want: Key{"m", "a"}},
		{name: "longest job id", marketplace: "m", jobID: longID + " ", want: Key{"m", longID}},
		{name: "job id too long", marketplace: "m", jobID: longID + "x", code: CodeInvalidJobID},
		{name: "job id much too long", marketplace: "m", jobID: strings.Repeat("x", 12_000), code: CodeInvalidJobID},
		{name: "job id empty", marketplace: "m", code: CodeInvalidJobID},
		{name: "job id blank", marketplace: "m", jobID: " \u3000", code: CodeInvalidJobID},
		{name: "job id with a line break", marketplace: "m", jobID: "a\nb", code: CodeInvalidJobID},
		{name: "job id with NUL", marketplace: "m", jobID: "a\x00", code: CodeInvalidJobID},
		{name: "job id with a C1 control", marketplace: "m", jobID: "a\u009bb", code: CodeInvalidJobID},
		{name: "job id not UTF-8", marketplace: "m", jobID: "a\xff", code: CodeInvalidJobID},
		{name: "None", marketplace: "m", jobID: "None", code: CodeInvalidJobID},
		{name: "null", marketplace: "m", jobID: " null ", code: CodeInvalidJobID},
		{name: "undefined", marketplace: "m", jobID: "undefined", code: CodeInvalidJobID},
		{name: "<nil>", marketplace: "m", jobID: "<nil>", code: CodeInvalidJobID},
		{name: "nearly None", marketplace: "m", jobID: "none", want: Key{"m", "none"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := ParseKey(tt.marketplace, tt.jobID)
			if code := rejectCode(t, err); code != tt.code {
				t.Fatalf("ParseKey: code %q (%v), want %q", code, err, tt.code)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("ParseKey (-want +got):\n%s", diff)
			}
			if tt.code != "" {
				checkMessage(t, err.Error())
			}
		})
	}
}

var printableLine = regexp.MustCompile(`^[^\x00-\x1f\x7f-\x{9f}\x{fffd}]{10,400}$`)

// checkMessage fails if a message could spoil a terminal or a log.
func checkMessage(t *testing.T, message string) {
	t.Helper()
	if !printableLine.MatchString(message) {
		t.Errorf("message %q is not one short printable line", message)
	}
}

func TestKeyText(t *testing.T) {
	t.Parallel()
	key := Key{"upwork", "~01:a b"}
	if got, want := key.String(), "upwork ~01:a b"; got != want {
		t.Errorf("String() = %q, want %q", got, want)
	}
	if got, want := key.LockKey(), "bid:lock:upwork:~01:a b"; got != want {
		t.Errorf("LockKey() = %q, want %q", got, want)
	}
}

func TestKeyCompare(t *testing.T) {
	t.Parallel()
	// By bytes: upper case before lower, "é" and U+FFFD before "😀" (UTF-16
	// would have it the other way round).
	want := []Key{{"a", "9"}, {"a.b", "1"}, {"b", ""}, {"b", "10"}, {"b", "9"}, {"b", "A"}, {"b", "a"}, {"b", "é"}, {"b", "\ufffd"}, {"b", "😀"}}
	got := slices.Clone(want)
	slices.Reverse(got)
	slices.SortFunc(got, Key.Compare)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
	if got := want[0].Compare(Key{"a", "9"}); got != 0 {
		t.Errorf("a key compares to itself as %d", got)
	}
}
