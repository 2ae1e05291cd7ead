package wire

import (
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Object is a JSON object. A member of another type than expected counts as missing, as
// RFC 9457 wants it.
type Object map[string]jsontext.Value

// ParseObject returns nil for anything but one JSON object in which no name stands twice.
func ParseObject(body []byte) Object {
	var o Object
	if err := json.Unmarshal(body, &o); err != nil {
		return nil
	}
	return o
}

// Text returns a member that is a string, or nothing.
func (o Object) Text(name string) string {
	var text string
	if value := o[name]; value.Kind() != jsontext.KindString || json.Unmarshal(value, &text) != nil {
		return ""
	}
	return text
}

// Bool returns a member that is true or false, and whether it is one of them.
func (o Object) Bool(name string) (value, says bool) {
	kind := o[name].Kind()
	return kind == jsontext.KindTrue, kind == jsontext.KindTrue || kind == jsontext.KindFalse
}
