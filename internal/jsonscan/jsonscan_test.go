package jsonscan_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/blocksd/blocksd/internal/jsonscan"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var seeds = []string{
	`{}`, `[]`, ` { "a" : [ 1 , -0.5e+3 , true , false , null , "x\"y\\" ] , "b" : { } } `, `{"a":1,}`, `[1,]`, `{"a" 1}`, `01`, `-`, `1.`, `1e`, `"\u12g4"`, `"\u00e9"`,
	"\"a\x01\"", `"abcdefgh\"ijklmnopqr"`, "\"abcdefg\x1fhijklmnop\"", `tru`, `nul`, `[[[[]]]]`, `{"a":{"b":{"c":[]}}}`, `1 2`, `"`, `"\`, `{"a":"\ud83d"}`, "\"\xff\xfe\"",
	`{"a":1,"a":2}`, strings.Repeat("[", 10001) + strings.Repeat("]", 10001), strings.Repeat("[", 10000) + strings.Repeat("]", 10000),
}

// FuzzAsEncodingJSON: what is valid, and what the parts are, is what encoding/json says.
func FuzzAsEncodingJSON(f *testing.F) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		v, ok := jsonscan.Check(b)
		if ok != json.Valid(b) {
			t.Fatalf("%q: valid is %v", b, ok)
		}
		if ok {
			same(t, v)
		}
	})
}

// same compares a value, and those in it that are not too deep, with what encoding/json says.
func same(t *testing.T, v jsonscan.Value) {
	t.Helper()
	var elements []json.RawMessage
	if err := json.Unmarshal(v, &elements); v.IsArray() != (err == nil && elements != nil) {
		t.Fatalf("%q: is an array: %v", v, v.IsArray())
	}
	i := 0
	for e := range v.Elements {
		if i >= len(elements) || !bytes.Equal(e, elements[i]) {
			t.Fatalf("%q: element %d is %q", v, i, e)
		}
		if len(v) < 1000 {
			same(t, e)
		}
		i++
	}
	if v.IsArray() && i != len(elements) {
		t.Fatalf("%q: %d elements of %d", v, i, len(elements))
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(v, &members); v.IsObject() != (err == nil && members != nil) {
		t.Fatalf("%q: is an object: %v", v, v.IsObject())
	}
	found := map[string]jsonscan.Value{}
	for n, m := range v.Members {
		var name string
		if err := json.Unmarshal([]byte(`"`+string(n)+`"`), &name); err != nil {
			t.Fatalf("%q: name %q", v, n)
		}
		found[name] = m
		if len(v) < 1000 {
			same(t, m)
		}
	}
	for n, m := range members {
		if !bytes.Equal(found[n], m) {
			t.Fatalf("%q: member %q is %q, want %q", v, n, found[n], m)
		}
	}
	if len(found) != len(members) {
		t.Fatalf("%q: members %q", v, found)
	}
	var text string
	if plain, ok := v.Plain(); ok && (json.Unmarshal(v, &text) != nil || text != string(plain)) {
		t.Fatalf("%q: text %q, want %q", v, plain, text)
	}
	if v.IsNull() != (string(v) == "null") {
		t.Fatalf("%q: is null: %v", v, v.IsNull())
	}
}

func BenchmarkCheck(b *testing.B) {
	text := []byte(`{"data":"` + strings.Repeat("QUJDREVG", 2000) + `"}`)
	b.SetBytes(int64(len(text)))
	for range b.N {
		if _, ok := jsonscan.Check(text); !ok {
			b.Fatal("not valid")
		}
	}
}
