package wire

import (
	"bytes"
	"encoding/json"
	"testing"
)

// An object has the members that encoding/json finds in it.
func FuzzFields(f *testing.F) {
	for _, s := range []string{
		`{}`, `null`, `[]`, `{"a":1,"a":2}`, `{"\u0061":"x","a":null}`, ` {"a" : {"b":[1]} , "":"" } `, "{\"\xff\":1,\"\\ufffd\":2}", `{"a":60.0,"b":1e400}`, `{"a"`, `{"a":"\ud800"}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var want map[string]json.RawMessage
		err := json.Unmarshal(data, &want)
		got, ok := fieldsOf(data)
		if ok != (err == nil && want != nil) {
			t.Fatalf("%q is an object: %v, and encoding/json: %v", data, ok, err)
		}
		for name, raw := range want {
			if v := got.get(name); !bytes.Equal(v, raw) {
				t.Fatalf("%q: member %q is %s instead of %s", data, name, v, raw)
			}
			if got.text(name) != stringMember(want, name) || !bytes.Equal(got.object(name), objectMember(want, name)) {
				t.Fatalf("%q: member %q is read as %q, %s", data, name, got.text(name), got.object(name))
			}
		}
		for _, m := range got {
			if _, ok := want[string(m.name)]; !ok {
				t.Fatalf("%q has no member %q", data, m.name)
			}
		}
	})
}
