package posting

import (
	"encoding/json"
	"testing"
)

func TestRejectText(t *testing.T) {
	t.Parallel()
	rej := &Reject{Line: 12, Code: CodeInvalidJSON, Message: "not valid JSON"}
	if got, want := rej.Error(), "line 12: not valid JSON"; got != want {
		t.Errorf("Error() = %q, want %q", got, want)
	}
	got, err := json.Marshal(rej)
	if want := `{"line":12,"code":"invalid_json","message":"not valid JSON"}`; err != nil || string(got) != want {
		t.Errorf("JSON %s, %v, want %s", got, err, want)
	}
	_, err = ParseAmount("x")
	if got, want := err.Error(), `amount "x" is not a decimal number: write it like 480.00`; got != want {
		t.Errorf("Error() without a line = %q, want %q", got, want)
	}
}
