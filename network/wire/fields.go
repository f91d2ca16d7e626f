package wire

import (
	"bytes"
	"encoding/json"
	"math"
	"unicode/utf8"

	"github.com/blocksd/blocksd/internal/jsonscan"
)

// fields are the members of a JSON object, as encoding/json reads them into a map, without making one: the names of a message
// are few and most of the values are not needed. They share the memory of the text.
type fields []jsonField

type jsonField struct {
	name  []byte
	value jsonscan.Value
}

// fieldsOf returns the members of an object; ok is false if data is not one.
func fieldsOf(data []byte) (f fields, ok bool) {
	v, ok := jsonscan.Check(data)
	if !ok || !v.IsObject() {
		return nil, false
	}
	return fieldsIn(v), true
}

// fieldsIn is fieldsOf for what was checked.
func fieldsIn(v jsonscan.Value) fields {
	f := make(fields, 0, 16)
	for name, value := range v.Members {
		if bytes.IndexByte(name, '\\') >= 0 || !utf8.Valid(name) {
			var decoded string
			_ = json.Unmarshal(bytes.Join([][]byte{{'"'}, name, {'"'}}, nil), &decoded) // it was checked
			name = []byte(decoded)
		}
		f = append(f, jsonField{name, value})
	}
	return f
}

// get returns the value of a member, nil if there is none. Of several with one name the last one counts.
func (f fields) get(name string) jsonscan.Value {
	for i := len(f) - 1; i >= 0; i-- {
		if string(f[i].name) == name {
			return f[i].value
		}
	}
	return nil
}

// text returns the value of a member that is a string, else "".
func (f fields) text(name string) string { return textOf(json.RawMessage(f.get(name))) }

// object returns a copy of a member that is a JSON object, else nil.
func (f fields) object(name string) json.RawMessage {
	v := f.get(name)
	if !v.IsObject() {
		return nil
	}
	return json.RawMessage(bytes.Clone(v))
}

// integer returns the value of a member that is a JSON number without a fraction; 60.0 counts, true and "60" do not.
func (f fields) integer(name string) (int64, bool) {
	return integerOf(json.RawMessage(f.get(name)))
}

// textOf returns a value that is a JSON string, else "". raw is valid JSON, or nothing.
func textOf(raw json.RawMessage) string {
	// The text as it stands, as nearly all are.
	if n := len(raw); n >= 2 && raw[0] == '"' && bytes.IndexByte(raw, '\\') < 0 && utf8.Valid(raw) {
		return string(raw[1 : n-1])
	}
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}

func integerOf(raw json.RawMessage) (int64, bool) {
	if len(raw) == 0 || raw[0] == 'n' {
		return 0, false
	}
	var f float64
	if json.Unmarshal(raw, &f) != nil || f != math.Trunc(f) || math.Abs(f) > 1<<53 {
		return 0, false
	}
	return int64(f), true
}
